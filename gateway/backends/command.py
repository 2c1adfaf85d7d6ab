"""Any other server that is started by a command line and speaks OpenAI's dialect on a port.

`${PORT}` and `${MODEL_PATH}` are filled into the arguments that the configuration gives. It is ready when `/health`
answers with success, or says that there is no such path.
"""

from collections.abc import Mapping

from gateway.backends.spawned import Judgement
from gateway.core.slot import Command
from gateway.system.environment import child_environment
from gateway.system.process import LaunchSpec


class CommandKind:
    """One launch of a command."""

    served_name = None
    headers = ()
    probe = "/health"

    def __init__(self, launch: Command, environment: Mapping[str, str]) -> None:
        self._launch = launch
        self._environment = environment

    def launch(self, port: int) -> LaunchSpec:
        """Return the command line with its placeholders filled in."""
        values = {"${PORT}": str(port), "${MODEL_PATH}": self._launch.model}
        return LaunchSpec(
            argv=[_filled(argument, values) for argument in self._launch.argv],
            environment=child_environment(self._environment, dict(self._launch.environment)),
            name=self._launch.argv[0],
        )

    def judge(self, status: int, body: bytes) -> Judgement:
        """Any success will do; a server without `/health` says 404, and is up too."""
        del body
        return Judgement.READY if status < 300 or status == 404 else Judgement.LOADING


def _filled(argument: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        argument = argument.replace(placeholder, value)
    return argument
