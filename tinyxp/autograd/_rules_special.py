"""The table, chapter special functions: how the functions of `tinyxp.special` are differentiated.

The conventions are those of `tinyxp.autograd._rules`. Formulas without a source are in the NIST Digital Library of
Mathematical Functions (https://dlmf.nist.gov), or follow from the definition. Where the derivative with respect
to an argument has no closed form, the rule raises.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp.autograd._rules import _axes, _spread, define
from tinyxp.errors import NotDifferentiableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Rule = Any

PI, ROOT_PI, ROOT_2PI = math.pi, math.sqrt(math.pi), math.sqrt(2 * math.pi)
DEGREE = math.pi / 180


# ================================================================ helpers
def _no(function: str, argument: str) -> Rule:
    """Return the rule of an argument in which the derivative is not known in closed form."""

    def rule(xp: Any, g: Any, _out: Any, *_args: Any) -> Any:
        raise NotDifferentiableError(
            f"the derivative of special.{function} with respect to its argument {argument} has no closed form; "
            f"differentiate with respect to the others alone: detach it, {argument}.detach()"
        )

    return rule


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Return the polynomial with `coefficients`, the constant first."""
    *rest, y = coefficients
    for a in reversed(rest):
        y = y * x + a
    return y


def near_zero(
    xp: Any, x: Any, near: float, series: Callable[[Any], Any], far: Callable[[Any, Any], Any]
) -> Any:
    """Return ``series(x)`` for ``|x| < near``, else ``far(x, where)``, so that derivatives are right at 0 too.

    `far` gets an x that is 1 where the series is taken, and where that is.
    """
    small = xp.abs(x) < near
    safe = xp.where(small, xp.ones_like(x), x)
    return xp.where(small, series(xp.where(small, x, xp.zeros_like(x))), far(safe, small))


def _over_x(xp: Any, out: Any, x: Any, sign: float) -> Any:
    """Return J1(x) / x or, for sign 1, I1(x) / x, of which `out` is the numerator (DLMF 10.2.2, 10.25.2)."""
    terms = [sign**k / (2 * 4**k * math.factorial(k) * math.factorial(k + 1)) for k in range(7)]
    return near_zero(
        xp,
        x,
        0.3,
        lambda x: _polynomial(terms, x * x),
        lambda x, small: _unless(xp, small, out) / x,
    )


def _unless(xp: Any, condition: Any, x: Any) -> Any:
    return xp.where(condition, xp.zeros_like(x), x)


def exprel_slope(xp: Any, x: Any) -> Any:
    """Return the derivative of (exp(x) - 1) / x, which is (exp(x) (x - 1) + 1) / x²."""
    terms = [(n + 1) / math.factorial(n + 2) for n in range(17)]
    return near_zero(
        xp,
        x,
        0.5,
        lambda x: _polynomial(terms, x),
        lambda x, _: (xp.exp(x) * (x - 1) + 1) / (x * x),
    )


def _log1p_slope(xp: Any, x: Any) -> Any:
    """Return the derivative of log(1 + x) / x."""
    terms = [(-1) ** (n + 1) * (n + 1) / (n + 2) for n in range(20)]
    return near_zero(
        xp,
        x,
        0.1,
        lambda x: _polynomial(terms, x),
        lambda x, _: (1 / (1 + x) - xp.log1p(x) / x) / x,
    )


def _log_power(xp: Any, exponent: Any, x: Any, log: Callable[[Any], Any], zero: Any) -> Any:
    """Return ``exponent * log(x)`` where `zero` says that the logarithm is -inf: 0 if the exponent is 0."""
    finite = exponent * log(xp.where(zero, xp.ones_like(x) / 2, x))
    infinite = xp.full_like(finite, math.inf)
    at_zero = xp.where(
        exponent > 0, -infinite, xp.where(exponent < 0, infinite, xp.zeros_like(finite))
    )
    return xp.where(zero, at_zero, finite)


def _gamma_density(xp: Any, a: Any, x: Any) -> Any:
    """Return x^(a-1) exp(-x) / Gamma(a), the derivative of gammainc (DLMF 8.8.13)."""
    return xp.exp(_log_power(xp, a - 1, x, xp.log, x == 0) - x - xp.special.gammaln(a))


