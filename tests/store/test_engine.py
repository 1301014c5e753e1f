"""The engine's promises, one by one, on a real database and with a destination that the test scripts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub import store
from hub.db import Database
from hub.destination import Kind, Policy
from hub.errors import Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.model import DeliveryState, Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, invoice, receipt


@pytest.fixture
def engine(db: Database, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest) -> Engine:
    kind: Kind = getattr(request, "param", "ledger")
    return build(db, clock, tmp_path, kind)


def started(engine: Engine) -> tuple[dict[str, object], ...]:
    return (event("evt_c", "customer.created", customer(), 1_788_999_000),)


async def test_a_repeat_changes_nothing(engine: Engine) -> None:
    first = event("evt_1", "invoice.finalized", invoice("open"))
    assert await engine.accept(*started(engine), first) == [1, 2]
    assert await engine.accept(first) == [None]
    await engine.drain()
    assert await engine.accept(first) == [None]
    await engine.drain()
    assert engine.destination.written == [("Account", "k_cus_1", "Acme"), ("Doc", "k_in_1", "open")]


async def test_the_same_event_twice_in_one_group_is_stored_once(engine: Engine) -> None:
    one = event("evt_1", "invoice.finalized", invoice("open"))
    assert sorted(await engine.accept(one, one), key=str) == [1, None]
    assert len(await engine.rows()) == 1


async def test_a_parent_that_is_not_there_yet_is_written_first(engine: Engine) -> None:
    engine.source.objects["cus_1"] = customer()
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    await engine.drain()
    assert engine.destination.written == [("Account", "k_cus_1", "Acme"), ("Doc", "k_in_1", "open")]
    assert engine.source.reads == ["cus_1"]
    await engine.accept(event("evt_2", "invoice.paid", invoice("paid"), 1_789_000_100))
    await engine.drain()
    assert engine.destination.written[2:] == [("Doc", "k_in_1", "paid")]
    assert engine.source.reads == ["cus_1"], "what was read once is in the mirror"


@pytest.mark.parametrize("engine", ["state"], indirect=True)
async def test_state_writes_only_the_newest_and_supersedes_the_rest(engine: Engine) -> None:
    await engine.accept(
        *started(engine),
        event("evt_1", "invoice.created", invoice("draft"), 1_789_000_000),
        event("evt_3", "invoice.paid", invoice("paid"), 1_789_000_000),
        event("evt_2", "invoice.finalized", invoice("open"), 1_789_000_000),
    )
    await engine.drain()
    assert set(engine.destination.written) == {("Account", "k_cus_1", "Acme"), ("Doc", "k_in_1", "paid")}
    assert len(engine.destination.sent) == 1, "one call for all"
    assert await engine.states() == ["done", "superseded", "superseded", "done"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("engine", ["state"], indirect=True)
async def test_three_events_of_one_second_end_as_paid(engine: Engine, order: tuple[int, ...]) -> None:
    events = [
        event("evt_p", "invoice.paid", invoice("paid")),
        event("evt_s", "invoice.payment_succeeded", invoice("paid")),
        event("evt_u", "invoice.updated", invoice("open")),
    ]
    await engine.accept(*started(engine))
    for i in order:
        await engine.accept(events[i])
        await engine.drain()
    assert engine.destination.written[-1] == ("Doc", "k_in_1", "paid")


@pytest.mark.parametrize("engine", ["state"], indirect=True)
async def test_a_true_tie_is_settled_by_one_read(engine: Engine) -> None:
    engine.source.objects["in_1"] = invoice("open", total=777)
    await engine.accept(
        *started(engine),
        event("evt_1", "invoice.updated", invoice("open", total=1)),
        event("evt_2", "invoice.updated", invoice("open", total=2)),
    )
    await engine.drain()
    (job,) = (j for jobs in engine.destination.sent for j in jobs if j.records[-1].record == "Doc")
    assert job.records[-1].fields["total"] == 777
    assert engine.source.reads == ["in_1"]


@pytest.mark.parametrize("engine", ["state"], indirect=True)
async def test_previous_attributes_settle_a_tie_without_a_read(engine: Engine) -> None:
    await engine.accept(
        *started(engine),
        event("evt_2", "invoice.updated", invoice("open", total=2), previous={"total": 1}),
        event("evt_1", "invoice.updated", invoice("open", total=1), previous={"total": 0}),
    )
    await engine.drain()
    (job,) = (j for jobs in engine.destination.sent for j in jobs if j.records[-1].record == "Doc")
    assert job.records[-1].fields["total"] == 2
    assert engine.source.reads == []


async def test_an_old_api_version_is_read_again_at_the_pinned_one(engine: Engine) -> None:
    engine.source.objects["in_1"] = invoice("open", total=42)
    await engine.accept(
        *started(engine), event("evt_1", "invoice.finalized", invoice("open"), api_version="2020-08-27")
    )
    await engine.drain()
    assert engine.source.reads == ["in_1"]
    assert engine.destination.sent[-1][-1].records[-1].fields["total"] == 42


async def test_a_retry_waits_longer_each_time_and_dies_when_the_budget_is_used_up(engine: Engine, clock: Clock) -> None:
    engine.destination.answers = lambda job: Retry("busy", "try later") if job.records[-1].record == "Doc" else None
    await engine.accept(*started(engine), event("evt_1", "invoice.finalized", invoice("open")))
    waits = []
    for _ in range(6):
        await engine.drain()
        row = (await engine.rows())[1]
        waits.append(row["due_at"].timestamp() - clock())
        clock.now = row["due_at"].timestamp()
    assert all(full / 2 <= wait <= full for wait, full in zip(waits, [1, 2, 4, 8, 16, 32], strict=True)), waits
    clock.advance(3 * 86400)
    await engine.drain()
    row = (await engine.rows())[1]
    assert (row["state"], row["code"], row["failures"]) == ("dead", "budget_used_up", 7)
    assert "try later" in row["cause"]


async def test_a_deferral_costs_nothing_and_can_pause_the_destination(engine: Engine, clock: Clock) -> None:
    await engine.db.fetch("register_destination", "vendor", "ledger", None)
    engine.destination.answers = lambda job: Defer("at the limit", 120, pause=True)
    await engine.accept(*started(engine))
    await engine.drain()
    (row,) = await engine.rows()
    assert (row["state"], row["failures"]) == ("waiting", 0)
    engine.destination.answers = lambda job: None
    await engine.accept(event("evt_x", "customer.created", customer("cus_2"), 1_789_000_000))
    clock.advance(60)
    await engine.drain()
    assert len(engine.destination.sent) == 1, "nothing is sent while paused"
    clock.advance(61)
    await engine.drain()
    assert await engine.states() == ["done", "done"]


async def test_an_unknown_outcome_is_looked_up_before_anything_is_sent_again(engine: Engine, clock: Clock) -> None:
    engine.destination.answers = lambda job: Unknown("reply lost")
    await engine.accept(*started(engine))
    await engine.drain()
    assert await engine.states() == ["unknown"]
    clock.advance(29)
    await engine.drain()
    assert engine.destination.looked == []
    engine.destination.found = receipt
    clock.advance(2)
    await engine.drain()
    assert await engine.states() == ["done"]
    assert len(engine.destination.sent) == 1, "found, so not sent again"


async def test_an_unknown_outcome_that_did_not_land_is_sent_again(engine: Engine, clock: Clock) -> None:
    outcomes = iter([Unknown("reply lost"), None])
    engine.destination.answers = lambda job: next(outcomes)
    await engine.accept(*started(engine))
    await engine.drain()
    clock.advance(31)
    await engine.drain()
    assert len(engine.destination.looked) == 1
    assert await engine.states() == ["done"]


@pytest.mark.parametrize("engine", ["state"], indirect=True)
async def test_what_is_unknown_of_an_older_write_is_looked_for_by_the_newer_one_that_takes_its_place(
    engine: Engine, clock: Clock
) -> None:
    engine.destination.answers = lambda job: Unknown("reply lost")
    await engine.accept(*started(engine))
    await engine.drain()
    clock.advance(31)
    engine.destination.answers = lambda job: None
    await engine.accept(event("evt_new", "customer.updated", customer(name="New"), 1_789_000_001))
    await engine.drain()
    assert [job.event.id for job in engine.destination.looked] == ["evt_new"]
    assert await engine.states() == ["superseded", "done"]


async def test_what_is_unknown_is_still_unknown_when_it_is_given_back(engine: Engine, clock: Clock) -> None:
    engine.destination.answers = lambda job: Unknown("reply lost")
    await engine.accept(*started(engine))
    await engine.drain()
    clock.advance(31)
    now = datetime.fromtimestamp(clock(), UTC)

    async def claim() -> list[store.LaneClaim]:
        return await engine.db.run(store.claim, "vendor", now, lease=60, lanes=9, per_lane=9, ledger=True, bodies=False)

    assert await engine.db.run(store.give_back, await claim(), now) == 1
    assert await engine.states() == ["unknown"]
    carrier: Any = engine.workers._workers["vendor"]._deliverer
    await carrier.ledger((await claim())[0], lambda: True)  # the process stops before it is begun
    assert await engine.states() == ["unknown"]


async def test_a_raising_connector_is_an_unknown_outcome(engine: Engine) -> None:
    def explode(job: Job) -> None:
        raise RuntimeError("bug")

    engine.destination.answers = explode
    await engine.accept(*started(engine))
    await engine.drain()
    (row,) = await engine.rows()
    assert (row["state"], row["cause"]) == ("unknown", "the connector raised RuntimeError")


async def test_a_ledger_waits_behind_its_document_only(engine: Engine, clock: Clock) -> None:
    engine.destination.answers = lambda job: Retry("busy", "later") if job.event.object_id == "in_1" else None
    await engine.accept(
        *started(engine),
        event("evt_1", "invoice.finalized", invoice("open")),
        event("evt_2", "invoice.paid", invoice("paid"), 1_789_000_001),
        event("evt_3", "invoice.finalized", invoice("open", "in_2")),
    )
    await engine.drain()
    assert await engine.states() == ["done", "waiting", "waiting", "done"]
    await engine.accept(event("evt_4", "invoice.voided", invoice("void"), 1_789_000_002))
    await engine.drain()
    assert await engine.states() == ["done", "waiting", "waiting", "done", "waiting"]
    assert [j.event.id for jobs in engine.destination.sent for j in jobs] == ["evt_c", "evt_1", "evt_3"]
    engine.destination.answers = lambda job: None
    clock.advance(5)
    await engine.drain()
    assert set(await engine.states()) == {"done"}


async def test_a_dead_letter_of_a_ledger_holds_what_follows(engine: Engine) -> None:
    engine.destination.answers = lambda job: (
        Reject("bad", "no such item", "add the item") if job.event.id == "evt_1" else None
    )
    await engine.accept(
        *started(engine),
        event("evt_1", "invoice.finalized", invoice("open")),
        event("evt_2", "invoice.paid", invoice("paid"), 1_789_000_001),
        event("evt_3", "invoice.finalized", invoice("open", "in_2")),
    )
    await engine.drain()
    assert await engine.states() == ["done", "dead", "held", "done"]
    await engine.accept(event("evt_4", "invoice.voided", invoice("void"), 1_789_000_002))
    await engine.drain()
    rows = await engine.rows()
    assert [(r["state"], r["held_by"]) for r in rows[4:]] == [("held", rows[1]["id"])]


@pytest.mark.parametrize("engine", ["state"], indirect=True)
async def test_a_state_destination_goes_on_and_a_later_success_resolves_the_dead_letter(engine: Engine) -> None:
    engine.destination.answers = lambda job: (
        Reject("bad", "validation rule", "ask the admin") if job.event.id == "evt_1" else None
    )
    await engine.accept(*started(engine), event("evt_1", "invoice.finalized", invoice("open")))
    await engine.drain()
    assert await engine.states() == ["done", "dead"]
    await engine.accept(event("evt_2", "invoice.paid", invoice("paid"), 1_789_000_001))
    await engine.drain()
    assert await engine.states() == ["done", "superseded", "done"]


async def test_a_lost_claim_counts_as_a_failure_and_is_looked_up_first(engine: Engine, clock: Clock) -> None:
    await engine.accept(*started(engine))
    now = datetime.fromtimestamp(clock(), UTC)
    claimed = await engine.db.run(store.claim, "vendor", now, lease=60, lanes=9, per_lane=9, ledger=True, bodies=False)
    assert len(claimed) == 1
    await engine.drain()
    assert engine.destination.sent == [], "somebody else has the lane"
    clock.advance(61)
    await engine.drain()
    (row,) = await engine.rows()
    assert (row["state"], row["claim"], row["failures"]) == ("done", 2, 1)
    assert len(engine.destination.looked) == 1
    late = store.Settlement(claimed[0].deliveries[0], DeliveryState.DEAD, code="x", cause="x", fix="x")
    ours, _ = await engine.db.run(store.settle, [store.Closing((late,))], now)
    assert ours == set()
    assert await engine.states() == ["done"]


async def test_a_claim_given_back_is_untouched(engine: Engine, clock: Clock) -> None:
    await engine.accept(*started(engine))
    now = datetime.fromtimestamp(clock(), UTC)
    claimed = await engine.db.run(store.claim, "vendor", now, lease=60, lanes=9, per_lane=9, ledger=True, bodies=False)
    assert await engine.db.run(store.give_back, claimed, now) == 1
    await engine.drain()
    (row,) = await engine.rows()
    assert (row["state"], row["failures"], engine.destination.looked) == ("done", 0, [])


async def test_two_claims_at_once_never_share_a_lane(engine: Engine, clock: Clock) -> None:
    for i in range(30):
        await engine.accept(event(f"evt_{i}", "customer.created", customer(f"cus_{i % 10}"), 1_789_000_000 + i))
    now = datetime.fromtimestamp(clock(), UTC)

    async def claim() -> list[store.LaneClaim]:
        return await engine.db.run(store.claim, "vendor", now, lease=60, lanes=4, per_lane=9, ledger=True, bodies=False)

    rounds = await asyncio.gather(*(claim() for _ in range(4)))
    lanes = [c.lane for claims in rounds for c in claims]
    assert len(lanes) == len(set(lanes)) == 10
    assert sum(len(c.deliveries) for claims in rounds for c in claims) == 30


@pytest.mark.parametrize("engine", ["log"], indirect=True)
async def test_a_batch_is_sealed_once_and_tried_again_as_it_was(engine: Engine, clock: Clock) -> None:
    engine.destination.policy = Policy("log", batch=3, linger=60)
    engine.workers._workers["vendor"]._policy = engine.destination.policy
    await engine.accept(*(event(f"evt_{i}", "charge.updated", {"id": "ch_1"}) for i in range(2)))
    await engine.drain()
    assert engine.destination.batches == [], "neither full nor old enough"
    outcomes: Iterator[Outcome] = iter([Retry("slow_down", "503"), Receipt()])
    engine.destination.batch_answer = lambda batch: next(outcomes)
    await engine.accept(event("evt_2", "charge.updated", {"id": "ch_1"}))
    await engine.drain()
    await engine.accept(*(event(f"evt_{i}", "charge.updated", {"id": "ch_1"}) for i in range(3, 5)))
    clock.advance(10)
    await engine.drain()
    first, second = engine.destination.batches
    assert (first.id, first.first_seq, first.last_seq) == (second.id, second.first_seq, second.last_seq)
    assert [j.event.id for j in first.jobs] == [j.event.id for j in second.jobs] == ["evt_0", "evt_1", "evt_2"]
    assert await engine.states() == ["done"] * 3 + ["waiting"] * 2


@pytest.mark.parametrize("engine", ["state", "ledger"], indirect=True)
async def test_a_delivery_that_kills_its_workers_dies_and_takes_no_neighbour_along(
    engine: Engine, clock: Clock
) -> None:
    await engine.accept(*started(engine), event("evt_2", "customer.created", customer("cus_2")))
    ledger = engine.destination.policy.kind == "ledger"

    async def claim_and_die() -> list[str]:
        now = datetime.fromtimestamp(clock(), UTC)
        claims = await engine.db.run(
            store.claim, "vendor", now, lease=60, lanes=9, per_lane=9, ledger=ledger, bodies=False
        )
        return [d.event.id for c in claims for d in c.deliveries]

    assert await claim_and_die() == ["evt_c", "evt_2"]
    await engine.db.fetch_text("UPDATE lanes SET due_at = NULL, lease_until = NULL WHERE key = 'cus_2'")
    for _ in range(3):
        clock.advance(61)
        assert await claim_and_die() == ["evt_c"]
    clock.advance(3 * 86400)
    await engine.drain()
    (row, _) = await engine.rows()
    assert (row["state"], row["code"], row["failures"]) == ("dead", "workers_lost", 4)
    assert engine.destination.sent == []
    attempts = await engine.db.fetch_text("SELECT outcome, claim FROM attempts WHERE delivery_id = 1 ORDER BY id")
    assert [(a["outcome"], a["claim"]) for a in attempts] == [("lost", i) for i in range(1, 5)]


async def test_all_that_a_dead_worker_held_of_one_lane_comes_back(engine: Engine, clock: Clock) -> None:
    await engine.accept(*started(engine), event("evt_1", "invoice.finalized", invoice("open")))
    now = datetime.fromtimestamp(clock(), UTC)
    await engine.db.run(store.claim, "vendor", now, lease=60, lanes=9, per_lane=9, ledger=True, bodies=False)
    clock.advance(61)
    await engine.drain()
    assert await engine.states() == ["done", "done"]


async def test_a_database_lost_before_the_send_gives_the_claim_back_uncounted(engine: Engine, clock: Clock) -> None:
    class Away:
        async def read(self, object_type: str, object_id: str) -> None:
            raise ConnectionResetError

    away = Away()
    there, engine.source.read = engine.source.read, away.read  # type: ignore[method-assign]
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    worker = engine.workers._workers["vendor"]
    assert await worker._begin() == 1
    await asyncio.gather(*worker._tasks)
    (row,) = await engine.rows()
    assert (row["state"], row["failures"]) == ("waiting", 0)
    engine.source.objects["cus_1"] = customer()
    engine.source.read = there  # type: ignore[method-assign]
    await engine.drain()
    assert await engine.states() == ["done"]
