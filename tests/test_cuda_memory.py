"""The memory of a GPU: figures, what is said when it ends, copies from and to the host, streams, whole steps."""

from __future__ import annotations

import gc
from importlib.util import find_spec

import numpy as np
import pytest

import tinyxp
from tinyxp import _devices
from tinyxp.backend import get_backend
from tinyxp.data import Ahead, TokenDataset
from tinyxp.errors import DeviceOutOfMemoryError
from tinyxp.training import RunConfig, Trainer

NO_GPU = "no GPU, and no emulator of one"
cupy = pytest.importorskip("cupy", reason=NO_GPU)
_memory, _streams, _transfer = (
    pytest.importorskip(f"tinyxp_cupy.{name}", reason=NO_GPU)
    for name in ("_memory", "_streams", "_transfer")
)
pytestmark = pytest.mark.skipif("cupy" not in tinyxp.available_backends(), reason=NO_GPU)
emulated = pytest.mark.skipif(
    not find_spec("cuda_emulator"), reason="counts, fails and orders what only the emulator can"
)
TEXT = "to be or not to be, that is the question: whether 'tis nobler in the mind to suffer. " * 20


@pytest.fixture
def cuda():
    return tinyxp.device("cuda")


@pytest.fixture(autouse=True)
def _collected():
    """Leave nothing of one test to the next."""
    gc.collect()
    yield
    gc.collect()


SMALL = {"layers": 1, "width": 8, "heads": 2, "context": 9, "batch_size": 2}


def trainer(device="cuda", **changes):
    config = RunConfig.from_preset("tiny", steps=1000, dropout=0.1, **{**SMALL, **changes})
    return Trainer(config, TokenDataset.from_text(TEXT), device)


def weights(model):
    return {name: p.detach().cpu().numpy().copy() for name, p in model.named_parameters()}


def expect_same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


# ---------------------------------------------------------------- figures
def test_figures_follow_what_arrays_use(cuda):
    tinyxp.empty_cache(cuda)
    before = tinyxp.memory_stats(cuda)
    x = tinyxp.zeros(1 << 20, device=cuda)
    during = tinyxp.memory_stats(cuda)
    assert during["used"] - before["used"] == x.nbytes
    assert during["held"] >= during["used"]
    assert 0 < during["free"] <= during["total"]
    del x
    assert tinyxp.memory_stats(cuda)["used"] == before["used"]
    assert tinyxp.memory_stats(cuda)["held"] == during["held"]
    tinyxp.empty_cache(cuda)
    assert tinyxp.memory_stats(cuda)["held"] <= before["held"]
    tinyxp.synchronize(cuda)


def test_the_limit_of_the_pool_is_told(cuda):
    pool = cupy.get_default_memory_pool()
    tinyxp.empty_cache(cuda)
    pool.set_limit(size=pool.total_bytes() + (8 << 20))
    try:
        with pytest.raises(DeviceOutOfMemoryError, match=r"may hold \d.* \(CUPY_GPU_MEMORY_LIMIT"):
            tinyxp.zeros(16 << 20, dtype="uint8", device=cuda)
    finally:
        pool.set_limit(size=0)
    assert "limit" not in tinyxp.memory_stats(cuda)


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1 << 10, "1.00 KiB"), (3 << 29, "1.50 GiB")],
)
def test_bytes_are_said_as_people_say_them(n, text):
    assert _memory.size(n) == text


# ---------------------------------------------------------------- the end of it
def test_more_than_there_is(cuda):
    n = 1 << 50
    with pytest.raises(DeviceOutOfMemoryError) as caught:
        tinyxp.zeros(n, dtype="uint8", device=cuda)
    error = caught.value
    assert isinstance(error, MemoryError)
    assert error.figures["asked"] == n
    assert {"used", "held", "free", "total"} <= error.figures.keys()
    text = str(error)
    for part in ("zeros: cuda:0 has no room", "1048576.00 GiB more", "are free", "arrays use"):
        assert part in text
    for remedy in ("smaller batch", "checkpoint=True", "half precision", "tinyxp.empty_cache()"):
        assert remedy in text


def test_other_errors_keep_their_meaning(cuda):
    x = tinyxp.ones((2, 3), device=cuda)
    with pytest.raises(tinyxp.ShapeError):
        x + tinyxp.ones((2, 4), device=cuda)
    backend = cuda.backend
    assert backend.explain(ValueError("of something else")) is None
    assert backend.explain(cupy.cuda.runtime.CUDARuntimeError(1)) is None
    assert backend.explain(MemoryError()) is None


