"""Limits that hold over all processes: several pools of connections stand for several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub import store
from hub.db import SQL, Database
from hub.destination import Policy
from hub.errors import Answer, Defer, OutcomeError
from hub.limits import BURST, PATIENCE, Turns
from hub.model import DeliveryState
from hub.store import Closing, LaneClaim, Release, Settlement
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event

LIMITED = Defer("429: too much at once", delay=3.0, answer=Answer(status=429), limited=True)


@asynccontextmanager
async def nodes(dsn: str, count: int) -> AsyncIterator[list[Database]]:
    """So many processes' connections to the one database."""
    pools = [await Database.connect(dsn, size=2) for _ in range(count)]
    try:
        yield pools
    finally:
        for pool in pools:
            await pool.close()


async def engine_of(db: Database, clock: Clock, folder: Path, customers: int, **policy: Any) -> Engine:
    """A ledger named `vendor`, registered, with a due delivery for each of so many customers."""
    engine = build(db, clock, folder, "ledger", policy=Policy("ledger", slots=4, lease=60, unknown_wait=30, **policy))
    await db.fetch("register_destination", "vendor", "ledger", None)
    await engine.accept(*(event(f"evt_{n}", "customer.created", customer(f"cus_{n}")) for n in range(customers)))
    return engine


async def claim(db: Database, clock: Clock, concurrency: int | None, lanes: int = 4) -> list[LaneClaim]:
    return await db.run(
        store.claim, "vendor", moment(clock), lease=60, lanes=lanes, per_lane=9, ledger=True, bodies=False,
        concurrency=concurrency,
    )  # fmt: skip


async def release(db: Database, clock: Clock, claim: LaneClaim) -> None:
    done = tuple(Settlement(d, DeliveryState.DONE) for d in claim.deliveries)
    await db.run(store.settle, [Closing(done, (Release("vendor", claim.lane, claim.claim),))], moment(clock))


def moment(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)


async def share(db: Database, clock: Clock, name: str = "vendor") -> float:
    rows = await db.fetch("gauge_paused", moment(clock))
    return float(next(row["share"] for row in rows if row["name"] == name))


# Concurrency ---------------------------------------------------------------------------------------------------------


async def test_four_processes_together_never_have_more_lanes_under_way_than_the_limit(
    dsn: str, db: Database, clock: Clock, tmp_path: Path
) -> None:
    await engine_of(db, clock, tmp_path, 40)
    async with nodes(dsn, 4) as processes:
        at_once = [c for many in await asyncio.gather(*(claim(p, clock, 3, lanes=2) for p in processes)) for c in many]
        assert len(at_once) == 3, "never more, and as many as may be"
        for one in at_once:
            await release(db, clock, one)
        under_way, most, finished = 0, 0, 3

        async def work(process: Database) -> None:
            nonlocal under_way, most, finished
            while finished < 40:
                claims = await claim(process, clock, 3, lanes=2)
                under_way += len(claims)
                most = max(most, under_way)
                await asyncio.sleep(0.001)
                for one in claims:
                    under_way -= 1  # before its place is free again, as a call ends before its settlement
                    await release(process, clock, one)
                    finished += 1

        await asyncio.gather(*(work(process) for process in processes))
    assert most <= 3


async def test_without_a_limit_they_do_not_wait_for_each_other(
    dsn: str, db: Database, clock: Clock, tmp_path: Path
) -> None:
    """The destination's row is not locked: a claim goes on beside a transaction that holds it."""
    await engine_of(db, clock, tmp_path, 8)
    async with nodes(dsn, 1) as (other,):
        holding, held = asyncio.Event(), asyncio.Event()

        async def hold(connection: Any) -> None:
            await connection.fetch(SQL["lock_destination"], "vendor", moment(clock))
            held.set()
            await holding.wait()

        holder = asyncio.create_task(other.run(hold))
        await held.wait()
        assert len(await asyncio.wait_for(claim(db, clock, None), 5)) == 4
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(claim(db, clock, 3), 0.3)
        holding.set()
        await holder


