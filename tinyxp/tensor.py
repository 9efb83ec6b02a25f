"""The methods, operators and interchange of `Tensor`.

The class itself, its slots and how views and writes work, is in `tinyxp._core`; here it is given its face.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from tinyxp import _standard, dtypes, ops
from tinyxp import backend as _backend
from tinyxp._core import (
    TENSORS,
    Leaf,
    Tensor,
    detached,
    fresh,
    grad_mode,
    own,
    root_of,
    save_mark,
    set_leaf,
    wrap,
)
from tinyxp.autograd import _graph
from tinyxp.errors import (
    CONVERSION_LOSES_GRAD,
    DTypeError,
    GradientRequiredError,
    GraphError,
    ShapeError,
)
from tinyxp.ops import _at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

__all__ = ["Tensor"]


def _init(
    self: Tensor,
    data: Any,
    requires_grad: bool = False,  # noqa: FBT001, FBT002 - the signature users know
    *,
    dtype: Any = None,
    device: Any = None,
) -> None:
    t = ops.asarray(data, dtype=dtype, device=device)
    if type(data) in TENSORS:
        t = t.detach()
    adopt(self, wrap(t._device.xp.copy(fresh(t)._raw), t._device) if _shares(data) else t)
    if requires_grad:
        set_leaf(self)


def _shares(data: Any) -> bool:
    """Whether `asarray` may share the memory of `data`, which a Tensor must not."""
    return not isinstance(data, (list, tuple, int, float, complex))


def adopt(self: Tensor, t: Tensor) -> None:
    """Let `self` hold the array of `t`, outside any graph."""
    self._raw, self._device = t._raw, t._device
    self._node, self._index, self._alias, self._version = None, 0, None, 0
    self._shared = t._shared


# ---------------------------------------------------------------- attributes
def _get_data(self: Tensor) -> Any:
    return fresh(self)._raw


def _set_data(self: Tensor, value: Any) -> None:
    t = value if type(value) in TENSORS else ops.asarray(value, device=self._device)
    t = fresh(t)
    if tuple(t._raw.shape) != tuple(self._raw.shape):
        raise ShapeError(f"x.data = … expects the shape {self.shape}; got {tuple(t._raw.shape)}")
    if t._device is not self._device or t._raw.dtype != self._raw.dtype:
        raise DTypeError(
            f"x.data = … expects {self.dtype} on {self._device}; got {t.dtype} on {t._device}; use to() first"
        )
    with grad_mode(False):  # noqa: FBT003
        ops.setitem(self, ..., t)


def _get_grad(self: Tensor) -> Tensor | None:
    node = fresh(self)._node
    if type(node) is Leaf:
        return node.grad
    extra = None if node is None else node.extra
    return None if extra is None else extra.get(("retain", self._index))


def _set_grad(self: Tensor, value: Tensor | None) -> None:
    node = fresh(self)._node
    if type(node) is not Leaf:
        if value is None and node is None:
            return
        raise GraphError("only leaves that require grad have a .grad that can be set; call requires_grad_() first")
    if value is not None:
        if tuple(value._raw.shape) != tuple(self._raw.shape):
            raise ShapeError(f".grad must have the shape {self.shape}; got {value.shape}")
        if value._device is not self._device:
            raise GraphError(f".grad must be on {self._device}; got a Tensor on {value._device}")
    node.grad = value


def _get_requires_grad(self: Tensor) -> bool:
    return fresh(self)._node is not None


def _set_requires_grad(self: Tensor, value: bool) -> None:  # noqa: FBT001 - a property setter
    requires_grad_(self, value)


def _transposed(self: Tensor) -> Tensor:
    n = len(self._raw.shape)
    if n != 2:  # noqa: PLR2004 - the standard's rule
        raise ShapeError(f"x.T expects a matrix; got shape {self.shape}; use x.mT or tinyxp.permute_dims")
    return ops.permute_dims(self, (1, 0))


# ---------------------------------------------------------------- conversions
def _check_exportable(self: Tensor, wrong: str, right: str) -> None:
    if fresh(self)._node is not None:
        raise GradientRequiredError(
            CONVERSION_LOSES_GRAD.format(operation=wrong.partition("(")[0], wrong=wrong, right=right)
        )


def numpy(self: Tensor) -> Any:
    """Return the Tensor as a NumPy array, sharing memory on the CPU.

    Raises
    ------
    GradientRequiredError
        If the Tensor requires grad: the result would not be part of the graph.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(2).numpy()
    array([1., 1.], dtype=float32)
    """
    _check_exportable(self, "x.numpy()", "x.detach().numpy()")
    return self._device.backend.to_numpy(self._raw)


def item(self: Tensor) -> Any:
    """Return the only element as a Python number.

    Raises
    ------
    ShapeError
        If there is more than one element.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.sum(xp.ones(3)).item()
    3.0
    """
    raw = fresh(self)._raw
    if ops._dispatch.size_of(raw.shape) != 1:
        raise ShapeError(f"item() expects a single element; got shape {tuple(raw.shape)}; use tolist()")
    return self._device.backend.to_numpy(raw).item()


def tolist(self: Tensor) -> Any:
    """Return the elements as nested lists of Python numbers.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones((1, 2)).tolist()
    [[1.0, 1.0]]
    """
    return self._device.backend.to_numpy(fresh(self)._raw).tolist()


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001 - NumPy's protocol
    _check_exportable(self, "numpy.asarray(x)", "numpy.asarray(x.detach())")
    if not self._device.backend.host_visible:
        raise DTypeError(
            f"numpy.asarray(x) would copy from {self._device} to the host without a word; write x.cpu().numpy()"
        )
    found = self._device.backend.to_numpy(self._raw)
    if dtype is not None and found.dtype != dtype:
        if copy is False:
            raise ValueError("numpy.asarray(x, copy=False) cannot change the dtype without a copy")
        return found.astype(dtype)
    return found.copy() if copy else found


def _dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[Any, int] | None = None,
    copy: bool | None = None,
) -> Any:
    _check_exportable(self, "from_dlpack(x)", "from_dlpack(x.detach())")
    return self._device.backend.to_dlpack(
        self._raw, stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
    )


def _single(self: Tensor, what: str) -> Any:
    raw = fresh(self)._raw
    if len(raw.shape):
        if ops._dispatch.size_of(raw.shape) != 1:
            raise TypeError(f"{what} of a Tensor expects a single element; got shape {tuple(raw.shape)}")
        raw = self._device.xp.reshape(raw, ())
    return raw


def _bool(self: Tensor) -> bool:
    return bool(_single(self, "the truth value"))


def _int(self: Tensor) -> int:
    return int(_single(self, "int()"))


def _float(self: Tensor) -> float:
    return float(_single(self, "float()"))


def _complex(self: Tensor) -> complex:
    return complex(_single(self, "complex()"))


def _index(self: Tensor) -> int:
    if self.dtype.kind not in "iu" or self._raw.shape:
        raise TypeError(f"only a 0-d integer Tensor is an index; got {ops._dispatch.describe(self)}")
    return int(fresh(self)._raw)


def _len(self: Tensor) -> int:
    if not self._raw.shape:
        raise TypeError("len() of a 0-d Tensor")
    return int(self._raw.shape[0])


def _iter(self: Tensor) -> Iterator[Tensor]:
    if not self._raw.shape:
        raise TypeError("iteration over a 0-d Tensor")
    return iter([ops.getitem(self, i) for i in range(self._raw.shape[0])])


def _repr(self: Tensor) -> str:
    raw = fresh(self)._raw
    try:
        text = self._device.backend.format(raw)
    except Exception as e:  # noqa: BLE001 - a repr must not fail, least of all in a debugger
        text = f"<{type(e).__name__}: {e}>"
    parts = [text, f"dtype={self.dtype}"]
    if 0 in raw.shape:
        parts.insert(1, f"shape={self.shape}")
    if str(self._device) != "cpu":
        parts.append(f"device='{self._device}'")
    if self._node is not None:
        leaf = type(self._node) is Leaf
        parts.append("requires_grad=True" if leaf else f"grad_fn={self._node!r}")
    return f"tensor({', '.join(parts)})"


def _format(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if spec and not self._raw.shape else format(_repr(self), spec)


# ---------------------------------------------------------------- autograd
def backward(
    self: Tensor,
    grad: Tensor | None = None,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Differentiate this Tensor and add the gradients to the ``.grad`` of the leaves.

    Parameters
    ----------
    grad : Tensor, optional
        The cotangent, of this Tensor's shape; may be left out for a single element.
    retain_graph : bool
        Keep what the graph saved, for another pass.
    create_graph : bool
        Record the pass itself, for higher derivatives.
    inputs : sequence of Tensor, optional
        Only these receive gradients.

    Raises
    ------
    GraphError
        If nothing requires grad, if the graph was used before, or if a saved parameter was overwritten.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.tolist()
    [2.0, 4.0]
    """
    if fresh(self)._node is None:
        raise GraphError(
            "backward() on a Tensor that does not require grad: nothing it was computed from does, or it was "
            "computed under no_grad; make the leaves with requires_grad=True"
        )
    for t in inputs or ():
        if type(fresh(t)._node) is not Leaf:
            raise GraphError("backward(inputs=…) expects leaves that require grad; use autograd.grad for others")
    _graph.backward(
        [self], [grad], inputs=inputs, retain_graph=retain_graph, create_graph=create_graph
    )