def _beta_density(xp: Any, a: Any, b: Any, x: Any) -> Any:
    """Return x^(a-1) (1-x)^(b-1) / B(a, b), the derivative of betainc (DLMF 8.17.1)."""
    left = _log_power(xp, a - 1, x, xp.log, x == 0)
    right = _log_power(xp, b - 1, x, lambda x: xp.log1p(-x), x == 1)
    return xp.exp(left + right - xp.special.betaln(a, b))


def _normal_density(xp: Any, x: Any) -> Any:
    return xp.exp(-x * x / 2) / ROOT_2PI


# ================================================================ elementary
define("special.expit", lambda xp, g, out, _x: g * out * (1 - out))
define("special.logit", lambda xp, g, _out, x: g / (x * (1 - x)), guard=True)
define("special.log_expit", lambda xp, g, out, _x: -g * xp.expm1(out))
define("special.exp2", lambda xp, g, out, _x: g * out * math.log(2), guard=True)
define("special.exp10", lambda xp, g, out, _x: g * out * math.log(10), guard=True)
define("special.cbrt", lambda xp, g, out, _x: g / (3 * out * out), guard=True)
define("special.sindg", lambda xp, g, _out, x: g * DEGREE * xp.special.cosdg(x))
define("special.cosdg", lambda xp, g, _out, x: -g * DEGREE * xp.special.sindg(x))
define("special.tandg", lambda xp, g, out, _x: g * DEGREE * (1 + out * out), guard=True)
define("special.cotdg", lambda xp, g, out, _x: -g * DEGREE * (1 + out * out), guard=True)
define("special.exprel", lambda xp, g, _out, x: g * exprel_slope(xp, x), guard=True)


def _log(xp: Any, x: Any, y: Any, of: Callable[[Any], Any], zero: Any) -> Any:
    """Return ``log(y)``, but 0 where x and y both stand at the edge of the domain."""
    both = (x == 0) & zero
    return _unless(xp, both, of(xp.where(both, xp.ones_like(y), y)))


def _ratio(xp: Any, x: Any, y: Any) -> Any:
    """Return x / y, 0 for 0 / 0."""
    both = (x == 0) & (y == 0)
    return _unless(xp, both, x / xp.where(both, xp.ones_like(y), y))


def _log_ratio(xp: Any, x: Any, y: Any) -> Any:
    """Return log(x / y), 0 for 0 / 0."""
    both = (x == 0) & (y == 0)
    return _unless(xp, both, xp.log(x / xp.where(both, xp.ones_like(y), y)))


define("special.entr", lambda xp, g, _out, x: -g * (xp.log(x) + 1), guard=True)
define(
    "special.xlogy",
    lambda xp, g, _out, x, y: g * _log(xp, x, y, xp.log, y == 0),
    lambda xp, g, _out, x, y: g * _ratio(xp, x, y),
    guard=True,
)
define(
    "special.xlog1py",
    lambda xp, g, _out, x, y: g * _log(xp, x, y, xp.log1p, y == -1),
    lambda xp, g, _out, x, y: g * _ratio(xp, x, 1 + y),
    guard=True,
)
define(
    "special.rel_entr",
    lambda xp, g, _out, x, y: g * (_log_ratio(xp, x, y) + 1),
    lambda xp, g, _out, x, y: -g * _ratio(xp, x, y),
    guard=True,
)
define(
    "special.kl_div",
    lambda xp, g, _out, x, y: g * _log_ratio(xp, x, y),
    lambda xp, g, _out, x, y: g * (1 - _ratio(xp, x, y)),
    guard=True,
)
define(
    "special.boxcox",
    lambda xp, g, _out, x, y: g * x ** (y - 1),
    lambda xp, g, _out, x, y: g * xp.log(x) ** 2 * exprel_slope(xp, y * xp.log(x)),
    guard=True,
)
define(
    "special.boxcox1p",
    lambda xp, g, _out, x, y: g * (1 + x) ** (y - 1),
    lambda xp, g, _out, x, y: g * xp.log1p(x) ** 2 * exprel_slope(xp, y * xp.log1p(x)),
    guard=True,
)
define(
    "special.inv_boxcox",
    lambda xp, g, out, _x, y: g * out ** (1 - y),
    lambda xp, g, out, x, y: g * out * x**2 * _log1p_slope(xp, y * x),
    guard=True,
)
define(
    "special.inv_boxcox1p",
    lambda xp, g, out, _x, y: g * (1 + out) ** (1 - y),
    lambda xp, g, out, x, y: g * (1 + out) * x**2 * _log1p_slope(xp, y * x),
    guard=True,
)


