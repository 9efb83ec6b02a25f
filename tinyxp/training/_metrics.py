"""``metrics.csv``: a row for each step, empty where nothing was measured."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from tinyxp.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["COLUMNS", "Metrics", "read_metrics"]

NAME = "metrics.csv"
COLUMNS = ("step", "loss", "val_loss", "lr", "grad_norm", "tokens_per_s", "peak_share", "seconds")
Row = dict[str, float | None]


class Metrics:
    """The table of a run, appended to while it goes on.

    Parameters
    ----------
    folder : Path
        Where ``metrics.csv`` is.
    keep : int or None
        Rows up to this step stay, later ones are dropped; None starts an empty table.
    """

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        self.path = folder / NAME
        kept = [] if keep is None else [r for r in read_metrics(folder) if (r["step"] or 0) <= keep]
        self._write("w", [COLUMNS, *map(_cells, kept)])

    def append(self, rows: Iterable[Row]) -> None:
        """Add `rows`."""
        self._write("a", map(_cells, rows))

    def _write(self, mode: str, rows: Iterable[Iterable[str]]) -> None:
        with self.path.open(mode, encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _cells(row: Row) -> list[str]:
    return [_text(row.get(name)) for name in COLUMNS]


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def read_metrics(folder: Path) -> list[Row]:
    """Return the rows of ``metrics.csv`` in `folder`, None where a cell is empty.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    path = folder / NAME
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_row(cells) for cells in csv.DictReader(file)]
    except FileNotFoundError:
        raise CheckpointError(f"no run in {str(folder)!r}: it holds no {NAME}") from None
    except (ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path} is damaged: {exc}") from None


def _row(cells: dict[str, str]) -> Row:
    row: Row = {name: float(text) if text else None for name, text in cells.items()}
    row["step"] = int(cells["step"])
    return row
