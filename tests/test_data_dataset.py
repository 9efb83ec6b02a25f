from __future__ import annotations

from array import array

import pytest

import tinyxp
from tinyxp.data import BPETokenizer, ByteTokenizer, CharTokenizer, TokenDataset, _dataset
from tinyxp.errors import DataError

TEXT = "".join(f"line {i} of a text to train on\n" for i in range(200))


def test_a_batch_is_a_crop_and_the_same_one_token_later():
    data = TokenDataset.from_text(TEXT)
    x, y = data.batch(3, batch_size=5, context=16)
    assert x.shape == y.shape == (5, 16)
    assert x.dtype == y.dtype == tinyxp.int64
    train = TEXT[: data.size("train")]
    for row, later in zip(x.tolist(), y.tolist(), strict=True):
        text = data.tokenizer.decode(row)
        assert text in train
        assert row[1:] == later[:-1]
        assert text + data.tokenizer.decode(later[-1:]) in train


def test_the_split_is_nanogpts():
    data = TokenDataset.from_text(TEXT)
    assert data.size("train") == int(0.9 * len(TEXT))
    assert data.size("train") + data.size("val") == len(data) == len(TEXT)


@pytest.mark.parametrize("vocab_size", [256, 300, 70_000])
def test_batches_are_the_same_on_every_backend(device, vocab_size):
    data = TokenDataset(list(range(200)), vocab_size=vocab_size)
    devices = {"cpu", str(device)}
    devices |= {
        f"{name}:cpu" for name in tinyxp.available_backends() if name in {"strict", "torch"}
    }
    drawn = {}
    for name in devices:
        x, y = data.batch(70, batch_size=4, context=8, seed=5, device=name)
        assert x.device == y.device == name
        drawn[name] = [x.tolist(), y.tolist()]
    assert all(batch == drawn["cpu"] for batch in drawn.values())


def test_batches_depend_on_seed_step_and_split_alone():
    data = TokenDataset.from_text(TEXT)

    def draw(step, seed=0, split="train"):
        return data.batch(step, batch_size=4, context=8, seed=seed, split=split)[0].tolist()

    backwards = [draw(step) for step in (130, 65, 64, 63, 1, 0)]
    fresh = TokenDataset.from_text(TEXT)
    again = [
        fresh.batch(step, batch_size=4, context=8, seed=0)[0].tolist()
        for step in (0, 1, 63, 64, 65, 130)
    ]
    assert again == backwards[::-1]
    different = [draw(0), draw(1), draw(0, seed=1), draw(0, split="val")]
    assert len({str(d) for d in different}) == 4


def test_crops_reach_both_ends():
    data = TokenDataset(list(range(10)) * 2, vocab_size=10, val_fraction=0.5)
    first = {data.batch(s, batch_size=8, context=8)[0][:, 0].tolist()[0] for s in range(20)}
    assert first == {0, 1}


def test_windows_cover_the_validation_text_once():
    data = TokenDataset.from_text(TEXT)
    rows = [row for x, _ in data.windows(batch_size=4, context=16) for row in x.tolist()]
    assert len(rows) == (data.size("val") - 1) // 16
    text = data.tokenizer.decode(token for row in rows for token in row)
    assert TEXT[data.size("train") :].startswith(text)


def test_a_limit_spreads_the_windows():
    data = TokenDataset.from_text(TEXT)
    every = [row for x, _ in data.windows(batch_size=4, context=16) for row in x.tolist()]
    some = [row for x, _ in data.windows(batch_size=4, context=16, limit=5) for row in x.tolist()]
    assert some == [every[i * len(every) // 5] for i in range(5)]


@pytest.mark.parametrize("code", ["B", "H", "I"])
def test_a_buffer_is_used_where_it_lies(code):
    tokens = array(code, range(100))
    data = TokenDataset(tokens, vocab_size=200, val_fraction=0.0)
    tokens[0] = 150
    x, _ = next(data.windows("train", batch_size=1, context=4))
    assert x.tolist() == [[150, 1, 2, 3]]


def test_numpy_tokens_are_taken():
    np = pytest.importorskip("numpy", reason="compares with NumPy")
    data = TokenDataset(np.arange(50, dtype="uint16"), vocab_size=50)
    assert len(data) == 50


# ---------------------------------------------------------------- files larger than memory
@pytest.fixture
def mapped(monkeypatch):
    """Treat every text as too large for memory, and read it in small pieces."""
    monkeypatch.setattr(_dataset, "IN_MEMORY", 0)
    monkeypatch.setattr("tinyxp.data._files.CHUNK", 100)


@pytest.mark.parametrize(
    "tokenizer", [None, ByteTokenizer(), BPETokenizer.train(TEXT, 300)], ids=str
)
@pytest.mark.usefixtures("mapped")
def test_mapped_tokens_are_those_in_memory(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text(TEXT)
    cache = tmp_path / "cache"
    data = TokenDataset.from_files(tmp_path / "a.txt", tokenizer, cache=cache)
    same = TokenDataset.from_text(TEXT, tokenizer)
    assert data.splits == same.splits
    for a, b in zip(
        data.windows(batch_size=64, context=16),
        same.windows(batch_size=64, context=16),
        strict=True,
    ):
        assert a[1].tolist() == b[1].tolist()
    assert len(list(cache.iterdir())) == 1


@pytest.mark.usefixtures("mapped")
def test_the_token_file_is_used_again_until_the_text_changes(tmp_path):
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text(TEXT)
    TokenDataset.from_files(path, cache=cache)
    (stored,) = cache.iterdir()
    before = stored.stat().st_mtime_ns
    TokenDataset.from_files(path, cache=cache)
    assert stored.stat().st_mtime_ns == before
    path.write_text(TEXT + "more\n")
    assert len(TokenDataset.from_files(path, cache=cache)) == len(TEXT) + 5
    assert len(list(cache.iterdir())) == 2


@pytest.mark.usefixtures("mapped")
def test_a_failed_encoding_leaves_nothing_behind(tmp_path):
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text(TEXT + "€")
    with pytest.raises(DataError, match="'€'"):
        TokenDataset.from_files(path, CharTokenizer(TEXT), cache=cache)
    assert list(cache.iterdir()) == []


# ---------------------------------------------------------------- refusals
def test_a_text_shorter_than_the_context_says_what_would_do():
    data = TokenDataset.from_text("short text, twenty-one")
    with pytest.raises(
        DataError, match=r"training part has 19 tokens, .* 64 takes at least 65; .* at most 2"
    ):
        data.batch(0, batch_size=1, context=64, split="val")
    with pytest.raises(DataError, match="training part has 19 tokens"):
        data.check(64)
    data.check(2)


def test_misuse_is_refused():
    with pytest.raises(DataError, match="at least one token"):
        TokenDataset([], vocab_size=3)
    with pytest.raises(DataError, match="from 0 to vocab_size - 1 = 2"):
        TokenDataset([0, 3], vocab_size=3)
    with pytest.raises(DataError, match="no split 'test'"):
        TokenDataset([0, 1], vocab_size=2).size("test")
    with pytest.raises(DataError, match=r"val_fraction in \[0, 1\); got 1"):
        TokenDataset([0, 1], vocab_size=2, val_fraction=1)
    with pytest.raises(DataError, match="format 'd'"):
        TokenDataset(array("d", [0.0]), vocab_size=2)
