"""Recording operations, and walking back through what was recorded.

The backward pass is iterative and topological, so its cost is linear in the graph. Each node is freed as
it is passed. A plain pass runs the rules of the table on raw arrays with the backend's extended namespace;
with ``create_graph=True`` it runs the same rules on Tensors with tinyxp itself, and so records them.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import (
    MODE,
    TENSORS,
    Aval,
    Leaf,
    Node,
    Tensor,
    fresh,
    grad_mode,
    save_mark,
    wrap,
)
from tinyxp.errors import BACKWARD_TWICE, SAVED_MODIFIED, GraphError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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
    passes : bool
        Whether a rule may return `g` itself or a view of it.
    guard : bool
        Whether a rule can be infinite or NaN at a point where the cotangent is zero.
    on_tensors : bool
        Whether the rules take Tensors also in an ordinary pass, because they replay views.
    """

    __slots__ = (
        "custom", "each", "guard", "joint", "name", "on_tensors", "passes", "reads", "reads_out", "rules", "saves",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.rules: tuple[Rule | None, ...] = ()
        self.each: Rule | None = None
        self.joint: Callable[..., Sequence[Any]] | None = None
        self.custom: Callable[..., Sequence[Any]] | None = None
        self.passes = self.guard = self.on_tensors = self.reads_out = False
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
    ) -> None:
        """Fill in the line of the table."""
        self.on_tensors = on_tensors
        self.rules, self.each, self.passes, self.guard = tuple(rules), each, passes, guard
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
_new_node = Node.__new__
NO_CHECKS: tuple[tuple[Tensor, int], ...] = ()


def record1(op: Op, out: Tensor, x: Tensor, raw: Any, kwargs: dict[str, Any]) -> None:
    """Make `out` part of the graph, as the result of `op` on the single Tensor `x` that requires grad."""
    parent: Any = x._node
    aval = parent.aval if parent.nout == 1 else parent.aval[x._index]
    try:
        reads_out, reads = op.saves[True]
    except KeyError:
        reads_out, reads = op.saves[True] = op.read((True,))
    node = _new_node(Node)
    node.checks = NO_CHECKS
    if reads:
        node.args = (raw,)
        if x._alias is None and type(parent) is Node:
            x._shared = True
        else:
            node.checks = _mark(x)
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
    node.indices = (x._index,)
    node.device = x._device
    node.aux = ()
    node.extra = None
    node.nout = 1
    node.aval = aval if r.shape == aval.shape and r.dtype is aval.dtype else _aval(r, x._device)
    out._node = node
    if MODE.watch is not None:
        MODE.watch(node)


def record2(op: Op, out: Tensor, x: Any, y: Any, a: Any, b: Any) -> None:
    """Make `out` part of the graph, as the result of `op` on two operands of which one requires grad.

    Parameters
    ----------
    x, y : Tensor or number
    a, b : array or number
        What the library computed with.
    """
    device = out._device
    p: Any = x._node if type(x) in TENSORS else None
    q: Any = y._node if type(y) in TENSORS else None
    wanted = (p is not None, q is not None)
    try:
        reads_out, reads_x, reads_y = op.saves[wanted]
    except KeyError:
        reads_out, reads_x, reads_y = op.saves[wanted] = op.read(wanted)
    node = _new_node(Node)
    checks = NO_CHECKS
    i = j = 0
    aval = None
    if p is not None:
        i = x._index
        aval = p.aval if p.nout == 1 else p.aval[i]
    if type(x) not in TENSORS:
        a = x
    elif reads_x:
        if x._alias is None and type(p) is not Leaf:
            x._shared = True
        else:
            checks = _mark(x)
    else:
        a = _aval(x._raw, device) if p is None else aval
    if q is not None:
        j = y._index
        other = q.aval if q.nout == 1 else q.aval[j]
        aval = aval or other
    if type(y) not in TENSORS:
        b = y
    elif reads_y:
        if y._alias is None and type(q) is not Leaf:
            y._shared = True
        else:
            checks += _mark(y)
    else:
        b = _aval(y._raw, device) if q is None else other
    r = out._raw
    if reads_out:
        node.out = r
        out._shared = True
    else:
        node.out = None
    node.args = (a, b)
    node.op = op
    node.kwargs = {}
    node.parents = (p, q)
    node.indices = (i, j)
    node.device = device
    node.aux = ()
    node.extra = None
    node.checks = checks
    node.nout = 1
    node.aval = aval if r.shape == aval.shape and r.dtype is aval.dtype else _aval(r, device)  # type: ignore[union-attr]
    out._node = node
    if MODE.watch is not None:
        MODE.watch(node)


