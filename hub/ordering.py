"""Which of two snapshots of one Stripe object is newer. Pure.

Stripe promises no order of delivery, and `created` counts whole seconds: paying an invoice makes several events within
one second. So the status decides first (a final status is never left again), then `created`; what is then still a tie
is not guessed: the caller reads the object from Stripe. The order of arrival decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

DELETED = 9

_RANKS: Mapping[str, Mapping[str, int]] = {
    "invoice": {"draft": 0, "open": 1, "uncollectible": 2, "paid": 3, "void": 3},
    "subscription": {"canceled": 1, "incomplete_expired": 1},
    "credit_note": {"void": 1},
}
"""Statuses in the order they can be passed through (docs.stripe.com/invoicing/integration/workflow-transitions: an
uncollectible invoice can still be paid or voided). Objects and statuses not listed: see `rank`."""

_UNKNOWN = {"invoice": 1}
"""A status Stripe adds one day: an invoice in it has left draft; nothing more can be said."""


class Decision(StrEnum):
    """Which of the two."""

    FIRST = "first"
    SECOND = "second"
    SAME = "same"
    """Same time, same content: either will do."""
    TIE = "tie"
    """Cannot be told apart: ask Stripe."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What must be known of a snapshot to place it. `created`: the event's, or the moment the object was read."""

    rank: int
    created: int | datetime
    digest: str | None = None
    """Of the object's content, if it is known."""
    seq: int = 0
    """Order of acceptance; for people only."""
    status: str | None = None
    """For people only; `rank` already holds what it says."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and, for people, the reason."""

    decision: Decision
    reason: str


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


def newer(a: Snapshot, b: Snapshot) -> Verdict:
    """The newer of two snapshots of the same object, by rank, then `created`. The same for any order of arguments."""
    if a.rank != b.rank:
        first = a.rank > b.rank
        high, low = (a, b) if first else (b, a)
        return Verdict(Decision.FIRST if first else Decision.SECOND, _why_rank(high, low))
    later = _seconds(a.created) - _seconds(b.created)
    if later:
        return Verdict(Decision.FIRST if later > 0 else Decision.SECOND, f"created {_span(abs(later))} later")
    if a.digest is not None and a.digest == b.digest:
        return Verdict(Decision.SAME, "same second, same content")
    return Verdict(Decision.TIE, "same second, same rank: read from Stripe")


def _why_rank(high: Snapshot, low: Snapshot) -> str:
    if high.rank == DELETED:
        return "deleted beats everything before it"
    if high.status and low.status:
        return f"status {high.status} beats {low.status}, which comes before it"
    return f"a more final status (rank {high.rank}) beats an earlier one (rank {low.rank})"


def _seconds(moment: int | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds == int(seconds) else f"{seconds:.3f} s"
