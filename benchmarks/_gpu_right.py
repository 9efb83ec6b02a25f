"""Parts of `gpu_check` that say whether results are right: each against float64 on the CPU."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import tinyxp as xp
from tinyxp import _fused, dtypes
from tinyxp.testing import _calls, _fused_cases
from tinyxp.testing._compare import quiet
from tinyxp.testing._samples import Samples

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from _gpu_report import Findings

LIMITS = {"float64": 1e-11, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
SOLVED = 10  # how much wider the limit of linear algebra is, which inverts and decomposes
CPU = xp.device("cpu")


# ---------------------------------------------------------------- comparison
def host(x: Any) -> Any:
    """Return a raw array or Tensor of any device in host memory, real numbers as float64."""
    if isinstance(x, xp.Tensor):
        x = x.detach().data
    if isinstance(x, (bool, int, float, complex)):
        return np.asarray(x)
    found = x.get() if hasattr(x, "get") else np.asarray(x)
    return found.astype(np.float64) if dtypes.of(found.dtype).kind == "f" else found


def error(got: Any, want: Any, *, scale: float = 0.0, largest: float = math.inf) -> float:
    """Return the relative error in the Euclidean norm, NaN where infinities and NaN are not alike.

    Parameters
    ----------
    got, want : array
        What was computed, and what is right.
    scale : float
        The least norm to divide by.
    largest : float
        Magnitude beyond which the type of `got` has infinities.
    """
    got, want = host(got), host(want)
    if got.shape != want.shape:
        return math.nan
    with np.errstate(all="ignore"):
        alike = (got == want) | (np.isnan(got) & np.isnan(want))
        if dtypes.of(want.dtype).kind not in "fc":
            return 0.0 if bool(alike.all()) else math.nan
        compared = np.isfinite(want) & (np.abs(want) < 0.9 * largest)
        if not bool((alike | np.isfinite(want)).all()) or not bool(np.isfinite(got[compared]).all()):  # fmt: skip
            return math.nan
        difference = np.where(compared & ~alike, got - want, 0)
        size = float(np.linalg.norm(np.where(compared, want, 0)))
    return float(np.linalg.norm(difference)) / max(size, scale, 1e-30)


class Rounded(Samples):
    """Samples on the CPU in float64, of numbers that the narrower type called `narrow` has."""

    def __init__(self, narrow: str, seed: int) -> None:
        super().__init__(CPU, "float64", seed)
        self._narrow = {"float64": narrow, "complex128": "complex64" if narrow != "float64" else "complex128"}  # fmt: skip

    def array(self, obj: Any, dtype: Any = None) -> Any:
        found = super().array(obj, dtype)
        name = self._narrow.get(dtypes.of(found.dtype).name)
        return found if name is None else found.astype(_native(name)).astype(found.dtype)


def _native(name: str) -> Any:
    return CPU.backend.native_dtype(dtypes.dtype(name))


def flat(x: Any) -> Iterator[Any]:
    """Yield the arrays and numbers in nested tuples and lists."""
    if isinstance(x, (tuple, list)):
        for y in x:
            yield from flat(y)
    elif x is not None:
        yield x


# ---------------------------------------------------------------- functions and gradients
def _all_calls() -> Iterator[tuple[str, int, Any]]:
    groups = (("", _calls.CALLS), ("linalg.", _calls.LINALG), ("fft.", _calls.FFT))
    for prefix, calls in groups:
        for name, several in calls.items():
            for i, call in enumerate(several if isinstance(several, list) else [several]):
                yield f"{prefix}{name}", i, call


def functions(found: Findings, setting: argparse.Namespace) -> None:
    """Compare every function of the standard, in float32 and float64, with float64 on the CPU."""
    device = xp.device(setting.device)
    for kind in ("float32", "float64"):
        for name, i, call in _all_calls():
            with _reported(found, f"{name} {i} {kind}"):
                want = list(flat(call(CPU.xp, Rounded(kind, 3))))
                got = list(flat(call(device.xp, Samples(device, kind, 3))))
                wide = SOLVED if name.startswith("linalg") else 1
                pairs = [(g, w) for g, w in zip(got, want, strict=True) if hasattr(w, "dtype")]
                worst = _worst([error(g, w) for g, w in pairs])
                found.check(f"{name} {i} {kind}", worst, wide * LIMITS[kind])


class Leaves(Samples):
    """Samples that are Tensors whose gradients are wanted."""

    def __init__(self, inner: Samples) -> None:
        self.inner, self.leaves = inner, []
        self.device, self.dtype, self.random = inner.device, inner.dtype, inner.random

    def array(self, obj: Any, dtype: Any = None) -> Any:
        x = xp.asarray(self.inner.array(obj, dtype))
        if x.dtype.kind in "fc":
            x.requires_grad = True
            self.leaves.append(x)
        return x

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        return xp.asarray(self.inner.empty(shape, dtype))


def _gradients(call: Any, samples: Leaves) -> list[Any]:
    """Return the gradients of a weighted sum of all that `call` returns."""
    outs = [y for y in flat(call(xp, samples)) if isinstance(y, xp.Tensor) and y.requires_grad]
    for y in outs:
        weights = np.cos(np.arange(y.size, dtype=np.float64) + 1).reshape(y.shape)
        g = xp.asarray(weights.tolist(), dtype=y.dtype, device=y.device)
        y.backward(g, retain_graph=True)
    return [x.grad for x in samples.leaves]


def gradients(found: Findings, setting: argparse.Namespace) -> None:
    """Compare the gradients of every function that has one, in float32, with float64 on the CPU."""
    device = xp.device(setting.device)
    for name, i, call in _all_calls():
        try:
            with quiet(), xp.use_device(CPU):
                want = _gradients(call, Leaves(Rounded("float32", 5)))
        except Exception as exc:  # noqa: BLE001 - as no derivative is defined; the GPU is not asked
            found.note(f"{name} {i}", f"not compared: {type(exc).__name__}")
            continue
        with _reported(found, f"{name} {i}"), xp.use_device(device):
            got = _gradients(call, Leaves(Samples(device, "float32", 5)))
            pairs = [(g, w) for g, w in zip(got, want, strict=True) if w is not None]
            if pairs:
                scale = max(float(np.linalg.norm(host(w))) for _, w in pairs) * 1e-3
                worst = _worst([error(g, w, scale=scale) for g, w in pairs])
                found.check(f"{name} {i}", worst, (SOLVED if "linalg" in name else 1) * LIMITS["float32"])  # fmt: skip


def _worst(errors: list[float]) -> float:
    return math.nan if any(map(math.isnan, errors)) else max(errors, default=0.0)


# ---------------------------------------------------------------- kernels
def _large_cases() -> tuple[Any, ...]:
    """Return cases of the shapes that models have, beside the small ones of the conformance suite."""
    real, Case = _fused_cases._real, _fused_cases.Case  # noqa: N806, SLF001 - the same makers
    heads = real((2, 4, 257, 64), (2, 4, 257, 64), (2, 4, 257, 64), None)
    return (
        Case("layer_norm", real((33, 768), (768,), (768,)), {"eps": 1e-5}),
        Case("rms_norm", real((33, 1600), (1600,)), {"eps": 1e-6}),
        Case("softmax", real((17, 1023)), {"axis": -1}),
        Case("gelu", real((130, 3072)), {"approximate": "tanh"}),
        Case("linear", real((130, 768), (768, 520), (520,), scale=0.5), {}),
        Case("embedding", lambda s: [s.ints(4, 300, high=65), s.real(65, 96)], {}),
        Case("attention", heads, {"is_causal": True, "scale": None}),
        Case("cross_entropy", lambda s: [s.real(9, 50257), s.ints(9, high=50257)],
             {"ignore_index": -100, "label_smoothing": 0.0}),
        Case("transformer_block", _fused_cases._whole(2, 65, 64),  # noqa: SLF001 - likewise
             {"num_heads": 2, "is_causal": True, "eps": 1e-5, "approximate": "tanh"}),
    )  # fmt: skip


def kernels(found: Findings, setting: argparse.Namespace) -> None:
    """Compare every fused operation and its cotangents in every precision with float64 on the CPU."""
    device = xp.device(setting.device)
    cases = _fused_cases.FUSED if setting.tiny else (*_fused_cases.FUSED, *_large_cases())
    for kind in ("float32", "float16", "bfloat16"):
        if kind not in device.backend.native_dtypes:
            found.note(kind, "ml_dtypes is not installed")
            continue
        for number, case in enumerate(cases):
            with _reported(found, f"{number} {case} {kind}"):
                _fused_case(found, device, kind, number, case)
    for number, case in enumerate(_fused_cases.UPDATES):
        with _reported(found, f"{number} {case}"):
            _update_case(found, device, number, case)


@contextmanager
def _reported(found: Findings, what: str) -> Iterator[None]:
    """Record an exception as a finding, so that what comes behind it is still looked at."""
    try:
        with quiet():
            yield
    except Exception as exc:  # noqa: BLE001 - whatever is raised is the finding
        found.fail(what, f"{type(exc).__name__}: {exc}")


def _fused_case(found: Findings, device: Any, kind: str, number: int, case: Any) -> None:
    wide, mine = case.make(Rounded(kind, 7)), case.make(Samples(device, kind, 7))
    largest = float(np.finfo(np.float16).max) if kind == "float16" else 3e38
    options = {
        k: v for k, v in case.options.items() if k != "compute"
    }  # the reference rounds nothing
    limit = LIMITS[case.options.get("compute") or kind]
    want = getattr(_fused, case.name)(CPU.xp, *wide, **options)
    out, aux = getattr(device.xp, case.name)(*mine, **case.options)
    what = f"{number} {case} {kind}"
    found.check(what, error(out, want, largest=largest), limit)
    needs = [_fused_cases.is_real(a) for a in mine]
    g = Samples(device, str(dtypes.of(out.dtype)), 9).real(*out.shape)
    g64 = np.asarray(host(g))
    _, kept = getattr(CPU.xp, f"plain_{case.name}")(*wide, **options)
    want_g = getattr(CPU.xp, f"plain_{case.name}_vjp")(g64, want, kept, *wide, needs=needs, **options)  # fmt: skip
    got_g = getattr(device.xp, f"{case.name}_vjp")(g, out, aux, *mine, needs=needs, **case.options)
    sizes = [float(np.linalg.norm(host(w))) for w in want_g if w is not None]
    scale = 0.3 * max((s for s in sizes if math.isfinite(s)), default=0.0)
    for i, (a, b) in enumerate(zip(got_g, want_g, strict=True)):
        if b is not None:
            found.check(f"{what}, cotangent {i}", error(a, b, scale=scale, largest=largest), 3 * limit)  # fmt: skip


def _update_case(found: Findings, device: Any, number: int, case: Any) -> None:
    ours, theirs = case.make(Samples(device, "float32", 11)), case.make(Rounded("float32", 11))
    options = {k: ({} if k == "memo" else v) for k, v in case.options.items()}
    theirs = [np.dtype("float64") if isinstance(a, np.dtype) else a for a in theirs]
    got = getattr(device.xp, case.name)(*ours, **options)
    want = getattr(CPU.xp, f"plain_{case.name}")(*theirs, **options)
    arrays = zip(flat([got, *ours]), flat([want, *theirs]), strict=True)
    worst = _worst([error(a, b) for a, b in arrays if hasattr(b, "dtype")])
    found.check(f"{number} {case}", worst, 10 * LIMITS["float32"])


# ---------------------------------------------------------------- training
def _trained(
    device: str, precision: str, steps: int, sizes: tuple[int, int, int]
) -> tuple[list[float], Any, Any]:
    """Return the losses of `steps` steps of AdamW, the logits behind them and the model.

    `sizes` are width, layers and context.
    """
    width, layers, context = sizes
    model = xp.GPT(65, width, layers, 4, context, device=device, seed=1)
    ids = np.random.default_rng(2).integers(0, 65, (2, 4, context))
    x, y = (xp.asarray(i, device=device) for i in ids)
    if precision == "half":
        model.to("bfloat16")
    optimizer = xp.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of, losses = xp.nn.CrossEntropyLoss(), []
    cast = xp.autocast(precision) if precision in ("bfloat16", "float16") else nullcontext()
    for _ in range(steps):
        optimizer.zero_grad()
        with cast:
            loss = loss_of(model(x), y)
        loss.backward()
        xp.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    with xp.no_grad(), cast:
        logits = model(x)
    return [loss.item() for loss in losses], logits, model


def curve(found: Findings, setting: argparse.Namespace) -> None:
    """Train the same model on the CPU and on the GPU, in every precision, and compare."""
    steps, sizes = 20, (32, 2, 16) if setting.tiny else (64, 3, 64)
    want, logits, reference = _trained("cpu", "float32", steps, sizes)
    curves = {"CPU float32": want}
    precisions = {"float32": 1e-5, "bfloat16": 2e-2, "half": 2e-2}
    for precision, limit in precisions.items():
        got, found_logits, model = _trained(setting.device, precision, steps, sizes)
        curves[f"{setting.device} {precision}"] = got
        far = max(abs(a - b) for a, b in zip(got, want, strict=True))
        found.check(f"losses {precision}", far, limit)
        found.check(f"logits {precision}", error(found_logits, logits), limit)
        if precision == "float32":
            ours = model.state_dict()
            for name, w in reference.state_dict().items():
                if not name.endswith(
                    "k_proj.bias"
                ):  # its gradient is rounding, which Adam amplifies
                    found.check(f"weight {name}", error(ours[name], w), limit)
    found.series("loss of the same model", curves)


def graphs(found: Findings, setting: argparse.Namespace) -> None:
    """Compare training and generation by replayed CUDA graphs with the same step by step."""
    import _gpu_speed

    for model in ("tiny",):
        eager, replayed = (_gpu_speed.first_losses(model, name, setting, 8) for name in ("tinyxp", "tinyxp-graph"))  # fmt: skip
        far = max(abs(a - b) for a, b in zip(eager, replayed, strict=True))
        found.check(f"losses of {len(eager)} steps, {model}", far, 1e-6)


def products(found: Findings, setting: argparse.Namespace) -> None:
    """Compare products of every layout, type and epilogue with float64 on the CPU."""
    import _gpu_products

    _gpu_products.compare(found, setting, error, LIMITS)


# ---------------------------------------------------------------- other programs
def tests(found: Findings, setting: argparse.Namespace) -> None:
    """Run the tests of the CUDA kernels, where pytest is installed."""
    if importlib.util.find_spec("hypothesis") is None:
        found.note("left out", "hypothesis is not installed")
        return
    root = Path(__file__).resolve().parents[1]
    files = sorted(map(str, (root / "tests").glob("test_cuda_*.py")))
    if setting.tiny:
        files = [path for path in files if "elements" in path]
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "--backend", "cupy"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files], cwd=root, capture_output=True, text=True, check=False
    )  # fmt: skip
    last = ended.stdout.strip().splitlines()[-1:]
    (setting.out / "tests.log").write_text(ended.stdout + ended.stderr)
    if ended.returncode:
        found.fail("pytest", f"{' '.join(last)} (tests.log)")
    else:
        found.note("pytest", " ".join(last))


def sanitizer(found: Findings, setting: argparse.Namespace) -> None:
    """Run the kernels under compute-sanitizer, where it is installed."""
    import shutil

    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")  # fmt: skip
    if tool is None:
        found.note("left out", "compute-sanitizer is not installed")
        return
    script = str(Path(__file__).with_name("gpu_check.py"))
    running = {}
    for check in ("memcheck", "racecheck", "synccheck", "initcheck"):
        out = setting.out / "sanitizer" / check
        (out / "parts").mkdir(parents=True, exist_ok=True)
        inner = [sys.executable, script, "--part", "kernels", "--out", str(out), "--size", "tiny"]
        command = [tool, "--tool", check, "--error-exitcode", "99", "--log-file", str(out / "log.txt"), *inner]  # fmt: skip
        running[check] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    for check, process in running.items():
        code = process.wait()
        lines = (setting.out / "sanitizer" / check / "log.txt").read_text().strip().splitlines()
        if code:
            found.fail(check, f"code {code}: {' '.join(lines[-1:])} (sanitizer/{check}/log.txt)")
        else:
            found.note(check, " ".join(lines[-1:]))
