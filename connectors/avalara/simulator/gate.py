"""What every call passes: credentials, known query parameters, AvaTax's headers, and its error shape."""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from connectors.avalara.sandbox_env import ACCOUNT_ID, LICENSE_KEY
from connectors.avalara.simulator.documents import Switches
from connectors.avalara.simulator.problems import Problem, unauthenticated

Reply: TypeAlias = tuple[int, Any, dict[str, str]]
Handler: TypeAlias = Callable[[Request], Awaitable[Reply]]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

BEARER = "sandbox-bearer-token"


def authenticated(request: Request) -> bool:
    """False: no credentials at all. Raises a 401 `Problem` for wrong ones."""
    header = request.headers.get("authorization", "")
    kind, _, value = header.partition(" ")
    if not header:
        return False
    if kind.lower() == "bearer":
        if value != BEARER:
            raise unauthenticated("BearerTokenInvalid", "The bearer token is not valid.")
        return True
    try:
        pair = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        pair = ""
    if kind.lower() != "basic" or pair != f"{ACCOUNT_ID}:{LICENSE_KEY}":
        raise unauthenticated("AuthenticationException", "Authentication failed.")
    return True


class Gate:
    """Wraps handlers into endpoints. One per simulator; `rng` draws the correlation ids."""

    def __init__(self, switches: Callable[[], Switches], rng: Random) -> None:
        self._switches, self._rng = switches, rng

    def headers(self) -> dict[str, str]:
        if self._switches().omit_correlation_id:
            return {}
        correlation = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        return {"x-correlation-id": correlation, "x-avalara-uid": correlation, "serverduration": "00:00:00.0012345"}

    def respond(self, status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
        content = json.dumps(body, separators=(",", ":")).encode()
        return Response(content, status, {**self.headers(), **(headers or {})}, "application/json; charset=utf-8")

    def endpoint(self, handler: Handler, params: Iterable[str] = (), *, open_to_all: bool = False) -> Endpoint:
        """`params`: the query parameters the call knows, lower case."""
        known = {p.lower() for p in params}

        async def guarded(request: Request) -> Response:
            try:
                if not authenticated(request) and not open_to_all:
                    raise unauthenticated("AuthenticationIncomplete", "Authentication is incomplete.")
                for name in request.query_params:
                    if name.lower() not in known:
                        raise Problem(  # noqa: TRY301 - refusals take one way out
                            "InvalidParameterValue", f"'{name}' is not a parameter of this call.", refers_to=name
                        )
                status, body, headers = await handler(request)
            except Problem as problem:
                return self.respond(problem.status, problem.body)
            return self.respond(status, body, headers)

        return guarded

    async def unknown(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - Starlette's signature
        """A path the API does not have: the web framework's own message, not an AvaTax error."""
        return self.respond(404, {"message": f"No HTTP resource was found that matches '{request.url.path}'."})

    async def wrong_method(self, request: Request, error: Exception) -> Response:  # noqa: ARG002
        return self.respond(
            405, {"message": f"The requested resource does not support http method '{request.method}'."}
        )
