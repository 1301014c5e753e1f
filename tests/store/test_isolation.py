"""One vendor's trouble is its own: with the books away for an hour or a day the other three get every event in the
round in which it is due, and afterwards the books catch up with most of their time budget left.

No timing: the clock is moved by hand, and what is compared are states. How much slower the others get is measured by
`hub bench isolation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub.db import Database
from hub.destination import Policy
from hub.errors import Answer, Defer, Outcome, Retry, Unknown
from hub.mapping import load
from hub.model import Job
from tests.conftest import Clock
from tests.engine import ACCOUNT, MAPPING, Engine, Scripted, around, customer, event, invoice

OTHERS = ("crm", "taxes", "lake")
POLICIES = {
    "books": Policy("ledger", slots=3, lease=60, unknown_wait=30, retry_first=2.0),
    "crm": Policy("state", batch=200, slots=2, lease=60),
    "taxes": Policy("ledger", slots=4, lease=60),
    "lake": Policy("log", batch=5000, lease=60),
}
HOUR, DAY = 3600, 86400
STEPS = {HOUR: 180, DAY: 4320}
"""How long it lasts -> from one round to the next, in seconds: enough rounds, and as many for each customer."""
CUSTOMERS = 5
BUDGET = 3 * DAY
LONGEST_WAIT = HOUR
"""The cap of the backoff; the circuit's longest pause is shorter."""

ROWS = """
SELECT d.destination, d.state, d.settled_at, d.first_failure_at, d.failures, e.id AS event,
       (SELECT count(*) FROM attempts a WHERE a.delivery_id = d.id) AS attempts
FROM deliveries d JOIN events e ON e.seq = d.event_seq ORDER BY d.id
"""


@dataclass
class Hanging(Scripted):
    """Never answers."""

    begun: int = 0
    never: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, jobs: Sequence[Job]) -> list[Outcome]:
        self.begun += 1
        await self.never.wait()
        raise AssertionError("the event is never set")


async def four(db: Database, clock: Callable[[], float], folder: Path, books: Scripted) -> Engine:
    """An engine with four destinations, as a hub has them: registered, each with its mappings."""
    for name, policy in POLICIES.items():
        await db.fetch("register_destination", name, policy.kind, None)
        if policy.kind != "log":
            (folder / name).mkdir()
            (folder / name / "doc.yaml").write_text(MAPPING)
            (folder / name / "account.yaml").write_text(ACCOUNT)
    others = [Scripted(name, POLICIES[name]) for name in OTHERS]
    engine = around(db, clock, [books, *others], load(folder))
    for n in range(CUSTOMERS):
        engine.source.objects[f"cus_{n}"] = customer(f"cus_{n}")
    return engine


def finalized(n: int) -> dict[str, Any]:
    return event(f"evt_{n}", "invoice.finalized", invoice("open", f"in_{n}", customer=f"cus_{n % CUSTOMERS}"))


async def rows(engine: Engine, *destinations: str) -> list[dict[str, Any]]:
    return [dict(r) for r in await engine.db.fetch_text(ROWS) if r["destination"] in destinations]


FAULTS: dict[str, Outcome] = {
    "down": Retry("connection_refused", "nobody listens"),
    "hanging": Unknown("no answer within 48 s"),
    "limit": Defer(
        "SSS_REQUEST_LIMIT_EXCEEDED: too many requests at once", 5.0, limited=True, answer=Answer(status=429)
    ),
}


@pytest.mark.parametrize("lasts", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_hour_or_a_day_of_one_vendors_fault_delays_no_other_and_nothing_dies_of_it(
    db: Database, clock: Clock, tmp_path: Path, fault: str, lasts: int
) -> None:
    away, step = True, STEPS[lasts]

    def answer(_job: Job) -> Outcome | None:
        return FAULTS[fault] if away else None

    books = Scripted("books", POLICIES["books"], answers=answer, found=answer)
    engine = await four(db, clock, tmp_path, books)
    steps = lasts // step
    for n in range(steps):
        await engine.accept(finalized(n))
        await engine.drain(flush=True)
        now = datetime.fromtimestamp(clock(), UTC)
        mine = [r for r in await rows(engine, *OTHERS) if r["event"] == f"evt_{n}"]
        assert [(r["state"], r["settled_at"]) for r in mine] == [("done", now)] * 3, f"step {n}: not in its round"
        assert {r["state"] for r in await rows(engine, "books")} <= {"waiting", "unknown"}
        clock.advance(step)
    assert books.sent, "the fault was never met"

    # Well again. In such rounds, with one to spare, the longest wait there is.
    away = False
    books.sent.clear()
    rounds = 0
    while {r["state"] for r in await rows(engine, "books")} != {"done"}:
        await engine.drain()
        clock.advance(step)
        rounds += 1
        assert rounds <= -(-LONGEST_WAIT // step) + 1, "it does not catch up"
    settled = await rows(engine, "books")
    spent = [(r["settled_at"] - r["first_failure_at"]).total_seconds() for r in settled if r["first_failure_at"]]
    assert max(spent, default=0) < (0.05 if lasts == HOUR else 0.4) * BUDGET
    # A wait of at least half of 2, 4, 8, ... seconds: twelve of them are longer than the hour, each further one lasts
    # half an hour at least. An unknown write is looked for once a round at the most; a deferred one costs nothing.
    most = {"down": 13 + 2 * (lasts // HOUR - 1), "hanging": steps + 1, "limit": 0}
    assert max(r["failures"] for r in settled) <= most[fault]
    written = [key for record, key, _ in books.written if record == "Doc"]
    assert sorted(written) == sorted(f"k_in_{n}" for n in range(steps)), "each exactly once"
    by_customer = [[k for k in written if int(k.removeprefix("k_in_")) % CUSTOMERS == c] for c in range(CUSTOMERS)]
    assert all(len(keys) == steps // CUSTOMERS for keys in by_customer)


async def test_a_send_that_never_ends_keeps_no_other_destination_waiting(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    books = Hanging("books", POLICIES["books"])
    engine = await four(db, clock, tmp_path, books)
    await engine.accept(*(finalized(n) for n in range(CUSTOMERS)))
    stop = asyncio.Event()
    running = asyncio.create_task(engine.workers.run(stop, 0.05))
    try:
        async with asyncio.timeout(30):
            while {r["state"] for r in await rows(engine, *OTHERS)} != {"done"}:  # noqa: ASYNC110 - real processes' way
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running
    # As many hang as may be under way at once; what is behind them waits, untouched.
    found = await rows(engine, "books")
    assert books.begun == 3
    assert sorted(r["state"] for r in found) == ["claimed"] * 3 + ["waiting"] * 2
    assert all(r["attempts"] == 0 for r in found)
