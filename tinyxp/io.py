"""Tensors in files: the safetensors format, written and read without any dependency.

A file is the length of the header (8 bytes, little-endian), the header (JSON), and the elements of all
tensors in C order, little-endian, without gaps. The format is described at
https://github.com/huggingface/safetensors#format. Reading never runs code from the file, and checks every
number in it before use.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import secrets
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tinyxp import _core, dtypes
from tinyxp import backend as _backend
from tinyxp._devices import on
from tinyxp.errors import CheckpointError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tinyxp._core import Tensor
    from tinyxp.backend import Backend, Device
    from tinyxp.dtypes import DType, DTypeLike

__all__ = ["load", "load_metadata", "save"]

# The format's names, in the order in which the reference implementation puts them into a file: the wider
# ones first, so that each tensor is aligned.
_NAMES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_ORDER = {name: i for i, name in enumerate(_NAMES)}
_DTYPES = {code: dtypes.type_names[name] for name, code in _NAMES.items()}
METADATA = "__metadata__"
MAX_HEADER = 100_000_000  # bytes; the reference implementation's limit
MAX_NDIM = 64  # as many axes as NumPy allows
PREFIX = 8  # bytes of the header's length; also what the header is padded to a multiple of


class Entry(NamedTuple):
    """What the header says of one tensor; `start` and `stop` count bytes from the end of the header."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    stop: int


