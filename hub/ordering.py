"""Which of two snapshots of one Stripe object is newer. Pure.

Stripe promises no order of delivery, and `created` counts whole seconds: paying an invoice makes several events within
one second. So the status decides first (a final status is never left again), then `created`, then what the events say
of each other; what is then still a tie is not guessed: the caller reads the object from Stripe. The order of arrival of
events decides nothing. Only a read has a place in it: what had arrived before it began cannot be newer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DELETED = 9

_RANKS: Mapping[str, Mapping[str, int]] = {
    "invoice": {"draft": 0, "open": 1, "uncollectible": 2, "paid": 3, "void": 3},
    "subscription": {"canceled": 1, "incomplete_expired": 1},
    "credit_note": {"void": 1},
    "invoice_payment": {"paid": 1, "canceled": 1},
    "refund": {"succeeded": 1, "failed": 2, "canceled": 2},
    "dispute": {"won": 1, "lost": 1},
    "payout": {"in_transit": 1, "paid": 2, "canceled": 3, "failed": 3},
}
"""Statuses in the order they can be passed through (docs.stripe.com/invoicing/integration/workflow-transitions: an
uncollectible invoice can still be paid or voided; what is said to have succeeded can fail later: API reference, "The
Refund object", "The Payout object"). Objects and statuses not listed: see `rank`."""

_UNKNOWN = {"invoice": 1}
"""A status Stripe adds one day: an invoice in it has left draft; nothing more can be said."""


def rank(object_type: str | None, body: Mapping[str, Any], event_type: str | None = None) -> int:
    """How final an object is: a higher rank is newer whatever the clock says.

    `body` is the object, or a whole event with the object inside. A deleted object is 9, and so is the object of a
    `*.deleted` event, but for `customer.subscription.deleted`: that one is a cancellation, and the subscription lives
    on as `canceled`. Objects without final statuses are 0.
    """
    if body.get("object") == "event":
        event_type = event_type or body.get("type")
        data = body.get("data")
        inner = data.get("object") if isinstance(data, Mapping) else None
        body = inner if isinstance(inner, Mapping) else {}
    kind = object_type or str(body.get("object"))
    if body.get("deleted") is True or (
        event_type is not None and event_type.endswith(".deleted") and kind != "subscription"
    ):
        return DELETED
    status = body.get("status")
    if kind not in _RANKS or not isinstance(status, str):
        return 0
    return _RANKS[kind].get(status, _UNKNOWN.get(kind, 0))


def last_of(events: Sequence[Mapping[str, Any]]) -> int | None:
    """Which of several events (whole bodies, same object, same rank, same second) shows the last content.

    None: they cannot tell. They can if all show the same, or if every content but one is known to have come before
    another: it was just created, or an event names it in `previous_attributes`.
    """
    contents = [_bare(e["data"]["object"]) for e in events]
    distinct = [i for i, c in enumerate(contents) if c not in contents[:i]]
    if len(distinct) > 1:
        distinct = [i for i in distinct if not _came_before(contents[i], events, contents)]
    return distinct[0] if len(distinct) == 1 else None


def overtakes(event: Mapping[str, Any], read: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether `event` shows a later content than what was read; None: they cannot tell.

    `event` is the last of what arrived after the read, `later` all of that with a later `created` than the newest event
    known when the read began. A late `created` alone proves nothing: the read may have seen what that event tells, and
    more. It is proven once one of `later` names the content that was read as what was there before.
    """
    content = _bare(read["data"]["object"])
    if _bare(event["data"]["object"]) == content or str(event.get("type")).endswith(".created"):
        return False
    return True if any(_before(e) == content for e in later) else None


def _came_before(content: Any, events: Sequence[Mapping[str, Any]], contents: Sequence[Any]) -> bool:
    others = [e for e, c in zip(events, contents, strict=True) if c != content]
    mine = [e for e, c in zip(events, contents, strict=True) if c == content]
    created = all(str(e.get("type")).endswith(".created") for e in mine)
    return (created and not all(str(e.get("type")).endswith(".created") for e in others)) or any(
        _before(e) == content for e in others
    )


def _before(event: Mapping[str, Any]) -> Any:
    """The object as it was before an `*.updated` event; None if the event does not say."""
    previous = event["data"].get("previous_attributes")
    return _bare(_put_back(event["data"]["object"], previous)) if isinstance(previous, dict) and previous else None


def _put_back(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Stripe gives nested objects by their changed keys, arrays whole (API reference,
    event.data.previous_attributes).
    """
    restored = dict(now)
    for key, value in before.items():
        current = restored.get(key)
        restored[key] = _put_back(current, value) if isinstance(value, dict) and isinstance(current, dict) else value
    return restored


def _bare(value: Any) -> Any:
    """Without nulls: a key that was added is null in `previous_attributes`, and simply not there in the object
    before.
    """
    if isinstance(value, Mapping):
        return {key: _bare(inner) for key, inner in value.items() if inner is not None}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value
