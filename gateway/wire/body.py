"""The JSON body of a request: read as far as the gateway needs it, everything else kept byte for byte.

Only the top level is taken apart; values stay raw spans of the original, so a history of a megabyte is copied and
never built. Of duplicate keys the last one counts, for routing and for what is forwarded alike, because what is
forwarded has each key once. What msgspec will not read but clients do send (lone surrogates, `NaN`) goes through the
standard library's parser instead.
"""

import json
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from gateway.core.alias import Json, Sampling
from gateway.core.errors import BadRequest

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


class Body:
    """The top level of a JSON object, as raw values by key."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, msgspec.Raw]) -> None:
        self._fields = fields

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Take `data` apart. Raises `BadRequest` if it is not a JSON object."""
        try:
            return cls(_decode_fields(data))
        except (msgspec.DecodeError, RecursionError):
            return cls(_parse_slowly(data))

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def text(self, key: str) -> str | None:
        """Return a field that must be a string; `None` if it is absent or null."""
        value = self.value(key)
        if value is None or isinstance(value, str):
            return value
        raise BadRequest(f"`{key}` must be a string, got {_kind(value)}.", param=key)

    def flag(self, key: str) -> bool:
        """Return a field that must be a boolean; false if it is absent or null."""
        value = self.value(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise BadRequest(f"`{key}` must be true or false, got {_kind(value)}.", param=key)

    def value(self, key: str) -> Any:
        """Return a field decoded, `None` if it is absent. For small fields only."""
        raw = self._fields.get(key)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return json.loads(bytes(raw))

    def expect_list(self, key: str) -> None:
        """Raise `BadRequest` unless the field is there and a list, without decoding what is in it."""
        raw = self._fields.get(key)
        if raw is None:
            raise BadRequest(f"`{key}` is missing.", param=key)
        if not bytes(raw).startswith(b"["):
            raise BadRequest(f"`{key}` must be a list.", param=key)

    def replace(self, values: Mapping[str, Json]) -> None:
        """Set fields, whether they were there or not."""
        for key, value in values.items():
            self._fields[key] = msgspec.Raw(_encode(value))

    def apply(self, sampling: Sampling) -> None:
        """Bring in an alias's sampler values: strip, then suggest what is absent, then enforce."""
        for key in sampling.strip:
            self._fields.pop(key, None)
        self.replace({key: value for key, value in sampling.suggest.items() if self._absent(key)})
        self.replace(sampling.enforce)

    def encode(self) -> bytes:
        """Return the body with every untouched value byte for byte as it came."""
        return _encode(self._fields)

    def _absent(self, key: str) -> bool:
        raw = self._fields.get(key)
        return raw is None or bytes(raw) == b"null"


def _parse_slowly(data: bytes) -> dict[str, msgspec.Raw]:
    """Read what the strict parser refuses; raise `BadRequest` with the place if it is no JSON object at all."""
    try:
        value = json.loads(data)
        if isinstance(value, dict):
            return {key: msgspec.Raw(json.dumps(item, separators=(",", ":")).encode()) for key, item in value.items()}
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"The request body is not valid JSON: {error.msg} at {where}.") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8 at byte {error.start}.") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.") from None
    raise BadRequest(f"The request body must be a JSON object, got {_kind(value)}.")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
