from __future__ import annotations

import math

import numpy as np
import pytest

import tinyxp
from tinyxp.errors import DeviceMismatchError
from tinyxp.optim import clip_grad_norm_, clip_grad_value_, grad_norm

SHAPES = ((3, 4), (5,), (), (0, 2))


def parameters(scale=1.0, dtype="float32", device="cpu"):
    rng = np.random.default_rng(0)
    params = []
    for shape in SHAPES:
        p = tinyxp.Tensor(np.zeros(shape, dtype), requires_grad=True, device=device)
        p.grad = tinyxp.asarray((scale * rng.standard_normal(shape)).astype(dtype), device=device)
        params.append(p)
    return params


def gradients(params):
    return [p.grad.cpu().numpy().copy() for p in params]


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_is_numpys_norm_and_one_factor(device, norm_type, max_norm, dtype):
    params = parameters(dtype=dtype, device=device)
    before = gradients(params)
    norm = clip_grad_norm_(params, max_norm, norm_type)
    expected = np.linalg.norm(np.concatenate([g.reshape(-1) for g in before]), norm_type)
    assert norm.shape == ()
    assert norm.device is device
    assert norm.dtype == dtype
    tolerance = {"float32": 1e-6, "float64": 1e-14}[dtype]
    assert norm.item() == pytest.approx(expected, rel=tolerance)
    factor = min(1.0, max_norm / (expected + 1e-6))
    for g, old in zip(gradients(params), before, strict=True):
        assert g.dtype == dtype
        np.testing.assert_allclose(g, old * factor, rtol=4 * tolerance)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf])
def test_clipping_is_pytorchs(norm_type):
    torch = pytest.importorskip("torch", reason="compares with torch.nn.utils")
    params = parameters(scale=10.0)[:3]  # PyTorch has no largest element of an empty gradient
    theirs = [torch.nn.Parameter(torch.zeros(p.shape)) for p in params]
    for p, q in zip(params, theirs, strict=True):
        q.grad = torch.tensor(p.grad.numpy())
    norm = clip_grad_norm_(params, 1.5, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 1.5, norm_type)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-6)
    clip_grad_value_(params, 0.2)
    torch.nn.utils.clip_grad_value_(theirs, 0.2)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-6)


def test_each_gradient_is_scaled_once(device):
    a, b = (tinyxp.Tensor([3.0, 4.0], requires_grad=True, device=device) for _ in range(2))
    (a + b).sum().backward()  # both gradients are the same ones: do they share an array?
    clip_grad_norm_([a, b, a], 1.0)
    expected = pytest.approx([0.5, 0.5], rel=1e-5)  # 1 / |(1, 1, 1, 1)|
    assert a.grad.tolist() == expected
    assert b.grad.tolist() == expected


def test_gradients_that_are_views_of_one_array_are_scaled_once_each(device):
    both = tinyxp.asarray([[3.0, 0.0], [0.0, 4.0]], device=device)
    params = [tinyxp.Tensor([0.0, 0.0], requires_grad=True, device=device) for _ in range(2)]
    for p, g in zip(params, (both[0], both[1]), strict=True):
        p.grad = g
    assert clip_grad_norm_(params, 0.5).item() == pytest.approx(5.0)
    assert [p.grad.tolist() for p in params] == [pytest.approx([0.3, 0]), pytest.approx([0, 0.4])]
    assert both.tolist() == [p.grad.tolist() for p in params]


def test_what_a_graph_saved_of_a_gradient_stays():
    x = tinyxp.Tensor([2.0], dtype="float64", requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    square = (x.grad * x.grad).sum()  # saves the gradient, 12
    clip_grad_norm_([x], 1.0)
    assert x.grad.item() == pytest.approx(1.0)
    x.grad = None
    square.backward()
    assert x.grad.item() == pytest.approx(2 * 12 * 12)  # d (3 x²)² = 2 (3 x²) (6 x)


@pytest.mark.skip_backend("strict", reason="the standard has no float16")
def test_half_precision_does_not_overflow(device):
    p = tinyxp.Tensor([0.0] * 4, dtype="float16", requires_grad=True, device=device)
    p.grad = tinyxp.asarray([1e4] * 4, dtype="float16", device=device)
    assert clip_grad_norm_([p], 1.0).item() == pytest.approx(2e4, rel=1e-3)
    assert p.grad.dtype == tinyxp.float16
    assert p.grad.tolist() == pytest.approx([0.5] * 4, rel=1e-3)


def test_the_norm_alone_changes_nothing():
    params = parameters()
    before = gradients(params)
    expected = np.linalg.norm(np.concatenate([g.reshape(-1) for g in before]))
    assert grad_norm(params).item() == pytest.approx(expected, rel=1e-6)
    for g, old in zip(gradients(params), before, strict=True):
        np.testing.assert_array_equal(g, old)


def test_without_gradients_the_norm_is_zero():
    p = tinyxp.Tensor([1.0], requires_grad=True)
    assert clip_grad_norm_([p], 1.0).item() == 0.0
    assert clip_grad_norm_([], 1.0).item() == 0.0
    clip_grad_value_([p], 1.0)
    assert p.grad is None


def test_one_parameter_may_stand_alone():
    p = tinyxp.Tensor([0.0, 0.0], requires_grad=True)
    p.grad = tinyxp.asarray([3.0, 4.0])
    assert clip_grad_norm_(p, 10.0).item() == 5.0
    assert p.grad.tolist() == [3.0, 4.0]


def test_what_is_not_finite_is_told():
    p = tinyxp.Tensor([0.0, 0.0], requires_grad=True)
    p.grad = tinyxp.asarray([1.0, math.nan])
    with pytest.raises(ValueError, match="the gradients have the norm nan"):
        clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.tolist()[0] == 1.0
    assert math.isnan(clip_grad_norm_([p], 1.0).item())


def test_misuse_is_refused():
    p = tinyxp.Tensor([0.0], requires_grad=True)
    with pytest.raises(ValueError, match="max_norm >= 0; got -1"):
        clip_grad_norm_([p], -1.0)
    with pytest.raises(ValueError, match="clip_value >= 0; got -1"):
        clip_grad_value_([p], -1.0)
    with pytest.raises(ValueError, match="norm_type > 0; got 0"):
        clip_grad_norm_([p], 1.0, 0)


@pytest.mark.skip_backend("numpy", reason="compares another device with NumPy's")
def test_several_devices_are_refused(device):
    params = [tinyxp.Tensor([1.0], requires_grad=True, device=d) for d in ("cpu", device)]
    for p in params:
        p.grad = tinyxp.ones(1, device=p.device)
    with pytest.raises(DeviceMismatchError, match=r"got gradients on \w+.*, \w+"):
        clip_grad_norm_(params, 1.0)
