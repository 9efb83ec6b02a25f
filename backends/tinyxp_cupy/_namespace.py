"""CuPy's namespace under the standard's names, and namespaces bound to one of several devices."""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import array_api_compat.cupy
import cupy
import numpy as np

from tinyxp_cupy import _half, _lt
from tinyxp_cupy._modules import TYPES, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bound", "build"]

compat: Any = array_api_compat.cupy  # it exports more than its stubs say
Array = Any

MATRIX = 2  # axes of a matrix


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Array:
    """Turn a number, nested sequence, buffer or array into an array."""
    if is_minus_zero(obj):
        kind = getattr(obj, "dtype", None) if dtype is None else dtype
        return compat.asarray([obj], dtype=kind, device=device).reshape(())
    return compat.asarray(obj, dtype=dtype, device=device, copy=copy)


def full(
    shape: int | tuple[int, ...], fill_value: complex, *, dtype: Any = None, device: Any = None
) -> Array:
    """Return a constant array; where CuPy fills by clearing the memory, -0.0 would become +0.0."""
    if not is_minus_zero(fill_value):
        return compat.full(shape, fill_value, dtype=dtype, device=device)
    value = asarray(fill_value, dtype=dtype, device=device)
    out = compat.empty(shape, dtype=value.dtype, device=device)
    out[...] = value
    return out


def is_minus_zero(x: Any) -> bool:
    """Whether `x` is a number of the host, zero, and one of its parts is -0."""
    if not isinstance(x, float | complex | np.inexact | np.ndarray) or np.ndim(x) or x != 0:
        return False
    return bool(np.signbit(x.real) or np.signbit(x.imag))


def full_like(x: Array, /, fill_value: complex, *, dtype: Any = None, device: Any = None) -> Array:
    """Return a constant array in the shape of `x`."""
    return full(x.shape, fill_value, dtype=x.dtype if dtype is None else dtype, device=device)


def matmul(x1: Array, x2: Array, /) -> Array:
    """Multiply matrices.

    By cuBLASLt: ``cupy.matmul`` knows no batches in half precision, and none of its products may be
    captured. What it is left with are vectors, and types other than floats of 16 and 32 bits.
    """
    if min(x1.ndim, x2.ndim) < MATRIX or x1.dtype != x2.dtype or name_of(x1.dtype) not in TYPES:
        return cupy.matmul(x1, x2)
    return _lt.matmul(x1, x2)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sum products along an axis; in half precision, of which CuPy multiplies no batches, in float32."""
    if not _is_half(x1) or x1.dtype != x2.dtype:
        return compat.vecdot(x1, x2, axis=axis)
    wide = x1.astype(cupy.float32) * x2.astype(cupy.float32)
    return wide.sum(axis=axis).astype(x1.dtype)


def _is_half(x: Array) -> bool:
    return x.dtype.itemsize == 2 and x.dtype.kind in "fV"  # noqa: PLR2004 - bytes


def solve(x1: Array, x2: Array, /) -> Array:
    """Solve linear systems; CuPy divides by zero where there are no right-hand sides."""
    if x1.size and not x2.size and x2.ndim > 1 and x1.shape[-1:] == x2.shape[-2:-1]:
        lead = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        return compat.zeros((*lead, *x2.shape[-2:]), dtype=compat.result_type(x1, x2))
    return compat.linalg.solve(x1, x2)


def eig(x: Array, /) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors, complex for real matrices too; CuPy gives real ones where there are none."""
    kind = compat.result_type(x.dtype, cupy.complex64)
    values, vectors = compat.linalg.eig(x)
    return values.astype(kind, copy=False), vectors.astype(kind, copy=False)


def reshape(x: Array, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Array:
    """Return the elements in another shape."""
    return x.reshape(shape) if copy is None else compat.reshape(x, shape, copy=copy)


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """Return a view with the axes in another order."""
    return x.transpose(axes)


def build() -> Any:
    """Return the namespace: array-api-compat's, with the above in front."""
    public = {n: getattr(compat, n) for n in dir(compat) if not n.startswith("_")}
    own = {f.__name__: f for f in (asarray, full, full_like, matmul, reshape, permute_dims, vecdot)}
    public["linalg"] = SimpleNamespace(
        **{**vars(compat.linalg), "eig": eig, "matmul": matmul, "solve": solve, "vecdot": vecdot}
    )
    return SimpleNamespace(**{**public, **_half.keeping(public), **own})


def _on_device(index: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` as one that runs while device `index` is the current one."""
    device, current = cupy.cuda.Device(index), cupy.cuda.runtime.getDevice

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if current() == index:
            return function(*args, **kwargs)
        with device:
            return function(*args, **kwargs)

    return run


def bound(namespace: Any, index: int) -> None:
    """Make every function of `namespace`, its extensions too, run on device `index`."""
    for name, value in list(vars(namespace).items()):
        if isinstance(value, SimpleNamespace) and name in ("linalg", "fft"):
            bound(value, index)
        elif callable(value) and not isinstance(value, type):
            setattr(namespace, name, _on_device(index, value))
