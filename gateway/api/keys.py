"""Typed keys of what the application and each request carry."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from gateway.core.access import ApiKey, Principal
from gateway.engine.facts import Facts
from gateway.engine.journal import Journal
from gateway.engine.pool import Pool
from gateway.engine.registry import Current, Registry
from gateway.engine.tasks import Tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """Settings of the HTTP side: sizes in bytes, times in seconds.

    `keepalive_after`: silence after which a waiting stream gets its first sign of life, and the gap between them.
    `timing_headers`: tell every client how long the gateway itself took, not only those that wish it.
    `allowed_hosts`: names beside loopback's that the Host header may carry when no key is configured.
    """

    keys: tuple[ApiKey, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    body_limit: int = 64 << 20
    keepalive_after: float = 5.0
    loading_progress: bool = False
    timing_headers: bool = False


OPTIONS = web.AppKey("options", Current[ApiOptions])
POOL = web.AppKey("pool", Pool)
TASKS = web.AppKey("tasks", Tasks)
REGISTRY = web.AppKey("registry", Registry)
SCRAPING = web.AppKey("scraping", asyncio.Lock)
JOURNAL = web.AppKey("journal", Journal)

FACTS = web.RequestKey("facts", Facts)
PRINCIPAL = web.RequestKey("principal", Principal)
