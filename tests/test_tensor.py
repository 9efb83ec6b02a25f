"""Tensor: construction, promotion, operators, methods, conversions."""

from __future__ import annotations

import operator
from itertools import product

import numpy as np
import pytest

import tinyxp
from tinyxp.errors import (
    DeviceMismatchError,
    DTypeError,
    GradientRequiredError,
    GraphError,
    ShapeError,
    UnknownBackendError,
)

NUMERIC = (
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128".split()
)


# ---------------------------------------------------------------- construction
@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1.5, "float32", ()),
        (2, "int64", ()),
        (True, "bool", ()),
        (1 + 2j, "complex64", ()),
        ([1, 2], "int64", (2,)),
        ([1, 2.0], "float32", (2,)),
        ([[True], [False]], "bool", (2, 1)),
        ((1.0, (2j)), "complex64", (2,)),
        ([], "float32", (0,)),
        ([[], []], "float32", (2, 0)),
        ([2**63], "uint64", (1,)),
        (range(3), "int64", (3,)),
        (np.float64(1.0), "float64", ()),
        (np.int8(1), "int8", ()),
        (np.ones(2), "float64", (2,)),
        (np.ones(2, np.float32), "float32", (2,)),
        ([np.ones(2), np.ones(2)], "float64", (2, 2)),
        ([np.float64(1.0), np.float64(2.0)], "float64", (2,)),
        ([np.int16(1)], "int16", (1,)),
    ],
)
def test_dtype_and_shape_of_data(xp, data, dtype, shape):
    """Python numbers take the defaults, whatever has a dtype keeps it."""
    for make in (xp.Tensor, xp.asarray):
        x = make(data)
        assert (x.dtype, x.shape) == (dtype, shape)
        assert x.device == xp.get_default_device()
        np.testing.assert_array_equal(x.numpy(), np.asarray(data, dtype=dtype))


def test_default_dtype(xp):
    with xp.default_dtype("float64"):
        assert xp.Tensor([1.0]).dtype == xp.float64
        assert xp.Tensor([1j]).dtype == xp.complex128
        assert xp.zeros(1).dtype == xp.float64
        assert xp.full(1, 2.0).dtype == xp.float64
        assert xp.linspace(0, 1, 2).dtype == xp.float64
        assert xp.arange(3.0).dtype == xp.float64
        assert (xp.Tensor([1]) + 0.5).dtype == xp.float64
        assert xp.Tensor([1]).dtype == xp.int64
        assert xp.Tensor(np.ones(1, np.float32)).dtype == xp.float32
    assert xp.Tensor([1.0]).dtype == xp.float32
    with pytest.raises(DTypeError, match="must be a real floating one; got int64"):
        xp.set_default_dtype("int64")


def test_dtype_arguments(xp):
    for spec in ("float64", xp.float64, np.float64, np.dtype("float64")):
        assert xp.Tensor([1, 2], dtype=spec).dtype is xp.float64
    with pytest.raises(DTypeError, match="no dtype 'float31'"):
        xp.Tensor([1], dtype="float31")


def test_device_argument(xp, device):
    assert xp.Tensor([1], device=device).device is device
    assert xp.Tensor([1], device=str(device)).device is device
    with pytest.raises(UnknownBackendError, match="did you mean 'cpu'"):
        xp.Tensor([1], device="cpux")


@pytest.mark.parametrize("data", [None, "abc", [[1.0], [1.0, 2.0]], [None], {}])
def test_what_is_no_array(xp, data):
    with pytest.raises(DTypeError, match="cannot make an array of"):
        xp.Tensor(data)


def test_integers_stay_exact(xp):
    """Token ids above 2**24, where float32 has gaps."""
    ids = [2**24 + 1, 2**31 + 1, 2**53 + 1, 2**63 - 1, -(2**63)]
    x = xp.Tensor(ids)
    assert x.tolist() == ids
    assert (x[:3] + 1).tolist() == [n + 1 for n in ids[:3]]
    assert xp.take(x, xp.Tensor([0])).item() == 2**24 + 1


