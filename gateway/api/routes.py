"""The model routes as data: what clients may ask of a model, and how each is carried out."""

from dataclasses import dataclass

from gateway.wire.dialect import ANTHROPIC, OPENAI, RESPONSES, Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRoute:
    """One model route.

    `target`: its path on the model's server. `final`: texts one of which a complete stream contains; empty: streams
    are not expected here. `lists`: fields that must be there as lists. `occupies`: it takes a llama-server slot.
    `sampled`: the alias's sampler values belong into the body.
    """

    path: str
    target: str
    dialect: Dialect = OPENAI
    final: tuple[bytes, ...] = ()
    lists: tuple[str, ...] = ()
    occupies: bool = True
    sampled: bool = False


DONE = (b"\ndata: [DONE]", b"\ndata:[DONE]")  # at the beginning of a line: inside a text the line break is escaped
STOPPED = (b'"stop":true',)
COMPLETED = (b'"response.completed"', b'"response.failed"', b'"response.incomplete"')

_VERSIONED = (
    ModelRoute(path="/chat/completions", target="/v1/chat/completions", final=DONE, lists=("messages",), sampled=True),
    ModelRoute(path="/completions", target="/v1/completions", final=DONE, sampled=True),
    ModelRoute(path="/embeddings", target="/v1/embeddings"),
    ModelRoute(path="/responses", target="/v1/responses", dialect=RESPONSES, final=COMPLETED, sampled=True),
    ModelRoute(
        path="/messages",
        target="/v1/messages",
        dialect=ANTHROPIC,
        final=(b'"message_stop"',),
        lists=("messages",),
        sampled=True,
    ),
    ModelRoute(path="/messages/count_tokens", target="/v1/messages/count_tokens", dialect=ANTHROPIC, occupies=False),
    ModelRoute(path="/rerank", target="/v1/rerank"),
    ModelRoute(path="/reranking", target="/v1/rerank"),
)

_NATIVE = (
    ModelRoute(path="/completion", target="/completion", final=STOPPED, sampled=True),
    ModelRoute(path="/infill", target="/infill", final=STOPPED, sampled=True),
    ModelRoute(path="/tokenize", target="/tokenize", occupies=False),
    ModelRoute(path="/detokenize", target="/detokenize", occupies=False),
    ModelRoute(path="/apply-template", target="/apply-template", occupies=False),
)

# Each path with its route: the versioned ones also without `/v1`, as llama-server and its clients have them.
MODEL_ROUTES: tuple[tuple[str, ModelRoute], ...] = (
    *((prefix + route.path, route) for route in _VERSIONED for prefix in ("/v1", "")),
    *((route.path, route) for route in _NATIVE),
)
