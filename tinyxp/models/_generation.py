"""Text generation: the loop around a model that gives logits."""

from __future__ import annotations

import operator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tinyxp
from tinyxp import dtypes
from tinyxp._core import TENSORS, fresh, snapshot, wrap
from tinyxp._devices import on
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.graphs import Captured, warn
from tinyxp.models._decoding import Step, can_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyxp._core import Tensor
    from tinyxp.models._sampling import Sampler
    from tinyxp.models.gpt import GPT
    from tinyxp.nn import KVCache, Module

__all__ = ["Decoder", "Generation", "as_prompt"]

_LOOK_EVERY = 16  # tokens between two looks at whether all rows have ended, where looking waits for the device


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
    most : int
        How many tokens will be added at most.
    pads : list of int
        Columns of padding at the left of each row; empty if there are none.
    use_cache : bool
        Keep keys and values, so that a step costs one position and not all.

    Attributes
    ----------
    length : int
        Of the sequences now.
    step : Step or None
        What gives the logits of one more position, while there is something that does.
    """

    def __init__(
        self, model: GPT, prompt: Tensor, most: int, pads: list[int], *, use_cache: bool
    ) -> None:
        self.model, self.pads, self.length = model, pads, prompt.shape[1]
        device, capacity = prompt.device, self.length + most
        xp, shape = device.xp, (prompt.shape[0], capacity)
        with on(device):
            self._tokens = xp.zeros(shape, dtype=xp.int64, device=device.native)
            xp.setitem(self._tokens, (slice(None), slice(self.length)), fresh(prompt)._raw)
        self.modules: list[Module] = model.modules()
        self.caches: list[KVCache] | None = None
        self.step: Step | None = None
        self.last: Tensor | None = None
        if use_cache and model.num_layers > 0 and self.length <= model.max_seq_len:
            self.caches = model.make_caches(prompt.shape[0], min(capacity, model.max_seq_len))

    def tokens(self, start: int, stop: int) -> Tensor:
        """Return a copy of the columns of the sequences from `start` to `stop`."""
        device = self.model.device
        with on(device):
            columns = device.xp.getitem(self._tokens, (slice(None), slice(start, stop)))
            return wrap(device.backend.copy(columns), device)

    def ready(self) -> Step | None:
        """Return what gives the logits of one more position, None where all of the window is asked.

        Beyond the model's window only the last tokens count, and every position moves with each step, so
        nothing cached stays valid.
        """
        if self.length > self.model.max_seq_len:
            self.caches = self.step = None
        elif self.step is None and self.caches and self.caches[0].length and can_step(self.model):
            self.step = Step(self.model, self.caches, self._padding(0))
        return self.step

    def logits(self) -> Tensor:
        """Return the logits (batch, vocab_size) of what follows."""
        step = self.ready()
        if step is not None:
            return step(self.last)  # type: ignore[arg-type]  # there is a token since there is a cache
        if self.caches is not None and self.caches[0].length:
            return self._ask(self.last[:, None], 0)  # type: ignore[index]  # likewise
        dropped = max(0, self.length - self.model.max_seq_len)
        return self._ask(self.tokens(dropped, self.length), dropped)

    def append(self, new: Tensor) -> None:
        """Add a token (batch,) to the sequences."""
        self.last = snapshot(new)  # whoever gets it may write into it
        device, column = self.model.device, (slice(None), self.length)
        with on(device):
            device.xp.setitem(self._tokens, column, fresh(new)._raw)
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


class _Ends:
    """Which rows have ended, kept on the device.

    Parameters
    ----------
    eos : int, sequence of int or None
        The tokens at which a row ends; it then repeats the first of them.
    prompt : Tensor
        Whose rows they are.
    """

    def __init__(self, eos: Any, prompt: Tensor) -> None:
        given = [] if eos is None else eos if isinstance(eos, list | tuple) else [eos]
        self.tokens = [operator.index(e) for e in given]
        self.device, native = prompt.device, prompt.device.native
        if self.tokens:
            xp = self.device.xp
            self._done = xp.zeros(prompt.shape[0], dtype=xp.bool, device=native)
            self._needed = xp.zeros((), dtype=xp.int64, device=native)

    def finish(self, new: Tensor) -> Tensor:
        """Return `new`, in rows that have ended the first of the end tokens; note who ends now."""
        if not self.tokens:
            return new
        xp, done = self.device.xp, self._done
        with on(self.device):
            raw = xp.where(done, self.tokens[0], fresh(new)._raw)
            going = xp.astype(xp.logical_not(xp.all(done)), xp.int64)
            xp.setitem(self._needed, ..., self._needed + going)
            for end in self.tokens:
                done = xp.logical_or(done, raw == end)
            xp.setitem(self._done, ..., done)
            return wrap(raw, self.device)

    def reached(self) -> bool:
        """Whether all rows have ended; waits for the device."""
        with on(self.device):
            return bool(self.device.xp.all(self._done))

    def needed(self) -> int:
        """Return how many tokens it took until all rows had ended, or were made; waits for the device."""
        return int(wrap(self._needed, self.device).item())


class _Replayed:
    """A step of generation that is replayed from a graph: its token, position and draws are on the device."""

    def __init__(self, step: Step, last: Tensor, sampler: Sampler, ends: _Ends) -> None:
        device = step.device
        self.device, self.step, self.sampler, self.ends = device, step, sampler, ends
        self.draw: tuple[int, int, int] = (0, 0, -1)  # where the device stands
        with on(device):
            self.token = wrap(device.backend.copy(fresh(last)._raw), device)
            self.position = self._words(step.caches[0].length)
            self.drawing = self._words(*self.draw)
        self.run = Captured(self._once, warmup=1, device=device)

    def __call__(self) -> Tensor:
        """Return the next token of every row."""
        if self.sampler.temperature != 0:
            draw = self.sampler.random.next_draw()
            if draw != self.draw:
                with on(self.device):
                    self.device.xp.setitem(self.drawing, ..., self._words(*draw))
            self.draw = (*draw[:2], draw[2] + 1)
        new: Tensor = self.run()
        self.step.grow()
        return new

    def _once(self) -> Tensor:
        logits = self.step.logits(self.token, self.position)
        new = self.ends.finish(self.sampler.draw(logits, self.drawing))
        xp = self.device.xp
        with on(self.device):
            xp.setitem(self.token._raw, ..., new._raw)
            xp.advance(self.position, self.drawing)
        return new

    def _words(self, *numbers: int) -> Any:
        kind = dtypes.dtype("int64")
        return self.device.backend.asarray(list(numbers), dtype=kind, device=self.device)


class Generation:
    """The tokens that a model adds to prompts, one after the other.

    Parameters
    ----------
    model : GPT
    prompt : Tensor of int64, shape (batch, T)
    pads : list of int
        See `Decoder`.
    sampler : Sampler
    most : int
        How many tokens to add at most.
    eos : int, sequence of int or None
        Where rows end.
    use_cache : bool
        See `Decoder`.
    graph : bool
        Record what a step launches, and replay it.
    late : bool
        Look at what is on a GPU only now and then: a few tokens too many are made and dropped again.
    """

    def __init__(
        self,
        model: GPT,
        prompt: Tensor,
        pads: list[int],
        sampler: Sampler,
        most: int,
        *,
        eos: int | Sequence[int] | None,
        use_cache: bool,
        graph: bool,
        late: bool,
    ) -> None:
        self.decoder = Decoder(model, prompt, most, pads, use_cache=use_cache)
        self.first, self.most, self.sampler, self.graph = prompt.shape[1], most, sampler, graph
        self.ends = _Ends(eos, prompt)
        self.late = late and not model.device.backend.host_visible
        self.replayed: _Replayed | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the next token of every row, shape (batch,), until all rows have ended."""
        bad = None
        for i in range(self.most):
            if i == 0:
                logits = self.decoder.logits()
                bad = tinyxp.any(tinyxp.isnan(logits))
                if not self.late:
                    _check(bad)
                new = self.ends.finish(self.sampler(logits))
            else:
                new = self._next()
            self.decoder.append(new)
            yield new
            if self.ends.tokens and self._ended(i + 1):
                break
        if bad is not None and self.late:
            _check(bad)

    def _next(self) -> Tensor:
        decoder = self.decoder
        step = decoder.ready() if self.graph else None
        if step is not None and not step.device.backend.records:
            self.graph, step = False, None
            warn(f"the backend {decoder.model.device.backend.name!r} records no graphs")
        if step is None:
            return self.ends.finish(self.sampler(decoder.logits()))
        if self.replayed is None or self.replayed.step is not step:
            self.replayed = _Replayed(step, decoder.last, self.sampler, self.ends)  # type: ignore[arg-type]  # there is one since the first step
        return self.replayed()

    def _ended(self, made: int) -> bool:
        if not self.late:
            return self.ends.reached()
        return made % _LOOK_EVERY == 0 and self.ends.needed() < made

    def result(self) -> Tensor:
        """Make all tokens; return them behind the prompt."""
        made = sum(1 for _ in self)
        if self.late and self.ends.tokens and made:
            needed = self.ends.needed()
            if self.sampler.temperature != 0:
                self.sampler.random.rewind(made - needed)
            made = needed
        return self.decoder.tokens(0, self.first + made)


def _check(bad: Tensor) -> None:
    if bool(bad):
        raise ValueError(
            "generate got NaN logits: a parameter of the model is NaN (did training diverge?) or a token id "
            "is out of range"
        )
