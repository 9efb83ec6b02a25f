"""Kernels on elements and tables, on a GPU or its emulator, against the definitions of their operations."""

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
from tinyxp import _draw, _fused
from tinyxp.backend import get_backend
from tinyxp_cupy import _kernels

# what rounding to the dtype may change, relative to the largest element
LIMITS = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
DTYPES = pytest.mark.parametrize("dtype", LIMITS)
KEY = (123456789, 987654321)


@pytest.fixture
def kernels():
    return get_backend("cupy").kernels


def on_device(x, dtype, *, shift=0):
    """Return `x` on the device, `shift` elements behind where an array begins."""
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
    tensors = [tinyxp.asarray(a, device="numpy") if hasattr(a, "dtype") else a for a in arrays]
    wanted = [
        t.requires_grad_() for t in tensors if not isinstance(t, tuple) and t.dtype.kind == "f"
    ]
    with np.errstate(all="ignore"):
        out = getattr(_fused, name)(tinyxp, *tensors, **options)
        grads = tinyxp.autograd.grad([out], wanted, [tinyxp.asarray(weights, device="numpy")])
    return [np.asarray(t.detach()) for t in (out, *grads)]


def computed(kernels, name, arrays, weights, dtype, *, shift=0, **options):
    """Return the same by the kernels, alike in all orders of threads."""
    needs = [hasattr(a, "dtype") and a.dtype.kind == "f" for a in arrays]
    results = []
    for order in ORDERS if EMULATED else ORDERS[:1]:
        with in_order(order), guarded():
            raws = [on_device(a, dtype, shift=shift) if hasattr(a, "dtype") else a for a in arrays]
            out, aux = getattr(kernels, name)(*raws, **options)
            assert aux == ()  # the vjp computes again what it needs
            found = getattr(kernels, f"{name}_vjp")(
                on_device(weights, dtype, shift=shift), out, aux, *raws, needs=needs, **options
            )
            assert [f is not None for f in found] == needs
            kept = [out, *(f for f in found if f is not None)]
            assert {f.dtype.name for f in kept} == {dtype}
            results.append([on_host(f) for f in kept])
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(first, other)
    return results[0]


def close(got, want, limit):
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=limit * max(np.abs(want).max(), 1.0))


def agrees(kernels, name, arrays, dtype, *, shape=None, factor=2.0, shift=0, **options):
    weights = normal(*(arrays[0].shape if shape is None else shape), seed=9, dtype=dtype)
    want = defined(name, arrays, weights, **options)
    got = computed(kernels, name, arrays, weights, dtype, shift=shift, **options)
    for g, w in zip(got, want, strict=True):
        close(g, w, factor * LIMITS[dtype])


# ---------------------------------------------------------------- activations
# no axis; not a multiple of 16 bytes; more than one block
SHAPES = pytest.mark.parametrize("shape", [(), (1,), (3, 5), (8,), (1024, 3)], ids=str)
FORMS = pytest.mark.parametrize("form", [*_fused.GELU_FORMS, "silu"])
SHIFTS = pytest.mark.parametrize("shift", [0, 1])


def activation(form):
    return ("silu", {}) if form == "silu" else ("gelu", {"approximate": form})


@DTYPES
@FORMS
@SHAPES
@SHIFTS
def test_activations_are_their_definitions(kernels, form, shape, dtype, shift):
    name, options = activation(form)
    x = np.asarray(normal(*shape, dtype=dtype, spread=3))
    agrees(kernels, name, (x,), dtype, shift=shift, **options)


EXTREME = np.asarray(
    [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e20, -1e20, 3e38, -3e38, 1e-40, 12.0, -12.0, 90.0, -90.0],
    np.float32,
)


@FORMS
def test_activations_of_extreme_values_are_those_of_the_definition(kernels, form):
    name, options = activation(form)
    weights = np.ones_like(EXTREME)
    want = defined(name, (EXTREME,), weights, **options)
    got = computed(kernels, name, (EXTREME,), weights, "float32", **options)
    finite = np.isfinite(EXTREME)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g[finite], w[finite], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6, atol=1e-6)
    assert np.isnan(got[1][2])


