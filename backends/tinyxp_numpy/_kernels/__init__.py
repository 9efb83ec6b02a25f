"""Kernels compiled by Numba: loops over rows, without the interpreter's lock."""
