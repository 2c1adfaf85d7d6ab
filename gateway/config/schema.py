"""The form of the three files, as Pydantic models: which keys there are, their types, bounds and defaults.

Owns what a *single* value may be, and every default of config.yaml. What needs several values together (a
base that does not exist, a host without a key) belongs to `entries`, `build` and `settings`. The docstrings
below the fields are what an editor shows: the shipped JSON Schemas are made from them
(`python -m gateway.config.json_schema`).
"""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from gateway.config.composite import Arguments, Environment, JsonObject, Key, RequestParams
from gateway.config.fields import (
    Budget,
    ByteLimit,
    CacheType,
    CountOrNone,
    Flag,
    GpuLayers,
    Host,
    Lifetime,
    ModelName,
    OneLine,
    Parallel,
    Patience,
    Percent,
    Port,
    Prefix,
    Text,
    Tokens,
    Url,
    Wait,
    one_of,
    whole,
)


class _Section(BaseModel):
    """A mapping with known keys only."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True
    )


class ServerSection(_Section):
    """Where the gateway listens, and who may call it."""

    host: Host = "127.0.0.1"
    """Address to listen on. Another address than this machine's own needs an API key."""
    port: Port = 5846
    """Port to listen on; 0 takes any free one."""
    api_keys: list[Key] = Field(default_factory=list)
    """Keys that callers must show: texts, or mappings with name, key and role (user or admin)."""
    allowed_hosts: list[Host] = Field(default_factory=list)
    """Further names under which clients reach the gateway (the Host header), beside this machine's own."""
    body_limit: ByteLimit = 64_000_000
    """Largest request body, such as 64MB."""
    keepalive_after: Wait = 5.0
    """Time after which a waiting streamed request is sent comment lines, so that its client stays; 0 for never."""
    loading_progress: Flag = False
    """Tell streaming clients in the answer's reasoning that a model is being loaded."""
    timing_headers: Flag = False
    """Tell every client, in x-gateway-* headers, how long the gateway itself took; else only those that ask."""
    drain: Wait = 30.0
    """Time running answers have to finish when the gateway is stopped."""


class ModelsSection(_Section):
    """What holds for every model that does not say otherwise in custom_models.yaml."""

    prefix: Prefix = "ms/"
    """Put before every model name in lists; names are understood with and without it. Empty for none."""
    default_model: ModelName | None = None
    """The model of requests that name none."""
    ctx_size: Tokens = 8192
    """Context of each request, in tokens."""
    parallel: Parallel = 1
    """How many requests one model answers at once."""
    ttl: Lifetime = 1800.0
    """Time a model stays loaded after its last request: seconds, 30m, 0 (not at all), -1 or never."""
    start_timeout: Patience = 300.0
    """Longest time from the start of a model's server until it can answer."""
    demo: Flag = True
    """List the small demo model that comes with the gateway."""


class MemorySection(_Section):
    """How much memory all models together may take."""

    budget: Budget = Field(default="90%", validate_default=True)
    """Percent of this machine's memory, a size such as 48GiB, or none."""
    max_loaded: CountOrNone = None
    """How many models may be loaded at once, or none."""


class QueueSection(_Section):
    """How requests wait for a model."""

    length: Annotated[int, whole("a whole number of requests", 1, 100_000)] = 100
    """How many requests may wait; one more is refused with status 429."""
    timeout: Patience = 300.0
    """Longest time a request waits."""
    turn: Wait = 30.0
    """Time a loaded model keeps serving requests of its own queue while others wait for its memory."""


class TimeoutsSection(_Section):
    """How long a model's server may be silent; no limit is set on a whole answer."""

    connect: Patience = 5.0
    """Longest time until a connection to a model's server is there."""
    first_byte: Wait = 3600.0
    """Longest silence before an answer begins; 0 for no limit."""
    silence: Wait = 600.0
    """Longest silence within an answer; 0 for no limit."""


class LlamaServerSection(_Section):
    """The program that runs the models."""

    program: Text = "auto"
    """auto (llama-server of this machine, else the embedded one), embedded, or the path of a llama-server."""
    stop_grace: Wait = 10.0
    """Time a model's server has to end by itself before it is killed."""
    arguments: Arguments = ()
    """Launch flags for every llama-server."""


class LogSection(_Section):
    """What the gateway writes about its work."""

    level: Annotated[str, one_of("debug", "info", "warning", "error")] = "info"
    """Least severe messages to write."""
    format: Annotated[str, one_of("text", "json")] = "text"
    """Lines for people, or one JSON object a line for programs."""


