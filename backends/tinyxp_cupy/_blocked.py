"""Attention by the kernels of ``_cuda/attention.cu``, for heads of up to 128 numbers.

Arrays are (batch, heads, positions, dim), with numbers of a row side by side and rows that begin at multiples of
four elements; other distances are free, so that all may be views of one packed array.
"""

# ruff: noqa: PLR0917 - a kernel takes its arrays one by one

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import cupy
import numpy as np

from ._modules import launch, options, source

__all__ = [
    "KERNELS",
    "LARGEST",
    "Sizes",
    "backward",
    "block_rows",
    "defines",
    "forward",
    "head",
    "packed_sizes",
    "shared",
    "sizes",
]

Array = Any
LARGEST = 128  # numbers in a row that fit into shared memory
THREADS, TILE = 128, 32
NUMBER = 4  # bytes: products are in float32
KERNELS = ("attention", "attention_queries", "attention_keys")


class Sizes(NamedTuple):
    """What all kernels of one attention are told, and what grids and results are made of."""

    batch: int
    heads: int
    queries: int
    keys: int
    dim: int
    told: Any  # of struct Sizes in the source, passed by value


class _Kernel(NamedTuple):
    function: Any
    rows: int  # of a block
    shared: int  # bytes


# ---------------------------------------------------------------- what is compiled
def head(dim: int) -> int:
    """Return the length of rows in shared memory."""
    return -(-dim // 32) * 32


def shared(name: str, length: int, rows: int) -> int:
    """Return the bytes of shared memory of a block that holds `rows` rows of `length` numbers."""
    tile, scores = TILE * length, TILE * rows
    numbers = {
        "attention": rows * length + 2 * tile + scores,
        "attention_queries": 2 * rows * length + tile + max(tile, scores),
        "attention_keys": 2 * rows * length + 2 * tile + scores,
    }
    return NUMBER * numbers[name]


def block_rows(length: int, limit: int) -> int:
    """Return how many rows a block holds where it may have `limit` bytes of shared memory."""
    rows = 64 if length <= 64 else 32  # noqa: PLR2004 - registers hold no more
    while rows > 16 and max(shared(name, length, rows) for name in KERNELS) > limit:  # noqa: PLR2004 - one for each of 16 threads
        rows //= 2
    return rows


@cache
def _kernel(name: str, dtype: str, length: int, device: int) -> _Kernel:
    """Return a kernel for blocks as large as shared memory of the device allows."""
    limit = int(cupy.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"])
    rows = block_rows(length, limit)
    function, size = _module(dtype, length, rows).get_function(name), shared(name, length, rows)
    with cupy.cuda.Device(device):
        function.max_dynamic_shared_size_bytes = size
    return _Kernel(function, rows, size)


def defines(length: int, rows: int) -> tuple[str, ...]:
    """Return the compiler's options for rows of `length` numbers in blocks of `rows`."""
    return f"-DHEAD={length}", f"-DROWS={rows // 16}"


@cache
def _module(dtype: str, length: int, rows: int) -> Any:
    text = source("attention")
    return cupy.RawModule(code=text, options=(*options(dtype), *defines(length, rows)))


# ---------------------------------------------------------------- what kernels are told
def sizes(*arrays: Array, mask: Array | None, causal: bool) -> Sizes:
    """Return the sizes and distances of arrays (batch, heads, positions, dim).

    Parameters
    ----------
    *arrays : array
        q, k, v and out; for the backward also the cotangents of out, q, k and v.
    mask : array of bool, shape (batch, heads, T, S), or None
        Any distances, 0 along axes that it was broadcast along.
    causal : bool
        Whether query i sees key j only if ``j <= i + S - T``.
    """
    batch, heads, queries, dim = arrays[0].shape
    keys, size = arrays[1].shape[2], arrays[0].itemsize
    numbers = [batch, heads, queries, keys, dim, int(causal)]
    numbers += mask.strides if mask is not None else (0, 0, 0, 0)  # bytes are elements here
    numbers += [step // size for x in arrays for step in x.strides]
    return Sizes(batch, heads, queries, keys, dim, _told(numbers))


@lru_cache(256)
def packed_sizes(shape: tuple[int, int, int, int], *, causal: bool) -> Sizes:
    """Return the sizes for q, k and v in (batch, time, 3, heads, dim), and all else in (batch, time, heads, dim).

    Parameters
    ----------
    shape : tuple of int
        (batch, heads, time, dim).
    causal : bool
        As above.
    """
    batch, heads, time, dim = shape
    row = heads * dim
    one, three = [time * row, dim, row, 1], [3 * time * row, dim, 3 * row, 1]
    numbers = [
        batch,
        heads,
        time,
        time,
        dim,
        int(causal),
        *[0] * 4,
        *three * 3,
        *one * 2,
        *three * 3,
    ]
    return Sizes(batch, heads, time, time, dim, _told(numbers))


def _told(numbers: list[int]) -> Any:
    full = 6 + 9 * 4  # struct Sizes
    told = np.array(numbers + [0] * (full - len(numbers)), np.int64)
    return told.view(f"V{told.nbytes}")  # one element, which CuPy passes by value


# ---------------------------------------------------------------- launches
def forward(
    n: Sizes, dtype: str, q: Any, k: Any, v: Any, mask: Array | None, out: Any, scale: float
) -> Array:
    """Write `out`; return the binary logarithm of each query's sum of exponentials, (batch, heads, T).

    Parameters
    ----------
    n : Sizes
        Of these arrays.
    dtype : str
        Their type.
    q, k, v, mask, out : array or pointer
    scale : float
        Factor of the scores.
    """
    lse = cupy.empty((n.batch, n.heads, n.queries), np.float32)
    _launch("attention", n, n.queries, dtype, q, k, v, mask, out, lse, n.told, scale)
    return lse


def backward(
    n: Sizes, dtype: str, g: Any, out: Any, lse: Array, q: Any, k: Any, v: Any, mask: Array | None,
    gq: Any, gk: Any, gv: Any, scale: float,
) -> None:  # fmt: skip
    """Write the cotangents of `q`, `k` and `v`, given that of `out` and what `forward` returned."""
    delta = cupy.empty_like(lse)
    _launch("attention_queries", n, n.queries, dtype, g, out, lse, q, k, v, mask, gq, delta, n.told, scale)  # fmt: skip
    _launch("attention_keys", n, n.keys, dtype, g, lse, delta, q, k, v, mask, gk, gv, n.told, scale)


def _launch(name: str, n: Sizes, length: int, dtype: str, *args: Any) -> None:
    kernel = _kernel(name, dtype, head(n.dim), cupy.cuda.runtime.getDevice())
    blocks = -(-length // kernel.rows) * n.batch * n.heads
    launch(kernel.function, blocks, THREADS, *args, shared=kernel.shared)
