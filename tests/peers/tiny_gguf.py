"""Small GGUF models with random weights: real to a llama-server, quick to write and to load.

`write` makes a chat model; a server started with `--embeddings --pooling mean` answers /v1/embeddings from the same
file. `write_reranker` makes a BERT-like model for `--rerank`. The same arguments give the same bytes, so a seed is a
model's identity. What they say is noise: ask for `max_tokens`, and for `ignore_eos` where a length matters.

Sizes (float32): the default chat model has 0.5 MB and loads in about 30 ms; width 512 with 8 layers has 75 MB.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

WORDS = ["model", "answer", "token", "stream", "request", "server", "memory", "load", "first", "last", "open", "close"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz .,\n")
SPACE = "\u2581"  # how sentencepiece and llama.cpp's WordPiece write the space before a word
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
HEADS = 4
KV_HEADS = 2
SPREAD = 0.05  # standard deviation of the weights; small enough that no activation overflows


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The pieces of a tokenizer, their scores and their types, in order of their ids."""

    pieces: list[bytes]
    scores: list[float]
    types: list[gguf.TokenType]


class Weights:
    """Adds tensors to a file: random ones from a seed, and constant ones."""

    def __init__(self, out: gguf.GGUFWriter, seed: int) -> None:
        self._out = out
        self._random = np.random.default_rng(seed)

    def random(self, name: str, *shape: int) -> None:
        """Add a random tensor of `shape`, the row length last."""
        self._out.add_tensor(name, (self._random.standard_normal(shape, dtype=np.float32) * np.float32(SPREAD)))

    def constant(self, name: str, length: int, value: float) -> None:
        """Add a vector of `length` times `value`."""
        self._out.add_tensor(name, np.full(length, value, dtype=np.float32))

    def linear(self, name: str, outputs: int, inputs: int) -> None:
        """Add the weight and the zero bias of a linear layer."""
        self.random(f"{name}.weight", outputs, inputs)
        self.constant(f"{name}.bias", outputs, 0)

    def norm(self, name: str, width: int) -> None:
        """Add the weight and the bias of a normalization that changes nothing."""
        self.constant(f"{name}.weight", width, 1)
        self.constant(f"{name}.bias", width, 0)


