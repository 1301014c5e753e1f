"""A claim's time: whatever is begun under it ends before its lease does, or is begun under another."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from hub import store
from hub.db import Database
from hub.destination import Policy
from hub.errors import Outcome
from hub.model import Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, invoice

LEASE = 60.0
ENOUGH = 0.2 * LEASE
"""Seconds into a claim after which nothing more is begun: a call may take the rest."""


async def lose(engine: Engine, clock: Clock) -> None:
    """A worker claims everything and dies; its leases run out."""
    now = datetime.fromtimestamp(clock(), UTC)
    claims = await engine.db.run(
        store.claim, "vendor", now, lease=LEASE, lanes=200, per_lane=50, ledger=False, bodies=False
    )
    assert sum(len(claim.deliveries) for claim in claims) == 10
    clock.advance(LEASE + 1)


async def test_looking_for_a_whole_lost_batch_does_not_outlast_the_lease(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = build(db, clock, tmp_path, "state", policy=Policy("state", batch=200, slots=1, lease=LEASE))
    for n in range(10):
        await engine.accept(event(f"evt_{n}", "customer.created", customer(f"cus_{n}")))
    await lose(engine, clock)

    def slowly(job: Job) -> Outcome | None:
        clock.advance(10)
        return None

    engine.destination.found = slowly
    await engine.drain()
    assert await engine.states() == ["done"] * 10
    assert Counter(job.event.id for job in engine.destination.looked) == {f"evt_{n}": 1 for n in range(10)}
    # After two looks 20 seconds are over, and the eight others are left to the next claim.
    assert [len(jobs) for jobs in engine.destination.sent] == [2] * 5
    rows = await db.fetch_text("SELECT outcome, duration_ms FROM attempts WHERE outcome <> 'lost'")
    assert {row["duration_ms"] for row in rows} == {20_000}
    assert Counter(row["outcome"] for row in rows) == {"receipt": 10, "defer": 8 + 6 + 4 + 2}


async def test_more_rounds_than_a_lease_has_time_for_are_done_under_the_next_claims(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = build(db, clock, tmp_path, "state", policy=Policy("state", batch=1, slots=1, lease=LEASE))
    for n in range(10):
        await engine.accept(event(f"evt_{n}", "invoice.created", invoice("draft", id_=f"in_{n}")))

    def slowly(job: Job) -> Outcome | None:
        clock.advance(ENOUGH * 0.75)
        return None

    engine.destination.answers = slowly
    await engine.accept(event("evt_c", "customer.created", customer()))
    await engine.drain()
    assert set(await engine.states()) == {"done"}
    # Begun at 0 and at 9 seconds of the claim; the next would begin at 18.
    assert max(Counter(job.attempt for jobs in engine.destination.sent for job in jobs).values()) == 2
