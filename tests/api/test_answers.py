"""What clients of the gateway get, from a real llama-server and from the embedded one alike."""

import asyncio
import base64
import struct
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.serving import MESSAGES, Served, chat, serving


async def test_a_model_that_was_not_running_answers_a_streaming_client(served: Served) -> None:
    async with served.openai() as client:
        stream = await client.chat.completions.create(**chat("ms/a"), stream=True)
        chunks = [chunk async for chunk in stream]
    assert {chunk.model for chunk in chunks} == {"ms/a"}
    assert chunks[-1].choices[0].finish_reason in {"length", "stop"}


async def test_the_model_of_an_answer_is_the_name_that_was_asked_for(served: Served) -> None:
    names = ["ms/a", "a", "A", "MS/A-Hot", "a:hot"]
    answers = [await served.chat(name) for name in names]
    assert [(200, name) for name in names] == [(status, body["model"]) for status, body in answers]


async def test_aliases_that_differ_in_sampler_values_share_one_process(served: Served) -> None:
    await asyncio.gather(served.chat("a"), served.chat("a-hot"))
    running = await served.running()
    assert list(running) == ["ms/a"]
    assert running["ms/a"]["aliases"] == ["ms/a-hot"]


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        ("a", {}, {"temperature": 0.1, "min_p": 0.07, "top_n_sigma": -1.0}),
        ("a-hot", {}, {"temperature": 1.5, "min_p": 0.07, "top_n_sigma": 1.5}),
        ("a-hot", {"temperature": 0.3}, {"temperature": 0.3, "min_p": 0.07, "top_n_sigma": 1.5}),
    ],
)
async def test_the_aliass_sampler_values_reach_the_server_and_the_clients_own_win(
    served: Served, model: str, sent: dict[str, float], expected: dict[str, float]
) -> None:
    _, answer = await served.post("/completion", {"model": model, "prompt": "hi", "n_predict": 1} | sent)
    settings = answer["generation_settings"]
    assert expected == {key: round(settings[key], 3) for key in expected}


async def test_every_route_answers_with_and_without_its_version(served: Served) -> None:
    bodies = {
        "/chat/completions": chat("a"),
        "/completions": {"model": "a", "prompt": "hi", "max_tokens": 2},
        "/responses": {"model": "a", "input": "hi", "max_output_tokens": 2},
        "/messages": chat("a"),
        "/messages/count_tokens": chat("a"),
    }
    for path, body in bodies.items():
        for prefix in ("/v1", ""):
            status, answer = await served.post(prefix + path, body)
            assert (path, 200) == (path, status), answer


async def test_the_servers_own_routes_are_relayed(served: Served) -> None:
    _, tokens = await served.post("/tokenize", {"model": "a", "content": "the of"})
    _, text = await served.post("/detokenize", {"model": "a"} | tokens)
    assert "the of" in text["content"]
    _, prompt = await served.post("/apply-template", {"model": "a", "messages": MESSAGES})
    assert "hi" in prompt["prompt"]
    _, props = await served.get("/props", params={"model": "a"})
    assert 2 == props["total_slots"]
    _, slots = await served.get("/slots", params={"model": "a"})
    assert [512, 512] == [slot["n_ctx"] for slot in slots]


async def test_any_other_path_of_the_server_is_under_upstream(served: Served) -> None:
    assert (200, {"status": "ok"}) == await served.get("/upstream/ms/a/health")
    _, models = await served.get("/upstream/a/v1/models")
    assert "a" == models["data"][0]["id"]
    status, _ = await served.get("/upstream/a/nowhere")
    assert 404 == status
    status, error = await served.get("/upstream/nobody/health")
    assert (404, "model_not_found") == (status, error["error"]["code"])


async def test_models_are_listed_and_shown_by_ids_with_slashes_encoded_or_not(served: Served) -> None:
    _, listing = await served.get("/v1/models")
    assert ["ms/a", "ms/a-hot", "ms/b"] == [model["id"] for model in listing["data"]]
    for path in ("/v1/models/ms/a", "/v1/models/" + quote("ms/a", safe=""), "/models/ms/a"):
        status, model = await served.get(path)
        assert (200, "ms/a") == (status, model["id"])
    async with served.openai() as client:
        assert "ms/b" == (await client.models.retrieve("ms/b")).id
        assert 3 == len([model async for model in client.models.list()])


async def test_the_responses_helper_of_the_sdk_accepts_the_stream(served: Served) -> None:
    async with served.openai() as client, client.responses.stream(model="a", input="hi", max_output_tokens=4) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert "response.created" == events[0].type
    assert final.id.startswith("resp_")
    assert "a" == final.model


async def test_anthropics_messages_stream_to_their_end(served: Served) -> None:
    # At temperature 0 the tiny model begins with whole characters. Where it begins in the middle of one, llama-server
    # (build 11669) leaves out `message_start`.
    body = chat("a", stream=True, temperature=0)
    async with served.http.post("/v1/messages", json=body) as response:
        text = await response.text()
    assert "text/event-stream" in response.headers["Content-Type"]
    assert "event: message_stop" in text
    assert '"model":"a"' in text


async def test_every_answer_has_a_request_id_and_keeps_a_sane_one_of_the_clients(served: Served) -> None:
    async with served.http.post("/v1/chat/completions", json=chat("a")) as response:
        assert response.headers["x-request-id"]
    async with served.http.get("/health", headers={"x-request-id": "mine-1"}) as response:
        assert "mine-1" == response.headers["x-request-id"]
    async with served.http.get("/nowhere", headers={"x-request-id": "not sane; at all"}) as response:
        assert "not" not in response.headers["x-request-id"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_come_as_they_were_asked_for(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path, encoding: str
) -> None:

    models = {"e": {"path": str(tiny_model), "embeddings": True, "extra_args": "--pooling mean"}}
    async with serving(tmp_path, models, program=str(llama_server_program)) as gateway:
        _, answer = await gateway.post("/v1/embeddings", {"model": "e", "input": "hi", "encoding_format": encoding})
        vector = answer["data"][0]["embedding"]
        if encoding == "base64":
            raw = base64.b64decode(vector)
            vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
        assert 64 == len(vector)
        async with gateway.openai() as client:
            same = await client.embeddings.create(model="e", input="hi")
        assert pytest.approx(vector, abs=1e-6) == same.data[0].embedding


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/reranking"])
async def test_documents_are_ranked(
    tmp_path: Path, llama_server_program: Path, reranker_model: Path, path: str
) -> None:
    models = {"r": {"path": str(reranker_model), "ctx_size": 256, "reranking": True}}
    async with serving(tmp_path, models, program=llama_server_program) as gateway:
        body = {"model": "r", "query": "a", "documents": ["a b", "c"]}
        status, answer = await gateway.post(path, body)
    assert status == 200, answer
    assert {row["index"] for row in answer["results"]} == {0, 1}
    assert answer["model"] == "r"


async def test_a_server_of_a_command_answers_under_the_name_that_was_asked_for(
    tmp_path: Path, standin_program: Path, llama_server_program: Path
) -> None:
    models = {"c": {"cmd": [str(standin_program), "--port", "${PORT}", "--alias", "its own name"]}}
    async with serving(tmp_path, models, program=llama_server_program) as gateway:
        assert (await gateway.chat("ms/c"))[1]["model"] == "ms/c"
        async with gateway.openai() as client:
            stream = await client.chat.completions.create(**chat("c"), stream=True)
            assert {chunk.model async for chunk in stream} == {"c"}
