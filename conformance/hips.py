"""Every function that HIPS autograd differentiates is here, with the same gradient: ``python conformance/hips.py``.

The list is autograd's own: the registry of its derivatives. Every call of `hips_calls` is made with autograd and with
tinyxp, on the same arrays in float64 and, where autograd's rules are for complex numbers too, in complex128. Values and
gradients of a random linear function of the result are compared; autograd's complex gradients are the
conjugates of ours (``docs/autograd.md``). While autograd differentiates, it is noted which of its rules run: a rule of the
registry that no call reaches is an error, as is one of a future release that the table does not know.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import math
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import autograd
import hips_calls as table
import numpy as np
from autograd import core

import tinyxp
from tinyxp.testing import GradientError, gradcheck

if TYPE_CHECKING:
    from collections.abc import Callable

SAME, WRONG_THERE, DIFFERS, FAILS = "same", "autograd is wrong", "DIFFERS", "FAILS"
TOLERANCE = 1e-9
LOOSE = {"integrate.odeint": 1e-6}  # its steps are chosen by an estimate of their error


# ---------------------------------------------------------------- arrays
def _generic(*shape: int, seed: int = 0) -> Any:
    """Return numbers at a distance from each other and from 0."""
    n = math.prod(shape)
    rng = np.random.default_rng([seed, *shape])
    places = (rng.permutation(n) - n / 2 + 0.3) * 3.1 / max(n, 1)
    return (places + rng.uniform(-0.05, 0.05, n) / max(n, 1)).reshape(shape)


def _uniform(low: float, high: float, *shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, 1, *shape]).uniform(low, high, shape)


ARRAYS: dict[str, Any] = {
    "x": _generic(3, 4),
    "y": _generic(4, seed=5) + 0.01,
    "z": _generic(3, 4, seed=6),
    "v": _generic(3, seed=1),
    "o": np.asarray(0.7),
    "m": _generic(3, 3) + np.eye(3),
    "n": _generic(3, 3, seed=2) + 2 * np.eye(3),
    "w": _generic(3, 3, seed=3),
    "r": _generic(2, 3),
    "t": _generic(2, 3, 4),
    "batch": _generic(2, 3, 3, seed=4),
    "u": _uniform(-0.8, 0.8, 3, 4),
    "c": _uniform(0.1, 0.9, 3, 4),
    "p": _uniform(0.6, 1.9, 3, 4),
    "q": _uniform(0.7, 2.1, 4, seed=1),
    "alpha": _uniform(0.6, 2.0, 3),
    "parts": np.asarray([0.2, 0.5, 0.3]),
    "s": np.asarray([[2.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 1.0]]),
}
CONSTANTS = {
    "X": ARRAYS["x"],
    "P": ARRAYS["p"],
    "Q": ARRAYS["q"],
    "V": ARRAYS["v"],
    "K": np.asarray([1.0, 3.0, 2.0, 5.0]),
    "D": np.asarray([[0.0] * 3, [1.0] * 3, [0.0] * 3]),
    "I": np.eye(3),
    "T": np.asarray([0.0, 0.3, 0.5]),
}


# ---------------------------------------------------------------- what calls may use
def swing(y: Any, _time: Any, k: Any) -> Any:
    """Return the velocity and the acceleration of a pendulum at the angle and velocity `y`."""
    if isinstance(y, tinyxp.Tensor):
        return tinyxp.stack([y[1], -k * tinyxp.sin(y[0])])
    anp = importlib.import_module("autograd.numpy")
    return anp.array([y[1], -k * anp.sin(y[0])])


def runge_kutta(f: Callable[..., Any], y: Any, times: Any, *args: Any, steps: int = 100) -> Any:
    """Return the solution of y' = f(y, t, *args) at `times`, by the classical method of fourth order."""
    found = [y]
    for i in range(times.shape[0] - 1):
        t, h = times[i], (times[i + 1] - times[i]) / steps
        for _ in range(steps):
            k1 = f(y, t, *args)
            k2 = f(y + h / 2 * k1, t + h / 2, *args)
            k3 = f(y + h / 2 * k2, t + h / 2, *args)
            k4 = f(y + h * k3, t + h, *args)
            y, t = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), t + h
        found.append(y)
    return tinyxp.stack(found)


def kron(a: Any, b: Any) -> Any:
    """Return the Kronecker product of two matrices."""
    shape = (a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])
    return tinyxp.reshape(a[:, None, :, None] * b[None, :, None, :], shape)


MODULES = {
    "np": "autograd.numpy",
    "la": "autograd.numpy.linalg",
    "fft": "autograd.numpy.fft",
    "special": "autograd.scipy.special",
    "sla": "autograd.scipy.linalg",
    "signal": "autograd.scipy.signal",
    "stats": "autograd.scipy.stats",
    "integrate": "autograd.scipy.integrate",
}
THEIRS = {
    "swing": swing,
    "tuple": autograd.builtins.tuple,
    **{k: importlib.import_module(m) for k, m in MODULES.items()},
}
OURS = {
    "xp": tinyxp,
    "sp": tinyxp.special,
    "math": math,
    "kron": kron,
    "runge_kutta": runge_kutta,
    "swing": swing,
}