def test_a_tensor_owns_its_array(xp):
    host = np.ones(3, np.float32)
    x = xp.Tensor(host)
    host[0] = 5.0
    y = xp.Tensor(x)
    y[1] = 7.0
    assert x.tolist() == [1.0, 1.0, 1.0]


def test_a_tensor_of_a_tensor_is_outside_the_graph(xp):
    x = xp.Tensor([1.0], requires_grad=True)
    assert not xp.Tensor(2 * x).requires_grad
    assert not xp.Tensor([x[0], 2 * x[0]]).requires_grad


def test_asarray_keeps_the_graph(xp):
    x = xp.Tensor(3.0, requires_grad=True)
    assert xp.asarray(x) is x
    xp.asarray([[x, 2 * x], [1, x * x]]).sum().backward()
    assert x.grad.item() == 9.0
    y = xp.asarray(x, copy=True)
    assert y is not x
    assert y.requires_grad


def test_asarray_without_a_copy(xp):
    x = xp.ones(2)
    assert xp.asarray(x, copy=False) is x
    with pytest.raises(ValueError, match="without a copy"):
        xp.asarray(x, dtype="float64", copy=False)


def test_read_only_memory_is_never_written(xp):
    host = np.ones(3)
    host.flags.writeable = False
    x, view, leaf = (xp.asarray(host) for _ in range(3))
    x += 1.0
    view[1:][0] = 5.0
    leaf.requires_grad_()
    with xp.no_grad():
        leaf *= 3.0
    assert host.tolist() == [1.0, 1.0, 1.0]
    assert (x.tolist(), view.tolist(), leaf.tolist()) == ([2.0] * 3, [1.0, 5.0, 1.0], [3.0] * 3)


# ---------------------------------------------------------------- promotion
@pytest.mark.parametrize("op", [operator.add, operator.mul])
def test_promotion_is_that_of_the_standard(xp, op):
    """The table of the standard, which for two arrays is NumPy's; int64 with uint64 has no result."""
    for a, b in product(NUMERIC, NUMERIC):
        kinds = {np.dtype(a).kind, np.dtype(b).kind}
        if len(kinds) == 2 and kinds & {"i", "u"} and kinds & {"f", "c"}:
            continue  # the standard leaves mixed kinds open, see below
        x, y = xp.ones(2, dtype=a), xp.ones(2, dtype=b)
        if kinds == {"i", "u"} and np.result_type(a, b).kind == "f":
            with pytest.raises(DTypeError, match="no common integer dtype"):
                op(x, y)
        else:
            assert op(x, y).dtype == np.result_type(a, b), (a, b)


def test_mixed_kinds_take_the_floating_dtype(xp):
    for i, f in product("bool int8 int64 uint32".split(), "float32 float64 complex64".split()):
        assert (xp.ones(1, dtype=i) + xp.ones(1, dtype=f)).dtype == f


@pytest.mark.parametrize(
    ("dtype", "number", "result"),
    [
        ("int8", 1, "int8"), ("int8", True, "int8"), ("uint8", 1, "uint8"), ("float32", 2, "float32"),
        ("float32", 1.5, "float32"), ("float64", 1.5, "float64"), ("complex64", 1.5, "complex64"),
        ("float32", 1j, "complex64"), ("float64", 1j, "complex128"), ("int32", 1.5, "float32"),
        ("int32", 1j, "complex64"), ("bool", True, "bool"), ("bool", 2, "int64"), ("bool", 0.5, "float32"),
        ("float32", np.float64(2.5), "float32"), ("int8", np.int64(3), "int8"), ("float32", np.True_, "float32"),
    ],
)  # fmt: skip
def test_numbers_follow_the_dtype_of_the_tensor(xp, dtype, number, result):
    """Python numbers and the library's scalars are weak, from both sides, also where gradients are recorded."""
    x = xp.ones(2, dtype=dtype)
    op = operator.or_ if result == "bool" else operator.add
    value = number.item() if isinstance(number, np.generic) else number
    for y in (op(x, number), op(number, x)):
        assert y.dtype == result
        assert y.tolist() == [op(1, value)] * 2


