"""Derivatives of a solution without the steps that led to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import ops
from tinyxp._core import TENSORS, Tensor
from tinyxp.autograd._function import Function
from tinyxp.autograd._functional import jacrev, vjp
from tinyxp.autograd._modes import no_grad
from tinyxp.errors import GraphError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp.autograd._function import Context


def custom_root(f: Callable[..., Tensor], solver: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that solves ``f(x, *params) = 0`` for x and is differentiable in the parameters.

    The implicit function theorem gives ``dx = -J^{-1} df`` with J the Jacobian of `f` in x, so that nothing
    of the solver is recorded, and any solver will do. Derivatives of any order. The approach is that of
    M. Blondel and others, "Efficient and modular implicit differentiation", arXiv:2105.15183.

    Parameters
    ----------
    f : callable
        ``f(x, *params)`` returns a Tensor of the shape of x.
    solver : callable
        ``solver(*params)`` returns the root, a Tensor; it runs outside the graph.

    Returns
    -------
    callable
        Takes the parameters, Tensors, and returns the root.

    Raises
    ------
    ShapeError
        In backward, if `f` does not keep the shape of x.

    Examples
    --------
    >>> import tinyxp as xp
    >>> cube_root = custom_root(lambda x, a: x**3 - a, lambda a: a ** (1 / 3))
    >>> a = xp.Tensor([8.0], requires_grad=True)
    >>> cube_root(a).sum().backward()
    >>> round(a.grad.item(), 5)  # 1 / (3 * 2**2)
    0.08333
    """

    class Root(Function):
        @staticmethod
        def forward(ctx: Context, *params: Any) -> Tensor:
            x = solver(*params)
            if type(x) not in TENSORS:
                raise GraphError(
                    f"custom_root expects a solver that returns a Tensor; got {type(x).__name__}"
                )
            ctx.save_for_backward(x, *params)
            return x

        @staticmethod
        def backward(ctx: Context, *grads: Tensor) -> Any:
            x, *params = ctx.saved_tensors
            jacobian = jacrev(lambda y: f(y, *params))(x)
            if jacobian.shape != (*x.shape, *x.shape):
                raise ShapeError(
                    f"custom_root expects f to keep the shape of x, {x.shape}; its Jacobian has {jacobian.shape}"
                )
            n = x.size
            square = ops.reshape(jacobian, (n, n))
            v = ops.linalg.solve(ops.matrix_transpose(square), ops.reshape(grads[0], (n, 1)))
            tensors = [p for p, need in zip(params, ctx.needs_input_grad, strict=True) if need]

            def residual(*chosen: Tensor) -> Tensor:
                rest = iter(chosen)
                pairs = zip(params, ctx.needs_input_grad, strict=True)
                return f(x, *[next(rest) if need else p for p, need in pairs])

            _, pull = vjp(residual, *tensors)
            found = iter(pull(-ops.reshape(v, x.shape)))
            return tuple(next(found) if need else None for need in ctx.needs_input_grad)

    apply: Callable[..., Tensor] = Root.apply
    return apply


def root(
    f: Callable[..., Tensor],
    x0: Tensor,
    *params: Any,
    tol: float | None = None,
    max_steps: int = 100,
) -> Tensor:
    """Return the solution of ``f(x, *params) = 0`` near `x0`, differentiable in the parameters.

    Newton's method finds it; `custom_root` differentiates it.

    Parameters
    ----------
    f : callable
        ``f(x, *params)`` returns a Tensor of the shape of x.
    x0 : Tensor, shape (...)
        Where to start.
    *params : Tensor or any
        Further arguments of `f`.
    tol : float, optional
        Largest residual allowed; by default 100 times the precision of the dtype.
    max_steps : int

    Raises
    ------
    GraphError
        If Newton's method does not get there.

    Examples
    --------
    >>> import tinyxp as xp
    >>> a = xp.Tensor(2.0, requires_grad=True)
    >>> x = root(lambda x, a: x * x - a, xp.Tensor(1.0), a)
    >>> x.backward()
    >>> round(x.item(), 4), round(a.grad.item(), 4)  # sqrt(2) and 1 / (2 sqrt(2))
    (1.4142, 0.3536)
    """
    limit = 100 * ops.finfo(x0.dtype).eps if tol is None else tol

    def newton(*values: Any) -> Tensor:
        x = x0.detach()
        for _ in range(max_steps):
            r = f(x, *values)
            if not float(ops.max(ops.abs(r))) > limit:
                return x
            n = x.size
            jacobian = ops.reshape(jacrev(lambda y: f(y, *values))(x), (n, n)).detach()
            step = ops.linalg.solve(jacobian, ops.reshape(r, (n, 1)))
            with no_grad():
                x = x - ops.reshape(step, x.shape)
        raise GraphError(
            f"root: Newton's method did not reach a residual of {limit:.3g} in {max_steps} steps; start nearer "
            "to the solution, or use custom_root with a solver of your own"
        )

    return custom_root(f, newton)(*params)
