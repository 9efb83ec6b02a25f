"""Matrix products with what goes before and behind them, by cuBLASLt.

Unlike ``cupy.matmul`` these take transposed and strided factors without copies, multiply batches in half
precision on tensor cores with sums in float32, do biases, GELU and their gradients on the way, and may be
called while a stream is being captured, once the same product has run on it before.

What the library makes of a kind of product is looked up once and kept (`_plan`). What it cannot do, a
*detour* does: factors are copied, or an epilogue becomes a kernel of ours behind a plain product.
"""

from __future__ import annotations

import ctypes
import math
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy

from tinyxp.errors import DTypeError, ShapeError
from tinyxp_cupy._cublaslt import ALIGNMENT, EPILOGUES, NOT_SUPPORTED, TYPES, Matrix, Plan, check
from tinyxp_cupy._epilogues import finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["avoiding", "matmul", "padded", "set_tf32", "tf32"]

Array = Any
MATRIX, BATCH = 2, 3  # axes
AUX_MULTIPLE = 8  # the library wants rows of `aux` to be this many elements apart, or a multiple
NO_ALIGNMENTS = (ALIGNMENT,) * 6

_current_stream = cupy.cuda.get_current_stream


class _Switches:
    """What holds for all products: whether float32 may become TF32, and which epilogues are ours."""

    tf32 = False
    avoided: frozenset[str] = frozenset()


def set_tf32(on: bool) -> None:  # noqa: FBT001 - a switch
    """Let products in float32 round their factors to TF32, 10 bits of mantissa, or not."""
    _Switches.tf32 = bool(on)


def tf32() -> bool:
    """Whether products in float32 round their factors to TF32."""
    return _Switches.tf32


@contextmanager
def avoiding(*epilogues: str) -> Iterator[None]:
    """Let our own kernels do these epilogues, as where the library has none: to compare both.

    Parameters
    ----------
    *epilogues : str
        Names that `matmul` takes; none of them for all.
    """
    before, _Switches.avoided = _Switches.avoided, frozenset(epilogues or EPILOGUES) - {"none"}
    try:
        yield
    finally:
        _Switches.avoided = before


