"""Kernels on rows, on a GPU or its emulator: normalisations, softmax and cross-entropy, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from _cuda import (
    EMULATED,
    ORDERS,
    assert_recorded_is_eager,
    count_of,
    cupy,
    emulated,
    guarded,
    in_order,
    native,
    normal,
)

import tinyxp
from tinyxp import _fused
from tinyxp.backend import get_backend

# what rounding to the dtype may change, and sums of some thousand terms, relative to the largest element
LIMITS = {"float32": 4e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
DTYPES = pytest.mark.parametrize("dtype", LIMITS)


@pytest.fixture
def kernels():
    return get_backend("cupy").kernels


def on_device(x, dtype, *, shift=0):
    """Return `x` on the device, `shift` elements behind where an array begins."""
    if x is None:
        return None
    if x.dtype.kind in "iu":
        return cupy.asarray(x)
    memory = cupy.empty(x.size + shift, native(dtype))
    out = memory[shift:].reshape(x.shape)
    out[...] = cupy.asarray(x.astype(native(dtype)))
    return out


def on_host(x):
    return x.astype(cupy.float32).get().astype(np.float64)


def defined(name, arrays, weights, **options):
    """Return value and cotangents by the operation's definition, in the dtypes of the arrays, on NumPy."""
    tensors = [None if a is None else tinyxp.asarray(a, device="numpy") for a in arrays]
    wanted = [t.requires_grad_() for t in tensors if t is not None and t.dtype.kind == "f"]
    with np.errstate(all="ignore"):
        out = getattr(_fused, name)(tinyxp, *tensors, **options)
        weights = tinyxp.asarray(weights, device="numpy")
        grads = tinyxp.autograd.grad([out], wanted, [weights])
    return [np.asarray(t.detach()) for t in (out, *grads)]


def computed(kernels, name, arrays, weights, dtype, *, shift=0, **options):
    """Return the same by the kernels, alike in all orders of threads."""
    needs = [a is not None and a.dtype.kind == "f" for a in arrays]
    results = []
    for order in ORDERS if EMULATED else ORDERS[:1]:
        with in_order(order), guarded():
            raws = [on_device(a, dtype, shift=shift) for a in arrays]
            out, aux = getattr(kernels, name)(*raws, **options)
            g = on_device(weights, "float32" if name == "cross_entropy" else dtype, shift=shift)
            found = getattr(kernels, f"{name}_vjp")(g, out, aux, *raws, needs=needs, **options)
            assert [f is not None for f in found] == needs
            kept = [f for f in found if f is not None]
            assert {f.dtype.name for f in kept} == {dtype}
            results.append([on_host(f) for f in (out, *kept)])
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(first, other)
    return results[0]


