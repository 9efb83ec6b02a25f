"""The slotted Tensor and the nodes of the graph, shared by the operations and by autograd.

How views and writes work
-------------------------
A Tensor is a *root* or a *view*. A view remembers its root and how it was made (`Alias`). Every Tensor that
is written gets a higher version; a view whose version is behind its root's is made again when it is next
used, never when the write happens. So a view sees writes to its base on every library, also where the
library itself had to copy, and a view that nobody reads again costs nothing.

A write copies first only if somebody else holds the array (``_shared``): a node that saved it for its
backward, or a detached Tensor. Parameters, the leaves that require grad, are the exception. Optimizers write
them in place, without a copy; a node that saved one remembers its version and refuses to go on when that
has changed.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyxp._capture import Recording
    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

Array = Any  # an array of a backend's library

TENSORS: set[type] = (
    set()
)  # Tensor and its subclasses: one look-up decides whether a value is a Tensor


WATCHED: list[bool] = []  # not empty once any thread has watched: only then `MODE.watch` is read


# Not empty while any thread records nothing: only then operations read `MODE.grad`.
PAUSED: list[bool] = []


CASTING: list[
    bool
] = []  # not empty while any thread is in an autocast: only then `MODE.compute` is read


class _Mode(threading.local):
    """What the current thread does with operations on Tensors that require grad."""

    _grad = True
    compute: str | None = None  # name of the dtype of products inside `autocast`
    fused = os.environ.get("TINYXP_FUSED", "1") != "0"  # whether a backend's own kernels are used
    _watch: Callable[[Node], None] | None = None

    def __init__(self) -> None:
        # Parameters that `autocast` converted: by id, the Tensor, its version, the dtype, the array, and the
        # recording of launches that it belongs to.
        self.casts: dict[int, tuple[Tensor, int, DType, Array, Recording | None]] = {}

    @property
    def grad(self) -> bool:
        """Whether operations are recorded."""
        return self._grad

    @grad.setter
    def grad(self, enabled: bool) -> None:
        # Ctrl-C may come between two steps: what `PAUSED` then holds too much costs time and changes nothing.
        if enabled and not self._grad:
            self._grad = True
            PAUSED.pop()
        elif self._grad and not enabled:
            PAUSED.append(True)
            self._grad = False

    @property
    def watch(self) -> Callable[[Node], None] | None:
        """Is told of every node that is recorded."""
        return self._watch

    @watch.setter
    def watch(self, seen: Callable[[Node], None] | None) -> None:
        self._watch = seen
        WATCHED[:] = [True]


MODE = _Mode()


@contextmanager
def grad_mode(enabled: bool) -> Iterator[None]:  # noqa: FBT001 - the mode is the argument
    """Record operations inside the ``with`` block, or do not."""
    before, MODE.grad = MODE.grad, enabled
    try:
        yield
    finally:
        MODE.grad = before


@contextmanager
def computing(name: str | None) -> Iterator[None]:
    """Compute products in the dtype called `name` inside the ``with`` block, in their own one if it is None."""
    before = MODE.compute
    if name is before:
        yield
        return
    MODE.compute = name
    CASTING.append(True)
    try:
        yield
    finally:
        CASTING.pop()
        MODE.compute = before
        if before is None:
            MODE.casts.clear()


@contextmanager
def watch(seen: Callable[[Node], None]) -> Iterator[None]:
    """Call `seen` with every node that is recorded inside the ``with`` block."""
    before = MODE.watch

    def both(node: Node) -> None:
        seen(node)
        if before is not None:
            before(node)

    MODE.watch = both
    try:
        yield
    finally:
        MODE.watch = before


class Aval:
    """An array without its data: what a derivative rule gets for an argument it did not ask to read."""

    __slots__ = ("device", "dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: Any) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for s in self.shape:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"Aval(shape={self.shape}, dtype={self.dtype}, device={self.device})"


class Leaf:
    """The end of the graph: where the gradient of a Tensor that requires grad is collected."""

    __slots__ = ("aval", "device", "extra", "grad")
    nout = 1
    seq = 0
    parents: tuple[Any, ...] = ()

    def __init__(self, aval: Aval, device: Device) -> None:
        self.aval, self.device = aval, device
        self.grad: Tensor | None = None
        self.extra: dict[Any, Any] | None = None  # hooks


class Node:
    """One recorded operation.

    Attributes
    ----------
    op : Op
        The line of the table: what the operation is called and how to differentiate it.
    args : tuple or None
        For each argument the saved array, an `Aval`, or the plain Python value; None once freed.
    kwargs : dict
        Keyword arguments of the operation.
    out : array, tuple of arrays or None
        The result, if the rule reads it.
    aux : tuple
        What a fused forward kept for its backward.
    parents, indices : tuple
        For each argument the Node or Leaf it came from (None: no gradient wanted), and which of its outputs.
    aval : Aval or tuple of Aval
        Shape and dtype of the output, of all outputs where there are several.
    checks : tuple
        Pairs (parameter, version) of the parameters whose arrays are saved.
    seq : int
        Grows with every node that is recorded: a node's is higher than those of its parents.
    """

    __slots__ = (
        "__weakref__",
        "args",
        "aux",
        "aval",
        "checks",
        "device",
        "extra",
        "indices",
        "kwargs",
        "nout",
        "op",
        "out",
        "parents",
        "seq",
    )  # fmt: skip

    op: Any  # the Op, which stands above this module
    args: Any  # a tuple; None once freed; a Recompute in a checkpoint
    kwargs: dict[str, Any]
    out: Any
    aux: tuple[Any, ...]
    parents: tuple[Node | Leaf | None, ...]
    indices: tuple[int, ...]
    aval: Any  # an Aval, or a tuple of them
    nout: int
    checks: tuple[tuple[Tensor, int], ...]
    device: Device
    extra: dict[Any, Any] | None
    seq: int

    @property
    def name(self) -> str:
        """The name of the operation."""
        return str(self.op.name)

    def __repr__(self) -> str:
        return f"<{self.op.name} backward>"


class Alias:
    """How a view is made from its root.

    Attributes
    ----------
    root : Tensor
        Whose array the view looks into.
    version : int
        The root's version when the view's array was made.
    parent : Alias or None
        The view that this one was made from; None if it was the root itself.
    step, args : callable, tuple
        ``step(parent, *args)`` makes the view.
    recorded : bool or Leaf
        Whether gradients flow from the view to the root; the Leaf of a view that is one itself.
    layout : tuple or None
        Where its elements lie in the root, once `tinyxp.ops._layout` was asked.
    """

    __slots__ = ("args", "layout", "parent", "recorded", "root", "step", "version")

    root: Tensor
    version: int
    parent: Alias | None
    step: Callable[..., Tensor]
    args: tuple[Any, ...]
    recorded: bool | Leaf
    layout: Any

    def steps(self) -> list[Alias]:
        """Return this alias and those it stands on, the one next to the root first."""
        found: list[Alias] = []
        alias: Alias | None = self
        while alias is not None:
            found.append(alias)
            alias = alias.parent
        return found[::-1]

    def over_leaf(self) -> bool:
        """Whether gradients flow to a leaf: to the root, or to a view of it on which this one stands."""
        if self.recorded is not True:
            return False
        return type(self.root._node) is Leaf or any(self._is_leaf(s) for s in self.steps())

    def _is_leaf(self, step: Alias) -> bool:
        return type(step.recorded) is Leaf and step.root is self.root

    def replay(self, root: Tensor) -> Tensor:
        """Make this view of `root` instead of the Tensor it was first made from."""
        for alias in self.steps():
            root = alias.step(root, *alias.args)
        return root

    def again(self) -> Tensor:
        """Make this view again; what is recorded begins at the last leaf on the way."""
        t = self.root
        for alias in self.steps():
            t = alias.step(t, *alias.args)
            if MODE.grad and self._is_leaf(alias):
                t._node, t._index = alias.recorded, 0  # type: ignore[assignment]  # a Leaf
        return t

    def with_recorded(self, recorded: bool | Leaf) -> Alias:  # noqa: FBT001 - one of two kinds, not an option
        """Return a copy; views that were made before keep the original."""
        made = new_alias(Alias)
        made.root, made.version, made.parent = self.root, self.version, self.parent
        made.step, made.args, made.recorded = self.step, self.args, recorded
        return made


class Group:
    """Roots that share one array: a Tensor and what `detach` made of it.

    Attributes
    ----------
    members, parts : list of weakref
        The roots, and those of their views that are leaves.
    """

    __slots__ = ("members", "parts")

    def __init__(self) -> None:
        self.members: list[weakref.ref[Tensor]] = []
        self.parts: list[weakref.ref[Tensor]] = []

    def add(self, t: Tensor) -> None:
        """Let `t` see the writes of the others."""
        self.members = [m for m in self.members if m() is not None]
        self.members.append(weakref.ref(t))
        t._alias = self

    def mark(self, root: Tensor, checks: list[tuple[Tensor, int]]) -> None:
        """Note that a node saves the common array; where a leaf has part in it, writes are noticed."""
        alive = [m for m in (ref() for ref in self.members) if m is not None]
        parameter = next((m for m in alive if type(m._node) is Leaf), None)
        if parameter is None and any(
            is_leaf(p) for p in (ref() for ref in self.parts) if p is not None
        ):
            parameter = root
        if parameter is not None:
            checks.append((parameter, parameter._version))
            return
        for member in alive:
            member._shared = True

    def push(self, t: Tensor) -> None:
        """Give the others the array that `t` now holds."""
        for ref in self.members:
            other = ref()
            if other is not None and other is not t:
                other._raw, other._shared = t._raw, t._shared
                other._version += 1


if TYPE_CHECKING:
    from tinyxp.tensor import Face
else:
    Face = object  # `tinyxp.tensor` stands above the operations and attaches its members itself


class Tensor(Face):
    """An array that can record what is done to it; see `tinyxp.tensor` for its methods."""

    __slots__ = (
        "__weakref__",
        "_alias",
        "_device",
        "_index",
        "_node",
        "_raw",
        "_shared",
        "_version",
    )  # fmt: skip

    _raw: Array
    _device: Device
    _node: Node | Leaf | None
    _index: int
    _alias: Alias | Group | None
    _version: int
    _shared: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        TENSORS.add(cls)


TENSORS.add(Tensor)
_new = Tensor.__new__
new_alias = Alias.__new__


def wrap(raw: Array, device: Device) -> Tensor:
    """Return a Tensor around a library's array, outside the graph."""
    t: Tensor = _new(Tensor)
    t._raw = raw
    t._device = device
    t._node = None
    t._index = 0
    t._alias = None
    t._version = 0
    t._shared = False
    return t


