"""``tinyxp bench``: how fast this machine trains and generates. ``benchmarks/`` compares it with others."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from tinyxp._core import grad_mode
from tinyxp.backend import device as find_device
from tinyxp.training._config import RunConfig
from tinyxp.training._data import load_data
from tinyxp.training._throughput import flops_per_token, matmul_peak
from tinyxp.training._trainer import Trainer, matrix_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tinyxp.backend import Device

__all__ = ["bench_lines"]

_WARM = 3  # calls that are not timed
_NEW_TOKENS = 64
_SHARE = 0.25  # of a preset's time that goes to the forward pass, and as much to generation


def bench_lines(device: str, presets: Sequence[str], *, seconds: float = 5.0) -> Iterator[str]:
    """Yield a table: the matmul peak of `device`, and for each preset how fast it trains and generates.

    "of peak" is the share of that peak which a training step reaches, where of the attention only the
    products count that the causal mask leaves.

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
    yield (
        f"{'preset':8} {'parameters':>12} {'ms a step':>10} {'tokens/s':>10} {'of peak':>8} "
        f"{'ms forward':>11} {'generated/s':>12}"
    )
    for name in presets:
        yield _row(name, where, peak, seconds)


def _row(name: str, device: Device, peak: float, seconds: float) -> str:
    c = RunConfig.from_preset(name)
    trainer = Trainer(c, load_data(c), device)
    step = _median_time(_step(trainer), seconds * (1 - 2 * _SHARE))
    forward = _median_time(_forward(trainer), seconds * _SHARE)
    generated = _generated_per_s(trainer, seconds * _SHARE)
    speed = c.batch_size * c.context / step
    share = speed * _flops_per_token(trainer) / peak
    size = trainer.model.num_parameters()
    return (
        f"{name:8} {size:>12,} {step * 1e3:>10.1f} {speed:>10,.0f} {share:>8.0%} "
        f"{forward * 1e3:>11.1f} {generated:>12,.0f}"
    )


def _flops_per_token(trainer: Trainer) -> float:
    """Return the operations that training spends on a token; a query sees (T + 1) / 2 keys on average."""
    c = trainer.config
    return flops_per_token(
        matrix_parameters=matrix_parameters(trainer.model),
        layers=c.layers,
        context=(c.context + 1) / 2,
        width=c.width,
    )


def _step(trainer: Trainer) -> Callable[[], object]:
    def run() -> object:
        return trainer.train_step().loss.item()

    return run


def _forward(trainer: Trainer) -> Callable[[], object]:
    c = trainer.config
    x, _ = trainer.data.batch(
        0, batch_size=c.batch_size, context=c.context, seed=c.seed, device=trainer.device
    )

    def run() -> object:
        with grad_mode(False):  # noqa: FBT003 - the mode is the argument
            return trainer.model(x)[0, 0, 0].item()

    trainer.model.eval()
    return run


def _generated_per_s(trainer: Trainer, seconds: float) -> float:
    """Return the tokens a second that one sequence grows by, from one token and with a cache."""
    new = min(_NEW_TOKENS, trainer.config.context - 1)
    trainer.model.eval()
    took = _median_time(
        lambda: trainer.model.generate([[0]], max_new_tokens=new, temperature=0), seconds
    )
    return new / took


def _median_time(run: Callable[[], object], seconds: float) -> float:
    """Return the median time of a call that returns when the result is there."""
    times: list[float] = []
    begin = perf_counter()
    while len(times) <= _WARM or perf_counter() - begin < seconds:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return median(times[_WARM:])
