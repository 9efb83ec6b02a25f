"""What one operation on a small array costs: tinyxp, PyTorch and NumPy in turn, in one run.

    python benchmarks/bench_ops.py [--json FILE]

Microseconds a call, medians; "ratio" is tinyxp to PyTorch, with gradients off and on. At the end a graph of a
hundred operations on 64 elements, forward and backward, beside HIPS autograd too where it is installed.
"""

from __future__ import annotations

import argparse
from functools import partial
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
        off = _time(f, plain, args.repeats)
        on = _time(f, recorded, args.repeats)
        results[name] = {"off": off, "on": on}
        print(
            f"{name:14}{_us(off['numpy'])}{_us(off['tinyxp'])}{_us(off['torch'])}{_ratio(off)}   "
            f"{_us(on['tinyxp'])}{_us(on['torch'])}{_ratio(on)}"
        )
    graph = hundred(np.ones((8, 8), np.float32), args.repeats)
    results["forward and backward through 100 operations"] = {"on": graph}
    print("\n100 operations on 64 elements, forward and backward:")
    for name, seconds in graph.items():
        ratio = "" if name == "tinyxp" else f"   tinyxp / {name} {graph['tinyxp'] / seconds:.2f}"
        print(f"{name:14}{_us(seconds)}{ratio}")
    write(args.json, results)


def hundred(data: Any, repeats: int) -> dict[str, float]:
    """Time `chain` on `data`, there and back. Single passes alternate, so that load meets all alike."""
    import torch

    import tinyxp as xp

    jobs = {
        "tinyxp": partial(both_ways, xp.Tensor(data, requires_grad=True)),
        "torch": partial(both_ways, torch.tensor(data, requires_grad=True)),
    }
    try:
        from autograd import grad
    except ImportError:
        print("HIPS autograd is not installed: pip install autograd")
    else:
        jobs["autograd"] = partial(grad(chain), data)
    return medians(interleaved(jobs, repeats=20 * repeats))


def _time(f: Any, inputs: dict[str, Any], repeats: int) -> dict[str, float]:
    """Time calls in short rounds: long ones would be interrupted by other work on the machine."""
    jobs = {name: partial(f, x) for name, x in inputs.items()}
    return medians(interleaved(jobs, repeats=10 * repeats, inner=100))


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:8.2f}"


def _ratio(times: dict[str, float]) -> str:
    return f"{times['tinyxp'] / times['torch']:7.2f}"


if __name__ == "__main__":
    main()