# ---------------------------------------------------------------- writing
def save(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to a file, all of them or nothing.

    The file is written beside `path` and takes its place when it is complete, so a crash or a full disk
    leaves what was there before.

    Parameters
    ----------
    tensors : dict of str to Tensor
        What to write, from any device. The format has no complex128.
    path : str or path
        Where to; the folder must exist.
    metadata : dict of str to str or None
        Text to go with it.

    Raises
    ------
    CheckpointError
        If a name, a dtype or the metadata does not fit the format.

    Examples
    --------
    >>> import tempfile, tinyxp
    >>> path = tempfile.mkdtemp() + "/a.safetensors"
    >>> save({"x": tinyxp.Tensor([1.0, 2.0])}, path)
    >>> load(path)["x"].tolist()
    [1.0, 2.0]
    """
    _check_host()
    for name, x in tensors.items():
        _check_tensor(name, x)
    names = sorted(tensors, key=lambda name: (_ORDER[dtypes.of(tensors[name].dtype).name], name))
    header = _header(tensors, names, metadata)
    with _replacing(Path(path)) as file:
        file.write(len(header).to_bytes(PREFIX, "little"))
        file.write(header)
        for name in names:
            x = tensors[name]
            file.write(x.device.backend.to_buffer(x.data))


def _check_host() -> None:
    if sys.byteorder != "little":
        raise CheckpointError("safetensors files are little-endian; this machine is big-endian")


def _check_tensor(name: Any, x: Any) -> None:
    if not isinstance(name, str) or name == METADATA:
        raise CheckpointError(
            f"save expects names that are strings and not {METADATA!r}; got {name!r}"
        )
    if type(x) not in _core.TENSORS:
        raise CheckpointError(f"save expects Tensors; got {type(x).__name__} for {name!r}")
    if dtypes.of(x.dtype).name not in _NAMES:
        raise CheckpointError(
            f"safetensors has no {x.dtype}, the dtype of {name!r}; save its real and imaginary parts"
        )


def _header(
    tensors: Mapping[str, Tensor], names: list[str], metadata: Mapping[str, str] | None
) -> bytes:
    header: dict[str, Any] = {}
    if metadata is not None:
        for text in (*metadata, *metadata.values()):
            if type(text) is not str:
                raise CheckpointError(f"metadata expects strings; got {text!r}")
        header[METADATA] = dict(sorted(metadata.items()))
    stop = 0
    for name in names:
        x = tensors[name]
        d = dtypes.of(x.dtype)
        start, stop = stop, stop + d.itemsize * math.prod(x.shape)
        header[name] = {
            "dtype": _NAMES[d.name],
            "shape": list(x.shape),
            "data_offsets": [start, stop],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = text.encode()
    except UnicodeEncodeError as exc:
        raise CheckpointError(f"names and metadata must be Unicode text: {exc}") from None
    encoded += b" " * (-len(encoded) % PREFIX)
    if len(encoded) > MAX_HEADER:
        raise CheckpointError(
            f"the header has {len(encoded):,} bytes; the format allows {MAX_HEADER:,}"
        )
    return encoded


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that becomes `path` at the end of the block, or vanishes if that fails."""
    path = path.resolve()  # a link stays a link
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


# ---------------------------------------------------------------- reading
def load(
    path: str | os.PathLike[str],
    device: Device | str | None = None,
    *,
    dtype: DTypeLike | None = None,
) -> dict[str, Tensor]:
    """Read all tensors of a file.

    On a CPU the file is mapped into memory, and read when the elements are used. The tensors can be
    written; the file does not change by that.

    Parameters
    ----------
    path : str or path
        A safetensors file, by whomever it was written.
    device : Device, str or None
        Where the tensors shall live; None means the default device.
    dtype : DTypeLike or None
        Convert floating tensors to this. Without it every tensor keeps its dtype, except that float16 and
        bfloat16 become float32 (without loss) on a backend that lacks them.

    Returns
    -------
    dict of str to Tensor
        In the order of the header.

    Raises
    ------
    CheckpointError
        If the file is not what the format allows: cut off, overlapping, of an unknown dtype …

    Examples
    --------
    >>> import tempfile, tinyxp
    >>> path = tempfile.mkdtemp() + "/a.safetensors"
    >>> save({"x": tinyxp.Tensor([1.0, 2.0])}, path)
    >>> load(path, dtype="float64")["x"].dtype
    tinyxp.float64
    """
    _check_host()
    place, wanted = _backend.device(device), None if dtype is None else dtypes.dtype(dtype)
    with Path(path).open("rb") as file:
        entries, _, first = _read_header(file, str(path))
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    tensors = {}
    for e in entries:
        with on(place):
            raw = _array(_part(data, first, e, str(path)), e, place)
            if wanted is not None and e.dtype.kind == "f":
                raw = place.xp.astype(raw, place.backend.native_dtype(wanted), copy=False)
        tensors[e.name] = _core.wrap(raw, place)
    return tensors


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the text that was saved with the tensors of a file.

    Parameters
    ----------
    path : str or path
        A safetensors file.

    Raises
    ------
    CheckpointError
        If the file is not what the format allows.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/a.safetensors"
    >>> save({}, path, metadata={"step": "7"})
    >>> load_metadata(path)
    {'step': '7'}
    """
    with Path(path).open("rb") as file:
        return _read_header(file, str(path))[1]


def _part(data: memoryview, first: int, e: Entry, path: str) -> memoryview:
    """Return the bytes of one tensor, copied if they do not lie where elements of its dtype should."""
    part = data[first + e.start : first + e.stop]
    if e.dtype.kind == "b" and bytes(part).translate(None, b"\x00\x01"):
        raise CheckpointError(f"{path}: tensor {e.name!r} is BOOL and has bytes other than 0 and 1")
    aligned = (first + e.start) % e.dtype.itemsize == 0
    return part if aligned else memoryview(bytearray(part))


def _array(part: memoryview, e: Entry, place: Device) -> Any:
    d, backend = e.dtype, place.backend
    if d.name in ("float16", "bfloat16") and not _has(backend, d):
        part, d = _widened(part, d), dtypes.type_names["float32"]
    if e.start == e.stop:  # some libraries refuse an empty buffer
        return place.xp.empty(e.shape, dtype=backend.native_dtype(d), device=place.native)
    return backend.from_buffer(part, d, e.shape, place)


def _has(backend: Backend, d: DType) -> bool:
    try:
        backend.native_dtype(d)
    except DTypeError:
        return False
    return True


def _widened(part: memoryview, d: DType) -> memoryview:
    """Return the bytes of half precision as those of float32, made by the host library."""
    host = _backend.get_backend(_backend.HOST)
    count, xp = (len(part) // d.itemsize,), host.xp
    if d.name == "float16":
        return host.to_buffer(
            xp.astype(host.from_buffer(part, d, count, host.device()), xp.float32)
        )
    # bfloat16 is the upper half of float32
    words = host.from_buffer(part, dtypes.type_names["uint16"], count, host.device())
    return host.to_buffer(xp.astype(words, xp.uint32) << 16)


# ---------------------------------------------------------------- the header
def _read_header(file: BinaryIO, path: str) -> tuple[list[Entry], dict[str, str], int]:
    """Return the entries, the metadata, and where the data begin, all checked."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(PREFIX)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < PREFIX:
        raise CheckpointError(f"{path} is no safetensors file: it has {size} bytes, fewer than 8")
    if length > MAX_HEADER:
        raise CheckpointError(
            f"{path} is no safetensors file: its header would have {length:,} bytes, more than {MAX_HEADER:,}"
        )
    if PREFIX + length > size:
        raise CheckpointError(
            f"{path} is cut off: its header ends at byte {PREFIX + length:,} of {size:,}"
        )
    header = _parse(file.read(length), path)
    metadata = _metadata(header.pop(METADATA, None), path)
    entries = [_entry(name, value, path) for name, value in header.items()]
    _check_cover(entries, size - PREFIX - length, path)
    return entries, metadata, PREFIX + length


def _parse(text: bytes, path: str) -> dict[str, Any]:
    try:
        if not text.startswith(b"{"):
            raise ValueError("it does not begin with '{'")  # noqa: TRY301 - all reasons end in one message
        header = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(
            f"{path} is no safetensors file: its header is not valid: {exc}"
        ) from None
    return header  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # add returns None, which goes on with the search
        raise ValueError(f"it names {twice!r} twice")
    return found


def _metadata(value: Any, path: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise CheckpointError(f"{path}: {METADATA} is not a table of strings")
    return value


def _entry(name: str, value: Any, path: str) -> Entry:
    """Check what the header says of one tensor, on its own."""
    who = f"{path}: tensor {name!r}"
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= set(value):
        raise CheckpointError(f"{who} lacks dtype, shape or data_offsets")
    shape, offsets = value["shape"], value["data_offsets"]
    if not _counts(shape):
        raise CheckpointError(f"{who} has the shape {shape!r}; expected at most 64 lengths")
    if not (_counts(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):  # noqa: PLR2004 - a pair
        raise CheckpointError(f"{who} has data_offsets {offsets!r}; expected a start and a stop")
    d = _DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if d is None:
        raise CheckpointError(
            f"{who} has dtype {value['dtype']!r}; tinyxp reads {', '.join(_DTYPES)}"
        )
    expected, got = d.itemsize * math.prod(shape), offsets[1] - offsets[0]
    if expected != got:
        raise CheckpointError(
            f"{who} has {got:,} bytes; {d} of shape {tuple(shape)} has {expected:,}"
        )
    return Entry(name, d, tuple(shape), *offsets)


def _counts(value: Any) -> bool:
    """Whether `value` is a list of whole numbers, short and small enough to multiply."""
    if not (isinstance(value, list) and len(value) <= MAX_NDIM):
        return False
    return all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _check_cover(entries: list[Entry], size: int, path: str) -> None:
    """Raise unless the entries cover the data without gap or overlap."""
    at = 0
    for e in sorted(entries, key=lambda e: (e.start, e.stop)):
        if e.start != at:
            what = "overlaps the one before" if e.start < at else "leaves a gap before it"
            raise CheckpointError(
                f"{path}: tensor {e.name!r} begins at byte {e.start:,} and {what}, which ends at {at:,}"
            )
        at = e.stop
    if at != size:
        what = "is cut off" if at > size else "has bytes that belong to no tensor"
        raise CheckpointError(f"{path} {what}: its tensors have {at:,} bytes, its data {size:,}")