def test_arrays_of_the_library_promote_like_tensors(xp):
    x, host = xp.ones(2), np.ones(2)
    for y in (
        host + x,
        x + host,
        host[0, ...] + x,
        np.ones((2, 2)) @ x,
        x @ np.ones((2, 2)),
        host**x,
    ):
        assert isinstance(y, tinyxp.Tensor)
        assert y.dtype == xp.float64
        assert y.device is x.device
    assert (host < 2 * x).tolist() == [True, True]


@pytest.mark.skip_backend("torch", reason="PyTorch wraps numbers around")
def test_numbers_out_of_range(xp):
    with pytest.raises(OverflowError):
        xp.ones(1, dtype="uint8") + (-1)
    with pytest.raises(OverflowError):
        xp.ones(1, dtype="int8") + 300


def test_an_array_that_is_written_after_its_use(xp):
    """The library's own arrays cannot be watched, so the graph keeps a copy of them."""
    x, host, index = (
        xp.Tensor([1.0, 2.0], requires_grad=True),
        np.asarray([3.0, 4.0]),
        np.asarray([0, 0]),
    )
    y = (x * host).sum() + x[index].sum() + (host @ x)
    host[:], index[:] = 0.0, 1
    y.backward()
    assert x.grad.tolist() == [8.0, 8.0]


# ---------------------------------------------------------------- operators
BINARY = "add sub mul truediv floordiv mod pow".split()
BITWISE = "and_ or_ xor lshift rshift".split()
COMPARE = "eq ne lt le gt ge".split()


@pytest.mark.parametrize("name", BINARY + COMPARE)
def test_operators(xp, name):
    op = getattr(operator, name)
    a, b = np.asarray([3.5, -2.0, 1.0]), np.asarray([2.0, 3.0, 1.0])
    x, y = xp.asarray(a), xp.asarray(b)
    np.testing.assert_allclose(op(x, y).numpy(), op(a, b))
    np.testing.assert_allclose(op(x, 3).numpy(), op(a, 3))
    np.testing.assert_allclose(op(2.5, y).numpy(), op(2.5, b))
    np.testing.assert_allclose(op(a, y).numpy(), op(a, b))


@pytest.mark.parametrize("name", BITWISE)
def test_bitwise_operators(xp, name):
    op = getattr(operator, name)
    a, b = np.asarray([5, 12, 1]), np.asarray([3, 1, 2])
    x, y = xp.asarray(a), xp.asarray(b)
    for found, expected in ((op(x, y), op(a, b)), (op(x, 2), op(a, 2)), (op(9, y), op(9, b))):
        np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", [f"i{n.rstrip('_')}" for n in BINARY + BITWISE])
def test_in_place_operators(xp, name):
    """The same object, its views see it, and NumPy's values."""
    op = getattr(operator, name)
    a = (
        np.asarray([5, 12, 3])
        if name[1:] in "and or xor lshift rshift"
        else np.asarray([5.5, 12.0, 3.0])
    )
    b = np.asarray([2, 1, 3], dtype=a.dtype)
    x, y = xp.asarray(a.copy()), xp.asarray(b)
    view, same = x[::-1], x
    x = op(x, y)
    expected = op(a.copy(), b)
    assert x is same
    np.testing.assert_allclose(x.numpy(), expected)
    np.testing.assert_allclose(view.numpy(), expected[::-1])


def test_matrix_product_in_place(xp):
    x = same = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    x @= xp.asarray([[0.0, 1.0], [1.0, 0.0]])
    assert x is same
    assert x.tolist() == [[2.0, 1.0], [4.0, 3.0]]


