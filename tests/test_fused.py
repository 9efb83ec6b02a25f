"""The third tier: every fused operation against its definition, finite differences and PyTorch."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyxp import _fused
from tinyxp.ops import fused

STEP = 1e-5


class Case:
    """An operation with arguments: float arrays are given by shape, everything else as it is."""

    def __init__(self, name, *args, wants=None, **kwargs):
        self.name, self.args, self.kwargs = name, args, kwargs
        self.wants = [isinstance(a, Normal) for a in args] if wants is None else wants
        text = ", ".join(f"{k}={v}" for k, v in kwargs.items())
        self.id = f"{name}-{[a.shape if isinstance(a, Normal) else type(a).__name__ for a in args]}-{text}"

    def tensors(self, xp, seed=0):
        random = xp.random.Generator(seed)
        made = [a(xp, random) if callable(a) else a for a in self.args]
        return [a.requires_grad_() if want else a for a, want in zip(made, self.wants, strict=True)]


class Normal:
    def __init__(self, *shape):
        self.shape = shape

    def __call__(self, _xp, random):
        return random.normal(self.shape, dtype="float64")


def ids(*values):
    return lambda xp, _random: xp.asarray(list(values), dtype="int64")


def half_hidden(xp, _random):
    """A mask that hides all keys from one query."""
    return xp.asarray([[True, False, True], [False, False, False], [True, True, True]])


def hiding(xp, _random):
    return xp.asarray(
        [[0.5, -math.inf, 1.0], [0.0, 0.0, 0.0], [-1.0, 2.0, -math.inf]], dtype="float64"
    )


N = Normal
CASES = [
    Case("linear", N(2, 3, 4), N(4, 5), N(5)),
    Case("linear", N(4), N(4, 5), None),
    Case("linear", N(0, 4), N(4, 5), N(5)),
    Case("linear", N(5, 0), N(0, 3), N(3)),
    Case("embedding", ids([1, 0, 1], [3, 1, 1]), N(4, 3)),
    *[Case("gelu", N(3, 4), approximate=form) for form in _fused.GELU_FORMS],
    Case("silu", N(3, 4)),
    Case("swiglu", N(3, 4), N(3, 4)),
    Case("rotary", N(2, 3, 4), N(3, 2), N(3, 2)),
    Case("softmax", N(3, 4), axis=0),
    Case("softmax", N(2, 3, 4), axis=-1),
    Case("log_softmax", N(3, 4), axis=-1),
    Case("log_softmax", N(3, 4), axis=0),
    Case("layer_norm", N(2, 3, 4), N(4), N(4), eps=1e-5),
    Case("layer_norm", N(2, 3, 4), N(3, 4), None, eps=1e-5),
    Case("rms_norm", N(2, 3, 4), N(4), eps=1e-5),
    Case("cross_entropy", N(4, 5), ids(1, -100, 4, 0), ignore_index=-100, label_smoothing=0.0),
    Case("cross_entropy", N(4, 5), ids(1, 2, 4, 0), ignore_index=2, label_smoothing=0.2),
    Case(
        "attention", N(2, 2, 3, 4), N(2, 2, 3, 4), N(2, 2, 3, 5), None, is_causal=False, scale=None
    ),
    Case("attention", N(2, 2, 3, 4), N(2, 2, 3, 4), N(2, 2, 3, 4), None, is_causal=True, scale=0.3),
    Case("attention", N(2, 2, 4), N(2, 3, 4), N(2, 3, 4), None, is_causal=True, scale=None),
    Case("attention", N(2, 5, 4), N(2, 3, 4), N(2, 3, 4), None, is_causal=True, scale=None),
    Case("attention", N(2, 3, 4), N(2, 3, 4), N(2, 3, 4), half_hidden, is_causal=False, scale=None),
    Case("attention", N(2, 3, 4), N(2, 3, 4), N(2, 3, 4), hiding, is_causal=True, scale=None),
    Case("attention", N(2, 3, 4), N(3, 4), N(1, 3, 4), N(3, 3), is_causal=False, scale=None),
    Case("dropout", N(3, 5), (7, 11), p=0.4),
    Case("dropout", N(3, 5), (7, 11), p=1.0),
    *[
        Case("mlp", N(2, 3, 4), N(4, 6), N(6), N(6, 5), N(5), approximate=form)
        for form in _fused.GELU_FORMS
    ],
    Case("mlp", N(3, 4), N(4, 6), None, N(6, 5), None, approximate="tanh"),
    *[
        Case(
            "transformer_block",
            *(
                N(2, 3, 4),
                *[N(4)] * 2,
                *[N(4, 4), N(4)] * 4,
                *[N(4)] * 2,
                N(4, 6),
                N(6),
                N(6, 4),
                N(4),
            ),
            num_heads=2,
            is_causal=causal,
            eps=1e-5,
            approximate="tanh",
        )
        for causal in (True, False)
    ],
    Case("self_attention", N(2, 3, 4), *[N(4, 4), N(4)] * 4, num_heads=2, is_causal=True),
    Case("self_attention", N(2, 3, 4), *[N(4, 4), None] * 4, num_heads=1, is_causal=False),
]
HALVES = ("bfloat16", "float16")
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)


def call(xp, case, tensors):
    return getattr(xp.ops.fused, case.name)(*tensors, **case.kwargs)


def raw(tensors):
    return [t.data if hasattr(t, "data") else t for t in tensors]


def wanted(case, tensors):
    return [t for t, want in zip(tensors, case.wants, strict=True) if want]


def close(xp, a, b, tolerance=1e-12):
    scale = 1 + (float(xp.max(xp.abs(b))) if b.size else 0)
    assert a.shape == b.shape
    assert not a.size or float(xp.max(xp.abs(a - b))) <= tolerance * scale


def test_every_operation_has_a_case():
    assert {c.name for c in CASES} == set(_fused.OPERATIONS) == set(fused.__all__)
    assert set(_fused.NAMES) == {n + s for n in _fused.OPERATIONS for s in ("", "_vjp")}


@EVERY
def test_forward_is_the_definition(xp, case):
    tensors = case.tensors(xp)
    with xp.no_grad():
        definition = getattr(_fused, case.name)(xp, *tensors, **case.kwargs)
        close(xp, call(xp, case, tensors), definition)


@EVERY
def test_gradient_is_that_of_the_definition(xp, case):
    tensors = case.tensors(xp)
    out = call(xp, case, tensors)
    weights = xp.random.Generator(1).normal(out.shape, dtype="float64")
    fused = xp.autograd.grad([out], wanted(case, tensors), [weights])
    composed = xp.autograd.grad(
        [getattr(_fused, case.name)(xp, *tensors, **case.kwargs)], wanted(case, tensors), [weights]
    )
    for f, c in zip(fused, composed, strict=True):
        close(xp, f, c)


@EVERY
def test_gradient_matches_central_differences(xp, case):
    tensors = case.tensors(xp)
    out = call(xp, case, tensors)
    random = xp.random.Generator(2)
    weights = random.normal(out.shape, dtype="float64")
    leaves = wanted(case, tensors)
    directions = [random.normal(t.shape, dtype="float64") for t in leaves]
    gradients = xp.autograd.grad([out], leaves, [weights])
    slope = sum(float(xp.sum(g * d)) for g, d in zip(gradients, directions, strict=True))

    def value(step):
        moved = iter([t.detach() + step * d for t, d in zip(leaves, directions, strict=True)])
        args = [next(moved) if w else t for t, w in zip(tensors, case.wants, strict=True)]
        return float(xp.sum(call(xp, case, args) * weights))

    near, far = value(STEP) - value(-STEP), value(2 * STEP) - value(-2 * STEP)
    assert slope == pytest.approx((8 * near - far) / (12 * STEP), rel=1e-7, abs=1e-8)


@EVERY
def test_second_derivative_matches_central_differences(xp, case):
    tensors = case.tensors(xp)
    leaves = wanted(case, tensors)
    random = xp.random.Generator(3)
    weights = random.normal(call(xp, case, tensors).shape, dtype="float64")
    directions = [random.normal(t.shape, dtype="float64") for t in leaves]

    def slope(args, *, create_graph=False):
        own = wanted(case, args)
        grads = xp.autograd.grad([call(xp, case, args)], own, [weights], create_graph=create_graph)
        return sum(xp.sum(g * d) for g, d in zip(grads, directions, strict=True))

    def moved(step):
        new = iter(
            [
                (t.detach() + step * d).requires_grad_()
                for t, d in zip(leaves, directions, strict=True)
            ]
        )
        return [next(new) if w else t for t, w in zip(tensors, case.wants, strict=True)]

    first = slope(tensors, create_graph=True)
    second = xp.autograd.grad([first], leaves, allow_unused=True) if first.requires_grad else []
    curve = sum(
        float(xp.sum(g * d)) for g, d in zip(second, directions, strict=False) if g is not None
    )
    near = float(slope(moved(STEP))) - float(slope(moved(-STEP)))
    assert curve == pytest.approx(near / (2 * STEP), rel=1e-6, abs=1e-6)


@EVERY
def test_nothing_given_is_written_into(xp, device, case):
    backend, raws = device.backend, raw(case.tensors(xp))
    out, aux = getattr(device.xp, case.name)(*raws, **case.kwargs)
    g = device.xp.ones_like(out)
    arrays = [a for a in (*raws, out, *aux, g) if type(a) is device.array_type]
    before = [bytes(backend.to_buffer(a)) for a in arrays]
    found = getattr(device.xp, f"{case.name}_vjp")(
        g, out, aux, *raws, needs=case.wants, **case.kwargs
    )
    assert [bytes(backend.to_buffer(a)) for a in arrays] == before
    assert [f is not None for f in found] == case.wants


@EVERY
def test_cotangents_that_nobody_needs_are_not_computed(device, xp, case):
    raws = raw(case.tensors(xp))
    out, aux = getattr(device.xp, case.name)(*raws, **case.kwargs)
    g = device.xp.ones_like(out)
    vjp = getattr(device.xp, f"{case.name}_vjp")
    for i, want in enumerate(case.wants):
        if want and sum(case.wants) > 1:
            needs = [w and j != i for j, w in enumerate(case.wants)]
            found = vjp(g, out, aux, *raws, needs=needs, **case.kwargs)
            assert [f is not None for f in found] == needs


@EVERY
def test_float32_stays_float32(xp, case):
    tensors = [
        t.detach().to("float32") if hasattr(t, "dtype") and t.dtype == "float64" else t
        for t in case.tensors(xp)
    ]
    tensors = [t.requires_grad_() if w else t for t, w in zip(tensors, case.wants, strict=True)]
    out = call(xp, case, tensors)
    assert out.dtype == "float32"
    assert {g.dtype.name for g in xp.autograd.grad([xp.sum(out)], wanted(case, tensors))} == {
        "float32"
    }


@pytest.mark.skip_backend(
    "torch", reason="multiplies no matrices of two dtypes; nn promotes before"
)
@pytest.mark.parametrize("case", [c for c in CASES if sum(c.wants) > 1], ids=lambda c: c.id)
def test_mixed_dtypes_give_the_wider_one(xp, case):
    first = case.wants.index(True)
    tensors = [
        t.detach().to("float32") if want and i != first else t
        for i, (t, want) in enumerate(zip(case.tensors(xp), case.wants, strict=True))
    ]
    assert call(xp, case, tensors).dtype == "float64"


# ---------------------------------------------------------------- properties
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@settings(deadline=None, max_examples=25)
@given(leading=SHAPES, width=st.integers(1, 4), seed=st.integers(0, 9))
def test_softmax_sums_to_one_whatever_the_shape(leading, width, seed):
    import tinyxp as xp

    x = xp.random.Generator(seed).normal((*leading, width), std=20, dtype="float64")
    p = xp.ops.fused.softmax(x, axis=-1)
    assert p.shape == x.shape
    assert bool(xp.all(p >= 0))
    close(xp, xp.sum(p, axis=-1), xp.ones(leading, dtype="float64"))
    close(xp, xp.exp(xp.ops.fused.log_softmax(x, axis=-1)), p)


@settings(deadline=None, max_examples=25)
@given(leading=SHAPES, width=st.integers(2, 5), seed=st.integers(0, 9))
def test_layer_norm_has_mean_0_and_variance_1_whatever_the_shape(leading, width, seed):
    import tinyxp as xp

    x = xp.random.Generator(seed).normal((*leading, width), mean=3, dtype="float64")
    gamma, beta = xp.ones(width, dtype="float64"), xp.zeros(width, dtype="float64")
    out = xp.ops.fused.layer_norm(x, gamma, beta, eps=0.0)
    close(xp, xp.mean(out, axis=-1), xp.zeros(leading, dtype="float64"))
    close(xp, xp.mean(out * out, axis=-1), xp.ones(leading, dtype="float64"))


@settings(deadline=None, max_examples=25)
@given(leading=SHAPES, sizes=st.tuples(*[st.integers(1, 4)] * 2), seed=st.integers(0, 9))
def test_linear_is_a_matrix_product_whatever_the_shape(leading, sizes, seed):
    import tinyxp as xp

    random = xp.random.Generator(seed)
    x, w = (
        random.normal((*leading, sizes[0]), dtype="float64"),
        random.normal(sizes, dtype="float64"),
    )
    close(xp, xp.ops.fused.linear(x, w, None), xp.matmul(x, w))


def test_activations_do_not_overflow(xp):
    x = xp.asarray([-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4], dtype="float32")
    for out in (
        xp.ops.fused.silu(x),
        *(xp.ops.fused.gelu(x, approximate=a) for a in _fused.GELU_FORMS),
    ):
        got = out.tolist()
        assert got[3:] == [0.0, 20.0, 100.0, 1e4]
        assert max(map(abs, got[:3])) < 1e-6
    assert xp.ops.fused.silu(x).tolist()[2] == pytest.approx(-20 / (1 + math.exp(20)), rel=1e-6)


def test_dropout_keeps_the_expected_share_and_the_mean(xp):
    x = xp.ones((200, 100), dtype="float64")
    out = xp.ops.fused.dropout(x, (3, 4), p=0.25)
    kept = float(xp.mean((out != 0).to("float64")))
    assert abs(kept - 0.75) < 5 * math.sqrt(0.25 * 0.75 / x.size)
    assert float(xp.max(out)) == pytest.approx(1 / 0.75)
    assert bool(xp.all(out == xp.ops.fused.dropout(x, (3, 4), p=0.25)))
    assert not bool(xp.all(out == xp.ops.fused.dropout(x, (3, 5), p=0.25)))


def test_repeated_rows_add_up_in_the_gradient_of_embedding(xp):
    weight = xp.zeros((3, 2), dtype="float64").requires_grad_()
    xp.sum(xp.ops.fused.embedding(xp.asarray([2, 2, 0, 2]), weight)).backward()
    assert weight.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [3.0, 3.0]]


BAD = pytest.mark.parametrize("bad", [[-1], [3], [0, 99]], ids=str)


def embed(xp, indices):
    return xp.ops.fused.embedding(xp.asarray(indices), xp.zeros((3, 2)).requires_grad_())


def lose(xp, targets):
    logits = xp.zeros((len(targets), 3)).requires_grad_()
    return xp.ops.fused.cross_entropy(
        logits, xp.asarray(targets), ignore_index=-100, label_smoothing=0.0
    )


@BAD
@pytest.mark.parametrize("operation", [embed, lose])
def test_indices_out_of_range_are_refused(xp, device, operation, bad):
    if device.backend.host_visible:
        with pytest.raises(IndexError, match=r"\[0, 3\); they go from"):
            operation(xp, bad)
    else:
        check_nan(xp, operation(xp, bad), bad)


@BAD
@pytest.mark.parametrize("operation", [embed, lose])
def test_where_reading_back_is_slow_they_give_nan_instead(xp, device, monkeypatch, operation, bad):
    monkeypatch.setattr(type(device.backend), "host_visible", False)
    with xp.use_fused(False):
        check_nan(xp, operation(xp, bad), bad)


def check_nan(xp, out, bad):
    rows = xp.isnan(out).tolist()
    if out.ndim:
        assert rows == [[not 0 <= i < 3] * 2 for i in bad]
    else:
        assert rows is True
    out.sum().backward()  # and does not fail


def test_where_reading_back_is_slow_good_indices_give_the_same(xp, device, monkeypatch):
    expected = [embed(xp, [0, 2]).tolist(), lose(xp, [0, 2, -100]).tolist()]
    monkeypatch.setattr(type(device.backend), "host_visible", False)
    assert [embed(xp, [0, 2]).tolist(), lose(xp, [0, 2, -100]).tolist()] == expected


# ---------------------------------------------------------------- computing in half precision
def in_half(name, *shapes, **options):
    return pytest.param(name, shapes, options, id=name)


SQUARE = [(8, 8), (8,)]
COMPUTING = pytest.mark.parametrize(
    ("name", "shapes", "options"),
    [
        in_half("mlp", (2, 3, 8), (8, 12), (12,), (12, 8), (8,), approximate="tanh"),
        in_half("self_attention", (2, 5, 8), *SQUARE * 4, num_heads=2, is_causal=True),
        in_half(
            "transformer_block", (2, 5, 8), (8,), (8,), *SQUARE * 4, (8,), (8,), (8, 12), (12,), (12, 8), (8,),
            num_heads=2, is_causal=True, eps=1e-5, approximate="none",
        ),
    ],
)  # fmt: skip
HALF = pytest.mark.parametrize("half", HALVES)
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11}  # half of the distance of 1 to the next number


def parameters(xp, shapes, dtype="float32"):
    random = xp.random.Generator(5)
    return [
        random.normal(shape, std=0.5, dtype="float64").to(dtype).requires_grad_()
        for shape in shapes
    ]


def slopes(xp, out, tensors):
    weights = xp.random.Generator(6).normal(out.shape, dtype="float64").to(out.dtype)
    return xp.autograd.grad([out], tensors, [weights])


@pytest.mark.skip_backend("strict", reason="has no half precision")
@HALF
@COMPUTING
def test_computing_in_half_precision_keeps_the_dtypes_of_the_arguments(
    xp, name, shapes, options, half
):
    tensors = parameters(xp, shapes)
    function = getattr(xp.ops.fused, name)
    exact, out = (function(*tensors, **options, compute=c) for c in (None, half))
    assert out.dtype == "float32"
    near = 20 * ROUNDING[half]
    close(xp, out, exact, near)
    assert bool(xp.any(out != exact))
    for got, want in zip(slopes(xp, out, tensors), slopes(xp, exact, tensors), strict=True):
        assert got.dtype == "float32"
        close(xp, got, want, near)


@pytest.mark.skip_backend("strict", reason="has no half precision")
@HALF
@COMPUTING
def test_computing_in_half_precision_is_the_definition(xp, name, shapes, options, half):
    tensors = parameters(xp, shapes)
    out = getattr(xp.ops.fused, name)(*tensors, **options, compute=half)
    defined = getattr(_fused, name)(xp, *tensors, **options, compute=half)
    near = 8 * ROUNDING[half]
    close(xp, out, defined, near)
    pairs = zip(slopes(xp, out, tensors), slopes(xp, defined, tensors), strict=True)
    for got, want in pairs:
        close(xp, got, want, near)
    out = getattr(xp.ops.fused, name)(*tensors, **options, compute=half)
    again = xp.autograd.grad([xp.mean(out * out)], tensors, create_graph=True)
    for g in xp.autograd.grad([sum(xp.sum(g * g) for g in again)], tensors):
        assert g.dtype == "float32"
        assert bool(xp.all(xp.isfinite(g)))


# what gives a number of its own dtype whatever it is given
LOSSES = ("cross_entropy",)


def as_half(tensors, wants, half):
    floating = [hasattr(t, "dtype") and t.dtype == "float64" for t in tensors]
    made = [t.detach().to(half) if f else t for t, f in zip(tensors, floating, strict=True)]
    return [t.requires_grad_() if w else t for t, w in zip(made, wants, strict=True)]


@pytest.mark.skip_backend("strict", reason="has no half precision")
@HALF
@EVERY
def test_half_precision_is_computed_in_float32_and_rounded(xp, case, half):
    tensors = as_half(case.tensors(xp), case.wants, half)
    exact = [
        t.detach().to("float64") if hasattr(t, "dtype") and t.dtype == half else t for t in tensors
    ]
    exact = [t.requires_grad_() if w else t for t, w in zip(exact, case.wants, strict=True)]
    defined = getattr(_fused, case.name)(xp, *tensors, **case.kwargs)
    out, want = call(xp, case, tensors), call(xp, case, exact)
    assert out.dtype == defined.dtype == ("float32" if case.name in LOSSES else half)
    products = 8 if case.name in {"mlp", "self_attention", "transformer_block"} else 1
    near = 4 * products * ROUNDING[half]
    close(xp, out.to("float64"), want, near / 2)
    close(xp, defined.to("float64"), want, near / 2)
    grads = [slopes(xp, o, wanted(case, t)) for o, t in ((out, tensors), (defined, tensors))]
    for got, also, true in zip(*grads, slopes(xp, want, wanted(case, exact)), strict=True):
        assert got.dtype == also.dtype == half
        close(xp, got.to("float64"), true, near)
        close(xp, also.to("float64"), true, near)


@pytest.mark.skip_backend("strict", reason="has no half precision")
@HALF
def test_long_rows_in_half_precision_are_summed_in_float32(xp, half):
    x = xp.ones((2, 3000), dtype=half)
    assert xp.ops.fused.softmax(x, axis=-1).tolist()[0][0] == pytest.approx(1 / 3000, rel=4e-3)
    gamma = xp.ones(3000, dtype=half)
    assert xp.ops.fused.rms_norm(x * 300, gamma, eps=0.0).tolist()[0][0] == 1.0  # 300 ** 2 > 65504
    targets = xp.asarray([1, 2])
    loss = xp.ops.fused.cross_entropy(x, targets, ignore_index=-100, label_smoothing=0.0)
    assert loss.item() == pytest.approx(math.log(3000), rel=1e-5)


@pytest.mark.skip_backend("numpy", "torch", "cupy", reason="has half precision")
def test_a_library_without_the_dtype_says_so(xp):
    x, w = xp.ones((2, 4)), xp.ones((4, 4))
    with pytest.raises(xp.errors.DTypeError, match="no dtype bfloat16"):
        xp.ops.fused.mlp(x, w, None, w, None, approximate="tanh", compute="bfloat16")
