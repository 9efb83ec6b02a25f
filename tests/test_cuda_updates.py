"""Update steps, norms and scaling of many arrays on a GPU or its emulator, against NumPy's in float64."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from _cuda import ORDERS, cupy, emulated, guarded, in_order

import tinyxp
from tinyxp.backend import get_backend
from tinyxp.optim import AdamW, clip_grad_norm_

HALVES = ("float16", "bfloat16")
SHAPES = ((), (1,), (3, 5), (4096,), (4097,), (0, 4), (17, 1023))
OPTIONS = {
    "step": 3,
    "lr": 1e-2,
    "betas": (0.9, 0.99),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "decoupled": True,
    "maximize": False,
}


@pytest.fixture
def kernels():
    return get_backend("cupy").xp


def normal(seed, shapes=SHAPES):
    random = np.random.default_rng(seed)
    return [random.standard_normal(s).astype(np.float32) for s in shapes]


def on_device(arrays, dtype="float32"):
    return [cupy.asarray(a).astype(native(dtype)) for a in arrays]


def native(dtype):
    return get_backend("cupy").native_dtype(tinyxp.dtypes.dtype(dtype))


def on_host(arrays):
    return [a.astype(cupy.float32).get().astype(np.float64) for a in arrays]


def adamw(p, g, mean, square, largest, *, step, lr, betas, eps, weight_decay, decoupled, maximize):
    """Algorithm 2 of Loshchilov and Hutter as it is printed, in float64."""
    g = -g if maximize else g
    if not decoupled:
        g = g + weight_decay * p
    mean = betas[0] * mean + (1 - betas[0]) * g
    square = betas[1] * square + (1 - betas[1]) * g * g
    largest = np.maximum(largest, square)
    hat = mean / (1 - betas[0] ** step)
    root = np.sqrt((square if largest is None else largest) / (1 - betas[1] ** step))
    shrunk = p * (1 - lr * weight_decay) if decoupled else p
    return shrunk - lr * hat / (root + eps), mean, square, largest


def expected(p, g, mean, square, largest, **options):
    """The step for lists; without `largest` the square itself stands for it."""
    many = [np.zeros_like(x) for x in square] if largest is None else largest
    rows = [adamw(*x, **options) for x in zip(p, g, mean, square, many, strict=True)]
    return [list(x) for x in zip(*rows, strict=True)]


# ---------------------------------------------------------------- AdamW
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"decoupled": False, "maximize": True}, {"weight_decay": 0.0, "step": 1}],
    ids=["decoupled", "coupled", "plain"],
)
def test_adamw_is_the_algorithm(kernels, order, amsgrad, changes):
    options = OPTIONS | changes
    p, g, mean = normal(0), normal(1), normal(2)
    square, largest = [abs(x) for x in normal(3)], [abs(x) for x in normal(4)]
    ours = [on_device(x) for x in (p, g, mean, square, largest)]
    with in_order(order):
        kernels.adamw_steps(*ours[:4], ours[4] if amsgrad else None, memo={}, **options)
    wide = [[a.astype(np.float64) for a in x] for x in (p, g, mean, square, largest)]
    want = expected(*wide[:4], wide[4] if amsgrad else None, **options)
    for i, (got, exact) in enumerate(zip((ours[0], *ours[2:4]), want, strict=False)):
        for a, b in zip(on_host(got), exact, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7, err_msg=f"list {i}")
    if amsgrad:
        for a, b in zip(on_host(ours[4]), want[3], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    for a, b in zip(ours[1], g, strict=True):
        np.testing.assert_array_equal(a.get(), b)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("wide", [False, True], ids=["half gradient", "float32 gradient"])
def test_masters_are_stepped_in_float32_and_the_parameter_is_their_copy(kernels, dtype, wide):
    masters, g, mean = normal(0), normal(1), normal(2)
    square = [abs(x) for x in normal(3)]
    gradients = on_device(g, "float32" if wide else dtype)
    exact_g = on_host(gradients)
    ours = [on_device(x) for x in (masters, mean, square)]
    p = on_device(normal(9), dtype)  # what stands there is not looked at
    kernels.adamw_steps(p, gradients, ours[1], ours[2], None, masters=ours[0], memo={}, **OPTIONS)
    want = expected(
        [x.astype(np.float64) for x in masters], exact_g,
        [x.astype(np.float64) for x in mean], [x.astype(np.float64) for x in square], None, **OPTIONS,
    )  # fmt: skip
    for got, exact in zip((ours[0], ours[1], ours[2]), want, strict=False):
        for a, b in zip(on_host(got), exact, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7)
    for a, master in zip(p, ours[0], strict=True):
        assert a.dtype == native(dtype)
        cupy.testing.assert_array_equal(a, master.astype(native(dtype)))


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_without_masters(kernels, dtype):
    p, g, mean = normal(0), normal(1), normal(2)
    ours = [on_device(x, dtype) for x in (p, g, mean, [abs(x) for x in normal(3)])]
    exact = [on_host(x) for x in ours]
    kernels.adamw_steps(*ours, None, memo={}, **OPTIONS)
    want = expected(*exact, None, **OPTIONS)
    rtol = 2.0 ** (-8 if dtype == "bfloat16" else -11)  # rounded once
    for got, right in zip((ours[0], ours[2], ours[3]), want, strict=False):
        for a, b in zip(on_host(got), right, strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def test_parameters_of_several_dtypes_and_in_any_memory(kernels):
    """Float64 and what is not in C order take the default; the others their kernels; all are stepped."""
    kinds = ("float32", "float64", "float16", "float32")
    p = [cupy.asarray(np.full((6, 4), 2.0), native(k)) for k in kinds]
    p[3] = cupy.asfortranarray(p[3])
    g, mean, square = ([cupy.full_like(x, v) for x in p] for v in (0.5, 0.25, 0.125))
    g[0] = cupy.asfortranarray(g[0])
    kernels.adamw_steps(p, g, mean, square, None, memo={}, **OPTIONS)
    want = expected(*([np.full((6, 4), v)] for v in (2.0, 0.5, 0.25, 0.125)), None, **OPTIONS)
    for x in p:
        np.testing.assert_allclose(x.astype(float).get(), want[0][0], rtol=1e-3)


def test_slices_of_arrays_that_no_vector_load_can_read(kernels):
    base = [cupy.asarray(x) for x in normal(0, [(999,)] * 4)]
    p, g, mean, square = ([x[1:]] for x in base)
    square[0] = cupy.abs(square[0])
    wide = [on_host(x) for x in (p, g, mean, square)]
    first = [x[0].get() for x in base[:3]]
    kernels.adamw_steps(p, g, mean, square, None, memo={}, **OPTIONS)
    want = expected(*wide, None, **OPTIONS)
    np.testing.assert_allclose(on_host(p)[0], want[0][0], rtol=2e-6, atol=2e-7)
    assert [x[0].get() for x in base[:3]] == first


@emulated
def test_nothing_is_read_or_written_beyond_the_arrays(kernels):
    with guarded(), ExitStack() as stack:
        for order in ORDERS:
            stack.enter_context(in_order(order))
            lists = [on_device(normal(i, [(5,), (4099,), (7,)])) for i in range(4)]
            kernels.adamw_steps(*lists, None, memo={}, **OPTIONS)
            kernels.sum_of_squares(lists[0], cupy.float32)
            kernels.scale_all(lists[0], cupy.float32(2.0) * cupy.ones((), cupy.float32))


def test_infinities_and_nan_stay_where_they_are(kernels):
    g = [cupy.asarray([1.0, np.inf, -np.inf, np.nan, 0.0], cupy.float32)]
    p, mean, square = ([cupy.zeros(5, cupy.float32)] for _ in range(3))
    kernels.adamw_steps(p, g, mean, square, None, memo={}, **OPTIONS)
    found = np.isfinite(p[0].get())
    assert found.tolist() == [True, False, False, False, True]


@emulated
def test_one_launch_for_all_parameters_and_nothing_else(kernels):
    import cuda_emulator

    lists = [on_device(normal(i, [(3, 5)] * 200)) for i in range(4)]
    memo = {}
    kernels.adamw_steps(*lists, None, memo=memo, **OPTIONS)
    for gradients in (lists[1], [g.copy() for g in lists[1]], lists[1]):
        kernels.adamw_steps(lists[0], gradients, *lists[2:], None, memo=memo, **OPTIONS)
        with cuda_emulator.count() as counted:
            kernels.adamw_steps(lists[0], gradients, *lists[2:], None, memo=memo, **OPTIONS)
        assert counted.launches == 1
        assert counted.d2h == counted.h2d == counted.syncs == counted.mallocs == 0


@emulated
def test_new_gradients_cost_one_more_launch(kernels):
    """Their addresses travel as arguments of a kernel."""
    import cuda_emulator

    lists = [on_device(normal(i, [(3, 5)] * 200)) for i in range(4)]
    memo = {}
    kernels.adamw_steps(*lists, None, memo=memo, **OPTIONS)
    others = on_device(normal(5, [(3, 5)] * 200))
    with cuda_emulator.count() as counted:
        kernels.adamw_steps(lists[0], others, *lists[2:], None, memo=memo, **OPTIONS)
    assert counted.launches == 2
    assert counted.d2h == counted.h2d == counted.syncs == 0


def test_an_optimizer_that_is_copied_or_stored_makes_its_plan_anew(kernels):
    import copy
    import pickle

    memo = {}
    lists = [on_device(normal(i)) for i in range(4)]
    kernels.adamw_steps(*lists, None, memo=memo, **OPTIONS)
    assert copy.deepcopy(memo["plan"]) is None
    assert pickle.loads(pickle.dumps(memo["plan"])) is None


# ---------------------------------------------------------------- norms
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_the_sum_of_squares_is_exact_to_a_millionth(kernels, dtype, order):
    arrays = on_device(normal(0, [*SHAPES, (300, 257)]), dtype)
    with in_order(order):
        got = kernels.sum_of_squares(arrays, cupy.float32)
    assert got.shape == ()
    assert got.dtype == cupy.float32
    assert float(got) == pytest.approx(sum((a * a).sum() for a in on_host(arrays)), rel=1e-6)


def test_arrays_of_several_dtypes_have_one_norm(kernels):
    arrays = [
        *on_device(normal(0)),
        *on_device(normal(1), "float16"),
        *on_device(normal(2), "bfloat16"),
    ]
    exact = np.sqrt(sum((a * a).sum() for a in on_host(arrays)))
    norm, factor = kernels.norm_and_factor(arrays, cupy.float32, 1.0)
    assert float(norm) == pytest.approx(exact, rel=1e-6)
    assert float(factor) == pytest.approx(1.0 / (exact + 1e-6), rel=1e-6)
    kernels.scale_all(arrays, factor)
    left = np.sqrt(sum((a * a).sum() for a in on_host(arrays)))
    assert left == pytest.approx(1.0, rel=1e-3)


def test_a_small_norm_is_left_alone(kernels):
    arrays = on_device(normal(0))
    before = [a.copy() for a in arrays]
    _, factor = kernels.norm_and_factor(arrays, cupy.float32, 1e6)
    kernels.scale_all(arrays, factor)
    assert float(factor) == 1.0
    for a, b in zip(arrays, before, strict=True):
        cupy.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_norm_that_is_no_number_is_told(kernels, value):
    arrays = on_device(normal(0))
    arrays[2][0, 0] = value
    norm, factor = kernels.norm_and_factor(arrays, cupy.float32, 1.0)
    want = np.clip(1.0 / (np.float32(value) + 1e-6), None, 1.0)
    np.testing.assert_equal(float(norm), value)
    np.testing.assert_equal(float(factor), want)


def test_the_order_of_additions_is_always_the_same(kernels):
    arrays = on_device(normal(0, [(40_000,)]))
    sums = set()
    for order in ORDERS:
        with in_order(order):
            sums.add(float(kernels.sum_of_squares(arrays, cupy.float32)))
    assert len(sums) == 1


@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_scaling_rounds_once(kernels, dtype):
    arrays = on_device(normal(0), dtype)
    want = [(a.astype(cupy.float32) * cupy.float32(0.3)).astype(a.dtype) for a in arrays]
    kernels.scale_all(arrays, cupy.asarray(0.3, cupy.float32))
    for a, b in zip(arrays, want, strict=True):
        cupy.testing.assert_array_equal(a, b)


def test_float64_and_other_orders_of_memory_take_the_default(kernels):
    arrays = [cupy.full((2, 3), 2.0), cupy.asfortranarray(cupy.full((2, 3), 2.0, cupy.float32))]
    kernels.scale_all(arrays, cupy.asarray(0.5))
    assert all((a == 1.0).all() for a in arrays)
    assert float(kernels.sum_of_squares(arrays, cupy.float64)) == 12.0


# ---------------------------------------------------------------- from above
def model_step(device, steps):
    random = np.random.default_rng(0)
    params = [
        tinyxp.Tensor(random.standard_normal((33, 7)).astype(np.float32), requires_grad=True, device=device)
        for _ in range(6)
    ]  # fmt: skip
    optimizer = AdamW(params, lr=1e-2, weight_decay=0.1, eps=1e-3)  # no noise made large
    norms = []
    for _ in range(steps):
        x = tinyxp.asarray(random.standard_normal((33, 7)).astype(np.float32), device=device)
        for p in params:
            x = (x * p + p).tanh()
        optimizer.zero_grad()
        (x * x).sum().backward()
        norms.append(clip_grad_norm_(params, 0.1).item())
        optimizer.step()
    return norms, [p.detach().numpy() for p in params]


def test_clipped_steps_are_those_of_the_cpu():
    there, here = model_step("cuda", 5), model_step("cpu", 5)
    np.testing.assert_allclose(there[0], here[0], rtol=1e-5)
    for a, b in zip(there[1], here[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@emulated
def test_clipping_takes_three_launches_and_never_waits():
    import cuda_emulator

    params = [tinyxp.Tensor([[1.0, 2.0]] * 3, requires_grad=True, device="cuda") for _ in range(50)]
    for p in params:
        p.grad = tinyxp.asarray([[3.0, 4.0]] * 3, device="cuda")
    for _ in range(2):
        with cuda_emulator.count() as counted:
            clip_grad_norm_(params, 1.0)
    assert counted.launches == 3
    assert counted.d2h == counted.h2d == counted.syncs == 0


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_may_be_left_out_by_a_flag_on_the_device(kernels, skip, dtype):
    lists = [on_device([abs(x) for x in normal(i)], dtype) for i in range(4)]
    before = [[a.copy() for a in part] for part in lists]
    flag = cupy.asarray(skip)
    kernels.adamw_steps_unless(flag, *lists, None, memo={}, **OPTIONS)
    if not skip:
        kernels.adamw_steps(before[0], before[1], *before[2:], None, memo={}, **OPTIONS)
    for part, old in zip(lists, before, strict=True):
        for a, b in zip(part, old, strict=True):
            cupy.testing.assert_array_equal(a, b)
