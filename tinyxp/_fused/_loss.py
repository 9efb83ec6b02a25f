"""The loss of language models: ``cross_entropy``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._half import vjp_in_float32, widened
from ._linear import LinearOperations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._base import Array

__all__ = ["LossOperations", "cross_entropy"]


def cross_entropy(
    xp: Any, logits: Array, targets: Array, *, ignore_index: int, label_smoothing: float
) -> Array:
    """Compute the mean of ``-log softmax(logits)[target]`` over the targets that are not ignored.

    With label smoothing the target distribution is ``(1 - s) one_hot + s / C`` (Szegedy and others,
    arXiv:1512.00567, section 7). If every target is ignored the loss is 0.

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    logits : array, shape (N, C)
    targets : array of integers, shape (N,)
        Classes in ``[0, C)``, or `ignore_index`.
    ignore_index : int
        Target value that does not count.
    label_smoothing : float
        The share s of probability spread over all classes, in [0, 1].

    Returns
    -------
    array, shape ()
        The loss in nats, in the dtype of `logits`, float32 if that is half precision.
    """
    logits = widened(xp, logits)
    keep = targets != ignore_index
    safe = xp.where(keep, targets, xp.zeros_like(targets))
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    total = xp.log(xp.sum(xp.exp(shifted), axis=1))
    at_target = xp.take_along_axis(shifted, xp.expand_dims(safe, axis=1), axis=1)[:, 0]
    loss = total - (1 - label_smoothing) * at_target
    if label_smoothing:
        loss = loss - label_smoothing * xp.mean(shifted, axis=1)
    loss = xp.where(keep, loss, xp.zeros_like(loss))
    return xp.sum(loss) / _count(xp, keep, logits)


def _count(xp: Any, keep: Array, like: Array) -> Array:
    count = xp.sum(xp.astype(keep, like.dtype))
    return xp.where(count == 0, xp.ones_like(count), count)


class LossOperations(LinearOperations):
    """Fused cross-entropy on raw arrays; what is kept is one number a row."""

    def cross_entropy(
        self, logits: Array, targets: Array, *, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the loss and ``(log of the sum of exponentials of each row,)``.

        Targets out of range raise `IndexError`, or, on a device that would have to be waited for, make
        the loss NaN.
        """
        xp, logits = self.xp, widened(self.xp, logits)
        keep = targets != ignore_index
        safe = xp.where(keep, targets, xp.zeros_like(targets))
        valid = self.valid_indices(safe, logits.shape[1])
        if valid is not None:
            safe = xp.where(valid, safe, xp.zeros_like(safe))
        top = xp.max(logits, axis=1, keepdims=True)
        lse = top + xp.log(xp.sum(xp.exp(logits - top), axis=1, keepdims=True))
        loss = lse - (1 - label_smoothing) * xp.take_along_axis(
            logits, xp.expand_dims(safe, axis=1), axis=1
        )
        if label_smoothing:
            loss -= label_smoothing * xp.mean(logits, axis=1, keepdims=True)
        loss = xp.where(keep, loss[:, 0], xp.zeros_like(loss[:, 0]))
        if valid is not None:
            loss = xp.where(valid, loss, xp.full_like(loss, math.nan))
        return xp.sum(loss) / _count(xp, keep, logits), (lse,)

    @vjp_in_float32
    def cross_entropy_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],
        logits: Array,
        targets: Array,
        *,
        needs: Sequence[bool],
        ignore_index: int,
        label_smoothing: float,
    ) -> tuple[Array | None, ...]:
        """Return ``(softmax - target distribution) * g / count`` and None."""
        if not needs[0]:
            return None, None
        xp = self.xp
        keep = targets != ignore_index
        scale = xp.astype(keep, logits.dtype) * (g / _count(xp, keep, logits))
        gx = xp.exp(logits - aux[0])
        if label_smoothing:
            gx -= label_smoothing / logits.shape[1]
        gx *= xp.expand_dims(scale, axis=1)
        row = xp.arange(logits.shape[0], device=logits.device)
        safe = xp.where(keep, targets, xp.zeros_like(targets))
        if not self.host_visible:
            safe = xp.clip(safe, 0, logits.shape[1] - 1)
        at_target = (row, safe)
        xp.setitem(gx, at_target, gx[at_target] - (1 - label_smoothing) * scale)
        return gx, None
