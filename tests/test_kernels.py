"""NumPy's compiled kernels: threads, forks, the switch, and what is not a number."""

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="compares with NumPy")
pytest.importorskip("numba", reason="the extra `fast` is not installed")

import tinyxp  # noqa: E402 - needs the extra, looked for above
from tinyxp_numpy import _blas, _pool  # noqa: E402 - needs the extra, looked for above

SIZES = {"vocab_size": 11, "embed_dim": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 96}


@pytest.fixture
def threads():
    """Return a function that sets the number of threads; the number is what it was afterwards."""
    count, blas = _pool._threads.count, _blas.set_threads(1)
    if blas:
        _blas.set_threads(blas)
    backend = tinyxp.get_backend("numpy")
    yield backend.set_threads
    _pool.set_threads(count)
    if blas:
        _blas.set_threads(blas)


def gradients(seed=0, **options):
    """Loss and all gradients of a small GPT, as bytes."""
    with tinyxp.use_device("cpu"):
        tinyxp.manual_seed(seed)
        model = tinyxp.GPT(**SIZES, seed=seed, **options)
        tokens = tinyxp.random.Generator(seed).integers(0, 11, (8, 96))
        loss = tinyxp.nn.CrossEntropyLoss()(model(tokens), tokens)
        loss.backward()
        return [loss.data.tobytes(), *(p.grad.data.tobytes() for p in model.parameters())]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_whoever_takes_which_range_the_bits_are_the_same(threads, n):
    threads(n)
    expected = gradients(dropout_prob=0.1)
    assert all(gradients(dropout_prob=0.1) == expected for _ in range(3))


def test_every_number_of_threads_gives_the_same_but_for_rounding(threads):
    threads(1)
    expected = [np.frombuffer(b, np.float32) for b in gradients()]
    for n in (2, 3, 5):
        threads(n)
        for found, want in zip(gradients(), expected, strict=True):
            got = np.frombuffer(found, np.float32)
            assert np.max(np.abs(got - want)) <= 1e-6 * (1e-3 + np.max(np.abs(want)))


def test_several_threads_may_compute_at_once(threads):
    threads(2)
    expected, found = [gradients(i) for i in range(3)], {}

    def work(i):
        found[i] = [gradients(i) for _ in range(3)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert found == {i: [expected[i]] * 3 for i in range(3)}


def test_blas_has_its_threads_back_afterwards(threads):
    threads(2)
    gradients()
    assert _blas.set_threads(2) in {2, None}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_process_computes_the_same():
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import test_kernels as t, tinyxp\n"
        "tinyxp.get_backend('numpy').set_threads(2)\n"
        "expected = t.gradients()\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(0 if t.gradients() == expected else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    here = Path(__file__).parent
    run = subprocess.run([sys.executable, "-c", code, here], timeout=120, check=False)
    assert run.returncode == 0


def test_threads_sleep_when_there_is_nothing_to_do(threads):
    threads(2)
    gradients()
    import time

    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.05


def test_the_switch_takes_the_defaults():
    x = tinyxp.asarray([[-1.0, 0.5, 2.0]], device="cpu", dtype="float32").requires_grad_()
    fused = tinyxp.nn.functional.gelu(x)
    assert fused._grad_fn.aux == ()
    with tinyxp.use_fused(False):
        plain = tinyxp.nn.functional.gelu(x)
    assert len(plain._grad_fn.aux) == 1
    assert np.allclose(fused.detach().numpy(), plain.detach().numpy(), atol=1e-7)


def test_the_switch_is_in_the_environment():
    code = (
        "import sys, tinyxp\n"
        "tinyxp.nn.functional.gelu(tinyxp.ones((2, 2)))\n"
        "sys.exit('numba' in sys.modules)"
    )
    for value, expected in (("0", 0), ("1", 1)):
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "TINYXP_FUSED": value}, check=False, timeout=120
        )  # fmt: skip
        assert run.returncode == expected


