"""The most memory that a training step needs, and attention at growing lengths, each in a process of its own.

    python benchmarks/bench_memory.py [small] [--contenders tinyxp,torch] [--json FILE]

What counts is how far the resident memory rises above what it was once the libraries were imported: weights,
gradients, moments, activations, scratch memory, and code that is only loaded when it is used. Needs Linux.
"""

from __future__ import annotations

import argparse
import importlib
import math
import re
from pathlib import Path
from typing import Any

from _gpt import CONTENDERS, SIZES, cores, environment, without_numba
from _timing import machine, write
from _workers import alone

STEPS = 4
LENGTHS = (512, 1024, 2048, 4096)
HEADS, HEAD = 8, 64
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("size", nargs="?", default="small", choices=SIZES)
    parser.add_argument("--contenders", default="tinyxp,tinyxp-plain,torch,jax")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args(argv)
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    names = args.contenders.split(",")
    steps = {n: _alone(n, args.threads, step_memory, args.size) for n in names}
    _print_steps(args.size, steps)
    with_attention = [n for n in names if n in ATTENTION]
    attention = {
        n: {t: _alone(n, args.threads, attention_memory, t) for t in LENGTHS}
        for n in with_attention
    }
    _print_attention(attention)
    powers = {name: power(found) for name, found in attention.items()}
    found = {"step": steps, "attention": attention, "attention_power": powers}
    write(args.json, {"size": args.size} | found)


def _alone(name: str, threads: int, function: Any, *args: Any) -> Any:
    return alone(environment(name, threads), function, name, threads, *args)


# ---------------------------------------------------------------- in the processes
def step_memory(name: str, threads: int, size: str) -> dict[str, int]:
    """Return bytes: resident after import, the peak over the first steps, and how far it rose."""
    for library in CONTENDERS[name].libraries:
        importlib.import_module(library)
    imported = start_peak()
    work = CONTENDERS[name].build(SIZES[size], threads, same=False)
    for _ in range(STEPS):
        work.step()
    peak = memory("VmHWM")
    return {"imported": imported, "peak": peak, "growth": peak - imported}


def attention_memory(name: str, threads: int, length: int) -> int:
    """Return by how many bytes causal attention, forward and backward, rises above its arguments."""
    run = ATTENTION[name](threads)
    run(64)  # loads what is loaded on first use
    return run(length)


def tinyxp_attention(threads: int) -> Any:
    """Return a function that measures attention over so many positions in tinyxp."""
    del threads  # they come from the environment
    import tinyxp as xp

    def run(length: int) -> int:
        q, k, v = (_ones(xp, length) for _ in range(3))
        before = start_peak()
        xp.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        return memory("VmHWM") - before

    return run


def plain_attention(threads: int) -> Any:
    """Return a function that measures attention over so many positions in tinyxp on NumPy alone."""
    without_numba()
    return tinyxp_attention(threads)


def torch_attention(threads: int) -> Any:
    """Return a function that measures attention over so many positions in PyTorch."""
    import torch

    torch.set_num_threads(threads)

    def run(length: int) -> int:
        q, k, v = (_ones(torch, length) for _ in range(3))
        before = start_peak()
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        return memory("VmHWM") - before

    return run


def _ones(xp: Any, length: int) -> Any:
    return xp.ones((1, HEADS, length, HEAD), dtype=xp.float32).requires_grad_()


ATTENTION = {"tinyxp": tinyxp_attention, "tinyxp-plain": plain_attention, "torch": torch_attention}


def start_peak() -> int:
    """Let the peak begin anew; return the bytes that are resident now."""
    CLEAR.write_text("5", encoding="ascii")  # man 5 proc: resets VmHWM
    return memory("VmRSS")


def memory(name: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
    if found is None:
        raise SystemExit(f"{STATUS} has no {name}: this benchmark needs Linux")
    return int(found[1]) * 1024


# ---------------------------------------------------------------- tables
def _print_steps(size: str, steps: dict[str, dict[str, int]]) -> None:
    print(f"\n{size + ', MiB':16}{'imported':>10}{'peak':>10}{'growth':>10}{'to torch':>10}")
    for name, row in steps.items():
        row_text = "".join(f"{row[k] / 2**20:>10.0f}" for k in ("imported", "peak", "growth"))
        print(f"{name:16}{row_text}{_ratio(row, steps.get('torch')):>10}")


def _ratio(row: dict[str, int], torch: dict[str, int] | None) -> str:
    return f"{row['growth'] / torch['growth']:.2f}" if torch else ""


def _print_attention(attention: dict[str, dict[int, int]]) -> None:
    head = "".join(f"{t:>10}" for t in LENGTHS)
    print(f"\n{'attention, MiB':16}{head}   grows with the power")
    for name, found in attention.items():
        row = "".join(f"{found[t] / 2**20:>10.1f}" for t in LENGTHS)
        print(f"{name:16}{row}   {power(found):.2f}")


def power(found: dict[int, int]) -> float:
    """Return the exponent with which the values grow between the last two lengths."""
    short, long = LENGTHS[-2:]
    return math.log(found[long] / found[short]) / math.log(long / short)


if __name__ == "__main__":
    main()
