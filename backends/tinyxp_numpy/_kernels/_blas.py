"""Matrix products inside kernels, by the BLAS that NumPy has loaded."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinyxp_numpy import _blas

from ._compile import inline

__all__ = ["gemm", "product"]

_ROW_MAJOR = 101  # and 111 for a matrix as it is, 112 for its transpose


@cache
def product(dtype: Any) -> int:
    """Return the address of ``cblas_?gemm`` with 64-bit sizes for `dtype`, 0 where there is none."""
    letter = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}[np.dtype(dtype)]
    function = _blas.function(f"scipy_cblas_{letter}gemm64_", f"cblas_{letter}gemm64_")
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _call(
    typingctx: Any, address: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, lda: Any, b: Any,
    ldb: Any, beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """Call ``cblas_?gemm`` at `address` for row-major matrices at the addresses a, b, c."""
    scalar = alpha
    signature = types.void(
        types.int64, types.int32, types.int32, types.int64, types.int64, types.int64, scalar, types.int64,
        types.int64, types.int64, types.int64, scalar, types.int64, types.int64,
    )  # fmt: skip

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(scalar)
        i32, i64 = ir.IntType(32), ir.IntType(64)
        at = cgutils.voidptr_t
        kinds = [i32, i32, i32, i64, i64, i64, real, at, i64, at, i64, real, at, i64]
        where, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = args
        function = builder.inttoptr(where, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
        a, b, c = (builder.inttoptr(x, at) for x in (a, b, c))
        order = ir.Constant(i32, _ROW_MAJOR)
        builder.call(function, [order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc])
        return context.get_dummy_value()

    return signature, codegen


@inline
def gemm(
    address: int, a_turned: bool, b_turned: bool, alpha: Any, a: Any, b: Any, beta: Any, c: Any
) -> None:  # fmt: skip
    """Write ``alpha a b + beta c`` into `c`, where `a` and `b` are transposed first if they are `turned`.

    Elements of a row are neighbours in all three. Without a BLAS, plain loops do it.
    """
    m, n = c.shape
    k = a.shape[0] if a_turned else a.shape[1]
    if m == 0 or n == 0:
        return
    size = c.itemsize
    if address != 0:
        _call(
            address, np.int32(112 if a_turned else 111), np.int32(112 if b_turned else 111), m, n, k, alpha,
            a.ctypes.data, max(a.strides[0] // size, a.shape[1]), b.ctypes.data,
            max(b.strides[0] // size, b.shape[1]), beta, c.ctypes.data, max(c.strides[0] // size, n),
        )  # fmt: skip
        return
    for i in range(m):
        for j in range(n):
            total = alpha - alpha
            for s in range(k):
                total += (a[s, i] if a_turned else a[i, s]) * (b[j, s] if b_turned else b[s, j])
            c[i, j] = alpha * total + (beta * c[i, j] if beta != 0 else alpha - alpha)