def detach(self: Tensor) -> Tensor:
    """Return a Tensor with the same array, outside the graph; writes to one are seen by the other.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.Tensor([1.0], requires_grad=True).detach().requires_grad
    False
    """
    return detached(self)


def requires_grad_(self: Tensor, value: bool = True) -> Tensor:  # noqa: FBT001, FBT002 - the name users know
    """Make this Tensor a leaf that requires grad, or no longer one; return it.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(2).requires_grad_().requires_grad
    True
    """
    node = fresh(self)._node
    if value and node is None:
        own(root_of(self))  # optimizers write leaves in place
        set_leaf(fresh(self))
    elif not value and type(node) is Leaf:
        self._node = None
    elif not value and node is not None:
        raise GraphError("requires_grad can only be switched off on leaves; use detach()")
    return self


def zero_grad(self: Tensor) -> None:
    """Forget the gradient.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([1.0], requires_grad=True)
    >>> x.zero_grad()
    """
    if type(fresh(self)._node) is Leaf:
        self._node.grad = None  # type: ignore[union-attr]


def _extra(self: Tensor) -> dict[Any, Any]:
    node = fresh(self)._node
    if node is None:
        raise GraphError("hooks and retain_grad() need a Tensor that requires grad")
    if node.extra is None:
        node.extra = {}
    return node.extra


