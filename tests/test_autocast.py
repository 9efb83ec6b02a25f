"""Mixed precision: what runs in half precision, what in float32, and that gradients are right all the same."""

import threading

import numpy as np
import pytest

import tinyxp
from tinyxp._core import CASTING, MODE
from tinyxp.models import GPT
from tinyxp.nn import MLP, CrossEntropyLoss, LayerNorm, Linear, MultiHeadAttention, TransformerBlock
from tinyxp.nn import functional as F  # noqa: N812 - as everybody writes it
from tinyxp.optim import SGD, AdamW

pytestmark = pytest.mark.skip_backend("strict", reason="has no half precision")
HALVES = ("bfloat16", "float16")
HALF = pytest.mark.parametrize("half", HALVES)
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11}


@pytest.fixture(autouse=True)
def _outside():
    yield
    assert not CASTING
    assert not MODE.casts


def normal(xp, *shape, seed=0, dtype="float32"):
    return xp.random.Generator(seed).normal(shape, dtype="float64").to(dtype)


PRODUCTS = {
    "matmul": lambda xp, a, b: xp.matmul(a, b),
    "@": lambda _, a, b: a @ b,
    "vecdot": lambda xp, a, b: xp.vecdot(a, b),
    "tensordot": lambda xp, a, b: xp.tensordot(a, b, axes=1),
    "einsum": lambda xp, a, b: xp.einsum("ij,kj->ik", a, b),
    "conv1d": lambda xp, a, b: xp.conv1d(a[None], b[:, :, None], b[0]),
    "conv2d": lambda xp, a, b: xp.conv2d(a[None, :, :, None], b[:, :, None, None]),
    "conv_transpose1d": lambda xp, a, b: xp.conv_transpose1d(a[None], b[:, :, None], b[0]),
    "linear": lambda _, a, b: F.linear(a, b, b[0]),
    "attention": lambda _, a, b: F.scaled_dot_product_attention(a, b, b, is_causal=True),
}
EACH_PRODUCT = pytest.mark.parametrize("name", PRODUCTS)


@HALF
@EACH_PRODUCT
def test_products_run_in_half_precision(xp, name, half):
    a, b = normal(xp, 4, 4), normal(xp, 4, 4, seed=1)
    function = PRODUCTS[name]
    with xp.autocast(half):
        got = function(xp, a, b)
    want = function(xp, a.to(half), b.to(half))
    assert got.dtype == want.dtype == half
    assert got.tolist() == want.tolist()


@HALF
@EACH_PRODUCT
def test_gradients_of_products_have_the_dtype_of_the_arguments(xp, name, half):
    leaves = [normal(xp, 4, 4, seed=s).requires_grad_() for s in (0, 1)]
    function = PRODUCTS[name]
    with xp.autocast(half):
        out = xp.sum(function(xp, *leaves))
    assert out.dtype == "float32"
    exact = xp.autograd.grad(xp.sum(function(xp, *leaves)), leaves)
    for got, want in zip(xp.autograd.grad(out, leaves), exact, strict=True):
        assert got.dtype == "float32"
        near = 16 * ROUNDING[half] * float(xp.max(xp.abs(want)))
        assert float(xp.max(xp.abs(got - want))) <= near


@EACH_PRODUCT
def test_products_of_float64_and_of_half_precision_stay_what_they_are(xp, name):
    function = PRODUCTS[name]
    with xp.autocast("bfloat16"):
        wide = normal(xp, 4, 4, dtype="float64")
        assert function(xp, wide, wide).dtype == "float64"
        half = normal(xp, 4, 4, dtype="bfloat16")
        assert function(xp, half, half).dtype == "bfloat16"
        other = normal(xp, 4, 4, dtype="float16")
        assert function(xp, other, other).dtype == "bfloat16"
        assert function(xp, normal(xp, 4, 4), half).dtype == "bfloat16"


ISLANDS = {
    "sum": lambda xp, x: xp.sum(x),
    "mean": lambda xp, x: xp.mean(x, axis=0),
    "var": lambda xp, x: xp.var(x),
    "std": lambda xp, x: xp.std(x),
    "prod": lambda xp, x: xp.prod(x),
    "cumulative_sum": lambda xp, x: xp.cumulative_sum(x, axis=0),
    "cumulative_prod": lambda xp, x: xp.cumulative_prod(x, axis=0),
    "exp": lambda xp, x: xp.exp(x),
    "log": lambda xp, x: xp.log(xp.abs(x)),
    "pow": lambda _, x: x**2,
    "pow of Tensors": lambda xp, x: xp.pow(xp.abs(x), x),
    "reciprocal": lambda xp, x: xp.reciprocal(x),
    "norm": lambda xp, x: xp.linalg.vector_norm(x),
    "solve": lambda xp, x: xp.linalg.solve(x, x[0]),
    "matrix_power": lambda xp, x: xp.linalg.matrix_power(x, 3),
    "mse_loss": lambda _, x: F.mse_loss(x, -x),
    "cross_entropy": lambda xp, x: F.cross_entropy(x, xp.asarray([0, 1, 2])),
    "cross_entropy of each": lambda xp, x: F.cross_entropy(
        x, xp.asarray([0, 1, 2]), reduction="none"
    ),
}


