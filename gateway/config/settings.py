"""The gateway's settings as frozen values, and where each comes from.

Owns `Settings` and its making from validated layers, with the rules that need several values together:
another address than this machine's own needs a key, keys and their names are unique. API keys are held as
digests only.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.config.composite import ApiKey
from gateway.config.layer import Source
from gateway.config.problem import Place, Problem
from gateway.config.quantity import Share
from gateway.config.schema import ConfigFile, ServerSection

LogLevel = Literal["debug", "info", "warning", "error"]

# Settings of which no part of the gateway makes use. HF_HOME is not among them: it is mostly set for others.
WITHOUT_EFFECT: Final = (
    "pressure.",
    "ollama.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the gateway listens, and who may call it. `body_limit` in bytes, times in seconds."""

    host: str
    port: int
    api_keys: tuple[ApiKey, ...]
    allowed_hosts: tuple[str, ...]
    body_limit: int
    keepalive_after: float
    loading_progress: bool
    timing_headers: bool
    drain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What holds for models that do not say otherwise. Times in seconds; a `ttl` of `None` is for ever."""

    prefix: str
    default_model: str | None
    ctx_size: int
    parallel: int
    ttl: float | None
    start_timeout: float
    demo: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How much memory all models together may take; `None` for no limit."""

    budget: Share | int | None
    max_loaded: int | None

    def budget_bytes(self, total: int) -> int | None:
        """Return the budget in bytes on a machine with `total` bytes."""
        if isinstance(self.budget, Share):
            return int(total * self.budget.percent / 100)
        return self.budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """How requests wait: how many, how long, and how long a model is kept for its next one. Seconds."""

    length: int
    timeout: float
    turn: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Silences:
    """How long a model's server may be silent, in seconds; 0 is no limit."""

    connect: float
    first_byte: float
    silence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaServerProgram:
    """The program: `auto`, `embedded`, a name to look up, or an absolute path. `stop_grace` in seconds."""

    program: str
    stop_grace: float
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is written about the gateway's work."""

    level: str
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Other files that were named; `None` for the one beside config.yaml."""

    custom_models: Path | None
    harmony_models: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """When memory runs short: percent in use, seconds between looks, seconds of idleness before unloading."""

    threshold: float
    interval: float
    min_age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Where model files are found, and how often to look, in seconds."""

    models_dir: Path
    sync_interval: float
    hf_home: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ollama:
    """The address of an Ollama server, without a slash at the end."""

    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one moment. `sources`: by dotted key, where those come from that are not defaults."""

    server: Server
    models: Models
    memory: Memory
    queue: Queue
    timeouts: Silences
    llama_server: LlamaServerProgram
    log: Log
    files: Files
    pressure: Pressure
    library: Library
    ollama: Ollama
    harmony_models: tuple[str, ...]
    sources: Mapping[str, Source]


def settings_of(form: ConfigFile, sources: Mapping[str, Source], home: Path) -> Settings:
    """Return validated values as settings: paths absolute, keys named."""

    def path(key: str, written: str | None) -> Path | None:
        return None if written is None else absolute(written, sources[key].folder, home)

    models_dir = sources.get("library.models_dir")
    program = form.llama_server.program
    if "/" in program or "\\" in program:
        program = str(absolute(program, sources["llama_server.program"].folder, home))
    return Settings(
        server=_server(form.server),
        models=Models(**dict(form.models)),
        memory=Memory(**dict(form.memory)),
        queue=Queue(**dict(form.queue)),
        timeouts=Silences(**dict(form.timeouts)),
        llama_server=LlamaServerProgram(**{**dict(form.llama_server), "program": program}),
        log=Log(**dict(form.log)),
        files=Files(
            custom_models=path("files.custom_models", form.files.custom_models),
            harmony_models=path("files.harmony_models", form.files.harmony_models),
        ),
        pressure=Pressure(**dict(form.pressure)),
        library=Library(
            models_dir=absolute(form.library.models_dir, models_dir.folder if models_dir else home, home),
            sync_interval=form.library.sync_interval,
            hf_home=path("library.hf_home", form.library.hf_home),
        ),
        ollama=Ollama(**dict(form.ollama)),
        harmony_models=(),
        sources=sources,
    )


def absolute(written: str, folder: Path, home: Path) -> Path:
    """Return a written path as an absolute one: `~` is `home`, relative paths start at `folder`."""
    if written == "~" or written.startswith(("~/", "~\\")):
        return home / written[2:]
    return folder / written


def loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def contradictions(settings: Settings) -> Iterator[Problem]:
    """Yield what is wrong between settings that are each fine."""
    server = settings.server
    if not loopback(server.host) and not server.api_keys:
        place, label = _written(settings, "server.host")
        message = (
            f"listening on {server.host} lets other machines use your models; set server.api_keys in "
            "config.yaml (or GATEWAY_API_KEYS), or listen on 127.0.0.1"
        )
        yield Problem.at(place, label, message)
    place, label = _written(settings, "server.api_keys")
    if len({key.digest for key in server.api_keys}) < len(server.api_keys):
        yield Problem.at(place, label, "the same key is given twice; give each caller its own")
    names = [key.name for key in server.api_keys]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Problem.at(place, label, f"two keys have the name '{name}'; the log could not tell them apart")


def idle(settings: Settings) -> Iterator[Problem]:
    """Yield the settings that were made but have no effect."""
    for key, source in settings.sources.items():
        if key.startswith(WITHOUT_EFFECT):
            yield Problem.at(source.place, source.label, "is read and checked, but has no effect in this version")


def _written(settings: Settings, key: str) -> tuple[Place, str]:
    source = settings.sources.get(key)
    return (source.place, source.label) if source else (Place(file="default"), key)


def _server(form: ServerSection) -> Server:
    keys = tuple(
        key if key.name else ApiKey(name=f"key-{number}", role=key.role, digest=key.digest)
        for number, key in enumerate(form.api_keys, start=1)
    )
    return Server(**{**dict(form), "api_keys": keys, "allowed_hosts": tuple(form.allowed_hosts)})