def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this Tensor, which is not a leaf, in its ``.grad``.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([3.0], requires_grad=True)
    >>> y = x * 2
    >>> y.retain_grad()
    >>> (y * y).sum().backward()
    >>> y.grad.tolist()
    [12.0]
    """
    extra = _extra(self)
    if type(self._node) is not Leaf:
        extra.setdefault(("retain", self._index), None)


class HookHandle:
    """What `register_hook` returns; ``remove()`` takes the hook off again."""

    __slots__ = ("_hooks", "_key")

    def __init__(self, hooks: dict[object, Any], hook: Callable[[Tensor], Tensor | None]) -> None:
        self._hooks, self._key = hooks, object()
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook off."""
        self._hooks.pop(self._key, None)


def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
    """Call ``hook(grad)`` when the gradient of this Tensor is known; what it returns replaces the gradient.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([1.0], requires_grad=True)
    >>> handle = x.register_hook(lambda g: 10 * g)
    >>> x.sum().backward()
    >>> x.grad.tolist()
    [10.0]
    """
    return HookHandle(_extra(self).setdefault(("hooks", self._index), {}), hook)


# ---------------------------------------------------------------- devices and dtypes
def to(self: Tensor, *targets: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Return this Tensor with another dtype, on another device, or both; itself if nothing changes.

    Parameters
    ----------
    *targets : Device, dtype, their strings, or a Tensor to be like
    dtype, device
        The same by name.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(1).to("float64").dtype
    tinyxp.float64
    """
    for target in targets:
        if type(target) in TENSORS:
            dtype, device = target.dtype, target._device
        elif isinstance(target, _backend.Device):
            device = target
        elif dtypes._find(target) is not None:
            dtype = target
        else:
            device = target
    out = self if device is None else ops.to_device(self, device)
    return out if dtype is None else ops.astype(out, dtype, copy=False)


def cpu(self: Tensor) -> Tensor:
    """Return this Tensor on the CPU.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(1).cpu().device
    device('cpu')
    """
    return ops.to_device(self, "cpu")


def cuda(self: Tensor, index: int = 0) -> Tensor:
    """Return this Tensor on a CUDA GPU; raises `DeviceUnavailableError` where there is none.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(1).cuda()  # doctest: +SKIP
    """
    return ops.to_device(self, f"cuda:{index}")


def to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:  # noqa: ARG001 - the standard's signature
    """Return this Tensor on another device (the standard's name for `to`).

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(1).to_device("cpu").device
    device('cpu')
    """
    return ops.to_device(self, device)


def __array_namespace__(self: Tensor, /, *, api_version: str | None = None) -> Any:  # noqa: N807
    """Return tinyxp.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(1).__array_namespace__() is xp
    True
    """
    if api_version is not None and api_version not in _standard.VERSIONS:
        raise ValueError(f"tinyxp follows the versions {', '.join(_standard.VERSIONS)}; got {api_version!r}")
    import tinyxp

    return tinyxp


# ---------------------------------------------------------------- copies
def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    import copy

    node = fresh(self)._node
    if node is not None and type(node) is not Leaf:
        raise GraphError("only leaves can be copied with deepcopy; this Tensor is the result of an operation: x.detach() first")
    out = type(self).__new__(type(self))
    memo[id(self)] = out
    adopt(out, wrap(self._device.xp.copy(self._raw), self._device))
    if type(node) is Leaf:
        set_leaf(out)
        out._node.grad = copy.deepcopy(node.grad, memo)  # type: ignore[union-attr]
    return out


def _copy(self: Tensor) -> Tensor:
    held: list[Any] = []
    save_mark(fresh(self), held)
    out = type(self).__new__(type(self))
    adopt(out, wrap(self._device.xp.copy(self._raw) if held else self._raw, self._device))
    out._node, out._index, out._shared = self._node, self._index, not held
    if type(self._node) is Leaf:
        set_leaf(out)
    return out


def _reduce(self: Tensor) -> tuple[Any, ...]:
    node = fresh(self)._node
    if node is not None and type(node) is not Leaf:
        raise GraphError("only leaves can be pickled; this Tensor is the result of an operation: x.detach() first")
    raw = self._device.backend.to_buffer(self._raw)
    grad = node.grad if type(node) is Leaf else None
    return _rebuild, (
        type(self), bytes(raw), self.dtype, self.shape, str(self._device), node is not None, grad,
    )  # fmt: skip


def _rebuild(
    cls: type[Tensor],
    data: bytes,
    dtype: DType,
    shape: tuple[int, ...],
    device: str,
    requires_grad: bool,  # noqa: FBT001 - positional in a pickle
    grad: Tensor | None,
) -> Tensor:
    where = _backend.device(device)
    raw = where.backend.from_buffer(memoryview(data), dtype, shape, where)
    out = cls.__new__(cls)
    adopt(out, wrap(where.xp.copy(raw), where))
    if requires_grad:
        set_leaf(out)
        out._node.grad = grad  # type: ignore[union-attr]
    return out


# ---------------------------------------------------------------- methods of the namespace
def _axis(axis: Any, dim: Any) -> Any:
    if axis is not None and dim is not None:
        raise TypeError(f"axis and dim are two names of one option; got axis={axis} and dim={dim}")
    return axis if dim is None else dim


def _reduction(name: str) -> Callable[..., Tensor]:
    function = getattr(ops, name)

    def method(
        self: Tensor,
        axis: Any = None,
        keepdims: bool = False,  # noqa: FBT001, FBT002 - positional as in NumPy
        *,
        dim: Any = None,
        keepdim: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        out: Tensor = function(self, axis=_axis(axis, dim), keepdims=keepdims or keepdim, **kwargs)
        return out

    method.__name__ = name
    method.__doc__ = (
        f"Return ``tinyxp.{name}`` of this Tensor; ``dim`` and ``keepdim`` are other names of the options."
    )
    return method


def _elementwise(name: str) -> Callable[[Tensor], Tensor]:
    function = getattr(ops, name)

    def method(self: Tensor) -> Tensor:
        out: Tensor = function(self)
        return out

    method.__name__ = name
    method.__doc__ = f"Return ``tinyxp.{name}`` of this Tensor."
    return method


def reshape(self: Tensor, *shape: Any, copy: bool | None = None) -> Tensor:
    """Return ``tinyxp.reshape`` of this Tensor; the shape may be spread over the arguments."""
    return ops.reshape(self, _spread(shape), copy=copy)


def _spread(values: tuple[Any, ...]) -> tuple[int, ...]:
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        return tuple(values[0])
    return values


def permute(self: Tensor, *axes: Any) -> Tensor:
    """Return ``tinyxp.permute_dims`` of this Tensor; the axes may be spread over the arguments."""
    return ops.permute_dims(self, _spread(axes))


def transpose(self: Tensor, *axes: Any) -> Tensor:
    """Return a view with two axes swapped, with all in a given order, or, without arguments, reversed."""
    n = len(self._raw.shape)
    given = _spread(axes)
    if not given:
        given = tuple(reversed(range(n)))
    elif len(given) == 2 and n != 2:  # noqa: PLR2004 - a pair to swap
        order = list(range(n))
        i, j = given
        order[i], order[j] = order[j], order[i]
        given = tuple(order)
    elif len(given) == 2:  # noqa: PLR2004
        given = (1, 0) if given[0] % 2 != given[1] % 2 else (0, 1)
    return ops.permute_dims(self, given)


def swapaxes(self: Tensor, axis1: int, axis2: int) -> Tensor:
    """Return a view with two axes swapped."""
    order = list(range(len(self._raw.shape)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return ops.permute_dims(self, order)


def squeeze(self: Tensor, axis: Any = None, *, dim: Any = None) -> Tensor:
    """Return a view without axes of length 1, by default without any."""
    axis = _axis(axis, dim)
    if axis is None:
        axis = tuple(i for i, n in enumerate(self._raw.shape) if n == 1)
    return ops.squeeze(self, axis)


def unsqueeze(self: Tensor, axis: int) -> Tensor:
    """Return a view with an axis of length 1 inserted."""
    return ops.expand_dims(self, axis=axis)


def flatten(self: Tensor, start: int = 0, end: int = -1) -> Tensor:
    """Return this Tensor with the axes from `start` to `end` joined."""
    shape = self.shape
    n = max(len(shape), 1)
    start, end = start % n, end % n
    return ops.reshape(self, (*shape[:start], -1, *shape[end + 1 :]))


def clip(self: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002 - the standard's names
    """Return ``tinyxp.clip`` of this Tensor."""
    return ops.clip(self, min, max)


def astype(self: Tensor, dtype: Any, *, copy: bool = True) -> Tensor:
    """Return ``tinyxp.astype`` of this Tensor."""
    return ops.astype(self, dtype, copy=copy)


def argmax(self: Tensor, axis: Any = None, *, keepdims: bool = False, dim: Any = None) -> Tensor:
    """Return ``tinyxp.argmax`` of this Tensor."""
    return ops.argmax(self, axis=_axis(axis, dim), keepdims=keepdims)


def argmin(self: Tensor, axis: Any = None, *, keepdims: bool = False, dim: Any = None) -> Tensor:
    """Return ``tinyxp.argmin`` of this Tensor."""
    return ops.argmin(self, axis=_axis(axis, dim), keepdims=keepdims)


def matmul(self: Tensor, other: Tensor) -> Tensor:
    """Return ``tinyxp.matmul`` of this Tensor and another."""
    return ops.matmul(self, other)


# ---------------------------------------------------------------- operators
_NUMBERS = (bool, int, float, complex)
_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARE = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
_UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}


def _takes(other: Any) -> bool:
    """Whether an operator works with `other`: a Tensor, a number, or an array of a library."""
    return type(other) in TENSORS or isinstance(other, _NUMBERS) or hasattr(other, "dtype")


def _operator(name: str, *, reflected: bool = False) -> Callable[[Tensor, Any], Any]:
    function = getattr(ops, name)

    def forward(self: Tensor, other: Any, /) -> Any:
        if type(other) is Tensor or _takes(other):
            return function(self, other)
        return NotImplemented

    def backward(self: Tensor, other: Any, /) -> Any:
        return function(other, self) if _takes(other) else NotImplemented

    return backward if reflected else forward


def _in_place(name: str) -> Callable[[Tensor, Any], Any]:
    def method(self: Tensor, other: Any, /) -> Any:
        return ops.inplace(name, self, other) if _takes(other) else NotImplemented

    return method


# ---------------------------------------------------------------- the face of the class
def _attach() -> None:
    members: dict[str, Any] = {
        "__init__": _init,
        "data": property(_get_data, _set_data, doc="The library's array; assignment writes into it."),
        "grad": property(_get_grad, _set_grad, doc="The gradient, a Tensor, or None."),
        "_grad_fn": property(lambda self: _grad_fn(self), doc="The node that made this Tensor, or None."),
        "requires_grad": property(
            _get_requires_grad, _set_requires_grad, doc="Whether operations on this Tensor are recorded."
        ),
        "is_leaf": property(
            lambda self: fresh(self)._node is None or type(self._node) is Leaf,
            doc="Whether this Tensor was not made by a recorded operation.",
        ),
        "shape": property(lambda self: tuple(self._raw.shape), doc="Lengths of the axes."),
        "dtype": property(lambda self: dtypes.of(self._raw.dtype), doc="The DType."),
        "device": property(operator.attrgetter("_device"), doc="The Device."),
        "ndim": property(lambda self: len(self._raw.shape), doc="Number of axes."),
        "size": property(
            lambda self: ops._dispatch.size_of(self._raw.shape), doc="Number of elements."
        ),
        "nbytes": property(
            lambda self: self.size * self.dtype.itemsize, doc="Bytes of the elements."
        ),
        "T": property(_transposed, doc="The transpose of a matrix, a view."),
        "mT": property(ops.matrix_transpose, doc="The transposes of the last two axes, a view."),
        "at": property(_at.At, doc="Index it to name places: ``x.at[key].add(values)`` is a new Tensor."),
        "view": reshape,
        "__getitem__": ops.getitem,
        "__setitem__": ops.setitem,
        "__array__": _array,
        "__array_ufunc__": None,
        "__dlpack__": _dlpack,
        "__dlpack_device__": lambda self: self._device.backend.dlpack_device(self._raw),
        "__bool__": _bool,
        "__int__": _int,
        "__float__": _float,
        "__complex__": _complex,
        "__index__": _index,
        "__len__": _len,
        "__iter__": _iter,
        "__repr__": _repr,
        "__format__": _format,
        "__hash__": object.__hash__,
        "__deepcopy__": _deepcopy,
        "__copy__": _copy,
        "__reduce__": _reduce,
        "_check_exportable": _check_exportable,
    }
    for function in (
        numpy, item, tolist, backward, detach, requires_grad_, zero_grad, retain_grad, register_hook, to, cpu,
        cuda, to_device, __array_namespace__, reshape, permute, transpose, swapaxes, squeeze, unsqueeze,
        flatten, clip, astype, argmax, argmin, matmul,
    ):  # fmt: skip
        members[function.__name__] = function
    for name in ("sum", "mean", "prod", "max", "min", "var", "std", "all", "any"):
        members[name] = _reduction(name)
    for name in (
        "exp", "log", "sqrt", "tanh", "sin", "cos", "abs", "square", "sign", "floor", "ceil", "round", "conj",
        "erf", "isnan", "isfinite",
    ):  # fmt: skip
        members[name] = _elementwise(name)
    for short, name in _BINARY.items():
        members[f"__{short}__"] = _operator(name)
        members[f"__r{short}__"] = _operator(name, reflected=True)
        members[f"__i{short}__"] = _in_place(name)
    for short, name in _COMPARE.items():
        members[f"__{short}__"] = _operator(name)
    for short, name in _UNARY.items():
        members[f"__{short}__"] = _elementwise(name)
    for name, member in members.items():
        setattr(Tensor, name, member)


def _grad_fn(self: Tensor) -> Any:
    node = fresh(self)._node
    return None if type(node) is Leaf else node


Tensor.__doc__ = """An array of any backend that records what is done to it, and differentiates it.

Parameters
----------
data : number, nested sequence, Tensor, or array of a loaded library
    What it holds; arrays are copied. Python floats take the default floating dtype, integers stay
    integers, arrays keep their dtype.
requires_grad : bool
    Record operations on this Tensor, and collect its gradient in ``.grad``.
dtype : dtype, optional
    A dtype object or its name.
device : Device or str, optional
    Where to put it; by default where `data` is, or the default device.

Examples
--------
>>> import tinyxp as xp
>>> x = xp.Tensor([1.0, 2.0], requires_grad=True)
>>> y = (x**2).sum()
>>> y.backward()
>>> x.grad
tensor([2., 4.], dtype=float32)
"""
_attach()
