"""Every optimizer against PyTorch's and against its paper, on every backend."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinyxp
from tinyxp import _updates
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.optim import (
    SGD,
    Adam,
    AdamW,
    Lion,
    Muon,
    clip_grad_norm_,
    clip_grad_value_,
    muon_groups,
)

TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
SHAPES = ((4, 3), (3,), ())
STEPS = 20

# name, options: the class has the same name in torch.optim
CASES = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "sgd dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "sgd nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd decay": ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1}),
    "sgd maximize": ("SGD", {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1, "maximize": True}),
    "adam": ("Adam", {}),
    "adam decay": ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adam amsgrad": ("Adam", {"lr": 0.05, "betas": (0.5, 0.6), "amsgrad": True}),
    "adam maximize": ("Adam", {"lr": 0.05, "maximize": True}),
    "adamw": ("AdamW", {}),
    "adamw decay": ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
    "adamw amsgrad": (
        "AdamW",
        {"lr": 0.05, "betas": (0.5, 0.6), "amsgrad": True, "maximize": True},
    ),
    "adamw no decay": ("AdamW", {"lr": 0.05, "weight_decay": 0.0}),
}


def starts(dtype, shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def gradients(dtype, steps, shapes=SHAPES):
    rng = np.random.default_rng(1)
    return [[rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(steps)]


def parameters(arrays, device="cpu"):
    return [tinyxp.Tensor(a, requires_grad=True, device=device) for a in arrays]


def descend(optimizer, params, grads):
    """Let `optimizer` take a step for each of `grads`; return the parameters after every step."""
    path = []
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = tinyxp.asarray(g, device=p.device)
        optimizer.step()
        path.append([p.detach().cpu().numpy().copy() for p in params])
    return path


def assert_paths(ours, theirs, dtype):
    for step, expected in zip(ours, theirs, strict=True):
        for x, y in zip(step, expected, strict=True):
            assert x.dtype == dtype
            np.testing.assert_allclose(x, y, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


# ---------------------------------------------------------------- PyTorch
@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with torch.optim")


def descend_torch(torch, name, arrays, grads, **options):
    params = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    optimizer = getattr(torch.optim, name)(params, **options)
    path = []
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        path.append([p.detach().numpy().copy() for p in params])
    return path


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_are_pytorchs(torch, case, dtype, device):
    name, options = CASES[case]
    params = parameters(starts(dtype), device)
    ours = descend(getattr(tinyxp.optim, name)(params, **options), params, gradients(dtype, STEPS))
    theirs = descend_torch(torch, name, starts(dtype), gradients(dtype, STEPS), **options)
    assert_paths(ours, theirs, dtype)


def test_defaults_are_pytorchs(torch):
    p, q = tinyxp.Tensor([[1.0]], requires_grad=True), torch.nn.Parameter(torch.ones(1, 1))
    for name in ("SGD", "Adam", "AdamW", "Muon"):
        ours = getattr(tinyxp.optim, name)([p]).param_groups[0]
        theirs = getattr(torch.optim, name)([q]).param_groups[0]
        shared = ours.keys() & theirs.keys() - {"params"}
        assert len(shared) >= 6
        assert {k: ours[k] for k in shared} == {k: theirs[k] for k in shared}


MATRICES = ((4, 3), (3, 5), (2, 2))
MUON = {
    "defaults": {"lr": 0.02},
    "moonshot": {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.3},
    "plain": {"lr": 0.02, "nesterov": False, "momentum": 0.8, "ns_steps": 3},
}


@pytest.mark.parametrize("options", MUON.values(), ids=MUON)
def test_muon_is_pytorchs(torch, monkeypatch, options):
    # PyTorch makes orthogonal in bfloat16; let it do that in the parameter's dtype, with its own formula
    muon = torch.optim._muon
    original, asked = muon._zeropower_via_newtonschulz, []

    def exact(grad, *args):
        asked.append(1)
        with pytest.MonkeyPatch.context() as m:
            m.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
            return original(grad, *args)

    monkeypatch.setattr(muon, "_zeropower_via_newtonschulz", exact)
    params = parameters(starts("float64", MATRICES))
    ours = descend(Muon(params, **options), params, gradients("float64", STEPS, MATRICES))
    theirs = descend_torch(
        torch, "Muon", starts("float64", MATRICES), gradients("float64", STEPS, MATRICES), **options
    )
    assert len(asked) == STEPS * len(MATRICES)
    assert_paths(ours, theirs, "float64")


def test_muon_is_pytorchs_as_it_comes(torch):
    params = parameters(starts("float32", MATRICES))
    ours = descend(Muon(params, lr=0.02), params, gradients("float32", STEPS, MATRICES))
    theirs = descend_torch(
        torch, "Muon", starts("float32", MATRICES), gradients("float32", STEPS, MATRICES), lr=0.02
    )
    for x, y, start in zip(ours[-1], theirs[-1], starts("float32", MATRICES), strict=True):
        assert np.linalg.norm(x - y) < 0.02 * np.linalg.norm(y - start)  # bfloat16 has 8 bits


# ---------------------------------------------------------------- the papers, in plain Python
def test_sgd_by_hand():
    (w,) = parameters([np.array([1.0])])
    ours = descend(SGD([w], lr=0.5, momentum=0.5), [w], [[np.array([1.0])]] * 3)
    # velocity 1, 1.5, 1.75
    assert [step[0][0] for step in ours] == [0.5, -0.25, -1.125]


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_adam_by_its_algorithm(kind):
    lr, (b1, b2), eps, decay = 0.1, (0.9, 0.99), 1e-4, 0.2
    rng = np.random.default_rng(2)
    grads, theta, m, v = rng.standard_normal(10), 0.7, 0.0, 0.0
    (w,) = parameters([np.array([theta])])
    ours = descend(
        kind([w], lr=lr, betas=(b1, b2), eps=eps, weight_decay=decay),
        [w],
        [[np.array([g])] for g in grads],
    )
    for t, g in enumerate(grads.tolist(), start=1):
        if kind is Adam:
            g += decay * theta  # noqa: PLW2901 - as the paper writes it
        else:
            theta -= lr * decay * theta
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        theta -= lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps)
        assert ours[t - 1][0][0] == pytest.approx(theta, rel=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_lion_by_its_algorithm(device, sign):
    lr, (b1, b2), decay = 0.1, (0.8, 0.95), 0.2
    arrays, grads = starts("float64"), gradients("float64", STEPS)
    params = parameters(arrays, device)
    lion = Lion(params, lr=lr, betas=(b1, b2), weight_decay=decay, maximize=sign < 0)
    ours = descend(lion, params, grads)
    means = [0.0] * len(arrays)
    theirs = []
    for step in grads:
        for i, g in enumerate(step):
            c = b1 * means[i] + (1 - b1) * sign * g
            arrays[i] = arrays[i] - lr * (np.sign(c) + decay * arrays[i])
            means[i] = b2 * means[i] + (1 - b2) * sign * g
        theirs.append(list(arrays))
    assert_paths(ours, theirs, "float64")


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4)])
def test_newton_schulz_keeps_the_singular_vectors(device, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    raw = _updates.orthogonalized(
        device.xp,
        device.xp.asarray(x, dtype=device.xp.float64, device=device.native),
        coefficients=(3.4445, -4.7750, 2.0315),
        steps=5,
        eps=1e-7,
    )
    found = u.T @ device.backend.to_numpy(raw) @ vt.T
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=1e-12)
    expected = s / np.linalg.norm(s)
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    np.testing.assert_allclose(np.diag(found), expected, rtol=1e-9)
    assert (np.diag(found)[s > 0.01 * np.linalg.norm(s)] > 0.5).all()


def test_a_zero_gradient_moves_nothing_in_muon():
    (w,) = parameters([np.ones((2, 3))])
    descend(Muon([w], weight_decay=0.0), [w], [[np.zeros((2, 3))]])
    assert w.tolist() == [[1.0] * 3] * 2


def test_muon_updates_its_other_groups_by_adamw():
    arrays, grads = starts("float64"), gradients("float64", STEPS)
    params, others = parameters(arrays), parameters(arrays[1:])
    groups = [
        {"params": params[:1]},
        {"params": params[1:], "adamw": True, "lr": 0.03, "weight_decay": 0.2},
    ]
    ours = descend(Muon(groups, lr=0.02, betas=(0.8, 0.9), adamw_eps=1e-5), params, grads)
    adamw = AdamW(others, lr=0.03, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.2)
    theirs = descend(adamw, others, [step[1:] for step in grads])
    assert_paths([step[1:] for step in ours], theirs, "float64")


def test_muon_refuses_what_is_no_matrix():
    (w,) = parameters([np.ones(3)])
    with pytest.raises(ShapeError, match=r"shape \(3,\); put it into a group with 'adamw': True"):
        Muon([w])


# ---------------------------------------------------------------- what every step keeps to
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, maximize=True),
    "adam": lambda p: Adam(p, amsgrad=True, weight_decay=0.1),
    "adamw": AdamW,
    "lion": lambda p: Lion(p, weight_decay=0.1),
    "muon": lambda p: Muon(p) if p[0].ndim == 2 else Muon([{"params": p, "adamw": True}]),
}
EACH = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@EACH
@pytest.mark.parametrize("shape", [(3, 2), (4,), (), (0,)])
def test_a_step_writes_in_place_and_leaves_the_gradient(make, device, shape):
    (w,) = parameters([np.ones(shape, "float32")], device)
    g = np.full(shape, 0.5, "float32")
    raw, view = w.data, w.detach()
    descend(make([w]), [w], [[g], [g]])
    assert w.data is raw
    assert w.grad.tolist() == g.tolist()
    assert view.tolist() == w.tolist()
    if w.size:
        assert w.tolist() != np.ones(shape).tolist()


@EACH
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_has_a_master_in_float32(make, dtype):
    device = tinyxp.device("cpu")
    try:
        device.backend.native_dtype(tinyxp.dtype(dtype))
    except DTypeError:
        dtype = "float16"
    w = tinyxp.Tensor([[1.0, 2.0]], dtype=dtype, requires_grad=True)
    w.grad = tinyxp.asarray([[0.5, -0.5]], dtype=dtype)
    optimizer = make([w])
    optimizer.step()
    assert w.dtype == dtype
    arrays = [s for s in optimizer.state[w].values() if isinstance(s, tinyxp.Tensor)]
    assert {s.dtype.name for s in arrays} == {"float32"}
    assert w.tolist() == optimizer.state[w]["master"].to(dtype).tolist()
    assert all(math.isfinite(x) for x in w.tolist()[0])


@pytest.mark.skip_backend(
    "numpy", "torch", "cupy", reason="only the strict array's class is Python and can be patched"
)
@EACH
def test_a_step_never_waits_for_the_device(make, device, monkeypatch):
    (w,) = parameters([np.ones((2, 2), "float32")], device)
    optimizer = make([w])
    w.grad = tinyxp.ones((2, 2), device=device)

    def refuse(*_):
        raise AssertionError("an array was read on the host")

    for name in ("__bool__", "__int__", "__float__", "__index__", "__complex__"):
        monkeypatch.setattr(device.array_type, name, refuse)
    for name in ("to_buffer", "to_numpy"):
        monkeypatch.setattr(device.backend, name, refuse)
    with pytest.raises(AssertionError, match="on the host"):
        w.grad.sum().item()
    clip_grad_norm_([w], 1.0)
    clip_grad_value_([w], 0.1)
    optimizer.step()
    optimizer.step()


@EACH
def test_an_old_graph_is_refused_after_a_step(make):
    (w,) = parameters([np.ones((2, 2), "float32")])
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    make([w]).step()
    with pytest.raises(tinyxp.GraphError, match="overwritten in place"):
        loss.backward()


@EACH
def test_packed_parameters_are_updated_through_their_views(make):
    packed = tinyxp.zeros((2, 3, 2)) + 1.0
    views = [packed[i] for i in range(2)]
    for v in views:
        v.requires_grad_()
    separate = parameters([np.ones((3, 2), "float32")] * 2)
    grads = gradients("float32", 3, ((3, 2), (3, 2)))
    ours, theirs = (descend(make(p), p, grads) for p in (views, separate))
    assert_paths(ours, theirs, "float32")
    assert packed.tolist() == [p.tolist() for p in separate]


def test_complex_parameters_descend_with_sgd_only():
    w = tinyxp.Tensor([1 + 1j], requires_grad=True)
    w.grad = tinyxp.asarray([1j])
    SGD([w], lr=0.5).step()
    assert w.tolist() == [1 + 0.5j]
    with pytest.raises(DTypeError, match="dtype complex64"):
        AdamW([w])


@EACH
def test_every_optimizer_learns(make, device):
    x = tinyxp.asarray(
        np.random.default_rng(0).standard_normal((32, 4)), dtype="float32", device=device
    )
    (w,) = parameters([np.zeros((4, 2), "float32")], device)
    optimizer = make([w])
    for group in optimizer.param_groups:
        group |= {"lr": 0.02, "weight_decay": 0.0, "maximize": False}
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ((x @ w - x[:, :2]) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_muon_trains_a_model_by_groups():
    model = tinyxp.nn.MLP(4, 8)
    optimizer = Muon(muon_groups(model, adamw_lr=0.01), lr=0.02)
    x = tinyxp.asarray(np.random.default_rng(0).standard_normal((16, 4)), dtype="float32")
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = ((model(x) - x) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