def padded(rows: int, columns: int, dtype: Any) -> Array:
    """Return an empty matrix whose rows are as far apart as the library wants it of `aux`."""
    whole = -(-columns // AUX_MULTIPLE) * AUX_MULTIPLE
    made = cupy.empty((rows, whole), dtype)
    return made if whole == columns else made[:, :columns]


# ---------------------------------------------------------------- the product
def matmul(
    a: Array,
    b: Array,
    out: Array | None = None,
    *,
    c: Array | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
    epilogue: str = "none",
    bias: Array | None = None,
    aux: Array | None = None,
    out_dtype: Any = None,
) -> Array:
    """Compute ``epilogue(alpha * a @ b + beta * c)``.

    Parameters
    ----------
    a : array, shape (…, M, K)
        float32, float16, bfloat16 or float64, as are all; any strides.
    b : array, shape (…, K, N)
        Of the type of `a`. The axes in front broadcast.
    out : array, shape (…, M, N), optional
        Where the result goes; not the memory of `a` or `b`.
    c : array, shape (…, M, N), optional
        What `beta` multiplies, by default `out`. Of the type of the result.
    alpha, beta : float
        With beta 0 `c` is not read.
    epilogue : str
        ``"none"``; ``"bias"``: add `bias` (N,) to each row; ``"gelu_aux_bias"``: do that, write the sum to
        `aux`, and take its GELU in the form "tanh"; ``"gelu_aux"``: the same without `bias`; ``"dgelu"``:
        multiply by the derivative of that GELU at `aux`; ``"dgelu_bgrad"``: do that and write the sums of
        the columns to `bias` (N,); ``"bgrada"``: write the sums of the columns of `b` to `bias` (N,), which
        is the gradient of a bias where `b` is a cotangent; ``"bgradb"``: write the sums of the rows of `a`
        to `bias` (M,).
    bias : array, optional
        Of the type of the result, in C order.
    aux : array, shape (M, N), optional
        From `padded`, of the type of the result.
    out_dtype : dtype, optional
        Of the result, by default that of `a`; float32 where the factors are half.

    Returns
    -------
    array, shape (…, M, N)

    Raises
    ------
    ShapeError, DTypeError
        If the arrays do not go together.
    """
    if out is None:
        shape = (a.shape[0], b.shape[1]) if a.ndim == b.ndim == MATRIX else _shape(a, b)
        out = cupy.empty(shape, a.dtype if out_dtype is None else out_dtype)
    pa, pb, po = a.data.ptr, b.data.ptr, out.data.ptr
    pc = po
    if c is not None and c is not out:
        if c.strides != out.strides or c.dtype != out.dtype or c.shape != out.shape:
            out[...] = c
        else:
            pc = c.data.ptr
    bias_pointer = 0 if bias is None else bias.data.ptr
    aux_pointer = 0 if aux is None else aux.data.ptr
    aligned = not (pa | pb | pc | po | bias_pointer | aux_pointer) & (ALIGNMENT - 1)
    plan = _plan(
        a.data.device_id, a.shape, a.strides, a.dtype, b.shape, b.strides, b.dtype, out.shape, out.strides, out.dtype,
        epilogue, None if bias is None else bias.dtype, None if aux is None else aux.strides, _Switches.tf32,
        epilogue in _Switches.avoided,
        NO_ALIGNMENTS if aligned else tuple(map(_alignment, (pb, pa, pc, po, bias_pointer, aux_pointer))),
    )  # fmt: skip
    if plan.detour is None:
        one, more = _number(alpha, plan.wide), _number(beta, plan.wide)
        stream = _current_stream().ptr
        status = plan.run(
            one.at, pb, pa, more.at, pc, po, bias_pointer, aux_pointer, stream
        )  # rows as columns: the factors change places
        if not status:
            return out
        if status != NOT_SUPPORTED or epilogue == "none":
            check(status, "cublasLtMatmul")
        plan.detour = _by_kernels  # what the heuristic promised is not there
    options = {"alpha": alpha, "beta": beta, "epilogue": epilogue, "bias": bias, "aux": aux}
    plan.detour(a, b, out, out if pc == po else c, options)
    return out


class _Number(NamedTuple):
    at: int
    kept: Any


@lru_cache(256)
def _number(value: float, wide: bool) -> _Number:  # noqa: FBT001 - part of a key
    """Return the address of a number on the host, which lives as long as what is returned."""
    kept = ctypes.c_double(value) if wide else ctypes.c_float(value)
    return _Number(ctypes.addressof(kept), kept)


def _alignment(pointer: int) -> int:
    pointer |= ALIGNMENT
    return pointer & -pointer


def _shape(a: Array, b: Array) -> tuple[int, ...]:
    if a.ndim < MATRIX or b.ndim < MATRIX:
        raise ShapeError(f"matmul expects matrices; got shapes {a.shape} and {b.shape}")
    lead = cupy.broadcast_shapes(a.shape[:-2], b.shape[:-2]) if a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2] else a.shape[:-2]  # fmt: skip
    return (*lead, a.shape[-2], b.shape[-1])


# ---------------------------------------------------------------- plans
class _Detour:
    """In the place of a plan: what does a product that the library does not do as it stands."""

    wide = False

    def __init__(
        self, detour: Callable[[Array, Array, Array, Array, dict[str, Any]], None]
    ) -> None:
        self.detour = detour


class _ByLibrary(Plan):
    """A plan, with the detour that its product turns out to need."""

    detour: Any = None


