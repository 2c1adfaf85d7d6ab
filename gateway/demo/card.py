"""Keeps the transcript in `CARD.md` true: `python -m gateway.demo.card` asks the model again and rewrites it.

Owns the form of the transcript: in the card's one block of kind `text`, a line that begins with `> ` is a
prompt, and what follows up to the next prompt is the answer. Needs `xllamacpp`, the extra `embedded`.
"""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp

from gateway.demo import model_path

_TRANSCRIPT = re.compile(r"(?<=```text\n).*?(?=```)", re.DOTALL)
_EXCHANGE = re.compile(r"^> (.*)\n((?:(?!> ).*\n?)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A prompt of the card, and the answer to it at temperature 0."""

    prompt: str
    answer: str


def card_path() -> Path:
    """The model's card, beside the model."""
    return Path(__file__).with_name("CARD.md")


def transcript(card: str) -> list[Exchange]:
    """The exchanges that the text of a card shows; `ValueError` if it has no transcript."""
    if (block := _TRANSCRIPT.search(card)) is None:
        raise ValueError("the card has no block of kind `text`; put the prompts there, each on a line after `> `")
    return [Exchange(prompt=prompt, answer=answer.strip("\n")) for prompt, answer in _EXCHANGE.findall(block[0])]


def with_transcript(card: str, exchanges: Sequence[Exchange]) -> str:
    """The card with other exchanges in its transcript."""
    block = "\n".join(f"> {exchange.prompt}\n{exchange.answer}\n" for exchange in exchanges)
    return _TRANSCRIPT.sub(lambda _: block, card, count=1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def serve() -> Any:
    """The demo model in the llama.cpp of this process; it stops when the last reference to it goes."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model_path())
    params.hostnames, params.port = ["127.0.0.1"], _free_port()
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 2048, 1, 1
    params.verbosity = 1
    return xllamacpp.Server(params)


def answer(server: Any, prompt: str) -> str:
    """What the model says to `prompt` at temperature 0."""
    request = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 200}
    text: str = server.handle_chat_completions(request)["choices"][0]["message"]["content"]
    return text


def main() -> None:
    """Ask each prompt of the card again, and write the answers into it."""
    path = card_path()
    card = path.read_text(encoding="utf-8")
    server = serve()
    exchanges = [Exchange(prompt=known.prompt, answer=answer(server, known.prompt)) for known in transcript(card)]
    path.write_text(with_transcript(card, exchanges), encoding="utf-8")


if __name__ == "__main__":
    main()
