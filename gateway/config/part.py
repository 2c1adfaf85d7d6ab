"""What one entry of custom_models.yaml says: flags taken apart, paths absolute, files looked at.

Owns `Part`, which an entry is turned into and in which inheritance is a plain overlay. Promises a problem
with its place for a missing file, a bad flag, a command without `${PORT}`, a value given in two ways that
differ.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gateway.config.locate import Document
from gateway.config.problem import Problem, nearest, shown
from gateway.config.sampler_args import Flags, read_flags
from gateway.config.schema import Entry
from gateway.core.alias import Json, Sampling

PLACEHOLDERS: Final = ("${PORT}", "${MODEL_PATH}")

# Values that an alias takes over as they are.
_PLAIN: Final[tuple[str, ...]] = (
    "ctx_size", "parallel", "max_concurrent", "ttl", "timeout", "pinned", "preload", "gpu_layers",
    "cache_type_k", "cache_type_v", "embeddings", "cmd",
)  # fmt: skip

# Values that mean nothing where `cmd` says what to start.
_LLAMA_ONLY: Final[tuple[str, ...]] = (
    "ctx_size", "gpu_layers", "cache_type_k", "cache_type_v", "embeddings", "mmproj", "jinja",
    "chat_template_file", "reranking", "extra_args",
)  # fmt: skip

# Request fields that hold values of their own: an alias adds to its base's, key by key.
_MAPPINGS: Final = frozenset({"chat_template_kwargs", "logit_bias"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What an entry asks for, alone or with all it inherits. `keys` holds only what is set."""

    keys: Mapping[str, Any] = field(default_factory=dict)
    launch: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    env: Mapping[str, str] = field(default_factory=dict)

    def over(self, base: "Part") -> "Part":
        """Return this part on top of `base`: its values win, key by key."""
        return Part(
            keys={**base.keys, **self.keys},
            launch={**base.launch, **self.launch},
            sampling=Sampling(
                suggest=overlaid(base.sampling.suggest, self.sampling.suggest),
                enforce=overlaid(base.sampling.enforce, self.sampling.enforce),
                strip=base.sampling.strip | self.sampling.strip,
            ),
            env={**base.env, **self.env},
        )


def overlaid(base: Mapping[str, Json], own: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return request fields of `base` with those of `own` over them."""
    fields = {**base, **own}
    for name in _MAPPINGS & base.keys() & own.keys():
        below, above = base[name], own[name]
        if isinstance(below, dict) and isinstance(above, dict):
            fields[name] = {**below, **above}
    return MappingProxyType(fields)


class PartReader:
    """Turns entries into parts; problems and warnings collect here."""

    def __init__(self, document: Document, absolute: Callable[[str], Path]) -> None:
        """`absolute` makes a path absolute that was written in the file."""
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._document = document
        self._absolute = absolute

    def read(self, name: str, entry: Entry) -> Part:
        """Return what the entry itself says."""
        keys = {key: getattr(entry, key) for key in _PLAIN if key in entry.model_fields_set}
        launch = _launch_of(entry)
        for key in ("path", "mmproj"):
            if (written := getattr(entry, key)) is not None:
                keys[key] = self._file(name, key, written)
        if entry.chat_template_file is not None:
            template = self._file(name, "chat_template_file", entry.chat_template_file)
            launch["--chat-template-file"] = ("--chat-template-file", str(template))
        suggest: Mapping[str, Json] = {}
        for key in ("sampler_args", "extra_args"):
            flags = self._flags(name, key, getattr(entry, key) or ())
            self._compare(name, key, keys, flags)
            launch |= flags.launch
            suggest = overlaid(suggest, flags.request)
        if entry.chat_template_kwargs is not None:
            suggest = overlaid(suggest, {"chat_template_kwargs": entry.chat_template_kwargs})
        params = entry.request_params or Sampling()
        sampling = Sampling(suggest=overlaid(suggest, params.suggest), enforce=params.enforce, strip=params.strip)
        self._check_command(name, entry, launch)
        return Part(keys=keys, launch=launch, sampling=sampling, env=dict(entry.env or ()))

    def _problem(self, name: str, key: str, message: str) -> None:
        place = self._document.place(("models", name, key))
        self.problems.append(Problem.at(place, f"models.{name}.{key}", message))

    def _file(self, name: str, key: str, written: str) -> Path:
        path = self._absolute(written)
        if fault := unreadable(path):
            self._problem(name, key, fault)
        return path

    def _flags(self, name: str, key: str, arguments: tuple[str, ...]) -> Flags:
        flags = read_flags(arguments, self._absolute)
        for fault in (*flags.faults, *filter(None, map(unreadable, flags.files))):
            self._problem(name, key, fault)
        return flags

    def _compare(self, name: str, key: str, keys: dict[str, Any], flags: Flags) -> None:
        """Add the flags that are entry keys to `keys`; the same thing said in two ways must be the same."""
        for known, value in flags.keys.items():
            if keys.setdefault(known, value) != value:
                message = f"says {known} {value}, but the key {known} says {keys[known]}; keep one of them"
                self._problem(name, key, message)

    def _check_command(self, name: str, entry: Entry, launch: Mapping[str, tuple[str, ...]]) -> None:
        if entry.cmd is None:
            return
        for fault in _command_faults(entry.cmd):
            self._problem(name, "cmd", fault)
        ignored = [key for key in _LLAMA_ONLY if key in entry.model_fields_set]
        if launch and entry.sampler_args:
            ignored.append("sampler_args (its launch flags)")
        for key in ignored:
            place = self._document.place(("models", name, key.partition(" ")[0]))
            message = "has no effect beside cmd; write it into the command"
            self.warnings.append(Problem.at(place, f"models.{name}.{key}", message))


def unreadable(path: Path) -> str:
    """Return why a file cannot be read, or nothing."""
    try:
        if path.is_dir():
            return f"{path} is a folder; name the file in it"
        if not path.is_file():
            beside = sorted(it.name for it in path.parent.iterdir()) if path.parent.is_dir() else []
            return f"there is no file {path}{nearest(path.name, beside[:1000], likeness=0.75)}"
    except OSError as fault:
        return f"cannot look at {path}: {fault.strerror}"
    return "" if os.access(path, os.R_OK) else f"{path} cannot be read; check its permissions"


def _launch_of(entry: Entry) -> dict[str, tuple[str, ...]]:
    launch: dict[str, tuple[str, ...]] = {}
    if entry.jinja is not None:
        launch["--jinja"] = ("--jinja" if entry.jinja else "--no-jinja",)
    if entry.reranking:
        launch["--reranking"] = ("--reranking",)
    return launch


def _command_faults(argv: tuple[str, ...]) -> Iterator[str]:
    if not argv:
        yield "is empty; write the program and its arguments"
        return
    if not any("${PORT}" in word for word in argv):
        yield "does not mention ${PORT}: the gateway chooses the port, and the program must listen on it"
    for placeholder in sorted({found for word in argv for found in re.findall(r"\$\{[^}]*\}?", word)}):
        if placeholder not in PLACEHOLDERS:
            hint = nearest(placeholder, PLACEHOLDERS)
            yield f"{shown(placeholder)} is not filled in{hint}; there are {' and '.join(PLACEHOLDERS)}"
