"""The token endpoint: client credentials and JWT bearer, as External Client Apps offer them.

User name and password, and refresh tokens, are refused: nothing in this org issues them. Wording of `error_description`
follows Salesforce Help and public reports; for an expired or badly signed assertion it is not known.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import jwt

from connectors.salesforce.sandbox_env import CLIENT_ID, CLIENT_SECRET, DOMAIN
from connectors.simulator import Clock

AUDIENCES = ["https://login.salesforce.com", "https://test.salesforce.com"]
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME = 7200.0


class TokenError(Exception):
    """`error` and `error_description`, with HTTP 400."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error, self.description = error, description


class Sessions:
    """Registered credentials and the sessions handed out."""

    def __init__(self, seed: int, clock: Clock, org: str, user: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - tokens of a simulator
        self._clock, self._org, self._user = clock, org, user
        self._valid: dict[str, float] = {}
        self._certificates: dict[str, tuple[str, str]] = {}
        self.logins = 0
        self.login_limit: int | None = None
        self.run_as = True
        """Whether the app names a user for the client credentials flow."""

    def register(self, client_id: str, username: str, public_key_pem: str) -> None:
        """An app whose certificate has this key, pre-authorized for this user."""
        self._certificates[client_id] = (username, public_key_pem)

    def expire(self) -> None:
        """End every session."""
        self._valid.clear()

    def known(self, token: str) -> bool:
        return self._valid.get(token, 0.0) > self._clock()

    def token(self, form: str, authorization: str) -> dict[str, Any]:
        """Answer a token request. Raises `TokenError`."""
        self.logins += 1
        if self.login_limit is not None and self.logins > self.login_limit:
            raise TokenError("invalid_grant", "login rate exceeded")
        given = {k: v[0] for k, v in parse_qs(form).items()}
        grant = given.get("grant_type", "")
        if grant == "client_credentials":
            self._client(given, authorization)
        elif grant == JWT_GRANT:
            self._assertion(given.get("assertion", ""))
        else:
            raise TokenError("unsupported_grant_type", "grant type not supported")
        return self._issue()

    def _client(self, given: Mapping[str, str], authorization: str) -> None:
        client, secret = given.get("client_id", ""), given.get("client_secret", "")
        if authorization.startswith("Basic "):
            try:
                client, _, secret = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise TokenError("invalid_client", "invalid client credentials") from None
        if client != CLIENT_ID:
            raise TokenError("invalid_client_id", "client identifier invalid")
        if not hmac.compare_digest(secret.encode(), CLIENT_SECRET.encode()):
            raise TokenError("invalid_client", "invalid client credentials")
        if not self.run_as:
            raise TokenError("invalid_grant", "no client credentials user enabled")

    def _assertion(self, assertion: str) -> None:
        try:
            client = str(jwt.decode(assertion, options={"verify_signature": False}).get("iss"))
            if client not in self._certificates:
                raise TokenError("invalid_client_id", "client identifier invalid")
            username, key = self._certificates[client]
            # The expiry is held against the simulator's own clock.
            claims = jwt.decode(assertion, key, algorithms=["RS256"], audience=AUDIENCES, options={"verify_exp": False})
            left = int(claims["exp"]) - self._clock()
        except jwt.InvalidAudienceError:
            raise TokenError("invalid_grant", "audience is invalid") from None
        except (jwt.InvalidTokenError, KeyError, ValueError):
            raise TokenError("invalid_grant", "invalid assertion") from None
        if not 0 < left <= 300:  # Salesforce takes at most five minutes, less its allowance for skewed clocks
            raise TokenError("invalid_grant", "expired assertion")
        if claims.get("sub") != username:
            raise TokenError("invalid_grant", "user hasn't approved this consumer")

    def _issue(self) -> dict[str, Any]:
        now = self._clock()
        token = f"{self._org[:15]}!{self._random.getrandbits(160):040x}"
        self._valid = {t: end for t, end in self._valid.items() if end > now}
        self._valid[token] = now + LIFETIME
        identity = f"https://login.salesforce.com/id/{self._org}/{self._user}"
        issued = str(int(now * 1000))
        signed = hmac.new(CLIENT_SECRET.encode(), (identity + issued).encode(), hashlib.sha256).digest()
        return {
            "access_token": token,
            "signature": base64.b64encode(signed).decode(),
            "scope": "api",
            "instance_url": f"https://{DOMAIN}.salesforce.com",
            "id": identity,
            "token_type": "Bearer",
            "issued_at": issued,
        }
