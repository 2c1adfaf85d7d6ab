"""An alias is a public name: a slot, and the sampler values that travel in each request for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.core.slot import SlotId

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

NOTHING: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Request fields of an alias, by regime.

    `suggest`: filled in where the client sent nothing. `enforce`: wins over the client. `strip`: removed from what
    the client sent. Order: enforced > client > suggested > the backend's own default.
    """

    suggest: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    enforce: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    strip: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A public name. `name` is how `/v1/models` lists it, prefix included."""

    name: str
    slot: SlotId
    sampling: Sampling = field(default_factory=Sampling)
    display_name: str | None = None
    description: str | None = None
    unlisted: bool = False
