"""The table of edges in docs/autograd.md: every cell is measured."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "autograd.md"
HEADER = "| function | at | here | PyTorch | JAX | why |"
AT_LEAST = {  # what the page must have a line for
    "abs", "atan2", "clip", "copysign", "cumulative_prod", "hypot", "log", "maximum", "minimum", "max", "min",
    "prod", "quantile", "remainder", "sign", "sort", "sqrt", "std", "var", "where", "vector_norm", "matrix_norm",
}  # fmt: skip


class Edge(NamedTuple):
    """A line of the table."""

    function: str
    at: str
    here: str
    pytorch: str
    jax: str
    why: str

    @property
    def arguments(self):
        values = [eval(text, {"inf": math.inf, "nan": math.nan}) for text in self.at.split("; ")]
        return [np.asarray(v, dtype=complex if isinstance(v, complex) else float) for v in values]


def table(text):
    lines = text.partition(HEADER)[2].partition("\n\n")[0].strip().splitlines()[1:]
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines]
    return [Edge(f.strip("`"), at.strip("`"), *others) for f, at, *others in cells]


EDGES = table(PAGE.read_text(encoding="utf-8"))


class Names(dict):
    """The functions of a library, as an expression finds them, with `x` and `y`."""

    def __init__(self, lib, arguments):
        super().__init__(zip("xy", arguments, strict=False), inf=math.inf)
        self.lib = lib

    def __missing__(self, name):
        return getattr(self.lib, name)


def evaluate(edge, lib, arguments):
    names = Names(lib, arguments)
    names["asarray"] = lambda values: lib.asarray(np.asarray(values))
    return eval(edge.function, {"__builtins__": {}}, names)


def cell(gradients):
    """Gradients as the table shows them: one for each argument, -0.0 as 0."""
    return " and ".join(str(_plain(g.tolist())).replace("'", "") for g in gradients)


def _plain(value):
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, complex):
        return f"{value:g}" if value else "0"
    return f"{value:g}" if value else "0"


def test_the_page_has_the_table():
    assert len(EDGES) > 50
    assert set(re.findall(r"\w+(?=\()", " ".join(e.function for e in EDGES))) >= AT_LEAST
    assert all(e.why for e in EDGES)
    assert len({e[:2] for e in EDGES}) == len(EDGES)


ids = [f"{e.function} at {e.at}" for e in EDGES]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("edge", EDGES, ids=ids)
def test_here(xp, edge):
    arguments = [xp.Tensor(a, requires_grad=True) for a in edge.arguments]
    xp.sum(xp.real(evaluate(edge, xp, arguments) + 0j)).backward()
    assert cell([a.grad.numpy() for a in arguments]) == edge.here


@pytest.mark.parametrize("edge", EDGES, ids=ids)
def test_pytorch(edge):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    lib = pytest.importorskip("array_api_compat.torch", reason="compares with PyTorch")
    arguments = [torch.tensor(a, requires_grad=True) for a in edge.arguments]
    torch.sum(torch.real(evaluate(edge, lib, arguments) + 0j)).backward()
    assert cell([a.grad.numpy() for a in arguments]) == edge.pytorch


@pytest.mark.parametrize("edge", EDGES, ids=ids)
def test_jax(edge):
    """JAX's complex gradients are the conjugates of ours."""
    jax = pytest.importorskip("jax", reason="compares with JAX")
    with jax.enable_x64(True):
        lib = jax.numpy
        arguments = [lib.asarray(a) for a in edge.arguments]

        def loss(*arguments):
            return lib.sum(lib.real(evaluate(edge, lib, arguments)))

        gradients = jax.grad(loss, argnums=tuple(range(len(arguments))))(*arguments)
        found = [np.conj(np.asarray(g)) for g in gradients]
    assert cell(found) == edge.jax


def test_a_wrong_cell_is_seen(xp):
    """The comparison can fail."""
    text = f"{HEADER}\n|---|---|---|---|---|---|\n| `abs(x)` | `0.0` | 1 | 0 | 1 | no |\n\n"
    (edge,) = table(text)
    with pytest.raises(AssertionError):
        test_here(xp, edge)
