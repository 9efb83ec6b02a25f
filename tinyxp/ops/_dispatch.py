"""From Tensors to the library's arrays and back: every operation goes through a function of this module.

`unary` and `binary` make the elementwise functions, `apply` calls anything else, `view` makes views, and
`fused` turns an operation of the backend's third tier into a function on Tensors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import _fused, dtypes
from tinyxp._core import (
    CASTING,
    MODE,
    PAUSED,
    TENSORS,
    Alias,
    Node,
    Tensor,
    detached,
    fresh,
    new_alias,
    wrap,
)
from tinyxp.autograd._record import (
    NOTHING,
    TABLE,
    Op,
    record,
    record1,
    record2,
    record_number,
    record_view,
)
from tinyxp.autograd._record import op as table_line
from tinyxp.backend import PLAIN
from tinyxp.ops import _autocast
from tinyxp.ops._messages import broadcast_shapes as broadcast_shapes
from tinyxp.ops._messages import describe as describe
from tinyxp.ops._messages import explain as explain
from tinyxp.ops._messages import mismatch as mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

_new = Tensor.__new__
_REAL = frozenset({int, float})


# ---------------------------------------------------------------- arguments
def is_tensor(x: object) -> bool:
    """Whether `x` is a Tensor."""
    return type(x) in TENSORS


def device_of(name: str, tensors: Sequence[Tensor]) -> Device:
    """Return the common device of `tensors`."""
    device = tensors[0]._device
    for t in tensors:
        if t._device is not device:
            raise mismatch(name, tensors)
    return device


def as_tensor(x: Any, device: Device | None = None) -> Tensor:
    """Return `x`, a Tensor, an array of a loaded library or a number, as a Tensor."""
    if type(x) in TENSORS:
        return fresh(x)
    from tinyxp.ops._creation import asarray

    return asarray(x, device=device)


def operand(x: Any, device: Device | None = None) -> Tensor:
    """Return `x` as a Tensor that later writes to a library's array, which nobody sees, do not change."""
    if type(x) in TENSORS:
        return fresh(x)
    from tinyxp.ops._creation import asarray

    return asarray(x, device=device, copy=MODE.grad or None)


def plain(x: Any) -> Any:
    """Return a library's scalar, such as ``numpy.float64(2)``, as the Python number it stands for."""
    if type(x) in dtypes.KIND_OF_SCALAR:
        return x
    if getattr(x, "shape", None) == () and hasattr(x, "item") and not hasattr(x, "__setitem__"):
        return x.item()
    kinds: tuple[Any, ...] = (bool, int, float, complex)
    return next((kind(x) for kind in kinds if isinstance(x, kind)), x)


def cast(raw: Any, d: DType, device: Device) -> Any:
    """Return the array `raw` with dtype `d`."""
    native = device.backend.native_dtype(d)
    return raw if raw.dtype == native else device.xp.astype(raw, native)


def _promote_pair(a: Any, b: Any, device: Device) -> tuple[Any, Any]:
    d = dtypes.promote(dtypes.of(a.dtype), dtypes.of(b.dtype))
    return cast(a, d, device), cast(b, d, device)


def _mixed(name: str, x1: Any, x2: Any) -> tuple[Any, Any, Any, Any, Device]:
    """Prepare two operands of which one, or both, are not Tensors."""
    t1, t2 = type(x1) in TENSORS, type(x2) in TENSORS
    x1, x2 = x1 if t1 else plain(x1), x2 if t2 else plain(x2)
    if not t1 and not t2:
        x1, x2 = as_tensor(x1), as_tensor(x2)
    elif type(x2 if t1 else x1) in dtypes.KIND_OF_SCALAR:
        tensor, number = (x1, x2) if t1 else (x2, x1)
        tensor, raw, number = _with_scalar(tensor, number)
        device = tensor._device
        return (
            (tensor, number, raw, number, device) if t1 else (number, tensor, number, raw, device)
        )
    else:
        device = (x1 if t1 else x2)._device
        x1, x2 = operand(x1, device), operand(x2, device)
    device = device_of(name, (x1, x2))
    a, b = fresh(x1)._raw, fresh(x2)._raw
    if a.dtype != b.dtype:
        a, b = _promote_pair(a, b, device)
    return x1, x2, a, b, device


