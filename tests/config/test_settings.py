"""Settings: their origins, their precedence, and what may not be said together."""

import hashlib
from pathlib import Path

import pytest

from gateway.config.command_line import CommandLine
from gateway.config.composite import ApiKey
from gateway.config.environment import VARIABLES, Variable
from gateway.config.explain import Explained, explain
from gateway.config.find import find, user_folder
from gateway.config.mark import mark
from gateway.config.problem import ConfigError
from gateway.config.quantity import Share
from gateway.config.settings import Memory, loopback
from tests.config.conftest import Place

SECRET = "correct-horse-battery"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def explained(place: Place, key: str, options: CommandLine | None = None, **environ: str) -> Explained:
    [row] = [row for row in explain(place.load(options, environ=environ).settings) if row.key == key]
    return row


def test_no_file_at_all_means_defaults(place: Place) -> None:
    loaded = place.load()
    assert (loaded.settings.server.host, loaded.settings.server.port) == ("127.0.0.1", 5846)
    assert loaded.settings.memory.budget == Share(90.0)
    assert loaded.files == ()
    assert loaded.absent == tuple(
        place.cwd / name for name in ("config.yaml", ".env", "harmony_models.yaml", "custom_models.yaml")
    )
    assert {row.source for row in explain(loaded.settings)} == {"default"}


def test_the_command_line_wins_over_the_environment_over_dotenv_over_the_file(place: Place) -> None:
    key = "models.ctx_size"
    assert explained(place, key) == (key, "8192", "8192", "default")
    place.write("config.yaml", "models:\n  ctx_size: 1000\n")
    assert explained(place, key) == (key, "1000", "8192", "config.yaml:2:3")
    place.write(".env", "\nexport DEFAULT_CTX_SIZE='2000' # more\n")
    assert explained(place, key) == (key, "2000", "8192", ".env:2:1 DEFAULT_CTX_SIZE")
    assert explained(place, key, DEFAULT_CTX_SIZE="3000")[1:] == ("3000", "8192", "environment DEFAULT_CTX_SIZE")
    options = CommandLine(settings=("models.ctx_size=4000",))
    assert explained(place, key, options, DEFAULT_CTX_SIZE="3000")[1:] == (
        "4000",
        "8192",
        "command line --set models.ctx_size",
    )


def test_every_option_of_the_command_line_reaches_its_setting(place: Place) -> None:
    settings = place.load(
        CommandLine(host="localhost", port="8080", log_level="DEBUG", max_loaded=2, memory_budget="8GiB")
    ).settings
    assert (settings.server.host, settings.server.port, settings.log.level) == ("localhost", 8080, "debug")
    assert settings.memory == Memory(budget=8 * 2**30, max_loaded=2)


VALUES = {
    "HOST": ("localhost", "localhost"), "PORT": ("81", "81"), "HARMONY_PROXY_PORT": ("82", "82"),
    "GATEWAY_API_KEYS": ("12345678, abcdefgh", "key-1 (user), key-2 (user)"), "MODEL_PREFIX": ("", "''"),
    "MODEL_TTL": ("-1", "never"), "DEFAULT_CTX_SIZE": ("512", "512"), "DEFAULT_PARALLEL": ("4", "4"),
    "MAX_LOADED_MODELS": ("3", "3"), "LOG_LEVEL": ("WARNING", "warning"),
    "HARMONY_MODELS_CONFIG": ("h.yaml", "{cwd}/h.yaml"), "MEMORY_PRESSURE_THRESHOLD": ("85", "85"),
    "PRESSURE_CHECK_INTERVAL": ("10", "10"), "MIN_MODEL_AGE_SECONDS": ("0", "0"),
    "MODELS_DIR": ("~/models", "{home}/models"), "BRIDGE_SYNC_INTERVAL": ("60", "60"),
    "HF_HOME": ("/hf", "/hf"), "OLLAMA_BASE": ("http://box:11434/", "http://box:11434"),
}  # fmt: skip


@pytest.mark.parametrize("variable", VARIABLES, ids=[variable.name for variable in VARIABLES])
def test_every_variable_reaches_its_setting(place: Place, variable: Variable) -> None:
    name = variable.name
    place.write("h.yaml", "")
    written, shown = VALUES[name]
    row = explained(place, variable.key, None, **{name: written})
    assert row.value == shown.format(cwd=place.cwd, home=place.home)
    assert row.source == f"environment {name}"


