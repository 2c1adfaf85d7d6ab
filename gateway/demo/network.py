"""The demo's transformer in PyTorch: the `llama` architecture of llama.cpp, with its tensor names.

Owns the shape of the network and its forward pass, written as functions over a dictionary of tensors so that
a tensor keeps one name from the first step to the GGUF. PyTorch is no dependency of the gateway: it is
imported when `torch` is called, and only `train` does so.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

EPSILON = 1e-5
ROPE_BASE = 10_000.0

Tensors = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of the network; widths are multiples of 32, the block of Q8_0."""

    vocabulary: int
    layers: int = 4
    width: int = 192
    heads: int = 6
    hidden: int = 512

    @property
    def head_width(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads


@cache
def torch() -> Any:
    """PyTorch; `ModuleNotFoundError` where it is not installed."""
    return importlib.import_module("torch")


def initial(shape: Shape) -> Tensors:
    """Random weights, from PyTorch's global generator; the output shares the embedding's weights."""
    width, hidden = shape.width, shape.hidden

    def matrix(rows: int, columns: int, scale: float) -> Any:
        return (torch().randn(rows, columns) * scale).requires_grad_()

    def ones() -> Any:
        return torch().ones(width).requires_grad_()

    tensors: Tensors = {
        "token_embd.weight": matrix(shape.vocabulary, width, 0.04),
        "output_norm.weight": ones(),
    }
    inward, outward = width**-0.5, (2 * shape.layers * width) ** -0.5
    for layer in range(shape.layers):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": ones(),
            f"blk.{layer}.attn_q.weight": matrix(width, width, inward),
            f"blk.{layer}.attn_k.weight": matrix(width, width, inward),
            f"blk.{layer}.attn_v.weight": matrix(width, width, inward),
            f"blk.{layer}.attn_output.weight": matrix(width, width, outward),
            f"blk.{layer}.ffn_norm.weight": ones(),
            f"blk.{layer}.ffn_gate.weight": matrix(hidden, width, inward),
            f"blk.{layer}.ffn_up.weight": matrix(hidden, width, inward),
            f"blk.{layer}.ffn_down.weight": matrix(width, hidden, outward),
        }
    return tensors


def _norm(x: Any, gain: Any) -> Any:
    return torch().nn.functional.rms_norm(x, (x.shape[-1],), gain, EPSILON)


@cache
def _turns(length: int, head_width: int) -> tuple[Any, Any]:
    """Cosine and sine of each position's rotations, shape (length, head_width / 2)."""
    pair = torch().arange(0, head_width, 2) / head_width
    angle = torch().outer(torch().arange(length).float(), ROPE_BASE**-pair)
    return angle.cos(), angle.sin()


def _rotated(x: Any) -> Any:
    """Rotary positions over neighbouring pairs, as llama.cpp does for this architecture."""
    cosine, sine = _turns(x.shape[-2], x.shape[-1])
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch().stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)


def _attention(x: Any, tensors: Tensors, block: str, shape: Shape) -> Any:
    batch, length, width = x.shape

    def heads(name: str) -> Any:
        projected = x @ tensors[f"{block}.{name}.weight"].T
        return projected.view(batch, length, shape.heads, shape.head_width).transpose(1, 2)

    query, key = _rotated(heads("attn_q")), _rotated(heads("attn_k"))
    value = heads("attn_v")
    mixed = torch().nn.functional.scaled_dot_product_attention(
        query.to(value.dtype), key.to(value.dtype), value, is_causal=True
    )
    return mixed.transpose(1, 2).reshape(batch, length, width) @ tensors[f"{block}.attn_output.weight"].T


def _feed_forward(x: Any, tensors: Tensors, block: str) -> Any:
    gate = torch().nn.functional.silu(x @ tensors[f"{block}.ffn_gate.weight"].T)
    up = x @ tensors[f"{block}.ffn_up.weight"].T
    return (gate * up) @ tensors[f"{block}.ffn_down.weight"].T


def states(tokens: Any, tensors: Tensors, shape: Shape) -> Any:
    """The normed last states of `tokens` (batch, length); times the embedding they are the logits."""
    x = tensors["token_embd.weight"][tokens]
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        x = x + _attention(_norm(x, tensors[f"{block}.attn_norm.weight"]), tensors, block, shape)
        x = x + _feed_forward(_norm(x, tensors[f"{block}.ffn_norm.weight"]), tensors, block)
    return _norm(x, tensors["output_norm.weight"])