@emulated
def test_the_pool_gives_back_what_is_free_before_it_fails(cuda):
    import cuda_emulator

    tinyxp.empty_cache(cuda)
    used = cuda_emulator.counters()["bytes_in_use"]
    with cuda_emulator.memory_limit(used + (64 << 20)):
        parts = [tinyxp.zeros(8 << 20, dtype="uint8", device=cuda) for _ in range(6)]
        del parts
        large = tinyxp.zeros(48 << 20, dtype="uint8", device=cuda)
        with pytest.raises(DeviceOutOfMemoryError):
            tinyxp.zeros(24 << 20, dtype="uint8", device=cuda)
        del large
        tinyxp.zeros(56 << 20, dtype="uint8", device=cuda)


def test_a_library_outside_of_the_pool_finds_what_it_held(cuda):
    x = tinyxp.zeros(1 << 20, device=cuda)
    del x
    assert tinyxp.memory_stats(cuda)["held"] >= 4 << 20
    error = cuda.backend.explain(cupy.cuda.runtime.CUDARuntimeError(2), "cuda:0")
    assert isinstance(error, DeviceOutOfMemoryError)
    assert "once more may work" in str(error)
    assert "asked" not in error.figures
    assert tinyxp.memory_stats(cuda)["held"] < error.figures["held"]


def test_so_does_the_library_of_products(cuda):
    from tinyxp_cupy import _cublaslt

    with (
        pytest.raises(DeviceOutOfMemoryError, match="once more may work"),
        _devices.explaining(cuda),
    ):
        _cublaslt.check(3, "cublasLtCreate")


@emulated
def test_a_model_that_does_not_fit_says_so_and_fits_when_it_does(cuda):
    import cuda_emulator

    run = trainer()
    run.train_step()
    tinyxp.empty_cache(cuda)
    used = cuda_emulator.counters()["bytes_in_use"]
    x = tinyxp.zeros((512, run.config.context), dtype="int64", device=cuda)
    empty = cupy.cuda.MemoryPool()  # without the room that other tests have left
    with (
        cupy.cuda.using_allocator(empty.malloc),
        cuda_emulator.memory_limit(used + (1 << 19)),
        pytest.raises(DeviceOutOfMemoryError, match=r"cuda:0 has no room for .* more"),
    ):
        run.model(x).sum().backward()
    run.model(x).sum().backward()


def failures(run, *, every=1):
    """Call `run` once for each allocation that it makes, and let that one fail."""
    import cuda_emulator

    with cuda_emulator.fail_allocation(0) as seen:
        run()
    total = seen.allocations
    assert total > 0
    for n in range(1, total + 1, every):
        told = None
        with cuda_emulator.fail_allocation(n) as seen:
            try:
                run()
            except DeviceOutOfMemoryError as exc:
                told = str(exc)
        if told is None:
            assert seen.allocations < n  # what is kept from call to call was there
        else:  # and the error, which holds the arrays of the step, is gone
            assert "has no room for" in told
            yield n


@emulated
def test_a_step_that_fails_anywhere_can_be_repeated(cuda):
    """A run in which each step failed once, each elsewhere, ends with the bits of one without failures."""
    run, want = (trainer(optimizer="adam") for _ in range(2))  # all parameters in one group
    for _ in range(3):  # from now on all that stays is there
        run.train_step()
    for _ in failures(run.train_step):
        run.train_step()
    while want.step < run.step:
        want.train_step()
    expect_same(weights(run.model), weights(want.model))


@emulated
def test_what_failed_leaves_nothing_behind(cuda):
    """Without the garbage collector, too: an error that kept itself alive would keep the arrays of a step."""
    from tinyxp_cupy import _tables

    run = trainer()
    for _ in range(3):
        run.train_step()
    gc.collect()
    gc.disable()
    try:
        used = set()
        for _ in failures(run.train_step, every=9):
            run.train_step()
            _tables._kept.cache_clear()  # a bounded number of them stays, whatever fails
            run.train_step()
            used.add(cupy.get_default_memory_pool().used_bytes())
    finally:
        gc.enable()
    assert len(used) == 1


@emulated
def test_a_first_step_that_fails_can_be_repeated(cuda):
    want = trainer(optimizer="adam")
    want.train_step()
    want = weights(want.model)
    runs = []

    def first():
        runs[:] = []
        runs[:] = [run := trainer(optimizer="adam")]
        run.train_step()

    for n in failures(first, every=7):
        if not runs:  # the making of the model failed
            continue
        runs[0].train_step()
        assert runs[0].step == 1, n
        expect_same(weights(runs[0].model), want)


