"""The namespace: its names, signatures, classes, what it creates and what it refuses."""

from __future__ import annotations

import inspect
import math
import warnings

import numpy as np
import pytest

from tinyxp import _standard
from tinyxp.autograd import _classes

host = pytest.importorskip("array_api_compat.numpy", reason="compares with NumPy")
FUNCTIONS = sorted(set(_standard.FUNCTIONS))


# ---------------------------------------------------------------- names and signatures
def test_every_name_of_the_standard_is_there(xp):
    names = [
        *FUNCTIONS,
        *_standard.DTYPES,
        *_standard.CONSTANTS,
        "linalg",
        "fft",
        "__array_namespace_info__",
    ]
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
    strict = pytest.importorskip("array_api_strict", reason="compares with the referee")
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
                assert str(x) == str(y) or parameter in OTHER_DEFAULTS.get(name, ()), (
                    name,
                    parameter,
                )
            compared += 1
    assert compared > 0.9 * len(names)


NO_DERIVATIVE = set(_classes.reasons())
COMPOSITE = {n for n in _classes.COMPOSITE if "." not in n}


FLOAT_ARGUMENTS = {
    "diff": lambda xp, x: xp.diff(x), "tile": lambda xp, x: xp.tile(x, (2,)),
    "moveaxis": lambda xp, x: xp.moveaxis(x, 0, -1), "squeeze": lambda xp, x: xp.squeeze(x, ()),
    "tensordot": lambda xp, x: xp.tensordot(x, x, axes=1), "vecdot": lambda xp, x: xp.vecdot(x, x),
    "unique_all": lambda xp, x: xp.unique_all(x).values, "unstack": lambda xp, x: xp.unstack(x)[0],
    "full": lambda xp, x: xp.full(2, x[0, 0]), "full_like": lambda xp, x: xp.full_like(x, x[0, 0]),
    "arange": lambda xp, x: xp.arange(x[0, 0], 3.0), "linspace": lambda xp, x: xp.linspace(x[0, 0], 1.0, 3),
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


# ---------------------------------------------------------------- creation and errors
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
    ids=range(27),
)  # fmt: skip
def test_creation(xp, call, expected):
    found = call(xp)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.skip_backend("cupy", reason="cupy.linspace takes real bounds only")
def test_complex_bounds(xp):
    found = xp.linspace(0, 1j, 3)
    assert found.dtype == xp.complex64
    assert found.tolist() == [0j, 0.5j, 1j]


def test_numbers_that_are_tensors_are_differentiated(xp):
    """And change no number: recording, `full` and `arange` give what they give without."""
    o = xp.Tensor(0.3, dtype="float64", requires_grad=True)
    for call in (
        lambda o: xp.full((2, 3), o),
        lambda o: xp.full_like(xp.ones(2, dtype="float32"), o),
        lambda o: xp.arange(o, 4, dtype="float64"),
        lambda o: xp.arange(1.0, 3.0, o, dtype="float64"),
        lambda o: xp.arange(o * 10, dtype="float64"),
    ):
        plain, recorded = call(o.detach()), call(o)
        assert recorded.dtype == plain.dtype
        np.testing.assert_array_equal(recorded.detach().numpy(), plain.numpy())
    assert not xp.arange(o * 10).requires_grad  # the end is a bound, not a value
    (g,) = xp.autograd.grad(xp.sum(xp.arange(1.0, 2.0, o)), [o])
    assert g.item() == pytest.approx(0 + 1 + 2 + 3)
    assert xp.full(2, xp.asarray(1.5, dtype="float64")).dtype == "float64"
    assert xp.full(2, xp.asarray([[3]], dtype="int8"), dtype="float32").tolist() == [3.0, 3.0]
    with pytest.raises(
        ValueError, match=r"full expects a fill_value of one element; got shape \(2,\)"
    ):
        xp.full(2, xp.ones(2))


