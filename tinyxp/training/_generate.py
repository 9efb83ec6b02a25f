"""Text from a trained model, a piece at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyxp.backend import device as find_device
from tinyxp.data import load_tokenizer
from tinyxp.errors import CheckpointError
from tinyxp.models import GPT
from tinyxp.training._checkpoint import load_weights
from tinyxp.training._config import NAME as CONFIG
from tinyxp.training._config import RunConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from tinyxp.backend import Device
    from tinyxp.data import TokenDataset, Tokenizer

_TEMPERATURE = 0.7  # of samples: below 1 a small model writes better than it knows

__all__ = ["load_run", "sample_text", "stream_text"]


def load_run(
    folder: str | os.PathLike[str], device: Device | str | None = None
) -> tuple[GPT, Tokenizer]:
    """Return the model and the tokenizer of the run in `folder`.

    Parameters
    ----------
    folder : path
        What `train` wrote, or a GPT-2 in Hugging Face's layout.
    device : Device, str or None
        Where the model shall live.

    Raises
    ------
    CheckpointError
        If there is no run, or it is damaged.
    """
    where, path = find_device(device), Path(folder)
    if _from_elsewhere(path):
        return GPT.from_pretrained(path, device=where), load_tokenizer(path)
    _, facts = RunConfig.load(path)
    tokenizer, weights = load_tokenizer(path), load_weights(path, where)
    try:
        model = GPT(**facts["model"], device=where)
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(
            f"{path / CONFIG} describes no model: {type(exc).__name__}: {exc}"
        ) from None
    model.load_state_dict(weights)
    return model, tokenizer


def _from_elsewhere(folder: Path) -> bool:
    try:
        return "model_type" in json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def stream_text(
    model: GPT, tokenizer: Tokenizer, prompt: str, max_new_tokens: int = 500, **options: Any
) -> Iterator[str]:
    """Return an iterator over the text that follows `prompt`, a piece at a time.

    Parameters
    ----------
    model : GPT
        Who writes.
    tokenizer : Tokenizer
        What it was trained with.
    prompt : str
        What the text begins with; an empty one stands for a line break.
    max_new_tokens : int
        How many tokens to write.
    **options
        `temperature`, `top_k`, `top_p`, `seed`: see `GPT.generate`.

    Raises
    ------
    DataError
        If the tokenizer does not know a character of `prompt`.
    """
    tokens = tokenizer.encode(prompt) or [_first_token(tokenizer)]
    new = model.stream(tokens, max_new_tokens, **options)
    return tokenizer.decode_stream(token.item() for token in new)


def _first_token(tokenizer: Tokenizer) -> int:
    """Return a token to begin with: a line break if there is one."""
    known = getattr(tokenizer, "chars", "\n")
    return tokenizer.encode("\n" if "\n" in known else known[0])[0]


def sample_text(model: GPT, data: TokenDataset, length: int, *, seed: int) -> str:
    """Return about `length` characters that `model` writes at a low temperature, from the start of a line.

    Parameters
    ----------
    model : GPT
        Who writes.
    data : TokenDataset
        What it was trained on; its tokenizer is used.
    length : int
        Characters, about.
    seed : int
        Another seed, another text.
    """
    assert data.tokenizer is not None  # noqa: S101 - load_data gives one
    text = ""
    for piece in stream_text(
        model, data.tokenizer, "", length, temperature=_TEMPERATURE, seed=seed
    ):
        text += piece
        if len(text) >= length:
            break
    return text.strip("\n")
