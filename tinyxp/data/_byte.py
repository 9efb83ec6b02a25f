"""The tokenizer whose tokens are the bytes of UTF-8."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from tinyxp.data._tokenizer import Tokenizer
from tinyxp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ByteTokenizer"]


def byte(token: int, name: str) -> bytes:
    """Return the byte that `token` is."""
    if not 0 <= token < 256:  # noqa: PLR2004 - a byte
        raise DataError(f"{name} expects tokens from 0 to 255; got {int(token)}")
    return bytes((int(token),))


def utf8_stream(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of `pieces`, holding back the bytes of a character until it is complete."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        text = decoder.decode(piece)
        if text:
            yield text
    text = decoder.decode(b"", final=True)
    if text:
        yield text


class ByteTokenizer(Tokenizer):
    """A token for each byte of the text's UTF-8: 256 tokens, any text, nothing to learn.

    Bytes that are no UTF-8, which a model may well produce, decode to U+FFFD.

    Examples
    --------
    >>> t = ByteTokenizer()
    >>> t.encode("né"), t.decode([110, 195, 169])
    ([110, 195, 169], 'né')
    """

    kind = "byte"
    vocab_size = 256

    def encode_packed(self, text: str, /) -> bytes:
        """Return the UTF-8 of `text`: its bytes are the tokens."""
        return text.encode("utf-8", "replace")

    def decode_stream(self, tokens: Iterable[int], /) -> Iterator[str]:
        """Yield the text of the bytes, a character as soon as its last byte has come."""
        return utf8_stream(byte(t, "ByteTokenizer") for t in tokens)
