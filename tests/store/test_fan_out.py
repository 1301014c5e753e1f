"""One event, four destinations, all of them failing: each keeps its own failures and its own time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hub.db import Database
from hub.destination import Policy
from hub.errors import Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.mapping import load
from hub.model import DeliveryState
from tests.conftest import Clock
from tests.engine import ACCOUNT, Scripted, around, customer, event
from tests.filling import CRM, LEDGER, NOW, accept, claim, new_event, register, routed, settle, settlement


async def test_four_destinations_failing_at_once_keep_four_independent_schedules(
    db: Database, clock: Clock, tmp_path: Path
) -> None:
    """By hand: `crm` is deferred for 100 s, `books` looks after 300 s, `tax` waits the 40 s it was told, the lake's
    batch by one of 70 s."""
    for name in ("crm", "books", "tax"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "account.yaml").write_text(ACCOUNT)
    failing: dict[str, Outcome] = {
        "crm": Defer("busy", 100.0),
        "books": Unknown("no reply"),
        "tax": Retry("away", "503", 40.0),
        "lake": Retry("slow", "503", 70.0),
    }
    vendors = [
        Scripted("crm", Policy("state", batch=200)),
        Scripted("books", Policy("ledger", unknown_wait=300.0)),
        Scripted("tax", Policy("ledger")),
        Scripted("lake", Policy("log", batch=1)),
    ]
    for vendor in vendors:
        vendor.answers = lambda job, name=vendor.name: failing.get(name)  # type: ignore[misc]
        vendor.batch_answer = lambda batch: failing.get("lake", Receipt())
    engine = around(db, clock, vendors, load(tmp_path))
    began = clock()

    async def schedule() -> dict[str, tuple[str, int, float | None]]:
        """Destination -> state, failures, due how many seconds after the beginning."""
        found: dict[str, tuple[str, int, float | None]] = {}
        for row in await engine.rows("destination, state, failures, due_at"):
            due: datetime | None = row["due_at"]
            seconds = due.timestamp() - began if due else None
            found[row["destination"]] = (row["state"], row["failures"], seconds)
        return found

    async def at(seconds: float) -> None:
        clock.now = began + seconds
        await engine.drain()

    await engine.accept(event("evt_1", "customer.created", customer()))
    await engine.drain()
    first = {
        "crm": ("waiting", 0, 100.0),
        "books": ("unknown", 1, 300.0),
        "tax": ("waiting", 1, 40.0),
        "lake": ("waiting", 1, 70.0),
    }
    assert await schedule() == first

    del failing["tax"]
    await at(41.0)
    assert await schedule() == {**first, "tax": ("done", 1, None)}, "one that is well again helps and hinders nobody"

    await at(71.0)
    assert await schedule() == {**first, "tax": ("done", 1, None), "lake": ("waiting", 2, 141.0)}

    failing["crm"] = Reject("bad", "no", "see")
    await at(101.0)
    after: dict[str, Any] = {**first, "tax": ("done", 1, None), "lake": ("waiting", 2, 141.0), "crm": ("dead", 0, None)}
    assert await schedule() == after, "and neither does one that is dead"

    failing.clear()
    await at(301.0)
    assert await schedule() == {
        "crm": ("dead", 0, None),
        "books": ("done", 1, None),
        "tax": ("done", 1, None),
        "lake": ("done", 2, None),
    }
    first_failures = {
        r["destination"]: r["first_failure_at"] for r in await engine.rows("destination, first_failure_at")
    }
    moment = datetime.fromtimestamp(began, UTC)
    assert first_failures == {"crm": None, "books": moment, "tax": moment, "lake": moment}


async def test_what_one_destination_settles_gives_back_no_lane_of_another(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER, CRM))
    claims = await claim(db)
    await claim(db, CRM, ledger=False)
    await settle(db, claims, settlement(claims[0].deliveries[0], DeliveryState.DONE))
    rows = await db.fetch_text("SELECT destination FROM lanes WHERE lease_until IS NOT NULL")
    assert [row["destination"] for row in rows] == [CRM]


async def test_the_limit_of_one_vendor_pauses_no_other(db: Database) -> None:
    for name in (LEDGER, CRM):
        await register(db, name, "ledger")
    await db.fetch("pause_by_hub", LEDGER, NOW + timedelta(hours=1), "daily limit reached")
    rows = await db.fetch_text("SELECT name FROM destinations WHERE paused_until IS NOT NULL")
    assert [row["name"] for row in rows] == [LEDGER]
