"""llama.cpp's `llama-server`, or the embedded stand-in that takes the same flags.

The child listens on loopback, behind a random key that only this gateway knows, under a random alias. The alias is
what proves that the server on the port is the child and not somebody else's, and it is what answers carry where the
client expects the name it asked for (`served_name`): a text that occurs nowhere else, so that it can be replaced in
the bytes of an answer without reading them.

Context size and GPU layers are always said explicitly and `--fit` is off: llama-server would otherwise shrink the
context or leave layers on the CPU without a word (build 11669).
"""

import asyncio
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from gateway.backends.spawned import Judgement
from gateway.core.errors import StartFailed
from gateway.core.slot import LlamaServer
from gateway.system.environment import child_environment
from gateway.system.ports import LOOPBACK
from gateway.system.process import LaunchSpec

ALL_LAYERS = 999
EMBEDDED = (sys.executable, "-m", "gateway.embedded.llama_server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A llama-server on this machine: how to call it, what it calls itself, which flags it has."""

    argv: tuple[str, ...]
    version: str
    flags: frozenset[str]

    def has(self, flag: str) -> bool:
        """Whether it takes this flag."""
        return flag in self.flags


async def find_program(setting: str, path: str | None) -> Program:
    """Return the llama-server to use. `setting` is `auto`, `embedded`, or a program; `path` is where to look.

    `auto` prefers a real one on `path` and falls back to the embedded one. Raises `StartFailed` if there is none.
    """
    return await _examine(await asyncio.to_thread(_located, setting, path))


def _located(setting: str, path: str | None) -> tuple[str, ...]:
    if setting == "embedded":
        return EMBEDDED
    found = shutil.which("llama-server" if setting == "auto" else setting, path=path)
    if found is not None:
        return (found,)
    if setting == "auto":
        return EMBEDDED
    raise StartFailed(
        f"llama_server.program: there is no program {setting!r}.",
        hint="Give the path of a llama-server, `auto` or `embedded`.",
    )


async def _examine(argv: tuple[str, ...]) -> Program:
    """Ask a program for its flags and version: once per gateway, about 50 ms."""
    shown = await asyncio.gather(*(asyncio.to_thread(_output, (*argv, flag)) for flag in ("--help", "--version")))
    flags = frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", shown[0]))
    if "--model" not in flags:
        raise StartFailed(f"{argv[0]} does not look like a llama-server: {shown[0].strip()[:500] or 'it says nothing'}")
    version = next((line.strip() for line in shown[1].splitlines() if "version" in line), "unknown version")
    return Program(argv=argv, version=version, flags=flags)


def _output(argv: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartFailed(f"{argv[0]} cannot be run: {error}") from error
    return done.stdout + done.stderr


class LlamaServerKind:
    """One launch of a llama-server: its key, its alias, its command line."""

    probe = "/v1/models"  # needs the key, unlike /health (build 11669)

    def __init__(self, launch: LlamaServer, program: Program, environment: Mapping[str, str]) -> None:
        self._launch = launch
        self._program = program
        self._environment = environment
        self._key = secrets.token_urlsafe(32)
        self._alias = f"gateway-{secrets.token_hex(12)}"

    @property
    def served_name(self) -> bytes:
        """The random alias, as its answers show it."""
        return self._alias.encode()

    @cached_property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The child's key."""
        return ((b"authorization", b"Bearer " + self._key.encode()),)

    def launch(self, port: int) -> LaunchSpec:
        """Return its command line; the key travels in the environment, where other users do not see it."""
        launch, has = self._launch, self._program.has
        layers = ALL_LAYERS if launch.gpu_layers is None else launch.gpu_layers
        argv = [*self._program.argv, "--model", launch.model, "--host", LOOPBACK, "--port", str(port)]
        argv += ["--alias", self._alias, "--parallel", str(launch.parallel)]
        argv += ["--ctx-size", str(launch.ctx_size * launch.parallel), "--gpu-layers", str(layers)]
        argv += ["--fit", "off"] if has("--fit") else []
        argv += ["--cache-type-k", launch.cache_type_k] if launch.cache_type_k != "f16" else []
        argv += ["--cache-type-v", launch.cache_type_v] if launch.cache_type_v != "f16" else []
        argv += ["--embeddings"] if launch.embeddings else []
        argv += ["--mmproj", launch.mmproj] if launch.mmproj else []
        argv += launch.arguments
        environment = child_environment(self._environment, dict(launch.environment))
        return LaunchSpec(argv=argv, environment=environment | {"LLAMA_API_KEY": self._key}, name=launch.model)

    def judge(self, status: int, body: bytes) -> Judgement:
        """It is ready when it knows our key and goes by our alias; 503 says that it is loading."""
        if status == 200:
            return Judgement.READY if self.served_name in body else Judgement.STRANGER
        return Judgement.LOADING if status == 503 else Judgement.STRANGER
