"""The `netsuite` library, tamed: our address, our authentication, one pooled HTTP client, exact numbers.

The library is kept for what it knows: host names, default headers, OAuth 1.0 signing. `request()` is the only call of
it used, because its other calls drop the `Location` header, the only place where a written record's internal id is.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import time
import warnings
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx

with warnings.catch_warnings():
    # The library imports authlib's httpx client, which announces that it will move to another HTTP package one day.
    # authlib, when imported, asks for its warnings to be shown always: ours must come after that to count.
    from authlib.deprecate import AuthlibDeprecationWarning

    warnings.filterwarnings("ignore", "The httpx module is deprecated", AuthlibDeprecationWarning)
    from authlib.oauth1.rfc5849.client_auth import ClientAuth
    from authlib.oauth1.rfc5849.signature import generate_signature_base_string
    from netsuite import Config, NetSuiteRestApi, TokenAuth

from connectors.netsuite.auth import TOKEN_PATH, BearerAuth, Certificate
from connectors.netsuite.errors import Reply
from connectors.netsuite.limit import Limit
from connectors.netsuite.settings import NetSuiteSettings
from connectors.netsuite.wire import dumps
from hub.destination import Limit as SharedLimit
from hub.errors import OutcomeError, Retry, Unknown

KEPT = ("content-type", "location", "x-n-operationid")
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Failures before the first byte of the request left."""


def _hmac_sha256(client: Any, request: Any) -> str:
    """OAuth 1.0 HMAC-SHA256 (RFC 5849, 3.4.2). The library's own calls a function that oauthlib has deprecated."""
    key = "&".join(quote(secret or "", safe="~") for secret in (client.client_secret, client.token_secret))
    return b64encode(
        hmac.digest(key.encode(), generate_signature_base_string(request).encode(), hashlib.sha256)
    ).decode()


ClientAuth.register_signature_method("HMAC-SHA256", _hmac_sha256)


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities this machine trusts, as httpx takes them. Read once in a process: that takes a while."""
    return httpx.create_ssl_context()


class NetSuiteClient(NetSuiteRestApi):  # type: ignore[misc] # the library has no types
    """One account, one role. `call` is what the connector uses; it answers a `Reply` or raises `OutcomeError`."""

    def __init__(
        self,
        settings: NetSuiteSettings,
        limit: Limit,
        *,
        clock: Callable[[], float] = time.time,
        shared: SharedLimit | None = None,
    ) -> None:
        """`limit`: requests at once of this process; `shared`: requests a second of all processes."""
        super().__init__(_config(settings), concurrent_requests=settings.concurrency)
        self._base = settings.base_url
        self._limit, self._shared = limit, shared
        self._timeout = settings.request_timeout
        # One client for all requests: the library opens one per request, a TLS handshake each time. Idle connections
        # are kept only briefly, because one closed by NetSuite under our write would look like a lost reply.
        self._http = httpx.AsyncClient(
            verify=_trusted(),
            limits=httpx.Limits(max_keepalive_connections=settings.concurrency, keepalive_expiry=5.0),
            follow_redirects=False,
        )
        self._bearer: BearerAuth | None = None
        if settings.auth == "oauth2":
            certificate = Certificate(settings.client_id or "", settings.certificate_id or "", settings.private_pem)
            self._bearer = BearerAuth(certificate, self._make_url(TOKEN_PATH), self._http, clock)

    def _make_url(self, subpath: str) -> str:
        return f"{self._base}/services/rest{subpath}" if self._base else str(super()._make_url(subpath))

    def _make_auth(self) -> httpx.Auth:
        return self._bearer or super()._make_auth()

    async def _request_impl(self, method: str, subpath: str, **options: Any) -> httpx.Response:
        """In place of the library's: the pooled client, the shared limit, a total timeout, and no log of the body."""
        headers = {**self._make_default_headers(), **options.pop("headers", {})}
        if self._shared is not None:
            await self._shared.turn()
        async with self._limit, asyncio.timeout(self._timeout):
            return await self._http.request(
                method,
                self._make_url(subpath),
                headers=headers,
                auth=self._make_auth(),
                timeout=self._timeout,
                **options,
            )

    async def call(
        self,
        method: str,
        subpath: str,
        *,
        record: str,
        key: str = "",
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; `headers` come on top of the library's. Raises `OutcomeError`: `Retry` if it surely did not
        arrive, `Unknown` if a write may have."""
        content = None if body is None else dumps(body).encode()
        try:
            response = await self.request(
                method, subpath, params=dict(params or {}), content=content, headers=dict(headers or {})
            )
        except NOT_SENT as error:
            raise OutcomeError(
                Retry("UNREACHABLE", f"NetSuite could not be reached: {type(error).__name__}")
            ) from error
        except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
            reason = f"no reply from NetSuite: {type(error).__name__}"
            lost = Unknown(reason) if method != "GET" else Retry("NO_REPLY", reason)
            raise OutcomeError(lost) from error
        kept = {name: response.headers[name] for name in KEPT if name in response.headers}
        return Reply(response.status_code, kept, response.text, record, key)

    async def close(self) -> None:
        await self._http.aclose()


def _config(settings: NetSuiteSettings) -> Config:
    """The library's settings. It demands token credentials even where a bearer token replaces them."""
    secrets = {
        name: value.get_secret_value() if value else ""
        for name, value in (("consumer_secret", settings.consumer_secret), ("token_secret", settings.token_secret))
    }
    token = TokenAuth(consumer_key=settings.consumer_key or "", token_id=settings.token_id or "", **secrets)
    return Config(account=settings.account or "", auth=token)
