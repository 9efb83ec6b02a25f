"""Tables of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._core import TENSORS
from tinyxp.nn import functional, init
from tinyxp.nn._module import Module
from tinyxp.ops._dispatch import as_tensor

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["Embedding"]


class Embedding(Module):
    """A vector for each of a number of ids.

    Parameters
    ----------
    vocab_size : int
        How many ids there are.
    embed_dim : int
        Length of each vector.
    device : Device or str, optional
        Where the table lives, by default the default device.
    dtype : DTypeLike, optional
        Of the table, by default the default floating dtype.

    Attributes
    ----------
    weight : Parameter, shape (vocab_size, embed_dim)
        Starts standard normal.

    Examples
    --------
    >>> import tinyxp
    >>> Embedding(10, 4)(tinyxp.asarray([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        *,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.vocab_size, self.embed_dim = vocab_size, embed_dim
        self.weight = init.parameter((vocab_size, embed_dim), std=1.0, device=device, dtype=dtype)

    def forward(self, indices: Any) -> Tensor:
        """Map integer ids of shape (…) to vectors of shape (…, embed_dim)."""
        if type(indices) not in TENSORS:
            indices = as_tensor(indices, self.weight.device)
        return functional.embedding(indices, self.weight)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.vocab_size}, {self.embed_dim}"
