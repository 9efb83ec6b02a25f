"""The standard's 170 functions: each differentiable, zero or without derivative, and each of the first two checked."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
import pytest

from tinyxp import _standard
from tinyxp.autograd import _classes, _rules
from tinyxp.autograd._record import TABLE
from tinyxp.testing import GradientError, gradcheck

PAGE = Path(__file__).parents[1] / "docs" / "autograd.md"
MAIN = list(dict.fromkeys(_standard.FUNCTIONS))
ALL = [
    *MAIN,
    *(f"linalg.{n}" for n in _standard.LINALG if n not in MAIN),
    *(f"fft.{n}" for n in _standard.FFT),
]
IN_TABLE = {n for n, o in TABLE.items() if o.rules or o.each is not None or o.joint is not None}
ZERO = {n for n in IN_TABLE if TABLE[n].rules and set(TABLE[n].rules) == {_rules.flat}} & set(ALL)
NONE = set(_classes.reasons())
DIFFERENTIABLE = (IN_TABLE & set(ALL) | set(_classes.COMPOSITE)) - ZERO


# ---------------------------------------------------------------- the classes
def test_every_function_is_in_one_class():
    for name in ALL:
        assert (name in IN_TABLE) + (name in NONE) + (name in _classes.COMPOSITE) == 1, name
    assert set(ALL) == DIFFERENTIABLE | ZERO | NONE
    assert DIFFERENTIABLE.isdisjoint(ZERO | NONE)
    assert ZERO.isdisjoint(NONE)
    assert (len(ALL), len(DIFFERENTIABLE), len(ZERO), len(NONE)) == (170, 119, 5, 46)
    assert len(_classes.COMPOSITE) == len(set(_classes.COMPOSITE))


def test_the_documentation_says_so():
    text = PAGE.read_text(encoding="utf-8")
    counts = f"Of the standard's {len(ALL)} functions {len(DIFFERENTIABLE)} have a derivative; that of {len(ZERO)} is"
    assert counts in text
    assert f"and {len(NONE)} have none" in text
    assert f"everywhere: {', '.join(f'`{n}`' for n in sorted(ZERO))}" in " ".join(text.split())
    for reason, names in _classes.NO_DERIVATIVE.items():
        assert f"| {reason} | {', '.join(f'`{n}`' for n in names.split())} |" in text


def test_the_names_are_those_of_the_standard():
    """As array-api-strict has them."""
    strict = pytest.importorskip("array_api_strict", reason="compares with the referee")
    functions = [n for n in dir(strict) if inspect.isfunction(getattr(strict, n))]
    own = {
        "get_array_api_strict_flags",
        "set_array_api_strict_flags",
        "reset_array_api_strict_flags",
    }
    assert {n for n in functions if not n.startswith("_")} - own <= set(ALL)
    for extension, names in (("linalg", _standard.LINALG), ("fft", _standard.FFT)):
        assert set(getattr(strict, extension).__all__) <= set(names)


# ---------------------------------------------------------------- the cases
def normal(*shape, seed=0):
    """Numbers at a distance from each other and from 0, so that no kink is near."""
    n = math.prod(shape)
    rng = np.random.default_rng([seed, *shape])
    places = (rng.permutation(n) - n / 2 + 0.3) * 3.1 / max(n, 1)
    return (places + rng.uniform(-0.05, 0.05, n) / max(n, 1)).reshape(shape)


def uniform(low, high, *shape, seed=0):
    return np.random.default_rng([seed, 1, *shape]).uniform(low, high, shape)


ARRAYS = {
    "x": normal(3, 4),
    "y": normal(4, seed=5) + 0.01,
    "t": normal(2, 3, 4),
    "v": normal(3, seed=1),
    "o": np.asarray(0.7),
    "m": normal(3, 3) + np.eye(3),
    "n": normal(2, 3, 3, seed=2) + 2 * np.eye(3),
    "u": uniform(-0.8, 0.8, 3, 4),
    "p": uniform(0.6, 1.9, 3, 4),
    "q": uniform(0.7, 2.1, 4, seed=1),
}

# A function, a call, and "real" where the standard has it, or its argument, for real numbers only.
CALLS = """
abs | xp.abs(x)
acos | xp.acos(u)
acosh | xp.acosh(p + 1)
add | xp.add(x, y)
asin | xp.asin(u)
asinh | xp.asinh(x)
atan | xp.atan(u)
atan2 | xp.atan2(x, y) | real
atanh | xp.atanh(u)
conj | xp.conj(x) * x
copysign | xp.copysign(x, y) ** 2 | real
cos | xp.cos(x)
cosh | xp.cosh(x)
clip | xp.clip(x, -xp.abs(y) / 2, q / 3) ** 2 | real
divide | xp.divide(x, q)
exp | xp.exp(x)
expm1 | xp.expm1(x)
hypot | xp.hypot(x, y) | real
imag | xp.imag(x * (1 + 2j)) ** 2
log | xp.log(p)
log1p | xp.log1p(p)
log2 | xp.log2(p)
log10 | xp.log10(p)
logaddexp | xp.logaddexp(x, y) | real
maximum | xp.maximum(x, y) ** 2 | real
minimum | xp.minimum(x, y) ** 2 | real
multiply | xp.multiply(x, y)
negative | xp.negative(x) ** 2
nextafter | xp.nextafter(x, xp.zeros_like(x)) ** 2 | real
positive | xp.positive(x) ** 2
pow | xp.pow(p, y)
real | xp.real(x * (1 + 2j)) ** 2
reciprocal | xp.reciprocal(p)
remainder | xp.remainder(x, q + 4) ** 2 | real
sign | xp.sign(x) * x
sin | xp.sin(x)
sinh | xp.sinh(x)
square | xp.square(x)
sqrt | xp.sqrt(p)
subtract | xp.subtract(x, y) ** 2
tan | xp.tan(u)
tanh | xp.tanh(x)
ceil | xp.ceil(x) * x | real
floor | xp.floor(x) * x | real
floor_divide | xp.floor_divide(x + 7.2, q + 3) * x | real
round | xp.round(x) * x | real
trunc | xp.trunc(x) * x | real
arange | xp.arange(o, 4.0, o, dtype=o.dtype) ** 2 | real
asarray | xp.asarray([[x[0, 0], x[1, 2]], [o, o]]) ** 2
full | xp.full((2, 3), o) ** 2
full_like | xp.full_like(x, o) ** 2
linspace | xp.linspace(o, o * o + 3, 4) ** 2
meshgrid | xp.meshgrid(v, y)[0] * xp.meshgrid(v, y)[1]
tril | xp.tril(x, k=1) ** 2
triu | xp.triu(x, k=-1) ** 2
astype | xp.astype(x, "complex128") ** 2
take | xp.take(x, xp.asarray([1, 1, 0]), axis=1) ** 2
take_along_axis | xp.take_along_axis(x, xp.asarray([[1, 2, 1, 0]]), axis=0) ** 2
matmul | xp.matmul(n, m)
matrix_transpose | xp.matrix_transpose(n) ** 2
tensordot | xp.tensordot(t, x, axes=((1, 2), (0, 1)))
vecdot | xp.vecdot(x, y)
broadcast_arrays | xp.broadcast_arrays(x, y)[1] ** 2
broadcast_to | xp.broadcast_to(y, (3, 4)) ** 2
concat | xp.concat([x, y[None, :], x * x], axis=0) ** 2
expand_dims | xp.expand_dims(x, axis=1) ** 2
flip | xp.flip(x, axis=0) * x
moveaxis | xp.moveaxis(t, 0, -1) ** 2
permute_dims | xp.permute_dims(t, (2, 0, 1)) ** 2
repeat | xp.repeat(x, xp.asarray([1, 0, 2]), axis=0) ** 2
reshape | xp.reshape(x, (2, 6)) ** 2
roll | xp.roll(x, (2, 1), axis=(1, 0)) * x
squeeze | xp.squeeze(x[:, None, :], axis=1) ** 2
stack | xp.stack([x, x * x], axis=1) ** 2
tile | xp.tile(x, (2, 1)) ** 2
unstack | xp.unstack(x, axis=1)[2] ** 2
where | xp.where(X > 0, x, y) ** 2
unique_all | xp.unique_all(v).values ** 2 | real
unique_counts | xp.unique_counts(v).values ** 2 | real
unique_inverse | xp.unique_inverse(v).values ** 2 | real
unique_values | xp.unique_values(v) ** 2 | real
sort | xp.sort(x, axis=0, descending=True) ** 2 | real
cumulative_prod | xp.cumulative_prod(x, axis=1)
cumulative_sum | xp.cumulative_sum(x, axis=1, include_initial=True) ** 2
max | xp.max(x, axis=1) ** 2 | real
mean | xp.mean(x, axis=0) ** 2
min | xp.min(x, axis=(0, 1)) ** 2 | real
prod | xp.prod(x, axis=0)
std | xp.std(x, axis=1) | real
sum | xp.sum(x, axis=0) ** 2
var | xp.var(x, axis=1, correction=1) | real
diff | xp.diff(x, n=2, axis=1) ** 2
linalg.cholesky | xp.linalg.cholesky(m @ H(m) + 2 * I)
linalg.cross | xp.linalg.cross(m, v)
linalg.det | xp.linalg.det(n)
linalg.diagonal | xp.linalg.diagonal(n, offset=1) ** 2
linalg.eig | (xp.linalg.eig(m).eigenvalues, xp.abs(xp.linalg.eig(m).eigenvectors) ** 2)
linalg.eigh | function_of_hermitian(m + H(m))
linalg.eigvals | xp.linalg.eigvals(m)
linalg.eigvalsh | xp.linalg.eigvalsh(m + H(m))
linalg.inv | xp.linalg.inv(n)
linalg.matrix_norm | xp.linalg.matrix_norm(x, ord="nuc")
linalg.matrix_power | xp.linalg.matrix_power(m, 3)
linalg.outer | xp.linalg.outer(v, y)
linalg.pinv | xp.linalg.pinv(x)
linalg.qr | tuple(xp.linalg.qr(x.mT))
linalg.slogdet | tuple(xp.linalg.slogdet(n))
linalg.solve | xp.linalg.solve(n, m)
linalg.svd | function_of_matrix(x)
linalg.svdvals | xp.linalg.svdvals(x)
linalg.trace | xp.linalg.trace(n) ** 2
linalg.vector_norm | xp.linalg.vector_norm(x, ord=3, axis=1)
fft.fft | xp.fft.fft(x, n=5)
fft.fftn | xp.fft.fftn(t, axes=(0, 2))
fft.fftshift | xp.fft.fftshift(x) * x
fft.hfft | xp.fft.hfft(x)
fft.ifft | xp.fft.ifft(x, n=3)
fft.ifftn | xp.fft.ifftn(t)
fft.ifftshift | xp.fft.ifftshift(x, axes=1) * x
fft.ihfft | xp.fft.ihfft(x) | real
fft.irfft | xp.fft.irfft(x)
fft.irfftn | xp.fft.irfftn(t)
fft.rfft | xp.fft.rfft(x) | real
fft.rfftn | xp.fft.rfftn(t) | real
"""
CASES = {line.split(" | ")[0]: line.split(" | ")[1:] for line in CALLS.strip().splitlines()}
REAL = [n for n, (_, *real) in CASES.items() if real]
CHECKED = [(n, "float64") for n in CASES] + [(n, "complex128") for n in CASES if n not in REAL]


def test_every_differentiable_function_has_a_case():
    """A function without one fails this test, and so does a case of none."""
    assert set(CASES) == DIFFERENTIABLE | ZERO
    assert len(CALLS.strip().splitlines()) == len(CASES)


def test_a_case_calls_its_function():
    for name, (call, *_) in CASES.items():
        helper = {"linalg.eigh": "function_of_hermitian", "linalg.svd": "function_of_matrix"}
        assert helper.get(name, f"xp.{name}(") in call


def case(xp, name, dtype):
    """Return a function of Tensors, and these."""
    names = [n for n in ARRAYS if n in _names(CASES[name][0])]
    arrays = {n: ARRAYS[n] for n in names}
    if dtype == "complex128":
        arrays = {n: a + 0.6j * np.roll(normal(*a.shape, seed=9), 1) for n, a in arrays.items()}

    def adjoint(a):
        return xp.conj(a.mT) if a.dtype.kind == "c" else a.mT

    def function_of_hermitian(a):
        w, v = xp.linalg.eigh(a)
        return (v * xp.exp(w / 4)[None, :]) @ adjoint(v), xp.abs(v) ** 2

    def function_of_matrix(a):
        u, s, vh = xp.linalg.svd(a, full_matrices=False)
        return (u * (s * s)[None, :]) @ vh, xp.abs(u) ** 2, xp.abs(vh) ** 2

    helpers = {
        "xp": xp,
        "H": adjoint,
        "I": xp.eye(3, dtype="float64"),
        "X": xp.asarray(ARRAYS["x"]),
        "function_of_hermitian": function_of_hermitian,
        "function_of_matrix": function_of_matrix,
    }

    def function(*tensors):
        return eval(CASES[name][0], helpers | dict(zip(names, tensors, strict=True)))

    return function, [xp.asarray(a) for a in arrays.values()]


def _names(call):
    return compile(call, "", "eval").co_names


SCANS = {"prod", "cumulative_prod", "cumulative_sum"}
EMULATED = pytest.mark.skip_backend(
    "cupy", reason="CuPy's running sum of complex numbers does not compile on the emulator"
)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(n, d, marks=EMULATED) if n in SCANS and d == "complex128" else (n, d)
        for n, d in CHECKED
    ],
)
def test_derivatives(xp, name, dtype):
    """Orders 1 and 2, forward and reverse."""
    function, tensors = case(xp, name, dtype)
    gradcheck(function, *tensors, step=3e-4 if name.startswith("linalg") else 1e-3)


RULES = [
    pytest.param(name, place, marks=EMULATED) if name in SCANS else (name, place)
    for name in CASES
    if name in IN_TABLE
    for place, rule in enumerate(TABLE[name].rules or (TABLE[name].each,))
    if rule not in (None, _rules.flat)
]


@pytest.mark.parametrize(("name", "place"), RULES)
def test_an_error_of_a_thousandth_in_any_rule_is_caught(xp, monkeypatch, name, place):
    line = TABLE[name]
    rules = list(line.rules) or [line.each]
    right = rules[place]

    def wrong(xp, g, out, *args, **kwargs):
        return right(xp, g, out, *args, **kwargs) * 1.001

    rules[place] = wrong
    monkeypatch.setattr(line, *(("rules", tuple(rules)) if line.rules else ("each", wrong)))
    for dtype in ("float64", "complex128"):
        if (name, dtype) in CHECKED and (name, dtype) != ("sign", "float64"):  # which is constant
            function, tensors = case(xp, name, dtype)
            with pytest.raises(GradientError):
                gradcheck(function, *tensors, order=1)


@pytest.mark.parametrize("name", sorted(ZERO))
def test_zero_is_zero(xp, name):
    """The functions of the second class have a gradient, and it is 0."""
    x = xp.Tensor(ARRAYS["x"], requires_grad=True)
    out = getattr(xp, name)(*[x, 0.7][: 1 + (name == "floor_divide")])
    assert out.requires_grad
    xp.sum(out).backward()
    assert not x.grad.numpy().any()


# ---------------------------------------------------------------- those without a derivative
OF_ARRAYS = {
    "equal greater greater_equal less less_equal not_equal searchsorted": lambda f, x: f(x, x),
    "all any argmax argmin argsort count_nonzero isfinite isinf isnan signbit linalg.matrix_rank": (
        lambda f, x: f(x)
    ),
    "empty_like ones_like zeros_like": lambda f, x: f(x),
    "nonzero": lambda f, x: f(x)[0],
}
ONLY_OTHERS = set(
    """bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
    logical_and logical_not logical_or logical_xor broadcast_shapes can_cast finfo iinfo isdtype result_type
    isin empty eye ones zeros fft.fftfreq fft.rfftfreq from_dlpack""".split()
)  # take numbers, or integers, or refuse what requires a gradient


def test_what_has_no_derivative_keeps_no_graph(xp):
    seen = set(ONLY_OTHERS)
    for names, call in OF_ARRAYS.items():
        for name in names.split():
            function = xp
            for part in name.split("."):
                function = getattr(function, part)
            x = xp.Tensor([0.5, 1.0, 2.0], requires_grad=True)
            x = x if name != "linalg.matrix_rank" else xp.linalg.outer(x, x)
            assert not call(function, x).requires_grad
            seen.add(name)
    assert seen == NONE
