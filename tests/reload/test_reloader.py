"""When files are read again, and what is told about it."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from gateway.config.load import Loaded
from gateway.reload import Reloader
from tests.reload.living import Folder


class Story:
    """A reloader over real files; `loads` counts how often they were read, `applied` what was put in force."""

    def __init__(self, folder: Folder, loaded: Loaded) -> None:
        self.folder = folder
        self.loads = 0
        self.applied: asyncio.Queue[Loaded] = asyncio.Queue()
        self.reloader = Reloader(loaded, self._load, lambda _old, new: self.applied.put_nowait(new), look_every=0.01)

    @classmethod
    async def begin(cls, folder: Path) -> Self:
        """Load what is in a folder."""
        place = Folder(folder)
        return cls(place, await asyncio.to_thread(place.load))

    def _load(self) -> Loaded:
        self.loads += 1
        return self.folder.load()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it run inside this block."""
        task = asyncio.ensure_future(self.reloader.run())
        try:
            yield
        finally:
            task.cancel()

    async def next(self) -> Loaded:
        """Return what is put in force next."""
        return await asyncio.wait_for(self.applied.get(), 10)


@pytest.fixture
async def story(tmp_path: Path) -> Story:
    (tmp_path / "a.gguf").write_text("GGUF")
    (tmp_path / "custom_models.yaml").write_text(entry(0.1))
    return await Story.begin(tmp_path)


def entry(temp: float) -> str:
    return f"models:\n  one: {{path: a.gguf, sampler_args: '--temp {temp}'}}\n"


def temp_of(loaded: Loaded) -> object:
    return loaded.catalog.resolve("one").alias.sampling.suggest["temperature"]


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> str:
    """Return the first line of the log with `text`, as soon as it is there."""
    async with asyncio.timeout(10):
        while True:
            for record in caplog.records:
                if text in record.getMessage():
                    return record.getMessage()
            await asyncio.sleep(0.005)


def write_in_place(file: Path) -> None:
    file.write_text(entry(0.2))


def replace_by_rename(file: Path) -> None:
    (file.parent / "new").write_text(entry(0.2))
    (file.parent / "new").replace(file)


def replace_with_its_old_date_and_length(file: Path) -> None:
    (file.parent / "new").write_text(entry(0.2))
    shutil.copystat(file, file.parent / "new")
    (file.parent / "new").replace(file)


def write_with_its_old_date_and_length(file: Path) -> None:
    stat = file.stat()
    file.write_text(entry(0.2))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace_by_link(file: Path) -> None:
    (file.parent / "elsewhere").write_text(entry(0.2))
    (file.parent / "link").symlink_to("elsewhere")
    (file.parent / "link").replace(file)


def remove_and_write_later(file: Path) -> None:
    file.unlink()
    file.write_text(entry(0.2))


@pytest.mark.parametrize(
    "change",
    [
        write_in_place,
        replace_by_rename,
        replace_with_its_old_date_and_length,
        write_with_its_old_date_and_length,
        replace_by_link,
        remove_and_write_later,
    ],
)
async def test_a_changed_file_is_read_again(story: Story, change: Callable[[Path], None]) -> None:
    with story.running():
        change(story.folder.models_file)
        assert temp_of(await story.next()) == 0.2
        assert temp_of(story.reloader.loaded) == 0.2


async def test_a_link_on_the_way_to_a_file_may_turn(story: Story, tmp_path: Path) -> None:
    """Kubernetes replaces mounted files in this way: the name stays, the folder behind it is another."""
    for version in (1, 2):
        (tmp_path / f"v{version}").mkdir()
        (tmp_path / f"v{version}" / "m.yaml").write_text(entry(version / 10 + 0.2).replace("a.gguf", "../a.gguf"))
    (tmp_path / "now").symlink_to("v1")
    (tmp_path / "config.yaml").write_text("files: {custom_models: now/m.yaml}\n")
    with story.running():
        assert temp_of(await story.next()) == pytest.approx(0.3)
        (tmp_path / "then").symlink_to("v2")
        (tmp_path / "then").replace(tmp_path / "now")
        assert temp_of(await story.next()) == pytest.approx(0.4)


async def test_a_file_that_appears_or_goes_counts(story: Story, tmp_path: Path) -> None:
    with story.running():
        (tmp_path / ".env").write_text("MODEL_TTL=7\n")
        assert (await story.next()).settings.models.ttl == 7
        (tmp_path / ".env").unlink()
        assert (await story.next()).settings.models.ttl == 1800


async def test_what_changed_before_the_first_look_is_not_missed(story: Story) -> None:
    write_in_place(story.folder.models_file)
    with story.running():
        assert temp_of(await story.next()) == 0.2


