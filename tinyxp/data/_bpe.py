"""Byte-level byte-pair encoding: learning, encoding, and GPT-2's files."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tinyxp.data._byte import utf8_stream
from tinyxp.data._tokenizer import Tokenizer, pack
from tinyxp.errors import CheckpointError, DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["BPETokenizer"]

Pair = tuple[bytes, bytes]
_CACHED = 1 << 16  # words whose tokens are remembered
_HEADER = "#version: 0.2"


@cache
def byte_letters() -> dict[int, str]:
    """Return the letter that stands for each byte in ``vocab.json`` and ``merges.txt``.

    Printable bytes of Latin-1 stand for themselves, the others for U+0100 and up in their order, so that
    no token of the files holds white space (GPT-2, ``bytes_to_unicode``).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {b: chr(b if b in printable else next(others)) for b in range(256)}


@cache
def letter_bytes() -> dict[str, int]:
    """Return the byte for each letter of `byte_letters`."""
    return {letter: b for b, letter in byte_letters().items()}


def spelled(token: bytes) -> str:
    """Return `token` as GPT-2's files spell it."""
    letters = byte_letters()
    return "".join(letters[b] for b in token)


@cache
def word_pattern() -> re.Pattern[str]:
    r"""Return the pattern that cuts text into the words within which bytes are paired.

    GPT-2's: ``'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+``, with Unicode's
    classes spelled out because `re` has none: a word character of `re` is a letter, a number or ``_``.
    """
    import unicodedata

    other = "".join(c for c in map(chr, range(0x20000)) if unicodedata.category(c) in {"Nl", "No"})
    letter, number = rf"[^\W\d_{other}]", rf"[\d{other}]"
    return re.compile(
        rf"'(?:[stmd]|re|ve|ll)| ?{letter}+| ?{number}+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"
    )


