"""The environment that child processes get: the gateway's own, without what is not theirs."""

import re
from collections.abc import Mapping

# llama-server reads every flag from LLAMA_ARG_* too; one left over in a shell would override what the gateway decided.
FOREIGN = re.compile(r"^LLAMA_ARG_|^LLAMA_API_KEY$")
SECRET = re.compile(
    r"(?:^|_)(?:API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?)(?:$|_)", re.IGNORECASE
)


def child_environment(base: Mapping[str, str], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return `base` without secrets and without llama-server's own variables, and `extra` on top as it is."""
    kept = {name: value for name, value in base.items() if not FOREIGN.search(name) and not SECRET.search(name)}
    return kept | dict(extra or {})