async def test_places_of_a_worker_that_died_are_free_when_its_lease_ends(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    await engine_of(db, clock, tmp_path, 4)
    assert len(await claim(db, clock, 2)) == 2
    assert await claim(db, clock, 2) == []
    clock.advance(61)
    assert len(await claim(db, clock, 2)) == 2


async def test_who_finds_all_places_taken_sleeps_instead_of_asking_again_and_again(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    await engine_of(db, clock, tmp_path, 4)
    due = "next_due", "vendor", moment(clock)
    assert (await db.fetch(*due, 2))[0][0] == moment(clock)
    (first, _second) = await claim(db, clock, 2)
    assert (await db.fetch(*due, 2))[0][0] is None
    assert (await db.fetch(*due, None))[0][0] is not None
    await release(db, clock, first)
    assert (await db.fetch(*due, 2))[0][0] is not None


def test_a_concurrency_that_could_not_be_kept_is_refused() -> None:
    for kind in ("state", "log"):
        with pytest.raises(ValueError, match="ledger"):
            Policy(kind, concurrency=3)
    with pytest.raises(ValueError, match="ledger"):
        Policy("ledger", concurrency=0)


# The share -----------------------------------------------------------------------------------------------------------


async def test_a_complaint_halves_the_limits_once_a_second_and_they_grow_back_in_five_minutes(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await engine_of(db, clock, tmp_path, 8, concurrency=4)
    engine.destination.answers = lambda _job: LIMITED
    await engine.drain()
    assert len(engine.destination.sent) == 8  # all eight were told so, at one moment: for one reason
    assert await share(db, clock) == 0.5
    clock.advance(3)
    await engine.drain()
    assert await share(db, clock) == pytest.approx((0.5 + 3 / 300) / 2)

    engine.destination.answers = lambda _job: None
    assert len(await claim(db, clock, 4)) == 0  # nothing is due yet
    clock.advance(3)
    assert len(await claim(db, clock, 4)) == 1  # 4 x 0.265
    clock.advance(120)
    assert await share(db, clock) == pytest.approx((0.5 + 3 / 300) / 2 + 123 / 300)
    assert len(await claim(db, clock, 4)) == 2  # 4 x 0.66
    clock.advance(300)
    assert await share(db, clock) == 1.0
    assert len(await claim(db, clock, 4)) == 4


async def test_the_limits_are_never_cut_to_nothing(db: Database, clock: Clock, tmp_path: Path) -> None:
    await engine_of(db, clock, tmp_path, 4)
    limit = Turns(db, "vendor", None, clock)
    for _ in range(30):
        await limit.cut()
        clock.advance(1)
    assert await share(db, clock) == pytest.approx(0.05 + 1 / 300)
    assert len(await claim(db, clock, 3)) == 1


async def test_a_process_does_fewer_things_at_once_while_the_vendor_complains(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await engine_of(db, clock, tmp_path, 8)
    (worker,) = engine.workers._workers.values()
    await Turns(db, "vendor", None, clock).cut()
    assert await worker._begin() == 4  # this claim brings the news
    await asyncio.gather(*worker._tasks)
    assert await worker._begin() == 2
    await asyncio.gather(*worker._tasks)


# Turns ---------------------------------------------------------------------------------------------------------------


async def test_four_processes_together_make_no_more_calls_than_rate_and_burst(
    dsn: str, db: Database, clock: Clock
) -> None:
    """Each asks for turns as fast as it can while the clock goes on; a call goes when its turn says."""
    rate, calls = 20.0, list[float]()
    async with nodes(dsn, 4) as processes:
        limits = [Turns(process, "vendor", rate, clock) for process in processes]

        async def call(limit: Turns) -> None:
            for _ in range(15):
                calls.append(clock() + await limit.reserve())

        for _ in range(3):
            await asyncio.gather(*(call(limit) for limit in limits))
            clock.advance(30)
    calls.sort()
    assert len(calls) == 180
    for n, first in enumerate(calls):
        within = sum(first <= at < first + 1 for at in calls[n:])
        assert within <= rate + BURST, f"{within} calls in the second from {first}"
    assert calls[59] - calls[0] == pytest.approx((60 - BURST) / rate)  # and no fewer either


async def test_the_pace_follows_the_share(db: Database, clock: Clock) -> None:
    await db.fetch("register_destination", "vendor", "ledger", None)
    limit = Turns(db, "vendor", 10.0, clock, burst=1)
    assert [await limit.reserve() for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    await limit.cut()
    assert [await limit.reserve() for _ in range(3)] == pytest.approx([0.3, 0.5, 0.7])


async def test_a_queue_longer_than_patience_is_deferred_and_takes_no_turn(db: Database, clock: Clock) -> None:
    limit = Turns(db, "vendor", 0.05, clock)  # one call in 20 s
    for _ in range(BURST):
        assert await limit.reserve() == 0.0
    for _ in range(2):
        with pytest.raises(OutcomeError) as caught:
            await limit.turn()
        assert isinstance(caught.value.outcome, Defer)
        assert caught.value.outcome.delay == pytest.approx(20.0)
        assert "vendor" in caught.value.outcome.reason


async def test_no_process_calls_before_the_time_that_the_vendor_named(dsn: str, clock: Clock) -> None:
    async with nodes(dsn, 2) as (one, other):
        told, waiting = (Turns(p, "vendor", 10.0, clock) for p in (one, other))
        await told.cut(PATIENCE + 5)
        with pytest.raises(OutcomeError) as caught:
            await waiting.turn()
        assert isinstance(caught.value.outcome, Defer)
        assert caught.value.outcome.delay == pytest.approx(PATIENCE + 5)
        clock.advance(PATIENCE)
        assert await waiting.reserve() == pytest.approx(5.0)


async def test_without_the_database_no_call_is_made(db: Database, clock: Clock) -> None:
    limit = Turns(db, "vendor", 10.0, clock)
    await db.close()
    with pytest.raises(OutcomeError) as caught:
        await limit.turn()
    assert isinstance(caught.value.outcome, Defer)
    assert "database" in caught.value.outcome.reason
