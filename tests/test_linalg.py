"""Linear algebra: values, derivatives, and the points where derivatives are delicate."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyxp import ops
from tinyxp.autograd import _record, _rules_linalg
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.testing import GradientError, gradcheck


def normal(*shape, seed=0, complex_=False):
    rng = np.random.default_rng([seed, *shape])
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if complex_ else x


# ---------------------------------------------------------------- functions without signs, phases and bases
def adjoint(xp, x):
    return xp.conj(x.mT) if x.dtype.kind == "c" else x.mT


def hermitian(xp, x):
    return (x + adjoint(xp, x)) / 2


def positive_definite(xp, x):
    return x @ adjoint(xp, x) + xp.eye(x.shape[-1], dtype=x.dtype)


def projections(xp, v):
    """Return the projection on each column, of which sign and phase are gone."""
    w = xp.conj(v) if v.dtype.kind == "c" else v
    return v[..., :, None, :] * w[..., None, :, :]


def eigh(xp, x):
    w, v = xp.linalg.eigh(hermitian(xp, x))
    return w, projections(xp, v)


def eig(xp, x):
    w, v = xp.linalg.eig(x)
    return w, projections(xp, v)


def svd(xp, x, *, full_matrices):
    u, s, vh = xp.linalg.svd(x, full_matrices=full_matrices)
    v, k = adjoint(xp, vh), s.shape[-1]
    pairs = u[..., :, None, :k] * vh.mT[..., None, :, :k]  # the phases of u and v^H cancel
    rest = [x[..., k:] @ adjoint(xp, x[..., k:]) for x in (u, v)] if full_matrices else []
    return s, pairs, projections(xp, u[..., :k]), projections(xp, v[..., :k]), *rest


def qr(xp, x, *, mode="reduced"):
    q, r = xp.linalg.qr(x, mode=mode)
    k = min(x.shape[-2:])
    return q[..., :k], r, q[..., k:] @ adjoint(xp, q[..., k:])


# name of the line in the table, and of the case: function, shapes of its arguments
CASES = {
    "det": (lambda xp, x: xp.linalg.det(x), [(2, 3, 3)]),
    "slogdet": (lambda xp, x: tuple(xp.linalg.slogdet(x)), [(2, 3, 3)]),
    "inv": (lambda xp, x: xp.linalg.inv(x), [(2, 3, 3)]),
    "solve": (lambda xp, a, b: xp.linalg.solve(a, b), [(2, 3, 3), (3, 2)]),
    "solve, one matrix": (lambda xp, a, b: xp.linalg.solve(a, b), [(3, 3), (2, 3, 1)]),
    "solve, vector": (lambda xp, a, b: xp.linalg.solve(a, b), [(2, 3, 3), (3,)]),
    "pinv": (lambda xp, x: xp.linalg.pinv(x), [(2, 4, 3)]),
    "pinv, wide": (lambda xp, x: xp.linalg.pinv(x), [(3, 4)]),
    "pinv, low rank": (lambda xp, a, b: xp.linalg.pinv(a @ b, rtol=1e-10), [(5, 2), (2, 4)]),
    "pinv, Tensor rtol": (
        lambda xp, x: xp.linalg.pinv(x, rtol=xp.asarray([1e-9, 1e-10], dtype="float64")),
        [(2, 4, 3)],
    ),
    "cholesky": (lambda xp, x: xp.linalg.cholesky(positive_definite(xp, x)), [(2, 3, 3)]),
    "cholesky, upper": (
        lambda xp, x: xp.linalg.cholesky(positive_definite(xp, x), upper=True),
        [(3, 3)],
    ),
    "eigh": (eigh, [(2, 3, 3)]),
    "eigvalsh": (lambda xp, x: xp.linalg.eigvalsh(hermitian(xp, x)), [(2, 3, 3)]),
    "eig": (eig, [(2, 3, 3)]),
    "eigvals": (lambda xp, x: xp.linalg.eigvals(x), [(3, 3)]),
    "svd": (lambda xp, x: svd(xp, x, full_matrices=False), [(2, 3, 3)]),
    "svd, tall": (lambda xp, x: svd(xp, x, full_matrices=False), [(4, 3)]),
    "svd, wide": (lambda xp, x: svd(xp, x, full_matrices=False), [(3, 5)]),
    "svd, full, square": (lambda xp, x: svd(xp, x, full_matrices=True), [(3, 3)]),
    "svd, full, tall": (lambda xp, x: svd(xp, x, full_matrices=True), [(2, 5, 3)]),
    "svd, full, wide": (lambda xp, x: svd(xp, x, full_matrices=True), [(3, 5)]),
    "svdvals": (lambda xp, x: xp.linalg.svdvals(x), [(2, 4, 3)]),
    "qr": (qr, [(2, 3, 3)]),
    "qr, tall": (qr, [(5, 3)]),
    "qr, wide": (qr, [(2, 3, 5)]),
    "qr, complete, square": (lambda xp, x: qr(xp, x, mode="complete"), [(3, 3)]),
    "qr, complete, tall": (lambda xp, x: qr(xp, x, mode="complete"), [(5, 3)]),
    "qr, complete, wide": (lambda xp, x: qr(xp, x, mode="complete"), [(3, 5)]),
    "cross": (lambda xp, x, y: xp.linalg.cross(x, y), [(2, 3), (3,)]),
    "cross, axis": (lambda xp, x, y: xp.linalg.cross(x, y, axis=-2), [(4, 3, 1), (3, 2)]),
    "outer": (lambda xp, x, y: xp.linalg.outer(x, y), [(3,), (2,)]),
    "diagonal": (lambda xp, x: xp.linalg.diagonal(x, offset=1) ** 2, [(2, 3, 4)]),
    "diagonal, below": (lambda xp, x: xp.linalg.diagonal(x, offset=-1) ** 2, [(4, 3)]),
    "trace": (lambda xp, x: xp.linalg.trace(x, offset=-1) ** 2, [(2, 3, 4)]),
}
CASES |= {
    f"matrix_power {n}": (lambda xp, x, n=n: xp.linalg.matrix_power(x, n), [(2, 3, 3)])
    for n in (-2, 0, 1, 6)
}
CASES |= {
    f"vector_norm {p}": (
        lambda xp, x, p=p: xp.linalg.vector_norm(x, ord=p, axis=(0, -1), keepdims=p > 1),
        [(2, 3, 4)],
    )
    for p in (0, 0.5, 1, 1.5, 2, 3, -1, -2, math.inf, -math.inf)
}
CASES |= {
    f"matrix_norm {p}": (
        lambda xp, x, p=p: xp.linalg.matrix_norm(x, ord=p, keepdims=p == "nuc"),
        [(2, 3, 4)],
    )
    for p in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)
}


def test_every_line_of_the_chapter_has_a_case():
    """An operation without a case above fails this test."""
    lines = {n.removeprefix("linalg.") for n in _record.TABLE if n.startswith("linalg.")}
    assert lines - {name.replace(",", " ").split()[0] for name in CASES} == set()


@pytest.mark.parametrize("complex_", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("name", CASES)
def test_derivatives(xp, name, complex_):
    """Orders 1 and 2, forward and reverse."""
    function, shapes = CASES[name]
    arrays = [normal(*s, seed=i, complex_=complex_) for i, s in enumerate(shapes)]
    gradcheck(lambda *a: function(xp, *a), *[xp.asarray(a) for a in arrays], step=2e-4)


PLANTED = [
    (name, i)
    for name in CASES
    for i, rule in enumerate(_record.op(f"linalg.{name.replace(',', ' ').split()[0]}").rules)
    if rule is not None and name != "vector_norm 0"  # a count
]


@pytest.mark.parametrize(("name", "i"), PLANTED)
def test_a_small_error_in_a_rule_is_caught(xp, monkeypatch, name, i):
    """The check can fail: 0.1 % is seen, of every rule in every case."""
    line = _record.TABLE["linalg." + name.replace(",", " ").split()[0]]
    rule = line.rules[i]

    wrong = lambda *args, **kwargs: 1.001 * rule(*args, **kwargs)  # noqa: E731 - a rule in passing
    monkeypatch.setattr(line, "rules", (*line.rules[:i], wrong, *line.rules[i + 1 :]))
    function, shapes = CASES[name]
    arrays = [xp.asarray(normal(*s, seed=j)) for j, s in enumerate(shapes)]
    with pytest.raises(GradientError):
        gradcheck(lambda *a: function(xp, *a), *arrays, order=1)


def test_real_and_complex_arguments_meet(xp):
    """The cotangent of a real argument is real."""
    gradcheck(xp.linalg.solve, xp.asarray(normal(3, 3)), xp.asarray(normal(3, 2, complex_=True)))
    gradcheck(xp.linalg.outer, xp.asarray(normal(3)), xp.asarray(normal(2, complex_=True)))


# ---------------------------------------------------------------- PyTorch
TORCH = {
    "det": (lambda la, x: la.det(x), (2, 3, 3)),
    "logabsdet": (lambda la, x: la.slogdet(x)[1], (2, 3, 3)),
    "sign": (lambda la, x: la.slogdet(x)[0], (2, 3, 3)),
    "inv": (lambda la, x: la.inv(x), (2, 3, 3)),
    "solve": (lambda la, x: la.solve(x @ x, x), (2, 3, 3)),
    "cholesky": (lambda la, x: la.cholesky(x @ x.mT.conj()), (3, 3)),
    "eigvalsh": (lambda la, x: la.eigvalsh(x + x.mT.conj()), (2, 3, 3)),
    "eigh": (lambda la, x: abs(la.eigh(x + x.mT.conj())[1]), (2, 3, 3)),
    "eigvals": (lambda la, x: la.eigvals(x), (3, 3)),
    "eig": (lambda la, x: abs(la.eig(x)[1]), (2, 3, 3)),
    "svdvals": (lambda la, x: la.svdvals(x), (2, 4, 3)),
    "svd": (lambda la, x: abs(la.svd(x, full_matrices=False)[0]), (2, 4, 3)),
    "svd, wide": (lambda la, x: abs(la.svd(x, full_matrices=False)[2]), (3, 4)),
    "qr": (lambda la, x: la.qr(x)[0], (4, 3)),
    "qr, wide": (lambda la, x: la.qr(x)[1], (3, 4)),
    "qr, complete": (lambda la, x: la.qr(x, mode="complete")[0], (3, 3)),
    "pinv": (lambda la, x: la.pinv(x), (4, 3)),
    "matrix_power": (lambda la, x: la.matrix_power(x, -3), (3, 3)),
    "vector_norm": (lambda la, x: la.vector_norm(x, ord=3), (2, 3)),
    "matrix_norm": (lambda la, x: la.matrix_norm(x, ord="nuc"), (2, 3)),
    "matrix_norm 2": (lambda la, x: la.matrix_norm(x, ord=2), (2, 3)),
}


@pytest.mark.parametrize("complex_", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("name", TORCH)
def test_gradients_are_those_of_pytorch(xp, name, complex_):
    """Values and gradients of a random combination of the results, complex ones by PyTorch's convention."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    function, shape = TORCH[name]
    array = normal(*shape, complex_=complex_, seed=3)

    x = xp.Tensor(array, requires_grad=True)
    y = function(xp.linalg, x)
    weights = normal(*y.shape, seed=4, complex_=y.dtype.kind == "c")
    (xp.real(xp.conj(xp.asarray(weights)) * y)).sum().backward()

    t = torch.tensor(array, requires_grad=True)
    z = function(torch.linalg, t)
    torch.real(torch.conj(torch.tensor(weights)) * z).sum().backward()

    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-9)
    expected = torch.zeros_like(t) if t.grad is None else t.grad  # the sign of a real determinant
    np.testing.assert_allclose(x.grad.numpy(), expected.numpy(), rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- delicate points
def singular(n, rank, seed=0):
    """A matrix of integers of this rank, so that its determinant is computed as exactly 0."""
    x = np.random.default_rng([seed, n]).integers(-2, 3, size=(n, n)).astype("float64")
    x[rank:] = 0.0
    return x


SINGULAR = {
    "1 x 1": np.zeros((1, 1)),
    "rank 1 of 2": np.asarray([[1.0, 2.0], [2.0, 4.0]]),
    "rank 2 of 3": singular(3, 2),
    "rank 1 of 3": singular(3, 1),
    "zeros": np.zeros((3, 3)),
    "identity": np.eye(3),
    "complex": np.asarray([[1, 1j, 0], [1j, -1, 0], [0, 0, 2]]),
    "batch": np.stack([singular(3, 2), np.eye(3), np.zeros((3, 3)), normal(3, 3)]),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_determinant_of_singular_matrices(xp, name):
    """The derivatives of a polynomial are finite everywhere: here to the third order."""
    gradcheck(xp.linalg.det, xp.asarray(SINGULAR[name]), order=3, rtol=1e-7)


@pytest.mark.parametrize("name", ["rank 1 of 2", "rank 2 of 3", "batch"])
def test_determinant_of_large_singular_matrices(xp, monkeypatch, name):
    """Beyond the size where all minors are computed, singular values give the cofactors."""
    monkeypatch.setattr(_rules_linalg, "MINORS", 0)
    gradcheck(xp.linalg.det, xp.asarray(SINGULAR[name]), order=1)


def test_determinant_of_a_large_singular_matrix(xp):
    """The cofactors of diag(0, 2, 2, ...) are 2^39 in one place and 0 elsewhere."""
    x = xp.asarray(np.diag([0.0] + [2.0] * 39), dtype="float64").requires_grad_()
    xp.linalg.det(x).backward()
    assert x.grad[0, 0].item() == pytest.approx(2.0**39, rel=1e-12)
    assert np.count_nonzero(np.abs(x.grad.numpy()) > 1e-3) == 1


def test_masked_matrices_have_gradient_zero(xp):
    """A zero cotangent stays zero where the local derivative is infinite or NaN."""
    x = xp.asarray(np.stack([singular(2, 1), 2 * np.eye(2)])).requires_grad_()
    logs = xp.linalg.slogdet(x).logabsdet
    xp.where(xp.isfinite(logs), logs, 0.0).sum().backward()
    assert x.grad.tolist() == [[[0.0, 0.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.5]]]

    x = xp.asarray(np.stack([np.full((2, 2), np.nan), 2 * np.eye(2)])).requires_grad_()
    inverse = xp.linalg.inv(x)
    xp.where(xp.isnan(inverse), 0.0, inverse).sum().backward()
    assert x.grad.tolist() == [[[0.0, 0.0], [0.0, 0.0]], [[-0.25] * 2] * 2]


def test_masking_keeps_the_second_derivative(xp):
    """The Hessian at a zero residual: of sum((x^-1 - a)^2) at a = x^-1 it is that of the squares."""
    target = xp.asarray(np.linalg.inv(normal(2, 2)))
    gradcheck(lambda x: ((xp.linalg.inv(x) - target) ** 2).sum(), xp.asarray(normal(2, 2)))


@pytest.mark.parametrize("p", [0, 0.5, 1, 2, 3, math.inf, -math.inf])
def test_vector_norm_at_zero(xp, p):
    """The gradient at 0 is 0, without a warning."""
    for shape in ((), (3,), (2, 3)):
        x = xp.zeros(shape, dtype="float64").requires_grad_()
        xp.linalg.vector_norm(x, ord=p).backward()
        assert not x.grad.numpy().any()
    x = xp.asarray([0.0, 3.0, -4.0], dtype="float64").requires_grad_()
    xp.linalg.vector_norm(x, ord=p).backward()
    assert x.grad[0].item() == 0
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("p", ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf, None])
def test_matrix_norm_at_zero(xp, p):
    """The gradient at 0 is 0, and equal columns, rows and singular values share it."""
    x = xp.zeros((2, 3), dtype="float64").requires_grad_()
    xp.linalg.matrix_norm(x, ord=p).backward()
    assert not x.grad.numpy().any()
    x = xp.eye(2, dtype="float64").requires_grad_()
    xp.linalg.matrix_norm(x, ord=p).backward()
    share = {"fro": math.sqrt(0.5), None: math.sqrt(0.5), "nuc": 1.0}.get(p, 0.5)
    np.testing.assert_allclose(x.grad.numpy(), share * np.eye(2), atol=1e-15)


def test_extreme_elements_share_the_gradient(xp):
    x = xp.asarray([2.0, -2.0, 1.0], dtype="float64").requires_grad_()
    xp.linalg.vector_norm(x, ord=math.inf).backward()
    assert x.grad.tolist() == [0.5, -0.5, 0.0]


def rotated(values, n=None, seed=0):
    n = len(values) if n is None else n
    q = np.linalg.qr(normal(n, n, seed=seed))[0][:, : len(values)]
    return q @ np.diag(values) @ q.T


@pytest.mark.parametrize("turn", [np.diag, rotated], ids=["diagonal", "rotated"])
def test_multiple_eigenvalues(xp, turn):
    """The projection on an eigenspace of dimension 3, also when rounding has parted its eigenvalues."""

    def projection(x):
        v = xp.linalg.eigh((x + x.mT) / 2).eigenvectors[:, :3]
        return v @ v.mT

    gradcheck(projection, xp.asarray(turn([1.0, 1.0, 1.0, 2.0])), order=1)


def test_multiple_eigenvalues_of_a_low_rank_matrix(xp):
    """The kernel of a matrix of rank 2 has dimension 3."""

    def projection(b):
        v = xp.linalg.eigh(b @ b.mT).eigenvectors[:, :3]
        return v @ v.mT

    gradcheck(projection, xp.asarray(normal(5, 2)), order=1)


def test_multiple_singular_values(xp):
    def projection(x):
        u = xp.linalg.svd(x, full_matrices=False).U[:, :2]
        return u @ u.mT

    q = np.linalg.qr(normal(5, 3))[0]
    gradcheck(projection, xp.asarray(q @ rotated([2.0, 2.0, 0.5])), order=1)


@pytest.mark.parametrize("name", ["eigh", "eigvalsh", "svd", "svdvals", "eig", "eigvals"])
def test_decompositions_of_the_identity(xp, name):
    """All values are equal; a function of all of them alike still has its gradient."""
    x = xp.eye(3, dtype="float64").requires_grad_()
    out = getattr(xp.linalg, name)(x)
    values = {"svd": 1, "eigh": 0, "eig": 0}.get(name)
    values = out if values is None else out[values]
    xp.real(values * values).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.eye(3), atol=1e-15)


