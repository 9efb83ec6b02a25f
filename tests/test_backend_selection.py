"""The fixtures and marks of this suite's own conftest: ``--backend``, ``xp``, ``skip_backend``, ``xfail_backend``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

SAMPLE = """
import pytest
import tinyxp

def test_without():
    assert tinyxp.zeros(1).device == "cpu"

def test_with(xp, backend, device):
    assert backend is device.backend
    assert xp.zeros(1).device is device

@pytest.mark.skip_backend("strict", reason="sample")
def test_skipped(xp):
    assert tinyxp.zeros(1).device == "cpu"

@pytest.mark.xfail_backend("strict", reason="sample")
def test_expected_to_fail(device):
    assert device == "cpu"
"""


@pytest.fixture
def run(tmp_path):
    """Run pytest on a file with this suite's conftest; give its outcomes and what it printed."""
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text(encoding="utf-8"))

    def run(source, *options, **env):
        (tmp_path / "test_sample.py").write_text(source)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            tmp_path,
        ]
        configuration = ["-c", HERE.parent / "pyproject.toml"]
        environment = {k: v for k, v in os.environ.items() if k != "TINYXP_BACKEND"} | env
        done = subprocess.run(
            [*map(str, [*command, *configuration, *options, tmp_path])],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            cwd=tmp_path,
        )
        counts = re.findall(r"(\d+) (passed|failed|skipped|xfailed|error)", done.stdout)
        return {kind: int(n) for n, kind in counts}, done.stdout + done.stderr

    return run


def test_a_test_runs_once_for_each_backend(run):
    outcomes, out = run(SAMPLE, "--backend=numpy", "--backend=strict:device1")
    assert outcomes == {"passed": 5, "skipped": 1, "xfailed": 1}, out


def test_the_default_is_numpy_or_the_environments(run):
    assert run(SAMPLE)[0] == {"passed": 4}
    assert run(SAMPLE, TINYXP_BACKEND="strict")[0] == {"passed": 2, "skipped": 1, "xfailed": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend=nump"], "did you mean 'numpy'"),
        (["--backend=numpy:gpu"], "backend 'numpy' has no device 'gpu'"),
    ],
)
def test_a_backend_that_is_not_there_is_an_error(run, options, message):
    outcomes, out = run(SAMPLE, *options)
    assert outcomes == {}
    assert message in out


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ('skip_backend("stric", reason="x")', "names no registered backend: stric"),
        ('skip_backend("strict")', "needs backends and a reason"),
        ('xfail_backend("strict", reason=" ")', "needs backends and a reason"),
        ('xfail_backend(reason="x")', "needs backends and a reason"),
    ],
)
def test_marks_need_known_names_and_a_reason(run, mark, message):
    outcomes, out = run(f"import pytest\n@pytest.mark.{mark}\ndef test(xp): pass\n")
    assert "passed" not in outcomes
    assert message in out
