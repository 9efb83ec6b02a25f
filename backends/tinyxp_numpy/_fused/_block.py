"""A transformer block in three passes over the rows forward and four backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp_numpy import _pool
from tinyxp_numpy._kernels import _block, _products
from tinyxp_numpy._kernels._blas import product

from ._affine import AffineKernels, form
from ._arguments import Array, cost, multiply, native, rows_of, total
from ._attention import AttentionKernels

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BlockKernels"]


class BlockKernels(AffineKernels, AttentionKernels):
    """The fused transformer block."""

    def transformer_block(
        self,
        x: Array,
        *parameters: Array,
        num_heads: int,
        is_causal: bool,
        eps: float,
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the output and what the vjp reads, one flat tuple."""
        known = compute is None and _fits(x, parameters) and native(x, *parameters)
        if not (known and product(x.dtype)):
            return super().transformer_block(
                x, *parameters, num_heads=num_heads, is_causal=is_causal, eps=eps, approximate=approximate,
                compute=compute,
            )  # fmt: skip
        gamma1, beta1, *qkv, out_weight, out_bias, gamma2, beta2, weight1, bias1, weight2, bias2 = (
            np.ascontiguousarray(p) for p in parameters
        )
        flat, kind = rows_of(x, x.shape[-1]), x.dtype
        n, width = flat.shape
        weight, bias = self._packed(*qkv)
        blocks = _pool.parts_of(n, cost(weight))
        stats = np.empty((4, n), kind)
        normal1, packed = np.empty_like(flat), np.empty((n, 3 * width), kind)
        multiply(
            _block.norm_affine, n, _pool.items_of(blocks), product(kind), flat, gamma1, beta1, weight, bias, stats[0],
            stats[1], normal1, packed, kind.type(eps),
        )  # fmt: skip
        packed = packed.reshape(*x.shape[:-1], 3 * width)
        q, k, v = self._heads(packed, num_heads)
        mixed, (lse,) = self.attention(q, k, v, None, is_causal=is_causal, scale=None)
        mixed = mixed.transpose(0, 2, 1, 3).reshape(n, width)
        hidden = weight1.shape[1]
        middle, normal2, out = (np.empty_like(flat) for _ in range(3))
        before, behind = np.empty((n, hidden), kind), np.empty((n, hidden), kind)
        blocks = _pool.parts_of(n, cost(out_weight) + 2 * cost(weight1))
        multiply(
            _block.rest, n, _pool.items_of(blocks), product(kind), flat, mixed, out_weight, out_bias, gamma2, beta2, weight1,
            bias1, weight2, bias2, middle, stats[2], stats[3], normal2, before, behind, out, kind.type(eps),
            *form(approximate, kind),
        )  # fmt: skip
        kept = (stats, normal1, weight, packed, lse, mixed, middle, normal2, before, behind)
        return out.reshape(x.shape), kept

    def transformer_block_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Any, ...],
        x: Array,
        *parameters: Array,
        needs: Sequence[bool],
        num_heads: int,
        is_causal: bool,
        eps: float,
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x` and of all parameters."""
        if len(aux) == 7:  # noqa: PLR2004 - the default's forward
            return super().transformer_block_vjp(
                g, out, aux, x, *parameters, needs=needs, num_heads=num_heads, is_causal=is_causal, eps=eps,
                approximate=approximate, compute=compute,
            )  # fmt: skip
        gamma1, _, *_, out_weight, _, gamma2, _, weight1, bias1, weight2, _ = (
            np.ascontiguousarray(p) for p in parameters
        )
        stats, normal1, weight, packed, lse, mixed, middle, normal2, before, behind = aux
        flat, kind = rows_of(x, x.shape[-1]), x.dtype
        at = rows_of(g.astype(kind, copy=False), g.shape[-1])
        n, width = flat.shape
        # ---- the MLP and all in front of it, up to the mixed values
        blocks = _pool.parts_of(n, cost(out_weight) + 2 * cost(weight1))
        items = _pool.items_of(blocks)
        gh = np.empty_like(before)
        gn, gmiddle, gmixed, gx = (np.empty_like(flat) for _ in range(4))
        sums, sums1 = np.zeros((4, blocks, width), kind), np.zeros((blocks, before.shape[1]), kind)
        multiply(
            _block.rest_vjp, blocks, items, product(kind), blocks, at, out_weight, gamma2, weight1, bias1, weight2, middle,
            stats[2], stats[3], before, gh, gn, gmiddle, gmixed, sums, sums1, *form(approximate, kind),
        )  # fmt: skip
        # ---- attention
        shape = (*x.shape[:-1], width)
        gpacked = self._heads_vjp(
            gmixed.reshape(shape), mixed.reshape(shape), (lse,), packed, num_heads=num_heads, is_causal=is_causal
        ).reshape(n, 3 * width)  # fmt: skip
        # ---- the projections to q, k and v, and the first normalisation
        blocks = _pool.parts_of(n, cost(weight))
        sums2, sums3 = np.zeros((2, blocks, width), kind), np.zeros((blocks, 3 * width), kind)
        multiply(
            _block.norm_affine_vjp, blocks, _pool.items_of(blocks), product(kind), blocks, gpacked, gmiddle, flat, gamma1,
            weight, stats[0], stats[1], gn, gx, sums2, sums3,
        )  # fmt: skip
        # ---- the weights
        gw, gow = np.empty_like(weight), np.empty_like(out_weight)
        gw1, gw2 = np.empty_like(weight1), np.empty_like(weight2)
        pairs = (
            (behind, at, gw2),
            (normal2, gh, gw1),
            (normal1, gpacked, gw),
            (mixed, gmiddle, gow),
        )
        multiply(
            _products.weights_vjp, 4 * items, 4 * items, product(kind), items, *(array for pair in pairs for array in pair)
        )  # fmt: skip
        gb2, ggamma2, gbeta2, gob = (total(s) for s in sums)
        (ggamma1, gbeta1), gb = (total(s) for s in sums2), total(sums3)
        qkv = (
            part.copy()
            for i in range(3)
            for part in (gw[:, i * width : (i + 1) * width], gb[i * width : (i + 1) * width])
        )
        found = (
            gx.reshape(x.shape),
            ggamma1,
            gbeta1,
            *qkv,
            gow,
            gob,
            ggamma2,
            gbeta2,
            gw1,
            total(sums1),
            gw2,
            gb2,
        )
        return tuple(y if need else None for y, need in zip(found, needs, strict=True))


def _fits(x: Array, parameters: Sequence[Array | None]) -> bool:
    """Whether all shapes are those of a block: kernels check nothing, and broadcast nothing."""
    if x.ndim != 3 or any(p is None for p in parameters):  # noqa: PLR2004 - batch, time, channels
        return False
    row, hidden = x.shape[2:], parameters[12].shape[1:]  # type: ignore[union-attr]  # not None: looked at above
    norm, maps = (row, row), ((*row, *row), row) * 4
    expected = (*norm, *maps, *norm, (*row, *hidden), hidden, (*hidden, *row), row)
    return len(hidden) == 1 and all(p.shape == s for p, s in zip(parameters, expected, strict=True))  # type: ignore[union-attr]  # not None: looked at above
