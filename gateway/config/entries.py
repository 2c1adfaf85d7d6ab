"""Entries of custom_models.yaml with all they inherit.

Owns how an alias takes over its base, and which name means which entry. Promises a problem with its place
for an unknown base, a cycle and a name given twice. What a single entry says is `part`; slots are made in
`build`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.config.discovery import ModelFile
from gateway.config.locate import Document
from gateway.config.part import Part, PartReader
from gateway.config.problem import Place, Problem, nearest, shown
from gateway.config.schema import Entry
from gateway.core.catalog import name_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An entry as written, under its name without the prefix, and what it asks for with all it inherits."""

    name: str
    written_as: str
    entry: Entry
    part: Part


class Entries:
    """All entries of one file; problems and warnings collect while they are read."""

    def __init__(self, document: Document, prefix: str, parts: PartReader, discovered: Mapping[str, ModelFile]) -> None:
        """`discovered` are model files by name: models of their own, and bases like any other."""
        self.problems: list[Problem] = []
        self._document = document
        self._prefix = prefix
        self._parts = parts
        self._owners: dict[str, tuple[str, Place]] = {}
        self._discovered = {self.key(name): (name, file) for name, file in discovered.items()}

    def read(self, entries: Mapping[str, Entry], broken: Iterable[str]) -> list[Named]:
        """Return the entries with what they inherit, and after them the discovered models without an entry.

        `broken` names entries that have no valid form: they can be a base, so that one mistake makes one
        problem.
        """
        unusable = frozenset(broken)
        for name in (*entries, *sorted(unusable)):
            self._claim(name, name, ("models", name))
        for name, entry in entries.items():
            for index, alias in enumerate(entry.aliases):
                self._claim(alias, name, ("models", name, "aliases", index))
        known = {**entries, **self._without_entry()}
        own = {name: self._own(name, entry) for name, entry in known.items()}
        named: list[Named] = []
        for name, entry in known.items():
            part = Part()
            for link in reversed(self._chain(name, known, unusable)):
                part = own[link].over(part)
            named.append(Named(name=self.bare(name), written_as=name, entry=entry, part=part))
        return named

    def bare(self, name: str) -> str:
        """Return a name without the prefix, in whichever case that was written."""
        if self._prefix and name.casefold().startswith(self._prefix.casefold()):
            return name[len(self._prefix) :]
        return name

    def key(self, name: str) -> str:
        """Return what all spellings of a name have in common."""
        return name_key(name, self._prefix)

    def knows(self, name: str) -> bool:
        """Return whether some entry answers to `name`."""
        return self.key(name) in self._owners

    def _without_entry(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for key, (name, _) in self._discovered.items():
            if key not in self._owners:
                self._owners[key] = (name, self._document.place(()))
                found[name] = Entry()
        return found

    def _own(self, name: str, entry: Entry) -> Part:
        part = self._parts.read(name, entry)
        if self.key(name) in self._discovered and entry.base_model is None:
            # A file or a command that the entry names itself goes before a file of its name.
            _, file = self._discovered[self.key(name)]
            return part if {"path", "cmd"} & part.keys.keys() else part.over(_part_of(file))
        return part

    def _claim(self, written: str, owner: str, path: tuple[str | int, ...]) -> None:
        place = self._document.place(path)
        _, first = self._owners.setdefault(self.key(written), (owner, place))
        if first is not place:
            message = f"the name {shown(written)} is already taken in line {first.line}"
            self.problems.append(Problem.at(place, f"models.{owner}", message))

    def _chain(self, name: str, entries: Mapping[str, Entry], unusable: frozenset[str]) -> list[str]:
        """Return `name`, its base, the base of that, and so on; what is wrong on the way is reported once."""
        chain = [name]
        while (base := entries[chain[-1]].base_model) is not None:
            owner, _ = self._owners.get(self.key(base), ("", None))
            if not owner:
                if len(chain) == 1:
                    self._wrong_base(name, f"there is no model {shown(base)}{nearest(base, entries)}")
                break
            if owner in chain:
                # Only the entries of the cycle itself report it, not those that lead into it.
                if owner == name:
                    self._wrong_base(name, f"goes round in a circle: {' -> '.join([*chain, owner])}")
                break
            if owner in unusable:
                break
            chain.append(owner)
        return chain

    def _wrong_base(self, name: str, message: str) -> None:
        place = self._document.place(("models", name, "base_model"))
        self.problems.append(Problem.at(place, f"models.{name}.base_model", message))


def _part_of(file: ModelFile) -> Part:
    return Part(keys={"path": file.path} if file.mmproj is None else {"path": file.path, "mmproj": file.mmproj})
