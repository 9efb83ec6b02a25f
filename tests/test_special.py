"""Special functions: values against SciPy, derivatives against finite differences, edges, documentation."""

from __future__ import annotations

import doctest
import math
import sys

import numpy as np
import pytest
import scipy.special

import tinyxp
from tinyxp import special
from tinyxp.autograd._record import TABLE
from tinyxp.errors import DTypeError, NotDifferentiableError
from tinyxp.testing import gradcheck

inf, nan = math.inf, math.nan


def spread(low, high, n=5, seed=0):
    """Numbers between `low` and `high`, none at a special place."""
    return np.sort(np.random.default_rng([seed, n]).uniform(low, high, n))


# Arguments of each function, and which of them it is differentiated with respect to.
WIDE, POSITIVE, UNIT = spread(-2, 2), spread(0.3, 4), spread(0.1, 0.9)
ONE = {
    **{name: WIDE for name in "erf erfc erfcx erfi dawsn ndtr log_ndtr expit log_expit exp2 exp10".split()},
    **{name: WIDE for name in "sinc cosm1 exprel expm1 sindg cosdg tandg j0 j1 i0 i1 i0e i1e expi".split()},
    **{name: POSITIVE for name in "gammaln digamma psi gamma entr cbrt log1p y0 y1 k0 k1 k0e k1e exp1".split()},
    **{name: UNIT for name in "erfinv logit ndtri erfcinv ellipk ellipe".split()},
    "cotdg": spread(20, 70),
    "spence": spread(0.3, 2),
    "ndtri_exp": spread(-3, -0.2),
    "gammasgn": spread(-0.9, 2),
}
A, B, X = spread(0.6, 3, seed=1), spread(0.7, 4, seed=2), spread(0.15, 0.85, seed=3)
K, N = np.asarray([0.0, 1.0, 2.0, 0.0, 3.0]), np.asarray([3.0, 4.0, 5.0, 2.0, 6.0])
SEVERAL = {
    "beta": ([A, B], [0, 1]),
    "betaln": ([A, B], [0, 1]),
    "poch": ([A, B], [0, 1]),
    "binom": ([A + 3, B], [0, 1]),
    "zeta": ([A + 1.2, B], [1]),
    "xlogy": ([WIDE, POSITIVE], [0, 1]),
    "xlog1py": ([WIDE, POSITIVE], [0, 1]),
    "rel_entr": ([A, B], [0, 1]),
    "kl_div": ([A, B], [0, 1]),
    "boxcox": ([POSITIVE, WIDE], [0, 1]),
    "boxcox1p": ([POSITIVE, WIDE], [0, 1]),
    "inv_boxcox": ([A / 9, WIDE], [0, 1]),
    "inv_boxcox1p": ([A / 9, WIDE], [0, 1]),
    "huber": ([A, WIDE * 3], [0, 1]),
    "pseudo_huber": ([A, WIDE * 3], [0, 1]),
    "owens_t": ([WIDE, A], [0, 1]),
    "gammainc": ([A, POSITIVE], [1]),
    "gammaincc": ([A, POSITIVE], [1]),
    "gammaincinv": ([A, UNIT], [1]),
    "gammainccinv": ([A, UNIT], [1]),
    "betainc": ([A, B, X], [2]),
    "betaincc": ([A, B, X], [2]),
    "betaincinv": ([A, B, X], [2]),
    "betainccinv": ([A, B, X], [2]),
    **{f"{letter}v{e}": ([A, POSITIVE], [1]) for letter in "ik" for e in ("", "e")},
    **{f"{letter}v": ([A, POSITIVE], [1]) for letter in "jy"},
    "expn": ([K, POSITIVE], [1]),
    "hyp1f1": ([A, B, X], [2]),
    "hyp2f1": ([A, B, A + B, X / 2], [3]),
    **{name: ([A, POSITIVE], [1]) for name in ("chdtr", "chdtrc", "pdtr", "pdtrc")},
    "stdtr": ([A, WIDE], [1]),
    **{name: ([A, UNIT], [1]) for name in ("chdtri", "stdtrit")},
    "pdtri": ([K, UNIT], [1]),
    **{name: ([A, B, POSITIVE], [2]) for name in ("fdtr", "fdtrc")},
    "fdtri": ([A, B, UNIT], [2]),
    **{name: ([A, B, POSITIVE], [0, 2]) for name in ("gdtr", "gdtrc")},
    **{name: ([K, N, X], [2]) for name in "bdtr bdtrc bdtri nbdtr nbdtrc nbdtri".split()},
}
CASES = {name: ([x], [0]) for name, x in ONE.items()} | SEVERAL
OTHERS = {"logsumexp", "softmax", "log_softmax", "polygamma", "multigammaln"}  # tested on their own
NO_KINK = {"huber": 1}  # second derivatives jump at the kink of the first


