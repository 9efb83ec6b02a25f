"""Unsigned integers, of which some libraries store the wide ones but hardly compute with them."""

from __future__ import annotations

import numpy as np
import pytest

WIDE = ["uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod"])
def test_sums_and_products_are_of_uint64(xp, name, dtype):
    values = np.array([3, np.iinfo(dtype).max, 2, np.iinfo(dtype).max // 2], dtype)
    got = getattr(xp, name)(xp.asarray(values))
    want = getattr(np, name)(values, dtype="uint64")
    assert got.dtype == xp.uint64
    np.testing.assert_array_equal(got.to("cpu").numpy(), want)


@pytest.mark.parametrize("dtype", WIDE)
def test_a_dtype_may_be_asked_for(xp, dtype):
    values = np.array([[3, 200], [100, 7]], "uint8")
    got = xp.sum(xp.asarray(values), axis=1, dtype=dtype, keepdims=True)
    assert got.dtype == getattr(xp, dtype)
    np.testing.assert_array_equal(
        got.to("cpu").numpy(), values.sum(axis=1, dtype=dtype, keepdims=True)
    )


@pytest.mark.parametrize("dtype", WIDE)
def test_writes(xp, dtype):
    want = np.zeros(6, dtype)
    got = xp.asarray(want, copy=True)
    top = int(np.iinfo(dtype).max)
    mask = np.array([True, False, False, False, False, True])
    want[mask], got[xp.asarray(mask)] = top, top
    want[1:3], got[1:3] = np.uint8(7), xp.asarray([7], dtype="uint8")
    want[[3, 3]], got[xp.asarray([3, 3])] = [1, 2], xp.asarray([1, 2], dtype=dtype)
    want[4], got[4] = want[0], got[0]
    np.testing.assert_array_equal(got.to("cpu").numpy(), want)


@pytest.mark.parametrize("dtype", WIDE)
def test_elements_are_python_numbers(xp, dtype):
    top = int(np.iinfo(dtype).max)
    x = xp.asarray([top, 0, 1], dtype=dtype)
    assert int(x[0]) == x[0].item() == top
    assert (bool(x[0]), bool(x[1])) == (True, False)
    assert "abc"[x[2]] == "b"
