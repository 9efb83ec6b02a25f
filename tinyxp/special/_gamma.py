"""Gamma and beta functions, and zeta."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes, ops
from tinyxp._core import TENSORS
from tinyxp.ops import _dispatch
from tinyxp.special._define import HALF, floating, make

if TYPE_CHECKING:
    from tinyxp._core import Tensor

gammaln = make(
    "gammaln",
    "x",
    "the logarithm of the absolute value of the gamma function",
    "xp.Tensor(5.0)",
    3.1781,
)
gamma = make("gamma", "x", "the gamma function", "xp.Tensor(5.0)", 24.0)
loggamma = make(
    "loggamma",
    "x",
    "the logarithm of the gamma function, NaN where that is negative",
    "xp.Tensor(5.0)",
    3.1781,
)
rgamma = make("rgamma", "x", "one over the gamma function", "xp.Tensor(4.0)", 0.1667)
gammasgn = make("gammasgn", "x", "the sign of the gamma function", "xp.Tensor(-0.5)", -1.0)
digamma = make("digamma", "x", "the derivative of `gammaln`", "xp.Tensor(1.0)", -0.5772)
psi = digamma
zeta = make(
    "zeta",
    "x q",
    "Hurwitz's zeta function, the sum of (k + q)**-x over k = 0, 1, ...",
    "xp.Tensor(2.0), 1.0",
    1.6449,
    fixed="x",
)
beta = make(
    "beta",
    "a b",
    "the beta function, gamma(a) gamma(b) / gamma(a + b)",
    "xp.Tensor(2.0), 3.0",
    0.0833,
)
betaln = make(
    "betaln", "a b", "the logarithm of the absolute value of `beta`", "xp.Tensor(2.0), 3.0", -2.4849
)
poch = make(
    "poch", "z m", "the rising factorial, gamma(z + m) / gamma(z)", "xp.Tensor(2.0), 3.0", 24.0
)
binom = make("binom", "n k", "the binomial coefficient", "xp.Tensor(5.0), 2.0", 10.0)
gammainc = make(
    "gammainc",
    "a x",
    "the regularized lower incomplete gamma function",
    "xp.Tensor(1.0), 1.0",
    0.6321,
    fixed="a",
)
gammaincc = make(
    "gammaincc",
    "a x",
    "the regularized upper incomplete gamma function",
    "xp.Tensor(1.0), 1.0",
    0.3679,
    fixed="a",
)
gammaincinv = make(
    "gammaincinv", "a y", "the inverse of `gammainc` in x", "xp.Tensor(1.0), 0.5", 0.6931, fixed="a"
)
gammainccinv = make(
    "gammainccinv",
    "a y",
    "the inverse of `gammaincc` in x",
    "xp.Tensor(1.0), 0.25",
    1.3863,
    fixed="a",
)
betainc = make(
    "betainc",
    "a b x",
    "the regularized incomplete beta function",
    "xp.Tensor(1.0), 2.0, 0.5",
    0.75,
    fixed="a b",
)
betaincc = make("betaincc", "a b x", "1 - `betainc`", "xp.Tensor(1.0), 2.0, 0.5", 0.25, fixed="a b")
betaincinv = make(
    "betaincinv",
    "a b y",
    "the inverse of `betainc` in x",
    "xp.Tensor(1.0), 2.0, 0.75",
    0.5,
    fixed="a b",
)
betainccinv = make(
    "betainccinv",
    "a b y",
    "the inverse of `betaincc` in x",
    "xp.Tensor(1.0), 2.0, 0.25",
    0.5,
    fixed="a b",
)


def polygamma(n: Any, x: Any, /) -> Tensor:
    """Return the derivative of order `n` of `digamma`.

    Parameters
    ----------
    n : int, or Tensor of shape (...)
        0 or more. NaN results where an element of a Tensor is not.
    x : Tensor, shape (...)
        Real.

    Returns
    -------
    Tensor, shape (...)
        For a Tensor `n`: the shape that the arguments broadcast to.

    Examples
    --------
    >>> import tinyxp as xp
    >>> round(xp.special.polygamma(1, xp.Tensor(1.0)).item(), 4)
    1.6449
    """
    if type(n) in TENSORS:
        return _polygamma_of_orders(*floating("polygamma", (n, x)))
    order = operator.index(n)
    if order < 0:
        raise ValueError(f"polygamma expects n >= 0; got {order}")
    (x,) = floating("polygamma", (x,))
    d = dtypes.of(x._raw.dtype)
    if d.itemsize == HALF:
        return ops.astype(polygamma(order, ops.astype(x, "float32")), d)
    out: Tensor = _dispatch.apply("special.polygamma", (order, x))
    return out


def _polygamma_of_orders(n: Tensor, x: Tensor) -> Tensor:
    """By Hurwitz's zeta function (DLMF 25.11.12)."""
    sign = ops.where(n % 2 == 0, -1.0, 1.0)
    higher = ops.astype(sign, n.dtype) * gamma(n + 1) * zeta(n + 1, x)
    return ops.where(n == 0, digamma(x), higher)


def multigammaln(a: Any, d: int, /) -> Tensor:
    """Return the logarithm of the multivariate gamma function, that of Wishart distributions.

    Parameters
    ----------
    a : Tensor, shape (...)
        Greater than ``(d - 1) / 2``.
    d : int
        The dimension.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> round(xp.special.multigammaln(xp.Tensor(3.0), 2).item(), 4)
    1.5502
    """
    (a,) = floating("multigammaln", (a,))
    n = operator.index(d)
    terms = [gammaln(a - j / 2) for j in range(n)]
    total: Tensor = sum(terms[1:], terms[0] + n * (n - 1) / 4 * math.log(math.pi))
    return total


__all__ = [
    "beta", "betainc", "betaincc", "betainccinv", "betaincinv", "betaln", "binom", "digamma", "gamma",
    "gammainc", "gammaincc", "gammainccinv", "gammaincinv", "gammaln", "gammasgn", "loggamma", "multigammaln", "poch",
    "polygamma", "psi", "rgamma", "zeta",
]  # fmt: skip
