"""The rules of the house that no linter knows, each proved able to fail."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tinyxp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinyxp"
FOLDERS = ("tinyxp", "backends", "tests", "examples", "benchmarks", "conformance", "docs")
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
LIBRARIES = {
    *("array_api_compat", "array_api_strict", "cupy", "dask", "jax", "numba", "numpy"),
    *("scipy", "torch"),
}
PICKLERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
LONGEST = 600  # lines

# Lower may not import higher. A name stands for the module or package and everything inside it, the longest
# name that fits counts; modules on one line may import each other. What a function imports when it is called
# does not count: that is how a lower layer calls a higher one. The packages in backends/ may import what stands
# no higher than `backend`.
LAYERS = [
    ("_standard", "_version", "errors"),
    ("dtypes",),
    (
        "_capture",
        "_decode",
        "_draw",
        "_extras",
        "_fused",
        "_indexing",
        "_special",
        "_updates",
        "_windows",
        "repairs",
    ),
    ("_devices", "_extended", "_precision", "backend"),
    ("_core",),
    ("autograd._record", "autograd._cotangents", "autograd._graph"),
    ("ops",),
    ("_info", "_interchange", "_methods", "_operators", "autograd", "consumers", "tensor"),
    ("graphs", "io", "random", "special"),
    ("nn",),
    ("data", "func", "models", "optim"),
    ("training", "distributed"),
    ("__main__",),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ABOVE_ALL = {"testing", ""}  # for plug-in authors; `tinyxp` itself, which re-exports


# ---------------------------------------------------------------- reading imports
def imports(source: str, module: str, *, is_package: bool = False, lazy: bool = True):
    """The absolute dotted names that a module imports; without `lazy`, only when it is itself imported."""
    found = []
    pending = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base]).rstrip(".")
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not lazy:
            continue
        if lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return sorted(set(found))


def dotted(path: Path, base: Path) -> str:
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, base: Path, *, lazy: bool = True):
    source = path.read_text(encoding="utf-8")
    return imports(source, dotted(path, base), is_package=path.name == "__init__.py", lazy=lazy)


def outside(names, forbidden):
    return sorted({n.partition(".")[0] for n in names} & forbidden)


def layer(name: str):
    """The name in the table that covers the module called `name`, without ``tinyxp.``, or None."""
    parts = name.split(".")
    return next((p for n in range(len(parts), 0, -1) if (p := ".".join(parts[:n])) in RANK), None)


def climbs(module: str, names):
    """The imports among `names` that go up the table from `module`."""
    mine = layer(module)
    inside = [n.removeprefix("tinyxp.") for n in names if n.startswith("tinyxp.")]
    return [n for n in inside if (other := layer(n)) and RANK[other] > RANK[mine]]


MODULES = sorted(PACKAGE.rglob("*.py"))


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------- what may be imported
@pytest.mark.parametrize("path", MODULES, ids=by_name)
def test_tinyxp_imports_no_array_library(path):
    assert outside(imports_of(path, ROOT), LIBRARIES) == []


@pytest.mark.parametrize("path", MODULES, ids=by_name)
def test_tinyxp_does_not_pickle(path):
    assert outside(imports_of(path, ROOT), PICKLERS) == []


@pytest.mark.parametrize("path", MODULES, ids=by_name)
def test_imports_point_down(path):
    module = dotted(path, PACKAGE)
    if path == PACKAGE / "__init__.py" or module.partition(".")[0] in ABOVE_ALL:
        return
    assert layer(module), f"{module} has no line in LAYERS"
    assert climbs(module, imports_of(path, ROOT, lazy=False)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "backends").rglob("*.py")), ids=by_name)
def test_backends_see_the_bottom_of_tinyxp_only(path):
    assert climbs("backend", imports_of(path, ROOT / "backends")) == []


def test_planted_imports_are_seen():
    source = "def f():\n    if True:\n        import numpy.linalg as la\n"
    assert outside(imports(source, "tinyxp.nn._linear"), LIBRARIES) == ["numpy"]
    assert outside(imports("from pickle import dump", "tinyxp.io"), PICKLERS) == ["pickle"]
    upward = imports("from ..training import _loop\n", "tinyxp.nn._linear", lazy=False)
    assert climbs("nn._linear", upward) == ["training", "training._loop"]
    sideways = imports("from . import _rules\n", "tinyxp.autograd._graph", lazy=False)
    assert climbs("autograd._graph", sideways) == ["autograd", "autograd._rules"]
    backend = imports("from tinyxp import dtypes, ops", "tinyxp_mine")
    assert climbs("backend", backend) == ["ops"]
    later = imports("def f():\n    from tinyxp import nn\n", "tinyxp.ops._x", lazy=False)
    assert climbs("ops._x", later) == []


# ---------------------------------------------------------------- what an import costs
REPORT = """
import sys, time
start = time.process_time()  # of the processor: what else runs here does not count
import tinyxp
elapsed = time.process_time() - start
import json
print(json.dumps({"ms": elapsed * 1e3, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def run_python(tmp_path_factory):
    """Run code in a new interpreter, with compiled modules as after an installation."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("compiled"))

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60, env=env
        )
        return done.stdout

    return run


@pytest.fixture(scope="module")
def reports(run_python):
    return [json.loads(run_python(REPORT)) for _ in range(7)]


def test_import_loads_no_array_library(reports):
    assert outside(reports[0]["modules"], LIBRARIES) == []


def test_import_takes_under_60_ms(reports):
    assert min(r["ms"] for r in reports) < 60


def test_import_prints_nothing(run_python):
    assert run_python("import tinyxp") == ""


# ---------------------------------------------------------------- the size of the files
@pytest.mark.parametrize("path", SOURCES, ids=by_name)
def test_files_stay_readable(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST


# ---------------------------------------------------------------- the public surface
PUBLIC = sorted(m for m in {dotted(p, ROOT) for p in MODULES} if "._" not in m)


@pytest.mark.parametrize("name", [m for m in PUBLIC if not m.endswith("__main__")])
def test_all_names_what_is_there(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert [n for n in names if not hasattr(module, n)] == []
    assert len(names) == len(set(names))


def undocumented(module):
    """Public functions and classes of a module that say nothing of themselves."""
    found = {n: getattr(module, n) for n in getattr(module, "__all__", [])}
    ours = {n: o for n, o in found.items() if callable(o)}
    return sorted(n for n, o in ours.items() if not (getattr(o, "__doc__", None) or "").strip())


@pytest.mark.parametrize("name", [m for m in PUBLIC if not m.endswith("__main__")])
def test_every_public_name_is_documented(name):
    assert undocumented(importlib.import_module(name)) == []


def test_an_undocumented_name_is_seen():
    class Module:
        __all__ = ("f",)
        f = lambda: None  # noqa: E731 - the point is that it has no docstring

    assert undocumented(Module) == ["f"]


# ---------------------------------------------------------------- what the README promises
def test_ci_runs_the_command_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup = "python3 -m venv .venv && .venv/bin/python -m pip install nox && .venv/bin/nox"
    assert f"{setup} -s demo\n" in readme
    assert f"{setup}\n" in readme
    assert setup in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_version_is_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {tinyxp.__version__}" in changelog


def unexplained(text: str):
    """Codes of ruff, in lines of their own, that are switched off without a reason."""
    return re.findall(r'^ *"([A-Z]+[0-9]*)",? *$', text, re.MULTILINE)


def bare(source: str):
    """Lines that silence a tool, or skip a test, without saying why."""
    return [
        line.strip()
        for line in source.splitlines()
        if re.search(r"# (noqa: [A-Z0-9, ]+|type: ignore\[[a-z, -]+\])$", line.rstrip())
        or (
            "importorskip(" in line
            and "reason=" not in line
            and '"' in line.partition("importorskip(")[2]
        )
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_exception_says_why(path):
    if path.name != "test_house_rules.py":  # it holds examples
        assert bare(path.read_text(encoding="utf-8")) == []


def test_a_bare_exception_is_seen():
    silent = ["x = f()  # noqa: E731", "y = g()  # type: ignore[misc]", 'm = importorskip("m")']
    said = ["x = f()  # noqa: E731 - short", 'm = importorskip("m", reason="compares")']
    assert bare("\n".join([*silent, *said])) == silent


def test_every_ruff_exception_has_a_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    switched_off = [*lint["ignore"], *(c for cs in lint["per-file-ignores"].values() for c in cs)]
    explained = re.findall(r'^ *"([A-Z]+[0-9]*)", *# \S', text, re.MULTILINE)
    assert unexplained(text) == []
    assert sorted(explained) == sorted(switched_off)


def test_a_missing_reason_is_seen():
    assert unexplained('ignore = [\n  "D105",  # why\n  "EM",\n]') == ["EM"]
