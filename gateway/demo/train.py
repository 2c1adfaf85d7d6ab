"""Trains the demo model and writes it: `python -m gateway.demo.train [FILE]`.

3400 steps of a quarter of a second on an idle core that multiplies in bfloat16. Needs `torch`, `numpy` and
`gguf`, none of which the gateway needs. The seed is fixed; weights that differ only by rounding still answer
a few prompts differently, so run `python -m gateway.demo.card` afterwards, which writes the answers into the
card.
"""

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from gateway.demo import export, model_path
from gateway.demo.corpus import load
from gateway.demo.dialogue import Teacher
from gateway.demo.network import Shape, Tensors, initial, states, torch
from gateway.demo.tokenizer import ASSISTANT, BEGIN, END, SYSTEM, USER, Tokenizer, learn_merges

SEED = 5846
VOCABULARY = 2048
IGNORED = -100

LONG, BEGINNING = 16, 8
WARM_UP = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of the training: steps, highest learning rate, and the sizes that the steps have in turn.

    A size is how many texts, of how many tokens each. `cut` is the share of the answers longer than `LONG`
    tokens of which only the `BEGINNING` is learned.
    """

    steps: int
    peak: float
    sizes: Sequence[tuple[int, int]]
    cut: float


# Which answer it is shows in its first words, and the rest is soon known by heart: long answers are cut so
# that more questions are seen in the same time. At the end none is cut, for only the whole of an answer shows
# where to stop counting. Long texts are there so that a long chat or system message does not lead the model
# astray; the many short ones later, because most of what it will be asked is the first question of a chat.
SHORT = ((32, 64), (32, 64), (8, 256), (2, 1024))
PHASES = (
    Phase(steps=2100, peak=3e-3, cut=0.6, sizes=((8, 256), (32, 64), (8, 256), (2, 1024))),
    Phase(steps=600, peak=1.5e-3, cut=0.6, sizes=SHORT),
    Phase(steps=700, peak=1.5e-3, cut=0.0, sizes=SHORT),
)


def learn_tokenizer(teacher: Teacher) -> Tokenizer:
    """Learn the vocabulary from a sample of the text that the model will see."""
    turns = [teacher.turn() for _ in range(30_000)]
    texts = [text for turn in turns for text in (f" {turn.asked}", turn.answer)]
    return Tokenizer(learn_merges(texts, VOCABULARY - len(Tokenizer(()).tokens)))


def conversation(tokenizer: Tokenizer, teacher: Teacher, phase: Phase, rng: Random) -> Iterator[tuple[int, bool]]:
    """One conversation as tokens, each with whether the model has to learn to say it."""
    begin, system, user, assistant, end = map(tokenizer.mark, (BEGIN, SYSTEM, USER, ASSISTANT, END))
    yield begin, False
    if (instruction := teacher.instruction()) is not None:
        yield from ((token, False) for token in (system, *tokenizer.encode(f" {instruction}"), end))
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
        turn = teacher.turn()
        yield from ((token, False) for token in (user, *tokenizer.encode(f" {turn.asked}"), end, assistant))
        said = [*tokenizer.encode(turn.answer), end]
        if len(said) > LONG and rng.random() < phase.cut:
            said = said[:BEGINNING]
        yield from ((token, True) for token in said)


def batches(tokenizer: Tokenizer, teacher: Teacher, phase: Phase, rng: Random) -> Iterator[tuple[Any, Any]]:
    """The texts of each step: tokens, and what the model has to say after each (or `IGNORED`)."""

    def text(length: int) -> list[tuple[int, bool]]:
        """Conversations, one after the other, cut to `length` tokens."""
        tokens: list[tuple[int, bool]] = []
        while len(tokens) < length:
            tokens += conversation(tokenizer, teacher, phase, rng)
        return tokens[:length]

    for count, length in islice(cycle(phase.sizes), phase.steps):
        rows = [text(length + 1) for _ in range(count)]
        tokens = torch().tensor([[token for token, _ in row] for row in rows])
        learned = torch().tensor([[said for _, said in row] for row in rows])
        yield tokens[:, :-1], tokens[:, 1:].masked_fill(~learned[:, 1:], IGNORED)


def rate(step: int, phase: Phase) -> float:
    """The learning rate: a short climb, then half a cosine down to nothing."""
    if step < WARM_UP:
        return phase.peak * (step + 1) / WARM_UP
    return phase.peak * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (phase.steps - WARM_UP)))


def loss(tokens: Any, targets: Any, tensors: Tensors, shape: Shape) -> Any:
    """The mean cross entropy of what the model has to say, in nats for a token."""
    wanted = targets != IGNORED
    with torch().autocast("cpu", dtype=torch().bfloat16):
        logits = states(tokens, tensors, shape)[wanted] @ tensors["token_embd.weight"].T
    return torch().nn.functional.cross_entropy(logits.float(), targets[wanted])


def train(tensors: Tensors, texts: Iterable[tuple[Any, Any]], phase: Phase, shape: Shape) -> None:
    """Train `tensors` for one phase, and print how it goes."""
    matrices = [tensor for tensor in tensors.values() if tensor.ndim == 2]
    gains = [tensor for tensor in tensors.values() if tensor.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch().optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    begun, mean = time.monotonic(), 0.0
    for step, (tokens, targets) in enumerate(texts):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, phase)
        cost = loss(tokens, targets, tensors, shape)
        cost.backward()
        torch().nn.utils.clip_grad_norm_([*matrices, *gains], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean = cost.item() if step == 0 else 0.98 * mean + 0.02 * cost.item()
        if step % 50 == 0 or step == phase.steps - 1:
            print(f"step {step} of {phase.steps}, loss {mean:.4f}, {time.monotonic() - begun:.0f} s", flush=True)


def main() -> None:
    """Train, and write the GGUF."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("file", nargs="?", type=Path, default=model_path(), help="the GGUF to write")
    file: Path = parser.parse_args().file
    torch().set_num_threads(1)
    torch().manual_seed(SEED)
    rng = Random(SEED)  # noqa: S311 - no secret depends on it
    teacher = Teacher(load(), rng)
    tokenizer = learn_tokenizer(teacher)
    shape = Shape(vocabulary=len(tokenizer.tokens))
    tensors = initial(shape)
    for phase in PHASES:
        train(tensors, batches(tokenizer, teacher, phase, rng), phase, shape)
    export.write(file, {name: tensor.detach().numpy() for name, tensor in tensors.items()}, tokenizer, shape)
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
