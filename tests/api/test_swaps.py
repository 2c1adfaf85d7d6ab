"""Models that take turns in a memory that has room for one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Served, chat, serving


class Starts:
    """Counts what the log of the pool says."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "gateway.engine.pool")
        self._caplog = caplog

    def of(self, verb: str) -> list[str]:
        """Return the slots that were started or stopped, in order."""
        lines = [record.getMessage() for record in self._caplog.records]
        return [line.removeprefix(verb).split(",")[0].split(":")[0].strip() for line in lines if line.startswith(verb)]


@pytest.fixture
def starts(caplog: pytest.LogCaptureFixture) -> Starts:
    """Count starts and stops."""
    return Starts(caplog)


def two(tiny_model: Path, other_tiny_model: Path, **fields: Any) -> dict[str, Any]:
    """Return two models."""
    shape = {"ctx_size": 512, "parallel": 2} | fields
    return {"a": {"path": str(tiny_model)} | shape, "b": {"path": str(other_tiny_model)} | shape}


async def test_a_b_a_b_at_once_are_all_answered_with_two_or_three_starts_and_never_both_loaded(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path, other_tiny_model: Path, starts: Starts
) -> None:
    models = two(tiny_model, other_tiny_model)
    async with serving(
        tmp_path, models, program=llama_server_program, settings={"memory": {"max_loaded": 1}}
    ) as gateway:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                rows = await gateway.running()
                most = max(most, sum(row["state"] != "stopped" for row in rows.values()))
                await asyncio.sleep(0.001)

        watching = asyncio.ensure_future(watch())
        answers = await asyncio.gather(*(gateway.chat(name) for name in "abab"))
        watching.cancel()
        await asyncio.wait([watching])
        assert [200] * 4 == [status for status, _ in answers]
        assert [*"abab"] == [body["model"] for _, body in answers]
    assert most == 1
    assert len(starts.of("starting")) in {2, 3}


async def test_models_that_exceed_the_memory_budget_together_take_turns(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path, other_tiny_model: Path, starts: Starts
) -> None:
    async with serving(
        tmp_path,
        two(tiny_model, other_tiny_model),
        program=llama_server_program,
        settings={"memory": {"budget": "80MiB"}},
    ) as gateway:
        for name in "aba":
            assert 200 == (await gateway.chat(name))[0]
            assert [f"ms/{name}"] == list(await gateway.running())
    assert 3 == len(starts.of("starting"))


async def test_a_model_that_can_never_fit_is_refused_at_once_with_the_numbers(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path, other_tiny_model: Path
) -> None:
    async with serving(
        tmp_path,
        two(tiny_model, other_tiny_model),
        program=llama_server_program,
        settings={"memory": {"budget": "10MiB"}},
    ) as gateway:
        status, body = await gateway.chat("a")
    assert (503, "model_too_large") == (status, body["error"]["code"])
    assert "10.0 MiB" in body["error"]["message"]


async def test_twenty_first_requests_at_once_share_one_start(
    tmp_path: Path, program: str, tiny_model: Path, starts: Starts
) -> None:
    async with serving(tmp_path, {"a": {"path": str(tiny_model), "parallel": 4}}, program=program) as gateway:
        answers = await asyncio.gather(*(gateway.chat("a") for _ in range(20)))
    assert [200] * 20 == [status for status, _ in answers]
    assert 1 == len(starts.of("starting"))


async def test_an_idle_model_goes_when_its_time_is_over_and_a_pinned_one_stays(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path, other_tiny_model: Path
) -> None:
    models = {
        "a": {"path": str(tiny_model), "ttl": 0},
        "b": {"path": str(other_tiny_model), "ttl": 0, "pinned": True},
    }
    async with serving(tmp_path, models, program=llama_server_program) as gateway:
        await gateway.chat("b")
        await gateway.chat("a")
        rows = await gateway.until(lambda rows: "ms/a" not in rows)
    assert ["ms/b"] == list(rows)


async def test_a_preloaded_model_is_there_before_anybody_asks(
    tmp_path: Path, llama_server_program: Path, tiny_model: Path
) -> None:
    async with serving(
        tmp_path, {"a": {"path": str(tiny_model), "preload": True}}, program=llama_server_program
    ) as gateway:
        await gateway.until(lambda rows: rows.get("ms/a", {}).get("state") == "ready")


async def test_unload_answers_when_the_model_is_gone(served: Served) -> None:
    await asyncio.gather(served.chat("a"), served.chat("b"))
    assert (200, {"unloaded": ["ms/a"]}) == await served.post("/unload?model=a", {})
    assert ["ms/b"] == list(await served.running())
    assert (200, {"unloaded": ["ms/b"]}) == await served.post("/unload", {})
    assert {} == await served.running()
    status, error = await served.post("/unload?model=nobody", {})
    assert (404, "model_not_found") == (status, error["error"]["code"])


async def test_unload_never_cuts_a_running_answer(served: Served) -> None:
    body = chat("a", stream=True, max_tokens=200, ignore_eos=True)
    async with served.http.post("/v1/chat/completions", json=body) as response:
        begun = await response.content.readany()
        unloading = asyncio.ensure_future(served.post("/unload?model=a", {}))
        text = (begun + await response.content.read()).decode()
        assert text.endswith("data: [DONE]\n\n")
        assert 200 == (await unloading)[0]
