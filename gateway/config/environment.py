"""Settings from variables: the environment and the `.env` file of the configuration folder.

Owns the table of variables and the reading of `.env`. The environment comes in as a mapping: nobody below
`main` reads the real one. An empty variable counts as absent, as in Compose files, except `MODEL_PREFIX`,
where empty means no prefix.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.config.layer import Layer, Written
from gateway.config.locate import plain_scalar
from gateway.config.problem import Place, Problem, nearest
from gateway.core.alias import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable and the setting it stands for; `kind` is how its text is read."""

    name: str
    key: str
    kind: Literal["plain", "text", "list"] = "plain"


# Of two variables of one setting the later one wins.
VARIABLES: Final = (
    Variable(name="HOST", key="server.host", kind="text"),
    Variable(name="PORT", key="server.port"),
    Variable(name="HARMONY_PROXY_PORT", key="server.port"),
    Variable(name="GATEWAY_API_KEYS", key="server.api_keys", kind="list"),
    Variable(name="MODEL_PREFIX", key="models.prefix", kind="text"),
    Variable(name="MODEL_TTL", key="models.ttl"),
    Variable(name="DEFAULT_CTX_SIZE", key="models.ctx_size"),
    Variable(name="DEFAULT_PARALLEL", key="models.parallel"),
    Variable(name="MAX_LOADED_MODELS", key="memory.max_loaded"),
    Variable(name="LOG_LEVEL", key="log.level", kind="text"),
    Variable(name="HARMONY_MODELS_CONFIG", key="files.harmony_models", kind="text"),
    Variable(name="MEMORY_PRESSURE_THRESHOLD", key="pressure.threshold"),
    Variable(name="PRESSURE_CHECK_INTERVAL", key="pressure.interval"),
    Variable(name="MIN_MODEL_AGE_SECONDS", key="pressure.min_age"),
    Variable(name="MODELS_DIR", key="library.models_dir", kind="text"),
    Variable(name="BRIDGE_SYNC_INTERVAL", key="library.sync_interval"),
    Variable(name="HF_HOME", key="library.hf_home", kind="text"),
    Variable(name="OLLAMA_BASE", key="ollama.base", kind="text"),
)

# Variables of set-ups that the gateway replaces, and why they say nothing to it.
WITHOUT_MEANING: Final[Mapping[str, str]] = {
    "LLAMA_SWAP_PORT": "there is no second port: models are reached through the gateway's own",
    "BRIDGE_SCRIPT": "no script is needed to link models",
}

_EMPTY_HAS_MEANING: Final = frozenset({"MODEL_PREFIX"})
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")


def environment_layer(environ: Mapping[str, str], cwd: Path) -> Layer:
    """Return the settings of a process environment; relative paths in it start at `cwd`."""
    places = {name: Place(file="environment") for name in environ}
    return _layer(environ, places, kind="environment", folder=cwd)


def dotenv_layer(data: bytes, file: str, folder: Path) -> Layer:
    """Return the settings of a `.env` file, shown as `file`; relative paths in it start at `folder`."""
    values: dict[str, str] = {}
    places: dict[str, Place] = {}
    problems: list[Problem] = []
    for place, name, value in _dotenv(data, file):
        if not name:
            problems.append(Problem.at(place, "", value))
        elif name in values:
            problems.append(Problem.at(place, name, f"written twice, here and in line {places[name].line}"))
        else:
            values[name], places[name] = value, place
    layer = _layer(values, places, kind=".env", folder=folder)
    layer.problems.extend(problems)
    layer.warnings.extend(_strangers(values, places))
    return layer


def _layer(
    values: Mapping[str, str],
    places: Mapping[str, Place],
    *,
    kind: Literal["environment", ".env"],
    folder: Path,
) -> Layer:
    layer = Layer(kind=kind, folder=folder)
    for variable in VARIABLES:
        text = values.get(variable.name, "")
        if text.strip() or (variable.name in values and variable.name in _EMPTY_HAS_MEANING):
            layer.values[variable.key] = Written(
                value=_meaning(text, variable), place=places[variable.name], label=variable.name
            )
    for name, reason in WITHOUT_MEANING.items():
        if values.get(name, "").strip():
            layer.warnings.append(Problem.at(places[name], name, f"has no effect: {reason}"))
    layer.validate()
    return layer


def _meaning(text: str, variable: Variable) -> Json:
    match variable.kind:
        case "plain":
            return plain_scalar(text.strip())
        case "text":
            return text.strip()
        case "list":
            return [part.strip() for part in text.split(",") if part.strip()]


def _dotenv(data: bytes, file: str) -> Iterator[tuple[Place, str, str]]:
    """Yield place, name and value of each line; a fault has an empty name and its sentence as value."""
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), start=1):
        place = Place(file=file, line=number, column=len(line) - len(line.lstrip()) + 1)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found or "\ufffd" in line:
            yield place, "", "expected NAME=value in UTF-8, or a comment that begins with #"
            continue
        value = _unquoted(found[2])
        if value is None:
            yield place, "", f"{found[1]}: a quote is opened and never closed, or text follows it"
        elif "${" in value and not found[2].startswith("'"):
            yield place, "", f"{found[1]}: other variables are not filled in here; write the value itself"
        else:
            yield place, found[1], value


def _unquoted(text: str) -> str | None:
    if text[:1] not in {'"', "'"}:
        return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
    found = re.fullmatch(r"([\"'])(.*?)\1(?:\s+#.*)?", text)
    return found[2] if found else None


def _strangers(values: Mapping[str, str], places: Mapping[str, Place]) -> Iterator[Problem]:
    known = [variable.name for variable in VARIABLES]
    for name in values:
        if name not in known and name not in WITHOUT_MEANING:
            hint = nearest(name, known)
            yield Problem.at(places[name], name, f"the gateway knows no such variable{hint}; it has no effect")
