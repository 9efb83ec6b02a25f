"""The standard's extension for linear algebra.

Every function takes stacks of matrices: leading axes are batches. All but `matrix_rank` are differentiable, real
and complex. The derivative of a decomposition is right for every loss that does not depend on what the
decomposition leaves open: the signs and phases of vectors, and the basis of the space of equal eigenvalues or
singular values. The formulas are in ``tinyxp/autograd/_rules_linalg.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp import dtypes
from tinyxp._core import Tensor, grad_mode
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.ops import (
    _creation,
    _data_types,
    _dispatch,
    _elementwise,
    _layout,
    _linear_algebra,
    _manipulation,
    _searching,
    _statistical,
)
from tinyxp.ops._linear_algebra import matmul as matmul
from tinyxp.ops._linear_algebra import matrix_transpose as matrix_transpose
from tinyxp.ops._linear_algebra import tensordot as tensordot
from tinyxp.ops._linear_algebra import vecdot as vecdot

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet",
    "solve", "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip

MATRIX = 2  # axes
