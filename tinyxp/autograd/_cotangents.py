"""The rules of a node applied: to arrays of the library, or to Tensors where the pass is itself recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import Aval, Leaf, Node, Tensor, fresh, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp.backend import Device

_REAL = frozenset({float, int})
_SMALL, _LARGE = 1e-4, 6e4  # within the normal numbers of half precision


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
        axes = (
            *range(extra),
            *(i + extra for i, s in enumerate(shape) if s == 1 != g.shape[i + extra]),
        )
        if axes:
            g, made = xp.sum(g, axis=axes, keepdims=True), True
        g = xp.reshape(g, tuple(shape))
    if g.dtype != aval.dtype:
        if dtypes.of(g.dtype).kind == "c" and dtypes.of(aval.dtype).kind != "c":
            g = xp.real(g)
        g, made = xp.astype(g, aval.dtype), True
    return g, made


def raw_cotangents(node: Node, gs: list[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
    """Apply the rules of `node` to arrays of the library, for the arguments that `needs` names.

    The caller has made the library quiet about infinite and NaN results (`Backend.quiet`).
    """
    op, xp = node.op, node.device.xp
    g = gs[0] if node.nout == 1 else _complete(node, gs)
    if op.ordinary or op.each is not None:
        return _apply(xp, node, g, node.out, node.args, needs)
    if op.joint is not None:
        results: Sequence[Any] = op.joint(node, g, needs)
        return results
    if op.custom is not None:
        gs = [_lent(x, node.device) for x in (g if node.nout > 1 else [g])]
        results = op.custom(node, gs, needs)
    else:
        results = _apply(namespace(), node, wrap(g, node.device), node.out, node.args, needs)
    return [r if r is None else fresh(r)._raw for r in results]


def _lent(g: Any, device: Device) -> Tensor:
    """Return a cotangent as a Tensor for a user's function: others may hold the array, so writes copy first."""
    t = wrap(g, device)
    t._shared = True
    return t


def _complete(node: Node, gs: list[Any]) -> list[Any]:
    """Fill in zeros for the outputs that nobody used."""
    zeros = node.device.xp.zeros
    return [
        zeros(a.shape, dtype=a.dtype, device=a.device) if g is None else g
        for g, a in zip(gs, node.aval, strict=True)
    ]


def _apply(
    xp: Any, node: Node, g: Any, out: Any, args: Any, needs: tuple[bool, ...]
) -> Sequence[Any]:
    op, kwargs = node.op, node.kwargs
    if op.each is not None:
        each = op.each
        return [
            each(xp, g, out, args, i=i, **kwargs) if need else None for i, need in enumerate(needs)
        ]
    found = [
        rule(xp, g, out, *args, **kwargs) if need and rule is not None else None
        for need, rule in zip(needs, op.rules, strict=False)
    ]
    if not op.guard or surely_tame(node):
        return found
    finite = node.device.backend.surely_finite
    return [
        r if r is None or finite(r._raw if type(r) is Tensor else r) else keep_zero(xp, g, r)
        for r in found
    ]


def surely_tame(node: Node) -> bool:
    """Whether the local derivative is nothing but a number that no floating dtype rounds to 0 or infinity."""
    if node.out is not None or len(node.args) != 2:  # noqa: PLR2004 - an operation on a Tensor and a number
        return False
    aval, number = node.args
    if type(aval) is not Aval:
        aval, number = number, aval
    return type(number) in _REAL and type(aval) is Aval and _SMALL < abs(number) < _LARGE


def keep_zero(xp: Any, g: Any, r: Any) -> Any:
    """Let a zero cotangent stay zero where the local derivative is infinite or NaN."""
    return xp.where((g == 0) & ~xp.isfinite(r), xp.zeros_like(r), r)


def namespace() -> Any:
    from tinyxp import ops

    return ops


def taped_cotangents(node: Node, gs: list[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
    """Apply the rules of `node` to Tensors that are part of the graph; the rest as for `raw_cotangents`."""
    xp = namespace()
    op, device = node.op, node.device
    assert type(node.args) is tuple  # noqa: S101 - the caller looked
    if node.nout > 1:
        gs = [
            xp.zeros(a.shape, dtype=dtypes.of(a.dtype), device=device) if g is None else g
            for g, a in zip(gs, node.aval, strict=True)
        ]
    if op.custom is not None:
        results: Sequence[Any] = op.custom(node, gs, needs)
        return results
    g = gs[0] if node.nout == 1 else gs
    args = tuple(
        _lift(a, p, i, device)
        for a, p, i in zip(
            node.args,
            _padded(node.parents, len(node.args), None),
            _padded(node.indices, len(node.args), 0),
            strict=True,
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
    return _apply(xp, node, g, out, args, needs)


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
    from tinyxp.autograd._graph import backward
    from tinyxp.ops import _dispatch

    inputs = [a for a, p in zip(args, node.parents, strict=False) if p is not None]
    leaves = [stand_in(t) for t in inputs]
    swap = dict(zip(map(id, inputs), leaves, strict=True))
    out = _dispatch.composite(node.op.name)(*(swap.get(id(a), a) for a in args), **node.kwargs)
    found = iter(
        backward([out], [g], inputs=leaves, create_graph=True, accumulate=False, stop=True)
    )
    return [None if p is None else next(found) for p in node.parents]


def stand_in(t: Tensor) -> Tensor:
    """Return a Tensor of the same value one recorded step further, to differentiate with respect to."""
    from tinyxp import ops

    return ops.positive(t)
