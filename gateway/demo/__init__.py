"""The demo model: small enough to ship, just able to say that the pipe works. See `CARD.md`.

Owns the GGUF in this folder and all that made it. Serving needs `model_path` only; the other modules are for
`python -m gateway.demo.train`, and need packages that the gateway does not.
"""

from pathlib import Path

__all__ = ["model_path"]


def model_path() -> Path:
    """The GGUF file of the demo model, at most 3 MB, in this package's folder."""
    return Path(__file__).with_name("demo.gguf")
