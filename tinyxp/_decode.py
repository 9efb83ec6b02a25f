"""One more position through a transformer, and the next token: part of the third tier of a backend.

With a cache of keys and values, a token costs a hundred operations on small arrays, and calling them takes
longer than what they compute. A backend that overrides `transformer_step` does a block in one call. There are no
derivatives. The conformance suite holds the overrides to the defaults.

A backend that records launches also takes the position, and what random numbers are drawn with, from
the memory of the device, so that a recorded step can be replayed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tinyxp import _draw

__all__ = ["NAMES", "BlockArrays", "Defaults"]

Array = Any  # an array of the backend's library

NAMES = ("advance", "embed_step", "sample", "transformer_step")


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

    def embed_step(
        self: Any,  # a backend, which has the other operations
        tokens: Array,
        table: Array,
        positions: Array,
        padding: Array | None,
        *,
        start: int | Array,
    ) -> Array:
        """Return the embeddings of a token and of its position for each sequence.

        Parameters
        ----------
        tokens : array of int64, shape (batch,)
        table, positions : array, shape (vocab_size, width) and (max_seq_len, width)
            The embeddings.
        padding : array of int64, shape (batch,), or None
            From where on the positions of a sequence count.
        start : int, or array of one int64
            How many positions there are before.

        Returns
        -------
        array, shape (batch, width)
        """
        xp, start = self.xp, _number(self.xp, start)
        x = xp.take(table, tokens, axis=0)
        if padding is None:
            return x + xp.getitem(positions, slice(start, start + 1))
        return x + xp.take(positions, xp.clip(start - padding, min=0), axis=0)

    def sample(
        self: Any,
        logits: Array,
        key: tuple[int, int] | Array,
        /,
        *,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
    ) -> Array:
        """Return a token for each row of logits.

        Parameters
        ----------
        logits : array, shape (batch, vocab_size)
        key : tuple of two int, or array of three int64
            Of the draw; or a key and how many draws were made with it before.
        temperature : float
            Divides the logits; with 0 the first of the largest is taken, and nothing is drawn.
        top_k : int or None
            Only the `top_k` largest come into question, and those that equal the last of them.
        top_p : float or None
            Only the largest that make up this share of the probability.

        Returns
        -------
        array of int64, shape (batch,)
        """
        xp = self.xp
        if temperature == 0:
            return xp.astype(xp.argmax(logits, axis=-1), xp.int64)
        if not isinstance(key, tuple):
            k0, k1, count = (int(xp.getitem(key, i)) for i in range(3))
            key = _draw.derive((k0, k1), count, _draw.DRAW)
        weights = probabilities(xp, logits, temperature=temperature, top_k=top_k, top_p=top_p)
        draw = _draw.Draw(xp, key, (logits.shape[0], 1), logits.device)
        place = _draw.uniform(draw, xp.float64, "float64", low=0.0, high=1.0)
        steps = xp.cumulative_sum(weights, axis=-1)
        total = steps[:, -1:]
        below = xp.sum(xp.astype(steps <= place * total, xp.int64), axis=-1)
        # rounding may put the place at the end
        last = xp.sum(xp.astype(steps < total, xp.int64), axis=-1)
        return xp.minimum(below, last)

    def advance(self: Any, position: Array, drawing: Array, /) -> None:
        """Go on to the next position and the next draw, in place.

        Parameters
        ----------
        position : array of one int64
            What `transformer_step` takes for `start`.
        drawing : array of three int64
            What `sample` takes for the key.
        """
        xp = self.xp
        xp.setitem(position, slice(None), position + 1)
        xp.setitem(drawing, 2, xp.getitem(drawing, 2) + 1)

    def transformer_step(
        self: Any,  # a backend, which has the other operations
        x: Array,
        arrays: tuple[Array, ...],
        keys: Array,
        values: Array,
        mask: Array | None,
        *,
        start: int | Array,
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
        start : int, or array of one int64
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
        start = _number(xp, start)
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


def _number(xp: Any, x: int | Array) -> int:
    """Return a number that may stand in an array of one element, as one of Python's."""
    return x if isinstance(x, int) else int(xp.reshape(x, ()))


def probabilities(
    xp: Any, logits: Array, *, temperature: float, top_k: int | None, top_p: float | None
) -> Array:
    """Return unnormalised float64 probabilities, 0 for tokens that are out of question.

    Parameters
    ----------
    xp : namespace
        Of the array.
    logits : array, shape (batch, vocab_size)
    temperature, top_k, top_p
        Of `Defaults.sample`; the temperature is not 0. For `top_p` see arXiv:1904.09751, section 3.1.

    Returns
    -------
    array of float64, shape (batch, vocab_size)
    """
    scaled = xp.astype(logits, xp.float64)
    scaled = (scaled - xp.max(scaled, axis=-1, keepdims=True)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        order = xp.sort(scaled, axis=-1, descending=True)
        scaled = xp.where(scaled < order[:, top_k - 1 : top_k], -math.inf, scaled)
    weights = xp.exp(scaled)
    return weights if top_p is None or top_p == 1 else _nucleus(xp, weights, top_p)


def _nucleus(xp: Any, weights: Array, top_p: float) -> Array:
    """Return `weights` with 0 for all but the largest that make up the share `top_p`."""
    order = xp.argsort(weights, axis=-1, descending=True, stable=True)
    ranked = xp.take_along_axis(weights, order, axis=-1)
    before = xp.cumulative_sum(ranked, axis=-1) - ranked
    kept = xp.where(before < top_p * xp.sum(ranked, axis=-1, keepdims=True), ranked, 0.0)
    return xp.take_along_axis(kept, xp.argsort(order, axis=-1), axis=-1)
