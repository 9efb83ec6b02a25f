"""What users of a namespace need beyond the standard; all but the counting functions differentiable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch, fused
from tinyxp.ops._creation import arange, asarray, full, full_like, linspace, ones_like, zeros_like
from tinyxp.ops._data_types import astype
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._elementwise import clip, exp, isfinite, isnan, log
from tinyxp.ops._elementwise import floor as _floor
from tinyxp.ops._elementwise import remainder
from tinyxp.ops._floating import floating
from tinyxp.ops._indexing import getitem, segment_sum, setitem, take, take_along_axis, unindex
from tinyxp.ops._manipulation import (
    broadcast_to,
    concat,
    expand_dims,
    moveaxis,
    normalize_axes,
    normalize_axis,
    reshape,
)
from tinyxp.ops._searching import argsort, searchsorted, sort, where
from tinyxp.ops._statistical import any as any_along
from tinyxp.ops._statistical import max as largest_along
from tinyxp.ops._statistical import min as smallest_along
from tinyxp.ops._statistical import sum as sum_along

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp._core import Tensor

__all__ = [
    "bincount", "histogram", "index_add", "interp", "log_softmax", "logsumexp", "median", "one_hot", "pad",
    "quantile", "sigmoid", "softmax", "top_k",
]  # fmt: skip


# ---------------------------------------------------------------- exponentials
def sigmoid(x: Tensor, /) -> Tensor:
    """Return the logistic function, 1 / (1 + exp(-x)), element by element, without overflow.

    Parameters
    ----------
    x : Tensor, shape (...)
        Real.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.sigmoid(xp.Tensor([0.0, -1000.0])).tolist()
    [0.5, 0.0]
    """
    from tinyxp import special

    out: Tensor = special.expit(x)
    return out


def softmax(x: Tensor, /, *, axis: int = -1) -> Tensor:
    """Return exponentials divided by their sum along an axis.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        Real floating.
    axis : int

    Returns
    -------
    Tensor, shape (..., n, ...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.softmax(xp.Tensor([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    return fused.softmax(as_tensor(x), axis=axis)


def log_softmax(x: Tensor, /, *, axis: int = -1) -> Tensor:
    """Return the logarithm of `softmax` along an axis, without underflow; the parameters are its own.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.log_softmax(xp.Tensor([0.0, -1000.0])).tolist()
    [0.0, -1000.0]
    """
    return fused.log_softmax(as_tensor(x), axis=axis)


def logsumexp(x: Tensor, /, *, axis: Any = None, b: Any = None, keepdims: bool = False) -> Tensor:
    """Return the logarithm of the sum of exponentials over axes, without overflow.

    Parameters
    ----------
    x : Tensor, shape (...)
        Real.
    axis : int, tuple of int or None
        None: all axes.
    b : Tensor or number, optional
        Factors of the exponentials; their shape broadcasts to that of `x`.
    keepdims : bool
        Keep the summed axes with length 1.

    Returns
    -------
    Tensor
        -inf over nothing but -inf; the gradient is 0 there. Elements that are inf share it equally.

    Examples
    --------
    >>> import tinyxp as xp
    >>> round(xp.logsumexp(xp.Tensor([1000.0, 1000.0])).item(), 3)
    1000.693
    """
    from tinyxp.autograd import _rules_special  # noqa: F401 - its line of the table

    if b is not None:
        x, b = floating("logsumexp", (x, b))
        return _weighted(x, b, axis, keepdims=keepdims)
    (x,) = floating("logsumexp", (x,))
    axes = normalize_axes(axis, len(x._raw.shape), "logsumexp")
    with x._device.backend.quiet():
        out: Tensor = _dispatch.apply(
            "special.logsumexp", (x,), {"axis": axes, "keepdims": keepdims}, forward=_logsumexp
        )
    return out


def _shift(xp: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """Return the largest element along axes, 0 where it is infinite or there is none."""
    if not all(x.shape[a] for a in axis):
        shape = tuple(1 if a in axis else n for a, n in enumerate(x.shape))
        return xp.zeros(shape, dtype=x.dtype, device=x.device)
    top = xp.max(x, axis=axis, keepdims=True)
    return xp.where(xp.isfinite(top), top, xp.zeros_like(top))


def _logsumexp(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    top = _shift(xp, x, axis)
    out = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else xp.squeeze(out, axis=axis)


def _weighted(x: Tensor, b: Tensor, axis: Any, *, keepdims: bool) -> Tensor:
    from tinyxp import ops

    axes = normalize_axes(axis, len(x._raw.shape), "logsumexp")
    top = _shift(ops, x.detach(), axes)
    terms = where(b == 0, 0.0, b * exp(x - top))
    with x._device.backend.quiet():
        out = log(sum_along(terms, axis=axes, keepdims=True)) + top
    return out if keepdims else ops.squeeze(out, axis=axes)


# ---------------------------------------------------------------- selections
def top_k(x: Tensor, k: int, /, *, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """Return the `k` largest or smallest elements along an axis, in order, and where they are.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        Real.
    k : int
        At most n.
    axis : int
    largest : bool
        False: the smallest ones, in ascending order.

    Returns
    -------
    values, indices : Tensor, shape (..., k, ...)
        Of equal elements the first come first.

    Examples
    --------
    >>> import tinyxp as xp
    >>> values, indices = xp.top_k(xp.Tensor([1.0, 3.0, 2.0]), 2)
    >>> values.tolist(), indices.tolist()
    ([3.0, 2.0], [1, 2])
    """
    x = as_tensor(x)
    axis = normalize_axis(axis, len(x._raw.shape), "top_k")
    n = x._raw.shape[axis]
    if not 0 <= k <= n:
        raise ShapeError(f"top_k expects 0 <= k <= {n}, the length of axis {axis}; got k={k}")
    order = argsort(x.detach(), axis=axis, descending=largest)
    indices = getitem(order, (slice(None),) * axis + (slice(0, k),))
    return take_along_axis(x, indices, axis=axis), indices


def one_hot(indices: Tensor, num_classes: int, /, *, dtype: Any = None) -> Tensor:
    """Return vectors that are 1 at an index and 0 elsewhere.

    Parameters
    ----------
    indices : integer Tensor, shape (...)
        An index outside ``[0, num_classes)`` gives zeros.
    num_classes : int
    dtype : dtype, optional
        By default the default floating dtype.

    Returns
    -------
    Tensor, shape (..., num_classes)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.one_hot(xp.Tensor([1, 0]), 3).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    indices = astype(as_tensor(indices), "int64", copy=False)
    hit = expand_dims(indices, axis=-1) == arange(num_classes, device=indices._device)
    return astype(hit, dtypes.get_default_dtype() if dtype is None else dtype)


def index_add(x: Tensor, indices: Tensor, values: Any, /, *, axis: int) -> Tensor:
    """Return `x` with slices added at `indices` along an axis; repeated indices accumulate.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
    indices : integer Tensor, shape (m,)
        In ``[-n, n)``.
    values : Tensor or number, shape (..., m, ...)
        What is added; broadcasts to that shape.
    axis : int

    Returns
    -------
    Tensor, shape (..., n, ...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.index_add(xp.zeros(3), xp.Tensor([2, 2]), xp.Tensor([1.0, 5.0]), axis=0).tolist()
    [0.0, 0.0, 6.0]
    """
    x = as_tensor(x)
    indices = as_tensor(indices, x._device)
    axis = normalize_axis(axis, len(x._raw.shape), "index_add")
    if len(indices._raw.shape) != 1:
        raise ShapeError(
            f"index_add expects indices of shape (m,); got {tuple(indices._raw.shape)}; "
            "x.at[indices].add(values) takes any"
        )
    values = asarray(values, dtype=None if hasattr(values, "dtype") else x.dtype, device=x._device)
    shape = [*x._raw.shape]
    shape[axis] = indices._raw.shape[0]
    if tuple(values._raw.shape) != tuple(shape):
        values = broadcast_to(values, tuple(shape))
    return x + segment_sum(values, indices, x._raw.shape[axis], axis=axis)


# ---------------------------------------------------------------- padding
PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def pad(
    x: Tensor, pad_width: Any, /, mode: str = "constant", *, constant_values: complex = 0
) -> Tensor:
    """Return `x` with elements added before and after it along each axis.

    Parameters
    ----------
    x : Tensor, shape (n1, ..., nd)
    pad_width : int, pair of int, or sequence of d pairs
        How many elements before and after: for all axes alike, or axis by axis.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}
        What they are: a constant; the element at the edge; the mirror image without or with the edge;
        the other end. As in NumPy, the image is mirrored again where it is too short.
    constant_values : number
        The constant.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.pad(xp.Tensor([1.0, 2.0, 3.0]), (1, 2), "reflect").tolist()
    [2.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    """
    x = as_tensor(x)
    widths = _pad_widths(pad_width, len(x._raw.shape))
    if mode not in PAD_MODES:
        raise ValueError(f"pad expects a mode among {', '.join(PAD_MODES)}; got {mode!r}")
    if mode == "constant":
        return _pad_constant(x, widths, constant_values)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            n = x._raw.shape[axis]
            if n == 0:
                raise ShapeError(
                    f"pad with mode {mode!r} expects elements along axis {axis}; it is empty"
                )
            places = arange(-before, n + after, device=x._device)
            x = take(x, _mirrored(places, n, mode), axis=axis)
    return x


def _pad_widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, int):
        widths = [(pad_width, pad_width)] * ndim
    elif len(pad_width) == 2 and all(isinstance(w, int) for w in pad_width):  # noqa: PLR2004
        widths = [tuple(pad_width)] * ndim
    else:
        widths = [tuple(w) for w in pad_width]
        widths = widths * ndim if len(widths) == 1 else widths
    if len(widths) != ndim or any(len(w) != 2 or min(w) < 0 for w in widths):  # noqa: PLR2004
        raise ValueError(
            f"pad expects one width, a pair, or {ndim} pairs, none negative; got {pad_width}"
        )
    return widths


def _pad_constant(x: Tensor, widths: Sequence[tuple[int, int]], value: Any) -> Tensor:
    old = tuple(x._raw.shape)
    shape = tuple(n + a + b for n, (a, b) in zip(old, widths, strict=True))
    key = tuple(slice(a, a + n) for n, (a, _) in zip(old, widths, strict=True))
    if value == 0 and dtypes.of(x._raw.dtype).kind != "b":
        return unindex(x, key, shape)
    out: Tensor = full(shape, value, dtype=x.dtype, device=x._device)
    setitem(out, key, x)
    return out


def _mirrored(places: Tensor, n: int, mode: str) -> Tensor:
    """Return which of n elements stands at each place of an axis that goes on beyond its ends."""
    if mode == "edge" or n == 1:
        return clip(places, 0, n - 1)
    if mode == "wrap":
        return remainder(places, n)
    shared = mode == "symmetric"
    period = 2 * n if shared else 2 * n - 2
    places = remainder(places, period)
    return where(places < n, places, period - shared - places)


# ---------------------------------------------------------------- tables and quantiles
def interp(x: Tensor, xp: Tensor, fp: Tensor, /, *, left: Any = None, right: Any = None) -> Tensor:
    """Return the values at `x` of the function that is linear between the points (`xp`, `fp`).

    Parameters
    ----------
    x : Tensor, shape (...)
        Real.
    xp : Tensor, shape (n,)
        Ascending.
    fp : Tensor, shape (n,)
        Real or complex.
    left, right : number, optional
        Values below ``xp[0]`` and above ``xp[-1]``; by default those at the ends.

    Returns
    -------
    Tensor, shape (...)
        Differentiable in all three. At a point of `xp` the slope is that of the interval to its right.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.interp(xp.Tensor([0.5, 9.0]), xp.Tensor([0.0, 1.0]), xp.Tensor([3.0, 5.0])).tolist()
    [4.0, 5.0]
    """
    x, xp = floating("interp", (x, xp))
    fp = as_tensor(fp, x._device)
    n = xp._raw.shape[0] if len(xp._raw.shape) == 1 else 0
    if n == 0 or tuple(fp._raw.shape) != (n,):
        raise ShapeError(
            f"interp expects points of shape (n,) with n > 0; got xp {tuple(xp._raw.shape)} and "
            f"fp {tuple(fp._raw.shape)}"
        )
    last = searchsorted(xp.detach(), x.detach(), side="right") - 1  # the point at or before x
    low = clip(last, 0, max(n - 2, 0))
    x0, x1 = _at(xp, low), _at(xp, clip(low + 1, 0, n - 1))
    y0, y1 = _at(fp, low), _at(fp, clip(low + 1, 0, n - 1))
    equal = x1 == x0
    inside = y0 + (y1 - y0) / where(equal, 1.0, x1 - x0) * (x - x0)
    inside = where(equal, y1, inside)
    end = getitem(xp, -1)
    above = getitem(fp, -1) if right is None else right
    below = getitem(fp, 0) if left is None else left
    inside = where(x > end, above, inside)
    return where(x < getitem(xp, 0), below, inside)


def _at(table: Tensor, indices: Tensor) -> Tensor:
    """Return ``table[indices]`` for indices of any shape."""
    flat = take(table, reshape(indices, (-1,)), axis=0)
    return reshape(flat, tuple(indices._raw.shape))


def quantile(
    x: Tensor, q: Any, /, *, axis: Any = None, keepdims: bool = False, method: str = "linear"
) -> Tensor:
    """Return quantiles over axes, NaN where there is one.

    Parameters
    ----------
    x : Tensor, shape (...)
        Real floating.
    q : number, sequence of numbers or Tensor, shape () or (m,)
        In [0, 1].
    axis : int, tuple of int or None
        None: all axes.
    keepdims : bool
        Keep the axes with length 1.
    method : {"linear", "lower", "higher", "midpoint", "nearest"}
        What is taken between two elements, as in NumPy.

    Returns
    -------
    Tensor
        With the axis of `q`, if it has one, in front.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.quantile(xp.Tensor([4.0, 1.0, 2.0]), [0.0, 0.75]).tolist()
    [1.0, 3.0]
    """
    (x,) = floating("quantile", (x,))
    axes = normalize_axes(axis, len(x._raw.shape), "quantile")
    lines = _lines(x, axes)
    n = lines._raw.shape[-1]
    if n == 0:
        raise ShapeError(f"quantile expects elements along the axes {axes}; got shape {x.shape}")
    q = asarray(q, dtype=None if hasattr(q, "dtype") else x.dtype, device=x._device)
    flat = reshape(q, (-1,))
    place = flat * (n - 1)
    ordered = sort(lines, axis=-1)
    low = clip(astype(_floor(place.detach()), "int64"), 0, n - 1)
    high = clip(low + 1, 0, n - 1)
    part = _between(place - astype(low, place.dtype), low, method)
    a, b = take(ordered, low, axis=-1), take(ordered, high, axis=-1)
    found = where(a == b, a, a + part * (b - a))
    found = where(any_along(isnan(lines), axis=-1, keepdims=True), math.nan, found)
    found = moveaxis(found, -1, 0)
    kept = tuple(1 if i in axes else s for i, s in enumerate(x.shape))
    rest = kept if keepdims else tuple(s for i, s in enumerate(x.shape) if i not in axes)
    return reshape(found, (*q.shape, *rest))


def _lines(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return `x` with its `axes` joined into a last one."""
    count = math.prod(x._raw.shape[a] for a in axes)
    moved = moveaxis(x, axes, tuple(range(-len(axes), 0)))
    return reshape(moved, (*moved._raw.shape[: moved.ndim - len(axes)], count))


def _between(part: Tensor, low: Tensor, method: str) -> Tensor:
    """Return how much of the higher neighbour is taken: `part` of it lies between the two."""
    if method == "linear":
        return part
    zero, one = zeros_like(part), ones_like(part)
    if method == "lower":
        return zero
    if method == "higher":
        return where(part > 0, one, zero)
    if method == "midpoint":
        return where(part > 0, one / 2, zero)
    if method == "nearest":  # of two equally near ones that of even index
        odd = low % 2 == 1
        return where((part > 0.5) | ((part == 0.5) & odd), one, zero)  # noqa: PLR2004
    raise ValueError(
        f"quantile expects method linear, lower, higher, midpoint or nearest; got {method!r}"
    )


def median(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the median over axes; the parameters are those of `quantile`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.median(xp.Tensor([4.0, 1.0, 2.0])).item()
    2.0
    """
    return quantile(x, 0.5, axis=axis, keepdims=keepdims)


# ---------------------------------------------------------------- counting
def bincount(x: Tensor, /, weights: Tensor | None = None, *, minlength: int = 0) -> Tensor:
    """Return how often each number occurs, or the sum of its weights.

    Counts are not differentiable; sums of `weights` are, in these.

    Parameters
    ----------
    x : integer Tensor, shape (n,)
        Not negative.
    weights : Tensor, shape (n,), optional
    minlength : int
        The least length of the result.

    Returns
    -------
    Tensor, shape (max(max(x) + 1, minlength),)
        int64, or the dtype of `weights`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.bincount(xp.Tensor([1, 1, 3])).tolist()
    [0, 2, 0, 1]
    """
    x = as_tensor(x)
    if len(x._raw.shape) != 1 or dtypes.of(x._raw.dtype).kind not in "iu":
        raise ShapeError(f"bincount expects integers of shape (n,); got {_dispatch.describe(x)}")
    size = minlength
    if x._raw.shape[0]:
        if int(smallest_along(x)) < 0:
            raise ValueError(f"bincount expects numbers >= 0; got {int(smallest_along(x))}")
        size = max(size, int(largest_along(x)) + 1)
    values = ones_like(x, dtype="int64") if weights is None else as_tensor(weights, x._device)
    return segment_sum(values, astype(x, "int64", copy=False), size)


def histogram(
    x: Tensor,
    /,
    bins: Any = 10,
    *,
    range: tuple[float, float] | None = None,  # noqa: A002 - NumPy's name
    weights: Tensor | None = None,
    density: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return how many elements lie in each bin, or the sum of their weights, and the edges of the bins.

    Counts are piecewise constant in `x` and not differentiable; sums of `weights` are, in these.

    Parameters
    ----------
    x : Tensor, shape (...)
        Real.
    bins : int or Tensor, shape (m + 1,)
        The number of bins of equal width, or their ascending edges. The last bin includes its right edge.
    range : pair of numbers, optional
        The ends of the bins of equal width; by default the extremes of `x`.
    weights : Tensor, shape (...), optional
    density : bool
        Divide by the total and by the width of each bin.

    Returns
    -------
    counts : Tensor, shape (m,)
        int64; floating with `weights` or `density`.
    edges : Tensor, shape (m + 1,)

    Examples
    --------
    >>> import tinyxp as xp
    >>> counts, edges = xp.histogram(xp.Tensor([0.0, 0.1, 1.0]), 2)
    >>> counts.tolist(), edges.tolist()
    ([2, 1], [0.0, 0.5, 1.0])
    """
    flat = reshape(as_tensor(x).detach(), (-1,))
    edges = _edges(flat, bins, range)
    m = edges._raw.shape[0] - 1
    flat = astype(flat, edges.dtype, copy=False)
    places = searchsorted(edges, flat, side="right") - 1
    places = where(flat == getitem(edges, -1), m - 1, places)
    inside = (flat >= getitem(edges, 0)) & (flat <= getitem(edges, -1))
    places = astype(
        where(inside, places, m), "int64", copy=False
    )  # the others into a bin of their own
    values = (
        ones_like(flat, dtype="int64")
        if weights is None
        else reshape(as_tensor(weights, flat._device), (-1,))
    )
    counts = getitem(segment_sum(values, places, m + 1), slice(0, m))
    if density:
        counts = astype(counts, edges.dtype, copy=False) if weights is None else counts
        counts = (
            counts
            / sum_along(counts)
            / (getitem(edges, slice(1, None)) - getitem(edges, slice(0, -1)))
        )
    return counts, edges


def _edges(flat: Tensor, bins: Any, limits: tuple[float, float] | None) -> Tensor:
    """Return the edges of bins, as NumPy chooses them."""
    d = flat.dtype if flat.dtype.kind == "f" else dtypes.get_default_dtype()
    if not isinstance(bins, int):
        edges = asarray(bins, device=flat._device).detach()
        if edges.dtype.kind != "f":
            edges = astype(edges, d)
        if bool(any_along(getitem(edges, slice(1, None)) < getitem(edges, slice(0, -1)))):
            raise ValueError("histogram expects edges in ascending order")
        return edges
    if bins < 1:
        raise ValueError(f"histogram expects at least one bin; got {bins}")
    if limits is None:
        limits = (
            (float(smallest_along(flat)), float(largest_along(flat))) if flat.size else (0.0, 1.0)
        )
    low, high = limits
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"histogram expects a finite, ascending range; got {limits}")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return linspace(low, high, bins + 1, dtype=d, device=flat._device)
