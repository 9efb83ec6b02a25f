"""How exact products of float32 matrices are: a trade that some devices offer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tinyxp.backend import Backend, loaded_backends

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["get_matmul_precision", "matmul_precision", "set_matmul_precision"]

PRECISIONS = ("highest", "high")


def set_matmul_precision(precision: str, /) -> None:
    """Say how exact products of float32 matrices must be, in the whole process.

    Parameters
    ----------
    precision : {"highest", "high"}
        ``"highest"``, the default: factors in float32. ``"high"``: a device may round the factors to TF32, with
        10 bits of mantissa instead of 23, and add up in float32: several times as fast on NVIDIA's GPUs since
        2020, and nothing else elsewhere.

    Examples
    --------
    >>> set_matmul_precision("high")
    >>> get_matmul_precision()
    'high'
    >>> set_matmul_precision("highest")
    """
    if precision not in PRECISIONS:
        raise ValueError(f"the precision of products is 'highest' or 'high'; got {precision!r}")
    Backend.matmul_precision = precision
    for backend in loaded_backends():
        backend.set_matmul_precision(precision)


def get_matmul_precision() -> str:
    """Return how exact products of float32 matrices are: ``"highest"`` or ``"high"``.

    Examples
    --------
    >>> get_matmul_precision()
    'highest'
    """
    return Backend.matmul_precision


@contextmanager
def matmul_precision(precision: str, /) -> Iterator[None]:
    """Let products of float32 matrices be as exact as `precision` says inside a ``with`` block.

    It holds for the whole process, other threads too.

    Examples
    --------
    >>> with matmul_precision("high"):
    ...     get_matmul_precision()
    'high'
    """
    before = Backend.matmul_precision
    set_matmul_precision(precision)
    try:
        yield
    finally:
        set_matmul_precision(before)
