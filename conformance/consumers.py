"""Differentiate calls of SciPy, scikit-learn, einops and array-api-extra on Tensors.

    python conformance/consumers.py              # a table of what is differentiable
    python conformance/consumers.py --json       # the same for a program
    python conformance/consumers.py --docs docs/consumers.md

The value and the derivative that a call should have come from the library itself, on NumPy arrays: the
derivatives by finite differences.
"""

from __future__ import annotations

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before SciPy is imported

import argparse
import ast
import json
import math
import sys
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import consumers_calls as table
import numpy as np

import tinyxp

STEP = 1e-4  # of the five-point formula, whose error is of order STEP**4
TOLERANCE, NOISE = 1e-6, 1e-9  # relative to the largest derivative of a call; of differences
SCIPY = (
    "cluster.vq", "constants", "differentiate", "fft", "integrate", "interpolate", "linalg", "ndimage",
    "optimize.elementwise", "signal.windows", "sparse.linalg", "spatial.distance", "spatial.transform", "special",
    "stats.contingency",
)  # fmt: skip
SKLEARN = (
    "covariance", "decomposition", "discriminant_analysis", "kernel_approximation", "linear_model", "metrics.pairwise",
    "mixture", "naive_bayes", "preprocessing", "utils.extmath",
)  # fmt: skip

RIGHT, WRONG, CONSTANT, NUMBER, REFUSED = "right", "wrong", "constant", "number", "refused"


class Found(NamedTuple):
    """What became of one call."""

    chapter: str
    function: str
    call: str
    verdict: str
    detail: str


class Call:
    """An expression of `consumers_calls` and the arrays it takes."""

    def __init__(self, line: str) -> None:
        label, bar, expression = line.partition(" | ")
        self.text = expression if bar else line
        tree = ast.parse(self.text, mode="eval")
        self.function = label if bar else function_of(tree)
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        self.inputs = [n for n in table.INPUTS if n in names]
        self.code = compile(tree, self.text, "eval")

    def __call__(self, xp: Any, arrays: dict[str, Any]) -> list[Any]:
        """Evaluate the expression; return its floating results."""
        return floating(eval(self.code, {**MODULE, "xp": xp, "math": math, **arrays}))  # noqa: S307 - our own table


def function_of(tree: ast.AST) -> str:
    """Return the first dotted name that is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            if "(" not in name and name.split(".")[0] in MODULE:
                return name
    raise ValueError(f"no function of SciPy is called in {ast.unparse(tree)}")


def modules() -> dict[str, Any]:
    """Import what the calls name; return it by the first part of its name."""
    for name in SCIPY:
        import_module(f"scipy.{name}")
    for name in SKLEARN:
        import_module(f"sklearn.{name}")
    import array_api_extra
    import einops.array_api
    import scipy
    import sklearn

    tinyxp.consumers.support_einops()
    sklearn.set_config(array_api_dispatch=True)
    found = {name.split(".")[0]: getattr(scipy, name.split(".")[0]) for name in SCIPY}
    return found | {"array_api_extra": array_api_extra, "einops": einops, "sklearn": sklearn}


MODULE = modules()


def floating(result: Any) -> list[Any]:
    """Return the floating arrays and numbers of a result, in order."""
    if isinstance(result, (bool, int, str, type(None))):
        return []
    if isinstance(result, (float, complex)) or hasattr(result, "__array_namespace__"):
        kind = getattr(getattr(result, "dtype", None), "kind", "f")
        return [result] if kind in "fc" else []
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)) or hasattr(result, "_fields"):
        return [f for r in result for f in floating(r)]
    if hasattr(result, "__dataclass_fields__"):
        return [f for n in result.__dataclass_fields__ for f in floating(getattr(result, n))]
    if hasattr(result, "statistic"):  # a result of a test that is a class of its own
        return floating([result.statistic, result.pvalue])
    raise TypeError(f"no array but {type(result).__name__}")


def weights(i: int, shape: tuple[int, ...]) -> Any:
    """Return weights, generic and always the same, with which a result is summed."""
    n = math.prod(shape)
    return np.reshape(np.cos(1.7 * np.arange(n) + i) + 0.3, shape)


def directions(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return for each floating input the direction along which it is differentiated."""
    return {
        name: np.asarray(weights(11 * i + 5, x.shape))
        for i, (name, x) in enumerate(arrays.items())
        if x.dtype.kind == "f"
    }


def weighted_sum(results: list[Any]) -> Any:
    """Return one real number that depends on every element of every result."""
    total = 0.0
    for i, r in enumerate(results):
        r = np.asarray(r)  # noqa: PLW2901 - the same as an array
        if r.dtype.kind == "c":
            total += np.sum(weights(2 * i + 1, r.shape) * r.imag)
        total += np.sum(weights(2 * i, r.shape) * r.real)
    return float(total)


def by_differences(call: Call, arrays: dict[str, Any], name: str, direction: Any) -> float:
    """Return the derivative of the weighted sum along a direction of one input, on NumPy arrays."""

    def at(s: float) -> float:
        return weighted_sum(call(np, {**arrays, name: arrays[name] + s * direction}))

    h = STEP
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def by_gradients(results: list[Any], inputs: dict[str, Any]) -> list[float]:
    """Return the derivatives of the weighted sum along the directions, from the graph."""
    total = None
    for i, r in enumerate(results):
        parts = (
            [(2 * i, tinyxp.real(r)), (2 * i + 1, tinyxp.imag(r))]
            if r.dtype.kind == "c"
            else [(2 * i, r)]
        )
        for seed, part in parts:
            term = tinyxp.sum(tinyxp.asarray(weights(seed, r.shape)) * part)
            total = term if total is None else total + term
    along = directions(inputs)
    leaves = [inputs[n] for n in along]
    found = tinyxp.autograd.grad(total, leaves, allow_unused=True)
    return [
        0.0 if g is None else float(np.sum(np.asarray(g.detach()) * v))
        for g, v in zip(found, along.values(), strict=True)
    ]


