"""Who may use the API: whoever brings the token. One token, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac

CHALLENGE = 'Bearer realm="billing-hub"'
"""`WWW-Authenticate` when no token came (RFC 6750, section 3)."""
REFUSED = f'{CHALLENGE}, error="invalid_token"'
"""The same when one came that is not ours."""


class Token:
    """The configured bearer token. Only its digest is kept, so that comparing takes the same time for any length."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("the API needs a token (HUB_API_TOKEN)")
        self._digest = _digest(token)

    def is_in(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header carries it. The scheme's case does not matter (RFC 9110, section 11.1)."""
        scheme, _, credentials = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and self.is_(credentials.strip())

    def is_(self, candidate: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(_digest(candidate), self._digest)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
