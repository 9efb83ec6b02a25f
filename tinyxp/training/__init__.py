"""Training a GPT: settings, the loop, and what a run leaves in its folder."""

from __future__ import annotations

from tinyxp.training._bench import bench_lines as bench_lines
from tinyxp.training._config import RunConfig as RunConfig
from tinyxp.training._data import load_data as load_data
from tinyxp.training._generate import load_run as load_run
from tinyxp.training._generate import stream_text as stream_text
from tinyxp.training._info import info_lines as info_lines
from tinyxp.training._loop import Result as Result
from tinyxp.training._loop import train as train
from tinyxp.training._metrics import read_metrics as read_metrics
from tinyxp.training._plot import plot_loss as plot_loss
from tinyxp.training._plot import save_plot as save_plot
from tinyxp.training._presets import PRESETS as PRESETS
from tinyxp.training._progress import PlainProgress as PlainProgress
from tinyxp.training._progress import Progress as Progress
from tinyxp.training._progress import RichProgress as RichProgress
from tinyxp.training._progress import Status as Status
from tinyxp.training._progress import make_progress as make_progress
from tinyxp.training._throughput import flops_per_token as flops_per_token
from tinyxp.training._throughput import matmul_peak as matmul_peak
from tinyxp.training._trainer import Measured as Measured
from tinyxp.training._trainer import Trainer as Trainer

__all__ = [
    "PRESETS",
    "Measured",
    "PlainProgress",
    "Progress",
    "Result",
    "RichProgress",
    "RunConfig",
    "Status",
    "Trainer",
    "bench_lines",
    "flops_per_token",
    "info_lines",
    "load_data",
    "load_run",
    "make_progress",
    "matmul_peak",
    "plot_loss",
    "read_metrics",
    "save_plot",
    "stream_text",
    "train",
]
