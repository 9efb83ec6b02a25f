"""An output layer that shares its weight with the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tinyxp
from tinyxp.nn import Embedding, Module, functional

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["TiedHead"]


class TiedHead(Module):
    """``x @ embedding.weight.T``: the same table maps ids to vectors and vectors to scores.

    Press and Wolf, "Using the output embedding to improve language models", arXiv:1608.05859.

    Parameters
    ----------
    embedding : Embedding
        Whose weight it uses. It has no parameters of its own.
    """

    bias = None

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding

    @property
    def weight(self) -> Tensor:
        """The embedding's weight as a Linear's, shape (in, out): a view, so gradients reach the table."""
        return tinyxp.matrix_transpose(self.embedding.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` of shape (…, embed_dim) to scores of shape (…, vocab_size)."""
        return functional.linear(x, self.weight)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.embedding.embed_dim}, {self.embedding.vocab_size}, tied"