@HALF
@pytest.mark.parametrize("name", ISLANDS)
def test_what_would_lose_is_computed_in_float32(xp, name, half):
    x = normal(xp, 3, 3, dtype=half)
    with xp.autocast(half):
        got = ISLANDS[name](xp, x)
    assert got.dtype == "float32"
    want = ISLANDS[name](xp, x.to("float32"))
    assert np.allclose(got.tolist(), want.tolist(), rtol=1e-5, atol=1e-6)


def test_the_rest_keeps_its_dtype_or_promotes(xp):
    half, single = normal(xp, 3, dtype="bfloat16"), normal(xp, 3)
    with xp.autocast():
        for kept in (half + half, 2.5 * half, xp.tanh(half), xp.max(half), half[1:], -half):
            assert kept.dtype == "bfloat16"
        assert (half + single).dtype == (single * single).dtype == "float32"
        assert F.softmax(half).dtype == F.gelu(half).dtype == "bfloat16"
    with pytest.raises(xp.errors.DTypeError, match="bfloat16 or float16; got float32"):
        xp.autocast("float32")


@pytest.mark.parametrize("half", HALVES)
def test_numbers_leave_the_dtype_alone(xp, half):
    x = xp.asarray([1.0, 2.0, 4.0], dtype=half)
    found = (
        x + 1.0,
        0.1 * x,
        x**2.0,
        x / 3,
        xp.maximum(x, 1.5),
        xp.clip(x, 0.5, 2.5),
        x // 2,
        x % 2,
    )
    assert {y.dtype.name for y in found} == {half}
    assert (0.1 * x).tolist() == (0.1 * x.to("float32")).to(half).tolist()  # rounded once
    assert {y.dtype.name for y in (x > 1.5, x == 2.0)} == {"bool"}
    for y in (
        xp.where(x > 1.5, x, 0.0),
        xp.sort(x),
        xp.var(x),
        xp.round(x),
        xp.triu(xp.ones((2, 2), dtype=half)),
    ):
        assert y.dtype == half  # fmt: skip
    assert (x + xp.ones(3)).dtype == "float32"
    other = "float16" if half == "bfloat16" else "bfloat16"
    assert (x + xp.ones(3, dtype=other)).dtype == "float32"
    w = x.detach().requires_grad_()
    xp.sum(w * 0.1).backward()
    assert w.grad.dtype == half


# ---------------------------------------------------------------- the context
def test_contexts_nest_and_leave_no_trace(xp):
    a = normal(xp, 3, 3)
    with xp.autocast("bfloat16"):
        with xp.autocast(enabled=False):
            assert (a @ a).dtype == "float32"
            with xp.autocast("float16"):
                assert (a @ a).dtype == "float16"
            assert (a @ a).dtype == "float32"
        assert (a @ a).dtype == "bfloat16"
    assert (a @ a).dtype == "float32"
    with pytest.raises(ZeroDivisionError), xp.autocast():
        1 / 0  # noqa: B018 - it is to fail
    assert (a @ a).dtype == "float32"


def test_it_is_a_decorator_too(xp):
    @xp.autocast("float16")
    def product(a, depth=2):
        return product(a, depth - 1) if depth else a @ a

    assert product(normal(xp, 3, 3)).dtype == "float16"


def test_other_threads_are_not_in_it(xp):
    found = []
    a = normal(xp, 3, 3)
    with xp.autocast():
        thread = threading.Thread(target=lambda: found.append((a @ a).dtype))
        thread.start()
        thread.join()
        assert (a @ a).dtype == "bfloat16"
    assert found == [xp.float32]


def test_threads_that_share_a_context_each_leave_their_own(xp):
    a, found = xp.ones((2, 2)), []
    shared, steps = xp.autocast("bfloat16"), [threading.Event() for _ in range(3)]

    def other():
        steps[0].wait(10)
        with shared:
            steps[1].set()
            steps[2].wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    with xp.autocast("float16"):
        with shared:
            steps[0].set()
            steps[1].wait(10)
        found.append((a @ a).dtype)
    steps[2].set()
    thread.join()
    assert found == ["float16"]


