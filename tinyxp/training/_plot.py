"""``loss.png``: how the losses fell."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tinyxp.training._metrics import read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tinyxp.training._metrics import Row

__all__ = ["MissingPlotLibrary", "plot_loss", "save_plot"]

NAME = "loss.png"
_TRAIN, _VAL, _INK = "#4c78a8", "#e45756", "#333333"


class MissingPlotLibrary(ImportError):  # noqa: N818 - says what is missing
    """Matplotlib, which draws the plot, is not installed."""


def save_plot(folder: Path, title: str = "") -> Path:
    """Draw the metrics of the run in `folder` into its ``loss.png`` and return the path.

    Raises
    ------
    MissingPlotLibrary
        If Matplotlib is not installed; the message says what to type.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPlotLibrary(
            "no loss.png: Matplotlib is not installed; type: pip install 'tinyxp[plot]'"
        ) from None
    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    plot_loss(read_metrics(folder), ax=figure.subplots(), title=title)
    new = folder / f".{NAME}"  # the suffix tells Matplotlib the format
    figure.savefig(new)
    return new.replace(folder / NAME)


def plot_loss(rows: Sequence[Row], *, ax: Any, title: str = "") -> None:
    """Draw the training loss (each step, and smoothed) and the validation loss of `rows` on `ax`.

    Parameters
    ----------
    rows : sequence of dict
        What `read_metrics` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    title : str
        Above the axes.
    """
    train = [(r["step"], r["loss"]) for r in rows if r["loss"] is not None]
    val = [(r["step"], r["val_loss"]) for r in rows if r["val_loss"] is not None]
    if train:
        steps, losses = zip(*train, strict=True)
        ax.plot(steps, losses, color=_TRAIN, alpha=0.25, linewidth=0.8)
        ax.plot(steps, smoothed(losses), color=_TRAIN, linewidth=1.8, label="training, smoothed")
    if val:
        _draw_validation(ax, val)
    ax.set_xlabel("step")
    ax.set_ylabel("loss (nats per token)")
    ax.set_title(title, loc="left", fontsize=10, color=_INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.2)
    ax.margins(x=0.02)
    ax.legend(frameon=False)


def _draw_validation(ax: Any, points: Sequence[tuple[Any, Any]]) -> None:
    steps, losses = zip(*points, strict=True)
    ax.plot(steps, losses, color=_VAL, linewidth=1.8, marker="o", markersize=4, label="validation")
    ax.annotate(
        f"{losses[-1]:.2f}", (steps[-1], losses[-1]), xytext=(0, 8), textcoords="offset points",
        ha="center", color=_VAL, fontweight="bold",
    )  # fmt: skip


def smoothed(values: Sequence[float], *, share: float = 0.05) -> list[float]:
    """Return for each of `values` the mean of those around it, `share` of their number in all.

    Near the first the neighbourhood shrinks on both sides alike: losses fall fast there, and the curve shall not
    lag. Behind the last whole neighbourhood it goes on along the line that fits that one best, instead of ending in
    the noise of one value.

    Examples
    --------
    >>> smoothed([1.0, 2.0, 3.0], share=1.0)
    [1.0, 2.0, 3.0]
    """
    sums = [0.0, *accumulate(values)]
    n = len(values)
    reach = min(int(share * n / 2), max(n - 1, 0) // 2)
    last = n - 1 - reach
    around = (min(i, reach) for i in range(last + 1))
    found = [(sums[i + r + 1] - sums[i - r]) / (2 * r + 1) for i, r in enumerate(around)]
    if reach:
        offsets = range(-reach, reach + 1)
        rise = sum(k * values[last + k] for k in offsets) / sum(k * k for k in offsets)
        found += [found[last] + rise * k for k in range(1, reach + 1)]
    return found
