"""What `tinyxp.autocast` does to the arguments of operations.

Operations ask ``if CASTING`` first, which is empty unless some thread is inside the context: without it, they
pay for one look at a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._capture import recording
from tinyxp._core import MODE, TENSORS, Leaf, Tensor, fresh, wrap
from tinyxp._devices import on
from tinyxp.autograd._record import NOTHING, TABLE, record1

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ISLANDS", "fused_arguments", "narrowed", "products", "widened"]

# Elementwise functions that lose much, or overflow, in half precision.
ISLANDS = frozenset(
    """acos acosh asin asinh atanh cosh erf exp expm1 hypot log log10 log1p log2 logaddexp pow reciprocal sinh
tan""".split()
)
PRODUCTS = frozenset({"attention", "linear"})  # whose arrays are converted before
COMPUTING = frozenset({"mlp", "self_attention", "transformer_block"})  # which convert inside
_HALF = 2  # bytes


def products(arrays: Iterable[Any]) -> bool:
    """Whether the thread computes products of `arrays` in half precision: of real ones, none in float64."""
    if MODE.compute is None:
        return False
    kinds = [dtypes.of(a._raw.dtype) for a in arrays if type(a) in TENSORS]
    floats = [d for d in kinds if d.kind in "fc"]
    return bool(floats) and all(d.kind == "f" and d.itemsize <= 4 for d in floats)  # noqa: PLR2004 - bytes


def narrowed(*arrays: Any) -> tuple[Any, ...]:
    """Return the arguments of a product in the dtype of the context, those that are none as they are."""
    if not products(arrays):
        return arrays
    d = dtypes.dtype(MODE.compute)
    return tuple(
        _cast(a, d) if type(a) in TENSORS and dtypes.of(a._raw.dtype).kind == "f" else a
        for a in arrays
    )


def _cast(t: Tensor, d: dtypes.DType) -> Tensor:
    """Return `t` as `d`. What was made of a parameter is used again, each time as a new step of the graph."""
    if dtypes.of(t._raw.dtype) is d:
        return t
    if type(t._node) is not Leaf or t._alias is not None:
        return _astype(t, d)
    held, made = (
        MODE.casts.get(id(t)),
        recording(),
    )  # a graph of launches must convert by itself, each time
    if held is None or held[1] != t._version or held[2] is not d or held[4] is not made:
        native = t._device.backend.native_dtype(d)
        with on(t._device):
            raw = t._device.xp.astype(t._raw, native)
        held = MODE.casts[id(t)] = (t, t._version, d, raw, made)
    out = wrap(held[3], t._device)
    out._shared = True
    if MODE.grad:
        record1(TABLE["astype"], out, t, t._raw, NOTHING)
    return out


def widened(*arrays: Any) -> tuple[Any, ...]:
    """Return what is in half precision as float32, the rest as it is."""
    if MODE.compute is None:
        return arrays
    return tuple(_widened(a) for a in arrays)


def _widened(a: Any) -> Any:
    if type(a) not in TENSORS:
        return a
    d = dtypes.of(a._raw.dtype)
    return _astype(a, "float32") if d.kind == "f" and d.itemsize == _HALF else a


def _astype(t: Tensor, d: dtypes.DTypeLike) -> Tensor:
    from tinyxp.ops._data_types import astype  # which stands on the module that stands on this one

    return astype(t, d)


def fused_arguments(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a fused operation is called with: converted arrays, or the option to convert them inside."""
    if name in PRODUCTS:
        return narrowed(*(fresh(a) if type(a) in TENSORS else a for a in args)), kwargs
    if name in COMPUTING and products(args) and kwargs.get("compute") is None:
        d = dtypes.dtype(MODE.compute)
        if any(dtypes.of(a._raw.dtype) is not d for a in args if type(a) in TENSORS):
            return args, kwargs | {"compute": d.name}
    return args, kwargs
