"""One more position through a transformer block: part of the third tier of a backend, for generation.

With a cache of keys and values, a token costs a hundred operations on small arrays, and calling them takes
longer than what they compute. A backend that overrides `transformer_step` does a block in one call. There is no
derivative. The conformance suite holds the override to the default.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["NAMES", "BlockArrays", "Defaults"]

Array = Any  # an array of the backend's library

NAMES = ("transformer_step",)


class BlockArrays(NamedTuple):
    """The parameters of a `TransformerBlock`, in the order in which it lists them."""

    q_weight: Array  # (width, width), as the next three
    q_bias: Array  # (width,), as the next three
    k_weight: Array
    k_bias: Array
    v_weight: Array
    v_bias: Array
    out_weight: Array
    out_bias: Array
    gamma1: Array  # (width,), as the next three
    beta1: Array
    gamma2: Array
    beta2: Array
    weight1: Array  # (width, hidden)
    bias1: Array  # (hidden,)
    weight2: Array  # (hidden, width)
    bias2: Array  # (width,)


class Defaults:
    """The step in terms of the other fused operations, which a backend inherits and may override."""

    def transformer_step(
        self: Any,  # a backend, which has the other operations
        x: Array,
        arrays: tuple[Array, ...],
        keys: Array,
        values: Array,
        mask: Array | None,
        *,
        start: int,
        eps: float,
        approximate: str,
    ) -> Array:
        """Apply a block to one position of each sequence, and write its keys and values behind the others.

        Parameters
        ----------
        x : array, shape (batch, width)
            The position; is not written.
        arrays : BlockArrays or tuple in its order
            The parameters.
        keys, values : array, shape (batch, heads, capacity, width / heads)
            Of the `start` positions before; those of `x` are written to place `start`.
        mask : array of bool, shape (batch, 1, 1, capacity), or None
            True where a position may be looked at.
        start : int
            How many positions there are before.
        eps : float
            Added to the variances.
        approximate : {"tanh", "none", "sigmoid"}
            Form of the GELU.

        Returns
        -------
        array, shape (batch, width)
        """
        b, xp = BlockArrays(*arrays), self.xp
        here, past = (
            (..., slice(start, start + 1), slice(None)),
            (..., slice(start + 1), slice(None)),
        )
        split = (x.shape[0], keys.shape[1], 1, keys.shape[3])
        h, _ = self.layer_norm(x, b.gamma1, b.beta1, eps=eps)
        xp.setitem(keys, here, xp.reshape(self.linear(h, b.k_weight, b.k_bias)[0], split))
        xp.setitem(values, here, xp.reshape(self.linear(h, b.v_weight, b.v_bias)[0], split))
        mixed, _ = self.attention(
            xp.reshape(self.linear(h, b.q_weight, b.q_bias)[0], split),
            xp.getitem(keys, past),
            xp.getitem(values, past),
            None if mask is None else xp.getitem(mask, (..., slice(start + 1))),
            is_causal=False,
            scale=None,
        )
        x = x + self.linear(xp.reshape(mixed, x.shape), b.out_weight, b.out_bias)[0]
        h, _ = self.layer_norm(x, b.gamma2, b.beta2, eps=eps)
        return x + self.mlp(h, b.weight1, b.bias1, b.weight2, b.bias2, approximate=approximate)[0]
