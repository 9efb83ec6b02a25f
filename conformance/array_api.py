"""Run the official test suite of the Array API standard over tinyxp, and print a table.

The suite is at https://github.com/data-apis/array-api-tests, not on PyPI. ``ARRAY_API_TESTS_DIR`` names a
checkout of it with its submodule; without it the suite is cloned into the folder given by ``--clone``.

    python conformance/array_api.py numpy strict --max-examples 200
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

SUITE = "https://github.com/data-apis/array-api-tests"
HERE = Path(__file__).parent


class Outcome(NamedTuple):
    """What one run of the suite gave."""

    label: str
    passed: int
    skipped: int
    failures: list[str]


def main() -> int:
    """Run the suite as the command line says; return 1 if a failure is no known exception."""
    args = arguments()
    suite = find_suite(args.clone)
    outcomes = [
        run(suite, backend, dtype, examples=args.max_examples, record=args.record, jobs=args.jobs)
        for backend in args.backends
        for dtype in args.dtypes
    ]
    known = {b: exceptions(b) for b in args.backends}
    print(f"\n{'backend, default dtype':32} {'passed':>7} {'failed':>7} {'skipped':>8}")
    bad = False
    for o in outcomes:
        print(f"{o.label:32} {o.passed:7} {len(o.failures):7} {o.skipped:8}")
        for test in o.failures:
            reason = known[o.label.split(",")[0]].get(test)
            bad |= reason is None
            print(f"    {test}: {reason or 'NOT A KNOWN EXCEPTION'}")
    return int(bad)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("backends", nargs="+", help="numpy, strict, torch, cupy")
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

    return {e.test: e.reason for e in listed.EXCEPTIONS if e.backend == backend}


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
            "-p", "no:cacheprovider", "-n", jobs, "--json-report", f"--json-report-file={report}",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=suite, env=env, check=False, stdout=subprocess.PIPE, text=True
        )
        print(done.stdout)
        if "ERROR array_api_tests" in done.stdout:
            sys.exit(
                "the suite could not be imported whole; what it needs is in its requirements.txt"
            )
        found = json.loads(report.read_text())
    tests = found["tests"]
    failures = [
        t["nodeid"].partition("::")[2] for t in tests if t["outcome"] in ("failed", "error")
    ]
    summary = found["summary"]
    label = f"{backend}, {dtype}" + (", recording" if record else "")
    return Outcome(label, summary.get("passed", 0), summary.get("skipped", 0), failures)


if __name__ == "__main__":
    sys.exit(main())
