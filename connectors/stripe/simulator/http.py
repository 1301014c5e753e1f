"""Stripe's HTTP manners: who may call, which version, form bodies with brackets, headers of the reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.stripe.sandbox_env import API_KEY
from connectors.stripe.simulator.errors import StripeError, refused
from connectors.stripe.simulator.idempotency import Reply
from connectors.stripe.simulator.schema import api_version
from connectors.stripe.simulator.values import Obj

Perform = Callable[[str, str, Obj, str | None], tuple[str, Reply, bool]]
"""(method, path, raw parameters, idempotency key) -> request id, reply, whether it was replayed."""

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]


def application(perform: Perform) -> Starlette:
    """The ASGI application around the operations."""

    async def endpoint(request: Request) -> Response:
        headers = {}
        try:
            _admit(request.headers)
            params = _params(request, await request.body())
            key = request.headers.get("idempotency-key") if request.method == "POST" else None
            request_id, reply, replayed = perform(request.method, "/" + request.path_params["path"], params, key)
            headers["Request-Id"] = request_id
            if key is not None:
                headers["Idempotency-Key"] = key
            if replayed:
                headers["Idempotent-Replayed"] = "true"
        except StripeError as error:
            reply = Reply(error.status, orjson.dumps(error.body))
            headers = {"Request-Id": "req_refused", **error.headers}
        headers["Stripe-Version"] = api_version()
        return Response(reply.body, reply.status, headers, media_type="application/json")

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=_METHODS)])


def _admit(headers: Mapping[str, str]) -> None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise refused(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth.",
            status=401,
        )
    if key != API_KEY:
        raise refused(f"Invalid API Key provided: {key[:8]}****", status=401, code="api_key_invalid")
    if "stripe-account" in headers or "stripe-context" in headers:
        raise refused("The provided key does not have access to that account.", status=403, code="account_invalid")
    version = headers.get("stripe-version")
    if version != api_version():
        raise refused(f"Invalid Stripe API version: {version}; this simulator speaks {api_version()}.")


def _params(request: Request, body: bytes) -> Obj:
    pairs = request.url.query
    if request.method == "POST" and body:
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind != "application/x-www-form-urlencoded":
            raise refused(
                f"Invalid request (check that your POST content type is application/x-www-form-urlencoded): {kind}"
            )
        try:
            pairs = f"{pairs}&{body.decode()}" if pairs else body.decode()
        except UnicodeDecodeError as error:
            raise refused("Invalid request: the body is not UTF-8.") from error
    return decode_form(pairs)


def decode_form(text: str) -> Obj:
    """`a[b][0][c]=x` -> `{"a": {"b": {"0": {"c": "x"}}}}`; arrays are told from objects by the contract."""
    root: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        match = _KEY.fullmatch(name)
        if match is None:
            raise refused(f"Invalid parameter name: {name[:60]}", param=name[:60])
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        level = root
        for step in path[:-1]:
            inner = level.setdefault(step or str(len(level)), {})
            if not isinstance(inner, dict):
                raise refused(f"Invalid object: {name[:60]}", param=name[:60])
            level = inner
        level[path[-1] or str(len(level))] = value
    return root
