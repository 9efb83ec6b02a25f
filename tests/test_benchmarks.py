"""The benchmarks run, and what they compare does the same work."""

from __future__ import annotations

import importlib
import json
import math
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

import tinyxp

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def run(script, *options):
    command = [sys.executable, FOLDER / script, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def losses(gpt, name, steps=4):
    work = gpt.CONTENDERS[name].build(gpt.SIZES["tiny"], 1)
    return [work.step() for _ in range(steps)]


@pytest.mark.parametrize("name", ["torch", "jax", "autograd"])
def test_other_libraries_do_the_same_work(load, name):
    gpt = load("_gpt")
    for library in gpt.CONTENDERS[name].libraries:
        pytest.importorskip(library, reason="a contender", exc_type=ImportError)
    ours, theirs = losses(gpt, "tinyxp"), losses(gpt, name)
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours[-1] < ours[0] - 0.1  # so a step that does nothing would be seen


def test_the_flops_of_a_step_are_those_of_its_products(load):
    v, d, layers, heads, t, b = size = load("_gpt").Size(7, 8, 3, 2, 5, 4)
    count = 0
    for _ in range(layers):
        for inner, outer in ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)):
            count += b * t * inner * outer
        for query in range(t):
            count += 2 * b * heads * (query + 1) * (d // heads)  # scores, and values weighed
    count += b * t * d * v
    assert size.flops() == 3 * 2 * count  # backward is twice forward; a product and a sum


def test_a_run_keeps_what_it_printed(tmp_path):
    pytest.importorskip("numpy", reason="compares with NumPy")
    path = tmp_path / "found.json"
    who = ("tiny", "--contenders", "tinyxp,tinyxp-plain", "--threads", "1")
    quickly = ("--turns", "1", "--seconds", "0.01", "--squares", "64")
    printed = run("bench_gpt.py", *who, *quickly, "--json", path)
    assert "tiny: the same work" in printed
    found = json.loads(path.read_text())
    assert found["machine"]["tinyxp"] == tinyxp.__version__
    row = found["results"]["sizes"]["tiny"]["step"]["tinyxp"]
    assert 0 < row["seconds"] < math.inf
    assert f"{row['seconds'] * 1e3:.2f}" in printed


def test_different_work_is_refused(load, capsys):
    same_work = load("bench_gpt").same_work
    assert same_work("tiny", {"torch": [2.0, 1.5], "tinyxp": [2.0, 1.50001]})
    assert not same_work("tiny", {"torch": [2.0, 1.5], "tinyxp": [2.0, 1.5002]})
    assert "NOT THE SAME WORK" in capsys.readouterr().out


def test_an_unknown_contender_is_named(load):
    with pytest.raises(SystemExit, match="no contender 'tenserflow'; there are tinyxp,"):
        load("bench_gpt").main(["tiny", "--contenders", "torch,tenserflow"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_the_peak_of_memory_is_seen_after_it_has_gone(load):
    memory = load("bench_memory")
    before = memory.start_peak()
    with mmap.mmap(-1, 256 << 20) as block:  # from the system, past any allocator
        block.write(bytes(256 << 20))
    assert memory.memory("VmHWM") - before > 200 << 20
    assert memory.start_peak() - before < 100 << 20


def test_power_of_growth(load):
    memory = load("bench_memory")
    assert memory.power({2048: 10, 4096: 20}) == pytest.approx(1)
    assert memory.power({2048: 10, 4096: 40}) == pytest.approx(2)
