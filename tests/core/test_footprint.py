"""Footprints against what llama-server says in its log, and properties that hold for every model and launch.

The recorded figures are those of llama-server 0.7.0 (build 11669, Debian, x86-64, on the CPU), in MiB as its
log prints them with `-lv 4`: "KV buffer size", "RS buffer size" and "compute buffer size". The launches were
`-ngl 999 -fit off --no-warmup --cache-ram 0` and what the shape says; the files were written by
`tests.library.sparse_gguf` from the headers in `tests.core.models`.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.footprint import LoadShape, footprint
from gateway.core.layer_memory import block_memories, window_size
from gateway.core.model_header import (
    Experts,
    ModelHeader,
    RecurrentState,
    SlidingWindow,
)
from tests.core.models import MODELS, plain

MIB = 1 << 20
PRINTED = 0.0051  # the log rounds to two decimals

RECORDED = [
    ("llama-gqa", LoadShape(ctx_size=4096, parallel=1), 16.0, 0, 30.52),
    ("llama-gqa", LoadShape(ctx_size=4000, parallel=1), 16.0, 0, 30.52),
    ("llama-gqa", LoadShape(ctx_size=4000, parallel=2), 16.0, 0, 28.52),
    ("llama-gqa", LoadShape(ctx_size=16384, parallel=4), 64.0, 0, 30.52),
    ("llama-gqa", LoadShape(ctx_size=4096, parallel=4, unified_cache=True), 16.0, 0, 30.52),
    (
        "llama-gqa",
        LoadShape(ctx_size=16384, parallel=1, cache_type_k="q8_0", cache_type_v="q8_0"),
        34.0,
        0,
        42.55,
    ),
    (
        "llama-gqa",
        LoadShape(ctx_size=4096, parallel=1, cache_type_k="q4_0", cache_type_v="q4_0"),
        4.5,
        0,
        30.55,
    ),
    ("llama-gqa", LoadShape(ctx_size=4096, parallel=1, cache_type_k="q8_0"), 12.25, 0, 30.53),
    ("llama-gqa", LoadShape(ctx_size=8192, parallel=1, flash_attention=False), 32.0, 0, 285.01),
    ("llama-gqa", LoadShape(ctx_size=8192, parallel=2, ubatch=1024), 32.0, 0, 61.04),
    ("llama-gqa", LoadShape(ctx_size=8192, parallel=2, ubatch=128), 32.0, 0, 7.63),
    ("llama-gqa", LoadShape(ctx_size=4096, parallel=1, logits_for_all=True), 16.0, 0, 78.52),
    ("llama-gqa", LoadShape(ctx_size=256, parallel=1), 1.0, 0, 13.38),
    ("llama-mha", LoadShape(ctx_size=4096, parallel=1), 64.0, 0, 30.52),
    ("llama-mha", LoadShape(ctx_size=16384, parallel=4), 256.0, 0, 30.52),
    ("llama-mha", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 64.0, 0, 152.01),
    ("llama-8b-wide", LoadShape(ctx_size=4096, parallel=1), 32.0, 0, 128.02),
    ("llama-8b-wide", LoadShape(ctx_size=16384, parallel=4), 128.0, 0, 128.02),
    ("llama-8b-wide", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 32.0, 0, 316.01),
    ("deci", LoadShape(ctx_size=4096, parallel=1), 14.0, 0, 30.52),
    ("deci", LoadShape(ctx_size=16384, parallel=4), 56.0, 0, 30.52),
    ("deci", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 23.0, 0, 150.01),
    ("openelm", LoadShape(ctx_size=4096, parallel=1), 14.0, 0, 26.02),
    ("openelm", LoadShape(ctx_size=16384, parallel=4), 56.0, 0, 26.02),
    ("openelm", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 15.0, 0, 147.01),
    ("gemma2", LoadShape(ctx_size=4096, parallel=1), 44.0, 0, 32.03),
    ("gemma2", LoadShape(ctx_size=16384, parallel=4), 176.0, 0, 32.03),
    ("gemma2", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 44.0, 0, 101.02),
    ("gemma2", LoadShape(ctx_size=4096, parallel=4, unified_cache=True), 64.0, 0, 34.53),
    (
        "gemma2",
        LoadShape(ctx_size=16384, parallel=1, cache_type_k="q8_0", cache_type_v="q8_0"),
        74.38,
        0,
        44.56,
    ),
    ("gemma2", LoadShape(ctx_size=4096, parallel=1, full_window_cache=True), 64.0, 0, 34.53),
    ("gemma2", LoadShape(ctx_size=4096, parallel=2, ubatch=128), 52.0, 0, 7.44),
    ("gemma3", LoadShape(ctx_size=4096, parallel=1), 18.0, 0, 31.53),
    ("gemma3", LoadShape(ctx_size=16384, parallel=4), 72.0, 0, 31.53),
    ("gemma3", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 18.0, 0, 56.02),
    ("gemma3", LoadShape(ctx_size=4096, parallel=4, unified_cache=True), 33.0, 0, 33.03),
    (
        "gemma3",
        LoadShape(ctx_size=16384, parallel=1, cache_type_k="q8_0", cache_type_v="q8_0"),
        22.31,
        0,
        44.06,
    ),
    ("gemma3", LoadShape(ctx_size=4096, parallel=1, full_window_cache=True), 48.0, 0, 34.53),
    ("gemma3", LoadShape(ctx_size=4096, parallel=2, ubatch=128), 23.0, 0, 7.32),
    ("qwen2", LoadShape(ctx_size=4096, parallel=1), 8.0, 0, 30.52),
    ("qwen2", LoadShape(ctx_size=16384, parallel=4), 32.0, 0, 30.52),
    ("qwen2", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 8.0, 0, 148.51),
    ("qwen3", LoadShape(ctx_size=4096, parallel=1), 64.0, 0, 30.52),
    ("qwen3", LoadShape(ctx_size=16384, parallel=4), 256.0, 0, 30.52),
    ("qwen3", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 64.0, 0, 158.01),
    ("phi3", LoadShape(ctx_size=4096, parallel=1), 64.0, 0, 30.52),
    ("phi3", LoadShape(ctx_size=16384, parallel=4), 256.0, 0, 30.52),
    ("phi3", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 64.0, 0, 150.01),
    ("phi3", LoadShape(ctx_size=4096, parallel=4, unified_cache=True), 64.0, 0, 30.52),
    (
        "phi3",
        LoadShape(ctx_size=16384, parallel=1, cache_type_k="q8_0", cache_type_v="q8_0"),
        136.0,
        0,
        42.55,
    ),
    ("phi3", LoadShape(ctx_size=4096, parallel=1, full_window_cache=True), 64.0, 0, 30.52),
    ("phi3", LoadShape(ctx_size=4096, parallel=2, ubatch=128), 64.0, 0, 7.13),
    ("gpt-oss", LoadShape(ctx_size=4096, parallel=1), 9.5, 0, 48.53),
    ("gpt-oss", LoadShape(ctx_size=16384, parallel=4), 38.0, 0, 48.53),
    ("gpt-oss", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 9.5, 0, 285.52),
    ("gpt-oss", LoadShape(ctx_size=4096, parallel=4, unified_cache=True), 10.0, 0, 48.78),
    (
        "gpt-oss",
        LoadShape(ctx_size=16384, parallel=1, cache_type_k="q8_0", cache_type_v="q8_0"),
        17.8,
        0,
        60.59,
    ),
    ("gpt-oss", LoadShape(ctx_size=4096, parallel=1, full_window_cache=True), 16.0, 0, 51.78),
    ("gpt-oss", LoadShape(ctx_size=4096, parallel=2, ubatch=128), 9.0, 0, 11.51),
    ("mamba", LoadShape(ctx_size=4096, parallel=1), 0, 0.59, 30.16),
    ("mamba", LoadShape(ctx_size=16384, parallel=4), 0, 2.38, 30.6),
    ("mamba", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 0, 0.59, 30.16),
    ("lfm2", LoadShape(ctx_size=4096, parallel=1), 16.0, 0.03, 30.52),
    ("lfm2", LoadShape(ctx_size=16384, parallel=4), 64.0, 0.12, 30.52),
    ("lfm2", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 16.0, 0.03, 150.01),
    ("deepseek2", LoadShape(ctx_size=4096, parallel=1), 18.0, 0, 54.01),
    ("deepseek2", LoadShape(ctx_size=16384, parallel=4), 72.0, 0, 54.01),
    ("deepseek2", LoadShape(ctx_size=4096, parallel=1, flash_attention=False), 18.0, 0, 186.01),
]

models = st.sampled_from(sorted(MODELS)).map(MODELS.__getitem__)
shapes = st.builds(
    LoadShape,
    ctx_size=st.integers(1, 1 << 20),
    parallel=st.integers(1, 64),
    ubatch=st.sampled_from([64, 512, 2048]),
    cache_type_k=st.sampled_from(["f16", "q8_0", "q4_0"]),
    cache_type_v=st.sampled_from(["f16", "q8_0", "q4_0"]),
    unified_cache=st.booleans(),
    full_window_cache=st.booleans(),
    flash_attention=st.booleans(),
    logits_for_all=st.booleans(),
    prompt_cache_mib=st.integers(0, 8192),
    checkpoints=st.integers(0, 32),
    gpus=st.integers(0, 4),
)


@pytest.mark.parametrize(("name", "shape", "kv", "state", "compute"), RECORDED)
def test_caches_are_as_large_as_llama_server_makes_them(
    name: str, shape: LoadShape, kv: float, state: float, compute: float
) -> None:
    need = footprint(MODELS[name], shape)
    assert pytest.approx(kv, rel=0.005, abs=2 * PRINTED) == need["kv cache"] / MIB
    assert pytest.approx(state, rel=0.005, abs=PRINTED) == need["recurrent state"] / MIB


@pytest.mark.parametrize(("name", "shape", "kv", "state", "compute"), RECORDED)
def test_the_compute_buffer_is_at_most_a_fiftieth_too_low_and_a_fifth_too_high(
    name: str, shape: LoadShape, kv: float, state: float, compute: float
) -> None:
    estimate = footprint(MODELS[name], shape)["compute buffer"] / MIB
    assert 0.98 * compute <= estimate <= 1.2 * compute


def test_a_24_layer_model_with_4_kv_heads_of_128_needs_384_mib_for_8192_tokens() -> None:
    model = replace(plain("llama", blocks=24), key_length=128, value_length=128)
    assert footprint(model, LoadShape(ctx_size=8192))["kv cache"] == 384 * MIB


@given(models, shapes)
def test_the_total_is_the_sum_of_what_is_printed_and_of_both_places(model: ModelHeader, shape: LoadShape) -> None:
    need = footprint(model, shape)
    assert sum(line.size for line in need.lines) == need.total
    assert need.device + need.host == need.total
    assert [line.name for line in need.lines] == [text[:30].rstrip() for text in str(need).splitlines()[:-1]]


@given(models, shapes)
def test_more_context_never_needs_less(model: ModelHeader, shape: LoadShape) -> None:
    more = replace(shape, ctx_size=shape.ctx_size * 2)
    assert footprint(model, shape).total <= footprint(model, more).total


@given(models, shapes)
def test_a_smaller_cache_type_never_needs_more(model: ModelHeader, shape: LoadShape) -> None:
    small = replace(shape, cache_type_k="q4_0", cache_type_v="q4_0")
    assert footprint(model, small)["kv cache"] <= footprint(model, shape)["kv cache"]


@given(models, shapes)
def test_nothing_is_on_a_device_without_gpus(model: ModelHeader, shape: LoadShape) -> None:
    assert footprint(model, replace(shape, gpus=0)).device == 0


def test_no_context_given_means_the_one_the_model_was_trained_for() -> None:
    model = plain("llama")
    trained = footprint(model, LoadShape(ctx_size=model.context_length))
    assert trained == footprint(model, LoadShape(ctx_size=0))


def test_on_a_gpu_the_token_embedding_stays_behind() -> None:
    model = replace(plain("llama"), tensor_bytes=1000, token_embedding_bytes=100, output_bytes=100)
    need = footprint(model, LoadShape(ctx_size=512, gpus=1))
    assert (need["weights"], need["token embedding"]) == (900, 100)


def test_on_a_gpu_an_embedding_that_is_the_output_layer_too_is_there_twice() -> None:
    model = replace(plain("llama"), tensor_bytes=1000, token_embedding_bytes=100, output_bytes=0)
    need = footprint(model, LoadShape(ctx_size=512, gpus=1))
    assert (need["weights"], need["token embedding"]) == (1000, 100)


def test_what_is_passed_on_the_command_line_is_counted_as_it_is() -> None:
    shape = LoadShape(ctx_size=512, prompt_cache_mib=100, mmproj_bytes=7, gpus=2)
    need = footprint(plain("llama"), shape)
    assert need["prompt cache (at most)"] == 100 * MIB
    assert need["mmproj"] == 7 + 1024 * MIB
    assert need["gpu contexts"] == 2 * 512 * MIB


def test_a_draft_model_needs_its_weights_and_its_own_cache() -> None:
    draft = replace(plain("llama", blocks=1), tensor_bytes=12345)
    alone = footprint(draft, LoadShape(ctx_size=4096))
    both = footprint(plain("llama"), LoadShape(ctx_size=4096, draft=draft))
    assert both["draft model"] == sum(alone[part] for part in ("weights", "kv cache", "compute buffer"))


def test_checkpoints_are_needed_only_by_what_cannot_be_rolled_back() -> None:
    shape = LoadShape(ctx_size=8192, parallel=2, checkpoints=3)
    name = "context checkpoints (at most)"
    assert footprint(MODELS["llama-gqa"], shape)[name] == 0
    # 10 of 12 blocks have a window of 512 tokens, each of 256 keys and 256 values of 2 bytes: 5 MiB, where
    # llama-server's log says "created context checkpoint 1 of 32 (..., size = 5.006 MiB)"
    assert footprint(MODELS["gemma3"], shape)[name] == 3 * 2 * 10 * 512 * (256 + 256) * 2
    state = footprint(MODELS["mamba"], shape)["recurrent state"]
    assert footprint(MODELS["mamba"], shape)[name] == 3 * state


@pytest.mark.parametrize(
    ("architecture", "dense"),
    [("gemma2", {1, 3, 5, 7}), ("gemma3", {5}), ("cohere2", {3, 7}), ("smallthinker", {0, 4})],
)
def test_each_architecture_has_its_own_pattern_of_windows(architecture: str, dense: set[int]) -> None:
    model = replace(plain(architecture, blocks=8), sliding_window=SlidingWindow(window=512))
    assert dense == {index for index, block in enumerate(block_memories(model)) if not block.windowed}


def test_a_pattern_in_the_file_wins_over_that_of_the_architecture() -> None:
    pattern = (False, True, True, False)
    model = replace(plain("gemma3"), sliding_window=SlidingWindow(window=512, pattern=pattern))
    assert pattern == tuple(block.windowed for block in block_memories(model))


def test_the_head_size_of_windowed_blocks_may_differ() -> None:
    window = SlidingWindow(window=512, pattern=(True, False), key_length=128, value_length=32)
    model = replace(plain("gemma4", blocks=2), sliding_window=window)
    windowed, dense = block_memories(model)
    assert (windowed.keys, windowed.values) == (4 * 128, 4 * 32)
    assert (dense.keys, dense.values) == (4 * 64, 4 * 64)


def test_a_window_without_a_pattern_is_not_believed_of_an_unknown_architecture() -> None:
    model = replace(plain("llama"), sliding_window=SlidingWindow(window=512))
    assert window_size(model) == 0
    assert not any(block.windowed for block in block_memories(model))


def test_blocks_that_share_a_cache_have_none() -> None:
    model = replace(plain("gemma4", blocks=4), shared_kv_blocks=3)
    assert [block.attends for block in block_memories(model)] == [True, False, False, False]


def test_blocks_that_predict_further_tokens_are_left_out() -> None:
    assert len(block_memories(replace(plain("glm4moe"), next_token_blocks=1))) == 3


@pytest.mark.parametrize("architecture", ["bert", "nomic-bert", "modern-bert"])
def test_encoders_have_no_cache(architecture: str) -> None:
    assert footprint(plain(architecture), LoadShape(ctx_size=4096))["kv cache"] == 0


def test_every_fourth_block_of_a_mixed_model_attends() -> None:
    state = RecurrentState(conv_kernel=4, inner_size=4096, state_size=128, group_count=16)
    model = replace(plain("qwen3next", blocks=8), recurrent=state)
    blocks = block_memories(model)
    assert {3, 7} == {index for index, block in enumerate(blocks) if block.attends}
    assert blocks[0].state == 3 * (4096 + 2 * 16 * 128) + 128 * 4096


def test_rwkv_keeps_two_shifted_tokens_and_a_matrix_per_head() -> None:
    model = replace(plain("rwkv7"), recurrent=RecurrentState(wkv_head_size=64))
    assert {2 * 1024 + 64 * 1024} == {block.state for block in block_memories(model)}
    assert not any(block.attends for block in block_memories(model))


def test_delta_attention_keeps_a_matrix_per_head_and_three_short_convolutions() -> None:
    state = RecurrentState(conv_kernel=4, delta_head_size=128)
    model = replace(plain("kimi-linear", heads=32), head_count_kv=(0, 0, 0, 1), recurrent=state)
    assert block_memories(model)[0].state == 3 * 3 * 32 * 128 + 128 * 128 * 32
    assert [block.attends for block in block_memories(model)] == [False, False, False, True]


def test_experts_that_work_together_are_wider_than_a_dense_layer() -> None:
    dense = replace(plain("qwen3moe"), feed_forward_length=(0,) * 4)
    routed = replace(dense, experts=Experts(count=64, used=8, feed_forward_length=768))
    shape = LoadShape(ctx_size=512)
    assert footprint(dense, shape)["compute buffer"] < footprint(routed, shape)["compute buffer"]


def test_an_unknown_cache_type_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="`q3_k` is no cache type of llama-server; expected one of bf16"):
        footprint(plain("llama"), LoadShape(ctx_size=512, cache_type_k="q3_k"))


def test_less_than_one_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="parallel is 0; expected at least 1"):
        footprint(plain("llama"), LoadShape(ctx_size=512, parallel=0))


def test_a_header_without_a_value_for_each_block_is_refused() -> None:
    with pytest.raises(ValueError, match="head_count has 2 values; expected one for each of 4 blocks"):
        replace(plain("llama"), head_count=(1, 2))
