"""llama-server's flags as data: which are sampling values, which change the launch, which are refused.

Owns the tables and nothing else; `sampler_args` reads them. Made from `llama-server --help` (b11669), plus a
few spellings of older builds (`--mlock`, `--no-mmap`). The request fields of the sampling flags were checked
against that server: sent to POST /completion, they come back in its `generation_settings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

ValueKind = Literal["none", "value", "switch", "path", "paths", "place", "two"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchFlag:
    """A flag that changes the launch. `name` stands for all its spellings.

    `kind`: `none` takes no value; `switch` one of on, off and auto, where older spellings had none; `path` a
    file that is read, `paths` several with commas between, `place` a file or folder that may still be made;
    `two` two values. `repeats`: each use adds to the ones before, otherwise the last one holds.
    """

    name: str
    kind: ValueKind
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingFlag:
    """A flag whose value travels in each request as `field`. Bounds are inclusive, `None` for none."""

    field: str
    kind: Literal["whole", "number", "yes", "text", "names", "breaker", "bias", "json"]
    least: float | None = None
    most: float | None = None


# One flag per line: its spellings, after a slash those that negate it, after "=" its kind, "+" if it repeats.
_LAUNCH: Final = """
--backend-sampling -bs
--batch-size -b = value
--cache-idle-slots / --no-cache-idle-slots
--cache-prompt / --no-cache-prompt
--cache-ram -cram = value
--cache-reuse = value
--chat-template = value
--chat-template-file = path
--check-tensors
--checkpoint-min-step -cms = value
--cont-batching -cb / --no-cont-batching -nocb
--context-shift / --no-context-shift
--control-vector = paths +
--control-vector-layer-range = two
--control-vector-scaled = value +
--cpu-mask -C = value
--cpu-mask-batch -Cb = value
--cpu-moe -cmoe
--cpu-range -Cr = value
--cpu-range-batch -Crb = value
--cpu-strict = value
--cpu-strict-batch = value
--ctx-checkpoints --swa-checkpoints -ctxcp = value
--defrag-thold -dt = value
--device -dev = value
--direct-io -dio / --no-direct-io -ndio
--embd-normalize = value
--escape -e / --no-escape
--fit -fit = switch
--fit-ctx -fitc = value
--fit-target -fitt = value
--flash-attn -fa = switch
--grammar-file = path
--image-max-tokens = value
--image-min-tokens = value
--jinja / --no-jinja
--json-schema-file -jf = path
--kv-offload -kvo / --no-kv-offload -nkvo
--kv-unified -kvu / --no-kv-unified -no-kvu
--kv-unified-per-slot = value
--lazy-mode -lzm = value
--load-mode -lm = value
--log-colors = switch
--log-file = place
--log-jsonl / --no-log-jsonl
--log-prefix / --no-log-prefix
--log-prompts-dir = place
--log-timestamps / --no-log-timestamps
--lookup-cache-dynamic -lcd = place
--lookup-cache-static -lcs = path
--lora = paths +
--lora-init-without-apply
--lora-scaled = value +
--main-gpu -mg = value
--media-path = place
--metrics
--mlock
--mmap / --no-mmap
--mmproj-auto / --no-mmproj --no-mmproj-auto
--mmproj-device -mmdev = value
--mmproj-offload / --no-mmproj-offload
--moe-cache-mib = value
--mtmd-batch-max-tokens = value
--n-cpu-ffn -ncffn = value
--n-cpu-moe -ncmoe = value
--no-host
--numa = value
--offline
--op-offload / --no-op-offload
--override-kv = value +
--override-tensor -ot = value +
--perf / --no-perf
--poll = value
--poll-batch = value
--pooling = value
--prefill-assistant / --no-prefill-assistant
--prio = value
--prio-batch = value
--props
--reasoning -rea = switch
--reasoning-budget = value
--reasoning-budget-message = value
--reasoning-effort = value
--reasoning-format = value
--reasoning-preserve / --no-reasoning-preserve
--repack / --no-repack -nr
--reranking --rerank
--reverse-prompt -r = value +
--rope-freq-base = value
--rope-freq-scale = value
--rope-scale = value
--rope-scaling = value
--rpc = value
--skip-chat-parsing / --no-skip-chat-parsing
--slot-prompt-similarity -sps = value
--slot-save-path = place
--slots / --no-slots
--spec-default
--spec-draft-backend-sampling / --no-spec-draft-backend-sampling
--spec-draft-cpu-mask --cpu-mask-draft -Cd = value
--spec-draft-cpu-mask-batch --cpu-mask-batch-draft -Cbd = value
--spec-draft-cpu-moe --cpu-moe-draft -cmoed
--spec-draft-cpu-range --cpu-range-draft -Crd = value
--spec-draft-cpu-strict --cpu-strict-draft = value
--spec-draft-cpu-strict-batch --cpu-strict-batch-draft = value
--spec-draft-device --device-draft -devd = value
--spec-draft-model --model-draft -md = path
--spec-draft-n-cpu-moe --spec-draft-ncmoe --n-cpu-moe-draft -ncmoed = value
--spec-draft-n-max = value
--spec-draft-n-min = value
--spec-draft-n-ubatch = value
--spec-draft-ngl --gpu-layers-draft --n-gpu-layers-draft -ngld = value
--spec-draft-override-tensor --override-tensor-draft -otd = value +
--spec-draft-p-min --draft-p-min = value
--spec-draft-p-split --draft-p-split = value
--spec-draft-poll --poll-draft = value
--spec-draft-poll-batch --poll-batch-draft = value
--spec-draft-prio --prio-draft = value
--spec-draft-prio-batch --prio-batch-draft = value
--spec-draft-sampling = value
--spec-draft-threads --threads-draft -td = value
--spec-draft-threads-batch --threads-batch-draft -tbd = value
--spec-draft-type-k --cache-type-k-draft -ctkd = value
--spec-draft-type-v --cache-type-v-draft -ctvd = value
--spec-ngram-map-k-min-hits = value
--spec-ngram-map-k-size-m = value
--spec-ngram-map-k-size-n = value
--spec-ngram-map-k4v-min-hits = value
--spec-ngram-map-k4v-size-m = value
--spec-ngram-map-k4v-size-n = value
--spec-ngram-mod-n-match = value
--spec-ngram-mod-n-max = value
--spec-ngram-mod-n-min = value
--spec-ngram-simple-min-hits = value
--spec-ngram-simple-size-m = value
--spec-ngram-simple-size-n = value
--spec-synth-len = value
--spec-synth-rates = value
--spec-type = value
--special -sp
--split-mode -sm = value
--spm-infill
--sse-ping-interval = value
--swa-full
--tensor-split -ts = value
--threads -t = value
--threads-batch -tb = value
--threads-http = value
--timeout -to = value
--ubatch-size -ub = value
--ui --webui / --no-ui --no-webui
--verbose --log-verbose -v
--verbosity --log-verbosity -lv = value
--video-ffmpeg-dir = place
--video-fps = value
--video-timestamp-interval = value
--warmup / --no-warmup
--yarn-attn-factor = value
--yarn-beta-fast = value
--yarn-beta-slow = value
--yarn-ext-factor = value
--yarn-orig-ctx = value
"""

# `max_tokens` and not `n_predict`: in a chat request llama-server lets `n_predict` win over the client's own
# `max_tokens`, and the client's `max_completion_tokens` win over `max_tokens`.
SAMPLING: Final[Mapping[str, SamplingFlag]] = MappingProxyType({
    "--temp": SamplingFlag(field="temperature", kind="number", least=0),
    "--temperature": SamplingFlag(field="temperature", kind="number", least=0),
    "--top-k": SamplingFlag(field="top_k", kind="whole"),
    "--top-p": SamplingFlag(field="top_p", kind="number", least=0, most=1),
    "--min-p": SamplingFlag(field="min_p", kind="number", least=0, most=1),
    "--top-nsigma": SamplingFlag(field="top_n_sigma", kind="number"),
    "--top-n-sigma": SamplingFlag(field="top_n_sigma", kind="number"),
    "--typical": SamplingFlag(field="typical_p", kind="number", least=0, most=1),
    "--typical-p": SamplingFlag(field="typical_p", kind="number", least=0, most=1),
    "--xtc-probability": SamplingFlag(field="xtc_probability", kind="number", least=0, most=1),
    "--xtc-threshold": SamplingFlag(field="xtc_threshold", kind="number", least=0, most=1),
    "--repeat-penalty": SamplingFlag(field="repeat_penalty", kind="number", least=0),
    "--repeat-last-n": SamplingFlag(field="repeat_last_n", kind="whole", least=-1),
    "--presence-penalty": SamplingFlag(field="presence_penalty", kind="number"),
    "--frequency-penalty": SamplingFlag(field="frequency_penalty", kind="number"),
    "--dry-multiplier": SamplingFlag(field="dry_multiplier", kind="number", least=0),
    "--dry-base": SamplingFlag(field="dry_base", kind="number", least=0),
    "--dry-allowed-length": SamplingFlag(field="dry_allowed_length", kind="whole", least=0),
    "--dry-penalty-last-n": SamplingFlag(field="dry_penalty_last_n", kind="whole", least=-1),
    "--dry-sequence-breaker": SamplingFlag(field="dry_sequence_breakers", kind="breaker"),
    "--dynatemp-range": SamplingFlag(field="dynatemp_range", kind="number", least=0),
    "--dynatemp-exp": SamplingFlag(field="dynatemp_exponent", kind="number"),
    "--mirostat": SamplingFlag(field="mirostat", kind="whole", least=0, most=2),
    "--mirostat-lr": SamplingFlag(field="mirostat_eta", kind="number"),
    "--mirostat-ent": SamplingFlag(field="mirostat_tau", kind="number"),
    "--adaptive-target": SamplingFlag(field="adaptive_target", kind="number", most=1),
    "--adaptive-decay": SamplingFlag(field="adaptive_decay", kind="number", least=0, most=0.99),
    "--seed": SamplingFlag(field="seed", kind="whole", least=-1),
    "-s": SamplingFlag(field="seed", kind="whole", least=-1),
    "--predict": SamplingFlag(field="max_tokens", kind="whole", least=-1),
    "--n-predict": SamplingFlag(field="max_tokens", kind="whole", least=-1),
    "-n": SamplingFlag(field="max_tokens", kind="whole", least=-1),
    "--keep": SamplingFlag(field="n_keep", kind="whole", least=-1),
    "--samplers": SamplingFlag(field="samplers", kind="names"),
    "--sampler-seq": SamplingFlag(field="samplers", kind="text"),
    "--sampling-seq": SamplingFlag(field="samplers", kind="text"),
    "--grammar": SamplingFlag(field="grammar", kind="text"),
    "--json-schema": SamplingFlag(field="json_schema", kind="json"),
    "-j": SamplingFlag(field="json_schema", kind="json"),
    "--ignore-eos": SamplingFlag(field="ignore_eos", kind="yes"),
    "--logit-bias": SamplingFlag(field="logit_bias", kind="bias"),
    "-l": SamplingFlag(field="logit_bias", kind="bias"),
    "--chat-template-kwargs": SamplingFlag(field="chat_template_kwargs", kind="json"),
})  # fmt: skip

# Flags that are keys of an entry under another name; `-c` and `-np` are treated together, see `sampler_args`.
ENTRY_KEYS: Final[Mapping[str, str]] = MappingProxyType({
    "-c": "ctx_size", "--ctx-size": "ctx_size",
    "-np": "parallel", "--parallel": "parallel",
    "-ngl": "gpu_layers", "--gpu-layers": "gpu_layers", "--n-gpu-layers": "gpu_layers",
    "-ctk": "cache_type_k", "--cache-type-k": "cache_type_k",
    "-ctv": "cache_type_v", "--cache-type-v": "cache_type_v",
    "-mm": "mmproj", "--mmproj": "mmproj",
    "--embedding": "embeddings", "--embeddings": "embeddings",
})  # fmt: skip

_OURS = "the gateway decides it"
_MODEL = "write the file as 'path'; download it first if need be"
_POWER = "it lets a model read files or run programs on this machine"
_ONE = "each server runs one model; the gateway chooses among them"
_LOCAL = "the gateway talks to its servers over the loopback address only"

# Why a flag is refused, and which flags are; shown as "--port is refused here: the gateway decides it".
_REFUSED: Final = (
    (_OURS, "--host --port --reuse-port --path --api-prefix --tags"),
    (_OURS, "--ui-config --webui-config --ui-config-file --webui-config-file"),
    ("the gateway checks keys: server.api_keys in config.yaml", "--api-key --api-key-file"),
    (_LOCAL, "--ssl-key-file --ssl-cert-file"),
    (_LOCAL, "--cors-origins --cors-methods --cors-headers --cors-credentials --no-cors-credentials"),
    ("names are given by this file: the entry's own and 'aliases'", "-a --alias"),
    (
        _MODEL,
        "-m --model -mu --model-url -dr --docker-repo -hf -hfr --hf-repo -hff --hf-file -hft --hf-token",
    ),
    (_MODEL, "-mmu --mmproj-url --embd-gemma-default --vision-gemma-4b-default --vision-gemma-12b-default"),
    (_MODEL, "--fim-qwen-1.5b-default --fim-qwen-3b-default --fim-qwen-7b-default --fim-qwen-30b-default"),
    (_MODEL, "--fim-qwen-7b-spec --fim-qwen-14b-spec --gpt-oss-20b-default --gpt-oss-120b-default"),
    ("download the file and name it as --spec-draft-model", "--spec-draft-hf -hfd -hfrd --hf-repo-draft"),
    (_ONE, "--models-dir --models-preset --models-max --models-autoload --no-models-autoload"),
    (_POWER, "--tools --tools-runtime --mcp-servers-config --mcp-servers-json"),
    (_POWER, "-ag --agent -no-ag --no-agent"),
    (_POWER, "--ui-mcp-proxy --webui-mcp-proxy --no-ui-mcp-proxy --no-webui-mcp-proxy"),
    (
        "it prints something and ends",
        "-h --help --usage --version -cl --cache-list --completion-bash --list-devices",
    ),
    ("use 'ttl', so that the gateway knows what is in memory", "--sleep-idle-seconds"),
    ("without its log nobody can tell why a start failed", "--log-disable"),
    ("it was removed; use --spec-draft-n-max", "--draft --draft-n --draft-max"),
    ("it was removed; use --spec-draft-n-min", "--draft-min --draft-n-min"),
    ("it was removed; use --spec-ngram-simple-size-n or --spec-ngram-mod-n-match", "--spec-ngram-size-n"),
    ("it was removed; use --spec-ngram-simple-size-m", "--spec-ngram-size-m"),
    ("it was removed; use --spec-ngram-simple-min-hits", "--spec-ngram-min-hits"),
)

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {flag: reason for reason, flags in _REFUSED for flag in flags.split()}
)


def _launch_table(text: str) -> Mapping[str, LaunchFlag]:
    table: dict[str, LaunchFlag] = {}
    for line in text.split("\n"):
        spellings, _, kind = line.partition("=")
        words = [word for word in spellings.split() if word != "/"]
        if words:
            value, *repeats = kind.split() or ["none"]
            flag = LaunchFlag(name=words[0], kind=_KINDS[value], repeats=bool(repeats))
            table.update(dict.fromkeys(words, flag))
    return MappingProxyType(table)


_KINDS: Final[Mapping[str, ValueKind]] = {
    "none": "none", "value": "value", "switch": "switch", "path": "path", "paths": "paths",
    "place": "place", "two": "two",
}  # fmt: skip

LAUNCH: Final[Mapping[str, LaunchFlag]] = _launch_table(_LAUNCH)

KNOWN: Final[frozenset[str]] = frozenset((*LAUNCH, *SAMPLING, *ENTRY_KEYS, *REFUSED))