def record_view(op: Op, out: Tensor, x: Tensor, args: tuple[Any, ...]) -> None:
    """Make the view `out` of `x` part of the graph: its rule reads no data."""
    parent: Any = x._node
    node = _new_node(Node)
    node.args = (parent.aval if parent.nout == 1 else parent.aval[x._index], *args)
    node.op = op
    node.kwargs = {}
    node.parents = (parent,)
    node.indices = (x._index,)
    node.device = x._device
    node.out = None
    node.aux = ()
    node.extra = None
    node.checks = NO_CHECKS
    node.nout = 1
    node.aval = _aval(out._raw, x._device)
    out._node = node
    if MODE.watch is not None:
        MODE.watch(node)


def _aval(raw: Any, device: Device) -> Aval:
    return Aval(tuple(raw.shape), raw.dtype, device.native)


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
    """Make `out` part of the graph, as the result of `op` on `args`: the general form of the three above.

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
    outs: Sequence[Tensor] = out if several else (out,)  # type: ignore[assignment]
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
    node.checks, node.extra = tuple(checks), None
    if several:
        node.nout = len(outs)
        node.aval = tuple([_aval(o._raw, device) for o in outs])
        for i, o in enumerate(outs):
            if dtypes.of(o._raw.dtype).kind in "fc":
                o._node, o._index = node, i
    else:
        node.nout = 1
        node.aval = _aval(out._raw, device)  # type: ignore[union-attr]
        out._node = node  # type: ignore[union-attr]
    if MODE.watch is not None:
        MODE.watch(node)


def _keep_out(outs: Sequence[Tensor], several: bool) -> Any:  # noqa: FBT001
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


# ---------------------------------------------------------------- backward
def order_of(
    roots: Iterable[Node | Leaf], ends: Iterable[Node | Leaf] = ()
) -> list[Node | Leaf]:
    """Return the graph between `roots` and `ends`, every node after the nodes it came from."""
    order: list[Node | Leaf] = list(ends)
    seen: set[Node | Leaf] = set(order)
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(root.parents))]
        while stack:
            node, rest = stack[-1]
            for p in rest:
                if p is not None and p not in seen:
                    seen.add(p)
                    stack.append((p, iter(p.parents)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


class Cotangents:
    """The cotangents that have arrived at nodes that are not passed yet.

    Only this class adds arrays up, and in place only into arrays that it or a rule has just made.
    """

    def __init__(self) -> None:
        self.arrived: dict[tuple[Node | Leaf, int], Any] = {}
        self.owned: set[tuple[Node | Leaf, int]] = set()

    def add(self, node: Node | Leaf, index: int, value: Any, *, owned: bool) -> None:
        """Add `value` to what output `index` of `node` has received."""
        key = (node, index)
        before = self.arrived.get(key)
        if before is None:
            self.arrived[key] = value
            if owned:
                self.owned.add(key)
        elif type(value) in TENSORS:
            self.arrived[key] = before + value
        elif key in self.owned:
            self.arrived[key] = node.device.xp.iadd(before, value)
        else:
            self.arrived[key] = before + value
            self.owned.add(key)

    def take(self, node: Node | Leaf, index: int) -> tuple[Any, bool]:
        """Remove and return a cotangent (None if nothing came), and whether it is ours to keep."""
        key = (node, index)
        owned = key in self.owned
        self.owned.discard(key)
        return self.arrived.pop(key, None), owned


def backward(
    outputs: Sequence[Tensor],
    seeds: Sequence[Tensor | None],
    *,
    inputs: Sequence[Tensor] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
    accumulate: bool = True,
    stop: bool = False,
) -> list[Tensor | None]:
    """Differentiate `outputs`, weighted with `seeds`.

    Parameters
    ----------
    inputs : sequence of Tensor, optional
        Compute gradients of these alone.
    accumulate : bool
        Add to ``.grad`` of the leaves; otherwise return the gradients of `inputs`.
    stop : bool
        Do not look beyond `inputs`: none of them depends on another.

    Returns
    -------
    list of Tensor or None
        The gradients of `inputs`, None where `outputs` do not depend on one.
    """
    pairs = [(fresh(o), _seed(o, s)) for o, s in zip(outputs, seeds, strict=True)]
    roots = [o._node for o, _ in pairs if o._node is not None]
    targets = {(fresh(t)._node, t._index): t for t in inputs or ()}
    order = order_of(roots, {n for n, _ in targets if n is not None} if stop else ())
    wanted = None if inputs is None else _reaching(order, {node for node, _ in targets})
    cotangents = Cotangents()
    for o, seed in pairs:
        if o._node is not None:
            cotangents.add(o._node, o._index, seed if create_graph else seed._raw, owned=False)
    found: dict[tuple[Any, int], Any] = {}
    walk = _Walk(cotangents, wanted, create_graph=create_graph, keep=retain_graph or create_graph)
    with grad_mode(create_graph):
        while order:
            node = order.pop()
            if wanted is not None and node not in wanted:
                continue
            walk.visit(node, targets, found, accumulate=accumulate)
    return [found.get((t._node, t._index)) for t in inputs or ()]


def _seed(o: Tensor, seed: Tensor | None) -> Tensor:
    if seed is None:
        if math.prod(o._raw.shape) != 1 or dtypes.of(o._raw.dtype).kind == "c":
            raise GraphError(
                f"backward() without a cotangent needs a single real element; got {o.dtype} of shape "
                f"{tuple(o._raw.shape)}; reduce it first (loss.sum().backward()) or pass one: y.backward(grad)"
            )
        return wrap(o._device.xp.ones_like(o._raw), o._device)
    from tinyxp.ops import _dispatch

    seed = _dispatch.as_tensor(seed, o._device)
    _dispatch.device_of("backward", (o, seed))
    if tuple(seed._raw.shape) != tuple(o._raw.shape):
        raise ShapeError(
            f"the cotangent must have the shape of what is differentiated, {tuple(o._raw.shape)}; "
            f"got {tuple(seed._raw.shape)}"
        )
    if seed._raw.dtype != o._raw.dtype:
        from tinyxp import ops

        return ops.astype(seed, o.dtype)
    return seed


def _reaching(order: list[Node | Leaf], targets: set[Any]) -> set[Any]:
    """Return the nodes from which a target is reached."""
    wanted: set[Any] = set()
    for node in order:
        if node in targets or any(p in wanted for p in node.parents if p is not None):
            wanted.add(node)
    return wanted


class _Walk:
    """One backward pass: visits nodes, the last recorded first."""

    def __init__(
        self, cotangents: Cotangents, wanted: set[Any] | None, *, create_graph: bool, keep: bool
    ) -> None:
        self.cotangents, self.wanted = cotangents, wanted
        self.taped, self.keep = create_graph, keep

    def visit(
        self,
        node: Node | Leaf,
        targets: dict[Any, Tensor],
        found: dict[Any, Any],
        *,
        accumulate: bool,
    ) -> None:
        """Pass the cotangents of `node` on to its parents, or into ``.grad``."""
        gs: list[Any] = []
        for i in range(node.nout):
            g, owned = self.cotangents.take(node, i)
            if g is not None and node.extra is not None:
                g, owned = self._hooks(node, i, g, owned=owned)
            if g is not None and (node, i) in targets:
                found[node, i] = self._grad(node, g, owned=owned and (self.taped or type(node) is Leaf))
            gs.append(g)
        if type(node) is Leaf:
            if accumulate and gs[0] is not None and (self.wanted is None or node in self.wanted):
                self._collect(node, gs[0], owned=owned)
            return
        if any(g is not None for g in gs):
            self._pass_on(node, gs)
        if not self.keep:
            _free(node)

    def _grad(self, node: Node | Leaf, g: Any, *, owned: bool) -> Tensor:
        """Return a cotangent as a Tensor that owns its array."""
        if type(g) in TENSORS:
            return g if owned else _stand_in(g)
        device = node.device
        if type(g) is not device.array_type:
            g = device.wrap(g)
        return wrap(g if owned else device.xp.copy(g), device)

    def _collect(self, leaf: Leaf, g: Any, *, owned: bool) -> None:
        grad = self._grad(leaf, g, owned=owned)
        if leaf.grad is None:
            leaf.grad = grad
        elif self.taped:
            leaf.grad = leaf.grad + grad
        else:
            leaf.grad += grad

    def _hooks(self, node: Node | Leaf, i: int, g: Any, *, owned: bool) -> tuple[Any, bool]:
        extra = node.extra
        assert extra is not None  # noqa: S101 - the caller looked
        for hook in list(extra.get(("hooks", i), {}).values()):
            t = g if type(g) in TENSORS else self._grad(node, g, owned=owned)
            new = hook(t)
            t = t if new is None else new
            g, owned = (t if self.taped else fresh(t)._raw), False
        if ("retain", i) in extra:
            grad = self._grad(node, g, owned=False)
            before = extra["retain", i]
            extra["retain", i] = grad if before is None else before + grad
        return g, owned

    def _pass_on(self, node: Node, gs: list[Any]) -> None:
        if node.args is None:
            raise GraphError(BACKWARD_TWICE)
        while type(node.args) is not tuple:  # a checkpoint, perhaps in another
            node.args.restore()
        for t, version in node.checks:
            if t._version != version:
                raise GraphError(
                    SAVED_MODIFIED.format(what=f"a parameter of shape {tuple(t._raw.shape)}, saved by {node.name}")
                )
        results = taped_cotangents(node, gs) if self.taped else raw_cotangents(node, gs)
        fresh_ones = not node.op.passes and node.op.custom is None
        for p, index, r in zip(node.parents, node.indices, results, strict=False):
            if p is None or r is None or (self.wanted is not None and p not in self.wanted):
                continue
            aval = p.aval[index] if type(p.aval) is tuple else p.aval
            if node.extra is not None and "trace" in node.extra:
                _check_nan(node, r)
            value, made = fit(_namespace() if self.taped else node.device.xp, r, aval)
            self.cotangents.add(p, index, value, owned=fresh_ones or made)


def _check_nan(node: Node, r: Any) -> None:
    xp = node.device.xp
    raw = r._raw if type(r) in TENSORS else r
    if bool(xp.any(xp.isnan(raw))):
        where = "".join(node.extra["trace"]) if node.extra else ""
        raise GraphError(f"{node.name} gave a NaN gradient; it was recorded here:\n{where}")


def _free(node: Node) -> None:
    node.args = None
    node.out = None
    node.aux = ()
    node.kwargs = {}
    node.checks = ()
    node.parents = ()


def fit(xp: Any, g: Any, aval: Aval) -> tuple[Any, bool]:
    """Undo broadcasting and promotion.

    Returns
    -------
    array
        `g` with the shape and dtype of `aval`.
    bool
        Whether this is certainly a new array.
    """
    shape, made = aval.shape, False
    if tuple(g.shape) != tuple(shape):
        extra = len(g.shape) - len(shape)
        axes = (*range(extra), *(i + extra for i, s in enumerate(shape) if s == 1 != g.shape[i + extra]))
        if axes:
            g, made = xp.sum(g, axis=axes, keepdims=True), True
        g = xp.reshape(g, tuple(shape))
    if g.dtype != aval.dtype:
        if dtypes.of(g.dtype).kind == "c" and dtypes.of(aval.dtype).kind != "c":
            g = xp.real(g)
        g, made = xp.astype(g, aval.dtype), True
    return g, made


def raw_cotangents(node: Node, gs: list[Any]) -> Sequence[Any]:
    """Apply the rules of `node` to arrays of the library."""
    xp = node.device.xp
    op = node.op
    g = gs[0] if node.nout == 1 else _complete(node, gs)
    if op.joint is not None:
        needs = tuple(p is not None for p in node.parents)
        return op.joint(node, g, needs)
    if op.custom is not None:
        gs = [wrap(x, node.device) for x in (g if node.nout > 1 else [g])]
        results = op.custom(node, gs, tuple(p is not None for p in node.parents))
        return [r if r is None else fresh(r)._raw for r in results]
    if op.on_tensors:
        results = _apply(_namespace(), op, node, wrap(g, node.device), node.out, node.args)
        return [r if r is None else fresh(r)._raw for r in results]
    return _apply(xp, op, node, g, node.out, node.args)


def _complete(node: Node, gs: list[Any]) -> list[Any]:
    """Fill in zeros for the outputs that nobody used."""
    zeros = node.device.xp.zeros
    return [
        zeros(a.shape, dtype=a.dtype, device=a.device) if g is None else g
        for g, a in zip(gs, node.aval, strict=True)
    ]


def _apply(xp: Any, op: Op, node: Node, g: Any, out: Any, args: Any) -> Sequence[Any]:
    if op.each is not None:
        each = op.each
        return [
            None if p is None else each(xp, g, out, args, i=i, **node.kwargs)
            for i, p in enumerate(node.parents)
        ]
    pairs = zip(node.parents, op.rules, strict=False)
    if op.guard:
        with node.device.backend.quiet():
            return [
                None if p is None or rule is None
                else keep_zero(xp, g, rule(xp, g, out, *args, **node.kwargs))
                for p, rule in pairs
            ]  # fmt: skip
    return [
        None if p is None or rule is None else rule(xp, g, out, *args, **node.kwargs)
        for p, rule in pairs
    ]


def keep_zero(xp: Any, g: Any, r: Any) -> Any:
    """Let a zero cotangent stay zero where the local derivative is infinite or NaN."""
    return xp.where((g == 0) & ~xp.isfinite(r), xp.zeros_like(r), r)


def _namespace() -> Any:
    from tinyxp import ops

    return ops


def taped_cotangents(node: Node, gs: list[Any]) -> Sequence[Any]:
    """Apply the rules of `node` to Tensors that are part of the graph."""
    xp = _namespace()
    op, device = node.op, node.device
    assert type(node.args) is tuple  # noqa: S101 - the caller looked
    if node.nout > 1:
        gs = [
            xp.zeros(a.shape, dtype=dtypes.of(a.dtype), device=device) if g is None else g
            for g, a in zip(gs, node.aval, strict=True)
        ]
    if op.custom is not None:
        return op.custom(node, gs, tuple(p is not None for p in node.parents))
    g = gs[0] if node.nout == 1 else gs
    args = tuple(
        _lift(a, p, i, device)
        for a, p, i in zip(
            node.args, _padded(node.parents, len(node.args), None), _padded(node.indices, len(node.args), 0), strict=True
        )
    )
    if op.joint is not None:
        return _rederive(node, g, args)
    out: Any = None
    if node.out is not None:
        if node.nout == 1:
            out = _lift(node.out, node, 0, device)
        else:
            out = tuple(_lift(o, node, i, device) for i, o in enumerate(node.out))
    return _apply(xp, op, node, g, out, args)


def _padded(values: Sequence[Any], n: int, fill: Any) -> list[Any]:
    return [*values, *[fill] * (n - len(values))]


def _lift(a: Any, parent: Node | Leaf | None, index: int, device: Device) -> Any:
    """Return a saved array as the Tensor it was, with its place in the graph."""
    if type(a) is Aval:
        return Aval(a.shape, dtypes.of(a.dtype), device)
    if type(a) is device.array_type:
        t = wrap(a, device)
        t._shared = True
        t._node, t._index = parent, index
        return t
    return a


def _rederive(node: Node, g: Any, args: tuple[Any, ...]) -> Sequence[Any]:
    """Differentiate a fused node through the composite that defines it."""
    from tinyxp.ops import _dispatch

    inputs = [a for a, p in zip(args, node.parents, strict=False) if p is not None]
    leaves = [_stand_in(t) for t in inputs]
    swap = dict(zip(map(id, inputs), leaves, strict=True))
    out = _dispatch.composite(node.op.name)(*(swap.get(id(a), a) for a in args), **node.kwargs)
    found = iter(backward([out], [g], inputs=leaves, create_graph=True, accumulate=False, stop=True))
    return [None if p is None else next(found) for p in node.parents]


def _stand_in(t: Tensor) -> Tensor:
    """Return a Tensor of the same value one recorded step further, to differentiate with respect to."""
    from tinyxp import ops

    return ops.positive(t)
