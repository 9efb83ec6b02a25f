"""Values of the namespace's functions against NumPy, empty and 0-d arrays included."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyxp import _standard

host = pytest.importorskip("array_api_compat.numpy", reason="compares with NumPy")

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
    return draw(
        hnp.arrays(dtype, shapes(least, most) if shape is None else shape, elements=elements(dtype))
    )


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
    index = hnp.arrays(
        "int64",
        hnp.array_shapes(min_dims=1, max_dims=1, min_side=0),
        elements=st.integers(0, x.shape[axis] - 1),
    )
    return (x, draw(index)), {"axis": axis}


def take_along_axis(draw):
    x = draw(arrays(ANY, least=1))
    axis = one_axis(draw, x)
    assume(x.shape[axis])
    shape = list(x.shape)
    shape[axis] = draw(st.integers(0, 4))
    return (
        x,
        draw(hnp.arrays("int64", tuple(shape), elements=st.integers(0, x.shape[axis] - 1))),
    ), {"axis": axis}


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
        st.sampled_from(
            [
                ((k,), (k,)),
                ((m, k), (k,)),
                ((k,), (k, n)),
                ((m, k), (k, n)),
                ((2, m, k), (k, n)),
                ((2, 1, m, k), (3, k, n)),
            ]
        )
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
PYTORCH_SUMS = [
    "sum",
    "prod",
    "cumulative_sum",
    "cumulative_prod",
]  # small unsigned integers in int64
COMPARED = {
    **{("torch", n): lambda x, **_: x.dtype != np.uint8 for n in PYTORCH_SUMS},
    **{
        ("torch", n): lambda x, **k: (
            x.size and k["correction"] in (0, 1) and elements_per_result(x, **k) > 1
        )
        for n in ("var", "std")
    },
    ("torch", "count_nonzero"): lambda _x, axis, **_: axis != (),  # means all axes there
    **{
        ("torch", f"unique_{n}"): lambda x, **_: x.dtype.kind != "c"
        for n in "all counts inverse values".split()
    },
    ("torch", "floor_divide"): lambda _x, y: np.all(
        y
    ),  # an integer divided by zero is an error there
    ("torch", "remainder"): lambda _x, y: np.all(y),
    ("torch", "pow"): lambda x, _y: np.all(x),  # 0j ** 0j is NaN there
    **{
        ("cupy", n): lambda x, **_: x.size for n in ("argmax", "argmin", "max", "min")
    },  # of nothing: no error
    ("cupy", "nextafter"): lambda x, _y: np.all(x),  # subnormal float32 numbers are 0 there
    ("cupy", "log2"): np.all,  # of 0j: a NaN as imaginary part
    **{  # of complex numbers: a kernel that the emulator cannot compile
        ("cupy", n): lambda x, **_: x.dtype.kind != "c"
        for n in ("cumulative_sum", "cumulative_prod")
    },
}


def is_compared(xp, name, args, kwargs):
    return COMPARED.get((xp.get_default_device().backend.name, name), lambda *_a, **_k: True)(
        *args, **kwargs
    )


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
@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])
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
    strict = pytest.importorskip("array_api_strict", reason="compares with the referee")
    function = getattr(xp, name)
    x = data.draw(
        arrays({"logical": ["bool"], "imag": ["complex128"]}.get(name.partition("_")[0], ANY))
    )
    args = [x]
    if len(inspect.signature(function).parameters) == 2:
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


@pytest.mark.parametrize("shape", [(0, 0), (3, 0, 0), (0, 2, 2), (2, 2)])
@pytest.mark.parametrize(("real", "wide"), [("float32", "complex64"), ("float64", "complex128")])
def test_eigenvalues_of_real_matrices_are_complex_also_where_there_are_none(xp, shape, real, wide):
    values, vectors = xp.linalg.eig(xp.ones(shape, dtype=real))
    assert values.dtype == vectors.dtype == wide
    assert values.shape == shape[:-1]
