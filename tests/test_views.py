"""Views, writes, and what backward sees of them."""

from __future__ import annotations

import copy
import weakref

import numpy as np
import pytest

import tinyxp
from tinyxp import no_grad
from tinyxp.errors import SAVED_MODIFIED, DTypeError, GraphError, ShapeError


# ---------------------------------------------------------------- writes and what was saved
def leaf(xp, values):
    return xp.Tensor(values, requires_grad=True)


def test_saved_values_are_not_changed_by_later_writes(xp):
    """Backward sees each value as it was when it was used."""
    w = leaf(xp, [1.0, 2.0, 3.0])
    x = 2 * w
    y = x * x  # saves x = 2w
    x[0] = 100.0
    z = x * x  # saves (100, 4, 6)
    x += 1.0
    (y + z).sum().backward()
    assert w.grad.tolist() == [8.0, 32.0, 48.0]
    assert x.tolist() == [101.0, 5.0, 7.0]


def test_results_that_were_saved_are_not_changed_by_later_writes(xp):
    w = leaf(xp, [0.0, 1.0])
    y = xp.exp(w)  # saves its result
    y *= 3.0
    y[0] = y[1]
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), [0.0, 6 * np.e], rtol=1e-6)


def test_plain_arrays_that_were_saved(xp):
    """The other factor needs no gradient, and may be written too."""
    w, x = leaf(xp, [1.0, 2.0]), xp.Tensor([3.0, 4.0])
    y = (w * x).sum()
    x += 10.0
    x[:1] = 0.0
    y.backward()
    assert w.grad.tolist() == [3.0, 4.0]


def test_a_saved_array_that_becomes_a_leaf(xp):
    """Optimizers write leaves without a copy; what was saved before stays as it was."""
    w, x = leaf(xp, [1.0, 2.0]), xp.Tensor([3.0, 4.0])
    y = (w * x).sum()
    x.requires_grad_()
    with no_grad():
        x += 10.0
    y.backward()
    assert w.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("write", ["data", "copy"])
def test_other_ways_to_write(xp, write):
    w, x = leaf(xp, [1.0, 2.0]), xp.Tensor([3.0, 4.0])
    y = (w * x).sum()
    if write == "data":
        x.data = xp.zeros(2)
    else:
        copy.copy(x)[...] = 0.0
    y.backward()
    assert w.grad.tolist() == [3.0, 4.0]


def test_keys_are_not_changed_by_later_writes(xp):
    w, index = leaf(xp, [1.0, 2.0, 3.0]), xp.asarray([0, 0, 2])
    y = w[index].sum()
    index[0] = 1
    y.backward()
    assert w.grad.tolist() == [2.0, 0.0, 1.0]


def test_a_write_copies_only_what_somebody_holds(xp, backend):
    """An array that no graph saved is written in place; so is one whose graph was let go and copied once."""
    x = xp.zeros(4)
    raw = x.data
    x[1:] = 1.0
    x += 1.0
    assert backend.shares_memory(x.data, raw)
    y = leaf(xp, np.ones(4, np.float32)) * x
    x[0] = 5.0
    assert not backend.shares_memory(x.data, raw)
    raw = x.data
    x[1] = 6.0
    assert backend.shares_memory(x.data, raw)
    assert y.tolist() == [1.0, 2.0, 2.0, 2.0]


# ---------------------------------------------------------------- gradients of writes
def test_a_write_into_a_view_changes_its_base_and_the_gradients(xp):
    w, v = leaf(xp, [1.0, 2.0]), leaf(xp, [5.0])
    x = w * 3.0
    part = x[1:]
    part[...] = v * v
    assert x.tolist() == [3.0, 25.0]
    (x * x).sum().backward()
    assert w.grad.tolist() == [18.0, 0.0]
    assert v.grad.tolist() == [500.0]


def test_a_tensor_written_to_itself(xp):
    w = leaf(xp, [1.0, 2.0])
    x = 2 * w
    x[...] = x
    x[::-1] = x
    x[::-1][...] = x
    x += x
    x.sum().backward()
    assert w.grad.tolist() == [4.0, 4.0]


