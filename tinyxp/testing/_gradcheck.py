"""Derivatives against finite differences, along a random direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp import dtypes, func, ops
from tinyxp.errors import DTypeError
from tinyxp.random import Generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyxp._core import Tensor

__all__ = ["GradientError", "gradcheck"]

# Fourth-order central differences (B. Fornberg, Math. Comp. 51, 1988): f(x + k h t) times these.
_STENCIL = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))


class GradientError(AssertionError):
    """A derivative that differs from finite differences."""


def gradcheck(
    f: Callable[..., Any],
    *primals: Tensor,
    order: int = 2,
    rtol: float = 1e-6,
    step: float = 1e-3,
    seed: int = 0,
) -> None:
    """Compare the derivatives of `f`, in reverse and forward mode, with finite differences.

    Along one random direction t and for one random cotangent w it checks that the vjp gives <vjp(w), t> and
    the jvp <w, jvp(t)> equal to the difference quotient of <w, f>, then does the same to the vjp itself.

    Parameters
    ----------
    f : callable
        Takes the primals, returns a Tensor or a tuple of Tensors.
    *primals : Tensor
        Floating, double precision; away from points where `f` has a kink within ``2 * step``.
    order : int
        How often to differentiate.
    rtol : float
        Allowed difference, relative to the larger of 1 and the size of the terms; ten times that from the
        second order on.
    step : float
        Of the fourth-order central difference.
    seed : int
        Of the random directions.

    Raises
    ------
    GradientError
        If a derivative differs.
    DTypeError
        If a primal is not of double precision.

    Examples
    --------
    >>> import tinyxp as xp
    >>> gradcheck(lambda x: xp.sin(x) * x, xp.asarray([0.1, 2.0], dtype="float64"))
    """
    for i, p in enumerate(primals):
        if p.dtype.name not in ("float64", "complex128"):
            raise DTypeError(f"gradcheck needs double precision; primal {i} has dtype {p.dtype}")
    how = _Tolerance(rtol, step, Generator(seed))
    _check(f, [p.detach() for p in primals], order, how, "")


def _random_like(x: Tensor, generator: Generator) -> Tensor:
    real = generator.normal(x.shape, dtype="float64", device=x.device)
    if x.dtype.kind != "c":
        return real
    return real + 1j * generator.normal(x.shape, dtype="float64", device=x.device)


def _inner(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> float:
    """Return the real part of <x, y>, summed over the pairs."""
    total = 0.0
    for x, y in zip(xs, ys, strict=True):
        if y.size:
            product = ops.conj(x) * y if x.dtype.kind == "c" else x * y
            total += float(ops.real(ops.sum(product)))
    return total


def _outputs(out: Any) -> list[Tensor]:
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    return [o for o in outs if o.dtype.kind in "fc"]


class _Tolerance(NamedTuple):
    rtol: float
    step: float
    generator: Generator


def _check(
    f: Callable[..., Any], primals: list[Tensor], order: int, how: _Tolerance, path: str
) -> None:
    rtol, step, generator = how
    outs = [o.detach() for o in _outputs(f(*primals))]
    tangents = [_random_like(p, generator) for p in primals]
    weights = [_random_like(o, generator) for o in outs]

    def moved(k: int) -> list[Tensor]:
        return _outputs(f(*[p + (k * step) * t for p, t in zip(primals, tangents, strict=True)]))

    expected = sum(c * _inner(weights, [o.detach() for o in moved(k)]) for k, c in _STENCIL) / step
    scale = max(
        1.0, abs(expected), *(abs(_inner([w], [o])) for w, o in zip(weights, outs, strict=True))
    )
    reverse = _vjp(f, weights)
    found = {"reverse": _inner(reverse(*primals), tangents)}
    _, pushed = func.jvp(lambda *a: tuple(_outputs(f(*a))), primals, tangents)
    found["forward"] = _inner(weights, pushed)
    for mode, value in found.items():
        if not abs(value - expected) <= rtol * scale:
            name = getattr(f, "__name__", "f")
            raise GradientError(
                f"{path}{name}: the {mode}-mode derivative is {value!r}, finite differences give {expected!r} "
                f"(allowed: {rtol * scale:.3g}); primals {[(p.shape, dtypes.of(p.data.dtype).name) for p in primals]}"
            )
    if order > 1:
        _check(reverse, primals, order - 1, how._replace(rtol=10 * rtol), f"{path}vjp of ")


def _vjp(f: Callable[..., Any], weights: list[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    def reverse(*primals: Tensor) -> tuple[Tensor, ...]:
        _, pull = func.vjp(lambda *a: tuple(_outputs(f(*a))), *primals)
        return pull(tuple(weights))

    reverse.__name__ = getattr(f, "__name__", "f")
    return reverse