def test_in_place_operators_keep_dtype_and_shape(xp):
    with pytest.raises(
        DTypeError, match=r"x \+= y would change the dtype from int64 to float32; write x = x \+ y"
    ):
        operator.iadd(xp.asarray([1, 2]), 1.5)
    with pytest.raises(ShapeError, match=r"x \*= y would change the shape from \(2,\) to \(3, 2\)"):
        operator.imul(xp.ones(2), xp.ones((3, 2)))


def test_unary_operators(xp):
    x = xp.asarray([1.5, -2.0])
    assert ((-x).tolist(), (+x).tolist(), abs(x).tolist()) == ([-1.5, 2.0], [1.5, -2.0], [1.5, 2.0])
    assert (~xp.asarray([0, 5])).tolist() == [-1, -6]
    assert (~xp.asarray([True])).tolist() == [False]


@pytest.mark.parametrize("name", "positive abs floor ceil trunc round conj real".split())
def test_functions_that_change_nothing_give_arrays_of_their_own(xp, name):
    """Where a library gives its argument back, a write into the result must not reach it."""
    for dtype in ("int64", "float32"):
        x = xp.ones(2, dtype=dtype)
        y = getattr(xp, name)(x)
        if y is not x:
            y[0] = 7
            assert x.tolist() == [1, 1]


def test_operators_with_what_is_no_array(xp):
    x = xp.ones(2)
    for other in ([1.0, 2.0], None, "a", {}):
        with pytest.raises(TypeError, match="unsupported operand"):
            x + other
        with pytest.raises(TypeError, match="unsupported operand"):
            operator.iadd(x, other)
    assert (x == None) is False  # noqa: E711 - what Python does where neither side knows the other
    assert (x != "a") is True


def test_shapes_that_do_not_fit(xp):
    with pytest.raises(ShapeError, match=r"add: .*float32\[2\].*float32\[3\]"):
        xp.ones(2) + xp.ones(3)
    with pytest.raises(ShapeError, match=r"equal K; got \(2, 3\) @ \(2, 3\)"):
        xp.ones((2, 3)) @ xp.ones((2, 3))


def test_devices_do_not_mix():
    x, y = tinyxp.ones(1, device="cpu"), tinyxp.ones(1, device="strict:cpu")
    for op in (operator.add, operator.matmul, operator.eq):
        with pytest.raises(
            DeviceMismatchError, match="cpu and strict:cpu; nothing moves between devices by itself"
        ):
            op(x, y)
    with pytest.raises(DeviceMismatchError, match="assignment"):
        x[0] = y[0]


# ---------------------------------------------------------------- attributes and methods
def test_attributes(xp, device):
    x = xp.zeros((2, 3), dtype="float64")
    assert (x.shape, x.ndim, x.size, x.nbytes) == ((2, 3), 2, 6, 48)
    assert (x.dtype, x.device) == (xp.float64, device)
    assert (x.T.shape, x.mT.shape) == ((3, 2), (3, 2))
    assert isinstance(x.data, device.array_type)
    assert x.is_leaf
    assert x._grad_fn is None
    with pytest.raises(ShapeError, match=r"x.T expects a matrix; got shape \(3,\)"):
        _ = xp.ones(3).T
    with pytest.raises(AttributeError):
        x.unknown = 1


def test_data_can_be_assigned(xp):
    x = xp.Tensor([1.0, 2.0], requires_grad=True)
    v, y = x[1:], (x * x).sum()
    x.data = np.asarray([5.0, 6.0], np.float32)
    assert (x.tolist(), v.tolist()) == ([5.0, 6.0], [6.0])
    with pytest.raises(GraphError, match="overwritten in place"):
        y.backward()
    with pytest.raises(ShapeError, match=r"expects the shape \(2,\); got \(3,\)"):
        x.data = xp.ones(3)
    with pytest.raises(DTypeError, match=r"expects float32 .*; got float64"):
        x.data = xp.ones(2, dtype="float64")


