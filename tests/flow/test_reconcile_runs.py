"""How a reconciliation goes about it: windows, what it asks for once more, what is under way, the schedule.

A real database; Stripe's side and the vendor's are lists in memory, for what matters here is who asks them what.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from hub import envelope, metrics, reconcile, store
from hub.db import Database
from hub.destination import Entry, Page
from hub.errors import Defer, OutcomeError, Reject
from hub.money import to_major
from hub.patience import Patience
from hub.reconcile.expect import Rules
from hub.reconcile.repair import Repairs
from hub.reconcile.run import LOCK, Reconciled, Reconciler, ReconcileRunningError
from hub.routing import Router
from tests.conftest import Clock

FIRST = datetime(2026, 11, 2, tzinfo=UTC)
DAY = timedelta(days=1)
ROUTER = Router(
    {"netsuite": "ledger", "crm": "state"},
    {"invoice.finalized": frozenset({"netsuite", "crm"})}, frozenset(), livemode=False, coalesce=0,
)  # fmt: skip


def second(day: float) -> int:
    return int((FIRST + day * DAY).timestamp())


def invoice(number: int, day: float, **changes: Any) -> dict[str, Any]:
    """An open invoice over so many cents as its number says."""
    return {
        "id": f"in_{number}", "object": "invoice", "created": second(day), "currency": "usd", "customer": "cus_1",
        "status": "open", "total": number, "amount_remaining": number, "status_transitions": {
            "finalized_at": second(day)}, "lines": {"data": []},
    } | changes  # fmt: skip


@dataclass
class Stripe:
    """Lists in memory."""

    invoices: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    read_: list[str] = field(default_factory=list)
    latest: int = 0

    async def objects(
        self, object_type: str, cursor: str | None, created_from: int | None, created_to: int | None = None
    ) -> Page:
        assert created_from is not None
        assert created_to is not None
        self.asked.append((object_type, created_from, created_to))
        found = [i for i in self.invoices if created_from <= i["created"] < created_to]
        return Page(tuple(found) if object_type == "invoice" else (), None, 1)

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        self.read_.append(object_id)
        return next((i for i in self.invoices if i["id"] == object_id), None)

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]]:
        return []

    async def newest_event(self) -> dict[str, Any] | None:
        return {"created": self.latest}


@dataclass
class Books:
    """A vendor's entries in memory."""

    entries: list[Entry] = field(default_factory=list)
    days: list[tuple[date, date]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    troubles: list[OutcomeError] = field(default_factory=list)

    async def between(self, first: date, last: date) -> AsyncIterator[list[Entry]]:
        self.days.append((first, last))
        for one in self.entries:
            if first <= one.date <= last:
                yield [one]
                if self.troubles:  # in the middle of the list
                    raise self.troubles.pop()

    async def keyed(self, keys: Sequence[str]) -> list[Entry]:
        self.keys += keys
        return [e for e in self.entries if e.key in keys]

    async def close(self) -> None:
        pass


def booked(of: dict[str, Any], **changes: Any) -> Entry:
    amount = to_major(of["total"], "usd")
    day = datetime.fromtimestamp(of["created"], UTC).date()
    usual: dict[str, Any] = {"date": day, "amount": amount, "open": amount, "status": "booked", "customer": "cus_1"}
    return Entry("netsuite", "invoice", of["id"], f"stripe_{of['id']}", currency="USD", record="invoice",
                 vendor_id=of["id"][3:], **(usual | changes))  # fmt: skip


@dataclass
class World:
    """Both sides, and a reconciler between them."""

    db: Database
    clock: Clock
    stripe: Stripe = field(default_factory=Stripe)
    books: Books = field(default_factory=Books)

    @property
    def reconciler(self) -> Reconciler:
        async def no_sleep(_: float) -> None:
            pass

        return Reconciler(
            self.db, self.stripe, {"netsuite": self.books}, Rules(), Repairs(self.db, ROUTER, self.clock), self.clock,
            timedelta(minutes=15), Patience(sleep=no_sleep),
        )  # fmt: skip

    async def run(self, **more: Any) -> Reconciled:
        done = await self.reconciler.reconcile(FIRST, **more)
        assert done is not None
        return done

    async def rows(self) -> list[dict[str, Any]]:
        return [dict(r) for r in await self.db.fetch_text("SELECT * FROM reconciliations ORDER BY id")]


@pytest.fixture
def world(db: Database) -> World:
    return World(db, Clock(float(second(10))))


def said(done: Reconciled) -> list[tuple[str, str, str]]:
    differences = done.results["netsuite"].differences
    return [(str(d.name), d.entry.key, d.under_way) for d in differences]


async def test_every_day_is_read_once_on_both_sides_and_windows_grow_while_there_is_little(world: World) -> None:
    for number in range(1, 9):
        one = invoice(number, number)
        world.stripe.invoices.append(one)
        world.books.entries.append(booked(one))
    done = await world.run()
    assert (done.results["netsuite"].agree, done.results["netsuite"].documents, done.agrees) == (8, 8, True)
    lists = [(a, b) for t, a, b in world.stripe.asked if t == "invoice"]
    # One day, then two, four, and what is left up to a quarter of an hour ago.
    up_to = second(10) - 900
    assert lists == [
        (second(0), second(1)), (second(1), second(3)), (second(3), second(7)), (second(7), up_to),
    ]  # fmt: skip
    day = FIRST.date()
    assert world.books.days == [(day + a * DAY, day + b * DAY) for a, b in ((0, 0), (1, 2), (3, 6), (7, 9))]
    assert (world.books.keys, world.stripe.read_) == ([], [])


async def test_what_is_booked_on_another_day_is_asked_for_by_its_key_and_what_is_older_by_its_object(
    world: World,
) -> None:
    moved, older = invoice(5832, 3), invoice(700, -40)
    world.stripe.invoices += [moved, older]
    world.books.entries += [
        booked(moved, date=date(2027, 1, 1)),  # its period was closed
        booked(older, date=date(2026, 11, 3), amount=Decimal("7.01")),
        booked(invoice(9, 2)),  # Stripe knows nothing of it
    ]
    done = await world.run()
    assert world.books.keys == ["stripe_in_5832"]
    assert sorted(world.stripe.read_) == ["in_700", "in_9"]
    assert sorted(said(done)) == [("amount", "stripe_in_700", ""), ("extra", "stripe_in_9", "")]
    assert done.results["netsuite"].documents == 2


async def test_a_limit_in_the_middle_of_a_list_is_waited_for_and_nothing_counts_twice(world: World) -> None:
    world.stripe.invoices += [invoice(n, 1) for n in (1, 2, 3)]
    world.books.entries += [booked(i) for i in world.stripe.invoices]
    world.books.troubles.append(OutcomeError(Defer("too many", 1.0)))
    done = await world.run()
    assert (said(done), done.results["netsuite"].agree) == ([], 3)


async def test_what_ends_it_leaves_nothing_that_looks_like_a_result(world: World) -> None:
    world.stripe.invoices.append(invoice(1, 1))
    world.books.entries.append(booked(world.stripe.invoices[0]))
    world.books.troubles.append(OutcomeError(Reject("INVALID_LOGIN", "no", "log in")))
    with pytest.raises(OutcomeError):
        await world.run()
    assert await world.rows() == []


async def test_a_delivery_that_is_not_over_is_under_way_and_a_dead_one_is_its_own_way_out(world: World) -> None:
    world.stripe.invoices += [invoice(1, 1), invoice(2, 1), invoice(3, 1)]
    now = datetime.fromtimestamp(world.clock(), UTC)
    for number in (1, 2):
        body = (
            b'{"id": "evt_%d", "type": "invoice.finalized", "data": {"object": {"id": "in_%d", "object": "invoice"}}}'
        )
        event = envelope.read(body % (number, number), now)
        await world.db.run(store.accept, [ROUTER.decide(event, now)], now)
    await world.db.fetch_text(
        "UPDATE deliveries SET state = 'dead', due_at = NULL, settled_at = now(), code = 'USER_ERROR', cause = 'c',"
        " fix = 'f' WHERE object_id = 'in_2' AND destination = 'netsuite'"
    )
    done = await world.run()
    (waits,) = [d for d in done.results["netsuite"].differences if d.under_way]
    assert (waits.entry.object_id, waits.under_way.endswith("is waiting")) == ("in_1", True)
    assert [d.entry.object_id for d in done.results["netsuite"].counted] == ["in_2", "in_3"]
    repaired = await world.run(repair=True)
    assert repaired.repairs == ["netsuite: write invoice stripe_in_3 again (invoice.finalized)"]
    assert [row["repaired"] for row in await world.rows()] == [0, 1]
    rows = await world.db.fetch_text(
        "SELECT e.id, e.kind, d.destination FROM events e JOIN deliveries d ON d.event_seq = e.seq"
        " WHERE e.object_id = 'in_3'"
    )
    assert [(r["kind"], r["destination"]) for r in rows] == [("read", "netsuite")], "the CRM is not told again"
    assert rows[0]["id"].startswith("reconcile:in_3:invoice.finalized:")
    under_way = said(await world.run(repair=True))
    assert [u for n, k, u in under_way if k == "stripe_in_3"] != [""]


async def test_what_a_repair_forgets_is_the_digest_and_never_what_a_person_linked(world: World) -> None:
    world.stripe.invoices += [invoice(1, 1), invoice(2, 1)]
    for number, digest in ((1, "d" * 32), (2, "linked")):
        await world.db.fetch_text(
            "INSERT INTO links (destination, object_id, record, key, vendor_id, digest, mapping, linked_at)"
            " VALUES ('netsuite', $1, 'invoice', $2, '7', $3, 'netsuite/invoice@2', now())",
            f"in_{number}", f"stripe_in_{number}", digest,
        )  # fmt: skip
    await world.run(repair=False)
    links = "SELECT digest FROM links ORDER BY object_id"
    assert [r["digest"] for r in await world.db.fetch_text(links)] == ["d" * 32, "linked"]
    await world.run(repair=True)
    assert [r["digest"] for r in await world.db.fetch_text(links)] == ["forgotten", "linked"]


async def test_stripes_own_clock_counts_if_it_is_ahead_and_nothing_younger_than_the_grace_time_is_looked_at(
    world: World,
) -> None:
    world.stripe.latest = second(20)
    young = invoice(1, 20)
    world.stripe.invoices.append(young)
    done = await world.run()
    assert (done.up_to, said(done)) == (datetime.fromtimestamp(second(20) - 900, UTC), [])
    world.stripe.latest += 1000
    # Now it is old enough, but has just been paid.
    world.stripe.invoices[0] = replace_steps(young, paid_at=second(20) + 950)
    done = await world.run()
    assert said(done) == [("missing", "stripe_in_1", "it changed in Stripe only just now")]


def replace_steps(one: dict[str, Any], **steps: int) -> dict[str, Any]:
    return {**one, "status_transitions": {**one["status_transitions"], **steps}}


async def test_one_at_a_time_and_on_schedule_only_when_it_is_due(world: World) -> None:
    busy = ReconcileRunningError("another")
    async with world.db.alone(LOCK, busy):
        with pytest.raises(ReconcileRunningError):
            await world.run()
    await world.run()
    now = datetime.fromtimestamp(world.clock(), UTC)
    one = world.reconciler
    assert await one.reconcile(FIRST, unless_since=now - timedelta(hours=1)) is None
    assert await one.reconcile(FIRST, unless_since=now + timedelta(hours=1)) is not None
    assert len(await world.rows()) == 2
    world.clock.advance(7200)
    running = asyncio.create_task(one.on_schedule(3600, 5, start_after=0.0))
    async with asyncio.timeout(10):
        while len(await world.rows()) < 3:  # noqa: ASYNC110 - the row is all that is told
            await asyncio.sleep(0.01)
    running.cancel()
    (last,) = (await world.rows())[2:]
    # Five days before the beginning of the day: 12 November 02:00 less a quarter of an hour.
    assert (last["since"], last["up_to"]) == (
        datetime(2026, 11, 7, tzinfo=UTC), datetime(2026, 11, 12, 1, 45, tzinfo=UTC),
    )  # fmt: skip
    assert last["repaired"] == 0


async def test_gauges_are_those_of_the_last_one_and_none_before_the_first(world: World) -> None:
    made = metrics.create()
    await reconcile.gauges(world.db, made)
    assert [s for m in made.differences.collect() for s in m.samples] == []
    world.stripe.invoices.append(invoice(1, 1))
    await world.run()
    await reconcile.gauges(world.db, made)
    assert made.differences.labels("netsuite", "missing")._value.get() == 1
    world.books.entries.append(booked(world.stripe.invoices[0]))
    done = await world.run()
    await reconcile.gauges(world.db, made)
    assert made.differences.labels("netsuite", "missing")._value.get() == 0
    assert made.reconciled_until.labels("netsuite")._value.get() == done.up_to.timestamp()
