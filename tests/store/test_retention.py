"""Retention removes settled history and nothing else: the newest, the open and the dead stay; so do repeats."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from hub import metrics, search
from hub.db import Database
from hub.model import DeliveryState, Disposition, EventKind
from hub.retention import LOCK, Pruned, Pruner, PruneRunningError
from hub.store import Accepted
from tests.filling import CRM, LEDGER, accept, claim, execute, link, new_event, one, routed, settle, settlement

LONG_AGO = datetime(2020, 3, 1, 12, 0, tzinfo=UTC)
NOW = datetime(2021, 6, 1, 12, 0, tzinfo=UTC)
"""More than 400 days later; the database's own clock is later still."""


def pruner(db: Database, *, days: float = 400, now: datetime = NOW, **more: Any) -> Pruner:
    return Pruner(db, metrics.create(), now.timestamp, timedelta(days=days), share=1.0, **more)


def old(id_: str, minute: int = 0, **more: Any) -> Any:
    """An event of long ago about `in_1`; later minutes are newer snapshots."""
    when = LONG_AGO + timedelta(minutes=minute)
    return new_event(id_, **({"created": when, "received_at": when} | more))


async def settled(
    db: Database, state: DeliveryState = DeliveryState.DONE, *, at: datetime = LONG_AGO, **more: Any
) -> None:
    """All that waits is claimed and settled so, at both destinations."""
    for name in (LEDGER, CRM):
        claims = await claim(db, name, at + timedelta(hours=1))
        rows = [d for c in claims for d in c.deliveries]
        await settle(db, claims, *(settlement(d, state, **more) for d in rows), now=at)


async def bodies(db: Database) -> list[str]:
    """Ids of the events whose body is there."""
    return [r["id"] for r in await db.fetch_text("SELECT id FROM events WHERE body <> '' ORDER BY seq")]


async def pruned(db: Database, **more: Any) -> Pruned:
    found = await pruner(db, **more).prune()
    assert found is not None
    return found


async def test_settled_history_goes_and_the_newest_snapshot_stays_whole(db: Database) -> None:
    first, second = routed(old("evt_1"), LEDGER, CRM, due_at=LONG_AGO), routed(old("evt_2", 5), LEDGER, due_at=LONG_AGO)
    await accept(db, first, second, now=LONG_AGO)
    await settled(db, links=(link(),))

    done = await pruned(db)

    assert (done.bodies, done.deliveries, done.attempts) == (1, 2, 2)
    assert await bodies(db) == ["evt_2"]
    assert [r["event_seq"] for r in await db.fetch_text("SELECT event_seq FROM deliveries")] == [2]
    assert (await one(db, "SELECT count(*) AS n FROM links"))["n"] == 2
    assert (await one(db, "SELECT count(*) AS n FROM lanes"))["n"] == 2
    again = await pruned(db)
    assert (again.bodies, again.deliveries, again.attempts) == (0, 0, 0)
    await accept(db, first, now=NOW)  # Stripe tells it once more
    assert (await one(db, "SELECT count(*) AS n FROM events"))["n"] == 2
    assert (await one(db, "SELECT count(*) AS n FROM deliveries"))["n"] == 1


@pytest.mark.parametrize(
    ("state", "more", "goes"),
    [
        (DeliveryState.DONE, {}, True),
        (DeliveryState.SUPERSEDED, {"superseded_by": 99}, True),
        (DeliveryState.DEAD, {}, False),
        (DeliveryState.WAITING, {"due_at": NOW}, False),
        (DeliveryState.UNKNOWN, {"due_at": NOW}, False),
        (DeliveryState.HELD, {"held_by": 2}, False),
    ],
)
async def test_an_event_goes_only_if_all_of_its_deliveries_are_settled(
    db: Database, state: DeliveryState, more: dict[str, Any], goes: bool
) -> None:
    await accept(db, routed(old("evt_1"), LEDGER, CRM, due_at=LONG_AGO), now=LONG_AGO)
    await accept(db, routed(old("evt_2", 5), LEDGER, due_at=LONG_AGO), now=LONG_AGO)
    claims = await claim(db, LEDGER, LONG_AGO + timedelta(hours=1))
    (mine, newer) = [d for c in claims for d in c.deliveries]
    await settle(db, claims, settlement(newer, DeliveryState.DEAD), now=LONG_AGO)
    await settle(db, [], settlement(mine, state, **more), now=LONG_AGO)
    claims = await claim(db, CRM, LONG_AGO + timedelta(hours=1))
    await settle(db, claims, *(settlement(d, DeliveryState.DONE) for c in claims for d in c.deliveries), now=LONG_AGO)

    done = await pruned(db)

    assert done.bodies == int(goes)
    assert (await one(db, "SELECT count(*) AS n FROM deliveries WHERE event_seq = 1"))["n"] == (0 if goes else 2)


