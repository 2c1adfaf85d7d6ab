"""What a client is told when something is wrong with its request, or with the model's server, in its own dialect."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving import MESSAGES, Served, chat, serving
from tests.standin.model import Model
from tests.taken import raw, take

LIMIT = 10_000
CHAT, MESSAGES_PATH = "/v1/chat/completions", "/v1/messages"
EVERY_DIALECT = (CHAT, MESSAGES_PATH, "/v1/responses", "/completion")
ANTHROPIC_TYPES = {400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large"}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The model `small`."""
    return Model(tmp_path, "small")


@pytest.fixture
async def gateway(tmp_path: Path, standin_program: Path, tiny_model: Path, model: Model) -> AsyncIterator[Served]:
    """A gateway with one model, whose server need not run for most of what is wrong."""
    entry = model.as_llama_server(tiny_model)
    settings = {"server": {"body_limit": LIMIT}}
    async with serving(tmp_path, {"small": entry}, program=standin_program, settings=settings) as served:
        yield served


def fields(path: str, **values: Any) -> dict[str, Any]:
    """Return a body that is fine for `path`, with some fields changed."""
    needed = {"input": "hi"} if path.endswith("/responses") else {"prompt": "hi"} if path == "/completion" else {}
    return {"model": "small", "messages": MESSAGES, "max_tokens": 4} | needed | values


