"""Events and reads of one object, interleaved by hand: what a vendor is told never goes back. Real engine and store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from hub.db import Database
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, invoice
from tests.prove.order_machine import play

T = 1_789_000_000


@pytest.fixture
async def engine(db: Database, clock: Clock, tmp_path: Path) -> Engine:
    made = build(db, clock, tmp_path, "ledger")
    made.source.objects["cus_1"] = customer()
    return made


def said(total: int, before: int | None, second: int, **more: Any) -> dict[str, Any]:
    """An open invoice changed its total: what it was before is named, unless that is None."""
    previous = {} if before is None else {"previous": {"total": before}}
    id_ = f"evt_{before}_{total}_{second}"
    return event(id_, "invoice.updated", invoice("open", total=total), T + second, **previous, **more)


async def totals(engine: Engine, *told: dict[str, Any] | int) -> list[int]:
    """Accept and carry out one after the other; a number is what Stripe answers to a read from then on. What the vendor
    was sent, in order."""
    for one in told:
        if isinstance(one, int):
            engine.source.objects["in_1"] = invoice("open", total=one)
        else:
            await engine.accept(one)
            await engine.drain()
    return [r.fields["total"] for jobs in engine.destination.sent for j in jobs for r in j.records if r.record == "Doc"]


OLD = {"api_version": "2020-08-27"}
"""Makes the hub read the object, whatever else is known of it."""


async def test_an_event_that_is_older_than_what_was_read_does_not_bring_it_back(engine: Engine) -> None:
    """1 to 2 in one second, to 3 in the next. The first event makes us read, and the read sees 3 already."""
    sent = await totals(engine, 3, said(1, 0, 0, **OLD), said(2, 1, 1), said(3, 2, 2))
    assert sent == [3]


async def test_an_event_that_is_newer_than_what_was_read_needs_no_second_read(engine: Engine) -> None:
    sent = await totals(engine, 1, said(1, 0, 0, **OLD), 3, said(2, 1, 1), said(3, 2, 2))
    assert sent == [1, 2, 3]
    assert engine.source.reads.count("in_1") == 1, "each event names what was there before"


async def test_there_and_back_within_a_second_ends_where_it_ended(engine: Engine) -> None:
    """1 to 2 and back to 1; a read comes between, and the step to 2 is told last."""
    sent = await totals(engine, 1, said(1, 2, 0), said(1, None, 0, **OLD), said(2, 1, 0))
    assert sent == [1]


async def test_an_older_second_does_not_count_against_a_read(engine: Engine) -> None:
    """Something of second 5 was known when we read: what happened before cannot be newer."""
    sent = await totals(engine, 3, said(3, 2, 5, **OLD), said(2, 1, 4))
    assert sent == [3]
    assert engine.source.reads.count("in_1") == 1


async def test_what_arrives_while_a_read_is_under_way_is_not_covered_by_it(engine: Engine) -> None:
    """The slow read still saw 1. The change to 2 is accepted before the read is stored, in the same second."""
    slow = engine.source.read

    async def read(object_type: str, object_id: str) -> dict[str, Any] | None:
        found = await slow(object_type, object_id)
        if object_id == "in_1" and engine.source.reads.count("in_1") == 1:
            await engine.accept(said(2, 1, 0))
            engine.source.objects["in_1"] = invoice("open", total=2)
        return found

    engine.source.read = read  # type: ignore[method-assign]  # a slow source
    sent = await totals(engine, 1, said(1, 0, 0, **OLD))
    assert sent == [1, 2]


async def test_more_events_of_one_second_than_are_compared_are_settled_by_a_read(engine: Engine) -> None:
    """The last of 25 comes first. Without it the others would look like a chain that ends at 24."""
    events = [said(n, n - 1, 0) for n in range(1, 26)]
    engine.source.objects["in_1"] = invoice("open", total=25)
    await engine.accept(events[-1], *events[:-1])
    await engine.drain()
    assert await totals(engine) == [25]
    assert engine.source.reads.count("in_1") == 1, "the read settles it for all of them"


async def test_a_value_that_comes_and_goes_many_times_in_a_second_is_read(engine: Engine) -> None:
    sent = await totals(engine, 1, said(1, 0, 0), said(2, 1, 0), said(1, 2, 0))
    assert sent[-1] == 1


async def test_a_deleted_object_stays_deleted_whatever_is_read_or_told_after(engine: Engine) -> None:
    gone = {"id": "cus_1", "object": "customer", "deleted": True}
    engine.source.objects["cus_1"] = gone
    await totals(engine, 5, said(5, 4, 0))
    await engine.accept(
        event("evt_c", "customer.updated", customer(name="Acme Ltd"), T + 50, previous={"name": "Acme"}),
        event("evt_d", "customer.deleted", customer(name="Acme Ltd"), T + 50),
    )
    await engine.drain()
    assert engine.source.reads.count("cus_1") == 1
    assert [n for r, _, n in engine.destination.written if r == "Account" and n == "Acme"] == []


async def test_a_deleted_draft_told_twice_is_taken_from_what_says_more(engine: Engine) -> None:
    """Stripe answers 404 to a read of it; the twin, fetched for a thin notification, says only that it is gone."""
    draft = invoice("draft", total=7)
    gone = {"id": "in_1", "object": "invoice", "deleted": True}
    told = [
        event("evt_1", "invoice.created", draft, T),
        event("evt_2", "invoice.deleted", draft, T + 9),
        event("evt_3", "invoice.updated", gone, T + 9),
    ]
    assert await totals(engine, *told) == [7], "the twin says nothing new, and no vendor hears of it"
    assert await engine.states() == ["done", "done"]  # of the first and the last: the deletion itself is not mapped


def test_some_generated_lives_end_at_the_truth_for_every_vendor(dsn: str) -> None:
    """The small form of `tests/prove/test_order.py`, the same lives in every run."""
    given = settings(
        max_examples=6,
        stateful_step_count=20,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    figures = play(dsn, given, seed=3)
    assert figures["comparisons"] > 20
