from __future__ import annotations

import json
import math
import signal

import pytest

import tinyxp
from tinyxp.data import BPETokenizer, CharTokenizer, TokenDataset, load_tokenizer
from tinyxp.errors import CheckpointError, DataError
from tinyxp.models import GPT
from tinyxp.training import RunConfig, Trainer, load_run, read_metrics, stream_text, train
from tinyxp.training._checkpoint import load_checkpoint, save_checkpoint
from tinyxp.training._trainer import lr_factor, matrix_parameters

TEXT = "".join(f"the {i}th line of a small text, which is easy to learn\n" for i in range(300))
FILES = {
    "config.json",
    "metrics.csv",
    "model.safetensors",
    "optimizer.safetensors",
    "tokenizer.json",
}


class Silent:
    """A progress that only remembers, and can do something at a step."""

    def __init__(self, at=None, do=None):
        self.at, self.do, self.said, self.seen = at, do, [], []

    def start(self, step, steps):
        self.first, self.steps = step, steps

    def update(self, status):
        self.seen.append(status)

    def say(self, text):
        self.said.append(text)

    def stop(self):
        pass


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Take the machine's peak for known: measuring it takes longer than these runs."""
    monkeypatch.setattr("tinyxp.training._loop.matmul_peak", lambda _: 1e11)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def config(text):
    return RunConfig.from_preset("tiny", steps=30, eval_every=10, data=(text,), device="cpu")


def losses(folder):
    return {r["step"]: r["loss"] for r in read_metrics(folder) if r["loss"] is not None}


def stop_at(monkeypatch, step):
    """Press Ctrl-C after the update of number `step`."""
    original = Trainer.train_step

    def train_step(self):
        measured = original(self)
        if self.step == step:
            signal.raise_signal(signal.SIGINT)
        return measured

    monkeypatch.setattr(Trainer, "train_step", train_step)


# ---------------------------------------------------------------- a run
def test_a_run_leaves_everything_in_its_folder(config, tmp_path):
    folder = tmp_path / "deep" / "run"
    progress = Silent()
    result = train(config, folder, progress=progress)
    assert (result.step, result.finished) == (30, True)
    assert {p.name for p in folder.iterdir()} == FILES
    rows = read_metrics(folder)
    assert [r["step"] for r in rows] == list(range(31))
    assert [r["step"] for r in rows if r["val_loss"] is not None] == [0, 10, 20, 30]
    assert rows[30]["val_loss"] == pytest.approx(result.val_loss, rel=1e-6)
    assert rows[30]["val_loss"] < rows[0]["val_loss"] - 0.5
    assert rows[0]["val_loss"] == pytest.approx(math.log(len(set(TEXT))), rel=0.02)
    assert all(r["tokens_per_s"] > 0 < r["peak_share"] for r in rows if r["step"] in {10, 20, 30})
    assert progress.seen[-1].step == progress.steps == 30
    facts = json.loads((folder / "config.json").read_text())
    assert facts["model"]["vocab_size"] == len(set(TEXT))
    assert load_tokenizer(folder) == CharTokenizer(TEXT)


def test_the_written_model_is_the_trained_one(config, tmp_path):
    result = train(config, tmp_path / "run", progress=Silent())
    model, tokenizer = load_run(tmp_path / "run")
    tokens = [tokenizer.encode("the 1")]
    assert model(tokens).tolist() == result.trainer.model(tokens).tolist()
    first = "".join(stream_text(model, tokenizer, "the ", 20, temperature=0.8, seed=3))
    again = "".join(stream_text(model, tokenizer, "the ", 20, temperature=0.8, seed=3))
    assert first == again
    assert len(first) == 20


def test_the_loss_is_read_only_when_it_is_shown(config, monkeypatch):
    """No value leaves the device between two looks."""
    read = []
    original = tinyxp.Tensor.item
    monkeypatch.setattr(tinyxp.Tensor, "item", lambda self: read.append(1) or original(self))
    data = TokenDataset.from_text(TEXT)
    trainer = Trainer(config, data, "cpu")
    for _ in range(5):
        measured = trainer.train_step()
    assert read == []
    measured.loss.item()
    assert read == [1]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "lion", "muon"])
def test_every_optimizer_learns_and_resumes(config, tmp_path, optimizer):
    config = config.with_(optimizer=optimizer, lr={"sgd": 0.3, "lion": 1e-3}.get(optimizer, 1e-2))
    data = TokenDataset.from_text(TEXT)
    trainer = Trainer(config, data, "cpu")
    expected = [trainer.train_step().loss.item() for _ in range(12)]
    assert expected[-1] < expected[0] - 0.2
    other = Trainer(config, data, "cpu")
    for _ in range(6):
        other.train_step()
    save_checkpoint(tmp_path, other)
    again = Trainer(config, data, "cpu")
    load_checkpoint(tmp_path, again)
    assert [again.train_step().loss.item() for _ in range(6)] == expected[6:]


