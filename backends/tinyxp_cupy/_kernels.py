"""CUDA kernels for what the standard lacks: the block cipher and deterministic segment sums."""

from __future__ import annotations

from functools import cache
from typing import Any

import cupy

from tinyxp._extras import THREEFRY_PARITY, THREEFRY_ROTATIONS

__all__ = ["segment_sum", "threefry2x32"]

Array = Any


@cache
def _threefry() -> Any:
    """Return the kernel of Threefry-2x32 with its 20 rounds unrolled, in native words."""
    lines = ["unsigned int a = c0 + k0, b = c1 + k1;"]
    for group in range(5):
        rotations = THREEFRY_ROTATIONS[4 * (group % 2) :][:4]
        lines += [f"a += b; b = ((b << {r}) | (b >> {32 - r})) ^ a;" for r in rotations]
        first, second = (group + 1) % 3, (group + 2) % 3
        lines.append(f"a += k{first}; b += k{second} + {group + 1}u;")
    lines.append("x0 = a; x1 = b;")
    return cupy.ElementwiseKernel(
        "int64 c0, int64 c1, uint32 k0, uint32 k1, uint32 k2",
        "int64 x0, int64 x1",
        "\n".join(lines),
        "tinyxp_threefry2x32",
    )


def threefry2x32(key0: int, key1: int, counter0: Array, counter1: Array) -> tuple[Array, Array]:
    """Encrypt counters, in one launch."""
    words = (cupy.uint32(k) for k in (key0, key1, key0 ^ key1 ^ THREEFRY_PARITY))
    x0, x1 = _threefry()(counter0, counter1, *words)
    return x0, x1


@cache
def _segments(wide: str) -> Any:
    """Return the kernel that sums a segment in one thread per column, in the order of the slices.

    Neighbouring threads read neighbouring columns of one slice, so the reads are coalesced. The sum is of
    the type `wide`: float for half precision, else T, the type of the slices.
    """
    body = """
        long long segment = i / width, column = i % width;
        WIDE sum = WIDE(0);
        for (long long j = first[segment]; j < stop[segment]; ++j) {
            sum += WIDE(rows[order[j] * width + column]);
        }
        out = T(sum);
    """
    return cupy.ElementwiseKernel(
        "raw T rows, raw int64 order, raw int64 first, raw int64 stop, int64 width",
        "T out",
        body.replace("WIDE", wide),
        f"tinyxp_segment_sum_{wide}",
    )


def segment_sum(values: Array, indices: Array, size: int) -> Array:
    """Add the rows of `values`, shape (n, ...), into zeros of length `size` at `indices`, shape (n,).

    Every run sums in the same order, unlike ``cupy.add.at``, whose atomic additions come as they may.
    Nothing waits for the GPU.
    """
    shape = (size, *values.shape[1:])
    if values.size == 0 or size == 0:
        return cupy.zeros(shape, values.dtype)
    indices = cupy.where(indices < 0, indices + size, indices).astype(cupy.int64)
    order = cupy.argsort(indices, kind="stable")
    where, cells = indices[order], cupy.arange(size, dtype=cupy.int64)
    first, stop = (cupy.searchsorted(where, cells, side=side) for side in ("left", "right"))
    width = values.size // len(values)
    out = cupy.empty((size * width,), values.dtype)
    half = values.dtype.itemsize == 2 and values.dtype.kind in "fV"  # noqa: PLR2004 - bytes
    kernel = _segments("float" if half else "T")
    kernel(cupy.ascontiguousarray(values), order, first, stop, width, out)
    return out.reshape(shape)
