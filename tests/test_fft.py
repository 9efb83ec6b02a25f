"""Fourier transforms: values, and derivatives of every form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyxp import _standard, ops
from tinyxp.autograd import _record
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.testing import GradientError, gradcheck

NORMS = ("backward", "ortho", "forward")
ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
SEVERAL_AXES = ("fftn", "ifftn", "rfftn", "irfftn")
TAKES_REAL = ("rfft", "ihfft", "rfftn")


def normal(*shape, seed=0, complex_=False):
    rng = np.random.default_rng([seed, *shape])
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if complex_ else x


def argument(name, *shape):
    return normal(*shape, complex_=name not in TAKES_REAL)


# ---------------------------------------------------------------- derivatives
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [None, 1, 2, 3, 6, 7])
@pytest.mark.parametrize("name", ONE_AXIS)
def test_derivatives_along_one_axis(xp, name, n, norm):
    """Even and odd lengths, cut off and padded, with every norm."""
    gradcheck(
        lambda x: getattr(xp.fft, name)(x, n=n, axis=1, norm=norm),
        xp.asarray(argument(name, 2, 4, 2)),
        order=2 if n is None else 1,
    )


SIZES = [
    {}, {"axes": (1,)}, {"axes": (-1, 0)}, {"s": (3, 6), "axes": (0, -1)}, {"s": (-1, 5), "axes": (2, 1)},
    {"s": (2, 3)},
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", SEVERAL_AXES)
def test_derivatives_along_several_axes(xp, name, sizes):
    gradcheck(
        lambda x: getattr(xp.fft, name)(x, norm="ortho", **sizes),
        xp.asarray(argument(name, 2, 4, 3)),
        order=2 if not sizes else 1,
    )


@pytest.mark.parametrize("name", ["fft", "ifft", "irfft", "hfft", "fftn", "irfftn"])
def test_real_numbers_are_made_complex(xp, name):
    """And the cotangent of a real argument is real."""
    x = xp.asarray(normal(3, 4))
    gradcheck(getattr(xp.fft, name), x, order=1)
    want = getattr(xp.fft, name)(x + 0j)
    np.testing.assert_array_equal(getattr(xp.fft, name)(x).numpy(), want.numpy())


@pytest.mark.parametrize("complex_", [False, True])
def test_shifts(xp, complex_):
    gradcheck(
        lambda x: (
            xp.fft.fftshift(x, axes=0) * xp.fft.ifftshift(x) * xp.fft.fftshift(x, axes=(1, 0))
        ),
        xp.asarray(normal(3, 4, complex_=complex_)),
    )


def test_every_line_of_the_chapter_is_tested():
    """An operation that is not among the above fails this test."""
    lines = {n.removeprefix("fft.") for n in _record.TABLE if n.startswith("fft.")}
    assert lines == {"fft", "ifft", "rfft", "irfft"}
    made_of_them = {*SEVERAL_AXES, "hfft", "ihfft", "fftshift", "ifftshift"}
    assert lines | made_of_them | {"fftfreq", "rfftfreq"} == set(_standard.FFT)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_a_small_error_in_a_rule_is_caught(xp, monkeypatch, name):
    """The check can fail: 0.1 % is seen."""
    line = _record.TABLE[f"fft.{name}"]
    rule = line.rules[0]
    wrong = lambda xp, g, out, x, **kwargs: 1.001 * rule(xp, g, out, x, **kwargs)  # noqa: E731 - a rule in passing
    monkeypatch.setattr(line, "rules", (wrong,))
    with pytest.raises(GradientError):
        gradcheck(getattr(xp.fft, name), xp.asarray(argument(name, 4)), order=1)


@pytest.mark.parametrize("name", [*ONE_AXIS, *SEVERAL_AXES])
def test_gradients_are_those_of_pytorch(xp, name):
    """Values and gradients of a random combination, complex ones by PyTorch's convention."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    array = argument(name, 3, 4)
    x = xp.Tensor(array, requires_grad=True)
    y = getattr(xp.fft, name)(x, norm="forward")
    weights = normal(*y.shape, seed=4, complex_=y.dtype.kind == "c")
    xp.real(xp.conj(xp.asarray(weights)) * y).sum().backward()

    t = torch.tensor(array, requires_grad=True)
    z = getattr(torch.fft, name)(t, norm="forward")
    torch.real(torch.conj(torch.tensor(weights)) * z).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), z.numpy(force=True), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(force=True), rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- values
