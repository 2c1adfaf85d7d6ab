"""The command line of the stand-in: what a llama-server is given, and the switches for failures."""

import argparse
import os
import shlex
from pathlib import Path

SWITCHES = (
    ("never-ready", "answer 503 `Loading model` for ever"),
    ("never-open", "never open the port"),
    ("ignore-sigterm", "go on when SIGTERM or SIGINT comes"),
    ("fork-grandchild", "leave a sleeping process in the own process group"),
    ("someone-else", "be a stranger on the port: /health is fine, every key is refused"),
    ("garbage-always", "answer everything, /health included, with bytes that are not HTTP"),
    ("garbage", "answer with bytes that are not HTTP"),
    ("garbage-chunks", "break the chunked framing after the first chunk"),
    ("half-chunk", "close in the middle of the second chunk"),
    ("close-early", "close before the end: short of the length, or without the last chunk"),
    ("hang-before-head", "take the request and say nothing"),
    ("die-before-answer", "take the request and die by SIGKILL"),
    ("wrong-content-type", "answer 200 with an HTML page"),
    ("empty-stream", "answer 200 with an event stream in which there is nothing"),
    ("no-done", "end a stream properly, but without its `[DONE]`"),
    ("json-error-in-200", "answer 200 with an error object as JSON"),
    ("long-lines", "send 300 kB of text in each chunk"),
    ("flood", "send chunks without end, as fast as they are read"),
)


class Options(argparse.Namespace):
    """The command line, typed. What `SWITCHES` names is asked for by `on`."""

    host: str
    port: int
    api_key: str
    api_key_file: str | None
    alias: str | None
    model: str
    parallel: int
    ctx_size: int
    journal: str | None
    lifetime: int
    exit_during_start: int | None
    die_after_chunks: int | None
    hang_after_chunks: int | None
    error_after_chunks: int | None
    error_status: int | None
    ready_after: float
    chunks: int
    chunk_interval: float
    say: str | None

    def on(self, switch: str) -> bool:
        """Tell whether `switch` was given."""
        return bool(getattr(self, switch.replace("-", "_")))

    @property
    def name(self) -> str:
        """Return what the server calls its model."""
        return (self.alias or Path(self.model).name).split(",")[0]

    def piece(self, number: int) -> str:
        """Return what the `number`th chunk of an answer says."""
        return self.say if self.say is not None else f"{number} "

    def keys(self) -> set[str]:
        """Return the keys that are accepted; empty: no key is asked for."""
        given = self.api_key
        if self.api_key_file:
            given += "," + Path(self.api_key_file).read_text(encoding="utf-8").replace("\n", ",")
        return {key.strip() for key in given.split(",") if key.strip()}


def parse(arguments: list[str]) -> Options:
    """Read the command line and STANDIN; what is not known is ignored. `@FILE` stands for the lines of a file."""
    parser = argparse.ArgumentParser(allow_abbrev=False, fromfile_prefix_chars="@")
    parser.add_argument("--version", action="version", version="version: stand-in")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", default=os.environ.get("LLAMA_API_KEY", ""))
    for flags in (("--api-key-file",), ("-a", "--alias"), ("--journal",), ("--say",)):
        parser.add_argument(*flags)
    parser.add_argument("-m", "--model", default="model.gguf")
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("-c", "--ctx-size", type=int, default=4096)
    parser.add_argument("--lifetime", type=int, default=600)
    for name in ("exit-during-start", "die-after-chunks", "hang-after-chunks", "error-after-chunks", "error-status"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--ready-after", type=float, default=0.0)
    parser.add_argument("--chunks", type=int, default=3)
    parser.add_argument("--chunk-interval", type=float, default=0.0)
    for name, meaning in SWITCHES:
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    switches = shlex.split(os.environ.get("STANDIN", ""))
    return parser.parse_known_args([*arguments, *switches], namespace=Options())[0]
