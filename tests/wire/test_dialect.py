"""What the gateway itself says, as the clients of each API hear it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import (
    BackendBroken,
    BadRequest,
    BodyTooLarge,
    GatewayError,
    QueueFull,
    QueueTimeout,
    ShuttingDown,
    StartFailed,
    Unauthorized,
    UnknownModel,
)
from gateway.wire.dialect import ANTHROPIC, COMMENT, OPENAI, RESPONSES, Dialect, event, response_id
from gateway.wire.progress import reasoning
from gateway.wire.responses import CompleteEvents
from tests.wire.canned import canned

DIALECTS: list[Dialect] = [OPENAI, RESPONSES, ANTHROPIC]
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
anything = st.text(st.characters(exclude_categories=()))


def parse(stream: bytes) -> list[tuple[str | None, Any]]:
    """Read server-sent events as the standard says; comments are passed over."""
    events: list[tuple[str | None, Any]] = []
    blocks = stream.decode().split("\n\n")
    assert blocks.pop() == ""
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            assert fields.keys() <= {"event", "data"}
            events.append((fields.get("event"), json.loads(fields["data"])))
    return events


@given(st.dictionaries(st.text(), st.text()), st.sampled_from([None, "ping", "response.created"]))
def test_an_event_reads_back(data: dict[str, str], name: str | None) -> None:
    assert [(name, data)] == parse(event(data, name))


@given(anything)
@dialects
def test_an_error_event_is_one_event_whatever_the_message_says(dialect: Dialect, message: str) -> None:
    [(_, data)] = parse(dialect.error_event(BackendBroken(message), "r1"))
    shown = message.encode("utf-8", "replace").decode()
    inner = data["response"]["error"] if dialect is RESPONSES else data["error"]
    assert shown == inner["message"]


@dialects
def test_signs_of_life_are_whole_events_or_comments(dialect: Dialect) -> None:
    beats = [dialect.keep_alive("m", "r1", beat) for beat in range(3)]
    for name, data in parse(b"".join(beats)):
        assert name == data["type"]


def test_chat_is_kept_alive_by_comments_alone() -> None:
    assert OPENAI.keep_alive("m", "r1", 7) == COMMENT
    assert parse(COMMENT) == []


def test_anthropic_is_kept_alive_by_pings() -> None:
    assert parse(ANTHROPIC.keep_alive("m", "r1", 0)) == [("ping", {"type": "ping"})]


def test_responses_begin_with_created_and_keep_one_id() -> None:
    events = parse(b"".join(RESPONSES.keep_alive("m", "r1", beat) for beat in range(3)))
    assert [name for name, _ in events] == ["response.created", "response.in_progress", "response.in_progress"]
    assert [data["sequence_number"] for _, data in events] == [0, 1, 2]
    assert {response_id("r1")} == {data["response"]["id"] for _, data in events}
    assert {"m"} == {data["response"]["model"] for _, data in events}


def test_openai_errors_have_the_fields_that_its_clients_look_for() -> None:
    error = UnknownModel("No model `x`.", hint="Did you mean `y`?", param="model")
    expected = {
        "message": "No model `x`. Did you mean `y`?",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert {"error": expected} == OPENAI.error(error)
    assert {"error": expected} == RESPONSES.error(error)
    assert [(None, {"error": expected})] == parse(OPENAI.error_event(error, "r1"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (UnknownModel("x"), "not_found_error"),
        (BodyTooLarge("x"), "request_too_large"),
        (QueueFull("x"), "rate_limit_error"),
        (QueueTimeout("x"), "overloaded_error"),
        (GatewayError("x"), "api_error"),
        (BackendBroken("x"), "api_error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_anthropic_errors_have_its_name_for_the_status(error: GatewayError, kind: str) -> None:
    expected = {"type": "error", "error": {"type": kind, "message": "x"}}
    assert expected == ANTHROPIC.error(error)
    assert [("error", expected)] == parse(ANTHROPIC.error_event(error, "r1"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "too long"}}, "too long"),
        ({"error": "too long"}, "too long"),
        ({"detail": "too long"}, "too long"),
        ({"detail": {"message": "too long"}}, "too long"),
        ({"error": {"message": ""}}, "fallback"),
        ({"error": {"message": 7}}, "fallback"),
        ({"error": None}, "fallback"),
        ({"error": ["x"]}, "fallback"),
        ({}, "fallback"),
    ],
)
@dialects
def test_the_message_of_a_server_is_found_in_the_usual_places(
    dialect: Dialect, body: dict[str, Any], message: str
) -> None:
    assert message == dialect.backend_error(400, body, "fallback")["error"]["message"]


def test_an_error_of_llama_server_keeps_its_own_fields_and_gets_a_named_code() -> None:
    body = {"error": {"code": 400, "message": "m", "type": "exceed_context_size_error", "n_ctx": 512}}
    expected = {
        "code": "context_length_exceeded",
        "message": "m",
        "type": "exceed_context_size_error",
        "n_ctx": 512,
        "param": None,
    }
    assert {"error": expected} == OPENAI.backend_error(400, body, "fallback")


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (500, "server_error")])
def test_an_error_without_a_type_gets_that_of_its_status(status: int, kind: str) -> None:
    inner = OPENAI.backend_error(status, {}, "fallback")["error"]
    assert kind == inner["type"] == inner["code"]
    assert ANTHROPIC.backend_error(500, {}, "fallback")["error"]["type"] == "api_error"


@given(anything, st.integers(0, 3))
def test_progress_is_a_chat_chunk_with_reasoning_in_it(text: str, beat: int) -> None:
    [(name, chunk)] = parse(reasoning("m", "r1", beat, text))
    assert name is None
    delta = chunk["choices"][0]["delta"]
    assert text.encode("utf-8", "replace").decode() + "\n" == delta["reasoning_content"]
    assert (beat == 0) == ("role" in delta)


# -- the official SDK --


@asynccontextmanager
async def client_of(stream: bytes) -> AsyncIterator[openai.AsyncOpenAI]:
    """An SDK client that hears `stream`, whatever it asks."""
    async with (
        canned(stream) as url,
        openai.DefaultAsyncHttpxClient(trust_env=False) as http,
        openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0, timeout=10, http_client=http) as client,
    ):
        yield client


def responses_stream(given_id: str, text: str) -> bytes:
    """What a model's server sends on `/v1/responses`, in short."""
    part = {"type": "output_text", "text": "", "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    done_part = part | {"text": text}
    done_item = item | {"status": "completed", "content": [done_part]}
    response = {
        "id": given_id,
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "in_progress",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": response}),
        ("response.in_progress", {"response": response}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        ("response.content_part.added", place | {"part": part}),
        ("response.output_text.delta", place | {"delta": text, "logprobs": []}),
        ("response.output_text.done", place | {"text": text, "logprobs": []}),
        ("response.content_part.done", place | {"part": done_part}),
        ("response.output_item.done", {"output_index": 0, "item": done_item}),
        ("response.completed", {"response": response | {"status": "completed", "output": [done_item]}}),
    ]
    return b"".join(event({"type": name, "sequence_number": at} | data, name) for at, (name, data) in enumerate(events))


LEFT_OUT = ("output_index", "content_index", "sequence_number")  # by llama-server, build 11669


def bare(stream: bytes) -> bytes:
    """Leave out what the SDKs index by."""
    return b"".join(
        event({key: value for key, value in data.items() if key not in LEFT_OUT}, name) for name, data in parse(stream)
    )


@given(st.data(), st.booleans())
def test_completing_a_stream_does_not_depend_on_the_cuts(data: st.DataObject, keep: bool) -> None:  # noqa: FBT001 - drawn
    whole = responses_stream("resp_theirs", "hëllo")
    stream = (whole if keep else bare(whole)) + b": comment\n\ndata: [DONE]\n\nthe rest"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    machine = CompleteEvents("resp_theirs", lambda: 0)
    expected = whole + b": comment\n\ndata: [DONE]\n\nthe rest"
    ours = b"".join(map(machine.feed, parts)) + machine.close()
    assert parse(ours.removesuffix(b"data: [DONE]\n\nthe rest")) == parse(whole)
    assert ours[-30:] == expected[-30:]


async def test_a_response_whose_server_left_out_its_beginning_gets_one() -> None:
    whole = bare(responses_stream("resp_theirs", "hello"))
    later = whole[whole.index(b"event: response.output_item.added") :]
    machine = CompleteEvents("resp_ours", lambda: 0)
    stream = machine.feed(later) + machine.close()
    async with client_of(stream) as client, client.responses.stream(model="m", input="hi") as events:
        seen = [each async for each in events]
        response = await events.get_final_response()
    assert seen[0].type == "response.created"
    assert [each.sequence_number for each in seen] == list(range(len(seen)))
    assert ("resp_ours", "hello") == (response.id, response.output_text)


@pytest.mark.parametrize("form", [responses_stream, lambda *what: bare(responses_stream(*what))], ids=["full", "bare"])
@pytest.mark.parametrize("beats", [0, 1, 3])
async def test_the_sdk_accepts_signs_of_life_before_a_response(beats: int, form: Callable[[str, str], bytes]) -> None:
    ours = response_id("r1")
    alive = b"".join(RESPONSES.keep_alive("m", "r1", beat) for beat in range(beats))
    machine = CompleteEvents(ours, lambda: beats)
    stream = alive + machine.feed(form("resp_theirs", "hello")) + machine.close()
    async with client_of(stream) as client, client.responses.stream(model="m", input="hi") as events:
        seen = [each async for each in events]
        response = await events.get_final_response()
    kinds = [each.type for each in seen]
    assert ["response.created", *["response.in_progress"] * (beats - 1)][:beats] == kinds[:beats]
    assert [each.sequence_number for each in seen] == list(range(len(seen)))
    assert "response.output_text.delta" in kinds
    assert (ours, "completed", "hello") == (response.id, response.status, response.output_text)


async def test_the_sdk_hears_why_a_response_failed() -> None:
    alive = RESPONSES.keep_alive("m", "r1", 0)
    failure = RESPONSES.error_event(StartFailed("The server of m exited with code 1."), "r1")
    async with client_of(alive + failure) as client, client.responses.stream(model="m", input="hi") as events:
        seen = [seen async for seen in events]
    last = seen[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "The server of m exited with code 1."
    assert last.response.status == "failed"


@pytest.mark.parametrize("error", [BackendBroken("It broke off."), ShuttingDown("It shuts down.")], ids=type)
async def test_the_sdk_raises_an_error_event_of_a_chat(error: GatewayError) -> None:
    chunk = reasoning("m", "r1", 0, "loading")
    stream = COMMENT + chunk + COMMENT + OPENAI.error_event(error, "r1")
    async with client_of(stream) as client:
        chunks = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        assert (await anext(chunks)).choices[0].delta.role == "assistant"
        with pytest.raises(openai.APIError) as caught:
            await anext(chunks)
    assert str(error) == caught.value.message
    assert error.code == caught.value.code
    assert error.kind == caught.value.type
