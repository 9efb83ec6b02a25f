"""Special functions: values against SciPy, derivatives against finite differences, edges, documentation."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import scipy.special

import tinyxp
from tinyxp import special
from tinyxp._special import COMPOSED, Special
from tinyxp.autograd import _rules_special
from tinyxp.autograd._record import TABLE
from tinyxp.errors import DTypeError, NotDifferentiableError
from tinyxp.testing import GradientError, gradcheck

inf, nan = math.inf, math.nan


def spread(low, high, n=5, seed=0):
    """Numbers between `low` and `high`, none at a special place."""
    return np.sort(np.random.default_rng([seed, n]).uniform(low, high, n))


# Arguments of each function, and which of them it is differentiated with respect to.
WIDE, POSITIVE, UNIT = spread(-2, 2), spread(0.3, 4), spread(0.1, 0.9)
ONE = {
    **dict.fromkeys(
        "erf erfc erfcx erfi dawsn ndtr log_ndtr expit log_expit exp2 exp10".split(), WIDE
    ),
    **dict.fromkeys("sinc cosm1 exprel expm1 sindg tandg j0 j1 i0 i1 i0e i1e expi".split(), WIDE),
    **dict.fromkeys(
        "gammaln digamma psi gamma entr cbrt log1p y0 y1 k0 k1 k0e k1e exp1".split(), POSITIVE
    ),
    **dict.fromkeys("erfinv logit ndtri erfcinv ellipk ellipe".split(), UNIT),
    "cosdg": spread(20, 70),
    "cotdg": spread(20, 70),
    "ellipkm1": UNIT,
    "spence": spread(0.3, 2),
    "ndtri_exp": spread(-3, -0.2),
    "gammasgn": spread(-0.9, 2),
    "loggamma": POSITIVE,
    "rgamma": np.concatenate([spread(-2.7, 3), [-2.0, -1.0, 0.0, 0.5]]),
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
    "yn": ([K, POSITIVE], [1]),
    "lpmv": ([K, A + 2, X], [2]),
    "radian": ([WIDE, A, B], [0, 1, 2]),
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


CUPY_LACKS = set(
    "dawsn ellipe erfi hyp1f1 hyp2f1 iv ive jv kv kve ndtri_exp owens_t spence yv".split()
)
NEEDED = {"ellipk": "hyp2f1", "ellipkm1": "hyp2f1"}  # by a derivative


@pytest.fixture(autouse=True)
def _emulated(request, monkeypatch):
    """Skip what an emulated GPU, which has not all of CUDA's functions, cannot compile."""
    if "xp" not in request.fixturenames:
        return
    device = request.getfixturevalue("device")
    if not device.backend.describe().get("gpu", "").startswith("Emulated"):
        return
    from cupy.cuda.compiler import CompileException

    library = device.backend.special

    def special_or_skip(name):
        function = library(name)

        def run(*args):
            try:
                return function(*args)
            except CompileException:
                pytest.skip(f"the emulator cannot compile {name}")

        return run

    monkeypatch.setattr(device.backend, "special", special_or_skip)
    monkeypatch.setattr(device.xp, "special", Special(device.backend))


def lacking(xp, name):
    """Whether the library under test has no such function; that it says so is tested here."""
    device = xp.ones(1).device
    if device.backend.name != "cupy" or NEEDED.get(name, name) not in CUPY_LACKS:
        return False
    with pytest.raises(
        AttributeError, match=f"CuPy has no special function '{NEEDED.get(name, name)}'"
    ):
        getattr(device.xp.special, NEEDED.get(name, name))
    return True


def test_every_function_has_a_case():
    """A new function without a case fails here, and so does a line of the table."""
    assert set(special.__all__) == {*CASES, *OTHERS}
    lines = {n.partition(".")[2] for n in TABLE if n.startswith("special.")}
    assert lines - {*CASES, *OTHERS} == set()


@pytest.mark.parametrize("name", CASES)
def test_values(xp, name):
    """What SciPy gives, in the dtype of the arguments."""
    arrays, _ = CASES[name]
    if lacking(xp, name):
        return
    tensors = [xp.asarray(a) for a in arrays]
    got = getattr(xp.special, name)(*tensors)
    if name.startswith("bdtr"):
        arrays = [arrays[0], arrays[1].astype(np.int64), arrays[2]]
    expected = getattr(scipy.special, name)(*arrays)
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-13, atol=1e-14)
    assert got.dtype == "float64"
    assert got.device is tensors[0].device
    single = getattr(xp.special, name)(*[t.to("float32") for t in tensors])
    assert single.dtype == "float32"


