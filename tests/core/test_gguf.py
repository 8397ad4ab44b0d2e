"""GGUF files against the `gguf` package: what it writes is read, what it dequantises is equal, what is broken is told."""

import struct
import sys
import tracemalloc
from pathlib import Path
from subprocess import run

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import FolderError
from danlu.core.gguf import GGUF, KINDS, dequantise, is_gguf

NUMBER = {kind.name: number for number, kind in KINDS.items()}


def write(path: Path, tensors: dict[str, np.ndarray] | None = None, **metadata) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        writer.add_key_value(key, *value)
    for name, tensor in (tensors or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of every kind of entry, and tensors of one, two and three dimensions."""
    types = gguf.GGUFValueType
    draw = np.random.default_rng(0)
    return write(
        tmp_path_factory.mktemp("gguf") / "small.gguf",
        {
            "vector": np.arange(5, dtype=np.float32),
            "matrix": draw.normal(size=(3, 64)).astype(np.float16),
            "cube": draw.normal(size=(2, 3, 4)).astype(np.float32),
        },
        small=(-3, types.INT8),
        large=(2**63 + 1, types.UINT64),
        half=(0.5, types.FLOAT32),
        yes=(True, types.BOOL),
        text=("炉", types.STRING),
        texts=(["a", "", "火"], types.ARRAY),
        numbers=([1.5, 2.5], types.ARRAY),
    )


def test_reads_what_the_package_writes(small: Path):
    file = GGUF(small)
    assert file.version == 3
    assert [file.metadata[key] for key in ("small", "large", "half", "yes", "text")] == [-3, 2**63 + 1, 0.5, True, "炉"]
    assert file.metadata["texts"] == ["a", "", "火"]
    assert file.metadata["numbers"].tolist() == [1.5, 2.5]
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(small).tensors}
    assert file.tensors.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(file.array(name), tensor.data.reshape(tensor.shape[::-1]))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16", "F16", "F32"])
def test_dequantises_what_the_package_quantises(name: str, tmp_path: Path):
    kind = gguf.GGMLQuantizationType[name]
    weights = np.random.default_rng(1).normal(size=(37, 96)).astype(np.float32)
    packed = gguf.quants.quantize(weights, kind)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("x", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUF(tmp_path / "x.gguf")
    found = file.array("x")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, gguf.quants.dequantize(packed, kind))
    step = {"F32": 0, "F16": 2**-10, "BF16": 2**-7, "Q8_0": 0.02}.get(name, 0.5)
    assert np.abs(found - weights).max() <= step * np.abs(weights).max()


@pytest.mark.parametrize("number", KINDS, ids=[kind.name for kind in KINDS.values()])
def test_any_bytes_dequantise_as_the_package_does(number: int):
    """Random blocks with finite scales: every bit of every field matters."""
    kind = KINDS[number]
    draw = np.random.default_rng(number)
    blocks = draw.integers(0, 256, (200, kind.size), dtype=np.uint8)
    scales = {"Q6_K": [208], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2]}.get(kind.name, [0])
    for at in scales if kind.weights > 1 else []:
        blocks[:, at : at + 2] = draw.normal(size=(200, 1)).astype(np.float16).view(np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(blocks.reshape(1, -1), gguf.GGMLQuantizationType(number)).reshape(200, -1)
    found = dequantise(kind, blocks)
    if kind.name.endswith("_K"):  # d · scale · q - dmin · m may be rounded in another order
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(5000, 320), (3, 5, 64), (1 << 21,), (7, 32)])
def test_rows_joined_are_the_array(shape: tuple[int, ...], tmp_path: Path):
    weights = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("x", gguf.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUF(tmp_path / "x.gguf")
    joined = np.full(shape, np.nan, np.float32)
    for first, rows in file.rows("x"):
        joined[first : first + len(rows)] = rows
    np.testing.assert_array_equal(joined, file.array("x"))


def test_value_checks_types(small: Path):
    file = GGUF(small)
    assert file.value("small", int) == -3
    assert file.value("small", float) == -3.0
    assert file.value("absent", int, 7) == 7
    for key, kind in (("absent", int), ("text", int), ("yes", int), ("half", int), ("texts", str)):
        with pytest.raises(FolderError, match=key):
            file.value(key, kind)


def test_is_gguf(small: Path, tmp_path: Path):
    assert is_gguf(small)
    assert is_gguf(tmp_path / "absent.gguf")
    assert not is_gguf(tmp_path)
    other = tmp_path / "named-otherwise"
    other.write_bytes(small.read_bytes())
    assert is_gguf(other)
    other.write_bytes(b"PK")
    assert not is_gguf(other)


def test_a_missing_file_and_a_folder(tmp_path: Path):
    for path in (tmp_path / "absent.gguf", tmp_path):
        with pytest.raises(FolderError, match=str(path)):
            GGUF(path)


def test_every_truncation_is_told(small: Path, tmp_path: Path):
    data = small.read_bytes()
    used = max(info.offset + info.size for info in GGUF(small).tensors.values())
    broken = tmp_path / "broken.gguf"
    for size in [*range(0, used - 1, 7), used - 1]:
        broken.write_bytes(data[:size])
        with pytest.raises(FolderError):
            GGUF(broken)


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def tensor_row(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return struct.pack("<Q", len(name)) + name + dims + struct.pack("<IQ", kind, offset)


def header(tensors: int, entries: int, *parts: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + b"".join(parts) + bytes(256)


HUGE = 2**62
FAULTS = {
    "no magic": b"GGML" + bytes(64),
    "version": header(0, 0, version=9),
    "big-endian": header(0, 0, version=3 << 24),
    "tensor count": header(HUGE, 0),
    "entry count": header(0, HUGE),
    "key length": header(0, 1, struct.pack("<Q", HUGE)),
    "text length": header(0, 1, entry(b"a", 8, struct.pack("<Q", HUGE))),
    "array length": header(0, 1, entry(b"a", 9, struct.pack("<IQ", 4, HUGE))),
    "texts length": header(0, 1, entry(b"a", 9, struct.pack("<IQ", 8, HUGE))),
    "array in an array": header(0, 1, entry(b"a", 9, struct.pack("<IQ", 9, 1))),
    "type": header(0, 1, entry(b"a", 99, b"")),
    "UTF-8": header(0, 1, struct.pack("<Q", 1) + b"\xff"),
    "key twice": header(0, 2, entry(b"a", 0, b"1"), entry(b"a", 0, b"1")),
    "alignment": header(0, 1, entry(b"general.alignment", 4, struct.pack("<I", 0))),
    "alignment text": header(0, 1, entry(b"general.alignment", 8, struct.pack("<Q", 0))),
    "dimensions": header(1, 0, tensor_row(b"t", (1,) * 9)),
    "no dimension": header(1, 0, tensor_row(b"t", ())),
    "zero": header(1, 0, tensor_row(b"t", (0,))),
    "shape": header(1, 0, tensor_row(b"t", (HUGE, HUGE))),
    "kind": header(1, 0, tensor_row(b"t", (32,), kind=77)),
    "half a block": header(1, 0, tensor_row(b"t", (16,), kind=2)),
    "offset": header(1, 0, tensor_row(b"t", (4,), offset=HUGE)),
    "misaligned": header(1, 0, tensor_row(b"t", (4,), offset=4)),
    "tensor twice": header(2, 0, tensor_row(b"t", (4,)), tensor_row(b"t", (4,), offset=32)),
    "gap": header(2, 0, tensor_row(b"t", (16,)), tensor_row(b"u", (4,), offset=96)),
    "bytes behind": header(1, 0, tensor_row(b"t", (16,))),
    "overlap": header(2, 0, tensor_row(b"t", (16,)), tensor_row(b"u", (4,), offset=32)),
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_error_and_no_allocation(data: bytes, tmp_path: Path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(FolderError, match=r"bad\.gguf"):
        GGUF(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_harmless(small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """Any bytes changed anywhere: the file opens, and then every tensor can be read, or it is refused."""
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 9))
        content[at : at + 8] = data.draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n)))
        )
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(content)
    try:
        file = GGUF(path)
    except FolderError:
        return
    for name, info in file.tensors.items():
        assert file.array(name).shape == info.shape


def test_torch_is_not_imported():
    script = "import sys, danlu.core.gguf; assert 'torch' not in sys.modules"
    run([sys.executable, "-c", script], check=True, timeout=120)
