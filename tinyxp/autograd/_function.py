"""Operations with derivatives of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import MODE, TENSORS, Tensor, fresh, grad_mode, save_mark, snapshot, wrap
from tinyxp.autograd._record import Op, record
from tinyxp.errors import GraphError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyxp._core import Node


def record_custom(
    name: str,
    out: Any,
    inputs: Sequence[Any],
    vjp: Callable[[Node, list[Tensor], tuple[bool, ...]], Sequence[Tensor | None]],
    checks: Sequence[tuple[Tensor, int]] = (),
) -> None:
    """Make `out`, one Tensor or a tuple, part of the graph; ``vjp(node, gs, needs)`` differentiates it.

    `checks` are pairs (parameter, version) of the parameters whose arrays `vjp` reads.
    """
    line = Op(name)
    line.custom = vjp
    raws = [a._raw if type(a) in TENSORS else a for a in inputs]
    outs = out if isinstance(out, tuple) else (out,)
    floating = [o for o in outs if dtypes.of(o._raw.dtype).kind in "fc"]
    if floating:
        record(line, out, inputs, raws, {})
        floating[0]._node.checks = tuple(checks)


class Context:
    """What a `Function` keeps from forward to backward.

    Attributes
    ----------
    needs_input_grad : tuple of bool
        For each argument of forward, whether its gradient is wanted.
    saved_tensors : tuple of Tensor
        In backward: what forward saved.
    """

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self.saved_tensors: tuple[Any, ...] = ()
        self._to_save: tuple[Any, ...] = ()
        self._kept: list[tuple[Any, int | None]] = []
        self._checks: list[tuple[Tensor, int]] = []

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep arguments or results of forward, and nothing else, for backward."""
        self._to_save = tensors

    def _seal(self, inputs: Sequence[Any], outs: Sequence[Tensor]) -> None:
        """Keep arrays and places in the graph, not the results themselves: they hold the node that holds us."""
        for t in self._to_save:
            if type(t) not in TENSORS:
                self._kept.append((t, None))
                continue
            index = next((i for i, o in enumerate(outs) if o is t), None)
            save_mark(fresh(t), self._checks)
            kept = wrap(t._raw, t._device)
            kept._shared = True
            if any(t is a for a in inputs):
                kept._node, kept._index, index = t._node, t._index, None
            self._kept.append((kept, index))
        self._to_save = ()

    def _open(self, node: Node) -> None:
        found = []
        for t, index in self._kept:
            if index is not None:
                t = wrap(t._raw, t._device)  # noqa: PLW2901 - the result, at its place in the graph
                t._node, t._index, t._shared = node, index, True
            found.append(t)
        self.saved_tensors = tuple(found)

    def _close(self) -> None:
        self.saved_tensors = ()


