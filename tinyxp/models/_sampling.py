"""From logits to the next token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import tinyxp
from tinyxp.random import Generator, default_generator

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["Sampler"]


class Sampler:
    """Choose a token for each row of logits.

    Equal logits and seeds give equal tokens on every backend: the uniform numbers are the same bit for bit,
    and the distribution is added up in float64.

    Parameters
    ----------
    temperature : float
        Divides the logits; 0 takes the most probable token.
    top_k : int, optional
        Consider only the `top_k` most probable tokens, and those as probable as the last of them.
    top_p : float, optional
        Consider only the most probable tokens whose probabilities before them add up to less than `top_p`
        (nucleus sampling, arXiv:1904.09751, section 3.1), in (0, 1].
    seed : int, optional
        Of the generator, by default the one that `tinyxp.manual_seed` starts.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import tinyxp
    >>> Sampler(temperature=0)(tinyxp.asarray([[0.0, 2.0, 1.0]])).tolist()
    [1]
    """

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ValueError(
                f"temperature expects a finite number >= 0 (0 takes the most probable token); got {temperature}"
            )
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k expects at least 1 token; got {top_k}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p expects a probability in (0, 1]; got {top_p}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.random = default_generator() if seed is None else Generator(seed)

    def __call__(self, logits: Tensor) -> Tensor:
        """Return a token for each row.

        Parameters
        ----------
        logits : Tensor, shape (batch, vocab_size)

        Returns
        -------
        Tensor of int64, shape (batch,)
        """
        if self.temperature == 0:
            return tinyxp.argmax(logits, axis=-1).to("int64")
        weights = self.weights(logits)
        steps = tinyxp.cumulative_sum(weights, axis=-1)
        total = steps[:, -1:]
        place = (
            self.random.uniform((logits.shape[0], 1), dtype="float64", device=logits.device) * total
        )
        below = tinyxp.sum((steps <= place).to("int64"), axis=-1)
        last = tinyxp.sum(
            (steps < total).to("int64"), axis=-1
        )  # rounding may put the place at the end
        token: Tensor = tinyxp.minimum(below, last)
        return token

    def weights(self, logits: Tensor) -> Tensor:
        """Return unnormalised float64 probabilities, 0 for tokens that are out of question."""
        scaled = logits.to("float64")
        scaled = (scaled - tinyxp.max(scaled, axis=-1, keepdims=True)) / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            order = tinyxp.sort(scaled, axis=-1, descending=True)
            scaled = tinyxp.where(scaled < order[:, self.top_k - 1 : self.top_k], -math.inf, scaled)
        weights: Tensor = tinyxp.exp(scaled)
        if self.top_p is None or self.top_p == 1:
            return weights
        return _nucleus(weights, self.top_p)


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Return `weights` with 0 for all but the largest that make up the share `top_p`."""
    order = tinyxp.argsort(weights, axis=-1, descending=True, stable=True)
    ranked = tinyxp.take_along_axis(weights, order, axis=-1)
    before = tinyxp.cumulative_sum(ranked, axis=-1) - ranked
    kept = tinyxp.where(before < top_p * tinyxp.sum(ranked, axis=-1, keepdims=True), ranked, 0.0)
    back = tinyxp.argsort(order, axis=-1)
    return tinyxp.take_along_axis(kept, back, axis=-1)