def examine(call: Call) -> tuple[str, str]:
    """Return the verdict on a call, and what stands against it."""
    arrays = {n: np.asarray(table.INPUTS[n]) for n in call.inputs}
    try:
        plain = call(np, arrays)
    except Exception as e:  # noqa: BLE001 - whatever a library raises
        return REFUSED, f"on NumPy arrays too: {summary(e)}"
    inputs = {n: tinyxp.Tensor(x, x.dtype.kind == "f") for n, x in arrays.items()}
    try:
        results = call(tinyxp, inputs)
        kinds = {type(r).__name__ for r in results if not isinstance(r, tinyxp.Tensor)}
        if kinds:
            return NUMBER, f"returns {', '.join(sorted(kinds))}"
        recorded = any(r.requires_grad for r in results)
        ours = by_gradients(results, inputs) if recorded else [0.0] * len(directions(arrays))
    except Exception as e:  # noqa: BLE001 - whatever it raises is the finding
        return REFUSED, summary(e)
    value, should = weighted_sum([r.detach() for r in results]), weighted_sum(plain)
    if not math.isclose(value, should, rel_tol=1e-9, abs_tol=1e-12):
        return WRONG, f"value {value}, expected {should}"
    return compare(call, arrays, inputs, ours)


def compare(
    call: Call, arrays: dict[str, Any], inputs: dict[str, Any], ours: list[float]
) -> tuple[str, str]:
    """Return the verdict on the derivatives that the graph gave."""
    expected = [by_differences(call, arrays, n, v) for n, v in directions(arrays).items()]
    allowed = TOLERANCE * max(map(abs, expected), default=0.0) + NOISE
    if all(abs(o - e) <= allowed for o, e in zip(ours, expected, strict=True)):
        return (RIGHT if any(map(abs, ours)) else CONSTANT), ""
    try:
        with tinyxp.consumers.refuse_numbers():
            call(tinyxp, inputs)
    except Exception:  # noqa: BLE001 - NumPy may turn the refusal into an error of its own
        return NUMBER, "takes a Python number of an argument; raises under refuse_numbers()"
    return WRONG, f"derivatives {ours}, by differences {expected}"


def summary(error: Exception) -> str:
    """Return an error in a line."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:160]


def survey(only: str = "") -> list[Found]:
    """Examine every call of the table whose text contains `only`."""
    found = []
    for chapter, lines in table.CHAPTERS.items():
        for line in lines.strip().splitlines():
            if only in line:
                call = Call(line)
                found.append(Found(chapter, call.function, call.text, *examine(call)))
    return found


HEADINGS = {
    RIGHT: "Gradients that agree with finite differences",
    CONSTANT: "Constant almost everywhere, so that the gradient is zero: ranks, signs, counts",
    NUMBER: (
        "Run, but turn an argument or the result into a Python number, where the gradient ends "
        "(`tinyxp.consumers.refuse_numbers()` makes them raise)"
    ),
    REFUSED: "Refuse Tensors that require grad, most because they are compiled or call NumPy; the message says why",
}


def page(found: list[Found]) -> str:
    """Return docs/consumers.md."""
    text = [(Path(__file__).parent / "consumers_page.md").read_text(encoding="utf-8").rstrip(), ""]
    counts = {c: {v: names(found, c, v) for v in HEADINGS} for c in table.CHAPTERS}
    text += ["| | right | zero | Python number | refused |", "|---|--:|--:|--:|--:|"]
    text += [f"| {c} | {' | '.join(str(len(n)) for n in v.values())} |" for c, v in counts.items()]
    total = [sum(len(v[verdict]) for v in counts.values()) for verdict in HEADINGS]
    text += [f"| **together** | {' | '.join(f'**{n}**' for n in total)} |", ""]
    for verdict, heading in HEADINGS.items():
        text += [f"## {heading}", ""]
        for chapter, by_verdict in counts.items():
            if by_verdict[verdict]:
                text += [
                    f"**{chapter}**: " + ", ".join(f"`{n}`" for n in by_verdict[verdict]) + ".",
                    "",
                ]
    return "\n".join(text)


def names(found: list[Found], chapter: str, verdict: str) -> list[str]:
    """Return the functions with this verdict; one that is right in any call is right."""
    chosen = {f.function for f in found if f.chapter == chapter and f.verdict == verdict}
    if verdict != RIGHT:
        chosen -= {f.function for f in found if f.verdict == RIGHT}
    return sorted(chosen)


def main() -> int:
    """Print what the survey finds; return 1 if a gradient is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="for a program to read")
    parser.add_argument(
        "--docs", type=Path, metavar="FILE", help="write the page docs/consumers.md"
    )
    parser.add_argument("--only", default="", help="calls that contain this text")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tinyxp.default_dtype("float64"), np.errstate(all="ignore"):
        found = survey(args.only)
    if args.docs:
        args.docs.write_text(page(found), encoding="utf-8")
    if args.json:
        print(json.dumps([f._asdict() for f in found]))
    else:
        for f in found:
            print(f"{f.verdict:9} {f.call:70} {f.detail}")
        print(Counter(f.verdict for f in found))
        print(len({f.function for f in found if f.verdict == RIGHT}), "functions")
    return int(any(f.verdict == WRONG for f in found))


if __name__ == "__main__":
    sys.exit(main())
