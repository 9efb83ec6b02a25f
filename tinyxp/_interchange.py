"""How a Tensor meets Python, NumPy and other libraries: conversions, DLPack, text, copies, pickles."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tinyxp import backend as _backend
from tinyxp import dtypes, ops
from tinyxp._core import Leaf, Tensor, fresh, set_leaf, snapshot, wrap
from tinyxp.errors import (
    CONVERSION_LOSES_GRAD,
    DTypeError,
    GradientRequiredError,
    GraphError,
    ShapeError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyxp.dtypes import DType


def adopt(self: Tensor, t: Tensor) -> None:
    """Let `self` hold the array of `t`, outside any graph."""
    self._raw, self._device = t._raw, t._device
    self._node, self._index, self._alias, self._version = None, 0, None, 0
    self._shared = t._shared


def _check_exportable(self: Tensor, wrong: str, right: str) -> None:
    if fresh(self)._node is not None:
        raise GradientRequiredError(
            CONVERSION_LOSES_GRAD.format(
                operation=wrong.partition("(")[0], wrong=wrong, right=right
            )
        )


# ---------------------------------------------------------------- arrays and numbers
def numpy(self: Tensor) -> Any:
    """Return the Tensor as a NumPy array, sharing memory on the CPU.

    Raises
    ------
    GradientRequiredError
        If the Tensor requires grad: the result would not be part of the graph.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones(2).numpy()
    array([1., 1.], dtype=float32)
    """
    _check_exportable(self, "x.numpy()", "x.detach().numpy()")
    return self._device.backend.to_numpy(self._raw)


def item(self: Tensor) -> Any:
    """Return the only element as a Python number.

    Raises
    ------
    ShapeError
        If there is more than one element.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.sum(xp.ones(3)).item()
    3.0
    """
    raw = fresh(self)._raw
    if ops._dispatch.size_of(raw.shape) != 1:
        raise ShapeError(
            f"item() expects a single element; got shape {tuple(raw.shape)}; use tolist()"
        )
    return self._device.backend.to_numpy(raw).item()


def tolist(self: Tensor) -> Any:
    """Return the elements as nested lists of Python numbers.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.ones((1, 2)).tolist()
    [[1.0, 1.0]]
    """
    return self._device.backend.to_numpy(fresh(self)._raw).tolist()


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001 - NumPy's protocol
    _check_exportable(self, "numpy.asarray(x)", "numpy.asarray(x.detach())")
    if not self._device.backend.host_visible:
        raise DTypeError(
            f"numpy.asarray(x) would copy from {self._device} to the host without a word; write x.cpu().numpy()"
        )
    found = self._device.backend.to_numpy(self._raw)
    if dtype is not None and found.dtype != dtype:
        if copy is False:
            raise ValueError("numpy.asarray(x, copy=False) cannot change the dtype without a copy")
        return found.astype(dtype)
    return found.copy() if copy else found


def _dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[Any, int] | None = None,
    copy: bool | None = None,
) -> Any:
    _check_exportable(self, "from_dlpack(x)", "from_dlpack(x.detach())")
    return self._device.backend.to_dlpack(
        self._raw, stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
    )


def _single(self: Tensor, what: str) -> Any:
    raw = fresh(self)._raw
    if len(raw.shape):
        if ops._dispatch.size_of(raw.shape) != 1:
            raise TypeError(
                f"{what} of a Tensor expects a single element; got shape {tuple(raw.shape)}"
            )
        raw = self._device.xp.reshape(raw, ())
    return raw


def _integer(self: Tensor, what: str) -> Any:
    raw = _single(self, what)
    if dtypes.of(raw.dtype).kind == "u":  # libraries without unsigned words refuse large ones
        return self._device.backend.to_numpy(raw).item()
    return raw


def _bool(self: Tensor) -> bool:
    return bool(_integer(self, "the truth value"))


def _int(self: Tensor) -> int:
    return int(_integer(self, "int()"))


class _Numbers(threading.local):
    refused = False  # whether a Tensor that requires grad may not become a Python number


NUMBERS = _Numbers()


def _float(self: Tensor) -> float:
    if NUMBERS.refused:
        _check_exportable(self, "float(x)", "float(x.detach())")
    return float(_single(self, "float()"))


def _complex(self: Tensor) -> complex:
    if NUMBERS.refused:
        _check_exportable(self, "complex(x)", "complex(x.detach())")
    return complex(_single(self, "complex()"))


def _index(self: Tensor) -> int:
    if self.dtype.kind not in "iu" or self._raw.shape:
        raise TypeError(
            f"only a 0-d integer Tensor is an index; got {ops._dispatch.describe(self)}"
        )
    return int(_integer(self, "an index"))


def _len(self: Tensor) -> int:
    if not self._raw.shape:
        raise TypeError("len() of a 0-d Tensor")
    return int(self._raw.shape[0])


def _iter(self: Tensor) -> Iterator[Tensor]:
    if not self._raw.shape:
        raise TypeError("iteration over a 0-d Tensor")
    return iter([ops.getitem(self, i) for i in range(self._raw.shape[0])])


# ---------------------------------------------------------------- text
def _repr(self: Tensor) -> str:
    raw = fresh(self)._raw
    try:
        text = self._device.backend.format(raw)
    except Exception as e:  # noqa: BLE001 - a repr must not fail, least of all in a debugger
        text = f"<{type(e).__name__}: {e}>"
    parts = [text, f"dtype={self.dtype}"]
    if 0 in raw.shape:
        parts.insert(1, f"shape={self.shape}")
    if str(self._device) != "cpu":
        parts.append(f"device='{self._device}'")
    if self._node is not None:
        leaf = type(self._node) is Leaf
        parts.append("requires_grad=True" if leaf else f"grad_fn={self._node!r}")
    return f"tensor({', '.join(parts)})"


def _format(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if spec and not self._raw.shape else format(_repr(self), spec)


# ---------------------------------------------------------------- copies
def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    import copy

    node = fresh(self)._node
    if node is not None and type(node) is not Leaf:
        raise GraphError(
            "only leaves can be copied with deepcopy; this Tensor is the result of an operation: x.detach() first"
        )
    out = type(self).__new__(type(self))
    memo[id(self)] = out
    adopt(out, wrap(self._device.xp.copy(self._raw), self._device))
    if type(node) is Leaf:
        set_leaf(out)
        out._node.grad = copy.deepcopy(node.grad, memo)  # type: ignore[union-attr]  # not None: looked at above
    return out


def _copy(self: Tensor) -> Tensor:
    out = type(self).__new__(type(self))
    adopt(out, snapshot(self))
    out._node, out._index = self._node, self._index
    if type(self._node) is Leaf:
        set_leaf(out)
    return out


def _reduce(self: Tensor) -> tuple[Any, ...]:
    node = fresh(self)._node
    if node is not None and type(node) is not Leaf:
        raise GraphError(
            "only leaves can be pickled; this Tensor is the result of an operation: x.detach() first"
        )
    raw = self._device.backend.to_buffer(self._raw)
    grad = node.grad if type(node) is Leaf else None
    return _rebuild, (
        type(self), bytes(raw), self.dtype, self.shape, str(self._device), node is not None, grad,
    )  # fmt: skip


def _rebuild(  # noqa: PLR0917 - as a pickle calls it
    cls: type[Tensor],
    data: bytes,
    dtype: DType,
    shape: tuple[int, ...],
    device: str,
    requires_grad: bool,  # noqa: FBT001 - positional in a pickle
    grad: Tensor | None,
) -> Tensor:
    where = _backend.device(device)
    raw = where.backend.from_buffer(memoryview(data), dtype, shape, where)
    out = cls.__new__(cls)
    adopt(out, wrap(where.xp.copy(raw), where))
    if requires_grad:
        set_leaf(out)
        out._node.grad = grad  # type: ignore[union-attr]  # not None: looked at above
    return out


class Interchange:
    """What Python, NumPy and DLPack ask a Tensor for."""

    __slots__ = ()
    numpy = numpy
    item = item
    tolist = tolist
    _check_exportable = _check_exportable
    __array__ = _array
    __array_ufunc__ = None  # an ndarray leaves the operator to the Tensor
    __dlpack__ = _dlpack
    __bool__ = _bool
    __int__ = _int
    __float__ = _float
    __complex__ = _complex
    __index__ = _index
    __len__ = _len
    __iter__ = _iter
    __repr__ = _repr
    __format__ = _format
    __copy__ = _copy
    __deepcopy__ = _deepcopy
    __reduce__ = _reduce

    def __dlpack_device__(self: Any) -> tuple[Any, int]:
        found: tuple[Any, int] = self._device.backend.dlpack_device(self._raw)
        return found