def _logsumexp(xp: Any, g: Any, out: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    """Return g softmax(x): 0 where all elements are -inf, and shared among those that are inf.

    The exponentials are divided by their sum once more, because `out` is rounded.
    """
    g, out = (_spread(xp, v, x, axis, keepdims=keepdims) for v in (g, out))
    infinite = ~xp.isfinite(out)
    none = infinite & (out < 0)
    same = none | (infinite & (x == out))
    share = xp.exp(_unless(xp, same, x) - _unless(xp, same, out))
    total = xp.sum(share, axis=_axes(axis, len(x.shape)), keepdims=True)
    return _unless(xp, none, g * share / total)


define("special.logsumexp", _logsumexp)

# ================================================================ error functions, the normal distribution
define("special.erfc", lambda xp, g, _out, x: -g * (2 / ROOT_PI) * xp.exp(-x * x))
define("special.erfcx", lambda xp, g, out, x: g * (2 * x * out - 2 / ROOT_PI), guard=True)
define("special.erfi", lambda xp, g, _out, x: g * (2 / ROOT_PI) * xp.exp(x * x), guard=True)
define("special.dawsn", lambda xp, g, out, x: g * (1 - 2 * x * out), guard=True)
define("special.erfinv", lambda xp, g, out, _x: g * (ROOT_PI / 2) * xp.exp(out * out), guard=True)
define("special.erfcinv", lambda xp, g, out, _x: -g * (ROOT_PI / 2) * xp.exp(out * out), guard=True)
define("special.ndtr", lambda xp, g, _out, x: g * _normal_density(xp, x))
define("special.ndtri", lambda xp, g, out, _x: g * ROOT_2PI * xp.exp(out * out / 2), guard=True)
define(
    "special.log_ndtr",
    lambda xp, g, _out, x: g * (2 / ROOT_2PI) / xp.special.erfcx(x * -math.sqrt(0.5)),
    guard=True,
)
define(
    "special.ndtri_exp",
    lambda xp, g, out, x: g * ROOT_2PI * xp.exp(x + out * out / 2),
    guard=True,
)
define(  # D. B. Owen, Ann. Math. Stat. 27 (1956): derivatives of T(h, a)
    "special.owens_t",
    lambda xp, g, _out, h, a: -g / 2 * _normal_density(xp, h) * xp.erf(a * h * math.sqrt(0.5)),
    lambda xp, g, _out, h, a: g * xp.exp(-h * h * (1 + a * a) / 2) / (2 * PI * (1 + a * a)),
)

# ================================================================ gamma and beta functions
define("special.gammaln", lambda xp, g, _out, x: g * xp.special.digamma(x), guard=True)
define("special.digamma", lambda xp, g, _out, x: g * xp.special.polygamma(1, x), guard=True)
define(
    "special.polygamma",
    None,
    lambda xp, g, _out, n, x: g * xp.special.polygamma(n + 1, x),
    guard=True,
)
define("special.gamma", lambda xp, g, out, x: g * out * xp.special.digamma(x), guard=True)
define("special.loggamma", lambda xp, g, _out, x: g * xp.special.digamma(x), guard=True)


def _rgamma(xp: Any, g: Any, out: Any, x: Any) -> Any:
    """Left of 1/2 by the reflection formula (DLMF 5.5.3), which has no poles there."""
    left = x < 0.5  # noqa: PLR2004 - the middle of the reflection
    y = xp.where(left, 1 - x, xp.ones_like(x))
    reflected = xp.special.gamma(y) * (xp.cos(PI * x) - xp.sin(PI * x) / PI * xp.special.digamma(y))
    right = -out * xp.special.digamma(xp.where(left, xp.ones_like(x), x))
    return g * xp.where(left, reflected, right)


define("special.rgamma", _rgamma, guard=True)
define("special.gammasgn", lambda xp, g, _out, _x: xp.zeros_like(g))
define(  # DLMF 25.11.17
    "special.zeta",
    _no("zeta", "x"),
    lambda xp, g, _out, x, q: -g * x * xp.special.zeta(x + 1, q),
    guard=True,
)
define(
    "special.beta",
    lambda xp, g, out, a, b: g * out * (xp.special.digamma(a) - xp.special.digamma(a + b)),
    lambda xp, g, out, a, b: g * out * (xp.special.digamma(b) - xp.special.digamma(a + b)),
    guard=True,
)
define(
    "special.betaln",
    lambda xp, g, _out, a, b: g * (xp.special.digamma(a) - xp.special.digamma(a + b)),
    lambda xp, g, _out, a, b: g * (xp.special.digamma(b) - xp.special.digamma(a + b)),
    guard=True,
)
define(
    "special.poch",
    lambda xp, g, out, z, m: g * out * (xp.special.digamma(z + m) - xp.special.digamma(z)),
    lambda xp, g, out, z, m: g * out * xp.special.digamma(z + m),
    guard=True,
)
define(
    "special.binom",
    lambda xp, g, out, n, k: g * out * (xp.special.digamma(n + 1) - xp.special.digamma(n - k + 1)),
    lambda xp, g, out, n, k: g * out * (xp.special.digamma(n - k + 1) - xp.special.digamma(k + 1)),
    guard=True,
)
define(
    "special.gammainc",
    _no("gammainc", "a"),
    lambda xp, g, _out, a, x: g * _gamma_density(xp, a, x),
    guard=True,
)
define(
    "special.gammaincc",
    _no("gammaincc", "a"),
    lambda xp, g, _out, a, x: -g * _gamma_density(xp, a, x),
    guard=True,
)
define(
    "special.gammaincinv",
    _no("gammaincinv", "a"),
    lambda xp, g, out, a, _y: g / _gamma_density(xp, a, out),
    guard=True,
)
define(
    "special.gammainccinv",
    _no("gammainccinv", "a"),
    lambda xp, g, out, a, _y: -g / _gamma_density(xp, a, out),
    guard=True,
)


def _of_beta(name: str, rule: Rule) -> None:
    define(f"special.{name}", _no(name, "a"), _no(name, "b"), rule, guard=True)


_of_beta("betainc", lambda xp, g, _out, a, b, x: g * _beta_density(xp, a, b, x))
_of_beta("betaincc", lambda xp, g, _out, a, b, x: -g * _beta_density(xp, a, b, x))
_of_beta("betaincinv", lambda xp, g, out, a, b, _y: g / _beta_density(xp, a, b, out))
_of_beta("betainccinv", lambda xp, g, out, a, b, _y: -g / _beta_density(xp, a, b, out))

# ================================================================ distribution functions


def _distribution(name: str, shape: Sequence[str], density: Rule, sign: int = 1) -> None:
    """Define a function of shape parameters and one variable, by its density in that variable."""
    rules = {
        1: lambda xp, g, _out, a, x: sign * g * density(xp, a, x),
        2: lambda xp, g, _out, a, b, x: sign * g * density(xp, a, b, x),
    }
    define(f"special.{name}", *[_no(name, s) for s in shape], rules[len(shape)], guard=True)


def _quantile(name: str, shape: Sequence[str], density: Rule, sign: int = 1) -> None:
    """Define an inverse of such a function, by the density at the result."""
    rules = {
        1: lambda xp, g, out, a, _y: sign * g / density(xp, a, out),
        2: lambda xp, g, out, a, b, _y: sign * g / density(xp, a, b, out),
    }
    define(f"special.{name}", *[_no(name, s) for s in shape], rules[len(shape)], guard=True)


def _chi2(xp: Any, v: Any, x: Any) -> Any:
    return _gamma_density(xp, v / 2, x / 2) / 2


def _student(xp: Any, v: Any, t: Any) -> Any:
    """Return the density of Student's t, by B(1/2, v/2)."""
    power = xp.exp(-(v + 1) / 2 * xp.log1p(t * t / v))
    return power / xp.exp(xp.special.betaln(v / 2, xp.full_like(v, 0.5))) / xp.sqrt(v)


def _f(xp: Any, m: Any, n: Any, x: Any) -> Any:
    """Return the density of Fisher's F, by the beta distribution of m x / (m x + n)."""
    total = m * x + n
    return _beta_density(xp, m / 2, n / 2, m * x / total) * m * n / (total * total)


def _poisson(xp: Any, k: Any, m: Any) -> Any:
    return _gamma_density(xp, xp.floor(k) + 1, m)


def _binomial(xp: Any, k: Any, n: Any, p: Any) -> Any:
    return _beta_density(xp, xp.floor(k) + 1, n - xp.floor(k), p)


def _negative_binomial(xp: Any, k: Any, n: Any, p: Any) -> Any:
    return _beta_density(xp, n, k + 1, p)


_distribution("chdtr", "v", _chi2)
_distribution("chdtrc", "v", _chi2, -1)
_quantile("chdtri", "v", _chi2, -1)
_distribution("stdtr", ("df",), _student)
_quantile("stdtrit", ("df",), _student)
_distribution("fdtr", ("dfn", "dfd"), _f)
_distribution("fdtrc", ("dfn", "dfd"), _f, -1)
_quantile("fdtri", ("dfn", "dfd"), _f)
_distribution("pdtr", "k", _poisson, -1)
_distribution("pdtrc", "k", _poisson)
_quantile("pdtri", "k", _poisson, -1)
_distribution("bdtr", "kn", _binomial, -1)
_distribution("bdtrc", "kn", _binomial)
_quantile("bdtri", "kn", _binomial, -1)
_distribution("nbdtr", "kn", _negative_binomial)
_distribution("nbdtrc", "kn", _negative_binomial, -1)
_quantile("nbdtri", "kn", _negative_binomial)
for _name, _turn in (("gdtr", 1), ("gdtrc", -1)):
    define(
        f"special.{_name}",
        lambda xp, g, _out, a, b, x, s=_turn: s * g * x * _gamma_density(xp, b, a * x),
        _no(_name, "b"),
        lambda xp, g, _out, a, b, x, s=_turn: s * g * a * _gamma_density(xp, b, a * x),
        guard=True,
    )

# ================================================================ Bessel functions (DLMF 10.6, 10.29)
define("special.j0", lambda xp, g, _out, x: -g * xp.special.j1(x))
define("special.j1", lambda xp, g, out, x: g * (xp.special.j0(x) - _over_x(xp, out, x, -1.0)))
define("special.y0", lambda xp, g, _out, x: -g * xp.special.y1(x), guard=True)
define(
    "special.yn",
    _no("yn", "n"),
    lambda xp, g, out, n, x: g * (xp.special.yn(n - 1, x) - n * out / x),
    guard=True,
)
define("special.y1", lambda xp, g, out, x: g * (xp.special.y0(x) - out / x), guard=True)
define("special.i0", lambda xp, g, _out, x: g * xp.special.i1(x), guard=True)
define(
    "special.i1",
    lambda xp, g, out, x: g * (xp.special.i0(x) - _over_x(xp, out, x, 1.0)),
    guard=True,
)
define("special.i0e", lambda xp, g, out, x: g * (xp.special.i1e(x) - xp.sign(x) * out))


def _i1e(xp: Any, g: Any, out: Any, x: Any) -> Any:
    terms = [1 / (2 * 4**k * math.factorial(k) * math.factorial(k + 1)) for k in range(7)]
    ratio = near_zero(
        xp,
        x,
        0.3,
        lambda x: _polynomial(terms, x * x) * xp.exp(-xp.abs(x)),
        lambda x, small: _unless(xp, small, out) / x,
    )
    return g * (xp.special.i0e(x) - xp.sign(x) * out - ratio)


define("special.i1e", _i1e)
define("special.k0", lambda xp, g, _out, x: -g * xp.special.k1(x), guard=True)
define("special.k1", lambda xp, g, out, x: -g * (xp.special.k0(x) + out / x), guard=True)
define("special.k0e", lambda xp, g, out, x: g * (out - xp.special.k1e(x)), guard=True)
define(
    "special.k1e",
    lambda xp, g, out, x: g * (out - xp.special.k0e(x) - out / x),
    guard=True,
)


def _of_order(name: str, left: float, right: float, own: Rule = lambda *_: 0.0) -> None:
    """Define a Bessel function by its neighbours: left f(v-1) + right f(v+1) + own f(v)."""

    def rule(xp: Any, g: Any, out: Any, v: Any, x: Any) -> Any:
        f = getattr(xp.special, name)
        return g * (left * f(v - 1, x) + right * f(v + 1, x) + own(xp, out, x))

    define(f"special.{name}", _no(name, "v"), rule, guard=True)


_of_order("jv", 0.5, -0.5)
_of_order("yv", 0.5, -0.5)
_of_order("iv", 0.5, 0.5)
_of_order("kv", -0.5, -0.5)
_of_order("ive", 0.5, 0.5, lambda xp, out, x: -xp.sign(x) * out)
_of_order("kve", -0.5, -0.5, lambda _xp, out, _x: out)

# ================================================================ integrals and series
define("special.expi", lambda xp, g, _out, x: g * xp.exp(x) / x, guard=True)
define("special.exp1", lambda xp, g, _out, x: -g * xp.exp(-x) / x, guard=True)


def _expn(xp: Any, g: Any, _out: Any, n: Any, x: Any) -> Any:
    """DLMF 8.19.13; E0(x) is exp(-x) / x."""
    zero = n == 0
    lower = xp.special.expn(xp.where(zero, xp.ones_like(n), n) - 1, x)
    return -g * xp.where(zero, xp.exp(-x) * (1 / x + 1 / (x * x)), lower)


define("special.expn", _no("expn", "n"), _expn, guard=True)
define(  # DLMF 14.10.5
    "special.lpmv",
    _no("lpmv", "m"),
    _no("lpmv", "v"),
    lambda xp, g, out, m, v, x: (
        g * (v * x * out - (v + m) * xp.special.lpmv(m, v - 1, x)) / (x * x - 1)
    ),
    guard=True,
)
define(  # as for ellipk
    "special.ellipkm1",
    lambda xp, g, _out, p: -g * (PI / 8) * xp.special.hyp2f1(1.5, 1.5, 2.0, 1 - p),
    guard=True,
)
define(  # log(z) / (1 - z), without 0 / 0 at z = 1
    "special.spence",
    lambda xp, g, _out, z: -g / xp.special.exprel(xp.log(z)),
    guard=True,
)
define(  # DLMF 19.5.1: pi/2 F(1/2, 1/2; 1; m), and its derivative by 15.5.1
    "special.ellipk",
    lambda xp, g, _out, m: g * (PI / 8) * xp.special.hyp2f1(1.5, 1.5, 2.0, m),
    guard=True,
)
define(  # DLMF 19.5.2: pi/2 F(-1/2, 1/2; 1; m)
    "special.ellipe",
    lambda xp, g, _out, m: -g * (PI / 8) * xp.special.hyp2f1(0.5, 1.5, 2.0, m),
    guard=True,
)
define(  # DLMF 13.3.15
    "special.hyp1f1",
    _no("hyp1f1", "a"),
    _no("hyp1f1", "b"),
    lambda xp, g, _out, a, b, x: g * a / b * xp.special.hyp1f1(a + 1, b + 1, x),
    guard=True,
)
define(  # DLMF 15.5.1
    "special.hyp2f1",
    _no("hyp2f1", "a"),
    _no("hyp2f1", "b"),
    _no("hyp2f1", "c"),
    lambda xp, g, _out, a, b, c, x: g * a * b / c * xp.special.hyp2f1(a + 1, b + 1, c + 1, x),
    guard=True,
)