def test_a_parameter_is_converted_once_until_it_is_written(xp, device, monkeypatch):
    casts = []
    astype = device.fns["astype"]
    monkeypatch.setitem(
        device.fns, "astype", lambda x, *a, **k: casts.append(tuple(x.shape)) or astype(x, *a, **k)
    )
    w = normal(xp, 5, 5).requires_grad_()
    x = normal(xp, 2, 5)
    casts.clear()
    with xp.autocast():
        first = (x @ w) @ w
        with xp.no_grad():
            _ = x @ w
        assert casts.count((5, 5)) == 1
        w.grad = xp.ones((5, 5))
        SGD([w], lr=1.0).step()
        second = (x @ w) @ w
        assert casts.count((5, 5)) == 2
        assert second.tolist() != first.tolist()
        with xp.autocast("float16"):
            assert (x @ w).dtype == "float16"
    with xp.autocast():
        _ = x @ w
    assert casts.count((5, 5)) == 4


def test_several_backward_passes_share_a_converted_parameter(xp):
    w = normal(xp, 4, 4).requires_grad_()
    batches = [normal(xp, 2, 4, seed=s) for s in (1, 2)]
    with xp.autocast():
        losses = [xp.sum(x @ w) for x in batches]
        losses[0].backward()
        late = xp.sum(batches[0] @ w)
    losses[1].backward()
    late.backward()
    grads = [xp.matmul(x.T, xp.ones((2, 4))) for x in (*batches, batches[0])]
    want = sum(grads[1:], start=grads[0])
    assert w.grad.dtype == "float32"
    assert np.allclose(w.grad.tolist(), want.tolist(), rtol=0.02, atol=0.02)


@pytest.mark.skip_backend("numpy", "torch", reason="records no graphs of launches")
def test_a_graph_of_launches_converts_what_it_reads(xp):
    from tinyxp.graphs import Captured

    w, x = normal(xp, 4, 4).requires_grad_(), normal(xp, 2, 4, seed=1)
    with xp.no_grad(), xp.autocast():
        product = Captured(lambda a: xp.ops.fused.linear(a, w, None), parameters=[w])
        for factor in (1.0, 1.0, 1.0, 2.0, 0.5):
            w[...] = w.detach() * factor
            got = product(x)
            assert product.reason is None
            want = x.to("bfloat16") @ w.detach().to("bfloat16")
            assert np.allclose(got.tolist(), want.tolist(), rtol=1e-2, atol=1e-2)
            assert xp.ops.fused.linear(x, w, None).tolist() == got.tolist()
    with xp.no_grad():
        assert product(x).dtype == "float32"


# ---------------------------------------------------------------- layers and models
@HALF
def test_layers_take_the_context(xp, half):
    x = normal(xp, 2, 5, 8)
    for layer in (
        Linear(8, 6),
        MLP(8),
        MultiHeadAttention(8, 2),
        TransformerBlock(8, 2),
        LayerNorm(8),
    ):
        exact = layer(x)
        with xp.autocast(half):
            out = layer(x)
            narrow = layer(x.to(half))
        is_linear = isinstance(layer, Linear)
        assert out.dtype == (half if is_linear else "float32")
        near = 30 * ROUNDING[half]
        scale = 1 + float(xp.max(xp.abs(exact)))
        for y in (out, narrow):
            assert float(xp.max(xp.abs(y.to("float32") - exact))) <= near * scale
        if not isinstance(layer, LayerNorm):
            assert bool(xp.any(out.to("float32") != exact))
        xp.sum(out).backward()
        assert {p.grad.dtype.name for p in layer.parameters()} == {"float32"}


def make_gpt(device, **options):
    return GPT(17, 16, 2, 2, 12, seed=3, device=device, **options)


