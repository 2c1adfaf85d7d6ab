"""What is compared: a llama-server started by hand, and the same one behind a gateway. And one client for both.

Both run the demo model with one thread, so that the numbers are about the way to the model and not about the model,
nor about threads that wait for each other on a busy machine.
"""

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.demo import model_path
from gateway.system.ports import LOOPBACK, free_port
from tests.e2e.process import GatewayProcess, configure, own, started
from tests.peers import llama_cpp

MODEL = "bench"
PROMPT = "What are you?"
CONTEXT = 2048
PATIENCE = 60.0
POLL_GAP = 0.002  # seconds between two looks at /health: what costs little and finds out soon
CHAT = "/v1/chat/completions"
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A llama-server: its name in the tables, its command line, and its path where it has one of its own."""

    name: str
    argv: tuple[str, ...]
    path: Path | None = None


def programs() -> tuple[Program, ...]:
    """Return the real llama-server and the embedded one."""
    real = llama_cpp.program()
    embedded = (sys.executable, "-m", "gateway.embedded.llama_server")
    return Program(name="real", argv=(str(real),), path=real), Program(name="embedded", argv=embedded)


@contextmanager
def gateway(program: Program) -> Iterator[GatewayProcess]:
    """Run a gateway that uses `program`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configure(folder, {MODEL: own(model_path(), ctx_size=CONTEXT)})
        with started(folder, llama_server=program.path) as process:
            yield process


@contextmanager
def by_hand(program: Program) -> Iterator[int]:
    """Start `program` as the gateway does and return its port at once; wait with `until_healthy`."""
    port = free_port()
    process = subprocess.Popen(_command(program, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()  # SIGTERM may take a llama-server a second, and its end is not what is measured
        process.wait()


def _command(program: Program, port: int) -> Sequence[str]:
    argv = [*program.argv, "--model", str(model_path()), "--host", LOOPBACK, "--port", str(port), "--parallel", "1"]
    return [*argv, "--ctx-size", str(CONTEXT), "--gpu-layers", "999", "--fit", "off", "--threads", "1"]


def until_healthy(port: int) -> None:
    """Return as soon as `/health` says 200."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if _health(port) == 200:
            return
        time.sleep(POLL_GAP)
    raise TimeoutError(f"the llama-server on port {port} was not ready within {PATIENCE:g} s")


def _health(port: int) -> int | None:
    client = connect(port)
    try:
        client.request("GET", "/health")
        return client.getresponse().status
    except OSError:
        return None
    finally:
        client.close()


def connect(port: int) -> http.client.HTTPConnection:
    """Return a client of what listens on `port`."""
    return http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE)


def first_token(port: int) -> None:
    """Ask for a streamed answer on a new connection and return when its first and only token is there."""
    client = connect(port)
    try:
        client.request("POST", CHAT, chat(tokens=1, stream=True), HEADERS)
        answer = client.getresponse()
        while b'"content":"' not in (line := answer.readline()):
            if not line:
                raise ConnectionError(f"port {port} answered with status {answer.status} and no token")
    finally:
        client.close()


def one_token(client: http.client.HTTPConnection) -> None:
    """Ask for one token on a connection that is kept, and read the whole answer."""
    client.request("POST", CHAT, chat(tokens=1, stream=False), HEADERS)
    answer = client.getresponse()
    if answer.status != 200:
        raise ConnectionError(f"status {answer.status}: {answer.read()!r}")
    answer.read()


def chat(*, tokens: int, stream: bool) -> bytes:
    """Return a body."""
    message = {"role": "user", "content": PROMPT}
    body = {"model": MODEL, "messages": [message], "max_tokens": tokens, "temperature": 0, "stream": stream}
    return json.dumps(body).encode()
