"""What a new user meets: no configuration, no llama-server of one's own."""

import json
import urllib.request
from pathlib import Path

import pytest

from gateway.demo import card
from tests.e2e.conftest import Start
from tests.e2e.process import GatewayProcess, chat

EXCHANGES = card.transcript(card.card_path().read_text(encoding="utf-8"))


@pytest.fixture
def unconfigured(start: Start) -> GatewayProcess:
    """A gateway in an empty folder, with no llama-server on PATH."""
    return start()


def test_it_says_where_it_listens_what_it_runs_and_what_there_is(unconfigured: GatewayProcess) -> None:
    assert unconfigured.url.startswith("http://127.0.0.1:")
    unconfigured.log.until(r"llama-server: .* -m gateway\.embedded\.llama_server \(version: ")
    unconfigured.log.until(r"models: demo$")


def test_it_lists_the_demo_model_alone(unconfigured: GatewayProcess) -> None:
    assert ["demo"] == [model["id"] for model in unconfigured.get("/v1/models")["data"]]


def test_the_demo_model_answers_as_its_card_says(unconfigured: GatewayProcess) -> None:
    shown = {exchange.prompt: exchange.answer for exchange in EXCHANGES[::5]}
    assert shown == {prompt: said(unconfigured, prompt) for prompt in shown}


def said(gateway: GatewayProcess, prompt: str) -> str:
    """Return the demo model's answer."""
    answer = gateway.chat("demo", prompt, temperature=0, max_tokens=200)
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_a_streamed_answer_is_the_same_in_pieces(unconfigured: GatewayProcess) -> None:
    exchange = EXCHANGES[1]
    body = chat("demo", exchange.prompt, temperature=0, max_tokens=200, stream=True)
    with urllib.request.urlopen(unconfigured.asking("/v1/chat/completions", body)) as response:
        events = [line[6:] for line in response.read().decode().splitlines() if line.startswith("data: ")]
    assert "[DONE]" == events.pop()
    pieces = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events]
    assert exchange.answer == "".join(pieces)
    assert len(pieces) > 10


def test_a_llama_server_on_the_path_is_preferred(start: Start, llama_server_program: Path) -> None:
    gateway = start(llama_server=llama_server_program)
    gateway.log.until(rf"llama-server: {llama_server_program} \(")
    assert EXCHANGES[0].answer == said(gateway, EXCHANGES[0].prompt)
