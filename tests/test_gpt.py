"""GPT: parameters, initial values, forward, tied weights, bad input, and PyTorch as the judge."""

import copy
import gc
import math
import pickle
import sys

import pytest

from tinyxp.errors import DTypeError, ShapeError
from tinyxp.nn import functional

SIZES = {"vocab_size": 11, "embed_dim": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 8}


def gpt(xp, **options):
    return xp.GPT(**{**SIZES, "seed": 0, **options})


def tokens_of(xp, *shape, seed=1):
    return xp.random.Generator(seed).integers(0, SIZES["vocab_size"], shape)


def furthest(xp, a, b):
    return float(xp.max(xp.abs(a.detach() - b.detach())))


# ---------------------------------------------------------------- what it is made of
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_it_has_5_and_16_for_each_layer_parameters_in_order(xp, layers):
    model = gpt(xp, num_layers=layers)
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == 5 + 16 * layers
    assert names[:2] == ["token_embedding.weight", "position_embedding.weight"]
    assert names[-3:] == ["ln_f.gamma", "ln_f.beta", "lm_head.weight"]
    assert [n.split(".")[1] for n in names if n.startswith("blocks")] == [
        str(i) for i in range(layers) for _ in range(16)
    ]


def test_shapes_are_those_of_tinytorch(xp):
    shapes = {name: p.shape for name, p in gpt(xp).named_parameters()}
    assert shapes["token_embedding.weight"] == (11, 16)
    assert shapes["position_embedding.weight"] == (8, 16)
    assert shapes["blocks.1.mlp.linear1.weight"] == (16, 64)
    assert shapes["lm_head.weight"] == (16, 11)


def test_initial_values_are_those_of_gpt_2(xp):
    model = gpt(xp, vocab_size=200, embed_dim=64, num_layers=4)
    for name, p in model.named_parameters():
        values = p.detach()
        if name.endswith(("beta", "bias")):
            assert not bool(xp.any(values)), name
        elif name.endswith("gamma"):
            assert bool(xp.all(values == 1)), name
        else:
            into_residual = name.endswith(("out_proj.weight", "linear2.weight"))
            expected = 0.02 / math.sqrt(2 * 4) if into_residual else 0.02
            assert float(xp.std(values)) == pytest.approx(expected, rel=0.1), name


def test_the_seed_decides_the_weights(xp):
    def weights(**options):
        return gpt(xp, **options).blocks[1].mlp.linear1.weight.tolist()

    assert weights(seed=5) == weights(seed=5) != weights(seed=6)
    xp.manual_seed(5)
    assert weights(seed=None) == weights(seed=5)


def test_weights_and_loss_are_the_same_as_on_the_cpu(xp, device):
    def run(place):
        model = gpt(xp, device=place)
        loss = functional.cross_entropy(
            model(tokens_of(xp, 2, 8).to(place)), tokens_of(xp, 2, 8, seed=2).to(place)
        )
        return model, loss.item()

    here, loss = run(device)
    there, expected = run("cpu")
    assert loss == pytest.approx(expected, abs=1e-6)
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        assert furthest(xp, p.detach().cpu(), q) <= 2e-8  # 2 units in the last place of 0.1


def test_config_makes_a_model_of_the_same_shape(xp):
    model = gpt(xp, gelu="none", mlp_ratio=2, eps=1e-6, dropout_prob=0.1, tie_weights=True)
    other = xp.GPT(**model.config)
    other.load_state_dict(model.state_dict())
    tokens = tokens_of(xp, 1, 4)
    assert other.config == model.config
    assert other.eval()(tokens).tolist() == model.eval()(tokens).tolist()


# ---------------------------------------------------------------- forward
def test_logits_have_a_row_for_each_position(xp):
    model = gpt(xp)
    assert model(tokens_of(xp, 2, 5)).shape == (2, 5, 11)
    assert model([1, 2, 3]).shape == (3, 11)
    assert model([[1, 2, 3]], last_only=True).shape == (1, 1, 11)


