"""Self-attention and the whole transformer block: q, k and v in one product, residuals added by products."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp_cupy._lt import matmul

from ._arguments import Array, native, rows_of
from ._attention import AttentionKernels
from ._copies import Copies, converted, split
from ._products import Gated, ProductKernels, affine, computed_in, weights_vjp
from ._rows import RowKernels

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BlockKernels"]

SEQUENCES = 3  # axes: batch, time, channels


class _Mixed(NamedTuple):
    """What attention keeps: the weights side by side, what they give, and what comes of it."""

    weight: Array
    out_weight: Array
    packed: Array
    merged: Array
    aux: Any


class _Attention(NamedTuple):
    """What `self_attention` keeps."""

    x: Array
    mixed: _Mixed


class _Block(NamedTuple):
    """What `transformer_block` keeps, from its input to its output."""

    normal1: Array
    stats1: Any
    mixed: _Mixed
    middle: Array
    normal2: Array
    stats2: Any
    weight1: Array
    weight2: Array
    gated: Gated


class BlockKernels(ProductKernels, AttentionKernels, RowKernels):
    """The parts of a transformer block, and the whole."""

    # ------------------------------------------------------------ attention
    def self_attention(
        self,
        x: Array,
        *parameters: Array | None,
        num_heads: int,
        is_causal: bool,
        compute: str | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the output and what the vjp reads."""
        if not (_attends(x, parameters, num_heads) and native(x, *parameters)):
            return super().self_attention(
                x, *parameters, num_heads=num_heads, is_causal=is_causal, compute=compute
            )
        kind = computed_in(x, compute)
        copies = Copies(x.dtype, kind)
        flat = copies.convert(rows_of(x, x.shape[-1]))
        weight, bias = _joined(copies, parameters[:6])
        out_weight = copies.convert(parameters[6])
        copies.run()
        mixed = self._mix(flat, weight, bias, out_weight, x.shape[:2], num_heads, is_causal=is_causal)  # fmt: skip
        out = affine(mixed.merged, out_weight, parameters[7], dtype=x.dtype)
        return out.reshape(*x.shape[:-1], out.shape[1]), _Attention(flat, mixed)

    def _mix(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        out_weight: Array,
        lead: tuple[int, ...],
        num_heads: int,
        *,
        is_causal: bool,
    ) -> _Mixed:
        packed = affine(x, weight, bias).reshape(*lead, weight.shape[1])
        merged, aux = self.attention_packed(packed, num_heads=num_heads, is_causal=is_causal)
        return _Mixed(weight, out_weight, packed, merged.reshape(len(x), -1), aux)

    def self_attention_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Any, ...],
        x: Array,
        *parameters: Array | None,
        needs: Sequence[bool],
        num_heads: int,
        is_causal: bool,
        compute: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of all nine arrays."""
        if type(aux) is not _Attention:
            return super().self_attention_vjp(
                g, out, aux, x, *parameters, needs=needs, num_heads=num_heads, is_causal=is_causal, compute=compute
            )  # fmt: skip
        flat, mixed = aux
        at = converted(rows_of(g, g.shape[-1]), flat.dtype)
        gow, gob = weights_vjp(mixed.merged, at, x.dtype, needs[7], needs[8])
        if not any(needs[:7]):
            return *(None,) * 7, gow, gob
        gp = self._mix_vjp(at, mixed, num_heads, is_causal=is_causal)
        gx = matmul(gp, mixed.weight.T, out_dtype=x.dtype).reshape(x.shape) if needs[0] else None
        return gx, *_projections_vjp(flat, gp, x.dtype, needs[1:7]), gow, gob

    def _mix_vjp(self, g: Array, mixed: _Mixed, num_heads: int, *, is_causal: bool) -> Array:
        """Return the cotangent of q, k and v side by side, given `g` behind the output's weight."""
        packed, shape = mixed.packed, (*mixed.packed.shape[:2], mixed.merged.shape[1])
        gp = self.attention_packed_vjp(
            matmul(g, mixed.out_weight.T).reshape(shape), mixed.merged.reshape(shape), mixed.aux, packed, num_heads=num_heads,
            is_causal=is_causal,
        )  # fmt: skip
        return gp.reshape(-1, packed.shape[-1])

    # ------------------------------------------------------------ both
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
        """Return the output and what the vjp reads."""
        if not (_is_block(x, parameters, num_heads) and native(x, *parameters)):
            return super().transformer_block(
                x, *parameters, num_heads=num_heads, is_causal=is_causal, eps=eps, approximate=approximate,
                compute=compute,
            )  # fmt: skip
        gamma1, beta1, *qkv, out_weight, out_bias, gamma2, beta2, weight1, bias1, weight2, bias2 = (
            parameters
        )
        flat, kind = rows_of(x, x.shape[-1]), computed_in(x, compute)
        copies = Copies(x.dtype, kind)
        weight, bias = _joined(copies, qkv)
        out_weight, weight1, bias1, weight2 = map(
            copies.convert, (out_weight, weight1, bias1, weight2)
        )
        copies.run()
        _, normal1, stats1 = self.add_layer_norm(flat, None, gamma1, beta1, eps=eps, dtype=kind)
        mixed = self._mix(normal1, weight, bias, out_weight, x.shape[:2], num_heads, is_causal=is_causal)  # fmt: skip
        middle = affine(mixed.merged, out_weight, out_bias, add=flat, dtype=x.dtype)
        _, normal2, stats2 = self.add_layer_norm(middle, None, gamma2, beta2, eps=eps, dtype=kind)
        gated = self.gated(normal2, weight1, bias1, approximate)
        out = affine(gated.behind, weight2, bias2, add=middle, dtype=x.dtype)
        kept = _Block(normal1, stats1, mixed, middle, normal2, stats2, weight1, weight2, gated)
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
        if type(aux) is not _Block:
            return super().transformer_block_vjp(
                g, out, aux, x, *parameters, needs=needs, num_heads=num_heads, is_causal=is_causal, eps=eps,
                approximate=approximate, compute=compute,
            )  # fmt: skip
        kept, dtype = aux, x.dtype
        at = rows_of(g, g.shape[-1])
        at_half = converted(at, kept.normal1.dtype)
        # ---- the MLP
        gw2, gb2 = weights_vjp(kept.gated.behind, at_half, dtype, needs[15], needs[16])
        if not any(needs[:15]):
            return *(None,) * 15, gw2, gb2
        gh, gb1 = self.gated_vjp(at_half, kept.weight2, kept.gated, approximate, dtype, wants_bias=needs[14])  # fmt: skip
        gw1, late = weights_vjp(kept.normal2, gh, dtype, needs[13], needs[14] and gb1 is None)
        gmlp = (gw1, late if gb1 is None else gb1, gw2, gb2)
        if not any(needs[:13]):
            return *(None,) * 13, *gmlp
        # ---- the second normalisation, with what went past it
        gn = matmul(gh, kept.weight1.T)
        gm, ggamma2, gbeta2, gm_half = self.layer_norm_vjp_add(
            gn,
            at,
            kept.stats2,
            kept.middle,
            *parameters[10:12],
            needs=(True, *needs[11:13]),
            copy=True,
        )
        # ---- attention
        gow, gob = weights_vjp(kept.mixed.merged, gm_half, dtype, needs[9], needs[10])
        after = (gow, gob, ggamma2, gbeta2, *gmlp)
        if not any(needs[:9]):
            return *(None,) * 9, *after
        gp = self._mix_vjp(gm_half, kept.mixed, num_heads, is_causal=is_causal)
        projections = _projections_vjp(kept.normal1, gp, dtype, needs[3:9])
        if not any(needs[:3]):
            return None, None, None, *projections, *after
        # ---- the first normalisation
        gn = matmul(gp, kept.mixed.weight.T)
        gx, ggamma1, gbeta1, _ = self.layer_norm_vjp_add(
            gn, gm, kept.stats1, rows_of(x, x.shape[-1]), *parameters[:2], needs=needs[:3]
        )
        gx = None if gx is None else gx.reshape(x.shape)
        return gx, ggamma1, gbeta1, *projections, *after


