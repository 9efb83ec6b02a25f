"""Copies of Tensors: copy, deepcopy and pickle."""

from __future__ import annotations

import copy
import pickle

import pytest

import tinyxp
from tinyxp import nn
from tinyxp.errors import GraphError


def samples(xp):
    return [
        xp.asarray(3.5), xp.asarray([True, False]), xp.arange(6)[::-2], xp.zeros((0, 2)), xp.asarray([1 + 2j]),
        xp.reshape(xp.arange(6.0), (2, 3)).T, xp.asarray([2**40], dtype="uint64"),
    ]  # fmt: skip


def duplicates(x):
    yield copy.deepcopy(x)
    yield copy.copy(x)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(x, protocol=protocol))


def test_copies_are_equal_and_independent(xp):
    for x in samples(xp):
        before = x.tolist()
        for y in duplicates(x):
            assert (y.tolist(), y.dtype, y.shape, y.device) == (before, x.dtype, x.shape, x.device)
            if y.size:
                y[...] = xp.zeros_like(y)
                assert x.tolist() == before
        if x.size:
            y = copy.copy(x)
            x[...] = xp.zeros_like(x)
            assert y.tolist() == before


@pytest.mark.parametrize("make", [tinyxp.Tensor, nn.Parameter])
def test_copies_of_leaves(xp, make):
    """A copy of a leaf is another leaf; deepcopy and pickle take the gradient along."""
    x = make(xp.asarray([1.0, 2.0]), requires_grad=True)
    (x * x).sum().backward()
    for i, y in enumerate(duplicates(x)):
        assert type(y) is make
        assert y.requires_grad
        assert y.is_leaf
        if i != 1:
            assert y.grad.tolist() == [2.0, 4.0]
            assert y.grad is not x.grad
        z = (y * y).sum()
        with tinyxp.no_grad():
            x += 1.0
        z.backward()  # the copy was not overwritten
        assert y.grad.tolist() == ([2.0, 4.0] if i == 1 else [4.0, 8.0])
        with tinyxp.no_grad():
            x -= 1.0


def test_copies_of_results(xp):
    x = xp.Tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    z = copy.copy(y)
    z[0] = 0.0
    (y + z).sum().backward()
    assert (y.tolist(), z.tolist(), x.grad.tolist()) == ([1.0, 4.0], [0.0, 4.0], [2.0, 8.0])
    for fails in (copy.deepcopy, pickle.dumps):
        with pytest.raises(GraphError, match=r"result of an operation: x.detach\(\) first"):
            fails(y)


def test_deepcopy_keeps_what_is_the_same_object(xp):
    x = xp.Tensor([1.0])
    a, b = copy.deepcopy([x, x])
    assert a is b
