"""Random programs over the namespace: values, gradients and second derivatives against PyTorch and JAX.

``python conformance/random_programs.py`` draws a thousand for each, and says how many it had to reject.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tinyxp.autograd import _record, grad

host = pytest.importorskip("array_api_compat.numpy", reason="compares with NumPy")

EXAMPLES = int(os.environ.get("TINYXP_RANDOM_PROGRAMS", "100"))
LEAST, MOST = 5, 50  # operations
MUCH_IS_DRAWN = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

# A program is a list of lines of Python that append to `xs`; `lib` has the standard's names. Arguments are
# kept away from poles; what gets large is scaled down. {a} and {b} are arrays that broadcast.
UNARY = """sin({a}) cos({a}) tanh({a}) exp(0.3*{a}) expm1(0.2*{a}) square({a}) negative({a}) abs({a}) atan({a})
asinh({a}) sinh(0.3*{a}) cosh(0.3*{a}) tan(0.2*lib.tanh({a})) asin(0.9*lib.tanh({a})) acos(0.9*lib.tanh({a}))
atanh(0.9*lib.tanh({a})) acosh(1.5+lib.square({a})) sqrt(0.5+lib.abs({a})) log(0.5+lib.abs({a}))
log1p(lib.square({a})) log2(0.5+lib.abs({a})) log10(0.5+lib.abs({a})) reciprocal(1.0+lib.square({a})) sign({a})
floor({a}) ceil({a}) trunc({a}) round({a}) positive({a})""".split()
BINARY = """add({a},{b}) subtract({a},{b}) multiply({a},{b}) divide({a},1.0+lib.square({b})) maximum({a},{b})
minimum({a},{b}) atan2({a},{b}) hypot({a},{b}) logaddexp({a},{b}) pow(0.5+lib.abs({a}),0.5*{b}) copysign({a},{b})
remainder({a},1.0+lib.square({b})) where({a}>{b},{a},{b}*{b})
where({a}<0.3,{b},{a})""".split()
NUMBERS = """{a}+1.5 2.5-{a} {a}*-0.7 {a}/3.0 1.0/(1.0+{a}*{a}) {a}**2 (0.5+lib.abs({a}))**1.5 2.0**(0.2*{a})
lib.clip({a},-0.6,0.7) lib.clip({a},None,0.5) lib.clip({a},-0.4) lib.maximum({a},lib.ones_like({a}))
lib.where({a}>0.1,{a},lib.zeros_like({a}))""".split()
REDUCE = """sum({a},axis={axis},keepdims={keep}) mean({a},axis={axis},keepdims={keep}) max({a},axis={axis},keepdims={keep})
min({a},axis={axis},keepdims={keep}) prod({a},axis={one},keepdims={keep}) var({a},axis={axis},keepdims={keep})
std({a},axis={axis},keepdims={keep}) cumulative_sum({a},axis={one}) cumulative_prod({a},axis={one})
sort({a},axis={one}) sort({a},axis={one},descending=True) flip({a},axis={one}) roll({a},2,axis={one})
diff({a},axis={one}) repeat({a},2,axis={one}) expand_dims({a},axis={one}) unstack({a},axis={one})[0]
take_along_axis({a},lib.argsort({a},axis={one}),axis={one}) take({a},lib.asarray([0,0]),axis={one})
concat([{a},2.0*{a}],axis={one}) stack([{a},{a}*{a}],axis={one}) reshape({a},(-1,)) concat([{a},{a}],axis=None)
moveaxis({a},{one},0) permute_dims({a},{order}) broadcast_to({a},(2,*{a}.shape)) tile({a},(2,1))""".split()
MATRIX = """matmul({a},lib.matrix_transpose({a})) tril({a}) triu({a},k=1) matrix_transpose({a})
tensordot({a},{a},axes=1) vecdot({a},{a}*{a}) matmul({a}[...,0,:],lib.matrix_transpose({a}))""".split()
INDEX = "{a}[0] {a}[1:] {a}[::2] {a}[...,-1] {a}[None] {a}[lib.asarray([0,0,-1])] {a}[{a}>0.1] {a}[-1:,...]".split()


# What the standard has for real numbers only.
OF_REAL = re.compile(
    r"[<>]|atan2|ceil|clip|copysign|floor|hypot|logaddexp|max|min|remainder|round|sort|std|trunc|var"
)


def fits(a, b):
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return True


@st.composite
def lines(draw, arrays, *, complex_):
    """A line that runs on arrays of these shapes (most of the time)."""
    i = draw(st.integers(0, len(arrays) - 1))
    a = arrays[i]
    j = draw(st.sampled_from([j for j, b in enumerate(arrays) if fits(a, b)]))
    groups = [[f"lib.{u}" for u in UNARY], [f"lib.{b}" for b in BINARY], NUMBERS]
    if a.ndim:
        groups += [[f"lib.{r}" for r in REDUCE], INDEX]
    if a.ndim > 1:
        groups.append([f"lib.{m}" for m in MATRIX])
    if complex_:
        groups = [[text for text in group if not OF_REAL.search(text)] for group in groups]
    one = draw(st.integers(-a.ndim, a.ndim - 1)) if a.ndim else 0
    axis = draw(st.sampled_from([None, one, tuple(range(a.ndim))]))
    order = tuple(draw(st.permutations(range(a.ndim))))
    keep = draw(st.booleans())
    text = draw(st.sampled_from(draw(st.sampled_from(groups))))
    return text.format(a=f"xs[{i}]", b=f"xs[{j}]", one=one, axis=axis, order=order, keep=keep)


def operations(line):
    """How many operations a line has: calls, operators, and indexing other than of `xs`."""
    found = 0
    for n in ast.walk(ast.parse(line, mode="eval")):
        if isinstance(n, ast.Call):
            found += n.func.attr != "asarray"
        elif isinstance(n, ast.Subscript):
            found += not isinstance(n.value, ast.Name)
        else:
            found += isinstance(n, (ast.BinOp, ast.Compare))
    return found


class Program:
    """Lines, the arrays that they start from, two of them complex perhaps, and the number of operations."""

    def __init__(self, draw, *, complex_):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        side = st.integers(1, 4)
        shape = tuple(draw(st.lists(side, max_size=3)))
        smaller = tuple(draw(st.sampled_from([n, 1])) for n in shape)[
            draw(st.integers(0, len(shape))) :
        ]
        self.inputs = [rng.normal(size=s) for s in (shape, smaller, shape)]
        if complex_:
            for i in (0, 2):
                self.inputs[i] = self.inputs[i] + 1j * rng.normal(size=shape)
        self.lines = []
        self.operations = 0
        arrays = [np.asarray(x) for x in self.inputs]
        wanted = draw(st.integers(LEAST, MOST))
        for _ in range(3 * MOST):
            if self.operations >= wanted:
                break
            self.grow(draw(lines(arrays, complex_=complex_)), arrays)
        assume(self.operations >= LEAST)

    def grow(self, line, arrays):
        """Add a line if it runs on NumPy and gives few finite numbers; scale them if they are large."""
        try:
            with np.errstate(all="ignore"):
                new = np.asarray(eval(line, {"lib": host, "xs": arrays}))
        except (ValueError, IndexError, np.exceptions.AxisError):
            return
        if new.size > 100 or not np.all(np.isfinite(new)):
            return
        largest = np.max(np.abs(new), initial=0.0)
        if largest > 4.0:
            factor = float(2.0 ** -np.ceil(np.log2(largest / 2.0)))
            line, new = f"{factor}*({line})", factor * new
        if self.operations + operations(line) <= MOST:
            self.operations += operations(line)
            self.lines.append(line)
            arrays.append(new)

    def __repr__(self):
        return "\n".join([str([(x.shape, x.dtype) for x in self.inputs]), *self.lines])

    def run(self, lib, inputs):
        """Return the arrays, the inputs included."""
        xs = list(inputs)
        for line in self.lines:
            xs.append(eval(line, {"lib": lib, "xs": xs}))
        return xs


@st.composite
def programs(draw, *, complex_):
    return Program(draw, complex_=complex_)


def numbers(rng, like):
    """Random numbers with the shape of an array, complex where it is."""
    real = rng.normal(size=tuple(like.shape))
    return real + 1j * rng.normal(size=real.shape) if "complex" in str(like.dtype) else real


class Reference:
    """Values, gradients, and of <gradient, direction> the gradient, by a library, in float64."""

    def __init__(self, lib, numpy):
        self.lib, self.numpy = lib, numpy

    def loss(self, program, inputs):
        xs = program.run(self.lib, inputs)
        rng = np.random.default_rng(0)
        return sum(self.inner(numbers(rng, x), x) for x in xs), xs

    def inner(self, weights, x):
        """Return the real part of <weights, x>."""
        product = self.lib.asarray(weights.conj()) * x
        return self.lib.sum(self.lib.real(product) if weights.dtype.kind == "c" else product)

    def directions(self, program):
        rng = np.random.default_rng(1)
        return [numbers(rng, x) for x in program.inputs]


class Recorded(Reference):
    """A library with a ``grad(outputs, inputs, create_graph=…)``."""

    def __init__(self, lib, numpy, leaf, differentiate):
        super().__init__(lib, numpy)
        self.leaf, self.differentiate = leaf, differentiate

    def __call__(self, program):
        inputs = [self.leaf(x) for x in program.inputs]
        total, xs = self.loss(program, inputs)
        first = self.differentiate(total, inputs, create_graph=True)
        along = zip(self.directions(program), first, strict=True)
        directed = sum(self.inner(d, g) for d, g in along)
        second = [None] * len(inputs)
        if directed.requires_grad:
            second = self.differentiate(directed, inputs, allow_unused=True)
        second = [
            np.zeros(tuple(x.shape)) if h is None else self.numpy(h)
            for h, x in zip(second, inputs, strict=True)
        ]
        return [self.numpy(x) for x in xs], [self.numpy(g) for g in first], second


class Traced(Reference):
    """JAX: the gradient as a function, and its derivative along the direction."""

    def __init__(self, jax):
        super().__init__(jax.numpy, np.asarray)
        self.jax = jax

    def __call__(self, program):
        with self.jax.enable_x64(True):
            inputs = [self.lib.asarray(x) for x in program.inputs]
            gradient = self.jax.grad(lambda xs: self.loss(program, xs)[0])
            directions = [self.lib.asarray(d) for d in self.directions(program)]
            first, second = self.jax.jvp(gradient, (inputs,), (directions,))
            values = program.run(self.lib, inputs)
            return [[np.asarray(x) for x in part] for part in (values, first, second)]


def of_tinyxp(xp):
    return Recorded(
        xp, lambda t: t.detach().numpy(), lambda x: xp.Tensor(x, requires_grad=True), grad
    )


def of_pytorch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    lib = pytest.importorskip("array_api_compat.torch", reason="compares with PyTorch")
    return Recorded(
        lib,
        lambda t: t.numpy(force=True),
        lambda x: torch.asarray(x).requires_grad_(),
        torch.autograd.grad,
    )


def of_jax():
    return Traced(pytest.importorskip("jax", reason="compares with JAX"))


def generic(found):
    """Whether all numbers are finite and of a size that rounding leaves comparable."""
    return all(
        np.all(np.isfinite(a)) and np.max(np.abs(a), initial=0.0) < 1e6
        for part in found
        for a in part
    )


def compare(xp, reference, examples, *, complex_=False):
    """Draw programs, and compare those that are at generic points; return their numbers of operations."""
    ours = of_tinyxp(xp)
    sizes, rejected = [], 0

    @settings(max_examples=examples, suppress_health_check=MUCH_IS_DRAWN)
    @given(program=programs(complex_=complex_))
    def check(program):
        nonlocal rejected
        expected = reference(program)
        if not generic(expected):
            rejected += 1
            return
        sizes.append(program.operations)
        for mine, theirs, tolerance in zip(
            ours(program), expected, (1e-11, 1e-8, 1e-6), strict=True
        ):
            scale = max([1.0, *(np.max(np.abs(t), initial=0.0) for t in theirs)])
            for a, b in zip(mine, theirs, strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)

    start = time.perf_counter()
    check()
    sys.stdout.write(  # seen with pytest -rP
        f"random programs: {len(sizes)} compared, of {min(sizes)} to {max(sizes)} operations, "
        f"{sum(sizes) / len(sizes):.1f} on average; {rejected} rejected "
        f"({rejected / (rejected + len(sizes)):.1%}); {time.perf_counter() - start:.0f} s\n"
    )
    return sizes, rejected


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("make", "complex_"), [(of_pytorch, False), (of_pytorch, True), (of_jax, False)]
)
def test_against(xp, make, complex_):
    """Of JAX only real numbers: its complex sign has derivative 0, its acosh the wrong sign left of 0."""
    if make is of_jax and "TINYXP_RANDOM_PROGRAMS" not in os.environ:
        pytest.skip("JAX compiles for minutes: python conformance/random_programs.py jax")
    sizes, rejected = compare(xp, make(), EXAMPLES, complex_=complex_)
    assert rejected < 0.1 * len(sizes)
    assert LEAST <= min(sizes) <= max(sizes) <= MOST
    assert sum(sizes) > 12 * len(sizes)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_rule_is_found(xp, monkeypatch):
    """The comparison can fail: one rule that is wrong by 0.1 % among all of them."""
    line = _record.TABLE["sin"]
    wrong = (lambda xp, g, _out, x: 1.001 * g * xp.cos(x),)
    right = of_tinyxp(xp)

    class Right:
        def __call__(self, program):
            with monkeypatch.context() as patch:
                patch.setattr(line, "rules", line_rules)
                return right(program)

    line_rules = line.rules
    monkeypatch.setattr(line, "rules", wrong)
    with pytest.raises(AssertionError):
        compare(xp, Right(), EXAMPLES)


def test_rules_own_what_they_return(xp, backend, monkeypatch):
    """The engine adds cotangents up in place: a rule not marked `passes` returns none of its arguments."""
    seen = set()

    def watched(name, rule):
        def checked(xp, g, out, *args, **kwargs):
            r = rule(xp, g, out, *args, **kwargs)
            if isinstance(r, backend.array_type):
                held = [a for a in (g, out, *args) if isinstance(a, backend.array_type)]
                assert not any(backend.shares_memory(r, a) for a in held), name
                seen.add(name)
            return r

        return checked

    for name, line in _record.TABLE.items():
        if line.ordinary and not line.passes:
            rules = tuple(r and watched(name, r) for r in line.rules)
            monkeypatch.setattr(line, "rules", rules)

    @settings(max_examples=EXAMPLES // 2)
    @given(program=programs(complex_=False))
    def check(program):
        inputs = [xp.Tensor(x, requires_grad=True) for x in program.inputs]
        xs = program.run(xp, inputs)
        grad(sum(xp.sum(x * (x + 1.0)) for x in xs), inputs)

    check()
    assert len(seen) > 10
