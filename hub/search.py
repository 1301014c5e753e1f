"""What is looked up: events, deliveries, dead letters, the whole story of one object, destinations, counts.

Every function takes a connection and returns plain dicts with aware datetimes, ready for JSON or a template. Lists come
newest first, in pages: `after` is the place (an id or seq) the last page ended at. Run them with
`db.run(search.reading, fn, ...)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
import orjson

from hub.db import SQL, Connection
from hub.model import DeliveryState, Disposition, EventKind

T = TypeVar("T")
P = ParamSpec("P")
Row = dict[str, Any]

READING_MS = "10000"
"""Longest a single statement may take, in milliseconds: a search is no reason to slow deliveries down."""
UNTIL_RESUMED = "until resumed"
"""In place of the end of a pause that has none."""
MOST_ATTEMPTS = 200
"""Attempts shown of one delivery, the newest; `attempts_total` says how many there are."""
MOST_ATTEMPTS_EACH = 20
"""The same where many deliveries are shown together."""
MOST_EVENTS_OF_AN_OBJECT = 500
EXACT = 10_000
"""Counted up to here; what is more is the planner's estimate, from statistics that PostgreSQL keeps by itself."""
DISORDER = timedelta(minutes=15)
"""How far the times of two events may be in another order than their places. They are stamped by a clock and placed
within seconds; Stripe's signature lets no clock be wrong by more than five minutes, so two differ by ten at most."""

OVER = frozenset({DeliveryState.DONE, DeliveryState.SUPERSEDED, DeliveryState.SKIPPED})
OPEN = (DeliveryState.WAITING, DeliveryState.CLAIMED, DeliveryState.UNKNOWN, DeliveryState.HELD)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events; None asks for nothing. Times are when the event was received, `until` not included."""

    type: str | None = None
    object: str | None = None
    customer: str | None = None
    disposition: Disposition | None = None
    kind: EventKind | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; None or empty asks for nothing. `object` is a Stripe object's id, `event` a Stripe event's."""

    states: tuple[DeliveryState, ...] = ()
    destination: str | None = None
    object: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows and, if there are more, where they go on."""

    items: list[Row]
    next: int | None


async def reading(
    connection: Connection[Any],
    fn: Callable[Concatenate[Connection[Any], P], Awaitable[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """`fn(connection, ...)` with this transaction made read-only and its statements limited to `READING_MS`."""
    await connection.fetch(SQL["guard_reading"], READING_MS)
    return await fn(connection, *args, **kwargs)


# An object without an id is filed under its event's id (see `accept`), so that is looked for too.
_SEQS_OF_OBJECT = (
    "ARRAY(SELECT o.seq FROM events o WHERE o.object_id = {0}"
    " UNION ALL SELECT o.seq FROM events o WHERE o.id = {0} AND o.object_id IS NULL)"
)
_EVENT_CONDITIONS = {
    "type": "e.type = {0}",
    "object": "e.object_id = {0}",
    "customer": "e.customer_id = {0}",
    "since": "e.received_at >= {0}",
    "until": "e.received_at < {0}",
}
_DELIVERY_CONDITIONS = {
    "destination": "d.destination = {0}",
    "object": f"d.event_seq = ANY ({_SEQS_OF_OBJECT})",
    "event": "d.event_seq = ANY (ARRAY(SELECT o.seq FROM events o WHERE o.id = {0}))",
}


def compose(statement: str, conditions: Iterable[tuple[str, Any]], limit: int) -> tuple[str, list[Any]]:
    """The statement with its conditions, and its arguments. Conditions are ours; values only ever are arguments."""
    text, arguments = "", [limit]
    for condition, value in conditions:
        arguments.append(value)
        text += f" AND {condition.format(f'${len(arguments)}')}"
    return statement.replace("/* and */", text), arguments


async def events(connection: Connection[Any], where: EventFilter, limit: int = 50, after: int | None = None) -> Page:
    """Events without their bodies."""
    low = high = None
    if where.since is not None:
        low = await connection.fetchval(SQL["seq_received_at"], where.since - DISORDER)
    if where.until is not None:
        high = await connection.fetchval(SQL["seq_received_at"], where.until + DISORDER)
    text, arguments = events_statement(where, limit, after, low, high)
    return _page(await connection.fetch(text, *arguments), limit, "seq")


def events_statement(
    where: EventFilter, limit: int, after: int | None, low: int | None = None, high: int | None = None
) -> tuple[str, list[Any]]:
    """The SQL of `events`, apart so that its plan can be looked at. `low <= seq < high` is where to look at all."""
    wanted = [(c, v) for name, c in _EVENT_CONDITIONS.items() if (v := getattr(where, name)) is not None]
    places = [(c, v) for c, v in (("e.seq >= {0}", low), ("e.seq < {0}", high)) if v is not None]
    text, arguments = compose(SQL["search_events"], wanted + places + _after("e.seq", after), limit + 1)
    # As literals, which are ours: only then does the planner know that the index of the unusual ones will do.
    for column, value in (("disposition", where.disposition), ("kind", where.kind)):
        if value is not None:
            text = text.replace("WHERE true", f"WHERE true AND e.{column} = '{type(value)(value).value}'")
    return text, arguments


async def event(connection: Connection[Any], event_id: str) -> Row | None:
    """One event with `body` (the bytes as received) and its deliveries; or, of an old one, with `body_removed`: since
    when and why both are gone.
    """
    found = await connection.fetchrow(SQL["event_body"], event_id)
    if found is None:
        return None
    (summary,) = await connection.fetch(SQL["summaries_of"], [found["seq"]])
    deliveries = await connection.fetch(SQL["deliveries_of"], [found["seq"]])
    removed = found["body_removed_at"]
    return dict(summary) | {
        "body": found["body"] if removed is None else None,
        "body_removed": removed and _removed(removed, summary["received_at"]),
        "deliveries": [_delivery(d) for d in deliveries],
    }


def _removed(removed_at: datetime, received_at: datetime) -> str:
    days = (removed_at - received_at).days
    return (
        f"its body was removed on {removed_at.astimezone(UTC):%Y-%m-%d}, {days} days after it was received, with its "
        "settled deliveries and their attempts (HUB_RETENTION_DAYS); links stay"
    )


async def deliveries(
    connection: Connection[Any], where: DeliveryFilter, limit: int = 50, after: int | None = None
) -> Page:
    """Deliveries, each with its event's summary."""
    text, arguments = deliveries_statement(where, limit, after)
    page = _page(await connection.fetch(text, *arguments), limit, "id")
    return Page(await _with_events(connection, page.items), page.next)


