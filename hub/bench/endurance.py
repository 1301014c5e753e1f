"""Half of the most for a long time: do memory, connections, open files, tables and the queue stay as they are?

The whole hub is soaked, its mappings included, but no simulator: `hub serve`, and workers whose destinations take
everything and write nothing. The most is found first, by offering all that is taken for a moment and waiting until
everything is delivered. The rules of the verdict are in `RULES`, its method in `hub.bench.drift`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import asyncpg
import orjson
import psutil

from hub.bench import crew
from hub.bench.drift import Drift, Rule, drift, shown, verdict
from hub.bench.ground import BenchError, Ground, Say, child, end_of, fetch, ground, percentile, silent
from hub.bench.intake import DESTINATIONS, Server, offer, server
from hub.bench.load import Plan
from hub.bench.usage import family, memory_of, postmaster
from hub.db import Database

RULES: Mapping[str, Rule] = {
    "memory": Rule(0.05, 4.0, 60),
    "connections": Rule(0.0, 1.0, 5),
    "files": Rule(0.0, 2.0, 5),
    # Autovacuum comes once a minute; before it has come a few times a table's size says nothing.
    "size": Rule(0.10, 1.0, 180),
    "bytes_per_row": Rule(0.05, 16.0, 180),
    "queue": Rule(0.25, 0.0, 5),
    "ack_p99": Rule(0.5, 20.0, 60),
}
"""By kind of figure: MB, a number, a number, MB, bytes, deliveries, milliseconds."""

CONSTANT = ("lanes", "destinations", "turns")
"""Tables with a fixed number of rows here: they may be updated for ever, and must not grow."""
GROWING = ("events", "deliveries", "attempts", "links")
"""They grow by what is stored: bytes per row is what must not."""
MOST_CUSTOMERS = 2000
BURST = 2.0
DRAIN_SECONDS = 120.0

SIZES = """
SELECT relname, n_dead_tup AS dead, pg_relation_size(relid) + pg_indexes_size(relid) AS bytes,
       (SELECT count(*) FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
       ) AS connections,
       (SELECT count(*) FROM deliveries
        WHERE state IN ('waiting', 'claimed', 'unknown', 'held', 'dead') AND state <> 'dead') AS queue
FROM pg_stat_user_tables
"""
ROWS = """
SELECT coalesce((SELECT max(seq) FROM events), 0) AS events,
       coalesce((SELECT max(id) FROM deliveries), 0) AS deliveries,
       coalesce((SELECT max(id) FROM attempts), 0) AS attempts, (SELECT count(*) FROM links) AS links
"""


@dataclass(slots=True)
class Record:
    """Samples over time. A figure's name begins with its kind: `memory serve`, `size lanes`."""

    at: list[float] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, at: float, figures: Mapping[str, float]) -> None:
        """One sample of every figure."""
        self.at.append(round(at, 1))
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)


async def soak(
    seconds: float = 1800.0, *, rate: float | None = None, every: float | None = None, say: Say = silent
) -> dict[str, Any]:
    """Offer `rate` events a second (default: half of what is found to be the most) and sample `every` few seconds.

    Raises `BenchError` if anything acknowledged was not stored and delivered exactly once.
    """
    every = every or max(0.5, min(5.0, seconds / 40))
    async with ground(say) as place:
        customers = MOST_CUSTOMERS if rate is None else max(20, min(MOST_CUSTOMERS, int(rate * seconds / 20)))
        db = await Database.connect(place.dsn, size=1)
        try:
            await crew.fill_objects(db, customers)
        finally:
            await db.close()
        secret = "whsec_bench"  # noqa: S105 - of a server on loopback that ends in a moment
        plan = crew.Plan(place.dsn, str(place.folder), "crew", list(DESTINATIONS))
        async with (
            server(place, secret, "serve", "hub.cli", "serve") as hub,
            child(
                "crew", "hub.bench", "crew", orjson.dumps(asdict(plan)).decode(), env={}, folder=place.folder
            ) as ours,
        ):
            await crew.all_ready(place.folder, ["crew"])
            processes = {"serve": hub.process, "work": psutil.Process(ours.pid)}
            acks, most = 0, None
            if rate is None:
                say("how much is the most? ...")
                acks, most = await saturation(place, secret, hub, customers)
                rate = most / 2
            say(f"{rate:.0f} events a second for {seconds:g} s, a sample every {every:g} s ...")
            record, found = await _watch(place, secret, Plan(
                hub.port, "soak", seconds, 1.0, 32, rate, customers, prepare=0, slices=every
            ), processes, every, say)  # fmt: skip
            acks += found["acks"]
            await drained(place, acks)
        drifts = judged(record, found["slices"], rate)
        return {
            "soak": {
                "seconds": seconds,
                "events_per_s": round(rate, 1),
                **({} if most is None else {"most_events_per_s": round(most, 1)}),
                "ack_p50_ms": round(percentile(found["latencies_us"], 0.5) / 1000, 2),
                "ack_p99_ms": round(percentile(found["latencies_us"], 0.99) / 1000, 2),
                "at_the_end": {name: values[-1] for name, values in record.figures.items()},
                "growth_of_second_half": shown(drifts),
                "samples": len(record.at),
                "verdict": verdict(drifts),
                "curves": {"at_s": record.at, **record.figures, "ack_slices": found["slices"]},
            }
        }


