"""What a backend must do: a suite of checks that the author of a backend subclasses.

::

    from tinyxp.testing import BackendConformance

    class TestMine(BackendConformance):
        backend_name = "mine"

Each check is a plain method without fixtures, so that pytest runs the class and `check_backend` runs it
without pytest. The first tier is checked for itself; the second and third are held to tinyxp's defaults in
terms of the standard, and the library's own functions to those of the host library.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from tinyxp import _extras, _fused, _standard, _updates, dtypes, repairs
from tinyxp.backend import HOST, Backend, Device, get_backend
from tinyxp.errors import DeviceUnavailableError, DTypeError
from tinyxp.testing import _calls, _fused_cases
from tinyxp.testing._compare import expect, expect_same, quiet, values
from tinyxp.testing._samples import Samples
from tinyxp.testing._special_cases import SPECIAL, same_number

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BackendConformance"]

Array = Any

REQUIRED_DTYPES = ("bool", "int64", "float32")
SHAPES = ((), (1,), (5,), (2, 3), (2, 1, 4), (0,), (3, 0))
# The largest difference from the reference, relative to the element and to the largest element.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


class BackendConformance:
    """The checks of a backend; a subclass names it.

    Attributes
    ----------
    backend_name : str
        Its name in the entry-point group ``tinyxp.backends``.
    """

    backend_name: ClassVar[str] = HOST

    # ------------------------------------------------------------ what the checks stand on
    @property
    def backend(self) -> Backend:
        """The backend under test."""
        return get_backend(self.backend_name)

    @property
    def host(self) -> Backend:
        """The backend that results are compared with."""
        return get_backend(HOST)

    def devices(self) -> Iterator[Device]:
        """Yield every device, each the current one while it is looked at."""
        for local in self.backend.devices():
            with self.backend.scope(local), quiet():
                yield self.backend.device(local)

    def reals(self) -> list[str]:
        """Return the names of the real dtypes to compute with."""
        return [n for n in TOLERANCE if n in self.backend.native_dtypes]

    def streams(self) -> Iterator[Samples]:
        """Yield samples on every device in every real dtype."""
        for device in self.devices():
            for real in self.reals():
                yield Samples(device, real)

    def same(self, got: Any, want: Any, what: str, rtol: float = 0.0) -> None:
        """Compare two results of the backend under test."""
        expect_same(self.backend, got, self.backend, want, rtol=rtol, what=what)

    # ------------------------------------------------------------ tier 1: the library
    def test_says_what_it_is(self) -> None:
        """It has the name it is registered under, describes itself, and allocates when probed."""
        backend = self.backend
        expect(
            isinstance(backend, Backend), f"{type(backend)} does not inherit from tinyxp's Backend"
        )
        expect(
            backend.name == self.backend_name,
            f"it is registered as {self.backend_name!r}, named {backend.name!r}",
        )
        facts = backend.describe()
        expect(
            all(isinstance(v, str) for v in [*facts, *facts.values()]), f"describe() gives {facts}"
        )
        backend.probe()

    def test_has_the_dtypes_it_must(self) -> None:
        """bool, int64 and float32 are there, and every native dtype object equals tinyxp's."""
        native = self.backend.native_dtypes
        missing = [n for n in REQUIRED_DTYPES if n not in native]
        expect(not missing, f"no dtype object for {', '.join(missing)}")
        for name, found in native.items():
            d = dtypes.dtype(name)
            expect(dtypes.dtype(found) is d, f"{found!r} is not registered as {name}")
            expect(d == found, f"tinyxp.{name} != {found!r}")
            x = self.backend.asarray(1, dtype=d, device=self.backend.device())
            expect(dtypes.of(x.dtype) is d, f"an array asked for in {name} has dtype {x.dtype!r}")

    def test_devices_are_themselves(self) -> None:
        """An array asked for on a device is there, and a device is found again by its string."""
        expect(len(self.backend.devices()) > 0, "devices() is empty")
        for device in self.devices():
            expect(self.backend.device(device.local) is device, f"{device} is not interned")
            expect(device == str(device), f"{device} does not equal its own string")
            x = Samples(device, "float32").real(2)
            found = self.backend.device_of(x)
            expect(found == device.local, f"an array asked for on {device.local!r} is on {found!r}")
            expect(
                isinstance(x, self.backend.array_type), f"{type(x)} is not the backend's array_type"
            )

    def test_refuses_a_device_that_is_not_there(self) -> None:
        """A device that does not exist raises `DeviceUnavailableError`, which names those that do."""
        try:
            self.backend.device("nowhere")
        except DeviceUnavailableError as exc:
            expect(self.backend.devices()[0] in str(exc), f"the message names no device: {exc}")
        else:
            raise AssertionError("device('nowhere') raises nothing")

    def test_has_every_function(self) -> None:
        """Every function, constant and extension of the standard is in the namespace."""
        xp = self.backend.xp
        lacks = [n for n in (*_standard.FUNCTIONS, *_standard.CONSTANTS) if not hasattr(xp, n)]
        for part, names in (("linalg", _standard.LINALG), ("fft", _standard.FFT)):
            lacks += [f"{part}.{n}" for n in names if not hasattr(getattr(xp, part), n)]
        expect(not lacks, f"the namespace lacks {', '.join(lacks)}")

    def test_creates_on_each_device(self) -> None:
        """Creation functions take ``device=`` and ``dtype=`` and obey both."""
        for device in self.devices():
            xp, place = device.xp, {"device": device.native}
            d = self.backend.native_dtype(dtypes.dtype("float32"))
            made = {
                "zeros": xp.zeros((2, 3), dtype=d, **place), "ones": xp.ones((2, 3), dtype=d, **place),
                "full": xp.full((2, 3), 0.5, dtype=d, **place), "empty": xp.empty((2, 3), dtype=d, **place),
                "arange": xp.arange(6, dtype=d, **place), "eye": xp.eye(2, 3, dtype=d, **place),
                "linspace": xp.linspace(0, 1, 6, dtype=d, **place), "asarray": xp.asarray(0.5, dtype=d, **place),
            }  # fmt: skip
            made |= {
                n: getattr(xp, n)(made["full"], **place)
                for n in ("zeros_like", "ones_like", "empty_like")
            }
            made["full_like"] = xp.full_like(made["full"], 2.0, **place)
            for name, x in made.items():
                expect(
                    self.backend.device_of(x) == device.local,
                    f"{name} ignores device={device.local!r}",
                )
                expect(dtypes.of(x.dtype) == "float32", f"{name} gives {x.dtype!r} for float32")

    # ------------------------------------------------------------ tier 1: in and out
    def test_buffers_round_trip(self) -> None:
        """Bytes come back as they went in, in every dtype and shape; strided arrays in C order."""
        for device in self.devices():
            for name in self.backend.native_dtypes:
                for shape in SHAPES:
                    self._round_trip(device, dtypes.dtype(name), shape)
            x = Samples(device, "float32").real(3, 4)
            turned = device.xp.permute_dims(x, (1, 0))
            want = self.host.to_buffer(values(self.backend, x).T)
            expect(
                bytes(self.backend.to_buffer(turned)) == bytes(want),
                "a transposed array is not in C order",
            )

    def _round_trip(self, device: Device, d: dtypes.DType, shape: tuple[int, ...]) -> None:
        size = math.prod(shape) * d.itemsize
        data = (
            bytes(i % 2 for i in range(size))
            if d.kind == "b"
            else bytes(i * 37 % 120 for i in range(size))
        )
        x = self.backend.from_buffer(memoryview(data), d, shape, device)
        what = f"{d} of shape {shape}"
        expect(tuple(x.shape) == shape and dtypes.of(x.dtype) is d, f"{what} came in as {x!r}")
        expect(self.backend.device_of(x) == device.local, f"{what} is not on {device.local!r}")
        out = self.backend.to_buffer(x)
        expect(type(out) is memoryview, f"{what}: to_buffer gives {out!r}, no memoryview")
        expect(out.nbytes == size, f"{what}: to_buffer gives {out.nbytes} bytes")
        expect(bytes(out) == data, f"{what} came back with other bytes")

    def test_leaves_read_only_buffers_alone(self) -> None:
        """An array over read-only bytes is read-only or a copy: a write never reaches the bytes."""
        for device in self.devices():
            data = bytes(16)
            x = self.backend.from_buffer(memoryview(data), dtypes.dtype("float32"), (4,), device)
            try:
                device.xp.setitem(x, (slice(None),), 1.0)
            except (ValueError, TypeError, RuntimeError):
                continue  # read-only: as good as a copy
            zeros = not any(data)
            expect(zeros, "a write into the array changed the bytes it was made from")

    def test_reaches_the_host(self) -> None:
        """`to_numpy` and `asarray` carry values to and from the host library."""
        for s in self.streams():
            x = s.real(2, 3)
            host = self.backend.to_numpy(x)
            expect(isinstance(host, self.host.array_type), f"to_numpy gives {type(host)}")
            back = self.backend.asarray(host, dtype=s.dtype, device=s.device, copy=True)
            self.same(back, x, "an array that went to the host and back")

    def test_asarray_copies_when_asked(self) -> None:
        """``asarray(copy=True)`` shares nothing; `shares_memory` sees a view, and only a view."""
        for s in self.streams():
            x = s.real(3, 4)
            other = self.backend.asarray(x, copy=True, device=s.device)
            expect(not self.backend.shares_memory(x, other), "asarray(copy=True) shares memory")
            expect(self.backend.shares_memory(x, x), "shares_memory denies an array itself")
            expect(
                not self.backend.shares_memory(x, s.real(3, 4)), "shares_memory confuses two arrays"
            )

    def test_keeps_house(self) -> None:
        """Synchronising, freeing caches and asking for figures of memory work on every device."""
        for device in self.devices():
            self.backend.synchronize(device.local)
            self.backend.empty_cache(device.local)
            figures = self.backend.memory(device.local)
            expect(all(isinstance(v, int) for v in figures.values()), f"memory() gives {figures}")
        x = self.backend.wrap(1.5)
        expect(tuple(x.shape) == (), f"wrap(1.5) has shape {tuple(x.shape)}")

    # ------------------------------------------------------------ the library's own functions
    def test_functions_agree_with_the_host(self) -> None:
        """Every function of the main namespace gives what the host library gives."""
        self._agree("", _calls.CALLS)

    def test_linear_algebra_agrees_with_the_host(self) -> None:
        """Every function of the extension ``linalg`` gives what the host library gives."""
        self._agree("linalg.", {n: [c] for n, c in _calls.LINALG.items()})

    def test_transforms_agree_with_the_host(self) -> None:
        """Every function of the extension ``fft`` gives what the host library gives."""
        self._agree("fft.", {n: [c] for n, c in _calls.FFT.items()})

    def _agree(self, prefix: str, calls: dict[str, list[Any]]) -> None:
        wrong = []
        here = self.host.device()
        for device in self.devices():
            real = self.reals()[0]
            for name, call in ((n, c) for n, group in calls.items() for c in group):
                want = call(here.xp, Samples(here, real))
                try:
                    got = call(device.xp, Samples(device, real))
                    expect_same(
                        self.backend, got, self.host, want, rtol=TOLERANCE[real], what=prefix + name
                    )
                except Exception as exc:  # noqa: BLE001 - whatever the library raises is the finding
                    wrong.append(f"{prefix}{name}: {type(exc).__name__}: {exc}")
        expect(not wrong, f"{len(wrong)} calls differ from the host's:\n" + "\n".join(wrong))

    def test_special_cases(self) -> None:
        """Infinities, NaN and signed zeros come out as the standard says."""
        wrong = []
        for device in self.devices():
            for name, args, want in SPECIAL:
                dtype = "complex64" if isinstance(want, complex) else "float32"
                arrays = [Samples(device).array(a, dtype) for a in args]
                got = values(self.backend, getattr(device.xp, name)(*arrays)).tolist()
                if not same_number(got, want):
                    wrong.append(f"{name}{args} = {got}, expected {want}")
        expect(not wrong, f"{len(wrong)} special cases differ:\n" + "\n".join(wrong))

    def test_names_repairs_that_exist(self) -> None:
        """`repairs` holds names that `tinyxp.repairs` has."""
        unknown = sorted(set(self.backend.repairs) - set(repairs.REPAIRS))
        expect(not unknown, f"tinyxp has no repair called {', '.join(unknown)}")

    # ------------------------------------------------------------ tier 2
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

    # ------------------------------------------------------------ tier 3
    def test_every_fused_operation_has_a_case(self) -> None:
        """No operation of the third tier goes unchecked."""
        known = {c.name for c in (*_fused_cases.FUSED, *_fused_cases.UPDATES)}
        missing = {*_fused.OPERATIONS, *_updates.NAMES} - known
        expect(not missing, f"no cases for {', '.join(sorted(missing))}")

    def test_fused_operations(self) -> None:
        """Every fused operation gives its definition's value, the default's cotangents, and writes nowhere."""
        for s in self.streams():
            for case in _fused_cases.FUSED:
                self._fused(s, case)

    def _fused(self, s: Samples, case: _fused_cases.Case) -> None:
        backend, xp, rtol = self.backend, s.device.xp, TOLERANCE[s.dtype.name]
        args = case.make(s)
        before = [backend.copy(a) if hasattr(a, "dtype") else a for a in args]
        out, aux = getattr(xp, case.name)(*args, **case.options)
        self.same(out, getattr(_fused, case.name)(xp, *args, **case.options), str(case), rtol)
        default = _fused.Defaults
        ref_out, ref_aux = getattr(default, case.name)(backend, *args, **case.options)
        g = s.real(*out.shape)
        held = [backend.copy(a) for a in (g, out, *aux)]
        for needs in _patterns([_fused_cases.is_real(a) for a in args]):
            options = {"needs": needs, **case.options}
            got = getattr(xp, f"{case.name}_vjp")(g, out, aux, *args, **options)
            want = getattr(default, f"{case.name}_vjp")(
                backend, g, ref_out, ref_aux, *args, **options
            )
            for i, need in enumerate(needs):
                what = f"cotangent {i} of {case}"
                expect((got[i] is not None) == need, f"{what} is {got[i]!r}, needs[{i}] = {need}")
                if need:
                    self.same(got[i], want[i], what, rtol)
        for after, kept in zip((*args, g, out, *aux), (*before, *held), strict=True):
            self.same(after, kept, f"what {case} was given, after it")

    def test_update_steps(self) -> None:
        """Every update step writes what the default writes, and nothing into the gradient."""
        for s in self.streams():
            for case in _fused_cases.UPDATES:
                ours, theirs = (
                    [_copied(self.backend, a) for a in args] for args in [case.make(s)] * 2
                )
                getattr(s.device.xp, case.name)(*ours, **case.options)
                getattr(_updates.Defaults, case.name)(self.backend, *theirs, **case.options)
                for i, (got, want) in enumerate(zip(ours, theirs, strict=True)):
                    self.same(got, want, f"argument {i} after {case}", TOLERANCE[s.dtype.name])


def _copied(backend: Backend, x: Any) -> Any:
    return backend.copy(x) if hasattr(x, "dtype") else x


def _patterns(real: list[bool]) -> list[tuple[bool, ...]]:
    """Return what a vjp may be asked for: everything that has a cotangent, and each alone."""
    each = [tuple(i == j for j in range(len(real))) for i, r in enumerate(real) if r]
    return [tuple(real), *(p for p in each if p != tuple(real))]
