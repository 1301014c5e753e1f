"""How many deliveries a second the engine carries out: claimed, coalesced, mapped, sent, judged, settled, logged.

The vendor takes no time here (`hub.bench.null`), so this is the hub's and PostgreSQL's part alone; a real vendor's
limits are far below it. The work runs in a process of its own: `python -m hub.bench engine '<Plan as JSON>'`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from hub import envelope, log, metrics, store
from hub.bench import events
from hub.bench.crew import GROUP, fill_objects, worker
from hub.bench.ground import BenchError, Say, ask, fetch, ground, silent
from hub.bench.null import Null
from hub.db import Database
from hub.destination import Policy
from hub.mapping import FOLDER, Mappings, load
from hub.model import Disposition
from hub.store import Accepted, Closing, Route
from hub.worker import Settler, Workers

What = Literal["state", "ledger", "mapped"]
STUCK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `mapped` uses the Salesforce mappings that come with the hub, on a state destination."""

    dsn: str
    folder: str
    what: What
    deliveries: int
    lanes: int

    @property
    def destination(self) -> str:
        return "salesforce" if self.what == "mapped" else f"null_{self.what}"

    @property
    def policy(self) -> Policy:
        """As the connectors have it: Salesforce's batches, NetSuite's five connections."""
        if self.what == "ledger":
            return Policy("ledger", slots=5)
        return Policy("state", batch=200, slots=2)


async def drain(deliveries: int = 20_000, *, say: Say = silent) -> dict[str, Any]:
    """Measure `deliveries` for a state destination, and half as many for a ledger and for a mapped one.

    Raises `BenchError` if a delivery was sent twice or not at all, or is not done in the database at the end.
    """
    found: dict[str, Any] = {}
    async with ground(say) as place:
        runs: tuple[tuple[What, str, int], ...] = (
            ("state", "", deliveries),
            ("ledger", "ledger_", max(1, deliveries // 2)),
            ("mapped", "mapped_", max(1, deliveries // 2)),
        )
        for what, prefix, n in runs:
            say(f"{n} deliveries for a {what} destination that takes no time ...")
            plan = Plan(place.dsn, str(place.folder), what, n, max(1, n // 4))
            result = await ask(
                "hub.bench", "engine", orjson.dumps(asdict(plan)).decode(), env={}, folder=place.folder, seconds=600
            )
            await check(plan, result)
            name = f"{prefix}deliveries_per_s" if not prefix else f"{prefix}per_s"
            found[name] = round(n / result["seconds"])
            found[f"{prefix}cpu_us_per_delivery"] = round(result["cpu_seconds"] / n * 1e6)
        return {"drain": {**found, "deliveries": deliveries, "fdatasync_ms": place.fdatasync_ms}}


async def check(plan: Plan, result: dict[str, Any]) -> None:
    """Every delivery was sent once, is done, and has its attempt logged: else the figures are of something else."""
    (row,) = await fetch(
        plan.dsn,
        """SELECT count(*) AS n, count(*) FILTER (WHERE state = 'done') AS done, count(DISTINCT lane) AS lanes,
                  (SELECT count(*) FROM attempts a JOIN deliveries b ON b.id = a.delivery_id
                   WHERE b.destination = $1 AND a.outcome = 'receipt') AS receipts
           FROM deliveries WHERE destination = $1""",
        plan.destination,
    )
    found = (row["n"], row["done"], row["receipts"], result["sent"])
    if set(found) != {plan.deliveries}:
        raise BenchError(
            f"drain {plan.what}: {plan.deliveries} deliveries were wanted; stored, done, receipts and sent are {found}"
        )


async def carry_out(plan: Plan) -> dict[str, Any]:
    """Fill, then let a worker work until every delivery is settled. Times the second part only."""
    log.configure("info")
    log.to_file(Path(plan.folder) / "worker.log")
    mappings = load(FOLDER)
    db = await Database.connect(plan.dsn, size=10)
    try:
        await _fill(db, plan)
        destination = Null(plan.destination, plan.policy)
        finished = asyncio.Event()
        workers = _workers(db, plan, mappings, destination, finished)
        stop = asyncio.Event()
        started, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(workers.run(stop, 20))
        await asyncio.wait_for(finished.wait(), STUCK_SECONDS)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        stop.set()
        await running
    finally:
        await db.close()
    return {"seconds": seconds, "cpu_seconds": cpu, "sent": destination.jobs, "records": destination.records}


def _workers(db: Database, plan: Plan, mappings: Mappings, destination: Null, finished: asyncio.Event) -> Workers:
    settler = Settler(db, time.time)
    left = plan.deliveries

    async def settle(closing: Closing) -> set[int]:
        nonlocal left
        ours = await settler(closing)
        left -= len(ours)
        if left <= 0:
            finished.set()
        return ours

    return Workers([worker(destination, db, mappings, settle, metrics.create())], db)


async def _fill(db: Database, plan: Plan) -> None:
    """Unique events about unique invoices, spread over the lanes in turn; for mappings also the customers."""
    maker = events.Maker(plan.what, customers=plan.lanes)
    now = datetime.now(UTC)
    for start in range(0, plan.deliveries, GROUP):
        numbers = range(start, min(start + GROUP, plan.deliveries))
        await db.run(store.accept, [routed(maker.event(n), plan.destination, now) for n in numbers], now)
    if plan.what == "mapped":
        await fill_objects(db, plan.lanes)


def routed(body: bytes, destination: str, now: datetime) -> Accepted:
    """An event with one delivery, due at once, in its customer's lane."""
    event = envelope.read(body, now)
    assert event.customer_id is not None
    return Accepted(event, Disposition.ROUTED, None, (Route(destination, event.customer_id, now),))
