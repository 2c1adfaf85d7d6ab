"""HTTP as old, thrifty and cautious clients speak it."""

import http.client
import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Start
from tests.e2e.process import PATIENCE, GatewayProcess, chat

PING = chat("demo", "ping", temperature=0)
BIG = 2_000_000


@pytest.fixture
def gateway(start: Start) -> GatewayProcess:
    """A gateway with the demo model."""
    return start()


def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection(gateway: GatewayProcess) -> None:
    body = json.dumps(PING | {"stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
        client.sendall(head + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    start, _, events = answer.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.0 200")
    assert b"chunked" not in start.lower()
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


def test_one_connection_serves_many_requests(gateway: GatewayProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    connection.connect()
    first = connection.sock
    for body in (PING, PING | {"stream": True}, PING | {"model": "nobody"}, PING):
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        with connection.getresponse() as response:
            response.read()
        assert first is connection.sock
    connection.close()


def test_curl_may_ask_before_it_sends_a_long_body(gateway: GatewayProcess, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps(PING | {"metadata": {"note": "x" * BIG}}))
    command = ["curl", "--silent", "--show-error", "--verbose", "--header", "Expect: 100-continue"]
    command += ["--header", "Content-Type: application/json", "--data-binary", f"@{file}"]
    done = subprocess.run(
        [*command, gateway.url + "/v1/chat/completions"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert ["100", "200"] == re.findall(r"< HTTP/1\.1 (\d+)", done.stderr)
    assert "Pong." == json.loads(done.stdout)["choices"][0]["message"]["content"]