def deliveries_statement(where: DeliveryFilter, limit: int, after: int | None) -> tuple[str, list[Any]]:
    """The SQL of `deliveries`, apart so that its plan can be looked at."""
    wanted = [(c, v) for name, c in _DELIVERY_CONDITIONS.items() if (v := getattr(where, name)) is not None]
    text, arguments = compose(SQL["search_deliveries"], wanted + _after("d.id", after), limit + 1)
    if where.states:
        # As literals, which are ours: only then does the planner know that an index of some states will do.
        names = ", ".join(f"'{DeliveryState(s).value}'" for s in where.states)
        # Said twice where it is the same, because it is the condition of an index.
        again = "" if set(where.states) & OVER else " AND (d.settled_at IS NULL OR d.state = 'dead')"
        text = text.replace("WHERE true", f"WHERE d.state IN ({names}){again}")
    return text, arguments


async def delivery(connection: Connection[Any], delivery_id: int) -> Row | None:
    """One delivery with its event, its attempts, how many it holds, and its object's links at that destination."""
    found = await connection.fetchrow(SQL["delivery"], delivery_id)
    if found is None:
        return None
    rows = await _with_events(connection, [_delivery(found)])
    await _add_attempts(connection, rows, MOST_ATTEMPTS)
    await _add_holds(connection, rows)
    links = await connection.fetch(SQL["links_at"], found["destination"], found["object_id"])
    return rows[0] | {"links": [dict(link) for link in links]}


async def dead_letters(
    connection: Connection[Any], destination: str | None = None, limit: int = 50, after: int | None = None
) -> Page:
    """Deliveries that wait for a person: with code, cause and fix, and how many are held behind each."""
    page = await deliveries(connection, DeliveryFilter((DeliveryState.DEAD,), destination), limit, after)
    await _add_holds(connection, page.items)
    return page