class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding as in GPT-2: any text, frequent pieces of words in one token.

    Parameters
    ----------
    vocab : mapping of bytes to int
        The number of each token.
    merges : sequence of pairs of bytes
        Which neighbours become one token, the most urgent first.
    special : mapping of str to int, optional
        Tokens that no text encodes to, such as ``"<|endoftext|>"``.

    References
    ----------
    Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016,
    algorithm 1; on bytes: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019,
    section 2.2.

    Examples
    --------
    >>> t = BPETokenizer.train("low lower lowest slow slower", vocab_size=260)
    >>> t.decode(t.encode("slowest"))
    'slowest'
    >>> len(t.encode("slow"))
    2
    """

    kind = "bpe"

    def __init__(
        self,
        vocab: Mapping[bytes, int],
        merges: Sequence[Pair],
        *,
        special: Mapping[str, int] | None = None,
    ) -> None:
        self.vocab, self.merges, self.special = dict(vocab), list(merges), dict(special or {})
        self.vocab_size = 1 + max(*self.vocab.values(), *self.special.values(), -1)
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._bytes = {i: token for token, i in self.vocab.items()}
        self._bytes.update((i, name.encode()) for name, i in self.special.items())
        self._words: dict[str, list[int]] = {}

    # ------------------------------------------------------------ learning
    @classmethod
    def train(cls, text: str | Iterable[str], /, vocab_size: int) -> BPETokenizer:
        """Learn a vocabulary of at most `vocab_size` tokens (at least 256, one a byte) from `text`.

        Of equally frequent pairs the one whose bytes come first is joined first, so that the same text gives
        the same tokens everywhere.
        """
        from tinyxp.data._bpe_train import learn

        if vocab_size < 256:  # noqa: PLR2004 - the bytes
            raise DataError(f"BPETokenizer expects vocab_size of at least 256; got {vocab_size}")
        merges = learn([text] if isinstance(text, str) else text, vocab_size - 256)
        tokens = dict.fromkeys([bytes((b,)) for b in range(256)] + [a + b for a, b in merges])
        return cls({token: i for i, token in enumerate(tokens)}, merges)

    # ------------------------------------------------------------ encoding
    def encode_packed(self, text: str, /) -> bytes:
        """Return the tokens of `text` as bytes."""
        known, tokens = self._words, []
        for word in word_pattern().findall(text):
            try:
                tokens += known[word]
            except KeyError:
                tokens += self._word(word)
        return pack(tokens, self.vocab_size)

    def _word(self, word: str) -> list[int]:
        tokens = [self.vocab[part] for part in self._join(word.encode("utf-8", "replace"))]
        if len(self._words) < _CACHED:
            self._words[word] = tokens
        return tokens

    def _join(self, word: bytes) -> list[bytes]:
        """Return the parts of `word` after joining the most urgent pair until none is left."""
        parts, ranks, never = (
            [word[i : i + 1] for i in range(len(word))],
            self._ranks,
            len(self._ranks),
        )
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: ranks.get(pair, never))
            if best not in ranks:
                break
            parts = join(parts, best)
        return parts

    def decode_stream(self, tokens: Iterable[int], /) -> Iterator[str]:
        """Yield the text of the tokens, a character as soon as its last byte has come."""
        return utf8_stream(map(self._token_bytes, tokens))

    def _token_bytes(self, token: int) -> bytes:
        try:
            return self._bytes[int(token)]
        except KeyError:
            raise DataError(
                f"BPETokenizer expects tokens from 0 to {self.vocab_size - 1}; got {int(token)}"
            ) from None

    # ------------------------------------------------------------ files
    def config(self) -> dict[str, Any]:
        """Return the special tokens; the rest is in ``vocab.json`` and ``merges.txt``."""
        return {"special": self.special}

    def fingerprint(self) -> bytes:
        """Return the vocabulary and the merges."""
        return repr((self.kind, self.special, self.vocab, self.merges)).encode()

    def save(self, folder: str | os.PathLike[str], /) -> None:
        """Write ``vocab.json`` and ``merges.txt`` in GPT-2's layout, and ``tokenizer.json``, into `folder`."""
        from pathlib import Path

        vocab = {spelled(token): i for token, i in self.vocab.items()} | self.special
        text = json.dumps(vocab, ensure_ascii=False) + "\n"
        (Path(folder) / "vocab.json").write_text(text, encoding="utf-8")
        lines = [_HEADER, *(f"{spelled(left)} {spelled(right)}" for left, right in self.merges)]
        (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        super().save(folder)

    @classmethod
    def from_config(cls, config: dict[str, Any], folder: str | os.PathLike[str], /) -> BPETokenizer:  # noqa: ARG003 - for subclasses that read files
        """Read the tokenizer from `folder`, see `from_pretrained`."""
        return cls.from_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], /) -> BPETokenizer:
        """Read ``vocab.json`` and ``merges.txt`` from `folder`.

        What the vocabulary holds beyond bytes and their merges is special.

        Raises
        ------
        CheckpointError
            If a file is missing or damaged.
        """
        try:
            vocab, merges, special = _read(folder)
        except FileNotFoundError as exc:
            raise CheckpointError(
                f"{folder} holds no byte-pair tokenizer: {exc.filename} is missing"
            ) from None
        except (ValueError, KeyError) as exc:
            raise CheckpointError(f"{folder}: vocab.json or merges.txt is damaged: {exc}") from None
        return cls(vocab, merges, special=special)


def join(parts: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Return `parts` with each occurrence of `pair`, from the left, made one."""
    joined, i = [], 0
    while i < len(parts):
        here = tuple(parts[i : i + 2]) == pair
        joined.append(pair[0] + pair[1] if here else parts[i])
        i += 1 + here
    return joined


def _read(folder: str | os.PathLike[str]) -> tuple[dict[bytes, int], list[Pair], dict[str, int]]:
    from pathlib import Path

    to_byte = letter_bytes()
    entries = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
    lines = (Path(folder) / "merges.txt").read_text(encoding="utf-8").split("\n")
    spelling = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    merges = [
        (bytes(map(to_byte.__getitem__, a)), bytes(map(to_byte.__getitem__, b)))
        for a, b in spelling
    ]
    ordinary = {bytes((b,)) for b in range(256)} | {a + b for a, b in merges}
    vocab, special = {}, {}
    for name, i in entries.items():
        token = bytes(map(to_byte.__getitem__, name)) if to_byte.keys() >= set(name) else b""
        if token in ordinary:
            vocab[token] = i
        else:
            special[name] = i
    if missing := ordinary - vocab.keys():
        raise ValueError(
            f"vocab.json lacks {len(missing)} tokens of merges.txt, such as {min(missing)!r}"
        )
    return vocab, merges, special
