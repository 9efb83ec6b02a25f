"""The namespace: its names, its signatures, and values against NumPy, empty and 0-d arrays included."""

from __future__ import annotations

import inspect
import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyxp import _standard
from tinyxp.autograd import _rules  # noqa: F401 - fills the table
from tinyxp.autograd._record import TABLE

host = pytest.importorskip("array_api_compat.numpy")
FUNCTIONS = sorted(set(_standard.FUNCTIONS))


# ---------------------------------------------------------------- names and signatures
def test_every_name_of_the_standard_is_there(xp):
    names = [*FUNCTIONS, *_standard.DTYPES, *_standard.CONSTANTS, "linalg", "fft", "__array_namespace_info__"]
    assert [n for n in names if not hasattr(xp, n)] == []
    assert [n for n in _standard.LINALG if not hasattr(xp.linalg, n)] == []
    assert [n for n in _standard.FFT if not hasattr(xp.fft, n)] == []
    assert xp.__array_api_version__ == "2025.12"
    assert set(dir(xp)) >= set(names)


def test_every_function_of_the_standard_is_documented(xp):
    for name in FUNCTIONS:
        function = getattr(xp, name)
        assert "Examples\n" in (inspect.getdoc(function) or ""), name
        assert function.__name__ == name


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


# where array-api-strict has a sentinel in place of None, and where it lags behind version 2025.12
OTHER_DEFAULTS = {"from_dlpack": {"device", "copy"}, "astype": {"device"}, "expand_dims": {"axis"}}


@pytest.mark.parametrize("extension", ["", "linalg", "fft"])
def test_signatures_are_those_of_the_standard(xp, extension):
    """Names, kinds (positional-only, keyword-only) and defaults, as array-api-strict has them."""
    strict = pytest.importorskip("array_api_strict")
    ours, theirs = (getattr(m, extension) if extension else m for m in (xp, strict))
    names = {"": FUNCTIONS, "linalg": _standard.LINALG, "fft": _standard.FFT}[extension]
    compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if not hasattr(theirs, name):
                continue
            a, b = parameters(getattr(ours, name)), parameters(getattr(theirs, name))
            assert [p[:2] for p in a] == [p[:2] for p in b], name
            for (parameter, _, x), (_, _, y) in zip(a, b, strict=True):
                assert str(x) == str(y) or parameter in OTHER_DEFAULTS.get(name, ()), (name, parameter)
            compared += 1
    assert compared > 0.9 * len(names)


# What has no derivative, and why: these create arrays, tell of dtypes, compare, count, or work on bits.
CREATION = set(_standard.CREATION) - {"asarray", "meshgrid", "tril", "triu"}
NO_DERIVATIVE = CREATION | set(
    """astype can_cast finfo iinfo isdtype result_type broadcast_shapes
    bitwise_and bitwise_left_shift bitwise_invert bitwise_or bitwise_right_shift bitwise_xor
    equal greater greater_equal isfinite isinf isnan less less_equal logical_and logical_not logical_or
    logical_xor not_equal signbit argmax argmin count_nonzero nonzero searchsorted isin argsort all any""".split()
) - {"astype"}
COMPOSITE = set(
    """asarray meshgrid matrix_transpose tensordot vecdot broadcast_arrays expand_dims flip moveaxis
    squeeze tile unstack unique_all unique_counts unique_inverse unique_values diff""".split()
)


def test_every_function_is_differentiable_composite_or_has_no_derivative():
    """Each is in exactly one of three sets, so none drops a gradient because a line was forgotten."""
    rules = {n for n, o in TABLE.items() if o.rules or o.each is not None or o.joint is not None}
    for name in FUNCTIONS:
        places = [name in rules, name in NO_DERIVATIVE, name in COMPOSITE]
        assert sum(places) == 1, (name, places)


FLOAT_ARGUMENTS = {
    "diff": lambda xp, x: xp.diff(x), "tile": lambda xp, x: xp.tile(x, (2,)),
    "moveaxis": lambda xp, x: xp.moveaxis(x, 0, -1), "squeeze": lambda xp, x: xp.squeeze(x, ()),
    "tensordot": lambda xp, x: xp.tensordot(x, x, axes=1), "vecdot": lambda xp, x: xp.vecdot(x, x),
    "unique_all": lambda xp, x: xp.unique_all(x).values, "unstack": lambda xp, x: xp.unstack(x)[0],
    "unique_counts": lambda xp, x: xp.unique_counts(x).values, "asarray": lambda xp, x: xp.asarray([[x[0, 0]]]),
    "unique_inverse": lambda xp, x: xp.unique_inverse(x).values, "meshgrid": lambda xp, x: xp.meshgrid(x[0])[0],
    "broadcast_arrays": lambda xp, x: xp.broadcast_arrays(x, xp.ones((2, 1, 1)))[0],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(COMPOSITE))