def test_methods_take_the_names_of_both_worlds(xp):
    a = np.asarray([[1.0, 5.0, 3.0], [4.0, 2.0, 6.0]])
    x = xp.asarray(a)
    for name in "sum mean prod max min var std all any".split():
        method, reference = getattr(x, name), getattr(a, name)
        np.testing.assert_allclose(method().numpy(), reference())
        for axis in (0, -1, (0, 1)):
            expected = reference(axis, keepdims=True)
            for found in (
                method(axis, True), method(axis=axis, keepdims=True), method(dim=axis, keepdim=True),
            ):  # fmt: skip
                np.testing.assert_allclose(found.numpy(), expected)
    with pytest.raises(TypeError, match="two names of one option"):
        x.sum(0, dim=1)
    assert x.sum(dtype="float32").dtype == xp.float32
    assert x.argmax(dim=1).tolist() == [1, 2]
    assert x.argmin(0, keepdims=True).tolist() == [[0, 1, 0]]


def test_methods_of_shape(xp):
    x = xp.reshape(xp.arange(24), (2, 3, 4))
    a = np.arange(24).reshape(2, 3, 4)
    assert x.reshape(6, 4).shape == x.reshape((6, -1)).shape == x.view(6, 4).shape == (6, 4)
    assert (
        x.permute(2, 0, 1).tolist()
        == x.permute((2, 0, 1)).tolist()
        == a.transpose(2, 0, 1).tolist()
    )
    assert x.transpose().tolist() == a.T.tolist()
    assert x.transpose(0, -1).tolist() == x.swapaxes(0, -1).tolist() == a.swapaxes(0, 2).tolist()
    assert x[0].transpose(0, 1).tolist() == x[0].transpose(-1, -2).tolist() == a[0].T.tolist()
    assert x[0].transpose(0, 0).tolist() == a[0].tolist()
    assert x.unsqueeze(-1).shape == (2, 3, 4, 1)
    assert x.unsqueeze(0).squeeze().shape == x.unsqueeze(0).squeeze(dim=0).shape == (2, 3, 4)
    assert x.flatten().shape == (24,)
    assert x.flatten(1).shape == (2, 12)
    assert x.flatten(0, 1).shape == (6, 4)
    assert xp.asarray(1.0).flatten().shape == (1,)


def test_other_methods(xp):
    x = xp.asarray([0.25, -2.0])
    assert x.clip(0.0).tolist() == [0.25, 0.0]
    assert x.clip(max=0.0).tolist() == [0.0, -2.0]
    assert x.abs().sqrt().tolist() == [0.5, pytest.approx(2**0.5)]
    assert x.astype("int8").dtype == xp.int8
    assert x.matmul(x).item() == pytest.approx(4.0625)
    np.testing.assert_allclose(x.erf().numpy(), [0.2763264, -0.9953223], rtol=1e-6)


def test_to(xp, device):
    x = xp.ones(2)
    assert (
        x.to("float64").dtype == x.to(xp.float64).dtype == x.to(dtype="float64").dtype == xp.float64
    )
    assert x.to("float32") is x
    assert x.to(device) is x.to(str(device)) is x.to(device=device) is x
    moved = x.to("strict:device1", "float64")
    assert (str(moved.device), moved.dtype) == ("strict:device1", xp.float64)
    assert x.to(moved).device is moved.device
    assert x.to(moved).dtype == xp.float64
    assert moved.to_device(device).device is device
    assert x.cpu().device == "cpu"


# ---------------------------------------------------------------- conversions
def test_conversions(xp):
    x = xp.Tensor([[1.5, 2.0]])
    np.testing.assert_array_equal(x.numpy(), np.asarray([[1.5, 2.0]], np.float32))
    assert x.tolist() == [[1.5, 2.0]]
    assert xp.Tensor([[1.5]]).item() == 1.5
    with pytest.raises(ShapeError, match=r"single element; got shape \(1, 2\)"):
        x.item()


