from __future__ import annotations

import io
import math
import signal
import sys
from dataclasses import fields
from time import perf_counter, sleep

import pytest

import tinyxp
from tinyxp.errors import CheckpointError
from tinyxp.training._config import RunConfig
from tinyxp.training._interrupt import StopRequest
from tinyxp.training._meter import Meter
from tinyxp.training._metrics import COLUMNS, Metrics, read_metrics
from tinyxp.training._plot import MissingPlotLibrary, save_plot, smoothed
from tinyxp.training._presets import PRESETS
from tinyxp.training._progress import PlainProgress, Status, clock, make_progress, sparkline
from tinyxp.training._threads import Threads
from tinyxp.training._throughput import flops_per_token, matmul_peak

STATUS = Status(100, 2000, 2.5, 2.6, 12345.6, 0.42, 75.0, validated=True)


# ---------------------------------------------------------------- settings
@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_said_to_be_what_they_are(name):
    config = RunConfig.from_preset(name)
    assert config.preset == name
    assert set(PRESETS[name].settings) <= {f.name for f in fields(RunConfig)}


def test_the_baby_preset_is_nanogpts_setting():
    c = RunConfig.from_preset("baby")
    shape = (c.layers, c.heads, c.width, c.context, c.batch_size, c.steps, c.dropout)
    assert shape == (4, 4, 128, 64, 12, 2000, 0.0)
    assert (c.tokenizer, c.time_limit) == ("char", 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be greater than 0; got 0"),
        ({"lr": -1.0}, "lr must be greater than 0; got -1"),
        ({"lr": math.nan}, "lr must be a finite number; got nan"),
        ({"dropout": 1.0}, "dropout must be less than 1; got 1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0; got -0.1"),
        ({"heads": 3}, "width must be a multiple of heads; got width=128, heads=3"),
        ({"min_lr": 0.1, "lr": 0.01}, "min_lr must not exceed lr"),
        ({"optimizer": "adamv"}, "no optimizer named 'adamv'; did you mean 'adam"),
        ({"tokenizer": "words"}, "no tokenizer named 'words'; there are char, byte, bpe"),
        ({"layer": 3}, "no setting named 'layer'; did you mean 'layers'"),
    ],
)
def test_settings_without_meaning_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_preset("baby", **changes)


def test_unknown_preset_suggests_one():
    with pytest.raises(ValueError, match="no preset named 'bady'; did you mean 'baby'"):
        RunConfig.from_preset("bady")


def test_settings_survive_the_file(tmp_path):
    config = RunConfig.from_preset("tiny", data=("a.txt", "b/*.txt"), lr=0.1 + 0.2)
    config.save(tmp_path, {"parameters": 7})
    assert RunConfig.load(tmp_path) == (config, {"parameters": 7})
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "text",
    ["{", "{}", '{"settings": {"data": []}, "x": 1}{', '{"settings": {"data": [], "no": 1}}'],
)
def test_damaged_settings_are_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="is no configuration of a run"):
        RunConfig.load(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path):
    for load in (RunConfig.load, read_metrics):
        with pytest.raises(CheckpointError, match="no run in"):
            load(tmp_path / "nowhere")


# ---------------------------------------------------------------- metrics
def test_metrics_are_empty_where_nothing_was_measured(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.append([{"step": 0, "val_loss": 4.5}, {"step": 1, "loss": 4.4, "lr": 1e-3}])
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == [",".join(COLUMNS), "0,,4.5,,,,,", "1,4.4,,0.001,,,,"]
    assert COLUMNS[:6] == ("step", "loss", "val_loss", "lr", "grad_norm", "tokens_per_s")
    assert read_metrics(tmp_path)[1]["val_loss"] is None


def test_metrics_keep_every_bit_of_a_float32(tmp_path):
    value = 2.0 + 2.0**-22
    Metrics(tmp_path).append([{"step": 1, "loss": value}])
    assert read_metrics(tmp_path)[0]["loss"] == pytest.approx(value, abs=2.0**-25)


def test_metrics_after_the_checkpoint_are_dropped(tmp_path):
    Metrics(tmp_path).append([{"step": i, "loss": float(i)} for i in range(1, 9)])
    Metrics(tmp_path, keep=5).append([{"step": 6, "loss": 66.0}])
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path)][-2:] == [(5, 5.0), (6, 66.0)]


def test_damaged_metrics_are_refused(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\nx,1\n")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_metrics(tmp_path)


# ---------------------------------------------------------------- plot
def test_the_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="runs matplotlib")
    Metrics(tmp_path).append(
        [{"step": 0, "val_loss": 4.0}, *({"step": i, "loss": 4.0 / i} for i in range(1, 50))]
    )
    path = save_plot(tmp_path, "title")
    assert path == tmp_path / "loss.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loss.png", "metrics.csv"]


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    Metrics(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingPlotLibrary, match=r"pip install 'tinyxp\[plot\]'"):
        save_plot(tmp_path)


