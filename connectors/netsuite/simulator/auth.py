"""Who may call: OAuth 1.0 signatures (token-based authentication) and OAuth 2.0 bearer tokens from certificates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from urllib.parse import parse_qsl, unquote

from joserfc import jwk, jwt
from joserfc.errors import InvalidKeyTypeError, JoseError
from oauthlib.oauth1.rfc5849.signature import (
    collect_parameters,
    verify_hmac_sha256,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.netsuite.simulator.faults import login

ALGORITHMS = ["PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
TOKEN_LIFE = 3600.0
ASSERTION_LIFE = 3600.0
SKEW = 300.0
"""How far a timestamp may be off; NetSuite's own figure is not known for certain."""
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_PAIR = re.compile(r'\s*([A-Za-z_]+)="([^"]*)"\s*')


class Doorkeeper:
    """Checks every request. Nonces and access tokens live here."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        account: str,
        client_id: str,
        certificates: Mapping[str, str],
        tba: Mapping[str, str],
    ) -> None:
        self._clock, self._account, self._client_id, self._tba = clock, account, client_id, dict(tba)
        self._certificates = {name: _key(pem) for name, pem in certificates.items()}
        self._tokens: dict[str, float] = {}
        self._issued = 0
        self._nonces: dict[str, float] = {}
        self._assertions: dict[str, float] = {}

    def expire_tokens(self) -> None:
        """As if an hour had passed for every access token."""
        self._tokens.clear()

    def check(self, request: Request) -> None:
        """Raises the login `NsError` if the request is not properly authorized."""
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and self._tokens.get(rest, 0.0) > self._clock():
            return
        if scheme == "OAuth" and self._signed(request, rest):
            return
        raise login()

    def _signed(self, request: Request, header: str) -> bool:
        given = {m[1]: m[2] for m in map(_PAIR.fullmatch, header.split(",")) if m}
        wanted = {
            "realm": self._account,
            "oauth_signature_method": "HMAC-SHA256",
            "oauth_version": "1.0",
            "oauth_consumer_key": self._tba["consumer_key"],
            "oauth_token": self._tba["token_id"],
        }
        if any(given.get(name) != value for name, value in wanted.items()):
            return False
        stamp, nonce = given.get("oauth_timestamp", ""), given.get("oauth_nonce", "")
        if not stamp.isdigit() or abs(int(stamp) - self._clock()) > SKEW or not nonce or nonce in self._nonces:
            return False
        headers = {"Authorization": request.headers["authorization"]}
        signed = SimpleNamespace(
            http_method=request.method,
            uri=str(request.url.replace(query="")),
            params=collect_parameters(uri_query=request.url.query, headers=headers),
            signature=unquote(given.get("oauth_signature", "")),
        )
        good = verify_hmac_sha256(signed, self._tba["consumer_secret"], self._tba["token_secret"])
        if good:
            self._nonces[nonce] = self._clock()
            if len(self._nonces) > 20_000:  # what is older than this is refused by its timestamp
                self._nonces = {n: t for n, t in self._nonces.items() if t > self._clock() - 2 * SKEW}
        return bool(good)

    def token(self, request: Request, form: str) -> Response:
        """`POST /auth/oauth2/v1/token`: a client assertion for an access token."""
        fields = dict(parse_qsl(form, keep_blank_values=True))
        if fields.get("grant_type") != "client_credentials" or fields.get("client_assertion_type") != ASSERTION:
            return _no("invalid_request")
        if not self._assertion_holds(fields.get("client_assertion", ""), str(request.url)):
            return _no("invalid_client")
        self._issued += 1
        token = f"sandbox-access-token-{self._issued}"
        self._tokens[token] = self._clock() + TOKEN_LIFE
        return JSONResponse({"access_token": token, "expires_in": str(int(TOKEN_LIFE)), "token_type": "bearer"})

    def _assertion_holds(self, assertion: str, address: str) -> bool:
        try:
            token = jwt.decode(assertion, lambda obj: self._certificates[obj.headers()["kid"]], algorithms=ALGORITHMS)
        except (JoseError, KeyError, ValueError):
            return False
        claims, now = token.claims, self._clock()
        scope = claims.get("scope")
        issued, ends, serial = claims.get("iat"), claims.get("exp"), claims.get("jti", assertion)
        if not isinstance(issued, int) or not isinstance(ends, int) or serial in self._assertions:
            return False
        self._assertions[serial] = now
        return (
            token.header.get("typ") == "JWT"
            and claims.get("iss") == self._client_id
            and claims.get("aud") == address
            and "rest_webservices" in (scope if isinstance(scope, list) else str(scope).split(","))
            and issued <= now + SKEW
            and now < ends <= issued + ASSERTION_LIFE
        )


def _key(pem: str) -> jwk.Key:
    try:
        return jwk.ECKey.import_key(pem)
    except InvalidKeyTypeError:
        return jwk.RSAKey.import_key(pem)


def _no(error: str) -> Response:
    return JSONResponse({"error": error}, status_code=400)