async def test_what_was_settled_lately_stays_however_old_it_is(db: Database) -> None:
    await accept(db, *(routed(old(f"evt_{n}", n), LEDGER, due_at=LONG_AGO) for n in (1, 2)), now=LONG_AGO)
    await settled(db, at=NOW - timedelta(days=1))
    assert (await pruned(db)).bodies == 0
    assert (await pruned(db, now=NOW + timedelta(days=400))).bodies == 1


async def test_what_is_younger_than_the_setting_stays(db: Database) -> None:
    young = NOW - timedelta(days=399)
    await accept(db, routed(old("evt_1"), LEDGER, due_at=LONG_AGO), now=LONG_AGO)
    await accept(db, routed(old("evt_2", created=young, received_at=young), LEDGER, due_at=LONG_AGO), now=LONG_AGO)
    await accept(db, routed(new_event("evt_3"), LEDGER, due_at=LONG_AGO), now=LONG_AGO)
    await settled(db)
    await pruned(db)
    assert await bodies(db) == ["evt_2", "evt_3"]


async def test_no_body_that_the_mirror_may_look_at_is_ever_removed(db: Database) -> None:
    """Every mixture of ranks, seconds, reads and thin ones; the mirror's own statement is asked before and after."""
    rng = random.Random(4)
    made = []
    for n in range(400):
        kind = rng.choice([EventKind.SNAPSHOT] * 6 + [EventKind.THIN] + [EventKind.READ] * 2)
        disposition = {EventKind.READ: Disposition.READ}.get(
            kind, rng.choice([Disposition.UNMAPPED] * 4 + [Disposition.OTHER_MODE])
        )
        object_id = f"in_{rng.randrange(30)}"
        second = LONG_AGO + timedelta(seconds=rng.randrange(5))
        id_ = f"read:{object_id}:{rng.randrange(n + 1)}:{n}" if kind is EventKind.READ else f"evt_{n}"
        event = old(id_, kind=kind, created=second, rank=rng.randrange(3), object_id=object_id)
        made.append(Accepted(event, disposition, "a test", ()))
    for item in made:
        await accept(db, item, now=LONG_AGO)
    objects = [f"in_{n}" for n in range(30)]
    before = [dict(r) for r in await db.fetch("newest", objects)]
    done = await pruned(db)
    assert done.bodies > 150, "the test would prove nothing"
    assert [dict(r) for r in await db.fetch("newest", objects)] == before
    assert all(r["body"] for r in before)


async def test_a_batch_goes_with_its_last_delivery(db: Database) -> None:
    await accept(db, *(routed(old(f"evt_{n}", n), LEDGER, due_at=LONG_AGO) for n in (1, 2, 3)), now=LONG_AGO)
    await settled(db)
    await execute(
        db,
        "INSERT INTO batches (destination, lane, received_date, first_seq, last_seq, rows, sealed_at, done_at)"
        " SELECT 'netsuite', 'cus_1', $1::date, n, n + 1, 1, $1, $1 FROM generate_series(1, 2) n",
        LONG_AGO,
    )
    await execute(db, "UPDATE deliveries SET batch_id = CASE WHEN id = 1 THEN 1 ELSE 2 END")
    await execute(
        db,
        "INSERT INTO attempts (batch_id, claim, started_at, duration_ms, outcome)"
        " SELECT n, 1, $1, 1, 'receipt' FROM generate_series(1, 2) n",
        LONG_AGO,
    )
    done = await pruned(db)
    assert (done.bodies, done.deliveries, done.batches, done.attempts) == (2, 2, 1, 3)
    left = await db.fetch_text("SELECT batch_id FROM attempts WHERE batch_id IS NOT NULL")
    assert [r["batch_id"] for r in left] == [2]


async def test_it_goes_in_steps_and_goes_on_where_it_was_cut_short(db: Database) -> None:
    await accept(db, *(Accepted(old(f"evt_{n}", n), Disposition.UNMAPPED, "-", ()) for n in range(10)), now=LONG_AGO)

    class CutError(Exception):
        pass

    def cut(so_far: Pruned) -> None:
        if so_far.steps == 2:
            raise CutError

    with pytest.raises(CutError):
        await pruner(db, step=3).prune(cut)
    assert await bodies(db) == ["evt_6", "evt_7", "evt_8", "evt_9"]
    rest = await pruner(db, step=3).prune(whole=False)
    assert rest is not None
    assert (rest.steps, rest.bodies, rest.reached) == (2, 3, 10)
    rows = await db.fetch_text("SELECT began_after, reached, bodies, finished_at FROM prunings ORDER BY id")
    assert [tuple(r.values())[:3] for r in rows] == [(0, 6, 6), (6, 10, 3)]
    assert (rows[0]["finished_at"], rows[1]["finished_at"]) == (None, NOW)


