"""All aliases and slots of one moment: a frozen snapshot, replaced as a whole.

Names are matched as people type them: exactly first; then in any case, with or without the prefix, and with the
first colon and a dash alike (`gemma3:12b-q8_0` is `gemma3-12b-q8_0`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Self

from gateway.core.alias import Alias
from gateway.core.errors import BadRequest, UnknownModel
from gateway.core.slot import SlotId, SlotSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a name leads: the name as the client wrote it, the alias, its slot."""

    asked: str
    alias: Alias
    slot: SlotSpec


def name_key(name: str, prefix: str) -> str:
    """Return what all spellings of a name have in common."""
    key = name.strip().casefold()
    key = key.removeprefix(prefix.casefold())
    return key.replace(":", "-", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Aliases in the order of the configuration, slots by identity."""

    aliases: Mapping[str, Alias]
    slots: Mapping[SlotId, SlotSpec]
    prefix: str
    default_model: str | None
    _by_key: Mapping[str, Alias]

    @classmethod
    def of(
        cls,
        aliases: Iterable[Alias],
        slots: Iterable[SlotSpec],
        *,
        prefix: str = "",
        default_model: str | None = None,
    ) -> Self:
        """Build a snapshot. Of two aliases whose spellings meet, the first keeps the loose match."""
        named = {alias.name: alias for alias in aliases}
        by_key: dict[str, Alias] = {}
        for alias in named.values():
            by_key.setdefault(name_key(alias.name, prefix), alias)
        return cls(
            aliases=MappingProxyType(named),
            slots=MappingProxyType({spec.id: spec for spec in slots}),
            prefix=prefix,
            default_model=default_model,
            _by_key=MappingProxyType(by_key),
        )

    def resolve(self, name: str | None) -> Route:
        """Return the route of `name`, or of the default model where there is no name.

        Raises `UnknownModel` with the nearest names, `BadRequest` where no name was given and no default is set.
        """
        asked = name or self.default_model
        if not asked:
            raise BadRequest(
                "The request names no model, and no default model is configured.",
                hint="Send `model`, or set `default_model` in config.yaml.",
                param="model",
            )
        alias = self.aliases.get(asked) or self._by_key.get(name_key(asked, self.prefix))
        if alias is None:
            raise self._unknown(asked)
        return Route(asked=asked, alias=alias, slot=self.slots[alias.slot])

    def listed(self) -> list[Alias]:
        """Return the aliases that `/v1/models` shows."""
        return [alias for alias in self.aliases.values() if not alias.unlisted]

    def _unknown(self, asked: str) -> UnknownModel:
        shown = {name_key(alias.name, self.prefix): alias.name for alias in self.listed()}
        near = get_close_matches(name_key(asked[:200], self.prefix), shown, n=3, cutoff=0.5)
        if near:
            hint = "Did you mean " + ", ".join(f"`{shown[key]}`" for key in near) + "?"
        elif shown:
            hint = "GET /v1/models lists what there is."
        else:
            hint = "No model is configured yet: add one to custom_models.yaml."
        return UnknownModel(f"The model `{asked[:200]}` does not exist.", hint=hint, param="model")
