"""Is everything right on this GPU, and how fast is it: one command, less than nine minutes.

    python benchmarks/gpu_check.py --out DIR [--text FILE] [--wheels DIR] [--only PART,...] [--seconds 530]

Needs this checkout and the machine's CuPy; nothing is installed. Where array-api-compat, ml-dtypes or
nvidia-cudnn-frontend are missing, put their wheels into a folder and name it with --wheels. PyTorch, pytest,
matplotlib and compute-sanitizer are used where they are there.

Every part runs in a process of its own under its own time limit, so that one failure leaves the rest. First
what says whether results are right, several parts at once: every function, gradient, kernel and precision against
float64 on the CPU, training curves, replayed graphs, the tests, the sanitizer. Then, one after the other, what
takes time: the ceilings of the GPU, GPT-2 124M and a character model in tinyxp and PyTorch.

DIR then holds report.md, results.json, a file for each part under parts/ and, with matplotlib, the plots.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from _gpu_report import Findings, plot, summary, table

CHECKOUT = Path(__file__).resolve().parents[1]
AT_ONCE = 6  # parts that only check, where there are as many cores
TEXT = "tinyshakespeare.txt"
TEXTS = (CHECKOUT / "data" / TEXT, CHECKOUT.parent / "shared" / "data" / TEXT, CHECKOUT / "shared" / "data" / TEXT)  # fmt: skip


class Part(NamedTuple):
    """A function of `_gpu_right` or `_gpu_speed`, and the seconds that it may take."""

    module: str
    function: str
    limit: int
    arguments: tuple[str, ...] = ()
    needs: str = "cupy"  # the module without which it is left out


RIGHT = {
    "functions": Part("_gpu_right", "functions", 150),
    "gradients": Part("_gpu_right", "gradients", 150),
    "kernels": Part("_gpu_right", "kernels", 120),
    "products": Part("_gpu_right", "products", 60),
    "curve": Part("_gpu_right", "curve", 90),
    "graphs": Part("_gpu_right", "graphs", 60),
    "tests": Part("_gpu_right", "tests", 150, needs="pytest"),
    "sanitizer": Part("_gpu_right", "sanitizer", 150),
}
SPEED = {
    "ceilings": Part("_gpu_speed", "ceilings", 40),
    "gpt2-tinyxp": Part("_gpu_speed", "step", 50, ("gpt2", "tinyxp")),
    "gpt2-tinyxp-graph": Part("_gpu_speed", "step", 50, ("gpt2", "tinyxp-graph")),
    "gpt2-tinyxp-half": Part("_gpu_speed", "step", 50, ("gpt2", "tinyxp-half")),
    "gpt2-torch": Part("_gpu_speed", "step", 60, ("gpt2", "torch"), "torch"),
    "gpt2-torch-compile": Part("_gpu_speed", "step", 110, ("gpt2", "torch-compile"), "torch"),
    "character-tinyxp": Part("_gpu_speed", "step", 30, ("character", "tinyxp")),
    "character-tinyxp-graph": Part("_gpu_speed", "step", 30, ("character", "tinyxp-graph")),
    "character-torch": Part("_gpu_speed", "step", 30, ("character", "torch"), "torch"),
    "generation": Part("_gpu_speed", "generation", 40),
    "character-training": Part("_gpu_speed", "training", 150),
}
PARTS = {**RIGHT, **SPEED}


def main(argv: list[str] | None = None) -> int:
    """Run the parts; return 1 if something is wrong, 0 if not."""
    args = _parser().parse_args(argv)
    out = Path(args.out).resolve()
    (out / "parts").mkdir(parents=True, exist_ok=True)
    if args.part:
        return _run_here(args.part, out, args)
    started = monotonic()
    environment = _environment(out, args.wheels)
    chosen = args.only.split(",") if args.only else list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        _parser().error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")

    def run(name: str) -> None:
        left = args.seconds - (monotonic() - started)
        _run_part(name, out, args, environment, left)
        print(f"[{monotonic() - started:4.0f} s] {summary(name, Findings.read(out, name))}", flush=True)  # fmt: skip

    with ThreadPoolExecutor(min(AT_ONCE, os.cpu_count() or 1)) as pool:
        list(pool.map(run, [name for name in RIGHT if name in chosen]))
    for name in SPEED:
        if name in chosen:
            run(name)
    return _conclude(out, chosen, monotonic() - started)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--only", help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=530, help="for everything, default 530")
    parser.add_argument("--size", choices=["full", "tiny"], default="full", help="tiny: does the script work?")  # fmt: skip
    parser.add_argument("--text", help=f"{TEXT}, default: where it lies beside the checkout")
    parser.add_argument("--wheels", help="folder of wheels that the machine lacks")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser


# ---------------------------------------------------------------- processes
def _environment(out: Path, wheels: str | None) -> dict[str, str]:
    """Return an environment in which the checkout is importable, with its entry points."""
    site = out / "site"
    for wheel in sorted(Path(wheels).glob("*.whl")) if wheels else ():
        shutil.unpack_archive(wheel, site, "zip")
    _describe(site)
    paths = [CHECKOUT, CHECKOUT / "backends", CHECKOUT / "benchmarks", site]
    inherited = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*map(str, paths), *([inherited] if inherited else [])])
    return os.environ | {"PYTHONPATH": joined, "PYTHONUNBUFFERED": "1", "CUPY_NVRTC_USE_PCH": "1"}


def _describe(site: Path) -> None:
    """Write what an installation would: the name and entry points of the checkout."""
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    folder = site / "tinyxp-0.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyxp\nVersion: 0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
             for group, points in project["entry-points"].items()]  # fmt: skip
    (folder / "entry_points.txt").write_text("\n".join(lines))


def _run_part(
    name: str, out: Path, args: argparse.Namespace, environment: dict[str, str], left: float
) -> None:
    """Run a part in a process; what it did not say, its end says."""
    found = Findings(out, name)
    part = PARTS[name]
    if importlib.util.find_spec(part.needs) is None:
        found.note("left out", f"{part.needs} is not installed")
        return
    limit = min(part.limit, left)
    if limit < 5:  # noqa: PLR2004 - seconds in which nothing would be done
        found.note("left out", "no time is left")
        return
    found.write()
    command = [sys.executable, __file__, "--part", name, "--out", str(out), "--size", args.size]
    command += ["--device", args.device, *(["--text", args.text] if args.text else [])]
    try:
        with (out / "parts" / f"{name}.log").open("w") as log:
            ended = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=limit, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        Findings.read(out, name).fail("time", f"stopped after {limit:.0f} s")
        return
    if ended.returncode:
        lines = (out / "parts" / f"{name}.log").read_text().strip().splitlines()
        Findings.read(out, name).fail("ended", f"code {ended.returncode}: {' '.join(lines[-1:])}")


def _run_here(name: str, out: Path, args: argparse.Namespace) -> int:
    """Be the process of a part."""
    part = PARTS[name]
    text = args.text or next((str(path) for path in TEXTS if path.exists()), None)
    setting = argparse.Namespace(device=args.device, tiny=args.size == "tiny", text=text, out=out)
    module: Any = __import__(part.module)
    getattr(module, part.function)(Findings(out, name), setting, *part.arguments)
    return 0


def _conclude(out: Path, chosen: list[str], seconds: float) -> int:
    found = {name: Findings.read(out, name) for name in PARTS if name in chosen}
    text = table(found, seconds)
    print(text)
    (out / "report.md").write_text(text + "\n")
    rows = {name: findings.rows for name, findings in found.items()}
    (out / "results.json").write_text(json.dumps({"seconds": seconds, "parts": rows}, indent=1) + "\n")  # fmt: skip
    plot(out, rows)
    return int(any(findings.wrong for findings in found.values()))


if __name__ == "__main__":
    sys.exit(main())
