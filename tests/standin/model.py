"""A model of the gateway whose server is the stand-in, with switches that may change from one launch to the next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.standin.running import Journal


class Model:
    """The model `name`: its entry for custom_models.yaml, its journal, its switches."""

    def __init__(self, folder: Path, name: str, *switches: str) -> None:
        self.name = name
        self.journal = Journal(folder / f"{name}.journal")
        self._switches = folder / f"{name}.switches"
        self.behave(*switches)

    def behave(self, *switches: str) -> None:
        """Set the switches from the next launch on."""
        given = ("--journal", str(self.journal.path), *switches)
        self._switches.write_text("\n".join(given), encoding="utf-8")

    def as_llama_server(self, gguf: Path, **fields: Any) -> dict[str, Any]:
        """Return the entry of a model for which the gateway starts a llama-server."""
        return {"path": str(gguf), "ctx_size": 512, "env": self._environment()} | fields

    def as_command(self, program: Path, **fields: Any) -> dict[str, Any]:
        """Return the entry of a model with a command line of its own; `program` is the stand-in."""
        return {"cmd": [str(program), "--port", "${PORT}"], "env": self._environment()} | fields

    def asked(self, path: str = "/v1/chat/completions") -> list[dict[str, Any]]:
        """Return the requests that came to `path`, in order."""
        return [event for event in self.journal.events("request") if event["target"] == path]

    def pids(self) -> Sequence[int]:
        """Return the process of each launch, in order."""
        return [event["pid"] for event in self.journal.events("started")]

    def _environment(self) -> dict[str, str]:
        return {"STANDIN": f"@{self._switches}"}
