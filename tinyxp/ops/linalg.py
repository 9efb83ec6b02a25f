"""The standard's extension for linear algebra.

Every function takes stacks of matrices: leading axes are batches. All but `matrix_rank` are differentiable, real
and complex. The derivative of a decomposition is right for every loss that does not depend on what the
decomposition leaves open: the signs and phases of vectors, and the basis of the space of equal eigenvalues or
singular values. Among equal ones it is right to the first order, unless the loss multiplies the vectors with
functions of them, as V f(w) V^H does. The formulas are in ``tinyxp/autograd/_rules_linalg.py``.
"""

from __future__ import annotations

from tinyxp.ops._linalg_decompositions import (
    cholesky,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    qr,
    svd,
    svdvals,
)
from tinyxp.ops._linalg_equations import (
    det,
    inv,
    matrix_power,
    matrix_rank,
    pinv,
    slogdet,
    solve,
)
from tinyxp.ops._linalg_norms import cross, diagonal, matrix_norm, outer, trace, vector_norm
from tinyxp.ops._linear_algebra import matmul, matrix_transpose, tensordot, vecdot

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet",
    "solve", "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip
