"""How backends and devices are found, and what is said of those that are not there."""

from __future__ import annotations

import subprocess
import sys
import threading
import zipfile
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import tinyxp
from tinyxp import backend as backends
from tinyxp.backend import available_backends, get_backend, registered_backends
from tinyxp.errors import DeviceUnavailableError, UnknownBackendError

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin_backend"


@pytest.fixture
def registry(monkeypatch):
    """A registry of one's own that nothing is cached in yet: a function that adds entry points."""
    known = dict(backends._entry_points())
    monkeypatch.setattr(backends, "_entry_points", lambda: known)
    for name in ("_load_class", "get_backend"):
        monkeypatch.setattr(backends, name, cache(getattr(backends, name).__wrapped__))

    def add(name, value):
        known[name] = EntryPoint(name, value, backends.GROUP)

    return add


# ---------------------------------------------------------------- names
def test_our_backends_are_registered():
    assert {"cupy", "numpy", "strict", "torch"} <= set(registered_backends())


def test_numpy_is_always_available():
    assert "numpy" in available_backends()


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UnknownBackendError, match="no backend named 'nump'; did you mean 'numpy'"):
        get_backend("nump")
    with pytest.raises(LookupError, match="registered: cupy, numpy, strict, torch"):
        get_backend("zzz")


def test_a_backend_is_made_once():
    assert get_backend("numpy") is get_backend("numpy")


def test_a_package_that_does_not_import_is_a_reason_not_a_crash(registry):
    registry("broken", "no_such_package:Backend")
    with pytest.raises(
        DeviceUnavailableError, match=r"'no_such_package:Backend'.*ModuleNotFoundError"
    ):
        backends.get_backend("broken")
    assert "broken" in registered_backends()
    assert "broken" not in available_backends()


@pytest.mark.parametrize(
    ("library", "name", "remedy"),
    [
        ("array_api_strict", "strict", r"pip install 'tinyxp\[strict\]'"),
        ("torch", "torch", r"pip install 'tinyxp\[torch\]'"),
        ("cupy", "cupy", r"pip install 'tinyxp\[cuda13\]'"),
    ],
)
def test_a_missing_library_says_what_to_type(registry, monkeypatch, library, name, remedy):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DeviceUnavailableError, match=f"is not installed.*type: {remedy}"):
        backends.get_backend(name)


# ---------------------------------------------------------------- devices
def test_devices_are_interned_and_equal_their_strings(device):
    assert tinyxp.device(str(device)) is device
    assert device == str(device)
    assert hash(device) == hash(str(device))
    assert tinyxp.device(device) is device
    assert device != "nowhere:0"


def test_a_short_name_is_short_for_the_qualified_one():
    assert tinyxp.device("numpy:cpu") is tinyxp.device("cpu")
    assert str(tinyxp.device("numpy")) == "cpu"


def test_auto_is_a_device_that_works():
    assert tinyxp.ones(2, device="auto").tolist() == [1.0, 1.0]
    assert tinyxp.device("auto") is tinyxp.device("auto")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(
        DeviceUnavailableError, match=r"backend 'numpy' has no device 'gpu'; it has cpu"
    ):
        tinyxp.device("numpy:gpu")
    with pytest.raises(UnknownBackendError, match="no device 'cud'; did you mean 'cuda'"):
        tinyxp.device("cud")
    with pytest.raises(TypeError, match="expects a Device or a string"):
        tinyxp.device(["cpu"])


@pytest.mark.parametrize("others", ["strict:device1", "strict:device2"])
def test_devices_do_not_mix(device, others):
    x, y = tinyxp.ones(2), tinyxp.ones(2, device=others)
    with pytest.raises(tinyxp.errors.DeviceMismatchError, match=others) as caught:
        x + y
    assert str(device) in str(caught.value)
    assert (x + y.to(x.device)).tolist() == [2.0, 2.0]


def test_the_default_device_belongs_to_the_context(backend):
    place = backend.device(backend.devices()[-1])
    seen = []
    with tinyxp.use_device(place):
        assert tinyxp.zeros(1).device is place
        other = threading.Thread(target=lambda: seen.append(tinyxp.zeros(1).device))
        other.start()
        other.join()
    assert seen == ["cpu"]


# ---------------------------------------------------------------- a third party's backend
@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the plug-in as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    (wheel,) = WheelBuilder(str(PLUGIN)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(code, folder):
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_a_plugin_is_found_and_conforms(installed):
    out = run("from tinyxp.__main__ import main; main(['check-backend', 'counting'])", installed)
    assert "counting: " in out
    assert "failed" not in out


def test_the_plugin_counts_a_training_step(installed):
    out = run("import runpy; runpy.run_module('tinyxp_counting', run_name='__main__')", installed)
    assert out.startswith("one step, loss 4.")
    assert " matmul\n" in out


def test_without_the_plugin_its_name_is_unknown():
    assert "counting" not in registered_backends()
