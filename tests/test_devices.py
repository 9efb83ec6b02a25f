"""What can be asked of any device, what errors of a library become, and what "auto" says."""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref

import pytest

import tinyxp
from tinyxp import _devices
from tinyxp import backend as registry
from tinyxp.__main__ import main
from tinyxp.errors import DeviceOutOfMemoryError, DeviceUnavailableError, TinyxpError


class LibraryError(RuntimeError):
    """What a library raises when its memory has ended."""


@pytest.fixture
def cpu(monkeypatch):
    """The CPU, with a library whose memory can end."""
    d = tinyxp.device("cpu")

    def explain(error, local=None):
        known = isinstance(error, LibraryError)
        return DeviceOutOfMemoryError(f"{local} has no room", {"asked": 7}) if known else None

    monkeypatch.setattr(d.backend, "explain", explain, raising=False)
    return d


def ended(*args, **kwargs):
    raise LibraryError("of 3 GB are free 0")


# ---------------------------------------------------------------- asking
def test_any_device_can_be_asked(backend, device):
    local = str(device)
    assert tinyxp.synchronize(local) is None
    assert tinyxp.empty_cache(local) is None
    assert all(isinstance(n, int) for n in tinyxp.memory_stats(local).values())


@pytest.mark.usefixtures("backend")
def test_the_default_device_is_asked_if_none_is_named():
    assert tinyxp.memory_stats() == tinyxp.memory_stats(tinyxp.get_default_device())
    tinyxp.synchronize()
    tinyxp.empty_cache()


# ---------------------------------------------------------------- errors
def test_an_operation_names_itself(cpu, monkeypatch):
    x = tinyxp.ones(3, device=cpu)
    monkeypatch.setitem(cpu.fns, "exp", ended)
    with pytest.raises(
        DeviceOutOfMemoryError, match=r"exp: cpu has no room; got float32\[3\]"
    ) as e:
        tinyxp.exp(x)
    assert e.value.figures == {"asked": 7}
    assert isinstance(e.value, MemoryError)
    monkeypatch.setitem(cpu.fns, "zeros", ended)
    with pytest.raises(DeviceOutOfMemoryError, match=r"zeros: cpu has no room; got \(2, 3\)"):
        tinyxp.zeros((2, 3), device=cpu)


def test_so_do_backward_and_optimizers(cpu, monkeypatch):
    x = tinyxp.ones((3, 3), device=cpu).requires_grad_()
    y = tinyxp.sum(x @ x)
    monkeypatch.setattr(cpu.xp, "matmul", ended)
    with pytest.raises(DeviceOutOfMemoryError, match="cpu has no room"):
        y.backward()
    x.grad = tinyxp.ones((3, 3), device=cpu)
    monkeypatch.setattr(cpu.xp, "sgd_step", ended)
    with pytest.raises(DeviceOutOfMemoryError, match="cpu has no room"):
        tinyxp.optim.SGD([x], lr=0.1).step()


def test_other_errors_stay_what_they_are(cpu):
    for error in (KeyError("k"), TinyxpError("t"), DeviceOutOfMemoryError("m")):
        assert _devices.explained(error, cpu) is error
        with pytest.raises(type(error)), _devices.explaining(cpu):
            raise error
    with pytest.raises(KeyboardInterrupt), _devices.on(cpu):
        raise KeyboardInterrupt


def test_without_a_device_all_backends_in_use_are_asked(cpu, monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {"numpy": cpu.backend})
    known = _devices.explained(LibraryError())
    assert isinstance(known, DeviceOutOfMemoryError)
    with pytest.raises(DeviceOutOfMemoryError), _devices.explaining():
        ended()


def test_an_error_does_not_keep_itself_alive(cpu):
    class Array:
        """Something that a step has made."""

    def step():
        x = Array()
        seen.append(weakref.ref(x))
        with _devices.on(cpu):
            ended()

    seen = []
    gc.disable()
    try:
        with contextlib.suppress(DeviceOutOfMemoryError):
            step()
        assert seen[0]() is None
    finally:
        gc.enable()


# ---------------------------------------------------------------- auto
@pytest.fixture
def no_cuda(monkeypatch):
    """A machine where CUDA does not work, and a function that says why not."""
    why = []
    parse = registry._parse

    def without(spec):
        if spec.startswith("cuda"):
            raise why[0] from why[1]
        return parse(spec)

    monkeypatch.setattr(registry, "_parse", without)
    for spec in ("auto", "cuda"):
        monkeypatch.delitem(registry._by_string, spec, raising=False)
    yield lambda error, cause=None: why.__setitem__(slice(None), [error, cause])
    registry._by_string.pop("auto", None)


@pytest.mark.parametrize(
    ("cause", "level"), [(None, logging.WARNING), (ModuleNotFoundError("cupy"), logging.INFO)]
)
def test_auto_is_the_cpu_and_the_log_says_why(no_cuda, caplog, cause, level):
    no_cuda(DeviceUnavailableError("the driver is too old"), cause)
    with caplog.at_level(logging.INFO, "tinyxp"):
        model = tinyxp.GPT(5, 8, 1, 2, 4, device="auto", seed=0)
        tinyxp.device("auto")
    assert model.device == "cpu"
    assert caplog.record_tuples == [
        ("tinyxp", level, "device 'auto' does not take 'cuda': the driver is too old")
    ]


def test_training_on_auto_prints_why(no_cuda, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinyxp.training._loop.matmul_peak", lambda _: 1e11)
    no_cuda(DeviceUnavailableError("CuPy is not\n installed"))
    options = ["train", "--preset", "tiny", "--steps", "1", "--eval-windows", "2"]
    assert main([*options, "--out", "auto"]) == 0
    assert "device cpu, not cuda: CuPy is not installed\n" in capsys.readouterr().out
    assert main([*options, "--out", "cpu", "--device", "cpu"]) == 0
    assert "not cuda" not in capsys.readouterr().out


def test_why_not():
    assert _devices.why_not("cpu") is None
    assert "no device 'qpu'" in _devices.why_not("qpu")
