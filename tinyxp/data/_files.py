"""Finding text files and reading them piece by piece."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from tinyxp.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["find_files", "read_chunks"]

CHUNK = 1 << 22  # characters read at a time
_PROBE = 1 << 13  # bytes looked at to tell text from other files
_MAGIC = frozenset("*?[")


def find_files(paths: Iterable[str | os.PathLike[str]], /) -> list[Path]:
    """Return the text files that `paths` name: files, folders (searched through) and globs.

    Hidden files, and files in a folder or glob that are empty or no UTF-8 text, are passed over; a file
    named by itself has to be text.

    Raises
    ------
    DataError
        If a path names nothing, or nothing that is text.
    """
    found: dict[Path, None] = {}  # an ordered set
    for path in paths:
        found.update(dict.fromkeys(_expand(path)))
    if not found:
        raise DataError("no path to a text was given")
    return list(found)


def _expand(spec: str | os.PathLike[str]) -> list[Path]:
    path = Path(spec)
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if _visible(p.relative_to(path))]
        return _only_text(files, f"folder {path}")
    if path.exists():
        _check(path)
        return [path]
    if _MAGIC.isdisjoint(str(spec)):
        raise DataError(f"no file or folder {str(path)!r}")
    matches = sorted(glob.glob(str(spec), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return _only_text(map(Path, matches), f"pattern {str(spec)!r}")


def _visible(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _only_text(paths: Iterable[Path], origin: str) -> list[Path]:
    files = [p for p in paths if p.is_file()]
    texts = [p for p in files if _problem(p) is None]
    if not texts:
        what = f"none of its {len(files)} files is" if files else "it holds no files, so none is"
        raise DataError(f"no text in {origin}: {what} non-empty UTF-8 text")
    return texts


def _problem(path: Path) -> str | None:
    """Say why `path` is no text, judging by its beginning."""
    with path.open("rb") as file:
        head = file.read(_PROBE)
    if not head:
        return "it is empty"
    if b"\0" in head:
        return f"it holds a zero byte at position {head.index(0)}"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as exc:
        if exc.start < len(head) - 3:  # a character may be cut at the end of what was read
            return f"byte 0x{head[exc.start]:02x} at position {exc.start} is not UTF-8"
    return None


def _check(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} is no regular file")
    try:
        problem = _problem(path)
    except OSError as exc:
        raise DataError(f"cannot read {path}: {exc.strerror}") from None
    if problem:
        raise DataError(f"{path} is no text to train on: {problem}")


def read_chunks(files: Sequence[Path], /) -> Iterator[str]:
    r"""Yield the text of `files` piece by piece, with a line break between two files.

    Line ends become ``\n``, a byte order mark is dropped.

    Raises
    ------
    DataError
        If a file is not UTF-8 or cannot be read.
    """
    last = "\n"
    for path in files:
        if last != "\n":
            yield "\n"
        for chunk in _read(path):
            yield chunk
            last = chunk[-1]


def _read(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            while chunk := file.read(CHUNK):
                # to the end of the line, so that no word is cut; within reason, should there be no lines
                yield chunk + file.readline(CHUNK)
    except UnicodeDecodeError as exc:
        raise DataError(
            f"{path} is no text to train on: byte 0x{exc.object[exc.start]:02x} is not UTF-8 ({exc.reason})"
        ) from None
    except OSError as exc:
        raise DataError(f"cannot read {path}: {exc.strerror}") from None
