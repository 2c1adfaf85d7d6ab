"""The header reader against llama.cpp's own `gguf` package as oracle, and against broken files."""

import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.core.ggml import FILE_TYPES, TENSOR_TYPES
from gateway.core.model_header import Experts, LatentAttention, ModelHeader, RecurrentState, SlidingWindow
from gateway.library.gguf import GgufError, read_header
from gateway.library.gguf_format import read_file
from tests.core.models import MODELS
from tests.library.sparse_gguf import write

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

VALUES: dict[int, st.SearchStrategy[Any]] = {
    0: st.integers(0, 2**8 - 1),
    1: st.integers(-(2**7), 2**7 - 1),
    2: st.integers(0, 2**16 - 1),
    3: st.integers(-(2**15), 2**15 - 1),
    4: st.integers(0, 2**32 - 1),
    5: st.integers(-(2**31), 2**31 - 1),
    6: st.floats(width=32, allow_nan=False),
    7: st.booleans(),
    8: st.text(max_size=40),
    10: st.integers(0, 2**64 - 1),
    11: st.integers(-(2**63), 2**63 - 1),
    12: st.floats(allow_nan=False),
}
scalars = st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind]))
arrays = st.sampled_from(sorted(VALUES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(VALUES[kind], min_size=1, max_size=20))
)
names = st.text("abcdefghijklmnopqrstuvwxyz._", min_size=1, max_size=30).map("x.".__add__)
shapes = st.lists(st.integers(1, 8), min_size=1, max_size=4).map(lambda sizes: [*sizes[:-1], sizes[-1] * 256])
types = st.sampled_from([kind for kind in gguf.GGMLQuantizationType if kind.name != "Q8_1"])
orders = st.sampled_from(list(gguf.GGUFEndian))


