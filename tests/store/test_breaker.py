"""The circuit breaker: what opens it, how it is tried again, what closes it, and what it must not hurt."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub import operate, search, store
from hub.circuit import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, SPAN
from hub.db import Database
from hub.destination import Kind, Policy
from hub.errors import Answer, Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.model import Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event
from tests.store.test_limits import nodes

AWAY = Retry("unreachable", "no connection to the vendor")
LOST = Unknown("no reply from the vendor")
Told = pytest.CaptureFixture[str]


async def make(db: Database, clock: Clock, folder: Path, customers: int, kind: Kind = "ledger", **more: Any) -> Engine:
    """A destination named `vendor`, registered, with a due delivery for each of so many customers; four at once."""
    policy = Policy(kind, slots=4, batch=1 if kind == "state" else 4, lease=60, unknown_wait=30, **more)
    engine = build(db, clock, folder, kind, policy=policy)
    await db.fetch("register_destination", "vendor", kind, None)
    await arrive(engine, 0, customers)
    return engine


async def arrive(engine: Engine, first: int, count: int, type_: str = "customer.created") -> None:
    await engine.accept(*(event(f"evt_{n}", type_, customer(f"cus_{n}")) for n in range(first, first + count)))


async def shown(db: Database, clock: Clock) -> dict[str, Any]:
    (row,) = await db.run(search.destinations, now(clock))
    return row


async def open_it(engine: Engine, clock: Clock, outcome: Outcome = AWAY) -> None:
    """All fail, for longer than a moment."""
    engine.destination.answers = lambda _job: outcome
    await engine.drain()
    clock.advance(max(SPAN, engine.destination.policy.unknown_wait if outcome is LOST else 0) + 1)
    await engine.drain()
    assert (await shown(engine.db, clock))["circuit"] == "open"
    engine.destination.sent.clear()


async def work_on(engine: Engine, clock: Clock, seconds: float, step: float = 1.0) -> None:
    """Drain again and again while the clock goes on."""
    for _ in range(int(seconds / step)):
        clock.advance(step)
        await engine.drain()


def now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)


async def test_a_destination_that_fails_throughout_is_paused_and_the_log_says_so(
    db: Database, clock: Clock, tmp_path: Path, capsys: Told
) -> None:
    engine = await make(db, clock, tmp_path, 12)
    engine.destination.answers = lambda _job: AWAY
    await engine.drain()
    assert len(engine.destination.sent) == 12
    assert (await shown(db, clock))["circuit"] == "closed"  # a moment's trouble: only the backoff
    clock.advance(SPAN)
    await engine.drain()
    assert len(engine.destination.sent) == 12 + 4  # the four that were begun together; then no more
    row = await shown(db, clock)
    assert (row["paused"], row["paused_by"], row["circuit"]) == (True, "hub", "open")
    assert row["paused_until"].timestamp() == clock() + FIRST_PAUSE
    since = "attempts in a row without an answer since 2026-09-21 14:13:20 UTC;"
    assert re.match(rf"circuit open: 1[23] {re.escape(since)}", row["reason"])
    assert "tried again at 2026-09-21 14:14:00 UTC" in row["reason"]
    assert row["reason"].endswith("last: no connection to the vendor")
    assert (await db.fetch("gauge_paused", now(clock)))[0]["circuit_open"]
    assert "circuit_opened" in "".join(capsys.readouterr())


async def test_after_the_pause_one_delivery_is_tried_and_each_failure_doubles_the_pause(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await make(db, clock, tmp_path, 12)
    await open_it(engine, clock)
    for pause in (30, 60, 120, 240, 480, 600, 600):
        clock.advance(pause - 1)
        await engine.drain()
        assert engine.destination.sent == []
        clock.advance(1)
        assert (await shown(db, clock))["circuit"] == "half_open"
        await engine.drain()
        assert len(engine.destination.sent) == 1, f"after {pause} s"
        engine.destination.sent.clear()
        assert (await shown(db, clock))["circuit"] == "open"
    assert LONGEST_PAUSE == 600


async def test_one_answer_closes_it_and_everything_goes_on_at_once(
    db: Database, clock: Clock, tmp_path: Path, capsys: Told
) -> None:
    engine = await make(db, clock, tmp_path, 12)
    await open_it(engine, clock)
    woken: list[str] = []
    clock.advance(FIRST_PAUSE)
    engine.destination.answers = lambda _job: None
    async with db.listen("hub_wake", woken.append):
        await engine.drain()
        await asyncio.sleep(0.05)
    assert await engine.states() == ["done"] * 12
    row = await shown(db, clock)
    assert (row["circuit"], row["paused"], row["reason"]) == ("closed", False, None)
    assert woken == ["vendor"], "the other processes are told"
    assert "circuit_closed" in "".join(capsys.readouterr())
    await arrive(engine, 100, 1)
    engine.destination.answers = lambda _job: AWAY
    await engine.drain()
    assert (await shown(db, clock))["circuit"] == "closed", "the count has begun anew"


@pytest.mark.parametrize(
    "answer",
    [
        Reject("refused", "wrong", "mend it", Answer(400)),
        Defer("too fast", 1.0, answer=Answer(429), limited=True),
        Retry("busy", "somebody else changes it", answer=Answer(409)),
    ],
)
async def test_a_refusal_is_an_answer_too(db: Database, clock: Clock, tmp_path: Path, answer: Outcome) -> None:
    engine = await make(db, clock, tmp_path, 12)
    await open_it(engine, clock)
    clock.advance(FIRST_PAUSE)
    engine.destination.answers = lambda _job: answer
    await engine.drain()
    assert (await shown(db, clock))["circuit"] == "closed"
    await work_on(engine, clock, 60, step=6)
    assert (await shown(db, clock))["circuit"] == "closed", "and never opens it"


async def test_an_answer_now_and_then_keeps_it_closed(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = await make(db, clock, tmp_path, 12)
    count = 0

    def seldom(_job: Job) -> Outcome | None:
        nonlocal count
        count += 1
        return Retry("busy", "somebody else changes it", answer=Answer(409)) if count % (FAILURES - 1) == 0 else AWAY

    engine.destination.answers = seldom
    await work_on(engine, clock, 120, step=8)
    assert count > 5 * FAILURES
    assert (await shown(db, clock))["circuit"] == "closed"


async def test_one_customer_whose_record_the_vendor_chokes_on_closes_nobody_else_out(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await make(db, clock, tmp_path, 1)
    engine.destination.answers = lambda _job: LOST
    engine.destination.found = lambda _job: Retry("500", "the vendor failed inside", answer=Answer(500))
    await work_on(engine, clock, 7200, step=60)
    assert len(engine.destination.looked) > 2
    assert (await shown(db, clock))["circuit"] == "closed"


async def test_lost_workers_and_trouble_that_is_not_the_vendors_do_not_count(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await make(db, clock, tmp_path, 15)
    for _ in range(3):
        await db.run(
            store.claim, "vendor", now(clock), lease=60, lanes=15, per_lane=9, ledger=True, bodies=False
        )  # and the worker dies
        clock.advance(61)
    engine.destination.answers = lambda _job: Defer("our own limit: too many calls are waiting", 2.0)
    await work_on(engine, clock, 16, step=4)
    assert len(engine.destination.sent) > FAILURES
    rows = await db.fetch_text("SELECT failing, opened FROM destinations")
    assert [tuple(r) for r in rows] == [(0, 0)]


@pytest.mark.parametrize(("kind", "concurrency"), [("state", None), ("ledger", None), ("ledger", 3)])
async def test_over_all_processes_only_one_delivery_is_tried_while_it_is_half_open(
    dsn: str, db: Database, clock: Clock, tmp_path: Path, kind: Kind, concurrency: int | None
) -> None:
    engine = await make(db, clock, tmp_path, 12, kind)
    await open_it(engine, clock)
    clock.advance(FIRST_PAUSE)

    async def claim(process: Database) -> list[store.LaneClaim]:
        return await process.run(
            store.claim, "vendor", now(clock), lease=60, lanes=4, per_lane=9, ledger=kind == "ledger", bodies=False,
            concurrency=concurrency,
        )  # fmt: skip

    async with nodes(dsn, 4) as processes:
        claimed = [c for many in await asyncio.gather(*(claim(p) for p in processes * 3)) for c in many]
        assert [len(c.deliveries) for c in claimed] == [1]
        due = await db.fetch("next_due", "vendor", now(clock), concurrency)
        assert due[0][0] is None, "who comes too late sleeps"
        clock.advance(61)  # the worker with the probe died: the next one may try
        claimed = [c for many in await asyncio.gather(*(claim(p) for p in processes)) for c in many]
        assert [len(c.deliveries) for c in claimed] == [1]


async def test_what_was_under_way_when_it_opened_does_not_lengthen_the_pause_but_may_end_it(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await make(db, clock, tmp_path, 14)
    engine.destination.answers = lambda _job: AWAY
    await engine.drain()
    clock.advance(SPAN + 1)
    early = await db.run(store.claim, "vendor", now(clock), lease=60, lanes=2, per_lane=9, ledger=True, bodies=False)
    await engine.drain()
    until = (await shown(db, clock))["paused_until"]
    carrier: Any = next(iter(engine.workers._workers.values()))._deliverer
    await carrier.ledger(early[0], lambda: False)
    assert (await shown(db, clock))["paused_until"] == until
    engine.destination.answers = lambda _job: None
    await carrier.ledger(early[1], lambda: False)
    assert ((await shown(db, clock))["circuit"], (await shown(db, clock))["paused"]) == ("closed", False)


async def test_an_answer_closes_it_and_leaves_a_persons_pause_alone(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = await make(db, clock, tmp_path, 14)
    engine.destination.answers = lambda _job: AWAY
    await engine.drain()
    clock.advance(SPAN + 1)
    early = await db.run(store.claim, "vendor", now(clock), lease=60, lanes=1, per_lane=9, ledger=True, bodies=False)
    await engine.drain()
    await db.run(operate.pause, "vendor", "month end", now(clock))
    engine.destination.answers = lambda _job: None
    carrier: Any = next(iter(engine.workers._workers.values()))._deliverer
    await carrier.ledger(early[0], lambda: False)
    row = await shown(db, clock)
    assert (row["circuit"], row["paused_by"], row["reason"]) == ("closed", "operator", "month end")


async def test_an_unknown_write_is_the_probe_by_being_looked_up(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = await make(db, clock, tmp_path, 12)
    engine.destination.found = lambda _job: Retry("500", "cannot look", answer=Answer(500))
    await open_it(engine, clock, LOST)
    engine.destination.looked.clear()
    clock.advance(FIRST_PAUSE)
    await engine.drain()
    assert (len(engine.destination.looked), engine.destination.sent) == (1, [])
    assert (await shown(db, clock))["circuit"] == "open"
    engine.destination.found = lambda job: Receipt(note="it had landed")
    clock.advance(2 * FIRST_PAUSE)
    await engine.drain()
    await work_on(engine, clock, 120, step=30)
    assert await engine.states() == ["done"] * 12
    assert engine.destination.sent == [], "nothing was sent twice"


async def test_the_lake_is_tried_again_batch_by_batch(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = await make(db, clock, tmp_path, 0, "log")
    await arrive(engine, 0, 6, "price.created")
    engine.destination.batch_answer = lambda _batch: AWAY
    while (await shown(db, clock))["circuit"] == "closed":
        clock.advance(60)
        await engine.drain(flush=True)
        assert len(engine.destination.batches) < 50
    assert len(engine.destination.batches) == FAILURES
    clock.advance(FIRST_PAUSE - 1)
    await engine.drain(flush=True)
    assert len(engine.destination.batches) == FAILURES
    engine.destination.batch_answer = lambda _batch: Receipt()
    clock.advance(3600)
    await engine.drain(flush=True)
    assert await engine.states() == ["done"] * 6
    assert (await shown(db, clock))["circuit"] == "closed"


async def test_a_persons_resume_closes_it_and_a_persons_pause_is_stronger(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await make(db, clock, tmp_path, 12)
    await open_it(engine, clock)
    await db.run(operate.pause, "vendor", "month end", now(clock))
    clock.advance(3600)
    await engine.drain()
    row = await shown(db, clock)
    assert (engine.destination.sent, row["paused_by"], row["reason"]) == ([], "operator", "month end")
    await db.run(operate.resume, "vendor", now(clock))
    assert (await shown(db, clock))["circuit"] == "closed"
    engine.destination.answers = lambda _job: None
    (worker,) = engine.workers._workers.values()
    assert await worker._begin() == 4, "not one, but as many as ever"
    await asyncio.gather(*worker._tasks)


async def test_after_a_persons_resume_the_count_begins_anew_and_so_do_time_budgets(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await make(db, clock, tmp_path, 12, budget=3600.0)
    await open_it(engine, clock)
    await db.run(operate.pause, "vendor", "their upgrade", now(clock))
    clock.advance(2 * 3600)
    await db.run(operate.resume, "vendor", now(clock))
    await engine.drain()
    assert len(engine.destination.sent) == 12, "the failures of before open nothing"
    assert (await shown(db, clock))["circuit"] == "closed"
    assert await engine.states() == ["waiting"] * 12, "and the outage, longer than the budget, has killed nothing"


async def test_a_failure_that_was_answered_since_makes_no_later_moments_trouble_an_outage(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = await make(db, clock, tmp_path, 1)
    engine.destination.answers = lambda _job: AWAY
    await engine.drain()
    engine.destination.answers = lambda _job: None
    await work_on(engine, clock, 60, step=30)
    assert await engine.states() == ["done"]
    await arrive(engine, 1, FAILURES + 2)
    engine.destination.answers = lambda _job: AWAY
    await engine.drain()
    assert len(engine.destination.sent) == 2 + FAILURES + 2
    assert (await shown(db, clock))["circuit"] == "closed"


async def test_an_outage_longer_than_the_time_budget_kills_nothing(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = await make(db, clock, tmp_path, 20, budget=3600.0)
    engine.destination.answers = lambda _job: AWAY
    await work_on(engine, clock, 3 * 3600, step=60)
    assert set(await engine.states()) == {"waiting"}
    tries = len(engine.destination.sent)
    assert tries < 80, "and the vendor was left alone meanwhile"
    failed_again = iter([None, *[Retry("busy", "not quite well yet", answer=Answer(409))] * 6])
    engine.destination.answers = lambda _job: next(failed_again, None)
    await work_on(engine, clock, 3600, step=120)
    assert await engine.states() == ["done"] * 20


async def test_a_healthy_destination_never_writes_its_row(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = await make(db, clock, tmp_path, 12)
    version = "SELECT xmin::text, xmax::text FROM destinations"
    before = await db.fetch_text(version)
    await engine.drain()
    assert await engine.states() == ["done"] * 12
    assert await db.fetch_text(version) == before


async def test_trouble_while_reading_from_the_source_is_not_the_destinations(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = build(db, clock, tmp_path, "ledger", policy=Policy("ledger", slots=4, lease=60))
    await db.fetch("register_destination", "vendor", "ledger", None)
    engine.source.trouble = AWAY
    old = [event(f"evt_{n}", "customer.created", customer(f"cus_{n}")) for n in range(12)]
    await engine.accept(*({**e, "api_version": "2020-08-27"} for e in old))  # old shapes are read again
    await work_on(engine, clock, 40, step=5)
    assert engine.destination.sent == []
    attempts = await db.fetch_text("SELECT count(*) FROM attempts WHERE outcome = 'retry'")
    assert attempts[0][0] > FAILURES
    rows = await db.fetch_text("SELECT failing FROM destinations")
    assert [r["failing"] for r in rows] == [0]
