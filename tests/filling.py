"""Fill a database by hand, for tests of what people see: events and deliveries in whatever state the test needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from hub import store
from hub.db import Connection, Database
from hub.model import Delivery, DeliveryState, Disposition, EventKind, Link, NewEvent
from hub.store import Accepted, AttemptLog, Closing, LaneClaim, Release, Route, Settlement

NOW = datetime.fromtimestamp(1_790_000_000, UTC)
LEDGER, CRM, LAKE = "netsuite", "salesforce", "s3_lake"


def new_event(id_: str, **more: Any) -> NewEvent:
    """An event about invoice `in_1` of `cus_1`, unless said otherwise."""
    given: dict[str, Any] = {
        "kind": EventKind.SNAPSHOT,
        "type": "invoice.paid",
        "created": NOW - timedelta(seconds=60),
        "received_at": NOW,
        "api_version": "2026-10-28.endive",
        "livemode": False,
        "object_type": "invoice",
        "object_id": "in_1",
        "customer_id": "cus_1",
    } | more
    body = {"id": id_, "type": given["type"], "data": {"object": {"id": given["object_id"]}}}
    return NewEvent(id=id_, **({"body": orjson.dumps(body)} | given))


def routed(event: NewEvent, *destinations: str, due_at: datetime = NOW) -> Accepted:
    """The event on its way to these destinations, in its customer's lane."""
    lane = event.customer_id or event.object_id or event.id
    return Accepted(event, Disposition.ROUTED, None, tuple(Route(d, lane, due_at) for d in destinations))


async def accept(db: Database, *items: Accepted, now: datetime = NOW) -> None:
    await db.run(store.accept, items, now)


async def register(db: Database, name: str, kind: str, problem: str | None = None) -> None:
    """A destination as it is registered at start."""
    await db.fetch("register_destination", name, kind, problem)


async def claim(
    db: Database, destination: str = LEDGER, now: datetime = NOW, *, ledger: bool = True
) -> list[LaneClaim]:
    return await db.run(store.claim, destination, now, lease=60.0, lanes=10, per_lane=50, ledger=ledger, bodies=False)


def settlement(delivery: Delivery, state: DeliveryState, outcome: str = "receipt", **more: Any) -> Settlement:
    """How it went, with an attempt of 12 ms."""
    if state is DeliveryState.DEAD:
        more = {"code": "tax_code", "cause": "tax code 7 is unknown", "fix": "add it to the lookup, then retry"} | more
    attempt = AttemptLog(NOW, 12, outcome, more.get("code"), more.get("cause"), 400, "req_1", {"field": "taxcode"})
    return Settlement(delivery, state, attempt=attempt, **more)


async def settle(db: Database, claims: list[LaneClaim], *settlements: Settlement, now: datetime = NOW) -> set[int]:
    releases = tuple(Release(c.destination, c.lane, c.claim) for c in claims)
    return (await db.run(store.settle, [Closing(settlements, releases)], now)).ours


async def finish(
    db: Database, state: DeliveryState, outcome: str = "receipt", *, destination: str = LEDGER, **more: Any
) -> list[int]:
    """Claim whatever is due at a destination and settle all of it the same way; the ids."""
    claims = await claim(db, destination)
    found = [d for c in claims for d in c.deliveries]
    await settle(db, claims, *(settlement(d, state, outcome, **more) for d in found))
    return [d.id for d in found]


def link(object_id: str = "in_1", record: str = "invoice") -> Link:
    return Link(object_id, record, f"stripe_{object_id}", "4711", "d" * 32, "netsuite/invoice@1")


async def execute(db: Database, text: str, *arguments: Any) -> str:
    """A statement of the test's own."""

    async def run(connection: Connection[Any]) -> str:
        return str(await connection.execute(text, *arguments))

    return await db.run(run)


async def one(db: Database, text: str, *arguments: Any) -> asyncpg.Record:
    """The only row of a query."""
    (row,) = await db.fetch_text(text, *arguments)
    return row
