"""Flags of llama-server, as written in `sampler_args`, taken apart by what they do.

Owns the reading of an argument list: sampling values become request fields, so that models which differ only
in them share one process; flags with a key of their own become that key; the rest changes the launch. Pure:
paths are made absolute, but nobody looks whether they exist. Both spellings are read (`--top-nsigma 1.5`,
`--temp=0.4`), and underscores as dashes, as llama-server does. A flag nobody knows, or one that is refused,
is a fault.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.config.fields import CACHE_TYPE, GPU_LAYERS, PARALLEL, TOKENS
from gateway.config.flags import ENTRY_KEYS, KNOWN, LAUNCH, REFUSED, SAMPLING, LaunchFlag, SamplingFlag
from gateway.config.locate import plain_scalar
from gateway.config.problem import UnfitError, nearest, shown
from gateway.core.alias import Json

Resolve = Callable[[str], Path]

_SWITCHES: Final = frozenset({"on", "off", "auto", "true", "false", "1", "0", "enabled", "disabled"})
_KEY_KINDS: Final = {
    "ctx_size": TOKENS, "parallel": PARALLEL, "gpu_layers": GPU_LAYERS,
    "cache_type_k": CACHE_TYPE, "cache_type_v": CACHE_TYPE,
}  # fmt: skip


@dataclass(slots=True)
class Flags:
    """What a list of flags asks for.

    `request`: fields of each request. `keys`: values of entry keys. `launch`: for each flag that changes the
    launch (by the name that stands for its spellings) the arguments as written. `files`: what the flags read.
    `faults`: what is wrong, each a sentence.
    """

    request: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    launch: dict[str, tuple[str, ...]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_flags(arguments: Sequence[str], resolve: Resolve) -> Flags:
    """Take `arguments` apart; `resolve` makes a path absolute. Faults are collected, never raised."""
    flags = Flags()
    rest = _Arguments(arguments)
    while rest:
        flag = rest.flag()
        try:
            _read_one(flag, rest, flags, resolve)
        except UnfitError as fault:
            flags.faults.append(str(fault))
            rest.skip_to_flag()
    _share_context(flags)
    return flags


class _Arguments:
    """The arguments that are still to be read; a value written with `=` counts as the next argument."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._left = list(reversed(arguments))
        self._attached = False

    def __bool__(self) -> bool:
        return bool(self._left)

    def flag(self) -> str:
        """Take the next flag off, in its common spelling."""
        word = self._left.pop()
        head, equals, value = word.partition("=")
        self._attached = bool(equals) and word not in KNOWN and word.startswith("-")
        if self._attached:
            self._left.append(value)
            word = head
        return _common(word)

    def value(self, flag: str) -> str:
        """Take the value of `flag` off. Raises `UnfitError` if there is none."""
        if not self._left or self._next_is_flag():
            raise UnfitError(f"{flag} needs a value")
        self._attached = False
        return self._left.pop()

    def switch(self, flag: str) -> str:
        """Take on, off or auto off; `on` where a flag or nothing follows, as older builds had it."""
        return self.value(flag) if self._left and not self._next_is_flag() else "on"

    def done(self, flag: str) -> None:
        """Note that `flag` takes no value. Raises `UnfitError` if one was attached."""
        if self._attached:
            raise UnfitError(f"{flag} takes no value, got {shown(self._left.pop())}")

    def skip_to_flag(self) -> None:
        """After a fault: pass over what may have been the flag's values."""
        self._attached = False
        while self._left and not self._next_is_flag():
            self._left.pop()

    def _next_is_flag(self) -> bool:
        if self._attached:
            return False
        word = self._left[-1].partition("=")[0]
        # A negative number is a value; any other word with a dash in front is a flag, known or not.
        return _common(word) in KNOWN or (word.startswith("-") and isinstance(plain_scalar(word), str))


def _common(word: str) -> str:
    return word.replace("_", "-") if word.startswith("-") else word


def _read_one(flag: str, rest: _Arguments, flags: Flags, resolve: Resolve) -> None:
    if flag in SAMPLING:
        _sampling(flag, SAMPLING[flag], rest, flags)
    elif flag in ENTRY_KEYS:
        _entry_key(flag, ENTRY_KEYS[flag], rest, flags, resolve)
    elif flag in LAUNCH:
        _launch(flag, LAUNCH[flag], rest, flags, resolve)
    elif flag in REFUSED:
        raise UnfitError(f"{flag} is refused here: {REFUSED[flag]}")
    elif flag.startswith("-"):
        raise UnfitError(f"unknown flag {shown(flag)}{nearest(flag, KNOWN - REFUSED.keys())}")
    else:
        raise UnfitError(f"expected a flag, got {shown(flag)}; put a value with spaces in quotes")


