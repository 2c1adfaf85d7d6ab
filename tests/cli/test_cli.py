"""The commands, run as people run them: on the files that are shipped, and on broken ones."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config.environment import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-long-secret-of-mine"


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the files and variables of whoever runs the tests out of them."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))


@pytest.fixture
def shipped(tmp_path: Path) -> str:
    """A folder with the files that are shipped, the example in its place."""
    for name in ("custom_models.yaml", "harmony_models.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "config.yaml.example", tmp_path / "config.yaml")
    return str(tmp_path)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """A folder with three mistakes in two files."""
    (tmp_path / "config.yaml").write_text(f"server:\n  prot: 1\n  api_keys: [{SECRET}, short]\n")
    (tmp_path / "custom_models.yaml").write_text("models:\n  one:\n    ctx_sise: 5\n")
    return str(tmp_path)


def test_check_says_that_the_shipped_files_are_fine(shipped: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", shipped]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "The configuration is fine: 1 name for 1 model."
    assert {line.split("/")[-1] for line in out.splitlines()[1:]} == {
        "config.yaml",
        "custom_models.yaml",
        "harmony_models.yaml",
    }
    assert err == ""


@pytest.mark.parametrize("command", ["check", "config", "names", "serve"])
def test_every_command_refuses_broken_files_with_every_mistake_and_its_place(
    broken: str, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, "--config", broken]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r".*/", "", line).split(": ")[:2] for line in err.splitlines()] == [
        ["config.yaml:2:3", "server.prot"],
        ["config.yaml:3:37", "server.api_keys[1]"],
        ["custom_models.yaml:3:5", "models.one.ctx_sise"],
    ]
    assert SECRET not in err


def test_config_shows_each_setting_with_value_default_and_source(
    shipped: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFAULT_CTX_SIZE", "4096")
    assert main(["config", "--config", shipped, "--port", "1234", "--set", "models.ttl=5m"]) == 0
    rows = [re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["SETTING", "VALUE", "DEFAULT", "FROM"]
    by_key = {row[0]: row[1:] for row in rows}
    assert by_key["server.port"] == ["1234", "5846", "command line --port"]
    assert by_key["models.ttl"] == ["300", "1800", "command line --set models.ttl"]
    assert by_key["models.ctx_size"] == ["4096", "8192", "environment DEFAULT_CTX_SIZE"]
    assert by_key["pressure.threshold"] == ["75", "75", "default"]
    assert by_key["server.host"][:2] == ["127.0.0.1", "127.0.0.1"]
    assert re.fullmatch(r".*config\.yaml:\d+:\d+", by_key["server.host"][2])
    assert {len(row) for row in rows} == {4}


# The variables of model_serve, whose users' `.env` is to mean here what it means there.
MODEL_SERVE = {
    "HARMONY_PROXY_PORT": ("server.port", "5846", "6000", "6000"),
    "OLLAMA_BASE": ("ollama.base", "http://localhost:11434", "http://10.0.0.1:11434", "http://10.0.0.1:11434"),
    "MODEL_TTL": ("models.ttl", "1800", "60", "60"),
    "MEMORY_PRESSURE_THRESHOLD": ("pressure.threshold", "75", "85", "85"),
    "PRESSURE_CHECK_INTERVAL": ("pressure.interval", "30", "10", "10"),
    "MIN_MODEL_AGE_SECONDS": ("pressure.min_age", "5", "50", "50"),
    "MODELS_DIR": ("library.models_dir", "~/.cache/lm-studio/models", "/nowhere/models", "/nowhere/models"),
    "MODEL_PREFIX": ("models.prefix", "ms/", "", "''"),
    "DEFAULT_CTX_SIZE": ("models.ctx_size", "8192", "4096", "4096"),
    "DEFAULT_PARALLEL": ("models.parallel", "1", "4", "4"),
    "BRIDGE_SYNC_INTERVAL": ("library.sync_interval", "3600", "600", "600"),
    "HARMONY_MODELS_CONFIG": ("files.harmony_models", "none", str(ROOT / "harmony_models.yaml"), ""),
}


@pytest.mark.parametrize("name", MODEL_SERVE)
def test_the_variables_of_model_serve_mean_what_they_mean_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    key, default, written, shown = MODEL_SERVE[name]
    monkeypatch.setenv(name, written)
    assert main(["config", "--config", str(tmp_path)]) == 0
    rows = [re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert [[key, shown or written, default, f"environment {name}"]] == [row for row in rows if row[0] == key]


def test_config_shows_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_API_KEYS", SECRET)
    assert main(["config", "--config", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"server\.api_keys +key-1 \(user\) +none +environment GATEWAY_API_KEYS", out)
    assert SECRET not in out + err


def test_names_shows_where_each_name_leads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.gguf").touch()
    (tmp_path / "models" / "ollama" / "gemma3").mkdir(parents=True)
    (tmp_path / "models" / "ollama" / "gemma3" / "gemma3-1B-Q4.gguf").touch()
    (tmp_path / "config.yaml").write_text("library: {models_dir: models}\nmodels: {demo: false}\n")
    (tmp_path / "custom_models.yaml").write_text(
        "models:\n  one: {path: a.gguf, aliases: [uno]}\n  hot: {base_model: 'gemma3:1b-q4'}\n"
    )
    assert main(["names", "--config", str(tmp_path)]) == 0
    rows = [line.split("  ->  ") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in rows] == ["ms/one", "ms/uno", "ms/hot", "ms/gemma3-1b-q4"]
    assert [slot.rsplit("-", 1)[0] for _, slot in rows] == ["a", "a", "gemma3-1B-Q4", "gemma3-1B-Q4"]
    assert len({slot for _, slot in rows}) == 2


def test_what_has_no_effect_is_told_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("LLAMA_SWAP_PORT=5847\n")
    assert main(["check", "--config", str(tmp_path)]) == 0
    assert "warning: " in capsys.readouterr().err


def test_serve_reloads_when_it_is_hung_up_and_ends_when_it_is_asked_to(shipped: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("llama_server: {program: embedded}\n")
    argv = [sys.executable, "-m", "gateway", "serve", "--config", shipped, "--port", "0"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=ROOT) as gateway:
        assert gateway.stderr is not None
        lines = iter(gateway.stderr)
        try:
            assert any("models: demo" in line for line in lines)
            gateway.send_signal(signal.SIGHUP)
            assert any("configuration reloaded: nothing has changed" in line for line in lines)
            (tmp_path / "custom_models.yaml").write_text("models: {one: {ttl: soon}}\n")
            assert any("models.one.ttl: expected a time" in line for line in lines)
            assert any("the configuration in force stays" in line for line in lines)
        finally:
            gateway.terminate()
        assert any("shutting down" in line for line in lines)
        assert gateway.wait(20) == 0
