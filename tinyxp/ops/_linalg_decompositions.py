"""Decompositions of matrices: part of `tinyxp.linalg`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tinyxp.ops import _dispatch
from tinyxp.ops._linalg_arguments import matrices, several

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["cholesky", "eig", "eigh", "eigvals", "eigvalsh", "qr", "svd", "svdvals"]


class EigResult(NamedTuple):
    """What `eig` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Tensor
    R: Tensor


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def cholesky(x: Tensor, /, *, upper: bool = False) -> Tensor:
    """Return the Cholesky factor of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        Symmetric or Hermitian, positive definite. Libraries read one triangle only; the gradient is that of
        the symmetric matrix, half of it in each triangle.
    upper : bool
        Return U with x = U^H U, instead of the lower triangular L with x = L L^H.

    Returns
    -------
    Tensor, shape (..., M, M)

    Raises
    ------
    ShapeError
        If the matrices are not square.
    Exception
        The library's own where one is not positive definite.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.cholesky(xp.asarray([[4.0, 2.0], [2.0, 2.0]])).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    matrix = matrices(x, "cholesky", square=True)
    out: Tensor = _dispatch.apply("linalg.cholesky", (matrix,), {"upper": upper})
    return out


def eigh(x: Tensor, /) -> EighResult:
    """Return eigenvalues and eigenvectors of symmetric or Hermitian matrices.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        One triangle is read; the gradient is that of the symmetric matrix.

    Returns
    -------
    EighResult
        ``eigenvalues``, real, shape (..., M); ``eigenvectors``, the columns of matrices (..., M, M).

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.eigh(xp.asarray([[1.0, 0.0], [0.0, 2.0]])).eigenvalues.tolist()
    [1.0, 2.0]
    """
    return EighResult(*several("eigh", matrices(x, "eigh", square=True)))


def eigvalsh(x: Tensor, /) -> Tensor:
    """Return the eigenvalues of symmetric or Hermitian matrices.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        As for `eigh`.

    Returns
    -------
    Tensor, shape (..., M)
        Real.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.eigvalsh(xp.asarray([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [1.0, 2.0]
    """
    out: Tensor = _dispatch.apply("linalg.eigvalsh", (matrices(x, "eigvalsh", square=True),))
    return out


def eig(x: Tensor, /) -> EigResult:
    """Return eigenvalues and eigenvectors of square matrices.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        Floating, real or complex.

    Returns
    -------
    EigResult
        ``eigenvalues``, shape (..., M), and ``eigenvectors``, columns of length 1 of matrices (..., M, M), in no
        particular order and complex whatever `x` is.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.eig(xp.asarray([[1.0, 0.0], [0.0, 2.0]])).eigenvalues.tolist()
    [(1+0j), (2+0j)]
    """
    return EigResult(*several("eig", matrices(x, "eig", square=True)))


def eigvals(x: Tensor, /) -> Tensor:
    """Return the eigenvalues of square matrices, in the order of `eig`.

    Parameters
    ----------
    x : Tensor, shape (..., M, M)
        Floating, real or complex.

    Returns
    -------
    Tensor, shape (..., M)
        Complex.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.eigvals(xp.asarray([[0.0, -1.0], [1.0, 0.0]])).tolist()
    [1j, -1j]
    """
    return eig(x).eigenvalues


def svd(x: Tensor, /, *, full_matrices: bool = True) -> SVDResult:
    """Return the singular value decomposition x = U diag(S) Vh of each matrix.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Floating, real or complex.
    full_matrices : bool
        Complete the singular vectors to bases; otherwise there are K = min(M, N) of each.

    Returns
    -------
    SVDResult
        ``U``, shape (..., M, M) or (..., M, K); ``S``, real and descending, shape (..., K); ``Vh``, shape
        (..., N, N) or (..., K, N).

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.svd(xp.asarray([[0.0, 2.0], [1.0, 0.0]])).S.tolist()
    [2.0, 1.0]
    """
    return SVDResult(*several("svd", matrices(x, "svd"), full_matrices=full_matrices))


def svdvals(x: Tensor, /) -> Tensor:
    """Return the singular values of each matrix, the largest first.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Floating, real or complex.

    Returns
    -------
    Tensor, shape (..., min(M, N))
        Real.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linalg.svdvals(xp.asarray([[0.0, 2.0], [1.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    out: Tensor = _dispatch.apply("linalg.svdvals", (matrices(x, "svdvals"),))
    return out


def qr(x: Tensor, /, *, mode: str = "reduced") -> QRResult:
    """Return the decomposition x = Q R of each matrix, Q with orthonormal columns and R upper triangular.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
        Floating, real or complex. To be differentiated, the first K = min(M, N) columns must be independent.
    mode : {"reduced", "complete"}
        Whether Q has K columns or M.

    Returns
    -------
    QRResult
        ``Q``, shape (..., M, K), and ``R``, shape (..., K, N); with M for K if complete.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.abs(xp.linalg.qr(xp.asarray([[3.0], [4.0]])).R).tolist()
    [[5.0]]
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"linalg.qr expects mode='reduced' or 'complete'; got {mode!r}")
    return QRResult(*several("qr", matrices(x, "qr"), mode=mode))
