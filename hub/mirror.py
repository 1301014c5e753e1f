"""The newest snapshot of each Stripe object: the first row of an index over the events, never a copy.

Stripe promises no order and stamps whole seconds. So: a more final status is newer than a less final one, then the
later second is newer; of two different snapshots of one second the evidence inside them decides (what was just created
is older; `previous_attributes` names what the object was before), and only where there is none is the object read once
from Stripe. What was read is stored like an event, so that the next look finds it. It is dated as the newest event that
made us read: it is at least as new as that, and a later event must still win over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import orjson

from hub import envelope, store
from hub.db import Database
from hub.destination import Source
from hub.errors import Outcome, OutcomeError
from hub.metrics import Metrics
from hub.model import Disposition, EventKind
from hub.ordering import DELETED, last_of
from hub.store import Accepted


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An object as it was at its newest known moment, and why this one was taken."""

    object: dict[str, Any]
    seq: int
    why: str


Found = Snapshot | Outcome | None
"""None: Stripe knows no such object. An outcome: it could not be read, and that is what the delivery gets."""


class Mirror:
    """Looks objects up; reads from the source what is missing, too old in shape, or undecidable."""

    def __init__(self, db: Database, source: Source, clock: Callable[[], float], metrics: Metrics) -> None:
        self._db, self._source, self._clock, self._metrics = db, source, clock, metrics

    async def newest(self, wanted: Mapping[str, str], as_of: datetime) -> dict[str, Found]:
        """object id -> what is known, for `{object id: object type}`. `as_of`: time of the newest event that asks."""
        rows = await self._db.fetch("newest", list(wanted))
        by_id: dict[str, list[asyncpg.Record]] = {}
        for row in rows:
            by_id.setdefault(row["wanted"], []).append(row)
        found: dict[str, Found] = {}
        for object_id, object_type in wanted.items():
            candidates = by_id.get(object_id, [])
            chosen, reason = choose(candidates)
            if chosen is None:
                found[object_id] = await self._read(object_type, object_id, reason, as_of, candidates)
            else:
                found[object_id] = chosen
        return found

    async def _read(
        self, object_type: str, object_id: str, reason: str, as_of: datetime, candidates: Sequence[asyncpg.Record]
    ) -> Found:
        self._metrics.source_reads.labels(reason).inc()
        try:
            read = await self._source.read(object_type, object_id)
        except OutcomeError as error:
            return error.outcome
        if read is None:
            return None
        stamped = max([as_of, *(row["created"] for row in candidates)])
        seq = await self._keep(read, object_type, object_id, stamped)
        return Snapshot(read, seq, f"read from Stripe: {reason}")

    async def _keep(self, read: dict[str, Any], object_type: str, object_id: str, stamped: datetime) -> int:
        now = datetime.fromtimestamp(self._clock(), UTC)
        shell = {
            "id": f"read:{object_id}:{int(self._clock() * 1e6)}",
            "object": "event",
            "type": f"{object_type}.read",
            "created": int(stamped.timestamp()),
            "data": {"object": read},
        }
        body = orjson.dumps(shell, default=_number)
        event = envelope.snapshot(shell, body, now, EventKind.READ)
        fresh = await self._db.run(store.accept, [Accepted(event, Disposition.READ, "read by the hub", ())], now)
        return fresh.get(event.id, 0)


def choose(rows: Sequence[asyncpg.Record]) -> tuple[Snapshot | None, str]:
    """The newest among the events of an object's highest rank and latest second, or None and why it must be read.
    Pure.
    """
    if not rows:
        return None, "not seen yet"
    settled = next((i for i, r in enumerate(rows) if r["kind"] == EventKind.READ), None)
    if settled is not None:
        rows = rows[: settled + 1]  # a read settles every tie with what had been accepted before it
    bodies = [_decode(r["body"]) for r in rows]
    index = last_of(bodies)
    if index is None:
        return None, "same second, same status, different content"
    why = "newest by status and time" if len(rows) == 1 else "the last of one second, by what the events say"
    if not envelope.shapes_are_mapped(rows[index]["api_version"]):
        return None, "older api_version"
    obj = bodies[index]["data"]["object"]
    if rows[index]["rank"] == DELETED:
        obj["deleted"] = True  # a `*.deleted` event may carry the object as it last was, without saying so inside
    lines = obj.get("lines")
    if isinstance(lines, dict) and lines.get("has_more"):
        return None, "more lines than the event carries"
    return Snapshot(obj, rows[index]["seq"], why), why


def _decode(body: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = orjson.loads(body)
    return decoded


def _number(value: object) -> object:
    """A `Decimal` in what the source read goes back to text, which is how Stripe writes its decimal fields."""
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"cannot store a {type(value).__name__}")