@pytest.mark.parametrize("name", CASES)
def test_derivatives(xp, name):
    """Orders 1 and 2, forward and reverse, with respect to all arguments with a closed derivative."""
    arrays, wrt = CASES[name]
    if lacking(xp, name):
        return
    tensors = [xp.asarray(a) for a in arrays]

    def function(*some):
        full = list(tensors)
        for i, t in zip(wrt, some, strict=True):
            full[i] = t
        return getattr(xp.special, name)(*full)

    gradcheck(function, *[tensors[i] for i in wrt], order=NO_KINK.get(name, 2))


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, (_, wrt) in CASES.items() for i in wrt])
def test_an_error_of_a_thousandth_in_any_rule_is_caught(xp, monkeypatch, name, i):
    """The check can fail, for every rule of the chapter."""
    line = TABLE.get(f"special.{name}")
    if line is None or not line.rules or name == "gammasgn" or lacking(xp, name):
        return  # composed of others, or constant
    rule = line.rules[i]

    def wrong(xp, g, out, *args, **kwargs):
        return 1.001 * rule(xp, g, out, *args, **kwargs)

    monkeypatch.setattr(line, "rules", (*line.rules[:i], wrong, *line.rules[i + 1 :]))
    tensors = [xp.asarray(a) for a in CASES[name][0]]

    def function(x):
        return getattr(xp.special, name)(*tensors[:i], x, *tensors[i + 1 :])

    with pytest.raises(GradientError):
        gradcheck(function, tensors[i], order=1)


OPEN = [
    (name, i) for name, (arrays, wrt) in SEVERAL.items() for i in range(len(arrays)) if i not in wrt
]


@pytest.mark.parametrize(("name", "i"), OPEN)
def test_what_has_no_closed_derivative_says_so(xp, name, i):
    """The gradient of a shape parameter raises; it is never silently zero."""
    if lacking(xp, name):
        return
    tensors = [xp.asarray(a) for a in CASES[name][0]]
    tensors[i].requires_grad_()
    out = getattr(xp.special, name)(*tensors)
    with pytest.raises(
        NotDifferentiableError, match=rf"special\.{name} with respect to .* no closed form"
    ):
        xp.sum(out).backward()
    assert "NotDifferentiableError" in getattr(special, name).__doc__


def test_densities_by_their_shape_parameters(xp):
    """The derivatives of distribution functions are differentiable in all arguments, a = 1 included."""
    a, b = (xp.asarray([1.0, 2.5, 1.0], dtype="float64") for _ in range(2))
    x = xp.asarray([0.5, 0.7, 0.2], dtype="float64")
    gradcheck(lambda a, x: _rules_special._gamma_density(tinyxp.ops, a, x), a, x)
    gradcheck(lambda a, b, x: _rules_special._beta_density(tinyxp.ops, a, b, x), a, b, x)
    gradcheck(lambda v, t: _rules_special._student(tinyxp.ops, v, t), a, x)


def test_densities_at_the_ends(xp):
    """At the ends of the support the derivative is 0, finite or infinite, as the shape says; never NaN."""
    x = xp.zeros(3, dtype="float64").requires_grad_()
    xp.special.gammainc(xp.asarray([0.5, 1.0, 2.0], dtype="float64"), x).sum().backward()
    assert x.grad.tolist() == [inf, 1.0, 0.0]
    x = xp.asarray([0.0, 0.0, 1.0], dtype="float64").requires_grad_()
    one, two = xp.asarray([1.0, 2.0, 2.0]), xp.asarray([2.0, 1.0, 1.0])
    xp.special.betainc(one, two, x).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 2.0]


# ---------------------------------------------------------------- on their own
@pytest.mark.parametrize("n", range(4))
def test_polygamma(xp, n):
    """Any order, and its derivative, the next one."""
    x = xp.asarray(POSITIVE)
    np.testing.assert_allclose(
        xp.special.polygamma(n, x).numpy(), scipy.special.polygamma(n, POSITIVE), rtol=1e-13
    )
    gradcheck(lambda x: xp.special.polygamma(n, x), x)
    with pytest.raises(ValueError, match="n >= 0; got -1"):
        xp.special.polygamma(-1, x)


def test_multigammaln(xp):
    """Of dimension 3."""
    x = xp.asarray(POSITIVE + 1)
    expected = scipy.special.multigammaln(POSITIVE + 1, 3)
    np.testing.assert_allclose(xp.special.multigammaln(x, 3).numpy(), expected, rtol=1e-13)
    gradcheck(lambda x: xp.special.multigammaln(x, 3), x)


AXES = [None, 0, -1, (0, 1)]


