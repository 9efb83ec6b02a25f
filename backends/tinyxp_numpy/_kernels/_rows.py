"""Kernels that work on rows: normalisation, softmax, cross-entropy, column sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._compile import inline, kernel
from ._math import exp_negative, largest

__all__ = [
    "add_bias",
    "column_sums",
    "cross_entropy",
    "cross_entropy_vjp",
    "layer_norm",
    "layer_norm_vjp",
    "log_softmax",
    "log_softmax_vjp",
    "rms_norm",
    "rms_norm_vjp",
    "rotary",
    "softmax",
    "softmax_vjp",
]


# ---------------------------------------------------------------- affine
@kernel
def add_bias(start: int, stop: int, part: int, x: Any, bias: Any) -> None:
    """Add `bias` to rows of `x`, in place."""
    n = x.shape[1]
    for i in range(start, stop):
        row = x[i]
        for j in range(n):
            row[j] += bias[j]


@kernel
def column_sums(start: int, stop: int, part: int, x: Any, sums: Any) -> None:
    """Add rows of `x` to ``sums[part]``."""
    n, total = x.shape[1], sums[part]
    i = start
    while i + 4 <= stop:  # four rows at a time: the sums are read and written once for all
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(n):
            total[j] += (a[j] + b[j]) + (c[j] + d[j])
        i += 4
    while i < stop:
        a = x[i]
        for j in range(n):
            total[j] += a[j]
        i += 1


# ---------------------------------------------------------------- normalisation
@inline
def _inverse_root(x: Any) -> Any:
    """Return ``1 / sqrt(x)``: 0 for infinity, where the processor's estimate refined by a step gives NaN."""
    r = 1 / np.sqrt(x)
    if x == np.inf:
        r = 1 / x
    return r


@kernel
def layer_norm(
    start: int, stop: int, part: int, x: Any, gamma: Any, beta: Any, out: Any, mean: Any, rstd: Any, eps: Any
) -> None:  # fmt: skip
    """Normalise rows of `x`; keep the mean and the reciprocal deviation of each."""
    n, zero, count = x.shape[1], x.dtype.type(0), x.dtype.type(x.shape[1])
    for i in range(start, stop):
        row, to = x[i], out[i]
        m = zero
        for j in range(n):
            m += row[j]
        m /= count
        v = zero
        for j in range(n):
            d = row[j] - m
            v += d * d
        r = x.dtype.type(_inverse_root(v / count + eps))
        for j in range(n):
            to[j] = (row[j] - m) * r * gamma[j] + beta[j]
        mean[i] = m
        rstd[i] = r


@kernel
def layer_norm_vjp(
    start: int, stop: int, part: int, g: Any, x: Any, gamma: Any, mean: Any, rstd: Any, residual: Any,
    gx: Any, ggamma: Any, gbeta: Any,
) -> None:  # fmt: skip
    """Write the cotangents of rows of `x`; add those of `gamma` and `beta` to ``ggamma[part]``, ``gbeta[part]``.

    Rows of `residual` are added to the cotangents of `x`, unless it is empty.
    """
    n, zero = x.shape[1], x.dtype.type(0)
    count = x.dtype.type(x.shape[1])
    to_gamma, to_beta = ggamma[part], gbeta[part]
    for i in range(start, stop):
        row, at, to, m, r = x[i], g[i], gx[i], mean[i], rstd[i]
        a = b = zero
        for j in range(n):
            h = (row[j] - m) * r
            s = at[j] * gamma[j]
            to_gamma[j] += at[j] * h
            to_beta[j] += at[j]
            a += s
            b += s * h
        a /= count
        b /= count
        if residual.size > 0:
            more = residual[i]
            for j in range(n):
                to[j] = more[j] + r * (at[j] * gamma[j] - a - (row[j] - m) * r * b)
        else:
            for j in range(n):
                to[j] = r * (at[j] * gamma[j] - a - (row[j] - m) * r * b)


@kernel
def rms_norm(
    start: int, stop: int, part: int, x: Any, gamma: Any, out: Any, rstd: Any, eps: Any
) -> None:
    """Divide rows of `x` by their root mean square; keep its reciprocal."""
    n, zero, count = x.shape[1], x.dtype.type(0), x.dtype.type(x.shape[1])
    for i in range(start, stop):
        row, to = x[i], out[i]
        v = zero
        for j in range(n):
            v += row[j] * row[j]
        r = x.dtype.type(_inverse_root(v / count + eps))
        for j in range(n):
            to[j] = row[j] * r * gamma[j]
        rstd[i] = r


@kernel
def rms_norm_vjp(
    start: int, stop: int, part: int, g: Any, x: Any, gamma: Any, rstd: Any, gx: Any, ggamma: Any
) -> None:
    """Write the cotangents of rows of `x`; add that of `gamma` to ``ggamma[part]``."""
    n, zero = x.shape[1], x.dtype.type(0)
    count = x.dtype.type(x.shape[1])
    to_gamma = ggamma[part]
    for i in range(start, stop):
        row, at, to, r = x[i], g[i], gx[i], rstd[i]
        b = zero
        for j in range(n):
            h = row[j] * r
            to_gamma[j] += at[j] * h
            b += at[j] * gamma[j] * h
        b /= count
        for j in range(n):
            to[j] = r * (at[j] * gamma[j] - row[j] * r * b)


