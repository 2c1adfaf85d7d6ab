"""What each block of a model keeps between tokens: a cache of the context, or of a window of it, or a state.

The one place that knows architectures by name. The rules are llama.cpp's (`llama_model::create_memory`, the
`load_arch_hparams` of `src/models/*.cpp`, build 11669); an architecture that is not named here is taken for
an ordinary transformer whose every block caches the whole context, which errs towards too much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.core.model_header import ModelHeader, RecurrentState


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMemory:
    """One block: `keys` and `values` are cached elements per token, `state` is 32-bit numbers per sequence.

    `attends` says that it has a place in the cache, be it an empty one; `windowed` that only the sliding
    window is cached.
    """

    attends: bool = False
    keys: int = 0
    values: int = 0
    windowed: bool = False
    state: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windowing:
    """Which blocks have a sliding window where the file does not say: of each `period`, all but one.

    That one is the last, or the first with `dense_first`. `window` stands in for a window that the file does
    not give; `fixed` makes it win over the file's. With `blocks`, only models of that many blocks have
    windows at all.
    """

    period: int
    dense_first: bool = False
    window: int = 0
    fixed: bool = False
    blocks: int | None = None


_WINDOWED: Mapping[str, _Windowing] = MappingProxyType(
    {
        "afmoe": _Windowing(period=4),
        "cohere2": _Windowing(period=4),
        "cohere2moe": _Windowing(period=4, dense_first=True),
        "exaone-moe": _Windowing(period=4, window=128),
        "exaone4": _Windowing(period=4, window=4096, blocks=64),
        "gemma2": _Windowing(period=2, window=4096),
        "gemma3": _Windowing(period=6),
        "gemma3n": _Windowing(period=5),
        "gpt-oss": _Windowing(period=2),
        "laguna": _Windowing(period=4, dense_first=True),
        "llama4": _Windowing(period=4, window=8192, fixed=True),
        "mellum": _Windowing(period=4),
        "muse-glimmer": _Windowing(period=4),
        "olmo2": _Windowing(period=4),
        "plamo3": _Windowing(period=8),
        "smallthinker": _Windowing(period=4, dense_first=True, window=4096, fixed=True),
    }
)

_WINDOW_IGNORED = frozenset({"phi3"})  # llama.cpp reads the key and switches it off

_CACHELESS = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3",
    "eurobert", "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1", "t5encoder",
    "clip",
})  # fmt: skip

_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})

_BY_MISSING_HEADS = frozenset({
    "jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "kimi-linear", "kimi-k3", "bailingmoe3",
    "glm5-next",
})  # fmt: skip
"""Mixed models whose recurrent blocks are those without key and value heads."""

_ONE_PART_BLOCKS = frozenset({"nemotron_h", "nemotron_h_moe"})
"""Mixed models each block of which is a state, an attention or a feed-forward, never two."""

_BY_INTERVAL: Mapping[str, int] = MappingProxyType(
    {
        "qwen3next": 4,
        "qwen35": 4,
        "qwen35moe": 4,
        "qwen4exp": 4,
        "minimax-01": 8,
    }
)
"""Mixed models in which every n-th block attends and the others are recurrent."""


def window_size(header: ModelHeader) -> int:
    """Return how many tokens the windowed blocks look back; 0 if no block has a window that is used."""
    rule = _WINDOWED.get(header.architecture)
    given = header.sliding_window
    if header.architecture in _WINDOW_IGNORED:
        return 0
    if rule is None:
        return given.window if given is not None and given.pattern is not None else 0
    if rule.blocks is not None and rule.blocks != header.block_count:
        return 0
    if rule.fixed or given is None or not given.window:
        return rule.window
    return given.window


def block_memories(header: ModelHeader) -> tuple[BlockMemory, ...]:
    """Return what each block keeps, in order; blocks that keep nothing are in it too."""
    blocks = header.block_count - header.next_token_blocks
    if header.architecture in _CACHELESS or header.kind in {"mmproj", "adapter"}:
        return (BlockMemory(),) * blocks
    return tuple(_block(header, index) for index in range(blocks))


def _block(header: ModelHeader, index: int) -> BlockMemory:
    recurrent = _is_recurrent(header, index)
    state = _state_size(header) if recurrent else 0
    attends = not recurrent or header.architecture == "falcon-h1"
    if not attends or not _has_own_cache(header, index):
        return BlockMemory(state=state)
    heads = header.head_count_kv[index]
    latent = header.latent_attention
    if latent is not None and latent.compressed:
        return BlockMemory(attends=True, keys=header.key_length * heads + latent.indexer_key_length)
    windowed = _is_windowed(header, index)
    key, value = header.key_length, header.value_length
    if windowed and header.sliding_window is not None:
        key, value = header.sliding_window.key_length or key, header.sliding_window.value_length or value
    return BlockMemory(attends=True, keys=key * heads, values=value * heads, windowed=windowed, state=state)


def _is_windowed(header: ModelHeader, index: int) -> bool:
    if not window_size(header):
        return False
    rule = _WINDOWED.get(header.architecture)
    pattern = header.sliding_window.pattern if header.sliding_window is not None else None
    if isinstance(pattern, tuple):
        return pattern[index]
    period = pattern if pattern is not None else rule.period if rule is not None else 1
    if period == 0:
        return True
    place = index % period
    return place != 0 if rule is not None and rule.dense_first else place < period - 1


def _is_recurrent(header: ModelHeader, index: int) -> bool:
    name = header.architecture
    if name in _RECURRENT or name == "falcon-h1":
        return True
    if name in _BY_MISSING_HEADS:
        return header.head_count_kv[index] == 0
    if name in _ONE_PART_BLOCKS:
        return header.head_count_kv[index] == 0 and header.feed_forward_length[index] == 0
    if name in _BY_INTERVAL:
        state = header.recurrent or RecurrentState()
        if state.blocks:
            return state.blocks[index]
        return (index + 1) % (state.attention_interval or _BY_INTERVAL[name]) != 0
    return False


def _has_own_cache(header: ModelHeader, index: int) -> bool:
    """Return whether a block caches for itself; some models share the caches of earlier blocks."""
    if header.architecture == "gemma3n":
        return index < 20
    if header.architecture in _ONE_PART_BLOCKS:
        return header.feed_forward_length[index] == 0
    return index < header.block_count - header.shared_kv_blocks


def _state_size(header: ModelHeader) -> int:
    """Return a recurrent block's numbers per sequence: the tail of its convolution and its state proper."""
    state = header.recurrent or RecurrentState()
    width = header.embedding_length
    if state.wkv_head_size:
        return state.token_shift_count * width + width * state.wkv_head_size
    if state.short_conv_length:
        return width * (state.short_conv_length - 1)
    heads = header.head_count[0]  # llama.cpp takes the first block's number of heads for all
    tail = max(0, state.conv_kernel - 1)
    if state.delta_head_size:
        inner = heads * state.delta_head_size
        return 3 * (tail or 3) * inner + state.delta_head_size * inner
    if header.architecture == "minimax-01":
        return header.key_length * header.key_length * heads
    convolution = tail * (state.inner_size + 2 * state.group_count * state.state_size)
    return convolution + state.state_size * state.inner_size