async def saturation(place: Ground, secret: str, hub: Server, customers: int) -> tuple[int, float]:
    """Events acknowledged, and events a second from the first received until everything is delivered."""
    plan = Plan(hub.port, "most", BURST, 0.0, 32, None, customers, prepare=10_000)
    acks = (await offer(place, secret, plan))["acks"]
    await drained(place, acks)
    (row,) = await fetch(
        place.dsn,
        """SELECT extract(epoch FROM (SELECT max(settled_at) FROM deliveries)
                  - (SELECT min(received_at) FROM events WHERE disposition = 'routed'))::float8 AS seconds""",
    )
    return acks, acks / row["seconds"]


async def _watch(
    place: Ground, secret: str, plan: Plan, processes: Mapping[str, psutil.Process], every: float, say: Say
) -> tuple[Record, dict[str, Any]]:
    offering = asyncio.create_task(offer(place, secret, plan))
    record = Record()
    postgres = postmaster(place.folder / "postgres")
    connection = await asyncpg.connect(place.dsn, timeout=10)
    try:
        began = time.monotonic()
        while not offering.done() and time.monotonic() - began < plan.warm + plan.seconds:
            record.add(time.monotonic() - began, await _sample(connection, processes, postgres))
            say(f"{record.at[-1]:.0f} of {plan.seconds:g} s at {plan.rate:.0f} events a second ...")
            await asyncio.wait([offering], timeout=every)
        return record, await offering
    finally:
        offering.cancel()
        await asyncio.gather(offering, return_exceptions=True)
        await connection.close()


async def _sample(
    connection: asyncpg.Connection[asyncpg.Record], processes: Mapping[str, psutil.Process], postgres: psutil.Process
) -> dict[str, float]:
    def used() -> dict[str, float]:
        found: dict[str, float] = {}
        for name, process in processes.items():
            found[f"memory {name}"] = round(memory_of([process]).rss, 2)
            found[f"files {name}"] = process.num_fds()
        # Pages of shared memory count as resident once touched: only what is a process's own can leak.
        return {**found, "memory postgres": round(memory_of(family(postgres)).uss, 2)}

    found = await asyncio.to_thread(used)
    tables = {row["relname"]: row for row in await connection.fetch(SIZES)}
    rows = (await connection.fetch(ROWS))[0]
    found |= {f"size {name}": round(tables[name]["bytes"] / 2**20, 3) for name in CONSTANT}
    found |= {f"dead_tuples {name}": tables[name]["dead"] for name in (*CONSTANT, "deliveries")}
    found |= {f"bytes_per_row {name}": round(tables[name]["bytes"] / max(1, rows[name]), 1) for name in GROWING}
    one = tables["lanes"]
    return {**found, "connections": one["connections"], "queue": one["queue"]}


def judged(record: Record, slices: Sequence[Sequence[float]], rate: float) -> dict[str, Drift]:
    """Every figure that has a rule. A second's worth of deliveries more or less in the queue is no drift."""
    found: dict[str, Drift] = {}
    for name, values in record.figures.items():
        kind = name.split()[0]
        rule = RULES.get(kind)
        if kind == "queue":
            rule = Rule(RULES[kind].share, rate * len(DESTINATIONS), RULES[kind].least)
        if rule is not None:
            found[name] = drift(record.at, values, rule)
    found["ack_p99"] = drift([s[0] for s in slices], [s[3] for s in slices], RULES["ack_p99"])
    return found


async def drained(place: Ground, acks: int) -> None:
    """Everything acknowledged is stored, and delivered or superseded. Raises `BenchError` otherwise."""
    text = """SELECT count(*) AS n, count(*) FILTER (WHERE state IN ('done', 'superseded')) AS over,
                     count(*) FILTER (WHERE state = 'dead') AS dead, min(cause) AS cause,
                     (SELECT count(*) FROM events WHERE disposition = 'routed') AS events
              FROM deliveries"""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        (row,) = await fetch(place.dsn, text)
        if row["dead"]:
            raise BenchError(f"{row['dead']} deliveries are dead: {row['cause']}")
        if row["events"] != acks or row["n"] != acks * len(DESTINATIONS):
            raise BenchError(f"{acks} events were acknowledged; stored are {row['events']} with {row['n']} deliveries")
        if row["over"] == row["n"]:
            return
        if time.monotonic() > deadline:
            log = end_of(place.folder / "crew-log.json")
            raise BenchError(f"{row['n'] - row['over']} deliveries are still open; the workers' log ends: {log}")
        await asyncio.sleep(0.25)
