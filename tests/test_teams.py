"""Programs that several threads work through together: every item once, whoever comes, late or not at all."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="compares with NumPy")
pytest.importorskip("numba", reason="the extra `fast` is not installed")

from numba import carray  # noqa: E402 - needs the extra, looked for above

import tinyxp  # noqa: E402 - needs the extra, looked for above
from tinyxp_numpy import _pool  # noqa: E402 - needs the extra, looked for above
from tinyxp_numpy._kernels import _team  # noqa: E402 - needs the extra, looked for above
from tinyxp_numpy._kernels._compile import pointer, program  # noqa: E402 - needs the extra, looked for above
from tinyxp_numpy._kernels._team import finish, settle, take  # noqa: E402 - needs the extra, looked for above

FLOAT = np.dtype(np.float64)
ONES = np.ones(1)
RUN, OWNER = _team._RUN, _team._OWNER


@program("first", "second", "items", "shares", keep=False)
def twice(board, table, reals, run, member):
    """Add 1 to each element of `first`; when all are done, add all of them to each element of `second`."""
    t = carray(table, 1)[0]
    if member >= t.shares:
        return
    first = carray(pointer(t.first, ONES), t.items)
    second = carray(pointer(t.second, ONES), t.items)
    while True:
        item = take(board, 0, t.items, run, member)
        if item < 0:
            break
        first[item] += reals[0]
        finish(board, 0)
    if not settle(board, 0, t.items, run, member):
        return
    while True:
        item = take(board, 1, t.items, run, member)
        if item < 0:
            break
        total = 0.0
        for i in range(t.items):
            total += first[i]
        second[item] += total
        finish(board, 1)
    settle(board, 1, t.items, run, member)


def table_for(first, second, shares):
    return np.array([first.ctypes.data, second.ctypes.data, first.size, shares], np.int64)


def run_twice(items, shares):
    first, second = np.zeros(items), np.zeros(items)
    _pool.run_program(twice(FLOAT), shares, table_for(first, second, shares), np.ones(1))
    return first, second


@pytest.fixture
def threads(monkeypatch):
    """Return the threads of kernels, of which three may be used, never sent away."""
    found = _pool._threads
    count = found.count
    _pool.set_threads(3)
    monkeypatch.setattr(type(found), "judge", lambda *_: None)
    found.alone = found.vain = 0.0
    yield found
    _pool.set_threads(count)


@pytest.mark.parametrize("shares", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("items", [1, 2, 7, 100])
def test_every_item_is_done_once_and_phases_in_their_order(threads, items, shares):
    for _ in range(50):
        first, second = run_twice(items, shares)
        assert np.all(first == 1)
        assert np.all(second == items)


def test_many_callers_and_many_programs(threads):
    wrong = []

    def work():
        for i in range(1500):
            first, second = run_twice(1 + i % 9, 1 + i % 4)
            if np.any(first != 1) or np.any(second != first.size):
                wrong.append((first, second))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert not wrong


def test_helpers_come(threads):
    def came():
        threads.call(2)
        first, second = np.zeros(4000), np.zeros(4000)
        table = table_for(first, second, 3)
        run = next(threads.serials)
        found = _team.lead(
            threads.board,
            run,
            3,
            twice(FLOAT),
            threads.table,
            threads.reals["d"],
            table,
            np.ones(1),
        )
        assert np.all(second == 4000)
        return found[2] > 0

    deadline = time.monotonic() + 60  # where the cores are busy a thread that is woken comes late
    while not came():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_comes_when_all_is_over_does_nothing(threads):
    first, second = np.zeros(5), np.zeros(5)
    board, reals = _team.board_for(3), np.ones(8)
    held, table = np.zeros(128, np.int64), table_for(first, second, 3)
    _team.lead(board, 7, 3, twice(FLOAT), held, reals, table, np.ones(1))
    _team.serve(board, 1, 0, 0, 10, 0)
    board[RUN] = 7  # as a helper sees it that was interrupted right after it had looked
    _team.serve(board, 1, 0, 0, 10, 0)
    assert board[RUN + 3] == 1  # it was inside
    assert np.all(first == 1)
    assert second.tolist() == [5.0] * 5


@pytest.mark.parametrize("shares", [3, 1, 2])
@pytest.mark.parametrize("items", [5, 50])
def test_who_comes_back_while_the_next_program_is_written_down_takes_nothing(items, shares):
    first, second = np.zeros(50), np.zeros(50)
    board, reals = _team.board_for(3), np.ones(8)
    held = np.zeros(128, np.int64)
    _team.lead(
        board, 7, 2, twice(FLOAT), held, reals, table_for(first[:5], second[:5], 2), np.ones(1)
    )
    done = first.copy(), second.copy()
    held[:4] = table_for(first[:items], second[:items], 3)
    board[RUN : RUN + 2] = 7, shares
    helpers = [threading.Thread(target=_team.serve, args=(board, i, 0, 0, 10, 0)) for i in (1, 2)]
    for helper in helpers:
        helper.start()
    while board[RUN + 3] < 2:
        time.sleep(0.001)
    board[RUN] = 0  # as at the end of a program: who waits for its items goes
    for helper in helpers:
        helper.join()
    assert np.array_equal(first, done[0])
    assert np.array_equal(second, done[1])


def test_a_board_in_use_is_left_to_its_user(threads):
    threads.board[OWNER] = 1
    try:
        first, second = run_twice(20, 3)
    finally:
        threads.board[OWNER] = 0
    assert np.all(first == 1)
    assert np.all(second == 20)
    assert threads.board[RUN] == 0


def test_a_caller_is_not_kept_waiting_by_helpers_who_do_not_come(threads, monkeypatch):
    monkeypatch.setattr(type(threads), "call", lambda *_: None)
    deadline = time.monotonic() + 20
    for _ in range(100):
        first, second = run_twice(20, 3)
        assert np.all(first == 1)
        assert np.all(second == 20)
    assert time.monotonic() < deadline


def test_threads_that_waited_for_a_kernel_in_vain_are_woken_for_a_program(threads):
    def idle(start, stop, part):
        time.sleep(0.001)

    threads.call(2)
    for _ in range(20):
        _pool.run_parts(idle, 2, 2)  # all three look at the board, one finds the kernel
    deadline = time.monotonic() + 60
    while len(threads.asleep) < threads.running:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_helpers_in_vain_are_not_waited_for_until_they_may_be_worth_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_pool, "perf_counter", lambda: now[0])
    found = _pool._Threads.__new__(_pool._Threads)
    found.alone, found.alone_until, found.vain = 0.0, 0.0, 0.0
    for _ in range(100):
        found.judge(1000, 300, 1)
    found.judge(1_000_000, 900_000, 1)  # one alone says nothing
    assert found.may_help()
    pauses = []
    for _ in range(8):
        while found.may_help():
            found.judge(1_000_000, 900_000, 1)
        pauses.append(found.alone)
        now[0] = found.alone_until
    assert pauses[0] == _pool._SHORTEST
    assert pauses == sorted(pauses)
    assert pauses[-1] == _pool._LONGEST
    for _ in range(30):
        found.judge(1000, 0, 1)
    assert found.alone == 0


def test_nobody_came_counts_only_where_there_was_time_to_come():
    found = _pool._Threads.__new__(_pool._Threads)
    found.alone, found.alone_until, found.vain = 0.0, 0.0, 0.0
    for _ in range(20):
        found.judge(50_000, 0, 0)
    assert found.may_help()
    for _ in range(20):
        found.judge(5_000_000, 0, 0)
    assert not found.may_help()


# ---------------------------------------------------------------- the block
def a_block(time=40, width=32, seed=0):
    with tinyxp.use_device("cpu"):
        tinyxp.manual_seed(seed)
        block = tinyxp.nn.TransformerBlock(width, 4)
        x = tinyxp.random.Generator(seed).normal((6, time, width)).requires_grad_()
    return block, x


def gradients_of(block, x):
    return [x.grad.numpy().copy(), *(p.grad.numpy().copy() for p in block.parameters())]


@pytest.mark.parametrize(("there", "back"), [(4, 1), (1, 4), (2, 3)])
def test_the_number_of_threads_may_change_between_forward_and_backward(threads, there, back):
    found = []
    for n, m in ((1, 1), (there, back)):
        block, x = a_block(time=96, width=64)
        _pool.set_threads(n)
        y = block(x, is_causal=True)
        _pool.set_threads(m)
        (y * y).sum().backward()
        found.append(gradients_of(block, x))
    for a, b in zip(*found, strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-4)


def misaligned(x):
    """Return a copy whose elements begin between the places where a processor expects them."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    y = memory[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    assert not y.flags.aligned
    return y


