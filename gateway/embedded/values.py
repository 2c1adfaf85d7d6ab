"""The kinds of value that llama-server's flags take, and how each is read from a word of the command line.

Owns the typed values (`Value`) and one `Kind` per way of writing one. Promises that a value that passes here
is within the range of the C++ field it is meant for, so that setting it later cannot overflow.

Does not know any flag. Touches the file system only for the kinds that name a file to be read or a folder
that has to exist, as llama-server does while it parses.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
MAX_CPUS = 512  # GGML_MAX_N_THREADS: the length of the C++ CPU mask
MAX_DEVICES = 16  # llama_max_devices() of a build without RPC: the length of the --fit-target array
MIB = 1024 * 1024

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_TRUTHY = ("on", "enabled", "true", "1")
_FALSEY = ("off", "disabled", "false", "0")
_AUTO = ("auto", "-1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member of one of the wheel's enums, by name, so that the wheel need not be loaded to parse."""

    enum: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Grammar:
    """A constraint on what is generated: GBNF text, or a JSON schema still to be turned into a grammar."""

    text: str
    is_schema: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """A LoRA adapter: the path of its GGUF file and the factor it is applied with."""

    path: str
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Several:
    """One word that decides about more than one attribute; keys are attribute paths."""

    values: Mapping[str, "Value"]


Value: TypeAlias = (
    bool
    | int
    | float
    | str
    | Member
    | Grammar
    | tuple[str, ...]
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[Member, ...]
    | tuple[Lora, ...]
    | frozenset[int]
    | Mapping[str, str]
    | Several
)
"""What a setting may be. A frozenset is a set of CPU numbers; a mapping holds JSON texts by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A way of writing a value. `convert` raises ValueError or OSError for what is not `expected`."""

    metavar: str
    expected: str
    convert: Callable[[str], Value]


def integer(low: int = INT32_MIN, high: int = INT32_MAX, expected: str = "an integer") -> Kind:
    """A decimal integer within both bounds."""

    def convert(text: str) -> int:
        return int_within(text, low, high)

    return Kind(metavar="N", expected=expected, convert=convert)


def choice(enum: str, prefix: str, *words: str, metavar: str = "TYPE") -> Kind:
    """One of `words`, which stands for the enum member of that name in capitals after `prefix`."""
    return members(enum, {word: prefix + word.upper() for word in words}, metavar=metavar)


def members(enum: str, names: Mapping[str, str], metavar: str = "TYPE") -> Kind:
    """One of the keys of `names`, which stands for the enum member that is its value."""
    return among({word: Member(enum=enum, name=name) for word, name in names.items()}, metavar)


def among(values: Mapping[str, Value], metavar: str) -> Kind:
    """One of the keys of `values`; it stands for what is found there."""

    def convert(text: str) -> Value:
        if text not in values:
            raise ValueError(text)
        return values[text]

    return Kind(metavar=metavar, expected="one of " + ", ".join(values), convert=convert)


def switchable(on: Value, off: Value, auto: Value | None = None) -> Kind:
    """A word for on, off or (if given) auto, in each of llama-server's spellings of these."""
    spelled = dict.fromkeys(_TRUTHY, on) | dict.fromkeys(_FALSEY, off)
    words = "on or off"
    if auto is not None:
        spelled |= dict.fromkeys(_AUTO, auto)
        words = "on, off or auto"

    def convert(text: str) -> Value:
        if text not in spelled:
            raise ValueError(text)
        return spelled[text]

    return Kind(metavar="[" + words.replace(" or ", ", ").replace(", ", "|") + "]", expected=words, convert=convert)


