"""Softmax, normalisation and cross-entropy: operations on rows."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp._fused import Defaults
from tinyxp_numpy import _pool
from tinyxp_numpy._kernels import _rows

from ._arguments import Array, Arrays, native, rows_of, vector

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RowKernels"]


class RowKernels(Defaults):
    """Fused operations on rows."""

    def softmax(self, x: Array, *, axis: int) -> tuple[Array, Arrays]:
        """Return ``(softmax of x along axis, ())``."""
        if not (native(x) and axis in (-1, x.ndim - 1)):
            return super().softmax(x, axis=axis)
        return _by_rows(_rows.softmax, x, 4), ()

    def softmax_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        *,
        needs: Sequence[bool],
        axis: int,
    ) -> tuple[Array | None, ...]:
        """Return ``(out * (g - sum(g * out)),)``."""
        if not (native(g, out) and axis in (-1, out.ndim - 1)):
            return super().softmax_vjp(g, out, aux, x, needs=needs, axis=axis)
        return (_by_rows(_rows.softmax_vjp, g, 2, out),)

    def log_softmax(self, x: Array, *, axis: int) -> tuple[Array, Arrays]:
        """Return ``(log of softmax of x along axis, ())``."""
        if not (native(x) and axis in (-1, x.ndim - 1)):
            return super().log_softmax(x, axis=axis)
        return _by_rows(_rows.log_softmax, x, 4), ()

    def log_softmax_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        *,
        needs: Sequence[bool],
        axis: int,
    ) -> tuple[Array | None, ...]:
        """Return ``(g - softmax * sum(g),)``."""
        if not (native(g, out) and axis in (-1, out.ndim - 1)):
            return super().log_softmax_vjp(g, out, aux, x, needs=needs, axis=axis)
        return (_by_rows(_rows.log_softmax_vjp, g, 4, out),)

    # ------------------------------------------------------------ normalisation
    def layer_norm(
        self, x: Array, gamma: Array, beta: Array | None, *, eps: float
    ) -> tuple[Array, Arrays]:
        """Return the normalised rows and ``(mean, 1 / standard deviation)`` of each."""
        if not (_ends_in(x, gamma, beta) and native(x, gamma, beta)):
            return super().layer_norm(x, gamma, beta, eps=eps)
        n, kind = gamma.size, x.dtype
        flat = rows_of(x, n)
        out, kept = np.empty_like(flat), np.empty((2, flat.shape[0], 1), kind)
        gamma, beta = vector(gamma, n, kind), vector(beta, n, kind)
        mean, rstd = kept[0], kept[1]
        _pool.run(
            _rows.layer_norm, flat.shape[0], 4 * n, flat, gamma, beta, out, mean[:, 0], rstd[:, 0], kind.type(eps)
        )  # fmt: skip
        return out.reshape(x.shape), (mean, rstd)

    def layer_norm_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        gamma: Array,
        beta: Array | None,
        *,
        needs: Sequence[bool],
        eps: float,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x`, `gamma` and `beta`."""
        if not (_ends_in(x, gamma, beta) and native(g, x, gamma, beta)):
            return super().layer_norm_vjp(g, out, aux, x, gamma, beta, needs=needs, eps=eps)
        n = gamma.size
        at, flat = rows_of(g, n), rows_of(x, n)
        gx = np.empty_like(flat)
        parts = _pool.parts_of(flat.shape[0], 6 * n)
        sums, residual = np.zeros((2, parts, n), x.dtype), np.empty((0, 0), x.dtype)
        scale = vector(gamma, n, x.dtype)
        _pool.run(
            _rows.layer_norm_vjp, flat.shape[0], 6 * n, at, flat, scale, aux[0][:, 0], aux[1][:, 0], residual, gx,
            sums[0], sums[1],
        )  # fmt: skip
        ggamma, gbeta = sums[:, 0] if parts == 1 else sums.sum(axis=1)
        return (
            gx.reshape(x.shape) if needs[0] else None,
            ggamma.reshape(gamma.shape) if needs[1] else None,
            gbeta.reshape(gamma.shape) if needs[2] and beta is not None else None,
        )

    def rms_norm(self, x: Array, gamma: Array, *, eps: float) -> tuple[Array, Arrays]:
        """Return the normalised rows and ``(1 / root mean square,)`` of each."""
        if not (_ends_in(x, gamma, None) and native(x, gamma)):
            return super().rms_norm(x, gamma, eps=eps)
        n, kind = gamma.size, x.dtype
        flat = rows_of(x, n)
        out, rstd = np.empty_like(flat), np.empty((flat.shape[0], 1), kind)
        scale = vector(gamma, n, kind)
        _pool.run(
            _rows.rms_norm, flat.shape[0], 4 * n, flat, scale, out, rstd[:, 0], kind.type(eps)
        )
        return out.reshape(x.shape), (rstd,)

    def rms_norm_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        gamma: Array,
        *,
        needs: Sequence[bool],
        eps: float,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x` and `gamma`."""
        if not (_ends_in(x, gamma, None) and native(g, x, gamma)):
            return super().rms_norm_vjp(g, out, aux, x, gamma, needs=needs, eps=eps)
        n = gamma.size
        at, flat = rows_of(g, n), rows_of(x, n)
        gx = np.empty_like(flat)
        sums = np.zeros((_pool.parts_of(flat.shape[0], 6 * n), n), x.dtype)
        scale = vector(gamma, n, x.dtype)
        _pool.run(_rows.rms_norm_vjp, flat.shape[0], 6 * n, at, flat, scale, aux[0][:, 0], gx, sums)
        ggamma = sums.sum(axis=0).reshape(gamma.shape) if needs[1] else None
        return gx.reshape(x.shape) if needs[0] else None, ggamma

    # ------------------------------------------------------------ rotation
    def rotary(self, x: Array, cos: Array, sin: Array) -> tuple[Array, Arrays]:
        """Return ``(turned, ())``."""
        if not _turns(x, cos, sin):
            return super().rotary(x, cos, sin)
        return _turned(x, cos, sin, 1), ()

    def rotary_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        cos: Array,
        sin: Array,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return the cotangent of `x`, turned back, and those of `cos` and `sin`."""
        if needs[1] or needs[2] or not _turns(g, cos, sin):
            return super().rotary_vjp(g, out, aux, x, cos, sin, needs=needs)
        return _turned(g, cos, sin, -1), None, None

    # ------------------------------------------------------------ loss
    def cross_entropy(
        self, logits: Array, targets: Array, *, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Arrays]:
        """Return the loss and ``(log of the sum of exponentials of each row,)``."""
        if not (
            native(logits) and targets.shape == logits.shape[:1] and abs(ignore_index) < 1 << 63
        ):
            return super().cross_entropy(
                logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing
            )
        kept = targets != ignore_index
        count = np.count_nonzero(kept)
        self.valid_indices(targets if count == kept.size else targets[kept], logits.shape[1])
        kind, flat = logits.dtype, np.ascontiguousarray(logits)
        lse, loss = np.empty((flat.shape[0], 1), kind), np.empty(flat.shape[0], kind)
        targets = np.ascontiguousarray(targets, np.int64)
        _pool.run(
            _rows.cross_entropy, *flat.shape, flat, targets, lse[:, 0], loss, ignore_index, kind.type(label_smoothing)
        )  # fmt: skip
        return np.asarray(loss.sum() / max(count, 1), kind), (lse,)

    def cross_entropy_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        logits: Array,
        targets: Array,
        *,
        needs: Sequence[bool],
        ignore_index: int,
        label_smoothing: float,
    ) -> tuple[Array | None, ...]:
        """Return ``(softmax - target distribution) * g / count`` and None."""
        if not (
            needs[0] and native(logits) and g.dtype == logits.dtype and abs(ignore_index) < 1 << 63
        ):
            return super().cross_entropy_vjp(
                g, out, aux, logits, targets, needs=needs, ignore_index=ignore_index, label_smoothing=label_smoothing
            )  # fmt: skip
        kind, flat = logits.dtype, np.ascontiguousarray(logits)
        count = max(np.count_nonzero(targets != ignore_index), 1)
        gx = np.empty_like(flat)
        targets = np.ascontiguousarray(targets, np.int64)
        _pool.run(
            _rows.cross_entropy_vjp, *flat.shape, kind.type(g / count), flat, targets, aux[0][:, 0], gx, ignore_index,
            kind.type(label_smoothing),
        )  # fmt: skip
        return gx, None


def _ends_in(x: Array, gamma: Array, beta: Array | None) -> bool:
    """Whether both parameters have the shape of the last axes of `x`; kernels check nothing."""
    tail = x.shape[max(x.ndim - gamma.ndim, 0) :]
    return gamma.shape == tail and (beta is None or beta.shape == tail)


def _by_rows(kernel: Any, x: Array, weight: int, *more: Array) -> Array:
    width = x.shape[-1]
    flat = rows_of(x, width)
    out = np.empty_like(flat)
    _pool.run(kernel, len(flat), weight * width, flat, *(rows_of(y, width) for y in more), out)
    return out.reshape(x.shape)


def _turns(x: Array, cos: Array, sin: Array) -> bool:
    """Whether the kernel takes these: angles of the last two axes alone."""
    return (
        native(x, cos, sin)
        and x.ndim > 1
        and x.shape[-1] % 2 == 0
        and cos.shape == sin.shape == (x.shape[-2], x.shape[-1] // 2)
    )


def _turned(x: Array, cos: Array, sin: Array, sign: int) -> Array:
    flat, kind = rows_of(x, x.shape[-1]), x.dtype
    out = np.empty_like(flat)
    angles = (np.ascontiguousarray(a) for a in (cos, sin))
    _pool.run(_rows.rotary, *flat.shape, flat, *angles, kind.type(sign), out)
    return out.reshape(x.shape)
