"""Creation functions of the standard, and the interchange with other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import backend as _backend
from tinyxp import dtypes
from tinyxp._core import TENSORS, Tensor, fresh, wrap
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.ops import _dispatch
from tinyxp.ops._creation_recorded import filled, linspace_between, progression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp.backend import Device
    from tinyxp.dtypes import DType, DTypeLike

__all__ = [
    "arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace",
    "meshgrid", "ones", "ones_like", "tril", "triu", "zeros", "zeros_like",
]  # fmt: skip

DeviceLike = Any  # a Device, its string, or None for the default


def _where(device: DeviceLike) -> Device:
    return _backend.device(device)


def _native(dtype: DTypeLike, device: Device, default: DType | None = None) -> Any:
    d = default if dtype is None else dtypes.dtype(dtype)
    return None if d is None else device.backend.native_dtype(d)


def _shape(shape: Any, name: str) -> tuple[int, ...]:
    if type(shape) in TENSORS:
        shape = shape.tolist()
    try:
        found = (
            (shape.__index__(),)
            if hasattr(shape, "__index__")
            else tuple(n.__index__() for n in shape)
        )
    except (AttributeError, TypeError):
        raise ShapeError(
            f"{name} expects an integer or a sequence of integers as shape; got {shape!r}"
        ) from None
    if any(n < 0 for n in found):
        raise ShapeError(f"{name} expects lengths that are not negative; got shape {found}")
    return found


def _make(name: str, device: Device, *args: Any, **kwargs: Any) -> Tensor:
    try:
        r = device.fns[name](*args, device=device.native, **kwargs)
    except Exception as e:  # noqa: BLE001 - every error is given its context
        raise _dispatch.explain(name, args, e, device=device) from None
    out: Tensor = _dispatch.finish(r, device)
    return out


# ---------------------------------------------------------------- from data
def asarray(
    obj: Any,
    /,
    *,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
    copy: bool | None = None,
) -> Tensor:
    """Return `obj` as a Tensor.

    Parameters
    ----------
    obj : Tensor, number, nested sequence, array of a loaded library, or buffer
        What to convert. Python floats take the default floating dtype, arrays keep theirs.
    dtype : dtype, optional
        The dtype of the result.
    device : Device or str, optional
        The device of the result; by default that of `obj`, or the default device for data in host memory.
    copy : bool, optional
        True: copy always. False: never, and raise if that cannot be done. None: only where needed, so the
        result may share its memory with `obj`.

    Raises
    ------
    ValueError
        If `copy` is False and a copy is needed.
    DTypeError
        If `obj` cannot be converted.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.asarray([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if type(obj) in TENSORS:
        return _from_tensor(obj, dtype, device, copy=copy)
    if isinstance(obj, (list, tuple)) and _holds_tensor(obj):
        return _from_nested(obj, dtype, device)
    owner = _owner(obj)
    if owner is not None and owner.name != _backend.HOST:
        return _from_foreign(owner, obj, dtype, device, copy=copy)
    return _from_host(obj, dtype, _where(device), copy=copy)


def _from_tensor(x: Tensor, dtype: DTypeLike, device: DeviceLike, *, copy: bool | None) -> Tensor:
    from tinyxp.ops._data_types import astype, to_device

    fresh(x)
    target = x._device if device is None else _where(device)
    d = dtypes.of(x._raw.dtype)
    want = d if dtype is None else dtypes.dtype(dtype)
    if copy is False and (want is not d or target is not x._device):
        raise ValueError(
            f"asarray(copy=False) cannot turn {d} on {x._device} into {want} on {target} without a copy; "
            "leave copy out to allow one"
        )
    if target is not x._device:
        x, copy = to_device(x, target), None
    if want is not d:
        return astype(x, want)
    return astype(x, want, copy=True) if copy else x


def _holds_tensor(obj: Any) -> bool:
    return any(
        type(o) in TENSORS or (isinstance(o, (list, tuple)) and _holds_tensor(o)) for o in obj
    )


def _from_nested(obj: Any, dtype: DTypeLike, device: DeviceLike) -> Tensor:
    from tinyxp.ops._data_types import astype, result_type
    from tinyxp.ops._manipulation import stack

    first = _first_tensor(obj)
    where = first._device if device is None else _where(device)
    parts = [asarray(o, device=where) for o in obj]
    common = result_type(*parts) if dtype is None else dtypes.dtype(dtype)
    return stack([astype(p, common, copy=False) for p in parts])


def _first_tensor(obj: Any) -> Tensor:
    for o in obj:
        if type(o) in TENSORS:
            return o  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker
        if isinstance(o, (list, tuple)) and _holds_tensor(o):
            return _first_tensor(o)
    raise AssertionError  # the caller has looked


def _owner(obj: Any) -> _backend.Backend | None:
    """Return the loaded backend whose arrays `obj` is one of."""
    kind = type(obj)
    return next((b for b in _backend.loaded_backends() if issubclass(kind, b.array_type)), None)


def _from_foreign(
    owner: _backend.Backend, obj: Any, dtype: DTypeLike, device: DeviceLike, *, copy: bool | None
) -> Tensor:
    home = owner.device(owner.device_of(obj))
    raw = home.xp.copy(obj) if copy else obj
    t = wrap(raw, home)
    if device is None and dtype is None:
        return t
    return _from_tensor(t, dtype, device, copy=None if copy else copy)


def _from_host(obj: Any, dtype: DTypeLike, device: Device, *, copy: bool | None) -> Tensor:
    if isinstance(obj, (list, tuple)) and copy is not False and _holds_array(obj):
        obj = _host_array(obj)
    if not hasattr(obj, "dtype") and dtype is None:
        dtype = _default_for(obj)
    d = None if dtype is None else dtypes.dtype(dtype)
    if hasattr(obj, "dtype") and not hasattr(obj, "__setitem__") and dtype is None:
        d = dtypes.of(obj.dtype)  # a scalar of the host library keeps its dtype
    try:
        raw = device.backend.asarray(obj, dtype=d, device=device, copy=copy)
        dtypes.of(raw.dtype)  # an array of objects or strings is refused
    except (TypeError, ValueError, OverflowError) as e:
        kind = ValueError if copy is False else DTypeError
        raise kind(f"asarray cannot convert {type(obj).__name__}: {e}") from None
    t = wrap(raw if type(raw) is device.array_type else device.wrap(raw), device)
    t._shared = _read_only(raw) or _read_only(obj)
    return t


def _read_only(raw: Any) -> bool:
    flags = getattr(raw, "flags", None)
    return flags is not None and not getattr(flags, "writeable", True)


def _host_array(obj: Any) -> Any:
    try:
        found = _backend.get_backend(_backend.HOST).asarray(obj)
        dtypes.of(found.dtype)
    except (TypeError, ValueError, OverflowError) as e:
        raise DTypeError(f"cannot make an array of {type(obj).__name__}: {e}") from None
    return found


def _default_for(obj: Any) -> DType | None:
    kind = dtypes.KIND_OF_SCALAR.get(type(obj))
    if kind is None:
        found = _host_array(obj)
        d = dtypes.of(found.dtype)
        if d.kind == "u" or not isinstance(obj, (list, tuple)):
            return d
        kind = d.kind if _dispatch.size_of(found.shape) else "f"
    return dtypes.default_of_kind(kind)


def _holds_array(obj: Any) -> bool:
    return any(
        hasattr(o, "dtype") or (isinstance(o, (list, tuple)) and _holds_array(o)) for o in obj
    )


def from_dlpack(x: Any, /, *, device: DeviceLike = None, copy: bool | None = None) -> Tensor:
    """Return an array of another library, which speaks DLPack, as a Tensor.

    Parameters
    ----------
    x : object with ``__dlpack__`` and ``__dlpack_device__``
        A Tensor that requires grad refuses.
    device : Device or str, optional
        The device of the result; by default the one `x` is on.
    copy : bool, optional
        As for `asarray`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.from_dlpack(xp.ones(2)).tolist()
    [1.0, 1.0]
    """
    if type(x) in TENSORS:
        x._check_exportable("xp.from_dlpack(x)", "xp.from_dlpack(x.detach())")
        return _from_tensor(x, None, device, copy=copy)
    owner = _owner(x)
    if owner is not None:
        return _from_foreign(owner, x, None, device, copy=copy)
    target = _where(device)
    raw = (
        target.backend.library.from_dlpack(x, copy=copy)
        if copy is not None
        else target.backend.library.from_dlpack(x)
    )
    t = wrap(raw, target)
    t._shared = _read_only(raw)
    return t


# ---------------------------------------------------------------- from a shape
def _filled(name: str, shape: Any, dtype: DTypeLike, device: DeviceLike) -> Tensor:
    where = _where(device)
    return _make(
        name, where, _shape(shape, name), dtype=_native(dtype, where, dtypes.get_default_dtype())
    )


def zeros(shape: Any, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Return a Tensor of zeros.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype, optional
        By default the default floating dtype.
    device : Device or str, optional
        By default the default device.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.zeros(2).tolist()
    [0.0, 0.0]
    """
    return _filled("zeros", shape, dtype, device)


def ones(shape: Any, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Return a Tensor of ones; the parameters are those of `zeros`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(2).tolist()
    [1.0, 1.0]
    """
    return _filled("ones", shape, dtype, device)


def empty(shape: Any, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Return a Tensor whose elements are not set; the parameters are those of `zeros`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.empty((2, 3)).shape
    (2, 3)
    """
    return _filled("empty", shape, dtype, device)


def full(
    shape: Any, fill_value: Any, *, dtype: DTypeLike = None, device: DeviceLike = None
) -> Tensor:
    """Return a Tensor with every element `fill_value`.

    Parameters
    ----------
    shape : int or tuple of int
    fill_value : number, or Tensor of one element
        A Tensor is differentiated.
    dtype : dtype, optional
        By default the dtype that `fill_value` has as a Tensor.
    device : Device or str, optional
        By default that of `fill_value` if it is a Tensor.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.full(2, 7).tolist()
    [7, 7]
    """
    if type(fill_value) in TENSORS:
        return filled(fill_value, _shape(shape, "full"), dtype, device, "full")
    where = _where(device)
    value = _dispatch.plain(fill_value)
    default = dtypes.default_of_kind(dtypes.KIND_OF_SCALAR.get(type(value), "f"))
    return _make("full", where, _shape(shape, "full"), value, dtype=_native(dtype, where, default))


def _like(name: str, x: Tensor, dtype: DTypeLike, device: DeviceLike, *args: Any) -> Tensor:
    x = _dispatch.as_tensor(x)
    where = x._device if device is None else _where(device)
    d = dtypes.of(x._raw.dtype) if dtype is None else dtypes.dtype(dtype)
    return _make(name, where, tuple(x._raw.shape), *args, dtype=where.backend.native_dtype(d))


def zeros_like(x: Tensor, /, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Return zeros with the shape, dtype and device of `x`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.zeros_like(xp.ones(2)).tolist()
    [0.0, 0.0]
    """
    return _like("zeros", x, dtype, device)


def ones_like(x: Tensor, /, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Return ones with the shape, dtype and device of `x`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones_like(xp.zeros(2)).tolist()
    [1.0, 1.0]
    """
    return _like("ones", x, dtype, device)


def empty_like(x: Tensor, /, *, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Return a Tensor, its elements not set, with the shape, dtype and device of `x`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.empty_like(xp.zeros((2, 3))).shape
    (2, 3)
    """
    return _like("empty", x, dtype, device)


def full_like(
    x: Tensor, /, fill_value: Any, *, dtype: DTypeLike = None, device: DeviceLike = None
) -> Tensor:
    """Return a Tensor with every element `fill_value` and the shape, dtype and device of `x`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.full_like(xp.zeros(2), 3).tolist()
    [3.0, 3.0]
    """
    if type(fill_value) in TENSORS:
        x = _dispatch.as_tensor(x)
        dtype, device = dtype or x.dtype, device or x._device
        return filled(fill_value, tuple(x._raw.shape), dtype, device, "full_like")
    return _like("full", x, dtype, device, _dispatch.plain(fill_value))


def arange(
    start: Any,
    /,
    stop: Any = None,
    step: Any = 1,
    *,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
) -> Tensor:
    """Return numbers from `start` (or 0, if it is the only argument) up to `stop`, `step` apart.

    Parameters
    ----------
    start, stop, step : number, or Tensor of one element
        A start and a step that are Tensors are differentiated.
    dtype : dtype, optional
        By default int64 where all three are integers, else the default floating dtype.
    device : Device or str, optional

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.arange(1, 7, 2).tolist()
    [1, 3, 5]
    """
    where = _where(device)
    if stop is None:
        start, stop = 0, start
    first, by = start, step
    start, stop, step = (
        _dispatch.plain(v.item() if type(v) in TENSORS else v) for v in (start, stop, step)
    )
    floating = any(isinstance(v, float) for v in (start, stop, step))
    default = dtypes.default_of_kind("f" if floating else "i")
    out = _make("arange", where, start, stop, step, dtype=_native(dtype, where, default))
    return progression(out, first, by) if type(first) in TENSORS or type(by) in TENSORS else out


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
    endpoint: bool = True,
) -> Tensor:
    """Return `num` numbers evenly spaced from `start` to `stop`.

    Parameters
    ----------
    start, stop : number, or Tensor of shape ()
        Tensors are differentiated.
    num : int
    dtype : dtype, optional
        By default the default floating dtype, complex if a bound is; that of the bounds if they are Tensors.
    device : Device or str, optional
    endpoint : bool
        Whether `stop` is the last number.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.linspace(0, 1, 3).tolist()
    [0.0, 0.5, 1.0]
    """
    if hasattr(start, "dtype") or hasattr(stop, "dtype"):
        return linspace_between(start, stop, num, dtype=dtype, device=device, endpoint=endpoint)
    where = _where(device)
    start, stop = _dispatch.plain(start), _dispatch.plain(stop)
    is_complex = isinstance(start, complex) or isinstance(stop, complex)
    default = dtypes.default_of_kind("c" if is_complex else "f")
    return _make(
        "linspace", where, start, stop, num, dtype=_native(dtype, where, default), endpoint=endpoint
    )


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
) -> Tensor:
    """Return a matrix with ones on the `k`-th diagonal and zeros elsewhere.

    Parameters
    ----------
    n_rows, n_cols : int
        Shape; square if `n_cols` is left out.
    k : int
        0 is the main diagonal, positive ones lie above.
    dtype : dtype, optional
    device : Device or str, optional

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    where = _where(device)
    native = _native(dtype, where, dtypes.get_default_dtype())
    return _make("eye", where, n_rows, n_cols, k=k, dtype=native)


def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Return the matrices of `x` with zeros above the `k`-th diagonal.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
    k : int

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.tril(xp.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    out: Tensor = _dispatch.apply("tril", (_dispatch.as_tensor(x),), {"k": k})
    return out


def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Return the matrices of `x` with zeros below the `k`-th diagonal.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)
    k : int

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.triu(xp.ones((2, 2))).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    out: Tensor = _dispatch.apply("triu", (_dispatch.as_tensor(x),), {"k": k})
    return out


def meshgrid(*arrays: Tensor, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Return coordinate grids of one-dimensional Tensors.

    Parameters
    ----------
    *arrays : Tensor, each of shape (n_i,)
    indexing : {"xy", "ij"}
        Cartesian (the first two axes swapped) or matrix order.

    Returns
    -------
    tuple of Tensor
        As many as there are `arrays`, of one shape.

    Examples
    --------
    >>> import tinyxp as xp
    >>> [g.tolist() for g in xp.meshgrid(xp.arange(2), xp.arange(3), indexing="ij")]
    [[[0, 0, 0], [1, 1, 1]], [[0, 1, 2], [0, 1, 2]]]
    """
    from tinyxp.ops import _manipulation as m

    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid expects indexing 'xy' or 'ij'; got {indexing!r}")
    n = len(arrays)
    tensors = [_dispatch.as_tensor(a) for a in arrays]
    lines = [m.reshape(a, (*[1] * i, -1, *[1] * (n - 1 - i))) for i, a in enumerate(tensors)]
    grids: Sequence[Tensor] = m.broadcast_arrays(*lines) if n else ()
    grids = [m.expand_copy(g) for g in grids]
    if indexing == "xy" and n > 1:
        grids = [m.moveaxis(g, 0, 1) for g in grids]
    return tuple(grids)