@DTYPES
@SHAPES
@SHIFTS
def test_swiglu_is_its_definition(kernels, shape, dtype, shift):
    x, y = (np.asarray(normal(*shape, seed=i, dtype=dtype, spread=2)) for i in range(2))
    agrees(kernels, "swiglu", (x, y), dtype, shift=shift)


def test_swiglu_of_extreme_values_is_that_of_the_definition(kernels):
    finite = EXTREME[np.isfinite(EXTREME)]
    arrays = finite, np.full_like(finite, 0.5)
    want = defined("swiglu", arrays, np.ones_like(finite))
    got = computed(kernels, "swiglu", arrays, np.ones_like(finite), "float32")
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_swiglu_computes_what_is_asked_for(kernels, needs):
    x, y, g = (cupy.asarray(a.astype(np.float32)) for a in normal(3, 5, 7))
    both = kernels.swiglu_vjp(g, None, (), x, y, needs=(True, True))
    one = kernels.swiglu_vjp(g, None, (), x, y, needs=needs)
    assert [a is not None for a in one] == list(needs)
    i = needs.index(True)
    np.testing.assert_array_equal(on_host(one[i]), on_host(both[i]))


# ---------------------------------------------------------------- dropout
@DTYPES
@SHAPES
@SHIFTS
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_drops_what_the_mask_of_all_backends_says(kernels, shape, dtype, shift, p):
    x, g = (np.asarray(normal(*shape, seed=i, dtype=dtype)) for i in range(2))
    x += (x == 0) * 1.0
    kept = _draw.keep_mask(get_backend("numpy").xp, KEY, shape, p)
    out, slope = computed(kernels, "dropout", (x, KEY), g, dtype, shift=shift, p=p)
    for got, given in ((out, x), (slope, g)):
        np.testing.assert_array_equal(got != 0, kept & (given != 0))
        close(got, np.where(kept, given / (1 - p if p < 1 else 1), 0), LIMITS[dtype])


def test_what_is_dropped_is_zero_whatever_it_was(kernels):
    x = cupy.full(1000, cupy.nan, cupy.float32)
    x[::2] = cupy.inf
    out = kernels.dropout(x, KEY, p=0.5)[0].get()
    kept = _draw.keep_mask(get_backend("numpy").xp, KEY, (1000,), 0.5)
    np.testing.assert_array_equal(out == 0, ~kept)


@DTYPES
@SHIFTS
def test_dropout_takes_its_key_from_memory_too(kernels, dtype, shift):
    x, g = (on_device(normal(301, seed=i), dtype, shift=shift) for i in range(2))
    rows = cupy.asarray([(1, 2), KEY, (2**32 - 1, 2**31)], np.int64)
    for key, row in ((KEY, rows[1]), ((2**32 - 1, 2**31), rows[2])):
        options = {"needs": (True, False), "p": 0.3}
        got = kernels.dropout(x, row, p=0.3)[0], kernels.dropout_vjp(g, None, (), x, row, **options)
        want = (
            kernels.dropout(x, key, p=0.3)[0],
            kernels.dropout_vjp(g, None, (), x, key, **options),
        )
        assert got[1][1] is None
        for a, b in ((got[0], want[0]), (got[1][0], want[1][0])):
            np.testing.assert_array_equal(on_host(a), on_host(b))


def test_dropout_of_a_strided_array_keeps_its_order(kernels):
    x = cupy.asarray(normal(6, 9).astype(np.float32))
    whole = kernels.dropout(cupy.ascontiguousarray(x.T), KEY, p=0.5)[0]
    np.testing.assert_array_equal(on_host(kernels.dropout(x.T, KEY, p=0.5)[0]), on_host(whole))


