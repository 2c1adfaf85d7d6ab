"""What a person reads who made a mistake: the exact text, with the place and the way out."""

import pytest

from gateway.config.command_line import CommandLine
from tests.config.conftest import Place


def test_a_typo_in_a_key_names_the_nearest_key(place: Place) -> None:
    place.models("models:\n  coder:\n    path: a.gguf\n    ctx_sise: 4096\n")
    assert place.problems() == ["custom_models.yaml:4:5: models.coder.ctx_sise: unknown key (did you mean 'ctx_size'?)"]


def test_an_unknown_key_without_a_near_one_lists_what_there_is(place: Place) -> None:
    place.write("config.yaml", "log:\n  zebra: 1\n")
    assert place.problems() == ["config.yaml:2:3: log.zebra: unknown key; there are format, level"]


def test_a_key_of_another_program_says_what_it_is_called_here(place: Place) -> None:
    place.models("models:\n  coder:\n    model: a.gguf\n    path: a.gguf\n")
    assert place.problems() == ["custom_models.yaml:3:5: models.coder.model: unknown key: it is called path"]


def test_a_wrong_type_says_what_was_expected_and_found(place: Place) -> None:
    place.models("models:\n  coder:\n    path: a.gguf\n    ctx_size: big\n")
    assert place.problems() == [
        "custom_models.yaml:4:5: models.coder.ctx_size: expected a whole number of tokens, got 'big'"
    ]


def test_a_wrong_unit_names_the_units(place: Place) -> None:
    place.write("config.yaml", "server:\n  body_limit: 64M\nmodels:\n  ttl: 5min\n")
    assert place.problems() == [
        (
            "config.yaml:2:3: server.body_limit: unknown unit 'M' of a size in '64M' (did you mean 'MiB' or 'MB'?); "
            "the units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"
        ),
        (
            "config.yaml:4:3: models.ttl: unknown unit 'min' of a time in '5min'; the units are ms, s, m, h, d "
            "(-1 or 'never' keeps it for ever)"
        ),
    ]


def test_a_key_written_twice_names_both_places(place: Place) -> None:
    place.models("models:\n  coder:\n    path: a.gguf\n    ttl: 5\n    path: b.gguf\n")
    assert place.problems() == [
        "custom_models.yaml:5:5: models.coder.path: written twice, here and in line 3; remove one of them"
    ]


def test_two_names_that_match_the_same_requests_are_one_too_many(place: Place) -> None:
    place.models("models:\n  gemma3:12b:\n    path: a.gguf\n  ms/Gemma3-12b:\n    path: b.gguf\n")
    assert place.problems() == [
        "custom_models.yaml:4:3: models.ms/Gemma3-12b: the name 'ms/Gemma3-12b' is already taken in line 2"
    ]


def test_a_further_name_that_is_taken_is_refused_at_its_own_place(place: Place) -> None:
    place.models("models:\n  one:\n    path: a.gguf\n  two:\n    path: b.gguf\n    aliases: [deux, one]\n")
    assert place.problems() == ["custom_models.yaml:6:21: models.two: the name 'one' is already taken in line 2"]


def test_a_circle_of_aliases_is_shown_as_a_circle(place: Place) -> None:
    place.models("models:\n  a: {base_model: b}\n  b: {base_model: c}\n  c: {base_model: b}\n")
    assert place.problems() == [
        "custom_models.yaml:3:7: models.b.base_model: goes round in a circle: b -> c -> b",
        "custom_models.yaml:4:7: models.c.base_model: goes round in a circle: c -> b -> c",
    ]


def test_an_unknown_base_names_the_nearest_model(place: Place) -> None:
    place.models("models:\n  coder:\n    path: a.gguf\n  fast:\n    base_model: codre\n")
    assert place.problems() == [
        "custom_models.yaml:5:5: models.fast.base_model: there is no model 'codre' (did you mean 'coder'?)"
    ]


def test_a_missing_model_file_names_the_nearest_file(place: Place) -> None:
    place.models("models:\n  coder:\n    path: models/qwen-q4.ggfu\n")
    place.write("models/qwen-q4.gguf", "GGUF")
    assert place.problems() == [
        (
            f"custom_models.yaml:3:5: models.coder.path: there is no file {place.cwd}/models/qwen-q4.ggfu "
            "(did you mean 'qwen-q4.gguf'?)"
        )
    ]


def test_a_folder_is_not_a_model_file(place: Place) -> None:
    place.models("models:\n  coder:\n    path: .\n")
    assert place.problems() == [
        f"custom_models.yaml:3:5: models.coder.path: {place.cwd} is a folder; name the file in it"
    ]


def test_a_bad_flag_names_the_nearest_flag(place: Place) -> None:
    place.models('models:\n  coder:\n    path: a.gguf\n    sampler_args: "--tempp 0.4 --min-p 0.05"\n')
    assert place.problems() == [
        "custom_models.yaml:4:5: models.coder.sampler_args: unknown flag '--tempp' (did you mean '--temp'?)"
    ]


