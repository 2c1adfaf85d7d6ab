"""The table of flags: complete, understood in every documented spelling, and clear about mistakes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import xllamacpp
from hypothesis import given
from hypothesis import strategies as st

from gateway.embedded import kinds, values
from gateway.embedded.flags import Action, Flag, FlagError, parse, usage
from gateway.embedded.native import common_params
from gateway.embedded.table import DEFAULTS, FLAGS
from gateway.embedded.values import Kind, Value

DOCUMENTED = (Path(__file__).parent / "documented_flags.txt").read_text().split()
"""Every spelling in the help of llama-server, build 11669."""

REMOVED = ["--mmap", "--no-mmap", "--mlock"]
"""Spellings of older builds that the help no longer has."""

WHEEL: ModuleType = xllamacpp
HONOURED = [row for row in FLAGS if not row.refused and not row.successor and row.action is Action.SERVE]
NOT_HONOURED = [(name, row) for row in FLAGS for name in row.names if row.refused or row.successor]
SAMPLES: Mapping[Kind, str] = {
    values.ROPE_SCALE: "2",
    values.TEXT: "some text",
    values.ONE_TEXT: "some text",
    values.FILE: "some/path",
    values.TEXTS: "one,two",
    values.NUMBERS: "3,1",
    values.MARGINS: "100,200",
    values.LAYERS: "all",
    values.CPU_MASK: "0x5",
    values.CPU_RANGE: "0-1",
    values.LORAS: "one,two",
    values.SCALED_LORAS: "one:0.5,two:2",
    values.TEMPLATE_KWARGS: '{"name": [1, "x"]}',
    values.TEXT_FILE: "{file}",
    values.KEY_FILE: "{file}",
    values.GRAMMAR_FILE: "{file}",
    values.SCHEMA_FILE: "{file}",
    values.FOLDER: "{folder}",
    values.GRAMMAR: 'root ::= "a"',
    values.SCHEMA: '{"type": "object"}',
    kinds.SPEC_TYPES: "ngram-mod,ngram-simple",
    kinds.LETTERS: "kt",
    kinds.EFFORT: "high",
    kinds.MMPROJ_DEVICE: "none",
}
"""What to write for a kind; kinds that are not here list their words, or take the number 1."""


def sample(row: Flag, folder: Path) -> list[str]:
    """A value for a row that takes one."""
    if row.takes is None:
        return []
    if "-ot" in row.names or "-otd" in row.names:
        return ["blk=CPU"]
    if "-devd" in row.names:
        return ["none"]
    if row.takes.expected.startswith("one of "):
        return [row.takes.expected.removeprefix("one of ").split(", ")[0]]
    text = SAMPLES.get(row.takes, "on" if row.takes.expected.startswith("on") else "1")
    (folder / "file").write_text("{}")
    return [text if text.startswith('{"') else text.format(file=folder / "file", folder=folder)]


def read(*argv: str) -> dict[str, Value]:
    """The settings that `argv` asks for, without the defaults."""
    found = parse(argv, FLAGS, DEFAULTS).settings
    return {path: setting.value for path, setting in found.items() if setting.flag}


def refusal(argv: Sequence[str]) -> str:
    """The error that `argv` is answered with."""
    with pytest.raises(FlagError) as caught:
        parse(argv, FLAGS, DEFAULTS)
    return str(caught.value)


def test_the_table_has_every_documented_spelling_once() -> None:
    names = [name for row in FLAGS for name in row.names]
    assert sorted(names) == sorted([*DOCUMENTED, *REMOVED])


@pytest.mark.parametrize("row", HONOURED, ids=lambda row: row.names[-1])
def test_every_spelling_means_the_same_and_the_wheel_takes_it(row: Flag, tmp_path: Path) -> None:
    words = sample(row, tmp_path)
    expected = read(row.names[0], *words)
    for name in row.names:
        line = parse([name, *words], FLAGS, DEFAULTS)
        assert {path: found.value for path, found in line.settings.items() if found.flag} == expected
        common_params(WHEEL, line.settings)
    assert expected.keys() >= set(row.sets) | set(row.also)


@pytest.mark.parametrize(("name", "row"), NOT_HONOURED, ids=lambda item: item if isinstance(item, str) else "")
def test_a_flag_that_is_not_honoured_is_refused_with_the_way_out(name: str, row: Flag) -> None:
    message = refusal([name, "value"])
    assert message.startswith(("error: " + name + ": ", "error: invalid argument: " + name + ": "))
    assert message.endswith(("install llama-server for it", row.successor or "-"))


def test_what_llama_server_starts_from_is_set_without_any_flag() -> None:
    params = common_params(WHEEL, parse([], FLAGS, DEFAULTS).settings)
    assert (params.port, params.n_parallel) == (8080, -1)
    assert params.default_template_kwargs == {"preserve_reasoning": "true"}


@pytest.mark.parametrize(
    ("argv", "path", "expected"),
    [
        ("--temp 0.5", "sampling.temp", 0.5),
        ("--temp 0.5 --top-k 3", "sampling.user_sampling_config", 64 | 2),
        ("-c 0", "fit_params_min_ctx", -1),
        ("-ngl auto", "n_gpu_layers", -1),
        ("-ngl all", "n_gpu_layers", -2),
        ("-ngl 0", "n_gpu_layers", 0),
        ("--seed -1", "sampling.seed", 4294967295),
        ("--rope-scale 4", "rope_freq_scale", 0.25),
        ("--api-key a,b --api-key c", "api_keys", ["a", "b", "c"]),
        ("--host a,b --host c", "hostnames", ["c"]),
        ("--alias a,,b", "model_alias", {"a", "b"}),
        ("--fit off", "fit_params", False),
        ("--fit 1", "fit_params", True),
        ("-fa on", "flash_attn_type", xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED),
        ("-ctk q8_0", "cache_type_k", xllamacpp.ggml_type.GGML_TYPE_Q8_0),
        ("-lm mmap+mlock", "load_mode", xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP_MLOCK),
        ("--rerank", "pooling_type", xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK),
        ("--rerank", "embedding", True),
        ("--no-warmup --warmup", "warmup", True),
        ("--timeout 7", "timeout_read", 7),
        ("--timeout 7", "timeout_write", 7),
        ("-v", "verbosity", 2**31 - 1),
        ("--moe-cache-mib 2", "moe_cache_size", 2 * 1024 * 1024),
        ("-ot a=CPU --override-tensor b=CPU", "tensor_buft_overrides", "a=CPU,b=CPU"),
        ("--sampler-seq kt", "sampling.samplers", "top_k;temperature"),
        ("-dev none", "n_gpu_layers", 0),
    ],
)
def test_a_flag_reaches_its_attribute(argv: str, path: str, expected: object) -> None:
    found: object = common_params(WHEEL, parse(argv.split(), FLAGS, DEFAULTS).settings)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == expected


def test_template_arguments_add_up_to_json_texts() -> None:
    argv = ["--chat-template-kwargs", '{"a": {"b": 1}}', "--reasoning", "off", "--reasoning-effort", "low"]
    assert read(*argv)["default_template_kwargs"] == {
        "preserve_reasoning": "true",
        "a": '{"b":1}',
        "enable_thinking": "false",
        "reasoning_effort": '"low"',
    }


def test_masks_and_ranges_of_processors_add_up() -> None:
    params = common_params(WHEEL, parse(["-C", "f0", "-Cr", "0-1"], FLAGS, DEFAULTS).settings)
    chosen = [cpu for cpu, used in enumerate(params.cpuparams.cpumask) if used]
    assert (chosen, params.cpuparams.mask_valid) == ([0, 1, 4, 5, 6, 7], True)


def test_margins_fill_the_devices_that_were_named() -> None:
    every = common_params(WHEEL, parse(["--fit-target", "5"], FLAGS, DEFAULTS).settings).fit_params_target
    first = common_params(WHEEL, parse(["--fit-target", "5,6"], FLAGS, DEFAULTS).settings).fit_params_target
    mib = 1024 * 1024
    assert set(every) == {5 * mib}
    assert first[:3] == [5 * mib, 6 * mib, 1024 * mib]
    assert len(every) == len(first) == len(xllamacpp.CommonParams().fit_params_target)


def test_grammars_are_of_the_kind_they_came_as() -> None:
    types = xllamacpp.common_grammar_type
    gbnf = common_params(WHEEL, parse(["--grammar", "root ::= []"], FLAGS, DEFAULTS).settings)
    schema = common_params(WHEEL, parse(["-j", "{}"], FLAGS, DEFAULTS).settings)
    assert gbnf.sampling.grammar.type == types.COMMON_GRAMMAR_TYPE_USER
    assert gbnf.sampling.grammar.grammar == "root ::= []"
    assert schema.sampling.grammar.type == types.COMMON_GRAMMAR_TYPE_OUTPUT_FORMAT


def test_lora_adapters_keep_their_order_and_scale() -> None:
    params = common_params(WHEEL, parse(["--lora", "a", "--lora-scaled", "b:0.5"], FLAGS, DEFAULTS).settings)
    assert [(lora.path, lora.scale) for lora in params.lora_adapters] == [("a", 1.0), ("b", 0.5)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nope"], "error: invalid argument: --nope"),
        (["--nope=1"], "error: invalid argument: --nope=1"),
        (["word"], "error: invalid argument: word"),
        (["--temp"], 'error while handling argument "--temp": expected a number after it'),
        (["--temp", "hot"], "error while handling argument \"--temp\": got 'hot', expected a number"),
        (
            ["-np", "0"],
            (
                "error while handling argument \"-np\": got '0', "
                "expected a number of slots: -1 (automatic), or 1 and more"
            ),
        ),
        (
            ["-c", "12abc"],
            "error while handling argument \"-c\": got '12abc', expected a number of tokens, 0 or more",
        ),
        (["-fa", "maybe"], "error while handling argument \"-fa\": got 'maybe', expected on, off or auto"),
        (
            ["--pooling", "sum"],
            ("error while handling argument \"--pooling\": got 'sum', expected one of none, mean, cls, last, rank"),
        ),
        (
            ["--api-key-file", "/no/such"],
            (
                "error while handling argument \"--api-key-file\": got '/no/such', "
                "expected a readable file with one key per line"
            ),
        ),
        (["--metrics=on"], "error while handling argument \"--metrics\": it takes no value, got 'on'"),
        (
            ["--alias", "\udcff"],
            "error while handling argument \"--alias\": got '\\udcff', expected a list separated by commas",
        ),
        (
            ["--mlock"],
            "error: invalid argument: --mlock: llama-server no longer has it; use --load-mode mmap+mlock",
        ),
        (
            ["--rpc", "x"],
            (
                "error: --rpc: the embedded llama-server cannot honour it "
                "(the xllamacpp wheel has no access to this setting): install llama-server for it"
            ),
        ),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(argv: list[str], message: str) -> None:
    assert refusal(argv) == message


def test_a_request_for_something_else_ends_the_reading() -> None:
    actions = [parse([flag, "--nope"], FLAGS, DEFAULTS).action for flag in ("-h", "--version", "--list-devices")]
    assert actions == [Action.HELP, Action.VERSION, Action.LIST_DEVICES]


def test_the_help_names_every_spelling() -> None:
    text = usage(FLAGS)
    assert [name for name in DOCUMENTED if name not in text] == []


@given(st.integers(min_value=0, max_value=2**31 - 1))
def test_a_context_size_arrives_as_written(size: int) -> None:
    assert read("-c", str(size))["n_ctx"] == size


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_arrives_as_written(number: float) -> None:
    assert read("--temp", repr(number))["sampling.temp"] == number


@given(st.text().filter(lambda text: "\0" not in text))
def test_a_text_arrives_as_written(text: str) -> None:
    assert read("--chat-template", text)["chat_template"] == text


@given(st.sampled_from(HONOURED), st.text())
def test_a_value_after_the_equals_sign_is_the_value_after_the_name(row: Flag, text: str) -> None:
    name = row.names[-1]
    if row.takes is None or not name.startswith("--"):
        return
    assert outcome([f"{name}={text}"]) == outcome([name, text])


@given(st.sampled_from(DOCUMENTED), st.text(max_size=5))
def test_underscores_in_a_long_name_are_hyphens(name: str, text: str) -> None:
    written = "--" + name.removeprefix("--").replace("-", "_") if name.startswith("--") else name
    assert outcome([written, text]) == outcome([name, text])


@given(st.text())
def test_what_is_no_number_is_refused_by_name_and_value(text: str) -> None:
    try:
        number = math.isfinite(float(text)) and "_" not in text
    except ValueError:
        number = False
    if not number:
        assert refusal(["--temp", text]) == (f'error while handling argument "--temp": got {text!r}, expected a number')


@given(st.lists(st.sampled_from(DOCUMENTED) | st.text(max_size=8) | st.integers().map(str), max_size=6))
def test_any_command_line_is_understood_or_refused_in_words(argv: list[str]) -> None:
    assert outcome(argv)


def outcome(argv: Sequence[str]) -> object:
    """What became of `argv`: settings and action, or the error's text."""
    try:
        line = parse(argv, FLAGS, DEFAULTS)
    except FlagError as error:
        return str(error)
    return line
