"""Every figure that is promised, beside its bar, from one run of all the benchmarks (about a quarter of an hour).

    python benchmarks/all.py [--json FILE] [--only memory cold]

For figures worth keeping, let the machine do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from _gpt import SIZES
from _timing import machine, write

if TYPE_CHECKING:
    from collections.abc import Callable

GPT = ("bench_gpt.py", *SIZES, "--what", "step", "--turns", "7", "--contenders")
SCRIPTS = {
    "gpt": (*GPT, "tinyxp,tinyxp-plain,torch,torch-compile,jax"),
    "busy": (*GPT, "tinyxp,torch", "--busy"),
    "ops": ("bench_ops.py",),
    "generate": ("bench_generate.py",),
    "memory": ("bench_memory.py", "small", "--contenders", "tinyxp,tinyxp-plain,torch"),
    "cold": ("bench_cold.py", "baby"),
}


class Figure(NamedTuple):
    """A number, where it is found in the results, and what it must reach."""

    name: str
    script: str
    find: Callable[[Any], float]
    bar: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Say whether the bar is reached."""
        return value >= self.bar if self.at_least else value <= self.bar


def step(size: str, mine: str = "tinyxp", theirs: str = "torch") -> Callable[[Any], float]:
    """Return what finds the ratio of two contenders' training steps."""

    def find(r: Any) -> float:
        found = r["sizes"][size]["step"]
        return found[mine]["seconds"] / found[theirs]["seconds"]

    return find


def cold(mine: str, theirs: str) -> Callable[[Any], float]:
    """Return what finds the ratio of two starts."""
    return lambda r: r["seconds"][mine] / r["seconds"][theirs]


def graph(theirs: str) -> Callable[[Any], float]:
    """Return what finds the ratio of two graphs of a hundred operations."""

    def find(r: Any) -> float:
        found = r["forward and backward through 100 operations"]["on"]
        return found["tinyxp"] / found[theirs]

    return find


EAGER = {"tiny": 0.7, "baby": 0.85, "small": 0.95, "mid": 0.95}
FIGURES = [
    *(Figure(f"{s}: step, fused / torch", "gpt", step(s), bar) for s, bar in EAGER.items()),
    *(
        Figure(f"{s}: the same, all cores busy", "busy", step(s), round(bar + 0.2, 2))
        for s, bar in EAGER.items()
    ),
    *(
        Figure(f"{s}: step, fused / {theirs}", "gpt", step(s, theirs=theirs), 1.0)
        for theirs in ("torch-compile", "jax")
        for s in SIZES
    ),
    *(Figure(f"{s}: step, NumPy alone / torch", "gpt", step(s, "tinyxp-plain"), 1.5) for s in SIZES),
    Figure(
        "small: share of the sgemm peak, fused", "gpt",
        lambda r: r["sizes"]["small"]["step"]["tinyxp"]["of_peak"], 0.82, at_least=True,
    ),
    Figure("100 operations, both ways / torch", "ops", graph("torch"), 1.3),
    Figure("100 operations, both ways / HIPS autograd", "ops", graph("autograd"), 0.3),
    *(
        Figure(
            f"{s}: tokens/s when it writes / torch", "generate",
            lambda r, s=s: r[s]["tinyxp"] / r[s]["torch"], 1.5, at_least=True,
        )
        for s in ("baby", "small")
    ),
    *(
        Figure(
            f"{s}: tokens/s to 512 tokens, cache / none", "generate",
            lambda r, s=s: r[f"{s}, 512 tokens"]["cache"] / r[f"{s}, 512 tokens"]["without"],
            7.0, at_least=True,
        )
        for s in ("baby", "small")
    ),
    Figure(
        "small: peak memory, growth, fused / torch", "memory",
        lambda r: r["step"]["tinyxp"]["growth"] / r["step"]["torch"]["growth"], 1.0,
    ),
    Figure("baby: cold start, cached / torch", "cold", cold("tinyxp, cached", "torch"), 0.5),
    Figure(
        "baby: cold start, not cached / torch-compile", "cold",
        cold("tinyxp, not cached", "torch-compile, not cached"), 1.0,
    ),
    Figure(
        "installed size, tinyxp[fast] / torch", "cold",
        lambda r: r["bytes_installed"]["tinyxp[fast]"] / r["bytes_installed"]["torch"], 0.4,
    ),
    Figure(
        "attention to T = 4096: power of T, fused", "memory",
        lambda r: r["attention_power"]["tinyxp"], 1.1,
    ),
]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run all, print the table; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=list(SCRIPTS), choices=[*SCRIPTS, []])
    parser.add_argument("--json", help="write figures and results to this file")
    args = parser.parse_args(argv)
    results = {name: _run(name) for name in args.only}
    print(f"\n{', '.join(f'{k} {v}' for k, v in machine().items())}\n")
    print("| figure | measured | bar | |\n|---|--:|--:|---|")
    figures = {}
    for f in [f for f in FIGURES if f.script in results]:
        sign = "≥" if f.at_least else "≤"
        try:
            value = f.find(results[f.script])
        except KeyError as absent:
            print(f"| {f.name} | | {sign} {f.bar:g} | no {absent} |")
            continue
        figures[f.name] = {"measured": value, "bar": f.bar, "met": f.met(value)}
        print(f"| {f.name} | {value:.2f} | {sign} {f.bar:g} | {'' if f.met(value) else 'missed'} |")
    write(args.json, {"figures": figures, "details": results})
    return 0 if all(row["met"] for row in figures.values()) else 1


def _run(name: str) -> Any:
    """Run a script, let it print, and return what it found."""
    script, *options = SCRIPTS[name]
    begin = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.json")
        path = Path(__file__).with_name(script)
        print(f"\n{' '.join(SCRIPTS[name])}", flush=True)
        command = [sys.executable, path, *options, "--json", found]
        subprocess.run(command, check=True)
        print(f"({perf_counter() - begin:.0f} s)", flush=True)
        return json.loads(found.read_text(encoding="utf-8"))["results"]


if __name__ == "__main__":
    sys.exit(main())
