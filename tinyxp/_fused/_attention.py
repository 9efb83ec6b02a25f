"""Scaled dot-product attention with masks: ``attention``."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._base import Array, Operations, sum_to
from ._half import forward_in_float32, in_float32, vjp_in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AttentionOperations", "attention"]


@in_float32
def attention(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    *,
    is_causal: bool,
    scale: float | None,
) -> Array:
    """Compute ``softmax(q k^T scale + mask) v`` (Vaswani and others, arXiv:1706.03762, equation 1).

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    q : array, shape (…, T, D)
        Queries.
    k : array, shape (…, S, D)
        Keys.
    v : array, shape (…, S, E)
        Values.
    mask : array or None
        Broadcastable to (…, T, S). Bool: True where a query may look. Floating: added to the scores.
    is_causal : bool
        Let query i look at key j only if ``j <= i + S - T``: the last query sees every key.
    scale : float or None
        Factor of the scores, by default ``1 / sqrt(D)``.

    Returns
    -------
    array, shape (…, T, E)
        Zeros in rows of queries that may look nowhere.
    """
    scores = xp.matmul(q * _scale(q, scale), xp.matrix_transpose(k))
    for part in _biases(xp, q, k, mask, is_causal=is_causal):
        scores = scores + part
    top = xp.max(scores, axis=-1, keepdims=True)
    e = xp.exp(scores - xp.where(top == -math.inf, xp.zeros_like(top), top))
    total = xp.sum(e, axis=-1, keepdims=True)
    return xp.matmul(e / xp.where(total == 0, xp.ones_like(total), total), v)


def _scale(q: Array, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def _biases(xp: Any, q: Array, k: Array, mask: Array | None, *, is_causal: bool) -> list[Array]:
    """Return the arrays to add to the scores: 0 or the mask's value, minus infinity where hidden."""
    found = []
    if mask is not None:
        additive = not xp.isdtype(mask.dtype, "bool")
        found.append(mask if additive else _minus_infinity(xp, mask, q))
    t, s = q.shape[-2], k.shape[-2]
    if is_causal and t > 1:
        query = xp.expand_dims(xp.arange(s - t, s, device=q.device), axis=1)
        found.append(_minus_infinity(xp, xp.arange(s, device=q.device) <= query, q))
    return found


def _minus_infinity(xp: Any, allowed: Array, like: Array) -> Array:
    zero = xp.zeros(allowed.shape, dtype=like.dtype, device=like.device)
    return xp.where(allowed, zero, xp.full_like(zero, -math.inf))


class AttentionOperations(Operations):
    """Fused attention on raw arrays; what is kept is the exponentials and one number a row.

    The exponentials are never divided by their sum: the sum divides the (…, T, E) output instead, and in
    the backward pass the cotangent (the arrangement of arXiv:2205.14135, section 3.1).
    """

    @forward_in_float32
    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        *,
        is_causal: bool,
        scale: float | None,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the output and ``(exponentials, 1 / their sum)``."""
        xp = self.xp
        scores = xp.matmul(q * _scale(q, scale), xp.matrix_transpose(k))
        for part in _biases(xp, q, k, mask, is_causal=is_causal):
            scores = self._accumulate(scores, part)
        top = xp.max(scores, axis=-1, keepdims=True)
        may_be_empty = mask is not None or q.shape[-2] > k.shape[-2]
        if may_be_empty:
            top = xp.where(top == -math.inf, xp.zeros_like(top), top)
        scores -= top
        e = xp.exp(scores)
        total = xp.sum(e, axis=-1, keepdims=True)
        if may_be_empty:
            total = xp.where(total == 0, xp.ones_like(total), total)
        out = xp.matmul(e, v)
        total = 1 / total
        out *= total
        return out, (e, total)

    def _accumulate(self, scores: Array, part: Array) -> Array:
        xp = self.xp
        if (
            xp.broadcast_shapes(scores.shape, part.shape) == scores.shape
            and part.dtype == scores.dtype
        ):
            scores += part
            return scores
        return scores + part

    @vjp_in_float32
    def attention_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Array, ...],
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        *,
        needs: Sequence[bool],
        is_causal: bool,  # noqa: ARG002 - inside aux
        scale: float | None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `q`, `k`, `v` and an additive `mask`."""
        xp, factor = self.xp, _scale(q, scale)
        e, reciprocal = aux
        g = g * reciprocal
        gq = gk = gv = gmask = None
        if needs[2]:
            gv = sum_to(xp, xp.matmul(xp.matrix_transpose(e), g), v.shape)
        if not (needs[0] or needs[1] or needs[3]):
            return gq, gk, gv, gmask
        gs = xp.matmul(g, xp.matrix_transpose(v))
        gs -= xp.expand_dims(xp.vecdot(g, out), axis=-1)
        gs *= e
        if needs[3] and mask is not None:
            gmask = sum_to(xp, gs, mask.shape)
        if needs[0]:
            gq = xp.matmul(gs, k)
            gq *= factor
            gq = sum_to(xp, gq, q.shape)
        if needs[1]:
            gk = xp.matmul(xp.matrix_transpose(gs), q * factor)
            gk = sum_to(xp, gk, k.shape)
        return gq, gk, gv, gmask
