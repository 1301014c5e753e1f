"""Workers of the benchmarks: the hub's own loops, mappings and settlements before destinations that write nothing.

As a process of its own (`python -m hub.bench crew '<Plan as JSON>'`) it works until it is told to stop, as `hub work`
does; any number of them may share a database.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hub import envelope, log, metrics, store
from hub.bench import events
from hub.bench.ground import BenchError, end_of
from hub.bench.null import NoSource, Null
from hub.commands import common
from hub.commands.processes import spare_the_collector
from hub.compose import Composer
from hub.db import Database
from hub.deliver import Deliverer, LogDeliverer, Settle
from hub.destination import Policy
from hub.mapping import FOLDER, Mappings, load
from hub.metrics import Metrics
from hub.mirror import Mirror
from hub.model import Disposition
from hub.routing import Router
from hub.store import Accepted
from hub.worker import Settler, Worker, Workers

GROUP = 1000
POLL = 2.0
POLICIES = {
    "salesforce": Policy("state", batch=200, slots=2),
    "netsuite": Policy("ledger", slots=3),
    "avalara": Policy("ledger", slots=4),
    "s3_lake": Policy("log", batch=5000, linger=2.0),
}
"""As the connectors have them."""
SETTINGS = {
    "timezone": "UTC",
    "avalara_commit_on": "finalized",
    "avalara_ship_from_line1": "1 Market Street",
    "avalara_ship_from_city": "Springfield",
    "avalara_ship_from_region": "IL",
    "avalara_ship_from_postal_code": "62701",
    "avalara_ship_from_country": "US",
}
"""What mappings see of the settings; made up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process of workers does."""

    dsn: str
    folder: str
    name: str
    """Of the process: its log is `<name>-log.json`."""
    destinations: list[str]
    """Known ones with the policy of their connector and the mappings that come with the hub; any other name is a ledger
    without mappings."""
    delay: float = 0.0
    """Seconds each `send` takes."""
    slots: int = 5
    """Of a ledger that is not a known destination: sends at once in this process."""


def worker(
    destination: Null, db: Database, mappings: Mappings, settle: Settle, instruments: Metrics, poll: float = POLL
) -> Worker:
    """The loop of one destination, as `hub work` puts it together. Objects come from the events alone."""
    rng = random.Random(7)  # noqa: S311 - jitter, not a secret
    if destination.policy.kind == "log":
        return Worker(LogDeliverer(destination, settle, time.time, rng, instruments), db, time.time, poll)
    router = Router({destination.name: destination.policy.kind}, mappings.routes(), frozenset(), livemode=False)
    mirror = Mirror(db, NoSource(), time.time, instruments)
    composer = Composer(destination.name, mappings, mirror, db, dict.fromkeys(mappings.settings) | SETTINGS)
    return Worker(
        Deliverer(destination, mappings, composer, router, settle, time.time, rng, instruments), db, time.time, poll
    )


async def work(plan: Plan) -> None:
    """Work until a signal, or until the parent is gone."""
    log.configure("warning")
    log.to_file(Path(plan.folder) / f"{plan.name}-log.json")
    mappings = load(FOLDER)
    db = await Database.connect(plan.dsn, size=2 + 2 * len(plan.destinations))
    stop = asyncio.Event()
    common.on_signals(stop.set)
    try:
        settler, instruments = Settler(db, time.time), metrics.create()
        workers = []
        for name in plan.destinations:
            policy = POLICIES.get(name, Policy("ledger", slots=plan.slots))
            await db.fetch("register_destination", name, policy.kind, None)
            workers.append(worker(Null(name, policy, plan.delay), db, mappings, settler, instruments))
        spare_the_collector()
        (Path(plan.folder) / f"{plan.name}-ready").touch()
        await Workers(workers, db).run(stop, 20)
    finally:
        await db.close()


async def all_ready(folder: Path, names: Sequence[str], *, seconds: float = 120.0) -> None:
    """Wait until these processes work. Raises `BenchError` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not all((folder / f"{name}-ready").exists() for name in names):
        if time.monotonic() > deadline:
            raise BenchError(f"the workers did not start: {end_of(folder / f'{names[0]}.log')}")
        await asyncio.sleep(0.1)


async def fill_objects(db: Database, customers: int) -> None:
    """The customers and the product of every `events.Maker`, as objects that are known: mappings need them."""
    now = datetime.now(UTC)
    bodies = [events.product_event(), *(events.customer_event(n) for n in range(customers))]
    for start in range(0, len(bodies), GROUP):
        group = bodies[start : start + GROUP]
        stored = [Accepted(envelope.read(body, now), Disposition.UNMAPPED, None, ()) for body in group]
        await db.run(store.accept, stored, now)
