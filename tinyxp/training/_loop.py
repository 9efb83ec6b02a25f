"""From settings to a trained model in a folder."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from tinyxp._devices import why_not
from tinyxp._version import __version__
from tinyxp.backend import device as find_device
from tinyxp.data import load_tokenizer
from tinyxp.errors import CheckpointError
from tinyxp.training._checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from tinyxp.training._config import NAME as CONFIG
from tinyxp.training._data import load_data
from tinyxp.training._interrupt import StopRequest
from tinyxp.training._meter import Meter
from tinyxp.training._metrics import Metrics
from tinyxp.training._progress import PlainProgress, Status
from tinyxp.training._threads import Threads
from tinyxp.training._throughput import flops_per_token, matmul_peak
from tinyxp.training._trainer import Trainer, matrix_parameters

if TYPE_CHECKING:
    from pathlib import Path

    from tinyxp.training._config import RunConfig
    from tinyxp.training._metrics import Row
    from tinyxp.training._progress import Progress
    from tinyxp.training._trainer import Measured

__all__ = ["Result", "train"]

_SAVE_EVERY = 60.0  # seconds
_PLAN_EVERY = 20  # steps between two looks at the time limit
_FINAL_TOKENS = 1 << 17  # of the validation text, at most, for the last loss


class Result(NamedTuple):
    """How a run ended.

    Attributes
    ----------
    step : int
        Updates done.
    finished : bool
        Whether these are all; if not, someone asked to stop.
    val_loss : float or None
        The last validation loss in nats per token; of a finished run over all of the validation text, or
        131,072 tokens evenly spread over it.
    seconds : float
        Duration of this call.
    trainer : Trainer
        The model and all that belongs to it.
    """

    step: int
    finished: bool
    val_loss: float | None
    seconds: float
    trainer: Trainer


def train(
    config: RunConfig, folder: Path, *, resume: bool = False, progress: Progress | None = None
) -> Result:
    """Train a GPT and keep everything about it in `folder`.

    Ctrl-C ends the run after the current step, saved.

    Parameters
    ----------
    config : RunConfig
        The settings.
    folder : Path
        For ``config.json``, ``metrics.csv``, ``model.safetensors``, ``optimizer.safetensors`` and the
        tokenizer. It is made if it is not there, when everything has been checked.
    resume : bool
        Go on with the run in `folder`.
    progress : Progress, optional
        Who shows what happens; by default lines are printed.

    Raises
    ------
    DataError, CheckpointError, DeviceUnavailableError, OSError
        If something is wrong with the texts, the folder or the device; then nothing was written.
    FloatingPointError
        If the loss becomes infinite or NaN.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from tinyxp.training import RunConfig, train
    >>> with TemporaryDirectory() as folder:
    ...     result = train(RunConfig.from_preset("tiny", steps=3, device="cpu"), Path(folder) / "run")
    tinyxp ...
    >>> result.step, result.finished
    (3, True)
    """
    if not resume:
        _check_free(folder)
    device = find_device(config.device)
    tokenizer = load_tokenizer(folder) if resume else None
    trainer = Trainer(config, load_data(config, tokenizer), device)
    if resume:
        load_checkpoint(folder, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        StopRequest() as stop,
        Threads(device, config.batch_size * config.context, config.width) as threads,
    ):
        session = _Session(
            config, folder, trainer, progress or PlainProgress(), threads, resume=resume
        )
        session.run(stop)
    return session.result()


def _check_free(folder: Path) -> None:
    """Raise unless a new run may use `folder`, which need not exist."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(
            f"{folder} is a file; --out expects a folder, or the name of a new one"
        )
    if (folder / CONFIG).exists() or has_checkpoint(folder):
        raise CheckpointError(
            f"{folder} already holds a run; go on with it by --resume, or choose another folder with --out"
        )


