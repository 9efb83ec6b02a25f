"""Random programs over the namespace: values, gradients and second derivatives against PyTorch."""

from __future__ import annotations

import os
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyxp.autograd import _graph, grad

torch = pytest.importorskip("torch")
host = pytest.importorskip("array_api_compat.numpy")
reference = pytest.importorskip("array_api_compat.torch")

EXAMPLES = int(os.environ.get("TINYXP_RANDOM_PROGRAMS", "100"))

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
INDEX = (
    "{a}[0] {a}[1:] {a}[::2] {a}[...,-1] {a}[None] {a}[[0,0,-1]] {a}[{a}>0.1] {a}[-1:,...]".split()
)


def fits(a, b):
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return True


@st.composite
def lines(draw, arrays):
    """A line that runs on arrays of these shapes (most of the time)."""
    i = draw(st.integers(0, len(arrays) - 1))
    a = arrays[i]
    j = draw(st.sampled_from([j for j, b in enumerate(arrays) if fits(a, b)]))
    groups = [[f"lib.{u}" for u in UNARY], [f"lib.{b}" for b in BINARY], NUMBERS]
    if a.ndim:
        groups += [[f"lib.{r}" for r in REDUCE], INDEX]
    if a.ndim > 1:
        groups.append([f"lib.{m}" for m in MATRIX])
    one = draw(st.integers(-a.ndim, a.ndim - 1)) if a.ndim else 0
    axis = draw(st.sampled_from([None, one, tuple(range(a.ndim))]))
    order = tuple(draw(st.permutations(range(a.ndim))))
    keep = draw(st.booleans())
    text = draw(st.sampled_from(draw(st.sampled_from(groups))))
    return text.format(a=f"xs[{i}]", b=f"xs[{j}]", one=one, axis=axis, order=order, keep=keep)


class Program:
    """Lines, the arrays that they start from, and the weights of all arrays in the result."""

    def __init__(self, draw, least, most):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        side = st.integers(1, 4)
        shape = tuple(draw(st.lists(side, max_size=3)))
        smaller = tuple(draw(st.sampled_from([n, 1])) for n in shape)[
            draw(st.integers(0, len(shape))) :
        ]
        self.inputs = [rng.normal(size=s) for s in (shape, smaller, shape)]
        self.lines = []
        arrays = [np.asarray(x) for x in self.inputs]
        for _ in range(draw(st.integers(least, most))):
            self.grow(draw(lines(arrays)), arrays)
        self.rng = rng

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
        self.lines.append(line)
        arrays.append(new)

    def __repr__(self):
        return "\n".join([str([x.shape for x in self.inputs]), *self.lines])

    def run(self, lib, inputs):
        """Return the arrays, the inputs included."""
        xs = list(inputs)
        for line in self.lines:
            xs.append(eval(line, {"lib": lib, "xs": xs}))
        return xs


@st.composite
def programs(draw, least=5, most=30):
    return Program(draw, least, most)


def derivatives(program, lib, inputs, differentiate, numpy):
    """Return the values, the gradients, and a second derivative: the gradient of <gradient, direction>."""
    xs = program.run(lib, inputs)
    rng = np.random.default_rng(0)
    total = sum(lib.sum(x * lib.asarray(rng.normal(size=tuple(x.shape)))) for x in xs)
    first = differentiate(total, inputs, create_graph=True)
    directed = sum(lib.sum(g * lib.asarray(rng.normal(size=tuple(g.shape)))) for g in first)
    second = [None] * len(inputs)
    if directed.requires_grad:
        second = differentiate(directed, inputs, allow_unused=True)
    second = [
        np.zeros(tuple(x.shape)) if h is None else numpy(h)
        for h, x in zip(second, inputs, strict=True)
    ]
    return [numpy(x) for x in xs], [numpy(g) for g in first], second


def of_torch(program):
    inputs = [torch.asarray(x).requires_grad_() for x in program.inputs]
    return derivatives(
        program, reference, inputs, torch.autograd.grad, lambda t: t.numpy(force=True)
    )


def of_tinyxp(xp, program):
    inputs = [xp.Tensor(x, requires_grad=True) for x in program.inputs]
    return derivatives(program, xp, inputs, grad, lambda t: t.detach().numpy())


def generic(found):
    """Whether all numbers are finite and of a size that rounding leaves comparable."""
    return all(
        np.all(np.isfinite(a)) and np.max(np.abs(a), initial=0.0) < 1e6
        for part in found
        for a in part
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_against_pytorch(xp):
    counts = Counter()

    @settings(max_examples=EXAMPLES)
    @given(program=programs())
    def check(program):
        expected = of_torch(program)
        if not generic(expected):
            counts["rejected"] += 1
            return
        counts["compared"] += 1
        counts["operations"] += len(program.lines)
        found = of_tinyxp(xp, program)
        for ours, theirs, tolerance in zip(found, expected, (1e-11, 1e-8, 1e-6), strict=True):
            scale = max([1.0, *(np.max(np.abs(t), initial=0.0) for t in theirs)])
            for a, b in zip(ours, theirs, strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)

    check()
    sys.stdout.write(f"random programs: {dict(counts)}\n")  # seen with pytest -rP
    assert counts["rejected"] < 0.1 * counts["compared"]
    assert counts["operations"] > 5 * counts["compared"]


def test_rules_own_what_they_return(xp, backend, monkeypatch):
    """The engine adds cotangents up in place: a rule not marked `passes` returns none of its arguments."""
    rules = _graph.raw_cotangents

    def watched(node, gs, *rest):
        found = rules(node, gs, *rest)
        held = [a for a in (*gs, *node.args, node.out) if isinstance(a, backend.array_type)]
        for r in found:
            if isinstance(r, backend.array_type) and not (node.op.passes or node.op.on_tensors):
                assert not any(backend.shares_memory(r, a) for a in held), node.name
        return found

    monkeypatch.setattr(_graph, "raw_cotangents", watched)

    @settings(max_examples=EXAMPLES // 2)
    @given(program=programs())
    def check(program):
        inputs = [xp.Tensor(x, requires_grad=True) for x in program.inputs]
        xs = program.run(xp, inputs)
        grad(sum(xp.sum(x * (x + 1.0)) for x in xs), inputs)

    check()
