"""The names of the Python Array API standard, version 2025.12: what a namespace must have."""

from __future__ import annotations

VERSION = "2025.12"

CREATION = """arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones
ones_like tril triu zeros zeros_like""".split()
DATA_TYPES = "astype can_cast finfo iinfo isdtype result_type".split()
ELEMENTWISE = """abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift
bitwise_invert bitwise_or bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal
exp expm1 floor floor_divide greater greater_equal hypot imag isfinite isinf isnan less less_equal log
log1p log2 log10 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply
negative nextafter not_equal positive pow real reciprocal remainder round sign signbit sin sinh square
sqrt subtract tan tanh trunc""".split()
INDEXING = "take take_along_axis".split()
LINEAR_ALGEBRA = "matmul matrix_transpose tensordot vecdot".split()
MANIPULATION = """broadcast_arrays broadcast_shapes broadcast_to concat expand_dims flip moveaxis
permute_dims repeat reshape roll squeeze stack tile unstack""".split()
SEARCHING = "argmax argmin count_nonzero nonzero searchsorted where".split()
SETS = "isin unique_all unique_counts unique_inverse unique_values".split()
SORTING = "argsort sort".split()
STATISTICAL = "cumulative_prod cumulative_sum max mean min prod std sum var".split()
UTILITY = "all any diff".split()
DTYPES = """bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64
complex128""".split()
CONSTANTS = "e inf nan newaxis pi".split()
LINALG = """cholesky cross det diagonal eig eigh eigvals eigvalsh inv matmul matrix_norm matrix_power
matrix_rank matrix_transpose outer pinv qr slogdet solve svd svdvals tensordot trace vecdot
vector_norm""".split()
FFT = """fft fftfreq fftn fftshift hfft ifft ifftn ifftshift ihfft irfft irfftn rfft rfftfreq
rfftn""".split()

FUNCTIONS = (
    CREATION
    + DATA_TYPES
    + ELEMENTWISE
    + INDEXING
    + LINEAR_ALGEBRA
    + MANIPULATION
    + SEARCHING
    + SETS
    + SORTING
    + STATISTICAL
    + UTILITY
)
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")
