"""The gradients of HIPS autograd, against its own registry of derivatives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("autograd", reason="the library that is compared with")
sys.path.insert(0, str(Path(__file__).parent))
import hips
import hips_calls
import numpy as np

import tinyxp
from tinyxp.autograd import _record

PAGE = Path(__file__).parents[1] / "docs" / "hips.md"


@pytest.fixture(scope="module")
def survey():
    return hips.survey()


def test_every_gradient_is_the_same(survey):
    found, _ = survey
    assert [f for f in found if f.verdict != hips.SAME] == []
    assert sum(f.complex_ for f in found) > len(found) / 3


def test_every_derivative_of_the_registry_was_compared(survey):
    _, seen = survey
    assert hips.unreached(seen) == []


def test_the_page_says_so(survey):
    assert PAGE.read_text(encoding="utf-8") == hips.page(survey)


def test_a_wrong_rule_is_seen(monkeypatch):
    line = _record.TABLE["tanh"]
    monkeypatch.setattr(line, "rules", (lambda _xp, g, out, _x: 1.0001 * g * (1 - out * out),))
    (real, complex_), _ = hips.survey("np.tanh")
    assert real.verdict == complex_.verdict == hips.DIFFERS


def test_a_function_without_a_call_is_seen(monkeypatch):
    text = hips_calls.CHAPTERS["Elementwise"].replace("np.tanh(x)", "np.sin(x)")
    monkeypatch.setitem(hips_calls.CHAPTERS, "Elementwise", text)
    _, seen = hips.survey("np.sin")
    assert "numpy.tanh, argument 0" in hips.unreached(seen)


# ---------------------------------------------------------------- where autograd is wrong
EDGES = {
    "np.prod(a)": ("prod of a zero: autograd divides by it", [0.0, 2.0], [2.0, 0.0]),
    "np.clip(a, 0.0, 1.0)": (
        "at a bound autograd gives 0; the others, and here, 1",
        [0.0, 0.5],
        [1.0, 1.0],
    ),
    "la.norm(a)": ("the norm at 0: autograd divides by it", [0.0, 0.0], [0.0, 0.0]),
    "np.std(a)": ("equal elements: autograd divides by 0", [1.0, 1.0], [0.0, 0.0]),
    "np.sinc(a)": ("sinc at 0: autograd divides by 0", [0.0, 0.5], None),
    "np.hypot(a, 0 * a)": ("hypot at (0, 0): autograd divides by 0", [0.0, 3.0], [0.0, 1.0]),
    "np.where(X > 1, np.sqrt(a), 0.0)": (
        "what is masked away: autograd lets 0 times infinity through",
        [0.0, 4.0],
        [0.0, 0.25],
    ),
}
HERE = {
    "np.prod(a)": lambda xp, a: xp.prod(a),
    "np.clip(a, 0.0, 1.0)": lambda xp, a: xp.clip(a, 0.0, 1.0),
    "la.norm(a)": lambda xp, a: xp.linalg.vector_norm(a),
    "np.std(a)": lambda xp, a: xp.std(a),
    "np.sinc(a)": lambda xp, a: xp.special.sinc(a),
    "np.hypot(a, 0 * a)": lambda xp, a: xp.hypot(a, 0 * a),
    "np.where(X > 1, np.sqrt(a), 0.0)": lambda xp, a: xp.where(a > 1, xp.sqrt(a), 0.0),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("text", EDGES)
def test_edges_where_autograd_deviates(text):
    """Each still does: an entry that a later release mends fails here."""
    _, values, expected = EDGES[text]
    a = tinyxp.Tensor(values, requires_grad=True, dtype="float64")
    tinyxp.sum(HERE[text](tinyxp, a)).backward()
    if expected is None:
        expected = [0.0, float(np.cos(np.pi / 2) / 0.5 - np.sin(np.pi / 2) / (np.pi * 0.25))]
    np.testing.assert_allclose(a.grad.numpy(), expected, rtol=1e-14)
    anp = hips.THEIRS["np"]

    def loss(a):
        return anp.sum(eval(text, {**hips.THEIRS, "a": a, "X": np.asarray(values)}))  # noqa: S307 - expressions of this repository

    theirs = hips.autograd.grad(loss)(np.asarray(values))
    assert not np.allclose(theirs, expected)