def test_an_element_that_is_written_twice_keeps_the_last_value(xp):
    """So does the gradient: what was written over has none."""
    v, x = leaf(xp, [1.0, 2.0, 3.0]), xp.zeros(4)
    x[[1, 3, 1]] = v
    assert x.tolist() == [0.0, 3.0, 0.0, 2.0]
    (x * xp.arange(4.0)).sum().backward()
    assert v.grad.tolist() == [0.0, 3.0, 1.0]
    m, y = leaf(xp, [[1.0, 2.0], [3.0, 4.0]]), xp.zeros((2, 3))
    y[[0, 0], :2] = m
    y.sum().backward()
    assert m.grad.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_written_values_are_broadcast_and_cast(xp):
    v, x = leaf(xp, [2.0]), xp.zeros((2, 3), dtype="float64")
    x[:, 1:] = v
    x.sum().backward()
    assert x.tolist() == [[0.0, 2.0, 2.0]] * 2
    assert v.grad.tolist() == [4.0]
    assert v.grad.dtype == xp.float32


def test_a_loop_of_writes(xp):
    """An algorithm written for NumPy: a recurrence, element by element."""
    w, x = leaf(xp, 0.5), xp.zeros(6)
    x[0] = 1.0
    for i in range(1, 6):
        x[i] = x[i - 1] * w
    x[-1].backward()
    assert x.tolist() == [0.5**i for i in range(6)]
    assert w.grad.item() == pytest.approx(5 * 0.5**4)


def test_parts_of_complex_numbers_are_views(xp):
    w, z = leaf(xp, [1.0, 2.0]), xp.asarray([1 + 2j, 3 + 4j])
    xp.real(z)[...] = w * w
    xp.imag(z)[0] = 7.0
    assert z.tolist() == [1 + 7j, 4 + 4j]
    (xp.real(z) * xp.imag(z)).sum().backward()
    assert w.grad.tolist() == [14.0, 16.0]


def test_gradients_of_writes_can_be_differentiated(xp):
    def f(x):
        y = x * 1.0
        y[::2][0] = x[1] ** 2
        y[1:] *= y[:-1]
        return (y**2).sum()

    tinyxp.testing.gradcheck(f, xp.asarray(np.asarray([0.7, -1.2, 0.4])))


# ---------------------------------------------------------------- leaves
def test_a_leaf_that_requires_grad_is_not_written_while_recording(xp):
    w = leaf(xp, [1.0, 2.0])
    view = w[1:]
    for write, text in (
        (lambda: w.__setitem__(0, 5.0), r"x\[...\] = ... writes in place into a leaf"),
        (lambda: view.__setitem__(0, 5.0), "writes in place into a leaf"),
        (lambda: w.__iadd__(1.0), r"x \+= y writes in place into a leaf"),
        (lambda: view.__imul__(2.0), r"x \*= y writes in place into a leaf"),
    ):
        with pytest.raises(GraphError, match=text) as error:
            write()
        assert "with tinyxp.no_grad():" in str(error.value)
    assert w.tolist() == [1.0, 2.0]


def test_an_optimizer_writes_leaves_in_place(xp, backend):
    """No copy, views follow, and a graph from before refuses with the lesson."""
    w = leaf(xp, [1.0, 2.0])
    raw, view = w.data, w[::-1]
    old = (w * w).sum()
    with no_grad():
        w -= 0.5
        w[0] = 7.0
    assert backend.shares_memory(raw, w.data)
    assert view.tolist() == [1.5, 7.0]
    with pytest.raises(GraphError) as error:
        old.backward()
    assert str(error.value) == SAVED_MODIFIED.format(
        what="a parameter of shape (2,), saved by multiply"
    )
    (view * view).sum().backward()
    assert w.grad.tolist() == [14.0, 3.0]


@pytest.mark.parametrize(
    "through",
    [
        "view",
        "detached",
        "view of detached",
        "view made without recording",
        "after requires_grad_(False)",
    ],
)
def test_every_way_to_write_a_leaf_is_noticed(xp, through):
    w = leaf(xp, [1.0, 2.0])
    old = (w * w).sum()
    if through == "view":
        with no_grad():
            w[1:] += 1.0
    elif through == "detached":
        w.detach()[0] = 5.0
    elif through == "view of detached":
        w.detach()[1:] += 1.0
    elif through == "view made without recording":
        with no_grad():
            part = w[1:]
        part += 1.0
    else:
        w.requires_grad_(False)
        w += 1.0
    assert w.tolist() != [1.0, 2.0]
    with pytest.raises(GraphError, match="overwritten in place"):
        old.backward()


def test_a_graph_that_did_not_save_the_leaf_goes_on(xp):
    w = leaf(xp, [1.0, 2.0])
    y = (w + 1.0).sum()
    with no_grad():
        w += 1.0
    y.backward()
    assert w.grad.tolist() == [1.0, 1.0]


def packed(xp):
    """Return an array and two parameters that are views of it."""
    x = xp.zeros((2, 3)) + 1.0
    return x, [x[i].requires_grad_() for i in range(2)]


