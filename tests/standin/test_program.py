"""The stand-in keeps to what its switches say."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path

import psutil
import pytest

from tests.standin.running import StandIn

KEY = "key-of-the-test"
CHAT = {"messages": [{"role": "user", "content": "count"}], "stream": True}


Start = Callable[..., StandIn]


@pytest.fixture
def start(standin_program: Path, tmp_path: Path) -> Iterator[Start]:
    """Start stand-ins; end them after the test."""
    running: list[StandIn] = []

    def run(*switches: str) -> StandIn:
        running.append(
            StandIn(
                standin_program,
                tmp_path / f"journal-{len(running)}",
                ("--api-key", KEY, "--alias", "counter", *switches),
            )
        )
        return running[-1]

    yield run
    for standin in running:
        standin.end()


def ask(port: int, method: str, path: str, body: object = None, key: str = KEY) -> tuple[int, str, bytes]:
    """Return status, content type and body of one exchange."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = json.dumps(body) if body is not None else None
        connection.request(method, path, sent, {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()
    finally:
        connection.close()


def chat(port: int) -> tuple[int, str, bytes]:
    """Return the answer to a streamed chat request."""
    return ask(port, "POST", "/v1/chat/completions", CHAT)


def test_answers_like_a_llama_server(start: Start) -> None:
    port = start("-np", "2").port
    assert ask(port, "GET", "/health", key="") == (200, "application/json; charset=utf-8", b'{"status": "ok"}')
    assert ask(port, "GET", "/v1/models", key="wrong")[0] == 401
    assert json.loads(ask(port, "GET", "/v1/models")[2])["data"][0]["id"] == "counter"
    assert len(json.loads(ask(port, "GET", "/slots")[2])) == 2
    assert json.loads(ask(port, "POST", "/tokenize", {"content": "hi"})[2]) == {"tokens": [104, 105]}
    assert ask(port, "GET", "/nowhere")[0] == 404
    whole = json.loads(ask(port, "POST", "/v1/chat/completions", {"messages": []})[2])
    assert (whole["model"], whole["choices"][0]["message"]["content"]) == ("counter", "0 1 2 ")
    assert len(json.loads(ask(port, "POST", "/v1/embeddings", {"input": ["a", "b"]})[2])["data"]) == 2


def test_streams_its_count_and_notes_the_request(start: Start) -> None:
    standin = start("--chunks", "2")
    status, kind, body = chat(standin.port)
    events = [line.removeprefix("data: ") for line in body.decode().split("\n\n")]
    deltas = [json.loads(event)["choices"][0]["delta"].get("content") for event in events[:-2]]
    assert (status, kind, deltas, events[-2:]) == (200, "text/event-stream", [None, "0 ", "1 ", None], ["[DONE]", ""])
    noted = standin.journal.wait_for("request")
    assert (noted["target"], noted["body"], noted["busy"]) == ("/v1/chat/completions", CHAT, 1)
    assert standin.journal.wait_for("answered")["chunks"] == 2


def test_notes_when_the_client_leaves(start: Start) -> None:
    standin = start("--hang-after-chunks", "1")
    connection = HTTPConnection("127.0.0.1", standin.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps(CHAT), {"Authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    answer.readline()
    answer.close()
    connection.close()
    assert standin.journal.wait_for("gone")["chunks"] == 1


def test_is_ready_when_told(start: Start) -> None:
    assert ask(start("--never-ready").port, "GET", "/health")[0] == 503
    late = start("--ready-after", "0.3").port
    assert ask(late, "GET", "/health")[0] == 503
    deadline = time.monotonic() + 10
    while ask(late, "GET", "/health")[0] != 200:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    "switches", [("--half-chunk",), ("--close-early",), ("--die-after-chunks", "1"), ("--garbage-chunks",)]
)
def test_breaks_a_stream(start: Start, switches: tuple[str, ...]) -> None:
    with pytest.raises(IncompleteRead):
        chat(start(*switches).port)


@pytest.mark.parametrize(
    ("switches", "status", "kind", "part"),
    [
        (("--wrong-content-type",), 200, "text/html", b"<html>"),
        (("--json-error-in-200",), 200, "application/json; charset=utf-8", b'"asked to fail"'),
        (("--error-status", "500"), 500, "application/json; charset=utf-8", b'"asked to fail"'),
        (("--error-after-chunks", "1"), 200, "text/event-stream", b'data: {"error"'),
        (("--long-lines", "--chunks", "1"), 200, "text/event-stream", b"x" * 300_000),
        (("--someone-else",), 401, "application/json; charset=utf-8", b"Invalid API Key"),
    ],
)
def test_answers_wrongly(start: Start, switches: tuple[str, ...], status: int, kind: str, part: bytes) -> None:
    got = chat(start(*switches).port)
    assert (status, kind) == got[:2]
    assert part in got[2]


@pytest.mark.parametrize("switch", ["--die-before-answer", "--garbage", "--garbage-always"])
def test_answers_with_no_http_at_all(start: Start, switch: str) -> None:
    port = start(switch).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer %b\r\n\r\n" % KEY.encode())
        assert not connection.recv(100).startswith(b"HTTP")


def test_floods_as_fast_as_it_is_read(start: Start) -> None:
    with socket.create_connection(("127.0.0.1", start("--flood").port), timeout=10) as connection:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer %b\r\nContent-Length: 15\r\n\r\n"
        connection.sendall(head % KEY.encode() + b'{"stream":true}')
        received = 0
        while received < 1_000_000:
            received += len(connection.recv(65536))


def test_ends_as_told(start: Start) -> None:
    failing = start("--exit-during-start", "3")
    assert failing.process.wait(10) == 3
    assert failing.process.stderr is not None
    assert "exiting due to model loading error" in failing.process.stderr.read()
    good = start()
    assert good.port
    good.process.terminate()
    assert good.process.wait(10) == 0
    assert good.journal.wait_for("terminated")["signal"] == signal.SIGTERM


def test_does_not_end_when_it_ignores_the_signal(start: Start) -> None:
    stubborn = start("--ignore-sigterm", "--fork-grandchild")
    assert stubborn.port
    stubborn.process.terminate()
    stubborn.journal.wait_for("terminated")
    assert stubborn.process.poll() is None
    grandchild = psutil.Process(stubborn.journal.wait_for("grandchild")["child"])
    assert os.getpgid(grandchild.pid) == stubborn.process.pid


def test_never_opens_its_port(start: Start) -> None:
    closed = start("--never-open")
    closed.journal.wait_for("started")
    closed.process.terminate()
    assert closed.process.wait(10) == 0
    assert closed.journal.events("listening") == []


def test_takes_switches_from_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN", "--exit-during-start 4")
    assert start().process.wait(10) == 4
