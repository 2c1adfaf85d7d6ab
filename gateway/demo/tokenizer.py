"""A byte-level BPE of the GPT-2 kind, learned from the demo's own text.

Owns the vocabulary: 256 bytes, the merges, and the marks that the chat template writes. Any text can be
encoded, as bytes where nothing longer fits. llama.cpp does the same at serving time, from the merges in the
GGUF (`tokenizer.ggml.pre` is `gpt-2`). Digits are never merged, so that a number is read digit by digit.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

BEGIN, SYSTEM, USER, ASSISTANT, END = "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
MARKS = (BEGIN, SYSTEM, USER, ASSISTANT, END)

# The word pattern of GPT-2, in terms of `re`: what is no letter, no digit and no space is punctuation.
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

Pair = tuple[str, str]


@cache
def _alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in GPT-2's vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + rank) for rank, byte in enumerate(others)}


def _pieces(text: str) -> list[str]:
    alphabet = _alphabet()
    return ["".join(alphabet[byte] for byte in piece.encode()) for piece in _PIECES.findall(text)]


def _merged(symbols: list[str], pair: Pair) -> list[str]:
    """Join each occurrence of `pair`, from the left."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


def learn_merges(texts: Iterable[str], count: int) -> list[Pair]:
    """The `count` most useful merges, most useful first; fewer if the text has no more."""
    words = Counter(piece for text in texts for piece in _pieces(text) if not re.search(r"\d", piece))
    split = {word: list(word) for word in words}
    merges: list[Pair] = []
    while len(merges) < count:
        pairs: Counter[Pair] = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, symbols in split.items():
            if best[0] in symbols:
                split[word] = _merged(symbols, best)
    return merges


class Tokenizer:
    """Encodes text with given merges; a token is its place in `tokens`."""

    def __init__(self, merges: Iterable[Pair]) -> None:
        """Lay the vocabulary out: marks, then bytes, then merges."""
        self.merges = list(merges)
        self.tokens = [*MARKS, *_alphabet().values(), *("".join(pair) for pair in self.merges)]
        self._ids = {token: number for number, token in reversed(list(enumerate(self.tokens)))}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._known: dict[str, list[int]] = {}

    def mark(self, mark: str) -> int:
        """The token of one of `MARKS`."""
        return MARKS.index(mark)

    def decode(self, tokens: Iterable[int]) -> bytes:
        """The bytes that tokens other than marks stand for; they may end within a character."""
        bytes_of = {character: byte for byte, character in _alphabet().items()}
        return bytes(bytes_of[character] for token in tokens for character in self.tokens[token])

    def encode(self, text: str) -> list[int]:
        """The tokens of a text that holds no marks."""
        return [token for piece in _pieces(text) for token in self._encode_piece(piece)]

    def _encode_piece(self, piece: str) -> list[int]:
        if piece not in self._known:
            symbols = list(piece)
            while ranked := [pair for pair in pairwise(symbols) if pair in self._ranks]:
                symbols = _merged(symbols, min(ranked, key=self._ranks.__getitem__))
            self._known[piece] = [self._ids[symbol] for symbol in symbols]
        return self._known[piece]
