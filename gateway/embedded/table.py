"""Every flag of llama-server, and what it becomes in `CommonParams` of the xllamacpp wheel.

Data only, by llama-server build 11669 and the wheel of llama.cpp build 11549. Each row was compared with what
llama.cpp's own parser, which is compiled into that wheel but not reachable from Python, makes of the same
words.
"""

from collections.abc import Mapping
from typing import Final

from gateway.embedded.engine_flags import COMMON, SAMPLING
from gateway.embedded.flags import Flag
from gateway.embedded.server_flags import SERVER, SPECULATIVE
from gateway.embedded.values import Value

FLAGS: Final[tuple[Flag, ...]] = (*COMMON, *SAMPLING, *SPECULATIVE, *SERVER)

DEFAULTS: Final[Mapping[str, Value]] = {
    "port": 8080,
    "n_parallel": -1,
    "default_template_kwargs": {"preserve_reasoning": "true"},
}
"""Where llama-server starts from something else than a new `CommonParams` does. The port is llama.cpp's; a
distribution may have chosen another (Debian: 9931), so whoever starts a server should name it."""
