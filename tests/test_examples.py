"""Every example runs, says what it found, and fails if that is not what it promises."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tinyxp

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = {  # script: a line of what it prints
    "char_gpt": "parameters, TokenDataset(",
    "custom_op": "both derivatives agree with finite differences",
    "implicit": "sag 0.500000000",
    "mlp_digits": "of new digits are read right",
    "tensors_and_gradients": "mean squared error 0.0",
    "two_backends": "loss ",
}
OWN_PROCESS = {
    "fit_through_scipy": "the orbit is found"
}  # reads the environment before SciPy is imported


def load(name):
    return runpy.run_path(str(FOLDER / f"{name}.py"))["main"]


def test_every_script_is_tested():
    assert {p.stem for p in FOLDER.glob("*.py")} == {*SCRIPTS, *OWN_PROCESS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_example(name, capsys):
    load(name)(["--smoke"])
    assert SCRIPTS[name] in capsys.readouterr().out


@pytest.mark.parametrize("name", OWN_PROCESS)
def test_example_in_a_process_of_its_own(name):
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert OWN_PROCESS[name] in done.stdout


def test_char_gpt_takes_a_text_of_ones_own(tmp_path, capsys):
    path = tmp_path / "own.txt"
    path.write_text("all work and no play makes a dull example. " * 100)
    load("char_gpt")(["--smoke", str(path)])
    assert "vocab_size=17" in capsys.readouterr().out


def test_examples_run_on_every_backend(capsys):
    others = sorted(set(tinyxp.available_backends()) - {"numpy"})
    for name in others:
        device = str(tinyxp.get_backend(name).device())
        load("two_backends")(["--smoke", "--devices", "cpu", device])
        assert "as it should be" in capsys.readouterr().out
