"""The CuPy backend: what it says without a GPU, and, where there is one or its emulator, what it does."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest

import tinyxp
from tinyxp import dtypes
from tinyxp.errors import DeviceUnavailableError
from tinyxp_cupy import _probe


# ---------------------------------------------------------------- messages, on any machine
class FakeRuntimeError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def fake_cupy(*, driver=13000, count=1, allocate=None):
    """As much of CuPy as the probe looks at; `count` and `allocate` may be exceptions."""

    def raising(value):
        if isinstance(value, Exception):
            raise value
        return value

    runtime = types.SimpleNamespace(
        CUDARuntimeError=FakeRuntimeError,
        driverGetVersion=lambda: driver,
        getDeviceCount=lambda: raising(count),
    )
    return types.SimpleNamespace(
        __version__="14.2.0",
        cuda=types.SimpleNamespace(runtime=runtime),
        zeros=lambda _: raising(allocate or np.zeros(1)),
    )


NO_DRIVER = FakeRuntimeError(35, "cudaErrorInsufficientDriver: driver version is insufficient")
NO_GPU = FakeRuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected")
BROKEN = FakeRuntimeError(2, "cudaErrorMemoryAllocation: out of memory")


@pytest.mark.parametrize(
    ("cupy", "fact", "remedy"),
    [
        (fake_cupy(driver=0, count=NO_DRIVER), "there is no NVIDIA driver", "nvidia.com/drivers"),
        (
            fake_cupy(driver=12020, count=NO_DRIVER),
            "made for CUDA 12.2",
            r"pip install 'tinyxp\[cuda12\]'",
        ),
        (fake_cupy(count=NO_GPU), r"driver is there \(CUDA 13.0\), but no GPU", "type: nvidia-smi"),
        (fake_cupy(count=0), "but no GPU", "type: nvidia-smi"),
        (fake_cupy(allocate=BROKEN), "the GPU does not work: .*out of memory", "type: nvidia-smi"),
    ],
)
def test_what_is_missing_is_told_apart(monkeypatch, cupy, fact, remedy):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(
        DeviceUnavailableError, match=f"CuPy 14.2.0 is installed, .*{fact}.*{remedy}"
    ):
        _probe.verify(cupy)


def test_a_hidden_gpu_is_named(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(
        DeviceUnavailableError, match="CUDA_VISIBLE_DEVICES='' may hide it; type: unset"
    ):
        _probe.verify(fake_cupy(count=NO_GPU))


def test_a_working_gpu_passes():
    _probe.verify(fake_cupy())


@pytest.mark.parametrize(
    ("driver", "fact", "remedy"),
    [
        (0, "no NVIDIA driver is found", r"'tinyxp\[cuda13\]' \(or 'tinyxp\[cuda12\]' where"),
        (11080, "made for CUDA 11.8, is too old", r"update the driver from https://www.nvidia.com"),
        (12040, r"driver is there \(CUDA 12.4\)", r"pip install 'tinyxp\[cuda12\]'"),
        (13010, r"driver is there \(CUDA 13.1\)", r"pip install 'tinyxp\[cuda13\]'$"),
    ],
)
def test_without_cupy_the_driver_says_which_one_to_install(monkeypatch, driver, fact, remedy):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(_probe, "driver_version", lambda: driver)
    with pytest.raises(DeviceUnavailableError, match=f"CuPy is not installed, .*{fact}.*{remedy}"):
        _probe.load()


@pytest.mark.parametrize(("status", "want"), [(0, 12080), (35, 0)])
def test_the_driver_is_asked_for_its_version(monkeypatch, status, want):
    def version(found):
        found._obj.value = 12080
        return status

    driver = types.SimpleNamespace(cuDriverGetVersion=version)
    monkeypatch.setattr("ctypes.CDLL", lambda _: driver)
    assert _probe.driver_version() == want


def test_without_a_driver_its_version_is_nothing(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert _probe.driver_version() == 0


def test_a_cupy_that_does_not_load_is_not_called_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceUnavailableError, match=r"CuPy is not installed, .*type: pip install"):
        _probe.load()
    monkeypatch.delitem(sys.modules, "cupy")
    for error in (
        ModuleNotFoundError("no fastrlock", name="fastrlock"),
        ImportError("libnvrtc.so.13"),
    ):
        finder = types.SimpleNamespace(
            find_spec=lambda *_, error=error: (_ for _ in ()).throw(error)
        )
        monkeypatch.setattr(sys, "meta_path", [finder])
        with pytest.raises(DeviceUnavailableError, match="CuPy is installed but does not load: "):
            _probe.load()


# ---------------------------------------------------------------- on a GPU or the emulator
def works():
    if not find_spec("cupy"):
        return False
    return "cupy" in tinyxp.available_backends()


gpu = pytest.mark.skipif(not works(), reason="no GPU, and no emulator of one")
emulated = pytest.mark.skipif(
    not find_spec("cuda_emulator"), reason="counts what only the emulator sees"
)


@pytest.fixture
def cuda():
    return tinyxp.device("cuda")


@gpu
def test_the_sign_of_zero_survives(cuda):
    import cupy

    backend, xp = cuda.backend, cuda.xp
    d = dtypes.dtype("float32")
    made = [
        backend.asarray(-0.0, dtype=d, device=cuda),
        backend.asarray(np.float32(-0.0), device=cuda),
        backend.from_buffer(memoryview(np.float32(-0.0).tobytes()), d, (), cuda),
        xp.full((2, 3), -0.0, dtype=np.float32),
        xp.full_like(cupy.ones(2), -0.0),
    ]
    x = cupy.ones(3)
    xp.setitem(x, (slice(None),), -0.0)
    assert all(np.signbit(backend.to_numpy(m)).all() for m in [*made, x])
    assert not np.signbit(backend.to_numpy(backend.asarray(0.0, device=cuda)))


@gpu
@pytest.mark.parametrize("zero", [complex(-0.0, 0.0), complex(0.0, -0.0), complex(-0.0, -0.0)])
def test_the_signs_of_complex_zeros_survive(cuda, zero):
    backend, xp = cuda.backend, cuda.xp
    d = dtypes.dtype("complex64")
    x = xp.ones(3, dtype=np.complex64)
    xp.setitem(x, (slice(None),), zero)
    made = [
        x,
        backend.asarray(zero, dtype=d, device=cuda),
        backend.asarray(np.complex64(zero), device=cuda),
        xp.full((2, 3), zero, dtype=np.complex64),
        xp.full_like(xp.ones(2, dtype=np.complex64), zero),
    ]
    for y in map(backend.to_numpy, made):
        assert y.dtype == np.complex64
        assert not np.any(y)
        np.testing.assert_array_equal(np.signbit(y.real), np.signbit(zero.real))
        np.testing.assert_array_equal(np.signbit(y.imag), np.signbit(zero.imag))


@gpu
def test_dlpack_copies(cuda):
    cupy = cuda.backend.library
    x = tinyxp.ones(3, device=cuda)
    copied, same = (cupy.from_dlpack(Exported(x, copy)) for copy in (True, False))
    same[0] = 7.0
    assert x.tolist() == [7.0, 1.0, 1.0]
    assert copied.tolist() == [1.0, 1.0, 1.0]
    assert np.from_dlpack(Exported(x, copy=None, dl_device=(1, 0))).tolist() == [7.0, 1.0, 1.0]
    with pytest.raises(BufferError, match="copy=True or None"):
        x.__dlpack__(dl_device=(1, 0), copy=False)


class Exported:
    """An array that is exported as `options` say, whatever the importing library asks for."""

    def __init__(self, x, copy, **options):
        self.x, self.options = x, {"copy": copy, **options}

    def __dlpack__(self, *, stream=None, **_):
        given = {} if "dl_device" in self.options else {"stream": stream}
        return self.x.__dlpack__(max_version=(1, 0), **given, **self.options)

    def __dlpack_device__(self):
        return self.options.get("dl_device", self.x.__dlpack_device__())


@gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "shapes", [((4, 5), (5, 3)), ((2, 4, 5), (5, 3)), ((2, 4, 5), (2, 5, 3)), ((5,), (5, 3))]
)
def test_products_in_half_precision_are_rounded_once(cuda, dtype, shapes):
    random = np.random.default_rng(0)
    d = cuda.backend.native_dtype(dtypes.dtype(dtype))
    x, y = (random.normal(size=shape).astype(d) for shape in shapes)
    got = cuda.backend.to_numpy(
        cuda.xp.matmul(*(cuda.backend.asarray(a, device=cuda) for a in (x, y)))
    )
    want = x.astype(np.float64) @ y.astype(np.float64)
    assert got.dtype == d
    step = dtypes.finfo(dtypes.dtype(dtype)).eps
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=step, atol=step)


@gpu
def test_arrays_of_no_dimension_do_not_share_memory(cuda):
    import cupy

    x = cupy.asarray(1.0)
    assert not cuda.backend.shares_memory(x, x.copy())
    assert cuda.backend.shares_memory(x, x.reshape(1))


@gpu
def test_memory_and_cards_are_described(cuda):
    figures = cuda.backend.memory("cuda:0")
    assert 0 <= figures["used"] <= figures["held"] <= figures["total"]
    facts = cuda.backend.describe()
    assert facts["driver"].startswith("CUDA 1")
    assert facts["gpu"]


@gpu
@emulated
def test_segment_sums_and_random_words_do_not_wait_for_the_gpu(cuda):
    import cuda_emulator
    import cupy

    values, indices = cupy.ones((64, 8)), cupy.arange(64) % 5
    words = cupy.arange(64)

    def work():
        cuda.xp.segment_sum(values, indices, 6)
        cuda.xp.threefry2x32(1, 2, words, words)

    work()
    with cuda_emulator.count() as counted:
        work()
    assert (counted.d2h, counted.syncs) == (0, 0)


@gpu
@emulated
def test_segment_sums_do_not_depend_on_the_order_of_threads(cuda):
    import cuda_emulator
    import cupy

    values = cupy.asarray(np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32))
    indices = cupy.asarray(np.random.default_rng(1).integers(0, 4, 300))
    results = []
    for order in (0, 1, 7):
        with cuda_emulator.schedule(order):
            results.append(cuda.backend.to_numpy(cuda.xp.segment_sum(values, indices, 5)))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


TWO_CARDS = """
import tinyxp as xp
from tinyxp.errors import DeviceMismatchError
zero, one = xp.device("cuda:0"), xp.device("cuda:1")
assert zero.backend.devices() == ("cuda:0", "cuda:1")
with xp.use_device(one):
    x = xp.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = xp.sum(xp.exp(x @ x) * x[:, :1])
    y.backward()
