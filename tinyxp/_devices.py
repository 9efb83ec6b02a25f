"""What can be asked of a device: to wait, how its memory is used, and what an error of its library means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import backend as _backend
from tinyxp.errors import DeviceUnavailableError, TinyxpError, UnknownBackendError

if TYPE_CHECKING:
    from types import TracebackType

    from tinyxp.backend import Device

__all__ = ["empty_cache", "memory_stats", "synchronize"]


def synchronize(device: Device | str | None = None, /) -> None:
    """Wait until everything that a device was asked for is done.

    Operations on a GPU return before they are done. Whoever takes the time must wait; whoever reads a
    result need not, for that waits by itself.

    Parameters
    ----------
    device : Device, str or None
        None means the default device.

    Examples
    --------
    >>> import tinyxp
    >>> tinyxp.synchronize("cpu")
    """
    d = _backend.device(device)
    with explaining(d):
        d.backend.synchronize(d.local)


def memory_stats(device: Device | str | None = None, /) -> dict[str, int]:
    """Return how the memory of a device is used, in bytes.

    Parameters
    ----------
    device : Device, str or None
        None means the default device.

    Returns
    -------
    dict of str to int
        For CUDA ``"used"`` by arrays, ``"held"`` by the pool that they come from (the most that was ever used
        since `empty_cache`), ``"free"`` and ``"total"`` of the device, ``"limit"`` of the pool if it has
        one. Empty for devices that keep no account.

    Examples
    --------
    >>> import tinyxp
    >>> tinyxp.memory_stats("cpu")
    {}
    """
    d = _backend.device(device)
    return d.backend.memory(d.local)


def empty_cache(device: Device | str | None = None, /) -> None:
    """Give the memory back that a device's pool holds and no array uses.

    It makes nothing faster: it is for other programs on the same device, and for sizes that do not fit
    into what is held.

    Parameters
    ----------
    device : Device, str or None
        None means the default device.

    Examples
    --------
    >>> import tinyxp
    >>> tinyxp.empty_cache("cpu")
    """
    d = _backend.device(device)
    d.backend.empty_cache(d.local)


def explained(error: Exception, device: Device | None = None) -> Exception:
    """Return `error` as one of tinyxp's tree, where the library it came from knows what it means.

    Parameters
    ----------
    error : Exception
        What a library raised.
    device : Device, optional
        Where; without it every backend in use is asked.
    """
    if isinstance(error, TinyxpError):
        return error
    if device is not None:
        return device.backend.explain(error, device.local) or error
    found = (b.explain(error) for b in _backend.loaded_backends())
    return next((e for e in found if e is not None), error)


class explaining:  # noqa: N801 - reads as a verb: with explaining(device)
    """A context in which errors of a device's library become errors of tinyxp's tree."""

    __slots__ = ("device",)

    def __init__(self, device: Device | None = None) -> None:
        self.device = device

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            known = explained(error, self.device)
            try:
                if known is not error:
                    raise known from error
            finally:  # of an error that knows itself, all arrays on its way would stay until they are collected
                del known, error


class on(explaining):  # noqa: N801 - with on(device)
    """A context in which operators of raw arrays act on a device, and its errors are tinyxp's."""

    __slots__ = ("scope",)

    def __enter__(self) -> None:
        self.scope: Any = None
        device = self.device
        if device is not None and device.scoped:
            self.scope = device.backend.scope(device.local)
            self.scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.scope is not None:
            self.scope.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)


def why_not(spec: str) -> str | None:
    """Return why there is no device `spec`, None if there is one."""
    try:
        _backend.device(spec)
    except (DeviceUnavailableError, UnknownBackendError) as exc:
        return str(exc)
    return None
