"""Kernels for what stands behind a product where cuBLASLt has no algorithm for both."""

from __future__ import annotations

from typing import Any

import cupy

from tinyxp.errors import DTypeError
from tinyxp_cupy._modules import TYPES, kernel, launch, multiprocessors, name_of

__all__ = ["column_sums", "finish"]

Array = Any
COLUMNS, LANES = 32, 8  # a block of column_sums: so many columns, and so many rows at once
THREADS = 256


def finish(  # noqa: PLR0917 - as _lt.matmul
    epilogue: str, a: Array, b: Array, out: Array, bias: Array | None, aux: Array | None
) -> None:
    """Do what `epilogue` does to the finished product `out` of `a` and `b`; see `tinyxp_cupy._lt.matmul`.

    Parameters
    ----------
    epilogue : str
        Its name.
    a, b, out : arrays, shapes (M, K), (K, N) and (M, N)
        The rows of `out` lie in one piece.
    bias : array, shape (N,) or (M,)
    aux : array, shape (M, N)
    """
    if name_of(out.dtype) not in TYPES:
        raise DTypeError(
            f"epilogue {epilogue!r} expects float32, float16 or bfloat16; got {out.dtype}"
        )
    if epilogue == "bgrada":
        column_sums(b, bias)
    elif epilogue == "bgradb":
        column_sums(a.T, bias)
    elif out.size:
        rows, columns = out.shape
        name = "dgelu" if epilogue.startswith("dgelu") else "gelu" if aux is not None else "bias"
        given = None if name == "dgelu" else bias
        stride = aux.strides[0] // aux.itemsize if aux is not None else columns
        launch(
            kernel("products", f"epilogue_{name}", name_of(out.dtype)), rows, THREADS, out, aux, given, columns,
            out.strides[0] // out.itemsize if rows > 1 else columns, stride,
        )  # fmt: skip
        if epilogue == "dgelu_bgrad":
            column_sums(out, bias)


def column_sums(x: Array, out: Array) -> None:
    """Write the sums of the columns of `x`, shape (n, m), to `out`, shape (m,), always in the same order.

    Parameters
    ----------
    x : array, shape (n, m)
        Any type that kernels take.
    out : array, shape (m,)
        float32 or the type of `x`, in C order. The sums are float32 until they are written.
    """
    n, m = x.shape
    if x.strides[1] != x.itemsize and m > 1:
        x = cupy.ascontiguousarray(x)
    blocks = -(-m // COLUMNS)
    most = max(1, 4 * multiprocessors(x.data.device_id) // blocks)
    parts = max(1, min(most, n // (LANES * 8)))
    wide = name_of(out.dtype) == "float32"
    own = out if parts == 1 and wide else None if parts == 1 else cupy.empty((parts, m), "float32")
    stride = x.strides[0] // x.itemsize if n > 1 else m
    launch(
        kernel("products", "column_sums", name_of(x.dtype)), (blocks, parts), THREADS, x, own,
        out if parts == 1 and not wide else None, n, m, stride,
    )  # fmt: skip
    if parts > 1:
        launch(
            kernel("products", "column_sums", "float32") if wide else kernel("products", "sum_parts", name_of(out.dtype)),
            (blocks, 1), THREADS, own, *((out, None) if wide else (out,)), parts, m, m,
        )  # fmt: skip