def strided(x):
    return np.stack([x, x], axis=-1)[..., 0]


def read_only(x):
    y = x.copy()
    y.flags.writeable = False
    return y


@pytest.mark.parametrize("change", [misaligned, strided, read_only])
def test_arrays_that_a_program_cannot_read_as_they_are(change):
    fused = tinyxp.get_backend("numpy")
    rng = np.random.default_rng(0)
    d, h = 8, 16
    shapes = [(d,), (d,), *[(d, d), (d,)] * 4, (d,), (d,), (d, h), (h,), (h, d), (d,)]
    arrays = [rng.standard_normal(s, np.float32) for s in ((2, 5, d), *shapes)]
    g = rng.standard_normal((2, 5, d), np.float32)
    options = {"num_heads": 2, "is_causal": True, "eps": 1e-5, "approximate": "tanh"}

    def both_ways(arrays, g):
        out, aux = fused.transformer_block(*arrays, **options)
        return [
            out,
            *fused.transformer_block_vjp(g, out, aux, *arrays, needs=(True,) * 17, **options),
        ]

    for a, b in zip(
        both_ways(arrays, g), both_ways([change(x) for x in arrays], change(g)), strict=True
    ):
        assert np.array_equal(a, b)


def test_frozen_parameters_leave_the_other_gradients_as_they_are():
    block, x = a_block()
    for p in block.mlp.parameters():
        p.requires_grad = False
    block(x, is_causal=True).sum().backward()
    assert all(p.grad is None for p in block.mlp.parameters())
    frozen = [x.grad.numpy(), *(p.grad.numpy() for p in block.attention.parameters())]
    block, x = a_block()
    block(x, is_causal=True).sum().backward()
    for a, b in zip(
        frozen,
        [x.grad.numpy(), *(p.grad.numpy() for p in block.attention.parameters())],
        strict=True,
    ):
        assert np.array_equal(a, b)


