"""Aliases and slots out of entries and settings.

Owns the step from what people wrote to `core.catalog.Catalog`: defaults, launches, and the merging of slots.
Entries that launch the same thing share one slot, and its rules are the most generous of theirs: pinned or
preloaded if one of them says so, the longest time to live, the largest number of requests, the longest start.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.config.estimate import estimated_context
from gateway.config.part import Part
from gateway.config.sampler_args import launch_arguments
from gateway.config.schema import Entry
from gateway.config.settings import Models
from gateway.core.alias import Alias
from gateway.core.catalog import Catalog
from gateway.core.slot import Command, Launch, LlamaServer, SlotId, SlotSpec

DEMO_NAME: Final = "demo"
_DEMO_CTX_SIZE: Final = 2048
_DEMO_PARALLEL: Final = 2

Model = tuple[Alias, SlotSpec]


def models_of(entry: Entry, part: Part, names: Iterable[str], models: Models) -> list[Model]:
    """Return an alias for each of `names` (without prefix), all on one slot.

    `part` is what to launch with everything it inherits; nothing comes if it names neither file nor command.
    """
    spec = _spec_of(part, models)
    if spec is None:
        return []
    return [
        (
            Alias(
                name=models.prefix + name,
                slot=spec.id,
                sampling=part.sampling,
                display_name=entry.display_name,
                description=entry.description,
                unlisted=entry.unlisted,
            ),
            spec,
        )
        for name in names
    ]


def demo_of(path: Path, root: Part, models: Models) -> Model:
    """Return the alias of the demo model: its name has no prefix. `root` holds for all models."""
    keys = {"path": path, "ctx_size": _DEMO_CTX_SIZE, "parallel": _DEMO_PARALLEL}
    spec = _spec_of(Part(keys=keys).over(root), models)
    if spec is None:
        raise AssertionError("a part with a path launches something")
    description = "A small model that comes with the gateway, to see that everything works."
    return Alias(name=DEMO_NAME, slot=spec.id, description=description), spec


def catalog_of(built: Iterable[Model], models: Models) -> Catalog:
    """Return the snapshot: aliases in order, and their slots, each once."""
    aliases: list[Alias] = []
    slots: dict[SlotId, SlotSpec] = {}
    for alias, spec in built:
        aliases.append(alias)
        slots[spec.id] = _generous(slots[spec.id], spec) if spec.id in slots else spec
    return Catalog.of(aliases, slots.values(), prefix=models.prefix, default_model=models.default_model)


def _spec_of(part: Part, models: Models) -> SlotSpec | None:
    launch = _launch_of(part, models)
    if launch is None:
        return None
    parallel: int = part.keys.get("parallel") or models.parallel
    return SlotSpec(
        launch=launch,
        ttl=part.keys.get("ttl", models.ttl),
        pinned=bool(part.keys.get("pinned")),
        preload=bool(part.keys.get("preload")),
        max_concurrent=part.keys.get("max_concurrent") or parallel,
        start_timeout=part.keys.get("timeout") or models.start_timeout,
    )


def _launch_of(part: Part, models: Models) -> Launch | None:
    keys = part.keys
    path, argv = keys.get("path"), keys.get("cmd")
    environment = tuple(sorted(part.env.items()))
    if argv:
        return Command(argv=argv, model=str(path) if path else "", environment=environment)
    if path is None:
        return None
    mmproj = keys.get("mmproj")
    return LlamaServer(
        model=str(path),
        ctx_size=keys.get("ctx_size") or estimated_context(path, models.ctx_size),
        parallel=keys.get("parallel") or models.parallel,
        gpu_layers=keys.get("gpu_layers"),
        cache_type_k=keys.get("cache_type_k") or "f16",
        cache_type_v=keys.get("cache_type_v") or "f16",
        embeddings=bool(keys.get("embeddings")),
        mmproj=str(mmproj) if mmproj else None,
        arguments=launch_arguments(part.launch),
        environment=environment,
    )


def _generous(one: SlotSpec, other: SlotSpec) -> SlotSpec:
    longest = max(_seconds(one.ttl), _seconds(other.ttl))
    return SlotSpec(
        launch=one.launch,
        ttl=None if math.isinf(longest) else longest,
        pinned=one.pinned or other.pinned,
        preload=one.preload or other.preload,
        max_concurrent=max(one.max_concurrent, other.max_concurrent),
        start_timeout=max(one.start_timeout, other.start_timeout),
    )


def _seconds(ttl: float | None) -> float:
    return math.inf if ttl is None else ttl