def losses(xp, device, *, steps=20, context=None, dtype=None, checkpoint=False, tie=False):
    model = make_gpt(device, dtype=dtype, checkpoint=checkpoint, tie_weights=tie)
    optimizer = AdamW(model.parameters(), lr=3e-3)
    criterion = CrossEntropyLoss()
    tokens = xp.asarray([[(3 * i + j * j) % 17 for j in range(13)] for i in range(8)])
    found = []
    for _ in range(steps):
        with xp.autocast(context or "bfloat16", enabled=context is not None):
            loss = criterion(model(tokens[:, :-1]), tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found, model


@pytest.mark.parametrize("tie", [False, True])
def test_a_gpt_learns_in_bfloat16_as_in_float32(xp, device, tie):
    exact, _ = losses(xp, device, tie=tie)
    mixed, model = losses(xp, device, context="bfloat16", tie=tie)
    assert exact[-1] < exact[0] - 0.5
    assert np.allclose(mixed, exact, atol=2e-2)
    assert mixed != exact
    assert {p.dtype.name for p in model.parameters()} == {"float32"}
    assert make_gpt(device)(xp.asarray([[1, 2]])).dtype == "float32"


def test_a_gpt_all_in_bfloat16_learns_too(xp, device):
    exact, _ = losses(xp, device)
    half, model = losses(xp, device, dtype="bfloat16")
    assert {p.dtype.name for p in model.parameters()} == {"bfloat16"}
    assert np.allclose(half, exact, atol=3e-2)


def test_checkpoints_compute_again_what_was_computed(xp, device):
    plain, _ = losses(xp, device, steps=3, context="bfloat16")
    again, _ = losses(xp, device, steps=3, context="bfloat16", checkpoint=True)
    assert plain == again


def test_it_generates_in_the_context(xp, device):
    model = make_gpt(device)
    with xp.autocast():
        tokens = model.generate([[1, 2, 3]], 4, temperature=0)
    assert tokens.shape == (1, 7)


@HALF
def test_second_derivatives_through_the_context(xp, half):
    w1, w2 = (normal(xp, 4, 4, seed=s).requires_grad_() for s in (1, 2))
    x = normal(xp, 3, 4)

    def penalty(context):
        with xp.autocast(context or "bfloat16", enabled=context is not None):
            y = F.softmax(F.gelu(x @ w1) @ w2)
            loss = xp.sum(y * y) + xp.sum(MLP_(x, w1, w2) ** 2)
            (g,) = xp.autograd.grad(loss, w1, create_graph=True)
            total = xp.sum(g * g)
        return xp.autograd.grad(total, [w1, w2])

    for got, want in zip(penalty(half), penalty(None), strict=True):
        assert got.dtype == "float32"
        scale = float(xp.max(xp.abs(want)))
        assert float(xp.max(xp.abs(got - want))) <= 60 * ROUNDING[half] * scale


def MLP_(x, w1, w2):  # noqa: N802 - what MLP calls
    return tinyxp.ops.fused.mlp(x, w1, None, w2, None, approximate="tanh")


# ---------------------------------------------------------------- PyTorch's
@HALF
def test_it_agrees_with_pytorchs(xp, half):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    rng = np.random.default_rng(0)
    arrays = [
        rng.normal(size=s).astype("float32") for s in ((6, 8), (8, 12), (12,), (12, 5), (8,), (8,))
    ]
    targets = [0, 4, 2, 2, 1, 3]
    ours = [xp.asarray(a.tolist(), dtype="float32").requires_grad_() for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    with xp.autocast(half):
        x, w1, b1, w2, gamma, beta = ours
        hidden = F.linear(F.layer_norm(x, gamma, beta), w1, b1)
        logits = F.gelu(hidden, approximate="none") @ w2
        loss = F.cross_entropy(logits, xp.asarray(targets))
    with torch.autocast("cpu", dtype=getattr(torch, half)):
        x, w1, b1, w2, gamma, beta = theirs
        other = torch.nn.functional.linear(
            torch.nn.functional.layer_norm(x, (8,), gamma, beta), w1.T, b1
        )
        other_logits = torch.nn.functional.gelu(other) @ w2
        other_loss = torch.nn.functional.cross_entropy(other_logits.float(), torch.tensor(targets))
    assert hidden.dtype == logits.dtype == half
    assert other.dtype == other_logits.dtype == getattr(torch, half)
    near = 4 * ROUNDING[half]
    assert loss.item() == pytest.approx(other_loss.item(), rel=near)
    loss.backward()
    other_loss.backward()
    for a, b in zip(ours, theirs, strict=True):
        want = b.grad.numpy()
        assert np.allclose(a.grad.tolist(), want, atol=4 * near * np.abs(want).max())


# ---------------------------------------------------------------- TF32
def test_the_precision_of_products_is_a_switch(xp):
    assert xp.get_matmul_precision() == "highest"
    a = normal(xp, 8, 8)
    exact = a @ a
    with xp.matmul_precision("high"):
        assert xp.get_matmul_precision() == "high"
        assert np.allclose((a @ a).tolist(), exact.tolist(), atol=2e-2)
    assert xp.get_matmul_precision() == "highest"
    with pytest.raises(ValueError, match="'highest' or 'high'; got 'low'"):
        xp.set_matmul_precision("low")
    assert (a @ a).tolist() == exact.tolist()


@pytest.mark.skip_backend("numpy", "cupy", reason="asks PyTorch what it was told")
def test_pytorch_is_told_of_the_precision(xp):
    import torch

    with xp.matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"
