"""``tinyxp bench``: how fast this machine trains."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from tinyxp.backend import device as find_device
from tinyxp.training._config import RunConfig
from tinyxp.training._data import load_data
from tinyxp.training._throughput import flops_per_token, matmul_peak
from tinyxp.training._trainer import Trainer, matrix_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyxp.backend import Device

__all__ = ["bench_lines"]

_WARM = 3  # steps that are not timed


def bench_lines(device: str, presets: Sequence[str], *, seconds: float = 5.0) -> Iterator[str]:
    """Yield a table: the matmul peak of `device`, and for each preset how fast a training step is.

    Parameters
    ----------
    device : str
        Where to measure.
    presets : sequence of str
        Whose models and batches; all train on the default text.
    seconds : float
        About how long to time each.
    """
    where = find_device(device)
    peak = matmul_peak(where)
    yield f"{where}: matrix products of float32 reach {peak / 1e9:,.0f} GFLOP/s (best of several)"
    yield f"{'preset':8} {'parameters':>12} {'ms a step':>10} {'tokens/s':>10} {'of peak':>8}"
    for name in presets:
        yield _row(name, where, peak, seconds)


def _row(name: str, device: Device, peak: float, seconds: float) -> str:
    c = RunConfig.from_preset(name)
    trainer = Trainer(c, load_data(c), device)
    step = _time_step(trainer, seconds)
    speed = c.batch_size * c.context / step
    flops = flops_per_token(
        matrix_parameters=matrix_parameters(trainer.model),
        layers=c.layers,
        context=c.context,
        width=c.width,
    )
    size = trainer.model.num_parameters()
    return f"{name:8} {size:>12,} {step * 1e3:>10.1f} {speed:>10,.0f} {speed * flops / peak:>8.0%}"


def _time_step(trainer: Trainer, seconds: float) -> float:
    """Return the median time of a step, each waited for."""
    times: list[float] = []
    begin = perf_counter()
    while len(times) <= _WARM or perf_counter() - begin < seconds:
        start = perf_counter()
        trainer.train_step().loss.item()
        times.append(perf_counter() - start)
    return median(times[_WARM:])
