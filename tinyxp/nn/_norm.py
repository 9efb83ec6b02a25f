"""Normalisation layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyxp.nn import functional, init
from tinyxp.nn._module import Module

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["LayerNorm", "RMSNorm"]


class LayerNorm(Module):
    """``(x - mean) / sqrt(variance + eps) * gamma + beta`` over the last axes (arXiv:1607.06450).

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Lengths of the last axes of the input, which are normalised over together.
    eps : float
        Added to the variance.
    device : Device or str, optional
        Where the parameters live, by default the default device.
    dtype : DTypeLike, optional
        Of the parameters, by default the default floating dtype.

    Attributes
    ----------
    gamma : Parameter, shape normalized_shape
        Starts at 1.
    beta : Parameter, shape normalized_shape
        Starts at 0.

    Examples
    --------
    >>> import tinyxp
    >>> LayerNorm(4)(tinyxp.asarray([[1.0, 1.0, 3.0, 3.0]])).shape
    (1, 4)
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        *,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        shape = _as_tuple(normalized_shape)
        self.gamma = init.parameter(shape, value=1.0, device=device, dtype=dtype)
        self.beta = init.parameter(shape, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` of shape (…, *normalized_shape)."""
        return functional.layer_norm(x, self.gamma, self.beta, eps=self.eps)

    def extra_repr(self) -> str:
        """Return the shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """``x / sqrt(mean(x^2) + eps) * gamma`` over the last axes (arXiv:1910.07467).

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Lengths of the last axes of the input, which are normalised over together.
    eps : float
        Added to the mean square.
    device : Device or str, optional
        Where the parameter lives, by default the default device.
    dtype : DTypeLike, optional
        Of the parameter, by default the default floating dtype.

    Attributes
    ----------
    gamma : Parameter, shape normalized_shape
        Starts at 1.

    Examples
    --------
    >>> import tinyxp
    >>> RMSNorm(2, eps=0.0)(tinyxp.asarray([3.0, 3.0])).tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        *,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        self.gamma = init.parameter(
            _as_tuple(normalized_shape), value=1.0, device=device, dtype=dtype
        )

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` of shape (…, *normalized_shape)."""
        return functional.rms_norm(x, self.gamma, eps=self.eps)

    def extra_repr(self) -> str:
        """Return the shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


def _as_tuple(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
