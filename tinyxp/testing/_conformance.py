"""What a backend must do: a suite of checks that the author of a backend subclasses."""

from __future__ import annotations

from tinyxp.testing._checks_extras import ExtrasChecks
from tinyxp.testing._checks_fused import FusedChecks
from tinyxp.testing._checks_library import LibraryChecks

__all__ = ["BackendConformance"]


class BackendConformance(LibraryChecks, ExtrasChecks, FusedChecks):
    """The checks of a backend; a subclass names it.

    The first tier is checked for itself, the library's own functions against those of the host library, and
    the second and third tier against tinyxp's definitions in terms of the standard. Each check is a plain
    method without fixtures, so that pytest runs the class, and `check_backend` runs it without pytest.

    Attributes
    ----------
    backend_name : str
        Its name in the entry-point group ``tinyxp.backends``.

    Examples
    --------
    >>> class TestMine(BackendConformance):
    ...     backend_name = "numpy"  # yours
    >>> TestMine().test_has_every_function()
    """
