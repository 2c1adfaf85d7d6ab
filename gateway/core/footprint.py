"""How much memory a llama-server needs for a model, from the model's header and the way it is launched. Pure.

An estimate made before the first start; what was measured at the last start is better. Weights, key-value
cache and recurrent state are exact (they are what llama-server allocates, checked against the log of build
11669); the compute buffer is within a fifth or too high; the rest are bounds, each with its source below.

Contexts and batches are in tokens, everything else is in bytes unless its name says MiB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

from gateway.core.ggml import CACHE_TYPES, TensorType
from gateway.core.layer_memory import BlockMemory, block_memories, window_size
from gateway.core.model_header import ModelHeader

__all__ = ["Footprint", "Line", "LoadShape", "ModelHeader", "footprint"]

Place = Literal["device", "host"]

_MIB = 1 << 20
_CELL_PADDING = 256  # llama.cpp pads contexts and windows to this many cells

_PROCESS = 48 * _MIB
"""Code, threads and heap of a llama-server: 27 MiB resident after 60 chats with a model of half a MiB (build
11669, x86-64), rounded up for longer conversations."""

_VOCABULARY_ENTRY = 352
"""Bytes per token of the vocabulary with its merge, at the peak while it is read: 50 MiB resident for
150 000, 90 MiB for 262 144 (build 11669)."""

_GPU_CONTEXT = 512 * _MIB
"""Driver, kernels and workspaces on each GPU: 0.3 to 0.6 GB are common with CUDA; not measured here."""

_PROJECTOR_SCRATCH = 1024 * _MIB
"""Head room for encoding one large image, as much as Ollama reserves for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShape:
    """How a model is launched, as far as its memory depends on it.

    `ctx_size` is the whole context (`-c`), shared by `parallel` sequences (`-np`); 0 means what the model was
    trained for. `unified_cache` is `-kvu`, `full_window_cache` is `--swa-full`. `logits_for_all` is for
    `--embeddings`, and for older servers that keep room for the logits of a whole micro-batch.
    `prompt_cache_mib` and `checkpoints` are what `--cache-ram` and `--ctx-checkpoints` are given: both are
    limits that fill up with use (llama-server's own defaults are 8192 and 32). `gpus` is how many GPUs hold
    all the layers; 0 is a CPU. `draft` is a second model that runs ahead of this one with the same context.
    """

    ctx_size: int
    parallel: int = 1
    batch: int = 2048
    ubatch: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    unified_cache: bool = False
    full_window_cache: bool = False
    flash_attention: bool = True
    logits_for_all: bool = False
    prompt_cache_mib: int = 0
    checkpoints: int = 0
    mmproj_bytes: int = 0
    draft: ModelHeader | None = None
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One reason for memory, its size in bytes, and where it is: in the GPUs' memory or in the computer's."""

    name: str
    size: int
    place: Place

    def __str__(self) -> str:
        return f"{self.name:<30} {self.size / _MIB:>10.1f} MiB  {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The lines that are not zero, in bytes. Printed, it is a table with the sum at the end."""

    lines: tuple[Line, ...]

    def __getitem__(self, name: str) -> int:
        return sum(line.size for line in self.lines if line.name == name)

    @property
    def total(self) -> int:
        """All of it."""
        return sum(line.size for line in self.lines)

    @property
    def device(self) -> int:
        """What is in the memory of GPUs."""
        return sum(line.size for line in self.lines if line.place == "device")

    @property
    def host(self) -> int:
        """What is in the computer's own memory, weights that are mapped from the file included."""
        return sum(line.size for line in self.lines if line.place == "host")

    def __str__(self) -> str:
        return "\n".join([*map(str, self.lines), f"{'total':<30} {self.total / _MIB:>10.1f} MiB"])


def footprint(header: ModelHeader, shape: LoadShape) -> Footprint:
    """Return what `header`'s model needs when it is launched as `shape` says.

    Raises `ValueError` for a cache type that llama-server does not have, or for less than one sequence.
    """
    return Footprint(lines=tuple(line for line in _lines(header, shape) if line.size))


def _lines(header: ModelHeader, shape: LoadShape) -> Iterator[Line]:
    load = _Load.of(header, shape)
    place: Place = "device" if shape.gpus else "host"
    yield from _weights(header, place)
    yield Line(name="kv cache", size=load.kv_cache(), place=place)
    yield Line(name="recurrent state", size=load.recurrent_state(), place=place)
    yield Line(name="compute buffer", size=load.compute_buffer(), place=place)
    yield Line(name="output buffer", size=4 * header.vocabulary * shape.parallel, place="host")
    if shape.mmproj_bytes:
        yield Line(name="mmproj", size=shape.mmproj_bytes + _PROJECTOR_SCRATCH, place=place)
    if shape.draft is not None:
        yield Line(name="draft model", size=_Load.of(shape.draft, shape).model(), place=place)
    yield Line(name="prompt cache (at most)", size=shape.prompt_cache_mib * _MIB, place="host")
    checkpoints = shape.checkpoints * shape.parallel * load.checkpoint()
    yield Line(name="context checkpoints (at most)", size=checkpoints, place="host")
    yield Line(name="process", size=_PROCESS + _VOCABULARY_ENTRY * header.vocabulary, place="host")
    yield Line(name="gpu contexts", size=_GPU_CONTEXT * shape.gpus, place="device")


