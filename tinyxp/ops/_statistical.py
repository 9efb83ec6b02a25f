"""Statistical functions of the standard, and `all`, `any`, `diff`."""

from __future__ import annotations

from typing import Any

from tinyxp import dtypes
from tinyxp._core import CASTING, TENSORS, Tensor
from tinyxp.errors import DTypeError
from tinyxp.ops import _autocast, _dispatch
from tinyxp.ops._data_types import astype
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._manipulation import normalize_axes, normalize_axis

__all__ = [
    "all", "any", "cumulative_prod", "cumulative_sum", "diff", "max", "mean", "min", "prod", "std", "sum",
    "var",
]  # fmt: skip

Axis = Any  # int, tuple of int, or None for all axes


def _reduce(name: str, x: Tensor, axis: Axis, **kwargs: Any) -> Tensor:
    if type(x) not in TENSORS:
        x = as_tensor(x)
    if CASTING and name not in {"max", "min"}:
        (x,) = _autocast.widened(x)
    if axis is not None:
        n = len(x._raw.shape)
        axis = (
            normalize_axis(axis, n, name)
            if isinstance(axis, int)
            else normalize_axes(axis, n, name)
        )
    kwargs["axis"] = axis
    return _dispatch.apply1(name, x, kwargs)


def _accumulating(x: Tensor, dtype: Any) -> tuple[Tensor, dict[str, Any]]:
    """Cast `x` to the dtype of the result; integers need to be told to stay in it."""
    if dtype is None:
        return x, {}
    x, d = astype(x, dtype, copy=False), dtypes.dtype(dtype)
    return x, {} if d.kind in "fc" else {"dtype": x._device.backend.native_dtype(d)}