assert x.device is one and x.grad.device is one
assert one.backend.device_of(x.grad.data) == "cuda:1"
try:
    x + xp.ones((2, 2), device=zero)
except DeviceMismatchError as exc:
    assert "cuda:1" in str(exc)
else:
    raise SystemExit("devices mixed")
model = xp.GPT(vocab_size=11, embed_dim=8, num_layers=1, num_heads=2, seed=0, device=one)
optimizer = xp.optim.AdamW(model.parameters(), lr=1e-2)
tokens = xp.reshape(xp.arange(10, device=one), (2, 5))
losses = []
for _ in range(3):  # while the first card is the current one
    loss = xp.nn.functional.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
    model.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
with xp.use_device(one):  # makes the card the current one for CuPy too
    norm = xp.optim.clip_grad_norm_(model.parameters(), 1e-3)
assert norm.device is one
assert losses[2] < losses[0], losses
assert {p.device for p in model.parameters()} == {one}
moved = x.detach().to("cuda:0")
assert moved.device is zero and moved.tolist() == x.tolist()
print("ok")
"""


@gpu
@emulated
def test_two_cards_hold_their_own_arrays():
    done = subprocess.run(
        [sys.executable, "-c", TWO_CARDS],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CUDA_EMULATOR_DEVICES": "2"},
    )
    assert done.stdout == "ok\n", done.stderr
