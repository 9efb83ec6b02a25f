"""From starting Python to the end of the first training step, and the room that the libraries take on disk.

    python benchmarks/bench_cold.py [baby] [--repeats 5] [--json FILE]

Each start is a process of its own, in turn. "cached" finds the compiled kernels of an earlier process, "not
cached" compiles them into an empty folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from _gpt import CONTENDERS, SIZES, cores, environment
from _timing import machine, write

CACHES = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
CHILD = "import bench_cold as b; b.child({name!r}, {size!r}, {threads})"


class Start(NamedTuple):
    """Who starts, and whether it finds what an earlier start has compiled."""

    contender: str
    cached: bool
    most: int = 99  # repeats: what compiles for a minute is not started often


STARTS = {
    "tinyxp, cached": Start("tinyxp", cached=True),
    "tinyxp-plain": Start("tinyxp-plain", cached=True),
    "torch": Start("torch", cached=True),
    "jax": Start("jax", cached=True),
    "tinyxp, not cached": Start("tinyxp", cached=False, most=3),
    "torch-compile, not cached": Start("torch-compile", cached=False, most=2),
    "torch-compile, cached": Start("torch-compile", cached=True, most=2),
}
DISTRIBUTIONS = {  # without what the interpreter brings
    "tinyxp[fast]": ("tinyxp", "numpy", "array-api-compat", "numba", "llvmlite"),
    "tinyxp": ("tinyxp", "numpy", "array-api-compat"),
    "torch": (
        *("torch", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx"),
        *("setuptools", "sympy", "typing-extensions"),
    ),
    "torch alone": ("torch",),
}
PACKAGES = ("tinyxp", *(f"tinyxp_{name}" for name in ("numpy", "cupy", "strict", "torch")))


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("size", nargs="?", default="baby", choices=SIZES)
    parser.add_argument("--starts", nargs="*", default=list(STARTS), choices=[*STARTS, []])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args(argv)
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    seconds = measure(args.starts, args.size, args.threads, args.repeats)
    for name, took in seconds.items():
        print(
            f"{name:28}{statistics.median(took):8.2f} s to the end of the first step ({len(took)} starts)"
        )
    sizes = {name: sum(map(installed, parts)) for name, parts in DISTRIBUTIONS.items()}
    for name, size in sizes.items():
        print(f"{name:28}{size / 2**20:8.0f} MiB on disk")
    medians = {name: statistics.median(took) for name, took in seconds.items()}
    write(args.json, {"seconds": medians, "starts": seconds, "bytes_installed": sizes})


def measure(starts: list[str], size: str, threads: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds that each start took, in turn; the first of those cached is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    with tempfile.TemporaryDirectory() as kept:
        for name in starts:
            if STARTS[name].cached:
                start(STARTS[name].contender, size, threads, kept)
        for count in range(repeats):
            for name in [n for n in starts if count < STARTS[n].most]:
                contender, cached, _ = STARTS[name]
                with tempfile.TemporaryDirectory() as empty:
                    seconds[name].append(start(contender, size, threads, kept if cached else empty))
    return seconds


def start(contender: str, size: str, threads: int, cache: str) -> float:
    """Return the seconds from starting Python to the word that the first step is done."""
    folders = {name: str(Path(cache, name.lower())) for name in CACHES}
    code = CHILD.format(name=contender, size=size, threads=threads)
    begin = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ | environment(contender, threads) | folders,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        done = process.stdout.readline() if process.stdout else ""
        took = perf_counter() - begin
    if done != "done\n":
        raise SystemExit(f"{contender} did not finish its first step")
    return took


def child(contender: str, size: str, threads: int) -> None:
    """Import, build, take one step, and say so."""
    CONTENDERS[contender].build(SIZES[size], threads, same=False).step()
    print("done", flush=True)


def installed(name: str) -> int:
    """Return the bytes that the files of a distribution take, compiled Python left out."""
    if name == "tinyxp":  # also where it is installed to be edited, and its files lie elsewhere
        return sum(map(_package_bytes, PACKAGES))
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return 0
    paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _package_bytes(name: str) -> int:
    spec = importlib.util.find_spec(name)
    folder = Path(str(spec and spec.origin)).parent
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")


if __name__ == "__main__":
    main()