@pytest.mark.parametrize("first", [True, False])
def test_a_graph_is_differentiated_as_it_was_recorded(first):
    def loss(model, tokens):
        return tinyxp.nn.CrossEntropyLoss()(model(tokens), tokens)

    with tinyxp.use_device("cpu"):
        tokens = tinyxp.random.Generator(1).integers(0, 11, (2, 9))
        grads = []
        for second in (first, not first):
            model = tinyxp.GPT(**SIZES, seed=0, dtype="float64", checkpoint=second)
            with tinyxp.use_fused(first):
                out = loss(model, tokens)
            with tinyxp.use_fused(second):
                out.backward()
            grads.append([p.grad.numpy() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-12)


NOT_NUMBERS = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", NOT_NUMBERS, ids=str)
@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: f.gelu(x),
        lambda f, x: f.gelu(x, approximate="none"),
        lambda f, x: f.gelu(x, approximate="sigmoid"),
        lambda f, x: f.silu(x),
        lambda f, x: f.softmax(x, axis=-1),
        lambda f, x: f.log_softmax(x, axis=-1),
        lambda f, x: f.layer_norm(x, tinyxp.ones_like(x[0]), tinyxp.zeros_like(x[0])),
        lambda f, x: f.rms_norm(x, tinyxp.ones_like(x[0])),
        lambda f, x: f.cross_entropy(x, tinyxp.asarray([0, 1, 2])),
        lambda f, x: f.scaled_dot_product_attention(x, x, x),
    ],
    ids=["gelu", "erf", "sigmoid", "silu", "softmax", "log_softmax", "layer_norm", "rms_norm", "loss", "attention"],
)  # fmt: skip
def test_what_is_not_a_number_goes_through_as_by_default(call, bad, dtype):
    values = np.linspace(-2, 2, 3 * 37).reshape(3, 37)
    values[1, 5] = bad
    with tinyxp.use_device("cpu"), np.errstate(all="ignore"):
        results = []
        for fused in (True, False):
            x = tinyxp.asarray(values, dtype=dtype).requires_grad_()
            with tinyxp.use_fused(fused):
                y = call(tinyxp.nn.functional, x)
                y.sum().backward()
            results.append((y.detach().numpy(), x.grad.numpy()))
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


# ---------------------------------------------------------------- arrays that kernels must not read as they are
LAYOUTS = {
    "mirrored rows": lambda a: np.flip(np.ascontiguousarray(np.flip(a, -2)), -2),
    "mirrored columns": lambda a: np.flip(np.ascontiguousarray(np.flip(a, -1)), -1),
    "one row repeated": lambda a: np.broadcast_to(a[..., :1, :], a.shape),
    "one number": lambda a: np.broadcast_to(a[(0,) * a.ndim], a.shape),
    "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 67, 4), (2, 3, 5, 1), (6, 4)], ids=str)
def test_attention_reads_arrays_of_every_layout(layout, shape):
    random, change = np.random.default_rng(0), LAYOUTS[layout]
    arrays = [random.standard_normal(shape) for _ in range(4)]
    results = []
    for given in (list(map(change, arrays)), [np.array(change(a)) for a in arrays]):
        q, k, v, g = (tinyxp.asarray(a, device="cpu") for a in given)
        for x in (q, k, v):
            x.requires_grad_()
        y = tinyxp.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        y.backward(g)
        results.append([x.detach().numpy() for x in (y, q.grad, k.grad, v.grad)])
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=1e-12, atol=1e-12)


def parameter(*shape):
    return tinyxp.nn.Parameter(tinyxp.random.Generator(len(shape)).normal(shape, device="cpu"))


CHANGES = {
    "MLP narrower inside": lambda b: setattr(b.mlp, "linear1", tinyxp.nn.Linear(8, 16)),
    "MLP wider inside": lambda b: setattr(b.mlp, "linear2", tinyxp.nn.Linear(64, 8)),
    "MLP narrower outside": lambda b: setattr(b.mlp, "linear2", tinyxp.nn.Linear(32, 4)),
    "short weight": lambda b: setattr(b.mlp.linear1, "weight", parameter(4, 32)),
    "long bias": lambda b: setattr(b.mlp.linear1, "bias", parameter(64)),
    "one bias": lambda b: setattr(b.mlp.linear2, "bias", parameter(1)),
    "wide projection": lambda b: setattr(b.attention, "out_proj", tinyxp.nn.Linear(16, 8)),
    "narrow keys": lambda b: setattr(b.attention.k_proj, "weight", parameter(8, 4)),
    "other heads": lambda b: setattr(b, "attention", tinyxp.nn.MultiHeadAttention(8, 4)),
    "norm of time too": lambda b: setattr(b, "ln1", tinyxp.nn.LayerNorm((5, 8))),
    "short norm": lambda b: setattr(b, "ln1", tinyxp.nn.LayerNorm(4)),
    "no shift": lambda b: setattr(b.ln2, "beta", None),
}