def request(path: str, *headers: str, body: str = "", method: str = "POST") -> bytes:
    """Return the bytes of a request whose connection ends with the answer."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", body]
    return "\r\n".join(head).encode()


def answered(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and JSON of an answer as it came."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


async def refused(gateway: Served, path: str, body: bytes | str | dict[str, Any]) -> tuple[int, Any]:
    """Return status and error of a request that is refused, having checked what holds for every refusal."""
    data = json.dumps(body) if isinstance(body, dict) else body
    async with gateway.http.post(path, data=data, headers={"Content-Type": "application/json"}) as response:
        error = await response.json()
        assert response.headers["x-request-id"]
        assert "gateway" == response.headers["x-gateway-error"]
    if path == MESSAGES_PATH:
        assert ("error", ANTHROPIC_TYPES[response.status]) == (error["type"], error["error"]["type"])
    return response.status, error["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "not valid JSON"),
        ("{", "line 1, column 2"),
        ('{"model": "small",\n "messages": }', "line 2, column 14"),
        ("[1]", "must be a JSON object, got a list"),
        ('"small"', "must be a JSON object, got a string"),
        (b'{"messages": [], "model": "\xff"}', "`model` cannot be read"),
        (b'{"messages": [], "model": "small", "stream": "\xff"}', "`stream` cannot be read"),
        (b'{"messages": [], "\xff": 1}', "not UTF-8"),
        ('{"a":' * 1500, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES_PATH])
async def test_a_body_that_is_no_json_object_is_a_bad_request_that_says_why(
    gateway: Served, path: str, body: str | bytes, says: str
) -> None:
    status, error = await refused(gateway, path, body)
    assert 400 == status
    assert says in error["message"]


@pytest.mark.parametrize("path", EVERY_DIALECT)
async def test_a_field_of_the_wrong_type_is_named(gateway: Served, path: str) -> None:
    wrong: list[dict[str, Any]] = [{"model": 5}, {"model": ["small"]}, {"stream": "yes"}, {"stream": 1}]
    if path in {CHAT, MESSAGES_PATH}:
        wrong += [{"messages": {}}, {"messages": "hi"}, {"messages": None}]
    for values in wrong:
        status, error = await refused(gateway, path, fields(path, **values))
        named = next(iter(values))
        assert (values, 400) == (values, status)
        assert f"`{named}`" in error["message"]
        if path != MESSAGES_PATH:
            assert ("invalid_request", named) == (error["code"], error["param"])


async def test_messages_must_be_there(gateway: Served) -> None:
    for path in (CHAT, MESSAGES_PATH):
        status, error = await refused(gateway, path, {"model": "small"})
        assert (400, "`messages` is missing.") == (status, error["message"])


@pytest.mark.parametrize("path", EVERY_DIALECT)
async def test_an_unknown_model_is_not_found_and_the_nearest_names_are_told(gateway: Served, path: str) -> None:
    status, error = await refused(gateway, path, fields(path, model="ms/smal"))
    assert 404 == status
    assert "`ms/small`" in error["message"]
    if path != MESSAGES_PATH:
        assert ("model_not_found", "model") == (error["code"], error["param"])


async def test_without_a_model_the_default_answers_and_without_a_default_nobody(
    gateway: Served, tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    for body in ({"messages": MESSAGES}, {"messages": MESSAGES, "model": ""}, {"messages": MESSAGES, "model": None}):
        status, error = await refused(gateway, CHAT, body)
        assert (400, "model") == (status, error["param"])
    (other := tmp_path / "with-default").mkdir()
    entry = Model(other, "small").as_llama_server(tiny_model)
    settings = {"models": {"default_model": "small"}}
    async with serving(other, {"small": entry}, program=standin_program, settings=settings) as served:
        status, answer = await served.post(CHAT, {"messages": MESSAGES})
    assert (200, "small") == (status, answer["model"].removeprefix("ms/"))


@pytest.mark.parametrize("path", [CHAT, MESSAGES_PATH])
async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(gateway: Served, path: str) -> None:
    announced = f"Content-Length: {LIMIT + 1}"
    for expect in ((), ("Expect: 100-continue",)):
        answer = await raw(gateway.url, request(path, announced, *expect), until=b"}}")
        status, headers, error = answered(answer)
        assert (413, "gateway") == (status, headers["x-gateway-error"])
        assert headers["x-request-id"]
        assert str(LIMIT) in error["error"]["message"]
        assert (path == MESSAGES_PATH) == (error.get("type") == "error")


async def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_long(gateway: Served) -> None:
    chunk = b"%x\r\n%b\r\n" % (LIMIT // 2, b" " * (LIMIT // 2))
    head = request(CHAT, "Transfer-Encoding: chunked")
    status, _, error = answered(await raw(gateway.url, head, chunk, chunk, chunk, until=b"}}"))
    assert (413, "request_too_large") == (status, error["error"]["code"])


async def test_a_body_as_long_as_the_limit_is_read(gateway: Served) -> None:
    body = json.dumps(chat("nobody")).ljust(LIMIT)
    status, _ = await refused(gateway, CHAT, body)
    assert 404 == status


async def test_who_expects_100_continue_is_told_to_continue_and_then_answered(gateway: Served) -> None:
    body = json.dumps(chat("nobody"))
    head = request(CHAT, "Expect: 100-continue", f"Content-Length: {len(body)}")
    interim, _, answer = (await raw(gateway.url, head, body.encode())).partition(b"\r\n\r\n")
    assert b"HTTP/1.1 100 Continue" == interim
    status, _, error = answered(answer)
    assert (404, "model_not_found") == (status, error["error"]["code"])


async def test_a_body_whose_chunks_are_broken_is_a_bad_request(gateway: Served) -> None:
    head = request(CHAT, "Transfer-Encoding: chunked")
    answer = await raw(gateway.url, head, b"5\r\n{", b"zz\r\nnot a chunk\r\n")
    assert answer.split()[1] == b"400"


async def test_a_compressed_body_is_not_taken(gateway: Served) -> None:
    for coding in ("gzip", "br", "gzip, identity"):
        async with gateway.http.post(
            CHAT, data=b"\x1f\x8b", headers={"Content-Encoding": coding, "Content-Type": "application/json"}
        ) as response:
            error = (await response.json())["error"]
        assert (415, "unsupported_content_encoding") == (response.status, error["code"])


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_a_websocket_is_told_to_use_http(gateway: Served, path: str) -> None:
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    head = request(path, *upgrade, method="GET").replace(b"Connection: close", b"Connection: Upgrade")
    status, headers, error = answered(await raw(gateway.url, head, until=b"}}"))
    assert (426, "upgrade_required") == (status, error["error"]["code"])
    assert "gateway" == headers["x-gateway-error"]
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("DELETE", MESSAGES_PATH, "POST"),
        ("PUT", "/unload", "POST"),
        ("POST", "/v1/models", "GET"),
        ("GET", "/v1/responses", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(gateway: Served, method: str, path: str, allowed: str) -> None:
    async with gateway.http.request(method, path) as response:
        error = await response.json()
    assert (405, allowed) == (response.status, response.headers.get("Allow"))
    assert "gateway" == response.headers["x-gateway-error"]
    assert response.headers["x-request-id"]
    assert (path == MESSAGES_PATH) == (error.get("type") == "error")


async def test_an_unknown_path_is_not_found(gateway: Served) -> None:
    status, error = await refused(gateway, "/v1/nothing/here", "{}")
    assert (404, "unknown_url") == (status, error["code"])


async def test_of_duplicate_keys_the_last_one_is_routed_and_forwarded(gateway: Served, model: Model) -> None:
    twice = '{"model":"nobody","messages":[],"messages":[{"role":"user","content":"last"}],"mod\\u0065l":"small"}'
    async with gateway.http.post(CHAT, data=twice) as response:
        assert (200, "small") == (response.status, (await response.json())["model"])
    (arrived,) = model.asked()
    assert [{"role": "user", "content": "last"}] == arrived["body"]["messages"]
    assert arrived["body"]["model"].startswith("gateway-")


async def test_what_the_server_itself_refuses_keeps_its_status_and_comes_in_the_callers_envelope(
    tmp_path: Path, program: str, tiny_model: Path
) -> None:
    long = "a word and more " * 600
    bodies: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [{"role": "user", "content": long}]},
        MESSAGES_PATH: {"messages": [{"role": "user", "content": long}], "max_tokens": 4},
        "/v1/responses": {"input": long},
        "/v1/completions": {"prompt": long},
        "/completion": {"prompt": long},
    }
    models = {"a": {"path": str(tiny_model), "ctx_size": 256}}
    async with serving(tmp_path, models, program=program) as served:
        for path, body in bodies.items():
            for stream in (False, True):
                async with served.http.post(path, json=body | {"model": "a", "stream": stream}) as response:
                    error = (await response.json())["error"]
                case = (path, stream, error)
                assert (case, 400, "backend") == (case, response.status, response.headers["x-gateway-error"])
                assert response.headers["x-request-id"]
                if path == MESSAGES_PATH:
                    assert "invalid_request_error" == error["type"]
                else:
                    assert (case, "context_length_exceeded", 256) == (case, error["code"], error["n_ctx"])


async def test_the_official_sdk_raises_its_own_classes_with_code_type_and_param(gateway: Served) -> None:
    async with gateway.openai() as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="nobody", messages=[])
        with pytest.raises(openai.BadRequestError) as wrong:
            await client.chat.completions.create(model="small", messages={}, stream=True)
        with pytest.raises(openai.APIStatusError) as long:
            await client.chat.completions.create(model="small", messages=[{"role": "user", "content": "x" * LIMIT}])
    found = [(error.value.code, error.value.type, error.value.param) for error in (missing, wrong, long)]
    kind = "invalid_request_error"
    assert [
        ("model_not_found", kind, "model"),
        ("invalid_request", kind, "messages"),
        ("request_too_large", kind, None),
    ] == found
    assert all(error.value.request_id for error in (missing, wrong, long))


async def test_a_full_queue_and_a_wait_that_is_too_long_say_when_to_ask_again(
    tmp_path: Path, standin_program: Path, tiny_model: Path
) -> None:
    model = Model(tmp_path, "small", "--chunks", "100000", "--chunk-interval", "0.01")
    settings = {"queue": {"length": 1, "timeout": 1}}
    models = {"small": model.as_llama_server(tiny_model)}
    async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
        async with served.http.post(CHAT, json=chat("small", stream=True)) as running:
            await running.content.readany()
            waiting = asyncio.ensure_future(take(served.url, CHAT, chat("small")))
            await served.until(lambda rows: rows["ms/small"]["waiting"] == 1)
            full = await take(served.url, MESSAGES_PATH, chat("small"))
            async with served.openai() as client:
                with pytest.raises(openai.RateLimitError) as raised:
                    await client.chat.completions.create(model="small", messages=[])
            late = await waiting
        assert (429, "rate_limit_error") == (full.status, full.json["error"]["type"])
        assert "queue_full" == raised.value.code
        assert (503, "queue_timeout") == (late.status, late.code)
        for answer in (full, late):
            assert int(answer.headers["Retry-After"]) >= 1
        assert 1 == len(model.asked())


async def test_what_is_not_http_is_one_line_in_the_log(
    tmp_path: Path, llama_server_program: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, {}, program=llama_server_program) as gateway:
        reader, writer = await asyncio.open_connection(*gateway.gateway.runner.address)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    lines = [record for record in caplog.records if record.name == "gateway.api.runner.http"]
    assert [(record.levelname, record.exc_info) for record in lines] == [("WARNING", None)]
    assert lines[0].getMessage() == "a client sent no proper HTTP: Invalid character in chunk size: b'zz' ^"
