"""Numbers with units as people write them: `64MB`, `48GiB`, `90%`, `5m`, `1h30m`.

Pure functions from text or number to a number; an `UnfitError` says what was expected and what was found. A
bare number is bytes or seconds. A lone letter (`64M`) is refused: half of all programs mean 1000 by it, the
other half 1024.
"""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.config.problem import UnfitError, nearest, shown

_SIZES: Final = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE_WORDS: Final = ("B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([^\W\d_]*|%)\s*")
_PART: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([^\W\d_]+)")

Number = TypeVar("Number", int, float)

FOREVER: Final = frozenset({"never", "forever"})


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, in percent."""

    percent: float

    def __str__(self) -> str:
        return f"{self.percent:g}%"


def byte_size(value: object) -> int:
    """Return a number of bytes. Raises `UnfitError`."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UnfitError(f"expected a size such as 64MB or 48GiB, got {shown(value)}")
    if isinstance(value, int):
        return _at_least_zero(value)
    found = _QUANTITY.fullmatch(value)
    if not found:
        raise UnfitError(f"expected a size such as 64MB or 48GiB, got {shown(value)}")
    number, unit = found.groups()
    if unit == "":
        return int(float(number))
    if unit.casefold() not in _SIZES:
        raise UnfitError(
            f"unknown unit {unit!r} of a size in {shown(value)}{_unit_hint(unit)}; "
            f"the units are {', '.join(_SIZE_WORDS)}"
        )
    return round(float(number) * _SIZES[unit.casefold()])


def share_or_bytes(value: object) -> Share | int:
    """Return a percentage, or a number of bytes. Raises `UnfitError`."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return Share(percent(value))
    try:
        return byte_size(value)
    except UnfitError as fault:
        text = str(fault)
        raise UnfitError(text.replace("a size such as 64MB or 48GiB", "90%, or a size such as 48GiB")) from None


def percent(value: object) -> float:
    """Return a percentage above 0, at most 100; `75` and `75%` are the same. Raises `UnfitError`."""
    number = math.nan
    if isinstance(value, str):
        with suppress(ValueError):
            number = float(value.strip().removesuffix("%"))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not 0 < number <= 100:
        raise UnfitError(f"expected a percentage above 0 and up to 100, such as 90%, got {shown(value)}")
    return number


def duration(value: object) -> float:
    """Return seconds. Raises `UnfitError`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnfitError(f"expected a time such as 30, 90s or 5m, got {shown(value)}")
    if isinstance(value, int | float):
        return float(_at_least_zero(value))
    bare = _QUANTITY.fullmatch(value)
    if bare and not bare[2]:
        return float(bare[1])
    return _with_units(value)


def _with_units(value: str) -> float:
    total, at = 0.0, 0
    while at < len(value.rstrip()):
        part = _PART.match(value, at)
        if not part:
            raise UnfitError(f"expected a time such as 30, 90s or 5m, got {shown(value)}")
        number, unit = part.groups()
        if unit not in _SECONDS:
            raise UnfitError(f"unknown unit {unit!r} of a time in {shown(value)}; the units are {', '.join(_SECONDS)}")
        total += float(number) * _SECONDS[unit]
        at = part.end()
    if at == 0:
        raise UnfitError(f"expected a time such as 30, 90s or 5m, got {shown(value)}")
    return total


def lifetime(value: object) -> float | None:
    """Return seconds, or `None` for ever (`null`, -1, `never`). Raises `UnfitError`."""
    if value is None or (isinstance(value, str) and value.strip().casefold() in FOREVER):
        return None
    if not isinstance(value, bool) and str(value).strip() == "-1":
        return None
    try:
        return duration(value)
    except UnfitError as fault:
        raise UnfitError(f"{fault} (-1 or 'never' keeps it for ever)") from None


def _at_least_zero(value: Number) -> Number:
    if not 0 <= value < math.inf:
        raise UnfitError(f"expected a number of 0 or more, got {shown(value)}")
    return value


def _unit_hint(unit: str) -> str:
    if unit.casefold() in {"k", "m", "g", "t"}:
        letter = unit.upper()
        return f" (did you mean '{letter}iB' or '{letter}B'?)"
    return nearest(unit, _SIZE_WORDS)
