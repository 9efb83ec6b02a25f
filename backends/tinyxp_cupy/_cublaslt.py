"""cuBLASLt by ctypes: where the library is, what it calls things, and descriptors of products.

The numbers are those of ``cublasLt.h``, ``cublas_api.h`` and ``library_types.h`` of CUDA 12 and 13. The
library thinks in columns; what is described here does too. `tinyxp_cupy._lt` turns rows into columns.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib import import_module
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy

from tinyxp.errors import DeviceUnavailableError, TinyxpError
from tinyxp_cupy import _room

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALIGNMENT", "EPILOGUES", "NOT_SUPPORTED", "TYPES", "Matrix", "Plan", "check", "library"]

TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType
EPILOGUES = {  # cublasLtEpilogue_t
    "none": 1,
    "bias": 4,
    "gelu_aux": 160,
    "gelu_aux_bias": 164,
    "dgelu": 192,
    "dgelu_bgrad": 208,
    "bgrada": 256,
    "bgradb": 512,
}
COMPUTE_32F, COMPUTE_FAST_TF32, COMPUTE_64F = 68, 77, 70  # cublasComputeType_t
# cublasLtMatmulDescAttributes_t
TRANSPOSE_A, TRANSPOSE_B, EPILOGUE, BIAS, AUX, AUX_STRIDE, BIAS_TYPE = 3, 4, 7, 8, 11, 12, 26
BATCH, BATCH_STRIDE = 5, 6  # cublasLtMatrixLayoutAttribute_t
WORKSPACE, REDUCTIONS, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # cublasLtMatmulPreferenceAttributes_t
IN_COMPUTE_TYPE = 2  # cublasLtReductionScheme_t: partial sums are never rounded to half precision
ALIGNMENT = 256  # bytes that the library takes for granted
ALLOC_FAILED, OUT_OF_MEMORY = 3, 2  # cublasStatus_t, cudaError_t
STATUS = {  # cublasStatus_t
    1: "NOT_INITIALIZED",
    3: "ALLOC_FAILED",
    7: "INVALID_VALUE",
    8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR",
    13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR",
    15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}
NOT_SUPPORTED = 15
OF_THREAD = 2  # cudaStreamPerThread: one name for many streams
HANDLE = ctypes.c_void_p  # what the library gives, and any pointer
DEFINITIONS = {  # what takes which arguments; all return a cublasStatus_t
    "cublasLtCreate": (HANDLE,),
    "cublasLtMatmulDescCreate": (HANDLE, ctypes.c_int, ctypes.c_int),
    "cublasLtMatmulDescDestroy": (HANDLE,),
    "cublasLtMatmulDescSetAttribute": (HANDLE, ctypes.c_int, HANDLE, ctypes.c_size_t),
    "cublasLtMatrixLayoutCreate": (HANDLE, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
    "cublasLtMatrixLayoutDestroy": (HANDLE,),
    "cublasLtMatrixLayoutSetAttribute": (HANDLE, ctypes.c_int, HANDLE, ctypes.c_size_t),
    "cublasLtMatmulPreferenceCreate": (HANDLE,),
    "cublasLtMatmulPreferenceDestroy": (HANDLE,),
    "cublasLtMatmulPreferenceSetAttribute": (HANDLE, ctypes.c_int, HANDLE, ctypes.c_size_t),
    "cublasLtMatmulAlgoGetHeuristic": (*(HANDLE,) * 7, ctypes.c_int, HANDLE, HANDLE),
    "cublasLtMatmul": (*(HANDLE,) * 14, ctypes.c_size_t, HANDLE),
}  # fmt: skip


class Heuristic(ctypes.Structure):
    """``cublasLtMatmulHeuristicResult_t``: an algorithm, which begins it, and what it needs."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Matrix(NamedTuple):
    """One operand as the library describes it: by columns."""

    type: int
    rows: int
    columns: int
    stride: int  # elements from one column to the next
    batch_stride: int


def check(status: int, function: str) -> None:
    """Raise if `status`, which `function` returned, is not success."""
    if status == ALLOC_FAILED:
        raise cupy.cuda.runtime.CUDARuntimeError(OUT_OF_MEMORY)  # told as all memory that ends
    if status:
        name = STATUS.get(status, "unknown")
        raise TinyxpError(
            f"{function} failed with status {status} (CUBLAS_STATUS_{name}); CUBLASLT_LOG_LEVEL=5 makes the"
            " library say why"
        )