@given(data=st.data(), norm=st.sampled_from(NORMS), name=st.sampled_from(ONE_AXIS))
def test_transforms_along_one_axis_are_those_of_numpy(xp, data, norm, name):
    """Any shape, axis and length."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] += 1
    n = data.draw(st.none() | st.integers(1, 9))
    array = argument(name, *shape)
    found = getattr(xp.fft, name)(xp.asarray(array), n=n, axis=axis, norm=norm)
    expected = getattr(np.fft, name)(array, n=n, axis=axis, norm=norm)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)


@given(data=st.data(), norm=st.sampled_from(NORMS), name=st.sampled_from(SEVERAL_AXES))
def test_transforms_along_several_axes_are_those_of_numpy(xp, data, norm, name):
    """Any shape, axes and lengths."""
    shape = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    axes = data.draw(
        st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1).map(tuple) | st.none()
    )
    s = None
    if axes is not None:
        s = data.draw(st.none() | st.tuples(*[st.sampled_from([1, 2, 5, -1]) for _ in axes]))
    array = argument(name, *shape)
    lengths = s
    if s is not None and s[-1] == -1 and name == "irfftn":
        lengths = (
            *s[:-1],
            2 * (shape[axes[-1]] - 1),
        )  # NumPy leaves M where the standard says 2 (M - 1)
    found = getattr(xp.fft, name)(xp.asarray(array), s=s, axes=axes, norm=norm)
    expected = getattr(np.fft, name)(array, s=lengths, axes=axes, norm=norm)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [*ONE_AXIS, *SEVERAL_AXES])
def test_single_precision_stays_single(xp, name):
    x = xp.astype(
        xp.asarray(argument(name, 3, 4)), "float32" if name in TAKES_REAL else "complex64"
    )
    x = x.detach().requires_grad_()
    y = getattr(xp.fft, name)(x)
    assert y.dtype == ("float32" if name in ("irfft", "hfft", "irfftn") else "complex64")
    xp.real(y).sum().backward()
    assert x.grad.dtype == x.dtype


@given(n=st.integers(1, 9), d=st.sampled_from([1.0, 0.1, 3.0]))
def test_frequencies(xp, n, d):
    for name in ("fftfreq", "rfftfreq"):
        found = getattr(xp.fft, name)(n, d=d, dtype="float64")
        np.testing.assert_allclose(found.numpy(), getattr(np.fft, name)(n, d=d), rtol=1e-15)
        assert getattr(xp.fft, name)(n).dtype == xp.get_default_dtype()


@given(shape=st.lists(st.integers(0, 5), max_size=3), data=st.data())
def test_shifted_elements_are_where_numpy_has_them(xp, shape, data):
    axes = data.draw(
        st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True) if shape else st.none()
    )
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    for name in ("fftshift", "ifftshift"):
        found = getattr(xp.fft, name)(xp.asarray(array), axes=axes)
        none = not shape or axes == []  # which NumPy cannot do
        expected = array if none else getattr(np.fft, name)(array, axes=axes)
        np.testing.assert_array_equal(found.numpy(), expected)


def test_recording_changes_no_number(xp):
    """Plain mode and recording mode give the same bits."""
    for name in (*ONE_AXIS, *SEVERAL_AXES):
        array = argument(name, 3, 4)
        plain = getattr(xp.fft, name)(xp.asarray(array))
        taped = getattr(xp.fft, name)(xp.Tensor(array, requires_grad=True))
        np.testing.assert_array_equal(plain.numpy(), taped.detach().numpy())


def test_the_extension_is_complete(xp):
    from tinyxp.fft import rfft

    assert sorted(xp.fft.__all__) == sorted(_standard.FFT)
    assert rfft is xp.fft.rfft is ops.fft.rfft


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda f, x: f.rfft(x + 0j),
            DTypeError,
            "fft.rfft expects a real floating Tensor; got.*complex",
        ),
        (
            lambda f, x: f.fft(x.to("int32")),
            DTypeError,
            "fft.fft expects a floating Tensor; got.*int32",
        ),
        (lambda f, x: f.fft(x, n=0), ShapeError, "fft.fft expects at least one element; got n=0"),
        (lambda f, x: f.irfft(x[:, :1]), ShapeError, r"fft.irfft expects at least one.*\(3, 1\)"),
        (
            lambda f, x: f.ifft(x, norm="unitary"),
            ValueError,
            "'backward', 'ortho' or 'forward'; got 'unit",
        ),
        (
            lambda f, x: f.hfft(x, norm="unitary"),
            ValueError,
            "expects norm 'backward', 'ortho' or 'forward'; got 'unit",
        ),
        (lambda f, x: f.fft(x, axis=2), IndexError, "fft.fft: axis 2 is out of range for 2 axes"),
        (
            lambda f, x: f.fftn(x, s=(2,), axes=(0, 1)),
            ShapeError,
            "one length in s for each of the axes",
        ),
        (lambda f, x: f.fftfreq(3, dtype="int64"), DTypeError, "real floating dtype; got int64"),
    ],
)
def test_errors(xp, call, error, message):
    """Fact, expected, got."""
    with pytest.raises(error, match=message):
        call(xp.fft, xp.asarray(normal(3, 4)))
