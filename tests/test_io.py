from __future__ import annotations

import json
import mmap
import stat
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyxp
from tinyxp.errors import CheckpointError, DTypeError
from tinyxp.io import load, load_metadata, save

CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "float16": "F16",
    "bfloat16": "BF16", "uint32": "U32", "int32": "I32", "float32": "F32", "complex64": "C64",
    "uint64": "U64", "int64": "I64", "float64": "F64",
}  # fmt: skip


def has(device, dtype):
    try:
        device.backend.native_dtype(tinyxp.dtype(dtype))
    except DTypeError:
        return False
    return True


def sample(dtype, shape=(2, 3), device="cpu"):
    n = int(np.prod(shape))
    numbers = tinyxp.asarray([(7 * i) % 11 for i in range(n)], dtype="int64", device=device)
    return tinyxp.reshape(tinyxp.astype(numbers, dtype), shape)


def contents(tensors):
    return {k: (x.dtype, x.shape, x.tolist()) for k, x in tensors.items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


def file(header, data=b""):
    """The bytes of a file with `header`, as it stands or as JSON, and `data`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# ---------------------------------------------------------------- there and back
@pytest.mark.parametrize("dtype", CODES)
def test_every_dtype_comes_back(device, dtype, path):
    if not has(device, dtype):
        assert dtype in ("float16", "bfloat16")
        with pytest.raises(DTypeError):
            sample(dtype, device=device)
        return
    x = sample(dtype, device=device)
    save({"x": x}, path)
    back = load(path, device)["x"]
    assert back.device is device
    assert contents({"x": back}) == contents({"x": x})


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda s: s != "__metadata__"),
        st.tuples(st.sampled_from(sorted(CODES)), st.lists(st.integers(0, 3), max_size=4)),
        max_size=6,
    ),
    st.none()
    | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
)
def test_names_shapes_and_metadata_come_back(tmp_path_factory, specs, metadata):
    path = tmp_path_factory.mktemp("io") / "x.safetensors"
    tensors = {
        name: sample(d if has(tinyxp.device("cpu"), d) else "float32", tuple(shape))
        for name, (d, shape) in specs.items()
    }
    save(tensors, path, metadata)
    assert contents(load(path)) == contents(tensors)
    assert load_metadata(path) == (metadata or {})


def test_a_file_goes_from_one_device_to_another(device, path):
    save({"x": sample("float32", device=device)}, path)
    assert load(path)["x"].tolist() == sample("float32").tolist()


def test_zero_dimensions_and_no_elements(device, path):
    tensors = {
        "scalar": tinyxp.asarray(2.5, device=device),
        "empty": tinyxp.zeros((0, 4), device=device),
        "also": tinyxp.zeros((3, 0), dtype="int64", device=device),
    }
    save(tensors, path)
    assert contents(load(path, device)) == contents(tensors)
    save({}, path)
    assert load(path, device) == {}


def test_parameters_and_views_are_saved_in_c_order(path):
    x = tinyxp.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    save({"x": x, "t": x.T, "row": x[::-1, 1]}, path)
    back = load(path)
    assert back["t"].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert back["row"].tolist() == [4.0, 2.0]
    assert not back["x"].requires_grad


def test_what_is_loaded_can_be_written(device, path):
    save({"x": sample("float32", device=device)}, path)
    before = path.read_bytes()
    x = load(path, device)["x"]
    x[0, 0] = 100.0
    x += 1.0
    assert x.tolist()[0][0] == 101.0
    raw = x.data
    raw *= 2.0  # as the optimizers do it
    assert path.read_bytes() == before


def test_saving_over_a_loaded_file_is_safe(path):
    save({"x": sample("float32"), "y": sample("float64")}, path)
    tensors = load(path)
    expected = contents(tensors)
    tensors["x"][0, 0] = -5.0
    save(tensors, path)
    assert contents(load(path))["y"] == expected["y"]
    assert tensors["y"].tolist() == expected["y"][2]
    assert load(path)["x"][0, 0].item() == -5.0


def test_nothing_is_read_before_it_is_used(path):
    save({"x": sample("float32")}, path)
    x = load(path)["x"]
    owner = x.data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner.obj if isinstance(owner, memoryview) else owner, mmap.mmap)


def test_dtypes_can_be_converted(path):
    save({"x": sample("float32"), "i": sample("int64")}, path)
    back = load(path, dtype="float64")
    assert back["x"].dtype == tinyxp.float64
    assert back["i"].dtype == tinyxp.int64
    assert back["x"].tolist() == sample("float32").tolist()


def test_half_precision_becomes_float32_where_it_is_missing(device, path):
    # 1.5, -2, infinity, the smallest subnormal: the IEEE 754 encodings
    halves = {"F16": (0x3E00, 0xC000, 0x7C00, 0x0001), "BF16": (0x3FC0, 0xC000, 0x7F80, 0x0001)}
    smallest = {"F16": 2.0**-24, "BF16": 2.0**-133}
    header = {
        code: {"dtype": code, "shape": [4], "data_offsets": [8 * i, 8 * i + 8]}
        for i, code in enumerate(halves)
    }
    path.write_bytes(file(header, b"".join(struct.pack("<4H", *v) for v in halves.values())))
    for code, x in load(path, device).items():
        name = {"F16": "float16", "BF16": "bfloat16"}[code]
        assert x.dtype == (name if has(device, name) else "float32")
        assert tinyxp.astype(x, "float64").tolist() == [1.5, -2.0, float("inf"), smallest[code]]


def test_unaligned_tensors_are_read(device, path):
    header = {
        "odd": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "x": {"dtype": "F64", "shape": [2], "data_offsets": [3, 19]},
    }
    path.write_bytes(file(header, b"abc" + struct.pack("<2d", 1.25, -3.0)))
    x = load(path, device)["x"]
    x += 1.0
    assert x.tolist() == [2.25, -2.0]


# ---------------------------------------------------------------- the reference implementation
def reference(dtypes=CODES):
    return {f"{i % 3}.{d}": sample(d) for i, d in enumerate(dtypes) if has(tinyxp.device("cpu"), d)}


def test_the_reference_reads_what_we_write(path):
    numpy_format = pytest.importorskip("safetensors.numpy", reason="compares with safetensors")
    tensors = reference(d for d in CODES if d != "complex64")  # which its NumPy part does not read
    save(tensors, path, {"a": "b"})
    found = numpy_format.load_file(path)
    assert found.keys() == tensors.keys()
    for name, x in tensors.items():
        np.testing.assert_array_equal(found[name], x.numpy(), strict=True)


def test_we_read_what_the_reference_writes(path):
    numpy_format = pytest.importorskip("safetensors.numpy", reason="compares with safetensors")
    arrays = {
        "a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.array([True]), "c": np.zeros((0, 2), "int16"),
        "d": np.arange(3, dtype="uint64"), "é": np.array([1.5], "float16"), "f": np.arange(4, dtype="int8"),
    }  # fmt: skip
    numpy_format.save_file(arrays, path, metadata={"z": "1", "k": "ä"})
    back = load(path)
    assert load_metadata(path) == {"z": "1", "k": "ä"}
    assert back.keys() == arrays.keys()
    for name, a in arrays.items():
        np.testing.assert_array_equal(back[name].numpy(), a, strict=True)


def test_our_files_are_the_references_byte_by_byte(path):
    torch_format = pytest.importorskip("safetensors.torch", reason="compares with safetensors")
    torch = pytest.importorskip("torch", reason="safetensors has all its dtypes with PyTorch only")
    tensors = reference()
    metadata = {"k": 'quotes ", \\ and ä\n\x01'}  # one entry: the reference has them in any order
    save(tensors, path, metadata)
    theirs = {
        name: torch.tensor(x.tolist(), dtype=getattr(torch, x.dtype.name))
        for name, x in tensors.items()
    }
    assert path.read_bytes() == torch_format.save(theirs, metadata)


# ---------------------------------------------------------------- hostile files
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "empty": (b"", "has 0 bytes, fewer than 8"),
    "short": (b"\x00" * 7, "has 7 bytes"),
    "huge header": (struct.pack("<Q", 1 << 62) + b"{}", "more than 100,000,000"),
    "cut header": (struct.pack("<Q", 100) + b"{}", "cut off: its header ends at byte 108 of 10"),
    "no header": (struct.pack("<Q", 0), "does not begin with '{'"),
    "a list": (file(b"[]"), "does not begin with '{'"),
    "a space": (file(b" {}"), "does not begin with '{'"),
    "no JSON": (file(b"{'a': 1}"), "not valid"),
    "no UTF-8": (file(b'{"\xff": 1}'), "not valid"),
    "deep": (file(b'{"a":' + b"[" * 100_000), "not valid"),
    "long number": (file(b'{"a":' + b"9" * 5000 + b"}"), "not valid"),
    "twice": (
        file(b'{"a":%b,"a":%b}' % ((json.dumps(ONE).encode(),) * 2), b"\0" * 4), "names 'a' twice",
    ),
    "no table": (file({"a": 1}), "tensor 'a' lacks dtype"),
    "no shape": (file({"a": {"dtype": "F32", "data_offsets": [0, 4]}}), "tensor 'a' lacks"),
    "unknown dtype": (file({"a": {**ONE, "dtype": "F8_E4M3"}}), "has dtype 'F8_E4M3'; tinyxp reads U64"),
    "dtype a list": (file({"a": {**ONE, "dtype": ["F32"]}}), "has dtype"),
    "negative length": (file({"a": {**ONE, "shape": [-1, -1]}}), "has the shape"),
    "float length": (file({"a": {**ONE, "shape": [1.0]}}), "has the shape"),
    "bool length": (file({"a": {**ONE, "shape": [True]}}), "has the shape"),
    "giant length": (file({"a": {**ONE, "shape": [1 << 64]}}), "has the shape"),
    "many axes": (file({"a": {**ONE, "shape": [1] * 65}}), "has the shape"),
    "overflow": (file({"a": {**ONE, "shape": [1 << 62, 1 << 62]}}), "has 4 bytes; float32 of shape"),
    "wrong size": (file({"a": {**ONE, "shape": [2]}}, b"\0" * 4), r"4 bytes; float32 of shape \(2,\) has 8"),
    "one offset": (file({"a": {**ONE, "data_offsets": [4]}}), "has data_offsets"),
    "backwards": (file({"a": {**ONE, "data_offsets": [4, 0]}}), "has data_offsets"),
    "negative offset": (file({"a": {**ONE, "data_offsets": [-4, 0]}}), "has data_offsets"),
    "out of range": (file({"a": ONE}, b"\0" * 3), "is cut off: its tensors have 4 bytes, its data 3"),
    "trailing": (file({"a": ONE}, b"\0" * 5), "bytes that belong to no tensor"),
    "overlap": (file({"a": ONE, "b": ONE}, b"\0" * 4), "tensor 'b' begins at byte 0 and overlaps"),
    "gap": (file({"a": {**ONE, "data_offsets": [4, 8]}}, b"\0" * 8), "leaves a gap"),
    "metadata": (file({"__metadata__": {"a": 1}}), "not a table of strings"),
    "metadata a list": (file({"__metadata__": []}), "not a table of strings"),
    "bool of 2": (
        file({"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, b"\x01\x02"), "bytes other than 0 and 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name, path):
    data, message = HOSTILE[name]
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_every_cut_is_noticed(path):
    save({"a": sample("float32"), "b": sample("bool")}, path, {"k": "v"})
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(CheckpointError):
            load(path)


@given(st.data())
@settings(max_examples=200)
def test_damage_is_refused_or_harmless(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("io") / "x.safetensors"
    save({"a": sample("float32"), "b": sample("uint8", (5,))}, path, {"k": "v"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        tensors = load(path)
    except CheckpointError:
        return
    for x in tensors.values():
        x.tolist()


def test_a_missing_file_is_an_os_error(path):
    with pytest.raises(FileNotFoundError):
        load(path)
    with pytest.raises(FileNotFoundError):
        save({}, path / "no" / "folder")


# ---------------------------------------------------------------- all or nothing
def test_a_failed_save_changes_nothing(path, monkeypatch):
    save({"x": sample("float32")}, path)
    before = path.read_bytes()
    backend, calls = tinyxp.get_backend("numpy"), []
    to_buffer = backend.to_buffer

    def fails_at_the_second(x):
        calls.append(x)
        if len(calls) == 2:
            raise OSError("disk full")
        return to_buffer(x)

    monkeypatch.setattr(backend, "to_buffer", fails_at_the_second)
    with pytest.raises(OSError, match="disk full"):
        save({"x": sample("float64"), "y": sample("float64")}, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    save({"x": sample("float32")}, real)
    link.symlink_to(real)
    save({"x": sample("float64")}, link)
    assert link.is_symlink()
    assert load(real)["x"].dtype == tinyxp.float64


def test_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    save({}, tmp_path / "ours")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"x": np.zeros(2)}, None, "expects Tensors; got ndarray for 'x'"),
        ({3: tinyxp.zeros(2)}, None, "names that are strings .*; got 3"),
        ({"__metadata__": tinyxp.zeros(2)}, None, "not '__metadata__'"),
        ({"x": tinyxp.zeros(2, dtype="complex128")}, None, "has no complex128, the dtype of 'x'"),
        ({"\ud800": tinyxp.zeros(2)}, None, "Unicode"),
        ({}, {"step": 3}, "metadata expects strings; got 3"),
    ],
)
def test_what_does_not_fit_the_format_is_refused(tensors, metadata, message, path):
    with pytest.raises(CheckpointError, match=message):
        save(tensors, path, metadata)
    assert not path.exists()


def test_a_big_endian_machine_says_so(path, monkeypatch):
    save({}, path)
    monkeypatch.setattr("sys.byteorder", "big")
    for call in (lambda: load(path), lambda: save({}, path)):
        with pytest.raises(CheckpointError, match="this machine is big-endian"):
            call()


def test_a_header_has_a_largest_size(path, monkeypatch):
    monkeypatch.setattr("tinyxp.io.MAX_HEADER", 40)
    with pytest.raises(CheckpointError, match="the format allows 40"):
        save({"a long name": sample("float32")}, path)
