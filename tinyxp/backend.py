"""What a backend is, how backends are found, and the devices they offer.

A backend is a class in a package of its own, registered in the entry-point group ``tinyxp.backends``. It
has three tiers: what every library must say of itself (*abstract*), what the standard lacks, with a default
in terms of the standard (`tinyxp._extras`), and *fused* operations, with a default too (`tinyxp._fused`).
``backends/README.md`` shows how to write one.
"""

from __future__ import annotations

import contextvars
import difflib
from contextlib import contextmanager, nullcontext
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from tinyxp import (
    _decode,
    _extras,
    _fused,
    _special,
    _updates,
    _windows,
    dtypes,
)
from tinyxp._extended import PLAIN as PLAIN
from tinyxp._extended import Namespace as Namespace
from tinyxp._extended import with_kernels as with_kernels
from tinyxp.errors import CaptureError, DeviceUnavailableError, UnknownBackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from importlib.metadata import EntryPoint

    from tinyxp.dtypes import DType

__all__ = [
    "Backend",
    "Device",
    "available_backends",
    "device",
    "get_backend",
    "get_default_device",
    "registered_backends",
    "set_default_device",
    "use_device",
    "with_kernels",
]

Array = Any  # an array of the backend's library
GROUP = "tinyxp.backends"


class Device:
    """A place where arrays live: a backend and one of its devices.

    Devices are interned, so ``x.device is y.device`` tells whether two Tensors may meet. A device equals
    its own string, and every string that names it.

    Attributes
    ----------
    backend : Backend
        Whose device this is.
    local : str
        The backend's own name for it, such as ``"cpu"`` or ``"cuda:0"``.
    xp : Namespace
        The backend's extended namespace for arrays of this device.

    Examples
    --------
    >>> import tinyxp
    >>> tinyxp.device("cpu")
    device('cpu')
    """

    __slots__ = ("array_type", "backend", "fns", "local", "native", "scoped", "wrap", "xp")

    def __init__(self, backend: Backend, local: str) -> None:
        self.backend, self.local = backend, local
        self.native = backend.native_device(local)
        self.xp = backend.namespace(local)
        self.fns: dict[str, Any] = vars(self.xp)
        self.array_type = backend.array_type
        self.wrap = backend.wrap
        # Whether operators of raw arrays need `backend.scope`: not where the only device is always current.
        self.scoped = type(backend).scope is not Backend.scope and len(backend.devices()) > 1

    def __str__(self) -> str:
        short = self.local.partition(":")[0] in self.backend.short_names
        return self.local if short else f"{self.backend.name}:{self.local}"

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            try:
                return device(other) is self
            except (UnknownBackendError, DeviceUnavailableError):
                return False
        return self is other

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return device, (str(self),)