def test_smoothing_removes_noise_and_keeps_lines():
    noise = smoothed([2.0 + (-1) ** i for i in range(1000)])
    assert max(abs(v - 2.0) for v in noise[50:]) < 0.05
    line = [3.0 - 0.25 * i for i in range(100)]
    assert smoothed(line) == pytest.approx(line)
    assert (smoothed([3.0]), smoothed([])) == ([3.0], [])


# ---------------------------------------------------------------- progress
def test_plain_lines_tell_everything():
    file = io.StringIO()
    progress = PlainProgress(file)
    progress.start(0, 2000)
    progress.update(STATUS)
    assert (
        file.getvalue()
        == "step  100/2000  loss 2.5000  val 2.6000  12,346 tok/s  42% of peak  1:15 left\n"
    )


def test_plain_lines_are_few():
    file = io.StringIO()
    progress = PlainProgress(file)
    progress.start(0, 2000)
    for _ in range(1000):
        progress.update(STATUS._replace(validated=False))
    assert file.getvalue() == ""


def test_plain_lines_without_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert isinstance(make_progress(), PlainProgress)


def test_plain_lines_without_rich(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert isinstance(make_progress(), PlainProgress)


def test_a_live_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("rich", reason="runs rich")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    progress = make_progress()
    progress.start(0, 2000)
    progress.update(STATUS)
    progress.say("[not markup]")
    progress.stop()
    for text in (
        "val 2.6000",
        "12,346 tok/s",
        "42% of peak",
        "1:15 left",
        "[not markup]",
        "100/2000",
    ):
        assert text in terminal.getvalue()


def test_clock_and_sparkline():
    assert (clock(None), clock(0), clock(59.6), clock(3600)) == ("-:--", "0:00", "1:00", "1:00:00")
    assert sparkline([]) == ""
    assert sparkline([5.0, 5.0]) == "▁▁"
    assert len(sparkline(list(range(1000)))) == 32


# ---------------------------------------------------------------- meter
def test_the_meter_leaves_pauses_out(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tinyxp.training._meter.perf_counter", lambda: now[0])
    meter = Meter(tokens_per_step=10, flops_per_token=6.0, peak=240.0)
    assert meter.left(10, 1) is None
    now[0] += 2.0
    with meter.pause():
        now[0] += 50.0
    now[0] += 3.0
    meter.lap(5)
    assert meter.tokens_per_s == 10.0
    assert meter.smooth_tokens_per_s == pytest.approx(10.0)
    assert meter.share(meter.tokens_per_s) == 0.25
    assert meter.elapsed == 55.0
    assert meter.left(steps=10, pauses=2) == pytest.approx(110.0)
    assert meter.affordable(seconds=60.0, steps_per_pause=10) == 10
    assert not meter.due


# ---------------------------------------------------------------- stopping
def test_the_first_interrupt_asks_and_the_second_insists():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.asked
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------- the machine
class Crowded:
    """A library on cores that are busy: a product takes 1 ms on one thread, more on several."""

    def __init__(self, slowdown):
        self.threads, self.slowdown = 4, slowdown
        self.float32, self.full = "float32", lambda *_, **__: None
        self.xp = self.backend = self
        self.native = None

    def set_threads(self, n):
        before, self.threads = self.threads, n
        return before

    def matmul(self, a, b):
        sleep(0.001 if self.threads == 1 else 0.001 * self.slowdown)


@pytest.mark.parametrize(("slowdown", "chosen"), [(10, 1), (0.4, 4)])
def test_one_thread_is_used_where_several_are_slower(slowdown, chosen):
    library = Crowded(slowdown)
    with Threads(library, 8, 8) as threads:
        assert library.threads == chosen
        library.slowdown = 1 / slowdown
        assert threads.choose() == library.threads == 5 - chosen
    assert library.threads == 4


def test_a_slow_step_makes_it_choose_again(monkeypatch):
    monkeypatch.setattr("tinyxp.training._threads._PATIENCE", 0.0)
    library = Crowded(0.4)
    with Threads(library, 8, 8) as threads:
        threads.notice(0.01)
        library.slowdown = 10
        threads.notice(0.02)
        assert library.threads == 4  # a little slower is no reason
        threads.notice(0.1)
        assert library.threads == 1


def test_the_threads_of_numpys_blas_are_left_as_they_were():
    backend = tinyxp.get_backend("numpy")
    before = backend.describe()["threads"]
    with Threads(backend.device(), 64, 32) as threads:
        assert threads.choose() in {None, 1, int(before) if before.isdigit() else None}
    assert backend.describe()["threads"] == before


def test_the_peak_is_that_of_matrix_products():
    device = tinyxp.device("cpu")
    a = device.xp.full((512, 512), 0.5, dtype=device.xp.float32)
    device.xp.matmul(a, a)
    start = perf_counter()
    device.xp.matmul(a, a)
    rate = 2 * 512**3 / (perf_counter() - start)
    peak = matmul_peak(device, seconds=0.1)
    assert rate / 10 < peak < 1e15


def test_the_flops_of_a_token_are_palms():
    # "PaLM", appendix B: 6 N + 12 L H Q T, here with H Q = the width
    assert (
        flops_per_token(matrix_parameters=818, layers=4, context=64, width=128)
        == 6 * 818 + 12 * 4 * 128 * 64
    )
