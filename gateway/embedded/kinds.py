"""The words of llama.cpp that stand for its enums: cache types, modes, layer patterns, samplers."""

from gateway.embedded import values as v
from gateway.embedded.values import Kind, Member, Several, Value

_MAX_LAYERS = 10_000
EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"
"""The tensors of all Mixture-of-Experts weights, kept in ordinary memory."""
_NO_SPECULATION = Member(enum="common_speculative_type", name="COMMON_SPECULATIVE_TYPE_NONE")


def _experts_on_cpu(text: str) -> tuple[str, ...]:
    return tuple(rf"blk\.{layer}{EXPERTS}" for layer in range(v.int_within(text, 0, _MAX_LAYERS)))


def _dense_on_cpu(text: str) -> tuple[str, ...]:
    layers = range(v.int_within(text, 0, _MAX_LAYERS))
    return tuple(rf"blk\.{layer}\.ffn_(up|down|gate)\.=CPU" for layer in layers)


def _speculation(text: str) -> tuple[Member, ...]:
    # The C++ default is a list of one NONE, which llama-server's parser keeps in front of what is asked for.
    chosen = tuple(_SPECULATION.convert(word) for word in text.split(","))
    return (_NO_SPECULATION, *(member for member in chosen if isinstance(member, Member)))


def _sampler_letters(text: str) -> str:
    if unknown := set(text) - _SAMPLER_LETTERS.keys():
        raise ValueError(unknown)
    return ";".join(_SAMPLER_LETTERS[letter] for letter in text)


def _effort(text: str) -> Value:
    kwargs: dict[str, str] = {} if text == "default" else {"reasoning_effort": f'"{text}"'}
    if not text.isalnum():
        raise ValueError(text)
    return Several(values={"default_template_kwargs": kwargs})


_SPECULATION = v.members(
    "common_speculative_type",
    {
        word: "COMMON_SPECULATIVE_TYPE_" + word.upper().replace("-", "_")
        for word in [
            "none",
            "draft-simple",
            "draft-eagle3",
            "draft-mtp",
            "draft-dflash",
            "draft-dspark",
            "ngram-simple",
            "ngram-map-k",
            "ngram-map-k4v",
            "ngram-mod",
            "ngram-cache",
        ]
    },
)
_SAMPLER_LETTERS = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
    "i": "infill",
    "a": "adaptive_p",
}
CACHE_TYPE = v.choice("ggml_type", "GGML_TYPE_", "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
PRIORITY = v.members(
    "ggml_sched_priority",
    {
        number: f"GGML_SCHED_PRIO_{name}"
        for number, name in {"-1": "LOW", "0": "NORMAL", "1": "MEDIUM", "2": "HIGH", "3": "REALTIME"}.items()
    },
    metavar="N",
)
FLASH = v.switchable(
    on=Member(enum="llama_flash_attn_type", name="LLAMA_FLASH_ATTN_TYPE_ENABLED"),
    off=Member(enum="llama_flash_attn_type", name="LLAMA_FLASH_ATTN_TYPE_DISABLED"),
    auto=Member(enum="llama_flash_attn_type", name="LLAMA_FLASH_ATTN_TYPE_AUTO"),
)
LOAD_MODE = v.members(
    "llama_load_mode",
    {
        "auto": "LLAMA_LOAD_MODE_AUTO",
        "none": "LLAMA_LOAD_MODE_NONE",
        "mmap": "LLAMA_LOAD_MODE_MMAP",
        "mlock": "LLAMA_LOAD_MODE_MLOCK",
        "mmap+mlock": "LLAMA_LOAD_MODE_MMAP_MLOCK",
        "dio": "LLAMA_LOAD_MODE_DIRECT_IO",
    },
    metavar="MODE",
)
REASONING_FORMAT = v.members(
    "common_reasoning_format",
    {
        "none": "COMMON_REASONING_FORMAT_NONE",
        "auto": "COMMON_REASONING_FORMAT_AUTO",
        "deepseek": "COMMON_REASONING_FORMAT_DEEPSEEK",
        "deepseek-legacy": "COMMON_REASONING_FORMAT_DEEPSEEK_LEGACY",
    },
    metavar="FORMAT",
)
REASONING = v.switchable(
    on=Several(values={"enable_reasoning": 1, "default_template_kwargs": {"enable_thinking": "true"}}),
    off=Several(values={"enable_reasoning": 0, "default_template_kwargs": {"enable_thinking": "false"}}),
    auto=Several(values={"enable_reasoning": -1}),
)
RANK = Member(enum="llama_pooling_type", name="LLAMA_POOLING_TYPE_RANK")
POOLING = v.choice("llama_pooling_type", "LLAMA_POOLING_TYPE_", "none", "mean", "cls", "last", "rank")
SPECULATIVE_SAMPLING = v.among({"greedy": False, "probabilistic": True}, "{greedy,probabilistic}")
LAYER_COUNT = Kind(metavar="N", expected="a number of layers", convert=_experts_on_cpu)
DENSE_COUNT = Kind(metavar="N", expected="a number of layers", convert=_dense_on_cpu)
SPEC_TYPES = Kind(metavar="TYPE,...", expected=_SPECULATION.expected, convert=_speculation)
LETTERS = Kind(metavar="SEQUENCE", expected="letters out of " + "".join(_SAMPLER_LETTERS), convert=_sampler_letters)
EFFORT = Kind(metavar="LEVEL", expected="default, or a level such as low or high", convert=_effort)
SPEC_DEFAULT = _speculation("ngram-mod")
"""What --spec-default chooses."""
NO_MMPROJ_DEVICE = Several(values={"mmproj_device": "none", "mmproj_use_gpu": False})
PRESERVE_REASONING = Several(
    values={
        "preserve_reasoning_specified": True,
        "default_template_kwargs": {"preserve_reasoning": "true"},
    }
)
FORGET_REASONING = Several(
    values={
        "preserve_reasoning_specified": True,
        "default_template_kwargs": {"preserve_reasoning": "false"},
    }
)


def _mmproj_device(text: str) -> Several:
    return NO_MMPROJ_DEVICE if text == "none" else Several(values={"mmproj_device": text})


MMPROJ_DEVICE = Kind(metavar="DEVICE", expected="the name of a device, or none", convert=_mmproj_device)
