"""Special functions of a backend's library: what `Namespace.special` holds.

The names and the order of arguments are SciPy's. A library that has none of its own lets the host's, SciPy,
compute on the same memory.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPOSED", "Defaults", "Special"]

Array = Any


class Special:
    """The special functions of a backend, each looked up when it is first used.

    Parameters
    ----------
    backend : Backend
        Whose method `special` gives the functions; what it lacks is made of others where that is known how.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Callable[..., Array]:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            found: Callable[..., Array] = self._backend.special(name)
        except AttributeError:
            if name not in COMPOSED:
                raise
            found = partial(COMPOSED[name], self._backend.xp)
        setattr(self, name, found)
        return found


# ---------------------------------------------------------------- functions made of others
def _stdtr(xp: Any, df: Array, t: Array) -> Array:
    """Return Student's distribution function: NIST Digital Library, equation 8.17.6 and its integrals."""
    tail = xp.special.betainc(df / 2, xp.full_like(df, 0.5), df / (df + t * t)) / 2
    return xp.where(t < 0, tail, 1 - tail)


def _stdtrit(xp: Any, df: Array, p: Array) -> Array:
    tail = xp.where(p < 0.5, p, 1 - p)  # noqa: PLR2004 - the median
    x = xp.special.betaincinv(df / 2, xp.full_like(df, 0.5), 2 * tail)
    t = xp.sqrt(df * (1 - x) / x)
    return xp.where(p < 0.5, -t, t)  # noqa: PLR2004 - the middle


COMPOSED: dict[str, Callable[..., Array]] = {
    "betaincc": lambda xp, a, b, x: xp.special.betainc(b, a, 1 - x),
    "betainccinv": lambda xp, a, b, y: 1 - xp.special.betaincinv(b, a, y),
    "stdtr": _stdtr,
    "stdtrit": _stdtrit,
}


class Defaults:
    """Special functions for every library whose memory the host can read."""

    def special(self: Any, name: str) -> Callable[..., Array]:
        """Return the special function `name` on arrays of this library.

        Parameters
        ----------
        name : str
            SciPy's name of it.

        Returns
        -------
        callable
            Takes arrays of one real floating dtype, and numbers, and gives an array of that dtype.

        Raises
        ------
        AttributeError
            If neither the library has it nor the host may compute it.
        """
        from tinyxp.backend import HOST, get_backend

        if not self.host_visible:
            raise AttributeError(
                f"backend {self.name!r} has no special function {name!r}, and SciPy cannot read its memory"
            )
        host = get_backend(HOST)
        function = host.special(name)

        def on_host(*args: Any) -> Array:
            first = next(a for a in args if isinstance(a, self.array_type))
            out = function(
                *(self.to_numpy(a) if isinstance(a, self.array_type) else a for a in args)
            )
            device = self.device(self.device_of(first))
            return self.from_buffer(
                host.to_buffer(out), dtypes.of(out.dtype), tuple(out.shape), device
            )

        return on_host