@pytest.mark.parametrize("axis", AXES)
def test_logsumexp(xp, axis):
    """Over every form of the axis, with and without factors."""
    values, factors = WIDE.reshape(5, 1) * spread(0.5, 2, 3), spread(0.1, 2, 3)
    x, b = xp.asarray(values), xp.asarray(factors)
    for keepdims in (False, True):
        got = xp.special.logsumexp(x, axis=axis, keepdims=keepdims)
        expected = scipy.special.logsumexp(values, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-14)
        got = xp.special.logsumexp(x, axis=axis, b=b, keepdims=keepdims)
        expected = scipy.special.logsumexp(values, axis=axis, b=factors, keepdims=keepdims)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13)
    gradcheck(lambda x: xp.special.logsumexp(x, axis=axis), x)
    gradcheck(lambda x, b: xp.special.logsumexp(x, axis=axis, b=b), x, b)


def test_logsumexp_at_infinity(xp):
    """No overflow, -inf over nothing, and gradients that are never NaN."""
    x = xp.Tensor(
        [[-inf, -inf], [inf, 1.0], [-inf, 2.0], [1e4, 1e4], [inf, inf]], requires_grad=True
    )
    out = xp.logsumexp(x, axis=1)
    assert out.tolist() == [-inf, inf, 2.0, pytest.approx(1e4 + math.log(2)), inf]
    out.backward(xp.ones(5))
    assert x.grad.tolist() == [[0, 0], [1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]]
    assert xp.logsumexp(xp.zeros((2, 0)), axis=1).tolist() == [-inf, -inf]


@pytest.mark.parametrize("axis", AXES)
def test_softmax(xp, axis):
    """Over one axis by the fused operation, over several by logsumexp."""
    values = WIDE.reshape(5, 1) * spread(0.5, 2, 3)
    x = xp.asarray(values)
    for name in ("softmax", "log_softmax"):
        got = getattr(xp.special, name)(x, axis=axis).numpy()
        np.testing.assert_allclose(got, getattr(scipy.special, name)(values, axis=axis), rtol=1e-13)
        gradcheck(lambda x, name=name: getattr(xp.special, name)(x, axis=axis), x)


# ---------------------------------------------------------------- edges
TAIL = scipy.special.log_ndtr(-40.0)
EDGES = [
    # function, arguments, values, gradients with respect to each
    ("entr", [[0.0, -1.0]], [0.0, -inf], [[inf, nan]]),
    (
        "xlogy",
        [[0.0, 0.0, 0.0], [0.0, 2.0, inf]],
        [0.0, 0.0, 0.0],
        [[0.0, math.log(2), inf], [0.0, 0.0, 0.0]],
    ),
    ("xlog1py", [[0.0, 0.0], [-1.0, 1.0]], [0.0, 0.0], [[0.0, math.log(2)], [0.0, 0.0]]),
    (
        "rel_entr",
        [[0.0, 0.0, 1.0], [0.0, 2.0, 1.0]],
        [0.0, 0.0, 0.0],
        [[1.0, -inf, 1.0], [0.0, 0.0, -1.0]],
    ),
    ("kl_div", [[0.0, 0.0], [0.0, 2.0]], [0.0, 2.0], [[0.0, -inf], [1.0, 1.0]]),
    ("expit", [[-1000.0, 0.0, 1000.0]], [0.0, 0.5, 1.0], [[0.0, 0.25, 0.0]]),
    ("log_expit", [[-1000.0, 1000.0]], [-1000.0, 0.0], [[1.0, 0.0]]),
    ("logit", [[0.0, 0.5, 1.0]], [-inf, 0.0, inf], [[inf, 4.0, inf]]),
    ("sinc", [[0.0, 1.0]], [1.0, 0.0], [[0.0, -1.0]]),
    ("exprel", [[0.0]], [1.0], [[0.5]]),
    ("i1", [[0.0]], [0.0], [[0.5]]),
    ("j1", [[0.0]], [0.0], [[0.5]]),
    ("i0e", [[0.0]], [1.0], [[0.0]]),
    ("cbrt", [[0.0]], [0.0], [[inf]]),
    (
        "log_ndtr",
        [[-40.0, 40.0]],
        [TAIL, 0.0],
        [[math.exp(-800 - TAIL) / math.sqrt(2 * math.pi), 0.0]],
    ),
    ("ellipk", [[0.0]], [math.pi / 2], [[math.pi / 8]]),
    ("spence", [[1.0]], [0.0], [[-1.0]]),
]


