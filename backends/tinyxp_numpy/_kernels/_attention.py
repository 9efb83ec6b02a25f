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
from ._compile import inline, kernel, kernel_for_any_layout
from ._math import exp_negative, largest

__all__ = ["ROWS", "attend", "attend_vjp", "attention", "attention_vjp"]

ROWS = 64  # queries in a block


@inline
def _seen(i: int, m: int, offset: int, causal: bool) -> int:
    """Return how many keys query `i` may look at."""
    return max(0, min(m, i + offset + 1)) if causal else m


@kernel
def attend(
    product: int, q: Any, k: Any, v: Any, added: Any, masked: bool, causal: bool, scale: Any, scores: Any, inverse: Any,
    out: Any, lse: Any,
) -> None:  # fmt: skip
    """Write the attention of one head, and the logarithm of each row's sum of exponentials.

    `q`, `out`: (T, …); `k`, `v`: (S, …); `added`: (T, S) where `masked`; `lse`: (T,). `scores`, (rows, S), and
    `inverse`, (rows,), are for what comes in between.
    """
    length, keys, rows = q.shape[0], k.shape[0], scores.shape[0]
    offset = keys - length
    one, zero = q.dtype.type(1), q.dtype.type(0)
    nothing = q.dtype.type(-np.inf)
    for begin in range(0, length, rows):
        end = min(length, begin + rows)
        m = _seen(end - 1, keys, offset, causal)
        s = scores[: end - begin, :m]
        gemm(product, False, True, scale, q[begin:end], k[:m], zero, s)
        for i in range(begin, end):
            row, n = scores[i - begin], _seen(i, m, offset, causal)
            if masked:
                more = added[i]
                for j in range(n):
                    row[j] += more[j]
            top = largest(row, n) if n > 0 else nothing
            if top == nothing:
                row[:m] = zero
                lse[i], inverse[i - begin] = nothing, zero
                continue
            total = zero
            for j in range(n):
                e = exp_negative(row[j] - top)
                row[j] = e
                total += e
            row[n:m] = zero
            lse[i] = top + q.dtype.type(math.log(total))
            inverse[i - begin] = one / total
        gemm(product, False, False, one, s, v[:m], zero, out[begin:end])
        for i in range(begin, end):
            to, factor = out[i], inverse[i - begin]
            for j in range(to.size):
                to[j] = to[j] * factor if m > 0 else zero


@kernel
def attend_vjp(
    product: int, g: Any, out: Any, lse: Any, q: Any, k: Any, v: Any, added: Any, masked: bool, causal: bool, scale: Any,
    scores: Any, slopes: Any, gq: Any, gk: Any, gv: Any,
) -> None:  # fmt: skip
    """Write the cotangents of `q`, `k` and `v` of one head; shapes as in `attend`, of `slopes` as of `scores`."""
    length, keys, rows = q.shape[0], k.shape[0], scores.shape[0]
    offset = keys - length
    one, zero = q.dtype.type(1), q.dtype.type(0)
    nothing = q.dtype.type(-np.inf)
    # From the last block, which sees all keys and so writes what the others add to.
    for block in range((length - 1) // rows, -1, -1):
        begin, end = block * rows, min(length, block * rows + rows)
        beta = zero if end == length else one
        m = _seen(end - 1, keys, offset, causal)
        s, d = scores[: end - begin, :m], slopes[: end - begin, :m]
        queries, given = q[begin:end], g[begin:end]
        gemm(product, False, True, scale, queries, k[:m], zero, s)
        gemm(product, False, True, one, given, v[:m], zero, d)
        for i in range(begin, end):
            row, slope, n = scores[i - begin], slopes[i - begin], _seen(i, m, offset, causal)
            total = lse[i]
            if total == nothing:
                row[:m] = zero
                slope[:m] = zero
                continue
            if masked:
                more = added[i]
                for j in range(n):
                    row[j] += more[j]
            at, y = g[i], out[i]
            dot = zero
            for j in range(y.size):
                dot += at[j] * y[j]
            for j in range(n):
                p = exp_negative(row[j] - total)
                row[j] = p
                slope[j] = p * (slope[j] - dot) * scale
            row[n:m] = zero
            slope[n:m] = zero
        gemm(product, True, False, one, s, given, beta, gv[:m])
        gemm(product, True, False, one, d, queries, beta, gk[:m])
        if m > 0:
            gemm(product, False, False, one, d, k[:m], zero, gq[begin:end])
        else:
            gq[begin:end] = zero


@kernel_for_any_layout(
    "int", "4", "4", "4", "4!", "bool", "bool", "real", "4", "3c"
)  # fmt: skip
def attention(
    start: int, stop: int, part: int, product: int, q: Any, k: Any, v: Any, mask: Any, masked: bool,
    causal: bool, scale: Any, out: Any, lse: Any,
) -> None:  # fmt: skip
    """Do `attend` for heads `start` to `stop`: arrays have the axes batch and heads in front."""
    heads, rows = q.shape[1], min(ROWS, q.shape[2])
    scores, inverse = np.empty((rows, k.shape[2]), q.dtype), np.empty(rows, q.dtype)
    for item in range(start, stop):
        b, h = item // heads, item % heads
        attend(
            product, q[b, h], k[b, h], v[b, h], mask[b, h], masked, causal, scale, scores, inverse, out[b, h], lse[b, h]
        )  # fmt: skip


@kernel_for_any_layout(
    "int", "4", "4", "3c", "4", "4", "4", "4!", "bool", "bool", "real", "4", "4", "4"
)  # fmt: skip
def attention_vjp(
    start: int, stop: int, part: int, product: int, g: Any, out: Any, lse: Any, q: Any, k: Any, v: Any,
    mask: Any, masked: bool, causal: bool, scale: Any, gq: Any, gk: Any, gv: Any,
) -> None:  # fmt: skip
    """Do `attend_vjp` for heads `start` to `stop`: arrays have the axes batch and heads in front."""
    heads, rows = q.shape[1], min(ROWS, q.shape[2])
    scores, slopes = np.empty((rows, k.shape[2]), q.dtype), np.empty((rows, k.shape[2]), q.dtype)
    for item in range(start, stop):
        b, h = item // heads, item % heads
        attend_vjp(
            product, g[b, h], out[b, h], lse[b, h], q[b, h], k[b, h], v[b, h], mask[b, h], masked, causal, scale,
            scores, slopes, gq[b, h], gk[b, h], gv[b, h],
        )  # fmt: skip