def by_parts(block, x):
    y = x + block.attention(block.ln1(x))
    return y + block.mlp(block.ln2(y))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_block_computes_what_its_parts_say(change):
    with tinyxp.use_device("cpu"):
        x = tinyxp.random.Generator(1).normal((2, 5, 8))
        found = []
        for parts in (False, True):
            tinyxp.manual_seed(0)
            block = tinyxp.nn.TransformerBlock(8, 2)
            change(block)
            with tinyxp.use_fused(not parts):
                try:
                    found.append(
                        (by_parts if parts else type(block).forward)(block, x).detach().numpy()
                    )
                except tinyxp.errors.ShapeError:
                    found.append(None)
    fused, plain = found
    assert (fused is None) == (plain is None)
    assert plain is None or np.allclose(fused, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, one: f.linear(one(3, 4), one(4, 5), one(3)),
        lambda f, one: f.linear(one(3, 4), one(4, 5), one(9)),
        lambda f, one: f.layer_norm(one(3, 4), one(4), one(1)),
        lambda f, one: f.layer_norm(one(3, 4), one(4), one(8)),
        lambda f, one: tinyxp.ops.fused.mlp(one(2, 8), one(8, 4), None, one(5, 2), None, approximate="tanh"),
        lambda f, one: tinyxp.ops.fused.attention(one(3, 4), one(3, 5), one(3, 4), None, is_causal=False, scale=None),
    ],
    ids=["short bias", "long bias", "short shift", "long shift", "hidden", "keys"],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(call):
    with pytest.raises(tinyxp.errors.ShapeError):
        call(tinyxp.nn.functional, lambda *shape: tinyxp.ones(shape, device="cpu"))


def test_an_ignored_target_beyond_all_integers():
    logits = tinyxp.asarray([[0.0, 1.0]], device="cpu").requires_grad_()
    targets = tinyxp.asarray([1], device="cpu")
    loss = tinyxp.nn.functional.cross_entropy(logits, targets, ignore_index=1 << 70)
    loss.backward()
    assert abs(loss.item() - math.log(1 + math.exp(-1))) < 1e-6
    assert abs(logits.grad.sum().item()) < 1e-6


# ---------------------------------------------------------------- steps of optimizers
def weight():
    """Return a parameter with a gradient."""
    p = tinyxp.ones(5, device="cpu").requires_grad_()
    p.grad = tinyxp.ones(5, device="cpu")
    return p


def test_a_step_does_not_write_into_memory_that_is_read_only():
    memory = np.ones(5, np.float32).tobytes()
    array = np.frombuffer(memory, np.float32)
    steps = tinyxp.device("cpu").xp
    with pytest.raises(ValueError, match="read-only"):
        steps.scale_all([array], np.asarray(2.0, np.float32))
    moments, options = (
        [np.zeros(5, np.float32) for _ in range(3)],
        {"eps": 1e-8, "step": 1, "betas": (0.9, 0.99)},
    )
    with pytest.raises(ValueError, match="read-only"):
        steps.adamw_steps(
            [array], *([m] for m in moments), None, memo={}, lr=0.1, weight_decay=0.1, maximize=False,
            decoupled=True, **options,
        )  # fmt: skip
    assert memory == np.ones(5, np.float32).tobytes()


def test_a_step_reads_gradients_that_are_read_only_and_passes_over_empty_ones():
    steps, found = tinyxp.device("cpu").xp, []
    for writeable in (True, False):
        p, empty = np.ones(5, np.float32), np.ones(0, np.float32)
        g = np.arange(5, dtype=np.float32)
        g.flags.writeable = writeable
        state = [[np.zeros(5, np.float32), np.zeros(0, np.float32)] for _ in range(2)]
        steps.adamw_steps(
            [p, empty], [g, empty.copy()], *state, None, memo={}, lr=0.1, weight_decay=0.1, maximize=False,
            decoupled=True, eps=1e-8, step=1, betas=(0.9, 0.99),
        )  # fmt: skip
        found.append(p)
    assert np.allclose(found[0], [0.99, 0.89, 0.89, 0.89, 0.89])
    assert (found[0] == found[1]).all()


def test_a_step_does_not_write_beyond_a_moment_of_another_shape():
    p = weight()
    optimizer = tinyxp.optim.Adam([p])
    optimizer.step()
    optimizer.state[p]["exp_avg"] = tinyxp.ones(2, device="cpu")
    with pytest.raises(ValueError, match="could not be broadcast"):
        optimizer.step()


