"""Let every floating array that the official suite makes be part of a graph.

The suite makes its arrays with ``asarray``; this puts a function in its place, in the namespace the suite
looks at, that makes the array the result of a recorded operation on a leaf that requires grad.
"""

from __future__ import annotations

from typing import Any


def start(xp: Any) -> None:
    """Replace ``xp.asarray``."""
    plain = xp.asarray

    def asarray(
        obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
    ) -> Any:
        """Make an array, and if it is floating a recorded one."""
        made = plain(obj, dtype=dtype, device=device, copy=copy)
        if made.requires_grad or made.dtype.kind not in "fc":
            return made
        return xp.positive(made.detach().requires_grad_())

    xp.asarray = asarray
