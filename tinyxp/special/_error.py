"""Error functions and the normal distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import ops
from tinyxp.special._define import document, floating, make

if TYPE_CHECKING:
    from tinyxp._core import Tensor


def erf(x: Any, /) -> Tensor:
    """Return ``tinyxp.erf``, which takes floating Tensors alone, of integers too."""
    found: Tensor = ops.erf(*floating("erf", (x,)))
    return found


document(
    erf,
    "erf",
    "x",
    "the error function, 2/sqrt(pi) times the integral of exp(-t²) from 0 to x",
    "xp.Tensor(1.0)",
    result=0.8427,
)

erfc = make("erfc", "x", "the complementary error function, 1 - erf(x)", "xp.Tensor(1.0)", 0.1573)
erfcx = make(
    "erfcx",
    "x",
    "the scaled complementary error function, exp(x²) erfc(x)",
    "xp.Tensor(1.0)",
    0.4276,
)
erfi = make("erfi", "x", "the imaginary error function, -i erf(i x)", "xp.Tensor(1.0)", 1.6504)
erfinv = make("erfinv", "x", "the inverse of `erf`", "xp.Tensor(0.5)", 0.4769)
erfcinv = make("erfcinv", "x", "the inverse of `erfc`", "xp.Tensor(0.5)", 0.4769)
dawsn = make(
    "dawsn", "x", "Dawson's integral, sqrt(pi) / 2 exp(-x²) erfi(x)", "xp.Tensor(1.0)", 0.5381
)
ndtr = make(
    "ndtr", "x", "the distribution function of the standard normal", "xp.Tensor(1.0)", 0.8413
)
ndtri = make("ndtri", "x", "the inverse of `ndtr`", "xp.Tensor(0.975)", 1.96)
log_ndtr = make(
    "log_ndtr", "x", "the logarithm of `ndtr`, without underflow", "xp.Tensor(-10.0)", -53.2313
)
ndtri_exp = make("ndtri_exp", "x", "the inverse of `log_ndtr`", "xp.Tensor(-53.2313)", -10.0)
owens_t = make(
    "owens_t",
    "h a",
    "Owen's T: the probability that X > h and 0 < Y < a X for standard normal X and Y",
    "xp.Tensor(1.0), 1.0",
    0.0667,
)

__all__ = [
    "dawsn", "erf", "erfc", "erfcinv", "erfcx", "erfi", "erfinv", "log_ndtr", "ndtr", "ndtri", "ndtri_exp",
    "owens_t",
]  # fmt: skip
