"""How kernels are compiled: by Numba, once, kept on disk, and without Python's global lock."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from numba import carray, cfunc, njit
from numba.core import event, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numba.np.numpy_support import from_dtype

from . import _cache  # noqa: F401 - Numba asks it for what is kept

__all__ = [
    "address",
    "inline",
    "kernel",
    "kernel_for_any_layout",
    "matrix",
    "plain_kernel",
    "pointer",
    "program",
    "row",
]

# Sums may be taken in any order and products contracted, which is what lets loops be vectorised. NaN and
# infinity keep their meaning: kernels propagate them as the composites do.
FAST = {"contract", "reassoc", "nsz"}

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": FAST, "error_model": "numpy"}
kernel: Any = njit(**_OPTIONS)
plain_kernel: Any = njit(nogil=True, cache=True)
inline: Any = njit(nogil=True, inline="always", fastmath=FAST, error_model="numpy")


def kernel_for_any_layout(*kinds: str) -> Any:
    """Decorate a function that becomes ``function(dtype)``, the kernel for that dtype.

    Parameters
    ----------
    *kinds : str
        Of each argument behind ``start, stop, part``: ``"int"``, ``"bool"``, ``"real"``, or a number of axes,
        with ``"!"`` where the array is only read and may be marked so, and ``"c"`` where it is in C order. For the
        others one compilation serves arrays in C order and views alike.
    """

    def decorate(function: Any) -> Any:
        @cache
        def compiled(dtype: Any) -> Any:
            real = from_dtype(dtype)
            known = {"int": types.int64, "bool": types.boolean, "real": real}
            given = [
                known[k]
                if k in known
                else types.Array(real, int(k[0]), "C" if "c" in k else "A", readonly="!" in k)
                for k in kinds
            ]
            return njit(types.void(*[types.int64] * 3, *given), **_OPTIONS)(function)

        return compiled

    return decorate


def program(*names: str, keep: bool = True) -> Any:
    """Decorate ``function(board, table, reals, run, member)`` to become ``function(dtype)``, an address.

    What is there is a program for that dtype, which `tinyxp_numpy._kernels._team.lead` calls. `board` is a pointer to
    int64, `reals` to the dtype, `table` to a record of integers: sizes and addresses.

    Parameters
    ----------
    *names : str
        The fields of the record.
    keep : bool
        Keep what is compiled for the next start.
    """
    record = from_dtype(np.dtype([(name, np.int64) for name in names]))

    def decorate(function: Any) -> Any:
        @cache
        def compiled(dtype: Any) -> Any:
            known = [types.CPointer(t) for t in (types.int64, record, from_dtype(dtype))]
            signature = types.void(*known, types.int64, types.int64)
            return cfunc(signature, cache=keep, fastmath=FAST, error_model="numpy")(function)

        return lambda dtype: compiled(dtype).address

    return decorate


class _Herald(event.Listener):
    """Says once that kernels are being compiled: the first step of a new installation takes seconds."""

    told = False

    def on_start(self, event: Any) -> None:
        name = getattr(event.data.get("dispatcher"), "__module__", "")
        if not _Herald.told and name.startswith("tinyxp_numpy"):
            _Herald.told = True
            print(  # noqa: T201 - said to who waits
                "tinyxp: compiling kernels for this machine, once; they are kept for the next start",
                file=sys.stderr,
            )

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Herald())


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """Return the integer `address` as a pointer to elements of the dtype of `like`, an array or a number."""
    result = types.CPointer(like.dtype if isinstance(like, types.Array) else like)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(address, like), codegen


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def address(typingctx: Any, array: Any) -> Any:
    """Return where the first element is: ``array.ctypes.data`` takes long to compile."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.int64))

    return types.int64(array), codegen


@inline
def row(address: int, n: int, like: Any) -> Any:
    """Return the vector at an address, of the dtype of the array `like`."""
    return carray(pointer(address, like), n)


@inline
def matrix(address: int, rows: int, columns: int, like: Any) -> Any:
    """Return the matrix at an address, of the dtype of the array `like`."""
    return carray(pointer(address, like), (rows, columns))
