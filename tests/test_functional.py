"""Transformations of functions against those of PyTorch, nested ones included."""

from __future__ import annotations

import numpy as np
import pytest

import tinyxp
from tinyxp import func, nn
from tinyxp.autograd import checkpoint, grad, no_grad
from tinyxp.errors import DTypeError, GraphError, ShapeError

torch = pytest.importorskip("torch", reason="compares with PyTorch")
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning"
)  # PyTorch's own, in its jvp

rng = np.random.default_rng(0)
X, V = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
W = rng.normal(size=(3, 4))


class Library:
    """A namespace, its transformations, and how its arrays come and go."""

    def __init__(self, namespace, transformations, array):
        self.xp, self.func, self.array = namespace, transformations, array


@pytest.fixture
def both(xp):
    return Library(xp, func, xp.asarray), Library(torch, torch.func, torch.asarray)


def host(tree):
    if isinstance(tree, dict):
        return {k: host(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [host(v) for v in tree]
    return tree.detach().numpy() if hasattr(tree, "detach") else tree


def compare(both, compute):
    """Both libraries give the same nest of arrays."""
    ours, theirs = (host(compute(lib)) for lib in both)
    flat = [[], []]

    def walk(tree, out):
        if isinstance(tree, dict):
            tree = [tree[k] for k in sorted(tree)]
        if isinstance(tree, list):
            for t in tree:
                walk(t, out)
        else:
            out.append(np.asarray(tree))

    walk(ours, flat[0])
    walk(theirs, flat[1])
    assert [a.shape for a in flat[0]] == [a.shape for a in flat[1]]
    for a, b in zip(*flat, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# Functions of a (2, 3) array, written with names that both namespaces have.
SCALAR = {
    "polynomial": lambda xp, x: xp.sum(x**3 - 2 * x * x),
    "log-sum-exp": lambda xp, x: xp.log(xp.sum(xp.exp(x))),
    "product": lambda xp, x: xp.prod(xp.reshape(x, (6,))),
    "matrices": lambda xp, x: xp.sum(xp.tanh(xp.matmul(x, x.mT)) ** 2),
    "slices": lambda xp, x: xp.sum(x[0, 1:] * x[1, :-1]) + xp.sum(x[:, 0] ** 3),
    "kinks": lambda xp, x: xp.sum(xp.maximum(x, 0.1 * x) * xp.abs(x)),
    "constant": lambda xp, x: xp.sum(x) * 0.0 + 3.0,
    "linear": lambda xp, x: xp.sum(2 * x),
}
VECTOR = {
    "rows": lambda xp, x: xp.sum(x * x, axis=1),
    "elementwise": lambda xp, x: xp.sin(x) * xp.exp(x),
    "outer": lambda xp, x: x[0][:, None] * x[1][None, :],
    "softmax": lambda xp, x: xp.exp(x) / xp.sum(xp.exp(x), axis=-1, keepdims=True),
    "partly constant": lambda xp, x: xp.stack([x[0] * x[0], x[0] * 0.0 + 1.0]),
}


@pytest.mark.parametrize("name", SCALAR)
def test_of_scalar_functions(both, name):
    def compute(lib):
        def f(x):
            return SCALAR[name](lib.xp, x)

        x, v = lib.array(X), lib.array(V)
        g, value = (
            lib.func.grad_and_value(f)(x) if lib.xp is torch else func.value_and_grad(f)(x)[::-1]
        )
        _, product = lib.func.jvp(lib.func.grad(f), (x,), (v,))
        return value, g, product, lib.func.hessian(f)(x), lib.func.jacrev(lib.func.jacrev(f))(x)

    compare(both, compute)


@pytest.mark.parametrize("name", VECTOR)
def test_of_vector_functions(both, name):
    def compute(lib):
        def f(x):
            return VECTOR[name](lib.xp, x)

        x, v = lib.array(X), lib.array(V)
        out, pull = lib.func.vjp(f, x)
        first, second = pull(out), pull(2 * out)  # more than once
        pushed = lib.func.jvp(f, (x,), (v,))
        return out, first, second, pushed, lib.func.jacrev(f)(x), lib.func.jacfwd(f)(x)

    compare(both, compute)


@pytest.mark.parametrize("name", ["polynomial", "matrices", "product"])
def test_hvp_is_the_hessian_times_a_vector(xp, name):
    def f(x):
        return SCALAR[name](xp, x)

    x, v = xp.asarray(X), xp.asarray(V)
    value, product = func.hvp(f, (x,), (v,))
    h = func.hessian(f)(x).numpy()
    np.testing.assert_allclose(product.numpy(), np.tensordot(h, V, 2), rtol=1e-9)
    assert value.item() == pytest.approx(f(x).item())
    (a, b) = func.hvp(lambda p, q: f(p * q), (x, v), (v, x))[1]
    assert (a.shape, b.shape) == ((2, 3), (2, 3))


def test_several_arguments(both):
    def compute(lib):
        def f(x, w, n):
            return lib.xp.sum(lib.xp.tanh(lib.xp.matmul(x, w)) ** n)

        x, w = lib.array(X), lib.array(W)
        return (
            lib.func.grad(f)(x, w, 2),
            lib.func.grad(f, argnums=1)(x, w, 2),
            lib.func.grad(f, argnums=(0, 1))(x, w, 3),
            lib.func.jacrev(f, argnums=(1, 0))(x, w, 3),
            lib.func.hessian(f, argnums=1)(x, w, 2),
            lib.func.jacfwd(f, argnums=1)(x, w, 2),
            lib.func.vjp(lambda a, b: f(a, b, 2), x, w)[1](lib.array(np.asarray(2.0))),
            lib.func.jvp(lambda a, b: f(a, b, 2), (x, w), (x, w)),
        )

    compare(both, compute)
    x = tinyxp.ones(2)
    assert func.grad(lambda x, y: (x * y).sum(), argnums=-1)(x, 3 * x).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="argnums 2 is out of range for 1 arguments"):
        func.grad(lambda x: x, argnums=2)(x)


def test_nests_of_arrays(both):
    def compute(lib):
        def f(p):
            h = lib.xp.tanh(lib.xp.matmul(p["first"]["x"], p["second"][0]) + p["second"][1])
            return {"loss": lib.xp.sum(h * h), "parts": [h, (h + 1,)]}

        p = {"first": {"x": lib.array(X)}, "second": [lib.array(W), lib.array(np.ones(4))]}
        out, pull = lib.func.vjp(f, p)
        g = lib.func.grad(lambda q: f(q)["loss"])(p)
        assert type(g["second"]) is list
        return (
            out,
            pull(out),
            g,
            lib.func.jvp(f, (p,), (p,)),
            lib.func.jacrev(lambda q: f(q)["loss"])(p),
        )

    compare(both, compute)


def test_aux(both):
    def compute(lib):
        def f(x):
            return lib.xp.sum(x * x), {"double": 2 * x}

        found = lib.func.grad(f, has_aux=True)(lib.array(X))
        assert not found[1]["double"].requires_grad
        return found

    compare(both, compute)
    (value, aux), g = func.value_and_grad(lambda x: ((x * x).sum(), "note"), has_aux=True)(
        tinyxp.ones(2)
    )
    assert (value.item(), aux, g.tolist()) == (2.0, "note", [2.0, 2.0])


# ---------------------------------------------------------------- nesting
def test_derivatives_of_derivatives(both):
    def compute(lib):
        def f(x):
            return lib.xp.sin(x) * x**3

        found, x = [], lib.array(np.asarray(1.3))
        for _ in range(4):
            f = lib.func.grad(f)
            found.append(f(x))
        return found

    compare(both, compute)


def test_perturbations_are_not_confused(both):
    """The inner derivative does not see the outer variable as its own (Siskind and Pearlmutter, 2005)."""

    def compute(lib):
        d = lib.func.grad
        x = lib.array(np.asarray(3.0))
        return (
            d(lambda x: x * d(lambda y: x + y)(lib.array(np.asarray(1.0))))(x),
            d(lambda x: x * d(lambda y: x * y * y)(x))(x),
            d(lambda x: d(lambda y: y * x * x)(2 * x) * x)(x),
            lib.func.jvp(
                lambda x: lib.func.jvp(lambda y: x * y * y, (x,), (2 * x,))[1] * x, (x,), (x,)
            ),
            lib.func.jvp(d(lambda y: y**4), (x,), (x,)),
            d(lambda x: lib.func.jvp(lambda y: y**4 * x, (x,), (x,))[1])(x),
            d(lambda x: lib.func.vjp(lambda y: y * y * x, x)[1](x)[0])(x),
        )

    compare(both, compute)


def test_a_transformation_inside_of_a_recorded_program(xp):
    """What a function closes over is differentiated by an outer backward."""
    w = xp.Tensor([2.0, 3.0], requires_grad=True)
    g = func.grad(lambda x: (w * x**3).sum())(xp.Tensor([1.0, 2.0]))
    g.sum().backward()
    assert w.grad.tolist() == [3.0, 12.0]
    w.zero_grad()
    _, t = func.jvp(lambda x: w * x**2, (xp.Tensor([1.0, 2.0]),), (xp.Tensor([1.0, 1.0]),))
    t.sum().backward()
    assert w.grad.tolist() == [2.0, 4.0]


def test_a_tensor_that_requires_grad_as_an_argument(xp):
    x = xp.Tensor([1.0, 2.0], requires_grad=True)
    value, g = func.value_and_grad(lambda t: (t**3).sum())(x)
    assert x.grad is None
    (value + g.sum()).backward()
    assert x.grad.tolist() == [3.0 + 6.0, 12.0 + 12.0]


def test_results_are_outside_of_the_graph_unless_an_outer_one_needs_them(xp):
    x = xp.ones(2)
    out, pull = func.vjp(lambda t: t * t, x)
    for t in (
        func.grad(lambda t: (t * t).sum())(x),
        out,
        *pull(x),
        *func.jvp(lambda t: t * t, (x,), (x,)),
        func.jacfwd(lambda t: t * t)(x),
    ):
        assert not t.requires_grad
    w = xp.Tensor([1.0], requires_grad=True)
    with no_grad():
        assert not func.grad(lambda t: (w * t).sum())(x).requires_grad
    assert w.grad is None


def test_under_no_grad(xp):
    with no_grad():
        assert func.grad(lambda t: (t * t).sum())(xp.Tensor([3.0])).tolist() == [6.0]
        assert func.jvp(lambda t: t * t, (xp.Tensor([3.0]),), (xp.Tensor([1.0]),))[1].tolist() == [
            6.0
        ]
        assert func.hessian(lambda t: (t**3).sum())(xp.Tensor([3.0])).tolist() == [[18.0]]
        assert not tinyxp.is_grad_enabled()


def test_the_argument_may_be_written_before_its_vjp(xp):
    """A vjp is taken at the point where the function was evaluated."""
    x = xp.Tensor([1.0, 2.0])
    _, pull = func.vjp(lambda t: t * t, x)
    x += 10.0
    assert pull(xp.ones(2))[0].tolist() == [2.0, 4.0]
    assert x.tolist() == [11.0, 12.0]


def test_writes_inside_of_a_function(xp):
    def f(x):
        y = xp.zeros(3)
        y[:2] = x * x
        y[1:] += x
        return (y * y).sum()

    x = xp.Tensor([1.0, 2.0])  # y = (x0², x1² + x0, x1)
    assert func.grad(f)(x).tolist() == [4.0 + 10.0, 40.0 + 4.0]
    np.testing.assert_allclose(
        func.hessian(f)(x).numpy(), [[12.0 + 2.0, 8.0], [8.0, 12 * 4.0 + 4.0 * 1 + 2.0]]
    )


def test_checkpoints_inside_of_transformations(both):
    x = both[0].array(X)

    def f(t):
        return tinyxp.sum(tinyxp.tanh(t) ** 3)

    np.testing.assert_allclose(
        func.hessian(lambda t: checkpoint(f, t))(x).numpy(), func.hessian(f)(x).numpy(), rtol=1e-12
    )


# ---------------------------------------------------------------- shapes and errors
def test_empty_arrays(xp):
    x = xp.zeros((0, 2))
    assert func.grad(xp.sum)(x).shape == (0, 2)
    assert func.jacrev(lambda t: t * 2)(x).shape == (0, 2, 0, 2)
    assert func.jacfwd(lambda t: t * 2)(x).shape == (0, 2, 0, 2)
    assert func.hessian(xp.sum)(x).shape == (0, 2, 0, 2)


def test_misuse(xp):
    x = xp.ones(2)
    with pytest.raises(ShapeError, match=r"single element; got float32\[2\]"):
        func.grad(lambda t: t * 2)(x)
    with pytest.raises(ShapeError, match=r"single element; got 3.0"):
        func.grad(lambda t: 3.0)(x)
    with pytest.raises(ShapeError, match="structure of the result: 1 Tensors; got 2"):
        func.vjp(lambda t: t * 2, x)[1]((x, x))
    with pytest.raises(ShapeError, match=r"shapes of the primals, \[\(2,\)\]; got \[\(3,\)\]"):
        func.jvp(lambda t: t * 2, (x,), (xp.ones(3),))
    with pytest.raises(ShapeError, match="one Tensor; got tuple"):
        func.jacrev(lambda t: (t, t))(x)
    with pytest.raises(DTypeError, match="only floating Tensors"):
        func.grad(xp.sum)(xp.asarray([1, 2]))


def test_a_function_that_ignores_its_argument(xp):
    x = xp.ones(2)
    assert func.grad(lambda t: xp.ones(()))(x).tolist() == [0.0, 0.0]
    assert func.vjp(lambda t: xp.ones(3), x)[1](xp.ones(3))[0].tolist() == [0.0, 0.0]
    assert func.jvp(lambda t: xp.ones(3), (x,), (x,))[1].tolist() == [0.0] * 3
    assert func.jacrev(lambda t: xp.ones(3))(x).tolist() == [[0.0, 0.0]] * 3


# ---------------------------------------------------------------- modules
def network():
    first = nn.Linear(3, 4)
    return nn.Sequential(first, nn.GELU(), nn.Linear(4, 3), first)  # `first` stands in two places


def test_functional_call(xp):
    model = network()
    x = xp.ones((2, 3))
    own = {name: p.detach() for name, p in model.named_parameters()}
    doubled = {name: 2 * p for name, p in own.items()}
    kept = dict(model.named_parameters())
    expected = model(x)
    found = func.functional_call(model, doubled, x)
    assert not np.allclose(found.numpy(), expected.detach().numpy())
    assert dict(model.named_parameters()) == kept
    model.load_state_dict(doubled)
    np.testing.assert_allclose(model(x).detach().numpy(), found.numpy(), rtol=1e-6)
    with pytest.raises((GraphError, ValueError, KeyError), match="nothing"):
        func.functional_call(model, {"nothing": x}, x)


def test_gradients_through_functional_call(xp):
    model, x = network(), xp.ones((2, 3))
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(p):
        return (func.functional_call(model, p, x) ** 2).sum()

    value, g = func.value_and_grad(loss)(parameters)
    (model(x) ** 2).sum().backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(g[name].numpy(), p.grad.numpy(), rtol=1e-5, atol=1e-6)
    assert value.item() == pytest.approx((model(x) ** 2).sum().item())
    # one step of an inner optimisation is differentiated (as in MAML)
    start = {name: p.requires_grad_() for name, p in parameters.items()}
    stepped = {
        name: p - 0.01 * g
        for (name, p), g in zip(
            start.items(), grad(loss(start), list(start.values()), create_graph=True), strict=True
        )
    }
    loss(stepped).backward()
    assert all(p.grad is not None and float(xp.sum(p.grad**2)) > 0 for p in start.values())