def write(path: Path, *, layers: int = 2, width: int = 64, context: int = 2048, seed: int = 1) -> Path:
    """Write a chat model of the llama architecture to `path` and return it.

    Its vocabulary falls back to bytes, so any text can be said to it and by it; its chat template writes one line
    `<role> content` per message. `width` is a multiple of 8, `context` the tokens that it says it was trained for.
    """

    def fill(out: gguf.GGUFWriter) -> None:
        out.add_rope_dimension_count(width // HEADS)
        out.add_head_count_kv(KV_HEADS)
        out.add_layer_norm_rms_eps(1e-5)
        vocabulary = _byte_fallback()
        _add_vocabulary(out, "llama", vocabulary)
        out.add_unk_token_id(0)
        out.add_bos_token_id(1)
        out.add_eos_token_id(2)
        out.add_add_bos_token(value=True)
        out.add_add_space_prefix(value=True)
        out.add_chat_template(CHAT_TEMPLATE)
        _llama_weights(Weights(out, seed), len(vocabulary.pieces), layers, width)

    return _file(path, "llama", f"tiny-{seed}", (layers, width, context), fill)


def write_reranker(path: Path, *, layers: int = 2, width: int = 64, context: int = 512, seed: int = 1) -> Path:
    """Write a model of the BERT architecture with a ranking head to `path` and return it."""

    def fill(out: gguf.GGUFWriter) -> None:
        out.add_layer_norm_eps(1e-12)
        out.add_causal_attention(value=False)
        out.add_pooling_type(gguf.PoolingType.RANK)
        vocabulary = _word_pieces()
        _add_vocabulary(out, "bert", vocabulary)
        out.add_token_type_count(2)
        for add, token in (
            (out.add_pad_token_id, 0),
            (out.add_unk_token_id, 1),
            (out.add_bos_token_id, 2),
            (out.add_eos_token_id, 3),
            (out.add_sep_token_id, 3),
            (out.add_mask_token_id, 4),
        ):
            add(token)
        _bert_weights(Weights(out, seed), len(vocabulary.pieces), (layers, width, context))

    return _file(path, "bert", f"tiny-reranker-{seed}", (layers, width, context), fill)


def _file(
    path: Path, architecture: str, name: str, shape: tuple[int, int, int], fill: Callable[[gguf.GGUFWriter], None]
) -> Path:
    layers, width, context = shape
    out = gguf.GGUFWriter(path, architecture)
    out.add_name(name)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_block_count(layers)
    out.add_embedding_length(width)
    out.add_feed_forward_length(2 * width)
    out.add_context_length(context)
    out.add_head_count(HEADS)
    fill(out)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _add_vocabulary(out: gguf.GGUFWriter, kind: str, vocabulary: Vocabulary) -> None:
    out.add_tokenizer_model(kind)
    out.add_token_list(vocabulary.pieces)
    out.add_token_scores(vocabulary.scores)
    out.add_token_types(vocabulary.types)


def _byte_fallback() -> Vocabulary:
    """Return unknown, begin and end, then the 256 bytes, then words and letters with falling scores."""
    plain = [SPACE + word for word in WORDS] + LETTERS + [SPACE]
    kinds = gguf.TokenType
    return Vocabulary(
        pieces=[
            *(b"<unk>", b"<s>", b"</s>"),
            *(f"<0x{byte:02X}>".encode() for byte in range(256)),
            *(piece.encode() for piece in plain),
        ],
        scores=[0.0] * 259 + [-1.0 - rank for rank in range(len(plain))],
        types=[kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * 256 + [kinds.NORMAL] * len(plain),
    )


def _word_pieces() -> Vocabulary:
    """Return the five special tokens of BERT, then words and letters at a word's start, then letters inside one."""
    letters = [letter for letter in LETTERS if letter.strip()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [SPACE + word for word in WORDS] + [SPACE + letter for letter in letters] + letters
    kinds = gguf.TokenType
    special = [kinds.CONTROL, kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, kinds.CONTROL]
    return Vocabulary(
        pieces=[piece.encode() for piece in pieces],
        scores=[0.0] * len(pieces),
        types=special + [kinds.NORMAL] * (len(pieces) - len(special)),
    )


def _llama_weights(add: Weights, tokens: int, layers: int, width: int) -> None:
    kv_width = width // HEADS * KV_HEADS
    add.random("token_embd.weight", tokens, width)
    add.constant("output_norm.weight", width, 1)
    add.random("output.weight", tokens, width)
    for layer in range(layers):
        block = f"blk.{layer}"
        add.constant(f"{block}.attn_norm.weight", width, 1)
        add.random(f"{block}.attn_q.weight", width, width)
        add.random(f"{block}.attn_k.weight", kv_width, width)
        add.random(f"{block}.attn_v.weight", kv_width, width)
        add.random(f"{block}.attn_output.weight", width, width)
        add.constant(f"{block}.ffn_norm.weight", width, 1)
        add.random(f"{block}.ffn_gate.weight", 2 * width, width)
        add.random(f"{block}.ffn_up.weight", 2 * width, width)
        add.random(f"{block}.ffn_down.weight", width, 2 * width)


def _bert_weights(add: Weights, tokens: int, shape: tuple[int, int, int]) -> None:
    layers, width, context = shape
    add.random("token_embd.weight", tokens, width)
    add.random("token_types.weight", 2, width)
    add.random("position_embd.weight", context, width)
    add.norm("token_embd_norm", width)
    for layer in range(layers):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add.linear(f"{block}.{part}", width, width)
        add.norm(f"{block}.attn_output_norm", width)
        add.linear(f"{block}.ffn_up", 2 * width, width)
        add.linear(f"{block}.ffn_down", width, 2 * width)
        add.norm(f"{block}.layer_output_norm", width)
    add.linear("cls", width, width)
    add.linear("cls.output", 1, width)