# ---------------------------------------------------------------- the processes of others
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_process_forked_while_another_thread_computes_goes_on():
    code = (
        "import os, signal, sys, tinyxp\n"
        "from tinyxp_numpy._fused import _arguments\n"
        "with _arguments.one_blas_thread, _arguments.one_blas_thread._lock:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)\n"
        "        tinyxp.nn.functional.linear(tinyxp.ones((2, 2)), tinyxp.ones((2, 2)))\n"
        "        os._exit(len(_arguments.one_blas_thread._inside))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert run.returncode == 0


def test_a_thread_that_was_interrupted_inside_has_left_the_next_time(threads):
    from tinyxp_numpy._fused import _arguments

    threads(2)
    if _blas.set_threads(2) is None:
        pytest.skip("this BLAS cannot be asked")
    _arguments.one_blas_thread.__enter__()  # and Ctrl-C before its end
    assert _blas.set_threads(1) == 1
    gradients()
    assert _blas.set_threads(2) == 2


def without(module, error):
    """Run a program where `module` cannot be imported; return its output."""
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise {error}\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import tinyxp\n"
        "x = tinyxp.ones((2, 2), device='cpu')\n"
        "tinyxp.get_backend('numpy').set_threads(1)\n"
        "print(tinyxp.nn.functional.linear(x, x).tolist())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return run.stdout.strip(), run.stderr


def test_without_numba_the_defaults_compute():
    out, said = without("numba", "ModuleNotFoundError('no numba', name='numba')")
    assert (out, said) == ("[[2.0, 2.0], [2.0, 2.0]]", "")


def test_a_numba_that_refuses_this_numpy_is_named_in_a_warning():
    out, said = without("numba", "ImportError('Numba needs another NumPy')")
    assert out == "[[2.0, 2.0], [2.0, 2.0]]"
    assert said.count("Numba needs another NumPy") == 1


# ---------------------------------------------------------------- one position at a time
def block(width, hidden, batch, *, room=6, dtype="float32"):
    """Arguments of `transformer_step`: x, parameters, keys, values."""
    random = np.random.default_rng(0)
    square, row = (width, width), (width,)
    shapes = [*[square, row] * 4, *[row] * 4, (width, hidden), (hidden,), (hidden, width), row]
    cache = (batch, 2, room, width // 2)

    def draw(*shape):
        return (random.standard_normal(shape) / math.sqrt(shape[0])).astype(dtype)

    return draw(batch, width), [draw(*s) for s in shapes], draw(*cache), draw(*cache)


def both_steps(x, arrays, keys, values):
    """What the kernel gives and what the default gives: the result and both caches."""
    found = []
    for name in ("transformer_step", "plain_transformer_step"):
        caches = keys.copy(), values.copy()
        step = getattr(tinyxp.device("cpu").xp, name)
        out = step(x, arrays, *caches, None, start=3, eps=1e-5, approximate="tanh")
        found.append((out, *caches))
    return found


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_divide_a_step_with_large_weights(threads, monkeypatch, count, batch):
    from tinyxp_numpy._fused import _decode

    threads(count)
    taken = []
    parts = _decode._parts
    monkeypatch.setattr(_decode, "_parts", lambda *a: taken.append(parts(*a)) or taken[-1])
    for ours, defaults in zip(*both_steps(*block(400, 530, batch)), strict=True):
        assert np.allclose(ours, defaults, rtol=0, atol=1e-5)
    assert taken == [min(count, 2)]


@pytest.mark.parametrize(
    "change",
    [
        lambda x, arrays, k, v: (x, [a.copy(order="F") for a in arrays], k, v),
        lambda x, arrays, k, v: (x, [a.astype("float64") for a in arrays], k, v),
        lambda x, arrays, k, v: (np.concatenate([x] * 3), arrays, *(np.repeat(c, 3, 0) for c in (k, v))),
    ],
    ids=["strided", "another dtype", "many rows"],
)  # fmt: skip
def test_a_step_that_the_kernel_does_not_take_is_the_default(monkeypatch, change):
    from tinyxp_numpy._kernels import _decode

    monkeypatch.delattr(_decode, "transformer_step")  # which would be called
    for ours, defaults in zip(*both_steps(*change(*block(8, 10, 3))), strict=True):
        assert np.allclose(ours, defaults, rtol=0, atol=1e-5)


def test_a_step_beyond_the_room_of_the_cache_writes_nowhere():
    x, arrays, keys, values = block(8, 10, 1)
    before = keys.copy(), values.copy()
    step = tinyxp.device("cpu").xp.transformer_step
    step(x, arrays, keys, values, None, start=6, eps=1e-5, approximate="tanh")
    assert (keys == before[0]).all()
    assert (values == before[1]).all()


def test_without_more_threads_the_caller_does_the_work(threads, monkeypatch):
    threads(4)
    fresh = _pool._Threads()
    fresh.count = 4
    monkeypatch.setattr(_pool, "_threads", fresh)

    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    expected = gradients()
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    again = _pool._Threads()
    again.count = 4
    monkeypatch.setattr(_pool, "_threads", again)
    assert gradients() == expected
    assert again.running == 0
    assert again.jobs.empty()
