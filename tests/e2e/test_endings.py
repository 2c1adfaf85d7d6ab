"""How the gateway ends: asked to, asked twice, killed, or before it has begun."""

import re
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.conftest import Start
from tests.e2e.process import PATIENCE, GatewayProcess, chat, command, environment, living, own

STOPPING = [signal.SIGTERM, signal.SIGINT]


def stream(gateway: GatewayProcess, model: str, tokens: int) -> IO[bytes]:
    """Begin an answer of that many tokens and return it once its first bytes are there."""
    body = chat(model, stream=True, max_tokens=tokens, ignore_eos=True)
    answer: IO[bytes] = urllib.request.urlopen(gateway.asking("/v1/chat/completions", body), timeout=PATIENCE)
    while not answer.readline().startswith(b"data: "):  # signs of life, while it loads
        continue
    return answer


def test_nothing_is_left_of_a_gateway_that_was_killed(
    start: Start, llama_server: Path | None, tiny_model: Path
) -> None:
    gateway = start({"a": own(tiny_model)}, llama_server=llama_server)
    gateway.chat("a")
    gateway.chat("demo")
    family = gateway.family()
    assert 2 == len(gateway.servers())
    gateway.signal(signal.SIGKILL)
    assert -signal.SIGKILL == gateway.exit_code()
    assert [] == living(family, within=2)


def test_nothing_is_left_of_a_gateway_that_was_killed_while_a_model_loaded(start: Start, big_tiny_model: Path) -> None:
    gateway = start({"big": own(big_tiny_model)})
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        body = b'{"model": "big", "messages": []}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % len(body) + body)
        gateway.log.until("starting big")
        gateway.signal(signal.SIGKILL)
        family = gateway.family()
        assert -signal.SIGKILL == gateway.exit_code()
    assert [] == living(family, within=2)


@pytest.mark.parametrize("number", STOPPING)
def test_running_answers_finish_before_it_ends(
    start: Start, llama_server: Path | None, big_tiny_model: Path, number: signal.Signals
) -> None:
    gateway = start({"big": own(big_tiny_model)}, llama_server=llama_server)
    with stream(gateway, "big", tokens=60) as answer:
        family = gateway.family()
        gateway.signal(number)
        gateway.log.until("shutting down")
        assert answer.read().endswith(b"data: [DONE]\n\n")
    assert 0 == gateway.exit_code()
    assert [] == living(family, within=2)


@pytest.mark.parametrize("number", STOPPING)
def test_asked_twice_it_waits_for_nobody(start: Start, big_tiny_model: Path, number: signal.Signals) -> None:
    gateway = start({"big": own(big_tiny_model)})
    with stream(gateway, "big", tokens=4000):
        family = gateway.family()
        gateway.signal(number)
        gateway.log.until("shutting down")
        gateway.signal(number)
        assert 130 == gateway.exit_code(within=5)
    assert [] == living(family, within=2)


def test_while_it_shuts_down_nobody_new_is_let_in(start: Start, big_tiny_model: Path) -> None:
    gateway = start({"big": own(big_tiny_model)})
    with stream(gateway, "big", tokens=4000):
        gateway.signal(signal.SIGTERM)
        gateway.log.until("shutting down")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gateway.port))


def failing(folder: Path, *arguments: str) -> tuple[int, str]:
    """Return exit code and standard error of a `gateway serve` that cannot begin."""
    done = subprocess.run(
        command("serve", *arguments),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = failing(tmp_path, "--port", str(port))
    assert 1 == code
    assert re.search(rf"cannot listen on 127\.0\.0\.1 port {port}: .*address already in use", said), said
    assert 1 == len(said.splitlines())


def test_a_broken_configuration_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "custom_models.yaml").write_text("models:\n  coder:\n    path: nowhere.gguf\n    ctx_sise: 3\n")
    code, said = failing(tmp_path)
    assert 2 == code
    assert "custom_models.yaml:4:5: models.coder.ctx_sise: unknown key (did you mean 'ctx_size'?)" in said


def test_a_llama_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    code, said = failing(tmp_path, "--port", "0", "--set", f"llama_server.program={tmp_path / 'nothing'}")
    assert 1 == code
    assert "llama_server.program: there is no program" in said
