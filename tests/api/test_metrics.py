"""What is counted, remembered and logged of requests to real model servers."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.system.logs import JsonLines
from tests.serving import Served, chat, serving

Samples = dict[tuple[str, ...], float]
CHAT = "/v1/chat/completions"
NOBODY = {"model": "nobody", "messages": []}


@pytest.fixture
async def one(tmp_path: Path, llama_server_program: Path, tiny_model: Path) -> AsyncIterator[Served]:
    """A gateway with `ms/a`, which answers one request at a time, and room for one more to wait."""
    models = {"a": {"path": str(tiny_model), "ctx_size": 4096, "ttl": "never"}}
    async with serving(tmp_path, models, program=llama_server_program, settings={"queue": {"length": 1}}) as gateway:
        yield gateway


async def samples(gateway: Served, **options: Any) -> Samples:
    """Return every sample by its name and the values of its labels, in the order of their names."""
    async with gateway.http.get("/metrics", **options) as response:
        assert 200 == response.status
        text = await response.text()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(gateway: Served, sample: tuple[str, ...], value: float) -> Samples:
    """Return the samples as soon as one has this value: a request is counted a moment after its last byte."""
    async with asyncio.timeout(10):
        while True:
            now = await samples(gateway)
            if now.get(sample) == value:
                return now
            await asyncio.sleep(0.005)


def ended(outcome: str, *, model: str = "ms/a", key: str = "local", route: str = CHAT) -> tuple[str, ...]:
    return ("gateway_requests_total", key, model, outcome, route)


async def long_stream(gateway: Served) -> Any:
    """Return a streamed answer that has begun and does not end soon."""
    response = await gateway.http.post(CHAT, json=chat("a", stream=True, max_tokens=3000, ignore_eos=True))
    await response.content.readany()
    return response


async def test_whole_and_streamed_answers_are_counted_with_the_tokens_that_the_server_reports(one: Served) -> None:
    _, answer = await one.chat("a", ignore_eos=True)
    async with one.http.post("/chat/completions", json=chat("a", stream=True, ignore_eos=True)) as response:
        await response.read()
    now = await until(one, ended("done"), 2)
    labels = ("chat", "ms/a", "local", CHAT)
    prompt = answer["usage"]["prompt_tokens"]
    tokens = {
        kind: ("gen_ai_client_token_usage_sum", "chat", "ms/a", kind, "local", CHAT) for kind in ("input", "output")
    }
    assert (2 * prompt, 2 * 8) == (now[tokens["input"]], now[tokens["output"]])
    assert 2 == now["gen_ai_server_request_duration_seconds_count", *labels]
    assert 1 == now["gen_ai_server_time_to_first_token_seconds_count", *labels]
    assert 1 == now["gen_ai_server_time_per_output_token_seconds_count", *labels]
    assert 2 == now["gateway_overhead_seconds_count", "local", "ms/a", CHAT]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "hi", "max_tokens": 4}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 4}),
        ("/v1/messages", chat("a", max_tokens=4)),
        ("/completion", {"prompt": "hi", "n_predict": 4}),
    ],
)
async def test_streams_of_every_route_are_metered(one: Served, path: str, body: dict[str, Any]) -> None:
    # At temperature 0 the tiny model begins with whole characters, without which llama-server (build 11669) leaves
    # out `message_start`.
    body = {"model": "a", "stream": True, "ignore_eos": True, "temperature": 0} | body
    async with one.http.post(path, json=body) as response:
        await response.read()
    await until(one, ended("done", route=path), 1)
    _, answer = await one.get("/v1/requests")
    [row] = answer["requests"]
    assert (path, True, 4) == (row["route"], row["stream"], row["tokens_out"])
    assert row["tokens_in"] > 0
    assert row["events"] >= 3


async def test_a_cold_load_is_told_apart_from_the_queue(one: Served) -> None:
    await one.chat("a")
    await one.chat("a")
    now = await until(one, ended("done"), 2)
    load = now["gateway_model_load_seconds_sum", "ms/a"]
    assert 1 == now["gateway_model_load_seconds_count", "ms/a"]
    assert 1 == now["gateway_load_wait_seconds_count", "local", "ms/a", CHAT]
    assert pytest.approx(load, abs=0.05) == now["gateway_load_wait_seconds_sum", "local", "ms/a", CHAT]
    assert 2 == now["gateway_queue_seconds_count", "local", "ms/a", CHAT]
    assert 0 == now["gateway_model_swaps_total", "ms/a"]


async def test_a_client_that_leaves_is_counted_as_such_and_its_tokens_are_not_guessed(one: Served) -> None:
    response = await long_stream(one)
    response.close()
    now = await until(one, ended("client_left"), 1)
    assert 1 == now["gateway_client_aborts_total", "local", "ms/a", CHAT]
    assert ("gen_ai_client_token_usage_sum", "chat", "ms/a", "output", "local", CHAT) not in now
    _, answer = await one.get("/v1/requests")
    assert ("client_left", 499, None) == tuple(
        answer["requests"][0][key] for key in ("outcome", "status", "tokens_out")
    )


async def test_who_runs_waits_and_is_refused_is_seen(one: Served) -> None:
    response = await long_stream(one)
    waiting = asyncio.ensure_future(one.chat("a"))
    now = await until(one, ("gateway_queue_depth", "ms/a"), 1)
    assert 1 == now["gateway_requests_in_flight", "ms/a"]
    assert 1 == now["gateway_model_state", "ms/a", "ready"]
    assert 0 < now["gateway_model_memory_bytes", "ms/a"] < now["gateway_memory_budget_bytes",]
    assert 429 == (await one.chat("a"))[0]
    now = await until(one, ended("refused"), 1)
    assert 1 == now["gateway_refusals_total", "local", "ms/a", "queue_full", CHAT]
    response.close()
    assert 200 == (await waiting)[0]
    now = await until(one, ("gateway_requests_in_flight", "ms/a"), 0)
    assert 0 == now["gateway_queue_depth", "ms/a"]


async def test_swaps_and_evictions_are_counted_by_why(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path, other_tiny_model: Path
) -> None:
    models = {"a": {"path": str(tiny_model)}, "b": {"path": str(other_tiny_model)}}
    settings = {"memory": {"max_loaded": 1}}
    async with serving(tmp_path, models, program=llama_server_program, settings=settings) as gateway:
        for name in "aba":
            assert 200 == (await gateway.chat(name))[0]
        await gateway.post("/unload", {})
        now = await samples(gateway)
    evictions = {key[1:]: value for key, value in now.items() if key[0] == "gateway_model_evictions_total"}
    assert {("ms/a", "make_room"): 1, ("ms/b", "make_room"): 1, ("ms/a", "unload"): 1} == evictions
    assert (1, 1) == (now["gateway_model_swaps_total", "ms/a"], now["gateway_model_swaps_total", "ms/b"])
    assert 2 == now["gateway_model_load_seconds_count", "ms/a"]
    assert 2 == now["gateway_model_stop_seconds_count", "ms/a"]


async def test_a_model_that_does_not_start_is_counted(tmp_path: Path, llama_server_program: Path) -> None:
    models = {"a": {"cmd": "false ${PORT}"}}
    async with serving(tmp_path, models, program=llama_server_program) as gateway:
        assert 503 == (await gateway.chat("a"))[0]
        now = await samples(gateway)
    assert 1 == now["gateway_model_start_failures_total", "ms/a"]
    assert 1 == now["gateway_errors_total", "local", "model_start_failed", "ms/a", CHAT]


async def test_a_flood_of_strange_names_makes_no_labels(one: Served) -> None:
    async def ask(number: int) -> None:
        await one.post(CHAT, NOBODY | {"model": f"nobody-{number}"})
        await one.get(f"/nowhere/{number}")
        await one.get(f"/upstream/nobody-{number}/x")

    await asyncio.gather(*(ask(number) for number in range(30)))
    now = await samples(one)
    of_requests = {key: value for key, value in now.items() if key[0] == "gateway_requests_total"}
    expected = {
        ended("error", model="(none)"): 30,
        ended("error", model="(none)", route="(none)"): 30,
        ended("error", model="(none)", route="/upstream/{rest}"): 30,
    }
    assert expected == of_requests
    assert [] == [key for key in now if "nobody" in str(key)]


async def test_requests_are_counted_by_the_name_of_their_key_and_metrics_need_one(
    tmp_path: Path, llama_server_program: Path
) -> None:
    keys = [{"name": "ann", "key": "one-key-of-many", "role": "user"}, {"name": "root", "key": "another-key-of-many"}]
    ann, root = ({"Authorization": f"Bearer {key['key']}"} for key in keys)
    async with serving(tmp_path, {}, program=llama_server_program, settings={"server": {"api_keys": keys}}) as gateway:
        assert 401 == (await gateway.get("/metrics"))[0]
        await gateway.post(CHAT, NOBODY, headers=ann)
        await gateway.post(CHAT, NOBODY)
        now = await samples(gateway, headers=ann)
        assert 403 == (await gateway.get("/v1/requests", headers=ann))[0]
        _, answer = await gateway.get("/v1/requests", headers=root)
    assert 1 == now["gateway_errors_total", "ann", "model_not_found", "(none)", CHAT]
    assert 1 == now["gateway_refusals_total", "(none)", "(none)", "invalid_api_key", CHAT]
    assert "of-many" not in json.dumps(answer)


async def test_the_last_requests_are_listed_newest_first(served: Served) -> None:
    for name in ("a", "b", "a-hot", "nobody"):
        await served.chat(name)
    await served.get("/health")
    await samples(served)
    _, answer = await served.get("/v1/requests")
    assert [None, "ms/a-hot", "ms/b", "ms/a"] == [row["model"] for row in answer["requests"]]
    assert ["model_not_found", *["done"] * 3] == [row["outcome"] for row in answer["requests"]]
    _, answer = await served.get("/v1/requests?limit=1&model=b")
    assert ["ms/b"] == [row["model"] for row in answer["requests"]]
    for wrong in ("0", "-1", "many", "1001", "9" * 5000):
        status, answer = await served.get("/v1/requests", params={"limit": wrong})
        assert (400, "limit") == (status, answer["error"]["param"])
    assert 404 == (await served.get("/v1/requests?model=nobody"))[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_times_are_told_to_clients_that_wish_it(one: Served, *, stream: bool) -> None:
    times = ("x-gateway-overhead-ms", "x-gateway-queue-ms", "x-gateway-load-ms")
    async with one.http.post(CHAT, json=chat("a", stream=stream), headers={"x-gateway-timing": "1"}) as response:
        await response.read()
        overhead, queue, load = (float(response.headers[name]) for name in times)
    assert 0 < overhead < 1000
    assert 0 <= queue < load
    async with one.http.post(CHAT, json=chat("a", stream=stream)) as response:
        await response.read()
        assert [] == [name for name in times if name in response.headers]


async def test_times_are_told_to_all_where_that_is_set(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path
) -> None:
    settings = {"server": {"timing_headers": True}}
    models = {"a": {"path": str(tiny_model)}}
    async with serving(tmp_path, models, program=llama_server_program, settings=settings) as gateway:
        async with gateway.http.post(CHAT, json=chat("a")) as response:
            assert float(response.headers["x-gateway-overhead-ms"]) > 0
        async with gateway.http.get("/v1/models") as response:
            assert "x-gateway-overhead-ms" not in response.headers


async def test_a_request_is_one_line_of_json_with_all_its_facts(one: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.request")
    async with one.http.post(CHAT, json=chat("a"), headers={"x-request-id": "mine"}) as response:
        await response.read()
    await samples(one)  # which is not logged
    [record] = [record for record in caplog.records if record.name == "gateway.request"]
    line = json.loads(JsonLines().format(record))
    expected = {"logger": "gateway.request", "level": "info", "id": "mine", "model": "ms/a", "key": "local"}
    assert expected == {key: line[key] for key in expected}
    _, answer = await one.get("/v1/requests")
    assert answer["requests"][0] == {key: value for key, value in line.items() if key in answer["requests"][0]}
    assert "200 POST /v1/chat/completions id=mine key=local model=ms/a" in record.getMessage()


async def test_a_line_break_in_a_path_is_none_in_the_log(one: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.request")
    await one.get("/nowhere%0A200%20GET%20/forged")
    [record] = [record for record in caplog.records if record.name == "gateway.request"]
    assert "\n" not in record.getMessage()
