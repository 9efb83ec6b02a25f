"""Tensors and gradients: the first steps with tinyxp.

Run it: ``python examples/tensors_and_gradients.py``. With ``--device cuda`` the same code runs on a GPU.
"""

from __future__ import annotations

import argparse

import tinyxp as xp
from tinyxp.testing import gradcheck


def arrays() -> None:
    """Use `tinyxp` as an array namespace: what you know from NumPy, under the standard's names."""
    a = xp.reshape(xp.arange(6, dtype=xp.float32), (2, 3))
    print("a + 1\n", (a + 1).tolist())
    print("columns added up", xp.sum(a, axis=0).tolist())
    print("a times its transpose", (a @ a.T).tolist())


def gradients() -> None:
    """Collect the gradient of what is computed from a Tensor made with ``requires_grad=True``."""
    x = xp.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = xp.sum(x**2)
    y.backward()
    print("the gradient of the sum of squares is 2 x:", x.grad.tolist())

    (3 * x[0]).backward()  # a second backward adds to what is there
    print("gradients add up:", x.grad.tolist())
    x.grad = None

    with xp.no_grad():  # nothing is recorded here
        z = x * 2
    print("recorded?", z.requires_grad)


def second_derivatives() -> None:
    """Differentiate a gradient: with ``create_graph=True`` it is itself part of the graph."""
    x = xp.Tensor(0.5, requires_grad=True)
    (slope,) = xp.autograd.grad(xp.sin(x), [x], create_graph=True)
    (curvature,) = xp.autograd.grad(slope, [x])
    print("sin, cos, -sin at 0.5:", *(f"{float(v):.4f}" for v in (xp.sin(x), slope, curvature)))


def check() -> None:
    """Compare a gradient with finite differences."""
    x = xp.Tensor([[0.1, -0.4], [0.7, 0.2]], dtype=xp.float64, requires_grad=True)
    gradcheck(lambda t: xp.tanh(t @ t), x)
    print("the gradient of tanh(x @ x) agrees with finite differences")


def descent(steps: int) -> float:
    """Fit a line to points by hand: compute the loss, call backward, take a step."""
    rng = xp.random.Generator(0)
    x = rng.uniform(64, low=-1.0)
    y = 3.0 * x - 1.0 + rng.normal(64, std=0.1)
    slope = xp.Tensor(0.0, requires_grad=True)
    offset = xp.Tensor(0.0, requires_grad=True)
    for _ in range(steps):
        loss = xp.mean((slope * x + offset - y) ** 2)
        slope.grad = offset.grad = None
        loss.backward()
        with xp.no_grad():
            slope -= 0.5 * slope.grad
            offset -= 0.5 * offset.grad
    print(f"y = {float(slope):.2f} x + {float(offset):.2f}, mean squared error {float(loss):.4f}")
    return float(loss)


def main(argv: list[str] | None = None) -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--smoke", action="store_true", help="a shorter run, for the tests")
    args = parser.parse_args(argv)
    with xp.use_device(args.device):
        arrays()
        gradients()
        second_derivatives()
        check()
        loss = descent(20 if args.smoke else 200)
    if not loss < 0.05:  # noqa: PLR2004 - the noise has a variance of 0.01
        raise SystemExit(f"the line does not fit: mean squared error {loss}")


if __name__ == "__main__":
    main()
