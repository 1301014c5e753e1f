"""People press buttons while workers work: whatever comes first, nothing is stuck and nothing is done twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from hub import operate, store
from hub.db import SQL, Connection, Database
from hub.model import DeliveryState
from tests.conftest import Clock
from tests.engine import build, customer, event
from tests.filling import LEDGER, NOW, accept, claim, execute, finish, new_event, one, routed, settle, settlement


async def test_what_was_to_be_held_is_not_once_its_dead_letter_is_retried(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.DEAD, "reject")
    await accept(db, routed(new_event("evt_2"), LEDGER))
    claims = await claim(db)
    (delivery,) = claims[0].deliveries
    assert delivery.held_by == 1
    await db.run(operate.retry, 1, NOW)
    await settle(db, claims, settlement(delivery, DeliveryState.HELD, "defer", held_by=1))
    await finish(db, DeliveryState.DONE)
    assert [r["state"] for r in await db.fetch_text("SELECT state FROM deliveries ORDER BY id")] == ["done", "done"]


async def test_a_ledger_lane_with_nothing_due_is_given_back(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = build(db, clock, tmp_path, "ledger")
    await engine.accept(event("evt_c", "customer.created", customer()))
    await execute(db, "UPDATE deliveries SET due_at = due_at + interval '1 hour'")
    await engine.drain()
    lane = await one(db, "SELECT l.lease_until, l.due_at = d.due_at AS same FROM lanes l, deliveries d")
    assert tuple(lane) == (None, True)


async def test_a_claim_that_began_before_a_skip_does_not_undo_it(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER), routed(new_event("evt_2"), LEDGER))
    plain = "WHERE destination = $1 AND due_at <= $2 AND"
    slow = SQL["claim"].replace(plain, plain.replace("WHERE", "WHERE (SELECT pg_sleep(0.6)) IS NOT NULL AND"), 1)
    assert slow != SQL["claim"]

    async def claim_slowly(connection: Connection[Any]) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await connection.fetch(slow, LEDGER, NOW, 60.0, 10, 50, True, False, False)
        return rows

    claiming = asyncio.create_task(db.run(claim_slowly))
    await asyncio.sleep(0.2)
    await db.run(operate.skip, 1, "not wanted", NOW)
    assert [row["id"] for row in await claiming] == [2]
    assert [r["state"] for r in await db.fetch_text("SELECT state FROM deliveries ORDER BY id")] == [
        "skipped",
        "claimed",
    ]


async def test_what_was_lost_is_looked_for_before_what_was_retried_meanwhile(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.DEAD, "reject")
    await accept(db, routed(new_event("evt_2", object_id="in_2"), LEDGER))
    await claim(db)  # and the worker ends
    await db.run(operate.retry, 1, NOW)
    later = NOW + timedelta(seconds=61)
    (lane,) = await db.run(store.claim, LEDGER, later, lease=60, lanes=10, per_lane=1, ledger=True, bodies=False)
    assert [(d.id, d.was_lost) for d in lane.deliveries] == [(2, True)]