def _with_scalar(t: Tensor, number: Any) -> tuple[Tensor, Any, Any]:
    """Let the dtype of `t` rule over a Python number, unless the number is of a higher kind."""
    if t._alias is not None:
        fresh(t)
    raw = t._raw
    d = dtypes.of(raw.dtype)
    if d.kind == "f" and type(number) in _REAL:
        return t, raw, number
    kind = dtypes.KIND_OF_SCALAR[type(number)]
    if dtypes.RANK[kind] > dtypes.RANK[d.kind]:
        raw = cast(raw, dtypes.promote(d, _scalar_dtype(kind, d)), t._device)
    elif kind == "b" != d.kind:
        number = int(number)
    elif kind != d.kind and d.kind == "c":
        number = complex(number)
    return t, raw, number


def _scalar_dtype(kind: str, d: DType) -> DType:
    if kind == "c" and d.kind == "f":
        return dtypes.promote(d, dtypes.type_names["complex64"])
    return dtypes.default_of_kind(kind)


# ---------------------------------------------------------------- elementwise functions
def unary(name: str) -> Callable[[Any], Tensor]:
    """Make the elementwise function `name` of one argument."""
    line, island = table_line(name), name in _autocast.ISLANDS

    def function(x: Any, /) -> Tensor:
        if island and CASTING:
            (x,) = _autocast.widened(x)
        if type(x) not in TENSORS:
            x = as_tensor(x)
        elif x._alias is not None:
            fresh(x)
        device = x._device
        raw = x._raw
        try:
            r = device.fns[name](raw)
        except Exception as e:  # noqa: BLE001 - every error is given its context
            raise explain(name, (x,), e) from None
        if type(r) is not device.array_type:
            r = device.wrap(r)
        elif (
            r is raw
        ):  # as some libraries do for the floor of integers; a Tensor has an array of its own
            r = device.xp.copy(raw)
        out: Tensor = _new(Tensor)
        out._raw = r
        out._device = device
        out._node = None
        out._index = 0
        out._alias = None
        out._version = 0
        out._shared = False
        if x._node is not None and (not PAUSED or MODE.grad) and line.rules:
            record1(line, out, x, raw, NOTHING)
        return out

    function.__name__ = function.__qualname__ = name
    return function


def _kept(r: Any, raw: Any, device: Device) -> Any:
    """Return what came of the array `raw` and a number in the dtype of `raw`, where libraries leave bfloat16."""
    floats = (dtypes.of(r.dtype).name, dtypes.of(raw.dtype).name)
    return device.xp.astype(r, raw.dtype) if floats == ("float32", "bfloat16") else r


def _mixing(  # noqa: C901 - calls cost
    name: str, line: Op, takes: Callable[[Any], bool] | None
) -> Callable[[Callable[[Any, Any], Tensor], Any, Any], Any]:
    """Make what `binary` calls where an operand is a number, or another library's array."""

    def mixed(function: Callable[[Any, Any], Tensor], x1: Any, x2: Any) -> Any:
        if type(x2) in _REAL and type(x1) in TENSORS:
            t, a, b = x1, x1._raw, x2
            if x1._alias is not None or dtypes.of(a.dtype).kind != "f":
                t, a, b = _with_scalar(x1, x2)
        elif takes is not None and not takes(x2):
            return NotImplemented
        elif type(x1) in _REAL and type(x2) in TENSORS:
            t, b, a = _with_scalar(x2, x1)
        else:
            x1, x2, a, b, _ = _mixed(name, x1, x2)
            if type(x1) in TENSORS and type(x2) in TENSORS:
                return function(x1, x2)
            t = x1 if type(x1) in TENSORS else x2
        device = t._device
        try:
            r = device.fns[name](a, b)
        except Exception as e:  # noqa: BLE001 - every error is given its context
            raise explain(name, (x1, x2), e) from None
        if type(r) is not device.array_type:
            r = device.wrap(r)
        raw = a if t is x1 else b
        if r.dtype is not raw.dtype:
            r = _kept(r, raw, device)
        out: Tensor = _new(Tensor)
        out._raw = r
        out._device = device
        out._node = None
        out._index = 0
        out._alias = None
        out._version = 0
        out._shared = False
        if t._node is not None and (not PAUSED or MODE.grad) and line.rules:
            record_number(line, out, x1, x2, raw)
        return out

    return mixed