def test_composites_keep_the_graph(xp, name):
    x = xp.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    function = FLOAT_ARGUMENTS.get(name, lambda xp, x: getattr(xp, name)(x))
    out = function(xp, x)
    assert out.requires_grad
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("name", sorted(NO_DERIVATIVE & set(_standard.ELEMENTWISE)))
def test_what_has_no_derivative_keeps_no_graph(xp, name):
    integers = name.startswith("bitwise")
    x = xp.asarray([1, 2]) if integers else xp.Tensor([1.0, 2.0], requires_grad=True)
    if name.startswith("logical"):
        x = xp.asarray([True, False])
    function = getattr(xp, name)
    out = function(x) if len(parameters(function)) == 1 else function(x, x)
    assert not out.requires_grad


# ---------------------------------------------------------------- values
REAL = ["float64", "float32", "int64", "int8", "uint8"]
NUMERIC = [*REAL, "complex128"]
ANY = [*NUMERIC, "bool"]


def elements(dtype):
    """Few and simple numbers: ties are frequent, sums are exact."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return st.booleans()
    if kind in "iu":
        return st.integers(0 if kind == "u" else -4, 4)
    quarter = st.integers(-8, 8).map(lambda n: n / 4)
    return quarter if kind == "f" else st.builds(complex, quarter, quarter)


def shapes(least=0, most=3):
    return hnp.array_shapes(min_dims=least, max_dims=most, min_side=0, max_side=4)


@st.composite
def arrays(draw, dtypes=NUMERIC, shape=None, least=0, most=3):
    dtype = draw(st.sampled_from(dtypes))
    return draw(hnp.arrays(dtype, shapes(least, most) if shape is None else shape, elements=elements(dtype)))


def one_axis(draw, x):
    return draw(st.integers(-x.ndim, x.ndim - 1))


def any_axis(draw, x):
    """Return None, one axis, or a tuple of axes."""
    several = st.lists(st.integers(0, max(x.ndim - 1, 0)), unique=True, max_size=x.ndim).map(tuple)
    one = st.integers(-x.ndim, x.ndim - 1) if x.ndim else st.none()
    return draw(st.none() | one | several)


def reshape(draw):
    x = draw(arrays(ANY))
    new = draw(st.permutations(x.shape))
    if x.size and draw(st.booleans()):
        new = [*new[:-1], -1] if new else [-1]
    return (x, tuple(new)), {}


def permute_dims(draw):
    x = draw(arrays(ANY))
    return (x, tuple(draw(st.permutations(range(x.ndim))))), {}


def with_axes(dtypes, **options):
    """Make a strategy for reductions."""

    def strategy(draw):
        x = draw(arrays(dtypes))
        kwargs = {"axis": any_axis(draw, x), "keepdims": draw(st.booleans())}
        return (x,), kwargs | {k: draw(v) for k, v in options.items()}

    return strategy


def with_axis(dtypes, least=1, **options):
    def strategy(draw):
        x = draw(arrays(dtypes, least=least))
        return (x,), {"axis": one_axis(draw, x)} | {k: draw(v) for k, v in options.items()}

    return strategy


def arg(draw):
    x = draw(arrays(REAL))
    axis = draw(st.none() | st.just(one_axis(draw, x))) if x.ndim else None
    return (x,), {"axis": axis, "keepdims": draw(st.booleans())}


def several(draw, same_shape):
    """Return arrays of one shape, except along the axis that concat joins."""
    first = draw(arrays(ANY, least=1))
    axis = one_axis(draw, first)
    others = []
    for _ in range(draw(st.integers(0, 2))):
        shape = list(first.shape)
        if not same_shape:
            shape[axis] = draw(st.integers(0, 3))
        others.append(draw(arrays([first.dtype.name], shape=tuple(shape))))
    return [first, *others], axis


def concat(draw):
    xs, axis = several(draw, same_shape=False)
    return (xs,), {"axis": draw(st.sampled_from([axis, None]))}


def stack(draw):
    xs, axis = several(draw, same_shape=True)
    return (xs,), {"axis": axis}


def roll(draw):
    x = draw(arrays(ANY))
    shift = st.integers(-6, 6)
    if not x.ndim or draw(st.booleans()):
        return (x, draw(shift)), {"axis": None}
    axes = tuple(draw(st.lists(st.integers(-x.ndim, x.ndim - 1), min_size=1, max_size=3)))
    return (x, tuple(draw(shift) for _ in axes)), {"axis": axes}


def repeat(draw):
    x = draw(arrays(ANY))
    axis = draw(st.none() | st.just(one_axis(draw, x))) if x.ndim else None
    n = x.size if axis is None else x.shape[axis]
    times = draw(st.integers(0, 3) | hnp.arrays("int64", (n,), elements=st.integers(0, 3)))
    return (x, times), {"axis": axis}


def tile(draw):
    return (draw(arrays(ANY)), tuple(draw(st.lists(st.integers(0, 3), min_size=0, max_size=4)))), {}


def expand_dims(draw):
    x = draw(arrays(ANY))
    return (x,), {"axis": draw(st.integers(-x.ndim - 1, x.ndim))}


def squeeze(draw):
    x = draw(arrays(ANY))
    ones = [a for a, n in enumerate(x.shape) if n == 1]
    return (x, tuple(draw(st.sets(st.sampled_from(ones)))) if ones else ()), {}


def moveaxis(draw):
    x = draw(arrays(ANY, least=1))
    count = draw(st.integers(1, x.ndim))
    source, target = (tuple(draw(st.permutations(range(x.ndim)))[:count]) for _ in range(2))
    return (x, source, target), {}


def broadcast_to(draw):
    x = draw(arrays(ANY))
    front = draw(st.lists(st.integers(0, 3), max_size=2))
    return (x, (*front, *(draw(st.integers(0, 3)) if n == 1 else n for n in x.shape))), {}


def flip(draw):
    x = draw(arrays(ANY))
    return (x,), {"axis": any_axis(draw, x)}


def take(draw):
    x = draw(arrays(ANY, least=1))
    axis = one_axis(draw, x)
    assume(x.shape[axis])
    index = hnp.arrays("int64", hnp.array_shapes(min_dims=1, max_dims=1, min_side=0), elements=st.integers(0, x.shape[axis] - 1))
    return (x, draw(index)), {"axis": axis}


def take_along_axis(draw):
    x = draw(arrays(ANY, least=1))
    axis = one_axis(draw, x)
    assume(x.shape[axis])
    shape = list(x.shape)
    shape[axis] = draw(st.integers(0, 4))
    return (x, draw(hnp.arrays("int64", tuple(shape), elements=st.integers(0, x.shape[axis] - 1)))), {"axis": axis}


def searchsorted(draw):
    x = np.sort(draw(arrays(["float64", "int64"], least=1, most=1)))
    values = draw(arrays([x.dtype.name], least=0, most=2))
    return (x, values), {"side": draw(st.sampled_from(["left", "right"]))}


def where(draw):
    x = draw(arrays(ANY))
    condition, y = (draw(arrays([d], shape=x.shape)) for d in ("bool", x.dtype.name))
    return (condition, x, y), {}


def clip(draw):
    x = draw(arrays(REAL))
    low = draw(st.none() | st.integers(0, 1) | arrays([x.dtype.name], shape=x.shape))
    high = None if low is None else low + low.dtype.type(1) if hasattr(low, "dtype") else low + 1
    return (x, low, draw(st.sampled_from([None, high]))), {}


def matrices(draw):
    dtype = draw(st.sampled_from(["float64", "int64", "complex128"]))
    m, k, n = (draw(st.integers(0, 3)) for _ in range(3))
    left, right = draw(
        st.sampled_from([((k,), (k,)), ((m, k), (k,)), ((k,), (k, n)), ((m, k), (k, n)), ((2, m, k), (k, n)), ((2, 1, m, k), (3, k, n))])
    )
    return (draw(arrays([dtype], shape=left)), draw(arrays([dtype], shape=right))), {}


def vectors(draw):
    dtype = draw(st.sampled_from(["float64", "int64", "complex128"]))
    n, m = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return (draw(arrays([dtype], shape=(m, n))), draw(arrays([dtype], shape=(n,)))), {"axis": -1}


def contraction(draw):
    x = draw(arrays(["float64", "int64"], least=1))
    y = draw(arrays([x.dtype.name], shape=(*x.shape[::-1], 2)))
    count = draw(st.integers(0, x.ndim))
    axes = [x.ndim - 1 - a for a in range(count)]
    return (x, y), {"axes": (axes, list(range(count)))}


def diff(draw):
    x = draw(arrays(["float64", "int64"], least=1))
    return (x,), {"axis": one_axis(draw, x), "n": draw(st.integers(0, 3))}


def triangle(draw):
    return (draw(arrays(ANY, least=2)),), {"k": draw(st.integers(-3, 3))}


def isin(draw):
    return (draw(arrays(["int64"])), draw(arrays(["int64"]))), {"invert": draw(st.booleans())}


FLAGS = {"descending": st.booleans(), "stable": st.just(True)}
CASES = {
    "reshape": reshape, "permute_dims": permute_dims, "flip": flip, "roll": roll, "concat": concat, "stack": stack,
    "repeat": repeat, "tile": tile, "expand_dims": expand_dims, "squeeze": squeeze, "moveaxis": moveaxis,
    "broadcast_to": broadcast_to, "unstack": with_axis(ANY), "tril": triangle, "triu": triangle,
    "broadcast_arrays": lambda draw: ((draw(arrays(ANY)), draw(arrays(ANY, shape=()))), {}),
    "meshgrid": lambda draw: (
        tuple(draw(st.lists(arrays(["int64"], least=1, most=1), max_size=3))), {"indexing": draw(st.sampled_from(["xy", "ij"]))}
    ),
    "take": take, "take_along_axis": take_along_axis, "where": where, "clip": clip, "searchsorted": searchsorted,
    "argmax": arg, "argmin": arg, "count_nonzero": with_axes(NUMERIC), "nonzero": lambda draw: ((draw(arrays(ANY, least=1)),), {}),
    "sort": with_axis(REAL, **FLAGS), "argsort": with_axis(REAL, **FLAGS), "isin": isin,
    **{f"unique_{n}": lambda draw: ((draw(arrays(NUMERIC)),), {}) for n in "all counts inverse values".split()},
    **{n: with_axes(NUMERIC) for n in ("sum", "prod")},
    "mean": with_axes(["float64", "float32", "complex128"]),
    **{n: with_axes(["float64", "float32"], correction=st.sampled_from([0.0, 1.0, 0.5])) for n in ("var", "std")},
    **{n: with_axes(REAL) for n in ("max", "min")},
    **{n: with_axes(ANY) for n in ("all", "any")},
    **{n: with_axis(NUMERIC, include_initial=st.booleans()) for n in ("cumulative_sum", "cumulative_prod")},
    "diff": diff, "matmul": matrices, "vecdot": vectors, "tensordot": contraction, "matrix_transpose": lambda draw: ((draw(arrays(ANY, least=2)),), {}),
}  # fmt: skip


def elements_per_result(x, axis=None, **_kwargs):
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis).astype(int)
    return math.prod(x.shape[a] for a in axes)


# What a library cannot do, or does otherwise where the standard asks for more: arguments that are compared.
PYTORCH_SUMS = ["sum", "prod", "cumulative_sum", "cumulative_prod"]  # small unsigned integers in int64
COMPARED = {
    **{("torch", n): lambda x, **_: x.dtype != np.uint8 for n in PYTORCH_SUMS},
    **{("torch", n): lambda x, **k: x.size and k["correction"] in (0, 1) and elements_per_result(x, **k) > 1 for n in ("var", "std")},
    ("torch", "count_nonzero"): lambda _x, axis, **_: axis != (),  # means all axes there
    **{("torch", f"unique_{n}"): lambda x, **_: x.dtype.kind != "c" for n in "all counts inverse values".split()},
    ("torch", "floor_divide"): lambda _x, y: np.all(y),  # an integer divided by zero is an error there
    ("torch", "remainder"): lambda _x, y: np.all(y),
    ("torch", "pow"): lambda x, _y: np.all(x),  # 0j ** 0j is NaN there
    **{("cupy", n): lambda x, **_: x.size for n in ("argmax", "argmin", "max", "min")},  # of nothing: no error
    ("cupy", "cumulative_prod"): lambda x, **_: x.dtype.kind != "c",  # a kernel that does not compile
}


def is_compared(xp, name, args, kwargs):
    return COMPARED.get((xp.get_default_device().backend.name, name), lambda *_a, **_k: True)(*args, **kwargs)


def as_tensors(xp, value):
    if isinstance(value, np.ndarray):
        return xp.asarray(value)
    return [as_tensors(xp, v) for v in value] if isinstance(value, list) else value


def outcome(function, args, kwargs):
    """Return what a call gives, as a tuple, or that it failed."""
    try:
        found = function(*args, **kwargs)
    except (ValueError, IndexError, TypeError, RuntimeError) as e:  # RuntimeError is PyTorch's
        return e
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def test_every_array_function_has_a_case():
    chapters = (
        _standard.MANIPULATION + _standard.SEARCHING + _standard.SETS + _standard.SORTING + _standard.STATISTICAL
        + _standard.UTILITY + _standard.INDEXING + _standard.LINEAR_ALGEBRA
    )  # fmt: skip
    assert set(chapters) - set(CASES) == {"broadcast_shapes"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25)
@given(data=st.data())
def test_values_are_those_of_numpy(xp, name, data):
    """The same shapes, dtypes and values, or both refuse."""
    args, kwargs = CASES[name](data.draw)
    assume(is_compared(xp, name, args, kwargs))
    expected = outcome(getattr(host, name), args, kwargs)
    found = outcome(getattr(xp, name), [as_tensors(xp, a) for a in args], kwargs)
    if isinstance(expected, Exception):
        assert isinstance(found, Exception), f"NumPy refuses: {expected}"
        return
    assert not isinstance(found, Exception), found
    for a, b in zip(found, expected, strict=True):
        assert a.shape == np.shape(b)
        assert a.dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")  # array-api-strict warns of what it does not know
@pytest.mark.parametrize("name", sorted({*_standard.ELEMENTWISE} - {"clip"}))
@settings(max_examples=12, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_elementwise_values_are_those_of_numpy(xp, name, data):
    """Whatever array-api-strict takes: one array, two that broadcast, or one and a number."""
    strict = pytest.importorskip("array_api_strict")
    function = getattr(xp, name)
    x = data.draw(arrays({"logical": ["bool"], "imag": ["complex128"]}.get(name.partition("_")[0], ANY)))
    args = [x]
    if len(parameters(function)) == 2:
        y = data.draw(arrays([x.dtype.name], shape=x.shape[data.draw(st.integers(0, x.ndim)) :]))
        number = data.draw(elements(x.dtype))
        args = data.draw(st.sampled_from([[x, y], [y, x], [x, number], [number, x]]))
    expected = outcome(getattr(strict, name), [as_strict(strict, a) for a in args], {})
    assume(not isinstance(expected, Exception) and is_compared(xp, name, args, {}))
    found = function(*[as_tensors(xp, a) for a in args])
    expected = np.asarray(getattr(host, name)(*args))
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def as_strict(strict, value):
    return strict.asarray(value) if isinstance(value, np.ndarray) else value


def test_broadcast_shapes(xp):
    assert xp.broadcast_shapes((3, 1), (1, 4), ()) == (3, 4)
    assert xp.broadcast_shapes() == ()
    assert xp.broadcast_shapes((0,), (1,)) == (0,)
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\) cannot be broadcast"):
        xp.broadcast_shapes((2,), (3,))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda xp: xp.arange(5), np.arange(5)), (lambda xp: xp.arange(1, 7, 2), np.arange(1, 7, 2)),
        (lambda xp: xp.arange(3, 0, -1), np.arange(3, 0, -1)), (lambda xp: xp.arange(2, 1), np.arange(2, 1)),
        (lambda xp: xp.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25, np.float32)),
        (lambda xp: xp.arange(3, dtype="uint8"), np.arange(3, dtype="uint8")),
        (lambda xp: xp.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32)),
        (lambda xp: xp.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, endpoint=False, dtype=np.float32)),
        (lambda xp: xp.linspace(0, 1j, 3), np.linspace(0, 1j, 3, dtype=np.complex64)),
        (lambda xp: xp.linspace(1, 2, 1, dtype="float64"), np.asarray([1.0])), (lambda xp: xp.linspace(1, 2, 0), np.zeros(0, np.float32)),
        (lambda xp: xp.eye(2, 3, k=1), np.eye(2, 3, k=1, dtype=np.float32)), (lambda xp: xp.eye(2, dtype="int8"), np.eye(2, dtype=np.int8)),
        (lambda xp: xp.full((2, 1), 7), np.full((2, 1), 7)), (lambda xp: xp.full(2, True), np.full(2, True)),
        (lambda xp: xp.full(2, 1j), np.full(2, 1j, np.complex64)), (lambda xp: xp.full((), 2.5), np.full((), 2.5, np.float32)),
        (lambda xp: xp.full(2, np.float64(2.0)), np.full(2, 2.0, np.float32)), (lambda xp: xp.full(1, xp.asarray(3)), np.full(1, 3)),
        (lambda xp: xp.zeros((2, 0)), np.zeros((2, 0), np.float32)), (lambda xp: xp.ones(3, dtype=xp.bool), np.ones(3, bool)),
        (lambda xp: xp.zeros(xp.asarray([2, 1])), np.zeros((2, 1), np.float32)), (lambda xp: xp.zeros([2, np.int64(1)]), np.zeros((2, 1), np.float32)),
        (lambda xp: xp.zeros_like(xp.ones((2, 1), dtype="int8")), np.zeros((2, 1), np.int8)),
        (lambda xp: xp.full_like(xp.ones(2), 3), np.full(2, 3, np.float32)), (lambda xp: xp.full_like(xp.ones(2), 3, dtype="int64"), np.full(2, 3)),
        (lambda xp: xp.empty_like(xp.ones((0, 2))), np.empty((0, 2), np.float32)), (lambda xp: xp.ones_like(xp.zeros(2, dtype="bool")), np.ones(2, bool)),
    ],
    ids=range(28),
)  # fmt: skip
def test_creation(xp, call, expected):
    found = call(xp)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_what_creation_refuses(xp):
    for wrong in (2.5, "a", [1.0], None):
        with pytest.raises(ValueError, match="expects an integer or a sequence of integers as shape"):
            xp.zeros(wrong)
    with pytest.raises(ValueError, match="lengths that are not negative"):
        xp.ones((2, -1))
    with pytest.raises(ValueError, match="indexing 'xy' or 'ij'; got 'ab'"):
        xp.meshgrid(xp.ones(1), indexing="ab")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda xp, x: xp.sum(x, axis=2), IndexError, "sum: axis 2 is out of range for 2 axes"),
        (lambda xp, x: xp.sum(x, axis=(0, -2)), ValueError, "sum: axes must differ"),
        (lambda xp, x: xp.sum(x, axis=1.0), TypeError, "sum expects an integer axis; got 1.0"),
        (lambda xp, x: xp.mean(xp.asarray([1])), TypeError, r"mean expects a floating Tensor; got dtype int64"),
        (lambda xp, x: xp.squeeze(x, 0), ValueError, r"axes of length 1; got axis 0 of shape \(2, 3\)"),
        (lambda xp, x: xp.concat([]), ValueError, "concat expects at least one array"),
        (lambda xp, x: xp.moveaxis(x, (0, 1), 0), ValueError, "as many sources as destinations"),
        (lambda xp, x: xp.take(x, xp.asarray([0])), ValueError, "take needs an axis for 2 axes"),
        (lambda xp, x: xp.cumulative_sum(x), ValueError, "cumulative_sum needs an axis for 2 axes"),
        (lambda xp, x: xp.matrix_transpose(x[0]), ValueError, r"at least 2 axes; got shape \(3,\)"),
        (lambda xp, x: xp.reshape(x, (4,)), ValueError, r"reshape: .*float32\[2, 3\]"),
        (lambda xp, x: xp.reshape(x.T, (6,), copy=False), ValueError, "needs a copy; copy is False"),
        (lambda xp, x: xp.permute_dims(x, (0, 0)), ValueError, "permute_dims: "),
        (lambda xp, x: xp.vecdot(x, xp.ones(2)), ValueError, "vecdot expects equal lengths along axis -1"),
        (lambda xp, x: xp.tensordot(x, x, axes=3), ValueError, "tensordot expects 0 <= axes <= 2; got 3"),
        (lambda xp, x: xp.tensordot(x, x, axes=1), ValueError, "equal lengths along the paired axes"),
        (lambda xp, x: xp.diff(x, n=-1), ValueError, "diff expects n >= 0; got -1"),
        (lambda xp, x: xp.expand_dims(x, axis=4), IndexError, "expand_dims: axis 4 is out of range"),
        (lambda xp, x: xp.take_along_axis(x, xp.asarray([0])), ValueError, "indices with 2 axes like x"),
        (lambda xp, x: xp.broadcast_to(x, (3, 3)), ValueError, "broadcast_to: "),
    ],
    ids=range(20),
)
def test_errors_say_what_was_expected(xp, call, error, text):
    with pytest.raises(error, match=text):
        call(xp, xp.ones((2, 3)))
