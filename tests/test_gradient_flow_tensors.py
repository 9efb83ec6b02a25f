"""TinyTorch's first gradient-flow suite, said again on tinyxp's names: operations keep the graph."""

import pytest


def leaf(xp, values):
    return xp.Tensor(values, requires_grad=True)


def recorded(t):
    return t.requires_grad and t._grad_fn is not None


def test_arithmetic_is_recorded(xp):
    x, y = leaf(xp, [2.0, 3.0]), leaf(xp, [4.0, 5.0])
    for z in (x + y, x - y, x * y, x / y):
        assert recorded(z)
        assert z.dtype == "float32"


def test_subtraction_gives_plus_and_minus_one(xp):
    a, b = leaf(xp, [5.0, 10.0]), leaf(xp, [2.0, 3.0])
    (a - b).sum().backward()
    assert a.grad.tolist() == [1.0, 1.0]
    assert b.grad.tolist() == [-1.0, -1.0]


def test_division_gives_the_quotient_rule(xp):
    a, b = leaf(xp, [6.0, 12.0]), leaf(xp, [2.0, 3.0])
    (a / b).sum().backward()
    assert a.grad.tolist() == pytest.approx([1 / 2, 1 / 3])
    assert b.grad.tolist() == pytest.approx([-6 / 4, -12 / 9])


def test_gradient_goes_through_gelu(xp):
    x = leaf(xp, [1.0, 2.0, 3.0])
    y = xp.nn.GELU()(x)
    assert recorded(y)
    y.sum().backward()
    # derivative of x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3), by hand at x = 1, 2, 3
    assert x.grad.tolist() == pytest.approx([1.0829641, 1.0860993, 1.0115842], abs=1e-6)


def test_gradient_goes_through_the_parts_of_layer_norm(xp):
    x = leaf(xp, [4.0, 9.0, 16.0])
    root = x.sqrt()
    assert recorded(root)
    root.sum().backward()
    assert x.grad.tolist() == pytest.approx([1 / 4, 1 / 6, 1 / 8])
    m = leaf(xp, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mean = m.mean(axis=-1, keepdims=True)
    assert recorded(mean)
    assert mean.shape == (2, 1)
    mean.sum().backward()
    assert m.grad.reshape(6).tolist() == pytest.approx([1 / 3] * 6)


def test_gradient_goes_through_reshape(xp):
    x = leaf(xp, [[1.0, 2.0], [3.0, 4.0]])
    y = x.reshape(4)
    assert recorded(y)
    (y * y).sum().backward()
    assert x.grad.shape == x.shape
    assert x.grad.tolist() == [[2.0, 4.0], [6.0, 8.0]]
