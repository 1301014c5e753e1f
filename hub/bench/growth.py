"""What a long history and a long queue cost: the same statements at 10,000 and at 1,000,000.

Every event has one delivery that is done at `books` (history) and one that waits at `crm` (backlog), ten events a
customer at either size. Loaded on the server, with bodies smaller than real ones: what a body costs `ingest` says. Then
claim, settle and accept are timed as the engine runs them, and what people and Prometheus ask.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, TypeVar

from hub import search, store
from hub.bench.ground import BenchError, Say, fetch, ground, silent
from hub.db import SQL, Connection, Database
from hub.model import DeliveryState, Disposition, EventKind, NewEvent
from hub.search import DeliveryFilter, EventFilter
from hub.store import Accepted, AttemptLog, Closing, Release, Route, Settlement

QUEUE, HISTORY = "crm", "books"
PER_CUSTOMER = 10
LANES = 20
AT_ONCE = 100
CHUNK = 100_000
SPAN = timedelta(days=300)
"""Over which the events were received, evenly."""
RARE = "customer.tax_id.updated"
LEFT_OUT = "radar.early_fraud_warning.created"

EVENTS = """
INSERT INTO events (id, kind, type, livemode, object_type, object_id, customer_id, rank, created, received_at,
                    disposition, body)
SELECT 'evt_g' || n, 'snapshot', CASE WHEN n <= 3 THEN $4 ELSE (ARRAY['invoice.paid', 'invoice.finalized',
       'invoice.created', 'customer.updated', 'invoice.updated', 'charge.succeeded'])[1 + n % 6] END, true, 'invoice',
       'in_g' || n / 4, 'cus_g' || n / $5, 0, at, at, CASE WHEN n % 50 = 7 THEN 'unmapped' ELSE 'routed' END,
       convert_to('{"id": "evt_g' || n || '", "data": {"object": {"id": "in_g' || n / 4 || '", "x": "'
                  || repeat('-', 400) || '"}}}', 'UTF8')
FROM generate_series($1::int, $2::int) n, LATERAL (SELECT $3::timestamptz + n * $6::interval AS at) t
"""
DELIVERIES = f"""
INSERT INTO deliveries (event_seq, destination, lane, object_id, state, due_at, settled_at, created_at)
SELECT e.seq, d.name, e.customer_id, e.object_id, d.state, CASE WHEN d.state = 'waiting' THEN e.received_at END,
       CASE WHEN d.state = 'done' THEN e.received_at END, e.received_at