# ---------------------------------------------------------------- rotary embedding
@DTYPES
@SHIFTS
@pytest.mark.parametrize("shape", [(1, 2), (2, 3, 6), (2, 3, 5, 16), (300, 2, 32)], ids=str)
def test_rotary_is_its_definition(kernels, shape, dtype, shift):
    x = normal(*shape, dtype=dtype)
    angles = normal(shape[-2], shape[-1] // 2, seed=1)
    cos, sin = (f(angles).astype(native(dtype)).astype(np.float64) for f in (np.cos, np.sin))
    g = normal(*shape, seed=2, dtype=dtype)
    want = defined("rotary", (x, cos, sin), g)
    with guarded():
        raws = [on_device(a, dtype, shift=shift) for a in (x, cos, sin)]
        out, aux = kernels.rotary(*raws)
        found = kernels.rotary_vjp(
            on_device(g, dtype, shift=shift), out, aux, *raws, needs=(True, False, False)
        )
        every = kernels.rotary_vjp(
            on_device(g, dtype, shift=shift), out, aux, *raws, needs=(True, True, True)
        )
    assert found[1:] == (None, None)
    for got, w in zip((out, *every), want, strict=True):
        close(on_host(got), w, 2 * LIMITS[dtype])
    close(on_host(found[0]), want[1], 2 * LIMITS[dtype])


def test_angles_of_another_shape_take_the_way_of_the_defaults(kernels):
    x, angles = normal(2, 3, 4, 6), normal(2, 1, 4, 3, seed=1)
    arrays = x, np.cos(angles), np.sin(angles)
    want = defined("rotary", arrays, x)[0]
    raws = [on_device(a, "float32") for a in arrays]
    close(on_host(kernels.rotary(*raws)[0]), want, 1e-6)


# ---------------------------------------------------------------- embedding
def tokens(n, size, kind):
    if kind == "equal":
        return np.full(n, size - 1)
    if kind == "hot":  # every second is the same
        found = np.random.default_rng(2).integers(0, size, n)
        found[::2] = 1 % size
        return found
    return np.random.default_rng(2).integers(0, size, n)


# one token; fewer than a slice; several slices, the last not full
@pytest.mark.parametrize(("dtype", "shift"), [("float32", 0), ("bfloat16", 0), ("float16", 1)])
@pytest.mark.parametrize("kind", ["random", "hot", "equal"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 5, 8), (600, 40, 3), (1030, 7, 136)], ids=str)
def test_embedding_and_its_gradient_are_their_definition(kernels, sizes, kind, dtype, shift):
    n, size, width = sizes
    indices, weight = tokens(n, size, kind), normal(size, width, dtype=dtype)
    agrees(
        kernels, "embedding", (indices, weight), dtype, shape=(n, width), shift=shift, factor=1.0
    )


@pytest.mark.parametrize("length", [32, 1024])
@pytest.mark.parametrize("width", [8, 3])
def test_sums_over_more_slices_than_a_warp_has_lanes_and_over_longer_ones(
    kernels, monkeypatch, length, width
):
    monkeypatch.setattr(_kernels, "_length", lambda _rows: length)
    indices, g = tokens(1100, 40, "hot"), normal(1100, width)
    raws = cupy.asarray(indices), cupy.zeros((40, width), cupy.float32)
    above = on_device(g, "float32")
    gw = kernels.embedding_vjp(above, None, (), *raws, needs=(False, True))[1]
    want = np.zeros((40, width))
    np.add.at(want, indices, g)
    close(on_host(gw), want, 1e-5)


def test_many_rows_are_cut_into_fewer_slices():
    assert [_kernels._slices(n) for n in (1, 512, 513, 1 << 15, (1 << 15) + 1)] == [1, 1, 2, 64, 33]


@pytest.mark.parametrize("kind", ["int64", "int32", "int16", "uint8"])
def test_tokens_may_be_of_any_integer_dtype_and_shape(kernels, kind):
    indices, weight = tokens(12, 9, "random").reshape(3, 4), normal(9, 8)
    raws = cupy.asarray(indices.astype(kind))[:, ::2], on_device(weight, "float32")
    out, aux = kernels.embedding(*raws)
    np.testing.assert_array_equal(on_host(out), weight[indices[:, ::2]])
    g = cupy.ones(out.shape, cupy.float32)
    gw = kernels.embedding_vjp(g, out, aux, *raws, needs=(False, True))[1]
    counts = np.bincount(indices[:, ::2].reshape(-1), minlength=9)
    np.testing.assert_array_equal(on_host(gw), np.repeat(counts[:, None], 8, axis=1))


