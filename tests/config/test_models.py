"""Entries of custom_models.yaml: what they inherit, what they share, what they become."""

from pathlib import Path

import pytest

from gateway.config.discovery import ModelFile
from gateway.core.alias import Alias
from gateway.core.catalog import Catalog
from gateway.core.slot import Command, LlamaServer, SlotSpec
from tests.config.conftest import Place


def slot_of(catalog: Catalog, name: str) -> SlotSpec:
    return catalog.resolve(name).slot


def llama_of(catalog: Catalog, name: str) -> LlamaServer:
    launch = slot_of(catalog, name).launch
    assert isinstance(launch, LlamaServer)
    return launch


SEED = """
models:
  gemma3:12.2b-q8_0:
    path: a.gguf
    sampler_args: "--top-nsigma 1.5 --min-p 0.05 --temp 1.0"
    ctx_size: 32768
  gemma3-creative:
    base_model: gemma3:12.2b-q8_0
    sampler_args: "--top-nsigma 2.0 --min-p 0.02 --temp 1.4"
    ctx_size: 8192  # smaller context, less memory
  codestral:22.2b-q8_0:
    path: b.gguf
    sampler_args: "--top-nsigma 1.5 --min-p 0.05 --temp 0.4"
    ctx_size: 32768
    ttl: 3600
"""


def test_the_documented_form_of_a_models_file_is_understood(place: Place) -> None:
    place.models(SEED)
    catalog = place.load().catalog
    assert list(catalog.aliases) == ["ms/gemma3:12.2b-q8_0", "ms/gemma3-creative", "ms/codestral:22.2b-q8_0"]
    creative = catalog.resolve("gemma3-creative")
    assert dict(creative.alias.sampling.suggest) == {"top_n_sigma": 2.0, "min_p": 0.02, "temperature": 1.4}
    assert creative.slot.launch == LlamaServer(model=str(place.cwd / "a.gguf"), ctx_size=8192)
    assert slot_of(catalog, "codestral-22.2b-q8_0") == SlotSpec(
        launch=LlamaServer(model=str(place.cwd / "b.gguf"), ctx_size=32768), ttl=3600.0
    )


def test_entries_that_differ_only_in_sampling_share_one_slot(place: Place) -> None:
    place.models("""
models:
  base: {path: a.gguf, sampler_args: --temp 1 --min-p 0.05}
  hot: {base_model: base, sampler_args: --temp 1.4}
  twin: {path: ./a.gguf, sampler_args: --top-k 5}
  thinking: {base_model: base, chat_template_kwargs: {enable_thinking: true}}
  bigger: {base_model: base, ctx_size: 16384}
""")
    catalog = place.load().catalog
    slots = {name: alias.slot for name, alias in catalog.aliases.items()}
    assert slots["ms/base"] == slots["ms/hot"] == slots["ms/twin"] == slots["ms/thinking"]
    assert slots["ms/bigger"] != slots["ms/base"]
    assert len(catalog.slots) == 2
    assert dict(catalog.aliases["ms/hot"].sampling.suggest) == {"temperature": 1.4, "min_p": 0.05}


def test_the_order_of_launch_flags_does_not_make_another_slot(place: Place) -> None:
    place.models("""
models:
  one: {path: a.gguf, sampler_args: --reasoning-format none --jinja -b 512}
  two: {path: a.gguf, sampler_args: -b 512 --reasoning-format none, jinja: true}
""")
    catalog = place.load().catalog
    assert len(catalog.slots) == 1
    assert llama_of(catalog, "one").arguments == ("--jinja", "-b", "512", "--reasoning-format", "none")


def test_an_alias_of_an_alias_inherits_from_both(place: Place) -> None:
    place.models("""
models:
  top: {base_model: middle, sampler_args: --reasoning-budget 0, env: {B: "2"}}
  middle: {base_model: bottom, ttl: 60, sampler_args: --temp 0.4}
  bottom:
    path: a.gguf
    parallel: 4
    description: a coder
    unlisted: true
    sampler_args: --reasoning-budget 512 --top-k 3
    env: {A: 1}
""")
    catalog = place.load().catalog
    assert slot_of(catalog, "top") == SlotSpec(
        launch=LlamaServer(
            model=str(place.cwd / "a.gguf"),
            parallel=4,
            arguments=("--reasoning-budget", "0"),
            environment=(("A", "1"), ("B", "2")),
        ),
        ttl=60.0,
        max_concurrent=4,
    )
    top = catalog.aliases["ms/top"]
    assert dict(top.sampling.suggest) == {"temperature": 0.4, "top_k": 3}
    assert (top.description, top.unlisted) == (None, False)


