"""Operations of one's own, and recomputation in place of memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import tinyxp
from tinyxp import random
from tinyxp.autograd import Function, checkpoint, defvjp, grad, no_grad
from tinyxp.errors import GraphError, ShapeError


def leaf(xp, values):
    return xp.Tensor(values, requires_grad=True)


# ---------------------------------------------------------------- operations of one's own
class Scale(Function):
    """x * exp(y): reads an argument and the result."""

    @staticmethod
    def forward(ctx, x, y, note):
        out = x * tinyxp.exp(y)
        ctx.note = note
        ctx.save_for_backward(y, out)
        return out

    @staticmethod
    def backward(ctx, g):
        y, out = ctx.saved_tensors
        assert ctx.note == "kept"
        dx = g * tinyxp.exp(y) if ctx.needs_input_grad[0] else None
        return dx, g * out if ctx.needs_input_grad[1] else None, None


def test_function(xp):
    tinyxp.testing.gradcheck(
        lambda x, y: Scale.apply(x, y, "kept"), xp.asarray(np.ones(3)), xp.asarray(np.arange(3.0))
    )
    x = leaf(xp, [2.0])
    Scale.apply(x, xp.zeros(1), "kept").backward()
    assert x.grad.tolist() == [1.0]
    assert not Scale.apply(xp.ones(1), xp.zeros(1), "kept").requires_grad
    with no_grad():
        assert not Scale.apply(x, xp.zeros(1), "kept").requires_grad


def test_a_function_that_saves_and_returns_a_view(xp):
    """The saved result stands at its place in the graph, and the result can be written."""

    class Exp(Function):
        @staticmethod
        def forward(ctx, x):
            y = xp.reshape(xp.exp(x), (-1,))
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            return xp.reshape(g * ctx.saved_tensors[0], (2, 1))

    tinyxp.testing.gradcheck(Exp.apply, xp.asarray(np.asarray([[0.5], [-1.0]])))
    x = leaf(xp, [[0.0], [0.0]])
    y = Exp.apply(x)
    y[0] = 5.0
    y.sum().backward()
    assert x.grad.tolist() == [[0.0], [1.0]]


def test_function_with_several_results(xp):
    class Parts(Function):
        @staticmethod
        def forward(_ctx, x):
            return x * 2, xp.argmax(x), x * 3

        @staticmethod
        def backward(_ctx, a, _index, b):
            return 2 * a + 3 * b

    x = leaf(xp, [1.0, 5.0])
    two, index, three = Parts.apply(x)
    assert (two.requires_grad, index.requires_grad, three.requires_grad) == (True, False, True)
    assert index.item() == 1
    three.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_function_with_an_integer_result(xp):
    class Index(Function):
        @staticmethod
        def forward(_ctx, x):
            return xp.argmax(x)

    assert not Index.apply(leaf(xp, [1.0, 5.0])).requires_grad


def test_a_function_that_returns_its_argument(xp):
    class Same(Function):
        @staticmethod
        def forward(_ctx, x):
            return x

        @staticmethod
        def backward(_ctx, g):
            return 7 * g

    x = leaf(xp, [1.0])
    y = Same.apply(x)
    y[0] = y[0] + 1.0
    y.sum().backward()
    assert (x.tolist(), y.tolist(), x.grad.tolist()) == ([1.0], [2.0], [7.0])


@pytest.mark.parametrize(
    ("returned", "error", "text"),
    [
        (lambda g: 3.0, GraphError, "must return Tensors or None; got float for argument 0"),
        (
            lambda g: (g, g),
            GraphError,
            "one cotangent for each of the 1 arguments of forward; got 2",
        ),
        (lambda g: g.sum(), ShapeError, r"of the shape of argument 0, \(2,\); got \(\)"),
    ],
)
def test_wrong_cotangents_of_a_function(xp, returned, error, text):
    class Wrong(Function):
        @staticmethod
        def forward(_ctx, x):
            return +x

        @staticmethod
        def backward(_ctx, g):
            return returned(g)

    for create_graph in (False, True):
        with pytest.raises(error, match=text):
            Wrong.apply(leaf(xp, [1.0, 2.0])).sum().backward(create_graph=create_graph)


def test_a_function_that_saved_a_parameter_which_is_overwritten(xp):
    w = leaf(xp, [1.0, 2.0])
    y = Scale.apply(xp.ones(2), w, "kept").sum()
    with no_grad():
        w += 1.0
    with pytest.raises(GraphError, match="overwritten in place"):
        y.backward()


def test_a_function_sees_what_it_saved(xp):
    """Later writes to a saved argument that is no parameter, or to the result, do not reach it."""
    w, y = leaf(xp, [1.0, 2.0]), xp.zeros(2)
    out = Scale.apply(w, y, "kept")
    y += 5.0
    out *= 3.0
    out.sum().backward()
    assert w.grad.tolist() == [3.0, 3.0]


def test_defvjp(xp):
    cube = defvjp(lambda x, n: x**n, lambda g, out, x, n: g * n * x ** (n - 1), None)
    tinyxp.testing.gradcheck(lambda x: cube(x, 3), xp.asarray(np.asarray([0.5, -2.0])))
    assert cube(xp.ones(1), 3).tolist() == [1.0]
    assert cube(2, 3) == 8


# ---------------------------------------------------------------- checkpoint
def test_checkpoint_gives_the_same_gradients(xp):
    w = leaf(xp, [0.5, -0.5])  # a parameter that the function closes over

    def f(t, k):
        return xp.tanh(t * w) * xp.exp(t) * k

    found = []
    for call in (
        f,
        lambda t, k: checkpoint(f, t, k),
        lambda t, k: checkpoint(lambda u: checkpoint(f, u, k) * 1.0, t),
    ):
        x = leaf(xp, [1.0, 2.0])
        w.zero_grad()
        y = call(x, 3).sum()
        (g,) = grad(y, x, create_graph=True)
        (g * g).sum().backward()
        found.append(x.grad.tolist() + w.grad.tolist())
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.skip_backend(
    "cupy", "torch", reason="tracemalloc sees the memory of NumPy's arrays only"
)
def test_checkpoint_saves_memory(xp):
    def f(t):
        for _ in range(10):
            t = xp.exp(t * 0.1)
        return t

    x = leaf(xp, np.ones(1 << 17))
    held = []
    for call in (f, lambda t: checkpoint(f, t)):
        tracemalloc.start()
        y = call(x)
        held.append(tracemalloc.get_traced_memory()[0])
        y.sum().backward()
        tracemalloc.stop()
        x.zero_grad()
    assert held[1] < held[0] / 4


def test_checkpoint_draws_the_same_dropout(xp):
    x = leaf(xp, np.ones(1000))

    def f(t):
        return tinyxp.nn.functional.dropout(t, 0.5, training=True) * t

    random.manual_seed(3)
    y = checkpoint(f, x)
    after = random.default_generator().state_dict()
    y.sum().backward()
    np.testing.assert_allclose(
        x.grad.numpy(), 2 * y.detach().numpy(), rtol=1e-6
    )  # each mask value twice
    assert random.default_generator().state_dict() == after


def test_checkpoint_refuses_when_a_parameter_was_overwritten(xp):
    w, x = leaf(xp, [1.0, 2.0]), leaf(xp, [1.0, 2.0])
    y = checkpoint(lambda t: t * w, x).sum()
    with no_grad():
        w += 1.0
    with pytest.raises(GraphError, match="overwritten in place"):
        y.backward()


def test_checkpoint_sees_its_arguments_as_they_were(xp):
    x, w = xp.Tensor([1.0, 2.0]), leaf(xp, [1.0, 1.0])
    y = checkpoint(lambda t: xp.exp(t) * w, x).sum()
    expected = np.exp([1.0, 2.0])
    x *= 0.0
    y.backward()
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-6)


def test_checkpoint_notices_another_function(xp):
    calls = []

    def f(t):
        calls.append(t)
        return xp.exp(t) if len(calls) == 1 else xp.sin(t)

    y = checkpoint(f, leaf(xp, [1.0])).sum()
    with pytest.raises(GraphError, match="did other operations"):
        y.backward()


def test_checkpoint_without_recording(xp):
    with no_grad():
        assert checkpoint(lambda t: 2 * t, leaf(xp, [1.0])).tolist() == [2.0]


def test_a_backward_that_writes_into_its_cotangent_changes_nobody_elses(xp):
    """The cotangent of a sum goes to both terms: one must not see what is done to the other."""

    class Writes(xp.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            g *= 2
            return g

    a, b = (xp.Tensor([1.0, 1.0], requires_grad=True) for _ in range(2))
    first = +b  # is passed after what was recorded later
    (Writes.apply(a) + first).backward(xp.asarray([1.0, 3.0]))
    assert a.grad.tolist() == [2.0, 6.0]
    assert b.grad.tolist() == [1.0, 3.0]
