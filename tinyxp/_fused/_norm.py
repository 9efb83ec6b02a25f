"""Normalisation over the last axes: ``layer_norm`` and ``rms_norm``."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._base import Array, Operations, rows
from ._half import forward_in_float32, in_float32, vjp_in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NormOperations", "layer_norm", "rms_norm"]


@in_float32
def layer_norm(xp: Any, x: Array, gamma: Array, beta: Array | None, *, eps: float) -> Array:
    """Normalise to mean 0 and variance 1, then scale and shift.

    ``(x - mean) / sqrt(variance + eps) * gamma + beta`` with the biased variance (Ba, Kiros and Hinton,
    "Layer Normalization", arXiv:1607.06450, equation 4).

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    x : array, shape (…, *normalized)
    gamma : array, shape (*normalized)
        Its axes are the ones normalised over, together.
    beta : array, shape (*normalized), or None
    eps : float
        Added to the variance, in the square of the unit of `x`.

    Returns
    -------
    array, shape (…, *normalized)
    """
    axes = tuple(range(-gamma.ndim, 0))
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    variance = xp.mean(centred * centred, axis=axes, keepdims=True)
    out = centred / xp.sqrt(variance + eps) * gamma
    return out if beta is None else out + beta


@in_float32
def rms_norm(xp: Any, x: Array, gamma: Array, *, eps: float) -> Array:
    """Divide by the root mean square, then scale.

    ``x / sqrt(mean(x^2) + eps) * gamma`` (Zhang and Sennrich, "Root Mean Square Layer Normalization",
    arXiv:1910.07467, equation 4, with eps inside the root).

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    x : array, shape (…, *normalized)
    gamma : array, shape (*normalized)
    eps : float
        Added to the mean square, in the square of the unit of `x`.

    Returns
    -------
    array, shape (…, *normalized)
    """
    axes = tuple(range(-gamma.ndim, 0))
    return x / xp.sqrt(xp.mean(x * x, axis=axes, keepdims=True) + eps) * gamma


def _row_mean(xp: Any, x: Array, y: Array) -> Array:
    return xp.expand_dims(xp.vecdot(x, y) / x.shape[1], axis=1)


def _rstd(xp: Any, x: Array, eps: float) -> Array:
    return 1 / xp.sqrt(_row_mean(xp, x, x) + eps)


class NormOperations(Operations):
    """Fused normalisations on raw arrays; what is kept is one or two numbers a row."""

    @forward_in_float32
    def layer_norm(
        self, x: Array, gamma: Array, beta: Array | None, *, eps: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the normalised rows and ``(mean, 1 / standard deviation)`` of each."""
        xp, ndim = self.xp, gamma.ndim
        flat = rows(xp, x, ndim)
        mean = xp.mean(flat, axis=1, keepdims=True)
        out = flat - mean
        rstd = _rstd(xp, out, eps)
        out *= rstd
        out = self._affine(out, gamma, beta)
        return xp.reshape(out, x.shape), (mean, rstd)

    def _affine(self, out: Array, gamma: Array, beta: Array | None) -> Array:
        xp = self.xp
        if out.dtype != gamma.dtype:
            out = xp.astype(out, xp.result_type(out, gamma))
        out *= xp.reshape(gamma, (-1,))
        if beta is not None:
            out += xp.reshape(beta, (-1,))
        return out

    @vjp_in_float32
    def layer_norm_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],
        x: Array,
        gamma: Array,
        beta: Array | None,
        *,
        needs: Sequence[bool],
        eps: float,  # noqa: ARG002 - inside aux
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x`, `gamma` and `beta` (arXiv:1607.06450, appendix)."""
        xp, ndim = self.xp, gamma.ndim
        flat = rows(xp, g, ndim)
        mean, rstd = aux
        normal = rows(xp, x, ndim) - mean
        normal *= rstd
        gx = ggamma = gbeta = None
        if needs[1]:
            ggamma = xp.reshape(xp.sum(flat * normal, axis=0), gamma.shape)
        if needs[2] and beta is not None:
            gbeta = xp.reshape(xp.sum(flat, axis=0), beta.shape)
        if needs[0]:
            gx = flat * xp.reshape(gamma, (-1,))
            slope = _row_mean(xp, gx, normal)
            gx -= xp.mean(gx, axis=1, keepdims=True)
            normal *= slope
            gx -= normal
            gx *= rstd
            gx = xp.reshape(gx, x.shape)
        return gx, ggamma, gbeta

    @forward_in_float32
    def rms_norm(self, x: Array, gamma: Array, *, eps: float) -> tuple[Array, tuple[Array, ...]]:
        """Return the normalised rows and ``(1 / root mean square,)`` of each."""
        xp, ndim = self.xp, gamma.ndim
        flat = rows(xp, x, ndim)
        rstd = _rstd(xp, flat, eps)
        out = self._affine(flat * rstd, gamma, None)
        return xp.reshape(out, x.shape), (rstd,)

    @vjp_in_float32
    def rms_norm_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],
        x: Array,
        gamma: Array,
        *,
        needs: Sequence[bool],
        eps: float,  # noqa: ARG002 - inside aux
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x` and `gamma`."""
        xp, ndim = self.xp, gamma.ndim
        flat, (rstd,) = rows(xp, g, ndim), aux
        normal = rows(xp, x, ndim) * rstd
        gx = ggamma = None
        if needs[1]:
            ggamma = xp.reshape(xp.sum(flat * normal, axis=0), gamma.shape)
        if needs[0]:
            gx = flat * xp.reshape(gamma, (-1,))
            normal *= _row_mean(xp, gx, normal)
            gx -= normal
            gx *= rstd
            gx = xp.reshape(gx, x.shape)
        return gx, ggamma
