"""OAuth 2.0 client credentials with a certificate ("M2M"), as an `httpx.Auth`.

Rules from the NetSuite help, "OAuth 2.0 Client Credentials Flow": the assertion is a JWT signed with PS256/384/512 or
ES256/384/512 (RS256 is refused), `kid` is the certificate id, `aud` the token address, `exp` at most an hour away; the
access token lives an hour and there is no refresh token, so a new one is simply asked for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors.netsuite.errors import credentials
from hub.errors import Answer, OutcomeError, Retry

EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
TOKEN_PATH = "/auth/oauth2/v1/token"  # noqa: S105 - an address, not a secret
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE = 300.0
"""Seconds an assertion is good for; it is used at once, the rest is clock difference."""
TOKEN_TIMEOUT = 30.0
EARLY = 60.0
"""A token is replaced this many seconds before it ends, so that none ends on its way."""


def algorithm_of(pem: str) -> str:
    """The JWT algorithm NetSuite accepts for this private key. ValueError, without the key, if there is none."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("not an unencrypted private key in PEM form") from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in EC_ALGORITHMS:
        return EC_ALGORITHMS[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey):
        return "PS256"
    raise ValueError("NetSuite takes EC keys on P-256, P-384 or P-521, and RSA keys")


class Certificate:
    """Who we are: a client id, a certificate id, and the private key that proves it."""

    def __init__(self, client_id: str, certificate_id: str, pem: str) -> None:
        self.client_id, self.certificate_id = client_id, certificate_id
        self._pem, self._algorithm = pem, algorithm_of(pem)

    def assertion(self, audience: str, now: float) -> str:
        """A signed JWT for the token endpoint at `audience`."""
        claims = {
            "iss": self.client_id,
            "scope": ["rest_webservices"],
            "aud": audience,
            "iat": int(now),
            "exp": int(now + ASSERTION_LIFE),
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(
            claims, self._pem, algorithm=self._algorithm, headers={"kid": self.certificate_id, "typ": "JWT"}
        )


class BearerAuth(httpx.Auth):
    """Signs requests with an access token; asks for a new one when it is old, and once more after a 401."""

    requires_response_body = True

    def __init__(
        self, certificate: Certificate, token_url: str, http: httpx.AsyncClient, clock: Callable[[], float]
    ) -> None:
        self._certificate, self._url, self._http, self._clock = certificate, token_url, http, clock
        self._lock = asyncio.Lock()
        self._token, self._until = "", 0.0

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self._fresh(refused="")
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            # A 401 is answered before anything is done, so the same request may go out once more with a new token.
            request.headers["Authorization"] = f"Bearer {await self._fresh(refused=token)}"
            yield request

    async def _fresh(self, refused: str) -> str:
        """A token that is not old and not `refused`. One task asks; the others wait for it and use what it got."""
        async with self._lock:
            if not self._token or self._token == refused or self._clock() >= self._until:
                self._token, self._until = await self._ask()
            return self._token

    async def _ask(self) -> tuple[str, float]:
        now = self._clock()
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._certificate.assertion(self._url, now),
        }
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT):
                reply = await self._http.post(self._url, data=form, timeout=TOKEN_TIMEOUT)
        except (httpx.TransportError, TimeoutError) as error:
            # Nothing was written: the request itself has not left yet.
            raise OutcomeError(Retry("TOKEN_UNREACHABLE", f"no access token: {type(error).__name__}")) from error
        if reply.status_code in (400, 401, 403):
            raise OutcomeError(credentials(_error_code(reply), reply.status_code))
        try:
            body = reply.json() if reply.is_success else {}
            return str(body["access_token"]), now + float(body["expires_in"]) - EARLY
        except (ValueError, KeyError, TypeError) as error:
            answer = Answer(status=reply.status_code)
            raise OutcomeError(Retry("TOKEN_UNREADABLE", "the token endpoint gave no token", answer=answer)) from error


def _error_code(reply: httpx.Response) -> str:
    try:
        code = reply.json().get("error")
    except (ValueError, AttributeError):
        return "unknown"
    return (
        code
        if code in ("invalid_client", "invalid_grant", "invalid_request", "unauthorized_client", "invalid_scope")
        else "unknown"
    )
