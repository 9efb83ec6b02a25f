"""How kernels are compiled: by Numba, once, kept on disk, and without Python's global lock."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from numba import njit
from numba.core import event, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

__all__ = ["inline", "kernel", "kernel_for_any_layout", "pointer"]

# Sums may be taken in any order and products contracted, which is what lets loops be vectorised. NaN and
# infinity keep their meaning: kernels propagate them as the composites do.
FAST = {"contract", "reassoc", "nsz"}

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": FAST, "error_model": "numpy"}
kernel: Any = njit(**_OPTIONS)
inline: Any = njit(nogil=True, inline="always", fastmath=FAST, error_model="numpy")


def kernel_for_any_layout(*kinds: str) -> Any:
    """Decorate a function that becomes ``function(dtype)``, the kernel for that dtype.

    Parameters
    ----------
    *kinds : str
        Of each argument behind ``start, stop, part``: ``"int"``, ``"bool"``, ``"real"``, or a number of axes,
        with ``"!"`` where the array is only read and may be marked so. One compilation serves arrays in C order
        and views alike.
    """

    def decorate(function: Any) -> Any:
        @cache
        def compiled(dtype: Any) -> Any:
            real = from_dtype(dtype)
            known = {"int": types.int64, "bool": types.boolean, "real": real}
            given = [
                known[k] if k in known else types.Array(real, int(k[0]), "A", readonly="!" in k)
                for k in kinds
            ]
            return njit(types.void(*[types.int64] * 3, *given), **_OPTIONS)(function)

        return compiled

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
    """Return the integer `address` as a pointer to elements of the dtype of the array `like`."""
    result = types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(address, like), codegen