def fresh(t: Tensor) -> Tensor:
    """Return `t`, its array made again if its base was written since."""
    alias = t._alias
    if type(alias) is Alias and alias.version != alias.root._version:
        _refresh(t, alias)
    return t


def _refresh(t: Tensor, alias: Alias) -> None:
    recorded = alias.recorded is True
    with grad_mode(recorded):
        value = alias.again()
    t._raw = value._raw
    if recorded:
        t._node, t._index = value._node, value._index
    alias.version = alias.root._version
    t._version += 1


def root_of(t: Tensor) -> Tensor:
    """Return the Tensor whose array `t` looks into: `t` itself unless it is a view."""
    alias = t._alias
    return alias.root if type(alias) is Alias else t


def is_leaf(t: Tensor) -> bool:
    """Whether `t` is a starting point of the graph that requires grad."""
    return type(t._node) is Leaf


def detached(t: Tensor) -> Tensor:
    """Return a Tensor outside the graph that sees the same array, also after writes."""
    out = wrap(fresh(t)._raw, t._device)
    alias = t._alias
    if type(alias) is Alias:
        made = new_alias(Alias)
        made.root, made.parent, made.recorded = detached(alias.root), alias.parent, True
        made.step, made.args, made.version = alias.step, alias.args, made.root._version
        out._alias = made
        return out
    out._shared, out._version = t._shared, t._version
    group_of(t).add(out)
    return out