def test_no_position_sees_later_ones(xp):
    model, tokens = gpt(xp), tokens_of(xp, 1, 8)
    changed = xp.concat([tokens[:, :5], (tokens[:, 5:] + 1) % 11], axis=1)
    before, after = model(tokens), model(changed)
    assert furthest(xp, before[:, :5], after[:, :5]) == 0.0
    assert furthest(xp, before[:, 5:], after[:, 5:]) > 1e-4


def test_dropout_acts_while_training_only(xp):
    model, tokens = gpt(xp, dropout_prob=0.5), tokens_of(xp, 1, 4)
    assert furthest(xp, model(tokens), model(tokens)) > 1e-4
    model.eval()
    assert furthest(xp, model(tokens), model(tokens)) == 0.0


def test_tied_weights_are_one_parameter_with_both_gradients(xp):
    tied, free = gpt(xp, tie_weights=True), gpt(xp)
    assert len(tied.parameters()) == len(free.parameters()) - 1
    assert "lm_head.weight" not in tied.state_dict()
    free.load_state_dict({**tied.state_dict(), "lm_head.weight": tied.lm_head.weight.detach()})
    tokens, targets = tokens_of(xp, 2, 8), tokens_of(xp, 2, 8, seed=2)
    for model in (tied, free):
        functional.cross_entropy(model(tokens), targets).backward()
    expected = free.token_embedding.weight.grad + free.lm_head.weight.grad.T
    assert furthest(xp, tied.token_embedding.weight.grad, expected) < 1e-6


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["deepcopy", "pickle"],
)
def test_copies_work(xp, copied, tie):
    model = gpt(xp, tie_weights=tie)
    other, tokens = copied(model), tokens_of(xp, 1, 4)
    assert other(tokens).tolist() == model(tokens).tolist()
    assert len(other.parameters()) == len(model.parameters())
    if tie:
        assert other.lm_head.embedding is other.token_embedding


def test_bad_input_is_explained(xp):
    model = gpt(xp)
    with pytest.raises(DTypeError, match="integer token ids; got float32"):
        model(xp.ones((1, 3)))
    with pytest.raises(ShapeError, match="max_seq_len=8 positions; got 9"):
        model(tokens_of(xp, 1, 9))
    with pytest.raises(ShapeError, match=r"got \(1, 0\)"):
        model(xp.zeros((1, 0), dtype="int64"))
    with pytest.raises(ShapeError, match=r"got \(1, 1, 1\)"):
        model(tokens_of(xp, 1, 1, 1))
    with pytest.raises(ShapeError, match=r"embed_dim=16 .* num_heads=3"):
        gpt(xp, num_heads=3)
    with pytest.raises(ValueError, match="vocab_size >= 1; got 0"):
        gpt(xp, vocab_size=0)
    with pytest.raises(ValueError, match="num_layers >= 0; got -1"):
        gpt(xp, num_layers=-1)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_table_of_too_few_positions_is_no_broadcast(xp, rows):
    model = gpt(xp)
    model.position_embedding = xp.nn.Embedding(rows, SIZES["embed_dim"])
    tokens = xp.zeros((1, 4), dtype="int64")
    if not model.device.backend.host_visible:  # where the host does not wait such rows are NaN
        assert bool(xp.all(xp.isnan(model(tokens)[:, rows:])))
        return
    with pytest.raises(IndexError, match=rf"\[0, {rows}\); they go from 0 to 3"):
        model(tokens)


def test_token_ids_out_of_range_are_not_looked_up(xp, device):
    model = gpt(xp)
    if device.backend.host_visible:
        with pytest.raises(IndexError, match=r"\[0, 11\); they go from 3 to 11"):
            model([[3, 11]])
    else:  # a GPU does not wait to be asked: it gives NaN
        assert bool(xp.all(xp.isnan(model([[3, 11]])[0, 1])))


# ---------------------------------------------------------------- cost
def test_backward_is_linear_in_depth(xp):
    """Twice the layers, twice the work: counted in calls, which a busy machine does not change."""

    def calls(layers):
        model = gpt(xp, num_layers=layers)
        loss = model(tokens_of(xp, 1, 4)).sum()
        count = 0

        def tick(_frame, event, _argument):
            nonlocal count
            count += event == "call"

        before = sys.getprofile()
        sys.setprofile(tick)
        try:
            loss.backward()
        finally:
            sys.setprofile(before)
        return count

    calls(1)  # caches are filled
    assert 1.5 < calls(24) / calls(12) < 2.1