def test_a_shared_slot_has_the_most_generous_rules_of_its_aliases(place: Place) -> None:
    place.models("""
models:
  one: {path: a.gguf, ttl: 10, timeout: 30, max_concurrent: 1, parallel: 2}
  two: {base_model: one, ttl: 20, timeout: 20, pinned: true}
  three: {base_model: one, ttl: 0, max_concurrent: 2, preload: true}
""")
    catalog = place.load().catalog
    assert list(catalog.slots.values()) == [
        SlotSpec(
            launch=LlamaServer(model=str(place.cwd / "a.gguf"), parallel=2),
            ttl=20.0,
            pinned=True,
            preload=True,
            max_concurrent=2,
            start_timeout=30.0,
        )
    ]


def test_one_alias_that_stays_for_ever_keeps_the_shared_slot_for_ever(place: Place) -> None:
    place.models("models:\n  one: {path: a.gguf, ttl: 10}\n  two: {base_model: one, ttl: never}\n")
    assert slot_of(place.load().catalog, "one").ttl is None


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("0", 0.0), ("-1", None), ("never", None), ("", None), ("null", None), ("90s", 90.0), ("1h30m", 5400.0)],
)
def test_ttl_says_how_long_a_model_stays(place: Place, written: str, seconds: float | None) -> None:
    place.models(f"models:\n  one:\n    path: a.gguf\n    ttl: {written}\n")
    assert slot_of(place.load().catalog, "one").ttl == seconds


def test_what_an_entry_leaves_out_comes_from_config_yaml(place: Place) -> None:
    place.write(
        "config.yaml",
        "models: {ctx_size: 4096, parallel: 3, ttl: never, start_timeout: 60}\n"
        "llama_server: {arguments: -b 256 -ngl 10 --temp 0.7}\n",
    )
    place.models("models:\n  one: {path: a.gguf}\n  two: {path: a.gguf, sampler_args: -ngl all --temp 1}\n")
    catalog = place.load().catalog
    assert slot_of(catalog, "one") == SlotSpec(
        launch=LlamaServer(
            model=str(place.cwd / "a.gguf"), ctx_size=4096, parallel=3, gpu_layers=10, arguments=("-b", "256")
        ),
        ttl=None,
        max_concurrent=3,
        start_timeout=60.0,
    )
    assert llama_of(catalog, "two").gpu_layers == 999
    assert dict(catalog.aliases["ms/two"].sampling.suggest) == {"temperature": 1}


def test_every_key_of_an_entry_reaches_its_slot_or_alias(place: Place) -> None:
    place.write("chat.jinja", "{{ messages }}")
    place.models("""
models:
  all:
    path: a.gguf
    mmproj: b.gguf
    display_name: All of it
    description: Everything at once.
    unlisted: yes
    aliases: [gpt-4o, also]
    gpu_layers: 12
    cache_type_k: q8_0
    cache_type_v: q4_0
    embeddings: true
    reranking: true
    jinja: false
    chat_template_file: chat.jinja
    extra_args: ["-t", 4, --rope_scaling=yarn]
    request_params:
      suggest: {temperature: 0.5}
      enforce: {top_k: 1}
      strip: [seed]
    sampler_args: --temp 1.0 --min-p 0.1
    parallel: 2
    max_concurrent: 8
""")
    catalog = place.load().catalog
    assert list(catalog.aliases) == ["ms/all", "ms/gpt-4o", "ms/also"]
    also = catalog.aliases["ms/also"]
    assert (also.display_name, also.description, also.unlisted) == ("All of it", "Everything at once.", True)
    assert dict(also.sampling.suggest) == {"temperature": 0.5, "min_p": 0.1}
    assert dict(also.sampling.enforce) == {"top_k": 1}
    assert also.sampling.strip == frozenset({"seed"})
    assert slot_of(catalog, "also").max_concurrent == 8
    assert llama_of(catalog, "also") == LlamaServer(
        model=str(place.cwd / "a.gguf"),
        parallel=2,
        gpu_layers=12,
        cache_type_k="q8_0",
        cache_type_v="q4_0",
        embeddings=True,
        mmproj=str(place.cwd / "b.gguf"),
        arguments=(
            "--no-jinja", "--chat-template-file", str(place.cwd / "chat.jinja"),
            "--reranking", "--rope-scaling", "yarn", "-t", "4",
        ),
    )  # fmt: skip


