"""``tinyxp train``: the folder, what was asked for, and what is said at the end."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyxp.training._checkpoint import checkpoint_step
from tinyxp.training._config import NAME as CONFIG
from tinyxp.training._config import RunConfig
from tinyxp.training._generate import sample_text
from tinyxp.training._loop import train
from tinyxp.training._metrics import read_metrics
from tinyxp.training._plot import MissingPlotLibrary, save_plot
from tinyxp.training._progress import clock, make_progress, sparkline
from tinyxp.training._threads import Threads

if TYPE_CHECKING:
    from tinyxp.training._loop import Result
    from tinyxp.training._progress import Progress

__all__ = ["new_run", "resume_run"]

_MAY_CHANGE = {"steps", "device", "eval_every", "eval_windows", "time_limit"}
_SAMPLE = 600  # characters, about


def new_run(out: str | None, given: dict[str, Any]) -> int:
    """Train from the beginning.

    Parameters
    ----------
    out : str or None
        The run's folder; None picks ``runs/PRESET``, with a number if that is taken.
    given : dict
        Settings that differ from the preset; None where they do not.
    """
    if given["data"]:
        given["data"] = tuple(str(Path(p).absolute()) for p in given["data"])
    config = RunConfig.from_preset(given.pop("preset") or "demo", **given)
    folder = Path(out) if out else _free(Path("runs") / config.preset)
    return _run(config, folder, resume=False)


def _free(folder: Path) -> Path:
    """Return `folder`, or the first of ``folder-2``, ``folder-3`` … that does not exist."""
    n, candidate = 1, folder
    while candidate.exists():
        n += 1
        candidate = folder.with_name(f"{folder.name}-{n}")
    return candidate


def resume_run(out: str | None, given: dict[str, Any]) -> int:
    """Go on with the run in `out`.

    Raises
    ------
    ValueError
        If `given` would change what the run has been trained with.
    """
    if not out:
        raise ValueError("--resume needs the folder of a run: tinyxp train --resume runs/demo")
    config, _ = RunConfig.load(out)
    changes = {k: v for k, v in given.items() if v is not None}
    for name, value in changes.items():
        if name not in _MAY_CHANGE and value != getattr(config, name):
            raise ValueError(
                f"--{name.replace('_', '-')} cannot change in a run that goes on: it is "
                f"{getattr(config, name)!r} in {Path(out) / CONFIG}; start a new run instead"
            )
    kept = {k: v for k, v in changes.items() if k in _MAY_CHANGE}
    config = config.with_(**({"time_limit": 0.0} | kept))
    done = checkpoint_step(Path(out))
    if done >= config.steps:
        make_progress().say(
            f"{out} is finished: {done} of {config.steps} steps are done; ask for more with --steps"
        )
        return 0
    return _run(config, Path(out), resume=True)


def _run(config: RunConfig, folder: Path, *, resume: bool) -> int:
    progress = make_progress()
    result = train(config, folder, resume=resume, progress=progress)
    for line in _summary(result, folder):
        progress.say(line)
    _plot(
        folder, progress, f"{config.preset}: {result.trainer.model.num_parameters():,} parameters"
    )
    if result.finished:
        _sample(result, folder, progress)
    progress.say(f"next   {_next(result, folder)}")
    return 0


def _summary(result: Result, folder: Path) -> list[str]:
    losses = [row["loss"] for row in read_metrics(folder) if row["loss"] is not None]
    lines = []
    if result.finished:
        lines.append(
            f"done   {result.step} steps, {clock(result.seconds)}, validation loss {result.val_loss:.4f}"
        )
    else:
        steps = result.trainer.config.steps
        lines.append(f"stop   at step {result.step} of {steps}, as asked; everything is saved")
    if losses:
        lines.append(f"loss   {losses[0]:.2f} {sparkline(losses)} {losses[-1]:.2f}")
    return [*lines, f"files  {folder}"]


def _plot(folder: Path, progress: Progress, title: str) -> None:
    try:
        progress.say(f"plot   {save_plot(folder, title)}")
    except MissingPlotLibrary as exc:
        progress.say(f"plot   {exc}")


def _sample(result: Result, folder: Path, progress: Progress) -> None:
    trainer = result.trainer
    with Threads(trainer.device, trainer.config.context, trainer.config.width):
        text = sample_text(trainer.model, trainer.data, _SAMPLE, seed=trainer.config.seed)
    (folder / "sample.txt").write_text(text + "\n", encoding="utf-8")
    progress.say("sample")
    for line in text.splitlines():
        progress.say(f"  | {line}")


def _next(result: Result, folder: Path) -> str:
    name = shlex.quote(str(folder))
    if result.finished:
        return f'tinyxp generate {name} --prompt "The "'
    return f"tinyxp train --resume {name}"
