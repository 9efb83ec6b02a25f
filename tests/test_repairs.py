"""Corrections of libraries: what the standard prescribes, and nothing else changed."""

from __future__ import annotations

import itertools
import math
from functools import partial
from math import inf, nan
from types import SimpleNamespace

import numpy as np
import pytest

import tinyxp
from tinyxp import dtypes, repairs
from tinyxp.errors import DTypeError

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")


def repaired(name, library=None):
    """The repair `name` over NumPy's own function, or over `library`."""
    host = tinyxp.device("cpu").xp
    namespace = SimpleNamespace(**vars(host))
    setattr(namespace, name, library or getattr(np, name))
    repairs.apply(name, namespace)
    return getattr(namespace, name)


def same(got, want):
    """Equal, NaN to NaN, and zeros with their signs."""
    parts = (
        [(got.real, want.real), (got.imag, want.imag)] if np.iscomplexobj(want) else [(got, want)]
    )
    for g, w in parts:
        np.testing.assert_array_equal(g, w)
        np.testing.assert_array_equal(np.signbit(g)[w == 0], np.signbit(w)[w == 0])


# ---------------------------------------------------------------- floor_divide
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floor_divide_at_infinity_is_the_quotient(dtype):
    table = [
        (inf, 2.0, inf), (inf, -2.0, -inf), (-inf, 2.0, -inf), (-inf, -2.0, inf),
        (3.0, inf, 0.0), (3.0, -inf, -0.0), (-3.0, inf, -0.0), (-3.0, -inf, 0.0), (0.0, -inf, -0.0),
        (inf, inf, nan), (-inf, inf, nan), (nan, inf, nan), (inf, nan, nan), (0.0, 0.0, nan),
        (inf, 0.0, inf), (-inf, 0.0, -inf), (7.0, 2.0, 3.0), (-7.0, 2.0, -4.0), (-0.0, 2.0, -0.0),
    ]  # fmt: skip
    x, y, want = np.array(table, dtype).T
    same(repaired("floor_divide")(x, y), want)


def test_floor_divide_takes_numbers_and_leaves_integers():
    f = repaired("floor_divide")
    same(f(np.array([inf, 5.0]), 2.0), np.array([inf, 2.0]))
    same(f(-1.0, np.array([inf, 2.0])), np.array([-0.0, -1.0]))
    same(f(np.array([7, -7]), np.array([2, 2])), np.array([3, -4]))


# ---------------------------------------------------------------- remainder
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_remainder_is_numpys(dtype):
    """Over a library with every fault that is repaired: zeros of x1's sign, NaN for infinite divisors."""

    def faulty(x, y):
        out = np.remainder(x, y)
        out = np.where(out == 0, np.copysign(0, x), out)
        return np.where(np.isinf(y), nan, out).astype(out.dtype)

    values = np.array([inf, -inf, nan, 0.0, -0.0, 1.0, -1.0, 2.5, -7.0, 4.0, -2.0], dtype)
    x, y = np.meshgrid(values, values)
    same(repaired("remainder", faulty)(x, y), np.remainder(x, y))


def test_remainder_takes_numbers_and_leaves_integers():
    f = repaired("remainder")
    same(f(np.array([-0.0, 5.0]), 2.0), np.array([0.0, 1.0]))
    same(f(-1.0, np.array([inf, 2.0])), np.array([inf, 1.0]))
    same(f(np.array([7, -7]), np.array([2, 2])), np.array([1, 1]))


