"""Memory that is used again instead of being handed back: fresh pages cost as much as a pass over them.

A training step makes and frees the same large arrays again and again. By default glibc asks the system for
each of them, which fills every page with zeros when it is first touched.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_pages"]

# mallopt(3). Blocks below the first limit come from the heap, which is given back only where the second is
# free at its end, and grows by the third.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": (_MMAP_THRESHOLD, 1 << 30),
    "MALLOC_TRIM_THRESHOLD_": (_TRIM_THRESHOLD, 1 << 30),
    "MALLOC_TOP_PAD_": (_TOP_PAD, 16 << 20),
}


def keep_pages() -> bool:
    """Let glibc keep freed memory for the next step, unless the user has set its limits; say if it does."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = [mallopt(what, value) for what, value in _SETTINGS.values()]
    return all(done)