@pytest.mark.parametrize(
    ("name", "arguments", "values", "gradients"), EDGES, ids=[e[0] for e in EDGES]
)
def test_edges(xp, name, arguments, values, gradients):
    """Values and gradients where formulas divide by zero."""
    if lacking(xp, name):
        return
    tensors = [xp.asarray(a, dtype="float64").requires_grad_() for a in arguments]
    out = getattr(xp.special, name)(*tensors)
    np.testing.assert_allclose(out.detach().numpy(), values, rtol=1e-13, atol=1e-16)
    out.backward(xp.ones_like(out))
    for t, g in zip(tensors, gradients, strict=True):
        np.testing.assert_allclose(t.grad.numpy(), g, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("name", ["sinc", "exprel", "i1", "j1", "cosm1", "i0", "j0"])
def test_second_derivatives_at_zero(xp, name):
    """What is smooth at 0 is so in the graph too, to order 3."""
    gradcheck(getattr(xp.special, name), xp.zeros(2, dtype="float64"), order=3, step=1e-2)


def test_a_zero_cotangent_stays_zero(xp):
    """What `where` masks away gets gradient 0, also where the derivative is infinite."""
    x = xp.Tensor([0.0, 0.5], requires_grad=True)
    xp.where(x > 0, xp.special.entr(x), 0.0).sum().backward()
    assert x.grad.tolist() == [0.0, pytest.approx(math.log(2) - 1)]


# ---------------------------------------------------------------- arguments
def test_promotion(xp):
    """Numbers and integers adapt; half precision goes by way of float32; complex is refused."""
    assert xp.special.gammaln(xp.asarray([3, 4])).dtype == xp.get_default_dtype()
    single, double = xp.ones(2, dtype="float32"), xp.ones(2, dtype="float64")
    assert xp.special.gammainc(2.0, single).dtype == "float32"
    assert xp.special.gammainc(single, double).dtype == "float64"
    assert xp.special.gammainc(xp.asarray([1, 2]), single).dtype == "float32"
    assert xp.special.gammaln(3.0).shape == ()
    assert xp.special.gammainc(xp.ones((3, 1)), xp.ones(2)).shape == (3, 2)
    assert xp.special.gammaln(xp.ones((0, 2))).shape == (0, 2)
    with pytest.raises(DTypeError, match="gammaln expects real arguments"):
        xp.special.gammaln(xp.asarray([1j]))


@pytest.mark.skip_backend("strict", reason="array-api-strict has no half precision")
def test_half_precision(xp):
    """Computed in float32, rounded once."""
    x = xp.Tensor([0.5, 1.5, 3.0], dtype="float16", requires_grad=True)
    for function in (xp.special.gammaln, lambda x: xp.special.polygamma(1, x)):
        out = function(x)
        assert out.dtype == "float16"
        assert out.tolist() == function(x.to("float32")).to("float16").tolist()
        out.sum().backward()
    assert x.grad.dtype == "float16"


def test_without_scipy(monkeypatch):
    """The error says what to install; what needs no library still works."""
    import tinyxp_numpy

    monkeypatch.setattr(tinyxp_numpy, "_special", lambda: None)
    cpu = tinyxp.device("cpu")
    monkeypatch.setattr(cpu.xp, "special", Special(cpu.backend))
    with pytest.raises(
        ModuleNotFoundError, match=r"gammaln is computed by SciPy.*pip install 'tinyxp\[special\]'"
    ):
        special.gammaln(tinyxp.ones(1, device="cpu"))
    x = tinyxp.Tensor([0.5], requires_grad=True, device="cpu")
    for name in "entr expit logit log_expit exp2 exp10 sinc cosm1 logsumexp softmax".split():
        getattr(special, name)(x).sum().backward()
    for name in "xlogy xlog1py rel_entr kl_div huber pseudo_huber".split():
        getattr(special, name)(x, x).sum().backward()


@pytest.mark.parametrize("name", COMPOSED)
def test_what_is_made_of_other_functions(xp, name):
    """What a library lacks and others give has SciPy's values."""
    arrays, _ = CASES[name]
    device = xp.ones(1).device
    got = COMPOSED[name](device.xp, *[xp.asarray(a).data for a in arrays])
    expected = getattr(scipy.special, name)(*arrays)
    np.testing.assert_allclose(device.backend.to_numpy(got), expected, rtol=1e-12)


def test_an_unknown_name_is_an_attribute_error(xp):
    """As of any module."""
    with pytest.raises(AttributeError, match="no_such_function"):
        xp.special.no_such_function  # noqa: B018 - the look-up is what is tested
    with pytest.raises(AttributeError):
        xp.ones(1).device.xp.special.no_such_function  # noqa: B018 - the attribute is what is tried


@pytest.mark.parametrize("name", special.__all__)
def test_documentation(name):
    """Every function is documented, and its example runs."""
    function = getattr(special, name)
    found = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert found[0].examples
    out = []
    doctest.DocTestRunner(verbose=False).run(found[0], out=out.append)
    assert out == []