def int_within(text: str, low: int, high: int) -> int:
    """The decimal integer in `text`; ValueError unless it is one within both bounds."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    number = int(text)
    if not low <= number <= high:
        raise ValueError(text)
    return number


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(text)
    return number


def _rope_scale(text: str) -> float:
    return 1.0 / _positive(text)


def _positive(text: str) -> float:
    number = _number(text)
    if number <= 0:
        raise ValueError(text)
    return number


def _utf8(text: str) -> str:
    text.encode()  # the wheel hands strings on as UTF-8; a surrogate from an undecodable argument cannot be
    return text


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word for word in _utf8(text).split(",") if word)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(word) for word in re.split("[,/]", text))


def _margins(text: str) -> tuple[int, ...]:
    margins = tuple(int_within(word, 0, 2**43) * MIB for word in text.split(","))
    return margins * MAX_DEVICES if len(margins) == 1 else margins


def _threads(text: str) -> int:
    count = int_within(text, INT32_MIN, MAX_CPUS)
    return count if count > 0 else os.cpu_count() or 1


def _context(text: str) -> Value:
    size = int_within(text, 0, INT32_MAX)
    # 0 asks for all of the model's context, so --fit must not shrink it: UINT32_MAX seen as a signed number.
    return size or Several(values={"n_ctx": 0, "fit_params_min_ctx": -1})


def _layers(text: str) -> int:
    return {"auto": -1, "all": -2}.get(text) or int_within(text, INT32_MIN, INT32_MAX)


def _slots(text: str) -> int:
    if not (slots := int_within(text, -1, INT32_MAX)):
        raise ValueError(text)
    return slots


def _idle_seconds(text: str) -> int:
    return _slots(text)  # the same rule: -1, or at least 1


def _seed(text: str) -> int:
    return int_within(text, -1, 2**32 - 1) & 0xFFFFFFFF


def _cpu_mask(text: str) -> frozenset[int]:
    mask = int(text.removeprefix("0x"), 16)
    if not 0 <= mask < 1 << MAX_CPUS or "_" in text:
        raise ValueError(text)
    return frozenset(cpu for cpu in range(MAX_CPUS) if mask >> cpu & 1)


def _cpu_range(text: str) -> frozenset[int]:
    first, _, last = text.partition("-")
    if "-" not in text:
        raise ValueError(text)
    low = int_within(first or "0", 0, MAX_CPUS - 1)
    return frozenset(range(low, int_within(last or str(MAX_CPUS - 1), low, MAX_CPUS - 1) + 1))


def _loras(text: str) -> tuple[Lora, ...]:
    return tuple(Lora(path=path, scale=1.0) for path in _listed(text))


def _scaled_loras(text: str) -> tuple[Lora, ...]:
    pairs = [word.split(":") for word in _listed(text)]
    return tuple(Lora(path=path, scale=_number(scale)) for path, scale in pairs)


def _template_kwargs(text: str) -> dict[str, str]:
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise ValueError(text)  # noqa: TRY004  (what is wrong is the text)
    return {name: json.dumps(value, ensure_ascii=False, separators=(",", ":")) for name, value in parsed.items()}


def _text_of(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _keys_of(path: str) -> tuple[str, ...]:
    return tuple(line for line in _text_of(path).splitlines() if line and not line.startswith("#"))


def _folder(path: str) -> str:
    if not Path(path).is_dir():
        raise ValueError(path)
    return _utf8(path) if path.endswith(os.sep) else _utf8(path) + os.sep


def _schema(text: str) -> Grammar:
    json.loads(text)
    return Grammar(text=text, is_schema=True)


INTEGER = integer()
NATURAL = integer(0, INT32_MAX, "an integer, 0 or more")
AT_LEAST_MINUS_ONE = integer(-1, INT32_MAX, "an integer, -1 or more")
NGRAM = integer(1, 1024, "an integer from 1 to 1024")
PORT = integer(0, 65535, "a port number, 0 to 65535")
BIT = among({"0": False, "1": True}, "<0|1>")
NUMBER = Kind(metavar="N", expected="a number", convert=_number)
ROPE_SCALE = Kind(metavar="N", expected="a number above 0", convert=_rope_scale)
TEXT = Kind(metavar="STRING", expected="UTF-8 text", convert=_utf8)
FILE = Kind(metavar="FNAME", expected="a path in UTF-8", convert=_utf8)
TEXTS = Kind(metavar="A,B,...", expected="a list separated by commas", convert=_listed)
ONE_TEXT = Kind(metavar="STRING", expected="UTF-8 text", convert=lambda text: (_utf8(text),))
NUMBERS = Kind(metavar="N0,N1,...", expected="numbers separated by commas", convert=_numbers)
MARGINS = Kind(metavar="MiB0,MiB1,...", expected="sizes in MiB separated by commas", convert=_margins)
MEBIBYTES = Kind(metavar="N", expected="a size in MiB", convert=lambda text: int_within(text, 0, 2**43) * MIB)
THREADS = Kind(metavar="N", expected=f"a number of threads up to {MAX_CPUS}", convert=_threads)
CONTEXT = Kind(metavar="N", expected="a number of tokens, 0 or more", convert=_context)
LAYERS = Kind(metavar="N|auto|all", expected="a number of layers, auto or all", convert=_layers)
SLOTS = Kind(metavar="N", expected="a number of slots: -1 (automatic), or 1 and more", convert=_slots)
IDLE_SECONDS = Kind(metavar="SECONDS", expected="-1 (never), or whole seconds from 1 on", convert=_idle_seconds)
SEED = Kind(metavar="SEED", expected="an integer from -1 to 4294967295", convert=_seed)
CPU_MASK = Kind(metavar="M", expected=f"a hexadecimal mask of at most {MAX_CPUS} bits", convert=_cpu_mask)
CPU_RANGE = Kind(metavar="lo-hi", expected=f"CPU numbers lo-hi below {MAX_CPUS}", convert=_cpu_range)
LORAS = Kind(metavar="FNAME,...", expected="paths separated by commas", convert=_loras)
SCALED_LORAS = Kind(metavar="FNAME:SCALE,...", expected="FNAME:SCALE, separated by commas", convert=_scaled_loras)
TEMPLATE_KWARGS = Kind(metavar="JSON", expected="a JSON object", convert=_template_kwargs)
TEXT_FILE = Kind(metavar="FNAME", expected="a readable file of UTF-8 text", convert=_text_of)
KEY_FILE = Kind(metavar="FNAME", expected="a readable file with one key per line", convert=_keys_of)
FOLDER = Kind(metavar="PATH", expected="a folder that exists", convert=_folder)
GRAMMAR = Kind(
    metavar="GRAMMAR",
    expected="a GBNF grammar",
    convert=lambda text: Grammar(text=_utf8(text), is_schema=False),
)
GRAMMAR_FILE = Kind(
    metavar="FNAME",
    expected="a readable GBNF file",
    convert=lambda path: Grammar(text=_text_of(path), is_schema=False),
)
SCHEMA = Kind(metavar="JSON", expected="a JSON schema", convert=_schema)
SCHEMA_FILE = Kind(metavar="FNAME", expected="a readable JSON file", convert=lambda path: _schema(_text_of(path)))