def test_backward_leaves_nothing_for_the_garbage_collector(xp):
    model, tokens = gpt(xp), tokens_of(xp, 1, 4)
    model(tokens).sum().backward()  # caches are filled
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(5):
            model.zero_grad()
            model(tokens).sum().backward()
        assert len(gc.get_objects()) - before < 20
    finally:
        gc.enable()


# ---------------------------------------------------------------- against PyTorch
@pytest.fixture
def torch():
    """PyTorch on one thread: its pool and that of the library under test would fight for the cores."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def torch_gpt(torch, model):
    """Return GPT-2's forward pass in torch, and its parameters with the values of `model`."""
    nn = torch.nn.functional
    p = {
        name: torch.tensor(t.tolist(), requires_grad=True) for name, t in model.state_dict().items()
    }

    def norm(x, name):
        return nn.layer_norm(x, x.shape[-1:], p[f"{name}.gamma"], p[f"{name}.beta"], model.eps)

    def linear(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def forward(tokens):
        x = p["token_embedding.weight"][tokens] + p["position_embedding.weight"][: tokens.shape[1]]
        for i in range(model.num_layers):
            block = f"blocks.{i}"
            h = norm(x, f"{block}.ln1")
            q, k, v = (
                linear(h, f"{block}.attention.{n}_proj")
                .unflatten(-1, (model.num_heads, -1))
                .transpose(1, 2)
                for n in "qkv"
            )
            a = nn.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
            x = x + linear(a, f"{block}.attention.out_proj")
            h = nn.gelu(linear(norm(x, f"{block}.ln2"), f"{block}.mlp.linear1"), approximate="tanh")
            x = x + linear(h, f"{block}.mlp.linear2")
        return norm(x, "ln_f") @ p["lm_head.weight"]

    return forward, p


def large(xp):
    return gpt(xp, vocab_size=50, embed_dim=48, num_layers=3, max_seq_len=16)


def batch(xp, torch, seed):
    random = xp.random.Generator(seed)
    x, y = random.integers(0, 50, (4, 16)), random.integers(0, 50, (4, 16))
    return x, y, torch.tensor(x.tolist()), torch.tensor(y.tolist())


def test_logits_and_gradients_equal_torch(xp, torch):
    model = large(xp)
    forward, parameters = torch_gpt(torch, model)
    x, y, their_x, their_y = batch(xp, torch, 1)
    logits, expected = model(x), forward(their_x)
    assert furthest(xp, logits, xp.asarray(expected.tolist())) < 1e-5
    functional.cross_entropy(logits, y).backward()
    torch.nn.functional.cross_entropy(expected.flatten(0, 1), their_y.flatten()).backward()
    for name, p in model.named_parameters():
        assert furthest(xp, p.grad, xp.asarray(parameters[name].grad.tolist())) < 1e-6, name


def test_ten_steps_of_adamw_equal_torch(xp, torch):
    model = large(xp)
    forward, parameters = torch_gpt(torch, model)
    options = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    ours = xp.optim.AdamW(model.parameters(), **options)
    theirs = torch.optim.AdamW(parameters.values(), **options)
    losses = []
    for step in range(10):
        x, y, their_x, their_y = batch(xp, torch, step)
        loss = functional.cross_entropy(model(x), y)
        expected = torch.nn.functional.cross_entropy(
            forward(their_x).flatten(0, 1), their_y.flatten()
        )
        for optimizer, value in ((ours, loss), (theirs, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        losses.append(loss.item())
        assert losses[-1] == pytest.approx(expected.item(), abs=1e-4)
    assert len(set(losses)) == 10


def test_it_learns_a_pattern_by_heart(xp):
    model = gpt(xp)
    optimizer = xp.optim.AdamW(model.parameters(), lr=1e-2)
    cycle = xp.asarray([[3, 1, 4, 1, 5, 9, 2, 6]])
    for _ in range(60):
        loss = functional.cross_entropy(model(cycle[:, :-1]), cycle[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert model.generate([[3, 1]], 6, temperature=0).tolist() == cycle.tolist()
