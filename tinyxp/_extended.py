"""What is made of a library and its backend: the extended namespace, and a third tier out of kernels."""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tinyxp import (
    _decode,
    _extras,
    _fused,
    _special,
    _standard,
    _updates,
    _windows,
    repairs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp.backend import Backend

__all__ = ["PLAIN", "Namespace", "with_kernels"]

PLAIN = "plain_"  # in front of a name of tier three in the extended namespace: its default, never overridden
TIER_THREE = (*_fused.NAMES, *_updates.NAMES, *_decode.NAMES)


class Namespace(SimpleNamespace):
    """A library's array namespace, repaired and extended: what derivative rules see as ``xp``.

    It holds the standard's functions under the standard's names, the library's own unless the backend
    lists a repair, and the functions of tiers two and three under tinyxp's names.
    """

    def __init__(self, backend: Backend, library: Any) -> None:
        super().__init__()
        self.library = library
        names = [*_standard.FUNCTIONS, *_standard.DTYPES, *_standard.CONSTANTS]
        for name in names:
            if hasattr(library, name):
                setattr(self, name, getattr(library, name))
        for extension, functions in (("linalg", _standard.LINALG), ("fft", _standard.FFT)):
            source = getattr(library, extension, None)
            found = {n: getattr(source, n) for n in functions if hasattr(source, n)}
            setattr(self, extension, SimpleNamespace(**found))
        for name, native in backend._native_dtypes.items():
            if not hasattr(self, name):  # float16 and bfloat16, which the standard does not have
                setattr(self, name, native)
        for name in backend.repairs:
            repairs.apply(name, self)
        for name in (*_extras.NAMES, *_windows.NAMES, *TIER_THREE):
            setattr(self, name, getattr(backend, name))
        plain = _Plain(self, backend)
        for name in TIER_THREE:
            setattr(self, PLAIN + name, getattr(plain, name))
        self.special = _special.Special(backend)


class _Plain(_fused.Defaults, _updates.Defaults, _decode.Defaults):
    """Tier three without the overrides of any backend: what runs where fused kernels are switched off."""

    def __init__(self, xp: Namespace, backend: Backend) -> None:
        self.xp, self._backend = xp, backend  # type: ignore[misc]  # declared as a property for type checkers alone

    @property
    def host_visible(self) -> bool:  # type: ignore[override]  # read from the backend instead of the class
        """That of the backend."""
        return self._backend.host_visible


def with_kernels(cls: type[Backend]) -> type[Backend]:
    """Let `cls` take its third tier from its attribute `kernels`, made when it is first asked for.

    Parameters
    ----------
    cls : subclass of Backend
        With an attribute `kernels`: an object with the methods of the third tier, or None for the defaults.
    """
    for name in TIER_THREE:
        setattr(cls, name, _deferred(name, getattr(cls, name)))
    return cls


def _deferred(name: str, default: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(default)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        kernels = self.kernels
        if kernels is None:
            return default(self, *args, **kwargs)
        return getattr(kernels, name)(*args, **kwargs)

    return method
