"""`/v1/models`: what there is. Answered from the catalog and the pool's own knowledge; no backend is asked."""

from typing import Any

from aiohttp import web

from gateway.api.keys import POOL, REGISTRY
from gateway.core.alias import Alias
from gateway.core.occupancy import Phase, SlotView
from gateway.core.slot import LlamaServer, SlotId, SlotSpec

# llama.cpp's router and Open WebUI's llama.cpp connection know these words.
STATUS = {
    Phase.COLD: "unloaded",
    Phase.STARTING: "loading",
    Phase.READY: "loaded",
    Phase.DRAINING: "loaded",
    Phase.STOPPING: "unloaded",
}


async def list_models(request: web.Request) -> web.Response:
    """Answer `GET /v1/models`."""
    catalog, view = request.app[REGISTRY].current, request.app[POOL].view()
    data = [_card(alias, catalog.slots[alias.slot], view) for alias in catalog.listed()]
    return web.json_response({"object": "list", "data": data})


async def show_model(request: web.Request) -> web.Response:
    """Answer `GET /v1/models/{id}`; the id may contain slashes, encoded or not."""
    route = request.app[REGISTRY].current.resolve(request.match_info["id"])
    return web.json_response(_card(route.alias, route.slot, request.app[POOL].view()))


def _card(alias: Alias, slot: SlotSpec, view: dict[SlotId, SlotView]) -> dict[str, Any]:
    seen = view.get(alias.slot)
    card: dict[str, Any] = {
        "id": alias.name,
        "object": "model",
        "created": 0,
        "owned_by": "gateway",
        "name": alias.display_name or alias.name,
        "status": {"value": STATUS[seen.phase if seen else Phase.COLD]},
    }
    if alias.description:
        card["description"] = alias.description
    if isinstance(slot.launch, LlamaServer):
        card["context_length"] = slot.launch.ctx_size
    return card
