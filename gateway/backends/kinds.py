"""The explicit list of kinds: from a slot's launch to the backend that carries it out."""

from collections.abc import Callable, Mapping
from typing import assert_never

from gateway.backends.command import CommandKind
from gateway.backends.llama_server import LlamaServerKind, Program
from gateway.backends.spawned import Spawned
from gateway.core.slot import Command, LlamaServer, SlotSpec
from gateway.system.process import Launcher
from gateway.system.upstream import Timeouts


class Backends:
    """Makes backends. Holds what all of them need: the launcher, the llama-server found here, the environment.

    `timeouts` is asked for each backend that is made: they may change while the gateway runs.
    """

    def __init__(
        self, launcher: Launcher, program: Program, environment: Mapping[str, str], timeouts: Callable[[], Timeouts]
    ) -> None:
        self._launcher = launcher
        self._program = program
        self._environment = environment
        self._timeouts = timeouts

    def make(self, spec: SlotSpec) -> Spawned:
        """Return a backend for `spec` that is not started yet."""
        match spec.launch:
            case LlamaServer() as launch:
                kind = LlamaServerKind(launch, self._program, self._environment)
                return Spawned(spec, kind, self._launcher, self._timeouts())
            case Command() as launch:
                return Spawned(spec, CommandKind(launch, self._environment), self._launcher, self._timeouts())
            case _:
                assert_never(spec.launch)
