"""The sandbox as one ASGI application: five vendors behind their doors, and the side door.

    /stripe /salesforce /netsuite /avalara /s3     the vendors, each wrapped by `door.Door`
    /__sandbox/...                                 `side.Side`

Serve it with uvicorn (any HTTP/1.1 implementation of it), one worker: the vendors live in this process's memory.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.sandbox.background import Background
from connectors.sandbox.door import Door
from connectors.sandbox.faults import Faults
from connectors.sandbox.recorder import Recorder
from connectors.sandbox.side import Side, answer
from connectors.sandbox.traffic import Trade, Webhooks, counts, sender
from connectors.simulator import Clock, Simulator

_CLASSES = {
    "stripe": ("connectors.stripe.simulator", "StripeSimulator"),
    "salesforce": ("connectors.salesforce.simulator", "SalesforceSimulator"),
    "netsuite": ("connectors.netsuite.simulator", "NetSuiteSimulator"),
    "avalara": ("connectors.avalara.simulator", "AvalaraSimulator"),
    "s3": ("connectors.sandbox.s3", "S3Simulator"),
}


class Sandbox(Starlette):
    """Vendors are dispatched before Starlette: their doors need uvicorn's own `send` (see `door`)."""

    simulators: Mapping[str, Simulator]
    recorder: Recorder
    doors: Mapping[str, Door]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            door = self.doors.get(scope["path"][1:].partition("/")[0])
            if door is not None:
                await door(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create(
    *,
    seed: int = 7,
    clock: Clock,
    webhooks: Webhooks | None = None,
    business_rate: float | None = None,
    business_start: int | None = None,
    simulators: Mapping[str, Simulator] | None = None,
) -> Sandbox:
    """The sandbox. `clock`: seconds since the epoch, for all vendors but S3. `simulators`: others than the five.

    With `webhooks` events are delivered, and with `business_rate` (events a second) made-up business goes on by itself,
    from `business_start` (Unix seconds; default: now) on, as fast as that takes;
    both run while the application's lifespan does.
    """
    vendors = dict(simulators) if simulators is not None else _vendors(seed, clock, business_start)
    recorder = Recorder(list(vendors))
    faults = Faults(seed, list(vendors))
    background = Background()
    senders: list[Any] = []

    def about() -> dict[str, Any]:
        sent = [{"url": webhooks.url, **counts(one)} for one in senders] if webhooks else []
        return {"seed": seed, "webhooks": sent, "background": background.status}

    side = Side(vendors, recorder, faults, about)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if webhooks is not None:
                endpoint = sender(vendors["stripe"], webhooks, seed, clock)
                stack.callback(endpoint.close)
                senders.append(endpoint)
                await stack.enter_async_context(background.running("webhooks", endpoint.run()))
            if business_rate is not None:
                trade = Trade(vendors["stripe"], business_rate, seed)
                side.on_reset(trade.restart)
                await stack.enter_async_context(background.running("business", trade.run()))
            yield

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail: dict[str, Any] = {"error": error.detail}
        if error.status_code in (404, 405):
            detail |= {
                "asked": f"{request.method} {request.url.path}",
                "known": [f"/{v}/..." for v in vendors] + side.paths,
            }
        return answer(detail, error.status_code)

    async def failed(_: Request, error: Exception) -> Response:
        response = answer({"error": f"{type(error).__name__}: {error}"}, 500)
        # Starlette raises it again to have it logged, and uvicorn then closes the connection: the client must know.
        response.headers["connection"] = "close"
        return response

    app = Sandbox(
        routes=side.routes(), lifespan=lifespan, exception_handlers={HTTPException: refused, Exception: failed}
    )
    app.router.redirect_slashes = False
    app.simulators, app.recorder = vendors, recorder
    app.doors = {vendor: Door(vendor, simulator, recorder, faults, clock) for vendor, simulator in vendors.items()}
    return app


def _vendors(seed: int, clock: Clock, business_start: int | None) -> dict[str, Simulator]:
    made: dict[str, Simulator] = {}
    for vendor, (module, name) in _CLASSES.items():
        more = {"start": business_start} if vendor == "stripe" else {}
        made[vendor] = getattr(importlib.import_module(module), name)(seed=seed, clock=clock, **more)
    return made
