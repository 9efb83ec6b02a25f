from __future__ import annotations

import json
import string
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyxp.data import BPETokenizer, ByteTokenizer, CharTokenizer, load_tokenizer
from tinyxp.data._bpe import byte_letters, word_pattern
from tinyxp.data._tokenizer import typecode
from tinyxp.errors import CheckpointError, DataError

TEXT = "Low lower lowest, slow slower slowest: 3 naïve cafés — “ok” 🙂\n\n  end" * 3
TOKENIZERS = {
    "char": CharTokenizer(TEXT),
    "byte": ByteTokenizer(),
    "bpe": BPETokenizer.train(TEXT, 300),
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]


def test_round_trip(tokenizer):
    tokens = tokenizer.encode(TEXT)
    assert tokenizer.decode(tokens) == TEXT
    assert 0 <= min(tokens) <= max(tokens) < tokenizer.vocab_size


def test_the_stream_gives_whole_characters(tokenizer):
    pieces = list(tokenizer.decode_stream(tokenizer.encode(TEXT)))
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded == tokenizer
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)


def test_tokens_beyond_the_vocabulary_are_refused(tokenizer):
    with pytest.raises(
        DataError, match=rf"0 to {tokenizer.vocab_size - 1}; got {tokenizer.vocab_size}"
    ):
        tokenizer.decode([tokenizer.vocab_size])
    with pytest.raises(DataError, match="got -1"):
        tokenizer.decode([-1])


@given(st.text())
def test_bytes_and_byte_pairs_take_any_text(text):
    for name in ("byte", "bpe"):
        assert TOKENIZERS[name].decode(TOKENIZERS[name].encode(text)) == text


@given(st.text(min_size=1))
def test_characters_are_numbered_by_code_point(text):
    tokenizer = CharTokenizer(text)
    assert tokenizer.encode(text) == [sorted(set(text)).index(c) for c in text]


@pytest.mark.parametrize("size", [256, 257, 0x10000, 0x10001])
def test_vocabularies_of_every_width(size):
    chars = "".join(c for c in map(chr, range(size + 0x800)) if not "\ud800" <= c <= "\udfff")[
        :size
    ]
    tokenizer = CharTokenizer(chars)
    assert tokenizer.vocab_size == size
    assert tokenizer.encode(chars) == list(range(size))
    assert len(tokenizer.encode_packed(chars)) == size * {"B": 1, "H": 2, "I": 4}[typecode(size)]


def test_unknown_character_names_itself_and_the_known_ones():
    with pytest.raises(
        DataError, match=r"'z' at position 2 is not among the 2 characters .* knows 'ab'"
    ):
        CharTokenizer("ab").encode("abz")


def test_bytes_that_are_no_text_become_replacement_characters():
    assert ByteTokenizer().decode([0xC3, 0x28, 0xE2, 0x82]) == "\ufffd(\ufffd"


def test_characters_of_nothing_are_refused():
    with pytest.raises(DataError, match="empty"):
        CharTokenizer("")


# ---------------------------------------------------------------- byte pairs
def test_merges_of_the_published_examples():
    # Wikipedia, "Byte-pair encoding": aaabdaaabac, then Z = aa, Y = ab, X = ZY
    tokenizer = BPETokenizer.train("aaabdaaabac", 259)
    assert tokenizer.merges == [(b"a", b"a"), (b"a", b"b"), (b"aa", b"ab")]
    assert [tokenizer.decode([t]) for t in tokenizer.encode("aaabdaaabac")] == [
        "aaab",
        "d",
        "aaab",
        "a",
        "c",
    ]
    # Sennrich, Haddow and Birch 2016, figure 1: counts low 5, lowest 2, newer 6, wider 3
    words = "low " * 5 + "lowest " * 2 + "newer " * 6 + "wider " * 3
    assert BPETokenizer.train(words, 257).merges == [(b"e", b"r")]


def test_learning_recounts_as_it_should():
    """The counts kept up to date give the merges that counting anew for each would."""
    text = "the theme of the thesis is that these themes are the themes the thesis has"
    words = [[bytes((b,)) for b in w.encode()] for w in word_pattern().findall(text)]
    expected = []
    for _ in range(20):
        counts = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < 2:
            break
        expected.append(best)
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [word[i] + word[i + 1]]
                i += 1
    assert BPETokenizer.train(text, 256 + 20).merges == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [  # cut by the pattern of GPT-2's encoder.py, run by the third-party module `regex`
        ("Hello world", ["Hello", " world"]),
        ("I'll don't we've 's", ["I", "'ll", " don", "'t", " we", "'ve", " '", "s"]),
        ("x=3.14  y", ["x", "=", "3", ".", "14", " ", " y"]),
        ("a\n\n  b_c", ["a", "\n\n ", " b", "_", "c"]),
        ("naïve ½² Ⅻ٣", ["naïve", " ½²", " Ⅻ٣"]),
        ("tail  ", ["tail", "  "]),
    ],
)
def test_words_are_cut_as_in_gpt2(text, words):
    assert word_pattern().findall(text) == words


def test_letters_of_bytes_are_those_of_gpt2():
    letters = byte_letters()
    assert len(set(letters.values())) == 256
    assert (letters[ord(" ")], letters[ord("\n")], letters[ord("A")]) == ("Ġ", "Ċ", "A")
    assert not any(c.isspace() for c in letters.values())


def test_files_have_gpt2s_layout(tmp_path):
    letters = [*byte_letters().values()]
    vocab = {c: i for i, c in enumerate([*letters, "Ġa", "Ġab", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ a\nĠa b\n", encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 259
    assert tokenizer.encode(" ab a") == [257, 256]
    assert tokenizer.special == {"<|endoftext|>": 258}
    assert tokenizer.decode([257, 258]) == " ab<|endoftext|>"
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {}}')  # another library's
    assert load_tokenizer(tmp_path) == tokenizer
    again = tmp_path / "again"
    again.mkdir()
    tokenizer.save(again)
    assert json.loads((again / "vocab.json").read_text(encoding="utf-8")) == vocab
    assert (again / "merges.txt").read_bytes() == (tmp_path / "merges.txt").read_bytes()


def test_a_smaller_vocabulary_than_bytes_is_refused():
    with pytest.raises(DataError, match="at least 256; got 100"):
        BPETokenizer.train(string.ascii_letters, 100)


# ---------------------------------------------------------------- damaged files
def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="is no tokenizer of tinyxp"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"kind": "words"}')
    with pytest.raises(CheckpointError, match="KeyError: 'words'"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"kind": "bpe", "special": {}}')
    with pytest.raises(CheckpointError, match=r"vocab\.json is missing"):
        load_tokenizer(tmp_path)