# ---------------------------------------------------------------- rotation
@kernel
def rotary(
    start: int, stop: int, part: int, x: Any, cos: Any, sin: Any, sign: Any, out: Any
) -> None:
    """Turn pairs of elements of rows of `x`, whose positions repeat, by the angles times `sign`."""
    half, length = x.shape[1] // 2, cos.shape[0]
    for i in range(start, stop):
        row, to, c, s = x[i], out[i], cos[i % length], sin[i % length]
        for j in range(half):
            to[j] = row[j] * c[j] - row[half + j] * s[j] * sign
            to[half + j] = row[half + j] * c[j] + row[j] * s[j] * sign


# ---------------------------------------------------------------- softmax
@kernel
def softmax(start: int, stop: int, part: int, x: Any, out: Any) -> None:
    """Write the softmax of rows of `x`."""
    n, zero, one = x.shape[1], x.dtype.type(0), x.dtype.type(1)
    for i in range(start, stop):
        row, to = x[i], out[i]
        top = largest(row, n)
        total = zero
        for j in range(n):
            e = exp_negative(row[j] - top)
            to[j] = e
            total += e
        factor = one / total
        for j in range(n):
            to[j] *= factor


@kernel
def softmax_vjp(start: int, stop: int, part: int, g: Any, y: Any, gx: Any) -> None:
    """Write ``y (g - sum(g y))`` for rows of the softmax `y`."""
    n, zero = y.shape[1], y.dtype.type(0)
    for i in range(start, stop):
        row, at, to = y[i], g[i], gx[i]
        dot = zero
        for j in range(n):
            dot += at[j] * row[j]
        for j in range(n):
            to[j] = row[j] * (at[j] - dot)


@kernel
def log_softmax(start: int, stop: int, part: int, x: Any, out: Any) -> None:
    """Write the logarithm of the softmax of rows of `x`."""
    n, zero = x.shape[1], x.dtype.type(0)
    for i in range(start, stop):
        row, to = x[i], out[i]
        top = largest(row, n)
        total = zero
        for j in range(n):
            total += exp_negative(row[j] - top)
        total = x.dtype.type(math.log(total))
        for j in range(n):
            to[j] = (row[j] - top) - total


@kernel
def log_softmax_vjp(start: int, stop: int, part: int, g: Any, y: Any, gx: Any) -> None:
    """Write ``g - exp(y) sum(g)`` for rows of the log-softmax `y`."""
    n, zero = y.shape[1], y.dtype.type(0)
    for i in range(start, stop):
        row, at, to = y[i], g[i], gx[i]
        total = zero
        for j in range(n):
            total += at[j]
        for j in range(n):
            to[j] = at[j] - exp_negative(row[j]) * total


# ---------------------------------------------------------------- cross-entropy
@kernel
def cross_entropy(
    start: int, stop: int, part: int, logits: Any, targets: Any, lse: Any, loss: Any, ignore: int, smoothing: Any
) -> None:  # fmt: skip
    """Write for each row the logarithm of its sum of exponentials, and its loss: 0 where it is ignored."""
    n, zero = logits.shape[1], logits.dtype.type(0)
    one, count = logits.dtype.type(1), logits.dtype.type(logits.shape[1])
    for i in range(start, stop):
        row = logits[i]
        top = largest(row, n)
        total = zero
        for j in range(n):
            total += exp_negative(row[j] - top)
        total = top + logits.dtype.type(math.log(total))
        lse[i] = total
        if targets[i] == ignore:
            loss[i] = zero
            continue
        value = total - (one - smoothing) * row[targets[i]]
        if smoothing != zero:
            mean = zero
            for j in range(n):
                mean += row[j]
            value -= smoothing * mean / count
        loss[i] = value


@kernel
def cross_entropy_vjp(
    start: int, stop: int, part: int, scale: Any, logits: Any, targets: Any, lse: Any, gx: Any, ignore: int, smoothing: Any
) -> None:  # fmt: skip
    """Write ``(softmax - target distribution) scale`` for rows of the logits."""
    n, zero = logits.shape[1], logits.dtype.type(0)
    one, spread = logits.dtype.type(1), smoothing / logits.dtype.type(logits.shape[1])
    for i in range(start, stop):
        row, to, total = logits[i], gx[i], lse[i]
        if targets[i] == ignore:
            for j in range(n):
                to[j] = zero
            continue
        for j in range(n):
            # the exponent is at most rounding above 0
            d = row[j] - total
            to[j] = (exp_negative(zero if d > zero else d) - spread) * scale
        to[targets[i]] -= (one - smoothing) * scale
