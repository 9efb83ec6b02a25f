"""Two GPUs: arrays and work stay on theirs, whichever is current, and move when they are told to.

On a machine with one GPU, or with an emulator of one, the tests start themselves again with two emulated ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import tinyxp
from tinyxp import nn, optim
from tinyxp.data import TokenDataset
from tinyxp.errors import DeviceMismatchError, DeviceOutOfMemoryError
from tinyxp.training import RunConfig, Trainer

NO_GPU = "no GPU, and no emulator of one"
cupy = pytest.importorskip("cupy", reason=NO_GPU)
pytestmark = pytest.mark.skipif("cupy" not in tinyxp.available_backends(), reason=NO_GPU)
COUNT = cupy.cuda.runtime.getDeviceCount() if "cupy" in tinyxp.available_backends() else 0
two = pytest.mark.skipif(COUNT < 2, reason="one GPU: started again with two emulated ones")
alone = pytest.mark.skipif(
    COUNT > 1 or not find_spec("cuda_emulator"), reason="starts what runs here anyhow"
)
HERE = Path(__file__).parent
# Of the whole suite, on the second card while the first is current, but for tests that write raw arrays.
SELECTION = {
    "test_gpt.py": "", "test_nn_functional.py": "", "test_optim_clip.py": "", "test_optim_optimizer.py": "",
    "test_nn_attention.py": "", "test_training_parts.py": "", "test_views.py": "not parts and not saved",
    "test_beyond.py": "", "test_autocast.py": "", "test_consumers.py": "",
}  # fmt: skip


def again(*options, **env):
    """Run pytest with two emulated GPUs, and return what it says."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    done = subprocess.run(
        [*command, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=HERE.parent,
        env={**os.environ, "CUDA_EMULATOR_DEVICES": "2", "PYTEST_ADDOPTS": "", **env},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@alone
def test_these_tests_with_two_emulated_cards():
    assert " passed" in again(str(HERE / "test_cuda_devices.py"))


@alone
@pytest.mark.parametrize("file", SELECTION)
def test_the_suite_on_a_card_that_is_not_the_current_one(file):
    chosen = ["-k", SELECTION[file]] if SELECTION[file] else []
    said = again(str(HERE / file), "--backend=cupy:cuda:1", "--not-current", *chosen)
    assert " passed" in said


# ---------------------------------------------------------------- with two cards
@pytest.fixture
def zero():
    return tinyxp.device("cuda:0")


@pytest.fixture
def one():
    return tinyxp.device("cuda:1")


@two
def test_a_device_is_told_by_its_number(zero, one):
    assert tinyxp.device("cuda") is zero
    assert zero.backend.devices() == tuple(f"cuda:{i}" for i in range(COUNT))
    assert one != zero
    x = tinyxp.ones(3, device=one)
    assert x.device is one
    assert x.data.device.id == 1
    assert cupy.cuda.Device().id == 0
    with tinyxp.use_device(one):
        assert cupy.cuda.Device().id == 1
        assert tinyxp.zeros(2).device is one
    with pytest.raises(tinyxp.DeviceUnavailableError, match=f"no device 'cuda:{COUNT}'"):
        tinyxp.device(f"cuda:{COUNT}")


@two
def test_arrays_of_two_cards_do_not_meet_by_themselves(zero, one):
    x, y = tinyxp.ones((2, 3), device=zero), tinyxp.ones((2, 3), device=one)
    for meet in (
        lambda: x + y,
        lambda: tinyxp.matmul(x, y.T),
        lambda: tinyxp.concat([x, y]),
        lambda: x[tinyxp.asarray([0], device=one)],
        lambda: nn.functional.linear(x, y.T),
        lambda: x.__setitem__(..., y),
    ):
        with pytest.raises(DeviceMismatchError, match=r"cuda:0.*cuda:1|cuda:1.*cuda:0"):
            meet()
    assert (x + y.to(zero)).tolist() == [[2.0] * 3] * 2


@two
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool", "complex128"])
def test_bytes_survive_the_way_from_card_to_card(zero, one, dtype):
    if dtype not in zero.backend.native_dtypes:
        pytest.skip("bfloat16 needs ml_dtypes")
    native = zero.backend.native_dtype(tinyxp.dtype(dtype))
    for shape in ((), (0,), (3, 4), (5, 7, 2)):
        values = np.random.default_rng(0).integers(0, 2, shape).astype(native)
        x = tinyxp.asarray(values, device=zero)
        y = x.to(one)
        assert (y.device, y.data.device.id) == (one, 1)
        np.testing.assert_array_equal(y.numpy(), values)
        np.testing.assert_array_equal(y.to(zero).numpy(), values)
        if len(shape) > 1:
            np.testing.assert_array_equal(x.mT.to(one).numpy(), values.swapaxes(-1, -2))
            np.testing.assert_array_equal(x[::2, 1:].to(one).numpy(), values[::2, 1:])
        y = tinyxp.asarray(values, device="cpu").to(one)
        np.testing.assert_array_equal(y.cpu().numpy(), values)


@two
@pytest.mark.skipif(not find_spec("cuda_emulator"), reason="counts what only the emulator sees")
def test_the_way_from_card_to_card_does_not_lead_through_the_host(zero, one):
    import cuda_emulator

    x = tinyxp.ones((64, 3), device=zero)
    with cuda_emulator.count() as counted:
        x.to(one)
    assert (counted.h2d, counted.d2h, counted.syncs) == (0, 0, 0)
    assert counted.d2d_bytes == x.nbytes


@two
def test_a_copy_between_cards_orders_the_streams_of_both(zero, one, monkeypatch):
    """The target waits for the source before it copies, the source for the target before it goes on."""
    told = []

    class Watched(cupy.cuda.Stream):
        name = ""

        def record(self, event=None):
            told.append((self.name, "record"))
            return super().record(event)

        def wait_event(self, event):
            told.append((self.name, "wait"))
            super().wait_event(event)

    streams = []
    for device, name in ((zero, "source"), (one, "target")):
        with device.native:
            streams.append(Watched(non_blocking=True))
            streams[-1].name = name
    x = tinyxp.arange(5, device=zero)
    with zero.native, streams[0], one.native, streams[1]:
        y = x.to(one)
    assert told == [
        ("source", "record"),
        ("target", "wait"),
        ("target", "record"),
        ("source", "wait"),
    ]
    assert y.tolist() == [0, 1, 2, 3, 4]


@two
def test_gradients_travel_back(zero, one):
    x = tinyxp.Tensor([1.0, 2.0], requires_grad=True, device=zero)
    y = (x * x).to(one)
    z = (tinyxp.exp(y) * 3).to(zero) + x
    z.sum().backward()
    assert x.grad.device is zero
    want = 1 + 3 * np.exp([1.0, 4.0]) * [2.0, 4.0]
    np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-6)


