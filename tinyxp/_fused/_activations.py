"""Pointwise and softmax activations: ``gelu``, ``silu``, ``softmax``, ``log_softmax``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._base import Array, Operations
from ._half import forward_in_float32, in_float32, vjp_in_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["GELU_FORMS", "ActivationOperations", "gelu", "log_softmax", "silu", "softmax", "swiglu"]

# Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415, section 2
SCALE = math.sqrt(2 / math.pi)
CUBIC = 0.044715
SLOPE = 1.702


# ---------------------------------------------------------------- composites
def _sigmoid(xp: Any, x: Array) -> Array:
    # by tanh: smooth everywhere, so it can be differentiated twice, and it never overflows
    return 0.5 + 0.5 * xp.tanh(0.5 * x)


def _gate_tanh(xp: Any, x: Array) -> Array:
    return 0.5 + 0.5 * xp.tanh(SCALE * (x + CUBIC * x * x * x))


def _gate_none(xp: Any, x: Array) -> Array:
    return 0.5 + 0.5 * xp.erf(x * math.sqrt(0.5))


def _gate_sigmoid(xp: Any, x: Array) -> Array:
    return _sigmoid(xp, SLOPE * x)


GELU_FORMS: dict[str, Callable[[Any, Array], Array]] = {
    "tanh": _gate_tanh,
    "none": _gate_none,
    "sigmoid": _gate_sigmoid,
}


@in_float32
def gelu(xp: Any, x: Array, *, approximate: str) -> Array:
    """Compute the Gaussian error linear unit, x times a gate that grows from 0 to 1.

    Parameters
    ----------
    xp : namespace
        Namespace of `x`.
    x : array, shape (…)
    approximate : {"tanh", "none", "sigmoid"}
        The gate: ``(1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2``, the normal distribution function
        itself, or ``sigmoid(1.702 x)`` (arXiv:1606.08415, section 2).

    Returns
    -------
    array, shape (…)
    """
    return x * GELU_FORMS[approximate](xp, x)


@in_float32
def silu(xp: Any, x: Array) -> Array:
    """Compute ``x * sigmoid(x)`` (the "swish" of arXiv:1710.05941 with beta 1)."""
    return x * _sigmoid(xp, x)


@in_float32
def swiglu(xp: Any, x: Array, y: Array) -> Array:
    """Compute ``silu(x) * y``, for `x` and `y` of one shape (N. Shazeer, arXiv:2002.05202, equation 5)."""
    return silu(xp, x) * y


@in_float32
def softmax(xp: Any, x: Array, *, axis: int) -> Array:
    """Compute ``exp(x) / sum(exp(x))`` along `axis`, shifted by the maximum against overflow."""
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


@in_float32
def log_softmax(xp: Any, x: Array, *, axis: int) -> Array:
    """Compute ``x - log(sum(exp(x)))`` along `axis`, shifted by the maximum against overflow."""
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


# ---------------------------------------------------------------- raw gates and their slopes
# gate(xp, x), and slope(xp, x, gate) = x * d gate / d x; both return an array of their own
def _stable_sigmoid(xp: Any, x: Array) -> Array:
    e = xp.exp(-xp.abs(x))
    top = xp.where(x < 0, e, xp.ones_like(e))
    e += 1
    top /= e
    return top


def _fast_gate_tanh(xp: Any, x: Array) -> Array:
    u = x * x
    u *= CUBIC * SCALE
    u += SCALE
    u *= x
    gate = xp.tanh(u)
    gate *= 0.5
    gate += 0.5
    return gate


def _slope_tanh(xp: Any, x: Array, gate: Array) -> Array:  # noqa: ARG001 - one signature for all
    s = x * x
    s *= 6 * CUBIC * SCALE
    s += 2 * SCALE
    s *= x
    s *= gate
    s *= 1 - gate
    return s


def _slope_none(xp: Any, x: Array, gate: Array) -> Array:  # noqa: ARG001 - one signature for all
    s = xp.exp(-0.5 * x * x)
    s *= x
    s *= 1 / math.sqrt(2 * math.pi)
    return s


def _slope_logistic(scale: float) -> Callable[[Any, Array, Array], Array]:
    def slope(xp: Any, x: Array, gate: Array) -> Array:  # noqa: ARG001 - one signature for all
        s = scale * x
        s *= gate
        s *= 1 - gate
        return s

    return slope


_FAST_GATE = {
    "tanh": _fast_gate_tanh,
    "none": _gate_none,
    "sigmoid": lambda xp, x: _stable_sigmoid(xp, SLOPE * x),
    "silu": _stable_sigmoid,
}
_SLOPE = {
    "tanh": _slope_tanh,
    "none": _slope_none,
    "sigmoid": _slope_logistic(SLOPE),
    "silu": _slope_logistic(1.0),
}


class ActivationOperations(Operations):
    """Fused activations on raw arrays."""

    @forward_in_float32
    def gelu(self, x: Array, *, approximate: str) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(x * gate, (gate,))``."""
        gate = _FAST_GATE[approximate](self.xp, x)
        return x * gate, (gate,)

    @vjp_in_float32
    def gelu_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],
        x: Array,
        *,
        needs: Sequence[bool],  # noqa: ARG002 - one argument, asked for
        approximate: str,
    ) -> tuple[Array | None, ...]:
        """Return ``(g * (gate + x * gate'),)``."""
        s = _SLOPE[approximate](self.xp, x, aux[0])
        s += aux[0]
        s *= g
        return (s,)

    def silu(self, x: Array) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(x * sigmoid(x), (sigmoid(x),))``."""
        return self.gelu(x, approximate="silu")

    def silu_vjp(
        self, g: Array, out: Array, aux: tuple[Array, ...], x: Array, *, needs: Sequence[bool]
    ) -> tuple[Array | None, ...]:
        """Return the cotangent of `x`."""
        return self.gelu_vjp(g, out, aux, x, needs=needs, approximate="silu")

    @forward_in_float32
    def swiglu(self, x: Array, y: Array) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(x * sigmoid(x) * y, (sigmoid(x),))``."""
        gate = _stable_sigmoid(self.xp, x)
        return x * gate * y, (gate,)

    @vjp_in_float32
    def swiglu_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],
        x: Array,
        y: Array,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x` and `y`."""
        gx = gy = None
        if needs[0]:
            gx = _SLOPE["silu"](self.xp, x, aux[0])
            gx += aux[0]
            gx *= g
            gx *= y
        if needs[1]:
            gy = g * x
            gy *= aux[0]
        return gx, gy

    @forward_in_float32
    def softmax(self, x: Array, *, axis: int) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(softmax of x along axis, ())``."""
        xp = self.xp
        e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
        e /= xp.sum(e, axis=axis, keepdims=True)
        return e, ()

    @vjp_in_float32
    def softmax_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Array, ...],  # noqa: ARG002 - nothing kept
        x: Array,  # noqa: ARG002 - not read
        *,
        needs: Sequence[bool],  # noqa: ARG002 - one argument, asked for
        axis: int,
    ) -> tuple[Array | None, ...]:
        """Return ``(out * (g - sum(g * out)),)``."""
        xp = self.xp
        gx = g * out
        gx -= out * xp.sum(gx, axis=axis, keepdims=True)
        return (gx,)

    @forward_in_float32
    def log_softmax(self, x: Array, *, axis: int) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(log of softmax of x along axis, ())``."""
        xp = self.xp
        out = x - xp.max(x, axis=axis, keepdims=True)
        out -= xp.log(xp.sum(xp.exp(out), axis=axis, keepdims=True))
        return out, ()

    @vjp_in_float32
    def log_softmax_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Array, ...],  # noqa: ARG002 - nothing kept
        x: Array,  # noqa: ARG002 - not read
        *,
        needs: Sequence[bool],  # noqa: ARG002 - one argument, asked for
        axis: int,
    ) -> tuple[Array | None, ...]:
        """Return ``(g - softmax * sum(g),)``."""
        xp = self.xp
        p = xp.exp(out)
        p *= xp.sum(g, axis=axis, keepdims=True)
        return (g - p,)
