"""Checks of the first tier: the library, its devices, its memory and its functions."""

from __future__ import annotations

import math
from typing import Any

from tinyxp import _standard, dtypes, repairs
from tinyxp.backend import Backend, Device
from tinyxp.errors import DeviceUnavailableError
from tinyxp.testing import _calls
from tinyxp.testing._checks import SHAPES, TOLERANCE, Checks
from tinyxp.testing._compare import expect, expect_same, values
from tinyxp.testing._samples import Samples
from tinyxp.testing._special_cases import SPECIAL, same_number

__all__ = ["LibraryChecks"]

REQUIRED_DTYPES = ("bool", "int64", "float32")


class LibraryChecks(Checks):
    """What only the library knows."""

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
            d = dtypes.of(host.dtype)
            expect(d is s.dtype, f"to_numpy gives {d} for {s.dtype}")
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
