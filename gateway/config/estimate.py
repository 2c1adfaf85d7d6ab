"""The context of models of which nobody said how much they are to have: the larger the file, the less."""

import re
from pathlib import Path
from typing import Final

_GIB: Final = 1 << 30
# Above this many bytes, this many tokens: the values of model_serve, whose set-ups are to work as they are.
_STEPS: Final = ((50 * _GIB, 2048), (30 * _GIB, 4096))
_PART: Final = re.compile(r"(.*-)\d{5}(-of-\d{5}\.gguf)", re.DOTALL)


def estimated_context(model: Path, default: int) -> int:
    """Return a context size in tokens for a model file; `default` for all but very large ones. Blocks."""
    size = _size_of(model)
    return next((tokens for above, tokens in _STEPS if size > above), default)


def _size_of(model: Path) -> int:
    """Return the bytes of a model with all its parts; 0 where they cannot be seen."""
    name = _PART.fullmatch(model.name)
    try:
        if name is None:
            return model.stat().st_size
        parts = [
            it
            for it in model.parent.iterdir()
            if (other := _PART.fullmatch(it.name)) and other.groups() == name.groups()
        ]
        return sum(part.stat().st_size for part in parts)
    except OSError:
        return 0
