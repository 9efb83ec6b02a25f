"""PyTorch's namespace under the standard's names: array-api-compat's, with the gaps filled.

PyTorch stores uint16, uint32 and uint64 but computes with them in few places. What it refuses for them is
computed by the host backend, on the same memory: they occur in files and hashes, not in models.
"""

from __future__ import annotations

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
    namespace |= {"matmul": matmul, "where": where}
    for name in set(_standard.FUNCTIONS) - _NEVER_REFUSED:
        if name in namespace:
            namespace[name] = _with_host(namespace[name], name, host)
    return SimpleNamespace(**namespace)
