"""What the functions of `tinyxp.linalg` share: their arguments, and the call of those with several results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._core import CASTING
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.ops import _autocast, _dispatch

if TYPE_CHECKING:
    from tinyxp._core import Tensor

MATRIX = 2  # axes of a matrix


def floating(x: Any, name: str) -> Any:
    """Return `x` as a Tensor; refuse integers and booleans."""
    x = _dispatch.as_tensor(x)
    if CASTING:
        (x,) = _autocast.widened(x)
    if x.dtype.kind not in "fc":
        raise DTypeError(
            f"linalg.{name} expects a floating Tensor; got dtype {x.dtype}; convert it with x.to('float32')"
        )
    return x


def matrices(x: Any, name: str, *, square: bool = False) -> Any:
    """Return `x` as a floating Tensor of matrices; refuse anything else."""
    x = floating(x, name)
    if x.ndim < MATRIX:
        raise ShapeError(f"linalg.{name} expects matrices, shape (..., M, N); got shape {x.shape}")
    if square and x.shape[-1] != x.shape[-2]:
        raise ShapeError(
            f"linalg.{name} expects square matrices, shape (..., M, M); got shape {x.shape}"
        )
    return x


def several(name: str, x: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """Call an operation with several results."""

    def forward(xp: Any, raw: Any, **kwargs: Any) -> tuple[Any, ...]:
        return tuple(getattr(xp.linalg, name)(raw, **kwargs))

    out: tuple[Tensor, ...] = _dispatch.apply(f"linalg.{name}", (x,), kwargs, forward=forward)
    return out