def test_parameters_may_be_parts_of_one_array(xp):
    """Writes go both ways, and views of a part lead to its gradient also after a write."""
    x, (a, b) = packed(xp)
    flipped = a[::-1]
    with no_grad():
        a += 2.0
    b.data[0] = 7.0
    tinyxp._core.written(b)  # as optimizers do
    assert x.tolist() == [[3.0] * 3, [7.0, 1.0, 1.0]]
    x[0, 1] = 5.0
    assert (a.tolist(), flipped.tolist()) == ([3.0, 5.0, 3.0], [3.0, 5.0, 3.0])
    (flipped * flipped).sum().backward()
    assert a.grad.tolist() == [6.0, 10.0, 6.0]
    assert b.grad is None
    assert not x.requires_grad


@pytest.mark.parametrize("saved", ["part", "view of a part", "whole", "other part", "detached"])
def test_what_is_saved_of_an_array_with_parameters(xp, saved):
    """Parameters are written without a copy, so a graph that saved any of the array refuses to go on."""
    x, (a, b) = packed(xp)
    w = leaf(xp, 2.0)
    y = {"part": a, "view of a part": a[1:], "whole": x, "other part": b, "detached": a.detach()}[
        saved
    ]
    old = (w * y).sum()
    a.data[0] = 7.0
    tinyxp._core.written(a)
    with pytest.raises(GraphError, match="overwritten in place"):
        old.backward()


def test_what_was_saved_before_a_part_became_a_parameter(xp):
    w, x = leaf(xp, [1.0, 1.0]), xp.asarray([2.0, 3.0], dtype="float32")
    old = (w * x).sum()
    part = x[:1].requires_grad_()
    part.data[0] = 7.0
    tinyxp._core.written(part)
    old.backward()
    assert w.grad.tolist() == [2.0, 3.0]
    assert x.tolist() == [7.0, 3.0]


def test_views_of_a_part_are_not_written_while_recording(xp):
    x, (a, _) = packed(xp)
    w, view, detached = leaf(xp, 2.0), a[1:], a[1:].detach()
    with no_grad():
        quiet = a[1:]
    for value in (5.0, w):
        with pytest.raises(GraphError, match="writes in place into a leaf"):
            view[0] = value
    detached[0] = 8.0
    quiet[1] = 9.0
    assert x.tolist() == [[1.0, 8.0, 9.0], [1.0] * 3]
    assert not any(t.requires_grad for t in (detached, quiet))
    with pytest.raises(GraphError, match="the gradient would be lost"):
        quiet[0] = w


def test_a_part_that_is_no_parameter_any_more(xp):
    x, (a, b) = packed(xp)
    old = a[1:]
    a.requires_grad_(False)
    new = a[1:]
    x += 1.0
    assert not new.requires_grad
    (old * old).sum().backward()  # still leads to where it was made
    assert (a.tolist(), a.grad, b.grad) == ([2.0] * 3, None, None)
    w = leaf(xp, 3.0)
    x[0] = w
    (new * new).sum().backward()
    assert w.grad.item() == 12.0


# ---------------------------------------------------------------- detach
def test_detached_tensors_share_their_array(xp):
    w = leaf(xp, [1.0, 2.0])
    x = w * 2.0
    y = x * x
    d = x.detach()
    part = d[1:]
    x[0] = 10.0
    assert (d.tolist(), part.tolist()) == ([10.0, 4.0], [4.0])
    part[0] = 7.0
    d.detach()[0] = 3.0
    assert (x.tolist(), d.tolist()) == ([3.0, 7.0], [3.0, 7.0])
    assert not any(t.requires_grad for t in (d, part))
    y.sum().backward()
    assert w.grad.tolist() == [8.0, 16.0]


@pytest.mark.parametrize("written", ["itself", "detached", "view of detached"])
def test_what_is_saved_of_an_array_that_is_shared(xp, written):
    """A graph that saves one of several Tensors on the same array sees none of their later writes."""
    w = leaf(xp, [1.0, 2.0])
    x = w * 2.0
    d = x.detach()
    y = x * x + d * w
    target = {"itself": x, "detached": d, "view of detached": d[:]}[written]
    target[...] = 50.0
    assert x.tolist() == d.tolist() == [50.0, 50.0]
    y.sum().backward()
    assert w.grad.tolist() == [8.0 + 2.0, 16.0 + 4.0]