@DTYPES
@pytest.mark.parametrize("width", [8, 3])
def test_a_token_out_of_range_gives_nan_and_gets_nothing(kernels, dtype, width):
    wrong = cupy.asarray([0, -1, 4, 3, 1 << 40, -(1 << 40), 3])
    weight = on_device(normal(4, width, dtype=dtype), dtype)
    with guarded():
        out, aux = kernels.embedding(wrong, weight)
        g = cupy.ones(out.shape, weight.dtype)
        gw = kernels.embedding_vjp(g, out, aux, wrong, weight, needs=(False, True))[1]
    good = np.asarray([True, False, False, True, False, False, True])
    np.testing.assert_array_equal(np.isnan(on_host(out)).all(axis=1), ~good)
    np.testing.assert_array_equal(on_host(out)[good], on_host(weight)[[0, 3, 3]])
    np.testing.assert_array_equal(on_host(gw)[:, 0], [1, 0, 0, 2])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_segment_sums_count_negative_numbers_from_the_end(dtype):
    values = cupy.asarray(normal(6, 4) * 8).astype(dtype)
    indices = cupy.asarray([0, -1, 2, 9, -10, 2])  # of 3: two are out of range
    got = get_backend("cupy").xp.segment_sum(values, indices, 3).get()
    v = values.get()
    np.testing.assert_allclose(got, [v[0], 0 * v[0], v[1] + v[2] + v[5]], rtol=1e-6)


def test_a_table_too_large_for_its_values_is_sorted_instead():
    values = cupy.ones((2000, 1), cupy.float32)
    size = 1 << 23
    got = get_backend("cupy").xp.segment_sum(values, cupy.arange(2000) * 4000 + 3, size)
    assert got.shape == (size, 1)
    assert float(got[4003, 0]) == 1.0
    assert float(got.sum()) == 2000.0


def test_rows_longer_than_a_grid_is_high():
    width = 65536 * 32 + 1
    values = cupy.ones((2, width), cupy.float32)
    got = get_backend("cupy").xp.segment_sum(values, cupy.asarray([1, 1]), 2)
    assert got.shape == (2, width)
    assert [got[i, j].item() for i in (0, 1) for j in (0, -1)] == [0.0, 0.0, 2.0, 2.0]


# ---------------------------------------------------------------- launches
def step(kernels, kit):
    """Do everything forward and back; return what came out."""
    x, y, angles, indices = kit
    made = []
    for form in (*_fused.GELU_FORMS, "silu"):
        name, options = activation(form)
        out, aux = getattr(kernels, name)(x, **options)
        made += [out, *getattr(kernels, f"{name}_vjp")(y, out, aux, x, needs=(True,), **options)]
    made += [kernels.swiglu(x, y)[0], *kernels.swiglu_vjp(y, None, (), x, y, needs=(True, True))]
    made += [kernels.dropout(x, KEY, p=0.5)[0]]
    made += kernels.dropout_vjp(y, None, (), x, KEY, needs=(True, False), p=0.5)[:1]
    made += [kernels.rotary(x, angles, angles)[0]]
    needs = (True, False, False)
    made += kernels.rotary_vjp(y, None, (), x, angles, angles, needs=needs)[:1]
    made += [kernels.embedding(indices, x)[0]]
    made += kernels.embedding_vjp(y, None, (), indices, x, needs=(False, True))[1:]
    return made


@pytest.fixture
def kit():
    x, y = (cupy.asarray(a.astype(np.float32)) for a in normal(2, 12, 64))
    angles = cupy.asarray(normal(12, 32).astype(np.float32))
    return x, y, angles, cupy.arange(12) % 5


@emulated
def test_launches_and_nothing_that_waits(kernels, kit):
    c = count_of(lambda: step(kernels, kit))
    assert c.launches == 4 * 2 + 2 + 2 + 2 + 1 + 2
    assert c.memsets == 1


def test_everything_can_be_captured(kernels, kit):
    assert_recorded_is_eager(lambda: step(kernels, kit))
