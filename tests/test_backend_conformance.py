"""The selected backends pass the conformance suite, and each of its checks can fail."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

import tinyxp
from tinyxp import _extras
from tinyxp.testing import BackendConformance, check_backend
from tinyxp_numpy import NumpyBackend


class TestConformance(BackendConformance):
    @pytest.fixture(autouse=True)
    def _select(self, backend):
        self.backend_name = backend.name


# ---------------------------------------------------------------- backends with one fault each
class NoRepairs(NumpyBackend):
    repairs = frozenset()


class UnknownRepair(NumpyBackend):
    repairs = NumpyBackend.repairs | {"flux_capacitor"}


class OtherName(NumpyBackend):
    name = "other"


class LacksFunction(NumpyBackend):
    @property
    def library(self):
        found = super().library
        del found.unstack
        return found


class WrongSum(NumpyBackend):
    @property
    def library(self):
        found = super().library
        found.sum = lambda x, **_: np.asarray(np.sum(x))
        return found


class WrongTransform(NumpyBackend):
    @property
    def library(self):
        found = super().library
        found.fft = type("fft", (), {**vars(found.fft), "fft": staticmethod(np.fft.ifft)})
        return found


class WrongSolve(NumpyBackend):
    @property
    def library(self):
        found = super().library
        found.linalg = type(
            "linalg", (), {**vars(found.linalg), "inv": staticmethod(np.linalg.pinv)}
        )
        found.linalg.inv = staticmethod(lambda x: x)
        return found


class IgnoresDType(NumpyBackend):
    @property
    def library(self):
        found = super().library
        found.zeros = lambda shape, **_: np.zeros(shape)
        return found


class LacksDType(NumpyBackend):
    native_dtypes: ClassVar = {
        n: d for n, d in NumpyBackend().native_dtypes.items() if n != "float32"
    }


class AcceptsAnyDevice(NumpyBackend):
    def device(self, local=None):
        return super().device(local if local == "cpu" else None)


class Misplaced(NumpyBackend):
    def device_of(self, x):
        return "gpu"


class BigEndian(NumpyBackend):
    def from_buffer(self, buffer, dtype, shape, device):
        return super().from_buffer(buffer, dtype, shape, device).byteswap()


class FortranBytes(NumpyBackend):
    def to_buffer(self, x):
        return super().to_buffer(x.T)


class WritesThrough(NumpyBackend):
    def from_buffer(self, buffer, dtype, shape, device):
        x = super().from_buffer(buffer, dtype, shape, device)
        address = x.__array_interface__ | {"data": (x.ctypes.data, False)}
        holder = type("Holder", (), {"__array_interface__": address, "kept": x})()
        return np.asarray(holder)


class OtherHost(NumpyBackend):
    def to_numpy(self, x):
        return x.astype(np.float16) if x.dtype.kind == "f" else x


class SharesNothing(NumpyBackend):
    def shares_memory(self, x, y):
        return False


class WrapsNothing(NumpyBackend):
    def wrap(self, x):
        return np.asarray([x])


class CopiesNothing(NumpyBackend):
    def copy(self, x):
        return x


class AddsAside(NumpyBackend):
    def iadd(self, x, y):
        return x + y


class ReadsAxesInOrder(NumpyBackend):
    def getitem(self, x, key):
        found = np.asarray(x[key])
        return found.T if found.ndim == 2 else found


class WritesFirst(NumpyBackend):
    def setitem(self, x, key, value):
        x[key] = np.flip(value) if np.ndim(value) else value


class WrapsAround(NumpyBackend):
    def getitem(self, x, key):
        return (
            x[key] if isinstance(key, tuple) else x[key % len(x) if isinstance(key, int) else key]
        )


class TruncatedErf(NumpyBackend):
    def erf(self, x):
        return (_extras.Defaults.erf(self, x) * (1 + 1e-5)).astype(x.dtype)


class HalvesAdd(NumpyBackend):
    def segment_sum(self, values, indices, size, *, axis=0):
        out = np.zeros((size, *np.delete(values.shape, axis)), values.dtype)
        np.add.at(out, indices, np.moveaxis(values, axis, 0))
        return np.moveaxis(out, 0, axis)


class DropsDuplicates(NumpyBackend):
    def segment_sum(self, values, indices, size, *, axis=0):
        out = np.zeros((size, *np.delete(values.shape, axis)), values.dtype)
        out[indices] += np.moveaxis(values, axis, 0)
        return np.moveaxis(out, 0, axis)


class OtherKeys(NumpyBackend):
    def threefry2x32(self, key0, key1, counter0, counter1):
        return super().threefry2x32(key1, key0, counter0, counter1)


class OtherStride(NumpyBackend):
    def unfold(self, x, sizes, *, stride, dilation):
        return super().unfold(x, sizes, stride=dilation, dilation=stride)


class OtherGamma(NumpyBackend):
    def special(self, name):
        return super().special({"gammaln": "digamma"}.get(name, name))


class WrongForward(NumpyBackend):
    def softmax(self, x, *, axis):
        out, aux = super().softmax(x, axis=axis)
        return out * x.dtype.type(1.001), aux


class WrongCotangent(NumpyBackend):
    def silu_vjp(self, g, out, aux, x, *, needs):
        (found,) = super().silu_vjp(g, out, aux, x, needs=needs)
        return (None if found is None else found + g,)


class GivesTooMuch(NumpyBackend):
    def linear_vjp(self, g, out, aux, x, weight, bias, *, needs):  # noqa: PLR0917 - the signature of every vjp
        return super().linear_vjp(g, out, aux, x, weight, bias, needs=[True] * len(needs))


class WritesIntoInput(NumpyBackend):
    def gelu(self, x, *, approximate):
        out, aux = super().gelu(x, approximate=approximate)
        x *= 2
        return out, aux


class RoundsTheLoss(NumpyBackend):
    def cross_entropy(self, logits, targets, **options):
        out, aux = super().cross_entropy(logits, targets, **options)
        return out.astype(logits.dtype), aux


class ForgetsDecay(NumpyBackend):
    def adamw_step(self, *arrays, **options):
        super().adamw_step(*arrays, **options | {"weight_decay": 0.0})


FAULTS = {
    NoRepairs: "special_cases",
    UnknownRepair: "names_repairs_that_exist",
    OtherName: "says_what_it_is",
    LacksFunction: "has_every_function",
    WrongSum: "functions_agree_with_the_host",
    WrongTransform: "transforms_agree_with_the_host",
    WrongSolve: "linear_algebra_agrees_with_the_host",
    IgnoresDType: "creates_on_each_device",
    LacksDType: "has_the_dtypes_it_must",
    AcceptsAnyDevice: "refuses_a_device_that_is_not_there",
    Misplaced: "devices_are_themselves",
    BigEndian: "buffers_round_trip",
    FortranBytes: "buffers_round_trip",
    WritesThrough: "leaves_read_only_buffers_alone",
    OtherHost: "reaches_the_host",
    SharesNothing: "asarray_copies_when_asked",
    WrapsNothing: "keeps_house",
    CopiesNothing: "copies",
    AddsAside: "adds_in_place",
    ReadsAxesInOrder: "reads_by_numpys_rules",
    WritesFirst: "writes_by_numpys_rules",
    WrapsAround: "refuses_indices_out_of_bounds",
    TruncatedErf: "erf",
    DropsDuplicates: "segment_sum",
    HalvesAdd: "half_precision_is_summed_in_float32",
    OtherKeys: "block_cipher",
    OtherStride: "windows",
    OtherGamma: "special_functions",
    WrongForward: "fused_operations",
    WrongCotangent: "fused_operations",
    GivesTooMuch: "fused_operations",
    WritesIntoInput: "fused_operations",
    RoundsTheLoss: "fused_operations_in_half_precision",
    ForgetsDecay: "update_steps",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_is_found(fault):
    suite = type("Suite", (BackendConformance,), {"backend": fault()})()
    with pytest.raises(AssertionError):
        getattr(suite, f"test_{FAULTS[fault]}")()


def test_every_check_has_a_fault_that_it_finds():
    checks = {n.removeprefix("test_") for n in dir(BackendConformance) if n.startswith("test_")}
    assert checks - set(FAULTS.values()) == {"every_fused_operation_has_a_case"}


def test_a_new_fused_operation_needs_a_case(monkeypatch):
    monkeypatch.setattr(tinyxp._fused, "OPERATIONS", (*tinyxp._fused.OPERATIONS, "warp"))
    with pytest.raises(AssertionError, match="no cases for warp"):
        BackendConformance().test_every_fused_operation_has_a_case()


# ---------------------------------------------------------------- check_backend
def test_check_backend_gives_a_verdict_for_every_check(monkeypatch):
    monkeypatch.setattr(
        BackendConformance, "test_erf", lambda _: (_ for _ in ()).throw(OSError("no"))
    )
    verdicts = {check: (verdict, detail) for check, verdict, detail in check_backend("numpy")}
    assert verdicts.pop("erf") == ("failed", "OSError: no")
    assert {verdict for verdict, _ in verdicts.values()} <= {"passed", "skipped"}
    assert len(verdicts) == len([n for n in dir(BackendConformance) if n.startswith("test_")]) - 1


def test_check_backend_refuses_what_is_not_there():
    with pytest.raises(tinyxp.errors.UnknownBackendError, match="did you mean 'numpy'"):
        check_backend("nunpy")