async def history(connection: Connection[Any], object_id: str) -> Row | None:
    """Everything known of one Stripe object, or None if it was never seen."""
    where = EventFilter(object=object_id)
    page = await events(connection, where, MOST_EVENTS_OF_AN_OBJECT)
    links = await connection.fetch(SQL["links_everywhere"], object_id)
    if not page.items and not links:
        return None
    found = await connection.fetch(SQL["deliveries_of"], [e["seq"] for e in page.items])
    rows = [_delivery(d) for d in found]
    await _add_attempts(connection, rows, MOST_ATTEMPTS_EACH)
    return {
        "id": object_id,
        "events": page.items,
        "events_left_off": page.next is not None,
        "deliveries": rows,
        "links": [dict(link) for link in links],
    }


@dataclass(frozen=True, slots=True)
class Opened:
    """The open deliveries of one destination in one state. `n` above `EXACT` is an estimate; never 0."""

    destination: str
    state: str
    n: int
    oldest: datetime


async def open_deliveries(connection: Connection[Any]) -> list[Opened]:
    """What is open, dead letters included, in about the same time however much it is."""
    found = []
    for row in await connection.fetch(SQL["open_by_state"], EXACT):
        n = row["n"]
        if n > EXACT:
            where = [("d.destination = {0}", row["destination"]), ("d.state = {0}", row["state"])]
            n = max(n, await _about(connection, SQL["deliveries_like"], where))
        found.append(Opened(row["destination"], row["state"], n, row["oldest"]))
    return found


async def destinations(connection: Connection[Any], now: datetime) -> list[Row]:
    """Every destination with its pause, what is open by state, the age of the oldest, and when it is looked at next."""
    opened: dict[str, dict[str, Opened]] = {}
    for one in await open_deliveries(connection):
        opened.setdefault(one.destination, {})[one.state] = one
    found = []
    for row in await connection.fetch(SQL["destination_list"], now):
        mine = opened.get(row["name"], {})
        ages = [max(0.0, (now - mine[s].oldest).total_seconds()) for s in OPEN if s in mine]
        until = UNTIL_RESUMED if row["until_resumed"] else row["paused_until"]
        found.append(
            {
                "name": row["name"],
                "kind": row["kind"],
                "paused": bool(row["paused"]),
                "paused_until": until,
                "reason": row["reason"],
                "paused_by": row["paused_by"],
                "circuit": row["circuit"],
                "share": row["share"],
                "open": {s.value: mine[s].n if s in mine else 0 for s in (*OPEN, DeliveryState.DEAD)},
                "oldest_open_seconds": max(ages, default=None),
                "next_due_at": row["next_due_at"],
            }
        )
    return found


async def destination_is_known(connection: Connection[Any], name: str) -> bool:
    """Whether this name is, or once was, a destination."""
    return bool(await connection.fetchval(SQL["destination_is_known"], name))


async def counts(connection: Connection[Any]) -> Row:
    """All events by disposition and by kind, all deliveries by destination and state.

    Exact while there are at most `EXACT` of each. Beyond that `about` is true: what is open or unusual is then exact up
    to `EXACT`, and the rest is the planner's estimate, since counting it would be reading all of it.
    """
    (many,) = await connection.fetch(SQL["are_more_than"], EXACT)
    dispositions = dict.fromkeys([d.value for d in Disposition], 0)
    kinds = dict.fromkeys([k.value for k in EventKind], 0)
    if many["events"]:
        await _estimate_events(connection, dispositions, kinds)
    else:
        for row in await connection.fetch(SQL["count_events"]):
            dispositions[row["disposition"]] += row["n"]
            kinds[row["kind"]] += row["n"]
    by_destination: dict[str, dict[str, int]] = {}
    rows: Iterable[tuple[str, str, int]]
    if many["deliveries"]:
        rows = await _estimate_deliveries(connection)
    else:
        counted = await connection.fetch(SQL["count_deliveries"])
        rows = [(r["destination"], r["state"], r["n"]) for r in counted]
    for destination, state, n in rows:
        by_destination.setdefault(destination, dict.fromkeys([s.value for s in DeliveryState], 0))[state] = n
    return {
        "about": bool(many["events"] or many["deliveries"]),
        "events": {"total": sum(kinds.values()), "by_disposition": dispositions, "by_kind": kinds},
        "deliveries": dict(sorted(by_destination.items())),
    }


