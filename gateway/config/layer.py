"""Settings of one origin, not yet validated: the file, `.env`, the environment, the command line.

Owns the type in which all origins look alike, and their validation against `schema.ConfigFile`, each for
itself: so a mistake in the file is reported even where a variable overrides it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from pydantic import ValidationError

from gateway.config.faults import problems_of
from gateway.config.locate import Document, dotted
from gateway.config.problem import Place, Problem, shown
from gateway.config.schema import ConfigFile
from gateway.core.alias import Json

Kind = Literal["default", "file", ".env", "environment", "command line"]

# Where an empty value (`ttl:`) says something of its own; elsewhere it means that nothing is set.
NULL_HAS_MEANING: Final = frozenset({"models.ttl", "memory.budget", "memory.max_loaded"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A raw value, where it was written, and the name it has there (`server.port`, `PORT`, `--port`)."""

    value: Json
    place: Place
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a setting comes from. `label` is its name there; `folder` is where relative paths in it start."""

    kind: Kind
    place: Place = field(default_factory=lambda: Place(file=""))
    label: str = ""
    folder: Path = field(default_factory=Path)

    def __str__(self) -> str:
        match self.kind:
            case "default" | "command line":
                return f"{self.kind} {self.label}".strip()
            case "file":
                return str(self.place)
            case ".env" | "environment":
                return f"{self.place} {self.label}"


@dataclass(slots=True, kw_only=True)
class Layer:
    """The settings of one origin by dotted key, with what is wrong or odd about them."""

    kind: Kind
    folder: Path
    values: dict[str, Written] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def validate(self) -> None:
        """Add the problems of the values to `problems`."""
        try:
            ConfigFile.model_validate(nested(self.values))
        except ValidationError as fault:
            self.problems.extend(problems_of(fault, ConfigFile, self._locate))

    def _locate(self, path: tuple[str | int, ...]) -> tuple[Place, str]:
        name = dotted(path[:2])
        for key, written in self.values.items():
            if key == name or key.startswith(f"{name}."):
                return written.place, written.label
        return Place(file=self.kind), dotted(path)


def file_layer(document: Document, folder: Path) -> Layer:
    """Return the settings of config.yaml. Unknown keys and wrong shapes are among its problems."""
    layer = Layer(kind="file", folder=folder, problems=list(document.problems))
    value = {} if document.value is None else document.value
    if not isinstance(value, dict):
        message = f"expected sections such as 'server:' and 'models:', got {shown(value)}"
        layer.problems.append(Problem.at(document.place(()), "", message))
        return layer
    pruned = without_empty(value)
    for section, content in pruned.items():
        for key, item in content.items() if isinstance(content, dict) else ():
            name = f"{section}.{key}"
            layer.values[name] = Written(value=item, place=document.place((section, key)), label=name)
    try:
        ConfigFile.model_validate(pruned)
    except ValidationError as fault:
        layer.problems.extend(problems_of(fault, ConfigFile, lambda path: (document.place(path), dotted(path))))
    return layer


def without_empty(value: Mapping[str, Json]) -> dict[str, Json]:
    """Return sections without those, and without the keys, that are left empty."""
    kept: dict[str, Json] = {}
    for section, content in value.items():
        if isinstance(content, dict):
            kept[section] = {
                key: item for key, item in content.items() if item is not None or f"{section}.{key}" in NULL_HAS_MEANING
            }
        elif content is not None:
            kept[section] = content
    return kept


def nested(values: Mapping[str, Written]) -> dict[str, dict[str, Json]]:
    """Return dotted keys as sections."""
    sections: dict[str, dict[str, Json]] = {}
    for name, written in values.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = written.value
    return sections


def merged(layers: Iterable[Layer]) -> tuple[ConfigFile, Mapping[str, Source]]:
    """Return the settings of valid layers, the later ones winning, and where each comes from."""
    values: dict[str, Written] = {}
    sources: dict[str, Source] = {}
    for layer in layers:
        values |= layer.values
        for name, written in layer.values.items():
            sources[name] = Source(kind=layer.kind, place=written.place, label=written.label, folder=layer.folder)
    return ConfigFile.model_validate(nested(values)), MappingProxyType(sources)
