"""What users of a namespace need beyond the standard: softmax and its kin, selections, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch, fused
from tinyxp.ops._creation import arange, asarray, full
from tinyxp.ops._data_types import astype
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._elementwise import clip, exp, log, remainder
from tinyxp.ops._floating import floating
from tinyxp.ops._indexing import getitem, segment_sum, setitem, take, take_along_axis, unindex
from tinyxp.ops._manipulation import broadcast_to, expand_dims, normalize_axes, normalize_axis
from tinyxp.ops._searching import argsort, where
from tinyxp.ops._statistical import sum as sum_along

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp._core import Tensor

__all__ = [
    "index_add",
    "log_softmax",
    "logsumexp",
    "one_hot",
    "pad",
    "sigmoid",
    "softmax",
    "top_k",
]


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
PAIR = 2  # before and after
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
    """Return the numbers of elements before and after each axis."""
    if isinstance(pad_width, int):
        pad_width = (pad_width, pad_width)
    pair = len(pad_width) == PAIR and all(isinstance(w, int) for w in pad_width)
    widths = [tuple(w) for w in ([pad_width] if pair else pad_width)]
    widths = widths * ndim if len(widths) == 1 else widths
    if len(widths) != ndim or any(len(w) != PAIR or min(w) < 0 for w in widths):
        raise ValueError(
            f"pad expects one width, a pair, or {ndim} pairs, none negative; got {pad_width}"
        )
    return [(before, after) for before, after in widths]


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
