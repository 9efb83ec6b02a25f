"""One more position through a transformer block, and the token that follows, without waiting for the host."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from tinyxp._decode import BlockArrays, Defaults
from tinyxp_cupy._modules import TYPES, kernel, launch

from ._arguments import native

__all__ = ["DecodeKernels"]

Array = Any
_FORMS = {"none": 0, "tanh": 1, "sigmoid": 2}
_THREADS = 256
_ROWS = 4  # of x in a block, as in decode.cu
_KEYS = 128  # positions that a block attends to, as in decode.cu
_SHARED = 40 << 10  # bytes of dynamic shared memory that every GPU has beside what is static here
_MOST_ROWS = 16  # with more sequences the library's products win
_SAMPLING = 512  # threads for a row of logits, as in sampling.cu
_BITS = 62  # of the sum of all weights


class DecodeKernels(Defaults):
    """The step of generation."""

    def transformer_step(
        self,
        x: Array,
        arrays: tuple[Array, ...],
        keys: Array,
        values: Array,
        mask: Array | None,
        *,
        start: int | Array,
        eps: float,
        approximate: str,
    ) -> Array:
        """Apply the block in five launches; the position may stand in device memory."""
        b = BlockArrays(*arrays)
        few = len(x) <= _MOST_ROWS or not isinstance(start, int)  # the default would read `start`
        if not (few and _taken(x, b, keys, values, mask)):
            return super().transformer_step(
                x, arrays, keys, values, mask, start=start, eps=eps, approximate=approximate
            )
        batch, width = x.shape
        heads, capacity, depth = keys.shape[1:]
        hidden, dtype = b.weight1.shape[1], x.dtype.name
        begin, position = _place(start)
        columns = 32 // x.itemsize
        queries, splits = cupy.empty_like(x), -(-capacity // _KEYS)
        rows = _rows(width, batch)
        groups, some = -(-batch // rows), {"shared": 4 * rows * width}
        launch(
            kernel("decode", "step_qkv", dtype), (3 * -(-width // columns), groups), _THREADS,
            x, batch, width, rows, b.gamma1, b.beta1, float(eps), b.q_weight, b.q_bias, b.k_weight, b.k_bias,
            b.v_weight, b.v_bias, queries, keys, values, heads, capacity, begin, position, **some,
        )  # fmt: skip
        partial = cupy.empty((batch * heads, splits, depth + 2), np.float32)
        launch(
            kernel("decode", "step_attention", dtype), (batch * heads, splits), _KEYS,
            queries, keys, values, mask, heads, depth, capacity, begin, position, partial,
            shared=4 * max(depth, _KEYS),
        )  # fmt: skip
        middle, inside, out = cupy.empty_like(x), cupy.empty((batch, hidden), x.dtype), queries
        launch(
            kernel("decode", "step_out", dtype), (-(-width // columns), groups), _THREADS,
            partial, heads, splits, batch, width, rows, b.out_weight, b.out_bias, x, middle, **some,
        )  # fmt: skip
        launch(
            kernel("decode", "step_up", dtype), (-(-hidden // columns), groups), _THREADS,
            middle, batch, width, rows, b.gamma2, b.beta2, float(eps), b.weight1, b.bias1, hidden,
            np.int32(_FORMS[approximate]), inside, **some,
        )  # fmt: skip
        rows = _rows(hidden, batch)
        launch(
            kernel("decode", "step_down", dtype), (-(-width // columns), -(-batch // rows)), _THREADS,
            inside, batch, hidden, rows, b.weight2, b.bias2, middle, width, out, shared=4 * rows * hidden,
        )  # fmt: skip
        return out

    def embed_step(
        self,
        tokens: Array,
        table: Array,
        positions: Array,
        padding: Array | None,
        *,
        start: int | Array,
    ) -> Array:
        """Return the embeddings of token and position, in one launch."""
        whole = all(a is None or a.flags.c_contiguous for a in (tokens, table, positions, padding))
        if not (whole and native(table, positions) and tokens.dtype == np.int64 and tokens.size):
            return super().embed_step(tokens, table, positions, padding, start=start)
        out = cupy.empty((tokens.size, table.shape[1]), table.dtype)
        launch(
            kernel("decode", "embed", table.dtype.name), tokens.size, _THREADS,
            tokens, table, len(table), positions, len(positions), padding, table.shape[1], *_place(start), out,
        )  # fmt: skip
        return out

    def sample(
        self,
        logits: Array,
        key: tuple[int, int] | Array,
        /,
        *,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
    ) -> Array:
        """Return a token for each row, in one launch and without sorting.

        Weights are multiples of ``2**-62 n`` of the largest, n the length of a row; the default adds up
        float64 numbers, so in one draw of many millions they may differ.
        """
        if logits.dtype.name not in TYPES or not logits.size:
            return super().sample(logits, key, temperature=temperature, top_k=top_k, top_p=top_p)
        if logits.strides[1] != logits.itemsize:
            logits = cupy.ascontiguousarray(logits)
        batch, n = logits.shape
        words, drawing = (key, None) if isinstance(key, tuple) else ((0, 0), key)
        out = cupy.empty(batch, np.int64)
        launch(
            kernel("sampling", "sample", logits.dtype.name), batch, _SAMPLING,
            logits, n, logits.strides[0] // logits.itemsize, *map(np.uint32, words), drawing,
            np.float64(temperature), top_k or 0, np.float64(1 if top_p is None else top_p),
            np.int32(_BITS - n.bit_length()), cupy.empty((batch, n), np.uint64), out,
        )  # fmt: skip
        return out

    def advance(self, position: Array, drawing: Array, /) -> None:
        """Go on to the next position and the next draw, in one launch."""
        launch(kernel("sampling", "advance_step"), 1, 32, position, drawing)


def _place(start: int | Array) -> tuple[int, Array | None]:
    """Return a position as a number, and where else it stands."""
    return (start, None) if isinstance(start, int) else (0, start)


def _rows(depth: int, batch: int) -> int:
    """Return with how many rows of so many elements a block works."""
    return max(1, min(_ROWS, batch, _SHARED // (4 * depth)))


def _taken(x: Array, b: BlockArrays, keys: Array, values: Array, mask: Array | None) -> bool:
    """Whether the kernels can do it: all in C order, of one type, and rows that fit into shared memory."""
    depth = keys.shape[3]
    visible = mask is None or (
        mask.dtype == np.bool_
        and mask.flags.c_contiguous
        and mask.shape == (x.shape[0], 1, 1, keys.shape[2])
    )
    return (
        visible
        and native(x, *b, keys, values)
        and all(a.flags.c_contiguous for a in (x, *b, keys, values))
        and 4 * max(x.shape[1], b.weight1.shape[1], depth) <= _SHARED
    )
