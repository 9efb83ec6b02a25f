"""Checks of the second tier: what the standard lacks equals tinyxp's definition in terms of the standard."""

from __future__ import annotations

import math
from typing import Any
from unittest import SkipTest

from tinyxp import _extras, _windows, dtypes
from tinyxp.errors import DTypeError
from tinyxp.testing._checks import SHAPES, TOLERANCE, Array, Checks
from tinyxp.testing._compare import expect, values
from tinyxp.testing._samples import Samples

__all__ = ["ExtrasChecks"]


class ExtrasChecks(Checks):
    """What the standard lacks."""

    def test_copies(self) -> None:
        """`copy` shares nothing with its argument."""
        for s in self.streams():
            x = s.real(3, 4)
            for y in (x, s.device.xp.permute_dims(x, (1, 0)), s.real(), s.real(0, 2)):
                z = s.device.xp.copy(y)
                self.same(z, y, "copy")
                expect(not self.backend.shares_memory(y, z), "copy shares memory with its argument")

    def test_adds_in_place(self) -> None:
        """`iadd` writes into its first argument, broadcasting the second, and returns the first."""
        for s in self.streams():
            for shape, other in (
                ((2, 3), (2, 3)),
                ((2, 3), (3,)),
                ((2, 3), ()),
                ((), ()),
                ((0, 3), (3,)),
            ):
                x, y = s.real(*shape), s.real(*other)
                want = x + y
                view = s.device.xp.reshape(x, shape)
                self.same(s.device.xp.iadd(x, y), want, f"iadd of shapes {shape} and {other}")
                self.same(x, want, f"iadd's first argument of shape {shape}")
                del view

    def _keys(self, s: Samples) -> list[Any]:
        def ints(*numbers: Any) -> Array:
            return s.array(list(numbers), "int64")

        mask = s.array([[True, False, True], [False, False, True]], "bool")
        every = slice(None)
        return [
            (), ..., 1, -1, (0, 2), every, slice(None, None, -1), slice(3, 0, -2), slice(1, 99), slice(5, 1),
            (None, ..., None), (every, None, 1), (..., 0), (1, ..., slice(None, None, -1)),
            ints(1, 0, 1), ints([0, 1], [1, 1]), (ints(-1, 0), 2), (ints(1, 1, 0), ints(0, -1, 0)),
            (ints(1), every, ints(0, 3)), (every, ints(2, 2)), (0, every, ints(1, 2)), (ints(0, 1), None, 1),
            (every, slice(None, None, -1), ints(0, 0, 3)), s.empty((0,), "int64"), (every, s.array(2, "int64")),
            mask, (mask, 1), (mask, ints(0, 1, 2)), (every, mask[0, ...]), (None, mask), True, False,
        ]  # fmt: skip

    def test_reads_by_numpys_rules(self) -> None:
        """`getitem` equals the default for slices, integer arrays, masks and their mixtures."""
        for s in self.streams():
            x = s.real(2, 3, 4)
            for key in self._keys(s):
                want = _extras.Defaults.getitem(self.backend, x, key)
                self.same(s.device.xp.getitem(x, key), want, f"x[{key}]")

    def test_writes_by_numpys_rules(self) -> None:
        """`setitem` equals the default; of two values for one element the last stays."""
        for s in self.streams():
            for key in self._keys(s):
                x = s.real(2, 3, 4)
                shape = tuple(_extras.Defaults.getitem(self.backend, x, key).shape)
                for value in (s.real(*shape), s.real(*shape[1:]), 7.0, s.ints(*shape)):
                    got, want = self.backend.copy(x), self.backend.copy(x)
                    s.device.xp.setitem(got, key, value)
                    _extras.Defaults.setitem(self.backend, want, key, value)
                    self.same(got, want, f"x[{key}] = …")

    def test_refuses_indices_out_of_bounds(self) -> None:
        """An integer out of bounds, too many indices and a mask of the wrong shape raise `IndexError`."""
        for s in self.streams():
            x = s.real(2, 3)
            for key in (2, (0, -4), (0, 0, 0), (..., ...), s.array([True] * 3, "bool")):
                try:
                    s.device.xp.getitem(x, key)
                except IndexError:
                    continue
                raise AssertionError(f"x[{key}] of shape (2, 3) raises no IndexError")

    def test_erf(self) -> None:
        """`erf` equals Python's own within a few units of the last place, and refuses integers."""
        points = [
            0.0,
            -0.0,
            1e-30,
            1e-3,
            0.3,
            0.47,
            0.84,
            0.999,
            1.0,
            1.001,
            1.7,
            2.5,
            3.9,
            4.1,
            6.5,
            40.0,
        ]
        points += [-p for p in points]
        for s in self.streams():
            x = s.array([*points, math.inf, -math.inf])
            kept = values(self.backend, x).tolist()
            want = s.array([math.erf(v) for v in kept])
            step = 4 * dtypes.finfo(s.dtype).eps
            for got, wanted in zip(
                values(self.backend, s.device.xp.erf(x)).tolist(),
                values(self.backend, want).tolist(),
                strict=True,
            ):
                expect(
                    abs(got - wanted) <= step * abs(wanted), f"erf gives {got}, expected {wanted}"
                )
            expect(math.isnan(float(s.device.xp.erf(s.array(math.nan)))), "erf(nan) is not nan")
            for shape in SHAPES:
                y = s.real(*shape)
                default = _extras.Defaults.erf(self.backend, y)
                self.same(s.device.xp.erf(y), default, f"erf of shape {shape}", rtol=step)
            self._refuses_integers(s)

    def _refuses_integers(self, s: Samples) -> None:
        try:
            s.device.xp.erf(s.ints(3))
        except DTypeError:
            return
        raise AssertionError("erf of an integer array raises no DTypeError")

    def test_segment_sum(self) -> None:
        """`segment_sum` equals the default in every shape, axis and dtype, and twice itself to the bit."""
        for s in self.streams():
            for size, n, rest in (
                (4, 7, (3,)),
                (3, 0, (2,)),
                (5, 1, ()),
                (1, 9, ()),
                (2, 300, (17,)),
                (4, 3, (0,)),
                (6, 4, (2, 3)),
            ):
                values_, indices = s.real(n, *rest), s.ints(n, low=-size, high=size)
                self._sums(s, values_, indices, size, 0)
            moved = s.device.xp.permute_dims(s.real(5, 3, 2), (1, 0, 2))
            self._sums(s, moved, s.ints(5, high=4), 4, 1)
            self._sums(s, s.real(3, 5), s.ints(5, high=2, dtype="int32"), 2, -1)
            self._sums(s, s.ints(6, 2), s.ints(6, high=3), 3, 0)
            self._sums(s, s.complexes(6, 2), s.ints(6, high=3), 3, 0)
            special = s.array([[math.inf, math.nan], [1.0, 2.0], [-math.inf, 3.0]])
            self._sums(s, special, s.array([0, 1, 2], "int64"), 3, 0)

    def _sums(self, s: Samples, x: Array, indices: Array, size: int, axis: int) -> None:
        what = f"segment_sum of {tuple(x.shape)} {dtypes.of(x.dtype)} into {size} along {axis}"
        want = _extras.Defaults.segment_sum(self.backend, x, indices, size, axis=axis)
        got = s.device.xp.segment_sum(x, indices, size, axis=axis)
        self.same(got, want, what, rtol=TOLERANCE[s.dtype.name])
        self.same(s.device.xp.segment_sum(x, indices, size, axis=axis), got, f"a second {what}")

    def test_block_cipher(self) -> None:
        """`threefry2x32` gives the published vectors, in int64, for any shape."""
        for device in self.devices():
            s = Samples(device)
            for key, counter, want in _extras.THREEFRY_VECTORS:
                got = device.xp.threefry2x32(*key, *(s.array([c], "int64") for c in counter))
                self.same(
                    got,
                    tuple(s.array([w], "int64") for w in want),
                    f"Threefry of {counter} under {key}",
                )
            for shape in SHAPES:
                words = [s.ints(*shape, high=2**32) for _ in range(2)]
                default = _extras.Defaults.threefry2x32(self.backend, 5, 2**32 - 1, *words)
                self.same(
                    device.xp.threefry2x32(5, 2**32 - 1, *words),
                    default,
                    f"Threefry of shape {shape}",
                )

    def test_half_precision_is_summed_in_float32(self) -> None:
        """`erf` and `segment_sum` of half-precision arrays are those of float32, rounded once."""
        for name in {"float16", "bfloat16"} & set(self.backend.native_dtypes):
            for device in self.devices():
                s, xp = Samples(device, name), device.xp
                x, where = s.real(2000, 2, low=0.0), s.ints(2000, high=3)
                step = dtypes.finfo(s.dtype).eps
                wide, native = xp.astype(x, xp.float32), self.backend.native_dtype(s.dtype)
                self.same(xp.erf(x), xp.astype(xp.erf(wide), native), f"erf in {name}", rtol=step)
                want = xp.astype(xp.segment_sum(wide, where, 3), native)
                self.same(xp.segment_sum(x, where, 3), want, f"segment_sum in {name}", rtol=step)

    def test_windows(self) -> None:
        """`unfold` and `fold` equal the defaults for every stride and dilation, also where none fits."""
        for s in self.streams():
            for lead, lengths, sizes, stride, dilation in (
                ((2,), (7,), (3,), (2,), (1,)),
                ((2, 3), (5, 6), (2, 3), (1, 2), (2, 1)),
                ((), (4, 4), (5, 1), (1, 1), (1, 1)),
                ((0,), (4,), (2,), (1,), (1,)),
            ):
                options = {"stride": stride, "dilation": dilation}
                x = s.real(*lead, *lengths)
                got = s.device.xp.unfold(x, sizes, **options)
                want = _windows.Defaults.unfold(self.backend, x, sizes, **options)
                self.same(got, want, f"unfold of {lengths} by {sizes}")
                back = s.device.xp.fold(want, lengths, sizes, **options)
                sums = _windows.Defaults.fold(self.backend, want, lengths, sizes, **options)
                self.same(back, sums, f"fold to {lengths} by {sizes}", TOLERANCE[s.dtype.name])

    def test_special_functions(self) -> None:
        """`special` gives functions of the library or the host: log-gamma equals Python's own."""
        try:
            self.backend.special("gammaln")
        except (AttributeError, ModuleNotFoundError) as exc:
            raise SkipTest(str(exc)) from None
        for s in self.streams():
            x = s.real(2, 3, low=0.5, high=5.0)
            kept = values(self.backend, x).tolist()
            want = s.array([[math.lgamma(v) for v in row] for row in kept])
            got = s.device.xp.special.gammaln(x)
            self.same(got, want, "gammaln", TOLERANCE[s.dtype.name])
