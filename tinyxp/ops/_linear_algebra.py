"""Linear algebra functions of the standard's main namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyxp import dtypes
from tinyxp._core import CASTING, TENSORS, Tensor
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.ops import _autocast, _dispatch
from tinyxp.ops._manipulation import matrix_transpose as matrix_transpose
from tinyxp.ops._manipulation import normalize_axis, permute_dims, reshape

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["matmul", "matrix_transpose", "tensordot", "vecdot"]


def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Return the matrix product.

    Parameters
    ----------
    x1 : Tensor, shape (..., M, K) or (K,)
    x2 : Tensor, shape (..., K, N) or (K,)
        Leading axes broadcast.

    Returns
    -------
    Tensor, shape (..., M, N), without the axis of a vector argument

    Raises
    ------
    ShapeError
        If the inner lengths differ, or an argument has no axes.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.matmul(xp.Tensor([[1.0, 2.0]]), xp.Tensor([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    if type(x1) not in TENSORS:
        x1 = _dispatch.operand(x1, x2._device if type(x2) in TENSORS else None)
    if type(x2) not in TENSORS:
        x2 = _dispatch.operand(x2, x1._device)
    if CASTING:
        x1, x2 = _autocast.narrowed(x1, x2)
    a, b = x1._raw.shape, x2._raw.shape
    m, n = len(a), len(b)
    if m == 0 or n == 0 or a[-1] != b[n - 2 if n > 1 else 0]:
        raise ShapeError(
            f"matmul expects (..., M, K) @ (..., K, N) with equal K; got {x1.shape} @ {x2.shape}"
        )
    if n == 2 < m:  # noqa: PLR2004 - many rows with one matrix: a single product, not one for each
        rows = reshape(x1, (_dispatch.size_of(a[:-1]), a[-1]))
        return reshape(_matmul(rows, x2), (*a[:-1], b[-1]))
    return _matmul(x1, x2)


_matmul = _dispatch.binary("matmul")


def _promoted(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in their common dtype."""
    a, b = x1._raw.dtype, x2._raw.dtype
    if a is b or a == b:
        return x1, x2
    from tinyxp.ops._data_types import astype

    d = dtypes.promote(dtypes.of(a), dtypes.of(b))
    return astype(x1, d, copy=False), astype(x2, d, copy=False)


def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Return the inner product along an axis, with the complex conjugate of `x1`.

    Parameters
    ----------
    x1, x2 : Tensor, shape (..., n, ...)
        The other axes broadcast.
    axis : int
        Negative: the same for both.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.vecdot(xp.Tensor([1.0, 2.0]), xp.Tensor([3.0, 4.0])).item()
    11.0
    """
    from tinyxp import ops

    x1, x2 = _dispatch.operand(x1), _dispatch.operand(x2)
    if CASTING:
        x1, x2 = _autocast.narrowed(x1, x2)
    n = min(len(x1._raw.shape), len(x2._raw.shape))
    if n == 0 or not -n <= axis < n or x1._raw.shape[axis] != x2._raw.shape[axis]:
        raise ShapeError(
            f"vecdot expects equal lengths along axis {axis}; got {tuple(x1._raw.shape)} and {tuple(x2._raw.shape)}"
        )
    x1, x2 = _promoted(x1, x2)
    a = ops.expand_dims(ops.moveaxis(x1, axis, -1), axis=-2)
    b = ops.expand_dims(ops.moveaxis(x2, axis, -1), axis=-1)
    a = ops.conj(a) if dtypes.of(a._raw.dtype).kind == "c" else a
    if dtypes.of(a._raw.dtype).kind == "b":
        raise DTypeError("vecdot expects numeric Tensors; got bool")
    return ops.squeeze(matmul(a, b), axis=(-2, -1))


def tensordot(
    x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2
) -> Tensor:
    """Return the contraction over pairs of axes.

    Parameters
    ----------
    x1, x2 : Tensor
    axes : int or pair of sequences of int
        The last `axes` axes of `x1` with the first ones of `x2`, or the axes to pair.

    Returns
    -------
    Tensor
        The other axes of `x1`, then those of `x2`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.tensordot(xp.ones((2, 3)), xp.ones((3, 4)), axes=1).shape
    (2, 4)
    """
    x1, x2 = _dispatch.operand(x1), _dispatch.operand(x2)
    if CASTING:
        x1, x2 = _autocast.narrowed(x1, x2)
    m, n = len(x1._raw.shape), len(x2._raw.shape)
    if isinstance(axes, int):
        if not 0 <= axes <= min(m, n):
            raise ValueError(f"tensordot expects 0 <= axes <= {min(m, n)}; got {axes}")
        first, second = list(range(m - axes, m)), list(range(axes))
    else:
        first = [normalize_axis(a, m, "tensordot") for a in axes[0]]
        second = [normalize_axis(a, n, "tensordot") for a in axes[1]]
    lengths = [x1._raw.shape[a] for a in first]
    if lengths != [x2._raw.shape[a] for a in second]:
        raise ShapeError(
            f"tensordot expects equal lengths along the paired axes {first} and {second}; "
            f"got shapes {tuple(x1._raw.shape)} and {tuple(x2._raw.shape)}"
        )
    rest1 = [a for a in range(m) if a not in first]
    rest2 = [a for a in range(n) if a not in second]
    k = _dispatch.size_of(lengths)
    left = [x1._raw.shape[a] for a in rest1]
    right = [x2._raw.shape[a] for a in rest2]
    a = reshape(permute_dims(x1, (*rest1, *first)), (_dispatch.size_of(left), k))
    b = reshape(permute_dims(x2, (*second, *rest2)), (k, _dispatch.size_of(right)))
    return reshape(matmul(a, b), (*left, *right))