def test_every_bad_flag_is_named_in_one_run(place: Place) -> None:
    place.models('models:\n  coder:\n    path: a.gguf\n    sampler_args: "--temp hot --top-k --min-p 2 0.4"\n')
    assert place.problems() == [
        "custom_models.yaml:4:5: models.coder.sampler_args: expected a number after --temp, got 'hot'",
        "custom_models.yaml:4:5: models.coder.sampler_args: --top-k needs a value",
        "custom_models.yaml:4:5: models.coder.sampler_args: expected a number of at most 1 after --min-p, got 2",
    ]


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--port 9000", "--port is refused here: the gateway decides it"),
        ("--host=0.0.0.0", "--host is refused here: the gateway decides it"),
        ("--api-key k", "--api-key is refused here: the gateway checks keys: server.api_keys in config.yaml"),
        ("-a other", "-a is refused here: names are given by this file: the entry's own and 'aliases'"),
        ("-m b.gguf", "-m is refused here: write the file as 'path'; download it first if need be"),
        ("--draft-max 4", "--draft-max is refused here: it was removed; use --spec-draft-n-max"),
        ("--tools all", "--tools is refused here: it lets a model read files or run programs on this machine"),
    ],
)
def test_a_refused_flag_says_why(place: Place, flag: str, reason: str) -> None:
    place.models(f'models:\n  coder:\n    path: a.gguf\n    sampler_args: "{flag}"\n')
    assert place.problems() == [f"custom_models.yaml:4:5: models.coder.sampler_args: {reason}"]


def test_a_tab_is_named_with_its_place(place: Place) -> None:
    place.models("models:\n  coder:\n\tpath: a.gguf\n")
    assert place.problems() == [
        "custom_models.yaml:3:1: a tab in the indentation; YAML wants spaces, replace it with two"
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "models:\n", "models: {}\n", "\ufeff"])
def test_an_empty_file_is_fine(place: Place, text: str) -> None:
    place.models(text)
    place.write("config.yaml", "# nothing\nserver:\n" if text else "")
    place.write("harmony_models.yaml", "harmony_models:\n")
    assert dict(place.load().catalog.aliases) == {}


def test_all_problems_of_all_files_come_in_one_run(place: Place) -> None:
    place.write("config.yaml", "server:\n  port: 70000\nquue:\n  length: 1\n")
    place.write(".env", "MODEL_TTL=long\nnonsense\n")
    place.models("models:\n  coder:\n    path: none.gguf\n    parallel: 0\n  other:\n    path: gone.gguf\n")
    place.write("harmony_models.yaml", "harmony_models: gpt\n")
    assert place.problems(CommandLine(port="x"), environ={"DEFAULT_PARALLEL": "many"}) == [
        ".env:1:1: MODEL_TTL: expected a time such as 30, 90s or 5m, got 'long' (-1 or 'never' keeps it for ever)",
        ".env:2:1: expected NAME=value in UTF-8, or a comment that begins with #",
        "command line: --port: expected a port number, got 'x'",
        "config.yaml:2:3: server.port: expected a port number from 0 to 65535, got 70000",
        "config.yaml:3:1: quue: unknown key (did you mean 'queue'?)",
        (
            "custom_models.yaml:4:5: models.coder.parallel: "
            "expected a whole number of parallel requests from 1 to 256, got 0"
        ),
        f"custom_models.yaml:6:5: models.other.path: there is no file {place.cwd}/gone.gguf",
        "environment: DEFAULT_PARALLEL: expected a whole number of parallel requests, got 'many'",
        "harmony_models.yaml:1:1: harmony_models: expected a list ([a, b], or one '- ' line for each), got 'gpt'",
    ]


def test_an_entry_that_runs_nothing_says_what_to_add(place: Place) -> None:
    place.models("models:\n  coder:\n  fast:\n    base_model: coder\n")
    assert place.problems() == [
        (
            "custom_models.yaml:2:3: models.coder: says nowhere what to run: "
            "add 'path' with the GGUF file, a 'base_model' or a 'cmd'"
        )
    ]


@pytest.mark.parametrize(
    ("cmd", "message"),
    [
        (
            "serve --port 9000",
            "does not mention ${PORT}: the gateway chooses the port, and the program must listen on it",
        ),
        (
            "serve --port ${PORT} -m ${MODEL_PAHT}",
            "'${MODEL_PAHT}' is not filled in (did you mean '${MODEL_PATH}'?); there are ${PORT} and ${MODEL_PATH}",
        ),
        ("''", "is empty; write the program and its arguments"),
    ],
)
def test_a_command_that_cannot_work_is_refused(place: Place, cmd: str, message: str) -> None:
    place.models(f"models:\n  sd:\n    cmd: {cmd}\n")
    assert place.problems() == [f"custom_models.yaml:3:5: models.sd.cmd: {message}"]


def test_one_thing_said_in_two_ways_that_differ_is_a_problem(place: Place) -> None:
    place.models('models:\n  a:\n    path: a.gguf\n    ctx_size: 4096\n    sampler_args: "-c 8192"\n')
    assert place.problems() == [
        (
            "custom_models.yaml:5:5: models.a.sampler_args: "
            "says ctx_size 8192, but the key ctx_size says 4096; keep one of them"
        )
    ]


def test_a_file_that_is_not_there_is_named_where_it_was_asked_for(place: Place) -> None:
    place.write("config.yaml", "files:\n  custom_models: other.yaml\n")
    assert place.problems(environ={"HARMONY_MODELS_CONFIG": "h.yaml"}) == [
        f"config.yaml:2:3: files.custom_models: there is no file {place.cwd}/other.yaml",
        f"environment: HARMONY_MODELS_CONFIG: there is no file {place.cwd}/h.yaml",
    ]


def test_an_unknown_default_model_names_the_nearest(place: Place) -> None:
    place.write("config.yaml", "models:\n  default_model: codre\n")
    place.models("models:\n  coder:\n    path: a.gguf\n")
    assert place.problems() == [
        "config.yaml:2:3: models.default_model: there is no model 'codre'. Did you mean `ms/coder`?"
    ]


def test_a_list_where_keys_belong_is_explained(place: Place) -> None:
    place.models("models:\n  - path: a.gguf\n")
    assert place.problems() == [
        "custom_models.yaml:1:1: models: expected a mapping (keys and values, indented below), got [{'path': 'a.gguf'}]"
    ]
