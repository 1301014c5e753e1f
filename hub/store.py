"""The verbs on the queue: accept, claim, settle, requeue. Each is a function of a connection, run in one transaction.

Time is an argument everywhere. The statements and their reasons are in `hub/sql/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import orjson

from hub.db import SQL, Connection
from hub.model import UNSURE, Delivery, DeliveryState, Disposition, Event, EventKind, Link, NewEvent


class Route(NamedTuple):
    """One delivery to be: which destination, in which lane, due when."""

    destination: str
    lane: str
    due_at: datetime


class Accepted(NamedTuple):
    """An event with what was decided about it."""

    event: NewEvent
    disposition: Disposition
    note: str | None
    routes: tuple[Route, ...]


async def accept(connection: Connection[Any], items: Sequence[Accepted], now: datetime) -> dict[str, int]:
    """Store events, their deliveries and wake the lanes. Returns id -> seq of those that
    were new; repeats, also within `items`, change nothing."""
    items = list({i.event.id: i for i in reversed(items)}.values())[::-1]
    beside = {i.event.object_id: i.event.customer_id for i in items if i.event.customer_id is not None}
    events, routes = [], []
    for item in items:
        e = item.event
        events.append(
            {
                "id": e.id,
                "kind": e.kind,
                "type": e.type,
                "account": e.account,
                "api_version": e.api_version,
                "livemode": e.livemode,
                "object_type": e.object_type,
                "object_id": e.object_id,
                "customer_id": e.customer_id or beside.get(e.via),
                **({"via": e.via} if e.via is not None else {}),
                "rank": e.rank,
                "created": e.created.timestamp(),
                "received_at": e.received_at.timestamp(),
                "disposition": item.disposition,
                "note": item.note,
            }
        )
        for route in item.routes:
            routes.append(
                {
                    "id": e.id,
                    "destination": route.destination,
                    "lane": route.lane,
                    "due_at": route.due_at.timestamp(),
                    # Into the lane of its customer, if that is found. Left out, as `via` is, it costs nothing.
                    **({"follow": True} if e.via is not None and route.lane == e.via else {}),
                }
            )
    rows = await connection.fetch(
        SQL["accept"],
        orjson.dumps(events).decode(),
        [item.event.body for item in items],
        orjson.dumps(routes).decode(),
        now,
    )
    return {row["id"]: row["seq"] for row in rows}


def _columns(rows: Sequence[Any], *names: str) -> list[list[Any]]:
    """Rows turned into one array per attribute, as the statements take them."""
    return [[getattr(row, name) for row in rows] for name in names]


@dataclass(frozen=True, slots=True)
class LaneClaim:
    """A claimed lane with its deliveries, in order. `claim` is the lane's own fence."""

    destination: str
    lane: str
    claim: int
    deliveries: tuple[Delivery, ...]
    share: float = 1.0
    """How much of the destination's limits was in use when it was claimed."""


async def claim(
    connection: Connection[Any],
    destination: str,
    now: datetime,
    *,
    lease: float,
    lanes: int,
    per_lane: int,
    ledger: bool,
    bodies: bool,
    concurrency: int | None = None,
) -> list[LaneClaim]:
    """Take up to `lanes` due lanes and their due deliveries for `lease` seconds.

    With `concurrency` never more than so many lanes are claimed over all processes, fewer while the vendor's limits are
    cut. While the circuit is half open it is one delivery in all: the probe.
    """
    probe = False
    if concurrency is not None:
        lanes, probe = await _room(connection, destination, now, lanes, concurrency)
        if lanes < 1:
            return []
    given = (destination, now, lease)
    rows = await connection.fetch(SQL["claim"], *given, lanes, 1 if probe else per_lane, ledger, bodies, probe)
    half_open = not rows and not probe and await connection.fetchval(SQL["is_half_open"], destination, now)
    if half_open and (await _room(connection, destination, now, lanes, None))[0]:
        rows = await connection.fetch(SQL["claim"], *given, 1, 1, ledger, bodies, True)
    found: dict[tuple[str, int], list[Delivery]] = {}
    for row in rows:
        lane = found.setdefault((row["lane"], row["lane_claim"]), [])
        if row["id"] is not None:
            lane.append(_delivery(destination, row))
    return [LaneClaim(destination, key, number, tuple(ds), rows[0]["share"]) for (key, number), ds in found.items()]


async def _room(
    connection: Connection[Any], destination: str, now: datetime, lanes: int, concurrency: int | None
) -> tuple[int, bool]:
    """How many lanes may be claimed now, and whether as a probe. Rivals wait for the row until this one has claimed."""
    row = await connection.fetchrow(SQL["lock_destination"], destination, now)
    leased = await connection.fetchval(SQL["count_leased"], destination, now)
    if row is not None and row["opened"] > 0 and not row["paused"]:
        return max(0, 1 - leased), True
    if concurrency is None:
        return lanes, False
    return min(lanes, int(max(1.0, concurrency * (row["share"] if row is not None else 1.0))) - leased), False


