"""A thousand random programs against PyTorch, a thousand with complex numbers, and a thousand against JAX.

``python conformance/random_programs.py`` runs them all: minutes with PyTorch, most of an hour with JAX, which compiles. The
programs, of 5 to 50 operations, are those of ``tests/test_random_programs.py``: values, gradients and second derivatives are
compared in float64. It prints how many were compared, and how many rejected because the other library's numbers are
not finite, or larger than a million.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests" / "test_random_programs.py"


def main() -> int:
    """Run the tests with that many examples, and print their counts; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("references", nargs="*", default=["pytorch", "jax"], metavar="pytorch|jax")
    parser.add_argument("--programs", type=int, default=1000, metavar="N")
    parser.add_argument("--backend", default="numpy", metavar="NAME")
    args = parser.parse_args()
    options = ["-q", "-rPs", "--no-showlocals", "-p", "no:cacheprovider"]
    options += ["--backend", args.backend, "-k", " or ".join(args.references)]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", str(TESTS), *options],
        env={**os.environ, "TINYXP_RANDOM_PROGRAMS": str(args.programs)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(run.stdout)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
