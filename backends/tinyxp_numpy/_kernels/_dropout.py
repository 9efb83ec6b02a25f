"""Dropout whose mask is drawn in the kernel, forward and again backward: nothing is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyxp._extras import THREEFRY_PARITY, THREEFRY_ROTATIONS

from ._compile import inline, kernel

__all__ = ["dropout"]

_PAIRS = (
    1 << 10
)  # in flight, in the first-level cache; divides 2**32, so that only low words differ

_WORD = np.uint32
_R0, _R1, _R2, _R3, _R4, _R5, _R6, _R7 = (_WORD(r) for r in THREEFRY_ROTATIONS)
_PARITY, _BITS = _WORD(THREEFRY_PARITY), _WORD(32)


@inline
def _plus(x: Any, y: Any) -> Any:
    return _WORD(x + y)  # Numba adds words as 64-bit integers


@inline
def _mix(x: Any, y: Any, r: Any) -> Any:
    x = _plus(x, y)
    return x, _WORD(_WORD(_WORD(y << r) | _WORD(y >> _WORD(_BITS - r))) ^ x)


@inline
def _even(x: Any, y: Any) -> Any:
    x, y = _mix(x, y, _R0)
    x, y = _mix(x, y, _R1)
    x, y = _mix(x, y, _R2)
    return _mix(x, y, _R3)


@inline
def _odd(x: Any, y: Any) -> Any:
    x, y = _mix(x, y, _R4)
    x, y = _mix(x, y, _R5)
    x, y = _mix(x, y, _R6)
    return _mix(x, y, _R7)


@kernel
def dropout(
    start: int, stop: int, part: int, x: Any, out: Any, key0: Any, key1: Any, threshold: Any, scale: Any
) -> None:  # fmt: skip
    """Thin the pairs `start` to `stop` of elements: Threefry-2x32 gives two words for each pair.

    An element stays, times `scale`, if its word is above `threshold`. J. Salmon and others, "Parallel random
    numbers: as easy as 1, 2, 3", 2011, section 4.
    """
    zero = x.dtype.type(0)
    key2 = _WORD(key0 ^ key1 ^ _PARITY)
    kept0, kept1 = np.empty(_PAIRS, np.uint32), np.empty(_PAIRS, np.uint32)
    for first in range(start, stop, _PAIRS):
        n = min(_PAIRS, stop - first)
        low, high = _WORD(first), _plus(_WORD(first >> 32), key1)
        for i in range(n):
            a, b = _even(_plus(_plus(low, _WORD(i)), key0), high)
            a, b = _odd(_plus(a, key1), _plus(b, _plus(key2, _WORD(1))))
            a, b = _even(_plus(a, key2), _plus(b, _plus(key0, _WORD(2))))
            a, b = _odd(_plus(a, key0), _plus(b, _plus(key1, _WORD(3))))
            a, b = _even(_plus(a, key1), _plus(b, _plus(key2, _WORD(4))))
            kept0[i] = _plus(a, key2)
            kept1[i] = _plus(b, _plus(key0, _WORD(5)))
        for i in range(n):
            j = 2 * (first + i)
            out[j] = x[j] * scale if kept0[i] > threshold else zero
            out[j + 1] = x[j + 1] * scale if kept1[i] > threshold else zero
