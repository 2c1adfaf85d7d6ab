"""A stand-in for llama-server that fails on demand, for what a real server does not do when asked.

Run it as `program.py --host 127.0.0.1 --port N --api-key K [switches]`; flags of llama-server that it does not know
are ignored, so it can be put wherever a llama-server is named. More switches come from the environment variable
STANDIN, split like a shell would; `@FILE` there stands for the lines of a file. Without switches it answers like
llama-server does: the key is checked, /health is open to all, an answer counts `0 1 2 ...` in `--chunks` pieces (or
says `--say` in each). Failures of answers concern the POST routes of inference alone: it starts, and is found healthy,
like a good one.

`--journal FILE` gets one JSON line per event: `started`, `grandchild`, `listening`, `request`, `answered`, `gone` (the
client left; `chunks` had been sent), `closed` (a switch made this side close), `terminated` (SIGTERM or SIGINT came),
`ended`. `at` is monotonic seconds, the same clock for all processes of the machine; `busy` in `request` counts the
inference requests in progress.

Standard library only, and little of it: it is up in about 40 ms. It ends itself after `--lifetime` seconds, should
a test that fails leave it behind.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, from any folder

from tests.standin.options import Options, parse
from tests.standin.request import Request, read

LONG_LINE = "x" * 300_000  # longer than any sensible buffer for one line
HELD_BACK = 64  # bytes that --close-early promises and does not send


class Journal:
    """Appends events to a file, each as one line in one write, so that lines of several writers stay whole."""

    def __init__(self, path: str | None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if path else None

    def write(self, event: str, **facts: object) -> None:
        """Note `event`, with this process, the time, and `facts`."""
        if self._file is not None:
            line = json.dumps({"event": event, "pid": os.getpid(), "at": time.monotonic(), **facts})
            os.write(self._file, line.encode() + b"\n")


class Gone(Exception):
    """The client closed the connection."""


class Closed(Exception):
    """A failure switch makes this side close the connection."""


class Server:
    """The state that connections share."""

    def __init__(self, options: Options, journal: Journal) -> None:
        self.options = options
        self.journal = journal
        self.keys = options.keys()
        self.busy = 0
        self._ready_at = time.monotonic() + options.ready_after
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Tell whether the model is loaded, or so it says."""
        return time.monotonic() >= self._ready_at and not self.options.on("never-ready")

    @contextlib.contextmanager
    def working(self) -> Iterator[int]:
        """Count one inference request while it is answered; yields how many there are."""
        with self._lock:
            self.busy += 1
            busy = self.busy
        try:
            yield busy
        finally:
            with self._lock:
                self.busy -= 1


