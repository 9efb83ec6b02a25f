"""Determinants, inverses, powers and systems of equations: part of `tinyxp.linalg`."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

from tinyxp import dtypes
from tinyxp import ops as _ops
from tinyxp._core import Tensor, computing, grad_mode
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch
from tinyxp.ops._linalg_arguments import MATRIX, floating, matrices, several
from tinyxp.ops._linalg_decompositions import svdvals
from tinyxp.ops._linear_algebra import _promoted, matmul
from tinyxp.ops._manipulation import broadcast_to

__all__ = ["det", "inv", "matrix_power", "matrix_rank", "pinv", "slogdet", "solve"]

ops: Any = _ops  # complete only when all of its modules are imported


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


def det(x: Tensor, /) -> Tensor:
    """Return the determinant of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        Floating, real or complex.

    Returns
    -------
    Tensor, shape (...)
        The gradient is the matrix of cofactors, also where the determinant is 0.

    Raises
    ------
    ShapeError
        If the matrices are not square.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.det(xp.asarray([[2.0, 0.0], [0.0, 3.0]])).item()
    6.0
    """
    out: Tensor = _dispatch.apply("linalg.det", (matrices(x, "det", square=True),))
    return out


def slogdet(x: Tensor, /) -> SlogdetResult:
    """Return sign and logarithm of the absolute value of the determinant of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        Floating, real or complex.

    Returns
    -------
    SlogdetResult
        ``sign`` of the dtype of `x`, ``logabsdet`` real, both of shape (...): the determinant is
        ``sign * exp(logabsdet)``. Of a singular matrix they are 0 and minus infinity.

    Examples
    --------
    >>> import tinyxp as xp
    >>> sign, logabsdet = xp.linalg.slogdet(xp.asarray([[-1.0, 0.0], [0.0, 1.0]]))
    >>> sign.item(), logabsdet.item()
    (-1.0, 0.0)
    """
    return SlogdetResult(*several("slogdet", matrices(x, "slogdet", square=True)))


def inv(x: Tensor, /) -> Tensor:
    """Return the inverse of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        Floating, real or complex, not singular.

    Returns
    -------
    Tensor, shape (..., M, M)

    Raises
    ------
    ShapeError
        If the matrices are not square.
    Exception
        The library's own where a matrix is singular, ``numpy.linalg.LinAlgError`` for instance; libraries
        that do not stop for it give infinities or NaN.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.inv(xp.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    out: Tensor = _dispatch.apply("linalg.inv", (matrices(x, "inv", square=True),))
    return out


def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Return the solution X of ``x1 @ X = x2``.

    Parameters
    ----------
    x1 : Tensor, shape (..., M, M)
        Floating, not singular.
    x2 : Tensor, shape (M,) or (..., M, K)
        Floating. The batches of the two broadcast.

    Returns
    -------
    Tensor, shape (..., M) for a vector `x2`, otherwise (..., M, K)

    Raises
    ------
    ShapeError
        If `x1` is not square or the lengths differ.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.solve(xp.asarray([[2.0, 0.0], [0.0, 4.0]]), xp.asarray([1.0, 1.0])).tolist()
    [0.5, 0.25]
    """
    a, b = matrices(x1, "solve", square=True), floating(x2, "solve")
    if b.ndim == 0 or b.shape[max(b.ndim - MATRIX, 0)] != a.shape[-1]:
        raise ShapeError(
            f"linalg.solve expects x1 (..., M, M) and x2 (M,) or (..., M, K); got {a.shape} and {b.shape}"
        )
    if b.ndim > 1 and a.shape[:-2] != b.shape[:-2]:  # libraries do not all broadcast them
        lead = _dispatch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a = broadcast_to(a, (*lead, *a.shape[-2:]))
        b = broadcast_to(b, (*lead, *b.shape[-2:]))
    out: Tensor = _dispatch.apply("linalg.solve", _promoted(a, b))
    return out


def pinv(x: Tensor, /, *, rtol: float | Tensor | None = None) -> Tensor:
    """Return the Moore-Penrose pseudo-inverse of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Floating, real or complex.
    rtol : float or Tensor of shape (...), optional
        Singular values up to `rtol` times the largest count as 0; by default ``max(M, N)`` times the machine
        epsilon.

    Returns
    -------
    Tensor, shape (..., N, M)
        Differentiable as long as the rank does not change.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.pinv(xp.asarray([[2.0, 0.0], [0.0, 0.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    out: Tensor = _dispatch.apply("linalg.pinv", (matrices(x, "pinv"), rtol), forward=_pinv)
    return out


def _pinv(xp: Any, raw: Any, rtol: Any) -> Any:
    return xp.linalg.pinv(raw) if rtol is None else xp.linalg.pinv(raw, rtol=rtol)


def matrix_power(x: Tensor, n: int, /) -> Tensor:
    """Return each matrix multiplied `n` times with itself.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        Floating, real or complex.
    n : int
        0 gives the identity, a negative number powers of the inverse.

    Returns
    -------
    Tensor, shape (..., M, M)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.matrix_power(xp.asarray([[1.0, 1.0], [0.0, 1.0]]), 5).tolist()
    [[1.0, 5.0], [0.0, 1.0]]
    """
    square, n = matrices(x, "matrix_power", square=True), operator.index(n)
    if n == 0:  # part of the graph, with gradient 0
        one = ops.eye(square.shape[-1], dtype=square.dtype, device=square.device)
        out: Tensor = ops.where(ops.ones_like(square, dtype="bool"), one, square)
        return out
    if n < 0:
        square, n = inv(square), -n
    with computing(None):  # products of products: errors would grow
        while not n & 1:
            square, n = matmul(square, square), n >> 1
        out = square
        while n := n >> 1:
            square = matmul(square, square)
            if n & 1:
                out = matmul(out, square)
    return out


def matrix_rank(x: Tensor, /, *, rtol: float | Tensor | None = None) -> Tensor:
    """Return the number of singular values that are not 0 of each matrix; it has no derivative.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Floating, real or complex.
    rtol : float or Tensor of shape (...), optional
        As for `pinv`.

    Returns
    -------
    Tensor, shape (...)
        Of the default integer dtype.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.matrix_rank(xp.asarray([[1.0, 1.0], [1.0, 1.0]])).item()
    1
    """
    matrix = matrices(x, "matrix_rank")
    with grad_mode(enabled=False):
        s: Any = svdvals(matrix)
        if rtol is None:
            rtol = max(matrix.shape[-2:]) * dtypes.finfo(s.dtype).eps
        largest = ops.max(s, axis=-1) if s.shape[-1] else ops.sum(s, axis=-1)
        out: Tensor = ops.count_nonzero(s > ops.expand_dims(largest * rtol, axis=-1), axis=-1)
    return out
