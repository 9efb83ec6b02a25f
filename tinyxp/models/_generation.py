"""Text generation: the loop around a model that gives logits."""

from __future__ import annotations

import operator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tinyxp
from tinyxp._core import TENSORS, snapshot
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.models._decoding import Step, can_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyxp._core import Tensor
    from tinyxp.models._sampling import Sampler
    from tinyxp.models.gpt import GPT
    from tinyxp.nn import KVCache, Module

__all__ = ["Decoder", "as_prompt", "stream"]


def as_prompt(tokens: Any, model: GPT) -> tuple[Tensor, list[int]]:
    """Return prompts as one int64 Tensor, and how many columns of padding each row starts with.

    Parameters
    ----------
    tokens : Tensor, array or nested list of integers
        (batch, T), (T,) for one sequence, or a list of lists of different lengths.
    model : GPT
        Whose device is used.
    """
    pads: list[int] = []
    if isinstance(tokens, list | tuple) and tokens and isinstance(tokens[0], list | tuple):
        longest = max(len(row) for row in tokens)
        pads = [longest - len(row) for row in tokens]
        if longest in pads:
            raise ShapeError(
                "generate expects at least one token in every prompt; got an empty one"
            )
        tokens = [[0] * n + list(row) for n, row in zip(pads, tokens, strict=True)]
    if type(tokens) not in TENSORS:
        tokens = tinyxp.asarray(tokens, device=model.device)
    if tokens.ndim == 1:
        tokens = tokens[None, :]
    _check_prompt(tokens)
    return tokens.detach().to("int64"), pads if any(pads) else []


def _check_prompt(tokens: Tensor) -> None:
    if tokens.ndim != 2 or 0 in tokens.shape:  # noqa: PLR2004 - batch, time
        raise ShapeError(
            "generate expects tokens of shape (batch, positions) with at least one position, such as a line "
            f"break; got shape {tuple(tokens.shape)}"
        )
    if tokens.dtype.kind not in "iu":
        raise DTypeError(f"generate expects integer token ids; got {tokens.dtype}")


class Decoder:
    """Gives the logits behind a growing sequence, with a cache while it fits into the model's window.

    Parameters
    ----------
    model : GPT
        What to ask.
    prompt : Tensor of int64, shape (batch, T)
        The beginning of the sequences.
    capacity : int
        Most positions that will be asked for.
    pads : list of int
        Columns of padding at the left of each row; empty if there are none.
    use_cache : bool
        Keep keys and values, so that a step costs one position and not all.
    """

    def __init__(
        self, model: GPT, prompt: Tensor, capacity: int, pads: list[int], *, use_cache: bool
    ) -> None:
        self.model, self.pads = model, pads
        self.prompt, self.length = prompt, prompt.shape[1]
        self.new: list[Tensor] = []
        self.modules: list[Module] = model.modules()
        self.caches: list[KVCache] | None = None
        self.step: Step | None = None
        if use_cache and model.num_layers > 0 and self.length <= model.max_seq_len:
            self.caches = model.make_caches(prompt.shape[0], min(capacity, model.max_seq_len))

    def logits(self) -> Tensor:
        """Return the logits (batch, vocab_size) of what follows.

        Beyond the model's window only the last tokens count, and every position moves with each step, so
        nothing cached stays valid.
        """
        if self.length > self.model.max_seq_len:
            self.caches = self.step = None
        if self.step is not None:
            return self.step(self.new[-1])
        if self.caches is not None and self.caches[0].length:
            if can_step(self.model):
                self.step = Step(self.model, self.caches, self._padding(0))
                return self.step(self.new[-1])
            return self._ask(self.new[-1][:, None], 0)
        if self.new:
            self.prompt = tinyxp.concat([self.prompt, tinyxp.stack(self.new, axis=1)], axis=1)
            self.new = []
        dropped = max(0, self.length - self.model.max_seq_len)
        return self._ask(self.prompt[:, dropped:], dropped)

    def append(self, new: Tensor) -> None:
        """Add a token (batch,) to the sequences."""
        self.new.append(snapshot(new))  # whoever gets it may write into it
        self.length += 1

    def _ask(self, tokens: Tensor, dropped: int) -> Tensor:
        with _asking(self.modules):
            logits: Tensor = self.model(
                tokens, caches=self.caches, padding=self._padding(dropped), last_only=True
            )
        return logits[:, -1, :]

    def _padding(self, dropped: int) -> Tensor | None:
        pads = [max(0, n - dropped) for n in self.pads]
        return tinyxp.asarray(pads, dtype="int64", device=self.model.device) if any(pads) else None


@contextmanager
def _asking(modules: list[Module]) -> Iterator[None]:
    """Record nothing, and let none of `modules` drop anything."""
    training = [m for m in modules if m.training]
    for m in training:
        m.training = False
    try:
        with tinyxp.no_grad():
            yield
    finally:
        for m in training:
            m.training = True


def stream(
    model: GPT,
    prompt: Tensor,
    pads: list[int],
    sampler: Sampler,
    max_new_tokens: int,
    *,
    eos: int | Sequence[int] | None,
    use_cache: bool,
) -> Iterator[Tensor]:
    """Yield the next token of every row, shape (batch,), until all rows have ended."""
    ends = _ends(eos)
    decoder = Decoder(model, prompt, prompt.shape[1] + max_new_tokens, pads, use_cache=use_cache)
    done = tinyxp.zeros(prompt.shape[0], dtype="bool", device=prompt.device)
    for i in range(max_new_tokens):
        logits = decoder.logits()
        if i == 0:
            _check_logits(logits)
        new = sampler(logits)
        if ends:
            new, done = _finish(new, done, ends)
        decoder.append(new)
        yield new
        if ends and bool(tinyxp.all(done)):
            return


def _finish(new: Tensor, done: Tensor, ends: list[int]) -> tuple[Tensor, Tensor]:
    """Let rows that have ended repeat the first of the end tokens."""
    new = tinyxp.where(done, ends[0], new)
    for end in ends:
        done = done | (new == end)
    return new, done


def _ends(eos: Any) -> list[int]:
    if eos is None:
        return []
    return [operator.index(e) for e in (eos if isinstance(eos, list | tuple) else [eos])]


def _check_logits(logits: Tensor) -> None:
    if bool(tinyxp.any(tinyxp.isnan(logits))):
        raise ValueError(
            "generate got NaN logits: a parameter of the model is NaN (did training diverge?) or a token id "
            "is out of range"
        )