@emulated
def test_a_group_of_parameters_is_updated_whole_or_not_at_all(cuda):
    run = trainer()
    groups = run.optimizer.param_groups
    assert len(groups) > 1

    def first():
        run.optimizer.state.clear()
        run.optimizer.step()

    run.train_step()
    for _ in failures(first):
        counts = [
            {run.optimizer.state[p].get("step", 0) for p in g["params"] if p in run.optimizer.state}
            for g in groups
        ]
        assert all(len(c) <= 1 for c in counts)
    run.train_step()
    assert np.isfinite(run.train_step().loss.item())


@emulated
def test_whatever_fails_it_is_the_same_error(cuda, tmp_path):
    run = trainer()
    run.train_step()
    x, y = run.batches(5)
    model = run.model
    tinyxp.save(model.state_dict(), path := tmp_path / "model.safetensors")
    calls = {
        "generate": lambda: model.generate([[1, 2]], max_new_tokens=3, seed=0),
        "evaluate": lambda: run.evaluate(2),
        "load": lambda: tinyxp.load(path, device=cuda),
        "random": lambda: tinyxp.random.Generator(0).normal((3, 5), device=cuda),
        "copy": lambda: (+x, tinyxp.Tensor(x), x[:, ::2].to("cpu"), x.tolist()),
        "write": lambda: x.__setitem__(x > 3, x[x > 3] * 1),
        "create graph": lambda: tinyxp.autograd.grad(
            tinyxp.nn.functional.cross_entropy(model(x), y), model.parameters(), create_graph=True
        ),
        "state": lambda: run.optimizer.load_state_dict(run.optimizer.state_dict()),
    }
    for name, call in calls.items():
        assert list(failures(call)), name


# ---------------------------------------------------------------- copies
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "complex128"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 7), (3, 0, 2)])
def test_bytes_survive_the_way(cuda, shape, dtype):
    if dtype not in cuda.backend.native_dtypes:
        pytest.skip("bfloat16 needs ml_dtypes")
    values = np.random.default_rng(0).integers(0, 2, shape).astype(_native(cuda, dtype))
    x = tinyxp.asarray(values, device="cpu").to(cuda)
    assert x.device is cuda
    for back in (x.cpu().numpy(), x.numpy(), cuda.backend.to_numpy(x.data)):
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back, values)
    assert bytes(cuda.backend.to_buffer(x.data)) == values.tobytes()


def _native(cuda, dtype):
    return cuda.backend.native_dtype(tinyxp.dtype(dtype))