# ---------------------------------------------------------------- shifts
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("name", ["bitwise_left_shift", "bitwise_right_shift"])
def test_shifts_are_numpys(name, dtype):
    """Over a library that shifts as x86 does: by the remainder of the width."""
    width, shift = 8 * np.dtype(dtype).itemsize, getattr(np, name)

    def faulty(x, y):
        return shift(x, np.asarray(y, dtype) % np.asarray(width, dtype))

    values = [0, 1, 5, width // 2, width - 1, width, width + 1, 2 * width - 1]
    negative = [-1, -7] if dtype[0] == "i" else [np.iinfo(dtype).max]
    x, y = np.array(values + negative, dtype)[:, None], np.array(values[:-1], dtype)
    same(repaired(name, faulty)(x, y), shift(x, y))
    same(repaired(name, faulty)(x, width), shift(x, np.asarray(width, dtype)))


# ---------------------------------------------------------------- complex functions against NumPy's
SPECIAL = [inf, -inf, nan, 0.0, -0.0, 1.0, -1.5]
GRID = np.array([complex(a, b) for a, b in itertools.product(SPECIAL, repeat=2)])


def planted(name, wrong, value):
    """NumPy's function `name`, with `value` where `wrong` says so of the argument."""

    def faulty(z):
        return np.where(wrong(z), value, getattr(np, name)(z))

    return faulty


def one_infinite(z):
    a, b = np.real(z), np.imag(z)
    return (np.isinf(a) & np.isnan(b)) | (np.isnan(a) & np.isinf(b))


@pytest.mark.parametrize(
    ("name", "wrong", "value"),
    [
        ("log", lambda z: (z == 0) & np.signbit(z.real), complex(-inf, 0.0)),
        ("log", one_infinite, complex(nan, nan)),
        ("log1p", one_infinite, complex(nan, nan)),
        ("acosh", lambda z: (z.real == 0) & np.isnan(z.imag), complex(nan, nan)),
        ("tanh", lambda z: (z.real == 0) & ~np.isfinite(z.imag), complex(nan, nan)),
    ],
)
def test_faults_that_were_found_are_mended(name, wrong, value):
    assert np.any(wrong(GRID))
    numpys = {"acosh": "arccosh"}.get(name, name)
    right = getattr(np, numpys)(GRID)
    if (
        name == "acosh"
    ):  # of a zero and NaN i, where older releases of NumPy deviate from the standard too
        right[wrong(GRID)] = complex(nan, math.pi / 2)
    same(repaired(name, planted(numpys, wrong, value))(GRID), right)


def test_acos_has_the_other_sign_in_the_imaginary_part():
    z = GRID[~np.isnan(GRID)]
    same(repaired("acos", lambda x: np.conj(np.arccos(x)))(z), np.arccos(z))


# ---------------------------------------------------------------- complex expm1 and tanh
EXPM1 = {
    complex(0.0, 0.0): complex(0.0, 0.0), complex(-0.0, 0.0): complex(0.0, 0.0),
    complex(inf, 0.0): complex(inf, 0.0), complex(nan, 0.0): complex(nan, 0.0),
    complex(-inf, inf): complex(-1.0, 0.0), complex(-inf, nan): complex(-1.0, 0.0),
    complex(inf, inf): complex(inf, nan), complex(inf, nan): complex(inf, nan),
    complex(1.0, inf): complex(nan, nan), complex(1.0, nan): complex(nan, nan),
    complex(nan, 1.0): complex(nan, nan), complex(nan, nan): complex(nan, nan),
}  # fmt: skip
TANH = {
    complex(0.0, 0.0): complex(0.0, 0.0), complex(inf, 1.0): complex(1.0, 0.0), complex(inf, 2.0): complex(1.0, 0.0),
    complex(inf, 0.0): complex(1.0, 0.0), complex(nan, 0.0): complex(nan, 0.0), complex(nan, nan): complex(nan, nan),
    complex(1.0, inf): complex(nan, nan), complex(1.0, nan): complex(nan, nan),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize(("name", "table"), [("expm1", EXPM1), ("tanh", TANH)])
def test_complex_special_cases(name, table, dtype):
    z = np.array([*table], dtype)
    same(repaired(name)(z), np.array([*table.values()], dtype))


@pytest.mark.parametrize(("name", "table"), [("expm1", EXPM1), ("tanh", TANH)])
def test_conjugates_give_conjugates(name, table):
    z = np.array([k for k in table if k.imag == k.imag])
    f = repaired(name)
    same(f(np.conj(z)), np.conj(f(z)))


def test_tanh_is_odd_at_infinity():
    z = np.array([complex(inf, 1.0), complex(inf, -2.0)])
    same(repaired("tanh")(-z), -repaired("tanh")(z))


def test_the_sign_of_every_complex_zero_is_zero():
    z = np.array([complex(-0.0, 0.0), complex(0.0, -0.0), complex(-0.0, -0.0), 3 - 4j])
    same(repaired("sign")(z), np.array([0j, 0j, 0j, 0.6 - 0.8j]))


@pytest.mark.parametrize("name", ["expm1", "tanh"])
def test_finite_arguments_are_the_librarys(name):
    random = np.random.default_rng(0)
    z = random.normal(size=50) + 1j * random.normal(size=50)
    np.testing.assert_array_equal(repaired(name)(z), getattr(np, name)(z))
    x = np.array([-inf, -0.0, 1.5, inf, nan])
    same(repaired(name)(x), getattr(np, name)(x))


def test_unique_all_of_complex_numbers():
    """Sorted by two sorts of real numbers, for libraries that sort no others."""

    def argsort(x, *, stable=False):
        assert x.dtype.kind != "c"
        return np.argsort(x, stable=True)

    namespace = SimpleNamespace(**{**vars(tinyxp.device("cpu").xp), "argsort": argsort})
    repairs.apply("unique_all", namespace)
    x = np.array([1 + 1j, 1, 1j, 1 + 1j, 1, 0, complex(1, nan), complex(1, nan)])
    got = namespace.unique_all(x)
    np.testing.assert_array_equal(got.values, [0, 1j, 1, 1 + 1j, complex(1, nan), complex(1, nan)])
    np.testing.assert_array_equal(got.counts, [1, 1, 2, 2, 1, 1])
    np.testing.assert_array_equal(got.indices, [5, 2, 1, 0, 6, 7])
    np.testing.assert_array_equal(got.values[got.inverse_indices], x)


# ---------------------------------------------------------------- can_cast, isin, unique_all
def test_can_cast_is_the_promotion_table():
    def refused(*_):
        raise AssertionError

    can_cast = repaired("can_cast", refused)
    for a, b in itertools.product(dtypes.type_names.values(), repeat=2):
        if "bfloat16" in {a.name, b.name} or "b" in {a.kind, b.kind}:
            continue
        want = np.can_cast(np.dtype(a.name), np.dtype(b.name), "safe")
        if a.kind in "iu" and b.kind in "fc":
            continue  # NumPy's table asks for the size, the standard leaves it open
        assert can_cast(a, b) == want, (a, b)
    assert can_cast(np.ones(2, np.float32), np.float64)
    assert not can_cast(np.float64, np.float32)


def test_isin_inverts_for_a_library_that_forgets_to():
    isin = repaired("isin", partial(np.isin))
    x, y = np.array([1, 2, 3]), np.array([2])
    np.testing.assert_array_equal(isin(x, y), [False, True, False])
    np.testing.assert_array_equal(isin(x, y, invert=True), [True, False, True])


@pytest.mark.parametrize("shape", [(12,), (3, 4), (1,), (0,), ()])
def test_unique_all_is_numpys(shape):
    x = np.random.default_rng(0).integers(0, 4, shape)
    got = repaired("unique_all", lambda _: None)(x)
    want = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    assert got._fields == ("values", "indices", "inverse_indices", "counts")
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def test_unique_all_counts_every_nan_by_itself():
    got = repaired("unique_all", lambda _: None)(np.array([nan, 1.0, nan, 1.0]))
    np.testing.assert_array_equal(got.values, [1.0, nan, nan])
    np.testing.assert_array_equal(got.counts, [2, 1, 1])
    np.testing.assert_array_equal(got.inverse_indices, [1, 0, 2, 0])


# ---------------------------------------------------------------- applying
def test_every_repair_names_a_function_of_the_standard():
    assert set(repairs.REPAIRS) <= set(tinyxp._standard.FUNCTIONS)


def test_backends_name_repairs_that_exist(backend):
    assert backend.repairs <= set(repairs.REPAIRS)


def test_an_error_of_the_repair_is_not_hidden():
    with pytest.raises(DTypeError, match="no dtype"):
        repaired("can_cast", None)("float33", "float64")