@cache
def library() -> Any:
    """Return the library, with its functions declared."""
    failed = []
    for path in _places():
        try:
            found = ctypes.CDLL(path)
        except OSError as exc:
            failed.append(str(exc))
            continue
        for name, arguments in DEFINITIONS.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
        return found
    raise DeviceUnavailableError(
        "cuBLASLt, which comes with cuBLAS and CuPy needs too, does not load; type: pip install"
        f" nvidia-cublas (or nvidia-cublas-cu12), or install the CUDA toolkit ({'; '.join(failed)})"
    )


def _places() -> Iterator[str]:
    """Yield where the library may be: CuPy's own, which is loaded already, before all others."""
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    try:
        from cupy.cuda import cublas  # noqa: F401 - loads cuBLAS, and cuBLASLt of the same version with it

        yield import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublasLt").abs_path
    except (ImportError, RuntimeError):  # no pathfinder, or it has not found the library
        pass
    form = "cublasLt64_{}.dll" if sys.platform == "win32" else "libcublasLt.so.{}"
    yield from (form.format(v) for v in dict.fromkeys((major, 13, 12)))


@cache
def handle(device: int) -> int:
    """Return the library's handle for GPU number `device`, which is the current one."""
    found = HANDLE()
    check(library().cublasLtCreate(ctypes.byref(found)), f"cublasLtCreate on cuda:{device}")
    return found.value or 0


@cache
def workspace_size(device: int) -> int:
    """Return how many bytes an algorithm may use: what NVIDIA recommends for Hopper, or less before it."""
    return (32 if int(cupy.cuda.Device(device).compute_capability) >= 90 else 8) << 20  # noqa: PLR2004 - Hopper


@cache
def _workspace(device: int, stream: int, thread: int) -> Any:  # noqa: ARG001 - one for each
    return cupy.empty(workspace_size(device), "uint8")


def workspace(device: int, stream: int) -> Any:
    """Return memory that products on this stream use, one after the other."""
    return _workspace(device, stream, get_ident() if stream == OF_THREAD else 0)


