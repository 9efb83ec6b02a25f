"""Groups, errors and state dicts of the optimizers."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinyxp
from tinyxp.errors import CheckpointError, DeviceMismatchError, DTypeError, GraphError
from tinyxp.optim import SGD, Adam, AdamW, Lion, Muon, Optimizer, decay_groups, muon_groups


def parameter(*shape, device="cpu"):
    return tinyxp.Tensor(np.ones(shape, "float32"), requires_grad=True, device=device)


def give_gradients(*params):
    for i, p in enumerate(params):
        p.grad = tinyxp.ones(p.shape, device=p.device) * (i + 1)


# ---------------------------------------------------------------- groups
def test_groups_have_their_own_options():
    a, b = parameter(2), parameter(2)
    optimizer = SGD([{"params": [a], "lr": 0.5}, {"params": b}], lr=0.25)
    give_gradients(a, b)
    optimizer.step()
    assert a.tolist() == [0.5, 0.5]
    assert b.tolist() == [0.5, 0.5]
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.25]


def test_a_group_can_be_added():
    a, b = parameter(2), parameter(2)
    optimizer = SGD([a], lr=0.5)
    optimizer.add_param_group({"params": [b], "lr": 1.0})
    give_gradients(a, b)
    optimizer.step()
    assert b.tolist() == [-1.0, -1.0]


def test_named_parameters_keep_their_names():
    model = tinyxp.nn.Linear(2, 3)
    optimizer = AdamW(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(2, 3), (3,)]


def test_parameters_without_gradient_are_passed_over():
    a, b, frozen = parameter(2), parameter(2), tinyxp.ones(2)
    optimizer = AdamW([a, b, frozen], lr=0.5)
    give_gradients(a)
    optimizer.step()
    assert b.tolist() == frozen.tolist() == [1.0, 1.0]
    assert list(optimizer.state) == [a]


def test_zero_grad():
    a, b = parameter(2), parameter(2)
    optimizer = SGD([a, b])
    give_gradients(a)
    kept = a.grad
    optimizer.zero_grad(set_to_none=False)
    assert a.grad is kept
    assert a.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert a.grad is None
    assert b.grad is None


def test_a_closure_computes_the_loss():
    a = parameter(2)
    optimizer = SGD([a], lr=0.5)

    def closure():
        loss = (a * a).sum()
        loss.backward()
        return loss

    with tinyxp.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert a.tolist() == [0.0, 0.0]


def test_repr_tells_groups_and_options():
    text = repr(SGD([parameter(2, 3), parameter(4)], lr=0.5))
    assert text.startswith("SGD(\n  2 parameters, 10 elements: lr=0.5, momentum=0.0")


# ---------------------------------------------------------------- misuse
def non_leaf():
    return parameter(2) * 2


TWICE = parameter(2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD([]), ValueError, "empty list of parameters"),
        (lambda: SGD([{"params": []}]), ValueError, "group without parameters"),
        (lambda: SGD(iter(())), ValueError, "empty list"),
        (lambda: SGD(TWICE), TypeError, r"got one Tensor: write \[p\]"),
        (lambda: SGD({TWICE}), TypeError, "an optimizer takes .* got a set"),
        (lambda: SGD([{"params": {TWICE}}]), TypeError, "a group takes .* got a set"),
        (lambda: SGD([np.ones(2)]), TypeError, "a parameter of type ndarray; it optimises Tensors"),
        (lambda: SGD([("w", 3)]), TypeError, "parameter 'w' of type int"),
        (lambda: SGD([non_leaf()]), GraphError, "computed from others; only leaves"),
        (lambda: SGD([tinyxp.ones(2, dtype="int64")]), DTypeError, "dtype int64"),
        (lambda: SGD([TWICE, TWICE]), ValueError, "a parameter twice"),
        (lambda: SGD([{"params": [TWICE]}, {"params": [TWICE]}]), ValueError, "twice; a tied"),
        (lambda: SGD([TWICE], lr=-0.1), ValueError, "SGD expects lr to be a number >= 0; got -0.1"),
        (lambda: SGD([TWICE], lr=float("nan")), ValueError, "got nan"),
        (lambda: SGD([TWICE], lr="0.1"), ValueError, "got '0.1'"),
        (lambda: SGD([{"params": [TWICE], "lr": -1}]), ValueError, "got -1"),
        (lambda: SGD([TWICE], weight_decay=-1.0), ValueError, "weight_decay to be a number >= 0"),
        (lambda: SGD([TWICE], momentum=-1.0), ValueError, "momentum to be a number >= 0"),
        (lambda: SGD([TWICE], nesterov=True), ValueError, "nesterov=True expects momentum > 0"),
        (
            lambda: Adam([TWICE], betas=(0.9, 1.0)),
            ValueError,
            r"two numbers in \[0, 1\); got \(0.9, 1.0\)",
        ),
        (lambda: Adam([TWICE], eps=-1.0), ValueError, "eps to be a number >= 0"),
        (lambda: Lion([TWICE], betas=(0.9,)), ValueError, "two numbers"),
        (
            lambda: Muon([parameter(2, 2)], momentum=1.0),
            ValueError,
            r"momentum in \[0, 1\); got 1.0",
        ),
        (lambda: Muon([parameter(2, 2)], adjust_lr_fn="x"), ValueError, "got 'x'"),
        (
            lambda: SGD([{"params": [TWICE], "weight_decya": 1}]),
            ValueError,
            "did you mean 'weight_decay'",
        ),
    ],
)
def test_misuse_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_refused_group_is_not_added():
    a, b = parameter(2), parameter(2)
    optimizer = SGD([a])
    with pytest.raises(ValueError, match="lr"):
        optimizer.add_param_group({"params": [b], "lr": -1.0})
    optimizer.add_param_group({"params": [b]})
    assert len(optimizer.param_groups) == 2


@pytest.mark.skip_backend("numpy", reason="moves from NumPy's device to another")
def test_a_model_that_moved_is_noticed(device):
    model = tinyxp.nn.Linear(2, 2, device="cpu")
    optimizer = AdamW(model.parameters())
    give_gradients(*model.parameters())
    optimizer.step()
    model.to(device)
    give_gradients(*model.parameters())
    with pytest.raises(DeviceMismatchError, match=f"state on cpu for a parameter on {device}"):
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())  # takes it along
    optimizer.step()


def test_a_base_class_has_no_update():
    a = parameter(2)
    give_gradients(a)
    with pytest.raises(NotImplementedError, match="Optimizer must define `update`"):
        Optimizer([a], {"lr": 0.1}).step()


# ---------------------------------------------------------------- state dicts
MAKERS = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "adam": lambda p: Adam(p, amsgrad=True),
    "adamw": AdamW,
    "lion": Lion,
    "muon": lambda p: Muon([{"params": p[:1]}, {"params": p[1:], "adamw": True}]),
}
EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def steps(optimizer, params, n):
    for i in range(n):
        for p in params:
            p.grad = tinyxp.sin(p.detach() * (i + 2))
        optimizer.step()


@EACH
def test_a_stored_optimizer_goes_on_as_if_nothing_had_been(make, tmp_path):
    params = [parameter(2, 2), parameter(3)]
    optimizer = make(params)
    steps(optimizer, params, 3)
    state = optimizer.state_dict()
    tensors = {
        f"{i}.{k}": v
        for i, s in state["state"].items()
        for k, v in s.items()
        if isinstance(v, tinyxp.Tensor)
    }
    assert len(tensors) >= 2
    tinyxp.save(tensors, tmp_path / "state")
    twins = [tinyxp.Tensor(p.detach(), requires_grad=True) for p in params]
    other = make(twins)
    loaded = {
        i: {k: tinyxp.load(tmp_path / "state").get(f"{i}.{k}", v) for k, v in s.items()}
        for i, s in state["state"].items()
    }
    groups = json.loads(json.dumps(state["param_groups"]))
    other.load_state_dict({"state": loaded, "param_groups": groups})
    steps(optimizer, params, 3)
    steps(other, twins, 3)
    assert [p.tolist() for p in params] == [p.tolist() for p in twins]


@EACH
def test_a_loaded_state_is_a_copy(make):
    params = [parameter(2, 2), parameter(3)]
    optimizer, other = make(params), make(params)
    steps(optimizer, params, 1)
    other.load_state_dict(optimizer.state_dict())
    before = [p.tolist() for p in params], str(optimizer.state_dict())
    for p in params:
        p.grad = None
    for p, q in zip(params, [parameter(2, 2), parameter(3)], strict=True):
        other.state[q] = other.state.pop(p)
        other.param_groups = [
            {**g, "params": [q if x is p else x for x in g["params"]]} for g in other.param_groups
        ]
    steps(other, [p for g in other.param_groups for p in g["params"]], 2)
    assert before == ([p.tolist() for p in params], str(optimizer.state_dict()))


def test_states_of_pytorch_can_be_loaded():
    torch = pytest.importorskip("torch", reason="loads a state dict of torch.optim")
    q = torch.nn.Parameter(torch.ones(3))
    theirs = torch.optim.AdamW([q], lr=0.05)
    p = parameter(3)
    ours = AdamW([p])
    for i in range(6):
        q.grad = torch.sin(q.detach() * (i + 2))
        theirs.step()
        if i == 2:
            state = theirs.state_dict()
            state["state"] = {
                n: {k: tinyxp.asarray(v.numpy()) for k, v in s.items()}
                for n, s in state["state"].items()
            }
            ours.load_state_dict(state)
            p.data = q.detach().numpy()
        elif i > 2:
            p.grad = tinyxp.sin(p.detach() * (i + 2))
            ours.step()
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-6)


def test_a_state_takes_the_devices_and_dtypes_of_the_parameters():
    p = parameter(3)
    optimizer = AdamW([p])
    steps(optimizer, [p], 1)
    wide = tinyxp.Tensor([1.0] * 3, dtype="float64", requires_grad=True)
    other = AdamW([wide])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[wide]["exp_avg"].dtype == tinyxp.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["param_groups"].pop(), r"groups of \[2\] parameters; this AdamW has \[2, 1\]"),
        (lambda s: s["param_groups"][0]["params"].pop(), r"groups of \[1, 1\]"),
        (
            lambda s: s["state"][0].pop("exp_avg"),
            "lacks exp_avg for parameter 0; it has exp_avg_sq, step",
        ),
        (lambda s: s["state"].update({7: s["state"][0]}), "parameter 7, which no group has"),
        (
            lambda s: s["state"][0].update(exp_avg=tinyxp.ones((3, 2))),
            r"exp_avg of parameter 0 of shape \(3, 2\); expected \(2, 2\)",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    params = [parameter(2, 2), parameter(3), parameter(1)]
    optimizer = AdamW([{"params": params[:2]}, {"params": params[2:]}])
    steps(optimizer, params, 1)
    before = str(optimizer.state_dict())
    state = optimizer.state_dict()
    change(state)
    with pytest.raises(CheckpointError, match=message):
        optimizer.load_state_dict(state)
    assert str(optimizer.state_dict()) == before


# ---------------------------------------------------------------- sorting a model's parameters
def names(group):
    return [name for name, _ in group["params"]]


def test_only_matrices_decay():
    model = tinyxp.nn.TransformerBlock(8, 2)
    decay, rest = decay_groups(model, 0.1)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert all(n.endswith("weight") for n in names(decay))
    assert {n.rpartition(".")[2] for n in names(rest)} == {"bias", "gamma", "beta"}
    assert len(names(decay)) + len(names(rest)) == 16
    optimizer = AdamW([decay, rest])
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 16


def test_groups_take_plain_parameters_and_leave_frozen_ones_out():
    a, b, frozen = parameter(2, 2), parameter(2), tinyxp.ones((2, 2))
    decay, rest = decay_groups([a, b, frozen], 0.1)
    assert decay["params"] == [a]
    assert rest["params"][0] is b
    assert len(decay_groups([b], 0.1)) == 1


def test_muon_takes_the_hidden_matrices():
    model = tinyxp.GPT(11, 8, 1, 2, max_seq_len=4)
    hidden, *rest = muon_groups(model, adamw_lr=0.01, weight_decay=0.2)
    assert all("blocks" in n and n.endswith("weight") for n in names(hidden))
    assert len(names(hidden)) == 6
    assert [g["adamw"] for g in rest] == [True, True]
    assert [g["weight_decay"] for g in (hidden, *rest)] == [0.2, 0.2, 0.0]
    assert {"token_embedding.weight", "lm_head.weight"} <= set(names(rest[0]))
    optimizer = Muon([hidden, *rest], lr=0.02)
    assert [g["lr"] for g in optimizer.param_groups] == [0.02, 0.01, 0.01]
