"""One position through a transformer block: layer norms, products with few rows, attention over the cache, GELU.

A block is two kernels on ranges: of heads, with the rows of the output projection that belong to them, and of
hidden units likewise. Every range writes a summand of the result, so threads meet twice a block only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._activations import _square
from ._compile import kernel
from ._math import exp_negative, normal_cdf, sigmoid

__all__ = ["attend", "feed", "gather", "transformer_step"]


@kernel
def _norm(x: Any, gamma: Any, beta: Any, eps: Any, out: Any) -> None:
    """Write the normalised rows of `x`."""
    n = x.shape[1]
    count, zero = x.dtype.type(n), x.dtype.type(0)
    for r in range(x.shape[0]):
        row, to = x[r], out[r]
        total, squares = zero, zero
        for i in range(n):
            total += row[i]
        mean = total / count
        for i in range(n):
            d = row[i] - mean
            squares += d * d
        rstd = x.dtype.type(1 / math.sqrt(squares / count + eps))
        for i in range(n):
            to[i] = (row[i] - mean) * rstd * gamma[i] + beta[i]


@kernel
def _add_product(
    x: Any, weight: Any, first: int, last: int, start: int, stop: int, out: Any
) -> None:
    """Add columns `start` to `stop` of the product of `x` and `weight` over `first` to `last`.

    Slices of rows, and not of the matrices, because of those Numba knows that elements are neighbours.
    """
    i, rows = first, x.shape[0]
    # The memory is what limits. It is fastest where a weight is read from one end to the other; where rows are
    # read in part, or more than once, eight at a time are, and `out` is written less often.
    whole = last if rows == 1 and stop - start == weight.shape[1] else first
    while i < whole:
        x0, w0, to = x[0, i], weight[i], out[0]
        for j in range(stop):
            to[j] += x0 * w0[j]
        i += 1
    while i + 8 <= last:
        w0, w1 = weight[i, start:stop], weight[i + 1, start:stop]
        w2, w3 = weight[i + 2, start:stop], weight[i + 3, start:stop]
        w4, w5 = weight[i + 4, start:stop], weight[i + 5, start:stop]
        w6, w7 = weight[i + 6, start:stop], weight[i + 7, start:stop]
        for r in range(rows):
            x0, x1, x2, x3 = x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            x4, x5, x6, x7 = x[r, i + 4], x[r, i + 5], x[r, i + 6], x[r, i + 7]
            to = out[r, start:stop]
            for j in range(to.size):
                to[j] += (
                    x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]
                    + x4 * w4[j] + x5 * w5[j] + x6 * w6[j] + x7 * w7[j]
                )  # fmt: skip
        i += 8
    while i < last:
        w0 = weight[i, start:stop]
        for r in range(rows):
            x0, to = x[r, i], out[r, start:stop]
            for j in range(to.size):
                to[j] += x0 * w0[j]
        i += 1


@kernel
def _affine(x: Any, weight: Any, bias: Any, start: int, stop: int, out: Any) -> None:
    """Write columns `start` to `stop` of ``x @ weight + bias``."""
    for r in range(x.shape[0]):
        to = out[r]
        for j in range(start, stop):
            to[j] = bias[j]
    _add_product(x, weight, 0, weight.shape[0], start, stop, out)


@kernel
def _mix(q: Any, keys: Any, values: Any, seen: Any, scores: Any, scale: Any, out: Any) -> None:
    """Write one query's mixture of `values`; zeros if nothing is to be `seen`. Where that is empty, all is."""
    count, dim, everything = scores.size, q.size, seen.size == 0
    zero = q.dtype.type(0)
    top = q.dtype.type(-math.inf)
    for s in range(count):
        t, row = zero, keys[s]
        for d in range(dim):
            t += q[d] * row[d]
        t *= scale
        scores[s] = t
        if (everything or seen[s]) and (t > top or t != t):  # noqa: PLR0124 - true for NaN, which goes on
            top = t
    for d in range(dim):
        out[d] = zero
    total = zero
    for s in range(count):
        if everything or seen[s]:
            e = exp_negative(scores[s] - top)
            total += e
            row = values[s]
            for d in range(dim):
                out[d] += e * row[d]
    if total != 0:
        for d in range(dim):
            out[d] /= total