# ---------------------------------------------------------------- autograd's registry
class Rule(NamedTuple):
    """A derivative in autograd's registry: of which function, with respect to which argument (None: any)."""

    function: Any
    argument: int | None


def name_of(function: Any) -> str:
    """Return the name of a function of autograd, with the module it comes from."""
    wrapped = getattr(function, "fun", function)
    name = getattr(wrapped, "__name__", repr(wrapped))
    owner = getattr(wrapped, "__self__", None)  # the methods of SciPy's distributions
    module = getattr(wrapped, "__module__", None) or "scipy.special"
    if owner is not None and not isinstance(owner, type(sys)):
        module = f"scipy.stats.{getattr(owner, 'name', type(owner).__name__)}"
    return f"{module}.{name}"


def is_internal(function: Any) -> bool:
    """Whether the engine of autograd calls it, and its users do not."""
    name = name_of(function)
    return any(part in name for part in table.INTERNAL)


def functions() -> list[Any]:
    """Return the functions that autograd differentiates in reverse or in forward mode."""
    return [f for f in {**core.primitive_vjps, **core.primitive_jvps} if not is_internal(f)]


def rules(function: Any) -> set[Rule]:
    """Return the derivatives that autograd has of a function."""
    maker = core.primitive_vjps[function]
    cells = dict(zip(maker.__code__.co_freevars, maker.__closure__ or (), strict=True))
    if "vjps_dict" not in cells:
        return {Rule(function, None)}
    found = cells["vjps_dict"].cell_contents
    return {Rule(function, i) for i, rule in found.items() if not _is_nothing(rule)}


def _is_nothing(rule: Any) -> bool:
    """Whether autograd was told None for this argument, for which it makes a function that returns zeros."""
    return "translate_vjp" in getattr(rule, "__qualname__", "")


class Watch:
    """Notes which derivatives autograd uses, as long as it is entered."""

    def __init__(self) -> None:
        self.seen: set[Rule] = set()

    def __enter__(self) -> Self:
        self.makers = dict(core.primitive_vjps)
        for function, maker in self.makers.items():
            core.primitive_vjps[function] = self.watched(function, maker)
        return self

    def __exit__(self, *_: object) -> None:
        core.primitive_vjps.update(self.makers)

    def watched(self, function: Any, maker: Any) -> Any:
        """Return the maker of a derivative that notes its use."""

        def make(argnums: Any, *args: Any) -> Any:
            self.seen |= {Rule(function, None), *(Rule(function, i) for i in argnums)}
            return maker(argnums, *args)

        return make


# ---------------------------------------------------------------- comparing
class Found(NamedTuple):
    """The verdict on a call."""

    chapter: str
    theirs: str
    ours: str
    complex_: bool
    verdict: str
    detail: str


class Call(NamedTuple):
    """A line of the table."""

    chapter: str
    theirs: str
    ours: str
    real: bool

    @property
    def names(self) -> list[str]:
        """The arrays of which the gradient is compared."""
        used = {n.id for n in ast.walk(ast.parse(self.theirs)) if isinstance(n, ast.Name)}
        return [n for n in ARRAYS if n in used]


def calls() -> list[Call]:
    """Return the lines of the table."""
    found = []
    for chapter, text in table.CHAPTERS.items():
        for line in text.strip().splitlines():
            line, mark, _ = line.partition("  # real")  # noqa: PLW2901 - the line without its mark
            theirs, _, ours = line.partition(" -> ")
            found.append(Call(chapter, theirs.strip(), ours.strip(), bool(mark)))
    return found


def arrays(names: list[str], *, complex_: bool) -> dict[str, Any]:
    """Return the arrays with these names."""
    if not complex_:
        return {n: ARRAYS[n] for n in names}
    return {n: ARRAYS[n] + 0.6j * np.roll(_generic(*ARRAYS[n].shape, seed=9), 1) for n in names}


def weights(value: Any) -> Any:
    """Return the random numbers that a result is multiplied with."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=value.shape)
    return w + 1j * rng.normal(size=value.shape) if value.dtype.kind == "c" else w


def of_autograd(call: Call, inputs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the value and the gradients, by the convention of PyTorch and tinyxp."""
    anp = THEIRS["np"]
    value = np.asarray(eval(call.theirs, {**THEIRS, **CONSTANTS, **inputs}))  # noqa: S307 - expressions of this repository
    w = weights(value)

    def loss(*args: Any) -> Any:
        out = eval(call.theirs, {**THEIRS, **CONSTANTS, **dict(zip(inputs, args, strict=True))})  # noqa: S307 - expressions of this repository
        return anp.sum(anp.real(np.conj(w) * out))

    found = autograd.grad(loss, tuple(range(len(inputs))))(*inputs.values())
    return value, [np.conj(g) for g in found]


