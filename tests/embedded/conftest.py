"""A tiny model, and the embedded llama-server as a child process that is always ended."""

import json
import queue
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import gguf
import numpy as np
import pytest

PATIENCE = 60.0  # seconds for an event that normally takes a fraction of one
COMMAND = (sys.executable, "-m", "gateway.embedded.llama_server")
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"


class Child:
    """One child process; its log is read as it comes, so that it never waits for its reader."""

    def __init__(self, *flags: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="child's log")
        self._reader.start()
        self.address = ""

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)
        self._lines.put("")

    def logged(self, text: str) -> str:
        """The next line of the log that has `text` in it; fails if the log ends before."""
        seen = []
        while line := self._lines.get(timeout=PATIENCE):
            seen.append(line)
            if text in line:
                return line
        pytest.fail(f"the child ended without saying {text!r}:\n{''.join(seen)}")

    def serving(self) -> Self:
        """Wait until it serves and a signal would end it with 0."""
        # llama.cpp writes its lines piece by piece, so this one may begin in the middle of one of them.
        self.address = self.logged("serving on").partition("serving on ")[2].split()[0]
        return self

    def stopped(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self._process.send_signal(number)
        return self._process.wait(timeout=PATIENCE)

    def close(self) -> None:
        """End it, whatever its state, and everything that was opened for it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def ask(self, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
        """Status and parsed JSON of a GET, or of a POST of `body`."""
        status, text = self.ask_text(path, body, key)
        return status, json.loads(text)

    def ask_text(self, path: str, body: object = None, key: str = "") -> tuple[int, str]:
        """Status and text of a GET, or of a POST of `body`."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


Start = Callable[..., Child]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the llama architecture with random weights: 0.2 MB, loaded in some 10 ms."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    _write_model(path)
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a child with the given flags."""
    children: list[Child] = []

    def start_one(*flags: str) -> Child:
        children.append(Child(*flags))
        return children[-1]

    yield start_one
    for child in children:
        child.close()


@pytest.fixture
def serve(start: Start, tiny_model: Path) -> Start:
    """Start a child on the tiny model and any free port, and wait until it serves."""

    def serve_one(*flags: str) -> Child:
        return start("-m", str(tiny_model), "--port", "0", "-t", "1", *flags).serving()

    return serve_one


def _write_model(path: Path) -> None:
    width, hidden, heads, context = 32, 64, 2, 2048
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(context)
    out.add_embedding_length(width)
    out.add_block_count(1)
    out.add_feed_forward_length(hidden)
    out.add_head_count(heads)
    out.add_head_count_kv(heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(width // heads)
    out.add_chat_template(TEMPLATE)
    vocabulary = _add_vocabulary(out)
    random = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, width),
        "output_norm.weight": (width,),
        "output.weight": (vocabulary, width),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width, width),
        "blk.0.attn_v.weight": (width, width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (hidden, width),
        "blk.0.ffn_up.weight": (hidden, width),
        "blk.0.ffn_down.weight": (width, hidden),
    }
    for name, shape in shapes.items():
        out.add_tensor(name, random.standard_normal(shape).astype(np.float32) * 0.05)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _add_vocabulary(out: gguf.GGUFWriter) -> int:
    """One token per byte in GPT-2's spelling of bytes, one merge, and an end token; returns their number."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + rank) for rank in range(len(others))]
    tokens = [*letters, "th", "<|end|>"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("default")
    out.add_token_list(tokens)
    out.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    out.add_token_merges(["t h"])
    out.add_bos_token_id(len(tokens) - 1)
    out.add_eos_token_id(len(tokens) - 1)
    return len(tokens)
