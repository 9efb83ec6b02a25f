"""The NumPy backend: memory shared, half precision computed in single, and fast paths that agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyxp import dtypes
from tinyxp.backend import get_backend
from tinyxp_numpy import _blas, _extras, _namespace

NUMPY = get_backend("numpy")
XP = NUMPY.xp
CPU = NUMPY.device()


def test_bytes_are_shared_both_ways():
    data = bytearray(np.arange(4.0).tobytes())
    x = NUMPY.from_buffer(memoryview(data), dtypes.dtype("float64"), (2, 2), CPU)
    x[0, 0] = 9.0
    assert np.frombuffer(data)[0] == 9.0
    NUMPY.to_buffer(x)[0:8] = np.float64(7.0).tobytes()
    assert x[0, 0] == 7.0


def test_read_only_bytes_stay_read_only():
    x = NUMPY.from_buffer(memoryview(bytes(8)), dtypes.dtype("float64"), (1,), CPU)
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1.0


def test_scalar_classes_and_aliases_are_dtypes():
    for name in ("float32", "int64", "bool", "complex64"):
        assert dtypes.dtype(getattr(np, name)) is dtypes.dtype(name)
    assert dtypes.dtype(np.dtype("q")) is dtypes.dtype(np.dtype("l")) is dtypes.dtype("int64")


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_reduced_in_single(name):
    d = NUMPY.native_dtype(dtypes.dtype(name))
    x = np.ones(4097, d)
    for function in (XP.sum, XP.mean, XP.prod):
        assert function(x).dtype == d
    assert float(XP.sum(x)) == float(np.float32(4097).astype(d))
    assert float(XP.mean(x)) == 1.0
    assert XP.sum(np.ones((2, 3), d), axis=0, keepdims=True).shape == (1, 3)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_multiplied_in_single(name):
    d = NUMPY.native_dtype(dtypes.dtype(name))
    x = np.full((2, 4097), 1.0, d)
    for got in (XP.matmul(x, x.T), XP.vecdot(x, x)):
        assert got.dtype == d
        assert np.all(got == np.float32(4097).astype(d))


@given(
    seed=st.integers(0, 1000), axis=st.sampled_from([None, 0, -1, (0, 2)]), keepdims=st.booleans()
)
def test_short_reductions_are_numpys(seed, axis, keepdims):
    x = np.random.default_rng(seed).integers(-5, 5, (2, 3, 4))
    for x_ in (x, x.astype(np.float32), x.astype(np.int8)):
        for name in ("sum", "prod", "max", "min", "mean"):
            got = getattr(XP, name)(x_, axis=axis, keepdims=keepdims)
            want = getattr(np, name)(x_, axis=axis, keepdims=keepdims)
            np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3, (0, 2)])
def test_expand_dims_is_numpys(axis):
    x = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(
        XP.expand_dims(x, axis=axis), np.expand_dims(x, axis), strict=True
    )
    assert np.shares_memory(XP.expand_dims(x, axis=axis), x)


def test_the_only_device_is_the_cpu():
    with pytest.raises(ValueError, match="only device is 'cpu'; got 'cuda'"):
        XP.zeros_like(np.zeros(2), device="cuda")


# Both ways of summing a segment, around the size at which one takes over from the other.
@pytest.mark.parametrize("width", [1, 64, 4000])
def test_long_and_short_segments_are_summed_alike(width):
    random = np.random.default_rng(width)
    values, indices = random.normal(size=(60, width)), random.integers(0, 7, 60)
    want = np.zeros((9, width))
    np.add.at(want, indices, values)
    np.testing.assert_allclose(_extras.segment_sum(values, indices, 9), want, rtol=0, atol=1e-13)


def test_blas_and_its_threads_are_described():
    facts = NUMPY.describe()
    assert facts["numpy"] == np.__version__
    assert facts["threads"] == "unknown" or int(facts["threads"]) >= 1


def test_a_blas_that_cannot_be_asked_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setattr(_blas, "_function", lambda _verb: None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert _blas.describe()["threads"] == "3"
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert _blas.describe()["threads"] == "unknown"


def test_elementwise_functions_are_the_bare_ufuncs():
    bare = [
        n for n in ("add", "multiply", "exp", "maximum") if isinstance(getattr(XP, n), np.ufunc)
    ]
    assert bare == ["add", "multiply", "exp", "maximum"]


def test_without_scipy_erf_is_tinyxps(monkeypatch):
    import tinyxp_numpy

    monkeypatch.setattr(tinyxp_numpy, "_special", lambda: None)
    np.testing.assert_allclose(NUMPY.erf(np.array([0.5])), [0.5204998778130465], rtol=1e-15)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tinyxp\[special\]'"):
        NUMPY.special("gammaln")


def test_the_namespace_is_complete_without_repairs():
    namespace = _namespace.build()
    assert not [n for n in ("unstack", "cumulative_sum", "isin") if not hasattr(namespace, n)]