@lru_cache(4096)
def _plan(  # noqa: PLR0917 - a key of the cache
    device: int,
    a_shape: tuple[int, ...],
    a_strides: tuple[int, ...],
    a_dtype: Any,
    b_shape: tuple[int, ...],
    b_strides: tuple[int, ...],
    b_dtype: Any,
    out_shape: tuple[int, ...],
    out_strides: tuple[int, ...],
    out_dtype: Any,
    epilogue: str,
    bias_dtype: Any,
    aux_strides: tuple[int, ...] | None,
    tf32: bool,  # noqa: FBT001 - part of a key
    avoided: bool,  # noqa: FBT001 - likewise
    alignments: tuple[int, ...],
) -> Any:
    """Return how to compute products of this kind."""
    _verify(a_shape, b_shape, out_shape, (a_dtype, b_dtype, out_dtype, bias_dtype), epilogue, aux_strides)  # fmt: skip
    if (
        len(b_shape) == MATRIX < len(a_shape)
    ):  # all rows of `a` in one product, where they can be joined
        rows, results = _joined(a_shape, a_strides), _joined(out_shape, out_strides)
        if rows is not None and results is not None:
            (a_shape, a_strides), (out_shape, out_strides) = rows, results
    if max(len(a_shape), len(b_shape), len(out_shape)) > BATCH:
        return _Detour(_by_one_batch)
    if 0 in out_shape:
        return _Detour(_nothing)
    if a_shape[-1] == 0:
        return _Detour(_no_terms)
    a = _form(a_shape, a_strides, a_dtype)
    b = _form(b_shape, b_strides, b_dtype)
    out = _form(out_shape, out_strides, out_dtype)
    if a is None or b is None or out is None or out[0] or avoided:
        return _around(a, b, out, epilogue)
    plan = _ByLibrary(
        device, (b[0], a[0]), (b[1], a[1]), out[1], math.prod(out_shape[:-2]), epilogue,
        None if bias_dtype is None else TYPES[bias_dtype.name],
        0 if aux_strides is None else aux_strides[0] // out_dtype.itemsize,
        tf32 and a_dtype.name == "float32", alignments,
    )  # fmt: skip
    return (
        plan
        if plan.found
        else _instead(a_shape, b_shape, (a_dtype, b_dtype, out_dtype), epilogue, alignments)
    )


def _around(a: Any, b: Any, out: Any, epilogue: str) -> _Detour:
    """Return the way where an array, given by its form, or the epilogue does not suit the library."""
    if out is None or (out[0] and epilogue not in {"none", "bgrada", "bgradb"}):
        return _Detour(_by_copies((), through=True))
    if out[0]:
        return _Detour(_by_transposes)
    if a is None or b is None:
        return _Detour(_by_copies([i for i, x in enumerate((a, b)) if x is None]))
    return _Detour(_by_kernels)


def _instead(
    a: tuple[int, ...],
    b: tuple[int, ...],
    types: tuple[Any, Any, Any],
    epilogue: str,
    alignments: tuple[int, ...],
) -> _Detour:
    """Return what may do where the library has no algorithm."""
    copies = [
        i for i, multiple in enumerate((alignments[1], alignments[0])) if multiple < ALIGNMENT
    ]
    through = min(alignments[2:4]) < ALIGNMENT
    if copies or through:
        return _Detour(_by_copies(copies, through=through, aligned=True))
    if epilogue != "none":
        return _Detour(_by_kernels)
    raise DTypeError(
        f"cuBLASLt has no algorithm for {types[0]}{list(a)} @ {types[1]}{list(b)} -> {types[2]}; use float32,"
        " float16, bfloat16 or float64 for both factors, and float32 or their type for the result"
    )


def _verify(  # noqa: PLR0917 - parts of a key
    a: tuple[int, ...],
    b: tuple[int, ...],
    out: tuple[int, ...],
    types: tuple[Any, ...],
    epilogue: str,
    aux: tuple[int, ...] | None,
) -> None:
    """Raise if shapes, types or arguments do not go together."""
    if min(len(a), len(b)) < MATRIX or a[-1] != b[-2] or out[-2:] != (a[-2], b[-1]):
        raise ShapeError(
            f"matmul expects (…, M, K) @ (…, K, N) -> (…, M, N); got {a} @ {b} -> {out}"
        )
    a_type, b_type, out_type, bias_type = types
    if a_type != b_type or a_type.name not in TYPES or out_type.name not in TYPES:
        raise DTypeError(
            f"matmul expects factors of one type out of {', '.join(TYPES)}; got {a_type} @ {b_type} -> {out_type}"
        )
    if epilogue not in EPILOGUES:
        raise ValueError(f"epilogue expects one of {', '.join(EPILOGUES)}; got {epilogue!r}")
    if (bias_type is not None) != ("bias" in epilogue or "bgrad" in epilogue) or (aux is not None) != ("gelu" in epilogue):  # fmt: skip
        raise ValueError(f"epilogue {epilogue!r} expects a bias, or an aux, that is not there, or has none")  # fmt: skip
    if bias_type not in (None, out_type):
        raise DTypeError(
            f"matmul expects a bias of the type of the result, {out_type}; got {bias_type}"
        )
    if epilogue != "none" and len(out) != MATRIX:
        raise ShapeError(f"epilogue {epilogue!r} expects matrices; got a result of shape {out}")


