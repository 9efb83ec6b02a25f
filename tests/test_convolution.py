"""Convolution and pooling against sums written out, PyTorch where it is installed, and finite differences."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

import tinyxp
from tinyxp.testing import gradcheck


def normal(*shape, seed=0):
    """Normal numbers, all different."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def close(got, expected):
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def check(f, *arrays):
    gradcheck(f, *[tinyxp.asarray(a) for a in arrays])


CONVOLUTIONS = [
    # dimensions, shape of x, output channels, kernel, options
    (1, (2, 3, 8), 4, (3,), {}),
    (1, (2, 4, 9), 6, (2,), {"stride": 2, "padding": 1, "groups": 2}),
    (1, (1, 2, 9), 2, (3,), {"dilation": 2, "padding": 2, "groups": 2}),
    (2, (2, 3, 5, 6), 4, (3, 2), {}),
    (2, (2, 4, 6, 7), 2, (2, 3), {"stride": (2, 1), "padding": (1, 2), "groups": 2}),
    (2, (1, 2, 7, 7), 3, (3, 3), {"dilation": (1, 2), "stride": 2}),
    (2, (1, 2, 4, 4), 3, (1, 1), {}),
    (2, (0, 2, 4, 4), 3, (2, 2), {}),
]


# ---------------------------------------------------------------- sums written out
def pairs(value, d):
    return (value,) * d if isinstance(value, int) else value


