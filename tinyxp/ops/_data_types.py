"""Data type functions of the standard, and the move between devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import backend as _backend
from tinyxp import dtypes
from tinyxp._core import MODE, TENSORS, Tensor, fresh, wrap
from tinyxp._devices import explaining
from tinyxp.autograd._record import op, record
from tinyxp.errors import DTypeError
from tinyxp.ops import _dispatch

if TYPE_CHECKING:
    from tinyxp.backend import Device
    from tinyxp.dtypes import DType, DTypeLike, finfo_object, iinfo_object

__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]

_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


def astype(
    x: Tensor, dtype: DTypeLike, /, *, copy: bool = True, device: Device | str | None = None
) -> Tensor:
    """Return `x` with another dtype.

    Parameters
    ----------
    x : Tensor, shape (...)
    dtype : dtype
        Complex to real is refused: take `real` or `imag`.
    copy : bool
        Whether to copy where the dtype is already right.
    device : Device or str, optional
        Move the result there.

    Raises
    ------
    DTypeError
        For a complex `x` and a real `dtype`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.astype(xp.Tensor([1.7, -1.7]), "int64").tolist()
    [1, -1]
    """
    x = _dispatch.as_tensor(x)
    want, have = dtypes.dtype(dtype), dtypes.of(x._raw.dtype)
    if device is not None:
        x = to_device(x, device)
    if want is have and not copy:
        return x
    if have.kind == "c" and want.kind == "b":
        from tinyxp.ops._elementwise import not_equal  # made from a table

        return not_equal(x, 0)
    if have.kind == "c" and want.kind != "c":
        raise DTypeError(
            f"astype from {have} to {want} would drop the imaginary part; use xp.real(x) first"
        )
    native = x._device.backend.native_dtype(want)
    found: Tensor = _dispatch.apply(
        "astype", (x,), forward=lambda xp, raw: xp.astype(raw, native, copy=True)
    )
    return found


def to_device(x: Tensor, device: Device | str) -> Tensor:
    """Return `x` on another device, or `x` itself if it is there; gradients travel back.

    Examples
    --------
    >>> import tinyxp as xp
    >>> to_device(xp.ones(2), "cpu").device
    device('cpu')
    """
    fresh(x)
    source, target = x._device, _backend.device(device)
    if target is source:
        return x
    d, shape = dtypes.of(x._raw.dtype), tuple(x._raw.shape)
    with explaining(target):
        raw = target.backend.receive(x._raw, d, shape, source, target)
    out = wrap(raw, target)
    if x._node is not None and MODE.grad:
        record(op("to_device"), out, (x, source, target), (x._raw, source, target), {})
    return out


def can_cast(from_: Any, to: DTypeLike, /) -> bool:
    """Whether the standard's promotion leads from one dtype, or a Tensor's, to another.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.can_cast(xp.int32, xp.int64), xp.can_cast(xp.int64, xp.int32)
    (True, False)
    """
    start = dtypes.of(from_._raw.dtype) if type(from_) in TENSORS else dtypes.dtype(from_)
    end = dtypes.dtype(to)
    try:
        return dtypes.promote(start, end) is end
    except DTypeError:
        return False


def finfo(type: Any, /) -> finfo_object:  # noqa: A002 - the standard's name
    """Return the limits of a floating dtype, or of a Tensor's.

    Returns
    -------
    finfo_object
        ``bits, eps, max, min, smallest_normal, dtype``, as Python numbers.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.finfo(xp.float32).bits
    32
    """
    return dtypes.finfo(_dtype_of(type))


def iinfo(type: Any, /) -> iinfo_object:  # noqa: A002 - the standard's name
    """Return the limits of an integer dtype, or of a Tensor's.

    Returns
    -------
    iinfo_object
        ``bits, max, min, dtype``, as Python numbers.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.iinfo(xp.int8).max
    127
    """
    return dtypes.iinfo(_dtype_of(type))


def _dtype_of(x: Any) -> DType:
    if type(x) in TENSORS:
        return dtypes.of(x._raw.dtype)
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return dtypes.of(x.dtype)
    return dtypes.dtype(x)


def isdtype(dtype: DTypeLike, kind: Any) -> bool:
    """Whether `dtype` is of a kind.

    Parameters
    ----------
    dtype : dtype
    kind : dtype, str, or tuple of these
        A dtype, or one of ``"bool"``, ``"signed integer"``, ``"unsigned integer"``, ``"integral"``,
        ``"real floating"``, ``"complex floating"``, ``"numeric"``.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.isdtype(xp.float32, ("integral", "real floating"))
    True
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"isdtype knows the kinds {', '.join(_KINDS)}; got {kind!r}")
        return dtypes.dtype(dtype).kind in _KINDS[kind]
    return dtypes.dtype(dtype) is dtypes.dtype(kind)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """Return the dtype that Tensors, dtypes and Python numbers promote to.

    Python numbers alone give the default dtype of their kind.

    Raises
    ------
    DTypeError
        If they have no common dtype, or if there is nothing to promote.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.result_type(xp.int8, xp.uint8)
    tinyxp.int16
    """
    numbers = [
        dtypes.KIND_OF_SCALAR[type(a)]
        for a in arrays_and_dtypes
        if type(a) in dtypes.KIND_OF_SCALAR
    ]
    found = [_dtype_of(a) for a in arrays_and_dtypes if type(a) not in dtypes.KIND_OF_SCALAR]
    if not found:
        if not numbers:
            raise DTypeError("result_type expects at least one Tensor, dtype or number; got none")
        found = [dtypes.default_of_kind(max(numbers, key=dtypes.RANK.__getitem__))]
    d = found[0]
    for other in found[1:]:
        d = dtypes.promote(d, other)
    for kind in numbers:
        if dtypes.RANK[kind] > dtypes.RANK[d.kind]:
            d = dtypes.promote(d, _dispatch._scalar_dtype(kind, d))
    return d
