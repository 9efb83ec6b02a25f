"""What errors of operations say: the operation, its arguments, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import TENSORS, Tensor
from tinyxp._devices import explained
from tinyxp.errors import (
    MIXED_DEVICES,
    DeviceMismatchError,
    DeviceOutOfMemoryError,
    DomainError,
    DTypeError,
    ShapeError,
    TinyxpError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tinyxp.backend import Device


def describe(a: Any) -> str:
    """Return what a message says of an argument: shape, dtype and device of a Tensor."""
    if type(a) in TENSORS:
        d = dtypes.of(a._raw.dtype)
        return f"{d}{list(a._raw.shape)} on {a._device}"
    if isinstance(a, (tuple, list)) and any(type(x) in TENSORS for x in a):
        return "[" + ", ".join(describe(x) for x in a) + "]"
    return repr(a) if isinstance(a, (int, float, complex, str, tuple, list)) else type(a).__name__


def explain(
    name: str,
    args: Iterable[Any],
    error: Exception,
    *,
    of_shapes: bool = False,
    device: Device | None = None,
) -> Exception:
    """Return `error` with the operation and its arguments in the message, as an error of tinyxp's tree.

    `of_shapes`: a ValueError, or PyTorch's RuntimeError, can only be about shapes. `device`: where it
    happened, if no argument tells.
    """
    args = list(args)
    known = _known(name, args, error, device)
    if known is not None:
        return known
    text = f"{name}: {error}; got {', '.join(map(describe, args))}"
    if name == "pow" and "negative integer powers" in str(error):  # NumPy's words and PyTorch's
        return DomainError(
            f"pow of integers expects exponents >= 0; got {', '.join(map(describe, args))}: "
            "make the base floating, x.to('float64') ** -1"
        )
    if of_shapes and type(error) in (ValueError, RuntimeError):
        return ShapeError(text)
    if not isinstance(error, (LookupError, MemoryError)) and _do_not_broadcast(args):
        return ShapeError(text)
    kinds: dict[type, type[Exception]] = {ValueError: ShapeError, TypeError: DTypeError}
    kind = kinds.get(type(error), type(error))
    try:
        return kind(text)
    except TypeError:  # an exception class with a signature of its own
        error.add_note(text)
        return error


def _known(
    name: str, args: list[Any], error: Exception, device: Device | None
) -> TinyxpError | None:
    """Return the error of tinyxp's tree that `error` is, or that its library says it means."""
    where = next((a._device for a in args if type(a) in TENSORS), device)
    known = explained(error, where)
    if known is not error and isinstance(known, DeviceOutOfMemoryError):
        what = ", ".join(map(describe, args))
        return DeviceOutOfMemoryError(f"{name}: {known}; got {what}", known.figures)
    return known if isinstance(known, TinyxpError) else None


def _do_not_broadcast(args: Iterable[Any]) -> bool:
    try:
        broadcast_shapes(*(a._raw.shape for a in args if type(a) in TENSORS))
    except ShapeError:
        return True
    return False


def mismatch(name: str, tensors: Sequence[Tensor]) -> DeviceMismatchError:
    """Return the error for Tensors of several devices in the operation `name`."""
    from tinyxp.backend import get_default_device

    names = list(dict.fromkeys(str(t._device) for t in tensors))
    default = str(get_default_device())
    hint = (
        f"\n\nArrays made without device= are on the default device, {default!r}: pass device= when you make "
        f"them, or set it once with tinyxp.set_default_device({names[0] if default != names[0] else names[-1]!r})."
        if default in names
        else ""
    )
    return DeviceMismatchError(
        MIXED_DEVICES.format(
            operation=name, devices=" and ".join(names), first=names[0], second=names[-1], hint=hint
        )
    )


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that arrays of `shapes` broadcast to.

    Raises
    ------
    ShapeError
        If they do not broadcast.

    Examples
    --------
    >>> broadcast_shapes((3, 1), (1, 4))
    (3, 4)
    """
    ndim = max(map(len, shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for i, n in enumerate(shape, start=ndim - len(shape)):
            if n != 1:
                if out[i] not in (1, n):
                    raise ShapeError(
                        f"shapes {', '.join(str(tuple(s)) for s in shapes)} cannot be broadcast together"
                    )
                out[i] = n
    return tuple(out)
