"""What an operator asks: is it alive, what runs, unload it."""

from typing import Any

from aiohttp import web

from gateway.api.keys import POOL, REGISTRY
from gateway.core.catalog import Catalog
from gateway.core.occupancy import Phase, SlotView
from gateway.core.slot import SlotId


async def health(_request: web.Request) -> web.Response:
    """Answer `GET /health`: the gateway itself is alive. Open and cheap."""
    return web.json_response({"status": "healthy"})


async def ready(_request: web.Request) -> web.Response:
    """Answer `GET /ready`: requests are taken. The listener is only opened when they are."""
    return web.json_response({"status": "ready"})


async def index(_request: web.Request) -> web.Response:
    """Answer `GET /` and `HEAD /`, which some clients send to see whether anybody is there."""
    return web.json_response({"service": "model-gateway", "models": "/v1/models", "health": "/health"})


async def running(request: web.Request) -> web.Response:
    """Answer `GET /running`: every slot that is loaded or wanted, by the name of its first alias."""
    catalog, pool = request.app[REGISTRY].current, request.app[POOL]
    now = pool.loop.time()
    rows = [
        _row(slot, view, _names(catalog, slot), pool.address(slot), now)
        for slot, view in pool.view().items()
        if view.phase is not Phase.COLD or view.waiting
    ]
    return web.json_response({"running": sorted(rows, key=lambda row: str(row["model"]))})


async def unload(request: web.Request) -> web.Response:
    """Answer `POST /unload`: let one model, or all, finish what runs, and return when they are gone."""
    catalog, pool = request.app[REGISTRY].current, request.app[POOL]
    name = request.query.get("model")
    loaded = [slot for slot, view in pool.view().items() if view.phase is not Phase.COLD]
    slots = [catalog.resolve(name).slot.id] if name is not None else loaded
    await pool.unload(slots)
    return web.json_response({"unloaded": sorted(_name(catalog, slot) for slot in slots if slot in loaded)})


def _row(slot: SlotId, view: SlotView, names: list[str], address: str | None, now: float) -> dict[str, Any]:
    return {
        "model": names[0] if names else slot,
        "aliases": names[1:],
        "slot": slot,
        "state": view.phase.value,
        "proxy": address,
        "ttl": view.spec.ttl,
        "pinned": view.spec.pinned,
        "requests": view.running,
        "waiting": view.waiting,
        "idle": round(now - view.last_used, 3) if not view.running and view.last_used else 0,
        "memory": view.need,
    }


def _names(catalog: Catalog, slot: SlotId) -> list[str]:
    return [alias.name for alias in catalog.aliases.values() if alias.slot == slot]


def _name(catalog: Catalog, slot: SlotId) -> str:
    return next(iter(_names(catalog, slot)), slot)
