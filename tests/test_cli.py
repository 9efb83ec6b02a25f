from __future__ import annotations

import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tinyxp
from tinyxp.__main__ import main
from tinyxp.training import PlainProgress, RunConfig, read_metrics, save_plot, train
from tinyxp.training._plot import MissingPlotLibrary

TEXT = "".join(f"the {i}th line of a small text, which is easy to learn\n" for i in range(300))
FILES = {
    "config.json", "loss.png", "metrics.csv", "model.safetensors", "optimizer.safetensors", "sample.txt",
    "tokenizer.json",
}  # fmt: skip


def no_plot(*_):
    raise MissingPlotLibrary("no plot")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Run in an empty folder, and leave out what takes long: the peak, the plot, a long sample."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinyxp.training._loop.matmul_peak", lambda _: 1e11)
    monkeypatch.setattr("tinyxp.training._command.save_plot", no_plot)
    monkeypatch.setattr("tinyxp.training._command._SAMPLE", 40)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")


def refused(capsys, *argv, code=2):
    """Run a command that has to fail; return its one line of complaint."""
    before = sorted(Path().iterdir())
    try:
        returned = main(argv)
    except SystemExit as exc:  # argparse
        returned = exc.code
    out, err = capsys.readouterr()
    assert returned == code
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("tinyxp")
    assert "Traceback" not in err
    assert sorted(Path().iterdir()) == before
    return err


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run, made once."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    config = RunConfig.from_preset("tiny", data=(str(folder / "text.txt"),), steps=20, device="cpu")
    train(config, folder / "run", progress=PlainProgress(io.StringIO()))
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the finished run, in the current folder."""
    return shutil.copytree(trained, tmp_path / "run")


def tiny(*more):
    return main(
        [
            "train",
            "--preset",
            "tiny",
            "--data",
            "text.txt",
            "--steps",
            "20",
            "--device",
            "cpu",
            *more,
        ]
    )


# ---------------------------------------------------------------- train, generate, resume
def test_train_then_generate(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tinyxp.training._command.save_plot", save_plot)
    assert tiny("--out", "run", "--eval-every", "10") == 0
    out, err = capsys.readouterr()
    assert err == ""
    made = {p.name for p in (tmp_path / "run").iterdir()}
    assert made | {"loss.png"} == FILES
    if importlib.util.find_spec("matplotlib"):
        assert made == FILES
    for text in (
        "step 10/20  loss ",
        "step 20/20  loss ",
        "validation loss",
        "sample",
        "tinyxp generate run",
    ):
        assert text in out
    assert (
        main(["generate", "run", "--prompt", "the ", "--max-new-tokens", "20", "--seed", "1"]) == 0
    )
    first = capsys.readouterr().out
    assert first.startswith("the ")
    assert len(first) == len("the ") + 20 + 1
    main(["generate", "run", "--prompt", "the ", "--max-new-tokens", "20", "--seed", "1"])
    assert capsys.readouterr().out == first


@pytest.mark.usefixtures("run")
def test_generate_takes_what_the_model_does(capsys):
    texts = []
    for options in (["--temperature", "0"], ["--top-k", "1"], ["--top-p", "1e-9"]):
        main(
            [
                "generate",
                "run",
                "--prompt",
                "the ",
                "--max-new-tokens",
                "20",
                "--seed",
                "1",
                *options,
            ]
        )
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]  # the likeliest token, each time


def test_without_matplotlib_the_run_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("tinyxp.training._command.save_plot", save_plot)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert tiny("--out", "run") == 0
    assert (
        "no loss.png: Matplotlib is not installed; type: pip install 'tinyxp[plot]'"
        in capsys.readouterr().out
    )


def test_without_data_the_documentation_of_python_is_learned(capsys):
    assert main(["train", "--preset", "tiny", "--steps", "2", "--device", "cpu"]) == 0
    assert "Python's documentation" in capsys.readouterr().out
    assert Path("runs/tiny").is_dir()
    assert main(["train", "--preset", "tiny", "--steps", "2", "--device", "cpu"]) == 0
    assert Path("runs/tiny-2").is_dir()


def test_a_finished_run_goes_on_only_with_more_steps(capsys, run):
    assert main(["train", "--resume", "run"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main(["train", "--resume", "run", "--steps", "25"]) == 0
    assert read_metrics(run)[-1]["step"] == 25


def test_ctrl_c_saves_and_the_run_goes_on_exactly(tmp_path):
    arguments = [
        *("train", "--preset", "tiny", "--data", "text.txt", "--device", "cpu", "--seed", "5"),
        *("--eval-every", "100000", "--schedule", "constant", "--warmup", "0"),
    ]
    command = [sys.executable, "-m", "tinyxp", *arguments, "--steps", "100000", "--out", "broken"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not _has_trained(tmp_path / "broken"):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "as asked; everything is saved" in out
    assert "next   tinyxp train --resume broken" in out
    stopped = read_metrics(tmp_path / "broken")[-1]["step"]
    total = str(stopped + 10)
    assert main(["train", "--resume", "broken", "--steps", total]) == 0
    assert main([*arguments, "--steps", total, "--out", "whole"]) == 0
    curves = [[r["loss"] for r in read_metrics(tmp_path / name)] for name in ("broken", "whole")]
    assert curves[0] == curves[1]


def _has_trained(folder):
    try:
        return len(read_metrics(folder)) > 5
    except tinyxp.errors.CheckpointError:
        return False


# ---------------------------------------------------------------- info, bench, check
def test_info_tells_versions_backends_and_reasons(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert f"tinyxp {tinyxp.__version__}" in out
    for name in tinyxp.registered_backends():
        assert f"  {name} " in out
    for name in set(tinyxp.registered_backends()) - set(tinyxp.available_backends()):
        assert "unavailable: " in next(
            line for line in out.splitlines() if line.startswith(f"  {name} ")
        )


def test_check_backend_prints_a_verdict_for_each_check(capsys):
    assert main(["check-backend", "numpy"]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert len(rows) > 10
    assert all(row.split()[1] == "passed" for row in rows)
    assert last == f"numpy: {len(rows)} passed"


def test_check_backend_fails_with_a_failing_backend(capsys, monkeypatch):
    monkeypatch.setattr(type(tinyxp.get_backend("numpy")), "to_buffer", lambda *_: memoryview(b""))
    assert main(["check-backend", "numpy"]) == 1
    out = capsys.readouterr().out
    assert "  failed   " in out
    assert " failed, " in out.splitlines()[-1]


def test_bench_measures_a_preset(capsys):
    assert main(["bench", "tiny", "--device", "cpu", "--seconds", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "GFLOP/s" in out[0]
    assert out[2].split()[0] == "tiny"
    assert float(out[2].split()[2]) > 0


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--preset", "bady"], "no preset named 'bady'; did you mean 'baby'?"),
        (["--device", "gpu"], "no device 'gpu'"),
        (["--device", "cuda:99"], "cuda"),
        (["--data", "nowhere.txt"], "no file or folder "),
        (["--data", "empty.txt"], "empty.txt is no text to train on: it is empty"),
        (["--data", "picture.png"], "picture.png is no text to train on: it holds a zero byte"),
        (["--data", "*.zip"], "no text in pattern"),
        (["--data", "short.txt"], "the text is shorter than the context"),
        (["--steps", "0"], "steps must be greater than 0; got 0"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["--lr", "nan"], "lr must be a finite number; got nan"),
        (["--dropout", "1.5"], "dropout must be less than 1; got 1.5"),
        (["--heads", "5"], "width must be a multiple of heads; got width=128, heads=5"),
        (["--optimizer", "sgdm"], "argument --optimizer: invalid choice: 'sgdm'"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
        (["--resume"], "--resume needs the folder of a run"),
        (["--resume", "nowhere"], "no run in 'nowhere': it holds no config.json"),
    ],
)
def test_train_refuses_with_one_line(capsys, argv, message):
    out = [] if "--resume" in argv else ["--out", "run"]
    assert message in refused(capsys, "train", *out, *argv)


def test_a_terminal_without_blocks_and_quotes_is_no_error(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tinyxp",
        "train",
        "--preset",
        "tiny",
        "--steps",
        "2",
        "--out",
        "run",
    ]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    said = [x for x in done.stderr.splitlines() if not x.startswith(b"tinyxp: compiling kernels")]
    assert (done.returncode, said) == (0, [])
    assert b"?" in done.stdout
    assert (tmp_path / "run").is_dir()


def test_an_unwritable_folder_is_refused(capsys):
    (line,) = refused(capsys, "train", "--preset", "tiny", "--out", "text.txt/run").splitlines()
    assert line == "tinyxp: text.txt/run: Not a directory"
    assert "text.txt is a file; --out expects a folder" in refused(
        capsys, "train", "--preset", "tiny", "--out", "text.txt"
    )


@pytest.mark.usefixtures("run")
def test_a_folder_with_a_run_is_refused(capsys):
    assert "run already holds a run" in refused(capsys, "train", "--preset", "tiny", "--out", "run")


@pytest.mark.usefixtures("run")
def test_what_a_run_was_trained_with_cannot_change(capsys):
    assert "--lr cannot change in a run that goes on: it is 0.01" in refused(
        capsys, "train", "--resume", "run", "--lr", "1"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "no run in 'nowhere': it holds no config.json"),
        (["run", "--prompt", "€"], "'€' at position 0 is not among the "),
        (
            ["run", "--temperature", "-1"],
            "argument --temperature: expected a number of at least 0; got -1",
        ),
        (["run", "--top-p", "0"], "argument --top-p: expected a number above 0 and up to 1; got 0"),
        (["run", "--top-k", "0"], "argument --top-k: expected a number of at least 1; got 0"),
        (
            ["run", "--max-new-tokens", "-3"],
            "argument --max-new-tokens: expected a number of at least 1",
        ),
    ],
)
@pytest.mark.usefixtures("run")
def test_generate_refuses_with_one_line(capsys, argv, message):
    assert message in refused(capsys, "generate", *argv)


def test_a_damaged_run_is_refused(capsys, run):
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "model.safetensors" in refused(capsys, "generate", "run")
    weights.unlink()
    assert "it holds no model.safetensors" in refused(capsys, "generate", "run")
    (run / "config.json").write_text("{")
    assert "is no configuration of a run" in refused(capsys, "generate", "run")


def test_other_commands_refuse_with_one_line(capsys):
    assert "arguments are required: COMMAND" in refused(capsys)
    assert "invalid choice: 'trian'" in refused(capsys, "trian")
    assert "no preset named 'huge'" in refused(capsys, "bench", "huge")
    assert "no backend named 'nump'; did you mean 'numpy'?" in refused(
        capsys, "check-backend", "nump"
    )


def test_help_and_version(capsys):
    for argv in (["--help"], ["train", "--help"], ["generate", "--help"], ["--version"]):
        with pytest.raises(SystemExit, match="0"):
            main(argv)
    out = capsys.readouterr().out
    assert "nanoGPT's CPU setting" in out
    assert f"tinyxp {tinyxp.__version__}" in out


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m tinyxp info | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - a pipe
    assert (done.stdout, done.stderr) == (f"tinyxp {tinyxp.__version__}\n", "")
