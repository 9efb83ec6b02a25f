"""What NumPy does better than the standard-only defaults: segment sums and the block cipher."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyxp._extras import THREEFRY_PARITY, THREEFRY_ROTATIONS

__all__ = ["checked", "segment_sum", "threefry2x32"]

Array = Any

# ---------------------------------------------------------------- segment sum
# A loop over segments costs about a microsecond each and then runs at the speed of a reduction; reduceat
# costs nothing to start but three times as much per element. They meet where a segment has this many.
_LOOP_ELEMENTS = 2000


def segment_sum(values: Array, indices: Array, size: int) -> Array:
    """Add the rows of `values`, shape (n, ...), into zeros of length `size` at `indices`, shape (n,).

    The order of summation is that of `values` within each segment, whatever the number of threads.
    ``np.add.at`` gives the same at 4 to 10 times the time for rows of a hundred elements; a product with a
    one-hot matrix is slower from 64 indices on.
    """
    if indices.shape[0] == 0 or values.size == 0:
        return np.zeros((size, *values.shape[1:]), values.dtype)
    indices = checked(indices, size)
    if values.ndim == 1 and values.dtype.kind == "f":  # summed in float64, in one pass
        return np.bincount(indices, values, size).astype(values.dtype)
    return _sorted_sum(values, indices, size)


def checked(indices: Array, size: int) -> Array:
    """Return `indices`, at least one, counted from the front; raise `IndexError` if one is out of range."""
    low, high = int(indices.min()), int(indices.max())
    if low < -size or high >= size:
        raise IndexError(f"segment_sum expects indices in [{-size}, {size}); got {low} to {high}")
    return np.where(indices < 0, indices + size, indices) if low < 0 else indices


def _sorted_sum(values: Array, indices: Array, size: int) -> Array:
    out = np.zeros((size, *values.shape[1:]), values.dtype)
    order = np.argsort(indices, kind="stable")
    where, rows = indices[order], values[order]
    starts = np.flatnonzero(np.concatenate(([True], where[1:] != where[:-1])))
    targets = where[starts]
    if values.size <= _LOOP_ELEMENTS * starts.size:
        out[targets] = np.add.reduceat(rows, starts, axis=0)
        return out
    ends = [*starts[1:].tolist(), len(where)]
    for target, start, end in zip(targets.tolist(), starts.tolist(), ends, strict=True):
        np.add.reduce(rows[start:end], axis=0, out=out[target, ...])
    return out


# ---------------------------------------------------------------- Threefry-2x32
_BLOCK = 1 << 16  # counters in flight: three arrays of words that fit the second-level cache


def threefry2x32(key0: int, key1: int, counter0: Array, counter1: Array) -> tuple[Array, Array]:
    """Encrypt counters in native 32-bit words, in place and block by block."""
    keys = [np.uint32(k) for k in (key0, key1, key0 ^ key1 ^ THREEFRY_PARITY)]
    c0, c1 = np.broadcast_arrays(counter0, counter1)
    x0, x1 = (c.astype(np.uint32, order="C").reshape(-1) for c in (c0, c1))
    spare = np.empty(min(_BLOCK, x0.size), np.uint32)
    with np.errstate(over="ignore"):
        for start in range(0, x0.size, _BLOCK):
            stop = start + _BLOCK
            block = x0[start:stop]
            _rounds(keys, block, x1[start:stop], spare[: block.size])
    return x0.astype(np.int64).reshape(c0.shape), x1.astype(np.int64).reshape(c0.shape)


def _rounds(keys: list[np.uint32], x0: Array, x1: Array, spare: Array) -> None:
    x0 += keys[0]
    x1 += keys[1]
    for group in range(5):
        for r in THREEFRY_ROTATIONS[4 * (group % 2) :][:4]:
            x0 += x1
            np.left_shift(x1, r, out=spare)
            np.right_shift(x1, 32 - r, out=x1)
            x1 |= spare
            x1 ^= x0
        x0 += keys[(group + 1) % 3]
        x1 += keys[(group + 2) % 3] + np.uint32(group + 1)
