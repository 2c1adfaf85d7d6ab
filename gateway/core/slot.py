"""A slot is what is launched: weights plus load parameters. Twenty aliases may share one.

`SlotSpec.id` is derived from exactly the fields that change the launch, so that two entries which launch the same
thing are the same slot, and an edit that does not change the launch does not restart anything.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import NewType

SlotId = NewType("SlotId", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaServer:
    """How to launch a llama-server: the fields that its memory need and behaviour depend on.

    `ctx_size` is the context in tokens that *each* of the `parallel` llama-server slots gets; the server is told
    the product. `arguments` are further flags, in order, already split and free of host, port, key and model flags.
    """

    model: str
    ctx_size: int = 8192
    parallel: int = 1
    gpu_layers: int | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    embeddings: bool = False
    mmproj: str | None = None
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to launch any other server: a full command line in which `${PORT}` and `${MODEL_PATH}` are filled in."""

    argv: tuple[str, ...]
    model: str = ""
    environment: tuple[tuple[str, str], ...] = ()


Launch = LlamaServer | Command


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSpec:
    """A launch and the rules for its life.

    `ttl` is how many seconds it stays loaded after its last request, `None` for ever. `max_concurrent` is how many
    requests it is given at once. `start_timeout` in seconds bounds the time from launch to ready.
    """

    launch: Launch
    ttl: float | None = 1800.0
    pinned: bool = False
    preload: bool = False
    max_concurrent: int = 1
    start_timeout: float = 300.0

    id: SlotId = field(init=False, compare=False)
    """The identity: a readable stem, and a digest of the launch alone. Derived once: each request asks for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _identity(self.launch))


def _identity(launch: Launch) -> SlotId:
    digest = sha256(repr(launch).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    program = launch.argv[0] if isinstance(launch, Command) else ""
    file = (launch.model or program).replace("\\", "/").rsplit("/", 1)[-1]
    return SlotId(f"{file.removesuffix('.gguf')}-{digest}")
