"""Walking back through what was recorded.

The backward pass is iterative and topological, so its cost is linear in the graph. Each node is freed as
it is passed. A plain pass runs the rules of the table on raw arrays with the backend's extended namespace;
with ``create_graph=True`` it runs the same rules on Tensors with tinyxp itself, and so records them.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import MODE, TENSORS, Leaf, Node, Tensor, fresh, wrap
from tinyxp._devices import explaining
from tinyxp.autograd._cotangents import (
    fit,
    keep_zero,
    namespace,
    raw_cotangents,
    stand_in,
    surely_tame,
    taped_cotangents,
)
from tinyxp.errors import BACKWARD_TWICE, SAVED_MODIFIED, GraphError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from tinyxp.autograd._record import Op
    from tinyxp.backend import Device


_recorded = attrgetter("seq")


def order_of(roots: Iterable[Node | Leaf], ends: Iterable[Node | Leaf] = ()) -> list[Node | Leaf]:
    """Return the graph between `roots` and `ends`, every node after the nodes it came from.

    Nodes come in the order in which they were recorded, a leaf right before the first that uses it.
    """
    ends = list(ends)
    seen: set[Any] = {None, *ends}
    nodes: list[Any] = []
    for root in roots:
        if root not in seen:
            seen.add(root)
            nodes.append(root)
    for node in nodes:  # grows as it is walked through
        for p in node.parents:
            if p not in seen:
                seen.add(p)
                nodes.append(p)
    nodes += ends
    nodes.sort(key=_recorded)
    several = len(nodes) > 1 and type(nodes[1]) is Leaf  # one alone may stay at the beginning
    return _leaves_late(nodes) if several else nodes


def _leaves_late(nodes: list[Any]) -> list[Any]:
    """Move each leaf to right before the first node that uses it, so that a pass is soon done with it."""
    order: list[Any] = []
    seen: set[Any] = set()
    for node in nodes:
        for p in node.parents:
            if type(p) is Leaf and p not in seen:
                seen.add(p)
                order.append(p)
        if node not in seen:
            order.append(node)
    return order


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
    walk = _Walk(
        targets, wanted, accumulate=accumulate, create_graph=create_graph, keep=retain_graph
    )
    for o, seed in pairs:
        if o._node is not None:
            walk.add(o._node, o._index, seed if create_graph else seed._raw, owned=False)
    walk.run(order)
    return [walk.found.get((t._node, t._index)) for t in inputs or ()]


def _seed(o: Tensor, seed: Tensor | None) -> Tensor:
    if seed is not None:
        return _cotangent(seed, o, "the cotangent")
    raw, device = o._raw, o._device
    if math.prod(raw.shape) != 1 or dtypes.of(raw.dtype).kind == "c":
        raise GraphError(
            f"backward() without a cotangent needs a single real element; got {o.dtype} of shape "
            f"{tuple(raw.shape)}; reduce it first (loss.sum().backward()) or pass one: y.backward(grad)"
        )
    with explaining(device):
        return wrap(device.xp.ones(raw.shape, dtype=raw.dtype, device=device.native), device)


def _cotangent(given: Any, like: Tensor, what: str) -> Tensor:
    """Return what a user gave as a cotangent of the shape, dtype and device of `like`."""
    from tinyxp import ops

    g = ops._dispatch.as_tensor(given, like._device)
    ops._dispatch.device_of(what, (like, g))
    if tuple(g._raw.shape) != tuple(like._raw.shape):
        raise ShapeError(
            f"{what} must have the shape {tuple(like._raw.shape)}; got {tuple(g._raw.shape)}"
        )
    return g if g._raw.dtype == like._raw.dtype else ops.astype(g, like.dtype)


def _reaching(order: list[Node | Leaf], targets: set[Any]) -> set[Any]:
    """Return the nodes from which a target is reached, and those of which an earlier pass left nothing to tell."""
    wanted: set[Any] = set()
    for node in order:
        freed = type(node) is Node and node.args is None
        if freed or node in targets or any(p in wanted for p in node.parents if p is not None):
            wanted.add(node)
    return wanted


class _Walk:
    """One backward pass: visits nodes, the last recorded first.

    Attributes
    ----------
    arrived : dict
        What has arrived at nodes that are not passed yet: by node a cotangent, or, where a node has several
        outputs, by pairs of node and output.
    lent : set
        The keys of cotangents that somebody else may hold. The others were made by this pass or by a rule, and
        are added to in place.
    found : dict
        The gradients of `targets`.
    """

    def __init__(
        self,
        targets: dict[tuple[Any, int], Tensor],
        wanted: set[Any] | None,
        *,
        accumulate: bool,
        create_graph: bool,
        keep: bool,
    ) -> None:
        self.targets, self.wanted, self.accumulate = targets, wanted, accumulate
        self.watched = {node for node, _ in targets}
        self.taped, self.keep = create_graph, keep or create_graph
        self.arrived: dict[Any, Any] = {}
        self.lent: set[Any] = set()
        self.found: dict[tuple[Any, int], Any] = {}

    def run(self, order: list[Any]) -> None:
        """Visit all nodes of `order`, from its end."""
        grad, compute = MODE.grad, MODE.compute
        MODE.grad, MODE.compute = self.taped, None  # rules keep to the dtypes of what was recorded
        try:
            while order:
                device = order[-1].device
                with explaining(device), self._place(device):
                    self._run_on(device, order)
        finally:
            MODE.grad, MODE.compute = grad, compute

    def _place(self, device: Device) -> AbstractContextManager[Any]:
        """Return a context in which rules run on `device`, and warn of nothing."""
        quiet: AbstractContextManager[Any] = device.backend.quiet()
        if not device.scoped or self.taped:
            return quiet
        both = ExitStack()
        both.enter_context(device.backend.scope(device.local))
        both.enter_context(quiet)
        return both

    def _run_on(self, device: Device, order: list[Any]) -> None:
        """Visit nodes from the end of `order` as long as they are on `device`."""
        wanted, keep, watched, taped = self.wanted, self.keep, self.watched, self.taped
        take, pass_on, pass_on_raw = self.arrived.pop, self._pass_on, self._raw_pass(device)
        while order:
            node = order.pop()
            if node.device is not device:
                order.append(node)
                return
            if wanted is not None and node not in wanted:
                continue
            if type(node) is Leaf:
                self._collect(node)
                continue
            if node.nout != 1 or node.extra is not None or (watched and node in watched):
                g = self._look(node)
                if watched and self._is_end(node):
                    continue
                pass_on(node, g)
            elif taped or type(node.args) is not tuple or not node.op.ordinary:
                pass_on(node, take(node, None))
            elif (g := take(node, None)) is not None:
                pass_on_raw(node, g)
            if not keep:
                node.args = node.out = None
                node.aux = node.checks = node.parents = ()

    def _look(self, node: Node | Leaf) -> Any:
        """Take what arrived at a node with several outputs, with hooks, or whose gradient is asked for."""
        gs: list[Any] = []
        for i in range(node.nout):
            key = node if node.nout == 1 else (node, i)
            g, owned = self.arrived.pop(key, None), key not in self.lent
            if g is not None and node.extra is not None:
                g, owned = self._hooks(node, i, g, owned=owned)
                if not owned:
                    self.lent.add(key)
            if g is not None and (node, i) in self.targets:
                self.found[node, i] = self._grad(
                    node, g, owned=owned and (self.taped or type(node) is Leaf)
                )
            gs.append(g)
        if node.nout == 1:
            return gs[0]
        return gs if any(g is not None for g in gs) else None

    def _grad(self, node: Node | Leaf, g: Any, *, owned: bool) -> Tensor:
        """Return a cotangent as a Tensor that owns its array."""
        if type(g) in TENSORS:
            return g if owned else stand_in(g)
        device = node.device
        if type(g) is not device.array_type:
            g = device.wrap(g)
        return wrap(g if owned else device.xp.copy(g), device)

    def _collect(self, leaf: Leaf) -> None:
        plain = leaf.extra is None and not self.watched
        g = self.arrived.pop(leaf, None) if plain else self._look(leaf)
        if g is None or not self.accumulate:
            return
        grad = self._grad(leaf, g, owned=leaf not in self.lent)
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
            t = t if new is None else _cotangent(new, t, "what a hook returns")
            g, owned = (t if self.taped else fresh(t)._raw), False
        if ("retain", i) in extra:
            grad = self._grad(node, g, owned=False)
            before = extra["retain", i]
            extra["retain", i] = grad if before is None else before + grad
        return g, owned

    def _raw_pass(self, device: Device) -> Callable[[Node, Any], None]:  # noqa: C901, PLR0915 - calls cost
        """Return what does for ordinary nodes of `device` that which `_pass_on` does for all.

        A backward pass through small arrays spends its time here. So what is the same for all nodes is looked up
        once, the two forms that most nodes have are written out, and nothing is fitted where an elementwise
        operation and its argument share one Aval.
        """
        arrived, lent, wanted = self.arrived, self.lent, self.wanted
        get, xp, finite = arrived.get, device.xp, device.backend.surely_finite
        add, iadd = xp.add, xp.iadd

        def give(p: Any, index: int, r: Any, op: Op) -> None:
            if p.nout == 1:
                aval, key = p.aval, p
            else:
                aval, key = p.aval[index], (p, index)
            owned = not op.passes
            if r.shape != aval.shape or r.dtype is not aval.dtype:
                r, new = fit(xp, r, aval)
                owned = owned or new
            before = get(key)
            if before is None:
                arrived[key] = r
                if not owned:
                    lent.add(key)
            elif key in lent:
                arrived[key] = add(before, r)
                lent.discard(key)
            else:
                arrived[key] = iadd(before, r)

        def pass_on(node: Node, g: Any) -> None:  # noqa: C901, PLR0912 - calls cost
            if node.checks:
                for t, version in node.checks:
                    if t._version != version:
                        raise _modified(node, t)
            op, args, mine = node.op, node.args, node.aval
            parents: tuple[Any, ...] = node.parents
            if wanted is not None and not wanted.issuperset(parents):
                parents = tuple([p if p in wanted else None for p in parents])
            if node.kwargs or len(args) > 2 or len(parents) > 2:  # noqa: PLR2004 - one argument or two
                for i, r in enumerate(_results(node, parents, g, xp)):
                    if parents[i] is not None:
                        give(parents[i], node.indices[i], r, op)
                return
            i = 0
            p, q = parents if len(parents) == 2 else (parents[0], None)  # noqa: PLR2004 - one argument or two
            if len(args) == 1:
                r = op.rules[0](xp, g, node.out, args[0])
                if op.guard and not finite(r):
                    r = keep_zero(xp, g, r)
            elif p is None or q is None:
                if p is None:
                    i, p, q = 1, q, None
                r = op.rules[i](xp, g, node.out, args[0], args[1])
                if op.guard and not surely_tame(node) and not finite(r):
                    r = keep_zero(xp, g, r)
            else:
                if op.pair is not None:
                    r, s = op.pair(xp, g, node.out, args[0], args[1])
                else:
                    first, second = op.rules
                    x, y = args
                    r, s = first(xp, g, node.out, x, y), second(xp, g, node.out, x, y)
                if op.guard and not (op.elementwise and r.dtype is s.dtype and finite(r, s)):
                    r, s = [t if finite(t) else keep_zero(xp, g, t) for t in (r, s)]
            while True:  # for p, and once more for q
                if p.aval is mine and r.dtype is mine.dtype and op.elementwise:
                    before = get(p)
                    if before is None:
                        arrived[p] = r
                        if op.passes:
                            lent.add(p)
                    elif p in lent:
                        arrived[p] = add(before, r)
                        lent.discard(p)
                    else:
                        arrived[p] = iadd(before, r)
                else:
                    give(p, node.indices[i], r, op)
                if q is None:
                    return
                p, r = q, s
                i, q = 1, None

        return pass_on

    def _pass_on(self, node: Node, g: Any) -> None:
        """Apply the rules of `node` to its cotangent, or list of them, and give its parents what comes out."""
        if g is None:
            return
        while type(node.args) is not tuple:  # a checkpoint, perhaps in another
            if node.args is None:
                raise GraphError(BACKWARD_TWICE)
            node.args.restore()
        for t, version in node.checks:
            if t._version != version:
                raise _modified(node, t)
        wanted, parents = self.wanted, node.parents
        needs = tuple([p is not None and (wanted is None or p in wanted) for p in parents])
        cotangents = taped_cotangents if self.taped else raw_cotangents
        results = cotangents(node, g if node.nout != 1 else [g], needs)
        if node.extra is not None and "trace" in node.extra:
            _check_nan(node, results)
        made = not node.op.passes and node.op.custom is None
        xp = namespace() if self.taped else node.device.xp
        arrived = self.arrived
        for p, index, r, need in zip(parents, node.indices, results, needs, strict=False):
            if p is None or not need or r is None:
                continue
            aval: Any = p.aval
            if (
                made
                and p.nout == 1
                and r.dtype is aval.dtype
                and r.shape == aval.shape
                and p not in arrived
            ):
                arrived[p] = r  # all that the rest would do
                continue
            value, new = fit(xp, r, aval if p.nout == 1 else aval[index])
            self.add(p, index, value, owned=made or new)

    def _is_end(self, node: Node) -> bool:
        """Whether `node` is asked for, and nothing before it: what it saved is not needed, and not ours to free."""
        if node not in self.watched or self.wanted is None:
            return False
        if node.args is None:  # freed: where it came from is forgotten
            return all(n.seq >= node.seq for n in self.watched)
        return self.wanted.isdisjoint(node.parents)

    def add(self, node: Node | Leaf, index: int, value: Any, *, owned: bool) -> None:
        """Add `value` to what output `index` of `node` has received."""
        key = node if node.nout == 1 else (node, index)
        arrived = self.arrived
        before = arrived.get(key)
        if before is None:
            arrived[key] = value
            if not owned:
                self.lent.add(key)
        elif self.taped:
            arrived[key] = before + value
        elif key in self.lent:
            arrived[key] = node.device.xp.add(before, value)
            self.lent.discard(key)
        else:
            arrived[key] = node.device.xp.iadd(before, value)


def _results(node: Node, parents: tuple[Any, ...], g: Any, xp: Any) -> Sequence[Any]:
    """Apply the rules of an ordinary node for those `parents` that are not None."""
    op, args, kwargs, out = node.op, node.args, node.kwargs, node.out
    results = [
        None if p is None else rule(xp, g, out, *args, **kwargs)
        for rule, p in zip(op.rules, parents)  # noqa: B905 - strict= costs
    ]
    if not op.guard or surely_tame(node):
        return results
    finite = node.device.backend.surely_finite
    return [r if r is None or finite(r) else keep_zero(xp, g, r) for r in results]


def _modified(node: Node, t: Tensor) -> GraphError:
    what = f"a parameter of shape {tuple(t._raw.shape)}, saved by {node.name}"
    return GraphError(SAVED_MODIFIED.format(what=what))


def _check_nan(node: Node, results: Sequence[Any]) -> None:
    xp = node.device.xp
    for r in results:
        if r is None:
            continue
        raw = r._raw if type(r) in TENSORS else r
        if bool(xp.any(xp.isnan(raw))):
            where = "".join(node.extra["trace"]) if node.extra else ""
            raise GraphError(f"{node.name} gave a NaN gradient; it was recorded here:\n{where}")