# ---------------------------------------------------------------- what is told, and what is kept
@pytest.mark.parametrize("heads", [3, 16, -2, 0, 2.0])
def test_heads_that_do_not_divide_the_width_are_left_to_the_default(heads):
    rng = np.random.default_rng(0)
    d, h = 8, 16
    shapes = [(2, 5, d), (d,), (d,), *[(d, d), (d,)] * 4, (d,), (d,), (d, h), (h,), (h, d), (d,)]
    arrays = [rng.standard_normal(s, np.float32) for s in shapes]
    options = {"num_heads": heads, "is_causal": True, "eps": 1e-5, "approximate": "tanh"}
    with (
        pytest.raises((ValueError, ZeroDivisionError, TypeError)) as default,
        tinyxp.use_fused(False),
    ):
        tinyxp.ops.fused.transformer_block(*map(tinyxp.asarray, arrays), **options)
    with pytest.raises(type(default.value)) as found:
        tinyxp.ops.fused.transformer_block(*map(tinyxp.asarray, arrays), **options)
    assert str(found.value) == str(default.value)


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_threads_than_one_are_refused(n):
    count = _pool._threads.count
    with pytest.raises(ValueError, match="at least 1; got"):
        tinyxp.get_backend("numpy").set_threads(n)
    with pytest.raises(TypeError):
        tinyxp.get_backend("numpy").set_threads(2.5)
    assert _pool._threads.count == count


def test_what_is_kept_is_made_anew_when_another_file_of_kernels_changes(tmp_path):
    shutil.copytree(
        Path(_pool.__file__).parent,
        tmp_path / "tinyxp_numpy",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    code = (
        "import numpy as np\n"
        "from tinyxp_numpy._kernels import _rows\n"
        "out = np.empty((1, 2))\n"
        "_rows.softmax(0, 1, 0, np.array([[0.0, -5.0]]), out)\n"
        "print(out[0, 1], sum(_rows.softmax.stats.cache_hits.values()))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}

    def run():
        done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True, timeout=120)  # fmt: skip
        return tuple(map(float, done.stdout.split()))

    value, hits = run()
    assert value == pytest.approx(np.exp(-5) / (1 + np.exp(-5)))
    assert hits == 0
    assert run() == (value, 1)
    file = tmp_path / "tinyxp_numpy" / "_kernels" / "_math.py"
    text = file.read_text(encoding="utf-8")
    assert "np.float64: -708.3964185322641" in text
    file.write_text(
        text.replace("np.float64: -708.3964185322641", "np.float64: -1.0"), encoding="utf-8"
    )
    assert run() == (0.0, 0)
