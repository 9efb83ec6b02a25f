"""PyTorch's namespace under the standard's names: array-api-compat's, with the gaps filled.

PyTorch stores uint16, uint32 and uint64 but computes with them in few places. What it refuses for them is
computed by the host backend, on the same memory: they occur in files and hashes, not in models.
"""

from __future__ import annotations

import math
from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import array_api_compat.torch as compat
import numpy as np
import torch

from tinyxp import _standard

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["build"]

Array = Any

WIDE_UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})
UNSIGNED = WIDE_UNSIGNED | {torch.uint8}
BOUNDS = {
    d: (torch.iinfo(d).min, torch.iinfo(d).max)
    for d in (*UNSIGNED, torch.int8, torch.int16, torch.int32, torch.int64)
}
ARITHMETIC = """add bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor floor_divide
maximum minimum multiply pow remainder subtract""".split()
COMPARISONS = "equal greater greater_equal less less_equal not_equal".split()
# Creation and inspection take no array to compute with, or work for every dtype.
_NEVER_REFUSED = frozenset({*_standard.CREATION, *_standard.DATA_TYPES, "broadcast_shapes"})


def matmul(x1: Array, x2: Array, /) -> Array:
    """Multiply matrices."""
    return torch.matmul(x1, x2) if x1.dtype == x2.dtype else compat.matmul(x1, x2)


def where(condition: Array, x1: Array, x2: Array, /) -> Array:
    """Choose elements of `x1` where `condition` is true, else of `x2`."""
    if isinstance(x1, torch.Tensor) and isinstance(x2, torch.Tensor) and x1.dtype == x2.dtype:
        return torch.where(condition, x1, x2)
    return compat.where(condition, x1, x2)


def std(
    x: Array,
    /,
    *,
    axis: int | tuple[int, ...] | None = None,
    correction: float = 0.0,
    keepdims: bool = False,
) -> Array:
    """Return the standard deviation; array-api-compat refuses corrections that are no whole numbers."""
    if axis == ():
        return compat.std(x, axis=axis)
    axes = tuple(range(x.ndim)) if axis is None else axis
    return torch.std(x, axes, correction=correction, keepdim=keepdims)


def _modular(library: Callable[..., Array]) -> Callable[..., Array]:
    """Return `library`, a sum or product, which adds up unsigned integers in int64: the same bits.

    PyTorch cannot add in uint64, the standard's dtype of such sums, and gives int64.
    """

    @wraps(library)
    def function(x: Array, /, *, dtype: Any = None, **kwargs: Any) -> Array:
        if dtype not in UNSIGNED and (dtype is not None or x.dtype not in UNSIGNED):
            return library(x, dtype=dtype, **kwargs)
        out = library(x.to(torch.int64), dtype=torch.int64, **kwargs)
        return out.to(torch.uint64 if dtype is None else dtype)

    return function


def _bounded(library: Callable[[Array, Array], Array], *, compares: bool) -> Callable[..., Array]:
    """Return `library`, which keeps an eye on Python integers that the dtype of the other operand cannot hold.

    PyTorch takes them modulo a power of two, in silence. NumPy compares with them, and refuses to compute.
    """

    def fit(x: Array, number: int) -> tuple[Array, Any]:
        low, high = BOUNDS.get(x.dtype, (number, number))
        if low <= number <= high:
            return x, number
        if compares:
            return x.to(torch.float64), math.inf if number > 0 else -math.inf
        kind = str(x.dtype).removeprefix("torch.")
        raise OverflowError(f"Python integer {number} out of bounds for {kind}")

    @wraps(library)
    def function(x1: Array, x2: Array, /) -> Array:
        if type(x2) is int:
            x1, x2 = fit(x1, x2)
        elif type(x1) is int:
            x2, x1 = fit(x2, x1)
        return library(x1, x2)

    return function


def _has_wide(x: Any) -> bool:
    if isinstance(x, torch.Tensor):
        return x.dtype in WIDE_UNSIGNED
    return isinstance(x, list | tuple) and any(_has_wide(item) for item in x)


def _to_host(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.cpu().numpy()
    return type(x)(_to_host(item) for item in x) if isinstance(x, list | tuple) else x


def _from_host(x: Any, device: torch.device) -> Any:
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_from_host(item, device) for item in x))
    if isinstance(x, list | tuple):
        return type(x)(_from_host(item, device) for item in x)
    return torch.from_numpy(np.array(x)).to(device) if hasattr(x, "dtype") else x


def _device(args: tuple[Any, ...]) -> torch.device:
    arrays = (a[0] if isinstance(a, list | tuple) else a for a in args)
    return next(a.device for a in arrays if isinstance(a, torch.Tensor))


def _with_host(library: Callable[..., Any], name: str, host: Callable[[], Any]) -> Any:
    """Return `library`, with the host's function for what it refuses of wide unsigned integers."""

    @wraps(library)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return library(*args, **kwargs)
        except (RuntimeError, TypeError, NotImplementedError):  # all three occur
            if not (_has_wide(args) or _has_wide(list(kwargs.values()))):
                raise
        out = getattr(host(), name)(*_to_host(args), **{k: _to_host(v) for k, v in kwargs.items()})
        return _from_host(out, _device(args))

    return function


def build(host: Callable[[], Any]) -> Any:
    """Return the namespace; `host` gives the host backend's when it is first needed."""
    namespace = {n: getattr(compat, n) for n in dir(compat) if not n.startswith("_")}
    namespace |= {"matmul": matmul, "std": std, "where": where}
    for name in ("sum", "prod", "cumulative_sum", "cumulative_prod"):
        namespace[name] = _modular(namespace[name])
    for name in (*ARITHMETIC, *COMPARISONS):
        namespace[name] = _bounded(namespace[name], compares=name in COMPARISONS)
    for name in set(_standard.FUNCTIONS) - _NEVER_REFUSED:
        if name in namespace:
            namespace[name] = _with_host(namespace[name], name, host)
    return SimpleNamespace(**namespace)
