"""Every exception is still one: ``pytest conformance/test_exceptions.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import exceptions
import scipy_tests

SCIPY = [(test, e.reason) for e in exceptions.SCIPY for test in e.tests]


def test_the_libraries_underneath_still_fail():
    assert [e.test for e in exceptions.EXCEPTIONS if not e.reproduces()] == []


def test_every_exception_has_a_reason():
    assert all(e.reason.strip() for e in [*exceptions.EXCEPTIONS, *exceptions.SCIPY])


@pytest.mark.parametrize(("test", "reason"), SCIPY, ids=[t for t, _ in SCIPY])
def test_scipy_still_fails(test, reason):
    pytest.importorskip("scipy", minversion="1.18", reason="these are tests of SciPy 1.18")
    case, _, function = test.partition("::")
    module, _, group = case.removeprefix("scipy.").rpartition(".")
    found = scipy_tests.run(
        module, record=False, jobs="0", extra=["-k", f"{group} and {function.partition('[')[0]}"]
    )
    assert test in found.failures, f"take it out of the list: it passes ({reason})"
