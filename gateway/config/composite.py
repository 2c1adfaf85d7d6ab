"""The types of settings with parts: argument lists, API keys, request fields, environments.

Like `fields`, one `Kind` each. API keys become digests here, at the door: no value that leaves this module,
and no message, contains a key.
"""

import re
import shlex
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Annotated, Any, Final

from gateway.config.fields import JsonSchema, Kind, not_json
from gateway.config.problem import UnfitError, listing, nearest, shown
from gateway.core.alias import Sampling

MIN_KEY: Final = 8
ROLES: Final = ("user", "admin")

# What a request is about, as opposed to how it is answered: an alias may not decide it.
PROTECTED: Final = frozenset({"model", "messages", "prompt", "input", "stream"})

_REGIMES: Final = frozenset({"suggest", "enforce", "strip"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Who may call: a name for the log, a role (`user` or `admin`), and the SHA-256 of the key in hex."""

    name: str
    role: str
    digest: str


def arguments(value: Any) -> tuple[str, ...]:
    """Split a command line as a shell does, or take a list as it is. Raises `UnfitError`."""
    if isinstance(value, str):
        try:
            # A backslash at the end of a line continues it, as in a shell script.
            return tuple(shlex.split(value.replace("\\\r\n", " ").replace("\\\n", " ")))
        except ValueError as fault:
            raise UnfitError(f"cannot be split into arguments ({fault}): {shown(value)}") from None
    if not isinstance(value, list):
        raise UnfitError(f"expected a list or one text of arguments, got {shown(value)}")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise UnfitError(f"expected a list of texts and numbers, got {shown(item)} in it; put it in quotes")
    return tuple(str(item) for item in value)


def api_key(value: Any) -> ApiKey:
    """Return the digest of a key with its name and role; the name may be empty. Raises `UnfitError`."""
    entry = {"key": value} if isinstance(value, str) else value
    if not isinstance(entry, dict):
        raise UnfitError("expected a key in quotes, or a mapping with name, key and role")
    for name in entry:
        if name not in {"name", "key", "role"}:
            hint = nearest(name, ("name", "key", "role"))
            raise UnfitError(f"unknown key of an API key: {shown(name)}{hint}; there are name, key and role")
    key, name, role = entry.get("key"), entry.get("name", ""), entry.get("role", "user")
    if not isinstance(key, str) or len(key) < MIN_KEY or not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UnfitError(
            f"expected a key of at least {MIN_KEY} letters, digits and signs in quotes; "
            "`openssl rand -hex 24` makes a good one"
        )
    if not isinstance(name, str) or not re.fullmatch(r"[^\x00-\x1f\x7f]{0,100}", name):
        raise UnfitError("expected the name of an API key to be one line of at most 100 characters")
    if role not in ROLES:
        raise UnfitError(f"expected the role of an API key to be {listing(ROLES)}, got {shown(role)}")
    return ApiKey(name=name, role=role, digest=sha256(key.encode()).hexdigest())


def request_params(value: Any) -> Sampling:
    """Return request fields by regime; a flat mapping is what the alias suggests. Raises `UnfitError`."""
    if not isinstance(value, dict):
        raise UnfitError(f"expected a mapping of request fields, got {shown(value)}")
    regimes = value if _REGIMES & value.keys() else {"suggest": value}
    for name in regimes.keys() - _REGIMES:
        hint = nearest(name, _REGIMES)
        raise UnfitError(
            f"expected only suggest, enforce and strip beside each other, got {shown(name)}{hint}; "
            "move it below suggest"
        )
    strip = regimes.get("strip") or []
    if not isinstance(strip, list) or not all(isinstance(item, str) for item in strip):
        raise UnfitError(f"expected strip to be a list of request fields, got {shown(strip)}")
    for name in strip:
        _refuse_protected(name)
    return Sampling(
        suggest=_fields(regimes.get("suggest"), "suggest"),
        enforce=_fields(regimes.get("enforce"), "enforce"),
        strip=frozenset(strip),
    )


def json_mapping(value: Any) -> dict[str, Any]:
    """Return a mapping that can be sent as a JSON object. Raises `UnfitError`."""
    if not isinstance(value, dict):
        raise UnfitError(f"expected a mapping, got {shown(value)}")
    if fault := not_json(value):
        raise UnfitError(fault)
    return value


def environment(value: Any) -> tuple[tuple[str, str], ...]:
    """Return environment variables, sorted by name. Raises `UnfitError`."""
    if not isinstance(value, dict):
        raise UnfitError(f"expected a mapping of variable names to values, got {shown(value)}")
    for name, content in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UnfitError(f"expected the name of an environment variable, got {shown(name)}")
        if name.startswith("LLAMA_ARG_") or name == "LLAMA_API_KEY":
            raise UnfitError(f"{name} is a flag of llama-server in disguise; write it in sampler_args")
        if isinstance(content, bool | list | dict) or content is None or "\0" in str(content):
            raise UnfitError(f"expected {name} to be a text or a number, got {shown(content)}; put it in quotes")
    return tuple(sorted((name, str(content)) for name, content in value.items()))


def _fields(value: Any, regime: str) -> MappingProxyType[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise UnfitError(f"expected {regime} to be a mapping of request fields, got {shown(value)}")
    for name in value or {}:
        _refuse_protected(name)
    return MappingProxyType(json_mapping(value or {}))


def _refuse_protected(name: str) -> None:
    if name in PROTECTED:
        raise UnfitError(f"{name!r} belongs to the client's request; an alias cannot set or remove it")


_STRINGS: Final[JsonSchema] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "number"]}}]
}
_KEY_SCHEMA: Final[JsonSchema] = {
    "anyOf": [
        {"type": "string", "minLength": MIN_KEY},
        {
            "type": "object",
            "required": ["key"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string"},
                "key": {"type": "string", "minLength": MIN_KEY},
                "role": {"enum": list(ROLES)},
            },
        },
    ]
}

Arguments = Annotated[tuple[str, ...], Kind(arguments, _STRINGS)]
Key = Annotated[ApiKey, Kind(api_key, _KEY_SCHEMA)]
RequestParams = Annotated[Sampling, Kind(request_params, {"type": "object"})]
JsonObject = Annotated[dict[str, Any], Kind(json_mapping, {"type": "object"})]
Environment = Annotated[
    tuple[tuple[str, str], ...],
    Kind(environment, {"type": "object", "additionalProperties": {"type": ["string", "number"]}}),
]