def _joined(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return shape and strides with all rows on one axis, None where they are not equally far apart."""
    step, length = strides[-2], shape[-2]
    for n, stride in zip(shape[-3::-1], strides[-3::-1], strict=True):
        step = stride if length == 1 < n else step
        if n != 1 and stride != step * length:
            return None
        length *= n
    return (length, shape[-1]), (step, strides[-1])


def _form(
    shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any
) -> tuple[bool, Matrix] | None:
    """Describe a matrix, or a batch of them, by columns; None where there is neither a row nor a column.

    Returns
    -------
    bool
        Whether its columns, not its rows, lie in one piece.
    Matrix
        Its transpose if they are rows, which is what rows look like to who thinks in columns.
    """
    rows, columns = shape[-2:]
    down, right = (s // dtype.itemsize for s in strides[-2:])
    batch = strides[0] // dtype.itemsize if len(shape) == BATCH and shape[0] > 1 else 0
    kind = TYPES[dtype.name]
    if batch < 0:
        return None
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return False, Matrix(kind, columns, rows, down if rows > 1 else columns, batch)
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return True, Matrix(kind, rows, columns, right if columns > 1 else rows, batch)
    return None


# ---------------------------------------------------------------- detours
def _by_kernels(a: Array, b: Array, out: Array, c: Array, options: dict[str, Any]) -> None:
    """Multiply, and let a kernel of ours do what the library has no algorithm for."""
    matmul(a, b, out, c=c, alpha=options["alpha"], beta=options["beta"])
    finish(options["epilogue"], a, b, out, options["bias"], options["aux"])


def _by_copies(which: Any, *, through: bool = False, aligned: bool = False) -> Any:
    """Copy the factors that `which` numbers, or put the result `through` an array of our own.

    `aligned`: that is because of where they are.
    """

    def detour(a: Array, b: Array, out: Array, c: Array, options: dict[str, Any]) -> None:
        a, b = (x.copy() if i in which else x for i, x in enumerate((a, b)))
        own = cupy.empty(out.shape, out.dtype) if through else out
        if aligned and any(_alignment(x.data.ptr) < ALIGNMENT for x in (a, b, own)):
            raise DTypeError(
                f"cuBLASLt has no algorithm for {a.dtype}{list(a.shape)} @ {b.dtype}{list(b.shape)}"
            )
        if through and options["beta"]:
            own[...] = c
        matmul(a, b, own, c=None if through else c, **options)
        if through:
            out[...] = own

    return detour


def _by_transposes(a: Array, b: Array, out: Array, c: Array, options: dict[str, Any]) -> None:
    """Compute the transpose, where the columns of the result lie in one piece."""
    other = {"bgrada": "bgradb", "bgradb": "bgrada"}
    options["epilogue"] = other.get(options["epilogue"], options["epilogue"])
    a, b, out, c = (x.swapaxes(-1, -2) for x in (a, b, out, c))
    matmul(b, a, out, c=c, **options)


def _by_one_batch(a: Array, b: Array, out: Array, c: Array, options: dict[str, Any]) -> None:
    """Join the axes of the batch to one."""
    lead = out.shape[:-2]
    own = out if out.flags.c_contiguous else cupy.empty(out.shape, out.dtype)
    if options["beta"] and c is not own:
        own[...] = c
    a, b = (cupy.broadcast_to(x, (*lead, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (a, b))  # fmt: skip
    matmul(a, b, own.reshape(-1, *out.shape[-2:]), **options)
    if own is not out:
        out[...] = own


def _nothing(a: Array, b: Array, out: Array, c: Array, options: dict[str, Any]) -> None:  # noqa: ARG001 - as all detours
    """Leave an empty result as it is."""
    if "bgrad" in options["epilogue"]:
        options["bias"].fill(0)


def _no_terms(a: Array, b: Array, out: Array, c: Array, options: dict[str, Any]) -> None:
    """Take sums of no terms, which are zero."""
    if options["beta"]:
        cupy.multiply(c, cupy.asarray(options["beta"], out.dtype), out=out)
    else:
        out.fill(0)
    if options["epilogue"] != "none":
        finish(options["epilogue"], a, b, out, options["bias"], options["aux"])
