"""Masters of parameters in half precision, and the scaling of losses."""

import math

import numpy as np
import pytest

import tinyxp
from tinyxp import optim
from tinyxp.optim import SGD, Adam, AdamW, GradScaler, Lion, Muon

pytestmark = pytest.mark.skip_backend("strict", reason="has no half precision")
HALF = pytest.mark.parametrize("half", ["bfloat16", "float16"])
OPTIMIZERS = {
    "sgd": lambda ps: SGD(ps, lr=0.01),
    "dampened": lambda ps: SGD(ps, lr=0.01, momentum=0.9, dampening=0.5),
    "momentum": lambda ps: SGD(ps, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda ps: Adam(ps, lr=0.01, weight_decay=0.1),
    "adamw": lambda ps: AdamW(ps, lr=0.01),
    "amsgrad": lambda ps: AdamW(ps, lr=0.01, amsgrad=True),
    "lion": lambda ps: Lion(ps, lr=0.01, weight_decay=0.1),
    "muon": lambda ps: Muon(ps, lr=0.01),
}
EACH = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def matrix(xp, seed, dtype, *shape):
    return xp.random.Generator(seed).normal(shape or (3, 4), dtype="float64").to(dtype)


def leaf(xp, start, dtype=None):
    """A parameter of its own that begins as `start`."""
    return xp.asarray(start, dtype=dtype, copy=True).requires_grad_()


def give(p, g):
    p.grad = g


# ---------------------------------------------------------------- masters
@HALF
@EACH
def test_the_master_goes_as_a_float32_parameter_would(xp, make, half):
    start = matrix(xp, 0, half)
    p, q = leaf(xp, start), leaf(xp, start, "float32")
    ours, theirs = make([p]), make([q])
    for i in range(5):
        g = matrix(xp, i + 1, half)
        give(p, g)
        give(q, g.to("float32"))
        ours.step()
        theirs.step()
    assert p.dtype == half
    assert p.tolist() == q.to(half).tolist()
    assert np.allclose(ours.state[p]["master"].tolist(), q.tolist(), rtol=1e-6)
    assert {s.dtype.name for s in ours.state[p].values() if hasattr(s, "dtype")} == {"float32"}


@HALF
def test_steps_too_small_for_half_precision_add_up(xp, half):
    p = xp.ones(3, dtype=half).requires_grad_()
    optimizer = SGD([p], lr=1e-4)
    for _ in range(400):
        give(p, xp.ones(3, dtype=half))
        optimizer.step()
    assert p.tolist() == pytest.approx([0.96] * 3, rel=3e-3)


@EACH
def test_masters_are_stored_and_loaded(xp, make):
    start = matrix(xp, 0, "bfloat16")
    p, q = leaf(xp, start), leaf(xp, start)
    first, second = make([p]), make([q])
    give(p, matrix(xp, 1, "bfloat16"))
    first.step()
    with xp.no_grad():
        q[...] = p.detach()
    second.load_state_dict(first.state_dict())
    assert second.state[q]["master"].dtype == "float32"
    assert second.state[q]["master"].tolist() != q.to("float32").tolist()
    for t, optimizer in ((p, first), (q, second)):
        give(t, matrix(xp, 2, "bfloat16"))
        optimizer.step()
    assert first.state[p]["master"].tolist() == second.state[q]["master"].tolist()
    assert p.tolist() == q.tolist()


def test_a_state_goes_from_float32_to_half_precision_and_back(xp):
    single, half = (matrix(xp, 0, d).requires_grad_() for d in ("float32", "bfloat16"))
    one, two = AdamW([single]), AdamW([half])
    give(single, matrix(xp, 1, "float32"))
    one.step()
    two.load_state_dict(one.state_dict())
    give(half, matrix(xp, 2, "bfloat16"))
    two.step()
    assert {"master", "exp_avg", "exp_avg_sq", "step"} == set(two.state[half])
    one.load_state_dict(two.state_dict())
    assert {"exp_avg", "exp_avg_sq", "step"} == set(one.state[single])


@EACH
def test_whoever_writes_the_parameter_sets_the_master(xp, make):
    p = matrix(xp, 0, "bfloat16").requires_grad_()
    optimizer = make([p])
    give(p, matrix(xp, 1, "bfloat16"))
    optimizer.step()
    with xp.no_grad():
        p[...] = 100.0
    give(p, matrix(xp, 1, "bfloat16"))
    optimizer.step()
    assert float(xp.min(p)) > 90


@EACH
def test_a_loaded_master_stays_only_where_it_rounds_to_the_parameter(xp, make):
    p = matrix(xp, 0, "bfloat16").requires_grad_()
    optimizer = make([p])
    give(p, matrix(xp, 1, "bfloat16"))
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    stored = optimizer.state[p]["master"].tolist()
    with xp.no_grad():
        p[0] = 100.0
    optimizer._begin(p, optimizer.param_groups[0])
    assert optimizer.state[p]["master"].tolist() == [[100.0] * 4, *stored[1:]]


def test_gradients_in_half_precision_are_clipped_with_a_norm_in_float32(xp):
    p = xp.zeros(4096, dtype="float16").requires_grad_()
    p.grad = xp.full(
        4096, 100.0, dtype="float16"
    )  # the sum of squares is 4e7, float16 ends at 65504
    norm = optim.clip_grad_norm_([p], 64.0)
    assert norm.dtype == "float32"
    assert norm.item() == pytest.approx(6400.0)
    assert p.grad.dtype == "float16"
    assert p.grad.tolist()[0] == pytest.approx(1.0, rel=1e-3)


# ---------------------------------------------------------------- a step that may be left out
@EACH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_is_left_out_without_looking(xp, make, dtype):
    start = matrix(xp, 0, dtype)
    p, q = leaf(xp, start), leaf(xp, start)
    ours, theirs = make([p]), make([q])
    for skip in (False, True, False):
        give(p, matrix(xp, 1, dtype) * (math.nan if skip else 1.0))
        before = p.tolist()
        ours.step(skip=xp.asarray(skip))
        if skip:
            assert p.tolist() == before
            kept = [s for s in ours.state[p].values() if hasattr(s, "dtype")]
            assert all(bool(xp.all(xp.isfinite(s))) for s in kept)
            continue
        give(q, matrix(xp, 1, dtype))
        if type(theirs).__name__ in {"Adam", "AdamW"} and theirs.state:
            theirs.state[q]["step"] += 1  # the step left out counts
        theirs.step()
        assert p.tolist() == q.tolist()


class Lazy(optim.Optimizer):
    """Makes its state when it needs it, and names no slots."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    def update(self, p, g, state, group, xp):
        mean = state.setdefault("mean", xp.zeros_like(p))
        mean += g
        p -= mean * group["lr"]


@pytest.mark.parametrize("make", [OPTIMIZERS["dampened"], Lazy], ids=["dampened", "lazy"])
def test_a_first_step_that_is_left_out_is_no_first_step(xp, make):
    p, q = (leaf(xp, matrix(xp, 0, "float32")) for _ in range(2))
    ours, theirs = make([p]), make([q])
    for skip in (True, False, False):
        give(p, matrix(xp, 1, "float32") * (math.nan if skip else 1.0))
        ours.step(skip=xp.asarray(skip))
        if not skip:
            give(q, matrix(xp, 1, "float32"))
            theirs.step()
    assert p.tolist() == q.tolist()


# ---------------------------------------------------------------- scaling
def scaled_step(xp, scaler, optimizer, p, value, *, unscale=False):
    optimizer.zero_grad()
    scaler.scale(xp.sum(p * value)).backward()
    if unscale:
        scaler.unscale_(optimizer)
        assert p.grad.tolist() == pytest.approx([value] * 2, nan_ok=True)
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("unscale", [False, True])
def test_the_factor_cancels(xp, unscale):
    p = xp.ones(2).requires_grad_()
    scaled_step(xp, GradScaler(), SGD([p], lr=0.5), p, 0.5, unscale=unscale)
    assert p.tolist() == [0.75, 0.75]


def test_the_factor_follows_pytorchs(xp):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    options = {
        "init_scale": 8.0,
        "growth_factor": 4.0,
        "backoff_factor": 0.25,
        "growth_interval": 3,
    }
    p, q = xp.ones(2).requires_grad_(), torch.ones(2, requires_grad=True)
    ours, theirs = GradScaler(**options), torch.amp.GradScaler("cpu", **options)
    one, two = AdamW([p], lr=0.1), torch.optim.AdamW([q], lr=0.1)
    for value in [1.0, 2.0, math.inf, 1.0, 1.0, 0.5, math.nan, math.inf, *[0.25] * 8]:
        if not math.isfinite(value) and not one.state:
            one._begin(p, one.param_groups[0])
        scaled_step(xp, ours, one, p, value)
        two.zero_grad()
        theirs.scale((q * value).sum()).backward()
        theirs.step(two)
        theirs.update()
        assert ours.get_scale() == theirs.get_scale()
        one.state[p]["step"] = int(two.state[q]["step"])  # a device counts what it leaves out
        assert p.tolist() == pytest.approx(q.tolist(), rel=1e-6, abs=1e-6)
    assert ours.state_dict() == theirs.state_dict()


def test_its_state_is_stored_and_loaded(xp):
    p = xp.ones(2).requires_grad_()
    first, second = GradScaler(1024.0, growth_interval=2), GradScaler()
    optimizer = SGD([p], lr=0.1)
    for value in (1.0, math.inf, 1.0):
        scaled_step(xp, first, optimizer, p, value)
    second.load_state_dict(first.state_dict())
    assert second.get_scale() == 512.0
    scaled_step(xp, second, optimizer, p, 1.0)
    assert second.get_scale() == 1024.0  # the second good step in a row


def test_a_state_that_lacks_something_is_refused(xp):
    with pytest.raises(xp.errors.CheckpointError, match="lacks scale"):
        GradScaler().load_state_dict(GradScaler(enabled=False).state_dict())
    with pytest.raises(TypeError, match="expects a loss"):
        GradScaler().scale(3.0)


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e25])
@pytest.mark.parametrize("fused", [True, False])
def test_a_bad_step_gives_no_warning(xp, value, fused):
    p = xp.ones((300, 3)).requires_grad_()
    scaler, optimizer = GradScaler(1.0), AdamW([p], lr=0.1)
    with xp.use_fused(fused):
        scaler.scale(xp.sum(p * value)).backward()
        scaler.unscale_(optimizer)
        optim.clip_grad_norm_([p], 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 0.5
    assert xp.all(p == 1.0)


def test_several_optimizers_share_the_factor(xp):
    a, b = (xp.ones(2).requires_grad_() for _ in range(2))
    scaler, one, two = GradScaler(16.0), SGD([a], lr=1.0), SGD([b], lr=1.0)
    scaler.scale(xp.sum(a * math.inf) + xp.sum(b)).backward()
    for optimizer in (one, two):
        scaler.step(optimizer)
    scaler.update()
    assert (a.tolist(), b.tolist(), scaler.get_scale()) == ([1.0, 1.0], [0.0, 0.0], 8.0)


def test_gradients_that_float16_cannot_hold_survive(xp):
    w = xp.asarray([[1e-4, 2e-4]]).requires_grad_()
    x = xp.asarray([[1e-3], [1e-3]])
    grads = {}
    for enabled in (False, True):
        scaler = GradScaler(enabled=enabled)
        optimizer = SGD([w], lr=0.0)
        optimizer.zero_grad()
        with xp.autocast("float16"):
            loss = xp.sum(w @ x) * 1e-6
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        grads[enabled] = w.grad.tolist()[0]
    assert grads[True] == pytest.approx([1e-9, 1e-9], rel=1e-2)
    assert grads[False] != pytest.approx([1e-9, 1e-9], rel=0.5)


def test_a_loss_in_half_precision_is_scaled_in_float32(xp):
    scaler = GradScaler()
    loss = xp.asarray([4.0], dtype="float16")
    assert scaler.scale(loss).dtype == "float32"
    both = scaler.scale([xp.ones(1), (xp.ones(1),)])
    assert [both[0].item(), both[1][0].item()] == [65536.0, 65536.0]


def test_it_says_what_is_wrong(xp):
    p = xp.ones(2).requires_grad_()
    scaler, optimizer = GradScaler(), SGD([p])
    with pytest.raises(xp.GraphError, match="scale the loss first"):
        scaler.step(optimizer)
    with pytest.raises(xp.GraphError, match="after step"):
        scaler.update()
    scaler.scale(xp.sum(p)).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(xp.GraphError, match="unscale_\\(\\) was already called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(xp.GraphError, match="step\\(\\) was already called"):
        scaler.step(optimizer)
    scaler.update()
    half = xp.ones(2, dtype="float16").requires_grad_()
    scaler.scale(xp.sum(half.to("float32"))).backward()
    with pytest.raises(xp.errors.DTypeError, match="keep the parameters in float32"):
        scaler.unscale_(SGD([half]))
    for wrong in (
        {"init_scale": 0.0},
        {"growth_factor": 1.0},
        {"backoff_factor": 1.0},
        {"growth_interval": 0},
    ):
        with pytest.raises(ValueError, match="GradScaler expects"):
            GradScaler(**wrong)


def test_switched_off_it_does_nothing(xp):
    p = xp.ones(2).requires_grad_()
    scaler, optimizer = GradScaler(enabled=False), SGD([p], lr=1.0)
    scaled_step(xp, scaler, optimizer, p, 0.5)
    assert p.tolist() == [0.5, 0.5]
    assert (scaler.get_scale(), scaler.state_dict()) == (1.0, {})
    scaler.update(2.0)
    scaler.load_state_dict({})
    on = GradScaler()
    on.scale(xp.ones(()))
    on.update(new_scale=4.0)
    assert on.get_scale() == 4.0


def test_on_a_device_nothing_is_read(xp, device, monkeypatch):
    monkeypatch.setattr(type(device.backend), "host_visible", False)
    p = xp.ones(2).requires_grad_()
    optimizer, scaler = AdamW([p], lr=0.1), GradScaler(16.0, growth_interval=2)
    scaled_step(xp, scaler, optimizer, p, 1.0)

    def read(*_):
        raise AssertionError("it waits for the device")

    with monkeypatch.context() as patch:
        for name in ("__bool__", "__float__", "__int__", "item"):
            patch.setattr(tinyxp.Tensor, name, read)
        for value in (math.nan, 1.0, 1.0):
            scaled_step(xp, scaler, optimizer, p, value)
    assert scaler.get_scale() == 16.0
    assert np.isfinite(p.tolist()).all()


def test_training_in_float16_follows_float32(xp, device):
    from tinyxp.data import TokenDataset
    from tinyxp.training import RunConfig, Trainer

    data = TokenDataset.from_text("to be or not to be, that is the question. " * 20)
    found = {}
    for precision in ("float32", "bfloat16", "float16"):
        config = RunConfig.from_preset("tiny", steps=12, warmup=4, precision=precision)
        trainer = Trainer(config, data, device)
        if precision == "float16":
            trainer.scaler = GradScaler(1024.0)  # none of the first steps is left out
        found[precision] = [trainer.train_step().loss.item() for _ in range(12)]
        assert math.isfinite(trainer.evaluate(4))
    assert np.allclose(found["bfloat16"], found["float32"], atol=2e-2)
    assert np.allclose(found["float16"], found["float32"], atol=5e-3)
    assert found["float16"] != found["bfloat16"] != found["float32"]


def test_a_run_in_float16_goes_on_as_if_it_had_not_stopped(xp, device, tmp_path):
    from tinyxp.data import TokenDataset
    from tinyxp.training import RunConfig, Trainer
    from tinyxp.training._checkpoint import load_checkpoint, save_checkpoint

    data = TokenDataset.from_text("to be or not to be, that is the question. " * 20)
    config = RunConfig.from_preset("tiny", steps=6, precision="float16")
    first, second = (Trainer(config, data, device) for _ in range(2))
    for _ in range(3):
        first.train_step()
    save_checkpoint(tmp_path, first)
    load_checkpoint(tmp_path, second)
    assert second.scaler.get_scale() == first.scaler.get_scale()
    for _ in range(3):
        assert first.train_step().loss.item() == second.train_step().loss.item()
    assert first.scaler.state_dict() == second.scaler.state_dict()
