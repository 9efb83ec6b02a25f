"""The shortest way through: import, add, differentiate."""

from __future__ import annotations


def test_add_and_differentiate(xp):
    x = xp.Tensor([1.0, 2.0], requires_grad=True)
    y = x * x + 3.0
    y.sum().backward()
    assert y.tolist() == [4.0, 7.0]
    assert x.grad.tolist() == [2.0, 4.0]


def test_the_namespace_is_the_package(xp):
    import tinyxp

    assert xp.ones(1).__array_namespace__() is tinyxp