def test_a_detached_view(xp):
    w = leaf(xp, [1.0, 2.0, 3.0])
    x = w * 1.0
    d = x[1:].detach()
    d[0] = -1.0
    x[2] = 5.0
    assert (x.tolist(), d.tolist()) == ([1.0, -1.0, 5.0], [-1.0, 5.0])


def test_a_recorded_write_is_seen_by_detached_tensors_without_a_gradient(xp):
    w, x = leaf(xp, [1.0, 2.0]), xp.zeros(3)
    d = x.detach()
    part = d[:2]
    x[1:] = w
    assert (d.tolist(), part.tolist()) == ([0.0, 1.0, 2.0], [0.0, 1.0])
    assert x.requires_grad
    assert not any(t.requires_grad for t in (d, part))


def test_a_gradient_is_not_lost_in_a_detached_view(xp):
    w = leaf(xp, [1.0])
    x = w * 1.0
    with no_grad():
        part = x[:]
    with pytest.raises(GraphError, match="the gradient would be lost"):
        part[0] = w[0]


def test_writes_without_recording_do_not_change_the_graph(xp):
    """Under no_grad a write changes values only, as in PyTorch."""
    w = leaf(xp, [1.0, 2.0])
    x = w * 3.0
    y = x * x
    with no_grad():
        x += 100.0
    (x + y).sum().backward()
    assert w.grad.tolist() == [3.0 + 18.0, 3.0 + 36.0]


# ---------------------------------------------------------------- broadcast views
def test_a_write_into_a_broadcast_view_copies_first(xp):
    x = xp.zeros(2)
    wide = xp.broadcast_to(x, (2, 2))
    row = wide[0]
    x[0] = 1.0
    assert (wide.tolist(), row.tolist()) == ([[1.0, 0.0]] * 2, [1.0, 0.0])
    wide[0, 1] = 5.0
    assert (x.tolist(), wide.tolist()) == ([1.0, 0.0], [[1.0, 5.0], [1.0, 0.0]])
    x[1] = 7.0
    assert (wide.tolist(), row.tolist()) == ([[1.0, 5.0], [1.0, 0.0]], [1.0, 7.0])


def test_gradients_of_a_write_into_a_broadcast_view(xp):
    w = leaf(xp, [1.0, 2.0])
    wide = xp.broadcast_to(w, (3, 2))
    wide[0] = 0.0
    wide *= wide
    wide.sum().backward()
    assert w.grad.tolist() == [4.0, 8.0]


# ---------------------------------------------------------------- other memory
BASES = [
    "x", "x.T", "x[::2]", "x[:, 1:]", "x[::-1]", "x[None, :, 0]", "x[1, ::2]", "x[:1]", "lib.broadcast_to(x, (2, 4, 6))",
    "lib.permute_dims(lib.reshape(x, (2, 2, 6)), (1, 0, 2))", "lib.reshape(x, (2, 2, 3, 2))[:, 0]", "x[2:2]",
    "lib.permute_dims(lib.reshape(x, (2, 2, 2, 3)), (0, 1, 3, 2))", "lib.expand_dims(x[:, ::3], axis=1)",
]  # fmt: skip
SHAPES = [
    (-1,),
    (2, -1),
    (-1, 2),
    (4, -1),
    (-1, 3),
    (2, 2, -1),
    (1, -1, 1),
    (-1, 6),
    (3, 2, -1),
    (2, -1, 3),
]


@pytest.mark.parametrize("base", BASES)
def test_a_reshape_is_a_view_where_it_is_one_in_numpy(xp, base):
    """Decided without a look at memory, and right: a write into the base is seen or not as in NumPy."""
    for shape in SHAPES:
        a, x = np.arange(24.0).reshape(4, 6), xp.reshape(xp.arange(24.0), (4, 6))
        try:
            expected = np.reshape(eval(base, {"lib": np, "x": a}), shape)
        except ValueError:
            continue
        found = xp.reshape(eval(base, {"lib": xp, "x": x}), shape)
        a += 100.0
        x += 100.0
        np.testing.assert_array_equal(found.numpy(), expected)


def test_memory_of_the_library_in_another_order(xp):
    """A reshape is a view whatever the memory's order, because our own order decides."""
    host = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    x = xp.asarray(host)
    flat = xp.reshape(x, (6,))
    flat[1] = 9.0
    assert (x.tolist(), flat.tolist()) == (
        [[0.0, 9.0, 2.0], [3.0, 4.0, 5.0]],
        [0.0, 9.0, 2.0, 3.0, 4.0, 5.0],
    )
    x[1, 1] = 8.0
    assert flat.tolist() == [0.0, 9.0, 2.0, 3.0, 8.0, 5.0]


