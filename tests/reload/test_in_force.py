"""What a reload changes in a gateway that runs, and what it leaves alone."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.errors import GatewayError
from tests.reload.living import living
from tests.serving import chat


@pytest.fixture
def program(llama_server_program: Path) -> str:
    """A real llama-server."""
    return str(llama_server_program)


@pytest.fixture
def _level_is_put_back() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


async def test_a_changed_launch_waits_for_the_last_lease_and_is_there_for_the_next_request(
    tmp_path: Path, program: str, tiny_model: Path
) -> None:
    async with living(tmp_path, {"a": {"path": str(tiny_model), "ctx_size": 256}}, program=program) as gateway:
        pool, old = gateway.gateway.pool, gateway.catalog.resolve("a").slot
        async with await pool.lease(old):
            gateway.folder.models({"a": {"path": str(tiny_model), "ctx_size": 512}})
            await gateway.reload()
            assert ["draining"] == [row["state"] for row in (await gateway.running()).values()]
            assert 200 == (await gateway.chat("a"))[0]
            rows = await gateway.running()
            assert {old.id: "draining", "a": "ready"} == {name: row["state"] for name, row in rows.items()}
        assert ["a"] == list(await gateway.until(lambda rows: len(rows) == 1))


async def test_where_there_is_room_for_one_the_new_launch_waits_for_the_old_one(
    tmp_path: Path, program: str, tiny_model: Path
) -> None:
    models = {"a": {"path": str(tiny_model), "ctx_size": 256, "pinned": True}}
    async with living(tmp_path, models, program=program, settings={"memory": {"max_loaded": 1}}) as gateway:
        await gateway.chat("a")
        gateway.folder.models({"a": {"path": str(tiny_model), "ctx_size": 512, "pinned": True}})
        await gateway.reload()
        assert 200 == (await gateway.chat("a"))[0]
        rows = await gateway.running()
        assert [gateway.catalog.resolve("a").slot.id] == [row["slot"] for row in rows.values()]


async def test_an_edit_that_is_undone_restarts_nothing(
    tmp_path: Path, program: str, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.engine.pool")
    models = {"a": {"path": str(tiny_model), "ctx_size": 256}}
    async with living(tmp_path, models, program=program) as gateway:
        async with await gateway.gateway.pool.lease(gateway.catalog.resolve("a").slot):
            gateway.folder.models({})
            await gateway.reload()
            gateway.folder.models(models)
            await gateway.reload()
        assert 200 == (await gateway.chat("a"))[0]
    lines = [record.getMessage() for record in caplog.records]
    assert 1 == sum(line.startswith("starting") for line in lines)


async def test_a_request_that_was_resolved_before_a_reload_gets_what_it_resolved_and_is_the_last(
    tmp_path: Path, program: str, tiny_model: Path
) -> None:
    models = {"a": {"path": str(tiny_model), "ctx_size": 256, "pinned": True}}
    async with living(tmp_path, models, program=program) as gateway:
        old = gateway.catalog.resolve("a").slot
        gateway.folder.models({})
        await gateway.reload()
        async with await gateway.gateway.pool.lease(old):
            assert [old.id] == list(await gateway.running())
        assert {} == await gateway.until(lambda rows: not rows)


@pytest.mark.usefixtures("_level_is_put_back")
async def test_keys_bounds_and_the_level_of_the_log_change_at_once(
    tmp_path: Path, program: str, tiny_model: Path
) -> None:
    models = {"a": {"path": str(tiny_model), "ctx_size": 256}}
    async with living(tmp_path, models, program=program) as gateway:
        assert 200 == (await gateway.chat("a"))[0]
        changed = {
            "server": {"api_keys": ["a-long-secret"], "body_limit": 1024},
            "memory": {"budget": "1MiB"},
            "log": {"level": "error"},
        }
        gateway.folder.settings(program, changed)
        await gateway.reload()
        key = {"headers": {"Authorization": "Bearer a-long-secret"}}
        path = "/v1/chat/completions"
        assert 401 == (await gateway.chat("a"))[0]
        assert 200 == (await gateway.post(path, chat("a"), **key))[0]  # it is loaded, and no room is needed
        assert 413 == (await gateway.post(path, chat("a", user="x" * 1000), **key))[0]
        assert logging.ERROR == logging.getLogger().level
        await gateway.post("/unload", {}, headers={"Authorization": "Bearer a-long-secret"})
        gateway.folder.models({"a": {"path": str(tiny_model), "ctx_size": 512}})
        await gateway.reload()
        with pytest.raises(GatewayError, match=r"1\.0 MiB"):
            await (await gateway.gateway.pool.lease(gateway.catalog.resolve("a").slot)).__aenter__()


async def test_a_model_that_is_to_be_preloaded_is_loaded_when_what_it_replaces_has_gone(
    tmp_path: Path, program: str, tiny_model: Path
) -> None:
    models = {"a": {"path": str(tiny_model), "ctx_size": 256, "preload": True}}
    async with living(tmp_path, models, program=program, settings={"memory": {"max_loaded": 1}}) as gateway:
        old = gateway.catalog.resolve("a").slot.id
        await gateway.until(lambda rows: [row["state"] for row in rows.values()] == ["ready"])
        gateway.folder.models({"a": models["a"] | {"ctx_size": 512}})
        await gateway.reload()
        rows = await gateway.until(lambda rows: rows.get("a", {}).get("state") == "ready")
        assert ["a"] == list(rows)
        assert old != rows["a"]["slot"]


async def test_a_model_file_that_appears_is_listed_after_a_reload_and_an_entry_may_extend_it(
    tmp_path: Path, program: str, tiny_model: Path
) -> None:
    library = {"library": {"models_dir": str(tmp_path / "models")}}
    async with living(tmp_path, {}, program=program, settings=library) as gateway:
        folder = tmp_path / "models" / "ollama" / "gemma3"
        folder.mkdir(parents=True)
        (folder / "gemma3-12.2B-Q8_0.gguf").symlink_to(tiny_model)
        await gateway.reload()
        assert 200 == (await gateway.chat("gemma3:12.2b-q8_0"))[0]
        gateway.folder.models(
            {
                "gemma3:12.2b-q8_0": {"sampler_args": "--temp 0.3"},
                "hot": {"base_model": "gemma3-12.2b-q8_0", "sampler_args": "--temp 1.4"},
            }
        )
        await gateway.reload()
        used = {}
        for name in ("gemma3-12.2b-q8_0", "hot"):
            _, answer = await gateway.post("/completion", {"model": name, "prompt": "hi", "n_predict": 1})
            used[name] = round(answer["generation_settings"]["temperature"], 3)
        assert used == {"gemma3-12.2b-q8_0": 0.3, "hot": 1.4}
        assert 1 == len(await gateway.running())
