"""What SciPy, scikit-learn, array-api-extra and einops need beyond the standard, and what runs on Tensors."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyxp
from tinyxp import consumers
from tinyxp.errors import DTypeError, GradientRequiredError
from tinyxp.testing import gradcheck

ROOT = Path(__file__).parents[1]


# ---------------------------------------------------------------- one by one
@pytest.mark.parametrize(("kind", "name"), consumers.PYTHON_TYPES.items())
def test_python_types_are_dtypes(xp, kind, name):
    assert xp.dtype(kind) is getattr(xp, name)
    assert xp.zeros(2, dtype=kind).dtype == np.dtype(kind)


@pytest.mark.parametrize("options", [{}, {"endpoint": False}, {"dtype": "float64"}])
def test_logspace(xp, options):
    got = xp.logspace(-1.0, 2.0, 5, **options)
    expected = np.logspace(-1.0, 2.0, 5, **options)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_diag(xp, k):
    vector, matrix = np.arange(3.0) + 1, np.arange(12.0).reshape(3, 4)
    for a in (vector, matrix):
        np.testing.assert_array_equal(xp.diag(xp.asarray(a), k=k).numpy(), np.diag(a, k=k))
        gradcheck(lambda x: xp.diag(x, k=k), xp.asarray(a))


def test_view_as_pairs_and_back(xp):
    z = np.asarray([[1 + 2j, 3 - 1j], [0.5j, -2]])
    pairs = xp.asarray(z).view(float)
    np.testing.assert_array_equal(pairs.numpy(), z.view(float))
    np.testing.assert_array_equal(pairs.view(complex).numpy(), z)
    assert pairs.view(xp.float64).shape == pairs.shape
    assert pairs.view(-1).shape == (8,)
    gradcheck(lambda x: xp.asarray(x).view(float), xp.asarray(z))


def test_view_refuses_other_bits(xp):
    with pytest.raises(DTypeError, match="astype converts numbers"):
        xp.ones(2, dtype="float64").view(xp.int64)


@pytest.mark.parametrize("name", tinyxp.dtypes.type_names)
def test_parts_of_a_dtype(name):
    d = tinyxp.dtype(name)
    assert d.real is d.imag is consumers.parts(d)
    if name != "bfloat16":
        assert d.real == np.empty(0, name).real.dtype
        np.testing.assert_equal(d, d)
        with pytest.raises(AssertionError):
            np.testing.assert_equal(d, tinyxp.complex64 if name != "complex64" else tinyxp.bool)


def test_real_and_imaginary_parts_are_attributes(xp):
    z = xp.asarray([1 + 2j])
    assert (z.real.tolist(), z.imag.tolist()) == ([1.0], [2.0])
    assert xp.ones(1).real.tolist() == [1.0]


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min"])
def test_numpy_reduces_tensors_by_their_methods(xp, name):
    x = xp.Tensor([1.0, 2.0, 4.0], requires_grad=True)
    got = getattr(np, name)(x)
    assert isinstance(got, tinyxp.Tensor)
    assert got.requires_grad
    assert got.item() == pytest.approx(getattr(np, name)([1.0, 2.0, 4.0]))
    with pytest.raises(TypeError):
        x.sum(out=x)


class Operator:
    """As SciPy's LinearOperator: it has a dtype, and answers operators itself."""

    dtype = np.dtype("float64")
    __array_ufunc__ = None

    def __rmatmul__(self, other):
        return "mine"


def test_operands_that_answer_themselves(xp):
    assert xp.ones(2) @ Operator() == "mine"
    with pytest.raises(TypeError):
        xp.ones(2) + Operator()


def test_in_place_operators_cast_within_a_kind(xp):
    x = xp.asarray([1, 2], dtype="int32")
    x += xp.asarray([1, 1], dtype="int64")
    assert (x.dtype, x.tolist()) == (xp.int32, [2, 3])
    y = xp.zeros(2, dtype="float32")
    y += xp.ones(2, dtype="float64")
    assert (y.dtype, y.tolist()) == (xp.float32, [1.0, 1.0])
    with pytest.raises(DTypeError):
        x += 0.5