@pytest.mark.parametrize("pieces", [0.5, 1, 1.5, 2, 2.25, 5])
def test_large_arrays_travel_in_pieces(cuda, monkeypatch, pieces):
    monkeypatch.setattr(_transfer, "PIECE", 4096)
    values = np.arange(int(4096 * pieces) // 4, dtype=np.int32)[::-1].reshape(-1, 32)
    x = _transfer.upload(values, cuda.native)
    np.testing.assert_array_equal(cupy.asnumpy(x), values)
    np.testing.assert_array_equal(_transfer.download(x), values)
    np.testing.assert_array_equal(_transfer.download(x.T), values.T)
    np.testing.assert_array_equal(_transfer.download(x[::2, 1:]), values[::2, 1:])


def test_the_host_may_write_into_what_it_gave(cuda):
    values = np.arange(1000, dtype=np.float32)
    want = values.copy()
    x = tinyxp.asarray(values, device=cuda)
    y = tinyxp.asarray(values, device="cpu").to(cuda)
    values[:] = -1
    np.testing.assert_array_equal(x.numpy(), want)
    np.testing.assert_array_equal(y.numpy(), want)


class Pinned:
    """Counts what is allocated of pinned memory."""

    def __init__(self):
        self.count, self.pool = 0, cupy.get_default_pinned_memory_pool()

    def __enter__(self):
        cupy.cuda.set_pinned_memory_allocator(self)
        return self

    def __exit__(self, *_):
        cupy.cuda.set_pinned_memory_allocator(self.pool.malloc)

    def __call__(self, size):
        self.count += 1
        return self.pool.malloc(size)


@emulated
def test_nothing_travels_through_memory_that_the_system_may_move(cuda):
    import cuda_emulator

    values = np.ones((40, 30), np.float32)
    with Pinned() as pinned, cuda_emulator.count() as counted:
        x = tinyxp.asarray(values, device=cuda)
    assert (pinned.count, counted.h2d, counted.syncs) == (1, 1, 0)
    with Pinned() as pinned, cuda_emulator.count() as counted:
        x.cpu()
    assert (pinned.count, counted.d2h, counted.syncs) == (1, 1, 1)
    run = trainer()
    run.train_step()
    with Pinned() as pinned, cuda_emulator.count() as counted:
        run.train_step()
    assert counted.h2d == pinned.count


# ---------------------------------------------------------------- streams
class Watched(cupy.cuda.Stream):
    """A second stream that keeps a list of what it was told."""

    told: list[str]

    def wait_event(self, event):
        self.told.append("wait")
        super().wait_event(event)

    def __enter__(self):
        self.told.append("enter")
        return super().__enter__()

    def __exit__(self, *args):
        self.told.append("exit")
        super().__exit__(*args)


@pytest.fixture
def second(cuda, monkeypatch):
    stream = Watched(non_blocking=True)
    stream.told = []
    monkeypatch.setattr(_streams, "second", lambda _: stream)
    return stream


def test_a_second_stream_begins_after_the_first_and_ends_before_what_waits(cuda, second):
    first = cupy.cuda.get_current_stream()
    with cuda.backend.stream("cuda:0") as wait:
        assert cupy.cuda.get_current_stream() == second
        x = tinyxp.ones(3, device=cuda) + 1
    assert second.told == ["wait", "enter", "exit"]
    assert cupy.cuda.get_current_stream() == first
    wait()
    assert x.tolist() == [2.0, 2.0, 2.0]


def test_a_second_stream_is_left_when_something_fails(cuda, second):
    first = cupy.cuda.get_current_stream()
    with pytest.raises(KeyError), cuda.backend.stream():
        raise KeyError
    assert cupy.cuda.get_current_stream() == first
    assert second.told[-1] == "exit"


def test_devices_without_streams_do_things_at_once():
    backend = get_backend("numpy")
    with backend.stream() as wait:
        x = tinyxp.ones(2, device="cpu")
    wait()
    assert x.tolist() == [1.0, 1.0]


def test_the_next_batch_is_on_its_way_while_the_device_works(cuda, second):
    data = TokenDataset.from_text(TEXT)
    where = []

    def make(step):
        where.append((step, cupy.cuda.get_current_stream() == second))
        return data.batch(step, batch_size=3, context=8, device=cuda)

    batches = Ahead(make, cuda)
    for step in (0, 1, 2, 7, 7):
        x, y = batches(step)
        want = data.batch(step, batch_size=3, context=8, device="cpu")
        assert (x.tolist(), y.tolist()) == tuple(t.tolist() for t in want)
    assert where == [(n, True) for n in (0, 1, 2, 3, 7, 8, 7, 8)]


def test_the_host_makes_a_batch_when_it_is_asked_for():
    made = []
    batches = Ahead(lambda step: made.append(step) or "batch", "cpu")
    assert [batches(3), batches(4)] == ["batch", "batch"]
    assert made == [3, 4]


# ---------------------------------------------------------------- whole steps
@emulated
def test_a_step_of_training_waits_for_nothing_and_allocates_nothing(cuda):
    import cuda_emulator

    run = trainer()
    for _ in range(3):
        run.train_step()
    with cuda_emulator.count() as counted:
        for _ in range(2):
            run.train_step()
    assert (counted.d2h, counted.syncs, counted.mallocs, counted.frees) == (0, 0, 0, 0)
    assert counted.h2d <= 2  # the tokens of the next batch


@emulated
def test_a_step_does_not_depend_on_the_order_of_threads(cuda):
    import cuda_emulator

    found = []
    for order in (0, 1, 7):
        with cuda_emulator.schedule(order):
            run = trainer()
            for _ in range(2):
                run.train_step()
            found.append(weights(run.model))
    expect_same(found[0], found[1])
    expect_same(found[0], found[2])


@emulated
def test_a_step_stays_within_its_arrays(cuda):
    import cuda_emulator

    want = trainer(batch_size=3, context=13, layers=2)
    want.train_step()
    with cuda_emulator.guard():  # and what is not written is NaN
        run = trainer(batch_size=3, context=13, layers=2)
        run.train_step()
        found = weights(run.model)
    assert all(np.isfinite(w).all() for w in found.values())
    expect_same(found, weights(want.model))
