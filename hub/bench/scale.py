"""What more processes bring: one web and one worker process against two and four, on one database.

Deliveries: prepared and held back by a pause, then let go while all workers are ready; until the last is settled. Once
to a vendor that takes its time, as all do, so that the workers' slots are the limit; once to one that takes none, so
that this machine is. Acks: two load generators in both forms. The forms take turns, and medians are compared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

import orjson

from hub import store
from hub.bench import crew, events
from hub.bench.crew import GROUP, Plan
from hub.bench.engine import routed
from hub.bench.ground import BenchError, Ground, Say, child, end_of, fetch, ground, silent
from hub.bench.intake import offer, server
from hub.bench.load import Plan as Load
from hub.db import Database

WEBS = (1, 2)
WORKERS = (1, 4)
DELAY = 0.075
"""Seconds a send takes at the slow vendor: NetSuite and AvaTax answer within 50 to several 100 ms."""
SLOTS = 5
CONNECTIONS = 64
LANES = 500
STUCK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of deliveries."""

    vendor: str
    """`slow` or `null`."""
    workers: int
    deliveries: int
    number: int

    @property
    def destination(self) -> str:
        """One of its own for each run: nothing is left over from the last."""
        return f"{self.vendor}_{self.workers}_{self.number}"


async def nodes(seconds: float = 5.0, *, rounds: int = 2, deliveries: int = 600, say: Say = silent) -> dict[str, Any]:
    """Acks for `seconds` per form and round; `deliveries` per form and round at the slow vendor, five times as many at
    the one that takes no time. Raises `BenchError` if any delivery was attempted twice or not at all.
    """
    async with ground(say) as place:
        rates: dict[str, dict[int, list[float]]] = {
            "slow": {n: [] for n in WORKERS}, "null": {n: [] for n in WORKERS}, "acks": {n: [] for n in WEBS}
        }  # fmt: skip
        for number in range(rounds):
            for vendor, most in (("slow", deliveries), ("null", 5 * deliveries)):
                for workers in WORKERS:
                    say(f"round {number + 1} of {rounds}: {workers} worker processes, {vendor} vendor ...")
                    rates[vendor][workers].append(await delivered(place, Run(vendor, workers, most, number)))
            for webs in WEBS:
                say(f"round {number + 1} of {rounds}: {webs} web processes ...")
                rates["acks"][webs].append(await _acked(place, webs, seconds, f"w{webs}n{number}x"))
    few, many = (dict(zip(("webs", "workers"), form, strict=True)) for form in zip(WEBS, WORKERS, strict=True))
    return {
        "nodes": {
            "few": few,
            "many": many,
            "vendor_ms": DELAY * 1000,
            "slots_per_worker": SLOTS,
            **compared("deliveries_slow_vendor", rates["slow"]),
            **compared("deliveries_null_vendor", rates["null"]),
            **compared("acks", rates["acks"]),
            "attempted_twice": 0,
            "curves": {what: {str(n): [round(r, 1) for r in rs] for n, rs in of.items()} for what, of in rates.items()},
        }
    }


def compared(name: str, rates: dict[int, list[float]]) -> dict[str, float]:
    """Medians of the few and of the many, and what the many bring."""
    few, many = (median(rs) for _, rs in sorted(rates.items()))
    return {
        f"few_{name}_per_s": round(few, 1),
        f"many_{name}_per_s": round(many, 1),
        f"{name}_times": round(many / few, 2),
    }


async def delivered(place: Ground, run: Run) -> float:
    """Deliveries a second, from letting go to the last settlement."""
    async with _crew(place, run):
        await _fill(place, run)
        (began,) = await fetch(
            place.dsn,
            """WITH free AS (
                   UPDATE destinations SET paused_until = NULL, reason = NULL, paused_by = NULL WHERE name = $1)
               SELECT clock_timestamp() AS at, pg_notify('hub_wake', $1)""",
            run.destination,
        )
        deadline = time.monotonic() + STUCK_SECONDS
        while not await over(place, run):
            if time.monotonic() > deadline:
                log = end_of(place.folder / f"{run.destination}-0-log.json")
                raise BenchError(f"{run.destination} was not done within {STUCK_SECONDS:g} s; {log}")
            await asyncio.sleep(0.1)
    (row,) = await fetch(
        place.dsn, "SELECT max(settled_at) AS at FROM deliveries WHERE destination = $1", run.destination
    )
    return float(run.deliveries / max(1e-3, (row["at"] - began["at"]).total_seconds()))


