"""The bytes of a GGUF file's header: metadata and table of tensors, versions 2 and 3, both byte orders.

Reads from the front only as far as the header goes and builds no objects for long arrays: a vocabulary is
stepped over, not loaded. Trusts nothing: every count is checked against the size of the file before it is
believed, and memory grows by what was really read. What a key means is not known here (see
`gateway.library.gguf`).

Layout: magic, version, number of tensors, number of keys; the keys with their values; per tensor its name,
shape, type and offset; padding; the data. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from math import prod
from typing import BinaryIO

from gateway.core.ggml import TENSOR_TYPES

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

_CHUNK = 1 << 20
_HEADER_LIMIT = 256 << 20  # the largest real ones, with 500 000 merges, are below 20 MiB
_KEY_LIMIT = 1 << 16
_TENSOR_LIMIT = 1 << 17
_ARRAY_LIMIT = 1 << 23  # elements
_KEPT_ARRAY = 4096  # longer ones are vocabularies; per-layer arrays are shorter
_KEPT_STRING = 4096  # bytes
_NAME_LIMIT = (1 << 16) - 1  # bytes, from the specification
_DIMENSIONS = 4  # GGML_MAX_DIMS
_TENSOR_BYTES_LIMIT = 1 << 50


class GgufError(Exception):
    """A model file that cannot be read: which one, what is wrong at which byte, what was expected there."""

    def __init__(self, path: str, what: str, *, expected: str, offset: int | None = None) -> None:
        """Name the file, the fault and the way it should be; `offset` is in bytes from the start."""
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{path}: {what}{where}; expected {expected}.")
        self.path = path
        self.what = what
        self.expected = expected
        self.offset = offset


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """One file's header.

    `metadata` has all scalars and the arrays of up to 4096 numbers; strings are cut at 4096 bytes. `lengths`
    has the number of elements of every array. `tensors` maps names to sizes in bytes. `data_end` is how long
    the file must be.
    """

    path: str
    size: int
    metadata: Mapping[str, Value]
    lengths: Mapping[str, int]
    tensors: Mapping[str, int]
    data_end: int


def read_file(path: str | os.PathLike[str]) -> GgufFile:
    """Read the header of the file at `path`. Raises `GgufError` for what is in it, `OSError` otherwise."""
    with open(path, "rb") as file:  # noqa: PTH123 - takes any path-like, as os.fspath does
        size = os.fstat(file.fileno()).st_size
        cursor = _Cursor(os.fspath(path), file, size)
        return _parse(cursor, size)


def _parse(cursor: "_Cursor", size: int) -> GgufFile:
    tensor_count, key_count = _preamble(cursor)
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(key_count):
        key = cursor.name("a key")
        kind = cursor.u32("the type of a value")
        if kind == _ARRAY:
            lengths[key], kept = _array(cursor, key)
            if kept is not None:
                metadata[key] = kept
        elif kind == _STRING:
            metadata[key] = cursor.text(f"the value of `{key}`")
        elif kind in _SCALARS:
            metadata[key] = cursor.scalar(_SCALARS[kind], f"the value of `{key}`")
        else:
            raise cursor.error(f"`{key}` has a value of the unknown type {kind}", expected="a type from 0 to 12")
    tensors, data_end = _tensors(cursor, tensor_count, metadata.get("general.alignment", 32))
    return GgufFile(path=cursor.path, size=size, metadata=metadata, lengths=lengths, tensors=tensors, data_end=data_end)


def _preamble(cursor: "_Cursor") -> tuple[int, int]:
    """Return the numbers of tensors and of keys; settle the byte order."""
    if (magic := cursor.take(4, "the magic number")) != b"GGUF":
        raise cursor.error(f"not a GGUF file (it begins with {magic!r})", expected="b'GGUF'", offset=0)
    version = cursor.u32("the version")
    if version & 0xFFFF == 0 and version:  # small numbers have their zeros at the other end
        cursor.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in {2, 3}:
        raise cursor.error(f"GGUF version {version} is not supported", expected="version 2 or 3", offset=4)
    tensor_count = cursor.u64("the number of tensors")
    key_count = cursor.u64("the number of keys")
    if key_count > _KEY_LIMIT:
        raise cursor.error(f"the header claims {key_count} keys", expected=f"at most {_KEY_LIMIT}", offset=16)
    if tensor_count > _TENSOR_LIMIT:
        raise cursor.error(f"the header claims {tensor_count} tensors", expected=f"at most {_TENSOR_LIMIT}", offset=8)
    return tensor_count, key_count


def _array(cursor: "_Cursor", key: str) -> tuple[int, tuple[Scalar, ...] | None]:
    """Step over an array; return its length, and its elements if they are few and numbers."""
    what = f"the array `{key}`"
    kind = cursor.u32(what)
    count = cursor.u64(what)
    if count > _ARRAY_LIMIT:
        raise cursor.error(f"{what} claims {count} elements", expected=f"at most {_ARRAY_LIMIT}")
    if kind == _STRING:
        cursor.skip_strings(count, what)
        return count, None
    if kind not in _SCALARS:
        raise cursor.error(f"{what} has elements of the unknown type {kind}", expected="numbers or strings")
    layout = f"{cursor.order}{count}{_SCALARS[kind]}"
    kept = count <= _KEPT_ARRAY
    raw = cursor.take(struct.calcsize(layout), what, keep=kept)
    return count, struct.unpack(layout, raw) if kept else None


def _tensors(cursor: "_Cursor", count: int, alignment: Value) -> tuple[dict[str, int], int]:
    """Read the table of tensors; return sizes by name, and where the data ends."""
    if not isinstance(alignment, int) or not 0 < alignment < 1 << 32:
        raise cursor.error(f"the alignment is {alignment!r}", expected="a positive number of bytes")
    table: dict[str, tuple[int, int | None]] = {}
    for _ in range(count):
        name = cursor.name("the name of a tensor")
        if name in table:
            raise cursor.error(f"two tensors are called `{name}`", expected="distinct names")
        size = _tensor_size(cursor, name)
        table[name] = cursor.u64(f"the offset of tensor `{name}`"), size
    start = cursor.at + -cursor.at % alignment
    return _sized(table, start, cursor.size) if table else ({}, cursor.at)


def _tensor_size(cursor: "_Cursor", name: str) -> int | None:
    """Read a tensor's shape and type; return its size in bytes, `None` for a type from the future."""
    what = f"the shape of tensor `{name}`"
    dimensions = cursor.u32(what)
    if dimensions > _DIMENSIONS:
        raise cursor.error(f"tensor `{name}` has {dimensions} dimensions", expected=f"at most {_DIMENSIONS}")
    shape = tuple(cursor.u64(what) for _ in range(dimensions))
    kind = TENSOR_TYPES.get(cursor.u32(f"the type of tensor `{name}`"))
    if kind is None:
        return None
    if shape and shape[0] % kind.block:
        raise cursor.error(
            f"tensor `{name}` has rows of {shape[0]} elements",
            expected=f"a multiple of {kind.block} for {kind.name}",
        )
    size = prod(shape) // kind.block * kind.size
    if size > _TENSOR_BYTES_LIMIT:
        raise cursor.error(f"tensor `{name}` claims {size} bytes", expected=f"at most {_TENSOR_BYTES_LIMIT}")
    return size


