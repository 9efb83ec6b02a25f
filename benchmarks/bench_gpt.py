"""A GPT's training step and forward pass in tinyxp, PyTorch, JAX and HIPS autograd, in turn, in one run.

    python benchmarks/bench_gpt.py tiny baby [--contenders tinyxp,torch] [--threads 2] [--busy]
                                   [--json FILE] [--plot FILE]

Every contender starts from the same weights, sees the same batch and takes steps of AdamW in float32. That it
does the same work is shown by its first losses, which must agree with PyTorch's to 1e-4. Each lives in a process
of its own, and they take turns: thread pools of two libraries in one process disturb each other.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from contextlib import nullcontext
from typing import Any

from _gpt import CONTENDERS, SIZES, cores, environment
from _timing import machine, write
from _workers import SQUARES, alone, busy, sgemm, start, turn

CLOSE = 1e-4  # how far losses of the first steps may lie apart
FIRST = 5  # steps before the clock runs, whose losses are compared


def main(argv: list[str] | None = None) -> int:
    """Measure and print; return 1 if the contenders did not do the same work."""
    args = _parser().parse_args(argv)
    names = _known(args.contenders.split(","))
    if args.one_process and "tinyxp" in names:  # Numba cannot be there and not be there
        names = [n for n in names if n != "tinyxp-plain"]
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    print(f"{args.threads} thread{'s' * (args.threads > 1)}, {_conditions(args)}")
    peaks = _peaks(args)
    results, agree = {}, True
    for size in args.sizes:
        mine = [n for n in names if size in CONTENDERS[n].sizes]
        results[size] = measure(mine, size, args)
        agree &= same_work(size, results[size]["losses"])
    peaks = {
        lib: max(peak, again)
        for (lib, peak), again in zip(peaks.items(), _peaks(args).values(), strict=True)
    }
    best = max(peaks.values())
    print(f"best square product of float32, GFLOP/s: {_joined(peaks, 1e-9)}")
    for size, found in results.items():
        _add_rates(size, found, best)
        _print(size, found)
    conditions = {"threads": args.threads, "conditions": _conditions(args)}
    write(args.json, conditions | {"sgemm_peak": peaks, "sizes": results})
    if args.plot:
        _plot(args.plot, results)
    return 0 if agree else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sizes", nargs="*", default=["tiny", "baby"], choices=[*SIZES, []])
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="default: %(default)s")
    parser.add_argument("--what", default="step,forward", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--turns", type=int, default=9, help="of each contender")
    parser.add_argument("--seconds", type=float, default=0.4, help="about how long a turn lasts")
    parser.add_argument("--busy", action="store_true", help="keep all cores busy meanwhile")
    parser.add_argument(
        "--squares",
        type=int,
        nargs="*",
        default=SQUARES,
        help="sides of the products that give the peak",
    )
    parser.add_argument("--one-process", action="store_true", help="one process for all contenders")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--plot", help="draw the ratios to this file (needs matplotlib)")
    return parser


def _conditions(args: argparse.Namespace) -> str:
    where = "all in one process" if args.one_process else "each in a process of its own"
    return f"{where}, {'all cores kept busy' if args.busy else 'nothing else started'}"


def _known(names: list[str]) -> list[str]:
    if unknown := set(names) - set(CONTENDERS):
        raise SystemExit(f"no contender {min(unknown)!r}; there are {', '.join(CONTENDERS)}")
    return names


def _peaks(args: argparse.Namespace) -> dict[str, float]:
    """Return the best rate of a square product in NumPy and in PyTorch, where it is installed."""
    libraries = {"numpy": "tinyxp", "torch": "torch"}
    return {
        library: alone(environment(name, args.threads), sgemm, library, args.threads, args.squares)
        for library, name in libraries.items()
        if importlib.util.find_spec(library)
    }


def measure(names: list[str], size: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the first losses and, for ``step`` and ``forward``, the medians of each contender's turns."""
    workers, losses = start(names, size, args.threads, steps=FIRST, one_process=args.one_process)
    found: dict[str, Any] = {"losses": losses}
    with busy(cores()) if args.busy else nullcontext():
        for what in args.what.split(","):
            turns: dict[str, list[float]] = {name: [] for name in workers}
            for count in range(args.turns + 1):
                for name, worker in workers.items():
                    took = worker.call(turn, name, what, args.seconds)
                    turns[name] += [took] if count else []  # the first may still compile
            found[what] = {name: {"turns": took} for name, took in turns.items()}
    for worker in workers.values():
        worker.close()
    return found


def same_work(size: str, losses: dict[str, list[float]]) -> bool:
    """Print how far the first losses lie from PyTorch's, or from the first contender's."""
    judge = "torch" if "torch" in losses else next(iter(losses))
    apart = {
        name: max(abs(a - b) for a, b in zip(found, losses[judge], strict=True))
        for name, found in losses.items()
    }
    verdict = "the same work" if max(apart.values()) <= CLOSE else "NOT THE SAME WORK"
    print(
        f"{size}: {verdict}: {judge}'s losses {' '.join(f'{x:.4f}' for x in losses[judge])};",
        end=" ",
    )
    print(
        "largest differences " + ", ".join(f"{k} {v:.0e}" for k, v in apart.items() if k != judge)
    )
    return verdict == "the same work"


def _add_rates(size: str, found: dict[str, Any], peak: float) -> None:
    flops = {"step": SIZES[size].flops(), "forward": SIZES[size].flops() / 3}
    for what in [w for w in flops if w in found]:
        for row in found[what].values():
            row["seconds"] = statistics.median(row["turns"])
            row["flops_per_s"] = flops[what] / row["seconds"]
            row["of_peak"] = row["flops_per_s"] / peak
        if "torch" in found[what]:
            for row in found[what].values():
                row["to_torch"] = row["seconds"] / found[what]["torch"]["seconds"]


def _print(size: str, found: dict[str, Any]) -> None:
    for what in [w for w in ("step", "forward") if w in found]:
        print(f"\n{size + ' ' + what:16}{'ms':>10}{'to torch':>10}{'GFLOP/s':>10}{'of peak':>9}")
        for name, row in found[what].items():
            ratio = f"{row['to_torch']:.2f}" if "to_torch" in row else ""
            rate = f"{row['flops_per_s'] / 1e9:.1f}"
            print(
                f"{name:16}{row['seconds'] * 1e3:>10.2f}{ratio:>10}{rate:>10}{row['of_peak']:>9.0%}"
            )


def _joined(values: dict[str, float], unit: float) -> str:
    return ", ".join(f"{k} {v * unit:.0f}" for k, v in values.items() if v)


def _plot(path: str, results: dict[str, Any]) -> None:
    """Draw the time of a step as a multiple of PyTorch's: a group of bars for each size."""
    from matplotlib import pyplot as plt

    names = [n for n in CONTENDERS if any(n in found["step"] for found in results.values())]
    figure, ax = plt.subplots(figsize=(2 + 2 * len(results), 4), layout="constrained")
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        rows = [found["step"].get(name, {}) for found in results.values()]
        places = [group + (i - len(names) / 2 + 0.5) * width for group in range(len(rows))]
        ax.bar(places, [row.get("to_torch", 0.0) for row in rows], width, label=name)
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set_xticks(range(len(results)), list(results))
    ax.set_ylabel("time of a training step / PyTorch eager")
    ax.legend(fontsize="small")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