def binary(  # noqa: C901 - calls cost
    name: str, takes: Callable[[Any], bool] | None = None
) -> Callable[[Any, Any], Tensor]:
    """Make the elementwise function `name` of two arguments.

    With `takes`, it is the operator of its first argument, and returns NotImplemented where `takes` says no to the
    second. An operator that called the function would take a tenth longer.
    """
    line = table_line(name)
    mixed, island = _mixing(name, line, takes), name in _autocast.ISLANDS

    def function(x1: Any, x2: Any, /) -> Any:
        if island and CASTING:
            x1, x2 = _autocast.widened(x1, x2)
        if type(x2) not in TENSORS or type(x1) not in TENSORS:
            return mixed(function, x1, x2)
        device = x1._device
        if device is not x2._device:
            raise mismatch(name, (x1, x2))
        if x1._alias is not None:
            fresh(x1)
        if x2._alias is not None:
            fresh(x2)
        a, b = x1._raw, x2._raw
        if a.dtype is not b.dtype and a.dtype != b.dtype:
            a, b = _promote_pair(a, b, device)
        try:
            r = device.fns[name](a, b)
        except Exception as e:  # noqa: BLE001 - every error is given its context
            raise explain(name, (x1, x2), e) from None
        if type(r) is not device.array_type:
            r = device.wrap(r)
        out: Tensor = _new(Tensor)
        out._raw = r
        out._device = device
        out._node = None
        out._index = 0
        out._alias = None
        out._version = 0
        out._shared = False
        if (
            (x1._node is not None or x2._node is not None)
            and (not PAUSED or MODE.grad)
            and line.rules
        ):
            record2(line, out, x1, x2, a, b)
        return out

    function.__name__ = function.__qualname__ = name
    return function


# ---------------------------------------------------------------- everything else
def call(device: Device, name: str, raws: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Call the function `name` of the device's extended namespace (``"linalg.svd"`` is in its linalg)."""
    extension, _, function = name.rpartition(".")
    if extension:
        return getattr(device.fns[extension], function)(*raws, **kwargs)
    return device.fns[name](*raws, **kwargs)


def finish(r: Any, device: Device) -> Any:
    """Wrap what a library returned: an array, or a sequence of arrays as a tuple of the same kind."""
    if type(r) is device.array_type:
        return wrap(r, device)
    if isinstance(r, tuple) and hasattr(r, "_fields"):
        return type(r)(*[finish(x, device) for x in r])
    if isinstance(r, (tuple, list)):
        return tuple([finish(x, device) for x in r])
    return wrap(device.wrap(r), device)


def apply(
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any] = NOTHING,
    *,
    forward: Callable[..., Any] | None = None,
) -> Any:
    """Call an operation on arguments of which some are Tensors, and record it.

    Parameters
    ----------
    name : str
        Its name in the table and, unless `forward` is given, in the extended namespace.
    args : sequence
        Positional arguments; those to be differentiated are Tensors.
    kwargs : dict
        Keyword arguments, none of them a Tensor.
    forward : callable, optional
        ``forward(xp, *raws, **kwargs)``, for what the library has not under this name.
    """
    tensors = [fresh(a) for a in args if type(a) in TENSORS]
    device = device_of(name, tensors)
    raws = [a._raw if type(a) in TENSORS else a for a in args]
    try:
        if forward is None:
            r = call(device, name, raws, kwargs)
        elif device.scoped:  # it may use the operators of raw arrays
            with device.backend.scope(device.local):
                r = forward(device.xp, *raws, **kwargs)
        else:
            r = forward(device.xp, *raws, **kwargs)
    except Exception as e:  # noqa: BLE001 - every error is given its context
        raise explain(name, args, e) from None
    out = finish(r, device)
    if MODE.grad and any(t._node is not None for t in tensors):
        _record_floating(name, out, args, raws, kwargs)
    return out


