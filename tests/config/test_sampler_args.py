"""Flags of llama-server, taken apart."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.composite import arguments
from gateway.config.flags import ENTRY_KEYS, KNOWN, LAUNCH, REFUSED, SAMPLING
from gateway.config.sampler_args import Flags, launch_arguments, read_flags


def read(written: str | list[str]) -> Flags:
    return read_flags(arguments(written), lambda path: Path("/folder") / path)


@pytest.mark.parametrize(
    ("written", "fields"),
    [
        ("--top-nsigma 1.5", {"top_n_sigma": 1.5}),
        ("--top_n_sigma=-1", {"top_n_sigma": -1}),
        ("--temp=0.4", {"temperature": 0.4}),
        ("--temperature 1", {"temperature": 1}),
        ("--top-k 40 --top-p .9 --min-p 5e-2", {"top_k": 40, "top_p": 0.9, "min_p": 0.05}),
        ("--typical 0.5 --xtc-probability 0.1 --xtc-threshold 0.2",
         {"typical_p": 0.5, "xtc_probability": 0.1, "xtc_threshold": 0.2}),
        ("--repeat-penalty 1.1 --repeat-last-n -1", {"repeat_penalty": 1.1, "repeat_last_n": -1}),
        ("--presence-penalty -0.5 --frequency-penalty 0.5", {"presence_penalty": -0.5, "frequency_penalty": 0.5}),
        ("--dry-multiplier 0.8 --dry-base 1.75 --dry-allowed-length 2 --dry-penalty-last-n -1",
         {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1}),
        ("--dry-sequence-breaker : --dry-sequence-breaker '*'", {"dry_sequence_breakers": [":", "*"]}),
        ("--dynatemp-range 0.5 --dynatemp-exp 1.2", {"dynatemp_range": 0.5, "dynatemp_exponent": 1.2}),
        ("--mirostat 2 --mirostat-lr 0.1 --mirostat-ent 5", {"mirostat": 2, "mirostat_eta": 0.1, "mirostat_tau": 5}),
        ("--adaptive-target 0.3 --adaptive-decay 0.5", {"adaptive_target": 0.3, "adaptive_decay": 0.5}),
        ("-s 7 -n 100 --keep 4 --ignore-eos", {"seed": 7, "max_tokens": 100, "n_keep": 4, "ignore_eos": True}),
        ("--samplers 'top_k;temperature'", {"samplers": ["top_k", "temperature"]}),
        ("--sampler-seq kt", {"samplers": "kt"}),
        ("-l 15043+1 -l 2-1.5", {"logit_bias": {"15043": 1.0, "2": -1.5}}),
        ("""--json-schema '{"type": "object"}'""", {"json_schema": {"type": "object"}}),
        ("""--grammar 'root ::= "a"'""", {"grammar": 'root ::= "a"'}),
        ("--temp 1 --temp 2", {"temperature": 2}),
    ],
)  # fmt: skip
def test_sampling_flags_become_request_fields(written: str, fields: dict[str, object]) -> None:
    flags = read(written)
    assert flags == Flags(request=flags.request)
    assert flags.request == fields


@pytest.mark.parametrize(
    ("written", "launch"),
    [
        ("--reasoning-format deepseek --reasoning-budget -1",
         ("--reasoning-budget", "-1", "--reasoning-format", "deepseek")),
        ("-fa", ("-fa", "on")),
        ("-fa off -b 512", ("-b", "512", "-fa", "off")),
        ("--flash_attn=auto", ("--flash-attn", "auto")),
        ("-t 4 --no-jinja --cache-ram 0", ("--no-jinja", "--cache-ram", "0", "-t", "4")),
        ("--jinja --no-jinja", ("--no-jinja",)),
        ("--rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 32768",
         ("--rope-scale", "4", "--rope-scaling", "yarn", "--yarn-orig-ctx", "32768")),
        ("--lora a.gguf,b.gguf --lora /c.gguf",
         ("--lora", "/folder/a.gguf,/folder/b.gguf", "--lora", "/c.gguf")),
        ("--slot-save-path slots", ("--slot-save-path", "/folder/slots")),
        ("--control-vector-layer-range 3 7", ("--control-vector-layer-range", "3", "7")),
        ("-ot 'exps=CPU' -ot blk=CPU", ("-ot", "exps=CPU", "-ot", "blk=CPU")),
        ("-md draft.gguf --spec-draft-n-max 8", ("-md", "/folder/draft.gguf", "--spec-draft-n-max", "8")),
    ],
)  # fmt: skip
def test_flags_that_change_the_launch_stay_flags(written: str, launch: tuple[str, ...]) -> None:
    flags = read(written)
    assert (launch_arguments(flags.launch), flags.request, flags.keys, flags.faults) == (launch, {}, {}, [])


def test_files_that_flags_read_are_named_and_others_are_not() -> None:
    flags = read("--lora a.gguf,b.gguf --grammar-file g.gbnf --slot-save-path s --mmproj m.gguf")
    assert flags.files == [Path("/folder") / name for name in ("a.gguf", "b.gguf", "g.gbnf", "m.gguf")]


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        ("-c 4096", {"ctx_size": 4096}),
        ("--ctx-size=32768 -np 4", {"ctx_size": 8192, "parallel": 4}),
        ("-ngl all", {"gpu_layers": 999}),
        ("-ngl auto", {"gpu_layers": None}),
        ("-ctk q8_0 --cache-type-v q4_0", {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}),
        ("--embedding --mmproj m.gguf", {"embeddings": True, "mmproj": Path("/folder/m.gguf")}),
    ],
)
def test_flags_with_a_key_of_their_own_become_that_key(written: str, keys: dict[str, object]) -> None:
    flags = read(written)
    assert (flags.keys, flags.request, flags.launch, flags.faults) == (keys, {}, {}, [])


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("--top-k 1.5", "expected a whole number after --top-k, got '1.5'"),
        ("--temp", "--temp needs a value"),
        ("--temp --top-k 3", "--temp needs a value"),
        ("--temp true", "expected a number after --temp, got 'true'"),
        ("--temp 1e999", "expected a number after --temp, got '1e999'"),
        ("--temp -1", "expected a number of at least 0 after --temp, got -1"),
        ("--mirostat 3", "expected a whole number of at most 2 after --mirostat, got 3"),
        ("--ignore-eos=1", "--ignore-eos takes no value, got '1'"),
        ("--jinja=true", "--jinja takes no value, got 'true'"),
        ("-fa maybe", "expected on, off or auto after -fa, got 'maybe'"),
        ("-c big", "-c: expected a whole number of tokens, got 'big'"),
        ("-ctk q9", "-ctk: expected f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0 or q5_1, got 'q9'"),
        ("-l 15043", "expected a token id and a bias such as 15043+1 after -l, got '15043'"),
        ("-j nothing", "expected a JSON object after -j, got 'nothing'"),
        ("0.4", "expected a flag, got '0.4'; put a value with spaces in quotes"),
        ("--no-such-thing-at-all", "unknown flag '--no-such-thing-at-all'"),
        ("-nglx 3", "unknown flag '-nglx' (did you mean '-ngl'?)"),
    ],
)
def test_what_cannot_be_meant_is_a_fault(written: str, fault: str) -> None:
    assert read(written).faults == [fault]


def test_a_fault_does_not_hide_the_flags_after_it() -> None:
    flags = read("--temp hot stuff --top-k 5 --bogus 1 2 --min-p 0.1")
    assert flags.request == {"top_k": 5, "min_p": 0.1}
    assert len(flags.faults) == 2


def test_each_flag_is_in_exactly_one_table() -> None:
    assert len(KNOWN) == len(LAUNCH) + len(SAMPLING) + len(ENTRY_KEYS) + len(REFUSED)


@given(st.lists(st.one_of(st.sampled_from(sorted(KNOWN)), st.text(max_size=8), st.just("1"), st.just("--x=1"))))
def test_any_list_of_words_is_read_to_its_end(words: list[str]) -> None:
    flags = read_flags(words, Path)
    assert all(flags.faults)
    assert not any(word in REFUSED for values in flags.launch.values() for word in values[:1])


@given(st.permutations(["--temp 0.5", "-t 4", "--jinja", "-b 512", "--top-k 3", "--no-warmup"]))
def test_the_order_of_flags_does_not_matter(words: list[str]) -> None:
    flags = read(" ".join(words))
    assert launch_arguments(flags.launch) == ("--jinja", "-b", "512", "-t", "4", "--no-warmup")
    assert flags.request == {"temperature": 0.5, "top_k": 3}


def test_a_list_of_arguments_may_hold_numbers() -> None:
    assert arguments(["--temp", 0.4, "--top-k", 5]) == ("--temp", "0.4", "--top-k", "5")


def test_a_quote_that_is_never_closed_is_explained() -> None:
    with pytest.raises(ValueError, match=r"cannot be split into arguments \(No closing quotation\)"):
        arguments("--grammar 'root")
