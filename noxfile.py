"""Every check of this project: ``nox -l`` lists them, ``nox`` runs the default ones.

A session runs on the Python that runs nox; ``nox -P 3.13 -s tests`` chooses another. What follows ``--`` goes
to pytest: ``nox -s tests -- --backend strict -k softmax``.

Environments are made by virtualenv and filled by pip even where uv is installed: pip is the one that knows
the mirrors, certificates and constraints that a machine is configured with. ``nox -db uv`` is faster
where there are none.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.4.10"
nox.options.default_venv_backend = "virtualenv"

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
TORCH = "torch==2.13.0"
FULL = ".[half,plot,progress,strict]"  # what the suite can make use of, without a GPU and PyTorch
FAST = ".[fast,half,plot,progress,strict]"  # and with compiled kernels under NumPy
CUDA_13 = 13000  # as a driver says its version
SANITIZED = [
    f"tests/test_cuda_{name}.py"
    for name in ("attention", "elements", "products", "rows", "updates")
]
EMULATORS = (ROOT.parent / "shared" / "cuda-emulator", ROOT / "shared" / "cuda-emulator")


# ---------------------------------------------------------------- what `nox` runs
@nox.session
def tests(session: nox.Session) -> None:
    """Run the suite on NumPy with its kernels and on array-api-strict, and every example in a docstring."""
    session.install("-e", FAST, *group("test"))
    pytest(session, "--backend=numpy", "--backend=strict")
    if not session.posargs:
        session.run("pytest", "--doctest-modules", "tinyxp", env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting and style."""
    session.install(*group("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", *(session.posargs or ["."]))


# ---------------------------------------------------------------- the main job
@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Train a GPT on Python's own documentation and let it write some: the whole path, in a minute or two."""
    session.install(".[plot,progress]")
    session.run("tinyxp", "train", "--preset=demo", *session.posargs)
    run = max(ROOT.glob("runs/demo*"), key=os.path.getmtime)
    program = Path(session.bin) / "tinyxp"
    session.log(f"the loss as a picture: {run / 'loss.png'}")
    session.log(f"the loss as a table:   {run / 'metrics.csv'}")
    session.log(f'more text:             {program} generate {run} --prompt "A list "')


# ---------------------------------------------------------------- `nox -t ci`: beyond the default ones
@nox.session(default=False, tags=["ci"])
def torch(session: nox.Session) -> None:
    """Run the suite on PyTorch tensors (CPU)."""
    if not torch_is_held(session):
        session.skip(f"{TORCH} is held on Python 3.11 only: nox -P 3.11 -s torch")
    session.install("-e", FULL, TORCH, *group("test"))
    pytest(session, "--backend=torch")


@nox.session(default=False, tags=["ci"])
def cupy(session: nox.Session) -> None:
    """Run the suite on CuPy over an emulated GPU, where the emulator lies beside the checkout."""
    if emulator() is None:
        session.skip(f"no emulator in {' or '.join(map(str, EMULATORS))}; on a GPU: nox -s gpu")
    session.install("-e", FULL, *group("test"))
    install_cupy(session)
    pytest(session, "--backend=cupy")


@nox.session(default=False, tags=["ci"])
def kernels(session: nox.Session) -> None:
    """Compile every CUDA kernel for three generations of GPUs, and hold the backend to CuPy's own wheel; no GPU."""
    try:
        session.install("-e", ".[cudnn,half]", *group("kernels"))
    except CommandFailed:
        session.skip("CuPy's wheel or NVIDIA's compiler cannot be had for this Python and system")
    about = ("wheel", "cudnn", "attention")
    pytest(session, *(f"tests/test_cuda_{name}.py" for name in about))


@nox.session(default=False, tags=["ci"])
def wheel(session: nox.Session) -> None:
    """Build the sdist, from it the wheel, and run the sdist's tests against the installed wheel."""
    session.install("build", *group("test"))
    work = Path(session.create_tmp())
    shutil.rmtree(work / "dist", ignore_errors=True)
    session.run("python", "-m", "build", f"--outdir={work / 'dist'}")
    (sdist,), (built,) = (work / "dist").glob("*.tar.gz"), (work / "dist").glob("*.whl")
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(f"{built}{FULL.removeprefix('.')}")
    shutil.unpack_archive(sdist, work / "dist")
    tree = work / "dist" / sdist.name.removesuffix(".tar.gz")
    for package in (tree / "tinyxp", *tree.glob("backends/tinyxp_*")):
        shutil.rmtree(package)
    session.chdir(tree)
    about_the_tree = ["--ignore=tests/test_house_rules.py", "--ignore=tests/test_packaging.py"]
    pytest(session, "--backend=numpy", *about_the_tree)


@nox.session(default=False, tags=["ci"])
def typing(session: nox.Session) -> None:
    """Check the types of the code, strictly."""
    session.install("-e", ".", *group("typing"))
    session.run("mypy", *session.posargs)


@nox.session(default=False, tags=["ci"])
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html, warnings as errors."""
    session.install("-e", ".", *group("docs"))
    session.run(
        "sphinx-build", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html"
    )


@nox.session(default=False, tags=["ci"])
def minimums(session: nox.Session) -> None:
    """Run the suite on the oldest releases that pyproject.toml allows, SciPy's and the tools' apart."""
    if sys.version_info >= (3, 14) and session.python is None:
        session.skip("the oldest NumPy has no wheel for Python 3.14: nox -P 3.13 -s minimums")
    extras = PYPROJECT["project"]["optional-dependencies"]
    used = FULL.strip(".[]").split(",")
    oldest = [*PYPROJECT["project"]["dependencies"], *(r for name in used for r in extras[name])]
    pins = [r.replace(">=", "==") for r in oldest]
    session.install("-e", FULL, *pins, *group("test"))
    pytest(session, "--backend=numpy")


# ---------------------------------------------------------------- by name only
@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """Run the suite on a real NVIDIA GPU, then the kernels' tests under compute-sanitizer where there is one."""
    session.install("-e", ".[half]", *group("test"))
    program = "from tinyxp_cupy import _probe; print(_probe.driver_version())"
    version = int(str(session.run("python", "-c", program, silent=True)).split()[-1])
    cuda = "cuda12" if 0 < version < CUDA_13 else "cuda13"
    session.install("-e", f".[half,{cuda},cudnn]", f"nvidia-cudnn-{cuda.replace('da', '')}")
    pytest(session, "--backend=cupy")
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    sanitizer = shutil.which("compute-sanitizer") or str(toolkit / "bin" / "compute-sanitizer")
    if session.posargs or not Path(sanitizer).is_file():
        return
    python = str(Path(session.bin) / "python")
    for tool in ("memcheck", "racecheck"):
        checked = (sanitizer, f"--tool={tool}", "--error-exitcode=9", python, "-m", "pytest")
        session.run(*checked, "--backend=cupy", *SANITIZED, external=True, env=ONE_THREAD)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Run the suite on NumPy and array-api-strict, and hold the line on coverage."""
    session.install("-e", FAST, *group("coverage"))
    pytest(session, "--backend=numpy", "--backend=strict", "--cov", "--cov-fail-under=90")


@nox.session(default=False)
def array_api(session: nox.Session) -> None:
    """Run the official suite of the Array API standard over tinyxp; ``nox -s array_api -- numpy --record``."""
    there = {"torch": torch_is_held(session), "cupy": emulator() is not None}
    options = session.posargs or ["numpy", "strict", *(name for name in there if there[name])]
    session.install("-e", FULL, *group("suite"))
    if "torch" in options:
        session.install(TORCH)
    if "cupy" in options:
        install_cupy(session)
    session.run("python", "conformance/array_api.py", *options, env=ONE_THREAD)
    session.run("pytest", "conformance/test_exceptions.py", "-k", "not scipy", env=ONE_THREAD)


@nox.session(default=False, python=None if sys.version_info >= (3, 12) else "3.13")
def scipy(session: nox.Session) -> None:
    """Run SciPy's own tests, and a survey of gradients through it, with Tensors as the array type."""
    session.install("-e", FULL, *group("consumers"))
    session.run("python", "conformance/scipy_tests.py", *session.posargs, env=ONE_THREAD)
    if not session.posargs:
        session.run("python", "conformance/consumers.py", env=ONE_THREAD)
        session.run("pytest", "conformance", env=ONE_THREAD)


@nox.session(default=False)
def references(session: nox.Session) -> None:
    """Compare derivatives with HIPS autograd's, JAX's and PyTorch's: all of the first, edges, random programs."""
    session.install("-e", FULL, *group("references"))
    if torch_is_held(session):
        session.install(TORCH)
    session.run("python", "conformance/hips.py", env=ONE_THREAD)
    session.run("pytest", "conformance/test_hips.py", "tests/test_edges.py", env=ONE_THREAD)
    session.run("python", "conformance/random_programs.py", *session.posargs, env=ONE_THREAD)


# ---------------------------------------------------------------- helpers
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def torch_is_held(session: nox.Session) -> bool:
    """Whether the Python of a session is the one that PyTorch is tried with."""
    program = "import sys; print(sys.version_info[:2] == (3, 11))"
    return str(session.run("python", "-c", program, silent=True)).strip() == "True"


def emulator() -> Path | None:
    """Return the folder of the emulator of a GPU, where there is one."""
    return next((p for p in EMULATORS if (p / "setup.sh").is_file()), None)


def install_cupy(session: nox.Session) -> None:
    """Install CuPy: over the emulated GPU where there is an emulator, else for CUDA 13."""
    folder = emulator()
    if folder is None:
        session.install("-e", ".[cuda13]")
        return
    session.install("numpy<2.6")  # the newest that the emulator was tried with
    python = str(Path(session.bin) / "python")
    session.run("bash", str(folder / "setup.sh"), "--install", python, external=True)


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group, for any version of pip."""
    return nox.project.dependency_groups(PYPROJECT, name)


def pytest(session: nox.Session, *options: str) -> None:
    """Run pytest, one process a core; a ``--backend`` of the user's own replaces ours."""
    if any(a.startswith("--backend") for a in session.posargs):
        options = tuple(o for o in options if not o.startswith("--backend"))
    workers = f"--numprocesses={min(os.cpu_count() or 1, 4)}"
    session.run("pytest", workers, *options, *session.posargs, env=ONE_THREAD)


if __name__ == "__main__":
    nox.main()
