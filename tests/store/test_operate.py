"""What a person does to the queue, on a real database: once each, whoever presses, and nothing else is disturbed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hub import operate
from hub.db import Database
from hub.destination import Kind, Policy
from hub.errors import Receipt, Reject, Unknown
from hub.judge import poison
from hub.model import DeliveryState
from hub.operate import ConflictError, NotFoundError, ReasonError, Requeued
from tests.conftest import Clock
from tests.engine import Engine, build, customer, dead_with_two_behind, event, invoice
from tests.filling import (
    LEDGER,
    NOW,
    accept,
    claim,
    execute,
    finish,
    new_event,
    one,
    register,
    routed,
    settle,
    settlement,
)

LATER = NOW + timedelta(hours=2)
WAITING = """SELECT count(DISTINCT pid) FROM pg_locks
WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"""


@pytest.fixture
def engine(db: Database, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest) -> Engine:
    kind: Kind = getattr(request, "param", "ledger")
    policy = Policy(kind, batch=3, slots=4, lease=60, unknown_wait=30, budget=20)
    return build(db, clock, tmp_path, kind, policy=policy)


async def delivery(db: Database, id_: int = 1) -> dict[str, Any]:
    return dict(await one(db, "SELECT * FROM deliveries WHERE id = $1", id_))


async def lane(db: Database) -> dict[str, Any]:
    return dict(await one(db, "SELECT * FROM lanes"))


async def states(db: Database) -> list[str]:
    return [r["state"] for r in await db.fetch_text("SELECT state FROM deliveries ORDER BY id")]


async def conflict(db: Database, *arguments: Any) -> str:
    """The code with which a verb is refused."""
    with pytest.raises(ConflictError) as caught:
        await db.run(*arguments)
    return caught.value.code


async def test_a_dead_letter_is_due_at_once_with_a_new_budget(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.DEAD, "reject", failed=True)
    before = await delivery(db)
    assert (before["failures"], before["first_failure_at"]) == (1, NOW)
    assert (await lane(db))["due_at"] is None

    assert await db.run(operate.retry, 1, LATER) == Requeued(1, 0)

    after = await delivery(db)
    assert (after["state"], after["due_at"], after["settled_at"]) == ("waiting", LATER, None)
    assert (after["failures"], after["first_failure_at"]) == (1, None)
    assert (after["code"], after["fix"], after["note"]) == ("tax_code", None, "retried by an operator")
    assert (await lane(db))["due_at"] == LATER


async def test_what_waits_is_due_at_once_and_keeps_its_budget(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.WAITING, "retry", due_at=LATER, failed=True, code="busy")
    soon = NOW + timedelta(minutes=1)
    assert await db.run(operate.retry, 1, soon) == Requeued(1, 0)
    after = await delivery(db)
    assert (after["state"], after["due_at"], after["first_failure_at"]) == ("waiting", soon, NOW)
    assert (await lane(db))["due_at"] == soon


async def test_an_unknown_outcome_is_not_looked_at_before_its_time(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.UNKNOWN, "unknown", due_at=LATER, failed=True, code="outcome_unknown")
    with pytest.raises(ConflictError) as refused:
        await db.run(operate.retry, 1, NOW + timedelta(minutes=1))
    assert refused.value.code == "outcome_unknown"
    assert (await delivery(db))["due_at"] == LATER


@pytest.mark.parametrize("state", [DeliveryState.DEAD, DeliveryState.WAITING, DeliveryState.HELD])
async def test_of_two_who_retry_at_once_one_wins(db: Database, state: DeliveryState) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    if state is DeliveryState.HELD:
        await execute(db, "UPDATE deliveries SET state = 'held', held_by = 99, due_at = NULL")
    else:
        await finish(db, state, "retry", due_at=None if state is DeliveryState.DEAD else LATER)
    presses = [db.run(operate.retry, 1, NOW + timedelta(milliseconds=i)) for i in range(5)]
    answers = await asyncio.gather(*presses, return_exceptions=True)
    assert [a for a in answers if isinstance(a, Requeued)] == [Requeued(1, 0)]
    refused = [a for a in answers if isinstance(a, ConflictError)]
    assert [a.code for a in refused] == ["already_due"] * 4
    assert "retried it a moment ago" in str(refused[0])


async def test_of_two_who_skip_at_once_one_wins(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.DEAD, "reject")
    presses = [db.run(operate.skip, 1, f"reason {i}", NOW) for i in range(3)]
    answers = await asyncio.gather(*presses, return_exceptions=True)
    assert answers.count(Requeued(1, 0)) == 1
    winner = answers.index(Requeued(1, 0))
    assert (await delivery(db))["note"] == f"reason {winner}"
    assert [a.code for a in answers if isinstance(a, ConflictError)] == ["already_skipped"] * 2


async def test_what_is_over_or_under_way_is_refused_with_the_reason(db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i}"), LEDGER) for i in range(4)))
    claims = await claim(db)
    first, second, third, _fourth = claims[0].deliveries
    await settle(
        db,
        [],
        settlement(first, DeliveryState.DONE),
        settlement(second, DeliveryState.SUPERSEDED, superseded_by=third.id),
        settlement(third, DeliveryState.DEAD),
    )
    await db.run(operate.skip, 3, "sold to another", NOW)
    refused = ["already_done", "already_superseded", "already_skipped", "being_delivered"]
    assert [await conflict(db, operate.retry, i, NOW) for i in (1, 2, 3, 4)] == refused
    assert [await conflict(db, operate.skip, i, "not wanted", NOW) for i in (1, 2, 3, 4)] == refused
    with pytest.raises(NotFoundError, match="no delivery 5"):
        await db.run(operate.retry, 5, NOW)
    with pytest.raises(NotFoundError, match="no delivery 5"):
        await db.run(operate.skip, 5, "not wanted", NOW)
    with pytest.raises(ConflictError, match="superseded by delivery 3"):
        await db.run(operate.retry, 2, NOW)
    with pytest.raises(ConflictError, match="skipped: sold to another"):
        await db.run(operate.retry, 3, NOW)
    assert await states(db) == ["done", "superseded", "skipped", "claimed"]


async def test_a_leased_lane_keeps_its_due_time_and_who_holds_it_sees_the_retry(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.DEAD, "reject")
    await accept(db, routed(new_event("evt_2", object_id="in_2"), LEDGER))
    claims = await claim(db)
    leased = await lane(db)
    assert leased["due_at"] == leased["lease_until"] == NOW + timedelta(seconds=60)

    await db.run(operate.retry, 1, NOW)

    assert await lane(db) == leased
    await settle(db, claims, settlement(claims[0].deliveries[0], DeliveryState.DONE))
    assert (await lane(db))["due_at"] == NOW
    (again,) = await claim(db)
    assert [d.id for d in again.deliveries] == [1]


async def test_skipping_the_last_open_delivery_leaves_the_lane_idle(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER, due_at=NOW))
    await db.run(operate.skip, 1, "a test order", NOW)
    assert (await lane(db))["due_at"] is None
    assert await claim(db) == []


@pytest.mark.parametrize("verb", ["retry", "skip"])
async def test_workers_are_woken(db: Database, verb: str) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.DEAD, "reject")
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with db.listen("hub_wake", heard.put_nowait):
        if verb == "retry":
            await db.run(operate.retry, 1, NOW)
        else:
            await db.run(operate.skip, 1, "not wanted", NOW)
        assert await asyncio.wait_for(heard.get(), 5) == LEDGER


async def attempted(engine: Engine) -> list[int]:
    """Deliveries in the order in which they were attempted; one whose record is as wanted already is not sent."""
    return [r["delivery_id"] for r in await engine.db.fetch_text("SELECT delivery_id FROM attempts ORDER BY id")]


def sent(engine: Engine) -> list[int]:
    return [job.delivery_id for jobs in engine.destination.sent for job in jobs]


async def test_retrying_a_dead_letter_delivers_it_and_then_what_it_held(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    assert await engine.db.run(operate.retry, 2, NOW) == Requeued(1, 2)
    notes = [r["note"] for r in await engine.rows("id, note")]
    assert notes[2:4] == ["released: delivery 2 was retried"] * 2
    await engine.drain()
    assert await engine.states() == ["done"] * 5
    assert await attempted(engine) == [2, 3, 4]


async def test_skipping_a_dead_letter_lets_what_it_held_go_on(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    assert await engine.db.run(operate.skip, 2, "  booked by hand ", NOW) == Requeued(1, 2)
    skipped = (await engine.rows())[1]
    assert (skipped["state"], skipped["note"], skipped["settled_at"]) == ("skipped", "booked by hand", NOW)
    await engine.drain()
    assert await engine.states() == ["done", "skipped", "done", "done", "done"]
    assert await attempted(engine) == [3, 4]


async def test_retrying_a_held_one_says_that_it_will_be_held_again(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    done = await engine.db.run(operate.retry, 3, NOW)
    assert (done.deliveries, done.released) == (1, 0)
    assert done.note is not None
    assert "delivery 2, which held it, is still dead" in done.note
    await engine.drain()
    assert await engine.states() == ["done", "dead", "held", "held", "done"]
    assert sent(engine) == []


async def test_what_may_have_landed_is_looked_for_before_it_is_sent_again(engine: Engine, clock: Clock) -> None:
    engine.destination.answers = lambda job: Unknown("no reply") if job.records[-1].record == "Doc" else None
    await engine.accept(
        event("evt_c", "customer.created", customer(), 1_788_999_000),
        event("evt_1", "invoice.finalized", invoice("open")),
    )
    await engine.drain()
    clock.advance(31)
    await engine.drain()
    assert await engine.states() == ["done", "dead"], "the budget of 20 s is used up"
    engine.destination.sent.clear()
    engine.destination.looked.clear()
    engine.destination.found = lambda job: Receipt(note="it was there")

    await engine.db.run(operate.retry, 2, NOW + timedelta(seconds=31))

    assert await engine.states() == ["done", "unknown"]
    await engine.drain()
    assert [job.delivery_id for job in engine.destination.looked] == [2]
    assert sent(engine) == []
    assert await engine.states() == ["done", "done"]


async def test_an_unknown_outcome_is_not_forgotten_while_held(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    await execute(
        engine.db,
        "INSERT INTO attempts (delivery_id, claim, started_at, duration_ms, outcome) VALUES (3, 1, $1, 5, 'unknown')",
        NOW,
    )
    await engine.db.run(operate.retry, 2, NOW)
    assert await engine.states() == ["done", "waiting", "unknown", "waiting", "done"]


async def test_a_budget_used_up_by_lost_claims_is_looked_for_too(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.DEAD, "retry", code="budget_used_up")
    await db.run(operate.retry, 1, NOW)
    assert await states(db) == ["unknown"]


async def test_what_lost_workers_may_have_written_is_looked_for_too(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await claim(db)  # and the worker ends
    await finish_at(db, LATER)
    await db.run(operate.retry, 1, LATER)
    assert await states(db) == ["unknown"]


async def finish_at(db: Database, now: datetime) -> None:
    """Claim what was lost, and let it die of that."""
    claims = await claim(db, now=now)
    (delivery,) = claims[0].deliveries
    assert delivery.was_lost
    await settle(db, claims, poison(delivery), now=now)


async def full_batches(engine: Engine) -> None:
    """Deliveries 1 to 3 in a dead batch, 4 to 6 waiting behind it."""
    refuse = Reject("no_bucket", "the bucket is gone", "make it anew")
    engine.destination.batch_answer = lambda batch: refuse
    await engine.accept(*(event(f"evt_{i}", "payout.paid", {"id": f"po_{i}", "object": "payout"}) for i in range(6)))
    await engine.drain()
    assert await engine.states() == ["dead"] * 3 + ["waiting"] * 3
    assert (await lane(engine.db))["due_at"] is None
    engine.destination.batch_answer = lambda batch: Receipt()
    engine.destination.batches.clear()


def batches(engine: Engine) -> list[list[int]]:
    return [[job.delivery_id for job in batch.jobs] for batch in engine.destination.batches]


@pytest.mark.parametrize("engine", ["log"], indirect=True)
async def test_a_sealed_batch_is_retried_whole(engine: Engine) -> None:
    await full_batches(engine)
    done = await engine.db.run(operate.retry, 2, NOW)
    assert (done.deliveries, done.released) == (3, 0)
    assert done.note == "it belongs to the sealed batch 1, whose deliveries move together"
    assert await conflict(engine.db, operate.retry, 1, NOW) == "already_due"
    await engine.drain()
    assert batches(engine) == [[1, 2, 3], [4, 5, 6]]
    assert await engine.states() == ["done"] * 6
    assert await conflict(engine.db, operate.retry, 3, NOW) == "already_done"


@pytest.mark.parametrize("engine", ["log"], indirect=True)
async def test_a_sealed_batch_is_skipped_whole_and_the_next_one_goes(engine: Engine) -> None:
    await full_batches(engine)
    done = await engine.db.run(operate.skip, 3, "a test day", NOW)
    assert (done.deliveries, done.released) == (3, 0)
    await engine.drain()
    assert batches(engine) == [[4, 5, 6]]
    assert await engine.states() == ["skipped"] * 3 + ["done"] * 3


async def test_a_pause_stops_claiming_until_it_is_resumed(db: Database) -> None:
    await register(db, LEDGER, "ledger")
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await db.run(operate.pause, LEDGER, " closing the month ", NOW)
    row = await one(db, "SELECT paused_until = 'infinity' AS forever, reason, paused_by FROM destinations")
    assert tuple(row) == (True, "closing the month", "operator")
    assert await claim(db, now=NOW + timedelta(days=400)) == []
    await execute(db, "UPDATE deliveries SET due_at = $1", LATER)
    done = await db.run(operate.retry, 1, NOW)
    assert done.note == "netsuite is paused (closing the month): it is tried when that is over"

    heard: asyncio.Queue[str] = asyncio.Queue()
    async with db.listen("hub_wake", heard.put_nowait):
        await db.run(operate.resume, LEDGER, NOW)
        assert await asyncio.wait_for(heard.get(), 5) == LEDGER
    row = await one(db, "SELECT paused_until, reason, paused_by FROM destinations")
    assert tuple(row) == (None, None, None)
    assert len(await claim(db)) == 1
    assert await conflict(db, operate.resume, LEDGER, NOW) == "not_paused"


async def test_of_two_who_resume_at_once_one_wins(db: Database) -> None:
    await register(db, LEDGER, "ledger")
    await db.run(operate.pause, LEDGER, "x", NOW)
    rival = await asyncpg.connect(db.dsn)
    async with rival.transaction():  # so that all of them have begun before any is through
        await rival.execute("SELECT FROM destinations FOR UPDATE")
        presses = [asyncio.create_task(db.run(operate.resume, LEDGER, NOW)) for _ in range(3)]
        while (await one(db, WAITING))[0] < len(presses):  # noqa: ASYNC110 - of PostgreSQL's doing
            await asyncio.sleep(0.01)
    await rival.close()
    answers = await asyncio.gather(*presses, return_exceptions=True)
    assert answers.count(None) == 1
    assert [a.code for a in answers if isinstance(a, ConflictError)] == ["not_paused"] * 2


async def test_the_hubs_own_pause_can_be_ended_or_taken_over(db: Database) -> None:
    await register(db, LEDGER, "ledger")
    await db.fetch("pause_by_hub", LEDGER, LATER, "daily limit reached")
    await db.run(operate.resume, LEDGER, NOW)
    await db.fetch("pause_by_hub", LEDGER, LATER, "daily limit reached")
    await db.run(operate.pause, LEDGER, "asked to by their support", NOW)
    row = await one(db, "SELECT paused_until = 'infinity' AS forever, paused_by FROM destinations")
    assert tuple(row) == (True, "operator")


async def test_a_pause_that_is_over_cannot_be_resumed(db: Database) -> None:
    await register(db, LEDGER, "ledger")
    await db.fetch("pause_by_hub", LEDGER, NOW, "daily limit reached")
    assert await conflict(db, operate.resume, LEDGER, NOW) == "not_paused"


async def test_bad_settings_are_mended_in_the_settings(db: Database) -> None:
    await register(db, LEDGER, "ledger", "HUB_NETSUITE_ACCOUNT: is missing")
    with pytest.raises(ConflictError, match=r"HUB_NETSUITE_ACCOUNT: is missing\. Fix the settings") as caught:
        await db.run(operate.resume, LEDGER, NOW)
    assert caught.value.code == "paused_by_settings"
    assert await conflict(db, operate.pause, LEDGER, "also by me", NOW) == "paused_by_settings"
    assert (await one(db, "SELECT paused_by FROM destinations"))["paused_by"] == "settings"


async def test_a_destination_that_is_not_there(db: Database) -> None:
    with pytest.raises(NotFoundError, match="no destination nowhere"):
        await db.run(operate.pause, "nowhere", "x", NOW)
    with pytest.raises(NotFoundError, match="no destination nowhere"):
        await db.run(operate.resume, "nowhere", NOW)


@pytest.mark.parametrize("reason", ["", " \n ", "x" * 501, "a\x00b", "\ud800"])
async def test_a_reason_must_say_something_that_can_be_kept(db: Database, reason: str) -> None:
    await register(db, LEDGER, "ledger")
    await accept(db, routed(new_event("evt_1"), LEDGER))
    with pytest.raises(ReasonError, match="reason"):
        await db.run(operate.skip, 1, reason, NOW)
    with pytest.raises(ReasonError, match="reason"):
        await db.run(operate.pause, LEDGER, reason, NOW)
    assert await states(db) == ["waiting"]


async def test_the_longest_reason_is_kept_whole(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await db.run(operate.skip, 1, "ä" * 500, NOW)
    assert (await delivery(db))["note"] == "ä" * 500


async def test_a_job_is_looked_at_once(engine: Engine) -> None:
    """A retry while the worker drains disturbs nothing: whatever wins, every delivery is sent exactly once."""
    await engine.accept(
        event("evt_c", "customer.created", customer(), 1_788_999_000),
        *(event(f"evt_{i}", "invoice.finalized", invoice("open", f"in_{i}")) for i in range(8)),
    )
    await execute(engine.db, "UPDATE deliveries SET due_at = $1 WHERE id > 1", LATER)

    async def press(id_: int) -> Requeued | ConflictError:
        try:
            return await engine.db.run(operate.retry, id_, NOW)
        except ConflictError as error:
            return error

    async def drain() -> None:
        for _ in range(4):
            await engine.drain()

    answers, _ = await asyncio.gather(asyncio.gather(*(press(2 + i % 8) for i in range(16))), drain())
    await engine.drain()
    assert sum(isinstance(a, Requeued) for a in answers) == 8
    assert sorted(sent(engine)) == list(range(1, 10))
    assert await engine.states() == ["done"] * 9
