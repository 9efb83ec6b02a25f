from __future__ import annotations

import pytest

from tinyxp.data import _files, default_text
from tinyxp.data._files import find_files, read_chunks
from tinyxp.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name, content in {
        "a.txt": b"first\n",
        "sub/b.md": b"second",
        "sub/c.txt": "dritte Datei: ä\n".encode(),
        ".hidden.txt": b"hidden",
        "sub/.git/config": b"hidden",
        "image.png": b"\x89PNG\0",
        "empty.txt": b"",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def names(paths):
    return [p.name for p in paths]


def test_a_folder_gives_its_text_files_in_order(folder):
    assert names(find_files([folder])) == ["a.txt", "b.md", "c.txt"]


def test_globs_reach_into_folders_and_files_come_once(folder):
    assert names(find_files([f"{folder}/**/*.txt", folder / "a.txt"])) == ["a.txt", "c.txt"]


def test_files_are_joined_by_line_breaks(folder):
    text = "".join(read_chunks(find_files([folder])))
    assert text == "first\nsecond\ndritte Datei: ä\n"


def test_pieces_end_with_a_line(folder, monkeypatch):
    monkeypatch.setattr(_files, "CHUNK", 8)
    path = folder / "long.txt"
    path.write_text("one two three\n" * 5)
    pieces = list(read_chunks([path]))
    assert len(pieces) > 1
    assert all(p.endswith("\n") for p in pieces)
    assert "".join(pieces) == path.read_text()


def test_line_ends_and_byte_order_mark(folder):
    path = folder / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert "".join(read_chunks([path])) == "one\ntwo\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.txt", "no file or folder '.*nowhere.txt'"),
        ("empty.txt", "empty.txt is no text to train on: it is empty"),
        ("image.png", "image.png is no text to train on: it holds a zero byte at position 4"),
        ("*.zip", "no text in pattern .*zip': it holds no files"),
    ],
)
def test_what_is_no_text_is_refused_with_its_reason(folder, path, message):
    with pytest.raises(DataError, match=message):
        find_files([folder / path])


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(DataError, match="it holds no files"):
        find_files([tmp_path])
    (tmp_path / "x.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match="none of its 1 files is"):
        find_files([tmp_path])


def test_latin1_is_refused_early_and_late(folder):
    path = folder / "latin1.txt"
    path.write_bytes("é".encode("latin-1") * 10)
    with pytest.raises(DataError, match="byte 0xe9 at position 0 is not UTF-8"):
        find_files([path])
    path.write_bytes(b"x" * 100_000 + b"\xe9 later")
    with pytest.raises(DataError, match="byte 0xe9 is not UTF-8"):
        list(read_chunks(find_files([path])))


def test_a_character_cut_by_the_probe_is_no_fault(folder):
    path = folder / "cut.txt"
    path.write_bytes(b"x" + "ä".encode() * 10_000)
    assert find_files([path]) == [path]


# ---------------------------------------------------------------- the default text
def test_the_default_text_is_prose():
    text = default_text()
    assert 150_000 < len(text) < 1_000_000
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 110
    for sign in (">>>", "::=", "\\n", "+--", "{'", "\t"):
        assert sign not in text
    letters = sum(c.isalpha() or c.isspace() for c in text)
    assert letters / len(text) > 0.9


def test_the_default_text_repeats_no_paragraph():
    paragraphs = default_text().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)


def test_a_python_without_documentation_says_what_to_do(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"no pydoc_data\.topics.*--data"):
        default_text.__wrapped__()
