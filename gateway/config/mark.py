"""How a change of a file is seen: by a mark taken before it is read, and compared with a later one."""

import os
from collections.abc import Iterable
from pathlib import Path

Mark = tuple[str, int, int, int, int] | None
"""Where the name leads, inode, size, times of content and of inode in ns; `None` where there is no file.

The time of the inode tells of a file that became readable, and of one that was replaced with its old date.
"""


def mark(path: Path) -> Mark:
    """Return the mark of a file as it is now. Blocks."""
    try:
        stat = path.stat()
        return (os.path.realpath(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError:
        return None


def marks(paths: Iterable[Path]) -> dict[Path, Mark]:
    """Return the marks of several files. Blocks."""
    return {path: mark(path) for path in paths}
