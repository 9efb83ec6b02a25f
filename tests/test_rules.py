"""Every line of the table of derivatives against finite differences, on every backend."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinyxp
from tinyxp import ops
from tinyxp.autograd import _cotangents, _record, _rules
from tinyxp.testing import GradientError, gradcheck


def normal(*shape, seed=0, complex_=False):
    """Normal numbers at distance from each other and from 0, so that no kink is near."""
    rng = np.random.default_rng([seed, *shape])
    n = math.prod(shape)
    values = (rng.permutation(n) - n / 2 + 0.3) * 3.1 / max(n, 1) + rng.uniform(
        -0.05, 0.05, n
    ) / max(n, 1)
    values = values.reshape(shape)
    return values + 1j * np.roll(values, 1) * 0.7 if complex_ else values


def positive(*shape, seed=0):
    return np.random.default_rng([seed, 1, *shape]).uniform(0.6, 1.9, shape)


def inside(*shape):
    return np.random.default_rng([2, *shape]).uniform(-0.8, 0.8, shape)


def zeros_in(*shape):
    x = normal(*shape)
    x.flat[[1, 4, 5]] = 0.0
    return x


# One line for each operation: name, function of the namespace, arrays. Cases that need it follow below.
UNARY = [
    (
        normal,
        "abs acosh_ atan asinh cos cosh exp expm1 negative positive sin sinh square tanh erf conj".split(),
    ),
    (positive, "log log1p log2 log10 sqrt reciprocal".split()),
    (inside, "asin acos atanh tan".split()),
    (normal, "sign ceil floor round trunc".split()),
]
CASES = {
    name: (lambda xp, x, name=name: getattr(xp, name)(x), [make(3, 4)])
    for make, names in UNARY
    for name in names
    if not name.endswith("_")
}
CASES["acosh"] = (lambda xp, x: xp.acosh(x), [positive(3) + 1])
CASES |= {
    name: (
        lambda xp, x, y, name=name: getattr(xp, name)(x, y),
        [normal(3, 4), normal(4, seed=5) + 0.01],
    )
    for name in "add subtract multiply divide atan2 hypot logaddexp maximum minimum copysign".split()
}
CASES |= {
    "pow": (lambda xp, x, y: xp.pow(x, y), [positive(3, 4), normal(3, 1)]),
    "remainder": (lambda xp, x, y: xp.remainder(x, y), [normal(5), positive(5) + 4]),
    "floor_divide": (lambda xp, x, y: xp.floor_divide(x, y), [normal(5) + 7.2, np.full(5, 3.1)]),
    "nextafter": (lambda xp, x: xp.nextafter(x, xp.zeros_like(x)), [normal(4)]),
    "real": (lambda xp, x: xp.real(x), [normal(3, 4, complex_=True)]),
    "imag": (lambda xp, x: xp.imag(x), [normal(3, 4, complex_=True)]),
    "clip": (
        lambda xp, x, a, b: xp.clip(x, a, b),
        [np.asarray([-2.0, -0.5, 0.5, 2.0, 1.0]), np.full(5, -1.0), np.full(5, 1.3)],
    ),
    "where": (lambda xp, x, y: xp.where(x > 0, x, y), [normal(3, 4), normal(4, seed=1)]),
    "astype": (lambda xp, x: xp.astype(x, "complex128") * (1 + 2j), [normal(3)]),
    "to_device": (lambda xp, x: x.to("strict:device1").to(x.device) * x, [normal(3)]),
    "reshape": (lambda xp, x: xp.reshape(x, (6, 2)) * xp.reshape(x, (6, 2)), [normal(3, 4)]),
    "broadcast_to": (lambda xp, x: xp.broadcast_to(x, (2, 3, 4)) ** 2, [normal(3, 1)]),
    "permute_dims": (lambda xp, x: xp.permute_dims(x, (2, 0, -2)) ** 2, [normal(2, 3, 4)]),
    "roll": (lambda xp, x: xp.roll(x, (2, 1), axis=(1, 0)) * x, [normal(3, 4)]),
    "tril": (lambda xp, x: xp.tril(x * x, k=1), [normal(3, 4)]),
    "triu": (lambda xp, x: xp.triu(x * x, k=-1), [normal(3, 4)]),
    "repeat": (lambda xp, x: xp.repeat(x, xp.asarray([1, 0, 2]), axis=0) ** 2, [normal(3, 4)]),
    "concat": (
        lambda xp, x, y: xp.concat([x, y, x * x], axis=1) ** 2,
        [normal(3, 4), normal(3, 2)],
    ),
    "stack": (
        lambda xp, x, y: xp.stack([x, y, x], axis=1) ** 2,
        [normal(3, 4), normal(3, 4, seed=1)],
    ),
    "getitem": (lambda xp, x: x[1:, ::-2] ** 2 + x[0, 0], [normal(3, 5)]),
    "unindex": (lambda xp, x: ops.unindex(x * x, (slice(None), 1), (4, 3)), [normal(4)]),
    "take": (lambda xp, x: xp.take(x, xp.asarray([1, 1, 0]), axis=1) ** 2, [normal(3, 4)]),
    "segment_sum": (
        lambda xp, x: ops.segment_sum(x, xp.asarray([1, 0, 1]), 3, axis=0) ** 2,
        [normal(3, 4)],
    ),
    "unfold": (
        lambda xp, x: xp.unfold(x, (2, 1), stride=(1, 2), dilation=2) ** 2,
        [normal(2, 4, 3)],
    ),
    "fold": (lambda xp, x: xp.fold(x, (4, 3), (2, 2), stride=(2, 1)) ** 2, [normal(2, 4, 4)]),
    "take_along_axis": (
        lambda xp, x: xp.take_along_axis(x, xp.asarray([[1, -1, 1]]), axis=1) ** 2,
        [normal(3, 4)],
    ),
    "sort": (lambda xp, x: xp.sort(x, axis=0, descending=True) ** 2, [normal(5, 3)]),
    "cumulative_sum": (
        lambda xp, x: xp.cumulative_sum(x, axis=1, include_initial=True) ** 2,
        [normal(3, 4)],
    ),
    "cumulative_prod": (lambda xp, x: xp.cumulative_prod(x, axis=1), [zeros_in(3, 4)]),
    "matmul": (lambda xp, x, y: x @ y, [normal(2, 3, 4), normal(4, 5)]),
}


def setitem(xp, x, y):
    z = x * 1.0
    before = z * z
    z[1:] = y
    return before + z * z


CASES["setitem"] = (setitem, [normal(3, 4), normal(4, seed=3)])
REDUCTIONS = "sum mean var std max min prod".split()
CASES |= {
    name: (lambda xp, x, name=name: getattr(xp, name)(x, axis=(0, 2)) ** 2, [normal(2, 3, 4)])
    for name in REDUCTIONS
}
FUSED = {
    "linear": (
        lambda xp, x, w, b: ops.fused.linear(x, w, b),
        [normal(2, 3), normal(3, 4), normal(4)],
    ),
    "embedding": (
        lambda xp, w: ops.fused.embedding(xp.asarray([[1, 0], [1, 2]]), w) ** 2,
        [normal(3, 4)],
    ),
    "gelu": (lambda xp, x: ops.fused.gelu(x, approximate="tanh"), [normal(3, 4)]),
    "silu": (lambda xp, x: ops.fused.silu(x), [normal(3, 4)]),
    "swiglu": (lambda xp, *a: ops.fused.swiglu(*a), [normal(3, 4), normal(3, 4, seed=1)]),
    "rotary": (
        lambda xp, *a: ops.fused.rotary(*a),
        [normal(2, 3, 4), normal(3, 2), normal(3, 2, seed=1)],
    ),
    "softmax": (lambda xp, x: ops.fused.softmax(x, axis=-1), [normal(3, 4)]),
    "log_softmax": (lambda xp, x: ops.fused.log_softmax(x, axis=0), [normal(3, 4)]),
    "layer_norm": (
        lambda xp, x, a, b: ops.fused.layer_norm(x, a, b, eps=1e-5),
        [normal(3, 4), normal(4), normal(4, seed=1)],
    ),
    "rms_norm": (lambda xp, x, a: ops.fused.rms_norm(x, a, eps=1e-5), [normal(3, 4), normal(4)]),
    "cross_entropy": (
        lambda xp, x: ops.fused.cross_entropy(
            x, xp.asarray([1, 0, -100]), ignore_index=-100, label_smoothing=0.1
        ),
        [normal(3, 4)],
    ),
    "attention": (
        lambda xp, q, k, v: ops.fused.attention(q, k, v, None, is_causal=True, scale=0.5),
        [normal(2, 3, 4), normal(2, 3, 4, seed=1), normal(2, 3, 4, seed=2)],
    ),
    "dropout": (lambda xp, x: ops.fused.dropout(x, (1, 2), p=0.3) ** 2, [normal(5, 6)]),
    "mlp": (
        lambda xp, *a: ops.fused.mlp(*a, approximate="none"),
        [normal(3, 2), normal(2, 4), normal(4), normal(4, 2, seed=1), normal(2)],
    ),
    "self_attention": (
        lambda xp, *a: ops.fused.self_attention(*a, num_heads=2, is_causal=True),
        [normal(1, 3, 2), *(normal(*s, seed=i) for i in range(4) for s in ((2, 2), (2,)))],
    ),
    "transformer_block": (
        lambda xp, *a: ops.fused.transformer_block(
            *a, num_heads=1, is_causal=True, eps=1e-2, approximate="tanh"
        ),
        [
            *(normal(*s, seed=i) for i, s in enumerate([(1, 2, 2), (2,), (2,)])),
            *(normal(*s, seed=i) for i in range(4) for s in ((2, 2), (2,))),
            *(normal(*s, seed=i) for i, s in enumerate([(2,), (2,), (2, 3), (3,), (3, 2), (2,)])),
        ],
    ),
}
CASES |= FUSED
ELSEWHERE = ("linalg.", "fft.", "special.")  # chapters with a test file of their own


def test_every_line_of_the_table_has_a_case():
    """An operation without a case here fails this test."""
    missing = [n for n, o in _record.TABLE.items() if _differentiable(o) and n not in CASES]
    assert [n for n in missing if not n.startswith(ELSEWHERE)] == []


def _differentiable(op):
    return op.rules or op.each is not None or op.joint is not None


def tensors(xp, arrays):
    return [xp.asarray(a) for a in arrays]


@pytest.mark.parametrize("name", CASES)
def test_derivatives(xp, name):
    """Orders 1 and 2, forward and reverse."""
    function, arrays = CASES[name]
    gradcheck(lambda *a: function(xp, *a), *tensors(xp, arrays))


EXTRA = {
    "abs of complex": (lambda xp, x: xp.abs(x), [normal(3, 4, complex_=True)]),
    "sign of complex": (lambda xp, x: xp.sign(x), [normal(3, 4, complex_=True)]),
    "exp of complex": (lambda xp, x: xp.exp(x), [normal(3, complex_=True)]),
    "log of complex": (lambda xp, x: xp.log(x), [normal(3, complex_=True)]),
    "quotient of complex": (lambda xp, x, y: x / y, [normal(3, complex_=True), normal(3, seed=2)]),
    "power of complex": (lambda xp, x: x**3, [normal(3, complex_=True)]),
    "real times complex": (lambda xp, x, y: x * y, [normal(3), normal(2, 3, complex_=True)]),
    "matmul of complex": (lambda xp, x, y: x @ y, [normal(3, 4, complex_=True), normal(4, 2)]),
    "prod of complex": (lambda xp, x: xp.prod(x, axis=0), [normal(3, 2, complex_=True)]),
    "tanh of complex": (lambda xp, x: xp.tanh(x), [inside(3) + 0.3j]),
    "scalars": (lambda xp, x: (2 * x + 1) / 3 - (1 - x) / (x + 10) + 2.0**x + x**-1, [positive(3)]),
    "prod with zeros": (lambda xp, x: xp.prod(x, axis=1), [zeros_in(3, 4)]),
    "prod of all": (lambda xp, x: xp.prod(x), [zeros_in(2, 4)]),
    "cumulative_prod, initial": (
        lambda xp, x: xp.cumulative_prod(x, axis=0, include_initial=True),
        [zeros_in(3, 4)],
    ),
    "mask": (lambda xp, x: x[xp.asarray([True, False, True])] ** 2, [normal(3, 5)]),
    "integer arrays": (lambda xp, x: x[:, xp.asarray([0, 2, 0]), None, 1:] ** 2, [normal(3, 5, 3)]),
    "tile": (lambda xp, x: xp.tile(x, (2, 1, 3)) ** 2, [normal(3, 4)]),
    "meshgrid": (
        lambda xp, x, y: xp.meshgrid(x, y)[0] * xp.meshgrid(x, y)[1],
        [normal(3), normal(4)],
    ),
    "diff": (lambda xp, x: xp.diff(x, axis=0, n=2) ** 2, [normal(4, 3)]),
    "tensordot": (
        lambda xp, x, y: xp.tensordot(x, y, axes=((0, 2), (1, 0))),
        [normal(2, 3, 4), normal(4, 2, 5)],
    ),
    "vecdot": (lambda xp, x, y: xp.vecdot(x, y), [normal(3, 4, complex_=True), normal(4)]),
    "unique_values": (lambda xp, x: xp.unique_values(x) ** 2, [normal(5)]),
    "linear without bias": (
        lambda xp, x, w: ops.fused.linear(x, w, None),
        [normal(2, 3), normal(3, 4)],
    ),
}


NO_COMPLEX_SCAN = pytest.mark.skip_backend(
    "cupy", reason="CuPy's running product of complex numbers does not compile on the emulator"
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=NO_COMPLEX_SCAN) if n == "prod of complex" else n for n in EXTRA],
)
def test_more_derivatives(xp, name):
    """Complex numbers, scalars, zeros, and compositions."""
    function, arrays = EXTRA[name]
    gradcheck(lambda *a: function(xp, *a), *tensors(xp, arrays))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), ()])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(xp, name, axis, keepdims):
    """Every form of the axis."""
    if axis == () and name in ("var", "std"):
        return  # a variance over no axis is 0 / 1 and constant; NumPy and the standard agree on nothing else
    gradcheck(
        lambda x: getattr(xp, name)(x, axis=axis, keepdims=keepdims) ** 2,
        xp.asarray(normal(2, 3, 4)),
        order=1,
    )


SHAPES = [
    ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (2, 4, 5)),
    ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((0, 3), (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul(xp, shapes):
    """Vectors, matrices and batches that broadcast."""
    a, b = (xp.asarray(normal(*s, seed=i)) for i, s in enumerate(shapes))
    gradcheck(xp.matmul, a, b)
    assert np.allclose(xp.matmul(a, b).numpy(), a.numpy() @ b.numpy(), rtol=1e-13, atol=1e-13)


def test_a_small_error_in_a_rule_is_caught(xp, monkeypatch):
    """The check can fail: 0.1 % is seen in the first order and in the second."""
    line = _record.TABLE["sin"]
    right = line.rules
    monkeypatch.setattr(line, "rules", (lambda xp, g, _out, x: 1.001 * g * xp.cos(x),))
    x = xp.asarray(normal(3, 4))
    with pytest.raises(GradientError, match="reverse-mode"):
        gradcheck(xp.sin, x)
    monkeypatch.setattr(line, "rules", right)
    cosine = _record.TABLE["cos"]
    monkeypatch.setattr(cosine, "rules", (lambda xp, g, _out, x: -1.001 * g * xp.sin(x),))
    with pytest.raises(GradientError, match="vjp of"):
        gradcheck(xp.sin, x)


def places(line):
    """The places of the arguments that have a rule of their own, which is not that of a constant."""
    if line.rules:
        return [i for i, r in enumerate(line.rules) if r not in (None, _rules.flat)]
    return [0]


PLANTED = [
    (name, i)
    for name in CASES
    if _differentiable(_record.TABLE[name]) and name != "sign"
    for i in places(_record.TABLE[name])
]  # the sign of real numbers is constant; of complex ones: test_classes.py


@pytest.mark.parametrize(("name", "i"), PLANTED)
def test_an_error_of_a_thousandth_in_any_rule_is_caught(xp, monkeypatch, name, i):
    """Also in the rules of fused operations, for all their arguments at once."""
    line = _record.TABLE[name]
    if line.joint is not None:
        joint = line.joint

        def wrong(*args):
            return [None if r is None else 1.001 * r for r in joint(*args)]

        monkeypatch.setattr(line, "joint", wrong)
    else:
        rule = line.rules[i] if line.rules else line.each

        def wrong(*args, **kwargs):
            return 1.001 * rule(*args, **kwargs)

        if line.rules:
            monkeypatch.setattr(line, "rules", (*line.rules[:i], wrong, *line.rules[i + 1 :]))
        else:
            monkeypatch.setattr(line, "each", wrong)
    function, arrays = CASES[name]
    with pytest.raises(GradientError):
        gradcheck(lambda *a: function(xp, *a), *tensors(xp, arrays), order=1)


def test_what_is_not_declared_is_not_there(xp, monkeypatch):
    """A rule that reads an argument it calls unread gets no data."""
    line = _record.TABLE["sin"]
    old = line.rules, line.reads
    monkeypatch.setattr(line, "saves", {})
    line.define(
        [lambda xp, g, _out, _x: g * xp.cos(_x)],
        each=None,
        passes=False,
        guard=False,
        on_tensors=False,
    )
    try:
        x = xp.Tensor([1.0], requires_grad=True)
        with pytest.raises(Exception, match="Aval"):
            xp.sin(x).sum().backward()
    finally:
        line.rules, line.reads = old


def test_rules_that_may_return_the_cotangent_say_so(xp):
    """A rule that is not marked `passes` returns an array of its own: the engine writes into it."""
    for name, (function, arrays) in CASES.items():
        line = _record.TABLE.get(name)
        if line is None or line.passes or not line.rules or line.on_tensors:
            continue
        inputs = [xp.Tensor(a, requires_grad=True) for a in arrays]
        out = function(xp, *inputs)
        node = out._node
        if node.op is not line:
            continue
        g = xp.ones_like(out).data
        for r in _cotangents.raw_cotangents(node, [g], [p is not None for p in node.parents]):
            if r is not None and isinstance(r, out.device.array_type):
                assert not out.device.backend.shares_memory(r, g), name


def test_pairs_give_what_the_two_rules_give():
    """Both cotangents at once, real and complex, are those of the rules one by one."""
    device = tinyxp.device("numpy:cpu")
    pairs = [line for line in _record.TABLE.values() if line.pair is not None]
    assert pairs
    for line in pairs:
        for complex_ in (False, True):
            g, x, y = (normal(3, 4, seed=seed, complex_=complex_) for seed in range(3))
            out = device.fns[line.name](x, y)
            both = line.pair(device.xp, g, out, x, y)
            for r, rule in zip(both, line.rules, strict=True):
                np.testing.assert_array_equal(r, rule(device.xp, g, out, x, y), line.name)


def test_elementwise_rules_give_the_shape_of_the_result():
    """Whatever the arguments were broadcast from: the engine takes such cotangents without a look at the shape."""
    device = tinyxp.device("numpy:cpu")
    lines = [line for line in _record.TABLE.values() if line.elementwise and line.rules]
    assert {"add", "exp", "multiply", "pow"} <= {line.name for line in lines}
    for line in lines:
        arrays = [inside(3, 1), inside(1, 4)] if len(line.reads) == 2 else [inside(3, 4)]
        arrays = [abs(a) + 1.1 if line.name == "acosh" else a for a in arrays]
        with np.errstate(all="ignore"):
            out = device.fns[line.name](*arrays)
            cotangents = [r(device.xp, inside(3, 4), out, *arrays) for r in line.rules]
        assert out.shape == (3, 4), line.name
        assert {c.shape for c in cotangents} == {(3, 4)}, line.name


def test_sub_gradients(xp):
    """At kinks the derivative is the one the documentation names."""
    cases = [
        (xp.abs, [0.0], [0.0]),
        (lambda x: xp.maximum(x, xp.zeros_like(x)), [0.0], [0.5]),
        (xp.max, [1.0, 1.0], [0.5, 0.5]),
        (lambda x: xp.clip(x, 0.0, 1.0), [0.0, 1.0], [1.0, 1.0]),
        (xp.std, [1.0, 1.0], [0.0, 0.0]),
        (lambda x: x**0, [0.0], [0.0]),
        (lambda x: xp.hypot(x, xp.zeros_like(x)), [0.0], [0.0]),
    ]
    for f, x, expected in cases:
        t = xp.Tensor(x, requires_grad=True)
        f(t).sum().backward()
        assert t.grad.tolist() == expected


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zero_cotangents_stay_zero(xp):
    """What `where` masks away gets gradient 0, also where the derivative there is infinite or NaN."""
    x = xp.Tensor([0.0, 4.0], requires_grad=True)
    xp.where(x > 1, xp.sqrt(x), 0.0).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]
    k = xp.Tensor([1.0, math.nan], requires_grad=True)
    y = k**-2.0
    xp.where(xp.isnan(y), 0.0, y).sum().backward()
    assert k.grad.tolist() == [-2.0, 0.0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("number", [math.inf, math.nan, 1e39, 0.0])
@pytest.mark.parametrize("name", ["multiply", "divide"])
def test_zero_cotangents_stay_zero_beside_a_number(xp, name, number):
    """Also where the number is no number, or becomes infinity (1e39) or its inverse in float32."""
    x = xp.Tensor([0.5, 4.0], requires_grad=True)
    function = getattr(xp, name)
    for y in (function(x, number), function(x, 1 / number if number else math.inf)):
        x.grad = None
        xp.where(xp.asarray([False, True]), y, 0.0).sum().backward()
        assert x.grad.tolist()[0] == 0.0


def test_a_zero_residual_keeps_its_hessian(xp):
    """The guard of infinite derivatives must not take second derivatives away."""
    h = tinyxp.func.hessian(lambda x: xp.sum(9 * (x - 1.0) ** 2.0))(xp.Tensor([1.0]))
    assert h.tolist() == [[18.0]]
    h = tinyxp.func.hessian(lambda x: xp.sum((x - 1.0) ** 2 / xp.exp(x - 1.0)))(xp.Tensor([1.0]))
    assert h.tolist() == [[2.0]]
