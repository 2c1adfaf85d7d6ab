"""Vectors in base64 are the same numbers."""

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.embeddings import as_base64

vectors = st.lists(st.floats(width=32, allow_nan=False) | st.integers(-1000, 1000), max_size=20)


@given(st.lists(vectors, min_size=1, max_size=4), st.text(max_size=5))
def test_each_vector_becomes_little_endian_floats(rows: list[list[float]], model: str) -> None:
    data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)]
    answer = json.loads(as_base64(json.dumps({"model": model, "data": data}).encode()))
    assert model == answer["model"]
    for row, changed in zip(rows, answer["data"], strict=True):
        packed = base64.b64decode(changed["embedding"], validate=True)
        assert struct.pack(f"<{len(row)}f", *row) == packed


@given(vectors, st.text(st.characters(exclude_categories=()), max_size=5))
def test_what_is_beside_the_vectors_stays(row: list[float], beside: str) -> None:
    body = {"data": [{"embedding": row, "x": beside}], "usage": {"y": beside}}
    answer = json.loads(as_base64(json.dumps(body).encode()))
    assert beside == answer["data"][0]["x"]
    assert {"y": beside} == answer["usage"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"{}",
        b'{"data":null}',
        b'{"data":[]}',
        b'{"data":["x"]}',
        b'{"data":{"a":1}}',
        b'{"data":[{}]}',
        b'{"data":[{"embedding":"AACAPw=="}]}',
        b'{"data":[{"embedding":[[1.0]]}]}',
        b'{"data":[{"embedding":["1"]}]}',
        b'{"data":[{"embedding":[%s]}]}' % (b"1" * 400),
        b'{"data":[{"embedding":[%s]}]}' % (b"1" * 5000),
        b'{"data":[{"embedding":[1]},{"embedding":[%s]}]}' % (b"1" * 400),
        b"[" * 100_000,
        b'{"error":{"message":"\xff"}}',
    ],
    ids=lambda body: body[:40],
)
def test_what_is_no_answer_with_vectors_stays_as_it_is(body: bytes) -> None:
    assert body == as_base64(body)