def test_a_flat_mapping_of_request_params_is_what_the_alias_suggests(place: Place) -> None:
    place.models("models:\n  one: {path: a.gguf, request_params: {reasoning_effort: low, top_k: 2}}\n")
    suggested = place.load().catalog.aliases["ms/one"].sampling.suggest
    assert dict(suggested) == {"reasoning_effort": "low", "top_k": 2}


def test_template_values_of_an_alias_add_to_those_of_its_base(place: Place) -> None:
    place.models("""
models:
  one: {path: a.gguf, chat_template_kwargs: {enable_thinking: true, tools: 1}}
  two: {base_model: one, sampler_args: [--chat-template-kwargs, '{"enable_thinking": false}']}
""")
    assert dict(place.load().catalog.aliases["ms/two"].sampling.suggest) == {
        "chat_template_kwargs": {"enable_thinking": False, "tools": 1}
    }


def test_a_command_keeps_its_placeholders_and_its_model(place: Place) -> None:
    place.models("""
models:
  sd:
    path: a.gguf
    cmd: |
      'my server' --port ${PORT} \\
        -m ${MODEL_PATH}
    env: {CUDA_VISIBLE_DEVICES: "0"}
    parallel: 2
    ctx_size: 4096
  sd-fast: {base_model: sd, sampler_args: --temp 0}
""")
    loaded = place.load()
    assert list(loaded.catalog.slots.values()) == [
        SlotSpec(
            launch=Command(
                argv=("my server", "--port", "${PORT}", "-m", "${MODEL_PATH}"),
                model=str(place.cwd / "a.gguf"),
                environment=(("CUDA_VISIBLE_DEVICES", "0"),),
            ),
            max_concurrent=2,
        )
    ]
    assert [str(warning) for warning in loaded.warnings] == [
        "custom_models.yaml:10:5: models.sd.ctx_size: has no effect beside cmd; write it into the command"
    ]


def test_a_path_may_be_absolute_or_in_the_home_folder(place: Place, tmp_path: Path) -> None:
    (place.home / "c d.gguf").write_text("GGUF")
    (tmp_path / "e.gguf").write_text("GGUF")
    place.models(f"models:\n  one: {{path: ~/c d.gguf}}\n  two: {{path: '{tmp_path}/e.gguf'}}\n")
    catalog = place.load().catalog
    assert llama_of(catalog, "one").model == str(place.home / "c d.gguf")
    assert llama_of(catalog, "two").model == str(tmp_path / "e.gguf")


def test_relative_paths_start_at_the_file_that_names_them(place: Place) -> None:
    place.write("config.yaml", "files: {custom_models: sub/models.yaml}\n")
    place.write("sub/x.gguf", "GGUF")
    place.write("sub/models.yaml", "models:\n  one: {path: x.gguf, sampler_args: --lora x.gguf}\n")
    launch = llama_of(place.load().catalog, "one")
    assert launch.model == str(place.cwd / "sub/x.gguf")
    assert launch.arguments == ("--lora", str(place.cwd / "sub/x.gguf"))


@pytest.mark.parametrize(("prefix", "listed"), [("''", "coder"), ("my/", "my/coder"), ("ms/", "ms/coder")])
def test_names_are_listed_with_the_prefix_and_understood_without(place: Place, prefix: str, listed: str) -> None:
    place.write("config.yaml", f"models: {{prefix: {prefix}}}\n")
    place.models("models:\n  coder: {path: a.gguf}\n")
    catalog = place.load().catalog
    assert list(catalog.aliases) == [listed]
    assert catalog.resolve("CODER").alias.name == listed


def test_a_key_may_have_the_prefix_already(place: Place) -> None:
    place.models("models:\n  ms/coder: {path: a.gguf}\n  MS/other: {base_model: coder}\n")
    assert list(place.load().catalog.aliases) == ["ms/coder", "ms/other"]


def test_keys_that_look_like_numbers_or_words_of_yaml_are_names(place: Place) -> None:
    place.models("models:\n  12: {path: a.gguf}\n  on: {base_model: 12}\n")
    assert place.problems() == [
        (
            "custom_models.yaml:3:8: models.on.base_model: "
            "expected a model name (no spaces, at most 200 characters), got 12; put it in quotes"
        )
    ]
    place.models("models:\n  12: {path: a.gguf}\n  on: {base_model: '12'}\n")
    assert list(place.load().catalog.aliases) == ["ms/12", "ms/on"]


