"""Run SciPy's own tests, those of its support for the Array API standard, with Tensors as the array type.

The tests are those of the installed SciPy. Its ``conftest.py`` is copied with one insertion, which makes tinyxp
the only namespace that the tests run with; nothing of SciPy is written to.

    python conformance/scipy_tests.py integrate optimize
    python conformance/scipy_tests.py --record integrate differentiate
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PACKAGES = (
    "_lib", "cluster", "differentiate", "fft", "integrate", "interpolate", "linalg", "ndimage", "optimize",
    "signal", "sparse", "spatial", "special", "stats",
)  # fmt: skip
MARK = "@pytest.fixture(params=xp_available_backends)"
INSERTION = """\
import scipy_tinyxp
from scipy_tinyxp import pytest_collection_modifyitems
xp_known_backends.add("tinyxp")
xp_available_backends = [
    pytest.param(scipy_tinyxp.start(), id="tinyxp", marks=pytest.mark.array_api_backends)
]
"""


class Outcome(NamedTuple):
    """What the tests of one sub-package gave."""

    package: str
    passed: int
    skipped: int
    failures: dict[str, str]  # test: the last line of the error


def main() -> int:
    """Run the tests as the command line says; return 1 if a failure is no known exception."""
    args = arguments()
    known = reasons()
    bad = False
    print(f"{'':16} {'passed':>7} {'failed':>7} {'skipped':>8}", flush=True)
    for package in args.packages:
        o = run(package, record=args.record, jobs=args.jobs, extra=args.pytest)
        print(f"{package:16} {o.passed:7} {len(o.failures):7} {o.skipped:8}", flush=True)
        for test, message in o.failures.items():
            reason = known.get(test)
            bad |= reason is None
            print(f"    {test}: {reason or f'NOT A KNOWN EXCEPTION: {message}'}", flush=True)
    return int(bad)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("packages", nargs="*", default=PACKAGES, help="sub-packages of SciPy")
    parser.add_argument(
        "--record", action="store_true", help="let every floating array require grad"
    )
    parser.add_argument("--jobs", default="0", help="processes, as pytest-xdist's -n takes them")
    parser.add_argument(
        "--pytest", action="append", default=[], metavar="OPTION", help="passed on to pytest"
    )
    return parser.parse_args()


def reasons() -> dict[str, str]:
    """Return the tests that are known to fail, with the reason (see `exceptions.py`)."""
    sys.path.insert(0, str(HERE))
    import exceptions as listed

    return {test: e.reason for e in listed.SCIPY for test in e.tests}


def conftest(folder: Path) -> None:
    """Write SciPy's ``conftest.py``, with the insertion, into `folder` as a plugin of pytest."""
    source = (scipy_folder() / "conftest.py").read_text(encoding="utf-8")
    before, found, after = source.partition(MARK)
    if not found:
        sys.exit(f"SciPy's conftest.py has no line {MARK!r} any more: see what it does instead")
    text = f"{before}{INSERTION}\n{found}{after}"
    (folder / "scipy_conftest.py").write_text(text, encoding="utf-8")


def scipy_folder() -> Path:
    """Return where SciPy is installed."""
    spec = find_spec("scipy")
    if spec is None or spec.origin is None:
        sys.exit("SciPy is not installed; expected scipy >= 1.18: pip install 'scipy>=1.18'")
    return Path(spec.origin).parent


def run(package: str, *, record: bool, jobs: str, extra: list[str]) -> Outcome:
    """Run the tests of one sub-package, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        conftest(folder)
        report = folder / "report.xml"
        env = {
            **os.environ,
            "SCIPY_ARRAY_API": "1",
            "TINYXP_SCIPY_RECORD": "1" if record else "",
            "PYTHONPATH": os.pathsep.join([name, str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        command = [
            sys.executable, "-m", "pytest", "--noconftest", "-p", "scipy_conftest", "--pyargs", f"scipy.{package}",
            "-m", "array_api_backends", "-q", "--tb=line", "-p", "no:cacheprovider", "-n", jobs,
            f"--rootdir={scipy_folder().parent}", "-c", os.devnull, f"--junitxml={report}", *extra,
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, env=env, check=False, capture_output=True, text=True
        )
        if not report.exists():
            sys.exit(f"pytest wrote no report for scipy.{package}:\n{done.stdout}\n{done.stderr}")
        return read(package, report)


def read(package: str, report: Path) -> Outcome:
    """Read what pytest reports."""
    passed = skipped = 0
    failures: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - of a file that pytest just wrote
        wrong = next((e for e in case if e.tag in ("failure", "error")), None)
        if wrong is not None:
            test = f"{case.get('classname')}::{case.get('name')}"
            failures[test] = (wrong.get("message") or "").partition("\n")[0][:160]
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Outcome(package, passed, skipped, failures)


if __name__ == "__main__":
    sys.exit(main())
