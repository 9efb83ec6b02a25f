"""The recorded graph: what backward accumulates, frees, refuses and costs."""

from __future__ import annotations

import gc
import math
import threading
import time
import tracemalloc
import weakref

import numpy as np
import pytest

import tinyxp
from tinyxp.autograd import (
    Function,
    checkpoint,
    enable_grad,
    grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from tinyxp.errors import BACKWARD_TWICE, DTypeError, GraphError, ShapeError


def leaf(xp, values):
    return xp.Tensor(values, requires_grad=True)


@pytest.fixture
def no_collector():
    """Switch the garbage collector off: what is freed is freed by reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ---------------------------------------------------------------- gradients of leaves
def test_gradients_accumulate_until_they_are_forgotten(xp):
    x = leaf(xp, [1.0, 2.0])
    for n in (1, 2):
        (3 * x).sum().backward()
        assert x.grad.tolist() == [3.0 * n] * 2
    x.zero_grad()
    assert x.grad is None


def test_a_leaf_used_in_several_places_receives_the_sum(xp):
    x = leaf(xp, [1.0, 2.0])
    y = x * x + x
    (y * x - x).sum().backward()  # x³ + x² - x
    assert x.grad.tolist() == [4.0, 15.0]


def test_gradients_of_an_addition_do_not_share_storage(xp):
    for create_graph in (False, True):
        a, b = leaf(xp, [1.0, 2.0]), leaf(xp, [3.0, 4.0])
        (a + b).sum().backward(create_graph=create_graph)
        with no_grad():
            a.grad *= 0.5
        assert (a.grad.tolist(), b.grad.tolist()) == ([0.5, 0.5], [1.0, 1.0])
        ga, gb = grad((a + b).sum(), [a, b], create_graph=create_graph)
        assert ga is not gb
        assert not a.device.backend.shares_memory(ga.data, gb.data)


def test_a_gradient_does_not_share_storage_with_the_cotangent(xp):
    for create_graph in (False, True):
        a, g = leaf(xp, [1.0, 2.0]), xp.Tensor([5.0, 6.0])
        (+a).backward(g, create_graph=create_graph)
        with no_grad():
            a.grad += 1.0
        assert g.tolist() == [5.0, 6.0]


def test_cotangents(xp):
    x = leaf(xp, [1.0, 2.0])
    y = x * x
    with pytest.raises(
        GraphError, match=r"needs a single real element; got float32 of shape \(2,\)"
    ):
        y.backward()
    with pytest.raises(ShapeError, match=r"\(2,\); got \(3,\)"):
        y.backward(xp.ones(3))
    y.backward(np.asarray([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 40.0]
    assert x.grad.dtype == xp.float32


def test_a_complex_result_needs_a_cotangent(xp):
    z = leaf(xp, [1 + 2j])
    with pytest.raises(GraphError, match="real element; got complex64"):
        z.sum().backward()


def test_backward_of_what_requires_no_grad(xp):
    with pytest.raises(GraphError, match="does not require grad"):
        xp.ones(1).backward()


def test_gradients_have_the_dtype_and_shape_of_the_leaf(xp):
    x, y = leaf(xp, [[1.0], [2.0]]), xp.Tensor([1.0, 2.0, 3.0], requires_grad=True, dtype="float64")
    (x * y).sum().backward()
    assert (x.grad.dtype, x.grad.shape) == (xp.float32, (2, 1))
    assert (y.grad.dtype, y.grad.shape) == (xp.float64, (3,))
    assert (x.grad.tolist(), y.grad.tolist()) == ([[6.0], [6.0]], [3.0, 3.0, 3.0])


def test_only_floating_tensors_require_grad(xp):
    with pytest.raises(DTypeError, match="only floating Tensors can require grad; got dtype int64"):
        xp.Tensor([1, 2], requires_grad=True)
    x = leaf(xp, [1.0, 3.0])
    assert not xp.argmax(x).requires_grad
    assert not (x > 2).requires_grad
    assert not xp.astype(x, "int64").requires_grad


# ---------------------------------------------------------------- which inputs
def test_backward_into_chosen_inputs_only(xp):
    a, b = leaf(xp, [1.0]), leaf(xp, [2.0])
    c = a * b
    (c * a).sum().backward(inputs=[b])
    assert a.grad is None
    assert b.grad.tolist() == [1.0]
    with pytest.raises(GraphError, match="expects leaves"):
        (c * a).sum().backward(inputs=[c])


def test_grad_of_leaves_and_of_results(xp):
    x = leaf(xp, [2.0])
    y = x * x
    z = y * y * x
    gx, gy = grad(z, [x, y])
    assert (gx.tolist(), gy.tolist()) == ([80.0], [16.0])
    assert x.grad is None


def test_grad_of_unused_inputs(xp):
    x, other = leaf(xp, [2.0]), leaf(xp, [1.0])
    with pytest.raises(GraphError, match="do not depend on input 1"):
        grad(x * x, [x, other])
    g, missing = grad(x * x, [x, other], allow_unused=True)
    assert g.tolist() == [4.0]
    assert missing is None
    assert grad(xp.ones(1), x, allow_unused=True) == (None,)
    with pytest.raises(GraphError, match="no output requires grad"):
        grad(xp.ones(1), x)
    with pytest.raises(GraphError, match="input 0 does not require grad"):
        grad(x * x, xp.ones(1))


def test_grad_of_several_outputs(xp):
    x = leaf(xp, [1.0, 2.0])
    (g,) = grad([x * x, x[0]], x, [xp.Tensor([1.0, 10.0]), None])
    assert g.tolist() == [3.0, 40.0]
    with pytest.raises(ValueError, match="one cotangent for each of 2 outputs; got 1"):
        grad([x * x, x[0]], x, [None])


def test_an_output_is_its_own_gradient(xp):
    x = leaf(xp, [1.0, 2.0])
    y = (x * x).sum()
    gy, gx = grad(y, [y, x])
    assert (gy.item(), gx.tolist()) == (1.0, [2.0, 4.0])


def test_create_graph(xp):
    x = leaf(xp, 2.0)
    (g,) = grad(x**4, x, create_graph=True)
    (h,) = grad(g, x, create_graph=True)
    (k,) = grad(h, x)
    assert (g.item(), h.item(), k.item()) == (32.0, 48.0, 48.0)


def test_the_gradient_of_a_gradient_penalty(xp):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    values = np.random.default_rng(0).normal(size=(4, 3))
    found = []
    for lib in (xp, torch):
        w = lib.asarray(values) + 0.0
        w.requires_grad_()
        y = lib.sum(lib.tanh(lib.matmul(w, w.mT)) ** 2)
        (g,) = (grad if lib is xp else torch.autograd.grad)(y, w, create_graph=True)
        lib.sum(g * g).backward()
        found.append(w.grad.numpy())
    np.testing.assert_allclose(*found, rtol=1e-10)


# ---------------------------------------------------------------- freeing
def test_a_second_backward_teaches(xp):
    x = leaf(xp, [1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GraphError) as error:
        y.backward()
    assert str(error.value) == BACKWARD_TWICE
    assert x.grad.tolist() == [2.0, 4.0]


def test_retain_graph(xp):
    x = leaf(xp, [1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(GraphError, match="already used"):
        y.backward()


def test_a_common_part_that_was_freed(xp):
    x = leaf(xp, [1.0, 2.0])
    common = x * x
    (common * 2).sum().backward()
    with pytest.raises(GraphError, match="already used"):
        (common * 3).sum().backward()


def test_grad_says_that_a_part_was_freed(xp):
    x = leaf(xp, [1.0, 2.0])
    h = xp.exp(x)
    xp.sum(h).backward()
    with pytest.raises(GraphError, match="already used"):  # and not half of the gradient
        xp.autograd.grad(xp.sum(h * x), x, allow_unused=True)


def test_what_lies_before_the_inputs_is_left_alone(xp):
    x = leaf(xp, [1.0, 2.0])
    h = xp.exp(x)
    (g,) = xp.autograd.grad(xp.sum(h * h), h)
    h.backward(g)
    assert x.grad.tolist() == pytest.approx((2 * h * h).tolist())
    assert xp.autograd.grad(xp.sum(h * h), h)[0].tolist() == g.tolist()  # `h` is freed by now


@pytest.mark.skip_backend(
    "cupy", "torch", reason="tracemalloc sees the memory of NumPy's arrays only"
)
def test_memory_falls_while_backward_walks(xp, no_collector):
    """Ten saved arrays of a megabyte are gone when the gradient is there."""
    x = leaf(xp, np.ones(1 << 17))
    tracemalloc.start()
    y = x
    for _ in range(10):
        y = xp.exp(y * 0.1)
    held = tracemalloc.get_traced_memory()[0]
    y.sum().backward()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held > 9 << 20
    assert left < 4 << 20  # y, its gradient, and a spare


def test_nothing_refers_in_circles(xp, no_collector):
    """Every kind of node, with and without backward, dies with the last Tensor that needs it."""

    class Twice(Function):
        @staticmethod
        def forward(ctx, x):
            y = 2 * x
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(_ctx, g):
            return 2 * g

    def program(x):
        y = xp.exp(x)
        y[0] = x[1]  # a write
        v = y[::-1]
        v += x * x
        d = y.detach()
        y += y * d
        y[...] = y
        z = Twice.apply(xp.sort(y)) + checkpoint(lambda t: checkpoint(xp.exp, t) * x, y)
        z.register_hook(lambda g: g)
        z.retain_grad()
        a, *_ = xp.unstack(z)
        return [y, v, d, z, a, (a * xp.max(z) + xp.prod(z)).sum()]

    x = leaf(xp, [0.1, 0.2, 0.3])
    for walk in (False, True):
        made = program(x)
        watched = [weakref.ref(t) for t in made] + [
            weakref.ref(t._node) for t in made if t._node is not None
        ]
        if walk:
            made[-1].backward()
        del made
        assert [w for w in watched if w() is not None] == []


def test_the_time_of_backward_is_linear_in_the_depth(xp):
    def seconds(depth):
        x = leaf(xp, [1.0])
        y = x
        for _ in range(depth):
            y = y * 1.0
        start = time.process_time()
        y.backward()
        return time.process_time() - start

    seconds(100)
    short, long = (min(seconds(n) for _ in range(3)) for n in (1_000, 8_000))
    assert long < 8 * 3 * short


def test_diamonds_cost_no_more_than_their_nodes(xp):
    """200 doublings have 2**200 paths and 200 nodes."""
    x = leaf(xp, [1.0])
    y = x
    for _ in range(200):
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.tolist() == [1.0]


def test_deep_graphs_hit_no_limit_of_recursion(xp):
    """Neither walking back nor destroying 20,000 operations recurses."""
    x = leaf(xp, [1.0])
    y = x
    for _ in range(20_000):
        y = y + x
    y.backward()
    assert x.grad.tolist() == [20_001.0]
    z = x
    for _ in range(20_000):
        z = z[...] * 1.0
    del z  # a graph that was never walked
    v = xp.zeros(2)
    for _ in range(20_000):
        v = v[...]
    del v


# ---------------------------------------------------------------- hooks
def test_hooks_see_and_replace_gradients(xp):
    x = leaf(xp, [1.0, 2.0])
    y = x * x
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    handle = y.register_hook(lambda g: 10 * g)
    x.register_hook(lambda g: g + 1)
    (3 * y).sum().backward(retain_graph=True)
    assert seen == [[3.0, 3.0]]
    assert x.grad.tolist() == [61.0, 121.0]
    handle.remove()
    handle.remove()  # a second time does nothing
    x.zero_grad()
    (3 * y).sum().backward()
    assert x.grad.tolist() == [7.0, 13.0]


def test_what_a_hook_may_return(xp):
    x = leaf(xp, [1.0, 2.0])
    handle = x.register_hook(lambda _g: np.asarray([5.0, 6.0]))
    (x * x).sum().backward()
    assert x.grad.tolist() == [5.0, 6.0]
    assert x.grad.dtype == xp.float32
    handle.remove()
    x.register_hook(lambda g: g.sum())
    with pytest.raises(
        ShapeError, match=r"what a hook returns must have the shape \(2,\); got \(\)"
    ):
        (x * x).sum().backward()


def test_a_hook_may_write_into_its_gradient(xp):
    a, b = leaf(xp, [1.0]), leaf(xp, [1.0])

    def zero(g):
        g[...] = 0.0

    a.register_hook(zero)
    (a + b).sum().backward()
    assert b.grad.tolist() == [1.0]


def test_hooks_run_once_on_the_whole_gradient(xp):
    x = leaf(xp, [1.0])
    calls = []
    y = 2 * x
    y.register_hook(lambda g: calls.append(g.tolist()))
    (y + y * y + 5 * y).sum().backward()
    assert calls == [[10.0]]


def test_hooks_of_one_result_among_several(xp):
    x = leaf(xp, [1.0, 2.0])
    a, b = xp.unstack(x)
    a.register_hook(lambda g: 10 * g)
    (a + b).backward()
    assert x.grad.tolist() == [10.0, 1.0]


def test_retain_grad(xp):
    x = leaf(xp, [1.0, 2.0])
    y = x * x
    assert y.grad is None
    y.retain_grad()
    z = 3 * y
    z.sum().backward(retain_graph=True)
    z.sum().backward()
    assert y.grad.tolist() == [6.0, 6.0]
    x.retain_grad()  # nothing to do for a leaf
    with pytest.raises(GraphError, match="need a Tensor that requires grad"):
        xp.ones(1).retain_grad()


def test_the_gradient_of_a_leaf_can_be_set(xp):
    x = leaf(xp, [1.0, 2.0])
    x.grad = xp.ones(2)
    (x * x).sum().backward()
    assert x.grad.tolist() == [3.0, 5.0]
    with pytest.raises(ShapeError, match=r"\(2,\); got \(3,\)"):
        x.grad = xp.ones(3)
    with pytest.raises(GraphError, match="only leaves"):
        xp.ones(2).grad = xp.ones(2)


# ---------------------------------------------------------------- modes
def test_modes_as_contexts(xp):
    x = leaf(xp, [1.0])
    for mode, expected in ((no_grad, False), (inference_mode, False), (enable_grad, True)):
        with mode():
            assert is_grad_enabled() is expected
            assert (2 * x).requires_grad is expected
    with no_grad(), enable_grad(), set_grad_enabled(False):
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_modes_end_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_modes_as_decorators(xp):
    @no_grad()
    def outer(x, depth):
        """Say so."""
        assert not is_grad_enabled()
        return outer(x, depth - 1) if depth else inner(x)

    @enable_grad()
    def inner(x):
        return 2 * x

    x = leaf(xp, [1.0])
    assert outer.__doc__ == "Say so."
    assert outer(x, 3).requires_grad
    assert is_grad_enabled()


def test_modes_are_those_of_a_thread(xp):
    x = leaf(xp, [1.0])
    inside, checked = threading.Event(), threading.Event()

    def work():
        with no_grad():
            inside.set()
            checked.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    assert is_grad_enabled()
    assert (2 * x).requires_grad
    checked.set()
    thread.join()


def test_a_decorated_function_in_two_threads_at_once():
    """Each call gives its own thread the mode back that this thread had."""
    first_inside, second_inside, first_left = (threading.Event() for _ in range(3))
    modes = {}

    @no_grad()
    def work(arrive, wait):
        arrive.set()
        wait.wait(10)

    def first():
        work(first_inside, second_inside)
        modes["first"] = is_grad_enabled()
        first_left.set()

    def second():
        first_inside.wait(10)
        with no_grad():
            work(second_inside, first_left)
            modes["second"] = is_grad_enabled()

    threads = [threading.Thread(target=f) for f in (first, second)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert modes == {"first": True, "second": False}


def test_a_thread_that_records_nothing_disturbs_no_other(xp):
    inside, done = threading.Event(), threading.Event()

    def work():
        with no_grad():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    x = xp.Tensor([2.0], requires_grad=True)
    recorded = [y.requires_grad for y in (x * x, x * 2.0, xp.exp(x), x.sum(), x[0])]
    with no_grad():
        unrecorded = [y.requires_grad for y in (x * x, x * 2.0, xp.exp(x), x.sum(), x[0])]
    done.set()
    thread.join()
    assert all(recorded)
    assert not any(unrecorded)


def test_graphs_of_two_threads(xp):
    """Threads that share a parameter's value each walk their own graph."""
    device = xp.get_default_device()
    found = {}

    def work(n):
        with tinyxp.use_device(device):
            x = leaf(xp, [float(n)])
            y = x
            for _ in range(50):
                y = y * x
            y.backward()
            found[n] = x.grad.item()

    threads = [threading.Thread(target=work, args=(n,)) for n in (-1, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {-1: 51.0, 1: 51.0}


# ---------------------------------------------------------------- anomalies
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_mode_names_the_operation(xp):
    def the_guilty_function(x):
        return xp.sqrt(x) * 0.0

    set_detect_anomaly(True)
    try:
        y = the_guilty_function(leaf(xp, [0.0])) * xp.Tensor([np.inf])
        with pytest.raises(GraphError, match="NaN gradient") as error:
            y.backward()
        assert "the_guilty_function" in str(error.value)
    finally:
        set_detect_anomaly(False)


def test_anomaly_mode_changes_nothing_else(xp):
    set_detect_anomaly(True)
    try:
        x = leaf(xp, [1.0])
        y = x * x
        y.retain_grad()
        y.register_hook(lambda g: 2 * g)
        checkpoint(xp.exp, y).backward()
    finally:
        set_detect_anomaly(False)
    np.testing.assert_allclose(x.grad.numpy(), 4 * np.exp([1.0]), rtol=1e-6)


def test_a_leaf_is_done_with_right_behind_the_first_operation_that_used_it(xp):
    """Its gradient is then collected, and what it was made of can go, before the pass is at its end."""
    x, w1, w2 = (xp.Tensor([2.0], requires_grad=True) for _ in range(3))
    h = x * w1
    y = h * w2
    order = []
    for name, t in (("w1", w1), ("h", h), ("w2", w2), ("y", y)):
        t.register_hook(lambda _, name=name: order.append(name))
    y.sum().backward()
    assert order == ["y", "w2", "h", "w1"]


def test_operations_of_several_devices_in_one_graph(xp, device):
    """The pass goes from device to device, each with the rules of its own library."""
    x = xp.Tensor([1.0, 2.0], requires_grad=True)
    y = xp.exp(x).to("strict:cpu") * 3.0
    z = (y.to(device) * x).sum() + y.sum().to(device)
    z.backward()
    for g, v in zip(x.grad.tolist(), (1.0, 2.0), strict=True):
        assert g == pytest.approx(3 * math.exp(v) * (v + 2), rel=1e-5)