def test_the_demo_model_is_listed_without_prefix(place: Place) -> None:
    demo = place.home / "demo.gguf"
    catalog = place.load(demo_model=demo).catalog
    assert list(catalog.aliases) == ["demo"]
    assert slot_of(catalog, "demo") == SlotSpec(
        launch=LlamaServer(model=str(demo), ctx_size=2048, parallel=2), max_concurrent=2
    )


def test_the_demo_model_can_be_switched_off(place: Place) -> None:
    place.write("config.yaml", "models: {demo: off}\n")
    assert dict(place.load(demo_model=place.home / "demo.gguf").catalog.aliases) == {}


def test_a_model_of_ones_own_called_demo_takes_its_place(place: Place) -> None:
    place.models("models:\n  demo: {path: a.gguf}\n")
    catalog = place.load(demo_model=place.home / "demo.gguf").catalog
    assert list(catalog.aliases) == ["ms/demo"]
    assert llama_of(catalog, "demo").model == str(place.cwd / "a.gguf")


def test_discovered_models_are_listed_and_give_entries_their_file(place: Place) -> None:
    place.discovered = {
        "gemma3-12.2b-q8_0": ModelFile(path=Path("/m/g.gguf"), mmproj=Path("/m/p.gguf")),
        "other": ModelFile(path=Path("/m/o.gguf")),
    }
    place.models(
        "models:\n  gemma3:12.2b-q8_0:\n  hot: {base_model: gemma3:12.2b-q8_0}\n  cold: {base_model: ms/other}\n"
    )
    catalog = place.load().catalog
    assert {name: llama_of(catalog, name).model for name in catalog.aliases} == {
        "ms/gemma3:12.2b-q8_0": "/m/g.gguf",
        "ms/hot": "/m/g.gguf",
        "ms/cold": "/m/o.gguf",
        "ms/other": "/m/o.gguf",
    }

    assert {name: llama_of(catalog, name).mmproj for name in ("hot", "cold")} == {"hot": "/m/p.gguf", "cold": None}


def test_an_entry_with_a_file_of_its_own_takes_nothing_of_the_one_that_was_found(place: Place) -> None:
    place.discovered = {"one": ModelFile(path=Path("/m/g.gguf"), mmproj=Path("/m/p.gguf"))}
    place.models("models:\n  one: {path: a.gguf}\n")
    launch = llama_of(place.load().catalog, "one")
    assert (launch.model, launch.mmproj) == (str(place.cwd / "a.gguf"), None)


def test_what_is_odd_about_the_model_files_is_a_warning(place: Place) -> None:
    place.oddities = {place.cwd / "m" / "broken.gguf": "leads nowhere"}
    assert [str(warning) for warning in place.load().warnings] == ["m/broken.gguf: leads nowhere"]


def test_a_folder_of_model_files_that_is_named_and_not_there_is_a_warning(place: Place) -> None:
    assert [str(warning) for warning in place.load(environ={"MODELS_DIR": "nowhere"}).warnings] == [
        f"environment: MODELS_DIR: there is no folder {place.cwd}/nowhere; no model files are found"
    ]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((30,), 8192), ((31,), 4096), ((50,), 4096), ((51,), 2048), ((20, 20), 4096), ((20, 20, 20), 2048)],
)
def test_very_large_models_have_less_context_where_nobody_says_how_much(
    place: Place, sizes: tuple[int, ...], expected: int
) -> None:
    """The files hold no blocks: only their length is large."""
    for number, gib in enumerate(sizes, start=1):
        name = f"x-{number:05}-of-{len(sizes):05}.gguf" if len(sizes) > 1 else "x.gguf"
        with (place.cwd / name).open("wb") as file:
            file.truncate(gib << 30)
    first = f"x-00001-of-{len(sizes):05}.gguf" if len(sizes) > 1 else "x.gguf"
    place.models(f"models:\n  one: {{path: {first}}}\n  two: {{path: {first}, ctx_size: 30000}}\n")
    catalog = place.load().catalog
    assert [llama_of(catalog, name).ctx_size for name in ("one", "two")] == [expected, 30000]


def test_an_alias_is_an_alias_of_the_slot_it_names(place: Place) -> None:
    place.models(SEED)
    catalog = place.load().catalog
    aliases: list[Alias] = list(catalog.aliases.values())
    assert {alias.slot for alias in aliases} == set(catalog.slots)


