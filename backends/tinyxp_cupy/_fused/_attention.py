"""Attention in blocks, whose memory is linear in the number of positions."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from tinyxp._fused._attention import AttentionOperations
from tinyxp._fused._base import sum_to
from tinyxp_cupy import _blocked, _cudnn

from ._arguments import Array, native

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AttentionKernels"]

PAIR = 2  # axes before positions and numbers: batch and heads
QUAD = 4  # elements that kernels read at once
LOG2_E = math.log2(math.e)


class AttentionKernels(AttentionOperations):
    """Fused attention: what is kept is one number a query, the logarithm of its sum of exponentials.

    Its base is 2 and its axes are (batch, heads, T), or, by cuDNN, e and (batch, heads, T, 1).
    """

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
        """Return the output and ``(logarithm of each query's sum of exponentials,)``."""
        if not (native(q, k, v) and _fits(q, k, v, mask)):
            return super().attention(q, k, v, mask, is_causal=is_causal, scale=scale)
        lead, factor = _lead(q, k, v, mask), _scale(q, scale)
        dim, width = _quads(max(q.shape[-1], v.shape[-1])), v.shape[-1]
        a, b, c = (_heads(x, lead, dim) for x in (q, k, v))
        out, spread = _rows_like(a, lead), _spread(mask, lead, q, k)
        lse = None
        if _is_for_cudnn(spread, a, b, c):
            sizes = _cudnn.sizes(a, b, c, out, causal=is_causal, scale=factor)
            lse = _cudnn.forward(sizes, _addresses(a, b, c, out))
        if lse is None:
            n = _blocked.sizes(a, b, c, out, mask=spread, causal=is_causal)
            lse = _blocked.forward(n, q.dtype.name, a, b, c, spread, out, factor)
        return _unpadded(out, lead, width), (lse,)

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
        is_causal: bool,
        scale: float | None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `q`, `k` and `v`, and of an additive `mask`."""
        if len(aux) != 1:  # the default's forward
            return super().attention_vjp(
                g, out, aux, q, k, v, mask, needs=needs, is_causal=is_causal, scale=scale
            )
        lead, factor = out.shape[:-2], _scale(q, scale)
        dim = _quads(max(q.shape[-1], v.shape[-1]))
        a, b, c = (_heads(x, lead, dim) for x in (q, k, v))
        at, of = (_heads(x.astype(q.dtype, copy=False), lead, dim) for x in (g, out))
        gq, gk, gv = grads = [_rows_like(x, lead) for x in (a, b, c)]
        arrays, spread = (a, b, c, of, at, *grads), _spread(mask, lead, q, k)
        done = False
        if _is_by_cudnn(aux) and _is_for_cudnn(spread, *arrays):
            sizes = _cudnn.sizes(*arrays, causal=is_causal, scale=factor)
            done = _cudnn.backward(sizes, aux[0], _addresses(*arrays))
        if not done:
            n = _blocked.sizes(*arrays, mask=spread, causal=is_causal)
            _blocked.backward(
                n, q.dtype.name, at, of, _binary(aux), a, b, c, spread, gq, gk, gv, factor
            )
        found = (
            sum_to(self.xp, _unpadded(x, lead, y.shape[-1]), y.shape) if need else None
            for x, y, need in zip(grads, (q, k, v), needs[:3], strict=True)
        )
        return *found, None

    # ------------------------------------------------------------ packed
    def attention_packed(
        self, packed: Array, num_heads: int, *, is_causal: bool, scale: float | None = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Let positions look at each other, given their queries, keys and values side by side.

        Parameters
        ----------
        packed : array, shape (batch, T, 3 * width)
            Queries, keys and values of all heads.
        num_heads : int
            How many heads; divides width.
        is_causal : bool
            Let no position look at later ones.
        scale : float, optional
            Factor of the scores, by default 1 / sqrt(width / num_heads).

        Returns
        -------
        merged : array, shape (batch, T, width)
            The mixed values, heads side by side.
        aux : tuple of arrays
            For `attention_packed_vjp`.
        """
        batch, time, width, dim = _split(packed, num_heads)
        if not _is_packed(packed, dim):
            out, aux = self.attention(*_parts(packed, num_heads), None, is_causal=is_causal, scale=scale)  # fmt: skip
            return out.transpose(0, 2, 1, 3).reshape(batch, time, width), aux
        shape, kind = (batch, num_heads, time, dim), packed.dtype.name
        merged = cupy.empty((batch, time, width), packed.dtype)
        scale, qkv = 1 / math.sqrt(dim) if scale is None else scale, _pointers(packed, width)
        lse = None
        if _cudnn.takes(kind, time, dim, packed.data.ptr):
            sizes = _cudnn.packed_sizes(kind, shape, causal=is_causal, scale=scale, backwards=False)
            lse = _cudnn.forward(sizes, [p.ptr for p in (*qkv, merged.data)])
        if lse is None:
            n = _blocked.packed_sizes(shape, causal=is_causal)
            lse = _blocked.forward(n, kind, *qkv, None, merged, scale)
        return merged, (lse,)

    def attention_packed_vjp(
        self,
        g: Array,
        merged: Array,
        aux: tuple[Array, ...],
        packed: Array,
        *,
        num_heads: int,
        is_causal: bool,
        scale: float | None = None,
    ) -> Array:
        """Return the cotangent of `packed`, given that of `merged`; arrays as in `attention_packed`."""
        batch, time, width, dim = _split(packed, num_heads)
        if not _is_packed(packed, dim):
            rows = (batch, time, num_heads, dim)
            at, out = (x.reshape(rows).transpose(0, 2, 1, 3) for x in (g, merged))
            found = self.attention_vjp(
                at, out, aux, *_parts(packed, num_heads), None,
                needs=(True, True, True, False), is_causal=is_causal, scale=scale,
            )  # fmt: skip
            parts = [x.transpose(0, 2, 1, 3).reshape(batch, time, width) for x in found[:3]]  # type: ignore[union-attr]  # all three were asked for
            return cupy.concatenate(parts, axis=2)
        g, merged = (_aligned(x.astype(packed.dtype, copy=False)) for x in (g, merged))
        shape, kind = (batch, num_heads, time, dim), packed.dtype.name
        gp = cupy.empty_like(packed)
        scale, qkv = 1 / math.sqrt(dim) if scale is None else scale, _pointers(packed, width)
        pointers = (*qkv, merged.data, g.data, *_pointers(gp, width))
        done = False
        if _is_by_cudnn(aux) and _cudnn.takes(kind, time, dim, *(p.ptr for p in pointers[:5])):
            sizes = _cudnn.packed_sizes(kind, shape, causal=is_causal, scale=scale, backwards=True)
            done = _cudnn.backward(sizes, aux[0], [p.ptr for p in pointers])
        if not done:
            n = _blocked.packed_sizes(shape, causal=is_causal)
            _blocked.backward(n, kind, g, merged, _binary(aux), *qkv, None, *pointers[5:], scale)
        return gp


# ---------------------------------------------------------------- cuDNN
def _is_for_cudnn(mask: Array | None, *arrays: Array) -> bool:
    """Whether cuDNN may be asked: no mask, as many keys as queries, nothing repeated, and all else that it wants."""
    first = arrays[0]
    if mask is not None or any(x.shape != first.shape or min(x.strides) <= 0 for x in arrays):
        return False
    steps = (s for x in arrays for s in x.strides[:-1])
    return _cudnn.takes(first.dtype.name, *first.shape[-2:], *_addresses(*arrays), *steps)


def _addresses(*arrays: Array) -> tuple[int, ...]:
    return tuple(x.data.ptr for x in arrays)


def _is_by_cudnn(aux: tuple[Array, ...]) -> bool:
    return bool(aux[0].ndim == PAIR + 2)


def _binary(aux: tuple[Array, ...]) -> Array:
    """Return the logarithms of sums as our own kernels read them."""
    return aux[0][..., 0] * np.float32(LOG2_E) if _is_by_cudnn(aux) else aux[0]


def _scale(q: Array, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


# ---------------------------------------------------------------- any arrays, as kernels read them
def _fits(q: Array, k: Array, v: Array, mask: Array | None) -> bool:
    """Whether heads are short enough, and shapes fit; kernels check nothing."""
    if min(q.ndim, k.ndim, v.ndim) < PAIR or max(q.shape[-1], v.shape[-1]) > _blocked.LARGEST:
        return False
    if mask is not None and (mask.dtype != np.bool_ or mask.device != q.device):
        return False
    return bool(q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2])


def _lead(q: Array, k: Array, v: Array, mask: Array | None) -> tuple[int, ...]:
    """Return the broadcast axes before positions and numbers."""
    lead: tuple[int, ...] = q.shape[:-2]
    if mask is None and k.shape[:-2] == lead and v.shape[:-2] == lead:
        return lead
    masked = () if mask is None else mask.shape[:-2]
    return np.broadcast_shapes(lead, k.shape[:-2], v.shape[:-2], masked)


def _quads(dim: int) -> int:
    return -(-dim // QUAD) * QUAD


def _of_rows(x: Array) -> bool:
    """Whether numbers of a row are side by side, and all rows begin where four elements are read at once."""
    step = QUAD * x.itemsize
    return bool(
        (x.strides[-1] == x.itemsize or x.shape[-1] == 1)
        and x.data.ptr % step == 0
        and all(s % step == 0 for s in x.strides[:-1])
    )


def _heads(x: Array, lead: tuple[int, ...], dim: int) -> Array:
    """Return `x`, (…, T, D), as (batch, heads, T, dim) for the broadcast leading axes, zeros behind its numbers."""
    if x.shape[-1] != dim:
        padded = cupy.zeros((*x.shape[:-1], dim), x.dtype)
        padded[..., : x.shape[-1]] = x
        x = padded
    elif not _of_rows(x):
        x = x.copy(order="C")
    if x.shape[:-2] != lead:
        x = cupy.broadcast_to(x, (*lead, *x.shape[-2:]))
    return _as_pair(x, lead)


def _as_pair(x: Array, lead: tuple[int, ...]) -> Array:
    if len(lead) == PAIR:
        return x
    if len(lead) < PAIR:
        return x[(None,) * (PAIR - len(lead))]
    return x.reshape(1, math.prod(lead), *x.shape[-2:])


def _spread(mask: Array | None, lead: tuple[int, ...], q: Array, k: Array) -> Array | None:
    """Return `mask` for each pair of positions, without taking memory for it."""
    if mask is None:
        return None
    return _as_pair(cupy.broadcast_to(mask, (*lead, q.shape[-2], k.shape[-2])), lead)


def _rows_like(x: Array, lead: tuple[int, ...]) -> Array:
    """Return an array of the shape of `x`, (batch, heads, T, dim), in which heads can be merged without a copy."""
    if len(lead) != PAIR:
        return cupy.empty(x.shape, x.dtype)
    batch, heads, time, dim = x.shape
    return cupy.empty((batch, time, heads, dim), x.dtype).transpose(0, 2, 1, 3)


def _unpadded(x: Array, lead: tuple[int, ...], width: int) -> Array:
    if len(lead) != PAIR:
        x = x.reshape(*lead, *x.shape[-2:])
    return x if x.shape[-1] == width else x[..., :width]


# ---------------------------------------------------------------- packed arrays
def _split(packed: Array, num_heads: int) -> tuple[int, int, int, int]:
    """Return batch, time, width and the length of a head."""
    batch, time, three = packed.shape
    return batch, time, three // 3, three // (3 * num_heads)


def _is_packed(packed: Array, dim: int) -> bool:
    """Whether kernels read q, k and v from where they are."""
    return bool(
        native(packed)
        and dim % QUAD == 0
        and dim <= _blocked.LARGEST
        and packed.flags.c_contiguous
        and packed.data.ptr % (QUAD * packed.itemsize) == 0
    )


def _parts(packed: Array, num_heads: int) -> tuple[Array, Array, Array]:
    """Return views of q, k and v, each of shape (batch, heads, T, head_dim)."""
    batch, time, _, dim = _split(packed, num_heads)
    parts = packed.reshape(batch, time, 3, num_heads, dim).transpose(2, 0, 3, 1, 4)
    return parts[0], parts[1], parts[2]


def _pointers(packed: Array, width: int) -> tuple[Any, Any, Any]:
    step = width * packed.itemsize
    return packed.data, packed.data + step, packed.data + 2 * step


def _aligned(x: Array) -> Array:
    """Return `x` in C order, at an address where four elements are read at once."""
    x = cupy.ascontiguousarray(x)
    return x if x.data.ptr % (QUAD * x.itemsize) == 0 else x.copy()