FROM events e CROSS JOIN (VALUES ('{HISTORY}', 'done'), ('{QUEUE}', 'waiting')) AS d (name, state) WHERE e.seq > $1
"""  # noqa: S608 - our own words
LANES_OF = """
INSERT INTO lanes (destination, key, due_at)
SELECT destination, lane, min(due_at) FROM deliveries WHERE event_seq > $1 GROUP BY destination, lane
ON CONFLICT DO NOTHING
"""

T = TypeVar("T")
Ask = Callable[["Connection[Any]"], Awaitable[Any]]


async def growth(small: int = 10_000, large: int = 1_000_000, *, rounds: int = 20, say: Say = silent) -> dict[str, Any]:
    """Medians in milliseconds at both sizes, and how many times the smaller the larger is.

    Raises `BenchError` if the database does not hold what it should, or if nothing was left to claim.
    """
    async with ground(say) as place:
        db = await Database.connect(place.dsn, size=2)
        try:
            await db.fetch("register_destination", QUEUE, "state", None)
            await db.fetch("register_destination", HISTORY, "ledger", None)
            at: dict[int, dict[str, float]] = {}
            for size, before in ((small, 0), (large, small)):
                say(f"loading {size:,} events ...")
                await fill(db, before, size, large)
                await _check(place.dsn, size)
                # What autovacuum and the checkpointer would have done by now, not while it is measured.
                await fetch(place.dsn, "VACUUM (ANALYZE)")
                await fetch(place.dsn, "CHECKPOINT")
                say(f"measuring at {size:,} ...")
                at[size] = await measure(db, size, rounds)
        finally:
            await db.close()
    figures = {
        name: {"small_ms": at[small][name], "large_ms": at[large][name], "ratio": _ratio(at, small, large, name)}
        for name in at[large]
    }
    return {"growth": {"small": small, "large": large, **figures}}


def _ratio(at: dict[int, dict[str, float]], small: int, large: int, name: str) -> float:
    return round(at[large][name] / max(at[small][name], 0.001), 2)


async def fill(db: Database, before: int, until: int, of: int, *, analyze: bool = True) -> None:
    """Events number `before` + 1 to `until`, their deliveries and lanes; statistics as autovacuum makes them."""
    start, step = datetime.now(UTC) - SPAN, SPAN / of

    async def run(connection: Connection[Any], text: str, *arguments: Any) -> None:
        await connection.execute(text, *arguments, timeout=600)

    for first in range(before + 1, until + 1, CHUNK):
        (last,) = await db.fetch_text("SELECT coalesce(max(seq), 0) AS seq FROM events")
        end = min(until, first + CHUNK - 1)
        await db.run(run, EVENTS, first, end, start, RARE, PER_CUSTOMER, step)
        await db.run(run, DELIVERIES, last["seq"])
        await db.run(run, LANES_OF, last["seq"])
    if analyze:
        await db.run(run, "ANALYZE")


async def _check(dsn: str, size: int) -> None:
    (row,) = await fetch(
        dsn,
        "SELECT (SELECT count(*) FROM events WHERE id LIKE 'evt_g%') AS events, "
        "(SELECT count(*) FROM deliveries WHERE destination = $1 AND state = 'waiting') AS waiting",
        QUEUE,
    )
    if row["events"] != size or row["waiting"] < size * 0.5:
        raise BenchError(f"growth: {size} events and about as many waiting deliveries were wanted; there are {row}")


async def measure(db: Database, size: int, rounds: int) -> dict[str, float]:
    """Name -> median milliseconds."""
    taken: dict[str, list[float]] = {}

    async def timed(name: str, call: Awaitable[T]) -> T:
        began = time.perf_counter()
        found = await call
        taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        return found

    terms: dict[str, Any] = {"lease": 60.0, "lanes": LANES, "per_lane": 50, "ledger": False, "bodies": True}
    for n in range(rounds):
        now = datetime.now(UTC)
        claims = await timed("claim", db.run(store.claim, QUEUE, now, **terms))
        claimed = [d for c in claims for d in c.deliveries]
        if not claimed:
            raise BenchError("growth: nothing was left to claim")
        done = tuple(Settlement(d, DeliveryState.DONE, attempt=AttemptLog(now, 5, "receipt")) for d in claimed)
        releases = tuple(Release(c.destination, c.lane, c.claim) for c in claims)
        await timed("settle", db.run(store.settle, [Closing(done, releases)], now))
        fresh = [_event(size, n * AT_ONCE + i, now) for i in range(AT_ONCE)]
        await timed("accept", db.run_one(store.accept, fresh, now))
        await timed("next_due", db.fetch("next_due", QUEUE, now, None))
    for name, ask in questions(size, datetime.now(UTC)).items():
        for _ in range(min(rounds, 7)):
            await timed(name, db.run(search.reading, ask))
    return {name: round(median(times), 2) for name, times in taken.items()}


def _event(size: int, n: int, now: datetime) -> Accepted:
    customer = f"cus_g{n * 7919 % (size // PER_CUSTOMER)}"
    event = NewEvent(
        f"evt_{size}_{n}", EventKind.SNAPSHOT, "invoice.paid", b"{}", now, now,
        object_type="invoice", object_id=f"in_{size}_{n}", customer_id=customer,
    )  # fmt: skip
    return Accepted(event, Disposition.ROUTED, None, (Route(QUEUE, customer, now), Route(HISTORY, customer, now)))


def questions(size: int, now: datetime) -> dict[str, Ask]:
    """What people ask, and `/metrics`."""
    middle = now - SPAN / 2

    def events(**where: Any) -> Ask:
        return lambda c: search.events(c, EventFilter(**where))

    def deliveries(*states: DeliveryState, **where: Any) -> Ask:
        return lambda c: search.deliveries(c, DeliveryFilter(states, **where))

    return {
        "events, newest": events(),
        "events of a common type": events(type="invoice.paid"),
        "events of a rare type": events(type=RARE),
        "events of a type never seen": events(type=LEFT_OUT),
        "events of a customer": events(customer=f"cus_g{size // 2 // PER_CUSTOMER}"),
        "events of an object": events(object=f"in_g{size // 8}"),
        "events until long ago": events(until=middle),
        "events of a day long ago": events(since=middle, until=middle + timedelta(days=1)),
        "events of a rare type since long ago": events(type=RARE, since=now - SPAN * 2),
        "events unmapped": events(disposition=Disposition.UNMAPPED),
        "events of another mode": events(disposition=Disposition.OTHER_MODE),
        "thin events": events(kind=EventKind.THIN),
        "deliveries, newest": deliveries(),
        "deliveries waiting there": deliveries(DeliveryState.WAITING, destination=QUEUE),
        "deliveries unknown": deliveries(DeliveryState.UNKNOWN),
        "deliveries skipped": deliveries(DeliveryState.SKIPPED),
        "deliveries of an object": deliveries(object=f"in_g{size // 8}"),
        "dead letters": search.dead_letters,
        "an object's history": lambda c: search.history(c, f"in_g{size // 8}"),
        "destinations": lambda c: search.destinations(c, now),
        "counts": search.counts,
        "gauges": search.open_deliveries,
        "an event": lambda c: search.event(c, f"evt_g{size // 2}"),
        "the mirror of 20 objects": lambda c: c.fetch(SQL["newest"], [f"in_g{n}" for n in range(20)]),
    }
