"""Derivatives of functions: `grad`, `vjp`, `jvp`, Jacobians and Hessians, nested to any depth.

Arguments and results may be nested dicts, lists and tuples of Tensors. Forward mode costs no second table:
the vjp is linear in the cotangent, so its own vjp is the jvp (J. Townsend, "A new trick for calculating
Jacobian vector products", 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import ops
from tinyxp._core import MODE, TENSORS, Leaf, Tensor, fresh, grad_mode, save_mark, set_leaf, wrap
from tinyxp.autograd import _graph, _tree
from tinyxp.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Tree = Any
Function = Any  # Callable[..., Tree]


class _Inputs:
    """The arguments of a function, as Tensors of their own to differentiate with respect to."""

    def __init__(self, tree: Tree) -> None:
        originals = _tree.leaves(tree)
        self.outer = MODE.grad and any(fresh(t)._node is not None for t in originals)
        self.leaves = [_stand_in(t) for t in originals]
        self.tree = _tree.rebuilt(tree, iter(self.leaves))

    def grads(
        self,
        outputs: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        *,
        record: bool = False,
    ) -> list[Tensor]:
        """Return the gradients, zero where the outputs do not depend on an input."""
        pairs = [
            (o, c) for o, c in zip(outputs, cotangents, strict=True) if fresh(o)._node is not None
        ]
        create = record or self.outer or self._others([o for o, _ in pairs])
        found = _graph.backward(
            [o for o, _ in pairs], [c for _, c in pairs], inputs=self.leaves,
            create_graph=create, retain_graph=True, accumulate=False, stop=True,
        )  # fmt: skip
        return [
            ops.zeros_like(t) if g is None else g for g, t in zip(found, self.leaves, strict=True)
        ]

    def _others(self, outputs: Sequence[Tensor]) -> bool:
        """Whether the outputs also depend on something outside that requires grad."""
        if not MODE.grad:
            return False
        mine = {t._node for t in self.leaves}
        order = _graph.order_of([o._node for o in outputs if o._node is not None], mine)  # type: ignore[arg-type]  # not None: filtered above
        return any(type(n) is Leaf and n not in mine for n in order)


def _stand_in(t: Tensor) -> Tensor:
    """Return a Tensor of the same value, which later writes to `t` do not change."""
    if t._node is not None and MODE.grad:
        return ops.positive(t)
    held: list[Any] = []
    save_mark(fresh(t), held)
    if held:  # a parameter: writes are noticed
        return t.detach().requires_grad_()
    leaf = wrap(t._raw, t._device)
    set_leaf(leaf)
    leaf._shared = True
    return leaf


def _chosen(args: tuple[Any, ...], argnums: int | tuple[int, ...]) -> Tree:
    n = len(args)
    for i in (argnums,) if isinstance(argnums, int) else argnums:
        if not -n <= i < n:
            raise ValueError(f"argnums {i} is out of range for {n} arguments")
    return args[argnums] if isinstance(argnums, int) else tuple(args[i] for i in argnums)


def _filled(args: tuple[Any, ...], argnums: int | tuple[int, ...], chosen: Tree) -> list[Any]:
    new = list(args)
    for i, value in (
        zip((argnums,), (chosen,), strict=True)
        if isinstance(argnums, int)
        else zip(argnums, chosen, strict=True)
    ):
        new[i] = value
    return new


def _scalar(out: Any) -> Tensor:
    if type(out) not in TENSORS or ops._dispatch.size_of(out._raw.shape) != 1:
        raise ShapeError(
            f"grad expects a function that returns a single element; got {ops._dispatch.describe(out)}; "
            "use vjp or jacrev for others"
        )
    return out  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker


def _ended(tree: Tree, *, keep: bool) -> Tree:
    """Return a result outside the inner graph, unless an outer one needs it."""
    if keep:
        return tree
    return _tree.rebuilt(
        tree,
        iter([t.detach() if t._node is not None else t for t in map(fresh, _tree.leaves(tree))]),
    )


def value_and_grad(
    f: Function, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that gives the value and the gradient of `f`.

    Parameters
    ----------
    f : callable
        Returns a single element, or with `has_aux` a pair of it and anything else.
    argnums : int or tuple of int
        With respect to which positional arguments, each a Tensor or a nest of Tensors.
    has_aux : bool
        Whether `f` returns a pair.

    Returns
    -------
    callable
        Takes the arguments of `f`, returns ``(value, gradient)`` or ``((value, aux), gradient)``; the
        gradient has the structure of the argument, or is a tuple of those.

    Examples
    --------
    >>> import tinyxp as xp
    >>> value, g = value_and_grad(lambda x: xp.sum(x**2))(xp.Tensor([1.0, 3.0]))
    >>> value.item(), g.tolist()
    (10.0, [2.0, 6.0])
    """

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        inputs = _Inputs(_chosen(args, argnums))
        with grad_mode(True):  # noqa: FBT003 - the mode is the argument
            out = f(*_filled(args, argnums, inputs.tree), **kwargs)
        value, aux = out if has_aux else (out, None)
        gs = inputs.grads([_scalar(value)], [None])
        keep = inputs.outer or (MODE.grad and any(g._node is not None for g in gs))
        g = _tree.rebuilt(_chosen(args, argnums), iter(gs))
        result = _ended((value, aux) if has_aux else value, keep=keep)
        return result, g

    return differentiated


