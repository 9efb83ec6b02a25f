"""What CuPy computes in float32, in float64, or not at all, when it is given bfloat16."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import cupy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["keeping"]

Array = Any

# CuPy 14: where, clip, floor_divide, remainder, round, tril and triu give float32, std and var float64; sorting
# and cumulative sums are not there.
NAMES = """argsort clip cumulative_prod cumulative_sum floor_divide remainder round sort std tril triu
var where""".split()


def _is(x: Any) -> bool:
    return isinstance(x, cupy.ndarray) and x.dtype.name == "bfloat16"


def _float32(function: Callable[..., Array]) -> Callable[..., Array]:
    """Let `function` compute in float32 where it is given bfloat16, and round what it gives."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Array:
        first = next((a for a in args if _is(a)), None)
        if first is None or kwargs.get("dtype") is not None:
            return function(*args, **kwargs)
        wide = [a.astype(cupy.float32) if _is(a) else a for a in args]
        out = function(*wide, **kwargs)
        narrow = out.dtype.kind == "f" and all(
            _is(a) for a in args if isinstance(a, cupy.ndarray) and a.dtype.kind != "b"
        )
        return out.astype(first.dtype) if narrow else out

    return wrapped


def keeping(functions: dict[str, Any]) -> dict[str, Any]:
    """Return functions by name that give bfloat16 for bfloat16, in the place of some of `functions`."""
    return {name: _float32(functions[name]) for name in NAMES if name in functions}