def _delivery(destination: str, row: asyncpg.Record) -> Delivery:
    return Delivery(
        id=row["id"],
        destination=destination,
        lane=row["lane"],
        event=event_of(row),
        state=DeliveryState.CLAIMED,
        claim=row["claim"],
        failures=row["failures"],
        first_failure_at=row["first_failure_at"],
        blocked_until=row["blocked_until"],
        held_by=row["held_by"],
        # A claim that was lost may have sent: as unknown as a lost reply.
        was_unknown=row["was"] in ("unknown", "claimed"),
        was_lost=row["was"] == "claimed",
    )


def event_of(row: asyncpg.Record) -> Event:
    """An event from a row that carries its columns (`event_id` for `id`)."""
    return Event(
        id=row["event_id"],
        kind=EventKind(row["kind"]),
        type=row["type"],
        body=row["body"],
        created=row["created"],
        received_at=row["received_at"],
        account=row["account"],
        api_version=row["api_version"],
        livemode=row["livemode"],
        object_type=row["object_type"],
        object_id=row["object_id"],
        customer_id=row["customer_id"],
        rank=row["rank"],
        seq=row["seq"],
        disposition=Disposition(row["disposition"]),
        note=row["note"],
    )


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """One line of the attempts table. `duration_ms` of the call, or of its share of a batch."""

    started_at: datetime
    duration_ms: int
    outcome: str
    code: str | None = None
    reason: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    answer: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of one claimed delivery."""

    delivery: Delivery
    state: DeliveryState
    due_at: datetime | None = None
    failed: bool = False
    code: str | None = None
    cause: str | None = None
    fix: str | None = None
    note: str | None = None
    superseded_by: int | None = None
    held_by: int | None = None
    lane: str | None = None
    """Another lane, if it goes on there."""
    attempt: AttemptLog | None = None
    links: tuple[Link, ...] = ()
    follow_ups: tuple[Accepted, ...] = ()
    unsure: bool = False
    """Given up while what it sent may have landed: what we know of its records may be out of date."""
    resolves_dead: bool = False
    """A state destination's success, or newer dead letter: earlier dead letters of the object are superseded by it."""


@dataclass(frozen=True, slots=True)
class Release:
    """Lanes whose claim ends with this settlement."""

    destination: str
    lane: str
    claim: int


@dataclass(frozen=True, slots=True)
class Sign:
    """What the calls of one attempt say about the vendor."""

    destination: str
    lane: str | None
    """Of which lane it was; None if of several, or if there is only one (log)."""
    answered: bool
    """Whether any call got an answer, a refusal too. False: none did."""
    limited: bool = False
    """The vendor said that we call too much."""
    reason: str = ""
    """Why there was no answer."""


@dataclass(frozen=True, slots=True)
class Closing:
    """One settlement transaction: what is settled, which lanes are released, who is paused."""

    settlements: tuple[Settlement, ...] = ()
    releases: tuple[Release, ...] = ()
    pauses: tuple[tuple[str, datetime, str], ...] = field(default=())
    """(destination, until, reason)"""
    batches: tuple[tuple[int, AttemptLog], ...] = ()
    """(batch id, its attempt)"""
    batch_done: int | None = None
    signs: tuple[Sign, ...] = ()


class Settled(NamedTuple):
    """Which deliveries were still ours, and which destinations were failing before this settlement."""

    ours: set[int]
    ailing: frozenset[str]


async def settle(connection: Connection[Any], work: Iterable[Closing], now: datetime) -> Settled:
    """Write outcomes, attempts, links and follow-up events, and release lanes, in this one transaction.

    What a late worker brings changes nothing, links included. The signs are for `hub.circuit`.
    """
    work = list(work)
    settlements = [s for w in work for s in w.settlements]
    releases = [r for w in work for r in w.releases]
    lanes = sorted(
        {(r.destination, r.lane) for r in releases} | {(s.delivery.destination, s.delivery.lane) for s in settlements}
    )
    moving = [s for s in settlements if s.lane is not None]
    if moving:
        await connection.execute(SQL["open_lanes"], *_moves(moving))
        lanes = sorted({*lanes, *((s.delivery.destination, s.lane) for s in moving if s.lane is not None)})
    if lanes:
        await connection.fetch(SQL["lock_lanes"], [d for d, _ in lanes], [k for _, k in lanes])
    ours, ailing = await _write_states(connection, settlements, now) if settlements else Settled(set(), frozenset())
    mine = [s for s in settlements if s.delivery.id in ours]
    if moved := [s for s in mine if s.lane is not None]:
        await connection.fetch(SQL["move_deliveries"], *_moves(moved), [s.delivery.id for s in moved])
    await _write_attempts(connection, mine)
    await _write_links(connection, mine, now)
    if unsure := [s.delivery for s in mine if s.unsure]:
        objects = [d.event.object_id for d in unsure]
        await connection.execute(SQL["doubt_links"], [d.destination for d in unsure], objects, UNSURE)
    follow_ups = [f for s in mine for f in s.follow_ups]
    if follow_ups:
        await accept(connection, follow_ups, now)
    resolving = [s for s in mine if s.resolves_dead]
    for destination in {s.delivery.destination for s in resolving}:
        group = [s.delivery for s in resolving if s.delivery.destination == destination]
        await connection.execute(
            SQL["resolve_dead"],
            destination,
            [d.lane for d in group],
            [d.event.object_id or d.event.id for d in group],
            [d.id for d in group],
            now,
        )
    if releases:
        await connection.fetch(
            SQL["release_lanes"],
            [r.destination for r in releases],
            [r.lane for r in releases],
            [r.claim for r in releases],
        )
    for closing in work:
        for batch_id, attempt in closing.batches:
            await log_attempts(connection, [(None, batch_id, 1, attempt)])
        if closing.batch_done is not None and any(s.delivery.id in ours for s in closing.settlements):
            await connection.execute(SQL["close_batch"], closing.batch_done, now)
    for destination, until, reason in sorted({p for w in work for p in w.pauses}):
        await connection.execute(SQL["pause_by_hub"], destination, until, reason)
    return Settled(ours, ailing)


