"""Embeddings in base64, where the client asked for it and the model's server sent numbers.

Both official SDKs ask for base64 by default, and openai-node 4 reads numbers as garbage without a word.
"""

import base64
import json
from array import array
from typing import Any


def as_base64(body: bytes) -> bytes:
    """Return an embeddings answer with each vector as base64 of little-endian 32-bit floats.

    Vectors that are text already stay as they are, and so does a body that is not such an answer.
    """
    try:
        answer = json.loads(body)
        rows = answer["data"]
        changed = [_encode(row) for row in rows]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return body
    return json.dumps(answer, separators=(",", ":")).encode() if any(changed) else body


def _encode(row: dict[str, Any]) -> bool:
    vector = row["embedding"]
    if not isinstance(vector, list) or not all(isinstance(number, int | float) for number in vector):
        return False
    numbers = array("f", vector)
    if _BIG_ENDIAN:
        numbers.byteswap()
    row["embedding"] = base64.b64encode(numbers.tobytes()).decode()
    return True


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\x00\x01"
