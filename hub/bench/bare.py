"""What the web server can do by itself: the hub's server settings, a body read, its signature checked, nothing stored.

`python -m hub.bench bare`, with `HUB_PORT` and `HUB_STRIPE_WEBHOOK_SECRETS`. The hub's ratio to it is what storing
costs.
"""

from __future__ import annotations

import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hub import signature
from hub.bench.events import PATH
from hub.commands import common
from hub.commands.processes import server


def application(secret: bytes) -> Starlette:
    """The smallest honest webhook endpoint. A wrong signature raises `SignatureError`: a 500 fails the benchmark."""

    async def endpoint(request: Request) -> JSONResponse:
        signature.verify(await request.body(), request.headers.get("stripe-signature"), (secret,), time.time())
        return JSONResponse({"received": True})

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "up"})

    return Starlette(routes=[Route(PATH, endpoint, methods=["POST"]), Route("/readyz", healthz)])


async def serve(secret: bytes, port: int) -> None:
    """Serve until a signal."""
    web = server(application(secret), "127.0.0.1", port, shutdown=1)
    common.on_signals(lambda: setattr(web, "should_exit", True))
    await web.serve()
