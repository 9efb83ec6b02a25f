"""An operation of your own, with its derivative: three ways, each checked.

Run it: ``python examples/custom_op.py``.
"""

from __future__ import annotations

import argparse
from typing import Any

import tinyxp as xp
from tinyxp.autograd import Function, defvjp
from tinyxp.testing import gradcheck


def composed(x: xp.Tensor) -> xp.Tensor:
    """Return x * sigmoid(x), of operations that tinyxp can differentiate: nothing to declare."""
    return x / (1 + xp.exp(-x))


class Swish(Function):
    """The same as one node, with a backward that keeps less: only x.

    The derivative of x s(x) is s(x) (1 + x (1 - s(x))), s the logistic function.
    """

    @staticmethod
    def forward(ctx: Any, x: xp.Tensor) -> xp.Tensor:
        """Compute outside the graph, and say what backward needs."""
        ctx.save_for_backward(x)
        return x / (1 + xp.exp(-x))

    @staticmethod
    def backward(ctx: Any, g: xp.Tensor) -> xp.Tensor:
        """Return the cotangent of x. Made of tinyxp's operations, it can be differentiated in turn."""
        (x,) = ctx.saved_tensors
        s = 1 / (1 + xp.exp(-x))
        return g * s * (1 + x * (1 - s))


# `defvjp` takes one rule for each argument: the cotangent g of the result, the result, the arguments.
# A smooth maximum: log(exp(x) + exp(y)), whose derivatives are shares that add up to 1.
smooth_max = defvjp(
    xp.logaddexp,
    lambda g, out, x, y: g * xp.exp(x - out),  # noqa: ARG005 - every rule gets all arguments
    lambda g, out, x, y: g * xp.exp(y - out),  # noqa: ARG005 - the arguments of every rule
)


class RoundThrough(Function):
    """Round, and pretend for the gradient that nothing was rounded (straight-through estimator)."""

    @staticmethod
    def forward(ctx: Any, x: xp.Tensor) -> xp.Tensor:
        """Round."""
        del ctx
        return xp.round(x)

    @staticmethod
    def backward(ctx: Any, g: xp.Tensor) -> xp.Tensor:
        """Pass the cotangent on."""
        del ctx
        return g


def main(argv: list[str] | None = None) -> None:
    """Check every operation against finite differences, and use them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--smoke", action="store_true", help="for the tests; the example is short anyway"
    )
    parser.parse_args(argv)

    x = xp.Tensor([-2.0, -0.1, 0.0, 1.5], dtype=xp.float64, requires_grad=True)
    y = xp.Tensor([1.0, -0.2, 0.0, 9.0], dtype=xp.float64, requires_grad=True)
    gradcheck(Swish.apply, x)
    gradcheck(smooth_max, x, y)
    print("both derivatives agree with finite differences")

    difference = xp.max(xp.abs(Swish.apply(x) - composed(x)))
    print(f"one node or several: the same to {float(difference):.1e}")

    (slope,) = xp.autograd.grad(xp.sum(Swish.apply(x)), [x], create_graph=True)
    (curvature,) = xp.autograd.grad(xp.sum(slope), [x])
    print("second derivative:", [f"{v:.3f}" for v in curvature.tolist()])

    weight = xp.Tensor([0.3, 1.7], requires_grad=True)
    xp.sum(RoundThrough.apply(weight) ** 2).backward()
    print("rounded:", xp.round(weight).tolist(), "gradient all the same:", weight.grad.tolist())


if __name__ == "__main__":
    main()
