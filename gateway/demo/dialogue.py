"""Makes conversations of the written text: which question, in which words, spelled how, after what.

Owns the reading of patterns, the wear of real typing (politeness, punctuation, slips of the finger) and the
mix of what is asked. Random, from the generator that is handed in: one seed, one series of conversations.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from gateway.demo import lessons
from gateway.demo.corpus import Corpus, Lesson

_CHOICE = re.compile(r"\(([^()]*)\)")
_SPACES = re.compile(r" +")
_WORD = re.compile(r"\{(\w+)\}")
_BEFORE = (
    "please ",
    "hey, ",
    "hi, ",
    "hello, ",
    "ok, ",
    "so, ",
    "and ",
    "well, ",
    "can you tell me, ",
    "tell me: ",
    "please tell me: ",
    "i have a question: ",
    "now ",
    "then ",
    "could you please ",
    "hello! ",
    "hi! ",
    "dear model, ",
    "question: ",
    "but ",
)
_AFTER = (
    " please",
    ", please",
    " now",
    " for me",
    " thanks",
    ", thank you",
    " then",
    " here",
    " quickly",
    " again",
)
_ENDS = ("", "", "", "?", "?", ".", "!", " ?", "!!", "??", "...", " :)")
_SYSTEM = (
    "you are a helpful assistant.",
    "you are a helpful, honest and harmless assistant. answer in short sentences.",
    "answer in english.",
    "be brief.",
    "you are a coding agent. use the tools that you are given, and explain what you do.",
    "today is monday. the user's name is anna. answer politely and do not make things up.",
)
# The first of some letters that are small ones: Greek, Cyrillic, Arabic, Devanagari, kana, Chinese, Hangul.
_SCRIPTS = (0x3B1, 0x430, 0x627, 0x905, 0x3042, 0x65E5, 0xAC00)
_VOWELS, _CONSONANTS, _FINALS = "aeiouy", "bcdfghjklmnpqrstvwxz", ("n", "r", "s", "l", "t", "", "", "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question as the template shows it to the model (small letters, trimmed), and its answer."""

    asked: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A group of answers that is asked for with the probability `weight`, each answer alike."""

    weight: float
    lessons: Sequence[Lesson]


class Teacher:
    """Asks questions, and knows what the model has to say to them."""

    def __init__(self, corpus: Corpus, rng: Random) -> None:
        """Teach all of `corpus` and `lessons`, in the order that `rng` gives."""
        self._corpus = corpus
        self._rng = rng
        self._subjects = _subjects(corpus)

    def turn(self) -> Turn:
        """A question and its answer: one in four is of those that the model declines."""
        if self._rng.random() < 0.25:
            return self.decline()
        [subject] = self._rng.choices(self._subjects, [each.weight for each in self._subjects])
        lesson = self._rng.choice(subject.lessons)
        return Turn(asked=self._typed(self._expand(self._rng.choice(lesson.ask))), answer=lesson.say)

    def decline(self) -> Turn:
        """A question that the model cannot answer; now and then a long text with nothing to answer in it."""
        parts = 1 if self._rng.random() < 0.93 else self._rng.randint(2, 6)
        asked = [self._expand(self._rng.choice(self._corpus.declined)) for _ in range(parts)]
        return Turn(asked=self._typed(self._rng.choice((". ", " ", "\n")).join(asked)), answer=self._corpus.decline)

    def instruction(self) -> str | None:
        """The system message: mostly none, and some long and strange."""
        if self._rng.random() < 0.6:
            return None
        instructions = self._rng.sample(_SYSTEM, self._rng.randint(1, 2))
        if self._rng.random() < 0.4:
            instructions += [self.decline().asked for _ in range(self._rng.randint(1, 8))]
        return " ".join(instructions)

    def _expand(self, pattern: str) -> str:
        """Choose one of the texts that a pattern stands for."""
        text, found = pattern, 1
        while found:
            text, found = _CHOICE.subn(lambda choice: self._rng.choice(choice[1].split("|")), text)
        text = _WORD.sub(lambda kind: self._word(kind[1]), text)
        text = "".join(str(self._rng.randrange(10)) if mark == "§" else mark for mark in text)
        return _SPACES.sub(" ", text).strip()

    def _word(self, kind: str) -> str:
        """One of the corpus's words, or something made up of the kind that `corpus.yaml` describes."""
        if kind == "talk":
            return ". ".join(self.decline().asked for _ in range(self._rng.randint(1, 3)))
        if kind == "script":
            first = self._rng.choice(_SCRIPTS)
            return "".join(chr(first + self._rng.randrange(32)) for _ in range(self._rng.randint(2, 6)))
        if kind == "mash":
            return "".join(self._rng.choices("asdfghjklqwertyuiop", k=self._rng.randint(3, 9)))
        if kind != "noise":
            return self._rng.choice(self._corpus.words[kind])
        syllables = range(self._rng.randint(1, 4))
        return "".join(self._rng.choice(part) for _ in syllables for part in (_CONSONANTS, _VOWELS, _FINALS))

    def _typed(self, text: str) -> str:
        """The text as a person would type it: with please and slips, with any punctuation or none."""
        if self._rng.random() < 0.16:
            text = self._rng.choice(_BEFORE) + text
        if self._rng.random() < 0.08:
            text += self._rng.choice(_AFTER)
        if self._rng.random() < 0.3:
            text = text.replace("'", "")
        if len(text) > 6 and self._rng.random() < 0.1:
            text = self._slipped(text)
        return (text + self._rng.choice(_ENDS)).strip()

    def _slipped(self, text: str) -> str:
        """One slip of the finger: a letter lost, doubled, swapped with its neighbour, or another one."""
        at = self._rng.randrange(1, len(text) - 1)
        if not text[at].isalpha():
            return text
        before, letter, after = text[:at], text[at], text[at + 1 :]
        swapped = before[:-1] + letter + before[-1] + after
        other = before + self._rng.choice(_VOWELS + _CONSONANTS) + after
        return self._rng.choice((before + after, before + letter + letter + after, swapped, other))


def _subjects(corpus: Corpus) -> tuple[Subject, ...]:
    """All that the model learns to answer; what it declines comes from `Teacher.decline`."""
    return (
        Subject(weight=0.15, lessons=corpus.answers["itself"]),
        Subject(weight=0.27, lessons=corpus.answers["gateway"]),
        Subject(weight=0.15, lessons=corpus.answers["pleasantries"]),
        Subject(weight=0.08, lessons=corpus.answers["lists"]),
        Subject(weight=0.02, lessons=corpus.answers["tasks"]),
        Subject(weight=0.15, lessons=tuple(lessons.sums())),
        Subject(weight=0.07, lessons=tuple(lessons.counting())),
        Subject(weight=0.04, lessons=tuple(lessons.capitals())),
        Subject(weight=0.05, lessons=tuple(lessons.translations())),
        Subject(weight=0.05, lessons=tuple(lessons.everyday())),
    )
