"""`GET /v1/events`: what happened in a span of time, each event in the bytes Stripe wrote.

Stripe keeps events for 30 days and lists them newest first (API reference, "List all events"); each comes in the API
version it was rendered in. `delivery_success` is not asked for: it speaks of all the account's endpoints at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

from connectors.stripe.client import Api
from hub.errors import OutcomeError, Retry

PAGE = 100
"""The most Stripe gives at once."""
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


async def events(api: Api, created_from: int, created_to: int) -> AsyncIterator[list[bytes]]:
    """Pages of events with `created_from <= created < created_to` (Unix seconds), newest first. Raises
    `OutcomeError`.
    """
    created = {"gte": created_from, "lt": created_to}
    after: dict[str, str] = {}
    while True:
        body = await api.get("/v1/events", limit=PAGE, created=created, **after)
        if body is None:
            raise _odd("is not there")
        more = body.json().get("has_more")
        page = elements(body.text, "data")
        if page:
            yield page
        if not more:
            return
        last = json.loads(page[-1]).get("id") if page else None
        if not isinstance(last, str) or last == after.get("starting_after"):
            raise _odd("does not come to an end")
        after = {"starting_after": last}


def elements(text: str, field: str) -> list[bytes]:
    """The elements of the array `field` of a JSON object, each as it is written there: reading and writing them again
    could change a number. Raises `OutcomeError` if there is no such array.
    """
    at = _expect(text, 0, "{")
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _expect(text, at, ":")
        if name == field:
            return _array(text, at)
        _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    raise _odd(f"has no {field}")


def _array(text: str, at: int) -> list[bytes]:
    found: list[bytes] = []
    at = _expect(text, at, "[")
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _expect(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != sign:
        raise _odd(f"has no {sign} at character {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """To the next character that is no white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _odd(what: str) -> OutcomeError:
    return OutcomeError(Retry("odd_event_list", f"Stripe's list /v1/events {what}"))
