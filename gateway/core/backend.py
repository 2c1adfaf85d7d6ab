"""What the engine asks of every kind of backend, and what a backend asks of whatever launches it.

`start` returns when the backend can serve, or raises `StartFailed` having left nothing behind. `stop` is idempotent
and returns only when the memory is really free. `wait_exit` completes when a spawned process dies by itself; for
remote kinds never. `open` performs one exchange and is closed by leaving its `async with`; closing it aborts the
generation. No method looks at any other backend.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRequest:
    """One HTTP exchange to perform: `target` is path and query, names in `headers` are lower case."""

    method: str
    target: str
    headers: Sequence[Header] = ()
    body: bytes = b""
    streaming: bool = False


class Consumer(Protocol):
    """Takes the parts of a body in the very call in which they come off the socket."""

    def take(self, part: bytes) -> bool:
        """Take a part; false asks for no more until `drained` has returned. Must not raise."""

    async def drained(self) -> None:
        """Return when more can be taken."""


class Answer(Protocol):
    """The answer of a model's server: its head is there, its body comes in chunks."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Sequence[Header]:
        """The headers as sent, names in lower case, hop-by-hop headers left out."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise `BackendBroken` if it breaks off, `BackendSilent` if it stalls."""

    async def relay(self, consumer: Consumer) -> None:
        """Hand the rest of the body to `consumer`; return at its end, raise as `chunks` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended: its exit code (negative: the signal), and the last lines of its log."""

    code: int | None
    log: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.code is None:
            return "ended"
        return f"was ended by signal {-self.code}" if self.code < 0 else f"exited with code {self.code}"


class Backend(Protocol):
    """One launched slot. See the module's docstring for the contract."""

    @property
    def served_name(self) -> bytes | None:
        """What the server puts where a model's name belongs in its answers; `None` if it echoes the request's."""

    @property
    def address(self) -> str | None:
        """Where its server answers, for people; `None` while it does not."""

    async def start(self) -> None:
        """Return when it can serve."""

    async def stop(self, grace: float) -> None:
        """Return when it is gone; after `grace` seconds it is killed."""

    async def wait_exit(self) -> Exit:
        """Return when the process has died by itself."""

    def open(self, request: BackendRequest) -> AbstractAsyncContextManager[Answer]:
        """Perform one exchange."""
