"""Who may do what. Keys are known by their digests only; they are never kept, shown or logged."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256


class Role(IntEnum):
    """What a caller may do; each role may do what the ones below it may."""

    OPEN = 0
    USER = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A configured key: its name for people, its role, the SHA-256 digest of its text."""

    name: str
    digest: bytes
    role: Role = Role.ADMIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: the name of the key and its role, never the key."""

    name: str
    role: Role


LOCAL = Principal(name="local", role=Role.ADMIN)


def digest(key: str) -> bytes:
    """Return what is kept of a key."""
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def identify(presented: str, keys: Iterable[ApiKey]) -> Principal | None:
    """Return whose key this is. Every configured key is compared, in constant time."""
    shown = digest(presented)
    found = None
    for key in keys:
        if hmac.compare_digest(shown, key.digest):
            found = Principal(name=key.name, role=key.role)
    return found
