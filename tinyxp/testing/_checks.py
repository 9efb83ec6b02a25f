"""What the checks of a backend stand on: the backend, its devices, and samples to try it with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from tinyxp.backend import HOST, Backend, Device, get_backend
from tinyxp.testing._compare import expect_same, quiet
from tinyxp.testing._samples import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SHAPES", "TOLERANCE", "Array", "Checks"]

Array = Any

SHAPES = ((), (1,), (5,), (2, 3), (2, 1, 4), (0,), (3, 0))
# The largest difference from the reference, relative to the element and to the largest element.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


class Checks:
    """Checks of one backend.

    Attributes
    ----------
    backend_name : str
        Its name in the entry-point group ``tinyxp.backends``.
    """

    backend_name: ClassVar[str] = HOST

    @property
    def backend(self) -> Backend:
        """The backend under test."""
        return get_backend(self.backend_name)

    @property
    def host(self) -> Backend:
        """The backend that results are compared with."""
        return get_backend(HOST)

    def devices(self) -> Iterator[Device]:
        """Yield every device, each the current one while it is looked at."""
        for local in self.backend.devices():
            with self.backend.scope(local), quiet():
                yield self.backend.device(local)

    def reals(self) -> list[str]:
        """Return the names of the real dtypes to compute with."""
        return [n for n in TOLERANCE if n in self.backend.native_dtypes]

    def streams(self) -> Iterator[Samples]:
        """Yield samples on every device in every real dtype."""
        for device in self.devices():
            for real in self.reals():
                yield Samples(device, real)

    def same(self, got: Any, want: Any, what: str, rtol: float = 0.0) -> None:
        """Compare two results of the backend under test."""
        expect_same(self.backend, got, self.backend, want, rtol=rtol, what=what)
