"""What the fused operations share: which arrays a kernel takes, and in which form."""

from __future__ import annotations

from typing import Any

import cupy

from tinyxp_cupy._modules import TYPES

__all__ = ["Array", "native", "rows_of"]

Array = Any


def native(*arrays: Array | None) -> bool:
    """Whether all are of one type that kernels are compiled for, on one device, and none is empty."""
    first = arrays[0]
    return first.dtype.name in TYPES and all(  # type: ignore[union-attr]  # the first is always there
        a is None or (a.dtype == first.dtype and a.size and a.device == first.device)  # type: ignore[union-attr]  # likewise
        for a in arrays
    )


def rows_of(x: Array, length: int) -> Array:
    """Return `x` as a matrix with rows of `length` elements, in C order."""
    return cupy.ascontiguousarray(x).reshape(-1, length)
