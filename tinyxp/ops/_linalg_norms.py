"""Norms, products of vectors, and diagonals: part of `tinyxp.linalg`."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp import ops as _ops
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch
from tinyxp.ops._layout import diagonal_cells
from tinyxp.ops._linalg_arguments import MATRIX, floating, matrices
from tinyxp.ops._linalg_decompositions import svdvals
from tinyxp.ops._manipulation import broadcast_arrays, expand_dims, normalize_axes, stack

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.dtypes import DTypeLike

__all__ = ["cross", "diagonal", "matrix_norm", "outer", "trace", "vector_norm"]

ops: Any = _ops  # complete only when all of its modules are imported
as_tensor: Any = _dispatch.as_tensor
SPACE = 3  # length of the vectors that have a cross product


# ---------------------------------------------------------------- norms
def vector_norm(
    x: Tensor,
    /,
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    ord: float = 2,  # noqa: A002 - the standard's name
) -> Tensor:
    """Return the norm of vectors.

    Parameters
    ----------
    x : Tensor, shape (...)
        Floating, real or complex.
    axis : int, tuple of int or None
        The axes that hold one vector; None: all.
    keepdims : bool
        Keep these axes with length 1.
    ord : float
        p of the norm (sum |x|^p)^(1/p); infinity: the largest |x|, minus infinity: the smallest; 0: the
        number of elements that are not 0.

    Returns
    -------
    Tensor
        Real. The gradient is 0 for elements that are 0, if the norm is not smooth there, and equal extreme
        elements share it.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.vector_norm(xp.asarray([3.0, -4.0])).item()
    5.0
    """
    vectors = floating(x, "vector_norm")
    axes = normalize_axes(axis, vectors.ndim, "linalg.vector_norm")
    kwargs = {"axis": axes, "keepdims": keepdims, "ord": ord}
    out: Tensor = _dispatch.apply("linalg.vector_norm", (vectors,), kwargs, forward=_vector_norm)
    return out


def _vector_norm(xp: Any, raw: Any, *, axis: tuple[int, ...], **kwargs: Any) -> Any:
    """Call the library's function; all axes as None, for an array without axes has no other name for them."""
    every = len(axis) == len(raw.shape)
    wide = xp.astype(raw, xp.float32) if dtypes.of(raw.dtype).itemsize == 2 else raw  # noqa: PLR2004 - bytes
    out = xp.linalg.vector_norm(wide, axis=None if every else axis, **kwargs)
    return out if wide is raw else xp.astype(out, raw.dtype)


def matrix_norm(
    x: Tensor,
    /,
    *,
    keepdims: bool = False,
    ord: float | str | None = "fro",  # noqa: A002 - the standard's name
) -> Tensor:
    """Return the norm of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Floating, real or complex.
    keepdims : bool
        Keep the last two axes with length 1.
    ord : {"fro", "nuc", 1, -1, 2, -2, inf, -inf}
        Root of the sum of squares; sum of the singular values; largest (smallest) sum of a column of |x|;
        largest (smallest) singular value; largest (smallest) sum of a row of |x|. None means "fro".

    Returns
    -------
    Tensor, shape (...) or (..., 1, 1)
        Real. The gradient of a matrix of zeros is 0.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.matrix_norm(xp.asarray([[3.0, 0.0], [0.0, 4.0]])).item()
    5.0
    """
    x = matrices(x, "matrix_norm")
    if ord in ("fro", None):
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in ("nuc", MATRIX, -MATRIX):
        values = ops.abs(svdvals(x))  # whose derivative at 0 is 0
    elif ord in (1, -1, math.inf, -math.inf):
        values = ops.sum(ops.abs(x), axis=-2 if ord in (1, -1) else -1)
    else:
        raise ValueError(
            f"linalg.matrix_norm expects ord 'fro', 'nuc', ±1, ±2 or ±inf; got {ord!r}"
        )
    reduce = (
        ops.sum if isinstance(ord, str) else ops.max if ord in (1, MATRIX, math.inf) else ops.min
    )
    out: Tensor = reduce(values, axis=-1)
    return expand_dims(out, axis=(-2, -1)) if keepdims else out