class Backend(
    _extras.Defaults,
    _windows.Defaults,
    _special.Defaults,
    _fused.Defaults,
    _updates.Defaults,
    _decode.Defaults,
):
    """An array library under tinyxp: subclass it, fill in the first tier, override what is done better.

    Class attributes
    ----------------
    name : str
        The name in the registry and in front of the colon of a device string.
    short_names : tuple of str
        Device names that need no ``name:`` in front of them (``"cpu"`` is NumPy's, ``"cuda"`` CuPy's).
    repairs : frozenset of str
        Deviations of the library from the standard that `tinyxp.repairs` shall correct.
    """

    name: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]] = ()
    repairs: ClassVar[frozenset[str]] = frozenset()
    matmul_precision: ClassVar[str] = (
        "highest"  # of all backends; see `tinyxp.set_matmul_precision`
    )
    host_visible: ClassVar[bool] = True  # whether host code can read the arrays' memory
    records: ClassVar[bool] = False  # whether `capture` records

    # ------------------------------------------------------------ tier 1: what only the library knows
    @cached_property
    def library(self) -> Any:
        """The library's array namespace, as complete as the library or a wrapper of it makes it."""
        raise NotImplementedError(f"{type(self).__name__} must define `library`")

    @property
    def array_type(self) -> type:
        """The class of the library's arrays."""
        raise NotImplementedError(f"{type(self).__name__} must define `array_type`")

    @property
    def native_dtypes(self) -> Mapping[str, Any]:
        """The library's dtype object for each dtype name that it has."""
        names = dtypes.type_names
        return {n: getattr(self.library, n) for n in names if hasattr(self.library, n)}

    def probe(self) -> None:
        """Allocate something; raise `DeviceUnavailableError` with the reason and the remedy if that fails."""
        self.asarray([0.0], dtype=dtypes.dtype("float32"), device=None)

    def devices(self) -> Sequence[str]:
        """Return the names of the devices that are there, the default one first."""
        return ("cpu",)

    def native_device(self, local: str) -> Any:
        """Return what the library takes as ``device=`` for the device called `local`."""
        return local

    def device_of(self, x: Array) -> str:  # noqa: ARG002 - backends with several devices look at x
        """Return the name of the device that `x` lives on."""
        return self.devices()[0]

    def asarray(
        self,
        obj: Any,
        *,
        dtype: DType | None = None,
        device: Device | None = None,
        copy: bool | None = None,
    ) -> Array:
        """Turn a number, nested sequence, buffer or array of this library into an array."""
        return self.library.asarray(
            obj,
            dtype=None if dtype is None else self.native_dtype(dtype),
            device=None if device is None else device.native,
            copy=copy,
        )

    def from_buffer(
        self, buffer: memoryview, dtype: DType, shape: tuple[int, ...], device: Device
    ) -> Array:
        """Make an array of the bytes of `buffer`, which may be shared (and then stays read-only)."""
        raise NotImplementedError(f"{type(self).__name__} must define `from_buffer`")

    def to_buffer(self, x: Array) -> memoryview:
        """Return the elements of `x` in C order as a memoryview of bytes in host memory."""
        raise NotImplementedError(f"{type(self).__name__} must define `to_buffer`")

    def wrap(self, x: Any) -> Array:
        """Return the scalar that a library gave instead of a 0-d array as an array."""
        return self.library.asarray(x)

    def to_numpy(self, x: Array) -> Any:
        """Return `x` as an array of the host library, sharing memory where that is possible."""
        host = get_backend(HOST)
        d = dtypes.of(x.dtype)
        return host.from_buffer(self.to_buffer(x), d, tuple(x.shape), host.device())

    def receive(
        self, x: Array, dtype: DType, shape: tuple[int, ...], source: Device, target: Device
    ) -> Array:
        """Return `x`, an array on the device `source` of any backend, as a new array on our `target`."""
        return self.copy(self.from_buffer(source.backend.to_buffer(x), dtype, shape, target))

    def to_dlpack(self, x: Array, **kwargs: Any) -> Any:
        """Return the DLPack capsule of `x`; options that are None are left to the library."""
        return x.__dlpack__(**{k: v for k, v in kwargs.items() if v is not None})

    def dlpack_device(self, x: Array) -> tuple[Any, int]:
        """Return the device of `x` in DLPack's terms."""
        found: tuple[Any, int] = x.__dlpack_device__()
        return found

    def format(self, x: Array) -> str:
        """Return the elements of `x` as text, for the repr of a Tensor."""
        return get_backend(HOST).format(self.to_numpy(x))

    def shares_memory(self, x: Array, y: Array) -> bool:
        """Whether a write into `x` would be seen through `y`."""
        raise NotImplementedError(f"{type(self).__name__} must define `shares_memory`")

    def quiet(self) -> AbstractContextManager[Any]:
        """Return a context in which infinite and NaN results raise no warning."""
        return nullcontext()

    def surely_finite(self, x: Array, y: Array | None = None) -> bool:  # noqa: ARG002 - for subclasses that look
        """Whether `x` is known, without waiting for a device, to hold neither infinities nor NaN.

        And `y` neither, if it is given; it has the shape and dtype of `x`.
        """
        return False

    def synchronize(self, local: str | None = None) -> None:
        """Wait until everything asked of the device is done (nothing to do on a CPU)."""

    def memory(self, local: str | None = None) -> dict[str, int]:  # noqa: ARG002 - for subclasses that look
        """Return figures of the device's memory in bytes, such as ``{"used": …, "total": …}``."""
        return {}

    def empty_cache(self, local: str | None = None) -> None:
        """Give cached memory back to the device (nothing to do without a pool)."""

    def stream(self, local: str | None = None) -> AbstractContextManager[Callable[[], None]]:  # noqa: ARG002 - for subclasses that look
        """Return a context whose work may go on beside what the device is asked after it.

        It gives a function to call before the results are used. Inside, nothing is to be read that the
        device is still computing with elsewhere.
        """
        return nullcontext(_nothing)

    def capture(
        self,
        function: Callable[[], Any],  # noqa: ARG002 - for subclasses that record
        local: str | None = None,  # noqa: ARG002 - for subclasses that record
    ) -> tuple[Any, Callable[[], None]]:
        """Record what `function` asks of the device, without doing it.

        Parameters
        ----------
        function : callable
            It reads nothing back, copies nothing from the host, and draws random numbers by keys that stand
            on the device only.
        local : str, optional
            The device.

        Returns
        -------
        tuple
            What `function` returned, and a function that does all of it, again each time it is called: in the
            same memory, which is kept for it, and with the same numbers.

        Raises
        ------
        CaptureError, RuntimeError
            If something in it cannot be recorded.
        """
        raise CaptureError(f"the backend {self.name!r} records no graphs")

    def explain(self, error: Exception, local: str | None = None) -> Exception | None:  # noqa: ARG002 - for subclasses that look
        """Return the error of tinyxp's tree that the library's `error` means, None if it means nothing more."""
        return None

    def set_threads(self, n: int) -> int | None:  # noqa: ARG002 - a library that can be told looks at n
        """Compute with `n` threads from now on; return how many it were before, None if it cannot be told."""
        return None

    def set_matmul_precision(self, precision: str) -> None:
        """Let products in float32 be ``"highest"``, or ``"high"``: then their factors may be rounded to TF32."""

    def describe(self) -> dict[str, str]:
        """Return what ``tinyxp info`` prints of this library: versions, BLAS, threads."""
        return {}

    # ------------------------------------------------------------ what follows from tier 1
    def native_dtype(self, d: DType) -> Any:
        """Return the library's dtype object for `d`."""
        try:
            return self._native_dtypes[d.name]
        except KeyError:
            from tinyxp.errors import DTypeError

            have = ", ".join(self._native_dtypes)
            raise DTypeError(f"backend {self.name!r} has no dtype {d}; it has {have}") from None

    @cached_property
    def _native_dtypes(self) -> dict[str, Any]:
        found = dict(self.native_dtypes)
        for name, native in found.items():
            dtypes.register(native, name)
        return found

    @cached_property
    def xp(self) -> Namespace:
        """The extended namespace: the library, its repairs, and tiers two and three."""
        self._native_dtypes  # noqa: B018 - registers the library's dtypes
        return Namespace(self, self.library)

    def namespace(self, local: str) -> Namespace:  # noqa: ARG002 - for subclasses that look
        """Return the extended namespace for arrays of the device called `local`."""
        return self.xp

    def device(self, local: str | None = None) -> Device:
        """Return the Device called `local`, by default the first."""
        known = self.devices()
        local = known[0] if local is None else self._complete(local, known)
        if local not in self._interned:
            self._interned[local] = Device(self, local)
        return self._interned[local]

    @cached_property
    def _interned(self) -> dict[str, Device]:
        return {}

    def _complete(self, local: str, known: Sequence[str]) -> str:
        """Turn ``"cuda"`` into ``"cuda:0"`` where devices are numbered; refuse what is not there."""
        if local in known:
            return local
        first = next((k for k in known if k.partition(":")[0] == local), None)
        if first is None:
            raise DeviceUnavailableError(
                f"backend {self.name!r} has no device {local!r}; it has {', '.join(known)}"
            )
        return first


