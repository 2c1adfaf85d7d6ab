"""What the header of a model file says: all that its memory need depends on, and what a person asks about it.

Facts only: nothing here knows how a server uses them. `gateway.library.gguf` fills it from a file.
"""

from dataclasses import dataclass
from typing import Literal

Pooling = Literal["none", "mean", "cls", "last", "rank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Attention that looks back only so far.

    `window` is in tokens. `pattern` is what the file says about which blocks do so: one flag per block, or a
    period, or `None` where it is left to the architecture. `key_length` and `value_length` are the head sizes
    of these blocks, zero if they are those of all others.
    """

    window: int
    pattern: tuple[bool, ...] | int | None = None
    key_length: int = 0
    value_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek's MLA): a token is cached as one vector, not as keys and values.

    `kv_lora_rank` and `rope_dimension` are the sizes of the vector's two parts; `ModelHeader.key_length` is
    their sum. `key_length` and `value_length` are a head's sizes after expansion. `indexer_key_length` is
    what sparse attention caches beside it.
    """

    kv_lora_rank: int
    rope_dimension: int
    key_length: int
    value_length: int
    indexer_key_length: int = 0

    @property
    def compressed(self) -> bool:
        """Whether the tensors are split so that the small cache is used; in older files they are not."""
        return self.key_length > 0 and self.value_length > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentState:
    """Sizes of the state that Mamba, RWKV and their kin keep instead of a cache.

    A size is zero where there is no such part. `blocks` says which blocks of a mixed model are recurrent, if
    the file says so; `attention_interval` that every n-th block is not.
    """

    conv_kernel: int = 0
    inner_size: int = 0
    state_size: int = 0
    group_count: int = 0
    wkv_head_size: int = 0
    token_shift_count: int = 2
    short_conv_length: int = 0
    delta_head_size: int = 0
    blocks: tuple[bool, ...] = ()
    attention_interval: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: `used` of `count` work on each token, `shared` on every one.

    `feed_forward_length` is that of one expert.
    """

    count: int
    used: int
    shared: int = 0
    feed_forward_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHeader:
    """A model file, all parts of it.

    Sizes called `*_bytes` are in bytes, all others count elements. `head_count`, `head_count_kv` and
    `feed_forward_length` have one value per block, zero where the file has none. `kind` is `model`, `mmproj`,
    `adapter` or what else the file calls itself. `next_token_blocks` are blocks at the end that predict
    further tokens and take no part in ordinary work; the last `shared_kv_blocks` use the caches of earlier
    blocks. `output_bytes` is zero where the output layer is the token embedding itself. `missing_bytes` is
    how much of the tensor data is not there: a download that broke off.

    Raises `ValueError` where a value per block is missing.
    """

    architecture: str
    kind: str = "model"
    name: str = ""
    file_type: str = ""
    parts: int = 1

    file_bytes: int = 0
    tensor_bytes: int = 0
    token_embedding_bytes: int = 0
    output_bytes: int = 0
    missing_bytes: int = 0

    block_count: int = 0
    next_token_blocks: int = 0
    context_length: int = 0
    vocabulary: int = 0
    embedding_length: int = 0
    feed_forward_length: tuple[int, ...] = ()
    head_count: tuple[int, ...] = ()
    head_count_kv: tuple[int, ...] = ()
    key_length: int = 0
    value_length: int = 0
    shared_kv_blocks: int = 0

    sliding_window: SlidingWindow | None = None
    latent_attention: LatentAttention | None = None
    recurrent: RecurrentState | None = None
    experts: Experts | None = None

    pooling: Pooling | None = None
    has_chat_template: bool = False

    def __post_init__(self) -> None:
        for name in ("head_count", "head_count_kv", "feed_forward_length"):
            values: tuple[int, ...] = getattr(self, name)
            if len(values) != self.block_count:
                raise ValueError(f"{name} has {len(values)} values; expected one for each of {self.block_count} blocks")

    @property
    def complete(self) -> bool:
        """Whether all tensor data is there."""
        return self.missing_bytes == 0