@kernel
def attend(
    start: int, stop: int, part: int, x: Any, gamma: Any, beta: Any, wq: Any, bq: Any, wk: Any, bk: Any, wv: Any,
    bv: Any, wo: Any, keys: Any, values: Any, seen: Any, at: int, eps: Any, scale: Any, work: Any, out: Any,
) -> None:  # fmt: skip
    """Write ``out[part]``, what heads `start` to `stop` add to the rows of `x`.

    `keys` and `values` are (batch, heads, capacity, dim) and get what belongs to the position `at`; `seen` is
    (batch, capacity), or (batch, 0) where all is to be seen; `work` is (parts, 3, batch, width).
    """
    dim = keys.shape[3]
    a, b = start * dim, stop * dim
    scores = np.empty(at + 1, x.dtype)
    h, q, mixed, to = work[part, 0], work[part, 1], work[part, 2], out[part]
    _norm(x, gamma, beta, eps, h)
    _affine(h, wk, bk, a, b, q)
    _affine(h, wv, bv, a, b, mixed)
    for r in range(x.shape[0]):
        for i in range(start, stop):
            for d in range(dim):
                keys[r, i, at, d] = q[r, i * dim + d]
                values[r, i, at, d] = mixed[r, i * dim + d]
    _affine(h, wq, bq, a, b, q)
    for r in range(x.shape[0]):
        for i in range(start, stop):
            c, d = i * dim, (i + 1) * dim
            _mix(q[r, c:d], keys[r, i], values[r, i], seen[r], scores, scale, mixed[r, c:d])
    for r in range(x.shape[0]):
        to[r, :] = 0
    _add_product(mixed, wo, a, b, 0, wo.shape[1], to)


@kernel
def feed(
    start: int, stop: int, part: int, x: Any, gamma: Any, beta: Any, weight1: Any, bias1: Any, weight2: Any,
    eps: Any, a: Any, b: Any, limit: Any, work: Any, hidden: Any, out: Any,
) -> None:  # fmt: skip
    """Write ``out[part]``, what hidden units `start` to `stop` add to the rows of `x`."""
    h, to = work[part, 0], out[part]
    _norm(x, gamma, beta, eps, h)
    _affine(h, weight1, bias1, start, stop, hidden)
    for r in range(x.shape[0]):
        row = hidden[r]
        if a == 0:
            for j in range(start, stop):
                row[j] *= normal_cdf(row[j])
        else:
            for j in range(start, stop):
                z = row[j]
                row[j] = z * sigmoid(z * (a + b * _square(z, limit)))
        to[r, :] = 0
    _add_product(hidden, weight2, start, stop, 0, weight2.shape[1], to)


@kernel
def gather(x: Any, bias: Any, out: Any) -> None:
    """Add `bias` and what the ranges wrote to the rows of `x`."""
    for r in range(x.shape[0]):
        row = x[r]
        for part in range(out.shape[0]):
            more = out[part, r]
            for j in range(row.size):
                row[j] += more[j]
        for j in range(row.size):
            row[j] += bias[j]


@kernel
def transformer_step(
    x: Any, wq: Any, bq: Any, wk: Any, bk: Any, wv: Any, bv: Any, wo: Any, bo: Any, g1: Any, b1: Any, g2: Any,
    b2: Any, w1: Any, c1: Any, w2: Any, c2: Any, keys: Any, values: Any, seen: Any, at: int, eps: Any, scale: Any,
    a: Any, b: Any, limit: Any,
) -> None:  # fmt: skip
    """Apply a block to the rows of `x` in place, each of its two kernels in one range."""
    batch, width = x.shape
    hidden = w1.shape[1]
    work, out = np.empty((1, 3, batch, width), x.dtype), np.empty((1, batch, width), x.dtype)
    attend(
        0, keys.shape[1], 0, x, g1, b1, wq, bq, wk, bk, wv, bv, wo, keys, values, seen, at, eps, scale, work, out
    )  # fmt: skip
    gather(x, bo, out)
    inner = np.empty((batch, hidden), x.dtype)
    feed(0, hidden, 0, x, g2, b2, w1, c1, w2, eps, a, b, limit, work, inner, out)
    gather(x, c2, out)
