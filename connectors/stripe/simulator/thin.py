"""Thin notifications (`v2.core.event`): they name an object and carry no data (docs.stripe.com/event-destinations)."""

from __future__ import annotations

from datetime import UTC, datetime

from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World


def rfc3339(moment: int) -> str:
    """A v2 time: `2026-11-20T10:00:00.000Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def emit_thin(w: World, event_type: str, related: tuple[str, str] | None, data: Obj | None = None) -> Obj:
    """A thin notification: no data, only names the object. The full event is kept for `GET /v2/core/events/{id}`."""
    url = None if related is None else thin_url(*related)
    notification: Obj = {
        "id": w.new_id("evt"), "object": "v2.core.event", "type": event_type, "livemode": False,
        "created": rfc3339(w.now), "context": None, "reason": None,
        "related_object": None if related is None else {"id": related[1], "type": related[0], "url": url},
    }  # fmt: skip
    w.thin_events[notification["id"]] = {**notification, "data": data or {}, "changes": None, "snapshot_event": None}
    w.log.tell(notification)
    return notification


def thin_url(kind: str, object_id: str) -> str:
    """Where a related object is read."""
    folder = {"billing.meter": "billing/meters", "invoiceitem": "invoiceitems"}.get(kind, f"{kind}s")
    return f"/v1/{folder}/{object_id}"
