"""Headers of small models in the shapes that matter for memory: real widths, few blocks."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from gateway.core.model_header import (
    Experts,
    LatentAttention,
    ModelHeader,
    RecurrentState,
    SlidingWindow,
)


def plain(architecture: str, *, blocks: int = 4, heads: int = 16, kv_heads: int = 4) -> ModelHeader:
    """Return an ordinary transformer, 1024 wide, heads of 64, feed-forward of 2816, 32 000 tokens."""
    return ModelHeader(
        architecture=architecture,
        block_count=blocks,
        context_length=32768,
        vocabulary=32000,
        embedding_length=1024,
        feed_forward_length=(2816,) * blocks,
        head_count=(heads,) * blocks,
        head_count_kv=(kv_heads,) * blocks,
        key_length=64,
        value_length=64,
    )


MODELS: Mapping[str, ModelHeader] = MappingProxyType(
    {
        "llama-gqa": plain("llama"),
        "llama-mha": plain("llama", kv_heads=16),
        "llama-8b-wide": replace(
            plain("llama", blocks=2, heads=32, kv_heads=8),
            vocabulary=128256,
            embedding_length=4096,
            feed_forward_length=(14336,) * 2,
            key_length=128,
            value_length=128,
        ),
        "deci": replace(
            plain("deci"),
            head_count=(16, 16, 0, 16),
            head_count_kv=(8, 4, 0, 2),
            feed_forward_length=(2816, 1024, 2816, 2816),
        ),
        "openelm": replace(
            plain("openelm"),
            head_count=(12, 12, 16, 16),
            head_count_kv=(3, 3, 4, 4),
            feed_forward_length=(768, 1024, 2048, 2048),
        ),
        "gemma2": replace(
            plain("gemma2", heads=8),
            key_length=256,
            value_length=256,
            sliding_window=SlidingWindow(window=1024),
        ),
        "gemma3": replace(
            plain("gemma3", blocks=12, heads=4, kv_heads=1),
            key_length=256,
            value_length=256,
            sliding_window=SlidingWindow(window=512),
        ),
        "qwen2": plain("qwen2", kv_heads=2),
        "qwen3": replace(plain("qwen3", kv_heads=8), key_length=128, value_length=128),
        "phi3": replace(plain("phi3", kv_heads=16), sliding_window=SlidingWindow(window=2047)),
        "gpt-oss": replace(
            plain("gpt-oss", heads=32),
            sliding_window=SlidingWindow(window=128),
            experts=Experts(count=8, used=4, feed_forward_length=1440),
        ),
        "mamba": replace(
            plain("mamba", heads=0, kv_heads=0),
            feed_forward_length=(0,) * 4,
            key_length=0,
            value_length=0,
            recurrent=RecurrentState(conv_kernel=4, inner_size=2048, state_size=16),
        ),
        "lfm2": replace(
            plain("lfm2", blocks=6),
            head_count_kv=(0, 0, 8, 0, 0, 8),
            recurrent=RecurrentState(short_conv_length=3),
        ),
        "deepseek2": replace(
            plain("deepseek2", kv_heads=1),
            key_length=576,
            value_length=512,
            latent_attention=LatentAttention(kv_lora_rank=512, rope_dimension=64, key_length=192, value_length=128),
            experts=Experts(count=8, used=2, shared=1, feed_forward_length=704),
        ),
    }
)
