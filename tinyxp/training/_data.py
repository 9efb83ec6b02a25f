"""The data that a run's settings name."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tinyxp.data import BPETokenizer, ByteTokenizer, TokenDataset, default_text
from tinyxp.data._files import find_files, read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyxp.data import Tokenizer
    from tinyxp.training._config import RunConfig

__all__ = ["load_data"]

_LEARNED_FROM = 16  # pieces of 4 million characters, at most, that byte pairs are learned from


def load_data(config: RunConfig, tokenizer: Tokenizer | None = None) -> TokenDataset:
    """Return the tokens of the texts that `config` names, or of the default text.

    Parameters
    ----------
    config : RunConfig
        Its `data`, `tokenizer` and `vocab_size` are looked at.
    tokenizer : Tokenizer, optional
        Used instead of a new one, by a run that goes on.

    Raises
    ------
    DataError
        If a text is missing, empty, no text, or shorter than the context.
    """
    if config.data:
        tokenizer = tokenizer or _tokenizer(config, read_chunks(find_files(config.data)))
        data = TokenDataset.from_files(config.data, tokenizer)
    else:
        text = default_text()
        data = TokenDataset.from_text(text, tokenizer or _tokenizer(config, [text]))
    data.check(config.context)
    return data


def _tokenizer(config: RunConfig, texts: Iterable[str]) -> Tokenizer | None:
    """Return the tokenizer that `config` names; None for characters, which the dataset counts itself."""
    if config.tokenizer == "byte":
        return ByteTokenizer()
    if config.tokenizer == "bpe":
        return BPETokenizer.train(islice(texts, _LEARNED_FROM), config.vocab_size)
    return None