def group_of(root: Tensor) -> Group:
    """Return the Group of `root`, which is no view; a new one if it was alone."""
    group = root._alias
    if type(group) is not Group:
        group = Group()
        group.add(root)
    return group


def own(root: Tensor) -> None:
    """Make sure that a write into `root` changes no array that somebody else holds."""
    if not root._shared:
        return
    root._raw = root._device.xp.copy(root._raw)
    root._shared = False
    root._version += 1
    if type(root._alias) is Group:
        root._alias.push(root)


def written(t: Tensor) -> None:
    """Say that the array of `t` was written in place: views follow, old graphs refuse."""
    root = root_of(t)
    root._version += 1
    if root is not t and type(t._alias) is Alias:
        t._version += 1
        t._alias.version = root._version
    if type(root._alias) is Group:
        root._alias.push(root)


def set_leaf(t: Tensor) -> None:
    """Make `t` a leaf that requires grad."""
    from tinyxp import dtypes

    d = dtypes.of(t._raw.dtype)
    if d.kind not in "fc":
        raise DTypeError(
            f"only floating Tensors can require grad; got dtype {d}; convert it with x.to('float32') first"
        )
    leaf = Leaf(Aval(tuple(t._raw.shape), t._raw.dtype, t._device.native), t._device)
    if type(t._alias) is Alias:
        t._alias = t._alias.with_recorded(leaf)
        group_of(t._alias.root).parts.append(weakref.ref(t))
    t._node, t._index = leaf, 0


def save_mark(x: Tensor, checks: list[tuple[Tensor, int]]) -> None:
    """Note that a node saves the array of `x`: a write copies first, or, for a parameter, is noticed."""
    alias = x._alias
    root = alias.root if type(alias) is Alias else x
    if type(root._alias) is Group:
        root._alias.mark(root, checks)
    elif type(root._node) is Leaf or type(x._node) is Leaf:
        checks.append((root, root._version))
    else:
        root._shared = True


def snapshot(t: Tensor) -> Tensor:
    """Return a Tensor outside the graph, no view, with the value that `t` keeps until it is written."""
    parameters: list[tuple[Tensor, int]] = []
    save_mark(fresh(t), parameters)
    if parameters:  # they are written in place
        return wrap(t._device.xp.copy(t._raw), t._device)
    out = wrap(t._raw, t._device)
    out._shared = True
    return out
