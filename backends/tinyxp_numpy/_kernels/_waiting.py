"""Waiting for a moment without the interpreter's lock and without keeping the core from others."""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.core import types

__all__ = ["look"]

_yield_core = types.ExternalFunction("sched_yield", types.int32())  # of the C library: POSIX


@njit(nogil=True, cache=True)
def look(board: Any, slot: int, value: int, watched: int, seen: int, times: int, more: int) -> bool:
    """Write `value` into a slot of the board, then look `times` at another until it is not `seen` any more.

    Having seen it, stay away from the interpreter's lock for as long as `more` looks would take.
    """
    if value != 0:
        board[slot] = value
    for _ in range(times):
        if board[watched] != seen:
            for _ in range(more):
                _yield_core()
            return True
        _yield_core()
    return False
