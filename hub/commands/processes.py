"""The long-running processes: `serve` (web), `work` (workers), `sandbox` (five vendors on loopback)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from hub import app, log
from hub.commands import common, reconcile
from hub.config import Settings, VendorSettings
from hub.errors import ConfigError
from hub.guard import Guard, Limits, allow_files

SWEEP_EVERY = 5
"""Ticks of uvicorn, ten a second, between two looks at all connections."""


class Server(uvicorn.Server):
    """uvicorn, with the signals left to us, for a supervisor and its web server live in one process; and guarded."""

    def __init__(self, config: uvicorn.Config, guard: Guard) -> None:
        super().__init__(config)
        self._guard = guard

    async def on_tick(self, counter: int) -> bool:
        """Close the connections that have had their time."""
        if counter % SWEEP_EVERY == 0:
            self._guard.sweep(self.server_state.connections)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield


def server(application: ASGIApp, host: str, port: int, *, shutdown: float, guard: Guard | None = None) -> Server:
    """A configured server: HTTP/1.1 by httptools, guarded, no access log (the intake writes one line per event itself).

    `guard`: what a connection may cost; what is usual if there is none.
    """
    guard = guard or Guard()
    return Server(
        uvicorn.Config(
            application,
            host=host,
            port=port,
            loop="uvloop",
            http=guard.protocol(),
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            proxy_headers=False,  # nothing here looks at the client's address
            backlog=2048,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(shutdown)),
        ),
        guard,
    )


def web_server(core: app.Core, stripe: VendorSettings) -> Server:
    """The hub's own web server, as its settings say."""
    settings = core.settings
    return server(
        app.web(core, stripe), settings.host, settings.port, shutdown=settings.shutdown_seconds, guard=guard_of(core)
    )


def guard_of(core: app.Core) -> Guard:
    """The guard of a port of the hub. Raises this process's limit of open files to what it needs."""
    settings = core.settings
    limits = Limits(
        connections=allow_files(settings.max_connections),
        # A body in chunks of some hundred bytes fits; what is larger is refused by the intake long before.
        message_bytes=2 * settings.max_body_bytes + 65536,
        head_seconds=settings.head_seconds,
        request_seconds=settings.request_seconds,
    )
    return Guard(limits, lambda reason: core.metrics.turned_away.labels(reason).inc())


async def serve(settings: Settings, stripe: VendorSettings, dsn: str) -> None:
    """Run the web process until a signal."""
    log.configure(settings.log_level)
    common.require_port(settings.host, settings.port, "HUB_PORT")
    core = await common.once_there(lambda: app.open_core(settings, stripe, dsn))
    web = web_server(core, stripe)
    common.on_signals(lambda: setattr(web, "should_exit", True))
    spare_the_collector()
    await web.serve()


def spare_the_collector() -> None:
    """What was made at start stays; what a request makes is freed by counting references. Looking for cycles after
    every few hundred objects, as the default is, would take some per cent of the time and find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def work(settings: Settings, stripe: VendorSettings, dsn: str) -> None:
    """Run the worker process until a signal; then finish within `shutdown_seconds` and give the rest back."""
    log.configure(settings.log_level)
    connections = 3 + 2 * len(settings.destinations)
    core = await common.once_there(lambda: app.open_core(settings, stripe, dsn, pool=connections))
    async with reconcile.scheduled(core) as beside:
        workers, close = await common.once_there(lambda: app.make_workers(core, beside=beside))
        stop = asyncio.Event()
        common.on_signals(stop.set)
        try:
            async with _health(core, settings):
                await workers.run(stop, settings.shutdown_seconds)
        finally:
            await close()
            await core.db.close()


@contextlib.asynccontextmanager
async def _health(core: app.Core, settings: Settings) -> AsyncIterator[None]:
    if settings.worker_port is None:
        yield
        return
    health = Starlette(routes=app.health(core))
    web = server(health, settings.host, settings.worker_port, shutdown=1, guard=guard_of(core))
    serving = asyncio.create_task(web.serve())
    try:
        yield
    finally:
        web.should_exit = True
        await serving


async def sandbox(
    *, host: str, port: int, seed: int, webhook_url: str | None, secret: str | None, duplicates: float, disorder: float,
    business: float | None,
) -> None:  # fmt: skip
    """Run the sandbox until a signal."""
    from connectors.sandbox.app import create
    from connectors.sandbox.traffic import Webhooks
    from hub.config import is_loopback

    if not is_loopback(host):
        raise ConfigError([f"the sandbox listens on loopback only, not on {host}: its credentials are public"])
    common.require_port(host, port, "--port")
    webhooks = Webhooks(webhook_url, secret, duplicates, disorder) if webhook_url and secret else None
    application = create(seed=seed, clock=time.time, webhooks=webhooks, business_rate=business)
    web = server(application, host, port, shutdown=2)
    common.on_signals(lambda: setattr(web, "should_exit", True))
    await web.serve()
