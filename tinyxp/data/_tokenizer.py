"""What every tokenizer offers, and how one is found again in a folder."""

from __future__ import annotations

import json
import sys
from array import array
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tinyxp.errors import CheckpointError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Tokenizer", "load_tokenizer", "typecode"]

NAME = "tokenizer.json"
_KINDS: dict[str, type[Tokenizer]] = {}
Typecode = Literal["B", "H", "I"]
ENDIAN = "le" if sys.byteorder == "little" else "be"


def typecode(vocab_size: int) -> Typecode:
    """Return the `array` type code of the smallest unsigned integer that holds every token.

    Examples
    --------
    >>> typecode(65), typecode(50257)
    ('B', 'H')
    """
    if vocab_size <= 1 << 8:
        return "B"
    return "H" if vocab_size <= 1 << 16 else "I"


class Tokenizer:
    """Text to token numbers and back.

    Attributes
    ----------
    vocab_size : int
        How many tokens there are; token numbers are ``0 … vocab_size - 1``.
    kind : str
        What the tokenizer is called in a saved file.
    """

    kind: ClassVar[str]
    vocab_size: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _KINDS[cls.kind] = cls

    def encode(self, text: str, /) -> list[int]:
        """Return the tokens of `text`."""
        packed = self.encode_packed(text)
        return memoryview(packed).cast(typecode(self.vocab_size)).tolist()

    def encode_packed(self, text: str, /) -> bytes:
        """Return the tokens of `text` as bytes: unsigned integers of the type `typecode` gives."""
        raise NotImplementedError(f"{type(self).__name__} must define `encode_packed`")

    def decode(self, tokens: Iterable[int], /) -> str:
        """Return the text of `tokens`, a sequence of int or a 1-D integer Tensor."""
        return "".join(self.decode_stream(tokens))

    def decode_stream(self, tokens: Iterable[int], /) -> Iterator[str]:
        """Yield the text of `tokens` as they come, never half a character."""
        raise NotImplementedError(f"{type(self).__name__} must define `decode_stream`")

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to make this tokenizer again, in JSON's terms."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any], folder: str | os.PathLike[str], /) -> Tokenizer:  # noqa: ARG003 - for subclasses that read files
        """Make the tokenizer that `config` describes; `folder` is where its other files are."""
        return cls(**config)

    def save(self, folder: str | os.PathLike[str], /) -> None:
        """Write ``tokenizer.json`` into `folder`, which exists."""
        from pathlib import Path

        text = json.dumps({"kind": self.kind, **self.config()}, ensure_ascii=False, indent=1)
        (Path(folder) / NAME).write_text(text + "\n", encoding="utf-8")

    def fingerprint(self) -> bytes:
        """Return bytes that differ between tokenizers that would give different tokens."""
        return json.dumps([self.kind, self.config()]).encode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and other.fingerprint() == self.fingerprint()

    def __hash__(self) -> int:
        return hash((self.kind, self.vocab_size))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"


def load_tokenizer(folder: str | os.PathLike[str], /) -> Tokenizer:
    """Return the tokenizer saved in `folder`.

    Parameters
    ----------
    folder : path
        A run's folder, or one in GPT-2's layout (``vocab.json`` and ``merges.txt``).

    Raises
    ------
    CheckpointError
        If there is none, or its file is damaged.
    """
    from pathlib import Path

    path, merges = Path(folder) / NAME, Path(folder) / "merges.txt"
    if not path.exists() and not merges.exists():
        raise CheckpointError(f"{folder} holds no tokenizer ({NAME})")
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if merges.exists():  # GPT-2's layout; a tokenizer.json beside it may be another library's
            config = {"kind": "bpe"}
        return _KINDS[config.pop("kind")].from_config(config, folder)
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(
            f"{path} is no tokenizer of tinyxp: {type(exc).__name__}: {exc}"
        ) from None


def pack(tokens: Sequence[int], vocab_size: int) -> bytes:
    """Return `tokens` as unsigned integers of the smallest type that holds them all."""
    return array(typecode(vocab_size), tokens).tobytes()