async def over(place: Ground, run: Run) -> bool:
    """Whether everything is done. Raises `BenchError` if something was attempted twice, or died."""
    (row,) = await fetch(
        place.dsn,
        """SELECT count(*) AS n, count(*) FILTER (WHERE state = 'done') AS done,
                  count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE d.claim > 1) AS claimed_twice,
                  sum(attempts) AS attempts, max(attempts) AS most
           FROM deliveries d CROSS JOIN LATERAL (
               SELECT count(*) AS attempts FROM attempts a WHERE a.delivery_id = d.id) c
           WHERE destination = $1""",
        run.destination,
    )
    if row["n"] != run.deliveries or row["dead"] or (row["most"] or 0) > 1 or row["claimed_twice"]:
        raise BenchError(
            f"{run.destination}: {run.deliveries} deliveries were wanted, each attempted once; there are {row['n']}, "
            f"{row['dead']} dead, {row['claimed_twice']} claimed twice, attempted up to {row['most']} times"
        )
    return bool(row["done"] == run.deliveries == row["attempts"])


@asynccontextmanager
async def _crew(place: Ground, run: Run) -> AsyncIterator[None]:
    """The workers, ready and held back."""
    delay = DELAY if run.vendor == "slow" else 0.0
    names = [f"{run.destination}-{n}" for n in range(run.workers)]
    await fetch(
        place.dsn,
        """INSERT INTO destinations (name, kind, paused_until, reason, paused_by)
           VALUES ($1, 'ledger', 'infinity', 'until all is prepared', 'operator')""",
        run.destination,
    )
    async with AsyncExitStack() as stack:
        for name in names:
            plan = Plan(place.dsn, str(place.folder), name, [run.destination], delay, SLOTS)
            text = orjson.dumps(asdict(plan)).decode()
            await stack.enter_async_context(child(name, "hub.bench", "crew", text, env={}, folder=place.folder))
        await crew.all_ready(place.folder, names)
        yield


async def _fill(place: Ground, run: Run) -> None:
    maker = events.Maker(run.destination, customers=LANES)
    now = datetime.now(UTC)
    db = await Database.connect(place.dsn, size=1)
    try:
        for start in range(0, run.deliveries, GROUP):
            numbers = range(start, min(start + GROUP, run.deliveries))
            await db.run(store.accept, [routed(maker.event(n), run.destination, now) for n in numbers], now)
    finally:
        await db.close()


async def _acked(place: Ground, webs: int, seconds: float, run: str) -> float:
    """Acks a second of all web processes together; two load generators share the connections, whatever their number."""
    secret = "whsec_bench"  # noqa: S105 - of servers on loopback that end in a moment
    async with AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(server(place, secret, f"{run}{n}", "hub.cli", "serve")) for n in range(webs)
        ]
        plans = [
            Load(found[n % webs].port, f"{run}{n}g", seconds, 1.0, CONNECTIONS // 2, prepare=int(4000 * (seconds + 1)))
            for n in range(2)
        ]
        taken = await asyncio.gather(*(offer(place, secret, plan) for plan in plans))
    (row,) = await fetch(place.dsn, "SELECT count(*) AS n FROM events WHERE id LIKE $1", f"evt_1Bench{run}%")
    if row["n"] != sum(t["acks"] for t in taken):
        raise BenchError(f"{sum(t['acks'] for t in taken)} events were acknowledged, {row['n']} are stored")
    return float(sum(t["per_s"] for t in taken))