def small(path: Path, order: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE) -> Path:
    """Write a file with every kind of thing in its header."""
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    writer.add_name("small")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count([4, 8])
    writer.add_token_list(["a", "bc", "", "déf"])
    writer.add_token_scores([0.0, 1.0, 2.0, 3.0])
    writer.add_add_bos_token(value=True)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.zeros((4, 64), np.float32))
    writer.add_tensor("output.weight", np.zeros((4, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def raw(*, version: int = 3, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


LLAMA = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")


@pytest.mark.parametrize("order", list(gguf.GGUFEndian))
def test_the_facts_of_a_small_file(tmp_path: Path, order: gguf.GGUFEndian) -> None:
    path = small(tmp_path / "m.gguf", order)
    expected = ModelHeader(
        architecture="llama",
        name="small",
        file_type="Q4_K_M",
        file_bytes=path.stat().st_size,
        tensor_bytes=4 * 64 * 4 + 4 * 64 * 2,
        token_embedding_bytes=4 * 64 * 4,
        output_bytes=4 * 64 * 2,
        block_count=2,
        vocabulary=4,
        embedding_length=64,
        feed_forward_length=(0, 0),
        head_count=(4, 8),
        head_count_kv=(4, 8),
        key_length=16,
        value_length=16,
        has_chat_template=True,
    )
    assert expected == read_header(path)
    assert expected == read_header(str(path))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_was_written_is_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.gguf"
    write(path, MODELS[name])
    header = read_header(path)
    oracle = gguf.GGUFReader(path)
    assert sum(tensor.n_bytes for tensor in oracle.tensors) == header.tensor_bytes
    assert header.complete
    bare = replace(header, file_bytes=0, tensor_bytes=0, token_embedding_bytes=0, output_bytes=0)
    assert MODELS[name] == bare


@same_folder
@given(st.dictionaries(names, scalars | arrays, max_size=8), orders)
def test_metadata_is_what_the_oracle_reads(
    tmp_path: Path, pairs: dict[str, tuple[int, Any]], order: gguf.GGUFEndian
) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    for key, (kind, value) in pairs.items():
        value_type = gguf.GGUFValueType(kind)
        if isinstance(value, list):
            writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, sub_type=value_type)
        else:
            writer.add_key_value(key, value, value_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    oracle = gguf.GGUFReader(path)
    found = read_file(path)
    for key, (kind, value) in pairs.items():
        field = oracle.get_field(key)
        assert field is not None
        expected = field.contents()
        if isinstance(value, list):
            assert len(value) == found.lengths[key]
            assert (None if kind == 8 else tuple(expected)) == found.metadata.get(key)
        else:
            assert expected == found.metadata[key]


@same_folder
@given(st.dictionaries(names, st.tuples(shapes, types), min_size=1, max_size=6), orders)
def test_tensor_sizes_are_what_the_oracle_reads(
    tmp_path: Path, tensors: dict[str, tuple[list[int], gguf.GGMLQuantizationType]], order: gguf.GGUFEndian
) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    for name, (shape, kind) in tensors.items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        row = [*shape[:-1], shape[-1] // block * size]
        writer.add_tensor(name, np.zeros(row, np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    oracle = {str(tensor.name): int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors}
    assert oracle == read_file(path).tensors
    assert read_header(path).complete


def test_every_type_of_the_oracle_has_its_size() -> None:
    # Q8_1 is for the inside of ggml and in no file; there the oracle's size is an old one.
    oracle = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"}
    assert oracle == {kind: tuple(TENSOR_TYPES[kind][1:]) for kind in oracle}


def test_every_file_type_of_the_oracle_has_its_name() -> None:
    oracle = {int(kind): kind.name.split("_", 1)[1] for kind in gguf.LlamaFileType if kind < 1024}
    assert oracle == {kind: FILE_TYPES[kind] for kind in oracle}


def test_a_file_cut_within_its_header_is_an_error_at_every_byte(tmp_path: Path) -> None:
    whole = small(tmp_path / "m.gguf").read_bytes()
    header_end = len(whole) - (4 * 64 * 4 + 4 * 64 * 2) - 31  # there is padding between header and data
    cut = tmp_path / "cut.gguf"
    for length in range(header_end):
        cut.write_bytes(whole[:length])
        with pytest.raises(GgufError, match=r"cut\.gguf: .*the file of \d+ bytes ends within .*; expected"):
            read_header(cut)


def test_a_download_that_broke_off_is_told_by_the_bytes_it_lacks(tmp_path: Path) -> None:
    path = small(tmp_path / "m.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    header = read_header(path)
    assert (header.missing_bytes, header.complete) == (100, False)


@same_folder
@given(st.binary(max_size=200))
@example(b"GGUF")
@example(b"")
def test_noise_is_a_gguf_error_and_nothing_else(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "m.gguf"
    for content in (noise, raw(keys=1, rest=noise), raw(keys=1, tensors=1, rest=LLAMA + noise)):
        path.write_bytes(content)
        with pytest.raises(GgufError):
            read_header(path)


@same_folder
@given(st.data())
def test_a_damaged_header_is_read_or_is_a_gguf_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(small(tmp_path / "m.gguf").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with suppress(GgufError):
        assert read_header(path).architecture


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 something", r"not a GGUF file \(it begins with b'PK\\x03\\x04'\) at byte 0"),
        (raw(version=1), "GGUF version 1 is not supported at byte 4; expected version 2 or 3"),
        (raw(version=4), "GGUF version 4 is not supported"),
        (raw(keys=2**40), "the header claims 1099511627776 keys at byte 16; expected at most 65536"),
        (raw(tensors=2**40), "the header claims 1099511627776 tensors at byte 8; expected at most 131072"),
        (raw(keys=1, rest=struct.pack("<Q", 2**40)), "a key claims 1099511627776 bytes"),
        (raw(keys=1, rest=text(b"k") + struct.pack("<I", 99)), "`k` has a value of the unknown type 99"),
        (
            raw(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 4, 2**40)),
            "the array `k` claims 1099511627776 elements at byte",
        ),
        (raw(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 9, 1)), "`k` has elements of the unknown type"),
        (raw(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 4, 10**6)), "ends within the array `k`"),
        (raw(keys=1, rest=text(b"k") + struct.pack("<IIQQ", 9, 8, 2, 2**63)), "ends within the array `k`"),
        (raw(keys=1, rest=text(b"k") + struct.pack("<IQ", 8, 2**63)), "ends within the value of `k`"),
        (raw(), "no architecture is named; expected the key `general.architecture`"),
        (raw(tensors=1, rest=text(b"t") + struct.pack("<I", 5)), "tensor `t` has 5 dimensions"),
        (
            raw(tensors=1, rest=text(b"t") + struct.pack("<IQIQ", 1, 33, 2, 0)),
            "tensor `t` has rows of 33 elements at byte 49; expected a multiple of 32 for q4_0",
        ),
        (raw(tensors=1, rest=text(b"t") + struct.pack("<IQIQ", 1, 2**60, 0, 0)), "tensor `t` claims"),
        (
            raw(tensors=2, rest=(text(b"t") + struct.pack("<IQIQ", 1, 1, 0, 0)) * 2),
            "two tensors are called `t`",
        ),
        (
            raw(keys=1, rest=text(b"general.alignment") + struct.pack("<II", 4, 0)),
            "the alignment is 0",
        ),
        (
            raw(keys=2, rest=LLAMA + text(b"llama.block_count") + struct.pack("<I", 8) + text(b"x")),
            "`llama.block_count` is 'x'; expected a whole number",
        ),
        (
            raw(keys=2, rest=LLAMA + text(b"llama.block_count") + struct.pack("<II", 4, 10**6)),
            "the header claims 1000000 blocks; expected at most 4096",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_place_and_expectation(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(GgufError, match=message):
        read_header(path)


def test_a_list_that_is_shorter_than_the_blocks_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(3)
    writer.add_head_count([4, 8])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(GgufError, match="head_count` is 2 values; expected one for each of 3 blocks"):
        read_header(tmp_path / "m.gguf")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "none.gguf")


def test_version_2_is_read_like_version_3(tmp_path: Path) -> None:
    path = small(tmp_path / "m.gguf")
    expected = read_header(path)
    content = bytearray(path.read_bytes())
    content[4] = 2
    path.write_bytes(content)
    assert expected == read_header(path)


def test_a_tensor_type_from_the_future_takes_the_room_up_to_its_neighbour(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    table = text(b"a") + struct.pack("<IQIQ", 1, 7, 999, 0) + text(b"b") + struct.pack("<IQIQ", 1, 8, 0, 64)
    header = raw(tensors=2, keys=1, rest=LLAMA + table)
    path.write_bytes(header.ljust(-(-len(header) // 32) * 32, b"\0") + bytes(64 + 8 * 4))
    assert read_file(path).tensors == {"a": 64, "b": 32}
    assert read_header(path).complete


def split(folder: Path) -> list[Path]:
    """Write a model in three parts, as `llama-gguf-split` does: metadata in the first, tensors in all."""
    paths = [folder / f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    for number, path in enumerate(paths):
        writer = gguf.GGUFWriter(path, "llama")
        if number == 0:
            writer.add_block_count(1)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 3)
        writer.add_tensor(f"blk.{number}.weight", np.zeros(10 * (number + 1), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def test_any_part_of_a_split_model_stands_for_the_whole(tmp_path: Path) -> None:
    paths = split(tmp_path)
    header = read_header(paths[0])
    assert (header.parts, header.block_count, header.tensor_bytes) == (3, 1, 4 * (10 + 20 + 30))
    assert sum(path.stat().st_size for path in paths) == header.file_bytes
    assert [header, header] == [read_header(path) for path in paths[1:]]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[1].unlink()
    with pytest.raises(GgufError, match=r"part 2 of 3 is missing; expected a file m-00002-of-00003\.gguf"):
        read_header(paths[2])


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    renamed = split(tmp_path)[0].rename(tmp_path / "m.gguf")
    with pytest.raises(GgufError, match="the model is split into 3 files, its name says 1"):
        read_header(renamed)


def test_the_parts_of_rarer_models(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "x")
    writer.add_type("model")
    numbers = {
        "block_count": 4,
        "nextn_predict_layers": 1,
        "attention.shared_kv_layers": 2,
        "attention.sliding_window": 64,
        "attention.key_length_swa": 8,
        "attention.value_length_swa": 16,
        "attention.kv_lora_rank": 32,
        "rope.dimension_count": 4,
        "attention.indexer.key_length": 12,
        "expert_count": 8,
        "expert_used_count": 2,
        "ssm.inner_size": 128,
        "kda.head_dim": 5,
        "full_attention_interval": 3,
        "pooling_type": 3,
    }
    for key, value in numbers.items():
        writer.add_uint32(f"x.{key}", value)
    writer.add_array("x.attention.sliding_window_pattern", [True, False, True, False])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    header = read_header(tmp_path / "m.gguf")
    pattern = (True, False, True, False)
    window = SlidingWindow(window=64, pattern=pattern, key_length=8, value_length=16)
    latent = LatentAttention(kv_lora_rank=32, rope_dimension=4, key_length=0, value_length=0, indexer_key_length=12)
    assert window == header.sliding_window
    assert latent == header.latent_attention
    assert Experts(count=8, used=2) == header.experts
    assert RecurrentState(inner_size=128, delta_head_size=5, attention_interval=3) == header.recurrent
    assert (header.next_token_blocks, header.shared_kv_blocks, header.pooling) == (1, 2, "last")


def test_a_vocabulary_is_stepped_over_without_keeping_it(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"token{number}" for number in range(150_000)])
    writer.add_token_types([1] * 150_000)
    writer.add_chat_template("x" * 100_000)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = read_file(path)
    assert found.lengths["tokenizer.ggml.tokens"] == 150_000
    assert "tokenizer.ggml.token_type" not in found.metadata
    assert found.metadata["tokenizer.chat_template"] == "x" * 4096
    assert read_header(path).vocabulary == 150_000
