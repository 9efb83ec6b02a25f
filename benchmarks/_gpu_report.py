"""What the parts of `gpu_check` find, kept as they find it, and what is made of it at the end."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = 40  # failures of a part that the table lists


class Findings:
    """The rows of a part, in a file that is written again with every row: a killed part leaves what it had.

    Parameters
    ----------
    out : Path
        The folder of the whole run.
    name : str
        Of the part.
    """

    def __init__(self, out: Path, name: str) -> None:
        self._path = out / "parts" / f"{name}.json"
        self.rows: list[dict[str, Any]] = []

    @classmethod
    def read(cls, out: Path, name: str) -> Self:
        """Return what a part has left."""
        found = cls(out, name)
        if found._path.exists():
            found.rows = json.loads(found._path.read_text())
        return found

    def write(self) -> None:
        """Write the rows."""
        self._path.write_text(json.dumps(self.rows, indent=1) + "\n")

    def _add(self, kind: str, name: str, **values: Any) -> None:
        self.rows.append({"kind": kind, "name": name, **values})
        self.write()

    def check(self, name: str, error: float, limit: float) -> None:
        """Record whether `error` is below `limit`; NaN is not."""
        good = error < limit
        self._add("right" if good else "wrong", name, error=_plain(error), limit=limit)

    def fail(self, name: str, text: str) -> None:
        """Record that something went wrong."""
        self._add("wrong", name, text=text)

    def note(self, name: str, text: str) -> None:
        """Record a fact."""
        self._add("note", name, text=text)

    def figure(self, name: str, value: float, unit: str) -> None:
        """Record a measurement."""
        self._add("figure", name, value=value, unit=unit)

    def series(self, name: str, values: dict[str, list[float]]) -> None:
        """Record curves for a plot."""
        self._add("series", name, values=values)

    def count(self, kind: str) -> int:
        """Return how many rows are of a kind."""
        return sum(row["kind"] == kind for row in self.rows)

    @property
    def wrong(self) -> bool:
        """Whether anything failed."""
        return self.count("wrong") > 0


def _plain(x: float) -> float | str:
    """Return what JSON has a word for."""
    return x if math.isfinite(x) else str(x)


def summary(name: str, found: Findings) -> str:
    """Return a line about a part."""
    parts = [f"{found.count('right')} right, {found.count('wrong')} wrong"]
    parts += [_value(row) for row in found.rows if row["kind"] in ("figure", "note")][:4]
    return f"{name}: " + "; ".join(parts)


def _value(row: dict[str, Any]) -> str:
    if row["kind"] == "figure":
        return f"{row['name']} {row['value']:,.4g} {row['unit']}".rstrip()
    if "error" in row:
        return f"{row['name']}: {row['error']} (limit {row['limit']:.0e})"
    return f"{row['name']}: {row.get('text', '')}"


def table(found: dict[str, Findings], seconds: float) -> str:
    """Return the report: a table of the parts, ratios, what is wrong, and every figure."""
    right, wrong = (sum(f.count(kind) for f in found.values()) for kind in ("right", "wrong"))
    lines = [f"# GPU check: {right} right, {wrong} wrong, {seconds:.0f} s", ""]
    lines += ["| part | right | wrong | largest share of a limit |", "|---|---|---|---|"]
    for name, f in found.items():
        if f.count("right") + f.count("wrong"):
            lines.append(f"| {name} | {f.count('right')} | {f.count('wrong')} | {_worst(f)} |")
    for name, f in found.items():
        failed = [_value(row) for row in f.rows if row["kind"] == "wrong"]
        if failed:
            lines += ["", f"## Wrong in {name}", *(f"- {x}" for x in failed[:SHOWN])]
            if len(failed) > SHOWN:
                lines.append(f"- and {len(failed) - SHOWN} more, in parts/{name}.json")
    lines += ["", "## Figures", "| part | what | value |", "|---|---|---|"]
    for name, f in found.items():
        lines += [f"| {name} | {row['name']} | {row['value']:,.4g} {row['unit']} |"
                  for row in f.rows if row["kind"] == "figure"]  # fmt: skip
    lines += ["", "## Speed", *_ratios(found), "", "## Notes"]
    for name, f in found.items():
        lines += [f"- {name}: {_value(row)}" for row in f.rows if row["kind"] == "note"]
    return "\n".join(lines)


def _worst(f: Findings) -> str:
    shares = [row["error"] / row["limit"] for row in f.rows if isinstance(row.get("error"), float)]
    return f"{max(shares):.2f}" if shares else ""


def speeds(found: dict[str, Any], model: str) -> dict[str, float]:
    """Return tokens a second of each contender that trained `model`."""
    rates = {}
    for name, f in found.items():
        rows = f.rows if isinstance(f, Findings) else f
        head, _, contender = name.partition("-")
        if head == model:
            for row in rows:
                if row["name"] == "tokens/s":
                    rates[contender] = row["value"]
    return rates


def _ratios(found: dict[str, Findings]) -> list[str]:
    lines = []
    for model in ("gpt2", "character"):
        rates = speeds(found, model)
        ours = {name: rate for name, rate in rates.items() if name.startswith("tinyxp")}
        for other in (name for name in rates if name.startswith("torch")):
            lines += [f"- {model}: {name} / {other} {rate / rates[other]:.2f}" for name, rate in ours.items()]  # fmt: skip
    return lines or ["- nothing to compare with"]


def plot(out: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Draw the loss curves and the speeds, where matplotlib is installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plots: matplotlib is not installed; results.json holds what they would show")
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for part, found in rows.items():
        for row in (r for r in found if r["kind"] == "series"):
            figure, (above, below) = plt.subplots(2, sharex=True, figsize=(7, 6), layout="constrained")  # fmt: skip
            first = next(iter(row["values"].values()))
            for label, values in row["values"].items():
                steps = range(1, len(values) + 1)
                (line,) = above.plot(steps, values, label=label, linewidth=1.5)
                if values is not first:  # curves that agree hide each other
                    far = [abs(a - b) for a, b in zip(values, first, strict=True)]
                    below.plot(steps, far, label=label, linewidth=1.5, color=line.get_color())
            above.set(ylabel="loss in nats per token", title=row["name"])
            below.set(xlabel="step", ylabel="distance to the first")
            below.set_yscale("symlog", linthresh=1e-8)  # it may be 0
            above.legend(frameon=False)
            figure.savefig(out / f"{part}.png", dpi=150)
            plt.close(figure)
    for model in ("gpt2", "character"):
        rates = speeds(rows, model)
        if rates:
            figure, axes = plt.subplots(figsize=(7, 0.6 + 0.5 * len(rates)), layout="constrained")
            bars = axes.barh(list(rates), list(rates.values()))
            axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates.values()], padding=3)
            axes.set(xlabel="tokens per second", title=f"training step, {model}", xlim=(0, 1.2 * max(rates.values())))  # fmt: skip
            axes.invert_yaxis()
            figure.savefig(out / f"speed-{model}.png", dpi=150)
            plt.close(figure)
