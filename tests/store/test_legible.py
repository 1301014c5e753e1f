"""Characters that PostgreSQL cannot keep, in what a vendor says and in what Stripe names: they end nothing but
themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub import search
from hub.circuit import FAILURES, SPAN
from hub.db import Database
from hub.errors import Answer, Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.model import Link
from tests.conftest import Clock
from tests.engine import build, customer, event, invoice
from tests.filling import NOW, register

SAID: dict[str, Callable[[str], Outcome]] = {
    "dead": lambda text: Reject("refused", text, text, Answer(400, text, {"field": text, text: [text]})),
    "waiting": lambda text: Retry("busy", text, answer=Answer(503, text)),
    "unknown": lambda text: Unknown(text, Answer(detail={"page": text})),
    "paused": lambda text: Defer(text, 60.0, pause=True),
    "done": lambda text: Receipt((Link("cus_1", "Account", text, text, "d", "m", text),), note=text),
}
QUOTED = ["Name: a\x00b", "cut in the middle of \ud83d"]


@pytest.mark.parametrize("text", QUOTED, ids=["nul", "half"])
@pytest.mark.parametrize("state", SAID)
async def test_whatever_a_vendor_says_is_kept_as_far_as_it_can_be_and_costs_no_neighbour_anything(
    db: Database, clock: Clock, tmp_path: Path, state: str, text: str
) -> None:
    engine = build(db, clock, tmp_path, "ledger")
    await register(db, "vendor", "ledger")
    engine.destination.answers = lambda job: SAID[state](text) if job.event.id == "evt_1" else None
    await engine.accept(*(event(f"evt_{n}", "customer.created", customer(f"cus_{n}")) for n in (1, 2)))
    async with asyncio.timeout(10):
        await engine.drain()
    assert await engine.states() == ["waiting" if state == "paused" else state, "done"]
    kept = text.replace("\x00", "�").replace("\ud83d", "�")
    (first, _) = await engine.rows("cause, note")
    assert (first["note"] if state == "done" else first["cause"]) == kept
    (shown,) = await db.run(search.destinations, NOW)
    assert shown["reason"] == (kept if state == "paused" else None)


async def test_a_circuit_that_opens_says_why_all_the_same(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = build(db, clock, tmp_path, "ledger")
    await register(db, "vendor", "ledger")
    engine.destination.answers = lambda _job: Retry("away", QUOTED[0])
    await engine.accept(*(event(f"evt_{n}", "customer.created", customer(f"cus_{n}")) for n in range(FAILURES)))
    async with asyncio.timeout(10):
        await engine.drain()
        clock.advance(SPAN + 1)
        await engine.drain()
    (shown,) = await db.run(search.destinations, datetime.fromtimestamp(clock(), UTC))
    assert (shown["circuit"], shown["reason"][-15:]) == ("open", "last: Name: a�b")


async def test_a_batch_of_the_lake_too(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = build(db, clock, tmp_path, "log")
    engine.destination.batch_answer = lambda _batch: Reject("refused", QUOTED[0], "see", Answer(400, QUOTED[1]))
    await engine.accept(event("evt_1", "price.created", {"id": "price_1", "object": "price"}))
    async with asyncio.timeout(10):
        await engine.drain(flush=True)
    assert [(r["state"], r["cause"]) for r in await engine.rows("state, cause")] == [("dead", "Name: a�b")]


async def test_an_event_that_names_what_cannot_be_an_id_is_one_dead_letter_and_its_neighbour_is_delivered(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = build(db, clock, tmp_path, "state")
    await engine.accept(
        event("evt_1", "invoice.created", invoice("draft", customer="cus_\x00")),
        event("evt_2", "customer.created", customer()),
    )
    await engine.drain()
    rows = [(r["state"], r["code"]) for r in await engine.rows("state, code")]
    assert rows == [("dead", "expression_failed"), ("done", None)]