def test_linspace_between_tensors(xp):
    def between(a, b):
        return xp.linspace(a, b, 5)

    a, b = (xp.asarray(v, dtype="float64") for v in (0.3, 1.7))
    np.testing.assert_allclose(between(a, b).numpy(), np.linspace(0.3, 1.7, 5), rtol=1e-15)
    gradcheck(between, a, b)
    single = xp.linspace(np.float32(0.1), np.float32(0.7), 4)
    assert single.dtype == xp.float32
    np.testing.assert_array_equal(
        single.numpy(), np.linspace(np.float32(0.1), np.float32(0.7), 4, dtype="float32")
    )


def test_numbers_can_be_refused(xp):
    x = xp.Tensor(2.0, requires_grad=True)
    assert math.log(x) == math.log(2.0)
    with consumers.refuse_numbers():
        for number in (float, complex, math.log):
            with pytest.raises(GradientRequiredError):
                number(x)
        assert float(x.detach()) == 2.0
        assert int(x) == 2
    assert float(x) == 2.0


def test_masked_factors_leave_no_nan_behind(xp):
    x = xp.Tensor([1.0, math.nan, math.inf], requires_grad=True)
    kept = xp.where(xp.isfinite(x), x * x, 0.0)
    xp.sum(kept).backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0]


# ---------------------------------------------------------------- libraries
def test_einops(xp):
    einops = pytest.importorskip("einops", reason="runs einops")
    consumers.support_einops()
    consumers.support_einops()  # once is enough
    x = xp.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = einops.rearrange(x, "a b -> (b a)")
    assert y.tolist() == [1.0, 3.0, 2.0, 4.0]
    einops.reduce(y, "(a b) -> a", "max", a=2).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert einops.repeat(x, "a b -> a b c", c=3).shape == (2, 2, 3)
    assert einops.einsum(x, x, "a b, a b -> a").tolist() == [5.0, 25.0]


def test_array_api_extra(xp):
    xpx = pytest.importorskip("array_api_extra", reason="runs array-api-extra")
    x = xp.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    xpx.at(x * 1.0)[1].multiply(5.0).sum().backward()
    assert x.grad.tolist() == [1.0, 5.0, 1.0]
    assert xpx.kron(x, x).shape == (9,)


@pytest.fixture(scope="module")
def _surveyed_versions():
    for library, version in (("scipy", "1.18"), ("sklearn", "1.9"), ("einops", "0.8")):
        pytest.importorskip(library, minversion=version, reason="the page is about these versions")
    pytest.importorskip("array_api_extra", reason="runs array-api-extra")


@pytest.fixture(scope="module")
def survey(_surveyed_versions, tmp_path_factory):
    """What `conformance/consumers.py` finds, in a process that tells SciPy about arrays before importing it."""
    page = tmp_path_factory.mktemp("docs") / "consumers.md"
    command = [
        sys.executable,
        str(ROOT / "conformance" / "consumers.py"),
        "--json",
        "--docs",
        str(page),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return json.loads(done.stdout), page.read_text(encoding="utf-8")


def test_no_gradient_is_wrong(survey):
    found, _ = survey
    assert [f for f in found if f["verdict"] == "wrong"] == []


def test_enough_is_differentiable(survey):
    found, _ = survey
    right = {(f["chapter"], f["function"]) for f in found if f["verdict"] == "right"}
    learn = {f for c, f in right if c == "scikit-learn"}
    others = {f for c, f in right if c in ("einops", "array-api-extra")}
    assert len(right) - len(learn) - len(others) >= 130
    assert len(learn) >= 32


def test_the_page_says_so(survey):
    _, page = survey
    assert page == (ROOT / "docs" / "consumers.md").read_text(encoding="utf-8")


PLANTED = """
import consumers
import tinyxp.special
from tinyxp.autograd._record import TABLE

right = TABLE["special.cosdg"].rules[0]
TABLE["special.cosdg"].rules = (lambda *args: 1.001 * right(*args),)
print(*consumers.examine(consumers.Call("special.cosdg(x)")))
"""


@pytest.mark.usefixtures("_surveyed_versions")
def test_a_wrong_rule_is_seen():
    env = {**os.environ, "PYTHONPATH": str(ROOT / "conformance")}
    done = subprocess.run(
        [sys.executable, "-c", PLANTED], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.startswith("wrong derivatives")
