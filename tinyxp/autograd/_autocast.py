"""Mixed precision: products in half precision, everything that loses by it in float32."""

from __future__ import annotations

from contextlib import ContextDecorator
from copy import copy
from threading import get_ident
from typing import TYPE_CHECKING

from tinyxp import dtypes
from tinyxp._core import computing
from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

__all__ = ["autocast"]

HALVES = ("bfloat16", "float16")


class autocast(ContextDecorator):  # noqa: N801 - used like a function
    """Compute products in half precision, in a ``with`` block or a decorated function.

    P. Micikevicius and others, "Mixed precision training", arXiv:1710.03740. Inside, for the current thread,

    - products of float32 arrays run in `dtype`, with sums in float32: ``@``, `matmul`, `vecdot`, `tensordot`,
      `einsum`, convolutions, and of `tinyxp.nn` linear maps, attention, MLPs and transformer blocks;
    - what would lose or overflow is computed in float32, also from arrays in half precision: softmax,
      normalisations, losses, sums, means, variances, cumulative sums and products, ``exp``, ``log``, ``pow`` and
      the like, and `tinyxp.linalg`;
    - everything else promotes: float32 with half precision gives float32.

    The conversions are part of the graph, so gradients arrive in the dtypes of the parameters. A parameter is
    converted once, however often it is used, until the outermost context is left or it is written. Products
    with float64 or complex arrays stay as they are. Leave the context before ``backward()``, or stay: what is
    differentiated keeps the dtypes that it had.

    Parameters
    ----------
    dtype : {"bfloat16", "float16"}
        Of the products. float16 needs a `tinyxp.optim.GradScaler` to train.
    enabled : bool
        False switches an outer context off.

    Raises
    ------
    DTypeError
        If `dtype` is another one, or, at the first product, if the library of the arrays has no such dtype.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.ones((2, 3)).requires_grad_()
    >>> with autocast("float16"):
    ...     y = x @ xp.ones((3, 4))
    ...     y.dtype, xp.sum(y).dtype
    (tinyxp.float16, tinyxp.float32)
    >>> xp.sum(y).backward()
    >>> x.grad.dtype
    tinyxp.float32
    """

    def __init__(self, dtype: dtypes.DTypeLike = "bfloat16", *, enabled: bool = True) -> None:
        name = dtypes.dtype(dtype).name
        if name not in HALVES:
            raise DTypeError(f"autocast expects the dtype bfloat16 or float16; got {name}")
        self.dtype, self.enabled = name, enabled
        # By thread: each leaves what it has entered itself.
        self._entered: dict[int, list[AbstractContextManager[None]]] = {}

    def _recreate_cm(self) -> autocast:
        """Return the context for one call of a decorated function, which several threads may call at once."""
        again = copy(self)
        again._entered = {}
        return again

    def __enter__(self) -> None:
        context = computing(self.dtype if self.enabled else None)
        self._entered.setdefault(get_ident(), []).append(context)
        context.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        mine = self._entered[get_ident()]
        context = mine.pop()
        if not mine:
            del self._entered[get_ident()]
        context.__exit__(kind, error, trace)
