"""What the namespace has beyond the standard: values against NumPy and PyTorch, derivatives, edges, errors."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyxp
from tinyxp import ops
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.testing import gradcheck

inf, nan = math.inf, math.nan


def normal(*shape, seed=0):
    """Normal numbers, all different."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def close(got, expected, rtol=1e-12):
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=rtol, atol=1e-12)


def check(f, *arrays, order=2):
    gradcheck(f, *[tinyxp.asarray(a) for a in arrays], order=order)


# ---------------------------------------------------------------- einsum
EINSUMS = [
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("ij,jk", (3, 4), (4, 5)),
    ("ba,cb", (3, 4), (5, 3)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
    ("i,i->", (4,), (4,)),
    ("i,j->ij", (3,), (4,)),
    ("ij,ij->ij", (3, 4), (3, 4)),
    ("ij,kl->", (2, 3), (4, 5)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->ij", (3, 3, 2)),
    ("iii->i", (3, 3, 3)),
    ("ij->ji", (3, 4)),
    ("ijk->", (2, 3, 4)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("i...,...j->ij...", (3, 2), (2, 4)),
    ("...,...", (3, 4), (3, 4)),
    ("...i->...", (2, 3, 4)),
    ("b...,b->...", (3, 2, 2), (3,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ("ij,ij,jk,k->i", (2, 3), (2, 3), (3, 4), (4,)),
    ("iij,jk,ki->ij", (2, 2, 3), (3, 4), (4, 2)),
    ("ij,jk->ik", (3, 1), (4, 5)),
    ("ij,ij->i", (3, 4), (1, 4)),
    ("ij,jk->ik", (0, 4), (4, 5)),
    ("ij,jk->ik", (3, 0), (0, 5)),
    ("ii->i", (0, 0)),
    (" i j , j k -> i k ", (3, 4), (4, 5)),
    ("aB,Bc", (2, 3), (3, 2)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=str)
def test_einsum(xp, case):
    """NumPy's values, and derivatives in every operand."""
    subscripts, *shapes = case
    arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    tensors = [xp.asarray(a) for a in arrays]
    got = xp.einsum(subscripts, *tensors)
    expected = np.einsum(subscripts, *arrays)
    assert got.shape == expected.shape
    close(got, expected)
    gradcheck(lambda *a: xp.einsum(subscripts, *a), *tensors)


@given(st.data())
def test_einsum_of_random_subscripts(data):
    """Two or three operands with any letters, those that repeat included."""
    letters = st.lists(st.sampled_from("abcd"), min_size=0, max_size=3)
    terms = data.draw(st.lists(letters, min_size=1, max_size=3))
    there = sorted({a for t in terms for a in t})
    result = data.draw(st.permutations(there))[: data.draw(st.integers(0, len(there)))]
    sizes = dict(zip("abcd", (2, 3, 1, 4), strict=True))
    arrays = [normal(*(sizes[a] for a in t), seed=i) for i, t in enumerate(terms)]
    subscripts = ",".join(map("".join, terms)) + "->" + "".join(result)
    got = tinyxp.einsum(subscripts, *[tinyxp.asarray(a) for a in arrays])
    close(got, np.einsum(subscripts, *arrays))


def test_einsum_of_integers_and_mixed_dtypes(xp):
    """Integers stay integers; operands promote."""
    a, b = xp.reshape(xp.arange(6), (2, 3)), xp.ones((3, 2), dtype="float64")
    assert xp.einsum("ij,kj->ik", a, a).tolist() == [[5, 14], [14, 50]]
    assert xp.einsum("ij,kj->ik", a, a).dtype == "int64"
    assert xp.einsum("ij,jk", xp.astype(a, "float32"), b).dtype == "float64"


def test_einsum_of_complex_numbers(xp):
    """No conjugates, in the value; those of the convention in the derivative."""
    a, b = normal(2, 3) + 1j * normal(2, 3, seed=1), normal(3, 4) - 1j * normal(3, 4, seed=2)
    close(xp.einsum("ij,jk->ki", xp.asarray(a), xp.asarray(b)), np.einsum("ij,jk->ki", a, b))
    check(lambda a, b: xp.einsum("ij,jk->ki", a, b), a, b)
    check(lambda a, b: xp.einsum("ij,jk->ijk", a, b), a, b)


@pytest.mark.parametrize("optimal", [False, True])
def test_einsum_takes_the_order_of_opt_einsum(xp, monkeypatch, optimal):
    """If it is installed; the path may take several operands at a time, and the result is the same."""
    asked = []

    def contract_path(equation, *shapes, **kwargs):
        asked.append((equation, shapes, kwargs))
        return [(3, 1), (0, 1, 2)], None

    module = SimpleNamespace(contract_path=contract_path) if optimal else None
    monkeypatch.setitem(sys.modules, "opt_einsum", module)
    shapes = [(2, 3), (3, 4), (4, 5), (5, 2)]
    arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    got = xp.einsum("ij,jk,kl,lm->im", *[xp.asarray(a) for a in arrays])
    close(got, np.linalg.multi_dot(arrays))
    assert len(asked) == optimal
    for equation, given_shapes, kwargs in asked:
        assert list(given_shapes) == shapes
        assert kwargs == {"shapes": True}
        assert [len(t) for t in equation.replace("->", ",").split(",")] == [2] * 5


@pytest.mark.parametrize(
    ("subscripts", "shapes", "error", "match"),
    [
        ("ij,jk", [(2, 3)], ValueError, "subscripts for 2 operands; got 1"),
        ("ij", [(2, 3, 4)], ShapeError, "'ij' names 2 axes, the operand has 3"),
        ("ij,jk", [(2, 3), (4, 5)], ShapeError, "axis 'j' has the lengths 3 and 4; got shapes"),
        ("ij->k", [(2, 3)], ValueError, "the result has k, which no operand has"),
        ("ij->ii", [(2, 3)], ValueError, "a letter occurs twice in the result"),
        ("...i->i", [(2, 3)], ValueError, "the result lacks the ..."),
        ("i1", [(2, 3)], ValueError, "expects letters"),
    ],
)
def test_einsum_refuses(xp, subscripts, shapes, error, match):
    """Messages that say what was expected."""
    with pytest.raises(error, match=match):
        xp.einsum(subscripts, *[xp.ones(s) for s in shapes])


# ---------------------------------------------------------------- at
KEYS = [
    1,
    slice(None, None, -2),
    (slice(1, None), 0),
    (..., None, 2),
    np.asarray([0, 2, 0, 0]),
    (np.asarray([0, 1, 0, -1]), np.asarray([1, 1, 1, 2])),
    (slice(None), np.asarray([[0, 1], [1, 1]])),
    np.asarray([True, False, True]),
    np.asarray([], dtype=np.int64),
]
METHODS = {"add": np.add.at, "multiply": np.multiply.at, "min": np.minimum.at, "max": np.maximum.at}


def raw_key(xp, key):
    if isinstance(key, tuple):
        return tuple(raw_key(xp, k) for k in key)
    return xp.asarray(key) if isinstance(key, np.ndarray) else key


@pytest.mark.parametrize("name", [*METHODS, "set"])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_at(xp, key, name):
    """NumPy's ``ufunc.at``: every value counts, in the value and in the gradient; `x` stays as it is."""
    x = normal(3, 4)
    values = normal(*x[key].shape, seed=1)
    expected = x.copy()
    if name == "set":
        expected[key] = values
    else:
        METHODS[name](expected, key, values)
    key = raw_key(xp, key)
    tensor = xp.asarray(x, copy=True)
    got = getattr(tensor.at[key], name)(xp.asarray(values))
    close(got, expected)
    assert np.array_equal(tensor.numpy(), x)
    check(lambda x, v: getattr(x.at[key], name)(v), x, values)


def test_at_takes_numbers_and_broadcasts(xp):
    """Values adapt to the dtype and shape of the places; a higher kind is refused."""
    x = xp.asarray([[1, 2, 3], [4, 5, 6]])
    assert x.at[:, 1].set(0).tolist() == [[1, 0, 3], [4, 0, 6]]
    assert x.at[xp.asarray([0, 0])].add(xp.asarray([1, 0, 0])).tolist() == [[3, 2, 3], [4, 5, 6]]
    assert x.at[x > 2].multiply(10).tolist() == [[1, 2, 30], [40, 50, 60]]
    assert x.at[0, 1:].get().tolist() == [2, 3]
    with pytest.raises(DTypeError, match=r"cannot write the number 0.5"):
        x.at[0].add(0.5)


def test_at_of_equal_values_shares_the_gradient(xp):
    """Where two values tie, each gets a part and the sum is right."""
    v = xp.Tensor([2.0, 2.0], requires_grad=True)
    xp.sum(xp.zeros(2).at[xp.asarray([0, 0])].max(v)).backward()
    assert v.grad.tolist() == [0.5, 0.5]


def test_at_product_with_zeros(xp):
    """The derivative of a product does not divide by its factors."""
    check(
        lambda x, v: x.at[xp.asarray([0, 0, 0])].multiply(v),
        np.asarray([2.0, 1.0]),
        np.asarray([0.0, 3.0, 5.0]),
    )


@given(st.lists(st.integers(-4, 3), max_size=12))
def test_at_with_many_repeats(places):
    """Any multiplicity, in any order."""
    x, values = np.arange(4.0) + 1, normal(len(places))
    for name, method in METHODS.items():
        expected = x.copy()
        method(expected, np.asarray(places, dtype=np.int64), values)
        key = tinyxp.asarray(np.asarray(places, dtype=np.int64))
        close(getattr(tinyxp.asarray(x).at[key], name)(tinyxp.asarray(values)), expected)


# ---------------------------------------------------------------- selections
def test_index_add(xp):
    """Repeated and negative indices; a number for all."""
    x, v, places = normal(3, 4), normal(3, 3, seed=1), np.asarray([1, -1, 1])
    expected = x.copy()
    np.add.at(expected, (slice(None), places), v)
    index = xp.asarray(places)
    close(xp.index_add(xp.asarray(x), index, xp.asarray(v), axis=1), expected)
    check(lambda x, v: xp.index_add(x, index, v, axis=1) ** 2, x, v)
    assert xp.index_add(xp.zeros(3), index, 2.0, axis=0).tolist() == [0.0, 4.0, 2.0]
    with pytest.raises(ShapeError, match=r"indices of shape \(m,\).*at\[indices\]"):
        xp.index_add(xp.zeros(3), xp.asarray([[0]]), 1.0, axis=0)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_top_k(xp, axis, largest):
    """In order, with indices, differentiable."""
    x = normal(4, 5)
    values, indices = xp.top_k(xp.asarray(x), 3, axis=axis, largest=largest)
    order = np.take(np.argsort(-x if largest else x, axis=axis), [0, 1, 2], axis=axis)
    assert indices.tolist() == order.tolist()
    close(values, np.take_along_axis(x, order, axis=axis))
    check(lambda x: xp.top_k(x, 3, axis=axis, largest=largest)[0] ** 2, x)


def test_top_k_of_equal_elements(xp):
    """The first come first; k may be 0 and not more than there are."""
    assert xp.top_k(xp.asarray([1, 3, 3, 1]), 3)[1].tolist() == [1, 2, 0]
    assert xp.top_k(xp.asarray([1, 3, 3, 1]), 3, largest=False)[1].tolist() == [0, 3, 1]
    assert xp.top_k(xp.ones((2, 3)), 0)[0].shape == (2, 0)
    with pytest.raises(ShapeError, match="0 <= k <= 3, the length of axis 1; got k=4"):
        xp.top_k(xp.ones((2, 3)), 4)


def test_one_hot(xp):
    """Any shape and dtype; what is no class is zeros."""
    got = xp.one_hot(xp.asarray([[1, 0], [2, -1]]), 3)
    assert got.tolist() == [[[0, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]]]
    assert got.dtype == xp.get_default_dtype()
    assert xp.one_hot(xp.asarray(1), 2, dtype="int8").dtype == "int8"
    assert xp.one_hot(xp.asarray([200], dtype="uint8"), 300).shape == (1, 300)


# ---------------------------------------------------------------- exponentials
def test_sigmoid_softmax_and_logarithms(xp):
    """As in `nn.functional` and `special`; at the ends of the range too."""
    x = normal(3, 4)
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    soft = shifted / shifted.sum(axis=-1, keepdims=True)
    close(xp.softmax(xp.asarray(x)), soft)
    close(xp.log_softmax(xp.asarray(x)), np.log(soft))
    close(xp.logsumexp(xp.asarray(x), axis=1), np.log(np.exp(x).sum(axis=1)))
    close(xp.sigmoid(xp.asarray(x)), 1 / (1 + np.exp(-x)))
    assert xp.sigmoid(xp.Tensor([-200.0, 200.0])).tolist() == [0.0, 1.0]
    for f in (xp.sigmoid, xp.softmax, xp.log_softmax, xp.logsumexp):
        check(f, x)


# ---------------------------------------------------------------- pad
WIDTHS = [2, (1, 3), [(0, 2), (3, 0)], [(7, 8), (9, 0)], [(0, 0), (0, 0)]]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_pad(xp, mode, width):
    """NumPy's, also where the array is shorter than the padding."""
    x = normal(3, 4)
    close(xp.pad(xp.asarray(x), width, mode), np.pad(x, width, mode=mode))
    check(lambda x: xp.pad(x, width, mode) ** 2, x)


def test_pad_with_a_constant(xp):
    """Of any dtype; one element is repeated; nothing cannot be mirrored."""
    assert xp.pad(xp.asarray([1, 2]), (1, 0), constant_values=7).tolist() == [7, 1, 2]
    assert xp.pad(xp.asarray([True]), 1).tolist() == [False, True, False]
    check(lambda x: xp.pad(x, 1, constant_values=-1.5) ** 2, normal(3))
    assert xp.pad(xp.asarray([5]), 2, "reflect").tolist() == [5] * 5
    assert xp.pad(xp.zeros((0,)), 2).tolist() == [0.0] * 4
    with pytest.raises(ShapeError, match="'edge' expects elements along axis 0"):
        xp.pad(xp.zeros((0,)), 2, "edge")
    with pytest.raises(ValueError, match="mode among constant, edge"):
        xp.pad(xp.zeros(2), 2, "mean")
    with pytest.raises(ValueError, match="none negative"):
        xp.pad(xp.zeros(2), -1)


# ---------------------------------------------------------------- tables and quantiles
def test_interp(xp):
    """NumPy's, inside, at the points, outside; differentiable in all three."""
    points, values = np.asarray([-1.0, 0.5, 2.0, 2.5]), np.asarray([3.0, -1.0, 4.0, 0.0])
    x = np.asarray([[-2.0, -1.0, 0.1], [0.5, 2.5, 9.0]])
    t = [xp.asarray(a) for a in (x, points, values)]
    close(xp.interp(*t), np.interp(x, points, values))
    close(xp.interp(*t, left=-7.0, right=nan), np.interp(x, points, values, left=-7.0, right=nan))
    check(xp.interp, np.asarray([-2.0, 0.1, 1.7, 2.3, 9.0]), points, values)
    check(lambda x: xp.interp(x, *t[1:], left=0.0), np.asarray([-2.0, 0.1]))


def test_interp_at_the_edges(xp):
    """One point; points that coincide; integers; complex values; NaN; wrong shapes."""
    one = xp.asarray([1.0]), xp.asarray([5.0])
    assert xp.interp(xp.Tensor([0.0, 1.0, 2.0]), *one).tolist() == [5.0] * 3
    step = np.asarray([0.0, 1.0, 1.0, 2.0]), np.asarray([0.0, 1.0, 3.0, 4.0])
    x = np.asarray([0.5, 1.0, 1.5, nan])
    close(xp.interp(xp.asarray(x), *map(xp.asarray, step)), np.interp(x, *step))
    twice = np.asarray([0.0, 1.0, 1.0]), np.asarray([0.0, 1.0, 3.0])
    close(xp.interp(xp.asarray([1.0]), *map(xp.asarray, twice)), np.interp([1.0], *twice))
    whole = xp.interp(xp.asarray([1]), xp.asarray([0, 2]), xp.asarray([0, 3]))
    assert whole.tolist() == [1.5]
    turned = xp.interp(xp.asarray([0.5]), xp.asarray([0.0, 1.0]), xp.asarray([0j, 2j]))
    assert turned.tolist() == [1j]
    with pytest.raises(
        ShapeError, match=r"points of shape \(n,\) with n > 0; got xp \(2,\) and fp \(3,\)"
    ):
        xp.interp(xp.ones(1), xp.ones(2), xp.ones(3))


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
def test_quantile(xp, axis, method):
    """NumPy's, for one level and several, over every form of the axis."""
    x = normal(3, 4, 5)
    for q in (0.3, [0.0, 0.25, 0.6, 1.0]):
        for keepdims in (False, True):
            got = xp.quantile(xp.asarray(x), q, axis=axis, keepdims=keepdims, method=method)
            expected = np.quantile(x, q, axis=axis, keepdims=keepdims, method=method)
            assert got.shape == expected.shape
            close(got, expected)
    check(lambda x: xp.quantile(x, [0.2, 0.9], axis=axis, method=method), x, order=1)


def test_quantile_is_differentiable_in_the_level(xp):
    """Its slope is the distance of the neighbours times their number."""
    check(xp.quantile, normal(7), np.asarray([0.31, 0.77]))


def test_median(xp):
    """Of an odd and an even number, of infinities, of NaN, of nothing."""
    for n in (1, 4, 5):
        x = normal(3, n)
        close(xp.median(xp.asarray(x), axis=1), np.median(x, axis=1))
        check(lambda x: xp.median(x, axis=1), x)
    assert xp.median(xp.Tensor([inf, inf])).item() == inf
    assert xp.median(xp.asarray([1, 2])).item() == 1.5
    assert np.isnan(
        xp.median(xp.Tensor([[1.0, nan, 2.0], [1.0, 3.0, 2.0]]), axis=1).tolist()
    ).tolist() == [True, False]
    with pytest.raises(ShapeError, match="expects elements along the axes"):
        xp.median(xp.zeros((2, 0)), axis=1)
    with pytest.raises(ValueError, match="method linear, lower"):
        xp.quantile(xp.ones(2), 0.5, method="hazen")


# ---------------------------------------------------------------- counting
def test_bincount(xp):
    """Counts, and sums of weights, which have a gradient."""
    x = np.asarray([3, 1, 1, 5])
    assert xp.bincount(xp.asarray(x)).tolist() == np.bincount(x).tolist()
    assert xp.bincount(xp.asarray(x), minlength=8).tolist() == np.bincount(x, minlength=8).tolist()
    assert xp.bincount(xp.zeros((0,), dtype="int64")).tolist() == []
    w = normal(4)
    close(xp.bincount(xp.asarray(x), xp.asarray(w)), np.bincount(x, w))
    check(lambda w: xp.bincount(xp.asarray(x), w) ** 2, w)
    with pytest.raises(ShapeError, match=r"integers of shape \(n,\)"):
        xp.bincount(xp.ones(2))
    with pytest.raises(ValueError, match="numbers >= 0; got -1"):
        xp.bincount(xp.asarray([0, -1]))


@pytest.mark.parametrize("bins", [1, 7, [0.0, 0.5, 0.6, 2.0]], ids=str)
@pytest.mark.parametrize("density", [False, True])
def test_histogram(xp, bins, density):
    """NumPy's, on every side of the range, and at the edges."""
    x = np.concatenate([normal(40), [0.0, 0.5, 2.0, 2.0]])
    for limits in (None, (-1.0, 2.0)):
        got = xp.histogram(
            xp.asarray(x),
            xp.asarray(np.asarray(bins)) if isinstance(bins, list) else bins,
            range=limits,
            density=density,
        )
        expected = np.histogram(x, bins, range=limits, density=density)
        for a, b in zip(got, expected, strict=True):
            close(a, b)
    assert got[0].dtype == ("float64" if density else "int64")


def test_histogram_of_weights(xp):
    """Sums of weights are differentiable; counts are outside the graph, without a word less."""
    x, w = normal(5, 4), normal(5, 4, seed=1)
    got, _ = xp.histogram(xp.asarray(x), 3, weights=xp.asarray(w))
    close(got, np.histogram(x, 3, weights=w)[0])
    check(lambda w: xp.histogram(xp.asarray(x), 3, weights=w)[0] ** 2, w)
    counts, edges = xp.histogram(xp.Tensor([0.0, 1.0], requires_grad=True), 2)
    assert not counts.requires_grad
    assert not edges.requires_grad
    assert "not differentiable" in xp.histogram.__doc__
    assert "not differentiable" in xp.bincount.__doc__


def test_histogram_at_the_edges(xp):
    """Nothing, one value, integers, and ranges that are none."""
    for x in (np.zeros(0), np.full(3, 2.0), np.asarray([1, 2, 2, 5])):
        got = xp.histogram(xp.asarray(x), 4)
        for a, b in zip(got, np.histogram(x, 4), strict=True):
            close(a, b, rtol=1e-6)
    with pytest.raises(ValueError, match="finite, ascending range"):
        xp.histogram(xp.Tensor([nan]), 2)
    with pytest.raises(ValueError, match="ascending order"):
        xp.histogram(xp.ones(1), xp.Tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="at least one bin"):
        xp.histogram(xp.ones(1), 0)


# ---------------------------------------------------------------- the surface
def test_every_name_is_in_the_namespace():
    """And on `tinyxp` itself."""
    from tinyxp.ops import _beyond, _convolution, _einsum, _tables

    for module in (_beyond, _convolution, _einsum, _tables):
        for name in module.__all__:
            assert getattr(tinyxp, name) is getattr(ops, name) is getattr(module, name)
