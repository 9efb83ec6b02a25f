"""The operations that the graph knows, and how their results become part of it.

Ordinary operations are recorded on paths of their own, `record1`, `record2`, `record_number` and `record_view`;
`record` is the general form.
"""

from __future__ import annotations

import itertools
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import MODE, TENSORS, WATCHED, Aval, Leaf, Node, Tensor, save_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyxp.backend import Device

Array = Any
Rule = Any  # Callable[..., cotangent]


class Op:
    """An operation of the namespace as the graph knows it.

    Attributes
    ----------
    name : str
        The name in the namespace.
    rules : tuple of callable or None
        For each positional argument ``rule(xp, g, out, *args, **kwargs) -> cotangent``, or None where the
        result does not depend on it differentiably. A parameter of the rule whose name begins with an
        underscore is not read: it arrives as an `Aval`, and its data is not kept.
    each : callable or None
        Instead of `rules`, for operations on any number of arrays: the same with the position of the
        argument as keyword ``i``.
    joint : callable or None
        Instead of `rules`, for fused operations: all cotangents at once, from the node.
    reads_out : bool
        Whether `joint` reads the result.
    custom : callable or None
        Instead of `rules`, for operations that users define: cotangents of Tensors from Tensors.
    pair : callable or None
        Beside the two `rules` of an operation, what gives the cotangents of both arguments at once.
    elementwise : bool
        Whether the result, and what every rule gives, has the shape that the arguments broadcast to.
    passes : bool
        Whether a rule may return `g` itself or a view of it.
    guard : bool
        Whether a rule can be infinite or NaN at a point where the cotangent is zero.
    on_tensors : bool
        Whether the rules take Tensors also in an ordinary pass, because they replay views.
    ordinary : bool
        Whether there are rules, and they take arrays of the library.
    """

    __slots__ = (
        "custom", "each", "elementwise", "guard", "joint", "name", "on_tensors", "ordinary", "pair", "passes",
        "reads", "reads_out", "rules", "saves",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.rules: tuple[Rule | None, ...] = ()
        self.each: Rule | None = None
        self.joint: Callable[..., Sequence[Any]] | None = None
        self.custom: Callable[..., Sequence[Any]] | None = None
        self.pair: Callable[..., tuple[Any, Any]] | None = None
        self.elementwise = False
        self.passes = self.guard = self.on_tensors = self.reads_out = False
        self.ordinary = False
        self.reads: tuple[tuple[bool, ...], ...] = ()
        self.saves: dict[Any, tuple[bool, ...]] = {}

    def define(
        self,
        rules: Sequence[Rule | None],
        *,
        each: Rule | None,
        passes: bool,
        guard: bool,
        on_tensors: bool,
        pair: Callable[..., tuple[Any, Any]] | None = None,
    ) -> None:
        """Fill in the line of the table."""
        self.on_tensors, self.ordinary = on_tensors, bool(rules) and not on_tensors
        self.rules, self.each, self.passes, self.guard = tuple(rules), each, passes, guard
        self.pair = pair
        self.reads = tuple(_reads(r) for r in (rules if each is None else (each,)))

    def read(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        """Return for the output and each argument whether the rules of the `wanted` arguments read it."""
        n = 1 + len(wanted)
        if self.joint is not None:
            return (self.reads_out, *(True,) * len(wanted))
        if self.custom is not None:
            return (False,) * n
        if self.each is not None:
            reads = self.reads[0]
            return (reads[0], *reads[1:2] * len(wanted))
        used = [r for r, w in zip(self.reads, wanted, strict=False) if w]
        return tuple(any(i < len(r) and r[i] for r in used) for i in range(n))


def _reads(rule: Rule | None) -> tuple[bool, ...]:
    """For the output and each argument of a rule, whether its parameter is named without underscore."""
    if rule is None:
        return ()
    code = rule.__code__
    return tuple(not n.startswith("_") for n in code.co_varnames[2 : code.co_argcount])


TABLE: dict[str, Op] = {}


def op(name: str) -> Op:
    """Return the table's line for `name`, empty until `tinyxp.autograd._rules` fills it."""
    if name not in TABLE:
        TABLE[name] = Op(name)
    return TABLE[name]


# ---------------------------------------------------------------- recording
# The paths of ordinary operations write every slot themselves: a helper would cost as much as the rest.
_new_node = Node.__new__
_new_aval = Aval.__new__
_next = itertools.count(1).__next__
NOTHING: dict[str, Any] = {}
NO_CHECKS: tuple[tuple[Tensor, int], ...] = ()
_ONLY_X, _ONLY_Y, _BOTH = 1, 2, 3
_FIRST, _FIRSTS = (0,), (0, 0)  # the indices of most nodes


def record1(op: Op, out: Tensor, x: Tensor, raw: Any, kwargs: dict[str, Any]) -> None:
    """Make `out` part of the graph, as the result of `op` on the single Tensor `x` that requires grad."""
    parent: Any = x._node
    aval = parent.aval if parent.nout == 1 else parent.aval[x._index]
    try:
        reads_out, reads = op.saves[_ONLY_X]
    except KeyError:
        reads_out, reads = op.saves[_ONLY_X] = op.read((True,))
    node = _new_node(Node)
    node.checks = NO_CHECKS
    if reads:
        node.args = (raw,)
        if x._alias is not None:
            node.checks = _mark(x)
        elif type(parent) is Leaf:
            node.checks = ((x, x._version),)
        else:
            x._shared = True
    else:
        node.args = (aval,)
    r = out._raw
    if reads_out:
        node.out = r
        out._shared = True
    else:
        node.out = None
    node.op = op
    node.kwargs = kwargs
    node.parents = (parent,)
    node.indices = (x._index,) if x._index else _FIRST
    node.device = x._device
    node.aux = ()
    node.extra = None
    node.nout = 1
    node.seq = _next()
    node.aval = aval if r.shape == aval.shape and r.dtype is aval.dtype else _aval(r, x._device)
    out._node = node
    if WATCHED and MODE.watch is not None:
        MODE.watch(node)


def record2(op: Op, out: Tensor, x: Tensor, y: Tensor, a: Any, b: Any) -> None:
    """Make `out` part of the graph, as the result of `op` on two Tensors of which one requires grad.

    Parameters
    ----------
    a, b : array
        What the library computed with.
    """
    device = out._device
    p: Any = x._node
    q: Any = y._node
    wanted = _ONLY_Y if p is None else _ONLY_X if q is None else _BOTH
    try:
        reads_out, reads_x, reads_y = op.saves[wanted]
    except KeyError:
        reads_out, reads_x, reads_y = op.saves[wanted] = op.read((p is not None, q is not None))
    i, j = x._index, y._index
    node = _new_node(Node)
    node.checks = NO_CHECKS
    ax = None if p is None else p.aval if p.nout == 1 else p.aval[i]
    ay = None if q is None else q.aval if q.nout == 1 else q.aval[j]
    if not reads_x:
        a = _aval(x._raw, device) if ax is None else ax
    elif x._alias is not None:
        node.checks = _mark(x)
    elif type(p) is Leaf:
        node.checks = ((x, x._version),)
    else:
        x._shared = True
    if not reads_y:
        b = _aval(y._raw, device) if ay is None else ay
    elif y._alias is not None:
        node.checks += _mark(y)
    elif type(q) is Leaf:
        node.checks += ((y, y._version),)
    else:
        y._shared = True
    r = out._raw
    if reads_out:
        node.out = r
        out._shared = True
    else:
        node.out = None
    node.args = (a, b)
    node.op = op
    node.kwargs = NOTHING
    node.parents = (p, q)
    node.indices = (i, j) if i or j else _FIRSTS
    node.device = device
    node.aux = ()
    node.extra = None
    node.nout = 1
    node.seq = _next()
    aval: Any = ay if ax is None else ax
    if r.dtype is aval.dtype and ((ax is ay and op.elementwise) or r.shape == aval.shape):
        node.aval = aval
    else:
        node.aval = _aval(r, device)
    out._node = node
    if WATCHED and MODE.watch is not None:
        MODE.watch(node)


def record_number(op: Op, out: Tensor, x: Any, y: Any, raw: Any) -> None:
    """Make `out` part of the graph, as the result of `op` on a number and a Tensor that requires grad.

    Parameters
    ----------
    x, y : Tensor or number
        One of them is a number.
    raw : array
        What the library computed with for the other.
    """
    first = type(x) in TENSORS
    t, number = (x, y) if first else (y, x)
    wanted = _ONLY_X if first else _ONLY_Y
    try:
        reads_out, reads_x, reads_y = op.saves[wanted]
    except KeyError:
        reads_out, reads_x, reads_y = op.saves[wanted] = op.read((first, not first))
    parent: Any = t._node
    aval = parent.aval if parent.nout == 1 else parent.aval[t._index]
    node = _new_node(Node)
    node.checks = NO_CHECKS
    if not (reads_x if first else reads_y):
        raw = aval
    elif t._alias is not None:
        node.checks = _mark(t)
    elif type(parent) is Leaf:
        node.checks = ((t, t._version),)
    else:
        t._shared = True
    r = out._raw
    if reads_out:
        node.out = r
        out._shared = True
    else:
        node.out = None
    if first:
        node.args = (raw, number)
        node.parents = (parent,)
        node.indices = (t._index,) if t._index else _FIRST
    else:
        node.args = (number, raw)
        node.parents = (None, parent)
        node.indices = (0, t._index)
    node.op = op
    node.kwargs = NOTHING
    node.device = out._device
    node.aux = ()
    node.extra = None
    node.nout = 1
    node.seq = _next()
    same = r.dtype is aval.dtype and (op.elementwise or r.shape == aval.shape)
    node.aval = aval if same else _aval(r, out._device)
    out._node = node
    if WATCHED and MODE.watch is not None:
        MODE.watch(node)


def record_view(op: Op, out: Tensor, x: Tensor, args: tuple[Any, ...]) -> None:
    """Make the view `out` of `x` part of the graph: its rule reads no data."""
    parent: Any = x._node
    node = _new_node(Node)
    node.args = (parent.aval if parent.nout == 1 else parent.aval[x._index], *args)
    node.op = op
    node.kwargs = NOTHING
    node.parents = (parent,)
    node.indices = (x._index,) if x._index else _FIRST
    node.device = x._device
    node.out = None
    node.aux = ()
    node.extra = None
    node.checks = NO_CHECKS
    node.nout = 1
    node.seq = _next()
    node.aval = _aval(out._raw, x._device)
    out._node = node
    if WATCHED and MODE.watch is not None:
        MODE.watch(node)


def _aval(raw: Any, device: Device) -> Aval:
    aval: Aval = _new_aval(Aval)  # without a call of __init__, which would double the cost
    shape = raw.shape
    aval.shape = shape if type(shape) is tuple else tuple(shape)
    aval.dtype = raw.dtype
    aval.device = device.native
    return aval


def _mark(x: Tensor) -> tuple[tuple[Tensor, int], ...]:
    checks: list[tuple[Tensor, int]] = []
    save_mark(x, checks)
    return tuple(checks)


def record(
    op: Op,
    out: Tensor | Sequence[Tensor],
    args: Sequence[Any],
    raws: Sequence[Any],
    kwargs: dict[str, Any],
    aux: tuple[Any, ...] = (),
) -> None:
    """Make `out` part of the graph, as the result of `op` on `args`: the general form of the four above.

    Parameters
    ----------
    out : Tensor or sequence of Tensor
        The result, not yet in any graph.
    args, raws : sequence
        The arguments as Tensors and plain values, and the arrays the library computed with.
    aux : tuple of arrays
        What a fused forward kept.
    """
    rules = op.rules
    if rules:
        parents = tuple(
            [
                a._node if r is not None and type(a) in TENSORS else None
                for a, r in zip_longest(args, rules)
            ]
        )
    else:
        parents = tuple([a._node if type(a) in TENSORS else None for a in args])
    if not any(parents):
        return
    wanted = tuple([p is not None for p in parents])
    several = type(out) is tuple or type(out) is list
    outs: Sequence[Tensor] = out if several else (out,)  # type: ignore[assignment]  # one of both kinds, told apart above
    device = outs[0]._device
    reads_out, *reads = op.read(wanted)
    checks: list[tuple[Tensor, int]] = []
    node = Node()
    node.args = _save(args, raws, reads, checks, device)
    node.out = _keep_out(outs, several) if reads_out else None
    node.op, node.kwargs, node.parents, node.device, node.aux = op, kwargs, parents, device, aux
    node.indices = tuple(
        [a._index if p is not None else 0 for a, p in zip(args, parents, strict=False)]
    )
    node.checks, node.extra, node.seq = tuple(checks), None, _next()
    if several:
        node.nout = len(outs)
        node.aval = tuple([_aval(o._raw, device) for o in outs])
        for i, o in enumerate(outs):
            if dtypes.of(o._raw.dtype).kind in "fc":
                o._node, o._index = node, i
    else:
        node.nout = 1
        node.aval = _aval(out._raw, device)  # type: ignore[union-attr]  # not None: looked at above
        out._node = node  # type: ignore[union-attr]  # not None: looked at above
    if WATCHED and MODE.watch is not None:
        MODE.watch(node)


def _keep_out(outs: Sequence[Tensor], several: bool) -> Any:  # noqa: FBT001 - one of two kinds, not an option
    for o in outs:
        o._shared = True
    return tuple([o._raw for o in outs]) if several else outs[0]._raw


def _save(
    args: Sequence[Any],
    raws: Sequence[Any],
    read: Sequence[bool],
    checks: list[tuple[Tensor, int]],
    device: Device,
) -> tuple[Any, ...]:
    kept = []
    for i, a in enumerate(args):
        if type(a) not in TENSORS:
            kept.append(a)
        elif i < len(read) and read[i]:
            kept.append(raws[i])
            if a._alias is None and type(a._node) is Leaf:  # all that `save_mark` would do
                checks.append((a, a._version))
            else:
                save_mark(a, checks)
        else:
            node = a._node
            if node is not None:
                aval = node.aval
                kept.append(aval[a._index] if type(aval) is tuple else aval)
            else:
                raw = a._raw
                kept.append(Aval(tuple(raw.shape), raw.dtype, device.native))
    return tuple(kept)
