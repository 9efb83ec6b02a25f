"""Attention in blocks of queries."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp._fused import Defaults
from tinyxp_numpy import _pool
from tinyxp_numpy._kernels import _attention
from tinyxp_numpy._kernels._blas import product

from ._arguments import Array, Arrays, multiply, native

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AttentionKernels"]


class AttentionKernels(Defaults):
    """Fused attention: what is kept is one number a query."""

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        *,
        is_causal: bool,
        scale: float | None,
    ) -> tuple[Array, Arrays]:
        """Return the output and ``(logarithm of each row's sum of exponentials,)``."""
        if not (native(q, k, v) and _match(q, k, v)):
            return super().attention(q, k, v, mask, is_causal=is_causal, scale=scale)
        lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        length = q.shape[-2]
        if mask is not None:
            lead = np.broadcast_shapes(lead, mask.shape[:-2])
        a, b, c = (_heads(x, lead) for x in (q, k, v))
        batch, heads = a.shape[:2]
        out = np.empty((batch, length, heads, v.shape[-1]), q.dtype).transpose(0, 2, 1, 3)
        lse = np.empty((batch, heads, length), q.dtype)
        self._attend(
            _attention.attention, 1, (a, b, c), mask, lead, is_causal=is_causal, scale=scale, before=(), after=(out, lse)
        )  # fmt: skip
        return out.reshape(*lead, length, v.shape[-1]) if len(lead) != 2 else out, (lse,)  # noqa: PLR2004 - a pair

    def _attend(
        self,
        kernel: Any,
        passes: int,
        qkv: tuple[Array, Array, Array],
        mask: Array | None,
        lead: tuple[int, ...],
        *,
        is_causal: bool,
        scale: float | None,
        before: Arrays,
        after: Arrays,
    ) -> None:
        q, k, _ = qkv
        (batch, heads, length, dim), keys, kind = q.shape, k.shape[2], q.dtype
        scale = 1 / math.sqrt(dim) if scale is None else scale
        multiply(
            kernel(kind), batch * heads, _pool.parts_of(batch * heads, passes * length * keys * (dim + 16) // 8),
            product(kind), *before, *qkv,
            _added(mask, lead, (length, keys), q), mask is not None, is_causal, kind.type(scale), *after,
        )  # fmt: skip

    def attention_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        *,
        needs: Sequence[bool],
        is_causal: bool,
        scale: float | None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `q`, `k`, `v` and an additive `mask`."""
        options: dict[str, Any] = {"is_causal": is_causal, "scale": scale}
        if len(aux) == 2:  # noqa: PLR2004 - the default's forward
            return super().attention_vjp(g, out, aux, q, k, v, mask, needs=needs, **options)
        lead = out.shape[:-2]
        if needs[3] or any(x.shape[:-2] != lead for x in (q, k, v)) or g.dtype != q.dtype:
            out, aux = super().attention(q, k, v, mask, **options)
            return super().attention_vjp(g, out, aux, q, k, v, mask, needs=needs, **options)
        qkv = (_heads(q, lead), _heads(k, lead), _heads(v, lead))
        grads = tuple(np.empty(x.shape, x.dtype) for x in qkv)
        held = (_heads(g, lead), _heads(out, lead), aux[0])
        self._attend(
            _attention.attention_vjp, 2, qkv, mask, lead, is_causal=is_causal, scale=scale, before=held, after=grads
        )  # fmt: skip
        found = (x.reshape(y.shape) for x, y in zip(grads, (q, k, v), strict=True))
        return *(x if need else None for x, need in zip(found, needs[:3], strict=True)), None

    def _heads_vjp(
        self,
        g: Array,
        merged: Array,
        aux: Arrays,
        packed: Array,
        *,
        num_heads: int,
        is_causal: bool,
    ) -> Array:
        """Return the cotangent of `packed`, written head by head into one array."""
        if len(aux) == 2 or not native(g, merged, packed):  # noqa: PLR2004 - the default's forward
            return super()._heads_vjp(
                g, merged, aux, packed, num_heads=num_heads, is_causal=is_causal
            )
        gp = np.empty_like(packed)
        batch, time, width = merged.shape
        split = (batch, time, num_heads, width // num_heads)
        held = tuple(x.reshape(split).transpose(0, 2, 1, 3) for x in (g, merged))
        qkv = self._heads(packed, num_heads)
        self._attend(
            _attention.attention_vjp, 2, qkv, None, split[:1] + split[2:3], is_causal=is_causal, scale=None,
            before=(*held, aux[0]), after=self._heads(gp, num_heads),
        )  # fmt: skip
        return gp


def _heads(x: Array, lead: tuple[int, ...]) -> Array:
    """Return `x`, (…, T, D), as (batch, heads, T, D) for the broadcast leading axes, as a BLAS reads it."""
    if not _is_of_rows(x):
        x = x.copy()
    if x.shape[:-2] != lead:
        x = np.broadcast_to(x, (*lead, *x.shape[-2:])).copy()
    if len(lead) != 2:  # noqa: PLR2004 - batch and heads
        x = x.reshape(1, math.prod(lead), *x.shape[-2:])
    return x


def _match(q: Array, k: Array, v: Array) -> bool:
    """Whether queries are as long as keys, and there is a value for each key; kernels check nothing."""
    matrices = min(q.ndim, k.ndim, v.ndim) > 1
    return bool(matrices and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2])


def _is_of_rows(x: Array) -> bool:
    """Whether the rows of each matrix are in one piece and follow each other, which a mirrored or repeated row does not."""
    (length, width), (step, inner), size = x.shape[-2:], x.strides[-2:], x.itemsize
    return bool(
        x.flags.behaved  # what a kernel with a signature of its own takes: aligned, and not marked as read-only
        and (inner == size or width == 1)
        and (length == 1 or (step >= width * size and step % size == 0))
    )


@lru_cache(64)
def _nothing(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return zeros that take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _added(mask: Array | None, lead: tuple[int, ...], sizes: tuple[int, int], like: Array) -> Array:
    """Return what is added to the scores, for (batch, heads, T, S)."""
    if mask is None:
        return _nothing((*like.shape[:2], *sizes), like.dtype)
    if mask.dtype == np.bool_:
        mask = np.where(mask, like.dtype.type(0), like.dtype.type(-np.inf))
    full = np.broadcast_to(mask.astype(like.dtype, copy=False), (*lead, *sizes))
    if len(lead) != 2:  # noqa: PLR2004 - batch and heads
        full = np.broadcast_to(full.reshape(1, math.prod(lead), *sizes), (*like.shape[:2], *sizes))
    return full
