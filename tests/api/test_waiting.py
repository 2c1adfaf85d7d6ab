"""What a client gets while it waits, and that what it waited for comes as the model's server sent it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from tests.scripted import STREAM, chunk, scripted
from tests.serving import MESSAGES, Served, chat, serving
from tests.standin.model import Model
from tests.standin.running import StandIn
from tests.system.scripted_peer import Wire
from tests.taken import connection, take

CHAT = "/v1/chat/completions"
GAP = 0.05
SOON = {"server": {"keepalive_after": GAP}}
# Threads that wait for each other are slow where others take the cores.
ONE_THREAD = {"llama_server": {"arguments": "--threads 1"}}
AT_ONCE = {"server": {"keepalive_after": 0.01}, **ONE_THREAD}  # a real llama-server takes longer than that to start
COMMENT = b": keep-alive\n\n"
LONG = [{"role": "user", "content": "a word and more " * 600}]


@pytest.fixture
async def real(tmp_path: Path, program: str, tiny_model: Path) -> AsyncIterator[Served]:
    """A gateway over a real server, impatient enough that the first request always sees signs of life."""
    models = {"a": {"path": str(tiny_model), "ctx_size": 256}}
    async with serving(tmp_path, models, program=program, settings=AT_ONCE) as served:
        yield served


async def test_a_waiting_chat_gets_comments_and_then_every_byte_as_it_was_sent(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    switches = ("--chunks", "20", "--chunk-interval", "0.01")
    body = chat("m", stream=True)
    direct = StandIn(standin_program, tmp_path / "direct", ("--alias", "m", *switches))
    try:
        sent = await take(f"http://127.0.0.1:{direct.port}", CHAT, body)
    finally:
        direct.end()
    model = Model(tmp_path, "m", "--ready-after", "0.4", *switches)
    models = {"m": model.as_llama_server(tiny_model)}
    async with serving(tmp_path, models, program=standin_program, settings=SOON) as served:
        first, second = await take(served.url, CHAT, body), await take(served.url, CHAT, body)
    comments = first.pieces.count(COMMENT)
    assert comments >= 2
    assert COMMENT * comments + sent.body == first.body
    assert sent.body == second.body
    assert (True, "text/event-stream", "no-cache") == (
        first.whole,
        first.headers["Content-Type"],
        first.headers["Cache-Control"],
    )


async def test_each_chunk_is_passed_on_when_it_comes_as_one_chunk(
    tmp_path: Path, standin_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [b'data: {"n": %d, "pad": "%b"}\n\n' % (number, b"x" * number**2) for number in range(40)]
    pieces.append(b"data: [DONE]\n\n")
    taken = asyncio.Semaphore(0)

    async def in_step(wire: Wire) -> None:
        await wire.send(STREAM)
        for piece in pieces:
            await wire.send(chunk(piece))
            await taken.acquire()
        await wire.send(b"0\r\n\r\n")

    async with scripted(tmp_path, standin_program, monkeypatch, in_step) as served:
        answer = await take(served.url, CHAT, chat("m", stream=True), on_piece=taken.release)
    assert (True, pieces) == (answer.whole, list(answer.pieces))


async def test_who_waits_for_another_request_gets_signs_of_life_too(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    model = Model(tmp_path, "m", "--chunks", "20", "--chunk-interval", "0.03")
    models = {"m": model.as_llama_server(tiny_model)}
    async with serving(tmp_path, models, program=standin_program, settings=SOON) as served:
        await served.chat("m")
        answers = await asyncio.gather(*(take(served.url, CHAT, chat("m", stream=True)) for _ in range(2)))
    waited = sorted(answer.comments for answer in answers)
    assert waited[0] <= 2
    assert waited[1] >= 5
    assert [True, True] == [answer.whole for answer in answers]


async def test_a_client_that_does_not_stream_gets_nothing_before_its_answer(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    model = Model(tmp_path, "m", "--ready-after", "0.4")
    models = {"m": model.as_llama_server(tiny_model)}
    settings = {"server": {"keepalive_after": GAP, "loading_progress": True}}
    async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
        when, first = await first_byte(served.url)
    (arrived,) = model.asked()
    assert when > arrived["at"]
    assert first.startswith(b"HTTP/1.1 200 ")


async def first_byte(url: str) -> tuple[float, bytes]:
    """Return when the first piece of the answer to a chat comes, and the piece."""
    async with connection(url) as (reader, writer):
        body = b'{"model": "m", "messages": []}'
        writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)))
        writer.write(body)
        first = await reader.read(65536)
        return time.monotonic(), first


async def test_a_waiting_chat_is_told_what_it_waits_for_where_that_is_wished(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    model = Model(tmp_path, "m", "--ready-after", "0.4")
    models = {"m": model.as_llama_server(tiny_model)}
    settings = {"server": {"keepalive_after": GAP, "loading_progress": True}}
    async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
        async with served.openai() as client:
            stream = await client.chat.completions.create(**chat("ms/m"), stream=True)
            chunks = [piece async for piece in stream]
        plain = await take(served.url, "/v1/completions", {"model": "m", "prompt": "hi", "stream": True})
    told = [text for piece in chunks if (text := getattr(piece.choices[0].delta, "reasoning_content", ""))]
    assert len(told) >= 2
    assert all("load" in text.lower() or "start" in text.lower() for text in told), told
    assert "assistant" == chunks[0].choices[0].delta.role
    assert {"ms/m"} == {piece.model for piece in chunks}
    assert "0 1 2 " == "".join(piece.choices[0].delta.content or "" for piece in chunks)
    assert b"reasoning" not in plain.body


async def test_waiting_for_messages_is_pings(real: Served) -> None:
    answer = await take(real.url, "/v1/messages", chat("a", stream=True, temperature=0))
    names = [name for name, _ in answer.named_events]
    pings = names.index("message_start")
    assert pings >= 1
    assert ["ping"] * pings == names[:pings]
    assert (True, "message_stop", 0) == (answer.whole, names[-1], answer.comments)


async def test_waiting_for_a_response_is_events_of_the_same_response(real: Served) -> None:
    answer = await take(
        real.url, "/v1/responses", {"model": "a", "input": "hi", "stream": True, "max_output_tokens": 8}
    )
    events = [event for event in answer.events if event["type"].startswith("response.")]
    assert "response.created" == events[0]["type"]
    assert 1 == sum(event["type"] == "response.created" for event in events)
    assert "response.completed" == events[-1]["type"]
    assert answer.whole
    ids = {event["response"]["id"] for event in events if "response" in event}
    assert {"resp_" + answer.headers["X-Request-Id"]} == ids
    assert list(range(len(events))) == [event["sequence_number"] for event in events]


async def test_the_official_helper_accepts_a_response_that_had_to_wait(real: Served) -> None:
    async with (
        real.openai() as client,
        client.responses.stream(model="a", input="hi", max_output_tokens=4, temperature=0) as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert "response.created" == events[0].type
    created: Any = events[0]
    assert created.response.id == final.id


async def test_an_error_of_the_server_after_signs_of_life_keeps_its_code(real: Served) -> None:
    answer = await take(real.url, CHAT, chat("a", stream=True) | {"messages": LONG})
    assert answer.comments >= 1
    assert (200, "context_length_exceeded", False) == (answer.status, answer.code, answer.whole)
    assert 256 == answer.events[-1]["error"]["n_ctx"]


async def test_a_start_that_fails_after_signs_of_life_ends_the_stream_with_an_error_and_breaks_it_off(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    model = Model(tmp_path, "m", "--never-ready")
    models = {"m": model.as_llama_server(tiny_model, timeout=1)}
    async with serving(tmp_path, models, program=standin_program, settings=SOON) as served:
        body = {"model": "m", "messages": MESSAGES, "input": "hi", "stream": True}
        paths = (CHAT, "/v1/messages", "/v1/responses")
        taking = [asyncio.ensure_future(take(served.url, path, body)) for path in paths]
        await asyncio.gather(sdk_raises(served), aiohttp_raises(served))
        answers = await asyncio.gather(*taking)
    assert [(200, False)] * 3 == [(answer.status, answer.whole) for answer in answers]
    assert ["message", "error", "response.failed"] == [answer.named_events[-1][0] for answer in answers]
    chat_error, messages_error, failed = (answer.events[-1] for answer in answers)
    assert "model_start_failed" == chat_error["error"]["code"]
    assert "overloaded_error" == messages_error["error"]["type"]
    assert "model_start_failed" == failed["response"]["error"]["code"]
    for told in (chat_error["error"], messages_error["error"], failed["response"]["error"]):
        assert "loading the model" in told["message"]  # the server's last words


async def sdk_raises(served: Served) -> None:
    async with served.openai() as client:
        with pytest.raises(openai.APIError) as raised:
            [piece async for piece in await client.chat.completions.create(**chat("m"), stream=True)]
    assert "model_start_failed" == raised.value.code


async def aiohttp_raises(served: Served) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        async with served.http.post(CHAT, json=chat("m", stream=True)) as response:
            await response.read()


async def test_a_stream_that_breaks_off_has_everything_that_came_before(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    model = Model(tmp_path, "m", "--chunks", "9", "--die-after-chunks", "5")
    models = {"m": model.as_llama_server(tiny_model)}
    async with serving(tmp_path, models, program=standin_program) as served:
        answer = await take(served.url, CHAT, chat("m", stream=True))
    assert ("0 1 2 3 4 ", False, "backend_broken") == (answer.text, answer.whole, answer.code)
