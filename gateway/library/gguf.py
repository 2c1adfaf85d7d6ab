"""What a GGUF model file is, from its header: `read_header`. Blocking file access; call it in a thread.

Owns the meaning of the metadata keys and the rules for models split over several files. The bytes are read by
`gateway.library.gguf_format`; what memory it all takes is computed by `gateway.core.footprint`. Names of keys
and their defaults are those of llama.cpp's `llama-arch.cpp` and `llama-model.cpp`.

Why not the `gguf` package: docs/decisions/0003-own-gguf-reader.md.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.core.ggml import FILE_TYPES
from gateway.core.model_header import (
    Experts,
    LatentAttention,
    ModelHeader,
    Pooling,
    RecurrentState,
    SlidingWindow,
)
from gateway.library.gguf_format import GgufError, GgufFile, read_file

__all__ = ["PART_NAME", "GgufError", "parts_of", "read_header"]

PART_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_BLOCK_LIMIT = 4096  # llama.cpp stops at 512
_NUMBER_LIMIT = 1 << 40  # no dimension, count or length comes near; products of three still fit 128 bits
_POOLING: Mapping[int, Pooling] = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}


def read_header(path: str | os.PathLike[str]) -> ModelHeader:
    """Return what the model at `path` is; any part of a split model stands for the whole.

    Takes some 30 ms for a vocabulary of 150 000 tokens with as many merges. Raises `GgufError` if it is not a
    GGUF file, breaks off within the header, claims what cannot be, or lacks a part; `OSError` if it cannot be
    opened. A file that breaks off within the tensor data is no error: see `ModelHeader.missing_bytes`.
    """
    files = [read_file(part) for part in parts_of(Path(path))]
    _check_count(files)
    facts = _Facts.of(files[0])
    tensors = {name: size for file in files for name, size in file.tensors.items()}
    return _model_header(facts, tensors, files)


def parts_of(path: Path) -> list[Path]:
    """Return all files of the model, the first of which has the metadata. Raises `GgufError` if one is missing."""
    name = PART_NAME.fullmatch(path.name)
    if name is None:
        return [path]
    count = int(name["count"])
    parts: list[Path] = []
    for number in range(1, count + 1):
        part = path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf")
        if not part.exists():
            raise GgufError(str(path), f"part {number} of {count} is missing", expected=f"a file {part.name} beside it")
        parts.append(part)
    if not parts:
        raise GgufError(str(path), "the name says that there are no parts", expected="-00001-of-0000N in the name")
    return parts


def _check_count(files: list[GgufFile]) -> None:
    claimed = files[0].metadata.get("split.count", len(files))
    if claimed not in {0, len(files)}:
        raise GgufError(
            files[0].path,
            f"the model is split into {claimed} files, its name says {len(files)}",
            expected="parts named ...-00001-of-0000N.gguf, as they were published",
        )


@dataclass(frozen=True, slots=True)
class _Facts:
    """Metadata of the first file, by the part of a key after the architecture, checked for type and size."""

    file: GgufFile
    architecture: str
    blocks: int

    @classmethod
    def of(cls, file: GgufFile) -> "_Facts":
        architecture = file.metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise GgufError(file.path, "no architecture is named", expected="the key `general.architecture`")
        blocks = cls(file, architecture, 0).number("block_count")
        if blocks > _BLOCK_LIMIT:
            raise GgufError(file.path, f"the header claims {blocks} blocks", expected=f"at most {_BLOCK_LIMIT}")
        return cls(file, architecture, blocks)

    def general(self, name: str) -> str:
        value = self.file.metadata.get("general." + name, "")
        return value if isinstance(value, str) else ""

    def number(self, name: str, default: int = 0) -> int:
        value = self.file.metadata.get(f"{self.architecture}.{name}", default)
        return self._checked(name, value)

    def per_block(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return one number per block, from a single one or from an array; zeros where there is neither."""
        value = self.file.metadata.get(f"{self.architecture}.{name}")
        if value is None:
            return (0,) * self.blocks if default is None else default
        if not isinstance(value, tuple):
            return (self._checked(name, value),) * self.blocks
        if len(value) < self.blocks:
            raise self._wrong(name, f"{len(value)} values", f"one for each of {self.blocks} blocks")
        return tuple(self._checked(name, item) for item in value[: self.blocks])

    def largest(self, name: str) -> int:
        return max(self.per_block(name), default=0)

    def flags(self, name: str) -> tuple[bool, ...]:
        value = self.file.metadata.get(f"{self.architecture}.{name}")
        return tuple(map(bool, self.per_block(name))) if isinstance(value, tuple) else ()

    def _checked(self, name: str, value: object) -> int:
        if not isinstance(value, int) or not 0 <= value <= _NUMBER_LIMIT:
            raise self._wrong(name, repr(value)[:80], f"a whole number from 0 to {_NUMBER_LIMIT}")
        return int(value)

    def _wrong(self, name: str, found: str, expected: str) -> GgufError:
        return GgufError(self.file.path, f"`{self.architecture}.{name}` is {found}", expected=expected)


