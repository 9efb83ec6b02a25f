"""Differentiate what a solver found, without differentiating the solver.

A chain hangs under its own weight; its sag depends on the tension, through an equation that only a solver can
answer. The gradient of the sag tells which tension gives a wanted sag.

    python examples/implicit.py [--smoke] [--device cpu]
"""

from __future__ import annotations

import argparse

import tinyxp as xp
from tinyxp.func import root


def length_equation(a: xp.Tensor, half_span: xp.Tensor, half_length: xp.Tensor) -> xp.Tensor:
    """Return zero where a catenary y = a cosh(x / a) over the span has the given length."""
    return a * xp.sinh(half_span / a) - half_length


def sag(half_span: xp.Tensor, half_length: xp.Tensor) -> xp.Tensor:
    """Return how deep the middle of the chain hangs below its ends."""
    a = root(length_equation, xp.full_like(half_span, 1.0), half_span, half_length)
    return a * (xp.cosh(half_span / a) - 1)


def main(argv: list[str] | None = None) -> None:
    """Fit the length of a chain to a sag of 0.5 over a span of 2, by Newton's method on the gradient."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="fewer steps")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    with xp.use_device(args.device):
        fit(5 if args.smoke else 8)


def fit(steps: int) -> None:
    """Change the length until the sag is right, and print the way there."""
    half_span = xp.asarray([1.0], dtype="float64")
    half_length = xp.Tensor([1.3], dtype="float64", requires_grad=True)
    for step in range(steps):
        depth = sag(half_span, half_length)
        half_length.grad = None
        depth.sum().backward()
        print(
            f"step {step}: length {2 * half_length.item():.6f}, sag {depth.item():.9f}, "
            f"d sag / d length {half_length.grad.item() / 2:.6f}"
        )
        with xp.no_grad():
            half_length -= (depth - 0.5) / half_length.grad


if __name__ == "__main__":
    main()
