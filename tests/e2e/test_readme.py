"""What README.md tells people to type is typed here, and what it says comes back has to come back.

A block that is run (`sh`, `python`) is followed by a block of kind `text`, its output. `...` in it stands for anything;
spaces and line breaks do not count.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.demo import card, model_path
from tests.e2e.conftest import Start
from tests.e2e.process import PATIENCE, ROOT, command, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:5846"
PAIR = re.compile(r"^```(sh|python)\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAIRS = PAIR.findall(README)
REQUESTS = [pair for pair in PAIRS if ADDRESS in pair[1]]
COMMANDS = [pair for pair in PAIRS if ".venv/bin/gateway " in pair[1]]


def ran(kind: str, script: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Return what a block prints."""
    argv = [sys.executable, "-c", script] if kind == "python" else ["/bin/sh", "-euc", script]
    done = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def differs(shown: str, got: str) -> str | None:
    """Return the first part of `shown` that `got` lacks at its place, and `None` if it has all of them."""
    rest = re.sub(r"\s", "", got)
    parts = re.sub(r"\s", "", shown).split("...")
    if not rest.startswith(parts[0]):
        return parts[0]
    for part in parts:
        _, found, rest = rest.partition(part) if part else ("", "nothing", rest)
        if not found:
            return part
    return "(the end)" if parts[-1] and rest else None


def test_every_block_that_can_be_run_shows_what_it_prints() -> None:
    assert len(re.findall(r"^```(?:sh|python)$", README, re.MULTILINE)) == len(REQUESTS) + len(COMMANDS)
    assert len(REQUESTS) >= 6
    assert len(COMMANDS) >= 3


def test_each_request_gets_the_answer_that_is_shown(start: Start, tmp_path: Path) -> None:
    gateway = start()
    for kind, script, shown in REQUESTS:
        got = ran(kind, script.replace(ADDRESS, gateway.url), tmp_path, environment(tmp_path))
        assert differs(shown, got) is None, f"{script}\nprinted:\n{got}"


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A folder with the custom_models.yaml of README, and the model that it speaks of in the home folder."""
    [models] = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "custom_models.yaml").write_text(models)
    [path] = re.findall(r"path: ~/(\S+)", models)
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).symlink_to(model_path())
    return tmp_path


def test_each_command_prints_what_is_shown(configured: Path) -> None:
    gateway = " ".join(command()) + " "
    for kind, script, shown in COMMANDS:
        got = ran(kind, script.replace(".venv/bin/gateway ", gateway), configured, environment(configured))
        assert differs(shown, got) is None, f"{script}\nprinted:\n{got}"


def test_the_two_names_of_the_example_share_one_process(start: Start, configured: Path) -> None:
    gateway = start()
    for name in ("coder", "coder-creative"):
        assert name == gateway.chat(name)["model"]
    assert ["ms/coder"] == gateway.running()
    assert 1 == len(gateway.servers())


def test_the_mistake_is_said_in_the_words_that_are_shown(configured: Path) -> None:
    [said] = re.findall(r"^custom_models\.yaml:4:5: .*$", README, re.MULTILINE)
    file = configured / "custom_models.yaml"
    file.write_text(file.read_text().replace("ctx_size", "ctx_sise"))
    done = subprocess.run(
        command("check"), cwd=configured, env=environment(configured), capture_output=True, text=True, check=False
    )
    assert (2, said) == (done.returncode, done.stderr.strip())


def test_the_demo_models_prompts_are_on_its_card() -> None:
    table = README.partition("## What the demo model knows")[2].partition("## ")[0]
    prompts = re.findall(r"`([^`]+)`", table)
    known = {exchange.prompt for exchange in card.transcript(card.card_path().read_text(encoding="utf-8"))}
    assert len(prompts) >= 20
    assert set() == set(prompts) - known


def test_every_file_that_is_linked_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert [] == [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize(
    ("shown", "got", "expected"),
    [
        ('{"a": ...}', '{"a":1}', None),
        ("a ... c", "a b c", None),
        ("a c", "a b c", "ac"),
        ("... b", "a b c", "(the end)"),
        ("b ...", "a b", "b"),
    ],
)
def test_the_dots_stand_for_anything_and_nothing_else_does(shown: str, got: str, expected: str | None) -> None:
    assert expected == differs(shown, got)
