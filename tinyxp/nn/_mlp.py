"""The feed-forward part of a transformer block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyxp.nn._activation import GELU
from tinyxp.nn._dropout import Dropout
from tinyxp.nn._linear import Linear
from tinyxp.nn._module import Module, is_plain
from tinyxp.nn._promotion import promoted
from tinyxp.ops import fused

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["MLP"]


class MLP(Module):
    """Linear, GELU, linear, dropout.

    Parameters
    ----------
    embed_dim : int
        Length of the last axis of input and output.
    hidden_dim : int, optional
        Length in between, by default ``4 * embed_dim`` (arXiv:1706.03762, section 3.3).
    dropout_prob : float
        Share of the output that is dropped while training.
    approximate : {"tanh", "none", "sigmoid"}
        Form of the GELU.
    device : Device or str, optional
        Where the parameters live, by default the default device.
    dtype : DTypeLike, optional
        Of the parameters, by default the default floating dtype.

    Attributes
    ----------
    linear1, linear2 : Linear
        Their weights and biases are the four parameters.
    gelu : GELU
        In between.

    Examples
    --------
    >>> import tinyxp
    >>> MLP(8)(tinyxp.ones((2, 5, 8))).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int | None = None,
        dropout_prob: float = 0.0,
        *,
        approximate: str = "tanh",
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.embed_dim = embed_dim
        self.hidden_dim = 4 * embed_dim if hidden_dim is None else hidden_dim
        self.linear1 = Linear(embed_dim, self.hidden_dim, device=device, dtype=dtype)
        self.gelu = GELU(approximate)
        self.linear2 = Linear(self.hidden_dim, embed_dim, device=device, dtype=dtype)
        self.dropout = Dropout(dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` of shape (…, embed_dim) to the same shape."""
        first, second = self.linear1, self.linear2
        if is_plain(first, Linear) and is_plain(second, Linear) and is_plain(self.gelu, GELU):
            x = first.check(x)
            arrays = promoted("MLP", x, first.weight, first.bias, second.weight, second.bias)
            y: Tensor = fused.mlp(*arrays, approximate=self.gelu.approximate)
        else:
            y = second(self.gelu(first(x)))
        return self.dropout(y)  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker
