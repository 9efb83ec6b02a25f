"""Dtype objects: what they equal, how they promote, and their limits."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

import tinyxp
from tinyxp import _standard, dtypes
from tinyxp.errors import DTypeError

NAMES = _standard.DTYPES
KINDS = {
    "b": "bool",
    "i": "signed integer",
    "u": "unsigned integer",
    "f": "real floating",
    "c": "complex floating",
}


@pytest.fixture(autouse=True, scope="module")
def _numpy():
    """NumPy's dtypes are known once its backend is loaded."""
    tinyxp.get_backend("numpy")


@pytest.mark.parametrize("name", [*NAMES, "float16"])
def test_they_equal_and_hash_like_those_of_numpy(name):
    d = getattr(tinyxp, name)
    native = np.dtype(name)
    assert d == name
    assert d == native
    assert native == d
    assert d == getattr(np, name)
    assert hash(d) == hash(native)
    assert {d: 1}[native] == {native: 1}[d] == 1
    assert np.dtype(d) == native
    assert np.zeros(1, dtype=d).dtype == native
    assert (d.kind, d.itemsize, str(d), repr(d)) == (
        native.kind,
        native.itemsize,
        name,
        f"tinyxp.{name}",
    )


def test_each_equals_itself_alone():
    all_of_them = [*NAMES, "float16", "bfloat16"]
    for a, b in product(all_of_them, all_of_them):
        assert (getattr(tinyxp, a) == getattr(tinyxp, b)) is (a == b)
        assert (getattr(tinyxp, a) != b) is (a != b)
    for other in (None, 3, "float31", object(), [], str):
        assert tinyxp.int64 != other


def test_equal_dtypes_of_numpy_under_other_names():
    """NumPy has two classes for 64-bit integers."""
    for code in ("l", "q", "int_", "longlong"):
        if np.dtype(code).itemsize == 8:
            assert tinyxp.int64 == np.dtype(code)
            assert tinyxp.asarray(np.zeros(1, code)).dtype is tinyxp.int64


def test_they_are_known_before_any_array_is_made():
    """In a process that has not used NumPy's backend yet."""
    code = (
        "import numpy as np, tinyxp as xp; d = np.dtype('int64')\n"
        "assert xp.int64 == d and d == xp.int64 and xp.int64 != np.dtype('int8') and hash(xp.int64) == hash(d)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import numpy as np, tinyxp as xp; assert xp.dtype(np.float32) is xp.dtype(np.dtype('float32')) is xp.float32"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_byte_orders_are_none_of_ours():
    assert tinyxp.int64 != np.dtype("int64").newbyteorder()


def test_they_equal_those_of_torch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    tinyxp.get_backend("torch")
    for name in (
        "bool",
        "int8",
        "int64",
        "uint8",
        "float32",
        "float64",
        "complex64",
        "float16",
        "bfloat16",
    ):
        assert getattr(tinyxp, name) == getattr(torch, name)
        assert dtypes.dtype(getattr(torch, name)) is getattr(tinyxp, name)
    assert tinyxp.float32 != torch.float64


def test_they_equal_those_of_the_backend(xp, backend):
    for name, native in backend.native_dtypes.items():
        assert dtypes.dtype(native) is getattr(xp, name)
        if name in NAMES:
            assert xp.ones(1, dtype=name).dtype is getattr(xp, name)


def test_a_dtype_that_the_host_library_lacks_has_a_hash(monkeypatch):
    def missing(d):
        raise DTypeError(f"no dtype {d}")

    monkeypatch.setattr(dtypes, "_host_dtype", missing)
    assert len({tinyxp.bfloat16, tinyxp.bfloat16, tinyxp.float32}) == 2


def test_there_is_one_object_for_each():
    for name in NAMES:
        d = getattr(tinyxp, name)
        assert pickle.loads(pickle.dumps(d)) is d
        assert copy.deepcopy(d) is d
        assert tinyxp.dtype(name) is tinyxp.dtype(np.dtype(name)) is tinyxp.dtype(d) is d


def test_pythons_types_are_names_of_dtypes():
    """They mean what they mean to NumPy."""
    for kind in (bool, int, float, complex):
        assert tinyxp.dtype(kind) == np.dtype(kind)


def test_unknown_dtypes():
    with pytest.raises(DTypeError, match=r"no dtype 'float31'; tinyxp has bool, int8"):
        tinyxp.dtype("float31")
    with pytest.raises(DTypeError, match="no dtype dtype\\('O'\\)"):
        tinyxp.dtype(np.dtype("O"))


# ---------------------------------------------------------------- promotion
def test_promotion_is_numpys_where_the_standard_has_a_result():
    for a, b in product(NAMES, NAMES):
        x, y = np.dtype(a), np.dtype(b)
        kinds = {x.kind, y.kind}
        if kinds == {"i", "u"} and np.result_type(x, y).kind == "f":
            with pytest.raises(DTypeError, match="no common integer dtype"):
                tinyxp.result_type(x, y)
        elif len(kinds) == 1 or kinds <= set("iu") or kinds <= set("fc"):
            assert tinyxp.result_type(a, b) == np.result_type(a, b)


def test_promotion_is_a_join():
    """Commutative, associative where defined, and idempotent; also with the half precisions."""
    names = [*NAMES, "float16", "bfloat16"]
    for a, b in product(names, names):
        try:
            ab = tinyxp.result_type(a, b)
        except DTypeError:
            continue
        assert tinyxp.result_type(b, a) is ab
        assert tinyxp.result_type(a, ab) is tinyxp.result_type(ab, b) is ab
        assert tinyxp.can_cast(a, ab)
        assert tinyxp.can_cast(b, ab)
    assert tinyxp.result_type("float16", "bfloat16") is tinyxp.float32
    assert tinyxp.result_type("int8", "float16") is tinyxp.float16


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("float32", 1), "float32"), (("float64", 1.5), "float64"), (("int8", 1.5), "float32"),
        (("int8", 1), "int8"), (("float64", 1j), "complex128"), (("bool", 1), "int64"), (("int8", True), "int8"),
        ((1.5, "int8", "int16"), "float32"), (("float32",), "float32"), (("float16", 1j), "complex64"),
    ],
)  # fmt: skip
def test_result_type_with_numbers(arguments, expected):
    arguments = tuple(tinyxp.dtype(a) if isinstance(a, str) else a for a in arguments)
    assert tinyxp.result_type(*arguments) == expected


def test_result_type_of_tensors(xp):
    assert xp.result_type(xp.ones(1), xp.float64, 1) == xp.float64
    assert xp.result_type(1, 2.0) == xp.get_default_dtype()
    assert xp.result_type(True, 2) == xp.int64
    with pytest.raises(DTypeError, match="at least one Tensor, dtype or number; got none"):
        xp.result_type()


def test_can_cast_follows_promotion(xp):
    for a, b in product(NAMES, NAMES):
        kinds = {np.dtype(a).kind, np.dtype(b).kind}
        if len(kinds) == 1 or kinds == {"f", "c"}:
            assert xp.can_cast(a, b) == np.can_cast(a, b), (a, b)
    assert xp.can_cast(xp.ones(1), "float64")
    assert not xp.can_cast(xp.ones(1), "int64")


def test_isdtype(xp):
    for name in NAMES:
        d, kind = getattr(xp, name), KINDS[np.dtype(name).kind]
        assert xp.isdtype(d, d)
        for k in KINDS.values():
            assert xp.isdtype(d, k) is (k == kind)
        assert xp.isdtype(d, "integral") is (kind.endswith("integer"))
        assert xp.isdtype(d, "numeric") is (kind != "bool")
        assert xp.isdtype(d, (kind, "bool"))
        assert not xp.isdtype(d, ())
    with pytest.raises(ValueError, match=r"isdtype knows the kinds bool, .*; got 'float'"):
        xp.isdtype(xp.float32, "float")


# ---------------------------------------------------------------- limits
@pytest.mark.parametrize("name", ["float16", "float32", "float64", "complex64", "complex128"])
def test_finfo_is_numpys_in_python_numbers(name):
    ours, theirs = tinyxp.finfo(getattr(tinyxp, name)), np.finfo(name)
    for attribute in ("eps", "max", "min", "smallest_normal"):
        value = getattr(ours, attribute)
        assert type(value) is float
        assert value == float(getattr(theirs, attribute))
    assert ours.bits == theirs.bits
    assert ours.dtype == theirs.dtype


def test_finfo_of_bfloat16_is_that_of_torch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, theirs = tinyxp.finfo(tinyxp.bfloat16), torch.finfo(torch.bfloat16)
    assert (ours.bits, ours.eps, ours.max, ours.min, ours.smallest_normal) == (
        theirs.bits, theirs.eps, theirs.max, theirs.min, theirs.smallest_normal,
    )  # fmt: skip


@pytest.mark.parametrize("name", [n for n in NAMES if np.dtype(n).kind in "iu"])
def test_iinfo_is_numpys_in_python_numbers(name):
    ours, theirs = tinyxp.iinfo(getattr(tinyxp, name)), np.iinfo(name)
    assert (ours.bits, ours.max, ours.min) == (theirs.bits, theirs.max, theirs.min)
    assert type(ours.max) is int
    assert ours.dtype == name


def test_limits_of_tensors_and_of_the_wrong_kind(xp):
    assert xp.finfo(xp.ones(1)).bits == 32
    assert xp.iinfo(xp.ones(1, dtype="int8")).max == 127
    with pytest.raises(DTypeError, match="finfo expects a floating dtype; got int8"):
        xp.finfo(xp.int8)
    with pytest.raises(DTypeError, match="iinfo expects an integer dtype; got float32"):
        xp.iinfo(xp.float32)


# ---------------------------------------------------------------- casts
def test_astype(xp):
    x = xp.asarray([1.75, -2.5])
    for name in NAMES:
        y = xp.astype(x, name) if np.dtype(name).kind != "u" else xp.astype(xp.abs(x), name)
        assert y.dtype == name
        expected = np.abs([1.75, -2.5]) if np.dtype(name).kind == "u" else np.asarray([1.75, -2.5])
        assert y.tolist() == expected.astype(name).tolist()
    assert xp.astype(x, x.dtype, copy=False) is x
    assert xp.astype(x, x.dtype) is not x
    with pytest.raises(
        DTypeError,
        match=r"from complex64 to float32 would drop the imaginary part; use xp.real\(x\)",
    ):
        xp.astype(xp.asarray([1j]), "float32")
    assert xp.astype(xp.asarray([1j, 0j]), "bool").tolist() == [True, False]


def test_default_dtypes_are_reported(xp):
    info = xp.__array_namespace_info__()
    assert info.default_dtypes() == {
        "real floating": xp.float32, "complex floating": xp.complex64, "integral": xp.int64, "indexing": xp.int64,
    }  # fmt: skip
    with xp.default_dtype("float64"):
        assert info.default_dtypes()["complex floating"] == xp.complex128
    assert set(info.dtypes(kind="integral")) <= {n for n in NAMES if "int" in n}
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", "float32", "float64"}
