"""The face of `Tensor`: its attributes, and what autograd and devices ask of it.

The class itself, its slots and how views and writes work, is in `tinyxp._core`, below the operations that
these methods call. Here it is given everything that users see: the members of `Face`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import _standard, dtypes, ops
from tinyxp import backend as _backend
from tinyxp._core import (
    TENSORS,
    Alias,
    Leaf,
    Tensor,
    detached,
    fresh,
    grad_mode,
    own,
    root_of,
    set_leaf,
    wrap,
)
from tinyxp._interchange import Interchange, adopt
from tinyxp._methods import Methods
from tinyxp._operators import Operators
from tinyxp.autograd import _graph
from tinyxp.errors import DTypeError, GraphError, ShapeError
from tinyxp.ops import _at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    with grad_mode(False):  # noqa: FBT003 - the mode is the argument
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
        raise GraphError(
            "only leaves that require grad have a .grad that can be set; call requires_grad_() first"
        )
    if value is not None:
        if tuple(value._raw.shape) != tuple(self._raw.shape):
            raise ShapeError(f".grad must have the shape {self.shape}; got {value.shape}")
        if value._device is not self._device:
            raise GraphError(f".grad must be on {self._device}; got a Tensor on {value._device}")
    node.grad = value


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
            raise GraphError(
                "backward(inputs=…) expects leaves that require grad; use autograd.grad for others"
            )
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
        if type(self._alias) is Alias:
            self._alias = self._alias.with_recorded(True)  # noqa: FBT003 - the mode is the argument
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
        self._node.grad = None  # type: ignore[union-attr]  # not None: looked at above


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


def __array_namespace__(self: Tensor, /, *, api_version: str | None = None) -> Any:  # noqa: ARG001, N807 - one signature for all
    """Return tinyxp.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(1).__array_namespace__() is xp
    True
    """
    if api_version is not None and api_version not in _standard.VERSIONS:
        raise ValueError(
            f"tinyxp follows the versions {', '.join(_standard.VERSIONS)}; got {api_version!r}"
        )
    import tinyxp

    return tinyxp


# ---------------------------------------------------------------- the class
_SWAP = ((1, 0),)
_view, _permute_dims = ops._dispatch.view, ops.permute_dims


class Face(Operators, Interchange, Methods):
    """Everything that `Tensor` shows."""

    __slots__ = ()
    __init__ = _init  # a function on Tensors
    __getitem__ = ops.getitem
    __setitem__ = ops.setitem
    __array_namespace__ = __array_namespace__
    backward = backward
    detach = detach
    requires_grad_ = requires_grad_
    zero_grad = zero_grad
    retain_grad = retain_grad
    register_hook = register_hook
    to = to
    cpu = cpu
    cuda = cuda
    to_device = to_device

    @property
    def data(self: Any) -> Any:
        """The library's array; assignment writes into it."""
        return _get_data(self)

    @data.setter
    def data(self: Any, value: Any) -> None:
        _set_data(self, value)

    @property
    def grad(self: Any) -> Tensor | None:
        """The gradient, or None."""
        return _get_grad(self)

    @grad.setter
    def grad(self: Any, value: Tensor | None) -> None:
        _set_grad(self, value)

    @property
    def requires_grad(self: Any) -> bool:
        """Whether operations on this Tensor are recorded."""
        return fresh(self)._node is not None

    @requires_grad.setter
    def requires_grad(self: Any, value: bool) -> None:
        requires_grad_(self, value)

    @property
    def is_leaf(self: Any) -> bool:
        """Whether this Tensor was not made by a recorded operation."""
        return type(fresh(self)._node) in (Leaf, type(None))

    @property
    def _grad_fn(self: Any) -> Any:
        node = fresh(self)._node
        return None if type(node) is Leaf else node

    @property
    def shape(self: Any) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(self._raw.shape)

    @property
    def dtype(self: Any) -> DType:
        """The DType."""
        return dtypes.of(self._raw.dtype)

    @property
    def device(self: Any) -> Device:
        """The Device."""
        found: Device = self._device
        return found

    @property
    def ndim(self: Any) -> int:
        """Number of axes."""
        return len(self._raw.shape)

    @property
    def size(self: Any) -> int:
        """Number of elements."""
        return ops._dispatch.size_of(self._raw.shape)

    @property
    def nbytes(self: Any) -> int:
        """Bytes of the elements."""
        return ops._dispatch.size_of(self._raw.shape) * dtypes.of(self._raw.dtype).itemsize

    @property
    def T(self: Any) -> Tensor:  # noqa: N802 - the standard's name
        """The transpose of a matrix, a view."""
        if len(self._raw.shape) != 2:  # noqa: PLR2004 - the standard's rule
            raise ShapeError(
                f"x.T expects a matrix; got shape {self.shape}; use x.mT or tinyxp.permute_dims"
            )
        return _view("permute_dims", self, self._device.xp.permute_dims, _permute_dims, _SWAP)

    @property
    def mT(self: Any) -> Tensor:  # noqa: N802 - the standard's name
        """The transposes of the last two axes, a view."""
        return ops.matrix_transpose(self)

    @property
    def at(self: Any) -> _at.At:
        """Index it to name places: ``x.at[key].add(values)`` is a new Tensor."""
        return _at.At(self)


def _attach(face: type) -> None:
    """Give `Tensor` the members of a class and of its bases."""
    kept = {"__slots__", "__module__", "__doc__", "__dict__", "__weakref__", "__qualname__"}
    for base in reversed(face.__mro__[:-1]):
        for name, member in vars(base).items():
            if name not in kept:
                setattr(Tensor, name, member)


_attach(Face)
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