class Function:
    """An operation with a forward and a backward of its own.

    Subclasses define ``forward(ctx, *args)``, which runs outside the graph, and ``backward(ctx, *grads)``,
    which returns one cotangent, or None, for each argument of forward. Written with tinyxp's own operations,
    backward can itself be differentiated.

    Examples
    --------
    >>> import tinyxp as xp
    >>> class Cube(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x * x * g
    >>> x = xp.Tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad.item()
    12.0
    """

    @staticmethod
    def forward(ctx: Context, *args: Any) -> Any:  # noqa: ARG004 - for a subclass
        """Compute the result; a subclass defines it."""
        raise GraphError("a Function must define forward(ctx, *args) as a static method")

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> Any:  # noqa: ARG004 - for a subclass
        """Return a cotangent for each argument of forward; a subclass defines it."""
        raise GraphError("a Function must define backward(ctx, *grads) as a static method")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the operation, and record it where an argument requires grad."""
        needs = tuple(type(a) in TENSORS and fresh(a)._node is not None for a in args)
        ctx = Context(needs)
        with grad_mode(False):  # noqa: FBT003 - the mode is the argument
            out = cls.forward(ctx, *args)
        if not (MODE.grad and any(needs)):
            return out
        returned = list(out) if isinstance(out, (tuple, list)) else [out]
        outs = [_own_tensor(o, args, cls.__name__) for o in returned]
        ctx._seal(args, returned)

        def vjp(node: Node, gs: list[Tensor], needs: tuple[bool, ...]) -> Sequence[Tensor | None]:
            ctx._open(node)
            try:
                found = cls.backward(ctx, *gs)
            finally:
                ctx._close()
            found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
            if len(found) != len(needs):
                raise GraphError(
                    f"{cls.__name__}.backward must return one cotangent for each of the {len(needs)} arguments "
                    f"of forward; got {len(found)}"
                )
            _check(cls.__name__, node, found)
            return found

        result: Any = tuple(outs) if isinstance(out, (tuple, list)) else outs[0]
        record_custom(cls.__name__, result, args, vjp, ctx._checks)
        return result


def _check(name: str, node: Node, found: Sequence[Any]) -> None:
    """Refuse cotangents that are no Tensors, or whose shapes do not reduce to those of the arguments."""
    for i, (r, p, index) in enumerate(zip(found, node.parents, node.indices, strict=True)):
        if r is None or p is None:
            continue
        if type(r) not in TENSORS:
            raise GraphError(
                f"{name}.backward must return Tensors or None; got {type(r).__name__} for argument {i}"
            )
        aval: Any = p.aval
        want = (aval if p.nout == 1 else aval[index]).shape
        have = r.shape
        if len(have) < len(want) or any(
            n not in (1, m) for n, m in zip(want[::-1], have[::-1], strict=False)
        ):
            raise ShapeError(
                f"{name}.backward must return a cotangent of the shape of argument {i}, {want}; got {have}"
            )


def _own_tensor(o: Any, args: Sequence[Any], name: str) -> Tensor:
    if type(o) not in TENSORS:
        raise GraphError(f"{name}.forward must return Tensors; got {type(o).__name__}")
    if any(o is a for a in args) or o._node is not None or o._alias is not None:
        return snapshot(o)
    return o  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker


def defvjp(
    function: Callable[..., Tensor], *rules: Callable[..., Tensor] | None
) -> Callable[..., Tensor]:
    """Return `function` with the derivative that the rules give.

    Parameters
    ----------
    function : callable
        Takes Tensors and other values, returns a Tensor. It may compute in any way it likes.
    *rules : callable or None
        For each argument ``rule(g, out, *args) -> cotangent``; None where it is not differentiable.

    Returns
    -------
    callable
        The same function, differentiable.

    Examples
    --------
    >>> import tinyxp as xp
    >>> softplus = defvjp(lambda x: xp.log1p(xp.exp(x)), lambda g, out, x: g * (1 - xp.exp(-out)))
    >>> x = xp.Tensor(0.0, requires_grad=True)
    >>> softplus(x).backward()
    >>> x.grad.item()
    0.5
    """

    class Wrapped(Function):
        @staticmethod
        def forward(ctx: Context, *args: Any) -> Tensor:
            out = function(*args)
            ctx.save_for_backward(out, *args)
            return out

        @staticmethod
        def backward(ctx: Context, *grads: Tensor) -> Any:
            out, *args = ctx.saved_tensors
            padded = [*rules, *[None] * (len(args) - len(rules))]
            wanted = zip(padded, ctx.needs_input_grad, strict=False)
            return tuple(None if r is None or not n else r(grads[0], out, *args) for r, n in wanted)

    Wrapped.__name__ = getattr(function, "__name__", "custom")
    apply = Wrapped.apply

    def differentiable(*args: Any) -> Tensor:
        floating = [a for a in args if type(a) in TENSORS and dtypes.of(a._raw.dtype).kind in "fc"]
        if not floating:
            return function(*args)
        out: Tensor = apply(*args)
        return out

    differentiable.__name__ = Wrapped.__name__
    differentiable.__doc__ = function.__doc__
    return differentiable
