"""The second tier: tinyxp's definitions and what backends put in their place, against outside references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinyxp import _extras, _indexing, dtypes
from tinyxp.errors import DTypeError

DEFAULTS = _extras.Defaults
FORMS = pytest.mark.parametrize("form", ["default", "backend"])


def function(device, form, name):
    """Tinyxp's definition of `name` on raw arrays of the device, or what the backend put in its place."""
    if form == "backend":
        return getattr(device.xp, name)
    return lambda *args, **kwargs: getattr(DEFAULTS, name)(device.backend, *args, **kwargs)


def array(device, values, dtype="float64"):
    d = dtypes.dtype(dtype)
    host = np.asarray(values, dtype=dtype)
    return device.backend.from_buffer(memoryview(host.tobytes()), d, host.shape, device)


def host(device, x):
    return np.array(device.backend.to_numpy(x))


# ---------------------------------------------------------------- erf
@FORMS
@given(x=st.floats(allow_nan=False, width=64))
@example(x=0.0)
@example(x=-0.0)
@example(x=5e-324)
@example(x=math.nextafter(1.0, 2.0))
@example(x=math.nextafter(1.0, 0.0))
@example(x=math.inf)
def test_erf_is_the_c_librarys_in_double_precision(device, form, x):
    got = float(host(device, function(device, form, "erf")(array(device, x))))
    want = math.erf(x)
    assert abs(got - want) <= 4 * math.ulp(want)
    assert math.copysign(1, got) == math.copysign(1, x)


@FORMS
@pytest.mark.parametrize(("dtype", "units"), [("float32", 2.0), ("float64", 4.0)])
def test_erf_over_its_whole_range(device, form, dtype, units):
    x = np.concatenate([np.linspace(-7, 7, 4001), np.geomspace(1e-30, 1, 500)]).astype(dtype)
    got = host(device, function(device, form, "erf")(array(device, x, dtype)))
    want = np.array([math.erf(v) for v in x.tolist()])
    assert got.dtype == dtype
    assert np.max(np.abs(got - want) / np.spacing(np.abs(want).astype(dtype))) <= units


@FORMS
def test_erf_of_nan_is_nan_and_of_integers_an_error(device, form):
    erf = function(device, form, "erf")
    assert math.isnan(float(host(device, erf(array(device, math.nan)))))
    with pytest.raises(DTypeError, match="erf expects a real floating array; got int64"):
        erf(array(device, [1, 2], "int64"))


# ---------------------------------------------------------------- segment_sum
def exact_sums(values, indices, size):
    """Sums of the rows that go to each place, each rounded once from the exact sum."""
    out = np.zeros((size, values.shape[1]))
    for place in range(size):
        chosen = values[indices % size == place].astype(np.float64)
        out[place] = [math.fsum(column) for column in chosen.T]
    return out


@FORMS
@given(
    sizes=st.tuples(st.integers(1, 6), st.integers(0, 40), st.integers(0, 3)),
    seed=st.integers(0, 2**16),
)
def test_segment_sum_is_the_exact_sum(device, form, sizes, seed):
    size, n, width = sizes
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, width))
    indices = random.integers(-size, size, n)
    got = function(device, form, "segment_sum")(
        array(device, values), array(device, indices, "int64"), size
    )
    want = exact_sums(values, indices, size)
    np.testing.assert_allclose(host(device, got), want, rtol=0, atol=1e-13 * (1 + n))


@FORMS
def test_segment_sum_runs_along_any_axis(device, form):
    values = np.arange(24.0).reshape(2, 4, 3)
    indices = np.array([1, 0, 1, 1])
    want = np.stack([values[:, 1], values[:, [0, 2, 3]].sum(1)], axis=1)
    for axis in (1, -2):
        got = function(device, form, "segment_sum")(
            array(device, values), array(device, indices, "int64"), 2, axis=axis
        )
        np.testing.assert_array_equal(host(device, got), want)


@FORMS
def test_segment_sum_is_exact_for_integers(device, form):
    values = np.array([2**62, 1, -(2**62), 5, 2**53 + 1])
    got = function(device, form, "segment_sum")(
        array(device, values, "int64"), array(device, [0, 0, 0, 1, 1], "int64"), 3
    )
    np.testing.assert_array_equal(host(device, got), [1, 2**53 + 6, 0])


