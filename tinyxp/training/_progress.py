"""What a run shows while it goes on: a live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PlainProgress", "Progress", "RichProgress", "Status", "make_progress", "sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_QUIET = 10.0  # seconds without a line in a log, at most, while nothing else is to tell


class Status(NamedTuple):
    """Where a run stands.

    Attributes
    ----------
    step, steps : int
        Updates done, and to do in all.
    loss : float or None
        Training loss, smoothed.
    val_loss : float or None
        The last validation loss.
    tokens_per_s : float or None
        Tokens trained on per second.
    peak_share : float or None
        The floating-point rate of training over the measured peak of matrix products.
    left : float or None
        Seconds to go.
    validated : bool
        Whether `val_loss` is new.
    """

    step: int
    steps: int
    loss: float | None
    val_loss: float | None
    tokens_per_s: float | None
    peak_share: float | None
    left: float | None
    validated: bool


class Progress(Protocol):
    """What the training loop calls."""

    def start(self, step: int, steps: int) -> None:
        """Begin."""

    def update(self, status: Status) -> None:
        """Show `status`."""

    def say(self, text: str) -> None:
        """Show a line of text that stays."""

    def stop(self) -> None:
        """End; more lines may follow."""


def clock(seconds: float | None) -> str:
    """Return `seconds` as minutes and seconds, with hours where there are any.

    Examples
    --------
    >>> clock(75), clock(4000)
    ('1:15', '1:06:40')
    """
    if seconds is None:
        return "-:--"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """Return `values`, averaged into `width` columns, as a line of blocks.

    Examples
    --------
    >>> sparkline([4, 3, 2, 1], width=4)
    '█▆▃▁'
    """
    if not values:
        return ""
    width = min(width, len(values))
    edges = [i * len(values) // width for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low or 1.0)
    return "".join(_BLOCKS[round((m - low) * scale)] for m in means)


def _parts(status: Status) -> list[str]:
    loss = "-     " if status.loss is None else f"{status.loss:.4f}"
    val = "-     " if status.val_loss is None else f"{status.val_loss:.4f}"
    speed = "-" if status.tokens_per_s is None else f"{status.tokens_per_s:,.0f}"
    share = "" if status.peak_share is None else f"{status.peak_share:.0%} of peak"
    return [
        f"loss {loss}",
        f"val {val}",
        f"{speed} tok/s",
        share,
        f"{clock(status.left)} left",
    ]


class PlainProgress:
    """Lines for a log: when the validation loss is new, and now and then."""

    def __init__(self, file: Any = None) -> None:
        self.file = sys.stdout if file is None else file
        self._last = perf_counter()

    def start(self, step: int, steps: int) -> None:
        """Begin."""
        del step, steps
        self._last = perf_counter()

    def update(self, status: Status) -> None:
        """Write a line if there is news, or the last is long ago."""
        if status.validated or perf_counter() - self._last > _QUIET:
            self._last = perf_counter()
            step = f"step {status.step:>{len(str(status.steps))}}/{status.steps}"
            self.say("  ".join(part for part in [step, *_parts(status)] if part))

    def say(self, text: str) -> None:
        """Write a line."""
        print(text, file=self.file, flush=True)

    def stop(self) -> None:
        """End."""


class RichProgress:
    """A live bar, with a line above it for each validation loss."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(highlight=False)
        self._bar: Any = None
        self._task: Any = None

    def start(self, step: int, steps: int) -> None:
        """Show the bar."""
        from rich import progress

        text = progress.TextColumn
        self._bar = progress.Progress(
            text("{task.completed:.0f}/{task.total:.0f}"),
            progress.BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
            text("[b]loss {task.fields[loss]}"),
            text("[green]val {task.fields[val]}"),
            text("{task.fields[speed]}"),
            text("[dim]{task.fields[share]}"),
            text("[cyan]{task.fields[left]}"),
            console=self.console,
            expand=True,
        )
        blank = dict.fromkeys(("loss", "val", "speed", "share", "left"), "")
        self._task = self._bar.add_task("train", completed=step, total=steps, **blank)
        self._bar.start()

    def update(self, status: Status) -> None:
        """Move the bar."""
        loss, val, speed, share, left = _parts(status)
        self._bar.update(
            self._task, completed=status.step, total=status.steps, speed=speed, share=share, left=left,
            loss=loss.removeprefix("loss "), val=val.removeprefix("val "),
        )  # fmt: skip
        if status.validated:
            step = f"{status.step:>{len(str(status.steps))}}"
            self.console.print(f"[dim]step {step}[/]  {loss}  [green]{val}[/]")

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        self.console.print(text, markup=False)

    def stop(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def make_progress() -> Progress:
    """Return a live bar if someone looks at a terminal and Rich is installed, else plain lines."""
    if sys.stdout.isatty():
        try:
            return RichProgress()
        except ImportError:
            pass
    return PlainProgress()
