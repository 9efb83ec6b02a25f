"""The text to train on when none is given: Python's own documentation, shipped with CPython."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from typing import TYPE_CHECKING

from tinyxp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["default_text"]

WIDTH = 72  # columns of a line of the cleaned text

_QUOTES = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"',
    "\u2013": "-", "\u2014": "-", "\u2026": "...", "\u00a0": " ",
})  # fmt: skip
_UNDERLINE = re.compile(r"([*=\-~^\"#])\1{2,}")
_BULLET = re.compile(r"(?:[*\-] |\d+\. |\[\d+\] )")
_MARKUP = re.compile(r"\*{1,2}(?=\S)([^*]+?)(?<=\S)\*{1,2}| ?\[\d+\]")
_CODE = re.compile(r">>>|::=|^\.\.|[|{}\\~^]|[-=+*/<>_]{3}|\w\(\)\w|^\w+ = ")
_HYPHENATED = re.compile(r"(?<=\w)- (?=[a-z])")
_SENTENCE = re.compile(r"[A-Z\"].*[.:!?]$", re.DOTALL)
_MIN_WORDS = 8
_MIN_LETTERS = 0.72  # share of lower-case letters and spaces; code has more signs than that


@cache
def default_text() -> str:
    """Return the prose of Python's language reference, about 300,000 characters of plain ASCII.

    The source is `pydoc_data.topics`, what ``help("for")`` prints, which every CPython ships. Sentences are
    kept; code, grammar, tables and repeated paragraphs are not. The text differs a little between versions
    of Python, and by nothing else.

    Raises
    ------
    DataError
        If this Python comes without `pydoc_data`.

    Examples
    --------
    >>> 'The "assert" statement' in default_text()
    True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError(
            "this Python ships no pydoc_data.topics, the default text; give a text of your own with --data"
        ) from None
    paragraphs = (p for name in sorted(topics) for p in _prose(topics[name]))
    return "\n\n".join(dict.fromkeys(paragraphs)) + "\n"


def _prose(topic: str) -> Iterator[str]:
    """Yield the headings and paragraphs of prose in one topic."""
    for block in re.split(r"\n\s*\n", topic.translate(_QUOTES)):
        lines = [line.strip() for line in block.strip("\n").split("\n")]
        if len(lines) > 1 and _UNDERLINE.fullmatch(lines[1]):
            yield from _heading(lines[0])
            continue
        for item in _items(lines):
            text = _plain(item)
            if _is_prose(text):
                yield textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _heading(line: str) -> Iterator[str]:
    text = _plain([line])
    if text.isascii() and not _CODE.search(text):
        yield text


def _items(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the lines of each item of a list, or of the one paragraph there is."""
    item: list[str] = []
    for line in lines:
        bullet = _BULLET.match(line)
        if bullet and item:
            yield item
            item = []
        item.append(line[bullet.end() :] if bullet else line)
    yield item


def _plain(lines: Iterable[str]) -> str:
    text = _MARKUP.sub(lambda m: m[1] or "", " ".join(lines))
    return _HYPHENATED.sub("-", re.sub(r"\s+", " ", text)).strip()


def _is_prose(text: str) -> bool:
    if len(text.split()) < _MIN_WORDS or not text.isascii() or _CODE.search(text):
        return False
    letters = sum(c.islower() or c == " " for c in text)
    return letters / len(text) >= _MIN_LETTERS and _SENTENCE.match(text) is not None
