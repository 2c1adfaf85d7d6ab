"""How much memory a slot will take, before it has ever run: from the header of its model file."""

import asyncio
from collections import OrderedDict
from pathlib import Path

from gateway.core.errors import StartFailed
from gateway.core.footprint import LoadShape, footprint
from gateway.core.slot import LlamaServer, SlotSpec
from gateway.library.gguf import GgufError, read_header

REMEMBERED = 256


class Needs:
    """Answers in bytes; remembers what it has read until a file changes. Files are read in a thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], int] = OrderedDict()

    async def of(self, spec: SlotSpec) -> int:
        """Return the need of a slot; 0 where nothing can be known. Raises `StartFailed` for an unreadable model."""
        if not isinstance(spec.launch, LlamaServer):
            return 0
        return await asyncio.to_thread(self._look, spec, spec.launch)

    def _look(self, spec: SlotSpec, launch: LlamaServer) -> int:
        try:
            files = [Path(path).stat() for path in (launch.model, launch.mmproj) if path]
        except OSError as error:
            raise StartFailed(
                f"The model file of {spec.id} cannot be read: {error}", hint="Correct its `path`."
            ) from error
        key = (spec.id, *((file.st_mtime_ns, file.st_size) for file in files))
        need = self._known.get(key)
        if need is None:
            need = _need(launch, mmproj_bytes=sum(file.st_size for file in files[1:]))
            self._known[key] = need
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return need


def _need(launch: LlamaServer, *, mmproj_bytes: int) -> int:
    try:
        header = read_header(launch.model)
    except GgufError as error:
        raise StartFailed(str(error), hint="Is it a complete GGUF file?") from error
    shape = LoadShape(
        ctx_size=launch.ctx_size * launch.parallel,
        parallel=launch.parallel,
        cache_type_k=launch.cache_type_k,
        cache_type_v=launch.cache_type_v,
        mmproj_bytes=mmproj_bytes,
    )
    return footprint(header, shape).total
