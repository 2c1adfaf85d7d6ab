"""`python -m gateway.embedded.llama_server`: llama-server's command line on top of the xllamacpp wheel.

For machines without a llama-server. The wheel carries llama.cpp's own HTTP server; this program gives it
llama-server's flags (`table`), exit codes and manners of stopping. What was observed, and is relied on:

- The port opens before the model is loaded; until then every route answers 503 "Loading model".
- The wheel's constructor returns when the model is loaded, and holds the interpreter's lock until then. No
  Python runs meanwhile, so SIGTERM and SIGINT keep their default action and end the process at once, as they
  do llama-server.
- A missing or broken model, and a port in use, end the program with 1 after llama.cpp has logged why.
  What llama.cpp answers by aborting, here too ends the process by SIGABRT (a grammar without sense).
- Once the model is loaded, SIGTERM or SIGINT ends it with 0 at once, also in the middle of a request.
  (llama-server waits for the client of a running request; tearing the wheel's server down does so too, so it
  is not torn down: the sockets and the memory go back with the process.)

Not to be had here: the router (a model is needed: -m), downloads, the web pages (unless --path has them),
tools, and the flags the wheel has no access to; each refused flag says so. /props calls the build b0-unknown.
What can be had is the same as from llama-server, down to /props and /slots: --metrics, --props, saving slots,
sleeping, grammars, the embedding and reranking modes, speculative decoding.

The wheel enforces JSON schemas by LLGuidance, which did so for byte-level vocabularies, but with a
sentencepiece vocabulary gave up and let anything pass; GBNF grammars held for both. Of llama-server's
environment variables only LLAMA_API_KEY is read, which keeps a key out of the list of processes.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any

from gateway.embedded.flags import Action, CommandLine, FlagError, Setting, parse, usage
from gateway.embedded.native import common_params
from gateway.embedded.table import DEFAULTS, FLAGS

_STOPPING = (signal.SIGTERM, signal.SIGINT)


def main(argv: Sequence[str]) -> int:
    """Do what `argv` (without the program's name) asks for, and return the exit status.

    A server that was stopped by a signal does not return: the process ends there, with status 0.
    """
    for number in _STOPPING:
        signal.signal(number, signal.SIG_DFL)
    try:
        return _run(parse(argv, FLAGS, DEFAULTS))
    except FlagError as error:
        _log(str(error))
        return 1


def _run(line: CommandLine) -> int:
    match line.action:
        case Action.HELP:
            print(usage(FLAGS))
        case Action.VERSION:
            _log(_version())
        case Action.LIST_DEVICES:
            print(_devices(_wheel()))
        case Action.SERVE:
            return _serve(line)
    return 0


def _serve(line: CommandLine) -> int:
    if "model.path" not in line.settings:
        raise FlagError(
            "error: --model: the embedded llama-server serves one model and has no router mode: give -m FILE"
        )
    settings = dict(line.settings)
    key = os.environ.get("LLAMA_API_KEY")
    if key and "api_keys" not in settings:  # a flag wins, as in llama-server
        settings["api_keys"] = Setting(flag="LLAMA_API_KEY", value=(key,))
    wheel = _wheel()
    params = common_params(wheel, settings)
    try:
        server = wheel.Server(params)
    except RuntimeError:  # llama.cpp has logged the reason; the exception only says that there was one
        _log("error: the model's server did not start; the lines above say why")
        return 1
    _wait_for_signal(f"serving on {server.listening_address} until SIGTERM or SIGINT")
    os._exit(0)  # not `return`: the wheel's destructor would wait for running requests


def _wait_for_signal(announcement: str) -> None:
    """Say that a signal now ends the process with 0, and return when there is one.

    The system may hand a signal to any of llama.cpp's threads, and then nothing wakes this one out of sigwait
    or pause: the C part of Python's handler writes to a pipe instead, which works from whichever thread it
    runs in.
    """
    reading, writing = os.pipe()
    if sys.platform != "win32":
        os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in _STOPPING:
        signal.signal(number, _ignore)
    _log(announcement)
    os.read(reading, 1)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The pipe has told already; a handler is needed only for there to be one."""


def _log(line: str) -> None:
    """Write a line to standard error; that nobody reads it any more is no reason to fail."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _wheel() -> ModuleType:
    try:
        return import_module("xllamacpp")
    except ModuleNotFoundError as error:
        raise FlagError(
            "error: the embedded llama-server needs the extra: pip install 'model-gateway[embedded]'"
        ) from error
    except ImportError as error:
        raise FlagError(f"error: the xllamacpp wheel does not load on this machine: {error}") from error


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415  (slow to import, and needed here only)

    wheel = version("xllamacpp")
    return f"version: {wheel} (build {wheel.rpartition('.')[2]}, commit xllamacpp)"


def _devices(wheel: ModuleType) -> str:
    """The devices to offload to, as llama-server lists them; the processor itself is none."""
    mib = 1024 * 1024
    processor = wheel.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    devices: list[dict[str, Any]] = [found for found in wheel.get_device_info() if found["type"] != processor]
    lines = [
        f"  {found['name']}: {found['description']}"
        f" ({found['memory_total'] // mib} MiB, {found['memory_free'] // mib} MiB free)"
        for found in devices
    ]
    return "\n".join(["Available devices:", *(lines or ["  (none)"])])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