class Connection:
    """One connection of a client, served in a thread of its own."""

    def __init__(self, server: Server, connected: socket.socket) -> None:
        self._server = server
        self._options = server.options
        self._journal = server.journal
        self._socket = connected
        self._sent = 0
        self._inferring = False

    def serve(self) -> None:
        """Answer requests until either side closes."""
        with self._socket, self._socket.makefile("rb") as stream:
            try:
                while request := read(stream):
                    self._sent = 0
                    self._answer(request)
            except Closed:
                self._journal.write("closed", chunks=self._sent)
            except (OSError, Gone, ValueError):
                self._journal.write("gone", chunks=self._sent)

    def _answer(self, request: Request) -> None:
        route = (request.method, request.target.partition("?")[0])
        if self._options.on("garbage-always"):
            self._garbage()
        self._inferring = route in INFERENCE and self._server.ready and self._admits(request)
        if self._inferring:
            with self._server.working() as busy:
                self._note(request, busy)
                self._infer(request, route[1])
            return
        self._note(request, self._server.busy)
        if not self._server.ready:
            self._error(503, "Loading model", "unavailable_error")
        elif route[1] in {"/health", "/v1/health"}:
            self._json(200, {"status": "ok"})
        elif not self._admits(request):
            self._error(401, "Invalid API Key", "authentication_error")
        else:
            self._inform(request, route[1])

    def _note(self, request: Request, busy: int) -> None:
        body = request.json() or request.body.decode(errors="replace")
        facts = {"method": request.method, "target": request.target, "headers": request.headers}
        self._journal.write("request", **facts, body=body, busy=busy)

    def _admits(self, request: Request) -> bool:
        if self._options.on("someone-else"):
            return False
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        keys = self._server.keys
        return not keys or given in keys or request.headers.get("x-api-key") in keys

    def _inform(self, request: Request, path: str) -> None:
        options = self._options
        card = {"id": options.name, "object": "model", "created": 0, "owned_by": "llamacpp", "meta": None}
        slots = [
            {"id": n, "n_ctx": options.ctx_size, "is_processing": n < self._server.busy}
            for n in range(options.parallel)
        ]
        answers: dict[str, object] = {
            "/v1/models": {"object": "list", "data": [card]},
            "/props": {
                "total_slots": options.parallel,
                "model_path": options.model,
                "chat_template": "",
                "is_sleeping": False,
            },
            "/slots": slots,
            "/tokenize": {"tokens": list(str(request.json().get("content", "")).encode())},
        }
        if path in answers:
            self._json(200, answers[path])
        else:
            self._error(404, "File Not Found", "not_found_error")

    def _infer(self, request: Request, path: str) -> None:
        """Fail as the switches say, or answer."""
        options = self._options
        if options.on("die-before-answer"):
            os.kill(os.getpid(), signal.SIGKILL)
        if options.on("hang-before-head"):
            self._wait_gone()
        if options.on("garbage"):
            self._garbage()
        if options.error_status is not None:
            self._error(options.error_status, "asked to fail", "server_error")
        elif options.on("wrong-content-type"):
            self._whole(200, "text/html", b"<html><body>It works!</body></html>")
        elif options.on("json-error-in-200"):
            self._json(200, {"error": {"message": "asked to fail", "type": "server_error", "code": 500}})
        elif path == "/v1/embeddings":
            self._json(200, self._embeddings(request.json().get("input")))
        elif request.json().get("stream"):
            self._stream(request)
        else:
            self._json(200, self._completion())

    def _embeddings(self, given: object) -> dict[str, object]:
        inputs = given if isinstance(given, list) else [given]
        data = [{"object": "embedding", "index": n, "embedding": [1.0, 0.0, 0.0]} for n in range(len(inputs))]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return {"object": "list", "model": self._options.name, "data": data, "usage": usage}

    def _completion(self) -> dict[str, object]:
        if self._options.chunk_interval and self._leaves_within(self._options.chunk_interval * self._options.chunks):
            raise Gone
        message = {"role": "assistant", "content": "".join(map(self._options.piece, range(self._options.chunks)))}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {"id": "chatcmpl-standin", "object": "chat.completion", "created": 0, "model": self._options.name,
                "choices": [choice], "usage": self._usage()}  # fmt: skip

    def _usage(self) -> dict[str, int]:
        return {"prompt_tokens": 1, "completion_tokens": self._options.chunks, "total_tokens": 1 + self._options.chunks}

    def _stream(self, request: Request) -> None:
        self._head(200, "text/event-stream", "Transfer-Encoding: chunked")
        if self._options.on("empty-stream"):
            self._end(200)
            return
        self._event(self._delta({"role": "assistant", "content": None}))
        options = self._options
        while self._sent < options.chunks or options.on("flood"):
            self._fail_in_stream()
            if self._options.chunk_interval and self._leaves_within(self._options.chunk_interval):
                raise Gone
            self._event(self._delta({"content": LONG_LINE if options.on("long-lines") else options.piece(self._sent)}))
            self._sent += 1
        self._fail_in_stream()
        self._event(self._delta({}, "stop"))
        asked = request.json().get("stream_options")
        if isinstance(asked, dict) and asked.get("include_usage"):
            self._event({**self._delta({}), "choices": [], "usage": self._usage()})
        if not self._options.on("no-done"):
            self._chunk(b"data: [DONE]\n\n")
        self._end(200)

    def _fail_in_stream(self) -> None:
        """Fail as the switches say, now that `self._sent` chunks are out."""
        options = self._options
        if options.die_after_chunks == self._sent:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.hang_after_chunks == self._sent:
            self._wait_gone()
        if options.error_after_chunks == self._sent:
            self._event({"error": {"message": "asked to fail", "type": "server_error", "code": 500}})
            self._end(200)
            raise Closed
        if self._sent == 1 and options.on("garbage-chunks"):
            self._socket.sendall(b"this is no chunk size\r\nand this no chunk\r\n")
            raise Closed
        if self._sent == 1 and options.on("half-chunk"):
            self._socket.sendall(b'40\r\ndata: {"choices"')
            raise Closed
        if self._sent == options.chunks and options.on("close-early"):
            raise Closed

    def _delta(self, delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "chatcmpl-standin", "object": "chat.completion.chunk", "created": 0, "model": self._options.name,
                "choices": [choice]}  # fmt: skip

    def _event(self, data: dict[str, object]) -> None:
        self._chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def _end(self, status: int) -> None:
        self._socket.sendall(b"0\r\n\r\n")
        self._journal.write("answered", status=status, chunks=self._sent)

    def _error(self, status: int, message: str, kind: str) -> None:
        self._json(status, {"error": {"message": message, "type": kind, "code": status}})

    def _json(self, status: int, data: object) -> None:
        self._whole(status, "application/json; charset=utf-8", json.dumps(data).encode())

    def _whole(self, status: int, content_type: str, body: bytes) -> None:
        early = self._options.on("close-early") and self._inferring
        self._head(status, content_type, f"Content-Length: {len(body) + (HELD_BACK if early else 0)}")
        self._socket.sendall(body)
        if early:
            raise Closed
        self._journal.write("answered", status=status, chunks=0)

    def _head(self, status: int, content_type: str, framing: str) -> None:
        lines = (f"HTTP/1.1 {status} Stand-in", "Server: llama.cpp", f"Content-Type: {content_type}", framing)
        self._socket.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())

    def _garbage(self) -> NoReturn:
        self._socket.sendall(b"\x16\x03\x01\x00\xff this is not HTTP \x00\r\n\r\n")
        raise Closed

    def _leaves_within(self, seconds: float) -> bool:
        """Wait `seconds`; tell at once if the client leaves meanwhile."""
        readable = select.select([self._socket], [], [], seconds)[0]
        return bool(readable) and not self._socket.recv(1, socket.MSG_PEEK)

    def _wait_gone(self) -> NoReturn:
        while self._socket.recv(65536):
            pass
        raise Gone