def sum(x: Tensor, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:  # noqa: A001 - the standard's name
    """Return the sum over axes.

    Parameters
    ----------
    x : Tensor, shape (...)
        A numeric Tensor; small integers are summed in int64 or uint64.
    axis : int, tuple of int or None
        None: all axes.
    dtype : dtype, optional
        Cast `x` to it first.
    keepdims : bool
        Keep the summed axes with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.sum(xp.Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0).tolist()
    [4.0, 6.0]
    """
    if dtype is None:
        return _reduce("sum", x, axis, keepdims=keepdims)
    x, options = _accumulating(x, dtype)
    return _reduce("sum", x, axis, keepdims=keepdims, **options)


def prod(x: Tensor, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Return the product over axes; the parameters are those of `sum`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.prod(xp.Tensor([2.0, 3.0])).item()
    6.0
    """
    x, options = _accumulating(x, dtype)
    return _reduce("prod", x, axis, keepdims=keepdims, **options)


def mean(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean over axes of a floating Tensor; the parameters are those of `sum`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.mean(xp.Tensor([1.0, 3.0])).item()
    2.0
    """
    x = as_tensor(x)
    _floating(x, "mean")
    return _reduce("mean", x, axis, keepdims=keepdims)


def _floating(x: Tensor, name: str) -> None:
    d = dtypes.of(x._raw.dtype)
    if d.kind not in "fc":
        raise DTypeError(
            f"{name} expects a floating Tensor; got dtype {d}; convert it with x.to('float32')"
        )


def var(
    x: Tensor, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> Tensor:
    """Return the variance over axes of a real floating Tensor.

    Parameters
    ----------
    x : Tensor, shape (...)
    axis : int, tuple of int or None
    correction : float
        The sum of squares is divided by the number of elements minus this: 1 gives the unbiased estimate.
    keepdims : bool

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.var(xp.Tensor([1.0, 3.0])).item()
    1.0
    """
    x = as_tensor(x)
    _floating(x, "var")
    return _reduce("var", x, axis, correction=correction, keepdims=keepdims)


def std(
    x: Tensor, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> Tensor:
    """Return the standard deviation over axes; the parameters are those of `var`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.std(xp.Tensor([1.0, 3.0])).item()
    1.0
    """
    x = as_tensor(x)
    _floating(x, "std")
    return _reduce("std", x, axis, correction=correction, keepdims=keepdims)


def max(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:  # noqa: A001 - the standard's name
    """Return the largest element over axes; equal ones share the gradient.

    Parameters
    ----------
    x : Tensor, shape (...)
        A real Tensor.
    axis : int, tuple of int or None
    keepdims : bool

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.max(xp.Tensor([1.0, 3.0])).item()
    3.0
    """
    return _reduce("max", x, axis, keepdims=keepdims)


def min(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:  # noqa: A001 - the standard's name
    """Return the smallest element over axes; equal ones share the gradient.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.min(xp.Tensor([1.0, 3.0])).item()
    1.0
    """
    return _reduce("min", x, axis, keepdims=keepdims)


def all(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:  # noqa: A001 - the standard's name
    """Return whether all elements over axes are true.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.all(xp.Tensor([True, False])).item()
    False
    """
    return _logical("all", x, axis, keepdims=keepdims)


def any(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:  # noqa: A001 - the standard's name
    """Return whether any element over axes is true.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.any(xp.Tensor([True, False])).item()
    True
    """
    return _logical("any", x, axis, keepdims=keepdims)


def _logical(name: str, x: Tensor, axis: Axis, *, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    if axis is not None and not isinstance(axis, int):
        axis = normalize_axes(axis, len(x._raw.shape), name)
    out: Tensor = _dispatch.untracked(name, (x,), {"axis": axis, "keepdims": keepdims})
    return out


def _cumulative(name: str, x: Tensor, axis: int | None, **options: Any) -> Tensor:
    x = as_tensor(x)
    if CASTING:
        (x,) = _autocast.widened(x)
    n = len(x._raw.shape)
    if axis is None:
        if n != 1:
            raise ValueError(f"{name} needs an axis for {n} axes; got None")
        axis = 0
    axis = normalize_axis(axis, n, name)
    return _dispatch.apply1(name, x, {"axis": axis, **options})


def cumulative_sum(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Return the running sum along an axis.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
    axis : int, optional
        May be left out for one-dimensional `x`.
    dtype : dtype, optional
        Cast `x` to it first.
    include_initial : bool
        Put a 0 in front.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.cumulative_sum(xp.Tensor([1.0, 2.0, 3.0])).tolist()
    [1.0, 3.0, 6.0]
    """
    x, options = _accumulating(x, dtype)
    return _cumulative("cumulative_sum", x, axis, include_initial=include_initial, **options)


def cumulative_prod(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Return the running product along an axis; `include_initial` puts a 1 in front.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.cumulative_prod(xp.Tensor([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 6.0]
    """
    x, options = _accumulating(x, dtype)
    return _cumulative("cumulative_prod", x, axis, include_initial=include_initial, **options)


def diff(
    x: Tensor,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """Return the `n`-th differences of neighbours along an axis.

    Parameters
    ----------
    x : Tensor, shape (..., m, ...)
    axis : int
    n : int
    prepend, append : Tensor, optional
        Joined to `x` along `axis` first.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.diff(xp.Tensor([1.0, 4.0, 9.0])).tolist()
    [3.0, 5.0]
    """
    from tinyxp import ops

    x = as_tensor(x)
    axis = normalize_axis(axis, len(x._raw.shape), "diff")
    if n < 0:
        raise ValueError(f"diff expects n >= 0; got {n}")
    parts = [p for p in (prepend, x, append) if p is not None]
    if len(parts) > 1:
        x = ops.concat(parts, axis=axis)
    minus = ops.not_equal if dtypes.of(x._raw.dtype).kind == "b" else ops.subtract
    before = (slice(None),) * axis
    for _ in range(n):
        x = minus(x[(*before, slice(1, None))], x[(*before, slice(None, -1))])
    return x
