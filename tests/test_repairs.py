"""Corrections of libraries: what the standard prescribes, and nothing else changed."""

from __future__ import annotations

import itertools
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
