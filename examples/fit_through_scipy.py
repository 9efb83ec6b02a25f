"""Find a planet's orbit by gradients through SciPy's root finder, which nobody wrote for gradients.

A star that a planet pulls to and fro has a radial velocity that Kepler's equation gives: E - e sin(E) = M,
to be solved for E at every time. `scipy.optimize.elementwise.find_root` solves it on Tensors, and the
gradient of the misfit goes back through its iterations. ``scipy.optimize.minimize`` takes that gradient.

    python examples/fit_through_scipy.py

SciPy accepts arrays of other libraries when ``SCIPY_ARRAY_API=1`` is set before it is imported.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from typing import Any

os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
from scipy import optimize
from scipy.optimize import elementwise

import tinyxp as xp

NAMES = "period in days, eccentricity, time of closest approach, argument, amplitude in m/s, velocity in m/s"
TRUTH = [11.2, 0.35, 3.1, 0.8, 55.0, -4.0]
GUESS = [11.0, 0.1, 2.5, 0.3, 40.0, 0.0]
NOISE = 1.5  # m/s


def velocities(orbit: xp.Tensor, times: xp.Tensor) -> xp.Tensor:
    """Return the radial velocity at `times`, shape (n,), of an `orbit`, shape (6,).

    From C. D. Murray and A. C. M. Correia, "Keplerian Orbits and Dynamics", 2010, equations 33, 41 and 65.
    """
    period, e, start, argument, amplitude, velocity = orbit
    phase = (times - start) / period
    mean = 2 * math.pi * (phase - xp.round(phase))  # between -pi and pi, where E is too
    bounds = (xp.full_like(times, -4.0), xp.full_like(times, 4.0))
    eccentric = elementwise.find_root(kepler, bounds, args=(e + 0 * mean, mean)).x
    anomaly = 2 * xp.atan2(
        xp.sqrt(1 + e) * xp.sin(eccentric / 2), xp.sqrt(1 - e) * xp.cos(eccentric / 2)
    )
    return amplitude * (xp.cos(anomaly + argument) + e * xp.cos(argument)) + velocity


def kepler(eccentric: xp.Tensor, e: xp.Tensor, mean: xp.Tensor) -> xp.Tensor:
    """Return what is zero at the eccentric anomaly."""
    return eccentric - e * xp.sin(eccentric) - mean


def misfit(orbit: xp.Tensor, times: xp.Tensor, seen: xp.Tensor) -> xp.Tensor:
    """Return half the mean square of what an orbit leaves unexplained, in units of the noise."""
    return xp.mean(((velocities(orbit, times) - seen) / NOISE) ** 2) / 2


def fit(times: xp.Tensor, seen: xp.Tensor) -> Any:
    """Minimise the misfit; the gradient is exact."""

    def value_and_gradient(parameters: Any) -> tuple[float, Any]:
        orbit = xp.Tensor(parameters, requires_grad=True)
        loss = misfit(orbit, times, seen)
        loss.backward()
        assert orbit.grad is not None  # noqa: S101 - it is a leaf
        return loss.item(), orbit.grad.numpy()

    limits = [(9, 13), (0, 0.9), (None, None), (None, None), (0, None), (None, None)]
    return optimize.minimize(
        value_and_gradient, GUESS, jac=True, method="L-BFGS-B", bounds=limits, tol=1e-12
    )


def check(times: xp.Tensor, seen: xp.Tensor) -> float:
    """Return how far the gradient is from central differences, relative to its length."""
    orbit = xp.Tensor(GUESS, requires_grad=True)
    misfit(orbit, times, seen).backward()
    assert orbit.grad is not None  # noqa: S101 - a check of the example
    found, h = orbit.grad.numpy(), 1e-5
    steps = h * np.eye(len(GUESS))
    differences = [
        (misfit(orbit.detach() + s, times, seen) - misfit(orbit.detach() - s, times, seen)).item()
        / (2 * h)
        for s in map(xp.asarray, steps)
    ]
    return float(np.linalg.norm(found - differences) / np.linalg.norm(found))


def main(argv: list[str] | None = None) -> int:
    """Make observations, check the gradient, fit, and compare with what was put in."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--smoke", action="store_true", help="few observations, for a quick check")
    n = 40 if parser.parse_args(argv).smoke else 200
    with xp.default_dtype("float64"):
        generator = xp.random.Generator(0)
        times = xp.sort(generator.uniform((n,), low=0, high=60))
        seen = velocities(xp.Tensor(TRUTH), times) + NOISE * generator.normal((n,))
        print(f"gradient and central differences differ by {check(times, seen):.0e}")
        began = time.perf_counter()
        result = fit(times, seen)
    print(
        f"{result.nfev} gradients in {time.perf_counter() - began:.1f} s, misfit {result.fun:.3f}"
    )
    for name, found, true in zip(NAMES.split(", "), result.x, TRUTH, strict=True):
        print(f"{name:28} {found:8.3f}   put in {true:8.3f}")
    right = abs(result.x[1] - TRUTH[1]) < 0.05  # noqa: PLR2004 - a few times its error
    print("the orbit is found" if right else "the orbit is not found")
    return int(not right)


if __name__ == "__main__":
    raise SystemExit(main())