def test_an_empty_variable_counts_as_absent(place: Place) -> None:
    assert explained(place, "models.ttl", MODEL_TTL="").source == "default"


def test_the_particular_port_variable_wins_over_the_general_one(place: Place) -> None:
    assert explained(place, "server.port", PORT="1", HARMONY_PROXY_PORT="2").value == "2"


def test_variables_without_meaning_and_strangers_are_told(place: Place) -> None:
    place.write(".env", "MODLE_TTL=5\nLLAMA_SWAP_PORT=5847\nMEMORY_PRESSURE_THRESHOLD=80\n")
    assert [str(warning) for warning in place.load().warnings] == [
        (
            ".env:2:1: LLAMA_SWAP_PORT: has no effect: "
            "there is no second port: models are reached through the gateway's own"
        ),
        ".env:1:1: MODLE_TTL: the gateway knows no such variable (did you mean 'MODEL_TTL'?); it has no effect",
        ".env:3:1: MEMORY_PRESSURE_THRESHOLD: is read and checked, but has no effect in this version",
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("MODEL_PREFIX=a/", "a/"), ("MODEL_PREFIX = a/", "a/"), ('MODEL_PREFIX="a/" # b', "a/"),
        ("MODEL_PREFIX='a#b'", "a#b"), ("MODEL_PREFIX=a#b", "a#b"), ("MODEL_PREFIX=a # b", "a"),
        ("MODEL_PREFIX=", "''"), ("MODEL_PREFIX='${x}'", "${x}"), ("export MODEL_PREFIX=123\r", "123"),
    ],
)  # fmt: skip
def test_lines_of_dotenv_are_read_as_shells_read_them(place: Place, line: str, value: str) -> None:
    place.write(".env", f"# first\n\n{line}\n")
    assert explained(place, "models.prefix").value == value


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("MODEL_TTL", "expected NAME=value in UTF-8, or a comment that begins with #"),
        ("MODEL_TTL='5", "MODEL_TTL: a quote is opened and never closed, or text follows it"),
        ("MODEL_TTL=${X}", "MODEL_TTL: other variables are not filled in here; write the value itself"),
        ("  MODEL_TTL=5\nMODEL_TTL=6", ""),
    ],
)
def test_lines_of_dotenv_that_cannot_be_read_are_problems(place: Place, line: str, problem: str) -> None:
    place.write(".env", line)
    expected = f".env:1:1: {problem}" if problem else ".env:2:1: MODEL_TTL: written twice, here and in line 1"
    assert place.problems() == [expected]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "mybox.lan", "[::]"])
def test_listening_for_others_without_a_key_is_refused(place: Place, host: str) -> None:
    place.write("config.yaml", f"server:\n  host: '{host}'\n")
    shown = host.strip("[]")
    assert place.problems() == [
        (
            f"config.yaml:2:3: server.host: listening on {shown} lets other machines use your models; "
            "set server.api_keys in config.yaml (or GATEWAY_API_KEYS), or listen on 127.0.0.1"
        )
    ]


def test_a_host_from_the_environment_is_named_as_such(place: Place) -> None:
    [problem] = place.problems(environ={"HOST": "0.0.0.0"})
    assert problem.startswith("environment: HOST: listening on 0.0.0.0 lets other machines use your models")


def test_listening_for_others_with_a_key_is_fine(place: Place) -> None:
    settings = place.load(environ={"HOST": "0.0.0.0", "GATEWAY_API_KEYS": SECRET}).settings
    assert settings.server.api_keys == (ApiKey(name="key-1", role="user", digest=DIGEST),)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_is_loopback(host: str) -> None:
    assert loopback(host)