def test_every_function_has_a_case():
    """A new function without a case fails here, and so does a line of the table."""
    assert set(special.__all__) == {*CASES, *OTHERS}
    lines = {n.partition(".")[2] for n in TABLE if n.startswith("special.")}
    assert lines - {*CASES, *OTHERS} == set()


@pytest.mark.parametrize("name", CASES)
def test_values(xp, name):
    """What SciPy gives, in the dtype of the arguments."""
    arrays, _ = CASES[name]
    tensors = [xp.asarray(a) for a in arrays]
    got = getattr(xp.special, name)(*tensors)
    expected = getattr(np if name in ("log1p", "expm1") else scipy.special, name)(*arrays)
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-13, atol=1e-14)
    assert got.dtype == "float64"
    assert got.device is tensors[0].device
    single = getattr(xp.special, name)(*[t.to("float32") for t in tensors])
    assert single.dtype == "float32"


@pytest.mark.parametrize("name", CASES)
def test_derivatives(xp, name):
    """Orders 1 and 2, forward and reverse, with respect to all arguments with a closed derivative."""
    arrays, wrt = CASES[name]
    tensors = [xp.asarray(a) for a in arrays]

    def function(*some):
        full = list(tensors)
        for i, t in zip(wrt, some, strict=True):
            full[i] = t
        return getattr(xp.special, name)(*full)

    gradcheck(function, *[tensors[i] for i in wrt], order=NO_KINK.get(name, 2))


OPEN = [(name, i) for name, (arrays, wrt) in SEVERAL.items() for i in range(len(arrays)) if i not in wrt]


@pytest.mark.parametrize(("name", "i"), OPEN)
def test_what_has_no_closed_derivative_says_so(xp, name, i):
    """The gradient of a shape parameter raises; it is never silently zero."""
    tensors = [xp.asarray(a) for a in CASES[name][0]]
    tensors[i].requires_grad_()
    out = getattr(xp.special, name)(*tensors)
    with pytest.raises(NotDifferentiableError, match=rf"special\.{name} with respect to .* no closed form"):
        xp.sum(out).backward()
    assert "NotDifferentiableError" in getattr(special, name).__doc__


def test_a_mixed_derivative_by_a_shape_parameter(xp):
    """The density is differentiable in the shape, also where (a - 1) log(x) is 0 / 0."""
    a = xp.asarray([1.0, 2.5, 1.0], dtype="float64").requires_grad_()
    x = xp.asarray([0.5, 1.5, 3.0], dtype="float64").requires_grad_()
    (density,) = tinyxp.autograd.grad(
        [xp.sum(xp.special.gammainc(a.detach(), x))], [x], create_graph=True
    )
    np.testing.assert_allclose(
        density.detach().numpy(), a.detach().numpy() ** 0 * scipy_gamma(a.detach().numpy(), x.detach().numpy())
    )
    gradcheck(
        lambda a, x: tinyxp.func.vjp(lambda x: xp.special.gammainc(a.detach() * 1.0, x), x)[1](xp.ones_like(x))[0],
        a.detach(),
        x.detach(),
        order=0,
    )


def scipy_gamma(a, x):
    return np.exp(-x) * x ** (a - 1) / scipy.special.gamma(a)
