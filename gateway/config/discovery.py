"""Model files that were found on this machine, as the loader takes them: who looks for them is not its business."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One model: its GGUF file, or the first of its parts, and the projector that belongs to it."""

    path: Path
    mmproj: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What one look found: models by name (without prefix), and by path what could not be used and why."""

    models: Mapping[str, ModelFile] = field(default_factory=dict)
    oddities: Mapping[Path, str] = field(default_factory=dict)


def nothing(_folder: Path) -> Discovery:
    """Find nothing: for whoever needs no model files."""
    return Discovery()