async def _estimate_events(connection: Connection[Any], dispositions: dict[str, int], kinds: dict[str, int]) -> None:
    total = max(EXACT + 1, await _about(connection, SQL["events_like"], []))
    for row in await connection.fetch(SQL["unusual_events"], EXACT):
        name, is_kind = row["name"].removeprefix("kind "), row["name"].startswith("kind ")
        n = row["n"]
        if n > EXACT:
            column = "e.kind = {0}" if is_kind else "e.disposition = {0}"
            n = max(n, await _about(connection, SQL["events_like"], [(column, name)]))
        (kinds if is_kind else dispositions)[name] = n
    dispositions[Disposition.ROUTED] = max(0, total - sum(dispositions.values()))
    # Both ways of sorting them must add up to the same.
    kinds[EventKind.SNAPSHOT] = max(0, sum(dispositions.values()) - sum(kinds.values()))


async def _estimate_deliveries(connection: Connection[Any]) -> list[tuple[str, str, int]]:
    opened = [(o.destination, o.state, o.n) for o in await open_deliveries(connection)]
    names = {r["name"] for r in await connection.fetch(SQL["destination_names"])} | {d for d, _, _ in opened}
    settled = []
    for name in names:
        for state in (DeliveryState.DONE, DeliveryState.SUPERSEDED, DeliveryState.SKIPPED):
            n = await _about(
                connection, SQL["deliveries_like"], [("d.destination = {0}", name), ("d.state = {0}", state.value)]
            )
            settled.append((name, state.value, n if n > 1 else 0))  # the planner never says none
    return [*opened, *settled]


async def _about(connection: Connection[Any], statement: str, conditions: list[tuple[str, Any]]) -> int:
    """How many rows the planner expects. Nothing is read."""
    text, (_, *values) = compose(statement, conditions, 0)
    for n in range(len(values)):  # there is no limit here
        text = text.replace(f"${n + 2}", f"${n + 1}")
    plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {text}", *values)
    return int(orjson.loads(plan)[0]["Plan"]["Plan Rows"])


async def rejected_bodies(connection: Connection[Any], limit: int = 50, after: int | None = None) -> Page:
    """Signed bodies that were no events: when, why, how many bytes."""
    return _page(await connection.fetch(SQL["search_rejected"], limit + 1, after), limit, "id")


def _after(column: str, after: int | None) -> list[tuple[str, Any]]:
    return [] if after is None else [(column + " < {0}", after)]


def _page(rows: Sequence[asyncpg.Record], limit: int, place: str) -> Page:
    """One row more than asked for was fetched: it only says that there are more."""
    kept = [_delivery(r) if "event_seq" in r else dict(r) for r in rows[:limit]]
    return Page(kept, rows[limit - 1][place] if len(rows) > limit else None)


def _delivery(row: asyncpg.Record) -> Row:
    found = dict(row)
    found["claims"] = found.pop("claim")
    return found


async def _with_events(connection: Connection[Any], rows: list[Row]) -> list[Row]:
    summaries = await connection.fetch(SQL["summaries_of"], [r["event_seq"] for r in rows]) if rows else []
    by_seq = {s["seq"]: dict(s) for s in summaries}
    return [r | {"event": by_seq.get(r["event_seq"])} for r in rows]


async def _add_attempts(connection: Connection[Any], rows: list[Row], most: int) -> None:
    by_delivery: dict[int, list[asyncpg.Record]] = {}
    found = await connection.fetch(SQL["attempts_of"], [r["id"] for r in rows], [r["batch_id"] for r in rows], most)
    for attempt in found:
        by_delivery.setdefault(attempt["of"], []).append(attempt)
    for row in rows:
        mine = by_delivery.get(row["id"], [])
        row["attempts"] = [{k: v for k, v in a.items() if k not in ("of", "total", "place")} for a in mine]
        row["attempts_total"] = mine[0]["total"] if mine else 0


async def _add_holds(connection: Connection[Any], rows: list[Row]) -> None:
    ids, names, lanes = [r["id"] for r in rows], [r["destination"] for r in rows], [r["lane"] for r in rows]
    held = {h["id"]: h["n"] for h in await connection.fetch(SQL["holds"], ids, names, lanes)} if rows else {}
    for row in rows:
        row["holds"] = held.get(row["id"], 0)