@two
def test_memory_is_that_of_the_card(zero, one):
    before = [tinyxp.memory_stats(d)["used"] for d in (zero, one)]
    x = tinyxp.zeros(1 << 20, device=one)
    after = [tinyxp.memory_stats(d)["used"] for d in (zero, one)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, x.nbytes]
    del x
    tinyxp.empty_cache(one)
    tinyxp.synchronize(one)
    for device, name in ((zero, "cuda:0"), (one, "cuda:1")):
        with pytest.raises(DeviceOutOfMemoryError, match=f"zeros: {name} has no room"):
            tinyxp.zeros(1 << 50, device=device)


# Bits that are the same: the cipher, integers, masks, permutations. Normal numbers come from a logarithm and a
# cosine, which libraries round differently in the last places.
@two
def test_seeds_give_the_bits_of_the_host_on_every_card(zero, one):
    draws = {
        "bits": lambda g, d: g.bits((3, 50), device=d),
        "uniform": lambda g, d: g.uniform((1000,), low=-1, device=d),
        "double": lambda g, d: g.uniform((100,), dtype="float64", device=d),
        "integers": lambda g, d: g.integers(-5, 1000, (100,), device=d),
        "permutation": lambda g, d: g.permutation(97, device=d),
        "mask": lambda g, d: tinyxp.random.keep_mask(tinyxp, g.next_key(), (10, 11), 0.3, device=d),
    }
    for name, draw in draws.items():
        want, *found = (
            draw(tinyxp.random.Generator(7), d).numpy() for d in (tinyxp.device("cpu"), zero, one)
        )
        for values in found:
            np.testing.assert_array_equal(values, want, err_msg=name)
    for dtype in ("float32", "float64"):
        want, *found = (
            tinyxp.random.Generator(7).normal((2000,), dtype=dtype, device=d).numpy()
            for d in ("cpu", zero, one)
        )
        for values in found:
            np.testing.assert_array_max_ulp(values, want, maxulp=2)


@two
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "lion"])
def test_training_on_the_second_card_is_training(one, optimizer):
    """Weights after three steps on the second card, the first being current, are NumPy's."""
    text = "to be or not to be, that is the question. " * 20
    config = RunConfig.from_preset("tiny", steps=10, dropout=0.1, optimizer=optimizer)
    runs = [Trainer(config, TokenDataset.from_text(text), d) for d in (one, "cpu")]
    losses = [[run.train_step().loss.item() for _ in range(3)] for run in runs]
    assert cupy.cuda.Device().id == 0
    np.testing.assert_allclose(*losses, rtol=1e-5)
    found, want = ([p.detach().cpu().numpy() for p in run.model.parameters()] for run in runs)
    names = [name for name, _ in runs[0].model.named_parameters()]
    for name, a, b in zip(names, found, want, strict=True):
        if not name.endswith("k_proj.bias"):  # its true gradient is zero
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=name)
    assert {p.device for p in runs[0].model.parameters()} == {one}
    prompt = [[1, 2, 3]]
    made = [run.model.generate(prompt, max_new_tokens=8, temperature=0).tolist() for run in runs]
    assert made[0] == made[1]
    np.testing.assert_allclose(runs[0].evaluate(3), runs[1].evaluate(3), rtol=1e-4)


@two
def test_an_optimizer_of_ones_own_works_on_any_card(one):
    class SignDescent(optim.Optimizer):
        def __init__(self, params, lr=0.5):
            super().__init__(params, {"lr": lr})

        def update(self, p, g, state, group, xp):
            p -= xp.sign(g) * group["lr"]

    w = tinyxp.Tensor([1.0, -2.0], requires_grad=True, device=one)
    (w * w).sum().backward()
    SignDescent([w]).step()
    assert w.tolist() == [0.5, -1.5]


@two
def test_a_model_moves(zero, one):
    model = tinyxp.GPT(11, 8, 1, 2, 6, seed=0, device=zero)
    tokens = tinyxp.asarray([[1, 2, 3]], device=zero)
    want = model(tokens).detach().numpy()
    model.to(one)
    with pytest.raises(DeviceMismatchError):
        model(tokens)
    np.testing.assert_allclose(model(tokens.to(one)).detach().numpy(), want, rtol=1e-6)