def of_tinyxp(call: Call, inputs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the value and the gradients."""
    tensors = {n: tinyxp.Tensor(a, requires_grad=True) for n, a in inputs.items()}
    out = ours(call)(*tensors.values())
    value = out.detach().numpy()
    tinyxp.sum(tinyxp.real(tinyxp.asarray(np.conj(weights(value))) * out + 0j)).backward()
    return value, [t.grad.numpy() for t in tensors.values()]


def ours(call: Call) -> Callable[..., Any]:
    """Return the call of tinyxp as a function of its arrays."""
    constants = {n: tinyxp.asarray(a) for n, a in CONSTANTS.items()}

    def function(*args: Any) -> Any:
        return eval(call.ours, {**OURS, **constants, **dict(zip(call.names, args, strict=True))})  # noqa: S307 - expressions of this repository

    return function


def examine(call: Call, *, complex_: bool) -> tuple[str, str]:
    """Compare value and gradients of a call, and return the verdict with a reason."""
    inputs = arrays(call.names, complex_=complex_)
    value, expected = of_autograd(call, inputs)
    mine, found = of_tinyxp(call, inputs)
    rtol = next((t for name, t in LOOSE.items() if name in call.theirs), TOLERANCE)
    same = mine.shape == value.shape and np.allclose(mine, value, rtol=rtol, atol=rtol)
    if not same:
        return DIFFERS, f"value {mine} instead of {value}"
    scale = max(1.0, *(np.max(np.abs(e), initial=0.0) for e in expected))
    if all(
        f.shape == np.shape(e) and np.allclose(f, e, rtol=rtol, atol=rtol * scale)
        for f, e in zip(found, expected, strict=True)
    ):
        return SAME, ""
    try:
        gradcheck(ours(call), *[tinyxp.asarray(a) for a in inputs.values()], order=1)
    except GradientError as error:
        return DIFFERS, str(error)
    return WRONG_THERE, f"autograd {expected}, here and by finite differences {found}"


def survey(only: str = "") -> tuple[list[Found], set[Rule]]:
    """Examine every call of the table whose text contains `only`; return the verdicts and the rules that ran."""
    found = []
    with Watch() as watch, warnings.catch_warnings(), tinyxp.default_dtype("float64"):
        warnings.simplefilter("ignore")
        for call in calls():
            if only not in call.theirs:
                continue
            for complex_ in (False,) if call.real else (False, True):
                try:
                    verdict = examine(call, complex_=complex_)
                except Exception as error:  # noqa: BLE001 - of either library; the survey goes on
                    verdict = FAILS, f"{type(error).__name__}: {error}"
                found.append(Found(call.chapter, call.theirs, call.ours, complex_, *verdict))
    return found, watch.seen


def unreached(seen: set[Rule]) -> list[str]:
    """Return the derivatives in autograd's registry that no call of the table used."""
    missing = [r for f in functions() for r in rules(f) - seen]
    return sorted(f"{name_of(r.function)}, argument {r.argument}" for r in missing)


def page(result: tuple[list[Found], set[Rule]]) -> str:
    """Return docs/hips.md."""
    found, seen = result
    text = [(Path(__file__).parent / "hips_page.md").read_text(encoding="utf-8").rstrip(), ""]
    reached = [f for f in functions() if Rule(f, None) in seen]
    same = Counter(f.complex_ for f in found if f.verdict == SAME)
    text += [
        f"{len(reached)} of the {len(functions())} functions of its registry are here: {same[False]} calls of real",
        f"and {same[True]} of complex arrays agree, {len(found) - same.total()} differ.",
        "",
    ]
    for chapter in table.CHAPTERS:
        lines = [f for f in found if f.chapter == chapter and not f.complex_]
        text += [f"## {chapter}", "", "| HIPS autograd | tinyxp |", "|---|---|"]
        text += [f"| {_code(f.theirs)} | {_code(f.ours)} |" for f in lines] + [""]
    return "\n".join(text)


def _code(call: str) -> str:
    return f"`{call}`"


def main() -> int:
    """Print what the survey finds; return 1 if a gradient differs or a function is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="calls that contain this text")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page docs/hips.md")
    args = parser.parse_args()
    found, seen = survey(args.only)
    if args.docs:
        args.docs.write_text(page((found, seen)), encoding="utf-8")
    for f in found:
        if args.only or f.verdict != SAME:
            print(
                f"{f.verdict:18} {'complex' if f.complex_ else 'real':8} {f.theirs}\n    {f.detail}"
            )
    verdicts = Counter(f.verdict for f in found)
    print(f"autograd {importlib.metadata.version('autograd')}:", dict(verdicts))
    if args.only:
        return 0
    missing = unreached(seen)
    reached = [f for f in functions() if Rule(f, None) in seen]
    print(f"functions: {len(reached)} of {len(functions())};", *missing, sep="\n  ")
    return int(bool(missing) or not verdicts.keys() <= {SAME, WRONG_THERE})


if __name__ == "__main__":
    sys.exit(main())
