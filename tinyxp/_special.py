"""Special functions of a backend's library: what `Namespace.special` holds.

The names and the order of arguments are SciPy's. A library that has none of its own lets the host's, SciPy,
compute on the same memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Defaults", "Special"]

Array = Any


class Special:
    """The special functions of a backend, each looked up when it is first used.

    Parameters
    ----------
    backend : Backend
        Whose method `special` gives the functions.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Callable[..., Array]:
        if name.startswith("_"):
            raise AttributeError(name)
        found: Callable[..., Array] = self._backend.special(name)
        setattr(self, name, found)
        return found


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