async def test_on_schedule_only_what_is_new_is_looked_at_until_a_day_is_over(db: Database) -> None:
    await accept(db, *(Accepted(old(f"evt_{n}", n), Disposition.UNMAPPED, "-", ()) for n in range(10)), now=LONG_AGO)
    assert (await pruned(db)).steps == 1
    hour = timedelta(hours=1)
    assert await pruner(db, now=NOW + hour / 2).prune(whole=False, unless_since=NOW - hour / 2) is None
    later = await pruner(db, now=NOW + hour).prune(whole=False)
    assert later is not None
    assert later.steps == 0
    day = await pruner(db, now=NOW + 25 * hour).prune(whole=False)
    assert day is not None
    assert day.steps == 1


async def test_a_dry_run_counts_exactly_what_is_then_removed_and_removes_nothing(db: Database) -> None:
    await accept(db, *(routed(old(f"evt_{n}", n), LEDGER, CRM, due_at=LONG_AGO) for n in range(7)), now=LONG_AGO)
    await settled(db)
    counted = await pruner(db, step=2).would_prune()
    assert len(await bodies(db)) == 7
    done = await pruned(db)
    assert (done.bodies, done.deliveries, done.attempts) == (counted.bodies, counted.deliveries, counted.attempts)
    assert (done.bodies, done.deliveries, done.attempts) == (6, 12, 12)
    assert counted.said().startswith("would be removed")


async def test_one_at_a_time_and_a_row_that_somebody_holds_is_passed_over(db: Database, dsn: str) -> None:
    await accept(db, *(Accepted(old(f"evt_{n}", n), Disposition.UNMAPPED, "-", ()) for n in range(4)), now=LONG_AGO)
    other = await asyncpg.connect(dsn)
    try:
        await other.execute("SELECT pg_advisory_lock($1)", LOCK)
        with pytest.raises(PruneRunningError):
            await pruned(db)
        await other.execute("SELECT pg_advisory_unlock($1)", LOCK)
        async with other.transaction():
            await other.execute("SELECT FROM events WHERE id = 'evt_1' FOR UPDATE")
            assert (await asyncio.wait_for(pruned(db), 10)).bodies == 2
    finally:
        await other.close()
    assert (await pruned(db)).bodies == 1
    assert await bodies(db) == ["evt_3"]


async def test_old_rejected_bodies_and_sweeps_go_but_not_the_newest_sweep(db: Database) -> None:
    await execute(
        db,
        "INSERT INTO rejected_bodies (received_at, reason, body) VALUES ($1, 'x', 'y'), ($2, 'x', 'y')",
        LONG_AGO,
        NOW,
    )
    await execute(
        db,
        "INSERT INTO sweeps (from_at, to_at, listed, missing, finished_at)"
        " SELECT $1::timestamptz, at, 0, 0, at"
        " FROM generate_series(1, 3) n, LATERAL (SELECT $1::timestamptz + n * interval '1 hour' AS at) t",
        LONG_AGO,
    )
    last = await one(db, "SELECT max(to_at) AS to_at FROM sweeps")
    done = await pruned(db)
    assert (done.rejected, done.notes) == (1, 2)
    assert (await one(db, "SELECT to_at FROM sweeps"))["to_at"] == last["to_at"]


async def test_an_event_says_since_when_its_body_is_gone(db: Database) -> None:
    await accept(db, *(Accepted(old(f"evt_{n}", n), Disposition.UNMAPPED, "-", ()) for n in range(2)), now=LONG_AGO)
    await pruned(db)
    await execute(db, "UPDATE events SET body_removed_at = $1 WHERE seq = 1", NOW)
    found = await db.run(search.reading, search.event, "evt_0")
    assert found is not None
    assert found["body"] is None
    assert found["body_removed"].startswith("its body was removed on 2021-06-01, 457 days after it was received")
    kept = await db.run(search.reading, search.event, "evt_1")
    assert kept is not None
    assert orjson.loads(kept["body"])["id"] == "evt_1"
    assert kept["body_removed"] is None


async def test_the_database_itself_refuses_to_remove_what_is_young(db: Database) -> None:
    for days in (29, 0, -1):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="younger than 30 days"):
            await db.fetch("prune", datetime.now(UTC) - timedelta(days=days), 0, 10)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="younger than 30 days"):
            await db.fetch("prune_notes", datetime.now(UTC) - timedelta(days=days))
