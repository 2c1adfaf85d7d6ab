"""The embedded llama-server as a real child process on a real (tiny) model."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.embedded.conftest import COMMAND, PATIENCE, Start


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """A child that is expected to end by itself."""
    return subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_a_served_model_is_healthy_and_listed_under_its_aliases(serve: Start) -> None:
    child = serve("--alias", "first,second")
    assert child.ask("/health") == (200, {"status": "ok"})
    status, models = child.ask("/v1/models")
    assert status == 200
    assert {"first", "second"} == {models["data"][0]["id"], *models["data"][0]["aliases"]}


def test_without_a_key_everything_but_health_is_refused(serve: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# comment\nfrom-file\n")
    child = serve("--api-key", "one,two", "--api-key-file", str(keys))
    assert child.ask("/health")[0] == 200
    assert [child.ask("/v1/models", key=key)[0] for key in ("", "wrong")] == [401, 401]
    assert [child.ask("/v1/models", key=key)[0] for key in ("one", "two", "from-file")] == [200] * 3


def test_the_key_may_come_from_the_environment_and_a_flag_wins(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_API_KEY", "from-the-environment")
    assert serve().ask("/v1/models", key="from-the-environment")[0] == 200
    flagged = serve("--api-key", "from-the-flag")
    assert [flagged.ask("/v1/models", key=f"from-the-{where}")[0] for where in ("flag", "environment")] == [200, 401]


def test_a_chat_streams_and_ends_with_done(serve: Start) -> None:
    child = serve("--ignore-eos")
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True}
    status, text = child.ask_text("/v1/chat/completions", body)
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert status == 200
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


def test_sampling_flags_are_the_defaults_of_requests(serve: Start) -> None:
    expected = {
        "temperature": 0.25,
        "top_k": 7,
        "top_p": 0.5,
        "min_p": 0.125,
        "xtc_probability": 0.25,
        "xtc_threshold": 0.375,
        "typical_p": 0.75,
        "repeat_last_n": 12,
        "repeat_penalty": 1.25,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.625,
        "dry_multiplier": 0.75,
        "dry_base": 1.5,
        "dry_allowed_length": 4,
        "dry_penalty_last_n": 33,
        "dynatemp_range": 0.5,
        "dynatemp_exponent": 1.25,
        "mirostat": 2,
        "mirostat_eta": 0.25,
        "mirostat_tau": 4.0,
        "seed": 42,
        "n_keep": 3,
    }
    renamed = {
        "temperature": "--temp",
        "typical_p": "--typical",
        "dynatemp_exponent": "--dynatemp-exp",
        "mirostat_eta": "--mirostat-lr",
        "mirostat_tau": "--mirostat-ent",
        "n_keep": "--keep",
    }
    flags = [
        word
        for name, value in expected.items()
        for word in (renamed.get(name, "--" + name.replace("_", "-")), str(value))
    ]
    child = serve(*flags, "--samplers", "top_k;temperature")
    _, answer = child.ask("/completion", {"prompt": "hi", "n_predict": 1})
    settings = answer["generation_settings"]
    assert expected == {name: settings[name] for name in expected}
    assert settings["samplers"] == ["top_k", "temperature"]


def test_flags_in_the_environment_are_not_read(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_N_PARALLEL", "3")
    assert serve().ask("/props")[1]["total_slots"] == 4


def test_slots_are_four_that_share_the_context_unless_told_otherwise(serve: Start) -> None:
    assert [slot["n_ctx"] for slot in serve("-c", "1024").ask("/slots")[1]] == [1024] * 4
    assert [slot["n_ctx"] for slot in serve("-c", "1024", "-np", "2").ask("/slots")[1]] == [512] * 2


def test_endpoints_are_opened_and_closed_by_their_flags(serve: Start, tmp_path: Path) -> None:
    closed = serve("--no-slots")
    opened = serve("--metrics", "--props", "--slot-save-path", str(tmp_path), "-np", "1")
    assert [closed.ask("/metrics")[0], closed.ask("/slots")[0]] == [501, 501]
    assert "llamacpp:" in opened.ask_text("/metrics")[1]
    assert opened.ask("/props", {}) == (200, {"success": True})
    opened.ask("/completion", {"prompt": "hi", "n_predict": 1})
    assert opened.ask("/slots/0?action=save", {"filename": "slot.bin"})[0] == 200
    assert [file.name for file in tmp_path.iterdir()] == ["slot.bin"]


def test_an_embedding_server_answers_with_a_vector_of_the_models_width(serve: Start) -> None:
    status, answer = serve("--embeddings", "--pooling", "mean").ask("/v1/embeddings", {"input": "hi"})
    assert status == 200
    assert len(answer["data"][0]["embedding"]) == 32


def test_a_grammar_constrains_every_answer(serve: Start) -> None:
    _, answer = serve("--grammar", 'root ::= "abc"').ask("/completion", {"prompt": "hi", "n_predict": 9})
    assert answer["content"] == "abc"


def test_a_schema_becomes_the_grammar(serve: Start) -> None:
    child = serve("--json-schema", '{"const": 7}')
    assert child.ask("/completion", {"prompt": "hi", "n_predict": 9})[1]["content"] == "7"


def test_a_chat_template_from_a_file_is_used(serve: Start, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ word }}:{{ messages[0].content }}")
    child = serve("--chat-template-file", str(template), "--chat-template-kwargs", '{"word": "said"}')
    _, answer = child.ask("/apply-template", {"messages": [{"role": "user", "content": "hi"}]})
    assert answer["prompt"] == "said:hi"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_though_connections_idle(serve: Start, number: signal.Signals) -> None:
    child = serve()
    connection = http.client.HTTPConnection(child.address.removeprefix("http://"), timeout=PATIENCE)
    connection.request("GET", "/health")
    connection.getresponse().read()
    assert child.stopped(number) == 0
    connection.close()


def test_a_signal_ends_it_in_the_middle_of_a_request(serve: Start) -> None:
    child = serve("--context-shift", "--ignore-eos", "-n", "-1")
    connection = http.client.HTTPConnection(child.address.removeprefix("http://"), timeout=PATIENCE)
    body = json.dumps({"prompt": "hi", "stream": True})
    connection.request("POST", "/completion", body=body, headers={"Content-Type": "application/json"})
    assert connection.getresponse().readline()  # it is at work, and would be for ever
    assert child.stopped(signal.SIGTERM) == 0
    connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_the_model_loads_it_answers_503_and_a_signal_ends_it(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    model = tmp_path / "never-ending.gguf"
    os.mkfifo(model)  # who opens it waits for a writer: a model that loads for ever
    port = _free_port()
    child = start("-m", str(model), "--port", str(port))
    child.logged("loading model")
    child.address = f"http://127.0.0.1:{port}"
    status, answer = child.ask("/health")
    assert (status, answer["error"]["message"]) == (503, "Loading model")
    assert -number == child.stopped(number)


def test_a_missing_model_ends_it_with_1_and_the_reason(tmp_path: Path) -> None:
    ended = run("-m", str(tmp_path / "missing.gguf"), "--port", "0")
    assert ended.returncode == 1
    assert "No such file" in ended.stderr
    assert "exiting due to model loading error" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broken_model_ends_it_with_1(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_model.read_bytes()[:5000])
    ended = run("-m", str(broken), "--port", "0")
    assert ended.returncode == 1
    assert "exiting due to model loading error" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_ends_it_with_1_and_names_the_port(tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("-m", str(tiny_model), "--port", str(port))
    assert ended.returncode == 1
    assert f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {port}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--nope"], "error: invalid argument: --nope"),
        (["--temp", "hot"], "error while handling argument \"--temp\": got 'hot', expected a number"),
        (
            ["--port", "0"],
            "error: --model: the embedded llama-server serves one model and has no router mode: give -m FILE",
        ),
        (
            ["-m", "x", "-ot", "blk=NoSuchBuffer"],
            'error while handling argument "-ot": the wheel refuses the value: unknown buffer type',
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_status_1(flags: list[str], line: str) -> None:
    ended = run(*flags)
    assert (1, [line]) == (ended.returncode, ended.stderr.splitlines())


def test_without_the_wheel_it_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['xllamacpp'] = None\n"
        "from gateway.embedded.llama_server import main; sys.exit(main(['-m', 'x']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    expected = "error: the embedded llama-server needs the extra: pip install 'model-gateway[embedded]'\n"
    assert (1, expected) == (ended.returncode, ended.stderr)


def test_help_and_version_and_devices_are_told_without_a_model() -> None:
    told = [run("--help"), run("--version"), run("--list-devices")]
    assert [ended.returncode for ended in told] == [0, 0, 0]
    assert "-c, --ctx-size N" in told[0].stdout
    assert told[1].stderr.startswith("version: ")
    assert told[2].stdout.splitlines()[0] == "Available devices:"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
