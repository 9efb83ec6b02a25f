"""A transformer block and its parts: ``mlp``, ``self_attention``, ``transformer_block``."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._activations import ActivationOperations, gelu
from ._attention import AttentionOperations, attention
from ._half import cast, cast_all, cast_back
from ._linear import LinearOperations, linear
from ._norm import NormOperations, layer_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._base import Array

__all__ = ["BlockOperations", "mlp", "self_attention", "transformer_block"]


# ---------------------------------------------------------------- composites
def mlp(
    xp: Any,
    x: Array,
    weight1: Array,
    bias1: Array | None,
    weight2: Array,
    bias2: Array | None,
    *,
    approximate: str,
    compute: str | None = None,
) -> Array:
    """Compute ``gelu(x @ weight1 + bias1) @ weight2 + bias2`` (arXiv:1706.03762, section 3.3, with GELU).

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    x : array, shape (…, in)
    weight1 : array, shape (in, hidden)
    bias1 : array, shape (hidden,), or None
    weight2 : array, shape (hidden, out)
    bias2 : array, shape (out,), or None
    approximate : {"tanh", "none", "sigmoid"}
        Form of the GELU.
    compute : {"bfloat16", "float16"}, optional
        Convert all arrays to this dtype first. The result has the dtype of `x` again.

    Returns
    -------
    array, shape (…, out)
    """
    if compute is not None:
        half = cast_all(xp, (x, weight1, bias1, weight2, bias2), compute)
        return cast_back(xp, mlp(xp, *half, approximate=approximate), x)
    hidden = gelu(xp, linear(xp, x, weight1, bias1), approximate=approximate)
    return linear(xp, hidden, weight2, bias2)


def self_attention(
    xp: Any,
    x: Array,
    q_weight: Array,
    q_bias: Array | None,
    k_weight: Array,
    k_bias: Array | None,
    v_weight: Array,
    v_bias: Array | None,
    out_weight: Array,
    out_bias: Array | None,
    *,
    num_heads: int,
    is_causal: bool,
    compute: str | None = None,
) -> Array:
    """Let the positions of each sequence look at each other in several heads, and project the result.

    A. Vaswani and others, arXiv:1706.03762, section 3.2.2.

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    x : array, shape (batch, T, in)
    q_weight, k_weight, v_weight : arrays, shape (in, width)
    q_bias, k_bias, v_bias : arrays, shape (width,), or all None
    out_weight : array, shape (width, out)
    out_bias : array, shape (out,), or None
    num_heads : int
        Divides width.
    is_causal : bool
        Let no position look at later ones.
    compute : {"bfloat16", "float16"}, optional
        Convert all arrays to this dtype first. The result has the dtype of `x` again.

    Returns
    -------
    array, shape (batch, T, out)
    """
    if compute is not None:
        half = cast_all(
            xp, (x, q_weight, q_bias, k_weight, k_bias, v_weight, v_bias, out_weight, out_bias), compute
        )  # fmt: skip
        out = self_attention(xp, *half, num_heads=num_heads, is_causal=is_causal)
        return cast_back(xp, out, x)
    projections = ((q_weight, q_bias), (k_weight, k_bias), (v_weight, v_bias))
    q, k, v = (_split(xp, linear(xp, x, w, b), num_heads) for w, b in projections)
    mixed = _merge(xp, attention(xp, q, k, v, None, is_causal=is_causal, scale=None))
    return linear(xp, mixed, out_weight, out_bias)


def transformer_block(
    xp: Any,
    x: Array,
    gamma1: Array,
    beta1: Array,
    q_weight: Array,
    q_bias: Array,
    k_weight: Array,
    k_bias: Array,
    v_weight: Array,
    v_bias: Array,
    out_weight: Array,
    out_bias: Array,
    gamma2: Array,
    beta2: Array,
    weight1: Array,
    bias1: Array,
    weight2: Array,
    bias2: Array,
    *,
    num_heads: int,
    is_causal: bool,
    eps: float,
    approximate: str,
    compute: str | None = None,
) -> Array:
    """Compute ``x + self_attention(layer_norm(x))``, and of that y ``y + mlp(layer_norm(y))``.

    A. Radford and others, "Language models are unsupervised multitask learners", 2019, section 2.3.

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    x : array, shape (batch, T, width)
    gamma1, beta1, gamma2, beta2 : arrays, shape (width,)
        Of both normalisations.
    q_weight, q_bias, k_weight, k_bias, v_weight, v_bias, out_weight, out_bias : arrays
        As in `self_attention`, from width to width.
    weight1, bias1, weight2, bias2 : arrays
        As in `mlp`, from width to hidden to width.
    num_heads, is_causal, approximate
        As in `self_attention` and `mlp`.
    eps : float
        Added to the variances.
    compute : {"bfloat16", "float16"}, optional
        The dtype of `self_attention` and `mlp`; the sums and the normalisations keep that of `x`.

    Returns
    -------
    array, shape (batch, T, width)
    """
    parameters = (q_weight, q_bias, k_weight, k_bias, v_weight, v_bias, out_weight, out_bias)
    normal = layer_norm(xp, x, gamma1, beta1, eps=eps)
    x = x + self_attention(
        xp, normal, *parameters, num_heads=num_heads, is_causal=is_causal, compute=compute
    )
    normal = layer_norm(xp, x, gamma2, beta2, eps=eps)
    return x + mlp(
        xp, normal, weight1, bias1, weight2, bias2, approximate=approximate, compute=compute
    )


def _split(xp: Any, x: Array, num_heads: int) -> Array:
    """Return (batch, T, width) as (batch, heads, T, width / heads)."""
    batch, time, width = x.shape
    heads = xp.reshape(x, (batch, time, num_heads, width // num_heads))
    return xp.permute_dims(heads, (0, 2, 1, 3))


def _merge(xp: Any, x: Array) -> Array:
    """Undo `_split`."""
    batch, heads, time, width = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, time, heads * width))


def _back(
    xp: Any, found: Sequence[Array | None], given: Sequence[Array | None]
) -> tuple[Array | None, ...]:
    """Return cotangents in the dtypes of what they belong to."""
    return tuple(
        None if a is None else cast_back(xp, a, like) for a, like in zip(found, given, strict=True)
    )


class BlockOperations(LinearOperations, ActivationOperations, NormOperations, AttentionOperations):
    """The parts of a block on raw arrays, made of the fused operations that they consist of."""

    # ------------------------------------------------------------ feed-forward
    def mlp(
        self,
        x: Array,
        weight1: Array,
        bias1: Array | None,
        weight2: Array,
        bias2: Array | None,
        *,
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the output and ``(before the GELU, behind it, what the GELU kept …)``.

        With `compute`: that tuple and the converted arrays, as a pair.
        """
        if compute is not None:
            half = cast_all(self.xp, (x, weight1, bias1, weight2, bias2), compute)
            out, aux = self.mlp(*half, approximate=approximate)
            return cast_back(self.xp, out, x), (aux, half)
        before, _ = self.linear(x, weight1, bias1)
        behind, aux = self.gelu(before, approximate=approximate)
        return self.linear(behind, weight2, bias2)[0], (before, behind, *aux)

    def mlp_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Any, ...],
        x: Array,
        weight1: Array,
        bias1: Array | None,
        weight2: Array,
        bias2: Array | None,
        *,
        needs: Sequence[bool],
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of all five arrays."""
        if compute is not None:
            kept, half = aux
            found = self.mlp_vjp(
                cast(self.xp, g, compute), None, kept, *half, needs=needs, approximate=approximate
            )
            return _back(self.xp, found, (x, weight1, bias1, weight2, bias2))
        before, behind, *kept = aux
        inner = any(needs[:3])
        gh, gw2, gb2 = self.linear_vjp(
            g, None, (), behind, weight2, bias2, needs=(inner, needs[3], needs[4])
        )
        if not inner:
            return None, None, None, gw2, gb2
        (gh,) = self.gelu_vjp(gh, None, tuple(kept), before, needs=(True,), approximate=approximate)
        return *self.linear_vjp(gh, None, (), x, weight1, bias1, needs=needs[:3]), gw2, gb2

    # ------------------------------------------------------------ attention
    def self_attention(
        self,
        x: Array,
        q_weight: Array,
        q_bias: Array | None,
        k_weight: Array,
        k_bias: Array | None,
        v_weight: Array,
        v_bias: Array | None,
        out_weight: Array,
        out_bias: Array | None,
        *,
        num_heads: int,
        is_causal: bool,
        compute: str | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the output and ``(q, k and v side by side, mixed values, what attention kept …)``.

        With `compute`: that tuple and the converted arrays, as a pair.
        """
        if compute is not None:
            half = cast_all(
                self.xp, (x, q_weight, q_bias, k_weight, k_bias, v_weight, v_bias, out_weight, out_bias), compute
            )  # fmt: skip
            out, kept = self.self_attention(*half, num_heads=num_heads, is_causal=is_causal)
            return cast_back(self.xp, out, x), (kept, half)
        weight, bias = self._packed(q_weight, q_bias, k_weight, k_bias, v_weight, v_bias)
        packed, _ = self.linear(x, weight, bias)
        mixed, aux = self.attention(*self._heads(packed, num_heads), None, is_causal=is_causal, scale=None)  # fmt: skip
        merged = _merge(self.xp, mixed)
        return self.linear(merged, out_weight, out_bias)[0], (packed, merged, *aux)

    def _packed(self, *parameters: Array | None) -> tuple[Array, Array | None]:
        """Return three weights side by side, and their biases: one product then does for three."""
        xp = self.xp
        weights, biases = parameters[::2], parameters[1::2]
        bias = None if biases[0] is None else xp.concat(list(biases))
        return xp.concat(list(weights), axis=1), bias

    def _heads(self, packed: Array, num_heads: int) -> tuple[Array, Array, Array]:
        """Return views of q, k and v, each of shape (batch, heads, T, head_dim)."""
        xp = self.xp
        batch, time, width = packed.shape
        parts = xp.reshape(packed, (batch, time, 3, num_heads, width // (3 * num_heads)))
        parts = xp.permute_dims(parts, (2, 0, 3, 1, 4))
        return parts[0, ...], parts[1, ...], parts[2, ...]

    def self_attention_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Any, ...],
        x: Array,
        q_weight: Array,
        q_bias: Array | None,
        k_weight: Array,
        k_bias: Array | None,
        v_weight: Array,
        v_bias: Array | None,
        out_weight: Array,
        out_bias: Array | None,
        *,
        needs: Sequence[bool],
        num_heads: int,
        is_causal: bool,
        compute: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of all nine arrays."""
        if compute is not None:
            inside, half = aux
            found = self.self_attention_vjp(
                cast(self.xp, g, compute), None, inside, *half, needs=needs, num_heads=num_heads, is_causal=is_causal
            )  # fmt: skip
            given = (x, q_weight, q_bias, k_weight, k_bias, v_weight, v_bias, out_weight, out_bias)
            return _back(self.xp, found, given)
        packed, merged, *kept = aux
        inner = any(needs[:7])
        gm, gow, gob = self.linear_vjp(
            g, None, (), merged, out_weight, out_bias, needs=(inner, needs[7], needs[8])
        )
        if not inner:
            return *(None,) * 7, gow, gob
        gp = self._heads_vjp(gm, merged, tuple(kept), packed, num_heads=num_heads, is_causal=is_causal)  # fmt: skip
        weight, bias = self._packed(q_weight, q_bias, k_weight, k_bias, v_weight, v_bias)
        wanted = (needs[0], any(needs[1:7:2]), bias is not None and any(needs[2:7:2]))
        gx, gw, gb = self.linear_vjp(gp, None, (), x, weight, bias, needs=wanted)
        width = q_weight.shape[1]
        parts = []
        for i in range(3):
            columns = slice(i * width, (i + 1) * width)
            parts += [
                self.xp.asarray(gw[:, columns], copy=True) if needs[1 + 2 * i] else None,  # type: ignore[index]  # not None where it is needed
                self.xp.asarray(gb[columns], copy=True) if needs[2 + 2 * i] else None,  # type: ignore[index]  # not None where it is needed
            ]
        return gx, *parts, gow, gob

    def _heads_vjp(
        self,
        g: Array,
        merged: Array,
        aux: tuple[Array, ...],
        packed: Array,
        *,
        num_heads: int,
        is_causal: bool,
    ) -> Array:
        """Return the cotangent of `packed`, given that of the merged values."""
        xp = self.xp
        at, mixed = (_split(xp, x, num_heads) for x in (g, merged))
        q, k, v = self._heads(packed, num_heads)
        found = self.attention_vjp(
            at, mixed, aux, q, k, v, None, needs=(True, True, True, False), is_causal=is_causal, scale=None
        )  # fmt: skip
        return xp.concat([_merge(xp, x) for x in found[:3]], axis=-1)

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
        """Return the output and what its four parts kept: ``(normal, middle, normal, aux, aux, aux, aux)``."""
        gamma1, beta1, *attention, gamma2, beta2 = parameters[:12]
        normal1, aux1 = self.layer_norm(x, gamma1, beta1, eps=eps)
        middle, aux2 = self.self_attention(
            normal1, *attention, num_heads=num_heads, is_causal=is_causal, compute=compute
        )
        middle = middle + x
        normal2, aux3 = self.layer_norm(middle, gamma2, beta2, eps=eps)
        out, aux4 = self.mlp(normal2, *parameters[12:], approximate=approximate, compute=compute)
        return out + middle, (normal1, middle, normal2, aux1, aux2, aux3, aux4)

    def transformer_block_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
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
        gamma1, beta1, *attention, gamma2, beta2 = parameters[:12]
        normal1, middle, normal2, aux1, aux2, aux3, aux4 = aux
        inner, first = any(needs[:13]), any(needs[:3])
        gn, *gmlp = self.mlp_vjp(
            g, None, aux4, normal2, *parameters[12:], needs=(inner, *needs[13:]), approximate=approximate,
            compute=compute,
        )  # fmt: skip
        if not inner:
            return *(None,) * 13, *gmlp
        gm, *gnorm2 = self.layer_norm_vjp(
            gn, None, aux3, middle, gamma2, beta2, needs=(True, *needs[11:13]), eps=eps
        )
        gm = gm + g
        gn, *gattention = self.self_attention_vjp(
            gm, None, aux2, normal1, *attention, needs=(first, *needs[3:11]), num_heads=num_heads,
            is_causal=is_causal, compute=compute,
        )  # fmt: skip
        gx, *gnorm1 = (None, None, None)
        if first:
            gx, *gnorm1 = self.layer_norm_vjp(
                gn, None, aux1, x, gamma1, beta1, needs=needs[:3], eps=eps
            )
        gx = gx + gm if needs[0] else None
        return gx, *gnorm1, *gattention, *gnorm2, *gmlp
