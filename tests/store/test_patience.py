"""What a vendor refuses may only be early: another document of the customer makes room for it."""

from __future__ import annotations

from pathlib import Path

from hub.db import Database
from hub.errors import Reject
from tests.conftest import Clock
from tests.engine import build, customer, event

EARLY = Reject("FULL", "there is no room", "make room", patience=3600)


async def test_it_is_tried_again_and_only_after_its_time_a_dead_letter_with_its_own_words(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    engine = build(db, clock, tmp_path, "ledger")
    engine.destination.answers = lambda job: EARLY
    await engine.accept(event("evt_1", "customer.created", customer()))
    await engine.drain()
    (row,) = await engine.rows("state, code, cause, failures")
    assert tuple(row.values()) == ("waiting", "FULL", "there is no room", 1)
    clock.advance(3599)
    await engine.drain()
    assert await engine.states() == ["waiting"]
    clock.advance(3600)  # whenever the last wait was over
    await engine.drain()
    (row,) = await engine.rows("state, code, cause, fix")
    assert tuple(row.values()) == ("dead", "FULL", "there is no room", "make room")
    outcomes = await engine.db.fetch_text("SELECT outcome FROM attempts ORDER BY id")
    assert [r["outcome"] for r in outcomes] == ["retry", "retry", "reject"]


async def test_what_makes_room_in_time_ends_it(db: Database, clock: Clock, tmp_path: Path) -> None:
    engine = build(db, clock, tmp_path, "ledger")
    engine.destination.answers = lambda job: EARLY
    await engine.accept(event("evt_1", "customer.created", customer()))
    await engine.drain()
    engine.destination.answers = lambda job: None
    clock.advance(3600)
    await engine.drain()
    assert await engine.states() == ["done"]
