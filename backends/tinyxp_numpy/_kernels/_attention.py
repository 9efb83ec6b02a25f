"""Attention in blocks of queries: no array is larger than a block of them times all keys.

The masked half is neither computed nor stored. The backward pass makes the probabilities again from the
logarithm of their sum (the arrangement of T. Dao and others, "FlashAttention", arXiv:2205.14135, appendix B,
with whole rows of scores: a block of them fits a processor's cache, so they need not be made piece by piece).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._blas import gemm
from ._compile import inline, kernel_for_any_layout
from ._math import exp_negative, largest

__all__ = ["attention", "attention_vjp"]

_ROWS = 64  # queries in a block


@inline
def _seen(i: int, m: int, offset: int, causal: bool) -> int:
    """Return how many keys query `i` may look at."""
    return max(0, min(m, i + offset + 1)) if causal else m


@kernel_for_any_layout(
    "int", "4", "4", "4", "4!", "bool", "bool", "real", "4", "3"
)  # fmt: skip
def attention(
    start: int, stop: int, part: int, product: int, q: Any, k: Any, v: Any, mask: Any, masked: bool,
    causal: bool, scale: Any, out: Any, lse: Any,
) -> None:  # fmt: skip
    """Write the attention of heads `start` to `stop`, and the logarithm of each row's sum of exponentials.

    `q`, `out`: (batch, heads, T, …); `k`, `v`: (batch, heads, S, …); `lse`: (batch, heads, T).
    """
    heads, length, keys = q.shape[1], q.shape[2], k.shape[2]
    offset = keys - length
    one, zero = q.dtype.type(1), q.dtype.type(0)
    nothing = q.dtype.type(-np.inf)
    rows = min(_ROWS, length)
    scores, inverse = np.empty((rows, keys), q.dtype), np.empty(rows, q.dtype)
    for item in range(start, stop):
        b, h = item // heads, item % heads
        for begin in range(0, length, rows):
            end = min(length, begin + rows)
            m = _seen(end - 1, keys, offset, causal)
            s = scores[: end - begin, :m]
            gemm(product, False, True, scale, q[b, h, begin:end], k[b, h, :m], zero, s)
            for i in range(begin, end):
                row, n = scores[i - begin], _seen(i, m, offset, causal)
                if masked:
                    added = mask[b, h, i]
                    for j in range(n):
                        row[j] += added[j]
                top = largest(row, n) if n > 0 else nothing
                if top == nothing:
                    row[:m] = zero
                    lse[b, h, i], inverse[i - begin] = nothing, zero
                    continue
                total = zero
                for j in range(n):
                    e = exp_negative(row[j] - top)
                    row[j] = e
                    total += e
                row[n:m] = zero
                lse[b, h, i] = top + q.dtype.type(math.log(total))
                inverse[i - begin] = one / total
            gemm(product, False, False, one, s, v[b, h, :m], zero, out[b, h, begin:end])
            for i in range(begin, end):
                to, factor = out[b, h, i], inverse[i - begin]
                for j in range(to.size):
                    to[j] = to[j] * factor if m > 0 else zero


@kernel_for_any_layout(
    "int", "4", "4", "3", "4", "4", "4", "4!", "bool", "bool", "real", "4", "4", "4"
)  # fmt: skip
def attention_vjp(
    start: int, stop: int, part: int, product: int, g: Any, out: Any, lse: Any, q: Any, k: Any, v: Any,
    mask: Any, masked: bool, causal: bool, scale: Any, gq: Any, gk: Any, gv: Any,
) -> None:  # fmt: skip
    """Write the cotangents of `q`, `k` and `v` for heads `start` to `stop`; shapes as in `attention`."""
    heads, length, keys = q.shape[1], q.shape[2], k.shape[2]
    offset = keys - length
    one, zero = q.dtype.type(1), q.dtype.type(0)
    nothing = q.dtype.type(-np.inf)
    rows = min(_ROWS, length)
    scores, slopes = np.empty((rows, keys), q.dtype), np.empty((rows, keys), q.dtype)
    for item in range(start, stop):
        b, h = item // heads, item % heads
        # From the last block, which sees all keys and so writes what the others add to.
        for block in range((length - 1) // rows, -1, -1):
            begin, end = block * rows, min(length, block * rows + rows)
            beta = zero if end == length else one
            m = _seen(end - 1, keys, offset, causal)
            s, d = scores[: end - begin, :m], slopes[: end - begin, :m]
            queries, given = q[b, h, begin:end], g[b, h, begin:end]
            gemm(product, False, True, scale, queries, k[b, h, :m], zero, s)
            gemm(product, False, True, one, given, v[b, h, :m], zero, d)
            for i in range(begin, end):
                row, slope, n = scores[i - begin], slopes[i - begin], _seen(i, m, offset, causal)
                total = lse[b, h, i]
                if total == nothing:
                    row[:m] = zero
                    slope[:m] = zero
                    continue
                if masked:
                    added = mask[b, h, i]
                    for j in range(n):
                        row[j] += added[j]
                at, y = g[b, h, i], out[b, h, i]
                dot = zero
                for j in range(y.size):
                    dot += at[j] * y[j]
                for j in range(n):
                    p = exp_negative(row[j] - total)
                    row[j] = p
                    slope[j] = p * (slope[j] - dot) * scale
                row[n:m] = zero
                slope[n:m] = zero
            gemm(product, True, False, one, s, given, beta, gv[b, h, :m])
            gemm(product, True, False, one, d, queries, beta, gk[b, h, :m])
            if m > 0:
                gemm(product, False, False, one, d, k[b, h, :m], zero, gq[b, h, begin:end])
            else:
                gq[b, h, begin:end] = zero
