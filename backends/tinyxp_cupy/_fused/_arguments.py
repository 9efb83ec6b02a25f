"""What the fused operations share: which arrays a kernel takes, and in which form."""

from __future__ import annotations

from typing import Any

import cupy

from tinyxp_cupy._modules import TYPES, name_of

__all__ = ["Array", "aligned", "native", "rows_of", "whole_warps"]

Array = Any


def native(*arrays: Array | None) -> bool:
    """Whether all are of one type that kernels are compiled for, on one device, and none is empty."""
    first: Any = arrays[0]
    dtype, device = first.dtype, first.data.device_id
    if name_of(dtype) not in TYPES:
        return False
    for a in arrays:  # a loop, for this is asked at each call
        if a is not None and not (
            (a.dtype is dtype or a.dtype == dtype) and a.size and a.data.device_id == device
        ):
            return False
    return True


def aligned(*arrays: Array | None) -> bool:
    """Whether all begin at a multiple of 16 bytes, so that a kernel may read as many at once."""
    return all(a is None or a.data.ptr % 16 == 0 for a in arrays)


def rows_of(x: Array, length: int) -> Array:
    """Return `x` as a matrix with rows of `length` elements, in C order."""
    return cupy.ascontiguousarray(x).reshape(-1, length)


def whole_warps(n: int, most: int) -> int:
    """Return the threads of a block for `n` things to do: warps without need cost time, too."""
    return min(-(-n // 32) * 32, most)