@pytest.mark.skip_backend("cupy", reason="CuPy computes them, as integers: 2**-1 is 0")
def test_negative_powers_of_integers(xp):
    """Said as what they are, not as a matter of shapes."""
    with pytest.raises(ValueError, match=r"exponents >= 0; got int64\[1\] on .*, -1: make") as e:
        xp.asarray([2]) ** -1
    assert isinstance(e.value, xp.errors.DomainError)


@pytest.mark.parametrize(
    ("shape", "shift", "axis"),
    [((), (), ()), ((), 1, ()), ((), 1, None), ((2, 2), (), ()), ((3, 2), 1, (0, 1)), ((3, 2), (1, -1), (0, 1)),
     ((3, 2), (1, 1), (0, -2)), ((3, 2), 4, 0)],
)  # fmt: skip
def test_roll_takes_every_form_of_axes(xp, shape, shift, axis):
    array = np.arange(math.prod(shape), dtype="float64").reshape(shape)
    x = xp.Tensor(array, requires_grad=True)
    out = xp.roll(x, shift, axis=axis)
    expected = array if axis == () else np.roll(array, shift, axis=axis)
    np.testing.assert_array_equal(out.detach().numpy(), expected)
    (g,) = xp.autograd.grad(xp.sum(out * xp.asarray(expected)), [x])
    np.testing.assert_array_equal(g.numpy(), array)


def test_what_creation_refuses(xp):
    for wrong in (2.5, "a", [1.0], None):
        with pytest.raises(
            ValueError, match="expects an integer or a sequence of integers as shape"
        ):
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
        (
            lambda xp, x: xp.mean(xp.asarray([1])),
            TypeError,
            r"mean expects a floating Tensor; got dtype int64",
        ),
        (
            lambda xp, x: xp.squeeze(x, 0),
            ValueError,
            r"axes of length 1; got axis 0 of shape \(2, 3\)",
        ),
        (lambda xp, x: xp.concat([]), ValueError, "concat expects at least one array"),
        (lambda xp, x: xp.moveaxis(x, (0, 1), 0), ValueError, "as many sources as destinations"),
        (lambda xp, x: xp.take(x, xp.asarray([0])), ValueError, "take needs an axis for 2 axes"),
        (lambda xp, x: xp.cumulative_sum(x), ValueError, "cumulative_sum needs an axis for 2 axes"),
        (lambda xp, x: xp.matrix_transpose(x[0]), ValueError, r"at least 2 axes; got shape \(3,\)"),
        (lambda xp, x: xp.reshape(x, (4,)), ValueError, r"reshape: .*float32\[2, 3\]"),
        (
            lambda xp, x: xp.reshape(x.T, (6,), copy=False),
            ValueError,
            "needs a copy; copy is False",
        ),
        (lambda xp, x: xp.permute_dims(x, (0, 0)), ValueError, "permute_dims: "),
        (
            lambda xp, x: xp.vecdot(x, xp.ones(2)),
            ValueError,
            "vecdot expects equal lengths along axis -1",
        ),
        (
            lambda xp, x: xp.tensordot(x, x, axes=3),
            ValueError,
            "tensordot expects 0 <= axes <= 2; got 3",
        ),
        (
            lambda xp, x: xp.tensordot(x, x, axes=1),
            ValueError,
            "equal lengths along the paired axes",
        ),
        (lambda xp, x: xp.diff(x, n=-1), ValueError, "diff expects n >= 0; got -1"),
        (
            lambda xp, x: xp.expand_dims(x, axis=4),
            IndexError,
            "expand_dims: axis 4 is out of range",
        ),
        (
            lambda xp, x: xp.take_along_axis(x, xp.asarray([0])),
            ValueError,
            "indices with 2 axes like x",
        ),
        (lambda xp, x: xp.broadcast_to(x, (3, 3)), ValueError, "broadcast_to: "),
    ],
    ids=range(20),
)
def test_errors_say_what_was_expected(xp, call, error, text):
    with pytest.raises(error, match=text):
        call(xp, xp.ones((2, 3)))
