"""What one operation on a small array costs: tinyxp, PyTorch and NumPy in turn, in one run.

    python benchmarks/bench_ops.py [--json FILE]

Microseconds a call, medians; "ratio" is tinyxp to PyTorch, with gradients off and on.
"""

from __future__ import annotations

import argparse
from typing import Any

from _timing import interleaved, machine, medians, write

OPERATIONS = {
    "add": lambda x: x + x,
    "add a number": lambda x: x + 1.5,
    "reshape": lambda x: x.reshape(4),
    "slice": lambda x: x[0:1],
    "getitem": lambda x: x[1],
    "transpose": lambda x: x.T,
    "matmul": lambda x: x @ x,
    "sum": lambda x: x.sum(),
}


def chain(x: Any) -> Any:
    """Return the sum after a hundred operations."""
    y = x
    for _ in range(25):
        y = (y * x + x) * 0.5
        y = y - x
    return y.sum()


def both_ways(x: Any) -> None:
    """Go through `chain` forward and backward."""
    chain(x).backward()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--repeats", type=int, default=21)
    args = parser.parse_args()
    import numpy as np
    import torch

    import tinyxp as xp

    torch.set_num_threads(1)
    data = np.ones((2, 2), np.float32)
    plain = {"tinyxp": xp.Tensor(data), "torch": torch.tensor(data), "numpy": data}
    recorded = {
        "tinyxp": xp.Tensor(data, requires_grad=True),
        "torch": torch.tensor(data, requires_grad=True),
    }
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    print(
        f"{'':14}{'numpy':>8}{'tinyxp':>8}{'torch':>8}{'ratio':>7}   {'tinyxp':>8}{'torch':>8}{'ratio':>7}"
    )
    results = {}
    for name, f in OPERATIONS.items():
        off = _time(f, plain, args.repeats, 2000)
        on = _time(f, recorded, args.repeats, 2000)
        results[name] = {"off": off, "on": on}
        print(
            f"{name:14}{_us(off['numpy'])}{_us(off['tinyxp'])}{_us(off['torch'])}{_ratio(off)}   "
            f"{_us(on['tinyxp'])}{_us(on['torch'])}{_ratio(on)}"
        )
    graph = _time(both_ways, recorded, args.repeats, 20)
    results["forward and backward through 100 operations"] = {"on": graph}
    print(
        f"100 operations, forward and backward: {_us(graph['tinyxp'])}{_us(graph['torch'])}{_ratio(graph)}"
    )
    write(args.json, results)


def _time(f: Any, inputs: dict[str, Any], repeats: int, inner: int) -> dict[str, float]:
    jobs = {name: (lambda x=x: f(x)) for name, x in inputs.items()}
    return medians(interleaved(jobs, repeats=repeats, inner=inner))


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:8.2f}"


def _ratio(times: dict[str, float]) -> str:
    return f"{times['tinyxp'] / times['torch']:7.2f}"


if __name__ == "__main__":
    main()