async def test_a_change_counts_when_two_looks_in_a_row_saw_the_same(story: Story) -> None:
    for temp in (0.2, 0.3, 0.4):
        story.folder.models_file.write_text(entry(temp))
        assert not await story.reloader._changed()
    assert await story.reloader._changed()


async def test_what_is_written_while_files_are_read_is_read_next(story: Story) -> None:
    read = story.folder.load
    late = iter([entry(0.3)])

    def load() -> Loaded:
        loaded = read()
        for text in late:
            story.folder.models_file.write_text(text)
        return loaded

    story.reloader._load = load
    with story.running():
        write_in_place(story.folder.models_file)
        assert [temp_of(await story.next()), temp_of(await story.next())] == [0.2, 0.3]


async def test_a_broken_file_is_told_with_every_mistake_and_changes_nothing(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    before = story.reloader.loaded
    with story.running():
        story.folder.models_file.write_text("models:\n  one: {ctx_sise: 5}\n  two: {ttl: soon}\n")
        await until_logged(caplog, "the configuration in force stays; mistakes to correct: 2")
        told = [record.getMessage().split(": ")[0:2] for record in caplog.records]
        assert told[:2] == [
            ["custom_models.yaml:2:9", "models.one.ctx_sise"],
            ["custom_models.yaml:3:9", "models.two.ttl"],
        ]
        assert story.reloader.loaded is before
        assert story.loads == 1
        story.folder.models_file.write_text(entry(0.5))
        assert temp_of(await story.next()) == 0.5


async def test_a_file_that_was_missing_is_waited_for(
    story: Story, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with story.running():
        (tmp_path / "config.yaml").write_text("files: {custom_models: mine.yaml}\n")
        await until_logged(caplog, "there is no file")
        (tmp_path / "mine.yaml").write_text(entry(0.6))
        assert temp_of(await story.next()) == 0.6


async def test_a_loader_that_breaks_is_told_and_changes_nothing(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> Loaded:
        raise RecursionError

    read, story.reloader._load = story.reloader._load, load
    with story.running():
        story.reloader.ask()
        await until_logged(caplog, "could not be read")
        story.reloader._load = read
        story.folder.models_file.write_text(entry(0.7))
        assert temp_of(await story.next()) == 0.7


async def test_asked_to_reload_it_says_so_even_if_nothing_changed(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.reload")
    with story.running():
        story.reloader.ask()
        await until_logged(caplog, "configuration reloaded: nothing has changed")
    assert story.applied.empty()


async def test_it_says_what_changed(story: Story, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gateway.reload")
    story.folder.models_file.write_text(
        entry(0.9) + "  two: {path: a.gguf}\n  three: {path: a.gguf}\n  four: {path: a.gguf}\n"
    )
    (tmp_path / "config.yaml").write_text("server: {port: 1, body_limit: 1MB}\n")
    with story.running():
        story.reloader.ask()
        await story.next()
        story.folder.models_file.write_text(
            entry(1.0) + "  two: {path: a.gguf, ctx_size: 64}\n  three: {path: a.gguf}\n  five: {path: a.gguf}\n"
        )
        await story.next()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "configuration reloaded: new ms/two, ms/three, ms/four; changed ms/one; server.port, server.body_limit",
        "server.port is 5846 and will be 1 after a restart",
        "configuration reloaded: new ms/five; gone ms/four; launched differently ms/two; changed ms/one",
        "server.port is 5846 and will be 1 after a restart",
    ]


async def test_the_door_stays_locked_while_other_machines_can_reach_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The new address would be this machine's alone, but it is not listened on before a restart."""
    config = tmp_path / "config.yaml"
    config.write_text("server: {host: 0.0.0.0, api_keys: [a-long-secret]}\n")
    story = await Story.begin(tmp_path)
    before = story.reloader.loaded
    with story.running():
        config.write_text("server: {host: 127.0.0.1}\n")
        line = await until_logged(caplog, "server.host")
        await until_logged(caplog, "mistakes to correct: 1")
        assert line == (
            "config.yaml:1:10: server.host: until a restart the gateway listens on 0.0.0.0, "
            "where server.api_keys are needed"
        )
        assert story.reloader.loaded is before
        config.write_text("server: {host: 127.0.0.1, api_keys: [another-secret]}\n")
        assert (await story.next()).settings.server.host == "127.0.0.1"


async def test_new_model_files_are_found_when_it_is_time_to_look(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("library: {models_dir: models, sync_interval: 1s}\n")
    story = await Story.begin(tmp_path)
    with story.running():
        (tmp_path / "models" / "ollama" / "gemma3").mkdir(parents=True)
        (tmp_path / "models" / "ollama" / "gemma3" / "gemma3-12.2B-Q8_0.gguf").touch()
        assert list((await story.next()).catalog.aliases) == ["ms/gemma3-12.2b-q8_0"]