class FilesSection(_Section):
    """Other files, relative to this one."""

    custom_models: Text | None = None
    """The models; custom_models.yaml beside this file if not given."""
    harmony_models: Text | None = None
    """The models that speak Harmony; harmony_models.yaml beside this file if not given."""


class PressureSection(_Section):
    """When models are unloaded because the machine's memory runs short."""

    threshold: Percent = 75.0
    """Used memory, in percent, above which idle models are unloaded."""
    interval: Patience = 30.0
    """Time between two looks at the memory."""
    min_age: Wait = 5.0
    """Idle time before a model can be unloaded for this."""


class LibrarySection(_Section):
    """Where model files are found."""

    models_dir: Text = "~/.cache/lm-studio/models"
    """Folder of model files: one folder per publisher, each with one folder per model."""
    sync_interval: Patience = 3600.0
    """Time between two looks for new models."""
    hf_home: Text | None = None
    """Cache folder of Hugging Face."""


class OllamaSection(_Section):
    """An Ollama server beside the gateway."""

    base: Url = "http://localhost:11434"
    """Its address."""


class ConfigFile(_Section):
    """The settings of the gateway: config.yaml."""

    server: ServerSection = Field(default_factory=ServerSection)
    models: ModelsSection = Field(default_factory=ModelsSection)
    memory: MemorySection = Field(default_factory=MemorySection)
    queue: QueueSection = Field(default_factory=QueueSection)
    timeouts: TimeoutsSection = Field(default_factory=TimeoutsSection)
    llama_server: LlamaServerSection = Field(default_factory=LlamaServerSection)
    log: LogSection = Field(default_factory=LogSection)
    files: FilesSection = Field(default_factory=FilesSection)
    pressure: PressureSection = Field(default_factory=PressureSection)
    library: LibrarySection = Field(default_factory=LibrarySection)
    ollama: OllamaSection = Field(default_factory=OllamaSection)


class Entry(_Section):
    """One model, or one more name for a model."""

    path: Text | None = None
    """The GGUF file, relative to this file; ~ is your home folder."""
    base_model: ModelName | None = None
    """Another entry, whose settings this one takes over and changes."""
    cmd: Arguments | None = None
    """Full command line of another server, with ${PORT} and, if wanted, ${MODEL_PATH}."""
    aliases: list[ModelName] = Field(default_factory=list)
    """Further names of the same model."""
    display_name: OneLine | None = None
    """Name for people."""
    description: Text | None = None
    """What the model is good for."""
    unlisted: Flag = False
    """Leave it out of lists; requests may name it all the same."""
    sampler_args: Arguments | None = None
    """Flags as llama-server takes them: sampling values travel in the requests, others change the launch."""
    request_params: RequestParams | None = None
    """Request fields: what the alias suggests, or a mapping with suggest, enforce and strip."""
    ctx_size: Tokens | None = None
    """Context of each request, in tokens."""
    parallel: Parallel | None = None
    """How many requests it answers at once."""
    max_concurrent: Parallel | None = None
    """How many requests it is given at once; as many as parallel if not given."""
    ttl: Lifetime = None
    """Time it stays loaded after its last request: seconds, 30m, 0 (not at all), -1 or never."""
    timeout: Patience | None = None
    """Longest time from its start until it can answer."""
    pinned: Flag | None = None
    """Never unload it to make room for another."""
    preload: Flag | None = None
    """Load it when the gateway starts."""
    gpu_layers: GpuLayers = None
    """Layers on the GPU: a number, auto or all."""
    cache_type_k: CacheType | None = None
    """Data type of the key cache."""
    cache_type_v: CacheType | None = None
    """Data type of the value cache."""
    jinja: Flag | None = None
    """Use the model's own chat template through Jinja."""
    chat_template_file: Text | None = None
    """File with another chat template, relative to this file."""
    chat_template_kwargs: JsonObject | None = None
    """Values for the chat template, sent with each request that has none, such as enable_thinking."""
    mmproj: Text | None = None
    """Projector file of a model that sees, relative to this file."""
    embeddings: Flag | None = None
    """The model makes embeddings."""
    reranking: Flag | None = None
    """The model ranks documents."""
    extra_args: Arguments | None = None
    """More flags of llama-server, after those of sampler_args."""
    env: Environment | None = None
    """Environment variables of its server."""


class ModelsFile(_Section):
    """The models: custom_models.yaml."""

    models: dict[ModelName, Entry | None] = Field(default_factory=dict)
    """The models by name, without the prefix."""


class HarmonyFile(_Section):
    """The models that speak Harmony: harmony_models.yaml."""

    harmony_models: list[ModelName] = Field(default_factory=list)
    """Names of models that speak the Harmony format of GPT-OSS."""
