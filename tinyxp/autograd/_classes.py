"""The functions of the standard that have no line in the table of derivatives, and why.

A function of the standard is in exactly one place: in the table (`tinyxp.autograd._rules`), where those whose only rule
is `flat` have derivative zero everywhere; among the composites, which are made of differentiable functions; or here
among those without a derivative. A test holds every function to one of them.
"""

from __future__ import annotations

NO_DERIVATIVE = {
    "makes an array of no other's numbers": """empty empty_like eye ones ones_like zeros zeros_like fft.fftfreq fft.rfftfreq""",
    "takes memory from another library, whose graph it does not know": "from_dlpack",
    "tells of dtypes and shapes, not of numbers": "broadcast_shapes can_cast finfo iinfo isdtype result_type",
    "works on the bits of integers": """bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift
        bitwise_xor""",
    "gives truth values": """all any equal greater greater_equal isfinite isin isinf isnan less less_equal logical_and
        logical_not logical_or logical_xor not_equal signbit""",
    "gives places and counts, which are integers": """argmax argmin argsort count_nonzero nonzero searchsorted
        linalg.matrix_rank""",
}

COMPOSITE = """arange asarray broadcast_arrays diff expand_dims flip full full_like linspace matrix_transpose meshgrid
moveaxis squeeze tensordot tile unique_all unique_counts unique_inverse unique_values unstack vecdot
fft.fftn fft.fftshift fft.hfft fft.ifftn fft.ifftshift fft.ihfft fft.irfftn fft.rfftn
linalg.cross linalg.eigvals linalg.matrix_norm linalg.matrix_power linalg.outer linalg.trace""".split()


def reasons() -> dict[str, str]:
    """Return for every function without a derivative the reason.

    Examples
    --------
    >>> reasons()["argmax"]
    'gives places and counts, which are integers'
    """
    return {name: reason for reason, names in NO_DERIVATIVE.items() for name in names.split()}
