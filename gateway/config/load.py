"""All that people wrote, as one snapshot: settings and catalogue.

Owns the order of reading: files are found, each origin is validated by itself, origins are laid over each
other (command line > environment > .env > file > default), then the models are read. Promises all problems
of all files in one `ConfigError`, and no effect but reading files. Blocks: call it in a thread.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config import find
from gateway.config.build import DEMO_NAME, Model, catalog_of, demo_of, models_of
from gateway.config.command_line import CommandLine, command_line_layer
from gateway.config.discovery import Discovery, ModelFile, nothing
from gateway.config.entries import Entries
from gateway.config.environment import dotenv_layer, environment_layer
from gateway.config.faults import problems_of
from gateway.config.layer import Layer, Source, file_layer, merged
from gateway.config.locate import Document, dotted, read_yaml
from gateway.config.mark import Mark, mark, marks
from gateway.config.part import Part, PartReader
from gateway.config.problem import ConfigError, Place, Problem, shown
from gateway.config.sampler_args import read_flags
from gateway.config.schema import Entry, HarmonyFile, ModelsFile
from gateway.config.settings import Settings, absolute, contradictions, idle, settings_of
from gateway.core.alias import Sampling
from gateway.core.catalog import Catalog
from gateway.core.errors import UnknownModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the loader may know of the process and the machine. All paths are absolute.

    `discover` finds the model files below a folder: they are listed with the defaults, and an entry that names no
    file takes the one of its name. `demo_model`: the file of the demo model, if there is one.
    """

    environ: Mapping[str, str]
    cwd: Path
    home: Path
    user_folder: Path
    demo_model: Path | None = None
    discover: Callable[[Path], Discovery] = nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One snapshot. `files` were read, `absent` were looked for.

    `marks` are those of all files that decided about it, taken before they were read: when one is different now, what
    is read now may be too.
    """

    settings: Settings
    catalog: Catalog
    warnings: tuple[Problem, ...]
    files: tuple[Path, ...]
    absent: tuple[Path, ...]
    marks: Mapping[Path, Mark]


def load(options: CommandLine, around: Surroundings) -> Loaded:
    """Read everything. Raises `ConfigError` with every problem of all files."""
    reader = _Reader(around)
    layers, folder = reader.layers(options)
    form, sources = merged(layer for layer in layers if not layer.problems)
    settings = settings_of(form, sources, around.home)
    if not reader.problems:
        reader.problems.extend(contradictions(settings))
        reader.warnings.extend(idle(settings))
    harmony = reader.harmony_models(settings, folder)
    catalog = reader.catalog(settings, folder)
    if reader.problems:
        raise ConfigError(reader.problems, reader.marks)
    return Loaded(
        settings=replace(settings, harmony_models=harmony),
        catalog=catalog,
        warnings=tuple(reader.warnings),
        files=tuple(reader.files),
        absent=tuple(reader.absent),
        marks=reader.marks,
    )


class _Reader:
    """One run of reading: collects problems, warnings, and the files that were looked at."""

    def __init__(self, around: Surroundings) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.files: list[Path] = []
        self.absent: list[Path] = []
        self.marks: dict[Path, Mark] = {}
        self._around = around

    def layers(self, options: CommandLine) -> tuple[list[Layer], Path]:
        """Return the validated settings of every origin, weakest first, and the configuration folder."""
        around = self._around
        named = absolute(options.config, around.cwd, around.home) if options.config is not None else None
        found = find.find(named, around.cwd, around.user_folder)
        self.problems.extend(found.problems)
        self.marks.update(marks(found.decisive))
        layers = [file_layer(self._document(found.config), found.folder)]
        dotenv = self._read(found.folder / find.DOTENV)
        if dotenv is not None:
            layers.append(dotenv_layer(dotenv, self._shown(found.folder / find.DOTENV), found.folder))
        layers.append(environment_layer(around.environ, around.cwd))
        layers.append(command_line_layer(options, around.cwd))
        for layer in layers:
            self.problems.extend(layer.problems)
            self.warnings.extend(layer.warnings)
        return layers, found.folder

    def harmony_models(self, settings: Settings, folder: Path) -> tuple[str, ...]:
        """Return the names in harmony_models.yaml."""
        named = self._named_file(settings, "files.harmony_models", settings.files.harmony_models)
        document = self._document(named or folder / find.HARMONY_MODELS)
        value = self._top_level(document)
        try:
            names = HarmonyFile.model_validate(value).harmony_models
        except ValidationError as fault:
            self._add(fault, HarmonyFile, document)
            return ()
        if names:
            place = document.place(("harmony_models",))
            message = "is read and checked, but has no effect in this version"
            self.warnings.append(Problem.at(place, "harmony_models", message))
        return tuple(names)

    def catalog(self, settings: Settings, folder: Path) -> Catalog:
        """Return the models of custom_models.yaml, those discovered, and the demo model."""
        named = self._named_file(settings, "files.custom_models", settings.files.custom_models)
        path = named or folder / find.CUSTOM_MODELS
        document = self._document(path)
        parts = PartReader(document, lambda written: absolute(written, path.parent, self._around.home))
        entries = Entries(document, settings.models.prefix, parts, self._discovered(settings))
        catalog = catalog_of(self._models(settings, document, entries), settings.models)
        self.problems.extend((*parts.problems, *entries.problems))
        self.warnings.extend(parts.warnings)
        if not self.problems:
            self._check_default_model(settings, catalog)
        return catalog

    def _discovered(self, settings: Settings) -> Mapping[str, ModelFile]:
        """Return the model files of this machine, by name."""
        folder = settings.library.models_dir
        source = settings.sources.get("library.models_dir")
        if source is not None and mark(folder) is None:
            message = f"there is no folder {folder}; no model files are found"
            self.warnings.append(Problem.at(source.place, source.label, message))
        found = self._around.discover(folder)
        for path, oddity in found.oddities.items():
            self.warnings.append(Problem.at(Place(file=self._shown(path)), "", oddity))
        return found.models

    def _models(self, settings: Settings, document: Document, entries: Entries) -> Iterator[Model]:
        written, broken = self._entries(document)
        root = self._root(settings)
        for named in entries.read(written, broken):
            names = (named.name, *map(entries.bare, named.entry.aliases))
            models = models_of(named.entry, named.part.over(root), names, settings.models)
            # Where an alias has nothing to run, its base has none either, and reports it.
            if not models and named.entry.base_model is None and named.entry.cmd is None:
                key = f"models.{named.written_as}"
                message = "says nowhere what to run: add 'path' with the GGUF file, a 'base_model' or a 'cmd'"
                place = document.place(("models", named.written_as))
                self.problems.append(Problem.at(place, key, message))
            yield from models
        demo = self._around.demo_model
        if demo is not None and settings.models.demo and not entries.knows(DEMO_NAME):
            yield demo_of(demo, root, settings.models)

    def _entries(self, document: Document) -> tuple[dict[str, Entry], set[str]]:
        """Return the entries that have a valid form, and the names of the others."""
        value = self._top_level(document)
        broken: set[str] = set()
        try:
            ModelsFile.model_validate(value)
        except ValidationError as fault:
            self._add(fault, ModelsFile, document)
            broken = {str(error["loc"][1]) for error in fault.errors() if len(error["loc"]) > 1}
        models = value.get("models")
        raw = models if isinstance(models, dict) else {}
        return {name: Entry.model_validate(it) for name, it in raw.items() if name not in broken}, broken

    def _root(self, settings: Settings) -> Part:
        """Return what `llama_server.arguments` asks of every model."""
        source = settings.sources.get("llama_server.arguments", Source(kind="default"))
        flags = read_flags(
            settings.llama_server.arguments,
            lambda written: absolute(written, source.folder, self._around.home),
        )
        for fault in flags.faults:
            self.problems.append(Problem.at(source.place, source.label, fault))
        return Part(keys=flags.keys, launch=flags.launch, sampling=Sampling(suggest=flags.request))

    def _check_default_model(self, settings: Settings, catalog: Catalog) -> None:
        name = settings.models.default_model
        if name is None:
            return
        try:
            catalog.resolve(name)
        except UnknownModel as fault:
            source = settings.sources["models.default_model"]
            message = f"there is no model {shown(name)}. {fault.hint}"
            self.problems.append(Problem.at(source.place, source.label, message))

    def _named_file(self, settings: Settings, key: str, path: Path | None) -> Path | None:
        """Return a file that a setting names. One that is named must exist."""
        if path is not None and not path.is_file():
            source = settings.sources[key]
            self.problems.append(Problem.at(source.place, source.label, f"there is no file {path}"))
        return path

    def _document(self, path: Path) -> Document:
        data = self._read(path)
        return Document(file=self._shown(path)) if data is None else read_yaml(data, self._shown(path))

    def _top_level(self, document: Document) -> dict[str, Any]:
        """Return the mapping that a file is; an empty file, or a key with nothing below it, is fine."""
        self.problems.extend(document.problems)
        if document.value is None:
            return {}
        if isinstance(document.value, dict):
            content = {key: item for key, item in document.value.items() if item is not None}
            return _without_empty_keys(content)
        message = f"expected keys and values, got {shown(document.value)}"
        self.problems.append(Problem.at(document.place(()), "", message))
        return {}

    def _add(self, fault: ValidationError, form: type[ModelsFile | HarmonyFile], document: Document) -> None:
        self.problems.extend(problems_of(fault, form, lambda path: (document.place(path), dotted(path))))

    def _read(self, path: Path) -> bytes | None:
        self.marks[path] = mark(path)
        data = find.read(path)
        (self.absent if data is None else self.files).append(path)
        if isinstance(data, str):
            self.problems.append(Problem.at(Place(file=self._shown(path)), "", data))
            return None
        return data

    def _shown(self, path: Path) -> str:
        cwd = self._around.cwd
        return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)


def _without_empty_keys(content: dict[str, Any]) -> dict[str, Any]:
    """Return a models file without the keys of entries that are left empty; an empty `ttl` means for ever."""
    models = content.get("models")
    if not isinstance(models, dict):
        return content
    kept = {
        name: {key: item for key, item in (entry or {}).items() if item is not None or key == "ttl"}
        if entry is None or isinstance(entry, dict)
        else entry
        for name, entry in models.items()
    }
    return {**content, "models": kept}
