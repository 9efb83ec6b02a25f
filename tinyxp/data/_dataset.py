"""Tokens to train on: in memory or in a mapped file, cut into batches."""

from __future__ import annotations

import mmap
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._devices import on
from tinyxp.backend import device as find_device
from tinyxp.data._char import CharTokenizer
from tinyxp.data._files import find_files, read_chunks
from tinyxp.data._store import IN_MEMORY, store_tokens
from tinyxp.data._tokenizer import pack, typecode
from tinyxp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.data._tokenizer import Tokenizer

__all__ = ["TokenDataset"]

_DTYPE = {"B": "uint8", "H": "uint16", "I": "uint32"}
_STREAM = {"train": 0, "val": 1}  # which random numbers belong to which part
_DRAWN = 64  # steps whose crops are drawn together
Batch = tuple["Tensor", "Tensor"]


class TokenDataset:
    """A long row of tokens, its first part to train on and its last part to validate with.

    Parameters
    ----------
    tokens : sequence of int, or a buffer of unsigned integers
        1-D. A buffer (`array`, `memoryview`, NumPy array) is used where it lies, not copied.
    vocab_size : int
        Every token is less than this.
    tokenizer : Tokenizer, optional
        What made the tokens.
    val_fraction : float
        Share of the tokens, from the end, kept for validation.

    Raises
    ------
    DataError
        If there are no tokens.

    Examples
    --------
    >>> data = TokenDataset.from_text("to be or not to be, that is the question")
    >>> data
    TokenDataset(36 tokens to train, 4 to validate, vocab_size=14)
    >>> x, y = data.batch(0, batch_size=2, context=8)
    >>> x.shape, bool((x[:, 1:] == y[:, :-1]).all())
    ((2, 8), True)
    """

    def __init__(
        self,
        tokens: Sequence[int] | memoryview | bytes,
        *,
        vocab_size: int,
        tokenizer: Tokenizer | None = None,
        val_fraction: float = 0.1,
    ) -> None:
        self.vocab_size, self.tokenizer = vocab_size, tokenizer
        view = _view(tokens, vocab_size)
        if not len(view):
            raise DataError("TokenDataset expects at least one token; got none")
        if not 0 <= val_fraction < 1:
            raise DataError(f"TokenDataset expects val_fraction in [0, 1); got {val_fraction}")
        self._bytes, self._item, self._dtype = view.cast("B"), view.itemsize, _DTYPE[view.format]
        train = int(len(view) * (1 - val_fraction))
        self.splits = {"train": (0, train), "val": (train, len(view))}

    # ------------------------------------------------------------ making
    @classmethod
    def from_text(
        cls, text: str, tokenizer: Tokenizer | None = None, *, val_fraction: float = 0.1
    ) -> TokenDataset:
        """Return the dataset of `text`, by default a token for each character of it.

        Raises
        ------
        DataError
            If `text` is empty, or holds what `tokenizer` does not know.
        """
        tokenizer = tokenizer or CharTokenizer(text)
        packed = memoryview(tokenizer.encode_packed(text)).cast(typecode(tokenizer.vocab_size))
        return cls(
            packed, vocab_size=tokenizer.vocab_size, tokenizer=tokenizer, val_fraction=val_fraction
        )

    @classmethod
    def from_files(
        cls,
        paths: Iterable[str | PathLike[str]] | str | PathLike[str],
        tokenizer: Tokenizer | None = None,
        *,
        val_fraction: float = 0.1,
        cache: str | PathLike[str] | None = None,
    ) -> TokenDataset:
        """Return the dataset of text files, folders and globs.

        Up to 64 MiB of text are kept in memory. The tokens of more are written once to a file in `cache`
        and mapped, so that only what a batch reads is in memory.

        Parameters
        ----------
        paths : path or iterable of paths
            Files, folders (searched through) or globs such as ``"books/*.txt"``.
        tokenizer : Tokenizer, optional
            By default a `CharTokenizer` of the characters that occur.
        val_fraction : float
            Share of the tokens, from the end, kept for validation.
        cache : path, optional
            Folder for the tokens of large texts; ``~/.cache/tinyxp`` by default.

        Raises
        ------
        DataError
            If a path names nothing, or a file is empty or no UTF-8 text.
        """
        files = find_files([paths] if isinstance(paths, str | PathLike) else paths)
        large = sum(f.stat().st_size for f in files) > IN_MEMORY
        if not large:
            return cls.from_text("".join(read_chunks(files)), tokenizer, val_fraction=val_fraction)
        tokenizer = tokenizer or CharTokenizer(set().union(*map(set, read_chunks(files))))
        path = store_tokens(files, tokenizer, cache)
        return cls.from_token_file(path, tokenizer, val_fraction=val_fraction)

    @classmethod
    def from_token_file(
        cls, path: str | PathLike[str], tokenizer: Tokenizer, *, val_fraction: float = 0.1
    ) -> TokenDataset:
        """Return the dataset of a file of tokens, mapped into memory.

        Parameters
        ----------
        path : path
            Unsigned integers of the type that `typecode` gives for the tokenizer, in the machine's order.
        tokenizer : Tokenizer
            What made them.
        val_fraction : float
            Share of the tokens, from the end, kept for validation.
        """
        with Path(path).open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        view = mapped.cast(typecode(tokenizer.vocab_size))
        return cls(
            view, vocab_size=tokenizer.vocab_size, tokenizer=tokenizer, val_fraction=val_fraction
        )

    # ------------------------------------------------------------ looking
    def __len__(self) -> int:
        """Return the number of tokens of both parts together."""
        return self.splits["val"][1]

    def __repr__(self) -> str:
        train, val = self.size("train"), self.size("val")
        return f"TokenDataset({train:,} tokens to train, {val:,} to validate, vocab_size={self.vocab_size})"

    def size(self, split: str = "train") -> int:
        """Return the number of tokens of ``"train"`` or ``"val"``."""
        first, end = self._bounds(split)
        return end - first

    def _bounds(self, split: str) -> tuple[int, int]:
        try:
            return self.splits[split]
        except KeyError:
            raise DataError(f"no split {split!r}; a dataset has 'train' and 'val'") from None

    def check(self, context: int) -> None:
        """Raise `DataError` unless both parts are longer than `context`, so that a crop has a next token."""
        for split, name in (("train", "training"), ("val", "validation")):
            if self.size(split) <= context:
                least = min(map(self.size, self.splits))
                fix = (
                    f"or a context of at most {least - 1}"
                    if least > 1
                    else "there is far too little"
                )
                raise DataError(
                    f"the text is shorter than the context: its {name} part has {self.size(split)} tokens, "
                    f"and a context of {context} takes at least {context + 1}; use a longer text, {fix}"
                )

    # ------------------------------------------------------------ batches
    def batch(
        self,
        step: int,
        *,
        batch_size: int,
        context: int,
        seed: int = 0,
        split: str = "train",
        device: Device | str | None = None,
    ) -> Batch:
        """Return random crops, the same for the same seed and step on every backend.

        Parameters
        ----------
        step : int
            Which batch; any order, so that a run can go on where it stopped.
        batch_size : int
            B, the number of crops.
        context : int
            T, the length of a crop in tokens.
        seed : int
            Another seed, other batches.
        split : {"train", "val"}
            Where from.
        device : Device, str or None
            Where to.

        Returns
        -------
        x, y : Tensor
            (B, T) each, int64; ``y`` is ``x`` one token later.

        Raises
        ------
        DataError
            If the split has no more than `context` tokens.
        """
        first, end = self._bounds(split)
        if end - first <= context:
            self.check(context)
        block, row = divmod(step, _DRAWN)
        crops = _draw(seed, block, split, batch_size, end - first - context)[row]
        return self._crops([first + c for c in crops], context, find_device(device))

    def windows(
        self,
        split: str = "val",
        *,
        batch_size: int,
        context: int,
        limit: int | None = None,
        device: Device | str | None = None,
    ) -> Iterator[Batch]:
        """Yield the split from beginning to end, as crops that do not overlap.

        Parameters
        ----------
        split : {"train", "val"}
            Where from.
        batch_size, context : int
            Crops at a time (the last batch may have fewer), and tokens of a crop.
        limit : int, optional
            At most this many crops, evenly spread over the split.
        device : Device, str or None
            Where to.
        """
        first, end = self._bounds(split)
        if end - first <= context:
            self.check(context)
        total = (end - first - 1) // context
        kept = min(total, limit or total)
        starts = [first + (i * total // kept) * context for i in range(kept)]
        for i in range(0, kept, batch_size):
            yield self._crops(starts[i : i + batch_size], context, find_device(device))

    def _crops(self, starts: Sequence[int], context: int, device: Device) -> Batch:
        from tinyxp._core import wrap

        size, length = self._item, (context + 1) * self._item
        joined = b"".join(self._bytes[s * size : s * size + length] for s in starts)
        backend, xp = device.backend, device.xp
        shape = (len(starts), context + 1)
        with on(device):
            raw = backend.from_buffer(memoryview(joined), dtypes.dtype(self._dtype), shape, device)
            raw = xp.astype(raw, backend.native_dtype(dtypes.dtype("int64")))
        return wrap(raw[:, :-1], device), wrap(raw[:, 1:], device)


def _view(tokens: Any, vocab_size: int) -> memoryview:
    """Return `tokens` as a 1-D memoryview of unsigned integers."""
    try:
        view = memoryview(tokens)
    except TypeError:
        view = memoryview(_packed(tokens, vocab_size)).cast(typecode(vocab_size))
    if view.ndim != 1 or view.format not in _DTYPE or not view.c_contiguous:
        raise DataError(
            f"TokenDataset expects a contiguous 1-D buffer of unsigned integers of 8, 16 or 32 bits; got "
            f"format {view.format!r} and shape {view.shape}"
        )
    return view


def _packed(tokens: Sequence[int], vocab_size: int) -> bytes:
    if any(not 0 <= t < vocab_size for t in tokens):
        raise DataError(f"TokenDataset expects tokens from 0 to vocab_size - 1 = {vocab_size - 1}")
    return pack(tokens, vocab_size)


@lru_cache(maxsize=8)
def _draw(seed: int, block: int, split: str, batch_size: int, count: int) -> list[list[int]]:
    """Draw where the crops of `_DRAWN` steps begin; a generator of its own for each block of steps."""
    from tinyxp.random import Generator

    generator = Generator(seed).fold_in(_STREAM[split]).fold_in(block)
    drawn: list[list[int]] = generator.integers(
        0, count, (_DRAWN, batch_size), device="cpu"
    ).tolist()
    return drawn
