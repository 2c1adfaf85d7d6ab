"""Reloads while clients are served by a real llama-server: nothing is cut, nothing is loaded twice, nothing is wrong.

Four clients ask without a pause, two of them streaming, while one file is changed in every way that it can be. Every
answer is looked at to its end, every sampler value is read from what the server says that it used, and a watcher
looks at the processes.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.core.slot import LlamaServer
from tests.reload.living import Living, living, yaml_of

WORDS = 24
"""Tokens of an answer: the end of text is ignored, so every answer has exactly so many."""


@dataclass
class Load:
    """Clients that never pause, and what they saw."""

    gateway: Living
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    wanted: bool = True

    async def whole(self, model: str) -> None:
        """Ask for whole answers, and compare the temperature that was used with the one in force."""
        while self.wanted:
            before = self._temperature(model)
            body = {"model": model, "prompt": "hi", "n_predict": WORDS, "ignore_eos": True}
            status, answer = await self.gateway.post("/completion", body)
            after = self._temperature(model)
            if status == 404 and after is None:
                return
            self.answers[model] += 1
            if (status, answer.get("tokens_predicted")) != (200, WORDS):
                self.faults.append(f"{model}: {status} {str(answer)[:300]}")
            elif round(answer["generation_settings"]["temperature"], 3) not in {before, after}:
                used = answer["generation_settings"]["temperature"]
                self.faults.append(f"{model} was asked with {used}, not with {before} or {after}")

    async def streamed(self, model: str) -> None:
        """Ask for streams, and look whether they are complete."""
        while self.wanted:
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
            body |= {"max_tokens": WORDS, "ignore_eos": True, "stream_options": {"include_usage": True}}
            async with self.gateway.http.post("/v1/chat/completions", json=body) as response:
                text = (await response.read()).decode()
            if response.status == 404 and self._temperature(model) is None:
                return
            self.answers[f"{model} streamed"] += 1
            if not text.endswith("data: [DONE]\n\n"):
                self.faults.append(f"{model}: {response.status} a stream ends with {text[-300:]!r}")
            elif (words := _usage(text)) != WORDS:
                self.faults.append(f"{model}: a stream of {words} tokens")

    def _temperature(self, model: str) -> Any:
        alias = self.gateway.catalog.aliases.get(model)
        return None if alias is None else alias.sampling.suggest["temperature"]


def _usage(text: str) -> Any:
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return next((event["usage"]["completion_tokens"] for event in reversed(events) if event.get("usage")), None)


@dataclass
class Processes:
    """What the children of this process were seen to be, by their model and context."""

    pids: dict[str, set[int]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self._look(await asyncio.to_thread(_servers))
            await asyncio.sleep(0.02)

    def _look(self, servers: dict[int, str]) -> None:
        for pid, launch in servers.items():
            self.pids.setdefault(launch, set()).add(pid)
        self.twice += [launch for launch, count in Counter(servers.values()).items() if count > 1]


def _servers() -> dict[int, str]:
    found: dict[int, str] = {}
    for child in psutil.Process().children(recursive=True):
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if "--model" in words and "--ctx-size" in words:
            model, size = (words[words.index(flag) + 1] for flag in ("--model", "--ctx-size"))
            found[child.pid] = f"{Path(model).stem} {size}"
    return found


@asynccontextmanager
async def under_load(gateway: Living, *models: str) -> AsyncIterator[tuple[Load, Processes]]:
    """Have two clients for each of `models` at work inside this block."""
    load, processes = Load(gateway), Processes()
    watching = asyncio.ensure_future(processes.watch())
    clients = [asyncio.ensure_future(kind(model)) for model in models for kind in (load.whole, load.streamed)]
    try:
        yield load, processes
    finally:
        load.wanted = False
        await asyncio.gather(*clients)
        watching.cancel()
        await asyncio.wait([watching])


def entry(model: Path, temperature: float, ctx_size: int) -> dict[str, Any]:
    """Return an entry; its server is told four times the context, for four requests at once."""
    return {"path": str(model), "ctx_size": ctx_size, "parallel": 4, "sampler_args": f"--temp {temperature}"}


@dataclass
class Scene:
    """A gateway under load, and each way to change its file. `a` and `b` are asked for all the time."""

    gateway: Living
    load: Load
    caplog: pytest.LogCaptureFixture
    models: dict[str, Any]
    tiny: Path
    other: Path

    def said(self, text: str) -> int:
        """Return how many lines of the log have this text."""
        return sum(text in record.getMessage() for record in self.caplog.records)

    async def until(self, wanted: Any) -> None:
        """Return when `wanted` says yes; fail at the first wrong answer."""
        async with asyncio.timeout(20):
            while True:
                assert self.load.faults == []
                if wanted():
                    return
                await asyncio.sleep(0.01)

    async def some_more(self) -> None:
        """Return when each kind of client of `a` has had two more answers."""
        answers = self.load.answers
        wanted = {name: answers[name] + 2 for name in ("a", "a streamed")}
        await self.until(lambda: all(answers[name] >= count for name, count in wanted.items()))

    async def in_force(self, temperature: float, ctx_size: int) -> None:
        """Return when `a` is asked with these values, and some were."""
        await self.until(lambda: self._values() == (temperature, ctx_size))
        await self.some_more()

    def _values(self) -> tuple[Any, int]:
        route = self.gateway.catalog.resolve("a")
        assert isinstance(route.slot.launch, LlamaServer)
        return route.alias.sampling.suggest["temperature"], route.slot.launch.ctx_size

    def write(self, name: str = "custom_models.yaml", **changes: dict[str, Any]) -> Path:
        """Write a file of models in place."""
        self.models |= changes
        file = self.gateway.folder.path / name
        file.write_text(yaml_of(self.models))
        return file

    async def sampler_change(self) -> None:
        """The next request has the new value, and nothing is started."""
        self.write(a=entry(self.tiny, 0.2, 512))
        await self.in_force(0.2, 512)
        assert self.said("starting ") == 2

    async def launch_change(self) -> None:
        """One more start; the old server goes."""
        self.write(a=entry(self.tiny, 0.2, 768))
        await self.in_force(0.2, 768)
        await self.gateway.until(lambda rows: set(rows) == {"a", "b"})
        assert self.said("starting ") == 3

    async def new_model(self) -> None:
        """It is there, and started when it is asked for."""
        self.write(c=entry(self.other, 0.1, 256))
        await self.until(lambda: "c" in self.gateway.catalog.aliases)
        assert self.said("starting ") == 3
        assert (await self.gateway.chat("c"))[0] == 200
        assert self.said("starting ") == 4

    async def removed_model(self) -> None:
        """Its clients are refused from then on, and its server goes."""
        del self.models["b"]
        self.write()
        await self.until(lambda: "b" not in self.gateway.catalog.aliases)
        await self.gateway.until(lambda rows: set(rows) == {"a", "c"})
        assert (await self.gateway.chat("b"))[0] == 404

    async def broken_file(self) -> None:
        """It is told, and nothing changes."""
        self.gateway.folder.models_file.write_text(yaml_of(self.models) + "  a: {path: nowhere}\n models")
        await self.until(lambda: self.said("the configuration in force stays"))
        await self.in_force(0.2, 768)

    async def replaced_by_rename(self) -> None:
        """As editors do it."""
        self.write("new.yaml", a=entry(self.tiny, 0.3, 768)).replace(self.gateway.folder.models_file)
        await self.in_force(0.3, 768)

    async def replaced_by_link(self) -> None:
        """A link takes the file's place, and then the link turns."""
        for temperature in (0.4, 0.5):
            self.write(f"{temperature}.yaml", a=entry(self.tiny, temperature, 768))
            link = self.gateway.folder.path / "link"
            link.symlink_to(f"{temperature}.yaml")
            link.replace(self.gateway.folder.models_file)
            await self.in_force(temperature, 768)

    async def ten_saves_in_a_second(self) -> None:
        """One reload, or two if a look fell between them."""
        before = self.said("configuration reloaded")
        for number in range(10):
            self.write(a=entry(self.tiny, 0.6 + number / 100, 768))
            await asyncio.sleep(0.09)
        await self.in_force(0.69, 768)
        assert self.said("configuration reloaded") - before in {1, 2}


