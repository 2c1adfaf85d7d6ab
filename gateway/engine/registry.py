"""What is in force and may be replaced while the gateway runs: one frozen snapshot each, never edited.

`Registry` holds the catalog. Settings of other parts that a reload may change are held in the same way.
"""

from typing import Generic, TypeVar

from gateway.core.catalog import Catalog

T = TypeVar("T")


class Current(Generic[T]):
    """Holds a snapshot. Whoever serves a request reads `current` once and keeps what it got."""

    def __init__(self, snapshot: T) -> None:
        self._current = snapshot

    @property
    def current(self) -> T:
        """The snapshot in force."""
        return self._current

    def replace(self, snapshot: T) -> None:
        """Put another snapshot in force."""
        self._current = snapshot


class Registry(Current[Catalog]):
    """The catalog in force."""
