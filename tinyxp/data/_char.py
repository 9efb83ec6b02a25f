"""The tokenizer whose tokens are characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp.data._tokenizer import ENDIAN, Tokenizer, typecode
from tinyxp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["CharTokenizer"]

_CODEC = {"B": "latin-1", "H": f"utf-16-{ENDIAN}", "I": f"utf-32-{ENDIAN}"}


class CharTokenizer(Tokenizer):
    """A token for each character of a text.

    Parameters
    ----------
    chars : str or iterable of str
        The text, or its characters; repetitions do not matter. Tokens are numbered in the order of code
        points, so that the same text gives the same tokens everywhere.

    Raises
    ------
    DataError
        If `chars` is empty.

    Examples
    --------
    >>> t = CharTokenizer("hello")
    >>> t.encode("hole"), t.decode([1, 0, 2, 3])
    ([1, 3, 2, 0], 'helo')
    """

    kind = "char"

    def __init__(self, chars: Iterable[str]) -> None:
        self.chars = "".join(sorted({c for piece in chars for c in piece}))
        if not self.chars:
            raise DataError("CharTokenizer expects at least one character; got an empty text")
        self.vocab_size = len(self.chars)
        self._known = frozenset(self.chars)
        self._table = {ord(c): i for i, c in enumerate(self.chars)}

    def encode_packed(self, text: str, /) -> bytes:
        """Return the tokens of `text` as bytes.

        The characters are mapped to those whose code points are the tokens, and a codec of fixed width
        turns these into integers: no loop over the text runs in Python.
        """
        unknown = set(text) - self._known
        if unknown:
            raise DataError(self._explain(text, unknown))
        codec = _CODEC[typecode(self.vocab_size)]
        return text.translate(self._table).encode(codec, "surrogatepass")

    def _explain(self, text: str, unknown: set[str]) -> str:
        first = next(i for i, c in enumerate(text) if c in unknown)
        shown = self.chars if self.vocab_size <= 120 else self.chars[:120] + "…"  # noqa: PLR2004 - characters that a line shows
        return (
            f"{text[first]!r} at position {first} is not among the {self.vocab_size} characters this "
            f"tokenizer knows; it knows {shown!r}"
        )

    def decode_stream(self, tokens: Iterable[int], /) -> Iterator[str]:
        """Yield the character of each token."""
        chars, size = self.chars, self.vocab_size
        for token in tokens:
            if not 0 <= token < size:
                raise DataError(
                    f"CharTokenizer expects tokens from 0 to {size - 1}; got {int(token)}"
                )
            yield chars[int(token)]

    def config(self) -> dict[str, Any]:
        """Return the characters."""
        return {"chars": self.chars}
