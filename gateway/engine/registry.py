"""The current catalog: one frozen snapshot, replaced as a whole and never edited."""

from gateway.core.catalog import Catalog


class Registry:
    """Holds the snapshot. Whoever serves a request reads `current` once and keeps what it got."""

    def __init__(self, catalog: Catalog) -> None:
        self._current = catalog

    @property
    def current(self) -> Catalog:
        """The snapshot in force."""
        return self._current

    def replace(self, catalog: Catalog) -> None:
        """Put another snapshot in force."""
        self._current = catalog