def close(got, want, limit):
    """Compare relative to the largest element, or to the terms of about 1 whose difference it is."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=limit * max(np.abs(want).max(), 1.0))


def agrees(kernels, name, arrays, dtype, *, factor=4.0, shift=0, weights=None, **options):
    rest = {"seed": 9, "dtype": dtype}
    if weights is None:
        weights = normal(*arrays[0].shape, **rest)
    want = defined(name, arrays, weights, **options)
    got = computed(kernels, name, arrays, weights, dtype, shift=shift, **options)
    for g, w in zip(got, want, strict=True):
        size = np.abs(w).max() if name == "cross_entropy" else 1.0  # whose cotangents are small
        close(g / (size + 1e-9), w / (size + 1e-9), factor * LIMITS[dtype])


# ---------------------------------------------------------------- normalisation
# one row and one element; not a multiple of 16 bytes or of a warp; a warp a row and a block a row
ROWS = [(1, 1), (1, 8), (3, 2, 24), (33, 769), (5, 768), (1030, 40), (2, 4096)]
NORMS = pytest.mark.parametrize("shape", ROWS, ids=str)


@DTYPES
@NORMS
def test_layer_norm_is_its_definition(kernels, shape, dtype):
    x = normal(*shape, dtype=dtype, spread=3) + 1
    x = x.astype(native(dtype)).astype(np.float64)
    gamma, beta = normal(2, shape[-1], seed=1, dtype=dtype)
    agrees(kernels, "layer_norm", (x, gamma, beta), dtype, eps=1e-5)


@DTYPES
@NORMS
def test_rms_norm_is_its_definition(kernels, shape, dtype):
    x, gamma = normal(*shape, dtype=dtype), normal(shape[-1], seed=1, dtype=dtype)
    agrees(kernels, "rms_norm", (x, gamma), dtype, eps=1e-5)


@DTYPES
def test_norms_of_arrays_that_begin_anywhere(kernels, dtype):
    x, (gamma, beta) = normal(6, 64, dtype=dtype), normal(2, 64, seed=1, dtype=dtype)
    agrees(kernels, "layer_norm", (x, gamma, beta), dtype, eps=1e-5, shift=1)
    agrees(kernels, "rms_norm", (x, gamma), dtype, eps=1e-5, shift=1)


@DTYPES
def test_norms_over_several_axes_without_a_shift(kernels, dtype):
    x, gamma = normal(5, 3, 8, dtype=dtype), normal(3, 8, seed=1, dtype=dtype)
    agrees(kernels, "layer_norm", (x, gamma, None), dtype, eps=1e-5)
    agrees(kernels, "rms_norm", (x, gamma), dtype, eps=1e-5)


def test_what_no_block_can_hold_takes_the_way_of_the_defaults(kernels):
    x, (gamma, beta) = normal(2, 4100), normal(2, 4100, seed=1)
    agrees(kernels, "layer_norm", (x, gamma, beta), "float32", eps=1e-5)
    agrees(kernels, "rms_norm", (x, gamma), "float32", eps=1e-5)


def test_norms_see_strided_arrays_as_they_are(kernels):
    x, gamma = normal(24, 6), normal(48, seed=1)
    whole, scale = on_device(x, "float32").T, on_device(gamma, "float32")[::2]
    out, aux = kernels.rms_norm(whole, scale, eps=1e-5)
    close(on_host(out), defined("rms_norm", (x.T, gamma[::2]), x.T, eps=1e-5)[0], 1e-6)
    g = on_device(x, "float32").T
    gx, ggamma = kernels.rms_norm_vjp(g, out, aux, whole, scale, needs=(True, True), eps=1e-5)
    want = defined("rms_norm", (x.T, gamma[::2]), x.T, eps=1e-5)
    close(on_host(gx), want[1], 1e-5)
    close(on_host(ggamma), want[2], 1e-5)


SPECIAL = [np.inf, -np.inf, np.nan, 2.0**100, 2.0**-100, 0.0]  # powers, whose mean is exact


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("width", [8, 7])
def test_norms_of_extreme_values_are_those_of_the_definition(kernels, name, value, width):
    x = normal(3, width).astype(np.float32)
    x[1, 2], x[2] = value, value
    arrays = [x, *normal(2, width, seed=1).astype(np.float32)][: 3 if name == "layer_norm" else 2]
    weights = normal(3, width, seed=2).astype(np.float32)
    want = defined(name, arrays, weights, eps=1e-5)
    got = computed(kernels, name, arrays, weights, "float32", eps=1e-5)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)


PAIRS = [("float32", half) for half in ("bfloat16", "float16", "float32")]
PAIRS += [(half, half) for half in ("bfloat16", "float16")]


@pytest.mark.parametrize(("dtype", "narrow"), PAIRS)
@pytest.mark.parametrize("shape", [(3, 5, 768), (4, 24), (3, 7), (2, 4100)], ids=str)
@pytest.mark.parametrize("same", [True, False])
def test_a_sum_is_normalised_in_the_dtype_of_the_products(kernels, shape, dtype, narrow, same):
    """The residual stream is of one dtype, what goes into the products of another."""
    x = normal(*shape, dtype=dtype, spread=2)
    y = normal(*shape, seed=1, dtype=narrow)
    gamma, beta = normal(2, shape[-1], seed=2, dtype=dtype)
    g, add = normal(*shape, seed=3, dtype=narrow), normal(*shape, seed=4, dtype=dtype)
    with guarded():
        raws = [on_device(a, dtype) for a in (x, gamma, beta, add)]
        more = on_device(y, dtype if same else narrow)
        total, out, aux = kernels.add_layer_norm(
            raws[0], more, *raws[1:3], eps=1e-5, dtype=native(narrow)
        )
        found = kernels.layer_norm_vjp_add(
            on_device(g, narrow), raws[3], aux, total, *raws[1:3], copy=True
        )
    assert [a.dtype.name for a in (total, out, *found)] == [dtype, narrow, *[dtype] * 3, narrow]
    close(on_host(total), x + y, LIMITS[dtype])
    want = defined("layer_norm", (on_host(total), gamma, beta), g, eps=1e-5)
    close(on_host(out), want[0], LIMITS[narrow])
    close(on_host(found[0]), want[1] + add, 2 * LIMITS[dtype])
    close(on_host(found[3]), want[1] + add, 2 * LIMITS[narrow])
    for got, parameter in zip(found[1:3], want[2:], strict=True):
        close(on_host(got), parameter, 4 * LIMITS[dtype])


def test_a_sum_of_one_term_is_the_term(kernels):
    x, (gamma, beta) = normal(3, 8), normal(2, 8, seed=1)
    raws = [on_device(a, "float32") for a in (x, gamma, beta)]
    total, out, aux = kernels.add_layer_norm(raws[0], None, *raws[1:], eps=1e-5)
    assert total is raws[0]
    np.testing.assert_array_equal(on_host(out), on_host(kernels.layer_norm(*raws, eps=1e-5)[0]))
    g = on_device(normal(3, 8, seed=2), "float32")
    found = kernels.layer_norm_vjp_add(g, None, aux, *raws, needs=(True, False, False), copy=True)
    assert found[3] is found[0]
    assert found[1:3] == (None, None)
    plain = kernels.layer_norm_vjp(g, out, aux, *raws, needs=(True, True, True), eps=1e-5)
    np.testing.assert_array_equal(on_host(found[0]), on_host(plain[0]))


# ---------------------------------------------------------------- softmax
LINES = [(1, 1), (1, 8), (3, 2, 24), (5, 769), (1030, 65), (2, 4099)]
SOFT = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


@DTYPES
@SOFT
@pytest.mark.parametrize("shape", LINES, ids=str)
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_is_its_definition(kernels, name, shape, dtype, axis):
    x = normal(*shape, dtype=dtype, spread=4)
    shift = len(shape) % 2  # where rows begin at any address
    agrees(kernels, name, (x,), dtype, axis=axis, shift=shift, factor=2.0)


@SOFT
@pytest.mark.parametrize("axis", [1, 0])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30, -1e30])
def test_softmax_of_extreme_values_is_that_of_the_definition(kernels, name, axis, value):
    x = normal(9, 9).astype(np.float32)
    x[1, 2], x[3] = value, value
    weights = normal(9, 9, seed=2).astype(np.float32)
    want = defined(name, (x,), weights, axis=axis)[0]
    got = computed(kernels, name, (x,), weights, "float32", axis=axis)
    np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=1e-6)
    plain = get_backend("cupy").xp
    raws = [on_device(a, "float32") for a in (weights, want)]
    default = getattr(plain, f"plain_{name}_vjp")(*raws, (), raws[1], needs=(True,), axis=axis)[0]
    np.testing.assert_allclose(got[1], on_host(default), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- cross-entropy
def targets_of(rows, classes, *, ignored=-100):
    found = np.random.default_rng(5).integers(0, classes, rows)
    found[1::4] = ignored
    return found


CLASSES = [(1, 1), (1, 8), (7, 24), (33, 769), (1030, 65), (3, 50257)]


@DTYPES
@pytest.mark.parametrize(("rows", "classes"), CLASSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_definition(kernels, rows, classes, dtype, smoothing):
    logits = normal(rows, classes, dtype=dtype, spread=3)
    agrees(
        kernels, "cross_entropy", (logits, targets_of(rows, classes)), dtype, shift=rows % 2,
        weights=np.float64(3.0), ignore_index=-100, label_smoothing=smoothing, factor=2.0,
    )  # fmt: skip


@DTYPES
def test_the_loss_of_half_precision_is_float32(kernels, dtype):
    raws = on_device(normal(5, 24, dtype=dtype), dtype), cupy.arange(5)
    loss, aux = kernels.cross_entropy(*raws, ignore_index=-100, label_smoothing=0.0)
    assert (loss.dtype, loss.shape) == (np.float32, ())
    g = cupy.ones((), np.float32)
    gx, none = kernels.cross_entropy_vjp(
        g, loss, aux, *raws, needs=(True, False), ignore_index=-100, label_smoothing=0.0
    )
    assert gx.dtype.name == dtype
    assert none is None


def lose(kernels, logits, targets, *, smoothing=0.0, ignored=-100):
    options = {"ignore_index": ignored, "label_smoothing": smoothing}
    loss, aux = kernels.cross_entropy(logits, targets, **options)
    g = cupy.ones((), np.float32)
    vjp = kernels.cross_entropy_vjp(g, loss, aux, logits, targets, needs=(True, False), **options)
    return float(loss), on_host(vjp[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30, -1e30, 1e4])
def test_cross_entropy_of_extreme_logits_is_that_of_the_definition(kernels, value, smoothing):
    logits, targets = normal(6, 9).astype(np.float32), np.asarray([0, 1, 2, 3, -100, 5])
    for change in ((1, 1), (1, 4), 3, 4):
        x = logits.copy()
        x[change] = value
        options = {"ignore_index": -100, "label_smoothing": smoothing}
        want = defined("cross_entropy", (x, targets), np.float32(1), **options)
        loss, slope = lose(kernels, cupy.asarray(x), cupy.asarray(targets), smoothing=smoothing)
        np.testing.assert_allclose(loss, want[0], rtol=1e-5)
        if np.isfinite(want[1]).all():
            np.testing.assert_allclose(slope, want[1], rtol=1e-5, atol=1e-6)


def test_an_ignored_row_counts_for_nothing_whatever_is_in_it(kernels):
    logits = cupy.asarray(normal(4, 9).astype(np.float32))
    targets = cupy.asarray([1, 7, 2, 7])
    loss, slope = lose(kernels, logits, targets, ignored=7)
    logits[1], logits[3] = np.nan, np.inf
    again, also = lose(kernels, logits, targets, ignored=7)
    assert again == loss
    np.testing.assert_array_equal(also, slope)
    assert not slope[1].any()
    assert lose(kernels, logits, cupy.full(4, 7), ignored=7)[0] == 0.0


@pytest.mark.parametrize("wrong", [-1, 9, 1 << 40, -(1 << 40)])
def test_a_target_that_is_no_class_makes_the_loss_nan(kernels, wrong):
    logits = cupy.asarray(normal(3, 9).astype(np.float32))
    with guarded():
        loss, slope = lose(kernels, logits, cupy.asarray([1, wrong, 2]))
    assert np.isnan(loss)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("dtype", ["int32", "int16", "uint8"])
def test_targets_may_be_of_any_integer_dtype(kernels, dtype):
    logits = cupy.asarray(normal(3, 9).astype(np.float32))
    targets = cupy.asarray([1, 0, 8])
    assert lose(kernels, logits, targets.astype(dtype))[0] == lose(kernels, logits, targets)[0]


# ---------------------------------------------------------------- launches
def step(kernels, kit):
    """Do everything forward and back; return what came out."""
    x, y, gamma, beta, half, targets, one = kit
    total, normal, aux = kernels.add_layer_norm(x, y, gamma, beta, eps=1e-5, dtype=half.dtype)
    made = [total, normal, *kernels.layer_norm_vjp_add(half, y, aux, total, gamma, beta, copy=True)]
    out, aux = kernels.layer_norm(x, gamma, beta, eps=1e-5)
    made += kernels.layer_norm_vjp(y, out, aux, x, gamma, beta, needs=(True,) * 3, eps=1e-5)
    out, aux = kernels.rms_norm(x, gamma, eps=1e-5)
    made += kernels.rms_norm_vjp(y, out, aux, x, gamma, needs=(True,) * 2, eps=1e-5)
    for name in ("softmax", "log_softmax"):
        for axis in (0, 1):
            out, aux = getattr(kernels, name)(x, axis=axis)
            made += getattr(kernels, f"{name}_vjp")(y, out, aux, x, needs=(True,), axis=axis)
    options = {"ignore_index": -100, "label_smoothing": 0.1}
    loss, aux = kernels.cross_entropy(x, targets, **options)
    vjp = kernels.cross_entropy_vjp(one, loss, aux, x, targets, needs=(True, False), **options)
    return [*made, loss, vjp[0]]


@pytest.fixture
def kit():
    x, y = (cupy.asarray(a.astype(np.float32)) for a in normal(2, 12, 64))
    gamma, beta = (cupy.asarray(a.astype(np.float32)) for a in normal(2, 64, seed=1))
    half = on_device(normal(12, 64, seed=2, dtype="bfloat16"), "bfloat16")
    return x, y, gamma, beta, half, cupy.arange(12), cupy.ones((), np.float32)


LAUNCHES = 1 + 2 + 1 + 2 + 1 + 2 + 4 * 2 + 2 + 1


@emulated
def test_launches_and_nothing_that_waits(kernels, kit):
    c = count_of(lambda: step(kernels, kit))
    assert c.launches == LAUNCHES


def test_everything_can_be_captured(kernels, kit):
    assert_recorded_is_eager(lambda: step(kernels, kit))
