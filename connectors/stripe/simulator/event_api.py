"""Reading events back: `/v1/events` (30 days, newest first) and `/v2/core/events` (thin events, with their data)."""

from __future__ import annotations

from typing import Any

from connectors.stripe.simulator.errors import no_such, refused
from connectors.stripe.simulator.lists import in_range, page
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World


def retrieve_event(w: World, _p: Obj, ids: list[str]) -> Obj:
    entry = w.log.by_id.get(ids[0])
    if entry is None:
        raise no_such("event", ids[0])
    event: Obj = entry.event()
    return event


def list_events(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Filters as in the vendor's list call. `delivery_success` needs webhook endpoints, which the account does not
    have."""
    wanted, types = p.get("type"), p.get("types")
    if wanted is not None and types is not None:
        raise refused("You may pass either `type` or `types`, but not both.", param="types")
    if types is not None and len(types) > 20:
        raise refused("You can filter by at most 20 types.", param="types")

    def matches(name: str) -> bool:
        if types is not None:
            return name in types
        if wanted is None:
            return True
        return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted

    rows = (
        {"id": entry.id, "entry": entry}
        for entry in w.log.newest_first()
        if matches(entry.type) and in_range(entry.created, p.get("created"))
    )
    return page(rows, p, "/v1/events", _event, "event")


def _event(row: Obj) -> Obj:
    event: Obj = row["entry"].event()
    return event


def retrieve_thin(w: World, _p: Obj, ids: list[str]) -> Obj:
    if ids[0] not in w.thin_events:
        raise no_such("event", ids[0])
    return w.thin_events[ids[0]]


def list_thin(w: World, p: Obj, _ids: list[str]) -> Obj:
    """v2 paging is by opaque page; here everything fits one page of at most `limit`."""
    types, object_id = p.get("types"), p.get("object_id")
    created: Any = p.get("created") or {}
    rows = [
        row
        for row in reversed(w.thin_events.values())
        if (types is None or row["type"] in types)
        and (object_id is None or (row["related_object"] or {}).get("id") == object_id)
        and created.get("gt", "") < row["created"]
        and created.get("gte", "") <= row["created"]
        and row["created"] < created.get("lt", "~")
        and row["created"] <= created.get("lte", "~")
    ]
    return {"data": rows[: p.get("limit", 20)], "next_page_url": None, "previous_page_url": None}
