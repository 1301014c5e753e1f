"""Nothing that is run all the time, or asked by a person, costs more when there is more: counted in pages, not in time.

The database's statistics are taken when it is small and not again, as just after a great load: the plans must hold. The
pages that a statement touches are counted at 1,000 events and at 20,000; without its index it reads them all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import pytest

from hub import search
from hub.bench import growth
from hub.db import SQL, Connection, Database
from hub.model import DeliveryState, Disposition, EventKind
from hub.search import DeliveryFilter, EventFilter

SMALL, LARGE = 1_000, 20_000
NOW = datetime.now(UTC)


async def filled(db: Database) -> None:
    """`SMALL` events with statistics; then the rest without any."""
    await db.fetch("register_destination", growth.QUEUE, "state", None)
    await db.fetch("register_destination", growth.HISTORY, "ledger", None)
    await growth.fill(db, 0, SMALL, SMALL)


async def pages(connection: Connection[Any], text: str, *arguments: Any) -> int:
    """How many pages a statement touches; it is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        (row,) = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", *arguments)
    finally:
        await transaction.rollback()
    plan = orjson.loads(row[0])[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def events(low: int | None = None, high: int | None = None, **where: Any) -> tuple[str, list[Any]]:
    return search.events_statement(EventFilter(**where), 50, None, low, high)


def deliveries(*states: DeliveryState, **where: Any) -> tuple[str, list[Any]]:
    return search.deliveries_statement(DeliveryFilter(states, **where), 50, None)


def statements(size: int) -> dict[str, tuple[str, list[Any]]]:
    """What is looked at, with what it is asked."""
    long_ago = NOW - growth.SPAN / 2
    customer = f"cus_g{size // 2 // growth.PER_CUSTOMER}"
    return {
        "claim": (SQL["claim"], [growth.QUEUE, NOW, 60.0, 20, 50, False, True, False]),
        "next_due": (SQL["next_due"], [growth.QUEUE, NOW, None]),
        "newest": (SQL["newest"], [[f"in_g{n}" for n in range(5)]]),
        "a common type": events(type="invoice.paid"),
        "a rare type": events(type=growth.RARE),
        "a type never seen": events(type=growth.LEFT_OUT),
        "a customer": events(customer=customer),
        "an object": events(object=f"in_g{size // 8}"),
        "another mode": events(disposition=Disposition.OTHER_MODE),
        "thin": events(kind=EventKind.THIN),
        "until long ago": events(high=size // 2, until=long_ago),
        "the place of a time": (SQL["seq_received_at"], [long_ago]),
        "waiting there": deliveries(DeliveryState.WAITING, destination=growth.QUEUE),
        "none claimed there": deliveries(DeliveryState.CLAIMED, destination=growth.QUEUE),
        "none waiting there": deliveries(DeliveryState.WAITING, destination=growth.HISTORY),
        "dead": deliveries(DeliveryState.DEAD),
        "skipped": deliveries(DeliveryState.SKIPPED),
        "what is open": (SQL["open_by_state"], [10]),
        "unusual events": (SQL["unusual_events"], [10]),
    }


async def test_what_a_statement_touches_does_not_grow_with_history_or_backlog(db: Database, dsn: str) -> None:
    await filled(db)
    connection = await asyncpg.connect(dsn)
    try:
        small = {name: await pages(connection, text, *more) for name, (text, more) in statements(SMALL).items()}
        await growth.fill(db, SMALL, LARGE, LARGE, analyze=False)
        large = {name: await pages(connection, text, *more) for name, (text, more) in statements(LARGE).items()}
    finally:
        await connection.close()
    grown = {name: (small[name], n) for name, n in large.items() if n > 1.5 * small[name] + 60}
    assert grown == {}


async def test_a_claim_reads_its_lanes_and_no_more_before_the_first_statistics_are_taken(
    db: Database, dsn: str
) -> None:
    """A new hub's first backlog: nothing is known of the tables, and every index looks alike."""
    await db.fetch("register_destination", growth.QUEUE, "state", None)
    await db.fetch("register_destination", growth.HISTORY, "ledger", None)
    connection = await asyncpg.connect(dsn)
    try:
        for table in ("events", "deliveries", "lanes"):
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        await growth.fill(db, 0, LARGE, LARGE, analyze=False)
        text, arguments = statements(LARGE)["claim"]
        touched = await pages(connection, text, *arguments)
        for table in ("events", "deliveries", "lanes"):
            await connection.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")
    finally:
        await connection.close()
    # 20 lanes of some deliveries each: a row has a handful of indexes. All that is open would be 20,000 rows.
    assert touched < 8_000


async def test_counts_and_gauges_are_exact_when_small_and_near_when_large(db: Database) -> None:
    await filled(db)
    await growth.fill(db, SMALL, LARGE, LARGE)
    counted = await db.run(search.reading, search.counts)
    assert counted["about"] is True
    assert counted["events"]["total"] == pytest.approx(LARGE, rel=0.1)
    assert sum(counted["events"]["by_disposition"].values()) == counted["events"]["total"]
    assert counted["events"]["by_disposition"]["unmapped"] == LARGE // 50, "few enough to be counted"
    assert counted["events"]["by_kind"] == {"snapshot": counted["events"]["total"], "thin": 0, "read": 0}
    assert counted["deliveries"][growth.HISTORY]["done"] == pytest.approx(LARGE, rel=0.1)
    assert counted["deliveries"][growth.QUEUE]["waiting"] == pytest.approx(LARGE, rel=0.1)
    assert counted["deliveries"][growth.QUEUE]["dead"] == 0
    (opened,) = await db.run(search.reading, search.open_deliveries)
    assert (opened.destination, opened.state) == (growth.QUEUE, "waiting")
    assert opened.n > search.EXACT
    first = await db.fetch_text("SELECT min(created_at) AS at FROM deliveries WHERE state = 'waiting'")
    assert opened.oldest == first[0]["at"]