def _nothing() -> None:
    pass


# ---------------------------------------------------------------- registry
_loaded: dict[str, Backend] = {}


def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # half of the time that `import tinyxp` would take

    return {ep.name: ep for ep in entry_points(group=GROUP)}


def registered_backends() -> list[str]:
    """Return the names of all installed backends, usable on this machine or not."""
    return sorted(_entry_points())


def available_backends() -> list[str]:
    """Return the names of the backends that work here: each has just allocated an array."""
    found = []
    for name in registered_backends():
        try:
            get_backend(name)
        except DeviceUnavailableError:
            continue
        found.append(name)
    return found


@cache
def _load_class(name: str) -> type[Backend]:
    known = _entry_points()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise UnknownBackendError(
            f"no backend named {name!r}{hint} registered: {', '.join(sorted(known)) or 'none'}"
        )
    try:
        found: type[Backend] = known[name].load()
    except Exception as exc:
        raise DeviceUnavailableError(
            f"backend {name!r} is registered as {known[name].value!r} but does not load: "
            f"{type(exc).__name__}: {exc}"
        ) from exc
    return found


@cache
def get_backend(name: str) -> Backend:
    """Return the backend called `name`, after it has proved that it works.

    Parameters
    ----------
    name : str
        A name from `registered_backends`.

    Raises
    ------
    UnknownBackendError
        If nothing of that name is installed.
    DeviceUnavailableError
        If it cannot work on this machine; the message says what is missing and what to type.

    Examples
    --------
    >>> get_backend("numpy").name
    'numpy'
    """
    backend = _load_class(name)()
    backend.probe()
    if Backend.matmul_precision != "highest":
        backend.set_matmul_precision(Backend.matmul_precision)
    _loaded[name] = backend
    return backend