@FORMS
def test_segment_sum_keeps_infinities_to_their_segment(device, form):
    got = function(device, form, "segment_sum")(
        array(device, [math.inf, 1.0, math.nan, 2.0, -math.inf]),
        array(device, [0, 1, 2, 1, 3], "int64"),
        4,
    )
    np.testing.assert_array_equal(host(device, got), [math.inf, 3.0, math.nan, -math.inf])


@FORMS
def test_segment_sum_of_many_small_numbers_stays_exact_in_float32(device, form):
    n = 20_000
    got = function(device, form, "segment_sum")(
        array(device, np.full((n, 2), 0.1), "float32"), array(device, np.zeros(n), "int64"), 1
    )
    want = n * float(np.float32(0.1))
    np.testing.assert_allclose(host(device, got), [[want, want]], rtol=2e-4)


@pytest.mark.skip_backend("cupy", reason="to look at the indices the host would wait for the GPU")
def test_segment_sum_refuses_indices_out_of_range(device):
    with pytest.raises(IndexError, match=r"in \[-3, 3\)"):
        device.xp.segment_sum(array(device, [1.0, 2.0]), array(device, [0, 3], "int64"), 3)


# ---------------------------------------------------------------- indexing, against NumPy itself
@st.composite
def indexed(draw):
    """An array and a key that NumPy may or may not take."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    items, axis, dots = [], 0, False
    while axis < len(shape) and draw(st.integers(0, 9)):
        n = shape[axis]
        kinds = ["int", "slice", "slice", "None", "array", "mask", "bool"] + ["dots"] * (not dots)
        kind = draw(st.sampled_from(kinds))
        if kind == "None":
            items.append(None)
        elif kind == "dots":
            dots = True
            items.append(...)
            axis += draw(st.integers(0, 2))
        elif kind == "bool":
            items.append(draw(st.sampled_from([True, False, np.asarray(True)])))
        elif kind == "mask":
            width = draw(st.integers(1, 2))
            part = shape[axis : axis + width]
            flags = draw(
                st.lists(st.booleans(), min_size=math.prod(part), max_size=math.prod(part))
            )
            items.append(np.array(flags, dtype=bool).reshape(part))
            axis += width
        else:
            axis += 1
            if kind == "slice" or n == 0:
                bound = st.none() | st.integers(-n - 2, n + 2)
                step = draw(st.sampled_from([None, 1, 2, -1, -2]))
                items.append(slice(draw(bound), draw(bound), step))
            elif kind == "int":
                items.append(draw(st.integers(-n, n - 1)))
            else:
                form = draw(st.sampled_from([(), (2,), (3,), (2, 1)]))
                chosen = st.lists(
                    st.integers(-n, n - 1), min_size=math.prod(form), max_size=math.prod(form)
                )
                items.append(np.array(draw(chosen)).reshape(form))
    values = np.arange(float(math.prod(shape))).reshape(shape)
    return values, items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


def on_device(device, key):
    if isinstance(key, tuple):
        return tuple(on_device(device, item) for item in key)
    return array(device, key, str(key.dtype)) if isinstance(key, np.ndarray) else key


@FORMS
@settings(max_examples=100)
@given(case=indexed())
@example(
    case=(np.ones((4, 3)), (None, np.array([False, True, True, False]), ..., np.array([[-2], [1]])))
)
@example(case=(np.ones((2, 3)), (0, slice(None), np.array([], dtype=int).reshape(0, 1))[:2]))
def test_indexing_is_numpys(device, form, case):
    values, key = case
    x, k = array(device, values), on_device(device, key)
    getitem, setitem = (function(device, form, n) for n in ("getitem", "setitem"))
    try:
        want = np.asarray(values[key])
    except IndexError:
        if (
            device.backend.host_visible
        ):  # elsewhere looking at the indices would wait for the device
            with pytest.raises(IndexError):
                getitem(x, k)
        return
    np.testing.assert_array_equal(host(device, getitem(x, k)), want, strict=True)
    for shape in {want.shape, want.shape[1:], ()}:
        new = -1.0 - np.arange(float(math.prod(shape))).reshape(shape)
        written = values.copy()
        written[key] = new
        y = device.xp.asarray(array(device, values), copy=True)
        setitem(y, k, array(device, new))
        np.testing.assert_array_equal(host(device, y), written)


@given(case=indexed())
def test_scatter_is_numpys_assignment(case):
    values, key = case
    try:
        want = np.asarray(values[key])
    except IndexError:
        return
    new = -1.0 - np.arange(float(want.size)).reshape(want.shape)
    written, y = values.copy(), values.copy()
    written[key] = new
    _indexing.scatter(device_of_numpy().xp, y, key, new)
    np.testing.assert_array_equal(y, written)


def device_of_numpy():
    from tinyxp import device

    return device("cpu")


@FORMS
def test_the_last_of_two_values_stays(device, form):
    n = 5000
    x = device.xp.asarray(array(device, np.zeros(3)), copy=True)
    places = array(device, np.arange(n) % 3, "int64")
    function(device, form, "setitem")(x, (places,), array(device, np.arange(float(n))))
    np.testing.assert_array_equal(host(device, x), [4998.0, 4999.0, 4997.0])


@FORMS
def test_assignment_casts_to_the_dtype_of_the_array(device, form):
    x = device.xp.asarray(array(device, [1, 2, 3], "int64"), copy=True)
    setitem = function(device, form, "setitem")
    setitem(x, slice(0, 1), array(device, [7.9]))
    setitem(x, (array(device, [1, 1], "int64"),), array(device, [8.2, 9.2]))
    np.testing.assert_array_equal(host(device, x), [7, 9, 3])


# ---------------------------------------------------------------- copy and iadd
@FORMS
def test_copy_shares_nothing(device, form):
    x = array(device, np.arange(6.0).reshape(2, 3))
    turned = device.xp.permute_dims(x, (1, 0))
    y = function(device, form, "copy")(turned)
    np.testing.assert_array_equal(host(device, y), np.arange(6.0).reshape(2, 3).T)
    assert not device.backend.shares_memory(x, y)


@FORMS
def test_iadd_writes_into_the_first(device, form):
    x = device.xp.asarray(array(device, np.ones((2, 3))), copy=True)
    view = device.xp.getitem(x, (0,))
    assert function(device, form, "iadd")(x, array(device, [1.0, 2.0, 3.0])) is x
    np.testing.assert_array_equal(host(device, x), [[2, 3, 4]] * 2)
    if device.backend.shares_memory(x, view):
        np.testing.assert_array_equal(host(device, view), [2, 3, 4])


# ---------------------------------------------------------------- Threefry-2x32
# J. K. Salmon and others, Random123, file kat_vectors, lines "threefry2x32 20": counter, key, block.
KNOWN_ANSWERS = """
00000000 00000000 00000000 00000000  6b200159 99ba4efe
ffffffff ffffffff ffffffff ffffffff  1cb996fc bb002be7
243f6a88 85a308d3 13198a2e 03707344  c4923a9c 483df7a0
"""


@FORMS
@pytest.mark.parametrize("line", KNOWN_ANSWERS.split("\n")[1:-1])
def test_the_cipher_gives_the_published_answers(device, form, line):
    c0, c1, k0, k1, *want = (int(word, 16) for word in line.split())
    counters = (array(device, [c], "int64") for c in (c0, c1))
    got = function(device, form, "threefry2x32")(k0, k1, *counters)
    assert [int(host(device, g)[0]) for g in got] == want
    assert all(dtypes.of(g.dtype) == "int64" for g in got)


@pytest.mark.parametrize("n", [0, 1, 65_535, 65_536, 65_537, 150_000])
def test_every_block_of_a_long_stream_is_the_defaults(device, n):
    counters = [
        array(device, np.arange(n) * 31 % 2**32, "int64"),
        array(device, np.arange(n), "int64"),
    ]
    got = device.xp.threefry2x32(0xDEADBEEF, 0x12345678, *counters)
    want = DEFAULTS.threefry2x32(device.backend, 0xDEADBEEF, 0x12345678, *counters)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(host(device, g), host(device, w))