def windows(x, kernel, stride=1, dilation=1):
    """The windows over the last axes: their numbers, then their elements."""
    d = len(kernel)
    steps, apart = pairs(stride, d), pairs(dilation, d)
    whole = [q * (k - 1) + 1 for k, q in zip(kernel, apart, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, whole, axis=tuple(range(-d, 0)))
    return seen[(..., *(slice(None, None, n) for n in (*steps, *apart)))]


def around(x, padding, d, value=0.0):
    widths = [(0, 0)] * (x.ndim - d) + [(p, p) for p in pairs(padding, d)]
    return np.pad(x, widths, constant_values=value)


def convolved(x, weight, bias, *, stride=1, padding=0, dilation=1, groups=1):
    d = weight.ndim - 2
    seen = windows(around(x, padding, d), weight.shape[2:], stride, dilation)
    axes = [1, *range(-d, 0)]
    parts = [
        np.moveaxis(np.tensordot(c, w, axes=(axes, [1, *range(2, d + 2)])), -1, 1)
        for c, w in zip(np.split(seen, groups, axis=1), np.split(weight, groups), strict=True)
    ]
    return np.concatenate(parts, axis=1) + bias.reshape(-1, *(1,) * d)


def transposed(x, weight, bias, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    d = weight.ndim - 2
    numbers = (pairs(v, d) for v in (stride, padding, output_padding, dilation))
    steps, pads, more, apart = numbers
    kernel, each = weight.shape[2:], weight.shape[0] // groups
    lengths = [
        (n - 1) * s + q * (k - 1) + 1 + m
        for n, s, q, k, m in zip(x.shape[2:], steps, apart, kernel, more, strict=True)
    ]
    out = np.zeros((x.shape[0], weight.shape[1] * groups, *lengths))
    for c, place, k in product(range(x.shape[1]), np.ndindex(*x.shape[2:]), np.ndindex(*kernel)):
        first = c // each * weight.shape[1]
        to = tuple(i * s + j * q for i, s, j, q in zip(place, steps, k, apart, strict=True))
        key = (slice(None), slice(first, first + weight.shape[1]), *to)
        out[key] += np.multiply.outer(x[(slice(None), c, *place)], weight[(c, slice(None), *k)])
    out = out[(..., *(slice(p, n - p) for p, n in zip(pads, lengths, strict=True)))]
    return out + bias.reshape(-1, *(1,) * d)


# ---------------------------------------------------------------- convolution
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(xp, case):
    """The sum, and derivatives in x, weight and bias."""
    d, shape, out, kernel, options = case
    groups = options.get("groups", 1)
    arrays = normal(*shape), normal(out, shape[1] // groups, *kernel, seed=1), normal(out, seed=2)
    conv = getattr(xp, f"conv{d}d")
    close(conv(*map(xp.asarray, arrays), **options), convolved(*arrays, **options))
    check(lambda *a: conv(*a, **options), *arrays)


def of_transpose(case, more):
    d, shape, out, kernel, options = case
    stride = options.get("stride", 1)
    options = options | {
        "stride": 2 if more and np.min(stride) == 1 else stride,
        "output_padding": more,
    }
    groups = options.get("groups", 1)
    arrays = normal(*shape), normal(shape[1], out // groups, *kernel, seed=1), normal(out, seed=2)
    return f"conv_transpose{d}d", arrays, options


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("more", [0, 1])
def test_transposed_convolution(xp, case, more):
    """The sum, and derivatives in x, weight and bias."""
    name, arrays, options = of_transpose(case, more)
    conv = getattr(xp, name)
    close(conv(*map(xp.asarray, arrays), **options), transposed(*arrays, **options))
    check(lambda *a: conv(*a, **options), *arrays)


def test_pytorch_agrees(xp):
    """On every case of this file."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    for case in CONVOLUTIONS:
        d, shape, out, kernel, options = case
        inner = shape[1] // options.get("groups", 1)
        arrays = normal(*shape), normal(out, inner, *kernel, seed=1), normal(out, seed=2)
        calls = [(f"conv{d}d", arrays, options), of_transpose(case, 0), of_transpose(case, 1)]
        for name, given, chosen in calls:
            expected = getattr(torch.nn.functional, name)(*map(torch.tensor, given), **chosen)
            close(getattr(xp, name)(*map(xp.asarray, given), **chosen), expected.numpy())
    for d, shape, size, options in POOLS:
        x = normal(*shape)
        for name, more in FORMS:
            pool, other = (getattr(m, f"{name}_pool{d}d") for m in (xp, torch.nn.functional))
            expected = other(torch.tensor(x), size, **options, **more)
            close(pool(xp.asarray(x), size, **options, **more), expected.numpy())


def test_the_transpose_is_the_transpose(xp):
    """<conv(x), y> = <x, conv_transpose(y)>."""
    x, w, y = normal(1, 2, 8), normal(4, 2, 3, seed=1), normal(1, 4, 4, seed=2)
    x, w, y = map(xp.asarray, (x, w, y))
    options = {"stride": 2, "padding": 1}
    left = xp.sum(xp.conv1d(x, w, **options) * y)
    right = xp.sum(x * xp.conv_transpose1d(y, w, output_padding=1, **options))
    close(left, right.numpy())


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(xp, size, dilation):
    """As long as x, with one more zero at the end where the number is odd."""
    x, w = normal(1, 2, 6, 5), normal(3, 2, size, 2, seed=1)
    got = xp.conv2d(xp.asarray(x), xp.asarray(w), padding="same", dilation=dilation)
    rows, columns = dilation * (size - 1), dilation
    widths = [(0, 0), (0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)]
    close(got, convolved(np.pad(x, widths), w, np.zeros(3), dilation=dilation))
    assert got.shape == (1, 3, 6, 5)
    close(xp.conv2d(xp.asarray(x), xp.asarray(w), padding="valid"), convolved(x, w, np.zeros(3)))


def test_convolution_of_other_shapes(xp):
    """Without a batch, with several leading axes, in half the precision."""
    x, w = xp.asarray(normal(2, 3, 4, 7)), xp.asarray(normal(5, 4, 3, seed=1))
    whole = xp.conv1d(x, w)
    close(xp.conv1d(x[0, 1], w), whole[0, 1].numpy())
    close(xp.conv1d(x[0], w), whole[0].numpy())
    assert xp.conv1d(x.to("float32"), w.to("float32")).dtype == "float32"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda xp: xp.conv1d(xp.ones((1, 3, 8)), xp.ones((2, 2, 3))), "conv1d expects x with 2 channels, as its weight"),
        (lambda xp: xp.conv1d(xp.ones((1, 4, 8)), xp.ones((3, 2, 3)), groups=2), "in 2 groups; got 4"),
        (lambda xp: xp.conv2d(xp.ones((3, 8)), xp.ones((2, 3, 1, 1))), "conv2d expects x of shape"),
        (lambda xp: xp.conv_transpose1d(xp.ones((1, 3, 8)), xp.ones((2, 2, 3))), "conv_transpose1d expects x with 2"),
        (lambda xp: xp.conv1d(xp.ones((1, 2, 8)), xp.ones((2, 2, 3)), padding="same", stride=2), "needs stride 1"),
        (lambda xp: xp.conv2d(xp.ones((1, 1, 8, 8)), xp.ones((2, 1, 3, 3)), stride=(1, 1, 1)), "stride as an int or 2"),
        (lambda xp: xp.conv_transpose1d(xp.ones((1, 2, 8)), xp.ones((2, 2, 3)), output_padding=1), "output_padding < stride"),
        (lambda xp: xp.max_pool1d(xp.ones((1, 8)), 2, padding=2), "at most half the size"),
        (lambda xp: xp.fold(xp.ones((2, 3)), (5,), (2,)), r"windows of shape \(..., 2, 4\); got \(2, 3\)"),
        (lambda xp: xp.unfold(xp.ones(3), (2, 2)), "at least 2 axes"),
    ],
)  # fmt: skip
def test_convolution_refuses(xp, call, match):
    """Messages that say what was expected and what was got."""
    with pytest.raises(ValueError, match=match):
        call(xp)


def test_unfold(xp):
    """The windows as columns; fold is its transpose."""
    x = normal(2, 3, 6, 5)
    options = {"stride": (2, 1), "dilation": (1, 2)}
    got = xp.unfold(xp.asarray(x), (3, 2), **options)
    seen = windows(x, (3, 2), **options)
    close(got, np.moveaxis(seen.reshape(2, 3, -1, 6), -1, -2))
    y = xp.asarray(normal(*got.shape, seed=1))
    close(xp.sum(got * y), xp.sum(xp.asarray(x) * xp.fold(y, (6, 5), (3, 2), **options)).numpy())


# ---------------------------------------------------------------- pooling
POOLS = [
    (1, (2, 3, 9), 2, {}),
    (1, (2, 3, 9), 3, {"stride": 2, "padding": 1}),
    (2, (2, 2, 6, 7), (2, 3), {}),
    (2, (2, 2, 6, 7), 3, {"stride": (1, 2), "padding": (1, 0)}),
]


FORMS = [("max", {}), ("max", {"dilation": 2}), ("avg", {}), ("avg", {"count_include_pad": False})]


@pytest.mark.parametrize("case", POOLS, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_pooling(xp, case, form):
    """The largest or the mean of what is seen, and derivatives."""
    (d, shape, size, options), (name, more) = case, form
    x, sizes = normal(*shape), pairs(size, d)
    axes = tuple(range(-d, 0))
    empty = -math.inf if name == "max" else 0.0
    padded = around(x, options.get("padding", 0), d, empty)
    step = options.get("stride", sizes)
    seen = windows(padded, sizes, step, more.get("dilation", 1))
    expected = seen.max(axis=axes) if name == "max" else seen.mean(axis=axes)
    if more.get("count_include_pad") is False:
        there = around(np.ones(shape), options.get("padding", 0), d)
        expected = seen.sum(axis=axes) / windows(there, sizes, step).sum(axis=axes)
    pool = getattr(xp, f"{name}_pool{d}d")
    close(pool(xp.asarray(x), size, **options, **more), expected)
    check(lambda x: pool(x, size, **options, **more) ** 2, x)


def test_max_pooling_of_integers_and_ties(xp):
    """Padding never wins, whatever the dtype; equal elements share the gradient."""
    assert xp.max_pool1d(xp.asarray([-5, -3, -4]), 2, stride=1, padding=1).tolist() == [
        -5,
        -3,
        -3,
        -4,
    ]
    x = xp.Tensor([1.0, 1.0, 0.0, 2.0], requires_grad=True)
    xp.max_pool1d(x, 2).sum().backward()
    assert x.grad.tolist() == [0.5, 0.5, 0.0, 1.0]


@pytest.mark.skip_backend("strict", reason="array-api-strict has no half precision")
def test_fold_sums_half_precision_in_single(xp):
    """2048 + 1 + 1 is 2048 in float16, one at a time, and 2050 if it is rounded once."""
    columns = xp.asarray([[0.0, 0.0, 2048.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype="float16")
    assert xp.fold(columns, (5,), (3,)).tolist() == [0.0, 0.0, 2050.0, 0.0, 0.0]
