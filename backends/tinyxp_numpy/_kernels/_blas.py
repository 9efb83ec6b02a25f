"""Matrix products inside kernels, by the BLAS that NumPy has loaded."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray
from numba.core import cgutils, types
from numba.extending import intrinsic

from tinyxp_numpy import _blas

from ._compile import address, inline, kernel, pointer

__all__ = ["AS_IT_IS", "TURNED", "gemm", "multiply", "product"]

_ROW_MAJOR, AS_IT_IS, TURNED = 101, 111, 112  # of CBLAS


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


@kernel
def multiply(
    product: int, ta: int, tb: int, m: int, n: int, k: int, alpha: Any, a: int, lda: int, b: int, ldb: int,
    beta: Any, c: int, ldc: int,
) -> None:  # fmt: skip
    """Do `gemm` for matrices at the addresses `a`, `b` and `c`, whose rows begin so many elements apart.

    `ta`, `tb`: `AS_IT_IS` or `TURNED`. Not truth values: Numba would compile it for each pair of them.
    """
    if product != 0:
        _call(product, np.int32(ta), np.int32(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
        return
    x, y, z = (
        carray(pointer(a, alpha), 1),
        carray(pointer(b, alpha), 1),
        carray(pointer(c, alpha), 1),
    )
    for i in range(m):
        for j in range(n):
            total = alpha - alpha
            for s in range(k):
                total += (
                    x[s * lda + i if ta == TURNED else i * lda + s]
                    * y[j * ldb + s if tb == TURNED else s * ldb + j]
                )
            z[i * ldc + j] = alpha * total + (beta * z[i * ldc + j] if beta != 0 else alpha - alpha)


@inline
def gemm(
    product: int, a_turned: bool, b_turned: bool, alpha: Any, a: Any, b: Any, beta: Any, c: Any
) -> None:  # fmt: skip
    """Write ``alpha a b + beta c`` into `c`, where `a` and `b` are transposed first if they are `turned`.

    Elements of a row are neighbours in all three. Without a BLAS, plain loops do it.
    """
    m, n = c.shape
    if m > 0 and n > 0:
        multiply(
            product, AS_IT_IS + a_turned, AS_IT_IS + b_turned, m, n, a.shape[0] if a_turned else a.shape[1], alpha, address(a), _step(a),
            address(b), _step(b), beta, address(c), _step(c),
        )  # fmt: skip


@inline
def _step(x: Any) -> Any:
    """Return how many elements lie between the beginnings of rows; of a single row a BLAS wants the length."""
    return max(x.strides[0] // x.itemsize, x.shape[1])
