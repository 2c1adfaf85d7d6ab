"""A model's server is killed: whoever was being answered is told, whoever comes next is answered."""

import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError

import openai
import pytest
from openai import OpenAI

from tests.e2e.conftest import Start
from tests.e2e.process import GatewayProcess, own


@pytest.fixture
def gateway(start: Start, llama_server: Path | None, big_tiny_model: Path) -> GatewayProcess:
    """A gateway with `big`, which takes long over long answers."""
    return start({"big": own(big_tiny_model)}, llama_server=llama_server)


def kill(gateway: GatewayProcess) -> None:
    """Kill its one llama-server."""
    [server] = gateway.servers()
    server.kill()


def test_a_client_in_mid_stream_gets_an_error_and_the_next_one_an_answer(gateway: GatewayProcess) -> None:
    with OpenAI(base_url=gateway.url + "/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="big",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            max_tokens=4000,
            extra_body={"ignore_eos": True},
        )
        assert next(stream).choices
        kill(gateway)
        with pytest.raises(openai.APIError, match="server"):
            for _ in stream:
                pass
    assert gateway.chat("big")["choices"]


def test_a_crash_while_idle_costs_the_next_client_nothing_but_time(gateway: GatewayProcess) -> None:
    gateway.chat("big")
    kill(gateway)
    assert gateway.chat("big")["choices"]


def test_an_answer_that_is_not_streamed_becomes_a_502(gateway: GatewayProcess) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gateway.chat, "big", max_tokens=4000, ignore_eos=True)
        while not gateway.get("/slots?model=big")[0]["is_processing"]:  # waits for the model to be loaded
            continue
        well_begun = time.monotonic() + 0.2  # one that dies in the very beginning is asked again
        while time.monotonic() < well_begun:
            assert gateway.get("/slots?model=big")[0]["is_processing"]
        kill(gateway)
        with pytest.raises(HTTPError) as failure:
            answer.result()
    with failure.value:
        assert HTTPStatus.BAD_GATEWAY == failure.value.code
        assert b'"backend_unreachable"' in failure.value.read()
    assert gateway.chat("big")["choices"]
