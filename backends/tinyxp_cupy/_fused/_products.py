"""Products of parameters, with biases and GELU on the way: linear, mlp."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy

from tinyxp._fused._blocks import BlockOperations
from tinyxp.errors import DTypeError
from tinyxp_cupy._epilogues import column_sums
from tinyxp_cupy._lt import matmul, padded
from tinyxp_cupy._modules import name_of

from ._arguments import Array, native, rows_of
from ._copies import Copies, converted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Gated", "ProductKernels", "affine", "computed_in", "weights_vjp"]


class Gated(NamedTuple):
    """What the first half of an MLP keeps: before the GELU, behind it, and what a GELU of ours kept."""

    before: Array
    behind: Array
    kept: tuple[Array, ...] | None  # None: the product did the GELU


class _Kept(NamedTuple):
    """What `mlp` keeps: its arrays in the dtype that it computes in, and those between."""

    x: Array
    weight1: Array
    weight2: Array
    gated: Gated


class ProductKernels(BlockOperations):
    """Products by cuBLASLt."""

    # ------------------------------------------------------------ linear
    def linear(
        self, x: Array, weight: Array, bias: Array | None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(x @ weight + bias, ())``."""
        if not (_maps(x, weight, bias) and native(x, weight, bias)):
            return super().linear(x, weight, bias)
        out = affine(rows_of(x, x.shape[-1]), weight, bias)
        return out if x.ndim == out.ndim else out.reshape(*x.shape[:-1], weight.shape[1]), ()

    def linear_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Array, ...],
        x: Array,
        weight: Array,
        bias: Array | None,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x`, `weight` and `bias`."""
        if not (_maps(x, weight, bias) and native(g, x, weight, bias)):
            return super().linear_vjp(g, out, aux, x, weight, bias, needs=needs)
        at = rows_of(g, g.shape[-1])
        gx = matmul(at, weight.T).reshape(x.shape) if needs[0] else None
        columns = weight.strides[0] == weight.itemsize and weight.shape[1] > 1
        return gx, *weights_vjp(
            rows_of(x, x.shape[-1]), at, x.dtype, needs[1], needs[2], columns=columns
        )

    # ------------------------------------------------------------ feed-forward
    def mlp(
        self,
        x: Array,
        weight1: Array,
        bias1: Array | None,
        weight2: Array,
        bias2: Array | None,
        *,
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the output and what the vjp reads."""
        if not _is_mlp(x, weight1, bias1, weight2, bias2):
            return super().mlp(
                x, weight1, bias1, weight2, bias2, approximate=approximate, compute=compute
            )
        kind = computed_in(x, compute)
        flat = rows_of(x, x.shape[-1])
        copies = Copies(x.dtype, kind)
        flat, weight1, weight2 = (copies.convert(a) for a in (flat, weight1, weight2))
        bias1 = None if bias1 is None else copies.convert(bias1)
        copies.run()
        gated = self.gated(flat, weight1, bias1, approximate)
        out = affine(gated.behind, weight2, bias2, dtype=x.dtype)
        return out.reshape(*x.shape[:-1], out.shape[1]), _Kept(flat, weight1, weight2, gated)

    def mlp_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Any, ...],
        x: Array,
        weight1: Array,
        bias1: Array | None,
        weight2: Array,
        bias2: Array | None,
        *,
        needs: Sequence[bool],
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of all five arrays."""
        if type(aux) is not _Kept:
            return super().mlp_vjp(
                g, out, aux, x, weight1, bias1, weight2, bias2, needs=needs, approximate=approximate, compute=compute
            )  # fmt: skip
        flat, half1, half2, gated = aux
        at = converted(rows_of(g, g.shape[-1]), flat.dtype)
        gw2, gb2 = weights_vjp(gated.behind, at, x.dtype, needs[3], needs[4])
        if not any(needs[:3]):
            return None, None, None, gw2, gb2
        gh, gb1 = self.gated_vjp(at, half2, gated, approximate, x.dtype, wants_bias=needs[2])
        gx = matmul(gh, half1.T, out_dtype=x.dtype).reshape(x.shape) if needs[0] else None
        gw1, late = weights_vjp(flat, gh, x.dtype, needs[1], needs[2] and gb1 is None)
        return gx, gw1, late if gb1 is None else gb1, gw2, gb2

    # ------------------------------------------------------------ pieces, which blocks use too
    def gated(self, x: Array, weight: Array, bias: Array | None, approximate: str) -> Gated:
        """Return ``gelu(x @ weight + bias)``, and what stands before it."""
        bias = None if bias is None else cupy.ascontiguousarray(bias)
        if approximate != "tanh":
            before = affine(x, weight, bias)
            behind, kept = self.gelu(before, approximate=approximate)
            return Gated(before, behind, kept)
        before = padded(x.shape[0], weight.shape[1], x.dtype)
        epilogue = "gelu_aux" if bias is None else "gelu_aux_bias"
        behind = matmul(x, weight, epilogue=epilogue, bias=bias, aux=before)
        return Gated(before, behind, None)

    def gated_vjp(
        self,
        g: Array,
        weight: Array,
        gated: Gated,
        approximate: str,
        dtype: Any,
        *,
        wants_bias: bool,
    ) -> tuple[Array, Array | None]:
        """Return the cotangent before the GELU, given `g` behind the product with `weight`.

        And that of the bias there, of the type `dtype`, if it comes for nothing, or None.
        """
        if gated.kept is not None:
            gh = matmul(g, weight.T)
            (gh,) = self.gelu_vjp(
                gh, None, gated.kept, gated.before, needs=(True,), approximate=approximate
            )
            return gh, None
        if not wants_bias or dtype != g.dtype:  # its sums would be rounded to the type of g
            return matmul(g, weight.T, epilogue="dgelu", aux=gated.before), None
        bias = cupy.empty((weight.shape[0],), dtype)
        return matmul(g, weight.T, epilogue="dgelu_bgrad", aux=gated.before, bias=bias), bias


def affine(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    add: Array | None = None,
    dtype: Any = None,
) -> Array:
    """Return ``x @ weight + bias + add`` for matrices, of the type `dtype`, which `bias` and `add` have."""
    return matmul(
        x, weight, c=add, beta=0.0 if add is None else 1.0, epilogue="none" if bias is None else "bias",
        bias=None if bias is None else cupy.ascontiguousarray(bias), out_dtype=dtype,
    )  # fmt: skip


def weights_vjp(
    x: Array,
    g: Array,
    dtype: Any,
    wants_weight: bool,  # noqa: FBT001 - two of `needs`
    wants_bias: bool,  # noqa: FBT001 - likewise
    *,
    columns: bool = False,
) -> tuple[Array | None, Array | None]:
    """Return ``x.T @ g`` and the sums of the columns of `g`, of the type `dtype`, in one product.

    Parameters
    ----------
    columns : bool
        Let the columns, not the rows, of the first result lie in one piece.
    """
    if not wants_weight:
        if not wants_bias:
            return None, None
        sums = cupy.empty((g.shape[1],), g.dtype if g.dtype == dtype else cupy.float32)
        column_sums(g, sums)
        return None, sums.astype(dtype, copy=False)
    bias = cupy.empty((g.shape[1],), dtype) if wants_bias else None
    out = cupy.empty((g.shape[1], x.shape[1]), dtype).T if columns else None
    epilogue = "none" if bias is None else "bgrada"
    return matmul(x.T, g, out, epilogue=epilogue, bias=bias, out_dtype=dtype), bias


def computed_in(x: Array, compute: str | None) -> Any:
    """Return the dtype in which products of `x` are to be computed."""
    return x.dtype if compute is None or compute == name_of(x.dtype) else _dtype(compute)


@cache
def _dtype(name: str) -> Any:
    try:
        import ml_dtypes  # noqa: F401 - tells NumPy what bfloat16 is
    except ImportError:
        if name == "bfloat16":
            raise DTypeError("bfloat16 needs ml_dtypes; type: pip install ml_dtypes") from None
    return cupy.dtype(name)


def _maps(x: Array, weight: Array, bias: Array | None) -> bool:
    """Whether the shapes are those of an affine map."""
    return (
        x.ndim > 0
        and weight.ndim == 2  # noqa: PLR2004 - a matrix
        and x.shape[-1] == weight.shape[0]
        and (bias is None or bias.shape == weight.shape[1:])
    )


def _is_mlp(x: Array, *parameters: Array | None) -> bool:
    weight1, bias1, weight2, bias2 = parameters
    if not (_maps(x, weight1, bias1) and native(x, *parameters)):
        return False
    shape = (*x.shape[:-1], weight1.shape[1])  # type: ignore[union-attr]  # never None
    return (
        weight2.shape[:1] == shape[-1:]  # type: ignore[union-attr]  # never None
        and weight2.ndim == 2  # type: ignore[union-attr]  # noqa: PLR2004 - likewise; a matrix
        and (bias2 is None or bias2.shape == weight2.shape[1:])  # type: ignore[union-attr]  # likewise
    )
