"""The check of a GPU box, tried out on a small scale on whatever GPU or emulator there is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyxp
from tinyxp.backend import available_backends

if "cupy" not in available_backends():
    pytest.skip("no GPU, and no emulator of one", allow_module_level=True)

FOLDER = Path(__file__).parents[1] / "benchmarks"


def check(out, parts, *options):
    command = [sys.executable, FOLDER / "gpu_check.py", "--out", out, "--size=tiny", f"--only={parts}", *options]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended, json.loads((out / "results.json").read_text())["parts"]


def test_it_finds_a_working_backend_right(tmp_path):
    ended, found = check(tmp_path, "functions,products,graphs,ceilings")
    assert ended.returncode == 0, ended.stdout
    kinds = {name: [row["kind"] for row in rows] for name, rows in found.items()}
    assert kinds["functions"].count("right") > 400
    assert kinds["products"].count("right") > 100
    assert kinds["graphs"] == ["right"]
    assert "figure" in kinds["ceilings"]
    report = (tmp_path / "report.md").read_text()
    assert "0 wrong" in report.splitlines()[0]
    assert "| ceilings | copy |" in report


def test_a_part_that_fails_leaves_the_others_and_is_told(tmp_path):
    ended, found = check(tmp_path, "ceilings,curve", "--device=cuda:9")
    assert ended.returncode == 1
    for name in ("ceilings", "curve"):
        assert "DeviceUnavailableError" in found[name][-1]["text"]
    assert "## Wrong in curve" in ended.stdout


def test_a_part_that_takes_too_long_is_stopped(tmp_path):
    ended, found = check(tmp_path, "curve", "--seconds=5.5")
    assert ended.returncode == 1
    assert found["curve"][-1]["text"].startswith("stopped after 5")


def test_errors_are_measured_against_what_is_right(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import _gpu_right

    assert _gpu_right.error(np.asarray([1.0, 2.0]), np.asarray([1.0, 2.0])) == 0
    assert _gpu_right.error(np.asarray([3.0, 4.5]), np.asarray([3.0, 4.0])) == pytest.approx(0.1)
    for bad in ([1.0, np.nan], [1.0, np.inf], [1.0]):
        assert not _gpu_right.error(np.asarray(bad), np.asarray([1.0, 2.0])) < 1e9
    assert not _gpu_right.error(np.asarray([1.0]), np.asarray([np.inf])) < 1e9


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_kernel_that_is_wrong_by_a_thousandth_is_found(monkeypatch, tmp_path, factor):
    monkeypatch.syspath_prepend(FOLDER)
    import _gpu_report
    import _gpu_right

    device = tinyxp.device("cuda")
    right = device.xp.layer_norm

    def scaled(*args, **options):
        out, aux = right(*args, **options)
        return out * out.dtype.type(factor), aux

    monkeypatch.setattr(device.xp, "layer_norm", scaled)
    (tmp_path / "parts").mkdir()
    found = _gpu_report.Findings(tmp_path, "kernels")
    cases = [case for case in _gpu_right._fused_cases.FUSED if case.name == "layer_norm"]
    _gpu_right._fused_case(found, device, "float32", 0, cases[0])
    assert found.wrong == (factor != 1.0)
