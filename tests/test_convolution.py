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


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(xp, case):
    """PyTorch's values, and derivatives in x, weight and bias."""
    torch = pytest.importorskip("torch")
    d, shape, out, kernel, options = case
    groups = options.get("groups", 1)
    arrays = normal(*shape), normal(out, shape[1] // groups, *kernel, seed=1), normal(out, seed=2)
    expected = getattr(torch.nn.functional, f"conv{d}d")(*map(torch.tensor, arrays), **options)
    conv = getattr(xp, f"conv{d}d")
    close(conv(*map(xp.asarray, arrays), **options), expected.numpy())
    check(lambda *a: conv(*a, **options), *arrays)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("more", [0, 1])
def test_transposed_convolution(xp, case, more):
    """PyTorch's values, and derivatives in x, weight and bias."""
    torch = pytest.importorskip("torch")
    d, shape, out, kernel, options = case
    stride = options.get("stride", 1)
    if more and np.min(stride) == 1:
        stride = 2
    options = options | {"stride": stride, "output_padding": more}
    groups = options.get("groups", 1)
    arrays = normal(*shape), normal(shape[1], out // groups, *kernel, seed=1), normal(out, seed=2)
    conv = getattr(xp, f"conv_transpose{d}d")
    expected = getattr(torch.nn.functional, f"conv_transpose{d}d")(
        *map(torch.tensor, arrays), **options
    )
    close(conv(*map(xp.asarray, arrays), **options), expected.numpy())
    check(lambda *a: conv(*a, **options), *arrays)


def test_the_transpose_is_the_transpose(xp):
    """<conv(x), y> = <x, conv_transpose(y)>."""
    x, w, y = normal(1, 2, 8), normal(4, 2, 3, seed=1), normal(1, 4, 4, seed=2)
    x, w, y = map(xp.asarray, (x, w, y))
    options = {"stride": 2, "padding": 1}
    left = xp.sum(xp.conv1d(x, w, **options) * y)
    right = xp.sum(x * xp.conv_transpose1d(y, w, output_padding=1, **options))
    close(left, right.numpy())


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch's word on its speed
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(xp, size, dilation):
    """PyTorch's: one more zero at the end where the number is odd."""
    torch = pytest.importorskip("torch")
    x, w = normal(1, 2, 6, 5), normal(3, 2, size, 2, seed=1)
    options = {"padding": "same", "dilation": dilation}
    got = xp.conv2d(xp.asarray(x), xp.asarray(w), **options)
    close(got, torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), **options).numpy())
    valid = xp.conv2d(xp.asarray(x), xp.asarray(w), padding="valid")
    close(valid, torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w)).numpy())


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
    """PyTorch's columns, and fold is its transpose."""
    torch = pytest.importorskip("torch")
    x = normal(2, 3, 6, 5)
    options = {"stride": (2, 1), "dilation": (1, 2)}
    expected = torch.nn.functional.unfold(torch.tensor(x), (3, 2), **options).numpy()
    got = xp.unfold(xp.asarray(x), (3, 2), **options)
    close(xp.reshape(got, expected.shape), expected)
    y = xp.asarray(normal(*got.shape, seed=1))
    close(xp.sum(got * y), xp.sum(xp.asarray(x) * xp.fold(y, (6, 5), (3, 2), **options)).numpy())


POOLS = [
    (1, (2, 3, 9), 2, {}),
    (1, (2, 3, 9), 3, {"stride": 2, "padding": 1}),
    (2, (2, 2, 6, 7), (2, 3), {}),
    (2, (2, 2, 6, 7), 3, {"stride": (1, 2), "padding": (1, 0)}),
]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pooling(xp, case):
    """PyTorch's values, and derivatives."""
    torch = pytest.importorskip("torch")
    d, shape, size, options = case
    x = normal(*shape)
    for name, more in (
        ("max", {}),
        ("max", {"dilation": 2}),
        ("avg", {}),
        ("avg", {"count_include_pad": False}),
    ):
        pool, other = (getattr(m, f"{name}_pool{d}d") for m in (xp, torch.nn.functional))
        close(
            pool(xp.asarray(x), size, **options, **more),
            other(torch.tensor(x), size, **options, **more).numpy(),
        )
        check(lambda x, pool=pool, more=more: pool(x, size, **options, **more) ** 2, x)


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


# ---------------------------------------------------------------- the raw functions
@pytest.mark.skip_backend("strict", reason="array-api-strict has no half precision")
def test_fold_sums_half_precision_in_single(xp):
    """2049 ones in float16 sum to 2048, one at a time; in float32 and rounded once to 2048 or 2050."""
    many = xp.ones((2049, 1), dtype="float16")
    ones = xp.concat([xp.full((1, 1), 2048.0, dtype="float16"), many[:3]])
    assert xp.fold(xp.reshape(ones, (4, 1)), (1, 4), (1, 4)).tolist() == [[2048.0, 1.0, 1.0, 1.0]]
    windows = xp.concat(
        [xp.full((1, 2), 2048.0, dtype="float16"), xp.ones((1, 2), dtype="float16")]
    )
    assert xp.fold(windows, (3,), (2,)).tolist() == [2048.0, 2048.0, 1.0]