def test_keys_are_kept_as_digests_with_name_and_role(place: Place) -> None:
    place.write(
        "config.yaml", f"server:\n  api_keys:\n    - '12345678'\n    - {{name: ann, key: {SECRET}, role: admin}}\n"
    )
    loaded = place.load()
    assert loaded.settings.server.api_keys[1] == ApiKey(name="ann", role="admin", digest=DIGEST)
    assert explained(place, "server.api_keys").value == "key-1 (user), ann (admin)"
    assert SECRET not in repr(loaded) + str(explain(loaded.settings))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("[sesame]", ("server.api_keys[0]: expected a key of at least 8 letters, digits and signs in quotes; "
         "`openssl rand -hex 24` makes a good one")),
        (f"{SECRET}", "server.api_keys: expected a list of keys (one '- ' line for each)"),
        (f"{{key: {SECRET}}}", "server.api_keys: expected a list of keys (one '- ' line for each)"),
        (f"[{SECRET}, {SECRET}]", "server.api_keys: the same key is given twice; give each caller its own"),
        (f"[{{name: a, key: {SECRET}}}, {{name: a, key: {SECRET}2}}]",
         "server.api_keys: two keys have the name 'a'; the log could not tell them apart"),
        (f"[{{key: {SECRET}, roll: admin}}]",
         "server.api_keys[0]: unknown key of an API key: 'roll' (did you mean 'role'?); there are name, key and role"),
        (f"[{{key: {SECRET}, role: root}}]",
         "server.api_keys[0]: expected the role of an API key to be user or admin, got 'root'"),
        (f"[[{SECRET}]]", "server.api_keys[0]: expected a key in quotes, or a mapping with name, key and role"),
        ("[12345678]", "server.api_keys[0]: expected a key in quotes, or a mapping with name, key and role"),
    ],
)  # fmt: skip
def test_a_problem_with_a_key_never_shows_the_key(place: Place, keys: str, problem: str) -> None:
    place.write("config.yaml", f"server:\n  api_keys: {keys}\n")
    [said] = place.problems()
    assert said.split(": ", 1)[1] == problem
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {port: -1}", "server.port: expected a port number from 0 to 65535, got -1"),
        ("server: {port: '5846'}", "server.port: expected a port number, got '5846'"),
        ("server: {port: true}", "server.port: expected a port number, got True"),
        ("server: {host: a b}",
         "server.host: expected an address or a host name, such as 127.0.0.1 or localhost, got 'a b'"),
        ("server: {host: 256.0.0.1}",
         "server.host: expected an address or a host name, such as 127.0.0.1 or localhost, got '256.0.0.1'"),
        ("server: {loading_progress: maybe}",
         "server.loading_progress: expected true or false, got 'maybe'"),
        ("server: {body_limit: 1}", "server.body_limit: expected a size from 1KiB to 1TiB, got 1"),
        ("memory: {budget: 120%}",
         "memory.budget: expected a percentage above 0 and up to 100, such as 90%, got '120%'"),
        ("memory: {budget: lots}",
         "memory.budget: expected 90%, or a size such as 48GiB, got 'lots'"),
        ("memory: {budget: 48}",
         "memory.budget: expected 90%, or a size of at least 1MiB such as 48GiB, got 48"),
        ("memory: {max_loaded: 0}",
         "memory.max_loaded: expected a whole number of models from 1 to 10000, or none, got 0"),
        ("queue: {length: 0}", "queue.length: expected a whole number of requests from 1 to 100000, got 0"),
        ("queue: {timeout: 0}", "queue.timeout: expected a time from 1 to 2.6784e+06 seconds, got 0"),
        ("log: {level: inof}", "log.level: expected debug, info, warning or error, got 'inof' (did you mean 'info'?)"),
        ("models: {prefix: 'a b'}", "models.prefix: expected a prefix without spaces (empty for none), got 'a b'"),
        ("ollama: {base: localhost}", "ollama.base: expected a URL such as http://localhost:11434, got 'localhost'"),
        ("llama_server: {arguments: --port 1}",
         "llama_server.arguments: --port is refused here: the gateway decides it"),
        ("server: 5846", "server: expected a mapping (keys and values, indented below), got 5846"),
    ],
)  # fmt: skip
def test_every_value_is_checked(place: Place, text: str, message: str) -> None:
    place.write("config.yaml", text)
    [problem] = place.problems()
    assert problem.split(": ", 1)[1] == message


def test_a_budget_of_none_is_no_limit(place: Place) -> None:
    place.write("config.yaml", "memory: {budget: none, max_loaded: none}\n")
    memory = place.load().settings.memory
    assert (memory.budget, memory.max_loaded, memory.budget_bytes(100)) == (None, None, None)


def test_a_share_of_the_memory_is_counted_in_bytes() -> None:
    assert Memory(budget=Share(90.0), max_loaded=None).budget_bytes(1000) == 900
    assert Memory(budget=7, max_loaded=None).budget_bytes(1000) == 7