def grad(
    f: Function, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that gives the gradient of `f`; the parameters are those of `value_and_grad`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> grad(grad(lambda x: x**3))(xp.Tensor(2.0)).item()
    12.0
    """
    both = value_and_grad(f, argnums, has_aux=has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def vjp(f: Function, *primals: Tree) -> tuple[Tree, Callable[..., tuple[Tree, ...]]]:
    """Return ``f(*primals)`` and the function that multiplies a cotangent with the Jacobian.

    Parameters
    ----------
    f : callable
    *primals : Tensor or nest of Tensors

    Returns
    -------
    out
        The value.
    vjp_fn : callable
        Takes a cotangent of the structure of `out`, returns a tuple of cotangents of the primals; may be
        called more than once.

    Examples
    --------
    >>> import tinyxp as xp
    >>> out, f = vjp(xp.sin, xp.Tensor(0.0))
    >>> f(xp.Tensor(3.0))[0].item()
    3.0
    """
    inputs = _Inputs(primals)
    with grad_mode(True):  # noqa: FBT003 - the mode is the argument
        out = f(*inputs.tree)

    def vjp_fn(cotangent: Tree) -> tuple[Tree, ...]:
        outs, cs = _tree.leaves(out), _tree.leaves(cotangent)
        if len(outs) != len(cs):
            raise ShapeError(
                f"the cotangent must have the structure of the result: {len(outs)} Tensors; got {len(cs)}"
            )
        recorded = MODE.grad and any(fresh(c)._node is not None for c in cs)
        found: tuple[Tree, ...] = _tree.rebuilt(
            primals, iter(inputs.grads(outs, cs, record=recorded))
        )
        return found

    return _ended(out, keep=inputs.outer or inputs._others(_tracked(out))), vjp_fn


def _tracked(tree: Tree) -> list[Tensor]:
    return [t for t in _tree.leaves(tree) if fresh(t)._node is not None]


def jvp(f: Function, primals: Sequence[Tree], tangents: Sequence[Tree]) -> tuple[Tree, Tree]:
    """Return ``f(*primals)`` and the derivative in the direction of `tangents`.

    Parameters
    ----------
    f : callable
    primals, tangents : sequence of Tensor or nest of Tensors
        Of equal structures and shapes.

    Returns
    -------
    out, tangent
        Of the structure of the result.

    Examples
    --------
    >>> import tinyxp as xp
    >>> out, tangent = jvp(xp.exp, (xp.Tensor(0.0),), (xp.Tensor(2.0),))
    >>> out.item(), tangent.item()
    (1.0, 2.0)
    """
    primals, tangents = tuple(primals), tuple(tangents)
    inputs = _Inputs(primals)
    ts = _tree.leaves(tangents)
    _same_shapes(inputs.leaves, ts)
    with grad_mode(True):  # noqa: FBT003 - the mode is the argument
        out = f(*inputs.tree)
        outs = _tree.leaves(out)
        dummies = [
            ops.ones_like(o).requires_grad_() if fresh(o)._node is not None else None for o in outs
        ]
        gs = inputs.grads(outs, dummies, record=True)
    wanted = [d for d in dummies if d is not None]
    outer = inputs.outer or any(fresh(t)._node is not None for t in ts)
    create = MODE.grad and (outer or inputs._others(_tracked(out)))
    pairs = [(g, t) for g, t in zip(gs, ts, strict=True) if g._node is not None]
    found = iter(
        _graph.backward(
            [g for g, _ in pairs], [t for _, t in pairs], inputs=wanted,
            create_graph=create, retain_graph=True, accumulate=False, stop=True,
        )
    )  # fmt: skip
    results = []
    for o, d in zip(outs, dummies, strict=True):
        r = None if d is None else next(found)
        results.append(ops.zeros_like(o) if r is None else r)
    return _ended(out, keep=create), _tree.rebuilt(out, iter(results))


def _same_shapes(primals: Sequence[Tensor], tangents: Sequence[Tensor]) -> None:
    mine, theirs = [t.shape for t in primals], [t.shape for t in tangents]
    if mine != theirs:
        raise ShapeError(f"tangents must have the shapes of the primals, {mine}; got {theirs}")


def _basis(t: Tensor) -> list[Tensor]:
    n = t.size
    rows = ops.eye(n, dtype=t.dtype, device=t.device)
    return [ops.reshape(rows[i], t.shape) for i in range(n)]


def jacrev(f: Function, argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return a function that gives the Jacobian of `f`, row by row in reverse mode.

    Parameters
    ----------
    f : callable
        Returns one Tensor.
    argnums : int or tuple of int

    Returns
    -------
    callable
        Gives for every Tensor of the argument one of shape ``out.shape + argument.shape``.

    Examples
    --------
    >>> import tinyxp as xp
    >>> jacrev(lambda x: x**2)(xp.Tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        chosen = _chosen(args, argnums)
        out, pull = vjp(lambda part: f(*_filled(args, argnums, part), **kwargs), chosen)
        if type(out) not in TENSORS:
            raise ShapeError(
                f"jacrev expects a function that returns one Tensor; got {type(out).__name__}"
            )
        rows = [_tree.leaves(pull(e)[0]) for e in _basis(out)]
        shapes = [(*out.shape, *t.shape) for t in _tree.leaves(chosen)]
        columns = zip(*rows, strict=True) if rows else [()] * len(shapes)
        parts = [
            ops.reshape(ops.stack(c), s) if c else ops.zeros(s, dtype=out.dtype, device=out.device)
            for c, s in zip(columns, shapes, strict=True)
        ]
        return _tree.rebuilt(chosen, iter(parts))

    return jacobian


def jacfwd(f: Function, argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return a function that gives the Jacobian of `f`, column by column in forward mode.

    Parameters and result are those of `jacrev`; better where there are fewer inputs than outputs.

    Examples
    --------
    >>> import tinyxp as xp
    >>> jacfwd(lambda x: x**2)(xp.Tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        chosen = _chosen(args, argnums)
        originals = _tree.leaves(chosen)

        def part(*tensors: Tensor) -> Any:
            return f(*_filled(args, argnums, _tree.rebuilt(chosen, iter(tensors))), **kwargs)

        zeros = [ops.zeros_like(t) for t in originals]
        parts = []
        for i, t in enumerate(originals):
            columns = [jvp(part, originals, [*zeros[:i], e, *zeros[i + 1 :]])[1] for e in _basis(t)]
            if columns:
                joined = ops.stack(columns, axis=-1)
                parts.append(ops.reshape(joined, (*columns[0].shape, *t.shape)))
            else:
                out = part(*originals)
                parts.append(ops.zeros((*out.shape, *t.shape), dtype=out.dtype, device=out.device))
        return _tree.rebuilt(chosen, iter(parts))

    return jacobian


def hessian(f: Function, argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return a function that gives the Hessian of `f`, which returns a single element.

    Examples
    --------
    >>> import tinyxp as xp
    >>> hessian(lambda x: xp.prod(x))(xp.Tensor([2.0, 3.0])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return jacfwd(jacrev(f, argnums), argnums)


def hvp(f: Function, primals: Sequence[Tree], tangents: Sequence[Tree]) -> tuple[Tensor, Tree]:
    """Return the value of `f` and its Hessian times `tangents`, without forming the Hessian.

    Parameters
    ----------
    f : callable
        Returns a single element.
    primals, tangents : sequence of Tensor or nest of Tensors

    Returns
    -------
    value : Tensor
    product
        A tuple of the structure of `primals`; for a single primal, its structure.

    Examples
    --------
    >>> import tinyxp as xp
    >>> value, product = hvp(lambda x: xp.sum(x**3), (xp.Tensor([1.0, 2.0]),), (xp.Tensor([1.0, 0.0]),))
    >>> product.tolist()
    [6.0, 0.0]
    """
    primals, tangents = tuple(primals), tuple(tangents)
    numbers = tuple(range(len(primals)))
    (value, _), (_, product) = jvp(value_and_grad(f, numbers), primals, tangents)
    return value, product[0] if len(primals) == 1 else product
