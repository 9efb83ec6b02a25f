"""What Numba keeps of kernels on disk is valid as long as none of their files has changed.

Numba looks at the file of the function alone. But the code of functions of other files is part of it, and so are
numbers that kernels agree on.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from numba.core import caching

__all__ = ["sources"]

_FOLDER = Path(__file__).resolve().parent


@cache
def sources() -> str:
    """Return a digest of all files of kernels."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(_FOLDER.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class _Locator:
    """Where Numba would look for kernels, with a stamp of all files: for those of this folder."""

    def __init__(self, locator: Any) -> None:
        self._locator = locator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._locator, name)

    def get_source_stamp(self) -> Any:
        """Return what must be the same for code that is kept to be used."""
        return self._locator.get_source_stamp(), sources()

    @classmethod
    def from_function(cls, function: Any, file: str) -> _Locator | None:
        """Return the locator for a function of this folder, None for others."""
        if Path(file).resolve().parent != _FOLDER:
            return None
        found = (other.from_function(function, file) for other in _others)
        return next((cls(locator) for locator in found if locator is not None), None)


_impl: Any = getattr(caching, "CacheImpl", None) or getattr(caching, "_CacheImpl", None)
_others = (
    getattr(_impl, "_locator_classes", None) or []
)  # without such a list there is Numba's stamp alone
if _others:
    setattr(_impl, "_locator_classes", [_Locator, *_others])  # noqa: B010 - it is Numba's, and not public
