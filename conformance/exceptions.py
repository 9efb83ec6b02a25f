"""Tests of the official suite that fail because the library underneath cannot do otherwise.

Every entry shows the fault on the raw library, without tinyxp: `test_exceptions.py` fails as soon as the
fault no longer reproduces, so that the entry is taken out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class SuiteException(NamedTuple):
    """A test of the official suite that fails on a backend, why, and the proof."""

    backend: str
    test: str
    reason: str
    reproduces: Callable[[], bool]  # whether the raw library shows the fault
    needs: str = ""  # a module without which there is no fault


def cupy_exports_no_gpu_memory_uncopied() -> bool:
    """Ask CuPy for a view, in the memory of the CPU, of an array in the memory of the GPU."""
    import cupy

    try:
        cupy.zeros(1).__dlpack__(dl_device=(1, 0), copy=False)
    except (BufferError, ValueError):  # the standard asks for the first, CuPy 14 raises the second
        return True
    return False


def cupy_scans_no_complex_numbers(scan: str) -> bool:
    """Add or multiply complex numbers along an axis."""
    import cupy

    try:
        getattr(cupy, scan)(cupy.ones((2, 3), dtype=cupy.complex64), axis=1)
    except cupy.cuda.compiler.CompileException:
        return True
    return False


EXCEPTIONS = [
    SuiteException(
        "cupy",
        "test_dunder_dlpack",
        "asks for memory of the GPU on the CPU without a copy: the test knows of CPUs only",
        cupy_exports_no_gpu_memory_uncopied,
    ),
    *(
        SuiteException(
            "cupy",
            f"test_cumulative_{name}",
            "the emulator of a GPU does not compile CuPy's kernel for running sums and products of complex numbers",
            partial(cupy_scans_no_complex_numbers, f"cum{name}"),
            needs="cuda_emulator",
        )
        for name in ("sum", "prod")
    ),
]


class ScipyException(NamedTuple):
    """Tests of SciPy that fail with Tensors, and why; they are their own proof."""

    tests: tuple[str, ...]
    reason: str
    needs: str = ""  # a library without which the tests are skipped


SCIPY = [
    ScipyException(
        ("scipy._lib.tests.test__util.TestContainsNaN::test_array_api_lazy[tinyxp]",),
        "for lazy arrays alone: the test skips the eager libraries that it knows by name",
    ),
    ScipyException(
        ("scipy.ndimage.tests.test_filters.TestVectorizedFilter::test_input_validation[tinyxp]",),
        "compares the message of xp.asarray('a duck') with those of the libraries it knows",
    ),
    ScipyException(
        (
            "scipy.signal.tests.test_signaltools.TestFiltFilt::test_sine[tinyxp]",
            "scipy.signal.tests.test_signaltools.TestSOSFiltFilt::test_sine[tinyxp]",
        ),
        "the test hands a Tensor to numpy.abs, which __array_ufunc__ = None refuses",
    ),
    ScipyException(
        (
            *(
                f"scipy.cluster.hierarchy.tests.test_hierarchy.TestDendrogram::test_dendrogram_plot[tinyxp-{side}]"
                for side in ("top", "bottom", "left", "right")
            ),
            "scipy.cluster.hierarchy.tests.test_hierarchy.TestDendrogram::test_dendrogram_truncate_mode[tinyxp]",
        ),
        "Matplotlib hands the height of the tree, a Tensor, to numpy.isfinite, which __array_ufunc__ = None refuses",
        needs="matplotlib",
    ),
]
