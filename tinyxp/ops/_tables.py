"""Interpolation, quantiles and counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch
from tinyxp.ops._creation import asarray, linspace, ones_like, zeros_like
from tinyxp.ops._data_types import astype
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._elementwise import clip, isnan
from tinyxp.ops._elementwise import floor as rounded_down
from tinyxp.ops._floating import floating
from tinyxp.ops._indexing import getitem, segment_sum, take
from tinyxp.ops._manipulation import moveaxis, normalize_axes, reshape
from tinyxp.ops._searching import searchsorted, sort, where
from tinyxp.ops._statistical import any as any_along
from tinyxp.ops._statistical import max as largest_along
from tinyxp.ops._statistical import min as smallest_along
from tinyxp.ops._statistical import sum as sum_along

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["bincount", "histogram", "interp", "median", "quantile"]


# ---------------------------------------------------------------- interpolation and quantiles
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
    low = clip(astype(rounded_down(place.detach()), "int64"), 0, n - 1)
    high = clip(low + 1, 0, n - 1)
    part = _between(place - astype(low, place.dtype), low, method)
    a, b = take(ordered, low, axis=-1), take(ordered, high, axis=-1)
    found = a + part * (where(a == b, 0.0, b) - where(a == b, 0.0, a))  # inf - inf is 0 here
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
        return where((part > 0.5) | ((part == 0.5) & odd), one, zero)  # noqa: PLR2004 - the middle
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
    flat, edges = floating("histogram", (flat, _edges(flat, bins, range)))
    m = edges._raw.shape[0] - 1
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
        edges: Tensor = asarray(bins, device=flat._device).detach()
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
