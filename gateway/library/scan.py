"""Which models lie in a folder, and what they are called: `scan`. Blocking file access; call it in a thread.

Names follow model_serve, so that the names in its users' files and clients stay what they are: `ollama/<model>/<file>`
gives `<model>-<rest of the file's name>`, `<publisher>/<model>/<file>` gives `<publisher>-<model>`, in lower case, with
a dash for everything that is not a letter, a digit, a dash, an underscore or a dot. Two files that would have the same
name have different ones here, and the same ones at every look.

Promises to look no deeper than two folders below the one it is given, at each folder once however many links lead to
it, and to read no file. The path of a model is that of the link, where it is one: it follows what Ollama updates.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from gateway.config.discovery import Discovery, ModelFile
from gateway.library.gguf import PART_NAME, GgufError, parts_of

DEPTH: Final = 2
MOST_FOLDERS: Final = 10_000

Oddities = dict[Path, str]


def scan(root: Path) -> Discovery:
    """Return the models below `root`, none if there is no such folder."""
    oddities: Oddities = {}
    models: dict[str, ModelFile] = {}
    for folder in sorted(_folders(root, oddities), key=lambda it: _rank(it.relative_to(root).parts)):
        files = list(_gguf_files(folder, oddities))
        projectors = [file for file in files if _is_projector(file)]
        found = list(_models([file for file in files if not _is_projector(file)], oddities))
        # Of several, nobody says which belong together; what does not belong would keep a model from loading.
        mmproj = projectors[0] if len(projectors) == len(found) == 1 else None
        for file, stem in found:
            models[_free(_names(folder.relative_to(root).parts, stem), models)] = ModelFile(path=file, mmproj=mmproj)
    return Discovery(models=models, oddities=oddities)


def _rank(parts: tuple[str, ...]) -> tuple[bool, tuple[str, ...]]:
    return (parts[:1] != ("ollama",), parts)


def _folders(root: Path, oddities: Oddities) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    level = [root]
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            if len(seen) == MOST_FOLDERS:
                oddities[root] = f"has more than {MOST_FOLDERS} folders; not all of them were looked at"
                return
            stat = _stat(folder)
            if stat is not None and S_ISDIR(stat.st_mode) and (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                yield folder
                below += _visible(folder, oddities)
        level = below


def _visible(folder: Path, oddities: Oddities) -> list[Path]:
    try:
        return sorted(it for it in folder.iterdir() if not it.name.startswith("."))
    except OSError as fault:
        oddities[folder] = f"cannot be looked at: {fault.strerror}"
        return []


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _gguf_files(folder: Path, oddities: Oddities) -> Iterator[Path]:
    for path in _visible(folder, oddities):
        if path.suffix.lower() != ".gguf":
            continue
        stat = _stat(path)
        if stat is not None and S_ISREG(stat.st_mode):
            yield path
        elif stat is None:
            oddities[path] = "leads nowhere: what this link names is gone, or closed to the gateway"


def _is_projector(file: Path) -> bool:
    return "mmproj" in file.name.lower()


def _models(files: list[Path], oddities: Oddities) -> Iterator[tuple[Path, str]]:
    """Yield the file of each model, the first of those in parts, and its name without suffix and number of part."""
    for file in files:
        part = PART_NAME.fullmatch(file.name)
        if part is None:
            yield file, file.stem
            continue
        try:
            first = parts_of(file)[0]
        except GgufError as fault:
            oddities[file] = str(fault)
            continue
        if file == first:
            yield file, part["stem"]


def _names(folders: tuple[str, ...], stem: str) -> tuple[str, str]:
    """Return the name that a model should have, and the one it gets if that is taken."""
    if len(folders) < DEPTH:
        name = "-".join((*folders, stem))
        return _slug(name), _slug(name)
    publisher, model = folders
    if publisher.lower() == "ollama":
        rest = stem.lower().removeprefix(model.lower())
        return _slug(f"{model}-{rest}"), _slug(f"{publisher}-{model}-{rest}")
    return _slug(f"{publisher}-{model}"), _slug(f"{publisher}-{stem}")


def _slug(name: str) -> str:
    return re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9_.-]", "-", name.lower())).strip("-") or "model"


def _free(names: tuple[str, str], taken: dict[str, ModelFile]) -> str:
    for name in names:
        if name not in taken:
            return name
    number = 2
    while (name := f"{names[-1]}-{number}") in taken:
        number += 1
    return name
