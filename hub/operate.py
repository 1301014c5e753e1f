"""What a person may do: retry, skip, pause, resume. Each is a function of a connection, run in one transaction.

Whoever changes a delivery holds the lock of its lane: these, like settling, take it first and look after. So of two
people who press the same button at once one wins and the other is told so, and a worker's settlement is either seen or
not yet made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from hub.db import SQL, Connection
from hub.errors import HubError
from hub.model import DeliveryState

LONGEST_REASON = 500
"""Characters of a reason a person gives."""
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
    """A reason is empty, too long, or not text that can be stored."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """What a retry or a skip did."""

    deliveries: int
    """How many were retried or skipped: one, or all of a sealed batch."""
    released: int
    """How many that were held behind it are in the queue again."""
    note: str | None = None
    """What the person should know beside it."""


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
    if any(m["state"] == DeliveryState.UNKNOWN and m["due_at"] > now for m in members):
        # Sooner would be asking a vendor that may still be writing, and believing its "not here".
        raise ConflictError(
            "outcome_unknown",
            f"what became of delivery {delivery_id} is not known yet; it is looked up at "
            f"{asked['due_at']:%H:%M:%S} UTC, "
            "when the vendor has surely given up, and sent again only if it is not there",
        )
    holder = await _dead_holder(connection, asked)
    moved = await _requeue(connection, [m["id"] for m in members], now, "retried by an operator")
    released = await _release(connection, lane, now, f"released: delivery {delivery_id} was retried")
    await connection.fetch(SQL["wake_lane"], lane.destination, lane.key)
    notes = [
        _batch_note(asked),
        holder
        and f"delivery {holder} of the same document is still dead and will hold it again: retry or skip that one",
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
    await connection.fetch(SQL["resume_destination"], name)


def checked_reason(reason: str) -> str:
    """The reason without outer space. Raises `ReasonError`."""
    reason = reason.strip()
    if not reason:
        raise ReasonError("reason is empty: say why, for whoever reads this later")
    if len(reason) > LONGEST_REASON:
        raise ReasonError(f"reason has {len(reason)} characters; {LONGEST_REASON} is the most")
    if "\x00" in reason or any("\ud800" <= c <= "\udfff" for c in reason):
        raise ReasonError("reason has characters that are not text")
    return reason


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
            text = f"{name} is done already"
        case DeliveryState.SUPERSEDED:
            text = f"{name} was superseded by delivery {row['superseded_by']}, which is newer"
        case _:
            text = f"{name} was skipped: {row['note']}"
    raise ConflictError(
        "being_delivered" if state is DeliveryState.CLAIMED else f"already_{state}", f"cannot {verb}: {text}"
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
