"""The JSON body of a request: read as far as the gateway needs it, everything else kept byte for byte.

Only the top level is taken apart; values stay raw spans of the original, so a history of a megabyte is copied and
never built. Of duplicate keys the last one counts, for routing and for what is forwarded alike, because what is
forwarded has each key once. What msgspec will not read but clients do send (lone surrogates, `NaN`) goes through the
standard library's parser instead, byte for byte as well. Whether text is UTF-8 is looked at only where it is read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

import msgspec

from gateway.core.alias import Json, Sampling
from gateway.core.errors import BadRequest

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode
_raw_decode = json.JSONDecoder(parse_int=float).raw_decode  # an integer of any length; only its end is of interest
_GAP = re.compile(r"[ \t\n\r]*[:,]?[ \t\n\r]*")


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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
        """Return a field decoded, `None` if it is absent. For small fields only.

        Raises `BadRequest` if it is not UTF-8, nested too deeply, or a number too long for Python.
        """
        raw = self._fields.get(key)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _value_slowly(key, bytes(raw))

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
        try:
            return _encode(self._fields)
        except UnicodeEncodeError:  # a key with half of a surrogate pair
            fields = (json.dumps(key).encode() + b":" + bytes(raw) for key, raw in self._fields.items())
            return b"{" + b",".join(fields) + b"}"

    def _absent(self, key: str) -> bool:
        raw = self._fields.get(key)
        return raw is None or bytes(raw) == b"null"


def _parse_slowly(data: bytes) -> dict[str, msgspec.Raw]:
    """Read what the strict parser refuses; raise `BadRequest` with the place if it is no JSON object at all."""
    try:
        text = data.decode("utf-8-sig", "surrogatepass")
        value = json.loads(text, parse_int=float)
        if isinstance(value, dict):
            return dict(_spans(text))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        message = error.msg.removesuffix(" at")
        raise BadRequest(f"The request body is not valid JSON: {message} at {where}.") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8 at byte {error.start}.") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.") from None
    raise BadRequest(f"The request body must be a JSON object, got {_kind(value)}.")


def _spans(text: str) -> Iterator[tuple[str, msgspec.Raw]]:
    """Yield the fields of a valid object, each value as it was written."""
    place = _after_gap(text, text.index("{") + 1)
    while text[place] != "}":
        key, place = _raw_decode(text, place)
        start = _after_gap(text, place)
        _, place = _raw_decode(text, start)
        yield key, msgspec.Raw(text[start:place].encode("utf-8", "surrogatepass"))
        place = _after_gap(text, place)


def _after_gap(text: str, place: int) -> int:
    """Return where the next token starts: behind white space and a colon or a comma."""
    gap = _GAP.match(text, place)
    return place if gap is None else gap.end()


def _value_slowly(key: str, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"`{key}` cannot be read: {error}.", param=key) from None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