class Plan:
    """The descriptors and the algorithm of one kind of product, ready to be run on any pointers.

    Parameters
    ----------
    device : int
        Number of the GPU, which is the current one.
    transposed : tuple of bool
        Whether to transpose the first and the second factor.
    factors : tuple of Matrix
        Both factors.
    out : Matrix
        The result; also the form of what is added to it.
    batch : int
        How many products at once.
    epilogue : str
        A key of `EPILOGUES`.
    bias_type : int or None
        Of the vector that the epilogue reads or writes.
    aux_stride : int
        Elements from one column of the epilogue's matrix to the next.
    tf32 : bool
        Whether factors in float32 may be rounded to TF32.
    alignments : tuple of int
        In bytes, of both factors, of what is added, of the result, and of the epilogue's vector and matrix.

    Attributes
    ----------
    found : bool
        Whether the library can do it. If not, the rest is of no use.
    """

    def __init__(  # noqa: PLR0917 - a record of what the library is told
        self,
        device: int,
        transposed: tuple[bool, bool],
        factors: tuple[Matrix, Matrix],
        out: Matrix,
        batch: int,
        epilogue: str,
        bias_type: int | None,
        aux_stride: int,
        tf32: bool,  # noqa: FBT001 - likewise
        alignments: tuple[int, ...],
    ) -> None:
        self.lib, self.device, self.lock, self.description = library(), device, Lock(), 0
        self.layouts: list[int] = []
        self.handle, self.size = handle(device), workspace_size(device)
        self.wide = factors[0].type == TYPES["float64"]
        self.pointers = {BIAS: ctypes.c_uint64(), AUX: ctypes.c_uint64()}
        compute = COMPUTE_64F if self.wide else COMPUTE_FAST_TF32 if tf32 else COMPUTE_32F
        self.description = self._made("cublasLtMatmulDescCreate", compute, int(self.wide))
        self._set(TRANSPOSE_A, ctypes.c_int32(transposed[0]))
        self._set(TRANSPOSE_B, ctypes.c_int32(transposed[1]))
        self._set(EPILOGUE, ctypes.c_uint32(EPILOGUES[epilogue]))
        if bias_type is not None:
            self.point(BIAS, alignments[4])  # an algorithm is chosen for a pointer like this
            self._set(BIAS_TYPE, ctypes.c_int32(bias_type))
        if aux_stride:
            self.point(AUX, alignments[5])
            self._set(AUX_STRIDE, ctypes.c_int64(aux_stride))
        for matrix in (*factors, out):
            self.layouts.append(self._layout(matrix, batch))
        self.heuristic = Heuristic()
        self.algorithm = ctypes.addressof(self.heuristic)
        self.found = self._choose(alignments)

    def _made(self, constructor: str, *args: int) -> int:
        made = HANDLE()
        check(getattr(self.lib, constructor)(ctypes.byref(made), *args), constructor)
        return made.value or 0

    def _set(self, attribute: int, value: Any) -> None:
        status = self.lib.cublasLtMatmulDescSetAttribute(
            self.description, attribute, ctypes.byref(value), ctypes.sizeof(value)
        )
        check(status, f"cublasLtMatmulDescSetAttribute({attribute})")

    def _layout(self, matrix: Matrix, batch: int) -> int:
        made = self._made("cublasLtMatrixLayoutCreate", *matrix[:4])
        if batch > 1:
            numbers = (BATCH, ctypes.c_int32(batch)), (BATCH_STRIDE, ctypes.c_int64(matrix[4]))
            for attribute, value in numbers:
                status = self.lib.cublasLtMatrixLayoutSetAttribute(
                    made, attribute, ctypes.byref(value), ctypes.sizeof(value)
                )
                check(status, f"cublasLtMatrixLayoutSetAttribute({attribute})")
        return made

    def _choose(self, alignments: tuple[int, ...]) -> bool:
        """Ask the library for its best algorithm."""
        preference, count = self._made("cublasLtMatmulPreferenceCreate"), ctypes.c_int()

        def prefer(attribute: int, value: Any) -> None:
            # A library that does not know a preference has no algorithms that it would tell apart.
            size = ctypes.sizeof(value)
            self.lib.cublasLtMatmulPreferenceSetAttribute(
                preference, attribute, ctypes.byref(value), size
            )

        prefer(WORKSPACE, ctypes.c_uint64(self.size))
        prefer(REDUCTIONS, ctypes.c_uint32(IN_COMPUTE_TYPE))
        for attribute, multiple in zip(ALIGNMENTS, alignments, strict=False):
            prefer(attribute, ctypes.c_uint32(multiple))
        a, b, out = self.layouts
        status = self.lib.cublasLtMatmulAlgoGetHeuristic(
            self.handle, self.description, a, b, out, out, preference, 1, self.algorithm, ctypes.byref(count),
        )  # fmt: skip
        self.lib.cublasLtMatmulPreferenceDestroy(preference)
        return status == 0 and count.value > 0 and self.heuristic.state == 0

    def point(self, attribute: int, pointer: int) -> None:
        """Tell the epilogue where its vector (`BIAS`) or its matrix (`AUX`) is."""
        value = self.pointers[attribute]
        if value.value != pointer:
            value.value = pointer
            self._set(attribute, value)

    def run(  # noqa: PLR0917 - as the library's own
        self,
        alpha: int,
        a: int,
        b: int,
        beta: int,
        c: int,
        out: int,
        bias: int,
        aux: int,
        stream: int,
    ) -> int:
        """Start the product and return the library's status; all arguments are addresses."""
        space = workspace(self.device, stream).data.ptr
        _room.keep(self.device)
        la, lb, lo = self.layouts
        if not (bias or aux):
            return self.lib.cublasLtMatmul(  # type: ignore[no-any-return]  # an int, as declared
                self.handle, self.description, alpha, a, la, b, lb, beta, c, lo, out, lo, self.algorithm, space, self.size, stream,
            )  # fmt: skip
        with self.lock:  # the pointers are part of the descriptor, which other threads use too
            if bias:
                self.point(BIAS, bias)
            if aux:
                self.point(AUX, aux)
            return self.lib.cublasLtMatmul(  # type: ignore[no-any-return]  # an int, as declared
                self.handle, self.description, alpha, a, la, b, lb, beta, c, lo, out, lo, self.algorithm, space, self.size, stream,
            )  # fmt: skip

    def __del__(self) -> None:
        for layout in self.layouts:
            self.lib.cublasLtMatrixLayoutDestroy(layout)
        if self.description:
            self.lib.cublasLtMatmulDescDestroy(self.description)