def test_empty_arrays_are_written_too(xp):
    x = xp.zeros((0, 3))
    x[:, 1:][...] = 2.0
    x[xp.zeros((0, 3), dtype="bool")] = 1.0
    x += 1.0
    assert x.shape == (0, 3)


def test_long_chains_of_views(xp):
    x = xp.zeros(1000)
    v = x
    for _ in range(500):
        v = v[1:]
    x[700] = 1.0
    assert v[200].item() == 1.0
    v[0] = 2.0
    assert x[500].item() == 2.0


def test_views_do_not_keep_each_other_alive(xp):
    x = xp.zeros(3)
    v = x[1:]
    dead = weakref.ref(v)
    del v
    assert dead() is None
    views, dead = [x[1:]], weakref.ref(x)
    del x
    assert dead() is not None  # the view needs its base
    views.clear()
    assert dead() is None


# ---------------------------------------------------------------- what cannot be written
@pytest.mark.parametrize(
    ("write", "error", "text"),
    [
        (lambda xp, x: x.__setitem__(0, 2.5), DTypeError, "cannot write the number 2.5 into a Tensor of dtype int64"),
        (lambda xp, x: x.__setitem__(0, xp.asarray(2.5)), DTypeError, r"cannot write dtype float32 .* x.to\('int64'\)"),
        (lambda xp, x: x.__setitem__(slice(2), [1, 2, 3]), ShapeError, "assignment: "),
        (lambda xp, x: x.__setitem__(5, 1), IndexError, "(?i)index 5 is out of bounds"),
        (lambda xp, x: x.__setitem__((0, 0), 1), IndexError, "too many indices"),
        (lambda xp, x: x.__setitem__(1.0, 1), IndexError, "got float 1.0"),
        (lambda xp, x: x.__setitem__("a", 1), IndexError, "an index is an integer, a slice.*got str 'a'"),
        (lambda xp, x: x.__setitem__(xp.asarray([0.0]), 1), IndexError, "integers or booleans; got dtype float32"),
    ],
    ids=range(8),
)  # fmt: skip
def test_writes_that_are_refused(xp, write, error, text):
    x = xp.asarray([1, 2, 3])
    with pytest.raises(error, match=text):
        write(xp, x)
    assert x.tolist() == [1, 2, 3]


@pytest.mark.skip_backend(
    "cupy", reason="CuPy checks no index arrays: the host would wait for the device"
)
def test_index_arrays_out_of_bounds(xp):
    x = xp.asarray([1, 2, 3])
    for access in (lambda: x[[5]], lambda: x.__setitem__([5], 1), lambda: x[xp.asarray([-4])]):
        with pytest.raises(IndexError, match="out of bounds"):
            access()


KEYS = [
    np.int64(1), np.asarray(1), np.asarray([0, 1]), np.True_, np.asarray(False), [True, False, True], [], (), None, ...,
    (None, 1), ([0, 2], [1, 1]), ([[0], [2]], [0, 1]), (slice(None), [0, 0]), ([0, 1], None, slice(None, None, -1)),
    (slice(np.int64(0), np.int64(2)),), (0, [1, 0]), np.asarray([[True, False, True]] * 3), ([True, False, True], 0),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_keys_of_every_kind(xp, key):
    """Reading, writing, and the gradients of both, as NumPy and as a sum over what was read."""
    a = np.arange(9.0).reshape(3, 3)
    w = leaf(xp, a)
    part = w[key]
    np.testing.assert_array_equal(part.detach().numpy(), a[key])
    (part * part).sum().backward()
    expected = np.zeros((3, 3))
    np.add.at(expected, key, 2 * a[key])
    np.testing.assert_array_equal(w.grad.numpy(), expected)
    x, b = xp.asarray(a.copy()), a.copy()
    x[key], b[key] = -1.0, -1.0
    np.testing.assert_array_equal(x.numpy(), b)


def test_tensors_as_keys(xp):
    x = xp.reshape(xp.arange(9), (3, 3))
    i = xp.asarray([2, 0])
    assert x[i].tolist() == x[[2, 0]].tolist()
    assert x[xp.asarray(1)].tolist() == x[1].tolist()
    assert x[xp.asarray(1) :].tolist() == x[1:].tolist()
    assert x[i, i].tolist() == [8, 0]
    assert x[x > 6].tolist() == [7, 8]
    assert x[:, xp.asarray([True, False, True])].tolist() == [[0, 2], [3, 5], [6, 8]]
    assert x[xp.asarray(True)].shape == (1, 3, 3)
