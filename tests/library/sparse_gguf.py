"""Writes model files that llama-server loads, with a hole for weights: all zeros, and no disk space."""

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path

import gguf
import numpy as np

from gateway.core.model_header import ModelHeader

Tensor = tuple[str, tuple[int, ...]]

_QUERY_RANK = 768


def write(path: Path, header: ModelHeader) -> None:
    """Write a file whose header says what `header` says, with 16-bit matrices and 32-bit vectors."""
    writer = gguf.GGUFWriter(path, header.architecture)
    _metadata(writer, header)
    data = 0
    for name, shape in _tensors(header):
        exact = len(shape) == 1 or any(part in name for part in ("conv", "ssm_a", "gate_inp", "bias"))
        kind = np.dtype(np.float32 if exact else np.float16)
        writer.add_tensor_info(name, shape[::-1], kind, prod(shape) * kind.itemsize)
        data = _padded(data) + prod(shape) * kind.itemsize
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, _padded(path.stat().st_size) + data)


def _padded(size: int) -> int:
    return gguf.GGUFWriter.ggml_pad(size, gguf.GGUF_DEFAULT_ALIGNMENT)


def _metadata(writer: gguf.GGUFWriter, header: ModelHeader) -> None:
    name = header.architecture
    writer.add_tokenizer_model("no_vocab")
    writer.add_float32(f"{name}.attention.layer_norm_rms_epsilon", 1e-5)
    for key, value in _numbers(header):
        if isinstance(value, tuple) and len(set(value)) > 1:
            writer.add_array(f"{name}.{key}", list(value))
        elif isinstance(value, tuple):
            writer.add_uint32(f"{name}.{key}", value[0])
        else:
            writer.add_uint32(f"{name}.{key}", value)


def _numbers(header: ModelHeader) -> Iterator[tuple[str, int | tuple[int, ...]]]:
    yield "vocab_size", header.vocabulary
    yield "context_length", header.context_length
    yield "embedding_length", header.embedding_length
    yield "block_count", header.block_count
    yield "feed_forward_length", header.feed_forward_length
    yield "attention.head_count", header.head_count
    yield "attention.head_count_kv", header.head_count_kv
    if header.key_length:
        yield "attention.key_length", header.key_length
        yield "attention.value_length", header.value_length
        latent = header.latent_attention
        yield "rope.dimension_count", latent.rope_dimension if latent else header.key_length
    if header.sliding_window:
        yield "attention.sliding_window", header.sliding_window.window
    if header.recurrent and header.recurrent.inner_size:
        yield "ssm.conv_kernel", header.recurrent.conv_kernel
        yield "ssm.inner_size", header.recurrent.inner_size
        yield "ssm.state_size", header.recurrent.state_size
        yield "ssm.time_step_rank", header.embedding_length // 16
    if header.recurrent and header.recurrent.short_conv_length:
        yield "shortconv.l_cache", header.recurrent.short_conv_length
    if header.latent_attention:
        yield "attention.kv_lora_rank", header.latent_attention.kv_lora_rank
        yield "attention.q_lora_rank", _QUERY_RANK
        yield "attention.key_length_mla", header.latent_attention.key_length
        yield "attention.value_length_mla", header.latent_attention.value_length
        yield "leading_dense_block_count", 1
    if header.experts:
        yield "expert_count", header.experts.count
        yield "expert_used_count", header.experts.used
        yield "expert_shared_count", header.experts.shared
        yield "expert_feed_forward_length", header.experts.feed_forward_length


def _tensors(header: ModelHeader) -> Iterator[Tensor]:
    """Yield names and shapes, fastest dimension first, as llama.cpp's `load_arch_tensors` asks for them."""
    width = header.embedding_length
    yield "token_embd.weight", (width, header.vocabulary)
    yield ("token_embd_norm.weight" if header.architecture == "lfm2" else "output_norm.weight"), (width,)
    if header.architecture == "gpt-oss":
        yield "output.weight", (width, header.vocabulary)
    for index in range(header.block_count):
        for name, shape in _block(header, index):
            yield f"blk.{index}.{name}", shape