def apply1(name: str, x: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Call an operation on one Tensor that gives one array: the fast path of `apply`."""
    if x._alias is not None:
        fresh(x)
    device, raw = x._device, x._raw
    try:
        r = device.fns[name](raw, **kwargs)
    except Exception as e:  # noqa: BLE001 - every error is given its context
        raise explain(name, (x,), e) from None
    if type(r) is not device.array_type:
        r = device.wrap(r)
    out = wrap(r, device)
    if x._node is not None and (not PAUSED or MODE.grad):
        record1(TABLE[name], out, x, raw, kwargs)
    return out


def _record_floating(name: str, out: Any, args: Any, raws: Any, kwargs: dict[str, Any]) -> None:
    outs = out if isinstance(out, tuple) else (out,)
    if any(dtypes.of(o._raw.dtype).kind in "fc" for o in outs):
        record(table_line(name), out, args, raws, kwargs)


def untracked(name: str, args: Sequence[Any], kwargs: dict[str, Any] = NOTHING) -> Any:
    """Call an operation whose result has no derivative."""
    tensors = [fresh(a) for a in args if type(a) in TENSORS]
    device = device_of(name, tensors)
    raws = [a._raw if type(a) in TENSORS else a for a in args]
    try:
        return finish(call(device, name, raws, kwargs), device)
    except Exception as e:  # noqa: BLE001 - every error is given its context
        raise explain(name, args, e) from None


def variadic(name: str, tensors: Sequence[Tensor], kwargs: dict[str, Any]) -> Tensor:
    """Call an operation on a sequence of Tensors, such as concat, and record it."""
    tensors = [fresh(t) for t in tensors]
    device = device_of(name, tensors)
    raws = [t._raw for t in tensors]
    try:
        r = call(device, name, (raws,), kwargs)
    except Exception as e:  # noqa: BLE001 - every error is given its context
        raise explain(name, tensors, e) from None
    out: Tensor = finish(r, device)
    if MODE.grad and any(t._node is not None for t in tensors):
        record(table_line(name), out, tensors, raws, kwargs)
    return out


def view(
    name: str,
    x: Tensor,
    forward: Callable[..., Any],
    step: Callable[..., Tensor],
    args: tuple[Any, ...],
) -> Tensor:
    """Make a view of `x`.

    Parameters
    ----------
    forward : callable
        ``forward(raw, *args)`` makes it of the library's array.
    step : callable
        ``step(x, *args)`` makes it of a Tensor; remembered to make it again.
    """
    alias = x._alias
    device = x._device
    made = new_alias(Alias)
    made.recorded = True
    if alias is None:
        root, made.parent = x, None
    else:
        fresh(x)
        root, made.parent = (alias.root, alias) if type(alias) is Alias else (x, None)
    try:
        r = forward(x._raw, *args)
    except Exception as e:  # noqa: BLE001 - every error is given its context
        raise explain(name, (x, *args), e, of_shapes=True) from None
    if type(r) is not device.array_type:
        r = device.wrap(r)
    out: Tensor = _new(Tensor)
    out._raw = r
    out._device = device
    out._node = None
    out._index = 0
    out._version = 0
    out._shared = False
    if x._node is not None and (not PAUSED or MODE.grad):
        record_view(TABLE[name], out, x, args)
    elif x._node is not None or root._node is not None:
        made.recorded = False
        if type(root._node) is Node:
            root = detached(root)  # an unrecorded view must not keep the graph alive
    made.root = root
    made.version = root._version
    made.step = step
    made.args = args
    out._alias = made
    return out


# ---------------------------------------------------------------- fused operations
def composite(name: str) -> Callable[..., Tensor]:
    """Return the definition of a fused operation in terms of the namespace, as a function on Tensors."""
    from tinyxp import ops

    definition = getattr(_fused, name)
    return lambda *args, **kwargs: definition(ops, *args, **kwargs)


def _line(name: str, entry: str) -> Op:
    """Return a line for the operation `name`, whose vjp stands in the extended namespace as `entry`_vjp."""
    line = table_line(name) if entry == name else Op(name)
    vjp = f"{entry}_vjp"

    def joint(node: Node, g: Any, needs: tuple[bool, ...]) -> Sequence[Any]:
        found: Sequence[Any] = node.device.fns[vjp](
            g, node.out, node.aux, *node.args, needs=needs, **node.kwargs
        )
        return found

    line.joint = joint
    line.reads_out = name in _fused.READS_OUT
    return line


def fused(name: str) -> Callable[..., Tensor]:
    """Make the operation `name` of the backend's third tier a function on Tensors."""
    plain_name = PLAIN + name
    fast, plain = _line(name, name), _line(name, plain_name)

    def function(*args: Any, **kwargs: Any) -> Tensor:
        if CASTING:
            args, kwargs = _autocast.fused_arguments(name, args, kwargs)
        tensors = [a for a in args if type(a) in TENSORS]
        for t in tensors:
            if t._alias is not None:
                fresh(t)
        device = device_of(name, tensors)
        raws = [a._raw if type(a) in TENSORS else a for a in args]
        line, entry = (fast, name) if MODE.fused else (plain, plain_name)
        try:
            r, aux = device.fns[entry](*raws, **kwargs)
        except Exception as e:  # noqa: BLE001 - every error is given its context
            raise explain(name, args, e) from None
        if type(r) is not device.array_type:
            r = device.wrap(r)
        out = wrap(r, device)
        if MODE.grad and any(t._node is not None for t in tensors):
            record(line, out, args, raws, kwargs, aux)
        return out

    function.__name__ = function.__qualname__ = name
    definition = getattr(_fused, name)
    function.__doc__ = definition.__doc__
    return function


def size_of(shape: Sequence[int]) -> int:
    """Return the number of elements of an array of this shape."""
    return math.prod(shape)