def _model_header(facts: _Facts, tensors: Mapping[str, int], files: list[GgufFile]) -> ModelHeader:
    heads = facts.per_block("attention.head_count")
    head_size = facts.number("embedding_length") // heads[0] if heads and heads[0] else 0
    file_type = facts.file.metadata.get("general.file_type", -1)
    return ModelHeader(
        architecture=facts.architecture,
        kind=facts.general("type") or "model",
        name=facts.general("name"),
        file_type=FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else "",
        parts=len(files),
        file_bytes=sum(file.size for file in files),
        tensor_bytes=sum(sum(file.tensors.values()) for file in files),
        token_embedding_bytes=tensors.get("token_embd.weight", 0),
        output_bytes=tensors.get("output.weight", 0),
        missing_bytes=sum(max(0, file.data_end - file.size) for file in files),
        block_count=facts.blocks,
        next_token_blocks=min(facts.number("nextn_predict_layers"), facts.blocks),
        context_length=facts.number("context_length"),
        vocabulary=facts.file.lengths.get("tokenizer.ggml.tokens", facts.number("vocab_size")),
        embedding_length=facts.number("embedding_length"),
        feed_forward_length=facts.per_block("feed_forward_length"),
        head_count=heads,
        head_count_kv=facts.per_block("attention.head_count_kv", heads),
        key_length=facts.number("attention.key_length", head_size),
        value_length=facts.number("attention.value_length", head_size),
        shared_kv_blocks=min(facts.number("attention.shared_kv_layers"), facts.blocks),
        sliding_window=_sliding_window(facts),
        latent_attention=_latent_attention(facts),
        recurrent=_recurrent(facts),
        experts=_experts(facts),
        pooling=_POOLING.get(facts.number("pooling_type")) if _has(facts, "pooling_type") else None,
        has_chat_template="tokenizer.chat_template" in facts.file.metadata,
    )


def _has(facts: _Facts, name: str) -> bool:
    return f"{facts.architecture}.{name}" in facts.file.metadata


def _sliding_window(facts: _Facts) -> SlidingWindow | None:
    window = facts.number("attention.sliding_window")
    pattern: tuple[bool, ...] | int | None = facts.flags("attention.sliding_window_pattern") or None
    if pattern is None and _has(facts, "attention.sliding_window_pattern"):
        pattern = facts.number("attention.sliding_window_pattern")
    if not window and pattern is None:
        return None
    return SlidingWindow(
        window=window,
        pattern=pattern,
        key_length=facts.number("attention.key_length_swa"),
        value_length=facts.number("attention.value_length_swa"),
    )


def _latent_attention(facts: _Facts) -> LatentAttention | None:
    if not (rank := facts.number("attention.kv_lora_rank")):
        return None
    return LatentAttention(
        kv_lora_rank=rank,
        rope_dimension=facts.number("rope.dimension_count"),
        key_length=facts.number("attention.key_length_mla"),
        value_length=facts.number("attention.value_length_mla"),
        indexer_key_length=facts.number("attention.indexer.key_length"),
    )


def _recurrent(facts: _Facts) -> RecurrentState | None:
    state = RecurrentState(
        conv_kernel=facts.number("ssm.conv_kernel"),
        inner_size=facts.number("ssm.inner_size"),
        state_size=facts.number("ssm.state_size"),
        group_count=facts.number("ssm.group_count"),
        wkv_head_size=facts.number("wkv.head_size"),
        token_shift_count=facts.number("token_shift_count", 2),
        short_conv_length=facts.number("shortconv.l_cache"),
        delta_head_size=facts.number("kda.head_dim"),
        blocks=facts.flags("attention.recurrent_layers"),
        attention_interval=facts.number("full_attention_interval"),
    )
    present = state.inner_size or state.wkv_head_size or state.short_conv_length or state.delta_head_size
    return state if present or state.blocks or state.attention_interval else None


def _experts(facts: _Facts) -> Experts | None:
    if not (count := facts.number("expert_count")):
        return None
    return Experts(
        count=count,
        used=facts.largest("expert_used_count"),
        shared=facts.number("expert_shared_count"),
        feed_forward_length=facts.largest("expert_feed_forward_length"),
    )
