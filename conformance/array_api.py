"""Run the official test suite of the Array API standard over tinyxp, and print a table.

The suite is at https://github.com/data-apis/array-api-tests, not on PyPI. ``ARRAY_API_TESTS_DIR`` names a
checkout of it with its submodule; without it the suite is cloned into the folder given by ``--clone``.

    python conformance/array_api.py numpy strict --max-examples 200
    python conformance/array_api.py numpy --record    # every floating array part of a graph

A test may fail where `exceptions.py` shows the same fault of the library underneath. With ``--record`` those
that hand a Tensor to another library must fail: with the message that says how to hand it over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

SUITE = "https://github.com/data-apis/array-api-tests"
HERE = Path(__file__).parent
# With --record these must fail, by this message of `tinyxp.errors`.
REFUSED = ("test_dunder_dlpack", "test_from_dlpack")
REFUSAL = "from_dlpack would drop the gradient of a Tensor that requires grad"
ENOUGH = 25  # examples, so that some of the arrays are floating
COLUMNS = f"{'backend, default dtype':32} {'passed':>7} {'failed':>7} {'xfailed':>8} {'skipped':>8} {'seconds':>8}"


class Outcome(NamedTuple):
    """What one run of the suite gave."""

    label: str
    passed: int
    xfailed: int
    skipped: int
    failures: dict[str, str]  # test: the text of the error
    seconds: float


def main() -> int:
    """Run the suite as the command line says; return 1 if a failure is no known exception."""
    args = arguments()
    suite = find_suite(args.clone)
    lines, bad = [COLUMNS], False
    for backend in args.backends:
        known = exceptions(backend)
        for dtype in args.dtypes:
            o = run(
                suite,
                backend,
                dtype,
                examples=args.max_examples,
                record=args.record,
                jobs=args.jobs,
            )
            lines.append(
                f"{o.label:32} {o.passed:7} {len(o.failures):7} {o.xfailed:8} {o.skipped:8} {o.seconds:8.0f}"
            )
            reasons = judge(o, known, record=args.record, examples=args.max_examples)
            bad |= None in reasons.values()
            lines += [f"    {t}: {r or 'NOT A KNOWN EXCEPTION'}" for t, r in reasons.items()]
    print("", *lines, f"(hypothesis: {args.max_examples} examples for each test)", sep="\n")
    return int(bad)


def judge(
    outcome: Outcome, known: dict[str, str], *, record: bool, examples: int
) -> dict[str, str | None]:
    """Return for each failure, and each refusal that did not come, why it may be; None where it may not."""
    refused = dict.fromkeys(
        REFUSED if record else (), "refuses a Tensor that requires grad, as it must"
    )
    found: dict[str, str | None] = {}
    for test, text in outcome.failures.items():
        found[test] = refused.get(test) if REFUSAL in text else known.get(test)
    expected = refused if examples >= ENOUGH else ()
    return found | {f"{t} did not fail": None for t in expected if t not in outcome.failures}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "backends", nargs="*", default=["numpy", "strict"], help="numpy, strict, torch, cupy"
    )
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "float64"], help="default dtypes"
    )
    parser.add_argument("--max-examples", type=int, default=50, help="of hypothesis, for each test")
    parser.add_argument(
        "--record", action="store_true", help="let every floating array require grad"
    )
    parser.add_argument("--jobs", default="0", help="processes, as pytest-xdist's -n takes them")
    parser.add_argument(
        "--clone", type=Path, default=Path(tempfile.gettempdir()) / "array-api-tests"
    )
    return parser.parse_args()


def find_suite(clone: Path) -> Path:
    """Return the folder of the suite; fetch it where none is given."""
    given = os.environ.get("ARRAY_API_TESTS_DIR")
    if given:
        return Path(given)
    if not clone.exists():
        subprocess.run(
            ["git", "clone", "--recurse-submodules", "--depth=1", SUITE, str(clone)], check=True
        )
    return clone


def exceptions(backend: str) -> dict[str, str]:
    """Return the tests that fail because of the library underneath, with the reason (see `exceptions.py`)."""
    sys.path.insert(0, str(HERE))
    import exceptions as listed

    return {
        e.test: e.reason
        for e in listed.EXCEPTIONS
        if e.backend == backend and (not e.needs or find_spec(e.needs))
    }


def run(
    suite: Path, backend: str, dtype: str, *, examples: int, record: bool, jobs: str
) -> Outcome:
    """Run the suite once, in a process of its own."""
    module = (
        f'import tinyxp as xp; xp.set_default_device(xp.get_backend("{backend}").device()); '
        f'xp.set_default_dtype("{dtype}")'
    )
    if record:
        module += "; import recording; recording.start(xp)"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        env = {
            **os.environ,
            "ARRAY_API_TESTS_MODULE": f"exec('{module}')",
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        command = [
            sys.executable, "-m", "pytest", "array_api_tests", f"--max-examples={examples}", "-q", "--tb=line",
            "--disable-warnings", "-p", "patience", "-p", "no:cacheprovider", "-n", jobs,
            "--json-report", f"--json-report-file={report}",
        ]  # fmt: skip
        start = time.perf_counter()
        subprocess.run(command, cwd=suite, env=env, check=False)
        seconds = time.perf_counter() - start
        if not report.exists():
            sys.exit("pytest wrote no report; it needs the plugin pytest-json-report")
        found = json.loads(report.read_text(encoding="utf-8"))
        if any(c["outcome"] == "failed" for c in found.get("collectors", ())):
            sys.exit(
                "the suite could not be imported whole; its requirements.txt says what it needs"
            )
    failures = {
        t["nodeid"].partition("::")[2]: error_of(t)
        for t in found["tests"]
        if t["outcome"] in ("failed", "error", "xpassed")
    }
    passed, xfailed, skipped = (
        found["summary"].get(n, 0) for n in ("passed", "xfailed", "skipped")
    )
    label = f"{backend}, {dtype}" + (", recording" if record else "")
    return Outcome(label, passed, xfailed, skipped, failures, seconds)


def error_of(test: dict[str, Any]) -> str:
    """Return what pytest says of a failure, in whichever of the three phases of the test it was."""
    phases = (test.get(name, {}) for name in ("setup", "call", "teardown"))
    return "\n".join(str(p.get("longrepr", "")) for p in phases)


if __name__ == "__main__":
    sys.exit(main())