# ---------------------------------------------------------------- stopping and going on
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_resumed_run_is_the_uninterrupted_run(config, tmp_path, monkeypatch, dropout):
    config = config.with_(dropout=dropout)
    train(config, tmp_path / "whole", progress=Silent())
    with monkeypatch.context() as patch:
        stop_at(patch, 14)
        result = train(config, tmp_path / "broken", progress=Silent())
    assert (result.step, result.finished) == (14, False)
    assert {p.name for p in (tmp_path / "broken").iterdir()} == FILES
    result = train(config, tmp_path / "broken", resume=True, progress=Silent())
    assert result.finished
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_what_came_after_the_checkpoint_is_done_again(config, tmp_path, monkeypatch):
    """A run that was killed, not stopped, has metrics beyond its checkpoint."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 14)
        train(config, folder, progress=Silent())
    with (folder / "metrics.csv").open("a") as file:
        file.write("15,99,,,,,,\n16,99")  # half a row
    train(config, folder, resume=True, progress=Silent())
    assert sorted(losses(folder)) == list(range(1, 31))
    assert 99 not in losses(folder).values()


def test_a_save_that_was_cut_short_is_finished(config, tmp_path):
    data = TokenDataset.from_text(TEXT)
    trainer = Trainer(config, data, "cpu")
    trainer.train_step()
    save_checkpoint(tmp_path, trainer)
    old = (tmp_path / "optimizer.safetensors").read_bytes()
    trainer.train_step()
    save_checkpoint(tmp_path, trainer)
    # as if it had stopped between the two renamings
    (tmp_path / "optimizer.safetensors").rename(tmp_path / "optimizer.safetensors.new")
    (tmp_path / "optimizer.safetensors").write_bytes(old)
    fresh = Trainer(config, data, "cpu")
    load_checkpoint(tmp_path, fresh)
    assert fresh.step == 2
    # and as if the second file had come from elsewhere
    (tmp_path / "optimizer.safetensors").write_bytes(old)
    with pytest.raises(CheckpointError, match="of different steps"):
        load_checkpoint(tmp_path, Trainer(config, data, "cpu"))


def test_a_second_run_does_not_overwrite_the_first(config, tmp_path):
    train(config, tmp_path / "run", progress=Silent())
    with pytest.raises(CheckpointError, match="already holds a run; go on with it by --resume"):
        train(config, tmp_path / "run", progress=Silent())


def test_a_loss_that_explodes_ends_the_run_with_advice(config, tmp_path, monkeypatch):
    monkeypatch.setattr("tinyxp.training._trainer.lr_factor", lambda *_: math.inf)
    with (
        pytest.raises(FloatingPointError, match=r"the loss is nan at step \d+; try a lower --lr"),
        pytest.warns(RuntimeWarning),
    ):
        train(config, tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_nothing_is_written_when_the_text_is_too_short(config, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("too short")
    with pytest.raises(DataError, match="shorter than the context"):
        train(config.with_(data=(str(path),)), tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


def test_the_time_limit_shortens_the_run(config, tmp_path):
    progress = Silent()
    result = train(
        config.with_(steps=100_000, time_limit=1.0, eval_every=50_000),
        tmp_path / "run",
        progress=progress,
    )
    assert result.finished
    assert 20 < result.step < 100_000
    assert result.seconds < 10
    assert any("--time-limit 1" in line for line in progress.said)
    assert RunConfig.load(tmp_path / "run")[0].steps == result.step


# ---------------------------------------------------------------- the same everywhere
def test_the_first_losses_are_the_same_on_every_backend(config, device):
    data = TokenDataset.from_text(TEXT)
    devices = {"cpu", str(device)}
    devices |= {
        f"{name}:cpu" for name in tinyxp.available_backends() if name in {"strict", "torch"}
    }
    curves = {}
    for name in devices:
        trainer = Trainer(config.with_(dropout=0.1), data, name)
        curves[name] = [trainer.train_step().loss.item() for _ in range(20)]
    for curve in curves.values():
        assert curve == pytest.approx(curves["cpu"], abs=1e-4)


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_other_tokenizers(config, tmp_path, tokenizer):
    config = config.with_(tokenizer=tokenizer, vocab_size=300, steps=3)
    result = train(config, tmp_path / "run", progress=Silent())
    assert result.finished
    model, loaded = load_run(tmp_path / "run")
    assert loaded.kind == tokenizer
    assert isinstance("".join(stream_text(model, loaded, "", 5, seed=0)), str)


def test_a_gpt2_of_other_origin_is_a_run_too(tmp_path):
    tokenizer = BPETokenizer.train(TEXT, 300)
    model = GPT(tokenizer.vocab_size, 16, 1, 2, 32, seed=0)
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    loaded, its = load_run(tmp_path)
    options = {"max_new_tokens": 10, "temperature": 0.8, "seed": 1}
    assert list(stream_text(loaded, its, "the ", **options)) == list(
        stream_text(model, tokenizer, "the ", **options)
    )


# ---------------------------------------------------------------- schedules
@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize("steps", [1, 3, 7, 100])
def test_schedules_stay_between_floor_and_peak(schedule, steps):
    c = RunConfig.from_preset("baby", schedule=schedule, steps=steps, min_lr=4e-4, warmup=50)
    factors = [lr_factor(c, step) for step in range(steps)]
    assert max(factors) == 1.0 if steps > 3 else max(factors) <= 1.0
    assert min(factors[steps // 2 :]) >= c.min_lr / c.lr - 1e-12


def test_matrices_that_multiply_are_counted(config):
    trainer = Trainer(config, TokenDataset.from_text(TEXT), "cpu")
    c, v = config, len(set(TEXT))
    assert matrix_parameters(trainer.model) == c.layers * 12 * c.width**2 + v * c.width
