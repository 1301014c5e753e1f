"""What a person may do: retry, skip, link, pause, resume. Each is a function of a connection, run in one transaction.

Whoever changes a delivery holds the lock of its lane: these, like settling, take it first and look after. So of two
people who press the same button at once one wins and the other is told so, and a worker's settlement is either seen or
not yet made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson

from hub.db import SQL, Connection
from hub.errors import HubError, MappingError
from hub.legible import is_text
from hub.mapping import Mappings, RecordMapping
from hub.model import LINKED, DeliveryState

LONGEST_REASON = 500
"""Characters of a reason a person gives."""
LONGEST_VENDOR_ID = 255
ABOUT_NOW = timedelta(seconds=1)
"""What is due this soon is due: it also covers that two processes' clocks are not quite the same."""

OPERABLE = frozenset({DeliveryState.DEAD, DeliveryState.HELD, DeliveryState.WAITING, DeliveryState.UNKNOWN})


class NotFoundError(HubError):
    """There is no such delivery or destination."""


class ConflictError(HubError):
    """This cannot be done now, any more or yet. `code` is stable; the message says what stands against it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ReasonError(HubError):
    """What a person wrote (a reason, a vendor's id) is empty, too long, or not text that can be stored."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """What a retry or a skip did."""

    deliveries: int
    """How many were retried or skipped: one, or all of a sealed batch."""
    released: int
    """How many that were held behind it are in the queue again."""
    note: str | None = None
    """What the person should know beside it."""


@dataclass(frozen=True, slots=True)
class Existing:
    """What a person says: the vendor has the record already."""

    vendor_id: str
    """By what the vendor finds it: its own id; at AvaTax the document's code."""
    reason: str
    record: str | None = None
    """The vendor's kind of record. May be left out where the delivery makes one kind only."""
    instead_of: str | None = None
    """To correct a mistake: the vendor id a person had given before."""


@dataclass(frozen=True, slots=True)
class Linked:
    """What a link did."""

    object_id: str
    record: str
    key: str
    vendor_id: str
    released: int
    note: str


async def retry(connection: Connection[Any], delivery_id: int, now: datetime) -> Requeued:
    """Make a dead, held or waiting delivery due now, and release what it held.

    A dead letter gets a new time budget; a write that may have landed is looked for before anything is sent again.
    A delivery of a sealed batch takes the whole batch along. Raises `NotFoundError` or `ConflictError`.
    """
    lane = await _lock(connection, delivery_id)
    asked, members = lane.asked, lane.members
    for member in (asked, *members):
        _refuse_unless_operable(member, "retry")
    if all(m["due_at"] is not None and m["due_at"] <= now + ABOUT_NOW for m in members):
        raise ConflictError(
            "already_due",
            f"delivery {delivery_id} is due already: its turn has come, or someone retried it a moment ago",
        )
    for member in members:
        _refuse_while_unknown(member, now)
    holder = await _dead_holder(connection, asked)
    moved = await _requeue(connection, [m["id"] for m in members], now, "retried by an operator")
    released = await _release(connection, lane, now, f"released: delivery {delivery_id} was retried")
    await connection.fetch(SQL["wake_lane"], lane.destination, lane.key)
    notes = [
        _batch_note(asked),
        holder and f"delivery {holder}, which held it, is still dead and will hold it again: retry or skip that one",
        await _pause_note(connection, lane.destination, now),
    ]
    return Requeued(moved, released, "; ".join(n for n in notes if n) or None)


async def skip(connection: Connection[Any], delivery_id: int, reason: str, now: datetime) -> Requeued:
    """Give a dead, held, waiting or unknown delivery up, for a reason that is kept, and release what it held.

    A delivery of a sealed batch takes the whole batch along: a batch never changes. Raises `NotFoundError`,
    `ConflictError` or `ReasonError`.
    """
    reason = checked_reason(reason)
    lane = await _lock(connection, delivery_id)
    asked, members = lane.asked, lane.members
    for member in (asked, *members):
        _refuse_unless_operable(member, "skip")
    skipped = await connection.fetch(SQL["skip"], [m["id"] for m in members], now, reason)
    released = await _release(connection, lane, now, f"released: delivery {delivery_id} was skipped")
    await connection.fetch(SQL["wake_lane"], lane.destination, lane.key)
    return Requeued(len(skipped), released, _batch_note(asked))


async def link(
    connection: Connection[Any], delivery_id: int, existing: Existing, mappings: Mappings, now: datetime
) -> Linked:
    """Settle a dead, held, waiting or unknown delivery as done: its record exists, and this is its id at the vendor.

    The link is written in the same transaction, and what the delivery held is released. Nothing is written to the
    record; before the next delivery that needs it is sent, the connector gives it our key. Raises `NotFoundError`,
    `ReasonError`, or `ConflictError`: also when this delivery makes no such record, when the object is linked to
    another one already, and while a write that could make a second one may still land.
    """
    reason, vendor_id = checked_reason(existing.reason), _checked_vendor_id(existing.vendor_id)
    if existing.instead_of is not None:
        existing = replace(existing, instead_of=_checked_vendor_id(existing.instead_of, "instead_of"))
    lane = await _lock(connection, delivery_id)
    asked = lane.asked
    if existing.instead_of is None or asked["state"] != DeliveryState.DONE:
        _refuse_unless_operable(asked, "link")
    _refuse_while_unknown(asked, now)
    event = await connection.fetchrow(SQL["event_of_delivery"], delivery_id)
    assert event is not None
    mapping, others = _record_of(mappings, lane.destination, event, existing.record)
    object_id: str = event["object_id"]
    for other in await connection.fetch(SQL["unsettled_of"], lane.destination, lane.key, object_id, delivery_id):
        if other["state"] == DeliveryState.CLAIMED:
            _refuse_unless_operable(other, "link")
        _refuse_while_unknown(other, now)
    key = _key_of(mapping, event)
    where = (lane.destination, object_id, mapping.record)
    if existing.instead_of is None:
        await connection.execute(SQL["add_link"], *where, key, vendor_id, LINKED, mapping.id, now)
    else:
        await connection.execute(SQL["correct_link"], *where, vendor_id, existing.instead_of, LINKED, now)
    kept = await connection.fetchrow(SQL["link_now"], *where)
    if kept is None or kept["vendor_id"] != vendor_id:
        raise _linked_otherwise(object_id, mapping.record, kept, existing.instead_of)
    named = f"{mapping.record} {vendor_id}"
    instead = f" instead of {existing.instead_of}" if existing.instead_of else ""
    await connection.execute(
        SQL["settle_linked"], delivery_id, now, f"linked by an operator to {named}{instead}: {reason}"
    )
    released = await _release(connection, lane, now, f"released: delivery {delivery_id} was linked to {named}")
    await connection.fetch(SQL["wake_lane"], lane.destination, lane.key)
    notes = [
        f"nothing was written to {named}: it stays as it is until something later of {object_id} is delivered",
        others and f"the delivery would also have made {', '.join(others)}, which nobody makes now",
    ]
    return Linked(object_id, mapping.record, kept["key"], vendor_id, released, "; ".join(n for n in notes if n))


async def pause(connection: Connection[Any], name: str, reason: str, now: datetime) -> None:
    """Claim nothing more for a destination until it is resumed. What is under way is finished.

    Raises `NotFoundError`, `ReasonError`, or `ConflictError` when its settings have it paused already.
    """
    reason = checked_reason(reason)
    row = await _destination(connection, name, now)
    if row["paused_by"] == "settings":
        raise ConflictError("paused_by_settings", _fix_settings(name, row["reason"]))
    await connection.execute(SQL["pause_destination"], name, reason)


async def resume(connection: Connection[Any], name: str, now: datetime) -> None:
    """End a person's or the hub's own pause. Raises `NotFoundError` or `ConflictError`."""
    row = await _destination(connection, name, now)
    if row["paused_by"] == "settings":
        raise ConflictError("paused_by_settings", _fix_settings(name, row["reason"]))
    if not row["paused"]:
        raise ConflictError("not_paused", f"{name} is not paused: it was resumed a moment ago, or its pause is over")
    await connection.fetch(SQL["resume_destination"], name, now)


def checked_reason(reason: str) -> str:
    """The reason without outer space. Raises `ReasonError`."""
    reason = reason.strip()
    if not reason:
        raise ReasonError("reason is empty: say why, for whoever reads this later")
    if len(reason) > LONGEST_REASON:
        raise ReasonError(f"reason has {len(reason)} characters; {LONGEST_REASON} is the most")
    if not is_text(reason):
        raise ReasonError("reason has characters that are not text")
    return reason


def _checked_vendor_id(vendor_id: str, field: str = "vendor_id") -> str:
    """What it looks like is for the connector to say; here it must only be one word of text."""
    vendor_id = vendor_id.strip()
    if not vendor_id or len(vendor_id) > LONGEST_VENDOR_ID:
        raise ReasonError(f"{field} must have 1 to {LONGEST_VENDOR_ID} characters")
    if not vendor_id.isprintable() or any(c.isspace() for c in vendor_id):
        raise ReasonError(f"{field} has characters that are in no id")
    return vendor_id


def _record_of(
    mappings: Mappings, destination: str, event: asyncpg.Record, record: str | None
) -> tuple[RecordMapping, list[str]]:
    """The mapping by which this delivery would have made the record, and what else it would have made."""
    makes: dict[str, RecordMapping] = {}
    for mapping in mappings.for_event(destination, event["type"]):
        if mapping.object == event["object_type"]:
            makes.setdefault(mapping.record, mapping)
    named = ", ".join(makes)
    if not makes:
        text = f"{destination} makes no record of its own for {event['type']}: there is nothing to link; retry or skip"
        raise ConflictError("nothing_to_link", text)
    if record is None and len(makes) > 1:
        raise ConflictError("which_record", f"this delivery makes {named}: say which of them exists")
    chosen = record or named
    if chosen not in makes:
        text = f"this delivery ({event['type']} to {destination}) makes {named}, not {chosen[:60]!r}"
        raise ConflictError("not_its_record", text)
    return makes[chosen], [r for r in makes if r != chosen]


def _key_of(mapping: RecordMapping, event: asyncpg.Record) -> str:
    try:
        return mapping.key_of(orjson.loads(event["body"])["data"]["object"])
    except MappingError as error:
        text = f"the record's key cannot be told from the event alone: {error}"
        raise ConflictError("key_unknown", text) from error


def _linked_otherwise(
    object_id: str, record: str, kept: asyncpg.Record | None, instead_of: str | None
) -> ConflictError:
    """Why the link that was asked for is not there now."""
    if kept is None:
        return ConflictError("not_linked", f"{object_id} has no link to a {record} that could be corrected")
    is_linked = f"{object_id} is linked to {record} {kept['vendor_id']}"
    if kept["digest"] != LINKED:
        way = f"which has our key {kept['key']}: to use another record give that one the key at the vendor, then retry"
        return ConflictError("already_linked", f"{is_linked}, {way}")
    return ConflictError(
        "already_linked",
        f"{is_linked}, which a person said before{f', and not to {instead_of}' if instead_of else ''}. "
        f"If that is wrong, correct it: name {kept['vendor_id']} as what yours is instead of",
    )


@dataclass(frozen=True, slots=True)
class _Lane:
    """A locked lane and what is to be moved in it."""

    destination: str
    key: str
    asked: asyncpg.Record
    members: Sequence[asyncpg.Record]
    """The delivery that was asked for, or all of its sealed batch."""


async def _lock(connection: Connection[Any], delivery_id: int) -> _Lane:
    """Lock the lane, then look."""
    where = await connection.fetchrow(SQL["lane_of"], delivery_id)
    if where is None:
        raise NotFoundError(f"there is no delivery {delivery_id}")
    await connection.fetch(SQL["lock_lanes"], [where["destination"]], [where["lane"]])
    row = await connection.fetchrow(SQL["locked_delivery"], delivery_id)
    if row is None:
        raise NotFoundError(f"there is no delivery {delivery_id} any more")
    members = [row] if row["batch_id"] is None else await connection.fetch(SQL["locked_batch"], row["batch_id"])
    return _Lane(where["destination"], where["lane"], row, members)


def _refuse_unless_operable(row: asyncpg.Record, verb: str) -> None:
    state = DeliveryState(row["state"])
    if state in OPERABLE:
        return
    name = f"delivery {row['id']}"
    match state:
        case DeliveryState.CLAIMED:
            text = f"{name} is being delivered right now; look again in a moment"
        case DeliveryState.DONE:
            text = f"{name} is done already" + (f": {row['note']}" if row["note"] else "")
        case DeliveryState.SUPERSEDED:
            text = f"{name} was superseded by delivery {row['superseded_by']}, which is newer"
        case _:
            text = f"{name} was skipped: {row['note']}"
    raise ConflictError(
        "being_delivered" if state is DeliveryState.CLAIMED else f"already_{state}", f"cannot {verb}: {text}"
    )


def _refuse_while_unknown(row: asyncpg.Record, now: datetime) -> None:
    """Sooner would be asking a vendor that may still be writing, and believing its "not here"."""
    if row["state"] == DeliveryState.UNKNOWN and row["due_at"] > now:
        raise ConflictError(
            "outcome_unknown",
            f"what became of delivery {row['id']} is not known yet; it is looked up at {row['due_at']:%H:%M:%S} UTC, "
            "when the vendor has surely given up, and sent again only if it is not there",
        )


async def _requeue(connection: Connection[Any], ids: Sequence[int], now: datetime, note: str) -> int:
    return len(await connection.fetch(SQL["requeue"], ids, now, note))


async def _release(connection: Connection[Any], lane: _Lane, now: datetime, note: str) -> int:
    ids = [m["id"] for m in lane.members]
    held = await connection.fetch(SQL["held_behind"], lane.destination, lane.key, ids)
    return await _requeue(connection, [h["id"] for h in held], now, note) if held else 0


async def _dead_holder(connection: Connection[Any], row: asyncpg.Record) -> int | None:
    """The id of the dead letter that holds it, if that is still dead."""
    if row["held_by"] is None:
        return None
    holder = await connection.fetchrow(SQL["locked_delivery"], row["held_by"])
    return row["held_by"] if holder is not None and holder["state"] == DeliveryState.DEAD else None


def _batch_note(row: asyncpg.Record) -> str | None:
    if row["batch_id"] is None:
        return None
    return f"it belongs to the sealed batch {row['batch_id']}, whose deliveries move together"


async def _pause_note(connection: Connection[Any], destination: str, now: datetime) -> str | None:
    row = await connection.fetchrow(SQL["destination_pause"], destination, now)
    return f"{destination} is paused ({row['reason']}): it is tried when that is over" if row else None


async def _destination(connection: Connection[Any], name: str, now: datetime) -> asyncpg.Record:
    row: asyncpg.Record | None = await connection.fetchrow(SQL["locked_destination"], name, now)
    if row is None:
        raise NotFoundError(f"there is no destination {name}")
    return row


def _fix_settings(name: str, reason: str) -> str:
    return f"{name} is paused because its settings cannot work: {reason}. Fix the settings and restart the workers."