# ---------------------------------------------------------------- products and diagonals
def cross(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Return the cross product of vectors of three elements.

    Parameters
    ----------
    x1, x2 : Tensor, shape (..., 3, ...)
        Numeric. The other axes broadcast.
    axis : int
        Where the vectors lie, counted from the end.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If a length along `axis` is not 3.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.cross(xp.asarray([1.0, 0.0, 0.0]), xp.asarray([0.0, 1.0, 0.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    a, b = as_tensor(x1).shape, as_tensor(x2).shape
    n = min(len(a), len(b))
    if 0 <= axis < n and len(a) == len(b):
        axis -= n
    if not -n <= axis < 0 or a[axis] != SPACE or b[axis] != SPACE:
        raise ShapeError(
            f"linalg.cross expects length 3 along axis {axis} of both, counted from the end; "
            f"got shapes {a} and {b}"
        )
    u, v = (ops.unstack(x, axis=axis) for x in broadcast_arrays(x1, x2))
    return stack([u[i - 2] * v[i - 1] - u[i - 1] * v[i - 2] for i in range(SPACE)], axis=axis)


def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Return the product of every element of a vector with every element of another.

    Parameters
    ----------
    x1 : Tensor, shape (N,)
    x2 : Tensor, shape (M,)
        Numeric.

    Returns
    -------
    Tensor, shape (N, M)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.outer(xp.asarray([1, 2]), xp.asarray([3, 4])).tolist()
    [[3, 4], [6, 8]]
    """
    a, b = as_tensor(x1), as_tensor(x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError(f"linalg.outer expects two vectors; got shapes {a.shape} and {b.shape}")
    out: Tensor = ops.expand_dims(a, axis=1) * ops.expand_dims(b, axis=0)
    return out


def diagonal(x: Tensor, /, *, offset: int = 0) -> Tensor:
    """Return a view of a diagonal of each matrix; writes go both ways.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Of any dtype.
    offset : int
        Which diagonal: positive above the main one, negative below.

    Returns
    -------
    Tensor, shape (..., K)

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.reshape(xp.arange(9), (3, 3))
    >>> xp.linalg.diagonal(x).tolist(), xp.linalg.diagonal(x, offset=1).tolist()
    ([0, 4, 8], [1, 5])
    """
    matrix = as_tensor(x)
    if matrix.ndim < MATRIX:
        raise ShapeError(
            f"linalg.diagonal expects matrices, shape (..., M, N); got shape {matrix.shape}"
        )
    return diagonal_view(matrix, operator.index(offset))


def diagonal_view(x: Any, offset: int) -> Tensor:
    """Return `diagonal`, with the arguments that the record of a view keeps.

    Examples
    --------
    >>> import tinyxp as xp
    >>> diagonal_view(xp.eye(2), 1).tolist()
    [0.0]
    """
    xp = x.device.xp

    def forward(raw: Any, offset: int) -> Any:
        *lead, m, n = raw.shape
        flat = xp.reshape(raw, (*lead, m * n))
        return xp.getitem(flat, (..., diagonal_cells(m, n, offset)))

    return _dispatch.view("linalg.diagonal", x, forward, diagonal_view, (offset,))


def trace(x: Tensor, /, *, offset: int = 0, dtype: DTypeLike = None) -> Tensor:
    """Return the sum of a diagonal of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Numeric.
    offset : int
        Which diagonal: positive above the main one, negative below.
    dtype : dtype, optional
        Cast to it before summing; by default small integers are summed in int64 or uint64.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.trace(xp.asarray([[1.0, 2.0], [3.0, 4.0]])).item()
    5.0
    """
    out: Tensor = ops.sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)
    return out
