"""The conformance suite as a function, for the command line and for places without pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import SkipTest

from tinyxp.backend import get_backend
from tinyxp.testing._conformance import BackendConformance

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_backend"]


def check_backend(name: str) -> list[tuple[str, str, str]]:
    """Run `BackendConformance` on a backend.

    Parameters
    ----------
    name : str
        Its name in the entry-point group ``tinyxp.backends``.

    Returns
    -------
    list of (check, verdict, detail)
        The name of each check; ``"passed"``, ``"failed"`` or ``"skipped"``; what was found, else the
        check's first line.

    Raises
    ------
    UnknownBackendError, DeviceUnavailableError
        If there is nothing to check.

    Examples
    --------
    >>> {verdict for _, verdict, _ in check_backend("numpy")}
    {'passed'}
    """
    get_backend(name)
    suite = type(f"Conformance of {name}", (BackendConformance,), {"backend_name": name})()
    checks = [n for n in dir(suite) if n.startswith("test_")]
    return [(n.removeprefix("test_"), *_verdict(getattr(suite, n))) for n in checks]


def _verdict(check: Callable[[], None]) -> tuple[str, str]:
    try:
        check()
    except SkipTest as exc:
        return "skipped", str(exc)
    except AssertionError as exc:
        return "failed", str(exc)
    except Exception as exc:  # noqa: BLE001 - whatever a backend raises is the finding
        return "failed", f"{type(exc).__name__}: {exc}"
    return "passed", (check.__doc__ or "").strip().splitlines()[0]