INFERENCE = {("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings")}


def start(options: Options, journal: Journal) -> socket.socket:
    """Do what comes before the first connection; return the listening socket, or fail as the switches say."""
    print("stand-in: loading the model", options.model, file=sys.stderr, flush=True)
    if options.on("fork-grandchild"):
        _fork_grandchild(journal)
    if options.exit_during_start is not None:
        print("error: failed to load the model\nexiting due to model loading error", file=sys.stderr, flush=True)
        end(journal, options.exit_during_start)
    while options.on("never-open"):
        signal.pause()
    listening = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError:
        print(f"couldn't bind HTTP server socket, port: {options.port}", file=sys.stderr, flush=True)
        end(journal, 1)
    listening.listen(128)
    port = listening.getsockname()[1]
    journal.write("listening", port=port)
    print(f"stand-in: listening on http://{options.host}:{port}", file=sys.stderr, flush=True)
    return listening


def _fork_grandchild(journal: Journal) -> None:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(600)
        os._exit(0)
    journal.write("grandchild", child=child)


def end(journal: Journal, code: int) -> NoReturn:
    """End the process at once, whatever its threads are doing."""
    journal.write("ended", code=code)
    os._exit(code)


def main() -> None:
    """Run the server until it is told to end."""
    options = parse(sys.argv[1:])
    journal = Journal(options.journal)
    journal.write("started", argv=sys.argv, environment=dict(os.environ), group=os.getpgrp())
    signal.alarm(options.lifetime)

    def terminated(number: int, _frame: object) -> None:
        journal.write("terminated", signal=number)
        if not options.on("ignore-sigterm"):
            end(journal, 0)

    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGINT, terminated)
    server = Server(options, journal)
    with start(options, journal) as listening:
        while True:
            connected, _ = listening.accept()
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(server, connected).serve, daemon=True).start()


if __name__ == "__main__":
    main()
