"""Is this request signed by Stripe with one of our secrets, and recently?

Scheme: header `Stripe-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>...]`; the signed payload is `<t>.<raw body>`,
the key the whole secret as text, HMAC-SHA256 (Stripe documentation, webhooks, "verify manually"). While a secret is
being rolled Stripe sends one `v1` per active secret, and we may hold several secrets: any pair that matches will do.
Other schemes (`v0` in test mode) are ignored.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from hub.errors import SignatureError

TOLERANCE = 300
"""Seconds a timestamp may lie in the past, and in the future: Stripe's libraries check only the past."""


def verify(body: bytes, header: str | None, secrets: Sequence[bytes], now: float, tolerance: int = TOLERANCE) -> None:
    """Return if the request is good, else raise `SignatureError` with a stable `reason` word."""
    if not header:
        raise SignatureError(
            "missing", "no Stripe-Signature header: this endpoint takes only requests that Stripe signed"
        )
    timestamp, candidates = _parse(header)
    # One digest per secret: a long list of candidates must not make us read the body more often.
    if not any(
        hmac.compare_digest(good, candidate)
        for good in (_digest(secret, timestamp, body) for secret in secrets)
        for candidate in candidates
    ):
        raise SignatureError(
            "mismatch",
            "no v1 signature matches any configured secret: check HUB_STRIPE_WEBHOOK_SECRETS against the endpoint's "
            "signing secret, and that no proxy changes the body",
        )
    age = now - timestamp
    if age > tolerance:
        raise SignatureError(
            "stale", f"the timestamp is {age:.0f} s old, more than {tolerance} s: a replay, or a wrong clock here"
        )
    if age < -tolerance:
        raise SignatureError(
            "future", f"the timestamp is {-age:.0f} s in the future, more than {tolerance} s: is a clock wrong?"
        )


def _parse(header: str) -> tuple[int, list[str]]:
    timestamp: int | None = None
    candidates: list[str] = []
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name == "t" and value.isascii() and value.isdigit() and len(value) <= 12:
            timestamp = int(value)
        elif name == "v1" and value.isascii():
            candidates.append(value)
    if timestamp is None or not candidates:
        raise SignatureError("malformed", "the Stripe-Signature header has no t=<seconds> or no v1=<hex> part")
    return timestamp, candidates[:16]  # Stripe sends at most a few; a longer list is somebody burning our CPU


def _digest(secret: bytes, timestamp: int, body: bytes) -> str:
    return hmac.digest(secret, b"%d.%b" % (timestamp, body), "sha256").hex()


def sign(body: bytes, secret: bytes, timestamp: int) -> str:
    """The header Stripe would send: for `hub bench` and for testing an installation."""
    return f"t={timestamp},v1={_digest(secret, timestamp, body)}"