def _weights(header: ModelHeader, place: Place) -> Iterator[Line]:
    """On a GPU the token embedding stays behind; a GPU gets a copy where it is the output layer too."""
    if place == "host":
        yield Line(name="weights", size=header.tensor_bytes, place=place)
        return
    tied = header.output_bytes == 0
    on_device = header.tensor_bytes - (0 if tied else header.token_embedding_bytes)
    yield Line(name="weights", size=on_device, place=place)
    yield Line(name="token embedding", size=header.token_embedding_bytes, place="host")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """A model and the way it is launched, with what follows for its caches.

    Each of `streams` caches holds `cells` tokens, `window_cells` in windowed blocks. `tokens` are computed at
    once.
    """

    header: ModelHeader
    shape: LoadShape
    blocks: tuple[BlockMemory, ...]
    k: TensorType
    v: TensorType
    streams: int
    cells: int
    window: int
    window_cells: int
    tokens: int

    @classmethod
    def of(cls, header: ModelHeader, shape: LoadShape) -> Self:
        if shape.parallel < 1:
            raise ValueError(f"parallel is {shape.parallel}; expected at least 1 sequence")
        streams = 1 if shape.unified_cache else shape.parallel
        cells = _padded(_padded(shape.ctx_size or header.context_length) // streams)
        tokens = min(shape.ubatch, shape.batch, cells * streams)
        window = window_size(header)
        reach = window * (shape.parallel if shape.unified_cache else 1) + tokens
        return cls(
            header=header,
            shape=shape,
            blocks=block_memories(header),
            k=_cache_type(shape.cache_type_k),
            v=_cache_type(shape.cache_type_v),
            streams=streams,
            cells=cells,
            window=window,
            window_cells=cells if shape.full_window_cache else _padded(min(cells, reach)),
            tokens=tokens,
        )

    def model(self) -> int:
        """All that comes with the model itself, as opposed to the server around it."""
        return self.header.tensor_bytes + self.kv_cache() + self.recurrent_state() + self.compute_buffer()

    def held(self, block: BlockMemory) -> int:
        """Cells of one block's cache."""
        if not block.attends:
            return 0
        return self.window_cells if block.windowed else self.cells

    def kv_cache(self) -> int:
        # Without flash attention the values lie transposed, all blocks with as many rows as the widest needs.
        least = 0 if self.shape.flash_attention else max((block.values for block in self.blocks), default=0)
        return self.streams * sum(
            self.held(block) * (_size(block.keys, self.k) + _size(max(block.values, least), self.v))
            for block in self.blocks
        )

    def recurrent_state(self) -> int:
        return 4 * self.shape.parallel * sum(block.state for block in self.blocks)

    def checkpoint(self) -> int:
        """One saved copy of what cannot be rolled back: the windows and the states of one sequence."""
        kept = min(self.window, self.window_cells)
        windows = sum(
            kept * (_size(block.keys, self.k) + _size(block.values, self.v)) for block in self.blocks if block.windowed
        )
        return windows + 4 * sum(block.state for block in self.blocks)

    def compute_buffer(self) -> int:
        """Activations of one micro-batch in 32-bit numbers, and the attention masks.

        The allocator reuses memory, so the widest moment counts, not the sum. About five rows of the
        embedding's width live all along; beside them are a feed-forward's three rows, or the queries, or the
        logits. Fitted to 165 logs of 15 shapes (build 11669, on a CPU): from 3 % too low to 20 % too high,
        more where blocks differ in width.
        """
        width, tokens = self.header.embedding_length, self.tokens
        masks = sum({block.windowed: self.held(block) for block in self.blocks if block.attends}.values())
        outputs = tokens if self.shape.logits_for_all else min(self.shape.parallel, tokens)
        moments = (
            tokens * (5 * width + self._feed_forward_width()),
            tokens * (5 * width + self._attention_width()),
            tokens * 6 * width + outputs * self.header.vocabulary,
        )
        states = self.shape.parallel * max((block.state for block in self.blocks), default=0)
        return masks * tokens * (2 if self.shape.flash_attention else 4) + 4 * (max(moments) + states)

    def _feed_forward_width(self) -> int:
        header = self.header
        routed = header.experts.feed_forward_length * header.experts.used if header.experts is not None else 0
        dense = max(header.feed_forward_length, default=0)
        recurrent = header.recurrent.inner_size if header.recurrent is not None else 0
        return max(3 * routed, 3 * dense, 5 * recurrent)

    def _attention_width(self) -> int:
        """Numbers per token while attending: queries before and after rotation, scores if they are kept."""
        latent = self.header.latent_attention
        widest = 0
        for block, heads in zip(self.blocks, self.header.head_count, strict=False):
            queries = 2 * heads * self.header.key_length
            if latent is not None and latent.compressed:
                queries = heads * (self.header.key_length + latent.kv_lora_rank + latent.key_length)
            if not self.shape.flash_attention:
                queries += queries // 2 + block.keys + block.values + heads * self.held(block)
            widest = max(widest, queries)
        return widest


def _padded(tokens: int) -> int:
    return tokens + -tokens % _CELL_PADDING


def _size(elements: int, kind: TensorType) -> int:
    return elements * kind.size // kind.block


def _cache_type(name: str) -> TensorType:
    if name not in CACHE_TYPES:
        known = ", ".join(sorted(CACHE_TYPES))
        raise ValueError(f"`{name}` is no cache type of llama-server; expected one of {known}")
    return CACHE_TYPES[name]
