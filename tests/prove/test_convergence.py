"""Generated lives of a customer's invoices, told to the hub in every disorder, to a vendor with every kind of trouble.

The model knows nothing of the engine: a life is a list of true states; what must hold in the end is the last of each.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hub.db import Database
from hub.destination import Kind
from hub.errors import Defer, Outcome, Receipt, Retry, Unknown
from hub.model import Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, invoice, receipt
from tests.quiet import no_log_lines

pytestmark = pytest.mark.prove  # until they have run long enough to be trusted in every run

MANY = int(os.environ.get("HUB_PROVE_EXAMPLES", "300"))
START = 1_789_000_000
OPEN = "waiting", "claimed", "unknown", "held", "dead"
NEXT_DUE = "SELECT min(due_at) FROM lanes WHERE due_at IS NOT NULL"
EMPTY = "TRUNCATE events, deliveries, lanes, batches, attempts, links, destinations RESTART IDENTITY"

Content = tuple[str, int]
"""What of an invoice reaches the vendor: status and total."""


@dataclass(frozen=True)
class Moment:
    """Something that truly happened to an invoice, and what Stripe says of it."""

    id_: str
    step: int
    types: tuple[str, ...]
    second: int
    now: Content
    before: Content | None
    tells: bool
    """Does the `invoice.updated` carry `previous_attributes`?"""

    def events(self) -> list[dict[str, Any]]:
        made = []
        for type_ in self.types:
            more: dict[str, Any] = {}
            if type_ == "invoice.updated" and self.tells and self.before is not None:
                names = ("status", "total")
                pairs = zip(names, self.before, self.now, strict=True)
                more["previous"] = {n: was for n, was, is_ in pairs if was != is_}
            name = f"evt_{self.id_}_{self.step}_{type_}"
            made.append(event(name, type_, shown(self.id_, self.now), START + self.second, **more))
        return made


def shown(id_: str, content: Content) -> dict[str, Any]:
    return invoice(content[0], id_, total=content[1])


NEXT = {
    "draft": ("draft", "open"),
    "open": ("open", "paid", "void", "uncollectible"),
    "uncollectible": ("uncollectible", "paid", "void"),
    "paid": ("paid",),
    "void": ("void",),
}
SAID = {
    "open": ("invoice.finalized",),
    "paid": ("invoice.paid", "invoice.payment_succeeded"),
    "void": ("invoice.voided",),
    "uncollectible": ("invoice.marked_uncollectible",),
}


@st.composite
def lives(draw: st.DrawFn, id_: str) -> list[Moment]:
    """A way through the statuses Stripe documents; totals never come back to what they were, time may stand still."""
    second, now = draw(st.integers(0, 3)), ("draft", 100)
    moments = [Moment(id_, 0, ("invoice.created",), second, now, None, False)]
    for step in range(1, draw(st.integers(1, 6))):
        status = draw(st.sampled_from(NEXT[now[0]]))
        second += draw(st.sampled_from([0, 0, 1, 5]))
        said = SAID[status] if status != now[0] else ()
        changed = (status, now[1] + step if status == now[0] else now[1])
        moments.append(Moment(id_, step, (*said, "invoice.updated"), second, changed, now, draw(st.booleans())))
        now = changed
    return moments


@dataclass
class Vendor:
    """Keeps its own record of what was done to it; in trouble as long as `troubled`."""

    rng: random.Random
    troubled: bool = True
    records: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    """Of each key the effects, in order: the last is what it holds."""
    troubles: list[str] = field(default_factory=list)

    def answer(self, job: Job) -> Outcome | None:
        kinds = ["well", "retry", "landed", "not landed", "raised after", "defer", "killed before", "killed after"]
        kind = self.rng.choices(kinds, [6, 1, 1, 1, 1, 1, 1, 1])[0] if self.troubled else "well"
        if kind != "well":
            self.troubles.append(kind)
        if kind in ("well", "landed", "raised after", "killed after"):
            for record in job.records:
                self.records.setdefault((record.record, record.key), []).append(dict(record.fields))
        match kind:
            case "retry":
                return Retry("busy", "later")
            case "defer":
                return Defer("at a limit", 20)
            case "landed" | "not landed":
                return Unknown("the reply was lost")
            case "raised after":
                raise ConnectionResetError
            case "killed before" | "killed after":
                raise Killed
        return receipt(job)

    def find(self, job: Job) -> Receipt | None:
        """Only if everything is exactly as wanted."""
        held = [self.records.get((r.record, r.key), [{}])[-1] == dict(r.fields) for r in job.records]
        return receipt(job) if all(held) else None


class Killed(BaseException):
    """The worker ends here, as if by `kill -9`: nothing of the engine catches it, the lease runs out."""


@dataclass
class World:
    """One example: Stripe as it truly is, the hub, the vendor."""

    engine: Engine
    clock: Clock
    vendor: Vendor

    async def drain(self) -> None:
        try:
            await self.engine.drain()
        except Killed:
            worker = self.engine.workers._workers["vendor"]
            while worker._tasks:
                await next(iter(worker._tasks))

    async def tell(self, moments: Sequence[Moment], order: Sequence[tuple[Moment, dict[str, Any]]], waits: int) -> None:
        """In this order, with work now and then between. What Stripe answers to a read is never older than what it told
        of any object: once something of second 5 is known, everything of second 4 has happened.
        """
        rng = random.Random(waits)
        happened: dict[str, int] = {}
        for moment, said in order:
            for past in moments:
                if (past is moment or past.second < moment.second) and past.step >= happened.get(past.id_, -1):
                    happened[past.id_] = past.step
                    self.engine.source.objects[past.id_] = shown(past.id_, past.now)
            await self.engine.accept(said)
            if rng.random() < 0.5:
                await self.drain()
                self.clock.advance(rng.choice([0, 0.5, 3, 31, 61]))
        for moment in moments:
            self.engine.source.objects[moment.id_] = shown(moment.id_, moment.now)

    async def settle(self) -> None:
        """Well again: until nothing is due any more."""
        self.vendor.troubled = False
        for _ in range(100):
            await self.drain()
            due = (await self.engine.db.fetch_text(NEXT_DUE))[0][0]
            if due is None:
                return
            self.clock.now = max(self.clock.now, due.timestamp() + 0.001)
        raise AssertionError(f"there is still work: {await self.engine.rows('id, state, cause')}")


async def converges(db: Database, folder: Path, kind: Kind, told: list[list[Moment]], seed: int) -> None:
    await db.fetch_text(EMPTY)
    clock = Clock()
    engine = build(db, clock, folder, kind)
    vendor = Vendor(random.Random(seed))
    engine.destination.answers, engine.destination.found = vendor.answer, vendor.find
    engine.source.objects["cus_1"] = customer()
    rng = random.Random(seed)
    moments = [moment for life in told for moment in life]
    order = [(m, e) for m in moments for e in m.events()]
    order += rng.sample(order, len(order) // 3)
    rng.shuffle(order)
    world = World(engine, clock, vendor)
    await world.tell(moments, order, seed)
    await world.settle()
    states = await engine.states()
    assert [s for s in states if s in OPEN] == []
    assert len(states) == len({e["id"] for _, e in order if e["type"] in engine.mappings.routes()})
    ends = {f"k_{life[-1].id_}": life[-1].now for life in told}
    held = {key: effects for (record, key), effects in vendor.records.items() if record == "Doc"}
    assert {key: (e[-1]["status"], e[-1]["total"]) for key, e in held.items()} == ends
    assert [key for record, key in vendor.records if record == "Account"] == ["k_cus_1"]
    if kind == "ledger":
        for life in told:
            _forward(life, [(e["status"], e["total"]) for e in held[f"k_{life[-1].id_}"]])
    links = await db.fetch_text("SELECT key FROM links WHERE record = 'Doc' ORDER BY key")
    assert [row["key"] for row in links] == sorted(ends)


def _forward(life: list[Moment], effects: list[Content]) -> None:
    """A document of a ledger is written from truth to later truth: nothing twice, and never back."""
    true = [moment.now for moment in life]
    steps = [true.index(content) for content in effects]
    assert steps == sorted(set(steps)), f"truth {true}, written {effects}"


TOLD = st.lists(st.sampled_from(["in_1", "in_2", "in_3"]), min_size=1, max_size=3, unique=True).flatmap(
    lambda ids: st.tuples(*(lives(i) for i in ids)).map(list)
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Trouble is what this is about: its log lines, with their local variables, would take longer than the work."""
    with no_log_lines():
        yield


SEEDS = st.integers(0, 2**32)
SETTINGS: dict[str, Any] = {
    "deadline": None,
    "phases": (Phase.explicit, Phase.generate),  # an example takes a tenth of a second: to make it smaller, minutes
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.mark.parametrize("kind", ["state", "ledger"])
@settings(max_examples=8, derandomize=True, **SETTINGS)
@given(told=TOLD, seed=SEEDS)
async def test_any_telling_of_the_events_ends_at_the_truth(
    db: Database, tmp_path: Path, kind: Kind, told: list[list[Moment]], seed: int
) -> None:
    await converges(db, tmp_path, kind, told, seed)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["state", "ledger"])
@settings(max_examples=MANY, **SETTINGS)
@given(told=TOLD, seed=SEEDS)
async def test_hundreds_of_tellings_end_at_the_truth(
    db: Database, tmp_path: Path, kind: Kind, told: list[list[Moment]], seed: int
) -> None:
    await converges(db, tmp_path, kind, told, seed)
