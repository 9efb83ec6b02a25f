"""Random programs of views and writes: values against NumPy, gradients against its complex-step derivatives."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyxp import no_grad

# ---------------------------------------------------------------- random programs
# A program is a list of lines of Python that run on `lib`, which is numpy or tinyxp (the names are the
# same), and on `xs`, the list of arrays so far: they append views to it or write into one of its arrays.
# NumPy gives scalars, which are no views, where the standard has 0-d arrays: hence the Ellipsis in keys.


def axis_of(draw, shape):
    return draw(st.integers(-len(shape), len(shape) - 1))


@st.composite
def slices(draw, length):
    bound = st.none() | st.integers(-length - 1, length + 1)
    return slice(draw(bound), draw(bound), draw(st.none() | st.integers(-3, 3).filter(bool)))


@st.composite
def basic_keys(draw, shape):
    key = [
        draw(st.integers(-n, n - 1) if n and draw(st.booleans()) else slices(n))
        for n in shape[: draw(st.integers(0, len(shape)))]
    ]
    if draw(st.booleans()):
        key.insert(draw(st.integers(0, len(key))), None)
    return (*key, ...)


@st.composite
def keys(draw, shape):
    """Basic keys, lists of integers that may repeat, and mixtures."""
    if not shape or shape[0] == 0 or draw(st.booleans()):
        return draw(basic_keys(shape))
    first = draw(st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=4))
    rest = shape[1 : 1 + draw(st.integers(0, len(shape) - 1))]
    return (first, *(draw(slices(n)) for n in rest))


def factored(draw, n):
    """Return a shape with n elements."""
    found = []
    for k in (2, 3):
        while n and n % k == 0 and draw(st.booleans()):
            found.append(k)
            n //= k
    found.insert(draw(st.integers(0, len(found))), n)
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), 1)
    return tuple(found)


def view(draw, a, i):
    """Return a line that appends a view of `a`, array number `i`."""
    kind = draw(
        st.sampled_from(
            "reshape permute slice flip expand squeeze unstack moveaxis broadcast".split()
        )
    )
    if kind == "reshape":
        made = f"lib.reshape(xs[{i}], {factored(draw, a.size)})"
    elif kind == "permute":
        made = f"lib.permute_dims(xs[{i}], {tuple(draw(st.permutations(range(a.ndim))))})"
    elif kind == "flip" and a.ndim:
        made = f"lib.flip(xs[{i}], axis={draw(st.none() | st.just(axis_of(draw, a.shape)))})"
    elif kind == "expand":
        made = f"lib.expand_dims(xs[{i}], axis={draw(st.integers(-a.ndim - 1, a.ndim))})"
    elif kind == "squeeze":
        made = f"lib.squeeze(xs[{i}], axis={tuple(k for k, n in enumerate(a.shape) if n == 1)})"
    elif kind == "unstack" and a.ndim and a.shape[0]:
        return (
            f"xs.extend(x[...] for x in lib.unstack(xs[{i}]))"
            if a.ndim > 1
            else f"xs.append(xs[{i}][0, ...])"
        )
    elif kind == "moveaxis" and a.ndim:
        made = f"lib.moveaxis(xs[{i}], {axis_of(draw, a.shape)}, {axis_of(draw, a.shape)})"
    elif kind == "broadcast":
        made = f"lib.broadcast_to(xs[{i}], {(2, *a.shape)})"
    else:
        made = f"xs[{i}][{draw(basic_keys(a.shape))}]"
    return f"xs.append({made})"


def fits(a, shape):
    try:
        np.broadcast_to(a, shape)
    except ValueError:
        return False
    return True


def write(draw, arrays, i):
    """Return a line that writes into array number `i`."""
    a = arrays[i]
    kind = draw(st.sampled_from("number array add multiply mask overlap".split()))
    number = draw(st.sampled_from([0.5, -1.25, 2.0]))
    j = draw(st.sampled_from([j for j, b in enumerate(arrays) if fits(b, a.shape)]))
    if kind == "array":
        key = draw(keys(a.shape))
        others = [j for j, b in enumerate(arrays) if fits(b, a[key].shape)]
        return (
            f"xs[{i}][{key}] = xs[{draw(st.sampled_from(others))}]"
            if others
            else f"xs[{i}][{key}] = {number}"
        )
    if kind == "add":
        return f"xs[{i}] += {number} * xs[{j}]"
    if kind == "multiply":
        return f"xs[{i}] *= xs[{j}]"
    if kind == "mask":
        return f"xs[{i}][lib.real(xs[{i}]) > 0.2] = {number}"
    if kind == "overlap" and a.ndim and a.shape[0] > 1:
        return f"xs[{i}][1:, ...] -= xs[{i}][:-1]"
    return f"xs[{i}][{draw(keys(a.shape))}] = {number}"


class Program:
    """A random program: its input, its lines, and what of its arrays enters the result, and when.

    With `modes` 1, arrays are also detached, and some lines are not recorded; with 2, arrays become leaves.
    What cannot take a recorded write, because no gradient leads back from it, is written without recording.
    """

    def __init__(self, draw, length, modes):
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        self.seed = draw(st.integers(0, 99))
        self.x = np.random.default_rng(self.seed).uniform(-1.5, 1.5, shape)
        self.lines, self.used = [], []
        arrays, detached = [self.x.copy()], {0: False}
        choices = ["view"] * 3 + ["write"] * 3 + ["new", "use"] + ["detach", "leaf"][:modes]
        for _ in range(draw(st.integers(1, length))):
            i = draw(st.integers(0, len(arrays) - 1))
            choice = draw(st.sampled_from(choices))
            quiet = modes and draw(st.booleans())
            if choice == "use":
                self.used.append((len(self.lines), i))
                continue
            if choice == "new":
                line = f"xs.append(new(xs[{i}] * xs[{i}] * 0.25 + xs[{i}]))"
            elif choice == "detach":
                line = f"xs.append(detached(xs[{i}]))"
            elif choice == "leaf":
                line = f"leaf(xs[{i}])"
            elif choice == "write" and arrays[i].flags.writeable:
                line = write(draw, arrays, i)
                quiet = quiet or detached[i]
            else:
                line = view(draw, arrays[i], i)
            line = f"with quiet(): {line}" if quiet else line
            self.lines.append(line)
            exec(line, run_names(np, arrays))
            for k in range(len(detached), len(arrays)):
                detached[k] = choice != "new" and (quiet or choice == "detach" or detached[i])
        self.used += [(len(self.lines), i) for i in range(len(arrays))]

    def __repr__(self):
        return "\n".join(
            ["", f"x of shape {self.x.shape}, seed {self.seed}", *self.lines, f"used: {self.used}"]
        )

    def run(self, lib, x, look=lambda _line, _arrays: None, *, copied=True):
        """Return the result, a number, and the arrays at the end; `look` at them after each line."""
        first = x * 1.0 if copied else x
        arrays, total = [np.array(first) if lib is np else first], 0.0
        names = run_names(lib, arrays)
        for n in range(len(self.lines) + 1):
            for i in [i for when, i in self.used if when == n]:
                total = (
                    total + lib.sum(arrays[i] * arrays[i] * (0.3 + 0.1 * i)) + lib.sum(arrays[i])
                )
            if n < len(self.lines):
                exec(self.lines[n], names)
                look(n, arrays)
        return total, arrays


def run_names(lib, arrays):
    """Return the names that a line uses. A new array of NumPy's is C-ordered: its reshapes are views, as ours."""
    own = {
        "new": lambda a: a,
        "detached": lambda a: a.detach(),
        "leaf": lambda a: a.requires_grad_(),
        "quiet": no_grad,
    }
    numpys = {
        "new": lambda a: np.array(a, order="C"),
        "detached": lambda a: a[...],
        "leaf": lambda a: a,
        "quiet": nullcontext,
    }
    return {"lib": lib, "xs": arrays} | (numpys if lib is np else own)


