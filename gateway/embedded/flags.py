"""Reads llama-server's command line into settings for the wheel's `CommonParams`.

Owns the meaning of a row of the table (`Flag`) and the walk over the words (`parse`). Promises that `parse`
is pure but for the files that flags name, that it needs no wheel (so a mistake is reported within
milliseconds), and that its errors are complete lines to show to a person.

As in llama-server, a later flag wins over an earlier one, except for those that collect, and underscores in a
long name count as hyphens. `--flag=value` is accepted too, which llama-server itself refuses. The LLAMA_ARG_*
environment variables are not read: what a child does is decided by its command line alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from gateway.embedded.values import Kind, Several, Value


class Action(Enum):
    """What the command line asks for."""

    SERVE = "serve"
    HELP = "help"
    VERSION = "version"
    LIST_DEVICES = "list devices"


class FlagError(Exception):
    """The command line cannot be honoured; the text is the whole line to print."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """One row of the table: spellings of a flag, and what it sets.

    `sets` are paths of attributes below `CommonParams`, all given the same value: what `takes` makes of the
    next word, or `constant` for a switch. `also` are further attributes with fixed values; numbers among them
    are bit masks that are added up. `collects`: a repetition adds to the value instead of replacing it. A row
    without `sets` is accepted and has nothing to decide here. `refused` is the reason why a flag of
    llama-server is not honoured; `successor` is what llama-server wants instead of a flag that it used to
    have.
    """

    names: tuple[str, ...]
    sets: tuple[str, ...] = ()
    takes: Kind | None = None
    constant: Value = True
    also: Mapping[str, Value] = field(default_factory=dict)
    collects: bool = False
    refused: str = ""
    successor: str = ""
    action: Action = Action.SERVE


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The value for one attribute, and the flag as it was written, for messages (empty for a default)."""

    flag: str
    value: Value


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLine:
    """A command line that was understood: what to do, and attribute paths with what they are set to."""

    action: Action
    settings: Mapping[str, Setting]


def parse(argv: Sequence[str], rows: Sequence[Flag], defaults: Mapping[str, Value]) -> CommandLine:
    """Read `argv` (without the program's name) by the table `rows`, starting from `defaults`.

    Raises FlagError for an unknown or refused flag, a missing value and a bad value. A flag that asks for
    something else than serving ends the reading.
    """
    by_name = {name: row for row in rows for name in row.names}
    settings = {path: Setting(flag="", value=value) for path, value in defaults.items()}
    words = iter(argv)
    for word in words:
        flag, row, inline = _lookup(word, by_name)
        if row.refused or row.successor:
            raise FlagError(_refusal(flag, row))
        if row.action is not Action.SERVE:
            return CommandLine(action=row.action, settings=settings)
        _store(settings, flag, row, _value(flag, row, inline, words))
    return CommandLine(action=Action.SERVE, settings=settings)


def usage(rows: Sequence[Flag]) -> str:
    """The help text: one line per row, with what it sets or why it is refused."""
    lines = ["usage: python -m gateway.embedded.llama_server -m FILE [flags of llama-server]", ""]
    lines += [f"{_left(row):<58} {_right(row)}".rstrip() for row in rows]
    return "\n".join(lines)


def _left(row: Flag) -> str:
    return ", ".join(row.names) + (f" {row.takes.metavar}" if row.takes else "")


def _right(row: Flag) -> str:
    if row.refused:
        return f"not available here: {row.refused}"
    if row.successor:
        return f"removed: use {row.successor}"
    return "sets " + ", ".join(row.sets) if row.sets else ""


def _lookup(word: str, by_name: Mapping[str, Flag]) -> tuple[str, Flag, str | None]:
    name, equals, value = word.partition("=")
    if name.startswith("--"):
        name = name.replace("_", "-")
    if name not in by_name or (equals and not name.startswith("--")):
        raise FlagError(f"error: invalid argument: {word}")
    return name, by_name[name], value if equals else None


def _refusal(flag: str, row: Flag) -> str:
    if row.successor:
        return f"error: invalid argument: {flag}: llama-server no longer has it; use {row.successor}"
    return f"error: {flag}: the embedded llama-server cannot honour it ({row.refused}): install llama-server for it"


def _value(flag: str, row: Flag, inline: str | None, words: Iterator[str]) -> Value:
    if row.takes is None:
        if inline is not None:
            raise FlagError(f'error while handling argument "{flag}": it takes no value, got {inline!r}')
        return row.constant
    text = inline if inline is not None else next(words, None)
    if text is None:
        raise FlagError(f'error while handling argument "{flag}": expected {row.takes.expected} after it')
    try:
        return row.takes.convert(text)
    except (ValueError, OSError) as error:
        raise FlagError(
            f'error while handling argument "{flag}": got {text!r}, expected {row.takes.expected}'
        ) from error


def _store(settings: dict[str, Setting], flag: str, row: Flag, value: Value) -> None:
    decided = value.values if isinstance(value, Several) else dict.fromkeys(row.sets, value)
    for path, item in decided.items():
        old = settings.get(path)
        collects = old is not None and (row.collects or isinstance(item, Mapping))
        settings[path] = Setting(flag=flag, value=_together(old.value, item) if old and collects else item)
    for path, item in row.also.items():
        old = settings.get(path)
        collects = old is not None and isinstance(item, int)
        settings[path] = Setting(flag=flag, value=_together(old.value, item) if old and collects else item)


def _together(old: Value, new: Value) -> Value:
    """Both values in one: names merged, sets united, bits added up, lists put end to end."""
    match old, new:
        case Mapping(), Mapping():
            return {**old, **new}
        case frozenset(), frozenset():
            return old | new
        case int(), int():
            return old | new
        case tuple(), tuple():
            return (*old, *new)
        case _:
            return new
