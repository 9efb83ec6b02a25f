"""Kernels of the gated activations: x times a gate, with or without a bias in front.

Three of the four gates are ``sigmoid(x (a + b x**2))``: GELU's tanh form by tanh(u) = 2 sigmoid(2 u) - 1, its
sigmoid form and SiLU with b = 0. The fourth is the normal distribution function.
"""

from __future__ import annotations

import math
from typing import Any

from ._compile import inline, kernel
from ._math import exp_negative, normal_cdf, sigmoid

__all__ = ["COEFFICIENTS", "bias_gate", "bias_gate_vjp", "swiglu", "swiglu_vjp"]

_TWICE_SCALE = 2 * math.sqrt(2 / math.pi)  # arXiv:1606.08415, section 2
COEFFICIENTS = {
    "tanh": (_TWICE_SCALE, 0.044715 * _TWICE_SCALE),
    "sigmoid": (1.702, 0.0),
    "silu": (1.0, 0.0),
    "none": (0.0, 0.0),  # the normal distribution function
}


@inline
def _square(x: Any, limit: Any) -> Any:
    """Return x**2, finite where x is infinite, so that 0 times it is 0."""
    s = x * x
    return limit if s > limit else s


@kernel
def bias_gate(
    start: int, stop: int, part: int, x: Any, bias: Any, out: Any, a: Any, b: Any, limit: Any
) -> None:
    """Write ``z gate(z)``, ``z = x + bias``, into rows `start` to `stop` of `out`."""
    n = x.shape[1]
    if a == 0:
        for i in range(start, stop):
            row, to = x[i], out[i]
            for j in range(n):
                z = row[j] + bias[j]
                to[j] = z * normal_cdf(z)
        return
    for i in range(start, stop):
        row, to = x[i], out[i]
        for j in range(n):
            z = row[j] + bias[j]
            to[j] = z * sigmoid(z * (a + b * _square(z, limit)))


@kernel
def bias_gate_vjp(
    start: int, stop: int, part: int, g: Any, x: Any, bias: Any, gbias: Any, a: Any, b: Any, limit: Any
) -> None:  # fmt: skip
    """Turn rows of `g` into the cotangent of `x`, in place, and add their sum to ``gbias[part]``.

    In place, because a loop over arrays that may overlap is compiled twice, and the slow form is taken where
    they do.
    """
    one = x.dtype.type(1)
    n = x.shape[1]
    total = gbias[part]
    for i in range(start, stop):
        row, to = x[i], g[i]
        if a == 0:
            half = x.dtype.type(0.5)
            density = x.dtype.type(1 / math.sqrt(2 * math.pi))
            for j in range(n):
                z = row[j] + bias[j]
                to[j] *= normal_cdf(z) + z * density * exp_negative(-half * z * z)
        else:
            three = x.dtype.type(3)
            for j in range(n):
                z = row[j] + bias[j]
                s = _square(z, limit)
                gate = sigmoid(z * (a + b * s))
                to[j] *= gate + z * (a + three * b * s) * gate * (one - gate)
        for j in range(n):
            total[j] += to[j]


@kernel
def swiglu(start: int, stop: int, part: int, x: Any, y: Any, out: Any) -> None:
    """Write ``x sigmoid(x) y`` for the elements `start` to `stop`."""
    for i in range(start, stop):
        out[i] = x[i] * sigmoid(x[i]) * y[i]


@kernel
def swiglu_vjp(start: int, stop: int, part: int, g: Any, x: Any, y: Any, gx: Any, gy: Any) -> None:
    """Write both cotangents of the elements `start` to `stop`."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        gate = sigmoid(x[i])
        gx[i] = g[i] * y[i] * (gate + x[i] * gate * (one - gate))
        gy[i] = g[i] * x[i] * gate