def test_paths_start_where_they_were_written(place: Place) -> None:
    folder = place.cwd / "conf"
    place.write("conf/config.yaml", "llama_server: {program: bin/llama-server}\n")
    place.write("conf/.env", "MODELS_DIR=models\n")
    settings = place.load(CommandLine(config="conf"), environ={"HF_HOME": "hf"}).settings
    assert settings.llama_server.program == str(folder / "bin/llama-server")
    assert settings.library.models_dir == folder / "models"
    assert settings.library.hf_home == place.cwd / "hf"


def test_model_files_are_looked_for_in_lm_studios_folder_if_no_other_is_named(place: Place) -> None:
    assert place.load().settings.library.models_dir == place.home / ".cache/lm-studio/models"


def test_a_snapshot_knows_the_marks_of_all_files_that_decided_about_it(place: Place) -> None:
    place.write(".env", "PORT=1\n")
    before = place.load().marks
    assert {path.name for path, mark in before.items() if mark is not None} == {".env"}
    assert before == place.load().marks
    for change in (
        lambda: place.write(".env", "PORT=2\n"),
        lambda: (place.cwd / ".env").chmod(0o600),
        lambda: place.write("custom_models.yaml", ""),
        (place.cwd / ".env").unlink,
    ):
        change()
        after = place.load().marks
        assert before != after
        before = after


def test_what_is_wrong_is_worth_another_try_when_a_file_changes_that_was_looked_at(place: Place) -> None:
    place.write("config.yaml", "files: {custom_models: mine.yaml}\n")
    with pytest.raises(ConfigError) as caught:
        place.load()
    assert caught.value.marks[place.cwd / "mine.yaml"] is None
    assert caught.value.marks[place.cwd / "config.yaml"] == mark(place.cwd / "config.yaml")


def test_a_harmony_file_names_models(place: Place) -> None:
    place.write("harmony_models.yaml", "harmony_models: [gpt-oss-20b]\n")
    loaded = place.load()
    assert loaded.settings.harmony_models == ("gpt-oss-20b",)
    assert [str(warning) for warning in loaded.warnings] == [
        "harmony_models.yaml:1:1: harmony_models: is read and checked, but has no effect in this version"
    ]


def test_all_files_come_from_one_folder(place: Place) -> None:
    (place.user / "config.yaml").write_text("server: {port: 1}\n")
    (place.user / ".env").write_text("MODEL_TTL=7\n")
    place.write(".env", "PORT=3000\n")
    assert explained(place, "server.port").value == "1"
    place.write("custom_models.yaml", "")
    loaded = place.load()
    assert (loaded.settings.server.port, loaded.settings.models.ttl) == (3000, 1800.0)
    assert loaded.files == (place.cwd / ".env", place.cwd / "custom_models.yaml")


def test_config_may_name_a_file_or_a_folder(place: Place) -> None:
    named = place.write("etc/gateway.yml", "server: {port: 1}\n")
    place.write("etc/config.yaml", "server: {port: 2}\n")
    assert explained(place, "server.port", CommandLine(config="etc/gateway.yml")).value == "1"
    assert explained(place, "server.port", CommandLine(config=str(named))).value == "1"
    assert explained(place, "server.port", CommandLine(config="etc")).value == "2"


def test_config_that_is_not_there_is_a_problem(place: Place) -> None:
    assert place.problems(CommandLine(config="~/nope.yaml")) == [
        f"command line: --config: there is no file or folder {place.home}/nope.yaml"
    ]


def test_a_file_outside_the_working_directory_is_shown_in_full(place: Place) -> None:
    (place.user / "config.yaml").write_text("port: 1\n")
    [problem] = place.problems()
    assert problem.startswith(f"{place.user}/config.yaml:1:1: port: unknown key")


def test_the_users_folder_is_the_last_place_to_look(tmp_path: Path) -> None:
    assert user_folder().name == "model-gateway"
    assert find(None, tmp_path, tmp_path / "user").folder == tmp_path


def test_bad_settings_from_the_command_line_are_named(place: Place) -> None:
    assert place.problems(CommandLine(settings=("a.b=1", "models.ttl", "models.tll=5"))) == [
        "command line: --set: expected section.key=value such as models.ttl=5m, got 'models.ttl'",
        (
            "command line: --set a.b: unknown key; there are files, library, llama_server, log, memory, models, "
            "ollama, pressure, queue, server, timeouts"
        ),
        "command line: --set models.tll: unknown key (did you mean 'ttl'?)",
    ]
