"""Error functions and the normal distribution."""

from __future__ import annotations

from tinyxp.ops._elementwise import erf as erf
from tinyxp.special._define import make

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