class _Session:
    """One call of `train`: the loop, and what is written and shown on the way."""

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        trainer: Trainer,
        progress: Progress,
        threads: Threads,
        *,
        resume: bool,
    ) -> None:
        self.config, self.folder, self.trainer, self.progress = config, folder, trainer, progress
        self.threads = threads
        self.wanted = config.steps
        self.val_loss: float | None = None
        self.shown: float | None = None  # the smoothed training loss
        self.pending: list[Measured] = []  # not yet read from the device
        self.parameters = matrix_parameters(trainer.model)
        self.save_config()
        if trainer.data.tokenizer is not None:
            trainer.data.tokenizer.save(folder)
        self.metrics = Metrics(folder, trainer.step if resume else None)
        peak = matmul_peak(trainer.device)
        self.announce(peak)
        self.meter = Meter(config.batch_size * config.context, self.flops_per_token(), peak)
        self.saved_at = perf_counter()

    def flops_per_token(self) -> float:
        c = self.config
        return flops_per_token(
            matrix_parameters=self.parameters, layers=c.layers, context=c.context, width=c.width
        )

    def save_config(self) -> None:
        model, data = self.trainer.model, self.trainer.data
        facts = {
            "tinyxp": __version__,
            "model": model.config,
            "parameters": model.num_parameters(),
            "train_tokens": data.size("train"),
            "val_tokens": data.size("val"),
        }
        self.config.save(self.folder, facts)

    def announce(self, peak: float) -> None:
        c, data, model = self.config, self.trainer.data, self.trainer.model
        kind = {"char": "characters", "byte": "bytes"}.get(c.tokenizer, "byte pairs")
        text = ", ".join(c.data) or "Python's documentation"
        say = self.progress.say
        say(f"tinyxp {__version__}: preset {c.preset}, seed {c.seed}, {self.trainer.device}")
        if c.device == "auto" and (reason := why_not("cuda")):
            say(f"device {self.trainer.device}, not cuda: {' '.join(reason.split())}")
        say(
            f"text   {text}: {data.size('train'):,} {kind} to train on, {data.size('val'):,} to validate with, {data.vocab_size} distinct"
        )
        say(
            f"model  GPT, {c.layers} layers, {c.heads} heads, {c.width} wide, context {c.context}: {model.num_parameters():,} parameters"
        )
        say(f"speed  matrix products reach {peak / 1e9:,.0f} GFLOP/s here")

    # ------------------------------------------------------------ the loop
    def run(self, stop: StopRequest) -> None:
        """Train until the last step, or until someone asks to stop; save."""
        trainer = self.trainer
        self.progress.start(trainer.step, self.config.steps)
        try:
            if trainer.step == 0:
                self.validate()
            while trainer.step < self.config.steps and not stop.asked:
                self.step()
            self.flush()
            self.save()
        finally:
            self.progress.stop()

    def step(self) -> None:
        """Do one update and what is due after it."""
        start = perf_counter()
        self.pending.append(self.trainer.train_step())
        self.threads.notice(perf_counter() - start)
        done = self.trainer.step
        if done % self.config.eval_every == 0 or done == self.config.steps:
            self.validate()
        elif self.meter.due:
            self.flush()
        if self.config.time_limit and done % _PLAN_EVERY == 0 and done < self.config.steps:
            self.plan()
        if perf_counter() - self.saved_at > _SAVE_EVERY:
            self.flush()
            self.save()

    def validate(self) -> None:
        """Measure the validation loss, at the end over all of the text or a large part."""
        rows = self.read()
        windows = self.config.eval_windows
        if self.trainer.step == self.config.steps:
            windows = max(windows, _FINAL_TOKENS // self.config.context)
        with self.meter.pause():
            self.threads.choose()
            self.val_loss = self.trainer.evaluate(windows)
        rows = rows or [{"step": self.trainer.step}]
        rows[-1]["val_loss"] = self.val_loss
        self.write(rows, validated=True)

    def flush(self) -> None:
        """Read what is pending, write it and show it."""
        rows = self.read()
        if rows:
            self.write(rows, validated=False)

    def read(self) -> list[Row]:
        """Read the pending losses from the device: the only wait for it."""
        rows: list[Row] = [
            {"step": m.step, "lr": m.lr, "loss": m.loss.item(), "grad_norm": m.grad_norm.item()}
            for m in self.pending
        ]
        self.pending.clear()
        for row in rows:
            self.smooth(row)
        if rows:
            self.meter.lap(len(rows))
            speed = self.meter.tokens_per_s
            rows[-1] |= {"tokens_per_s": speed, "peak_share": self.meter.share(speed)}
        return rows

    def smooth(self, row: Row) -> None:
        loss = row["loss"]
        if loss is None or not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {row['step']}; try a lower --lr (it is {self.config.lr:g})"
            )
        self.shown = loss if self.shown is None else 0.95 * self.shown + 0.05 * loss

    def write(self, rows: list[Row], *, validated: bool) -> None:
        rows[-1]["seconds"] = self.meter.elapsed
        self.metrics.append(rows)
        step, steps = self.trainer.step, self.config.steps
        evals = (steps - step) // self.config.eval_every
        meter = self.meter
        status = Status(
            step=step,
            steps=steps,
            loss=self.shown,
            val_loss=self.val_loss,
            tokens_per_s=meter.smooth_tokens_per_s,
            peak_share=meter.share(meter.smooth_tokens_per_s),
            left=meter.left(steps - step, evals),
            validated=validated,
        )
        self.progress.update(status)

    def plan(self) -> None:
        """Take as many steps, of those that were asked for, as the time limit allows at today's speed.

        In the second half, where a schedule with a plateau falls, there can only be fewer.
        """
        self.flush()
        limit, step = self.config.time_limit, self.trainer.step
        more = self.meter.affordable(limit - self.meter.elapsed, self.config.eval_every)
        most = self.wanted if step <= self.config.steps // 2 else self.config.steps
        steps = min(most, step + max(1, more))
        if steps == self.config.steps:
            return
        if self.config.steps == self.wanted:
            self.progress.say(
                f"time   {self.wanted} steps would take too long here: fewer, by --time-limit {limit:g}"
            )
        self.config = self.trainer.config = self.config.with_(steps=steps)
        self.save_config()

    def save(self) -> None:
        """Write the checkpoint."""
        with self.meter.pause():
            save_checkpoint(self.folder, self.trainer)
        self.saved_at = perf_counter()

    def result(self) -> Result:
        """Return how it went."""
        step = self.trainer.step
        return Result(
            step, step == self.config.steps, self.val_loss, self.meter.elapsed, self.trainer
        )
