from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyxp
from tinyxp.optim import SGD
from tinyxp.optim.schedules import Schedule, constant, cosine, linear, wsd


def optimizer(*rates):
    groups = [{"params": [tinyxp.Tensor([1.0], requires_grad=True)], "lr": lr} for lr in rates]
    return SGD(groups)


# ---------------------------------------------------------------- the curves
def curve_of(name, total, warmup, floor):
    """What the schedule called `name` gives for every step and a few more."""
    if name == "constant":
        return [constant(step, warmup=warmup) for step in range(total + 3)]
    options = {"total": total, "warmup": warmup, "floor": floor}
    if name == "wsd":
        options["decay"] = (total - warmup) // 2
    curve = {"cosine": cosine, "linear": linear, "wsd": wsd}[name]
    return [curve(step, **options) for step in range(total + 3)]


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "wsd"])
@given(st.integers(0, 50), st.integers(1, 100), st.floats(0, 1))
def test_every_curve_rises_to_1_and_falls_to_its_floor(name, warmup, rest, floor):
    total = warmup + rest
    values = curve_of(name, total, warmup, floor)
    assert all(0 < v <= 1 for v in values[: warmup + 1])
    assert values[warmup] == pytest.approx(1.0)
    assert all(a < b for a, b in pairwise(values[: warmup + 1]))
    falling = values[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(falling))
    if name != "constant":
        assert values[total:] == pytest.approx([floor] * 3)


def test_cosine_is_nanogpts():
    # its get_lr, with lr 1, min_lr 0.1, 10 steps of warm-up and 100 in all
    def get_lr(it):
        if it < 10:
            return (it + 1) / 11
        if it > 100:
            return 0.1
        return 0.1 + 0.5 * (1.0 + np.cos(np.pi * (it - 10) / 90)) * 0.9

    values = [cosine(step, total=100, warmup=10, floor=0.1) for step in range(120)]
    np.testing.assert_allclose(values, [get_lr(step) for step in range(120)], rtol=1e-12)


def test_cosine_and_linear_are_pytorchs():
    torch = pytest.importorskip("torch", reason="compares with torch.optim.lr_scheduler")
    from torch.optim import lr_scheduler

    made = {
        cosine: lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.2 * 0.3),
        linear: lambda o: lr_scheduler.LinearLR(o, 1.0, 0.3, 20),
    }
    for curve, make in made.items():
        theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.2)
        reference = make(theirs)
        schedule = Schedule(optimizer(0.2), curve, total=20, floor=0.3)
        for _ in range(20):
            assert schedule.get_last_lr() == pytest.approx(reference.get_last_lr(), rel=1e-12)
            theirs.step()
            reference.step()
            schedule.step()


def test_wsd_has_a_plateau():
    values = [wsd(step, total=20, warmup=4, decay=5, floor=0.5) for step in range(21)]
    assert values[4:16] == [1.0] * 12
    assert values[15:] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: constant(-1), "constant expects step >= 0; got -1"),
        (lambda: constant(0, warmup=-1), "warmup >= 0; got -1"),
        (lambda: cosine(0, total=5, warmup=6), "warmup <= total; got warmup=6, total=5"),
        (lambda: linear(0, total=-1), "linear expects total >= 0"),
        (
            lambda: wsd(0, total=10, warmup=6, decay=5),
            r"warmup \+ decay <= total; got warmup=6, decay=5",
        ),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_nothing_to_warm_up_and_nowhere_to_go():
    assert cosine(0, total=0, floor=0.25) == 0.25
    assert linear(3, total=3, warmup=3, floor=0.25) == 0.25


# ---------------------------------------------------------------- what drives an optimizer
def test_a_schedule_sets_every_group():
    o = optimizer(0.5, 0.1)
    schedule = Schedule(o, linear, total=4, warmup=1)
    seen = [[g["lr"] for g in o.param_groups]]
    for _ in range(4):
        o.step()
        schedule.step()
        seen.append([g["lr"] for g in o.param_groups])
    factors = [0.5, 1.0, 2 / 3, 1 / 3, 0.0]
    np.testing.assert_allclose(seen, [[0.5 * f, 0.1 * f] for f in factors], atol=1e-15)
    assert schedule.get_last_lr() == seen[-1]


def test_your_own_factor():
    o = optimizer(0.5)
    schedule = Schedule(o, lambda step, half: 0.5 ** (step // half), half=2)
    rates = []
    for _ in range(5):
        rates += schedule.get_last_lr()
        schedule.step()
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125]


def test_a_group_may_come_later():
    o = optimizer(0.5)
    schedule = Schedule(o, linear, total=4)
    schedule.step()
    o.add_param_group({"params": [tinyxp.Tensor([1.0], requires_grad=True)], "lr": 1.0})
    schedule.step()
    assert schedule.get_last_lr() == [0.25, 0.5]
    assert schedule.base_lrs == [0.5, 1.0]


def test_a_schedule_goes_on_where_it_stood():
    a, b = optimizer(0.5), optimizer(0.5)
    first = Schedule(a, cosine, total=10, warmup=2)
    for _ in range(4):
        first.step()
    b.load_state_dict(a.state_dict())
    second = Schedule(b, cosine, total=10, warmup=2)  # the base rate came along
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.get_last_lr() == first.get_last_lr()
    first.step()
    second.step()
    assert second.get_last_lr() == first.get_last_lr()
    assert second.base_lrs == [0.5]
    with pytest.raises(ValueError, match="the state has 1 groups; the optimizer has 2"):
        Schedule(optimizer(1.0, 2.0), constant).load_state_dict(first.state_dict())
