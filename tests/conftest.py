"""Fixtures and marks for tests that run once per selected backend.

``pytest`` runs them on NumPy; ``--backend NAME`` (repeatable, also ``strict:device1``) on others, ``--backend
all`` on every one that works here; ``TINYXP_BACKEND`` holds the same, separated by commas.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

import tinyxp
from tinyxp.backend import (
    available_backends,
    get_backend,
    get_default_device,
    registered_backends,
    set_default_device,
    use_device,
)
from tinyxp.errors import TinyxpError

DEVICE_FIXTURES = {"backend", "device", "xp"}
MARKS = {"skip_backend": pytest.mark.skip, "xfail_backend": pytest.mark.xfail}

# The examples of a test are always the same, so that a run can be repeated; new ones are looked for with
# pytest --hypothesis-profile=explore
hypothesis.settings.register_profile(
    "tinyxp", deadline=None, max_examples=30, database=None, derandomize=True
)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=300)
hypothesis.settings.load_profile("tinyxp")


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        action="append",
        metavar="NAME[:DEVICE]",
        help="backend to test, repeatable; 'all' for every one that works (default: $TINYXP_BACKEND or numpy)",
    )
    parser.addoption(
        "--not-current",
        action="store_true",
        help="leave it to tinyxp to make the device current that a library computes on",
    )


def _device(spec):
    """Return the Device for ``NAME`` or ``NAME:DEVICE``; one that is asked for and missing is an error."""
    name, _, local = spec.partition(":")
    try:
        return get_backend(name).device(local or None)
    except TinyxpError as exc:
        raise pytest.UsageError(f"--backend {spec}: {exc}") from None


def pytest_configure(config):
    for kind, verb in (("skip_backend", "skip the test"), ("xfail_backend", "expect failure")):
        config.addinivalue_line("markers", f"{kind}(*names, reason): {verb} on these backends")
    chosen = config.getoption("--backend") or os.environ.get("TINYXP_BACKEND", "numpy").split(",")
    names = available_backends() if "all" in chosen else list(dict.fromkeys(chosen))
    config.tinyxp_devices = {name: _device(name) for name in names}


def pytest_report_header(config):
    return "backends: " + ", ".join(f"{n} ({d})" for n, d in config.tinyxp_devices.items())


def pytest_generate_tests(metafunc):
    if DEVICE_FIXTURES & set(metafunc.fixturenames):
        names = list(metafunc.config.tinyxp_devices)
        metafunc.parametrize("device", names, ids=names, indirect=True, scope="session")


def _check(item, mark):
    if unknown := set(mark.args) - set(registered_backends()):
        raise pytest.UsageError(
            f"{item.nodeid}: {mark.name} names no registered backend: {', '.join(sorted(unknown))}"
        )
    if not mark.args or set(mark.kwargs) != {"reason"} or not mark.kwargs["reason"].strip():
        raise pytest.UsageError(
            f"{item.nodeid}: {mark.name} needs backends and a reason: "
            f'@pytest.mark.{mark.name}("strict", reason="why")'
        )


def pytest_collection_modifyitems(items):
    for item in items:
        spec = item.callspec.params.get("device", "") if hasattr(item, "callspec") else ""
        for kind, standard in MARKS.items():
            for mark in item.iter_markers(kind):
                _check(item, mark)
                if spec.partition(":")[0] in mark.args:
                    item.add_marker(standard(reason=mark.kwargs["reason"]))


@pytest.fixture(scope="session")
def device(request):
    """The selected device, the default one while the test runs."""
    return request.config.tinyxp_devices[request.param]


@pytest.fixture(scope="session")
def backend(device):
    """The selected backend."""
    return device.backend


@pytest.fixture(scope="session")
def xp(device):
    """The namespace under test, tinyxp itself, on the selected device."""
    return tinyxp


@pytest.fixture(autouse=True)
def _default_device(request):
    """Make the selected device the default one in tests that ask for a backend."""
    if "device" not in request.fixturenames:
        yield
        return
    chosen = request.getfixturevalue("device")
    if not request.config.getoption("--not-current"):
        with use_device(chosen):
            yield
        return
    before = get_default_device()
    set_default_device(chosen)
    try:
        yield
    finally:
        set_default_device(before)
