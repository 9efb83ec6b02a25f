"""Derivatives of solutions: against finite differences, to order 2."""

from __future__ import annotations

import numpy as np
import pytest

from tinyxp.errors import GraphError, ShapeError
from tinyxp.func import custom_root, root
from tinyxp.testing import gradcheck


def system(x, a, b):
    """Two coupled equations with a root near (1, 1)."""
    return x**3 + a * x[::-1] - b


def test_the_root_of_a_system(xp):
    """In both parameters, forward and reverse, orders 1 and 2."""
    a, b = xp.asarray(np.asarray(0.3)), xp.asarray(np.asarray([1.4, 1.2]))
    start = xp.ones(2, dtype="float64")
    x = root(system, start, a, b)
    assert float(xp.max(xp.abs(system(x, a, b)))) < 1e-12
    gradcheck(lambda a, b: root(system, start, a, b), a, b)


def test_any_solver_will_do(xp):
    """A closed form, hidden from the graph, gets the derivative of the equation it solves."""
    squares = custom_root(lambda x, a: x * x - a, xp.sqrt)
    a = xp.asarray(np.asarray([1.0, 4.0, 9.0]))
    gradcheck(squares, a)
    t = xp.Tensor([4.0], requires_grad=True)
    squares(t).sum().backward()
    assert t.grad.tolist() == [0.25]


def test_only_what_requires_grad_is_differentiated(xp):
    """Parameters may be numbers, or Tensors that are constant."""
    a = xp.Tensor([4.0], requires_grad=True)
    x = root(lambda x, a, k: x**k - a, xp.Tensor([1.5]), a, 2)
    x.sum().backward()
    assert a.grad.item() == pytest.approx(0.25, rel=1e-5)


def test_what_cannot_be_solved_says_so(xp):
    """No root, and a function that changes the shape."""
    with pytest.raises(GraphError, match="custom_root with a solver of your own"):
        root(lambda x, a: x * x + a, xp.Tensor([0.7]), xp.Tensor([1.0]))
    wrong = custom_root(lambda x, a: xp.sum(x) - a, lambda a: xp.concat([a, a]))
    with pytest.raises(ShapeError, match="keep the shape of x"):
        wrong(xp.Tensor([1.0], requires_grad=True)).sum().backward()