# ---------------------------------------------------------------- pieces
def _joined(copies: Copies, parameters: Sequence[Array | None]) -> tuple[Array, Array | None]:
    """Return three weights side by side, and their biases, which `copies` will put there."""
    weights, biases = parameters[::2], parameters[1::2]
    return copies.join(weights), None if biases[0] is None else copies.join(biases)


def _projections_vjp(
    x: Array, g: Array, dtype: Any, needs: Sequence[bool]
) -> tuple[Array | None, ...]:
    """Return the cotangents of three weights and biases, given that of what they make side by side."""
    weights, biases = needs[::2], needs[1::2]
    gw, gb = weights_vjp(x, g, dtype, any(weights), any(biases))
    wanted = [(a, w) for a, w in ((gw, weights), (gb, biases)) if a is not None]
    parts = split([a for a, _ in wanted], [w for _, w in wanted]) if wanted else []
    gws = parts.pop(0) if gw is not None else [None] * 3
    gbs = parts.pop(0) if gb is not None else [None] * 3
    return tuple(a for pair in zip(gws, gbs, strict=True) for a in pair)


def _attends(x: Array, parameters: Sequence[Array | None], num_heads: int) -> bool:
    """Whether shapes are those of self-attention."""
    q_weight, q_bias, *_, out_weight, out_bias = parameters
    if x.ndim != SEQUENCES or q_weight is None or out_weight is None or q_weight.ndim != 2:  # noqa: PLR2004 - a matrix
        return False
    width = q_weight.shape[1]
    weights = all(w is not None and w.shape == (x.shape[2], width) for w in parameters[:6:2])
    none = q_bias is None
    biases = all(b is None if none else b is not None and b.shape == (width,) for b in parameters[1:6:2])  # fmt: skip
    return (
        weights
        and biases
        and num_heads > 0
        and width % num_heads == 0
        and out_weight.ndim == 2  # noqa: PLR2004 - likewise
        and out_weight.shape[0] == width
        and (out_bias is None or out_bias.shape == out_weight.shape[1:])
    )


def _is_block(x: Array, parameters: Sequence[Array | None], num_heads: int) -> bool:
    """Whether all shapes are those of a block."""
    if x.ndim != SEQUENCES or any(p is None for p in parameters):
        return False
    row, hidden = x.shape[2:], parameters[12].shape[1:]  # type: ignore[union-attr]  # not None: looked at above
    norm, maps = (row, row), ((*row, *row), row) * 4
    expected = (*norm, *maps, *norm, (*row, *hidden), hidden, (*hidden, *row), row)
    return (
        len(hidden) == 1
        and num_heads > 0
        and row[0] % num_heads == 0
        and all(p.shape == s for p, s in zip(parameters, expected, strict=True))  # type: ignore[union-attr]  # not None: looked at above
    )
