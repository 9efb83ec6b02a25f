"""The wheel: what it contains, and what it declares."""

from __future__ import annotations

import configparser
import importlib
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BACKENDS = sorted(p.name for p in (ROOT / "backends").glob("tinyxp_*"))


def unexpected(names):
    """The top-level folders of a wheel that are neither ours nor its metadata."""
    tops = {n.partition("/")[0] for n in names}
    return sorted(t for t in tops - {"tinyxp", *BACKENDS} if not t.endswith(".dist-info"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_contains_our_packages_only(wheel):
    assert unexpected(wheel.namelist()) == []


def test_a_stray_package_would_be_seen():
    assert unexpected(["tinyxp/__init__.py", "tests/a.py", "x.dist-info/METADATA"]) == ["tests"]


def test_wheel_contains_every_module(wheel):
    sources = [ROOT / "tinyxp", *(ROOT / "backends" / b for b in BACKENDS)]
    modules = {
        p.relative_to(base.parent).as_posix() for base in sources for p in base.rglob("*.py")
    }
    assert modules <= set(wheel.namelist())


def test_every_package_is_typed(wheel):
    names = wheel.namelist()
    assert [b for b in ("tinyxp", *BACKENDS) if f"{b}/py.typed" not in names] == []


def test_wheel_carries_the_license(wheel):
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in wheel.namelist())


def test_entry_points_name_backends_by_their_own_name(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    declared = dict(parser["tinyxp.backends"])
    assert sorted(f"tinyxp_{k}" for k in declared) == BACKENDS
    for key, value in declared.items():
        module, _, attribute = value.partition(":")
        assert getattr(importlib.import_module(module), attribute).name == key


def test_extras_used_by_all_exist():
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = everything.partition("[")[2].rstrip("]").split(",")
    assert set(named) <= set(extras)
