"""A delivery that ends its worker every time runs out of budget by itself; what was claimed beside it arrives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub import sealing, store
from hub.db import Database
from hub.destination import Kind, Policy
from hub.errors import Outcome
from hub.model import Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, invoice
from tests.quiet import no_log_lines


class KilledError(BaseException):
    """What a kill leaves behind: nothing is written down, nothing is given back."""


def restarted(db: Database, clock: Clock, folder: Path, kind: Kind) -> Engine:
    """A worker as new after the last one was killed, with a vendor that is poisoned by customer 2."""

    def answers(job: Job) -> Outcome | None:
        if job.event.object_id == "cus_2":
            raise KilledError
        return None

    policy = Policy(kind, batch=50, slots=4, lease=60, unknown_wait=30, budget=1000)
    engine = build(db, clock, folder, kind, policy=policy)
    engine.destination.answers = answers
    return engine


async def works_until_killed(engine: Engine) -> None:
    """What it was about to do is not done; what is on its way to PostgreSQL arrives, as with a real kill."""
    with contextlib.suppress(KilledError):
        await engine.drain()
    for worker in engine.workers._workers.values():
        for task in worker._tasks:
            task.cancel()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()} or {asyncio.create_task(asyncio.sleep(0))})


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The tracebacks of so many deaths would take longer than they did."""
    with no_log_lines():
        yield


@pytest.mark.parametrize("kind", ["state", "ledger"])
async def test_a_poison_dies_of_its_budget_and_all_that_was_claimed_beside_it_is_delivered(
    db: Database, clock: Clock, tmp_path: Path, kind: Kind
) -> None:
    engine = restarted(db, clock, tmp_path, kind)
    await engine.accept(
        *(event(f"evt_{i}", "customer.created", customer(f"cus_{i}"), 1_789_000_000 + i) for i in range(1, 5)),
        event("evt_n", "invoice.created", invoice("draft", customer="cus_2")),
    )
    await works_until_killed(engine)
    for seconds in [61, 61, 61, 61, 1_000]:
        clock.advance(seconds)
        await works_until_killed(restarted(db, clock, tmp_path, kind))
    rows = {r["object_id"]: r for r in await engine.rows("object_id, state, code, failures")}
    assert (rows["cus_2"]["state"], rows["cus_2"]["code"]) == ("dead", "workers_lost")
    # Lost once with everybody, and once more before it was clear that somebody kills: then each was tried alone.
    others = {o: (r["state"], r["failures"] <= 2) for o, r in rows.items() if o != "cus_2"}
    assert others == dict.fromkeys(("cus_1", "cus_3", "cus_4", "in_1"), ("done", True))


async def test_beside_what_may_kill_its_worker_the_same_process_begins_nothing(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = restarted(db, clock, tmp_path, "ledger")
    await engine.accept(event("evt_1", "customer.created", customer("cus_1")))
    for _ in range(2):
        moment = datetime.fromtimestamp(clock(), UTC)
        await db.run(store.claim, "vendor", moment, lease=60, lanes=9, per_lane=9, ledger=True, bodies=False)
        clock.advance(61)  # and that worker is gone
    await engine.accept(event("evt_2", "customer.created", customer("cus_3")))
    looking, going_on = asyncio.Event(), asyncio.Event()

    async def find(job: Job) -> Outcome | None:
        looking.set()
        await going_on.wait()
        return None

    engine.destination.find = find  # type: ignore[method-assign]
    worker = engine.workers._workers["vendor"]
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(looking.wait(), 10)
    for _ in range(10):
        worker.wake()
        await asyncio.sleep(0.02)
    assert await engine.states() == ["claimed", "waiting"]
    going_on.set()
    while await engine.states() != ["done", "done"]:  # noqa: ASYNC110 - of the worker's doing
        await asyncio.sleep(0.02)
    await worker.stop(1.0)
    await running


async def test_a_batch_that_was_lost_with_its_worker_counts_as_failed(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = restarted(db, clock, tmp_path, "log")
    await engine.accept(event("evt_1", "price.created", {"id": "price_1", "object": "price"}))
    policy = engine.destination.policy
    for _ in range(2):
        moment = datetime.fromtimestamp(clock(), UTC)
        assert await db.run(sealing.claim_batch, "vendor", moment, policy, flush=True) is not None
        clock.advance(policy.lease + 1)
    (row,) = await engine.rows("failures, first_failure_at")
    assert (row["failures"], row["first_failure_at"]) == (1, moment), "the second claim has found the first one lost"
    await engine.drain(flush=True)
    assert await engine.states() == ["done"]


async def test_a_batch_that_kills_its_worker_each_time_is_dead_once_its_budget_is_used_up(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = restarted(db, clock, tmp_path, "log")
    await engine.accept(event("evt_1", "price.created", {"id": "price_1", "object": "price"}))
    await engine.accept(event("evt_2", "price.updated", {"id": "price_1", "object": "price"}))
    policy = engine.destination.policy
    for _ in range(17):  # 17 leases of 60 s: the first loss is found after the first, and 1,000 s are allowed
        moment = datetime.fromtimestamp(clock(), UTC)
        assert await db.run(sealing.claim_batch, "vendor", moment, policy, flush=True) is not None
        clock.advance(policy.lease + 1)
    await engine.accept(event("evt_3", "price.updated", {"id": "price_1", "object": "price"}))
    clock.advance(60)
    await engine.drain(flush=True)
    rows = await engine.rows("state, code, failures")
    assert [(r["state"], r["code"]) for r in rows] == [("dead", "workers_lost")] * 2 + [("waiting", None)]
    assert rows[0]["failures"] == 17
    lost = await db.fetch_text(
        "SELECT outcome, count(*) AS n FROM attempts WHERE batch_id IS NOT NULL GROUP BY outcome"
    )
    assert [tuple(r) for r in lost] == [("lost", 17)]
    assert engine.destination.batches == [], "it is not begun again"
