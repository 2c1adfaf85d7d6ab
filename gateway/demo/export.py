"""Writes the demo model as a GGUF: weights, tokenizer, chat template and card data in one file.

Matrices are written in Q8_0, which costs one byte for a weight, and gains in F32. Needs `gguf` and `numpy`.
"""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from gateway.demo.network import EPSILON, ROPE_BASE, Shape
from gateway.demo.tokenizer import ASSISTANT, BEGIN, END, MARKS, SYSTEM, USER, Tokenizer

CONTEXT = 2048

# Questions are lowered and trimmed, so that "Hi" and "hi" are one question; what the model said stays as it
# is. The first mark is not in the template, because the tokenizer adds it.
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}{{ '" + ASSISTANT + "' + message['content'] + '" + END + "' }}"
    "{%- elif message['role'] == 'system' -%}{{ '"
    + SYSTEM
    + " ' + (message['content'] | lower | trim) + '"
    + END
    + "' }}"
    "{%- else -%}{{ '" + USER + " ' + (message['content'] | lower | trim) + '" + END + "' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '" + ASSISTANT + "' }}{%- endif -%}"
)


def _describe(out: gguf.GGUFWriter, shape: Shape) -> None:
    out.add_name("gateway demo")
    out.add_description("A toy model that proves that the pipe works.")
    out.add_license("MIT")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(shape.width)
    out.add_block_count(shape.layers)
    out.add_feed_forward_length(shape.hidden)
    out.add_head_count(shape.heads)
    out.add_head_count_kv(shape.heads)
    out.add_rope_dimension_count(shape.head_width)
    out.add_rope_freq_base(ROPE_BASE)
    out.add_layer_norm_rms_eps(EPSILON)
    out.add_vocab_size(shape.vocabulary)


def _add_tokenizer(out: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    plain = len(tokenizer.tokens) - len(MARKS)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokenizer.tokens)
    out.add_token_types([gguf.TokenType.CONTROL] * len(MARKS) + [gguf.TokenType.NORMAL] * plain)
    out.add_token_merges([" ".join(pair) for pair in tokenizer.merges])
    out.add_bos_token_id(tokenizer.mark(BEGIN))
    out.add_eos_token_id(tokenizer.mark(END))
    out.add_eot_token_id(tokenizer.mark(END))
    out.add_pad_token_id(tokenizer.mark(END))
    out.add_add_bos_token(value=True)
    out.add_add_space_prefix(value=False)
    out.add_chat_template(TEMPLATE)


def write(path: Path, tensors: Mapping[str, npt.NDArray[np.float32]], tokenizer: Tokenizer, shape: Shape) -> None:
    """Write the model to `path`, over what was there. `tensors` have llama.cpp's names."""
    out = gguf.GGUFWriter(path, "llama")
    _describe(out, shape)
    _add_tokenizer(out, tokenizer)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, values in tensors.items():
        if values.ndim == 1:
            out.add_tensor(name, values)
        else:
            out.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