def test_numbers(xp):
    assert (
        float(xp.Tensor([1.5])),
        int(xp.Tensor(2.7)),
        bool(xp.Tensor([[0]])),
        complex(xp.Tensor(1j)),
    ) == (1.5, 2, False, 1j)
    assert [10, 20][xp.asarray(1)] == 20
    tracked = xp.Tensor(2.0, requires_grad=True)
    assert (float(tracked), tracked.item(), bool(tracked)) == (2.0, 2.0, True)
    with pytest.raises(TypeError, match="only a 0-d integer Tensor is an index"):
        _ = [10, 20][xp.asarray(1.0)]
    with pytest.raises(
        TypeError, match=r"truth value of a Tensor expects a single element; got shape \(2,\)"
    ):
        bool(xp.ones(2))


def test_length_and_iteration(xp):
    x = xp.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2
    a, b = x
    (a * b).sum().backward()
    assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    for fails in (len, iter):
        with pytest.raises(TypeError, match="0-d Tensor"):
            fails(xp.asarray(1.0))
    assert list(xp.zeros((0, 2))) == []


def test_identity_is_the_hash(xp):
    x, y = xp.ones(1), xp.ones(1)
    assert len({x, y, x}) == 2


def test_conversions_that_would_lose_a_gradient(xp):
    """Nothing is detached without a word; the message has the fix."""
    x = xp.Tensor([1.0], requires_grad=True)
    for convert, fix in (
        (lambda t: t.numpy(), "x.detach().numpy()"),
        (np.asarray, "numpy.asarray(x.detach())"),
        (np.array, "numpy.asarray(x.detach())"),
        (np.from_dlpack, "from_dlpack(x.detach())"),
        (xp.from_dlpack, "xp.from_dlpack(x.detach())"),
    ):
        for t in (x, 2 * x):
            with pytest.raises(GradientRequiredError) as error:
                convert(t)
            assert "would drop the gradient" in str(error.value)
            assert fix in str(error.value)
    assert x.detach().numpy().tolist() == [1.0]


def test_interchange_with_numpy(xp, backend):
    if not backend.host_visible:
        with pytest.raises(DTypeError, match=r"write x.cpu\(\).numpy\(\)"):
            np.asarray(xp.ones(2))
        return
    x = xp.asarray([1.0, 2.0])
    assert np.asarray(x).dtype == np.float32
    assert np.asarray(x, dtype=np.float64).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(x, dtype=np.float64, copy=False)
    assert not np.shares_memory(np.array(x, copy=True), np.asarray(x))
    assert np.from_dlpack(x).tolist() == [1.0, 2.0]
    assert xp.from_dlpack(np.arange(3.0)).tolist() == [0.0, 1.0, 2.0]


def test_numpy_functions_leave_tensors_alone(xp):
    """``__array_ufunc__ = None``: no ufunc makes an array of a Tensor behind our back."""
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.add(np.ones(2), xp.ones(2))


def test_the_namespace_of_a_version(xp):
    assert xp.ones(1).__array_namespace__(api_version="2024.12") is tinyxp
    with pytest.raises(ValueError, match=r"2025.12; got '1999.12'"):
        xp.ones(1).__array_namespace__(api_version="1999.12")


# ---------------------------------------------------------------- text
def test_repr(xp, device):
    place = "" if str(device) == "cpu" else f", device='{device}'"
    x = xp.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert (
        repr(x)
        == f"tensor([[1., 2.],\n        [3., 4.]], dtype=float32{place}, requires_grad=True)"
    )
    assert repr(2 * x[0]) == f"tensor([2., 4.], dtype=float32{place}, grad_fn=<multiply backward>)"
    assert repr(xp.asarray(3)) == f"tensor(3, dtype=int64{place})"
    assert repr(xp.zeros((0, 3))) == f"tensor([], shape=(0, 3), dtype=float32{place})"
    assert "..., " in repr(xp.zeros(2000))


def test_format(xp):
    assert f"{xp.asarray(1.23456):.2f}" == "1.23"
    assert f"{xp.asarray([1])}" == repr(xp.asarray([1]))