async def test_every_way_to_change_a_file_under_load(
    tmp_path: Path,
    llama_server_program: Path,
    tiny_model: Path,
    other_tiny_model: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "gateway")
    models = {"a": entry(tiny_model, 0.1, 512), "b": entry(other_tiny_model, 0.1, 512)}
    async with living(tmp_path, models, program=llama_server_program) as gateway:
        async with under_load(gateway, "a", "b") as (load, processes):
            scene = Scene(gateway, load, caplog, models, tiny_model, other_tiny_model)
            await scene.in_force(0.1, 512)
            await scene.until(lambda: load.answers["b"] and load.answers["b streamed"])
            await scene.sampler_change()
            await scene.launch_change()
            await scene.new_model()
            await scene.removed_model()
            await scene.broken_file()
            await scene.replaced_by_rename()
            await scene.replaced_by_link()
            await scene.ten_saves_in_a_second()
        assert load.faults == []
        assert processes.twice == []
        assert {launch: len(pids) for launch, pids in processes.pids.items()} == {
            f"{tiny_model.stem} {4 * 512}": 1,
            f"{tiny_model.stem} {4 * 768}": 1,
            f"{other_tiny_model.stem} {4 * 512}": 1,
            f"{other_tiny_model.stem} {4 * 256}": 1,
        }
        assert scene.said("starting ") == 4
