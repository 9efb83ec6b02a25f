"""Walking back through what was recorded.

The backward pass is iterative and topological, so its cost is linear in the graph. Each node is freed as
it is passed. A plain pass runs the rules of the table on raw arrays with the backend's extended namespace;
with ``create_graph=True`` it runs the same rules on Tensors with tinyxp itself, and so records them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import TENSORS, Leaf, Node, Tensor, fresh, grad_mode, wrap
from tinyxp.autograd._cotangents import (
    fit,
    namespace,
    raw_cotangents,
    stand_in,
    taped_cotangents,
)
from tinyxp.errors import BACKWARD_TWICE, SAVED_MODIFIED, GraphError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def order_of(roots: Iterable[Node | Leaf], ends: Iterable[Node | Leaf] = ()) -> list[Node | Leaf]:
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
            self.arrived[key] = node.device.xp.add(before, value)
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
    return _cotangent(seed, o, "the cotangent")


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
                found[node, i] = self._grad(
                    node, g, owned=owned and (self.taped or type(node) is Leaf)
                )
            gs.append(g)
        if isinstance(node, Leaf):
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
            return g if owned else stand_in(g)
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
            t = t if new is None else _cotangent(new, t, "what a hook returns")
            g, owned = (t if self.taped else fresh(t)._raw), False
        if ("retain", i) in extra:
            grad = self._grad(node, g, owned=False)
            before = extra["retain", i]
            extra["retain", i] = grad if before is None else before + grad
        return g, owned

    def _pass_on(self, node: Node, gs: list[Any]) -> None:
        if node.args is None:
            raise GraphError(BACKWARD_TWICE)
        while not isinstance(node.args, tuple):  # a checkpoint, perhaps in another
            node.args.restore()
        for t, version in node.checks:
            if t._version != version:
                raise GraphError(
                    SAVED_MODIFIED.format(
                        what=f"a parameter of shape {tuple(t._raw.shape)}, saved by {node.name}"
                    )
                )
        wanted = self.wanted
        needs = tuple([p is not None and (wanted is None or p in wanted) for p in node.parents])
        if node.device.scoped and not self.taped:
            with node.device.backend.scope(node.device.local):
                results = raw_cotangents(node, gs, needs)
        else:
            results = (taped_cotangents if self.taped else raw_cotangents)(node, gs, needs)
        fresh_ones = not node.op.passes and node.op.custom is None
        for p, index, r in zip(node.parents, node.indices, results, strict=False):
            if p is None or r is None or (wanted is not None and p not in wanted):
                continue
            aval = p.aval[index] if type(p.aval) is tuple else p.aval
            if node.extra is not None and "trace" in node.extra:
                _check_nan(node, r)
            value, made = fit(namespace() if self.taped else node.device.xp, r, aval)
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