@pytest.mark.parametrize("name", ["model", "messages", "prompt", "input", "stream"])
def test_an_alias_cannot_decide_what_is_asked(place: Place, name: str) -> None:
    place.models(f"models:\n  one: {{path: a.gguf, request_params: {{{name}: 1}}}}\n")
    assert place.problems() == [
        (
            f"custom_models.yaml:2:23: models.one.request_params: '{name}' belongs to the client's request; "
            "an alias cannot set or remove it"
        )
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("request_params: 5", "request_params: expected a mapping of request fields, got 5"),
        ("request_params: {suggest: {a: 1}, enforc: {b: 1}}",
         ("request_params: expected only suggest, enforce and strip beside each other, got 'enforc' "
         "(did you mean 'enforce'?); move it below suggest")),
        ("request_params: {strip: seed}",
         "request_params: expected strip to be a list of request fields, got 'seed'"),
        ("request_params: {strip: [model]}",
         "request_params: 'model' belongs to the client's request; an alias cannot set or remove it"),
        ("request_params: {enforce: [a]}",
         "request_params: expected enforce to be a mapping of request fields, got ['a']"),
        ("chat_template_kwargs: thinking", "chat_template_kwargs: expected a mapping, got 'thinking'"),
        ("env: [A]", "env: expected a mapping of variable names to values, got ['A']"),
        ("env: {a-b: 1}", "env: expected the name of an environment variable, got 'a-b'"),
        ("env: {A: true}", "env: expected A to be a text or a number, got True; put it in quotes"),
        ("sampler_args: 5", "sampler_args: expected a list or one text of arguments, got 5"),
        ("sampler_args: [--temp, [1]]",
         "sampler_args: expected a list of texts and numbers, got [1] in it; put it in quotes"),
        ("gpu_layers: many", "gpu_layers: expected a number of layers from 0 to 999, auto or all, got 'many'"),
        ("cache_type_k: q8",
         ("cache_type_k: expected f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0 or q5_1, got 'q8' "
         "(did you mean 'q8_0'?)")),
        ("mmproj: none.gguf", "mmproj: there is no file {cwd}/none.gguf"),
        ("chat_template_file: c.jinja", "chat_template_file: there is no file {cwd}/c.jinja"),
        ("extra_args: --lora l.safetensors", "extra_args: there is no file {cwd}/l.safetensors"),
        ("display_name: ''", "display_name: expected one line of text, got ''"),
        ("aliases: other", "aliases: expected a list ([a, b], or one '- ' line for each), got 'other'"),
        ("aliases: [a b]", "aliases[0]: expected a model name (no spaces, at most 200 characters), got 'a b'"),
    ],
)  # fmt: skip
def test_every_value_of_an_entry_is_checked(place: Place, text: str, message: str) -> None:
    place.models(f"models:\n  one:\n    path: a.gguf\n    {text}\n")
    [problem] = place.problems()
    assert problem.split("models.one.", 1)[1] == message.format(cwd=place.cwd)


def test_a_base_with_a_mistake_is_reported_once(place: Place) -> None:
    place.models("models:\n  one: {path: a.gguf, parallel: 0}\n  two: {base_model: one}\n")
    [problem] = place.problems()
    assert problem.startswith("custom_models.yaml:2:23: models.one.parallel: ")


def test_what_is_no_file_of_models_is_a_problem(place: Place) -> None:
    place.models("- one\n")
    assert place.problems() == ["custom_models.yaml:1:1: expected keys and values, got ['one']"]


def test_a_file_that_cannot_be_read_is_a_problem(place: Place) -> None:
    (place.cwd / "custom_models.yaml").mkdir()
    (place.cwd / "config.yaml").write_text("[]")
    assert place.problems() == [
        "config.yaml:1:1: expected sections such as 'server:' and 'models:', got []",
        "custom_models.yaml: cannot be read: Is a directory",
    ]


def test_flags_in_the_environment_of_a_server_are_refused(place: Place) -> None:
    place.models("models:\n  one: {path: a.gguf, env: {LLAMA_ARG_PORT: 1}}\n")
    assert place.problems() == [
        (
            "custom_models.yaml:2:23: models.one.env: LLAMA_ARG_PORT is a flag of llama-server in disguise; "
            "write it in sampler_args"
        )
    ]