def _sized(table: Mapping[str, tuple[int, int | None]], start: int, end: int) -> tuple[dict[str, int], int]:
    """Return sizes by name and the end of the data. An unknown type takes all up to its neighbour."""
    offsets = sorted({offset for offset, _ in table.values()})
    neighbour = dict(zip(offsets, [*offsets[1:], max(end - start, offsets[-1])], strict=True))
    sizes = {name: neighbour[offset] - offset if size is None else size for name, (offset, size) in table.items()}
    return sizes, start + max(offset + sizes[name] for name, (offset, _) in table.items())


class _Cursor:
    """A position in the header. The buffer grows by what the file really holds."""

    def __init__(self, path: str, file: BinaryIO, size: int) -> None:
        self.path = path
        self.size = size
        self.at = 0
        self.order = "<"
        self._file = file
        self._buffer = bytearray()

    def error(self, what: str, *, expected: str, offset: int | None = None) -> GgufError:
        return GgufError(self.path, what, expected=expected, offset=self.at if offset is None else offset)

    def take(self, count: int, what: str, *, keep: bool = True) -> bytes:
        """Return the next `count` bytes, or step over them where they are not to be kept."""
        self._require(count, what)
        begin, self.at = self.at, self.at + count
        return bytes(self._buffer[begin : self.at]) if keep else b""

    def scalar(self, code: str, what: str) -> int | float | bool:
        layout = self.order + code
        self._require(struct.calcsize(layout), what)
        value: int | float | bool
        (value,) = struct.unpack_from(layout, self._buffer, self.at)
        self.at += struct.calcsize(layout)
        return value

    def u32(self, what: str) -> int:
        return int(self.scalar("I", what))

    def u64(self, what: str) -> int:
        return int(self.scalar("Q", what))

    def name(self, what: str) -> str:
        length = self.u64(what)
        if length > _NAME_LIMIT:
            raise self.error(f"{what} claims {length} bytes", expected=f"at most {_NAME_LIMIT}")
        return self.take(length, what).decode("utf-8", "replace")

    def text(self, what: str) -> str:
        length = self.u64(what)
        kept = min(length, _KEPT_STRING)
        self._require(length, what)
        text = self.take(kept, what).decode("utf-8", "replace")
        self.at += length - kept
        return text

    def skip_strings(self, count: int, what: str) -> None:
        """Step over `count` strings: the one loop whose speed matters, about 80 ns each."""
        length = struct.Struct(self.order + "Q").unpack_from
        buffer, at, last = self._buffer, self.at, self.at
        todo = repeat(None, count)
        while True:
            try:
                for _ in todo:
                    last = at
                    at += 8 + length(buffer, at)[0]
                break
            except (struct.error, IndexError, OverflowError):
                # The buffer ends here, or the length leads beyond it: read on and take this one again.
                self.at = at = last
                self._require(8, what)
                at += 8 + length(buffer, at)[0]
        self.at = last
        self._require(at - last, what)
        self.at = at

    def _require(self, count: int, what: str) -> None:
        end = self.at + count
        if end <= len(self._buffer):
            return
        if end > self.size:
            raise self.error(f"the file of {self.size} bytes ends within {what}", expected=f"{count} more")
        if end > _HEADER_LIMIT:
            raise self.error(f"the header does not end before {what}", expected=f"at most {_HEADER_LIMIT} bytes")
        self._buffer += self._file.read(max(end - len(self._buffer), len(self._buffer), _CHUNK))
        if end > len(self._buffer):
            raise self.error(f"the file shrank while {what} was read", expected=f"{self.size} bytes")
