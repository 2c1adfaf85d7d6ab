"""What a waiting chat client may be told while its model loads: reasoning text, which clients show folded away."""

from gateway.wire.dialect import event


def reasoning(model: str, request_id: str, beat: int, text: str) -> bytes:
    """Return a chat chunk that carries `text` as `reasoning_content`."""
    delta = {"reasoning_content": text + "\n"} | ({"role": "assistant"} if beat == 0 else {})
    return event(
        {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
        }
    )
