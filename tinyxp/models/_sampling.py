"""From logits to the next token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp._core import MODE, fresh, wrap
from tinyxp._decode import probabilities
from tinyxp._devices import on
from tinyxp.backend import PLAIN
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
        drawn = self.temperature != 0  # the most probable token is not drawn
        return self.draw(logits, self.random.next_key() if drawn else (0, 0))

    def draw(self, logits: Tensor, key: Any) -> Tensor:
        """Return a token for each row, drawn with `key`: two words, or where the device keeps such.

        Parameters
        ----------
        logits : Tensor, shape (batch, vocab_size)
        key : tuple of two int, or array of three int64
            As the backend's `sample` takes it.

        Returns
        -------
        Tensor of int64, shape (batch,)
        """
        device = logits.device
        sample = device.fns["sample" if MODE.fused else PLAIN + "sample"]
        with on(device), device.backend.quiet():
            return wrap(sample(fresh(logits)._raw, key, **self._options()), device)

    def weights(self, logits: Tensor) -> Tensor:
        """Return unnormalised float64 probabilities, 0 for tokens that are out of question."""
        device = logits.device
        with on(device), device.backend.quiet():
            return wrap(probabilities(device.xp, fresh(logits)._raw, **self._options()), device)

    def _options(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
