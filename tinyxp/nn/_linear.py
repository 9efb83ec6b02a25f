"""Affine maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp._core import TENSORS
from tinyxp.errors import ShapeError
from tinyxp.nn import functional, init
from tinyxp.nn._module import Module
from tinyxp.ops._dispatch import as_tensor

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["Linear"]


class Linear(Module):
    """``x @ weight + bias``.

    Parameters
    ----------
    in_features : int
        Length of the last axis of the input.
    out_features : int
        Length of the last axis of the output.
    bias : bool
        Whether to add a bias.
    device : Device or str, optional
        Where the parameters live, by default the default device.
    dtype : DTypeLike, optional
        Of the parameters, by default the default floating dtype.

    Attributes
    ----------
    weight : Parameter, shape (in_features, out_features)
        Starts normal with deviation ``1 / sqrt(in_features)`` (LeCun and others, "Efficient BackProp",
        1998, equation 16), which keeps the variance of the input.
    bias : Parameter, shape (out_features,), or None
        Starts at 0.

    Examples
    --------
    >>> import tinyxp
    >>> Linear(4, 2)(tinyxp.ones((3, 4))).shape
    (3, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,  # noqa: FBT001, FBT002 - Linear(4, 2, False) is common
        *,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        std = 1 / math.sqrt(max(in_features, 1))
        self.weight = init.parameter(
            (in_features, out_features), std=std, device=device, dtype=dtype
        )
        self.bias = init.parameter((out_features,), device=device, dtype=dtype) if bias else None

    def forward(self, x: Any) -> Tensor:
        """Map `x` of shape (…, in_features) to (…, out_features)."""
        return functional.linear(self.check(x), self.weight, self.bias)

    def check(self, x: Any) -> Tensor:
        """Return `x` as a Tensor; raise `ShapeError` unless its last axis is `in_features` long."""
        if type(x) not in TENSORS:
            x = as_tensor(x, self.weight.device)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"Linear expects the last axis to be in_features={self.in_features}; got x of shape "
                f"{tuple(x.shape)}"
            )
        return x  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.in_features}, {self.out_features}" + (
            "" if self.bias is not None else ", bias=False"
        )
