"""Every exception is still one: ``pytest conformance/test_exceptions.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import exceptions
import scipy_tests

import tinyxp
from tinyxp.errors import DeviceUnavailableError


@pytest.mark.parametrize("entry", exceptions.EXCEPTIONS, ids=lambda e: f"{e.backend}-{e.test}")
def test_the_library_underneath_still_fails(entry):
    try:
        tinyxp.get_backend(entry.backend).probe()
    except DeviceUnavailableError as missing:
        pytest.skip(str(missing).partition("\n")[0])
    if entry.needs:
        pytest.importorskip(entry.needs, reason="without it there is no fault")
    assert entry.reproduces(), f"take it out of the list: {entry.backend} can ({entry.reason})"


def test_every_exception_has_a_reason():
    assert all(e.reason.strip() for e in [*exceptions.EXCEPTIONS, *exceptions.SCIPY])


@pytest.mark.parametrize("entry", exceptions.SCIPY, ids=lambda e: e.tests[0])
def test_scipy_still_fails(entry):
    pytest.importorskip("scipy", minversion="1.18", reason="these are tests of SciPy 1.18")
    if entry.needs:
        pytest.importorskip(entry.needs, reason="without it SciPy skips the tests")
    modules, choices = set(), set()
    for test in entry.tests:
        case, _, function = test.partition("::")
        module, _, group = case.removeprefix("scipy.").rpartition(".")
        modules.add(module)
        choices.add(f"({group} and {function.partition('[')[0]})")
    (module,) = modules
    found = scipy_tests.run(module, record=False, jobs="0", extra=["-k", " or ".join(choices)])
    fine = sorted(set(entry.tests) - set(found.failures))
    assert fine == [], f"take them out of the list: they pass ({entry.reason})"