def test_the_identity_power_is_part_of_the_graph(xp):
    """x^0 does not depend on x: its gradient is 0, also where x is NaN."""
    x = xp.asarray([[math.nan, 1.0], [0.0, 1.0]], dtype="float64").requires_grad_()
    out = xp.linalg.matrix_power(x, 0)
    out.sum().backward()
    assert out.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


EMPTY = [
    ("svd", (0, 3)), ("svd", (3, 0)), ("svd", (0, 3, 2)), ("svdvals", (3, 0)), ("qr", (0, 3)), ("qr", (3, 0)),
    ("eigh", (0, 0)), ("eigh", (0, 2, 2)), ("eigvalsh", (0, 0)), ("eig", (0, 2, 2)), ("inv", (0, 0)),
    ("inv", (0, 2, 2)), ("det", (0, 0)), ("det", (0, 2, 2)), ("slogdet", (0, 0)), ("cholesky", (0, 2, 2)),
    ("pinv", (0, 3)), ("pinv", (3, 0)), ("trace", (0, 3)), ("diagonal", (2, 0)), ("vector_norm", (0,)),
    ("matrix_norm", (0, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), EMPTY)
def test_nothing_to_decompose(xp, name, shape):
    """Lengths of 0 pass through forward and backward."""
    x = xp.zeros(shape, dtype="float64").requires_grad_()
    out = getattr(xp.linalg, name)(x)
    for o in out if isinstance(out, tuple) else (out,):
        xp.real(o).sum().backward(retain_graph=True)
    assert x.grad.shape == shape


# ---------------------------------------------------------------- values
def test_results_are_named_and_keep_their_precision(xp):
    fields = {
        "eigh": ("eigenvalues", "eigenvectors"),
        "eig": ("eigenvalues", "eigenvectors"),
        "slogdet": ("sign", "logabsdet"),
        "svd": ("U", "S", "Vh"),
        "qr": ("Q", "R"),
    }
    real = {("eigh", 0), ("slogdet", 1), ("svd", 1)}
    for name, names in fields.items():
        for dtype in ("float32", "float64", "complex64", "complex128"):
            out = getattr(xp.linalg, name)(xp.eye(3, dtype=dtype))
            assert out._fields == names
            wide = dtype[-2:] if dtype.startswith("f") else str(int(dtype[7:]) // 2)
            for i, t in enumerate(out):
                kind = (
                    "c"
                    if (name == "eig" or dtype.startswith("c")) and (name, i) not in real
                    else "f"
                )
                assert t.dtype == (f"complex{2 * int(wide)}" if kind == "c" else f"float{wide}")
    x = xp.Tensor(np.eye(3, dtype="float32"), requires_grad=True)
    loss = xp.linalg.det(x) + xp.linalg.matrix_norm(x) + xp.linalg.svdvals(x).sum()
    loss.backward()
    assert loss.dtype == x.grad.dtype == "float32"


def test_decompositions_compose(xp):
    """Products of the factors are the matrices."""
    x = xp.asarray(normal(2, 4, 3, complex_=True))
    for full in (False, True):
        u, s, vh = xp.linalg.svd(x, full_matrices=full)
        product = (u[..., :3] * s[..., None, :]) @ vh
        np.testing.assert_allclose(product.numpy(), x.numpy(), atol=1e-13)
    for mode in ("reduced", "complete"):
        q, r = xp.linalg.qr(x, mode=mode)
        np.testing.assert_allclose((q @ r).numpy(), x.numpy(), atol=1e-13)
    square = x[:, :3]
    w, v = xp.linalg.eig(square)
    np.testing.assert_allclose((square @ v).numpy(), (v * w[..., None, :]).numpy(), atol=1e-13)
    h = hermitian(xp, square)
    w, v = xp.linalg.eigh(h)
    np.testing.assert_allclose((h @ v).numpy(), (v * w[..., None, :]).numpy(), atol=1e-13)


def test_recording_changes_no_number(xp):
    """Plain mode and recording mode give the same bits."""
    for function, shapes in CASES.values():
        arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
        plain = function(xp, *[xp.asarray(a) for a in arrays])
        taped = function(xp, *[xp.Tensor(a, requires_grad=True) for a in arrays])
        pairs = zip(plain, taped, strict=True) if isinstance(plain, tuple) else [(plain, taped)]
        for a, b in pairs:
            np.testing.assert_array_equal(a.numpy(), b.detach().numpy())


def test_rank(xp):
    """Counted, not differentiated."""
    x = xp.Tensor(np.stack([np.eye(3), singular(3, 1), np.zeros((3, 3))]), requires_grad=True)
    rank = xp.linalg.matrix_rank(x)
    assert rank.tolist() == [3, 1, 0]
    assert not rank.requires_grad
    x = xp.asarray(np.diag([1.0, 1e-3, 1e-6]))
    assert [xp.linalg.matrix_rank(x, rtol=r).item() for r in (1e-2, 1e-4, 1e-9)] == [1, 2, 3]
    rtol = xp.asarray([1e-2, 1e-4], dtype="float64")
    assert xp.linalg.matrix_rank(xp.stack([x, x]), rtol=rtol).tolist() == [1, 2]
    assert xp.linalg.matrix_rank(xp.zeros((2, 0, 3))).tolist() == [0, 0]


def test_integers_where_the_standard_has_them(xp):
    i, j = xp.asarray([1, 2, 3]), xp.asarray([4, 5, 6])
    assert xp.linalg.cross(i, j).tolist() == np.cross([1, 2, 3], [4, 5, 6]).tolist()
    assert xp.linalg.outer(i, j).dtype == i.dtype
    trace = xp.linalg.trace(xp.asarray([[100, 0], [0, 100]], dtype="int8"))
    assert (trace.item(), trace.dtype) == (200, "int64")
    assert xp.linalg.trace(xp.eye(2), dtype="float64").dtype == "float64"


def test_the_signatures_are_the_standards(xp):
    """Names, kinds and defaults of all parameters, as array-api-strict has them."""
    strict = pytest.importorskip("array_api_strict", reason="compares with the referee")
    for extension in ("linalg", "fft"):
        for name in getattr(xp, extension).__all__:
            ours = inspect.signature(getattr(getattr(xp, extension), name)).parameters.values()
            theirs = inspect.signature(
                getattr(getattr(strict, extension), name)
            ).parameters.values()
            assert [(p.name, p.kind, p.default) for p in ours] == [
                (p.name, p.kind, p.default) for p in theirs
            ], name


def test_the_extension_is_complete(xp):
    from tinyxp.linalg import svd as imported

    from tinyxp import _standard

    assert sorted(xp.linalg.__all__) == sorted(_standard.LINALG)
    assert imported is xp.linalg.svd is ops.linalg.svd


# ---------------------------------------------------------------- the view of a diagonal
@given(
    shape=st.lists(st.integers(0, 4), min_size=2, max_size=4),
    offset=st.integers(-5, 5),
    transposed=st.booleans(),
)
def test_diagonal_is_a_view(xp, shape, offset, transposed):
    """Elements are NumPy's, and writes go both ways, whatever the layout of the matrix."""
    array = np.arange(math.prod(shape), dtype="float64").reshape(shape)
    x = xp.asarray(array.copy())
    if transposed:
        x, array = x.mT, array.swapaxes(-1, -2)
    d = xp.linalg.diagonal(x, offset=offset)
    np.testing.assert_array_equal(d.numpy(), np.diagonal(array, offset, -2, -1))
    d[...] = -1.0
    assert (np.diagonal(x.numpy(), offset, -2, -1) == -1.0).all()
    assert (x.numpy() == -1.0).sum() == d.size
    x[...] = 5.0
    assert (d.numpy() == 5.0).all()


def test_views_of_a_diagonal(xp):
    """A reshape of a diagonal is still a view, as in NumPy."""
    x = xp.zeros((5, 5))
    xp.reshape(xp.linalg.diagonal(x)[:4], (2, 2))[1, 0] = 7.0
    assert x[2, 2].item() == 7.0


def test_recorded_writes_into_a_diagonal(xp):
    w = xp.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    z = xp.zeros((3, 3))
    xp.linalg.diagonal(z)[...] = w
    (z * z).sum().backward()
    assert w.grad.tolist() == [2.0, 4.0, 6.0]

    y = xp.Tensor([[1.0, 1.0], [1.0, 1.0]], requires_grad=True)
    product = y * 2.0
    d = xp.linalg.diagonal(product)
    product[0, 0] = w[2] * 1.0  # seen through the view, and by its gradient
    (d**2).sum().backward()
    assert y.grad.tolist() == [[0.0, 0.0], [0.0, 8.0]]
    assert w.grad.tolist() == [2.0, 4.0, 12.0]


# ---------------------------------------------------------------- against NumPy
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    data=st.data(),
    p=st.sampled_from([0, 0.5, 1, 2, 3, math.inf, -math.inf]),
    keepdims=st.booleans(),
)
def test_vector_norm_of_any_axes(xp, shape, data, p, keepdims):
    """Shapes and values are NumPy's; the gradient has the shape of the argument, and Euler's theorem holds."""
    axis = data.draw(
        st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1).map(tuple)
    )
    array = normal(*shape) + 3.0
    x = xp.Tensor(array, requires_grad=True)
    out = xp.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=p)
    expected = np.linalg.vector_norm(array, axis=axis, keepdims=keepdims, ord=p)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12)
    out.sum().backward()
    total = (
        0.0 if p == 0 else expected.sum()
    )  # of a function of degree 1, <x, gradient> is the value
    np.testing.assert_allclose((x.grad.numpy() * array).sum(), total, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda la, x: la.inv(x[:2]), ShapeError, r"linalg.inv expects square matrices.*\(2, 3\)"),
        (lambda la, x: la.svd(x[0]), ShapeError, r"linalg.svd expects matrices.*got shape \(3,\)"),
        (
            lambda la, x: la.det(x.to("int64")),
            DTypeError,
            "linalg.det expects a floating Tensor; got.*int64",
        ),
        (
            lambda la, x: la.solve(x, x[0, :2]),
            ShapeError,
            r"linalg.solve expects x1 .*\(3, 3\) and \(2,\)",
        ),
        (
            lambda la, x: la.cross(x[:, :2], x),
            ShapeError,
            "linalg.cross expects length 3 along axis -1",
        ),
        (lambda la, x: la.outer(x, x), ShapeError, "linalg.outer expects two vectors"),
        (lambda la, x: la.diagonal(x[0]), ShapeError, "linalg.diagonal expects matrices"),
        (lambda la, x: la.qr(x, mode="r"), ValueError, "mode='reduced' or 'complete'; got 'r'"),
        (
            lambda la, x: la.matrix_norm(x, ord=3),
            ValueError,
            "linalg.matrix_norm expects ord .*; got 3",
        ),
        (
            lambda la, x: la.vector_norm(x, axis=2),
            IndexError,
            "linalg.vector_norm: axis 2 is out of range",
        ),
        (lambda la, x: la.matrix_power(x, 0.5), TypeError, "integer"),
    ],
)
def test_errors(xp, call, error, message):
    """Fact, expected, got."""
    with pytest.raises(error, match=message):
        call(xp.linalg, xp.asarray(normal(3, 3)))
