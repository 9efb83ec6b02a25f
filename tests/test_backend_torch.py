"""The PyTorch backend: its tensors without its autograd, its gaps filled, NumPy's indexing."""

from __future__ import annotations

import numpy as np
import pytest

import tinyxp
from tinyxp import dtypes
from tinyxp.backend import get_backend

torch = pytest.importorskip("torch", reason="PyTorch is an optional backend")
TORCH = get_backend("torch")
XP = TORCH.xp
CPU = TORCH.device("cpu")


def test_nothing_is_recorded_by_pytorch():
    parameter = torch.nn.Parameter(torch.ones(3))
    x = TORCH.asarray(parameter)
    assert not x.requires_grad
    assert x.data_ptr() == parameter.data_ptr()
    t = tinyxp.Tensor([1.0, 2.0], requires_grad=True, device="torch:cpu")
    (t * t).sum().backward()
    assert not t.data.requires_grad
    assert torch.is_grad_enabled()
    assert t.grad.tolist() == [2.0, 4.0]


def test_read_only_and_reversed_arrays_are_copied_in_silence():
    host = np.arange(3.0)
    host.flags.writeable = False
    assert TORCH.asarray(host).tolist() == [0.0, 1.0, 2.0]
    assert TORCH.asarray(np.arange(3.0)[::-1]).tolist() == [2.0, 1.0, 0.0]
    assert TORCH.asarray(np.float32(1.5)).dtype == torch.float32


def test_host_memory_is_shared_where_it_can_be():
    x = torch.zeros(2, 3)
    TORCH.to_numpy(x)[0, 0] = 5.0
    assert x[0, 0] == 5.0
    TORCH.to_buffer(x)[0:4] = np.float32(7.0).tobytes()
    assert x[0, 0] == 7.0


@pytest.mark.parametrize("x", [torch.tensor([1 + 2j]).conj(), torch.ones(2, dtype=torch.bfloat16)])
def test_lazily_conjugated_and_bfloat16_tensors_reach_the_host(x):
    host = TORCH.to_numpy(x)
    assert dtypes.of(host.dtype) is dtypes.of(x.dtype)
    assert host.astype(complex).tolist() == x.to(torch.complex128).tolist()


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_wide_unsigned_integers_are_computed_by_the_host(dtype):
    values = np.array([3, 1, 2**16 - 1], dtype)
    x = TORCH.asarray(values)
    for got, want in (
        (XP.add(x, x), values + values),
        (XP.bitwise_right_shift(x, XP.full((3,), 1, dtype=x.dtype)), values >> 1),
        (XP.max(x), values.max()),
        (XP.argsort(x), np.argsort(values)),
        (XP.less(x, XP.flip(x)), values < values[::-1]),
        (XP.take(x, torch.tensor([2, 0])), values[[2, 0]]),
        (XP.concat([x, XP.minimum(x, x)]), np.concatenate([values, values])),
    ):
        np.testing.assert_array_equal(TORCH.to_numpy(got), want)
        assert dtypes.of(got.dtype) is dtypes.of(np.asarray(want).dtype)


def test_errors_of_other_dtypes_are_pytorchs_own():
    with pytest.raises(RuntimeError):
        XP.matmul(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="broadcast"):  # the host's, of a wide unsigned integer
        XP.add(TORCH.asarray(np.ones(2, np.uint16)), torch.ones(3))


def test_views_that_interleave_do_not_share():
    x = torch.zeros(8)
    assert not TORCH.shares_memory(x[::2], x[1::2])
    assert TORCH.shares_memory(x[::2], x[2:5])
    assert not TORCH.shares_memory(x, torch.zeros(8))


def test_copies_are_contiguous():
    assert XP.copy(torch.zeros(3, 4).T).is_contiguous()


def test_on_the_cpu_there_is_nothing_to_wait_for_or_to_free():
    TORCH.synchronize("cpu")
    TORCH.empty_cache("cpu")
    assert TORCH.memory("cpu") == {}
    assert CPU.native == torch.device("cpu")


# ---------------------------------------------------------------- Python integers
BEYOND = [
    ("uint8", 300),
    ("uint8", -1),
    ("int8", -129),
    ("int64", 2**63),
    ("uint64", -1),
    ("uint16", 2**16),
]


@pytest.mark.parametrize(("dtype", "number"), BEYOND)
def test_integers_that_the_dtype_cannot_hold_are_refused(dtype, number):
    """As by NumPy; PyTorch takes them modulo a power of two."""
    x = tinyxp.asarray([1, 2], dtype=dtype, device="torch:cpu")
    for call in (
        lambda: x + number, lambda: number - x, lambda: x * number, lambda: x // number,
        lambda: tinyxp.maximum(x, number), lambda: x & number, lambda: number | x, lambda: x**number,
    ):  # fmt: skip
        with pytest.raises(OverflowError, match=f"integer {number} out of bounds for {dtype}"):
            call()


@pytest.mark.parametrize(("dtype", "number"), [*BEYOND, ("int8", 10**400)])
def test_integers_that_the_dtype_cannot_hold_are_compared_with(dtype, number):
    """As by NumPy, with the right answer."""
    host = np.asarray([1, 2], dtype=dtype)
    x = tinyxp.asarray(host, device="torch:cpu")
    for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
        got = getattr(tinyxp, name)(x, number)
        assert got.tolist() == getattr(np, name)(host, number).tolist(), name
        assert getattr(tinyxp, name)(number, x).tolist() == getattr(np, name)(number, host).tolist()
