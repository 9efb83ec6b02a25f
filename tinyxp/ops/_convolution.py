"""Convolution and pooling, in one and two dimensions.

Windows are laid out as the columns of a matrix (im2col; K. Chellapilla, S. Puri, P. Simard, "High performance
convolutional neural networks for document processing", 2006), so that a convolution is a matrix product and its
transpose the transposed product. What is called convolution is, as everywhere in deep learning, correlation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import CASTING
from tinyxp._windows import window_count
from tinyxp.errors import ShapeError
from tinyxp.ops import _autocast, _dispatch
from tinyxp.ops._beyond import pad
from tinyxp.ops._creation import ones
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._indexing import getitem
from tinyxp.ops._linear_algebra import matmul
from tinyxp.ops._manipulation import matrix_transpose, reshape
from tinyxp.ops._statistical import max as largest_along
from tinyxp.ops._statistical import mean as mean_along

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp._core import Tensor

__all__ = [
    "avg_pool1d", "avg_pool2d", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "fold",
    "max_pool1d", "max_pool2d", "unfold",
]  # fmt: skip

Ints = tuple[int, ...]


# ---------------------------------------------------------------- windows
def unfold(x: Tensor, sizes: Sequence[int], /, *, stride: Any = 1, dilation: Any = 1) -> Tensor:
    """Return the windows over the last axes of `x` as columns.

    Parameters
    ----------
    x : Tensor, shape (..., n1, ..., nd)
    sizes : tuple of d ints
        Elements of a window along each of the last d axes.
    stride, dilation : int or tuple of d ints
        The distance between windows, and between the elements of one.

    Returns
    -------
    Tensor, shape (..., K, L)
        The K elements of each of the L windows, both in C order.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.unfold(xp.arange(4), (2,)).tolist()
    [[0, 1, 2], [1, 2, 3]]
    """
    x = as_tensor(x)
    d = len(sizes)
    steps, dilations = _each(stride, d, "stride"), _each(dilation, d, "dilation")
    if len(x._raw.shape) < d:
        raise ShapeError(f"unfold expects at least {d} axes; got shape {x.shape}")
    out: Tensor = _dispatch.apply(
        "unfold", (x, tuple(sizes)), {"stride": steps, "dilation": dilations}
    )
    return out


def fold(
    windows: Tensor,
    lengths: Sequence[int],
    sizes: Sequence[int],
    /,
    *,
    stride: Any = 1,
    dilation: Any = 1,
) -> Tensor:
    """Return zeros with columns added where `unfold` finds them: its transpose.

    Parameters
    ----------
    windows : Tensor, shape (..., K, L)
    lengths : tuple of d ints
        The last axes of the result.
    sizes, stride, dilation
        As for `unfold`.

    Returns
    -------
    Tensor, shape (..., n1, ..., nd)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fold(xp.ones((2, 3)), (4,), (2,)).tolist()
    [1.0, 2.0, 2.0, 1.0]
    """
    windows = as_tensor(windows)
    d = len(sizes)
    steps, dilations = _each(stride, d, "stride"), _each(dilation, d, "dilation")
    counts = map(window_count, lengths, sizes, steps, dilations)
    expected = (math.prod(sizes), math.prod(counts))
    if tuple(windows._raw.shape[-2:]) != expected:
        raise ShapeError(
            f"fold expects windows of shape (..., {expected[0]}, {expected[1]}); got {windows.shape}"
        )
    out: Tensor = _dispatch.apply(
        "fold", (windows, tuple(lengths), tuple(sizes)), {"stride": steps, "dilation": dilations}
    )
    return out


def _each(value: Any, d: int, name: str) -> Ints:
    """Return one number for each of d axes."""
    values = (value,) * d if isinstance(value, int) else tuple(value)
    if len(values) != d or not all(isinstance(v, int) for v in values):
        raise ValueError(f"expected {name} as an int or {d} ints; got {value!r}")
    return values


# ---------------------------------------------------------------- convolution
def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Correlate signals with kernels.

    Parameters
    ----------
    x : Tensor, shape (..., C, L)
    weight : Tensor, shape (O, C / groups, K)
    bias : Tensor, shape (O,), optional
    stride, dilation : int
        The distance between windows, and between the elements of one.
    padding : int, "valid" or "same"
        How many zeros on either side; "same": as many as keep the length, for stride 1.
    groups : int
        Channels are cut into so many groups that do not mix.

    Returns
    -------
    Tensor, shape (..., O, (L + 2 padding - dilation (K - 1) - 1) // stride + 1)

    Raises
    ------
    ShapeError
        If channels, groups and weight do not fit.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([[1.0, 2.0, 4.0]])
    >>> xp.conv1d(x, xp.Tensor([[[-1.0, 1.0]]])).tolist()
    [[1.0, 2.0]]
    """
    options = {"padding": padding, "dilation": dilation, "groups": groups}
    return _conv(1, x, weight, bias, stride=stride, **options)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Correlate images with kernels.

    Parameters
    ----------
    x : Tensor, shape (..., C, H, W)
    weight : Tensor, shape (O, C / groups, KH, KW)
    bias : Tensor, shape (O,), optional
    stride, dilation, padding, groups
        As for `conv1d`, numbers also as pairs.

    Returns
    -------
    Tensor, shape (..., O, OH, OW)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.conv2d(xp.ones((1, 3, 3)), xp.ones((1, 1, 2, 2)), padding="same").tolist()
    [[[4.0, 4.0, 2.0], [4.0, 4.0, 2.0], [2.0, 2.0, 1.0]]]
    """
    options = {"padding": padding, "dilation": dilation, "groups": groups}
    return _conv(2, x, weight, bias, stride=stride, **options)


def _conv(
    d: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    /,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    name = f"conv{d}d"
    x, weight, bias = _operands(x, weight, bias)
    channels = _check(name, d, x, weight, groups, transposed=False)
    sizes = tuple(weight._raw.shape[2:])
    steps, dilations = _each(stride, d, "stride"), _each(dilation, d, "dilation")
    x = _padded(x, _padding(name, padding, sizes, steps, dilations), 0)
    lead, lengths = x._raw.shape[: -d - 1], x._raw.shape[-d:]
    counts = tuple(map(window_count, lengths, sizes, steps, dilations))
    columns = unfold(x, sizes, stride=steps, dilation=dilations)
    depth = channels // groups * math.prod(sizes)
    columns = reshape(columns, (*lead, groups, depth, math.prod(counts)))
    filters = reshape(weight, (groups, weight._raw.shape[0] // groups, depth))
    out = reshape(_grouped(filters, columns), (*lead, weight._raw.shape[0], *counts))
    return out if bias is None else out + reshape(bias, (-1, *(1,) * d))


def _operands(x: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
    """Return the arguments as Tensors, in the dtype of `autocast` inside of it."""
    found = as_tensor(x), as_tensor(weight), None if bias is None else as_tensor(bias)
    return _autocast.narrowed(*found) if CASTING else found


def _grouped(filters: Tensor, columns: Tensor) -> Tensor:
    """Return the products of each group; without an axis for them where there is but one."""
    if filters._raw.shape[0] > 1:
        return matmul(filters, columns)
    return matmul(getitem(filters, 0), getitem(columns, (..., 0, slice(None), slice(None))))


def _check(name: str, d: int, x: Tensor, weight: Tensor, groups: int, *, transposed: bool) -> int:
    """Return the number of channels of `x`, after a look at all shapes."""
    shape, kernel = tuple(x._raw.shape), tuple(weight._raw.shape)
    if len(kernel) != d + 2 or len(shape) < d + 1:
        raise ShapeError(
            f"{name} expects x of shape (..., C, {d} lengths) and a weight of {d + 2} axes; got {shape} and {kernel}"
        )
    channels = shape[-d - 1]
    expected = kernel[0] if transposed else kernel[1] * groups
    if channels != expected or kernel[0] % groups:
        raise ShapeError(
            f"{name} expects x with {expected} channels, as its weight of shape {kernel} in {groups} groups; "
            f"got {channels}, x of shape {shape}"
        )
    return int(channels)


def _padding(
    name: str, padding: Any, sizes: Ints, steps: Ints, dilations: Ints
) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    if padding == "same":
        if any(s != 1 for s in steps):
            raise ValueError(f"{name}: padding='same' needs stride 1; got {steps}")
        totals = [q * (k - 1) for k, q in zip(sizes, dilations, strict=True)]
        return [(n // 2, n - n // 2) for n in totals]
    return [(n, n) for n in _each(padding, len(sizes), "padding")]


def _padded(x: Tensor, widths: Sequence[tuple[int, int]], value: float) -> Tensor:
    """Return `x` padded along its last axes."""
    if not any(map(any, widths)):
        return x
    before = [(0, 0)] * (len(x._raw.shape) - len(widths))
    return pad(x, [*before, *widths], constant_values=value)


# ---------------------------------------------------------------- transposed convolution
def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Apply the transpose of `conv1d` with the same weight and options.

    Parameters
    ----------
    x : Tensor, shape (..., C, L)
    weight : Tensor, shape (C, O / groups, K)
    bias : Tensor, shape (O,), optional
    stride, padding, dilation : int
        Those of the convolution that this is the transpose of.
    output_padding : int
        Elements more at the end, fewer than `stride`: which of the lengths that `conv1d` maps to L.
    groups : int

    Returns
    -------
    Tensor, shape (..., O, (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.conv_transpose1d(xp.Tensor([[1.0, 2.0]]), xp.ones((1, 1, 2)), stride=2).tolist()
    [[1.0, 1.0, 2.0, 2.0]]
    """
    options = {"padding": padding, "output_padding": output_padding, "dilation": dilation}
    return _conv_transpose(1, x, weight, bias, stride=stride, groups=groups, **options)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Apply the transpose of `conv2d` with the same weight and options.

    Parameters
    ----------
    x : Tensor, shape (..., C, H, W)
    weight : Tensor, shape (C, O / groups, KH, KW)
    bias : Tensor, shape (O,), optional
    stride, padding, output_padding, dilation, groups
        As for `conv_transpose1d`, numbers also as pairs.

    Returns
    -------
    Tensor, shape (..., O, OH, OW)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.conv_transpose2d(xp.ones((1, 2, 2)), xp.ones((1, 1, 2, 2))).tolist()
    [[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]
    """
    options = {"padding": padding, "output_padding": output_padding, "dilation": dilation}
    return _conv_transpose(2, x, weight, bias, stride=stride, groups=groups, **options)


def _conv_transpose(
    d: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    /,
    *,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    name = f"conv_transpose{d}d"
    x, weight, bias = _operands(x, weight, bias)
    channels = _check(name, d, x, weight, groups, transposed=True)
    sizes, features = tuple(weight._raw.shape[2:]), weight._raw.shape[1] * groups
    steps, dilations = _each(stride, d, "stride"), _each(dilation, d, "dilation")
    pads, more = _each(padding, d, "padding"), _each(output_padding, d, "output_padding")
    if any(m >= s for m, s in zip(more, steps, strict=True)):
        raise ValueError(f"{name} expects output_padding < stride; got {more} and {steps}")
    lead, counts = x._raw.shape[: -d - 1], x._raw.shape[-d:]
    rows = reshape(x, (*lead, groups, channels // groups, math.prod(counts)))
    filters = reshape(weight, (groups, channels // groups, -1))
    columns = _grouped(matrix_transpose(filters), rows)
    columns = reshape(columns, (*lead, features, math.prod(sizes), math.prod(counts)))
    whole = tuple(
        (n - 1) * s + q * (k - 1) + 1 + m
        for n, s, q, k, m in zip(counts, steps, dilations, sizes, more, strict=True)
    )
    out = fold(columns, whole, sizes, stride=steps, dilation=dilations)
    if any(pads):
        out = getitem(out, (..., *(slice(p, n - p) for p, n in zip(pads, whole, strict=True))))
    return out if bias is None else out + reshape(bias, (-1, *(1,) * d))


# ---------------------------------------------------------------- pooling
def max_pool1d(
    x: Tensor, size: int, /, *, stride: Any = None, padding: Any = 0, dilation: Any = 1
) -> Tensor:
    """Return the largest element of each window; equal ones share the gradient.

    Parameters
    ----------
    x : Tensor, shape (..., L)
    size : int
        Of a window.
    stride : int, optional
        The distance between windows; by default `size`.
    padding : int
        How many places that never win on either side.
    dilation : int
        The distance between the elements of a window.

    Returns
    -------
    Tensor, shape (..., (L + 2 padding - dilation (size - 1) - 1) // stride + 1)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.max_pool1d(xp.Tensor([1.0, 3.0, 2.0, 0.0]), 2).tolist()
    [3.0, 2.0]
    """
    return _max_pool(x, _each(size, 1, "size"), stride, padding, dilation)


def max_pool2d(
    x: Tensor, size: Any, /, *, stride: Any = None, padding: Any = 0, dilation: Any = 1
) -> Tensor:
    """Return the largest element of each window; the parameters are those of `max_pool1d`, also as pairs.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.max_pool2d(xp.reshape(xp.arange(16), (4, 4)), 2).tolist()
    [[5, 7], [13, 15]]
    """
    return _max_pool(x, _each(size, 2, "size"), stride, padding, dilation)


def _max_pool(x: Tensor, sizes: Ints, stride: Any, padding: Any, dilation: Any) -> Tensor:
    x = as_tensor(x)
    d = dtypes.of(x._raw.dtype)
    least = -math.inf if d.kind == "f" else dtypes.iinfo(d).min
    windows, counts = _windows(x, sizes, stride, padding, dilation=dilation, value=least)
    return reshape(largest_along(windows, axis=-2), (*x._raw.shape[: -len(sizes)], *counts))


def _windows(
    x: Tensor, sizes: Ints, stride: Any, padding: Any, *, dilation: Any = 1, value: float = 0
) -> tuple[Tensor, Ints]:
    """Return the windows as columns, and how many there are along each axis."""
    n = len(sizes)
    steps = sizes if stride is None else _each(stride, n, "stride")
    dilations, pads = _each(dilation, n, "dilation"), _each(padding, n, "padding")
    if any(2 * p > k for p, k in zip(pads, sizes, strict=True)):
        raise ValueError(f"pooling expects padding of at most half the size {sizes}; got {pads}")
    x = _padded(x, [(p, p) for p in pads], value)
    counts = tuple(map(window_count, x._raw.shape[-n:], sizes, steps, dilations))
    return unfold(x, sizes, stride=steps, dilation=dilations), counts


def avg_pool1d(
    x: Tensor, size: int, /, *, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
) -> Tensor:
    """Return the mean of each window.

    Parameters
    ----------
    x : Tensor, shape (..., L)
        Floating.
    size : int
        Of a window.
    stride : int, optional
        The distance between windows; by default `size`.
    padding : int
        How many zeros on either side.
    count_include_pad : bool
        Whether the zeros count as elements.

    Returns
    -------
    Tensor, shape (..., (L + 2 padding - size) // stride + 1)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.avg_pool1d(xp.Tensor([1.0, 3.0, 2.0, 0.0]), 2).tolist()
    [2.0, 1.0]
    """
    return _avg_pool(
        x, _each(size, 1, "size"), stride, padding, count_include_pad=count_include_pad
    )


def avg_pool2d(
    x: Tensor, size: Any, /, *, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
) -> Tensor:
    """Return the mean of each window; the parameters are those of `avg_pool1d`, also as pairs.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.avg_pool2d(xp.Tensor([[1.0, 2.0], [3.0, 4.0]]), 2).tolist()
    [[2.5]]
    """
    return _avg_pool(
        x, _each(size, 2, "size"), stride, padding, count_include_pad=count_include_pad
    )


def _avg_pool(
    x: Tensor, sizes: Ints, stride: Any, padding: Any, *, count_include_pad: bool
) -> Tensor:
    x = as_tensor(x)
    windows, counts = _windows(x, sizes, stride, padding)
    out = mean_along(windows, axis=-2)
    if not count_include_pad and padding:
        there = ones(x._raw.shape[-len(sizes) :], dtype=x.dtype, device=x._device)
        out = out / mean_along(_windows(there, sizes, stride, padding)[0], axis=-2)
    return reshape(out, (*x._raw.shape[: -len(sizes)], *counts))
