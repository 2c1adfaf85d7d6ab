"""A mistake in what a person wrote, with its place and the way out.

Owns the types in which every part of this package reports: `UnfitError` (a value that does not fit),
`Problem` (one mistake, with its place) and `ConfigError` (all of them). It promises one line per problem in
the form that editors and terminals turn into links:
`custom_models.yaml:14:5: models.coder.ctx_size: expected a whole number of tokens, got 'big'`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from gateway.config.mark import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was written. Lines and columns count from 1; 0 where there are none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake. `file` as shown, `key` dotted (`models.coder.ctx_size`), empty for a whole file."""

    file: str
    line: int = 0
    column: int = 0
    key: str = ""
    message: str

    @classmethod
    def at(cls, place: Place, key: str, message: str) -> "Problem":
        """Return a problem at `place`."""
        return cls(file=place.file, line=place.line, column=place.column, key=key, message=message)

    def __str__(self) -> str:
        place = Place(file=self.file, line=self.line, column=self.column)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class UnfitError(ValueError):
    """A single value does not fit; the message is a full sentence: what was expected, what was found."""


class ConfigError(Exception):
    """What was written cannot be used. Carries every problem of all files, in the order of the text.

    `marks` are those of the files that were looked at: when one changes it is worth another try.
    """

    def __init__(self, problems: Iterable[Problem], marks: Mapping[Path, Mark] | None = None) -> None:
        """Keep the problems sorted by file and place, each once."""
        self.marks = dict(marks or {})
        unique = dict.fromkeys(problems)
        self.problems = tuple(sorted(unique, key=lambda it: (it.file, it.line, it.column, it.key)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(wrong: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return `" (did you mean 'x'?)"` for the known word nearest to `wrong`, or nothing.

    `likeness`, from 0 to 1, is how much the two must have in common.
    """
    words = {word.casefold(): word for word in known}
    near = get_close_matches(wrong.casefold(), words, n=1, cutoff=likeness)
    return f" (did you mean '{words[near[0]]}'?)" if near else ""


def listing(words: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def shown(value: object) -> str:
    """Return a value as a message quotes it: short, and never over two lines."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
