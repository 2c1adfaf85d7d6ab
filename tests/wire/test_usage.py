"""Token counts in answers as real servers give them, streamed and whole."""

import pytest

from gateway.wire.usage import Meter, Usage, usage_of

OPENAI = (
    b'"usage":{"completion_tokens":3,"prompt_tokens":21,"total_tokens":24,"prompt_tokens_details":{"cached_tokens":20}}'
)
TIMINGS = b'"timings":{"cache_n":20,"prompt_n":1,"prompt_ms":29.947,"predicted_n":3,"predicted_ms":0.485}'
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
    b'{"cache_read_input_tokens":20,"input_tokens":1,"output_tokens":0}}}\n\n'
)
DELTA = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":3}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
CHUNK = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def streamed(*parts: bytes) -> Meter:
    """Return a meter through which `parts` have passed."""
    meter = Meter()
    for part in parts:
        assert part == meter.feed(part)
    assert b"" == meter.close()
    return meter


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"choices":[],' + OPENAI + b',"id":"x",' + TIMINGS + b"}", Usage(21, 3)),
        (b'{"content":"hi",' + TIMINGS + b"}", Usage(21, 3)),
        (b'{"usage":{"cache_read_input_tokens":20,"input_tokens":1,"output_tokens":3}}', Usage(21, 3)),
        (b'{"model":"m","usage":{"prompt_tokens":4,"total_tokens":4},"data":[' + b"0," * 9000 + b"0]}", Usage(4, None)),
        (b'{"usage":null}', Usage()),
        (b'{"tokens":[1,2]}', Usage()),
        (b"", Usage()),
    ],
)
def test_a_whole_answers_counts_are_found(body: bytes, expected: Usage) -> None:
    assert expected == usage_of(body)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((CHUNK, b'data: {"choices":[],' + OPENAI + b"}\n\n", DONE), Usage(21, 3)),
        ((CHUNK, b'data: {"choices":[],' + TIMINGS + b"}\n\n" + DONE), Usage(21, 3)),
        ((START, *[CHUNK] * 50, DELTA, STOP), Usage(21, 3)),
        ((START + CHUNK + DELTA + STOP,), Usage(21, 3)),
        ((START, CHUNK), Usage(21)),
        ((CHUNK, CHUNK), Usage()),
        ((CHUNK, b'data: {"choices":[],"us', b'age":{"prompt_tokens":1,"completion_', b'tokens":2}}\n\n'), Usage(1, 2)),
    ],
)
def test_a_streams_counts_are_found(parts: tuple[bytes, ...], expected: Usage) -> None:
    assert expected == streamed(*parts).usage()


def test_words_of_the_model_are_not_taken_for_counts() -> None:
    body = rb'{"content":"{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9}}"}'
    assert Usage() == usage_of(body)


def test_events_are_counted() -> None:
    assert 3 == streamed(CHUNK + CHUNK, DONE).events
