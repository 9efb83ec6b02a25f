"""Arguments of functions that are defined for real floating numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import TENSORS, Tensor
from tinyxp.errors import DTypeError
from tinyxp.ops import _dispatch
from tinyxp.ops._creation import asarray
from tinyxp.ops._data_types import astype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp.backend import Device


def floating(name: str, args: Sequence[Any]) -> list[Tensor]:
    """Return the arguments of a function as Tensors of one device and one real floating dtype.

    Python numbers take the dtype of the Tensors; Tensors of integers count as of the default floating dtype.

    Raises
    ------
    DTypeError
        If an argument is complex.
    """
    first = next((a for a in args if type(a) in TENSORS), None)
    device = None if first is None else first._device
    arrays = [_dispatch.as_tensor(a, device) if hasattr(a, "dtype") else a for a in args]
    d = _common(name, arrays)
    return [_as_floating(a, d, device) for a in arrays]


def _common(name: str, arrays: Sequence[Any]) -> dtypes.DType:
    kinds = [dtypes.of(a._raw.dtype) for a in arrays if type(a) in TENSORS]
    if any(d.kind == "c" for d in kinds):
        raise DTypeError(f"{name} expects real arguments; got {_dispatch.describe(arrays)}")
    default = dtypes.get_default_dtype()
    floats = [d if d.kind == "f" else default for d in kinds] or [default]
    found = floats[0]
    for d in floats[1:]:
        found = dtypes.promote(found, d)
    return found


def _as_floating(a: Any, d: dtypes.DType, device: Device | None) -> Tensor:
    if type(a) in TENSORS:
        return a if dtypes.of(a._raw.dtype) is d else astype(a, d)
    return asarray(a, dtype=d, device=device)
