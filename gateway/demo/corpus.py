"""Reads `corpus.yaml`, the hand-written text that the demo model learns.

Owns the types of what is taught. `lessons` adds what follows a rule; `dialogue` makes conversations of both.
Nothing here runs at serving time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """An answer, and the patterns of the questions that it answers; `corpus.yaml` says what a pattern is."""

    say: str
    ask: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The whole of `corpus.yaml`."""

    decline: str
    answers: Mapping[str, Sequence[Lesson]]
    declined: Sequence[str]
    words: Mapping[str, Sequence[str]]


def load() -> Corpus:
    """Read the file beside this module."""
    text = Path(__file__).with_name("corpus.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    return Corpus(
        decline=data["decline"],
        answers={
            group: [Lesson(say=entry["say"], ask=entry["ask"]) for entry in entries]
            for group, entries in data["answers"].items()
        },
        declined=data["declined"],
        words=data["words"],
    )
