"""Short ways to write a row of the flag tables; the names of a flag are one string, separated by spaces."""

from collections.abc import Mapping

from gateway.embedded.flags import Flag
from gateway.embedded.values import Kind, Value


def value(names: str, kind: Kind, *sets: str, also: Mapping[str, Value] | None = None) -> Flag:
    """A flag with a value that replaces an earlier one."""
    return Flag(names=tuple(names.split()), takes=kind, sets=sets, also=also or {})


def more(names: str, kind: Kind, *sets: str, also: Mapping[str, Value] | None = None) -> Flag:
    """A flag with a value that adds to an earlier one."""
    return Flag(names=tuple(names.split()), takes=kind, sets=sets, also=also or {}, collects=True)


def sampler(names: str, kind: Kind, sets: str, bit: int) -> Flag:
    """A sampling parameter, and the bit that says that the user decided about it."""
    return value(names, kind, f"sampling.{sets}", also={"sampling.user_sampling_config": bit})


def on(names: str, *sets: str, also: Mapping[str, Value] | None = None) -> Flag:
    """A switch that sets attributes to true."""
    return Flag(names=tuple(names.split()), sets=sets, also=also or {})


def off(names: str, *sets: str) -> Flag:
    """A switch that sets attributes to false."""
    return Flag(names=tuple(names.split()), sets=sets, constant=False)


def fixed(names: str, constant: Value, *sets: str) -> Flag:
    """A switch that sets attributes to `constant`."""
    return Flag(names=tuple(names.split()), sets=sets, constant=constant)


def accepted(names: str, kind: Kind | None = None) -> Flag:
    """A flag that decides nothing here."""
    return Flag(names=tuple(names.split()), takes=kind)


def refused(names: str, reason: str) -> Flag:
    """A flag of llama-server that cannot be honoured, and why."""
    return Flag(names=tuple(names.split()), refused=reason)


def removed(names: str, successor: str) -> Flag:
    """A flag that llama-server used to have, and what to write instead."""
    return Flag(names=tuple(names.split()), successor=successor)