def _sampling(flag: str, known: SamplingFlag, rest: _Arguments, flags: Flags) -> None:
    if known.kind == "yes":
        rest.done(flag)
        flags.request[known.field] = True
        return
    value = rest.value(flag)
    before = flags.request.get(known.field)
    match known.kind:
        case "whole" | "number":
            flags.request[known.field] = _number(flag, known, value)
        case "names":
            flags.request[known.field] = [name for name in value.split(";") if name]
        case "breaker":
            flags.request[known.field] = [*(before if isinstance(before, list) else []), value]
        case "bias":
            flags.request[known.field] = {
                **(before if isinstance(before, dict) else {}),
                **_bias(flag, value),
            }
        case "json":
            flags.request[known.field] = _json_object(flag, value)
        case "text":
            flags.request[known.field] = value


def _number(flag: str, known: SamplingFlag, value: str) -> int | float:
    number = plain_scalar(value)
    what = "a whole number" if known.kind == "whole" else "a number"
    fraction = known.kind == "whole" and isinstance(number, float)
    if isinstance(number, bool) or not isinstance(number, int | float) or fraction:
        raise UnfitError(f"expected {what} after {flag}, got {shown(value)}")
    if known.least is not None and number < known.least:
        raise UnfitError(f"expected {what} of at least {known.least:g} after {flag}, got {value}")
    if known.most is not None and number > known.most:
        raise UnfitError(f"expected {what} of at most {known.most:g} after {flag}, got {value}")
    return number


def _bias(flag: str, value: str) -> dict[str, Json]:
    # TOKEN_ID, a sign, BIAS: the sign belongs to the bias.
    at = max(value.find("+"), value.find("-"))
    token, bias = value[:at], plain_scalar(value[at:])
    if at < 1 or not token.isdecimal() or isinstance(bias, bool) or not isinstance(bias, int | float):
        raise UnfitError(f"expected a token id and a bias such as 15043+1 after {flag}, got {shown(value)}")
    return {token: float(bias)}


def _json_object(flag: str, value: str) -> dict[str, Json]:
    try:
        built = json.loads(value)
    except ValueError:
        built = None
    if not isinstance(built, dict):
        raise UnfitError(f"expected a JSON object after {flag}, got {shown(value)}")
    return built


def _entry_key(flag: str, key: str, rest: _Arguments, flags: Flags, resolve: Resolve) -> None:
    if key == "embeddings":
        rest.done(flag)
        flags.keys[key] = True
    elif key == "mmproj":
        flags.keys[key] = resolve(rest.value(flag))
        flags.files.append(flags.keys[key])
    else:
        value = rest.value(flag)
        try:
            flags.keys[key] = _KEY_KINDS[key].parse(plain_scalar(value))
        except UnfitError as fault:
            raise UnfitError(f"{flag}: {fault}") from None


def _launch(flag: str, known: LaunchFlag, rest: _Arguments, flags: Flags, resolve: Resolve) -> None:
    words = (flag, *_launch_values(flag, known, rest, flags, resolve))
    before = flags.launch.get(known.name, ()) if known.repeats else ()
    flags.launch[known.name] = (*before, *words)


def _launch_values(flag: str, known: LaunchFlag, rest: _Arguments, flags: Flags, resolve: Resolve) -> tuple[str, ...]:
    match known.kind:
        case "none":
            rest.done(flag)
            return ()
        case "switch":
            value = rest.switch(flag)
            if value not in _SWITCHES:
                raise UnfitError(f"expected on, off or auto after {flag}, got {shown(value)}")
            return (value,)
        case "path" | "paths":
            written = rest.value(flag)
            files = [resolve(name) for name in (written.split(",") if known.kind == "paths" else [written])]
            flags.files.extend(files)
            return (",".join(str(file) for file in files),)
        case "place":
            return (str(resolve(rest.value(flag))),)
        case "two":
            return (rest.value(flag), rest.value(flag))
        case "value":
            return (rest.value(flag),)


def _share_context(flags: Flags) -> None:
    # llama-server divides -c among its slots; `ctx_size` is what each request gets.
    context, parallel = flags.keys.get("ctx_size"), flags.keys.get("parallel")
    if context is not None and parallel is not None:
        flags.keys["ctx_size"] = max(1, context // parallel)


def launch_arguments(launch: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return launch flags in one order, whichever they were written in, so that equal launches are equal.

    `--jinja` comes first: llama-server accepts a custom template only after it.
    """
    order = sorted(launch, key=lambda name: (name != "--jinja", name))
    return tuple(word for name in order for word in launch[name])
