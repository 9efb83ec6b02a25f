"""CUDA kernels for what the standard lacks: the block cipher and deterministic segment sums."""

from __future__ import annotations

from functools import cache
from typing import Any

import cupy
import numpy as np

from tinyxp._extras import THREEFRY_PARITY, THREEFRY_ROTATIONS
from tinyxp_cupy._modules import TYPES, kernel, launch, name_of

__all__ = ["WIDEST", "numbers", "segment_sum", "sum_rows", "threefry2x32"]

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
    if (
        name_of(values.dtype) in TYPES
        and _slices(len(values)) * size <= max(_CELLS, values.size)
        and values.size <= WIDEST * len(values)
    ):
        return sum_rows(values, indices, size, wraps=True).reshape(shape)
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


# ---------------------------------------------------------------- without sorting
_SLICE, _LONG_SLICE, _MANY = 512, 1024, 1 << 15  # rows in a slice; where the longer ones begin
_CELLS = 1 << 24  # of a table, one for each number and slice: 64 MiB
_TOGETHER = 4  # slices that are looked up at once, as in embedding.cu
_WARP, _SUMMING, _ADDING = 32, 512, 256
WIDEST = 65535 * _WARP  # columns for which the second axis of a grid is long enough


def _length(rows: int) -> int:
    return _SLICE if rows <= _MANY else _LONG_SLICE


def _slices(rows: int) -> int:
    return -(-rows // _length(rows))


def numbers(indices: Array) -> tuple[Array, bool]:
    """Return `indices` as kernels read them, in C order, and whether they have 64 bits: else 32."""
    if indices.dtype == np.int32:
        return cupy.ascontiguousarray(indices), False
    return cupy.ascontiguousarray(indices, np.int64), True


def sum_rows(values: Array, indices: Array, size: int, *, wraps: bool) -> Array:
    """Add rows into zeros, two launches: first those of a slice of the rows, then what slices have.

    Parameters
    ----------
    values : array, shape (n, …)
        Of float32, float16 or bfloat16, not empty, at most `WIDEST` columns; sums are float32, rounded once.
    indices : array of integers, of n elements
        What is outside of the result is left out.
    size : int
        Rows of the result, at least one.
    wraps : bool
        Whether negative indices count from the end.

    Returns
    -------
    array, shape (size, width)
    """
    count, dtype = indices.size, name_of(values.dtype)
    width = values.size // count
    values, (indices, wide) = cupy.ascontiguousarray(values), numbers(indices)
    length, slices = _length(count), _slices(count)
    table = cupy.empty((size, -(-slices // _TOGETHER) * _TOGETHER), np.int32)
    table.data.memset_async(0xFF, table.nbytes)
    partial = cupy.empty((count, width), np.float32)
    out = cupy.empty((size, width), values.dtype)
    pack = 16 // values.itemsize
    vectors = width % pack == 0 and values.data.ptr % 16 == 0
    suffix = "" if vectors else "_by_one"
    chunks = -(-width // (_WARP * (pack if vectors else 1)))
    launch(
        kernel("embedding", f"sum_slice{suffix}", dtype), (slices, chunks), min(-(-count // _WARP) * _WARP, _SUMMING),
        indices, values, table, partial, count, size, width, length, wide, wraps,
    )  # fmt: skip
    threads = min(size * _WARP, _ADDING)
    launch(
        kernel("embedding", f"sum_slices{suffix}", dtype), (-(-size * _WARP // threads), chunks), threads,
        values, table, partial, out, size, width, slices,
    )  # fmt: skip
    return out