def loaded_backends() -> list[Backend]:
    """Return the backends that have been used in this process."""
    return list(_loaded.values())


# ---------------------------------------------------------------- devices
HOST = "numpy"  # the backend through which files, plots and lists are reached
AUTO = ("cuda", "cpu")  # what "auto" tries, in this order

_default: Device | None = None
_context: contextvars.ContextVar[Device | None] = contextvars.ContextVar(
    "tinyxp_device", default=None
)
_by_string: dict[str, Device] = {}


def device(spec: Device | str | None = None, /) -> Device:
    """Return the device that `spec` names.

    Parameters
    ----------
    spec : Device, str or None
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"auto"`` (CUDA if it works, else the CPU), or with the
        backend in front: ``"strict:device1"``, ``"torch:cpu"``. None means the default device.

    Raises
    ------
    DeviceUnavailableError, UnknownBackendError
        If there is no such device.

    Examples
    --------
    >>> device("cpu") == "cpu"
    True
    """
    if spec is None:
        return get_default_device()
    if isinstance(spec, Device):
        return spec
    try:
        return _by_string[spec]
    except KeyError:
        found = _auto() if spec == "auto" else _parse(spec)
    except TypeError:
        raise TypeError(f"device expects a Device or a string; got {spec!r}") from None
    _by_string[spec] = found
    return found


def _auto() -> Device:
    for name in AUTO[:-1]:
        try:
            return _parse(name)
        except (DeviceUnavailableError, UnknownBackendError) as exc:
            _tell(name, exc)
    return _parse(AUTO[-1])


def _tell(name: str, reason: Exception) -> None:
    """Log why "auto" does not take the device `name`: aloud if its library is there and does not work."""
    import logging

    aloud = not isinstance(reason.__cause__, ModuleNotFoundError)
    level = logging.WARNING if aloud else logging.INFO
    logging.getLogger("tinyxp").log(level, "device 'auto' does not take %r: %s", name, reason)


def _parse(spec: str) -> Device:
    head, _, rest = spec.partition(":")
    registered = _entry_points()
    if head in registered:
        return get_backend(head).device(rest or None)
    for name in registered:
        try:
            owner = _load_class(name)
        except DeviceUnavailableError:
            continue
        if head in owner.short_names:
            return get_backend(name).device(spec)
    near = difflib.get_close_matches(head, [*registered, "cpu", "cuda", "auto"], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownBackendError(
        f"no device {spec!r}{hint}; a device is 'cpu', 'cuda', 'cuda:1', 'auto', or BACKEND:DEVICE with "
        f"one of the backends {', '.join(sorted(registered))}"
    )


def set_default_device(spec: Device | str) -> None:
    """Make `spec` the device on which arrays are created when none is named, in the whole process."""
    global _default  # noqa: PLW0603 - process-wide by definition
    _default = device(spec)


def get_default_device() -> Device:
    """Return the device on which arrays are created when none is named."""
    return _context.get() or _default or device("cpu")


@contextmanager
def use_device(spec: Device | str) -> Iterator[Device]:
    """Make `spec` the default device inside a ``with`` block, for this thread or task only.

    Examples
    --------
    >>> import tinyxp
    >>> with use_device("cpu"):
    ...     tinyxp.zeros(2).device
    device('cpu')
    """
    chosen = device(spec)
    token = _context.set(chosen)
    try:
        with chosen.backend.scope(chosen.local):
            yield chosen
    finally:
        _context.reset(token)


def _to_host(d: DType) -> Any:
    return get_backend(HOST).native_dtype(d)


dtypes._host_dtype = _to_host