def _moves(settlements: Sequence[Settlement]) -> tuple[list[str], list[str | None]]:
    return [s.delivery.destination for s in settlements], [s.lane for s in settlements]


async def _write_states(connection: Connection[Any], settlements: Sequence[Settlement], now: datetime) -> Settled:
    rows = await connection.fetch(
        SQL["settle"],
        *_columns([s.delivery for s in settlements], "id", "claim"),
        *_columns(settlements, "state", "due_at"),
        [int(s.failed) for s in settlements],
        *_columns(settlements, "code", "cause", "fix", "note", "superseded_by", "held_by"),
        now,
    )
    return Settled({row["id"] for row in rows}, frozenset((rows[0]["ailing"] if rows else None) or ()))


async def _write_attempts(connection: Connection[Any], settlements: Sequence[Settlement]) -> None:
    logged = [(s.delivery, s.attempt) for s in settlements if s.attempt is not None]
    if logged:
        await log_attempts(connection, [(d.id, None, d.claim, a) for d, a in logged])


async def log_attempts(
    connection: Connection[Any], rows: Sequence[tuple[int | None, int | None, int, AttemptLog]]
) -> None:
    """Append to the attempts table: (delivery id, batch id, claim, log), exactly one of the two ids given."""
    await connection.execute(
        SQL["log_attempts"],
        [delivery_id for delivery_id, _, _, _ in rows],
        [batch_id for _, batch_id, _, _ in rows],
        [claim for _, _, claim, _ in rows],
        *_columns([log for _, _, _, log in rows], "started_at", "duration_ms", "outcome", "code", "reason"),
        *_columns([log for _, _, _, log in rows], "http_status", "request_id", "answer"),
    )


async def _write_links(connection: Connection[Any], settlements: Sequence[Settlement], now: datetime) -> None:
    # The same record may come twice (a parent shared by several jobs): the last one wins, once.
    links = {(s.delivery.destination, k.object_id, k.record): k for s in settlements for k in s.links}
    if not links:
        return
    ordered = sorted(links.items())
    await connection.execute(
        SQL["write_links"],
        [destination for (destination, _, _), _ in ordered],
        *_columns([k for _, k in ordered], "object_id", "record", "key", "vendor_id", "digest", "mapping", "status"),
        now,
    )


async def give_back(connection: Connection[Any], claims: Iterable[LaneClaim], now: datetime) -> int:
    """Shutdown: claims that were not begun return to the queue at once, uncounted. Returns how many deliveries."""
    claims = list(claims)
    deliveries = [d for c in claims for d in c.deliveries]
    if not claims:
        return 0
    await connection.fetch(SQL["lock_lanes"], [c.destination for c in claims], [c.lane for c in claims])
    states = ["unknown" if d.was_unknown else "waiting" for d in deliveries]
    await connection.execute(SQL["give_back"], [d.id for d in deliveries], [d.claim for d in deliveries], now, states)
    await connection.fetch(
        SQL["release_lanes"], [c.destination for c in claims], [c.lane for c in claims], [c.claim for c in claims]
    )
    return len(deliveries)


async def unfinished(
    connection: Connection[Any], destination: str, lane: str, object_ids: Sequence[str], now: datetime
) -> asyncpg.Record | None:
    """Of these documents one that has a dead letter (`dead`, its id) or is to be tried later (`due_at`)."""
    return await connection.fetchrow(SQL["unfinished"], destination, lane, list(object_ids), now)


async def links_of(
    connection: Connection[Any], destination: str, object_ids: Sequence[str]
) -> dict[tuple[str, str], Link]:
    """(object id, record) -> link, for one destination."""
    rows = await connection.fetch(SQL["links_of"], destination, list(object_ids))
    return {(r["object_id"], r["record"]): Link(**dict(r)) for r in rows}
