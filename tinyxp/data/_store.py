"""Files of tokens for texts too large for memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tinyxp.data._files import read_chunks
from tinyxp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp.data._tokenizer import Tokenizer

__all__ = ["IN_MEMORY", "store_tokens"]

IN_MEMORY = 1 << 26  # bytes of text whose tokens are kept in memory


def cache_folder() -> Path:
    """Return the folder for files that can be made again (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tinyxp"


def store_tokens(
    files: Sequence[Path], tokenizer: Tokenizer, folder: str | os.PathLike[str] | None = None
) -> Path:
    """Return a file with the tokens of `files`, written now unless an earlier call has.

    The file's name is a digest of the tokenizer and of the files' paths, sizes and times of change. It
    appears under that name only when it is complete.

    Raises
    ------
    DataError
        If a file is no text, or the folder cannot be written to.
    """
    where = Path(folder) if folder is not None else cache_folder()
    path = where / f"tokens-{_digest(files, tokenizer)}.bin"
    if path.exists():
        return path
    try:
        where.mkdir(parents=True, exist_ok=True)
        _write(path, files, tokenizer)
    except OSError as exc:
        raise DataError(f"cannot write the tokens of the text to {where}: {exc.strerror}") from None
    return path


def _write(path: Path, files: Sequence[Path], tokenizer: Tokenizer) -> None:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(dir=path.parent, prefix=path.stem, delete=False) as file:
        try:
            for chunk in read_chunks(files):
                file.write(tokenizer.encode_packed(chunk))
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise


def _digest(files: Sequence[Path], tokenizer: Tokenizer) -> str:
    import json
    from hashlib import blake2b

    digest = blake2b(digest_size=12)
    digest.update(tokenizer.fingerprint())
    for path in files:
        stat = path.stat()
        digest.update(json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns]).encode())
    return digest.hexdigest()
