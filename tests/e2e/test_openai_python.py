"""The official OpenAI client for Python, the synchronous one, against real servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import BaseModel

from tests.e2e.conftest import Start
from tests.e2e.process import GatewayProcess, own

PING: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "ping"}]


class Paint(BaseModel):
    """What the model is made to answer with."""

    colour: Literal["red", "green", "blue"]
    glossy: bool


@pytest.fixture
def gateway(start: Start, llama_server: Path | None, tiny_model: Path) -> GatewayProcess:
    """A gateway with the demo model and `e`, which makes embeddings."""
    models = {"e": own(tiny_model, embeddings=True, extra_args="--pooling mean --threads 1")}
    return start(models, llama_server=llama_server)


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[OpenAI]:
    """The client for it."""
    with OpenAI(base_url=gateway.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat_whole_and_streamed(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=PING, temperature=0)
    assert ("demo", "Pong.") == (answer.model, answer.choices[0].message.content)
    stream = client.chat.completions.create(model="ms/demo", messages=PING, temperature=0, stream=True)
    chunks = list(stream)
    assert {"ms/demo"} == {chunk.model for chunk in chunks}
    assert "Pong." == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_the_usage_of_a_stream_comes_when_it_is_asked_for(client: OpenAI) -> None:
    options: openai.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": True}
    stream = client.chat.completions.create(model="demo", messages=PING, stream=True, stream_options=options)
    last = list(stream)[-1]
    assert last.usage is not None
    assert last.usage.prompt_tokens > 0
    assert [] == last.choices


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    assert {"demo", "ms/e"} == {model.id for model in client.models.list()}
    assert "ms/e" == client.models.retrieve("ms/e").id
    with pytest.raises(openai.NotFoundError, match="Did you mean `demo`"):
        client.models.retrieve("dem")


def test_embeddings_are_the_same_as_numbers_and_as_the_clients_own_base64(client: OpenAI) -> None:
    plain = client.embeddings.create(model="e", input=["one", "two"], encoding_format="float")
    packed = client.embeddings.create(model="e", input=["one", "two"])
    assert [64, 64] == [len(item.embedding) for item in packed.data]
    for expected, item in zip(plain.data, packed.data, strict=True):
        assert pytest.approx(expected.embedding, abs=1e-6) == item.embedding


def test_an_answer_is_parsed_into_the_class_that_was_asked_for(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="demo", messages=PING, response_format=Paint, max_tokens=200)
    assert isinstance(answer.choices[0].message.parsed, Paint)


def test_an_unknown_model_is_the_clients_own_class_of_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.create(model="nobody", messages=PING)
    assert ("model_not_found", "model") == (failure.value.code, failure.value.param)
