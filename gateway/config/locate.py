"""YAML text to plain values, with the place of every key.

Owns the reading of YAML: text becomes `None`, `bool`, `int`, `float`, `str`, lists and dicts (keys are always
the text as written), and `Document.place` tells where each was written. Promises that every mistake is a
`Problem` with a line: syntax, tabs, a key written twice (both places are named), another document, an unknown
tag, text that is not UTF-8. Does not validate meaning.

Scalars follow YAML 1.2, not 1.1: `on`, `1:30` and `2024-01-01` stay text, `1e3` is a number, `010` is ten.
Under 1.1 a model called `on`, or a duration `1:30`, would silently become something else.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import yaml

from gateway.config.problem import Place, Problem
from gateway.core.alias import Json

Path = tuple[str | int, ...]

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 40

LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: Final[Mapping[str, Json]] = MappingProxyType({
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
})  # fmt: skip
_INT: Final = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What one file says: its value, where each part was written, and what is wrong with the text itself."""

    file: str
    value: Json = None
    problems: tuple[Problem, ...] = ()
    _places: Mapping[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Return where the key at `path` was written, or the nearest one that contains it."""
        while path and path not in self._places:
            path = path[:-1]
        return self._places.get(path, Place(file=self.file, line=1, column=1))

    def places(self) -> Mapping[Path, Place]:
        """Return the place of every key and list item."""
        return self._places


def plain_scalar(text: str) -> Json:
    """Return what an unquoted scalar means in YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    # Python refuses to turn more than 4300 digits into an int; no setting has more than twenty.
    if _INT.fullmatch(text) and len(text) <= 40:
        return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    return number if math.isfinite(number) else text


def read_yaml(data: bytes, file: str) -> Document:
    """Read YAML; `file` is the name that problems show. An empty text is `None`. Never raises."""
    reader = _Reader(file)
    try:
        value = reader.document(data)
    except _UnreadableError as fault:
        return Document(file=file, problems=(fault.problem,))
    return Document(file=file, value=value, problems=tuple(reader.problems), _places=reader.places)


class _UnreadableError(Exception):
    """The text has no meaning at all; carries the one problem to report."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Reader:
    """Turns one text into values, collecting places and problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.places: dict[Path, Place] = {}
        self._nodes = 0

    def document(self, data: bytes) -> Json:
        text = self._decode(data)
        try:
            node = yaml.compose(text, Loader=LOADER)
        except yaml.reader.ReaderError as fault:
            raise self._control_character(text, fault) from None
        except yaml.MarkedYAMLError as fault:
            raise self._syntax(text, fault) from None
        except RecursionError:
            raise self._unreadable(1, 1, f"nested deeper than {MAX_DEPTH} levels") from None
        return None if node is None else self._value(node, ())

    def _decode(self, data: bytes) -> str:
        if len(data) > MAX_BYTES:
            raise self._unreadable(1, 1, f"larger than {MAX_BYTES // 1024 // 1024} MiB; is this the right file?")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as fault:
            line, column = _line_and_column(data[: fault.start].decode("utf-8", "replace"))
            raise self._unreadable(line, column, "not UTF-8 text; save the file as UTF-8") from None

    def _value(self, node: yaml.Node, path: Path) -> Json:
        self._nodes += 1
        # An anchor may be used many times over, or contain itself: bounded by what is built, not by the text.
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            what = f"nested deeper than {MAX_DEPTH} levels" if len(path) > MAX_DEPTH else "too many values"
            raise self._unreadable(node.start_mark.line + 1, node.start_mark.column + 1, what)
        if node.tag not in _TAGS:
            self._add(node, path, f"the tag '{node.tag}' has no meaning here; write the value without it")
            return None
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return self._sequence(node, path)
            case yaml.ScalarNode(style=None | ""):
                return plain_scalar(node.value)
            case _:
                return str(node.value)

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> Json:
        items: list[Json] = []
        for index, item in enumerate(node.value):
            self.places.setdefault((*path, index), self._place(item))
            items.append(self._value(item, (*path, index)))
        return items

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Json:
        built: dict[str, Json] = {}
        first: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(key_node, path, "a key must be a single word or text")
            elif key_node.value in first:
                line = first[key_node.value].start_mark.line + 1
                where = (*path, key_node.value)
                self._add(key_node, where, f"written twice, here and in line {line}; remove one of them")
            elif key_node.tag.endswith(":merge"):
                self._add(key_node, path, "merge keys (<<) are not read here; inherit with 'base_model'")
            else:
                name = key_node.value
                first[name] = key_node
                self.places.setdefault((*path, name), self._place(key_node))
                built[name] = self._value(value_node, (*path, name))
        return built

    def _place(self, node: yaml.Node) -> Place:
        return Place(file=self.file, line=node.start_mark.line + 1, column=node.start_mark.column + 1)

    def _add(self, node: yaml.Node, path: Path, message: str) -> None:
        self.problems.append(Problem.at(self._place(node), dotted(path), message))

    def _unreadable(self, line: int, column: int, message: str) -> _UnreadableError:
        return _UnreadableError(Problem(file=self.file, line=line, column=column, message=message))

    def _control_character(self, text: str, fault: yaml.reader.ReaderError) -> _UnreadableError:
        found = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)
        line, column = _line_and_column(text[: found.start() if found else 0])
        return self._unreadable(line, column, f"unreadable YAML: {fault.reason}; remove the character")

    def _syntax(self, text: str, fault: yaml.MarkedYAMLError) -> _UnreadableError:
        mark = fault.problem_mark or fault.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        written = text.splitlines()[line] if line < len(text.splitlines()) else ""
        indent = written[: len(written) - len(written.lstrip())]
        if "\t" in indent:
            return self._unreadable(
                line + 1,
                indent.index("\t") + 1,
                "a tab in the indentation; YAML wants spaces, replace it with two",
            )
        return self._unreadable(line + 1, column + 1, f"unreadable YAML: {_explained(fault)}")


def dotted(path: Path) -> str:
    """Return a path as messages show it: `models.coder.aliases[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _explained(fault: yaml.MarkedYAMLError) -> str:
    said = f"{fault.problem} {fault.context or ''}".strip()
    if "mapping values are not allowed" in said:
        return "a second ': ' in one line; put the value in quotes, or start a new line"
    if "another document" in said:
        return "a second document ('---') begins here; one file holds one document"
    if "cannot start any token" in said:
        return "a value cannot begin with this character; put the value in quotes"
    if "unexpected end of stream" in said:
        return "a quote is opened and never closed"
    if "undefined alias" in said:
        return "'*' uses an anchor that is not defined; put the value in quotes if it is text"
    return said


def _line_and_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
