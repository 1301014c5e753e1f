"""What Stripe answered to a read -> what the hub does. Reads change nothing, so nothing here is `Unknown`.

Classes and codes: stripe-python 16 (`_error.py`), docs.stripe.com/error-codes, docs.stripe.com/rate-limits. The message
text is never kept: it may quote what was asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import stripe

from hub.errors import Answer, Defer, Outcome, Reject, Retry

_PAUSE = 300.0
_LIMIT = 2.0
_LONGEST = 3600.0


@dataclass(frozen=True, slots=True)
class Rule:
    """`closed`: nothing can be read until a person acts. `limit`: wait. `refused`: never. `again`: passes by itself."""

    kind: Literal["closed", "limit", "refused", "again"]
    cause: str
    fix: str = ""


CODES: dict[str, Rule] = {
    "lock_timeout": Rule("again", "Stripe is changing the object right now"),  # a 429, but no limit of ours
}
"""By code, before the class is looked at."""

CLASSES: tuple[tuple[type[stripe.StripeError], Rule], ...] = (
    (stripe.RateLimitError, Rule("limit", "Stripe's read limit was reached")),
    (
        stripe.AuthenticationError,
        Rule("closed", "Stripe does not accept our API key", "Renew HUB_STRIPE_API_KEY and restart."),
    ),
    (
        stripe.PermissionError,
        Rule(
            "closed", "our API key may not read this", "Give the restricted key read access to all billing resources."
        ),
    ),
    (
        stripe.InvalidRequestError,
        Rule(
            "refused",
            "Stripe refused to read the object",
            "Check the id in Stripe's dashboard; if it is right, the hub and the API version do not fit: report it.",
        ),
    ),
    (stripe.APIConnectionError, Rule("again", "the connection to Stripe failed")),
    (stripe.StripeError, Rule("again", "Stripe had trouble")),
)
"""The first class that fits."""


def judge(error: stripe.StripeError) -> Outcome:
    """The outcome of a read that raised, when the object is not simply missing (`is_missing`)."""
    code, answer = code_of(error), answer_of(error)
    rule = _rule(error)
    named = code or type(error).__name__
    cause = f"{rule.cause} ({named})"
    if rule.kind == "limit":
        return Defer(cause, retry_after(error) or _LIMIT, answer=answer)
    if rule.kind == "closed":
        return Defer(f"{cause}. {rule.fix}", _PAUSE, pause=True, answer=answer)
    if rule.kind == "refused":
        return Reject(named, f"{cause}.", rule.fix, answer)
    return Retry(named, cause, retry_after(error), answer)


def _rule(error: stripe.StripeError) -> Rule:
    return CODES.get(code_of(error) or "") or next(rule for kind, rule in CLASSES if isinstance(error, kind))


def is_limit(error: stripe.StripeError) -> bool:
    """Whether we read too much; a lock timeout, which is a 429 as well, says nothing of that."""
    return _rule(error).kind == "limit"


def is_missing(error: stripe.StripeError) -> bool:
    """404 `resource_missing`, or a v2 `not_found`; not a 404 for an address Stripe does not know."""
    return error.http_status == 404 and code_of(error) in ("resource_missing", "not_found")


def code_of(error: stripe.StripeError) -> str | None:
    """Stripe's code. On rate limits `error.code` is None and the code only in the body (library source)."""
    body: Any = error.json_body
    inner = body.get("error") if isinstance(body, dict) else None
    found = inner.get("code") if isinstance(inner, dict) else None
    return found if isinstance(found, str) else None


def retry_after(error: stripe.StripeError) -> float | None:
    """`Retry-After` in seconds, if there is a sensible one. Stripe's library ignores it (changelog 15.3.1)."""
    headers: Any = error.headers or {}
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), _LONGEST) if math.isfinite(seconds) else None


def answer_of(error: stripe.StripeError) -> Answer:
    """Status, request id, code, and which limit it was."""
    headers: Any = error.headers or {}
    known = {
        "code": code_of(error),
        "limited": headers.get("stripe-rate-limited-reason"),
        "param": getattr(error, "param", None),
    }
    return Answer(error.http_status, error.request_id, {name: value for name, value in known.items() if value})
