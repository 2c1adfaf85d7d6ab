"""The types of single settings: what they accept, what they become, and what a JSON Schema says about them.

Each is used as `Annotated[result, Kind(...)]` in `schema`. A value that does not fit raises `UnfitError` with
a complete sentence, so that a message never needs to be put together from Pydantic's own words.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator

from gateway.config import quantity
from gateway.config.problem import UnfitError, listing, nearest, shown

JsonSchema = dict[str, Any]

_YES_NO: Final[Mapping[str, bool]] = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Kind:
    """A parser and its JSON Schema."""

    parse: Callable[[Any], Any]
    schema: JsonSchema

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> Any:
        return PlainValidator(self.parse).__get_pydantic_core_schema__(Any, handler)

    def __get_pydantic_json_schema__(self, _core: Any, _handler: GetJsonSchemaHandler) -> JsonSchema:
        return dict(self.schema)


def whole(what: str, least: int, most: int) -> Kind:
    """Return the kind of a whole number within bounds; `what` is `a whole number of tokens`."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnfitError(f"expected {what}, got {shown(value)}")
        if not least <= value <= most:
            raise UnfitError(f"expected {what} from {least} to {most}, got {value}")
        return value

    return Kind(parse, {"type": "integer", "minimum": least, "maximum": most})


def bounded_seconds(least: float, most: float = 31 * 86400.0) -> Kind:
    """Return the kind of a time within bounds, in seconds."""

    def parse(value: Any) -> float:
        seconds = quantity.duration(value)
        if not least <= seconds <= most:
            raise UnfitError(f"expected a time from {least:g} to {most:g} seconds, got {shown(value)}")
        return seconds

    return Kind(parse, {"type": ["number", "string"], "minimum": least})


def one_of(*words: str) -> Kind:
    """Return the kind of a word out of a list, in any case."""

    def parse(value: Any) -> str:
        if isinstance(value, str) and value.casefold() in words:
            return value.casefold()
        hint = nearest(value, words) if isinstance(value, str) else ""
        raise UnfitError(f"expected {listing(words)}, got {shown(value)}{hint}")

    return Kind(parse, {"enum": list(words)})


def text(what: str, pattern: str = r".+", *, most: int = 4096) -> Kind:
    """Return the kind of a text that matches a pattern; `what` is `a name without spaces`."""

    def parse(value: Any) -> str:
        if isinstance(value, str) and len(value) <= most and re.fullmatch(pattern, value, re.DOTALL):
            return value
        quoted = isinstance(value, int | float) and not isinstance(value, bool)
        hint = "; put it in quotes" if quoted else ""
        raise UnfitError(f"expected {what}, got {shown(value)}{hint}")

    return Kind(parse, {"type": "string", "pattern": f"^(?:{pattern})$"})


def not_json(value: Any) -> str:
    """Return what JSON cannot hold of a value, or nothing."""
    match value:
        case float() if not math.isfinite(value):
            return f"expected a number that JSON can hold, got {value}"
        case list():
            return next((fault for item in value if (fault := not_json(item))), "")
        case dict():
            return next((fault for item in value.values() if (fault := not_json(item))), "")
        case _:
            return ""


def _yes_or_no(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).casefold() if isinstance(value, int | str) else ""
    if word in _YES_NO:
        return _YES_NO[word]
    raise UnfitError(f"expected true or false, got {shown(value)}")


def _byte_limit(value: Any) -> int:
    size = quantity.byte_size(value)
    if not 1024 <= size <= 2**40:
        raise UnfitError(f"expected a size from 1KiB to 1TiB, got {shown(value)}")
    return size


def _budget(value: Any) -> quantity.Share | int | None:
    if value is None or (isinstance(value, str) and value.strip().casefold() == "none"):
        return None
    budget = quantity.share_or_bytes(value)
    if isinstance(budget, int) and budget < 2**20:
        raise UnfitError(f"expected 90%, or a size of at least 1MiB such as 48GiB, got {shown(value)}")
    return budget


def _count_or_none(value: Any) -> int | None:
    if value is None or (isinstance(value, str) and value.strip().casefold() == "none"):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        raise UnfitError(f"expected a whole number of models from 1 to 10000, or none, got {shown(value)}")
    return value


def _gpu_layers(value: Any) -> int | None:
    if value == "auto":
        return None
    if value == "all":
        return ALL_LAYERS
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= ALL_LAYERS:
        raise UnfitError(f"expected a number of layers from 0 to {ALL_LAYERS}, auto or all, got {shown(value)}")
    return value


def _host(value: Any) -> str:
    if isinstance(value, str):
        bare = value.strip().removeprefix("[").removesuffix("]")
        if re.fullmatch(r"(?!-)[A-Za-z0-9._-]{1,253}", bare) and not re.fullmatch(r"[0-9.]+", bare):
            return bare.casefold()
        try:
            return str(ipaddress.ip_address(bare))
        except ValueError:
            pass
    raise UnfitError(f"expected an address or a host name, such as 127.0.0.1 or localhost, got {shown(value)}")


def _url(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        return value.rstrip("/")
    raise UnfitError(f"expected a URL such as http://localhost:11434, got {shown(value)}")


# llama-server takes any number above the model's own count for all of them.
ALL_LAYERS: Final = 999

_CACHE_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")

Flag = Annotated[bool, Kind(_yes_or_no, {"type": "boolean"})]
Port = Annotated[int, whole("a port number", 0, 65535)]
Host = Annotated[str, Kind(_host, {"type": "string"})]
Url = Annotated[str, Kind(_url, {"type": "string"})]
Text = Annotated[str, text("a text")]
OneLine = Annotated[str, text("one line of text", r"[^\r\n]*[^\s][^\r\n]*")]
ModelName = Annotated[str, text("a model name (no spaces, at most 200 characters)", r"[^\s\x00-\x1f\x7f]+", most=200)]
Prefix = Annotated[str, text("a prefix without spaces (empty for none)", r"[^\s\x00-\x1f\x7f]*", most=50)]
ByteLimit = Annotated[int, Kind(_byte_limit, {"type": ["integer", "string"]})]
Budget = Annotated[
    quantity.Share | int | None,
    Kind(_budget, {"type": ["integer", "string", "null"], "examples": ["90%", "48GiB"]}),
]
Percent = Annotated[float, Kind(quantity.percent, {"type": ["number", "string"]})]
CountOrNone = Annotated[
    int | None, Kind(_count_or_none, {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["none", None]}]})
]
Lifetime = Annotated[
    float | None,
    Kind(quantity.lifetime, {"type": ["number", "string", "null"], "examples": [1800, "30m", "never"]}),
]
Wait = Annotated[float, bounded_seconds(0)]
Patience = Annotated[float, bounded_seconds(1)]
TOKENS: Final = whole("a whole number of tokens", 16, 16_777_216)
PARALLEL: Final = whole("a whole number of parallel requests", 1, 256)
CACHE_TYPE: Final = one_of(*_CACHE_TYPES)
GPU_LAYERS: Final = Kind(
    _gpu_layers, {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 999}, {"enum": ["auto", "all"]}]}
)
Tokens = Annotated[int, TOKENS]
Parallel = Annotated[int, PARALLEL]
GpuLayers = Annotated[int | None, GPU_LAYERS]
CacheType = Annotated[str, CACHE_TYPE]
