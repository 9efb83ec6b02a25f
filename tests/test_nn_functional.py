"""Activations, normalisations and losses against PyTorch and closed forms; layers; bad input."""

import math
import warnings

import pytest

from tinyxp import nn
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.nn import functional


def torch_pair(xp, *shape, seed=0, std=1.0):
    """Return the same float64 numbers as a Tensor and as a torch tensor, both requiring grad."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = xp.random.Generator(seed).normal(shape, std=std, dtype="float64")
    return x.requires_grad_(), torch.tensor(x.tolist(), dtype=torch.float64, requires_grad=True)


def same(xp, ours, theirs, tolerance=1e-12):
    theirs = xp.asarray(theirs.detach().tolist(), dtype=ours.dtype)
    assert ours.shape == theirs.shape
    assert float(xp.max(xp.abs(ours.detach() - theirs))) < tolerance


def compare(xp, ours, theirs, pairs, tolerance=1e-12):
    """Compare values, and the gradients of a weighted sum."""
    same(xp, ours, theirs, tolerance)
    weights = xp.random.Generator(99).normal(ours.shape, dtype="float64")
    xp.sum(ours * weights).backward()
    (theirs * theirs.new_tensor(weights.tolist())).sum().backward()
    for x, t in pairs:
        same(xp, x.grad, t.grad, tolerance)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relu", {}),
        ("silu", {}),
        ("sigmoid", {}),
        ("tanh", {}),
        ("gelu", {"approximate": "tanh"}),
        ("gelu", {"approximate": "none"}),
        ("softmax", {"axis": -1}),
        ("softmax", {"axis": 0}),
        ("log_softmax", {"axis": -1}),
    ],
)
def test_activations_equal_torch(xp, name, options):
    x, t = torch_pair(xp, 4, 7, std=3.0)
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    renamed = {"dim" if k == "axis" else k: v for k, v in options.items()}
    theirs = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    compare(xp, getattr(functional, name)(x, **options), theirs(t, **renamed), [(x, t)])


def test_quick_gelu_is_x_times_a_logistic_function(xp):
    values = [-3.0, -0.5, 0.0, 0.7, 4.0]
    out = functional.gelu(xp.asarray(values, dtype="float64"), approximate="sigmoid")
    assert out.tolist() == pytest.approx(
        [v / (1 + math.exp(-1.702 * v)) for v in values], rel=1e-14
    )


def test_relu_has_slope_0_at_0_and_keeps_nan(xp):
    x = xp.Tensor([0.0, -1.0, 2.0], requires_grad=True)
    functional.relu(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 1.0]
    assert math.isnan(functional.relu(xp.asarray(math.nan)).item())


@pytest.mark.parametrize("shape", [(7,), (4, 7)])
def test_layer_norm_equals_torch(xp, shape):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    (x, t), (g, tg), (b, tb) = (
        torch_pair(xp, *s, seed=i) for i, s in enumerate([(3, 4, 7), shape, shape])
    )
    theirs = torch.nn.functional.layer_norm(t, shape, tg, tb, 1e-5)
    compare(xp, functional.layer_norm(x, g, b), theirs, [(x, t), (g, tg), (b, tb)])


def test_rms_norm_equals_torch(xp):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    (x, t), (g, tg) = torch_pair(xp, 3, 4, 7), torch_pair(xp, 7, seed=1)
    theirs = torch.nn.functional.rms_norm(t, (7,), tg, 1e-6)
    compare(xp, functional.rms_norm(x, g, eps=1e-6), theirs, [(x, t), (g, tg)])


def test_linear_equals_torch_with_the_weight_transposed(xp):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    (x, t), (w, tw), (b, tb) = (
        torch_pair(xp, *s, seed=i) for i, s in enumerate([(2, 3, 4), (4, 5), (5,)])
    )
    theirs = torch.nn.functional.linear(t, tw.T, tb)
    compare(xp, functional.linear(x, w, b), theirs, [(x, t), (w, tw), (b, tb)])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_cross_entropy_equals_torch(xp, smoothing, reduction, ignored):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x, t = torch_pair(xp, 6, 5, std=4.0)
    targets = [0, 2, 4, ignored, 2, 1]
    ours = functional.cross_entropy(
        x,
        xp.asarray(targets),
        ignore_index=ignored,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    theirs = torch.nn.functional.cross_entropy(
        t,
        torch.tensor(targets),
        ignore_index=ignored,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    compare(xp, ours, theirs, [(x, t)])


def test_cross_entropy_takes_any_number_of_axes(xp):
    logits = xp.random.Generator(0).normal((2, 3, 5))
    targets = xp.random.Generator(1).integers(0, 5, (2, 3))
    loss = nn.CrossEntropyLoss()(logits, targets)
    flat = nn.CrossEntropyLoss()(logits.reshape(6, 5), targets.reshape(6))
    assert loss.shape == ()
    assert loss.item() == flat.item()
    assert functional.cross_entropy(logits, targets, reduction="none").shape == (2, 3)


def test_cross_entropy_of_nothing_is_zero_with_zero_gradient(xp):
    logits = xp.zeros((2, 3)).requires_grad_()
    loss = functional.cross_entropy(logits, xp.asarray([-100, -100]))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.tolist() == [[0.0] * 3] * 2


def test_cross_entropy_of_large_logits_is_finite(xp):
    logits = xp.asarray([[1e4, -1e4, 0.0]]).requires_grad_()
    loss = functional.cross_entropy(logits, xp.asarray([1]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad.tolist() == [[1.0, -1.0, 0.0]]


def test_mse_loss_is_the_mean_of_squares(xp):
    x = xp.Tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    loss = nn.MSELoss()(x, xp.zeros((2, 2)))
    loss.backward()
    assert loss.item() == (1 + 4 + 9 + 25) / 4
    assert x.grad.tolist() == [[0.5, 1.0], [1.5, 2.5]]
    with pytest.raises(ShapeError, match=r"one shape; got \(2, 2\) and \(2,\)"):
        functional.mse_loss(x, xp.zeros(2))


# ---------------------------------------------------------------- layers
def test_layers_have_the_parameters_and_shapes_they_promise(xp):
    def shapes(module):
        return {name: tuple(p.shape) for name, p in module.named_parameters()}

    assert shapes(nn.Linear(3, 4)) == {"weight": (3, 4), "bias": (4,)}
    assert shapes(nn.Linear(3, 4, bias=False)) == {"weight": (3, 4)}
    assert shapes(nn.Embedding(7, 3)) == {"weight": (7, 3)}
    assert shapes(nn.LayerNorm(3)) == {"gamma": (3,), "beta": (3,)}
    assert shapes(nn.LayerNorm((2, 3))) == {"gamma": (2, 3), "beta": (2, 3)}
    assert shapes(nn.RMSNorm(3)) == {"gamma": (3,)}
    assert list(shapes(nn.MLP(2))) == [
        "linear1.weight",
        "linear1.bias",
        "linear2.weight",
        "linear2.bias",
    ]
    assert nn.MLP(2, 5).linear1.weight.shape == (2, 5)
    assert nn.MLP(2).hidden_dim == 8


def test_parameters_start_as_promised(xp):
    layer = nn.Linear(400, 300)
    assert float(xp.std(layer.weight.detach())) == pytest.approx(1 / 20, rel=0.02)
    assert bool(xp.all(layer.bias == 0))
    norm = nn.LayerNorm(3)
    assert norm.gamma.tolist() == [1.0] * 3
    assert norm.beta.tolist() == [0.0] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_take_dtype_and_device(xp, device, dtype):
    for make in (
        lambda **k: nn.Linear(4, 4, **k),
        lambda **k: nn.Embedding(4, 4, **k),
        lambda **k: nn.LayerNorm(4, **k),
        lambda **k: nn.RMSNorm(4, **k),
        lambda **k: nn.MLP(4, **k),
        lambda **k: nn.MultiHeadAttention(4, 2, **k),
        lambda **k: nn.TransformerBlock(4, 2, **k),
    ):
        for p in make(dtype=dtype, device=device).parameters():
            assert p.dtype == dtype
            assert p.device is device


@pytest.mark.parametrize(
    ("module", "function", "text"),
    [
        (nn.ReLU(), functional.relu, "ReLU()"),
        (nn.SiLU(), functional.silu, "SiLU()"),
        (nn.Sigmoid(), functional.sigmoid, "Sigmoid()"),
        (nn.Tanh(), functional.tanh, "Tanh()"),
        (nn.GELU("none"), lambda x: functional.gelu(x, approximate="none"), "approximate='none'"),
        (nn.Softmax(0), lambda x: functional.softmax(x, axis=0), "axis=0"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_activations_are_modules_too(xp, module, function, text):
    x = xp.random.Generator(0).normal((3, 4))
    assert module(x).tolist() == function(x).tolist()
    assert text in repr(module)
    assert module.parameters() == []


def test_every_layer_says_what_it_is(xp):
    for module, text in (
        (nn.Linear(2, 3, bias=False), "Linear(2, 3, bias=False)"),
        (nn.Embedding(4, 2), "Embedding(4, 2)"),
        (nn.LayerNorm(3), "LayerNorm(3, eps=1e-05)"),
        (nn.RMSNorm((2, 3), 1e-6), "RMSNorm((2, 3), eps=1e-06)"),
        (nn.Dropout(0.1), "Dropout(p=0.1)"),
        (nn.MultiHeadAttention(4, 2), "MultiHeadAttention(4, num_heads=2)"),
        (nn.CrossEntropyLoss(3), "CrossEntropyLoss(ignore_index=3, label_smoothing=0.0)"),
    ):
        assert repr(module).startswith(text)


def test_embedding_keeps_large_ids_apart(xp):
    """Neighbours beyond 2**24 are one number in float32."""
    table = xp.zeros((2**24 + 4, 1), dtype="float32")
    table[2**24 + 1, 0] = 1.0
    out = functional.embedding(xp.asarray([2**24, 2**24 + 1, 2**24 + 2]), table)
    assert out.reshape(3).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_embedding_takes_every_integer_dtype(xp, dtype):
    layer = nn.Embedding(4, 2)
    out = layer(xp.asarray([[3, 0]], dtype="int64").to(dtype))
    assert out.tolist() == [[layer.weight[3].tolist(), layer.weight[0].tolist()]]
    out.sum().backward()
    assert layer.weight.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]


def test_layers_take_lists(xp):
    assert nn.Embedding(4, 2)([[1, 2]]).shape == (1, 2, 2)
    assert nn.Linear(2, 3)([[1.0, 2.0]]).shape == (1, 3)


def test_dropout_drops_only_while_training(xp):
    xp.manual_seed(0)
    layer, x = nn.Dropout(0.5), xp.ones((100, 100))
    first, second = layer(x), layer(x)
    assert set(first.reshape(-1).tolist()) == {0.0, 2.0}
    assert not bool(xp.all(first == second))
    xp.manual_seed(0)
    assert bool(xp.all(layer(x) == first))
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not bool(xp.any(nn.Dropout(1.0)(x)))


def test_dropout_prob_of_the_block_reaches_both_branches(xp):
    block = nn.TransformerBlock(8, 2, dropout_prob=1.0)
    x = xp.random.Generator(0).normal((1, 3, 8))
    assert bool(xp.all(block(x) == x))
    assert not bool(xp.all(block.eval()(x) == x))


def test_the_gradient_of_dropout_uses_the_same_mask(xp):
    x = xp.ones(1000).requires_grad_()
    out = functional.dropout(x, 0.3)
    out.sum().backward()
    assert x.grad.tolist() == out.tolist()


# ---------------------------------------------------------------- bad input
def refused(error, pattern, call):
    with pytest.raises(error, match=pattern):
        call()


def test_shapes_that_do_not_fit_are_explained(xp):
    x = xp.ones((32, 128))
    refused(ShapeError, r"in_features=64; got x of shape \(32, 128\)", lambda: nn.Linear(64, 8)(x))
    refused(
        ShapeError, r"weight has shape .* = \(3, 4\)", lambda: functional.linear(x, xp.ones((3, 4)))
    )
    refused(ShapeError, r"end in the shape of gamma, \(64,\)", lambda: nn.LayerNorm(64)(x))
    refused(ShapeError, r"axis=2 for x of shape \(32, 128\)", lambda: functional.softmax(x, axis=2))
    refused(
        ShapeError,
        r"logits of shape \(32, 128\) and targets of shape \(31,\)",
        lambda: functional.cross_entropy(x, xp.zeros(31, dtype="int64")),
    )


def test_dtypes_that_do_not_fit_are_explained(xp):
    ints = xp.ones((2, 4), dtype="int64")
    refused(DTypeError, "linear expects floating numbers; got int64", lambda: nn.Linear(4, 2)(ints))
    refused(DTypeError, "gelu expects floating", lambda: functional.gelu(ints))
    refused(DTypeError, "integer token ids; got float32", lambda: nn.Embedding(4, 2)(xp.ones(2)))
    refused(
        DTypeError,
        "integer targets; got float32",
        lambda: functional.cross_entropy(xp.ones((2, 4)), xp.ones(2)),
    )


def test_values_out_of_range_are_explained(xp):
    refused(ValueError, r"\[0, 1\]; got 1.5", lambda: nn.Dropout(1.5))
    refused(ValueError, r"\[0, 1\]; got -0.1", lambda: functional.dropout(xp.ones(2), -0.1))
    refused(ValueError, "'tanh', 'none', 'sigmoid'; got 'fast'", lambda: nn.GELU("fast"))
    refused(ValueError, "got 'fast'", lambda: functional.gelu(xp.ones(2), approximate="fast"))
    targets = xp.asarray([0])
    refused(
        ValueError,
        "label_smoothing",
        lambda: functional.cross_entropy(xp.ones((1, 2)), targets, label_smoothing=2.0),
    )
    refused(
        ValueError,
        "'mean', 'sum' or 'none'",
        lambda: functional.cross_entropy(xp.ones((1, 2)), targets, reduction="avg"),
    )


def test_a_wide_input_promotes_and_warns_once(xp, monkeypatch):
    monkeypatch.setattr("tinyxp.nn._promotion._said", set())
    block, x = nn.TransformerBlock(4, 2), xp.ones((1, 3, 4), dtype="float64").requires_grad_()
    with pytest.warns(UserWarning, match="got a float64 input for float32 parameters") as warned:
        out = block(x)
    assert len(warned) == 1
    assert out.dtype == "float64"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = out + block(x)
    out.sum().backward()
    assert {p.grad.dtype.name for p in block.parameters()} == {"float32"}
    assert x.grad.dtype == "float64"


def test_a_narrow_input_promotes_without_a_word(xp):
    layer = nn.Linear(2, 2, dtype="float64")
    assert layer(xp.ones((1, 2))).dtype == "float64"