def _block(header: ModelHeader, index: int) -> Iterator[Tensor]:
    width = header.embedding_length
    if header.architecture == "mamba":
        yield from _mamba(header)
        return
    if header.head_count[index] or header.architecture == "lfm2":
        yield "attn_norm.weight", (width,)
    if header.architecture == "lfm2" and not header.head_count_kv[index]:
        yield "shortconv.conv.weight", (3, width)
        yield "shortconv.in_proj.weight", (width, 3 * width)
        yield "shortconv.out_proj.weight", (width, width)
    elif header.latent_attention:
        yield from _latent(header, index)
    else:
        yield from _attention(header, index)
    if header.architecture != "gpt-oss":
        yield "ffn_norm.weight", (width,)
    if header.architecture in {"gemma2", "gemma3"}:
        yield "post_ffw_norm.weight", (width,)
    if header.experts and not (header.latent_attention and index == 0):
        yield from _expert_tensors(header)
    else:
        yield from _feed_forward(header, index)


def _attention(header: ModelHeader, index: int) -> Iterator[Tensor]:
    name, width, size = header.architecture, header.embedding_length, header.key_length
    heads, kv_heads = header.head_count[index], header.head_count_kv[index]
    if name in {"phi3", "openelm"}:
        yield "attn_qkv.weight", (width, (heads + 2 * kv_heads) * size)
    elif kv_heads:
        for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            yield f"attn_{part}.weight", (width, count * size)
            if name in {"qwen2", "gpt-oss"}:
                yield f"attn_{part}.bias", (count * size,)
    if name in {"qwen3", "gemma3", "openelm"} or (name == "lfm2" and kv_heads):
        yield "attn_q_norm.weight", (size,)
        yield "attn_k_norm.weight", (size,)
    if heads:
        yield "attn_output.weight", (heads * size, width)
    if name in {"gemma2", "gemma3", "gpt-oss"}:
        yield "post_attention_norm.weight", (width,)
    if name == "gpt-oss":
        yield "attn_output.bias", (width,)
        yield "attn_sinks.weight", (heads,)


def _latent(header: ModelHeader, index: int) -> Iterator[Tensor]:
    latent = header.latent_attention
    assert latent is not None
    width, heads, rank = header.embedding_length, header.head_count[index], latent.kv_lora_rank
    yield "attn_q_a_norm.weight", (_QUERY_RANK,)
    yield "attn_kv_a_norm.weight", (rank,)
    yield "attn_q_a.weight", (width, _QUERY_RANK)
    yield "attn_q_b.weight", (_QUERY_RANK, heads * latent.key_length)
    yield "attn_kv_a_mqa.weight", (width, rank + latent.rope_dimension)
    yield "attn_k_b.weight", (latent.key_length - latent.rope_dimension, rank, heads)
    yield "attn_v_b.weight", (rank, latent.value_length, heads)
    yield "attn_output.weight", (heads * latent.value_length, width)


def _feed_forward(header: ModelHeader, index: int) -> Iterator[Tensor]:
    width, hidden = header.embedding_length, header.feed_forward_length[index]
    if header.architecture == "phi3":
        yield "ffn_up.weight", (width, 2 * hidden)
    else:
        yield "ffn_gate.weight", (width, hidden)
        yield "ffn_up.weight", (width, hidden)
    yield "ffn_down.weight", (hidden, width)


def _expert_tensors(header: ModelHeader) -> Iterator[Tensor]:
    experts = header.experts
    assert experts is not None
    width, hidden, count = header.embedding_length, experts.feed_forward_length, experts.count
    biased = header.architecture == "gpt-oss"
    yield "ffn_gate_inp.weight", (width, count)
    if biased:
        yield "ffn_gate_inp.bias", (count,)
    for part, rows, columns in (("gate", width, hidden), ("up", width, hidden), ("down", hidden, width)):
        yield f"ffn_{part}_exps.weight", (rows, columns, count)
        if biased:
            yield f"ffn_{part}_exps.bias", (columns, count)
        if experts.shared:
            yield f"ffn_{part}_shexp.weight", (rows, columns)


def _mamba(header: ModelHeader) -> Iterator[Tensor]:
    state = header.recurrent
    assert state is not None
    width, inner, rank = header.embedding_length, state.inner_size, header.embedding_length // 16
    yield "attn_norm.weight", (width,)
    yield "ssm_in.weight", (width, 2 * inner)
    yield "ssm_conv1d.weight", (state.conv_kernel, inner)
    yield "ssm_conv1d.bias", (inner,)
    yield "ssm_x.weight", (inner, rank + 2 * state.state_size)
    yield "ssm_dt.weight", (rank, inner)
    yield "ssm_dt.bias", (inner,)
    yield "ssm_a", (state.state_size, inner)
    yield "ssm_d", (inner,)
    yield "ssm_out.weight", (inner, width)
