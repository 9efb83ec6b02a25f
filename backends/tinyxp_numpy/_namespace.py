"""NumPy's namespace under the standard's names: NumPy's own functions wherever they conform.

NumPy has conformed in the main since 2.1; what differs is taken from array-api-compat, and what is called
in every step of a training loop is written here, because the general functions spend microseconds on
arguments that the standard does not have. Half precision is reduced and multiplied in float32.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import array_api_compat.numpy as compat
import numpy as np

__all__ = ["build"]

Array = Any
DTypeLike = Any
Axes = int | tuple[int, ...] | None

# NumPy's stubs know fewer ways of calling these than there are.
_add: Any = np.add
_multiply: Any = np.multiply
_maximum: Any = np.maximum
_minimum: Any = np.minimum
_vecdot: Any = np.vecdot

# Names that NumPy spells and defines as the standard does (the ufuncs among them without any wrapper).
_RAW = """arange asarray empty empty_like eye full full_like linspace ones ones_like zeros ceil floor
trunc sign tensordot std var unique_all unique_counts unique_inverse unique_values""".split()


def _widen(x: Array) -> Any:
    """Return float32 if `x` is in half precision, else None."""
    d = x.dtype
    return np.float32 if d.itemsize == 2 and d.kind in "fV" else None  # noqa: PLR2004 - bytes


def sum_(
    x: Array, /, *, axis: Axes = None, dtype: DTypeLike = None, keepdims: bool = False
) -> Array:
    """Sum over `axis`."""
    wide = _widen(x)
    if wide is not None and dtype is None:
        return _add.reduce(x, axis, wide, None, keepdims).astype(x.dtype)
    return _add.reduce(x, axis, dtype, None, keepdims)


def prod(
    x: Array, /, *, axis: Axes = None, dtype: DTypeLike = None, keepdims: bool = False
) -> Array:
    """Multiply over `axis`."""
    wide = _widen(x)
    if wide is not None and dtype is None:
        return _multiply.reduce(x, axis, wide, None, keepdims).astype(x.dtype)
    return _multiply.reduce(x, axis, dtype, None, keepdims)


def mean(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """Average over `axis`."""
    wide = _widen(x)
    if wide is not None:
        return np.mean(x, axis=axis, dtype=wide, keepdims=keepdims).astype(x.dtype)
    return np.mean(x, axis=axis, keepdims=keepdims)


def max_(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """Return the largest element over `axis`."""
    return _maximum.reduce(x, axis, None, None, keepdims)


def min_(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """Return the smallest element over `axis`."""
    return _minimum.reduce(x, axis, None, None, keepdims)


def matmul(x1: Array, x2: Array, /) -> Array:
    """Multiply matrices; NumPy itself has no half-precision product through BLAS."""
    if _widen(x1) is None or x1.dtype != x2.dtype:
        return np.matmul(x1, x2)
    return np.matmul(x1.astype(np.float32), x2.astype(np.float32)).astype(x1.dtype)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Take dot products along `axis`, the first operand conjugated."""
    if _widen(x1) is None or x1.dtype != x2.dtype:
        return _vecdot(x1, x2, axis=axis)
    return _vecdot(x1.astype(np.float32), x2.astype(np.float32), axis=axis).astype(x1.dtype)


def astype(x: Array, dtype: DTypeLike, /, *, copy: bool = True, device: str | None = None) -> Array:
    """Cast to `dtype`."""
    _check(device)
    return x.astype(dtype, copy=copy)


def zeros_like(x: Array, /, *, dtype: DTypeLike = None, device: str | None = None) -> Array:
    """Return zeros in the shape of `x`, in C order."""
    _check(device)
    return np.zeros(x.shape, dtype=x.dtype if dtype is None else dtype)


def reshape(x: Array, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Array:
    """Return the elements in another shape."""
    return x.reshape(shape) if copy is None else np.reshape(x, shape, copy=copy)


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """Return a view with the axes in another order."""
    return x.transpose(axes)


def matrix_transpose(x: Array, /) -> Array:
    """Return a view with the last two axes swapped."""
    return x.mT


def expand_dims(x: Array, /, axis: int | tuple[int, ...] = 0) -> Array:
    """Return a view with axes of length one inserted."""
    if type(axis) is int and 0 <= axis <= x.ndim:
        return x[(slice(None),) * axis + (None,)]
    return np.expand_dims(x, axis)


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """Return the slices of `x` at `indices` along `axis`."""
    return x.take(indices, axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """Return the elements of `x` at `indices`, which differ from line to line."""
    return np.take_along_axis(x, indices, axis)


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:  # noqa: A002 - the standard's names
    """Limit the elements to an interval."""
    return np.clip(x, min, max)


def _check(device: str | None) -> None:
    if device not in ("cpu", None):
        raise ValueError(f"NumPy's only device is 'cpu'; got {device!r}")


def build() -> Any:
    """Return the namespace: array-api-compat's, with NumPy's own functions and the above in front."""
    own = {
        "sum": sum_, "max": max_, "min": min_, "prod": prod, "mean": mean, "matmul": matmul,
        "vecdot": vecdot, "astype": astype, "zeros_like": zeros_like, "reshape": reshape,
        "permute_dims": permute_dims, "matrix_transpose": matrix_transpose, "expand_dims": expand_dims,
        "take": take, "take_along_axis": take_along_axis, "clip": clip,
    }  # fmt: skip
    public = {n: getattr(compat, n) for n in dir(compat) if not n.startswith("_")}
    raw = {n: getattr(np, n) for n in _RAW}
    return SimpleNamespace(**{**public, **raw, **own})