@st.composite
def programs(draw, length=10, *, modes=0):
    """Programs whose numbers stay of a size at which comparisons mean something."""
    program = Program(draw, length, modes)
    with np.errstate(over="ignore", invalid="ignore"):
        total, arrays = program.run(np, program.x)
    if abs(total) < 1e4 and all(np.all(np.abs(a) < 1e3) for a in arrays):
        return program
    return draw(programs(length, modes=modes))


def compare(xp, program, x, looks, *, copied=True):
    """Compare with NumPy at the end, and after the lines `looks`."""
    copies = {}
    _, expected = program.run(
        np, program.x, lambda n, arrays: copies.setdefault(n, [a.copy() for a in arrays])
    )

    def look(n, arrays):
        if n in looks:
            for a, b in zip(arrays, copies[n], strict=True):
                np.testing.assert_array_equal(a.detach().numpy(), b)

    _, found = program.run(xp, x, look, copied=copied)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a.detach().numpy(), b)


LOOKS = st.sets(st.integers(0, 9))


@settings(max_examples=100)
@given(program=programs(), looks=LOOKS)
def test_values_in_plain_mode(xp, program, looks):
    """Every array has NumPy's values, whether it was looked at between the writes or not."""
    compare(xp, program, xp.asarray(program.x), looks)


@settings(max_examples=100)
@given(program=programs(), looks=LOOKS)
def test_values_in_recording_mode(xp, program, looks):
    """Recording changes no value."""
    compare(xp, program, xp.Tensor(program.x, requires_grad=True), looks)


@settings(max_examples=100)
@given(program=programs(modes=1), looks=LOOKS)
def test_values_of_detached_arrays_and_without_recording(xp, program, looks):
    """Detached arrays share memory with what they come from, through any number of views and copies."""
    compare(xp, program, xp.Tensor(program.x, requires_grad=True), looks)


@settings(max_examples=100)
@given(program=programs(modes=2), looks=LOOKS)
def test_values_of_parameters_that_are_written(xp, program, looks):
    """The same where the first array is a leaf, which only lines that are not recorded may write."""
    with no_grad():
        compare(xp, program, xp.Tensor(program.x, requires_grad=True), looks, copied=False)


@settings(max_examples=100)
@given(program=programs(), taped=st.booleans(), seed=st.integers(0, 9))
def test_gradients(xp, program, taped, seed):
    """The derivative in a direction is that of NumPy's program at a complex step, which is exact."""
    v = np.random.default_rng(seed).normal(size=program.x.shape)
    expected = np.imag(program.run(np, program.x + 1e-150j * v)[0]) / 1e-150
    x = xp.Tensor(program.x, requires_grad=True)
    total, _ = program.run(xp, x)
    total.backward(create_graph=taped)
    np.testing.assert_allclose(np.sum(x.grad.detach().numpy() * v), expected, rtol=1e-9, atol=1e-9)
