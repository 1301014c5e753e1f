"""The simulated REST API: routes, sessions, the daily budget, and the shapes of answers and errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeAlias

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.salesforce.simulator.oauth import Sessions, TokenError
from connectors.salesforce.simulator.rows import Rows
from connectors.salesforce.simulator.values import RefusedError, number

Handler: TypeAlias = Callable[[Request], Awaitable[Any]]
VERSIONS = range(46, 69)
"""Served as the newest is. Older ones answer 410: upserts answer differently there, which is not simulated."""
LONGEST_URI = 16_384
NOT_FOUND = RefusedError("NOT_FOUND", "The requested resource does not exist", status=404)


class Budget:
    """The org's API calls of a day."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.limit, self.used, self._since = 100_000, 0, clock()
        self.busy = 0
        """How many of the next calls find too many long calls under way."""

    def charge(self) -> None:
        if self._clock() - self._since >= 86_400:
            self.used, self._since = 0, self._clock()
        if self.used >= self.limit:
            raise RefusedError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403)
        if self.busy > 0:
            self.busy -= 1
            raise RefusedError("REQUEST_LIMIT_EXCEEDED", CONCURRENT, status=403)
        self.used += 1

    def header(self) -> dict[str, str]:
        return {"Sforce-Limit-Info": f"api-usage={self.used}/{self.limit}"}


CONCURRENT = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON as Salesforce writes it; a `Decimal` becomes a double."""
    if body is None:
        return Response(status_code=204, headers=headers)
    encoded = orjson.dumps(body, default=_number)
    return Response(encoded, status, {"Content-Type": "application/json;charset=UTF-8", **(headers or {})})


def _number(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(number(value))
    raise TypeError(type(value).__name__)


async def json_body(request: Request) -> dict[str, Any]:
    """The decoded object; numbers with a point as `Decimal`."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedError("UNSUPPORTED_MEDIA_TYPE", "Content-Type header missing or not supported", status=415)
    try:
        body = json.loads(await request.body(), parse_float=Decimal)
    except ValueError:
        raise RefusedError("JSON_PARSER_ERROR", "Unexpected character in the body", status=400) from None
    if not isinstance(body, dict):
        raise RefusedError("JSON_PARSER_ERROR", "The request body is no JSON object", status=400)
    return body


def application(rows: Rows, sessions: Sessions, budget: Budget) -> Starlette:
    """The ASGI application over one org."""

    async def token(request: Request) -> Response:
        try:
            form = (await request.body()).decode("latin-1")
            return answer(sessions.token(form, request.headers.get("authorization", "")))
        except TokenError as error:
            return answer({"error": error.error, "error_description": error.description}, 400)

    async def versions(_: Request) -> Response:
        # Needs no session, is not counted, and bears no limit header.
        return answer([{"label": f"v{v}", "url": f"/services/data/v{v}.0", "version": f"{v}.0"} for v in VERSIONS])

    def guarded(handler: Handler) -> Handler:
        async def run(request: Request) -> Response:
            try:
                _check(request, sessions)
                budget.charge()
                done = await handler(request)
            except RefusedError as error:
                limit = {} if error.status == 401 else budget.header()
                return answer(error.body(), error.status or 400, limit)
            status, body = done if isinstance(done, tuple) else (200, done)
            return answer(body, status, budget.header())

        return run

    async def resources(request: Request) -> Any:
        base = request.url.path.rstrip("/")
        return {name: f"{base}/{name}" for name in ("sobjects", "query", "queryAll", "limits", "composite")}

    async def limits(_: Request) -> Any:
        return {"DailyApiRequests": {"Max": budget.limit, "Remaining": budget.limit - budget.used}}

    data = "/services/data/{version}"
    paths: list[tuple[str, Handler, list[str]]] = [
        ("", resources, ["GET"]),
        ("/limits", limits, ["GET"]),
        ("/query", rows.query, ["GET"]),
        ("/queryAll", rows.query_all, ["GET"]),
        ("/query/{locator}", rows.query_more, ["GET"]),
        ("/sobjects", rows.describe_global, ["GET"]),
        ("/sobjects/{object}/describe", rows.describe, ["GET"]),
        ("/sobjects/{object}", rows.create, ["POST"]),
        ("/sobjects/{object}/{id}", rows.one, ["GET", "PATCH", "DELETE"]),
        ("/sobjects/{object}/{field}/{value:path}", rows.keyed, ["GET", "PATCH", "DELETE"]),
        ("/composite/sobjects/{object}", rows.retrieve, ["GET", "POST"]),
        ("/composite/sobjects/{object}/{field}", rows.upsert_many, ["PATCH"]),
    ]
    routes = [
        Route("/services/oauth2/token", token, methods=["POST"]),
        Route("/services/data", versions, methods=["GET"]),
    ]
    for path, handler, methods in paths:
        routes += [
            Route(data + p, guarded(handler), methods=methods) for p in dict.fromkeys((path, path.rstrip("/") + "/"))
        ]

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            text = f"HTTP Method '{request.method}' not allowed. Allowed are {(error.headers or {}).get('Allow', '')}"
            return answer(RefusedError("METHOD_NOT_ALLOWED", text).body(), 405, budget.header())
        return answer(NOT_FOUND.body(), 404, budget.header())

    handlers: dict[Any, Any] = {HTTPException: refused}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _check(request: Request, sessions: Sessions) -> None:
    """Address, version and session, before anything is counted."""
    if len(str(request.url)) > LONGEST_URI:
        raise RefusedError("URI_TOO_LONG", "The request URI is too long", status=414)
    version = str(request.path_params.get("version", ""))
    whole = version.removeprefix("v").removesuffix(".0")
    if not version.startswith("v") or not version.endswith(".0") or not whole.isdigit() or int(whole) > VERSIONS[-1]:
        raise NOT_FOUND
    if int(whole) < VERSIONS[0]:
        raise RefusedError("UNSUPPORTED_API_VERSION", "The requested API version is retired", status=410)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme not in ("Bearer", "OAuth") or not token:
        raise RefusedError("INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE", status=401)
    if not sessions.known(token):
        raise expired()
    options = request.headers.get("sforce-call-options", "client=none")
    if not all(part.strip().startswith(("client=", "defaultNamespace=")) for part in options.split(",")):
        raise RefusedError("INVALID_HEADER", "Sforce-Call-Options is malformed", status=400)
    if request.headers.get("sforce-duplicate-rule-header", "allowSave=false") not in (
        "allowSave=true",
        "allowSave=false",
    ):
        raise RefusedError("INVALID_HEADER", "Sforce-Duplicate-Rule-Header is malformed", status=400)


def expired() -> RefusedError:
    return RefusedError("INVALID_SESSION_ID", "Session expired or invalid", status=401)
