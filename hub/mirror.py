"""The newest snapshot of each Stripe object: the first rows of an index over the events, never a copy.

Stripe promises no order and stamps whole seconds. So: a more final status is newer than a less final one, then the
later second is newer; of two different snapshots of one second the evidence inside them decides (what was just created
is older; `previous_attributes` names what the object was before), and only where there is none is the object read once
from Stripe. What was read is stored like an event, so that the next look finds it. It covers every event that was known
when the read began, and every earlier second; an event that arrives later may be older or newer than it, so that one
needs evidence, or another read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from hub import envelope, store
from hub.db import Database
from hub.destination import Source
from hub.errors import Outcome, OutcomeError
from hub.metrics import Metrics
from hub.model import Disposition, EventKind
from hub.ordering import DELETED, last_of, overtakes
from hub.store import Accepted

COMPARED = 20
"""Most events of one second that are compared with each other; `newest` gives one more."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An object as it was at its newest known moment, and why this one was taken."""

    object: dict[str, Any]
    seq: int
    why: str


@dataclass(frozen=True, slots=True)
class Known:
    """What certainly had happened before we look: the latest second and the last place in the order of acceptance."""

    created: datetime
    seq: int


Found = Snapshot | Outcome | None
"""None: Stripe knows no such object. An outcome: it could not be read, and that is what the delivery gets."""


class Mirror:
    """Looks objects up; reads from the source what is missing, too old in shape, or undecidable."""

    def __init__(self, db: Database, source: Source, clock: Callable[[], float], metrics: Metrics) -> None:
        self._db, self._source, self._clock, self._metrics = db, source, clock, metrics

    async def newest(self, wanted: Mapping[str, str], known: Known) -> dict[str, Found]:
        """object id -> what is known, for `{object id: object type}`. `known`: of the events that ask."""
        rows = await self._db.fetch("newest", list(wanted))
        known = Known(known.created, max([known.seq, *(row["seq"] for row in rows)]))
        by_id: dict[str, list[asyncpg.Record]] = {}
        for row in rows:
            by_id.setdefault(row["wanted"], []).append(row)
        found: dict[str, Found] = {}
        for object_id, object_type in wanted.items():
            candidates = by_id.get(object_id, [])
            chosen, reason = choose(candidates)
            if chosen is None:
                found[object_id] = await self._read(object_type, object_id, reason, known, candidates)
            else:
                found[object_id] = chosen
        return found

    async def related(self, wanted: Mapping[str, str], known: Known) -> dict[str, Found]:
        """`newest` of objects that something belongs to already: a payment, a credit note. Nothing belongs to a draft,
        so an invoice that is known as one only is out of date, and is read.
        """
        found = await self.newest(wanted, known)
        for object_id, snapshot in found.items():
            if isinstance(snapshot, Snapshot) and snapshot.object.get("status") == "draft":
                found[object_id] = await self._read(wanted[object_id], object_id, "only known as a draft", known, ())
        return found

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]] | Outcome:
        """All objects of a type that belong to one, as Stripe has them now: nothing we were told says that it is all.
        Nothing of it is kept."""
        self._metrics.source_reads.labels("list").inc()
        try:
            return await self._source.listed(object_type, by, object_id)
        except OutcomeError as error:
            return error.outcome

    async def _read(
        self, object_type: str, object_id: str, reason: str, known: Known, candidates: Sequence[asyncpg.Record]
    ) -> Found:
        self._metrics.source_reads.labels(reason).inc()
        try:
            read = await self._source.read(object_type, object_id)
        except OutcomeError as error:
            return error.outcome
        if read is None:
            return None
        known = Known(max([known.created, *(row["created"] for row in candidates)]), known.seq)
        seq = await self._keep(read, object_type, object_id, known)
        return Snapshot(read, seq, f"read from Stripe: {reason}")

    async def _keep(self, read: dict[str, Any], object_type: str, object_id: str, known: Known) -> int:
        """Dated as the newest event known when it was read: our own clock is not Stripe's. The id says the rest."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        id_ = f"read:{object_id}:{known.seq}:{int(self._clock() * 1e6)}"
        event = envelope.of_read(id_, f"{object_type}.read", read, int(known.created.timestamp()), now)
        fresh = await self._db.run(store.accept, [Accepted(event, Disposition.READ, "read by the hub", ())], now)
        return fresh.get(event.id, 0)


def choose(  # noqa: PLR0911 - one return per reason
    rows: Sequence[asyncpg.Record],
) -> tuple[Snapshot | None, str]:
    """The newest of what `newest` gives for one object, or None and why it must be read. Pure."""
    if not rows:
        return None, "not seen yet"
    read = next((r for r in rows if r["kind"] == EventKind.READ), None)
    events = [r for r in rows if r is not read]
    second = max((r["created"] for r in events), default=None)
    last = [r for r in events if r["created"] == second]
    if len(last) > COMPARED:
        return None, "too many events of one second"
    if read is not None and (not last or read["rank"] == DELETED):
        return _snapshot(read, _decode(read["body"]), "read from Stripe before")
    bodies = [_decode(r["body"]) for r in last]
    index = last_of(bodies)
    if index is None and last[0]["rank"] == DELETED:
        # It is over, and a read would tell less (of a deleted draft nothing at all): what says most is taken.
        index = max(range(len(bodies)), key=lambda n: len(bodies[n]["data"]["object"]))
    if index is None:
        return None, "same second, same status, different content"
    why = "newest by status and time" if len(last) == 1 else "the last of one second, by what the events say"
    if read is not None:
        was = _decode(read["body"])
        later = [_decode(r["body"]) for r in events if r["created"] > read["created"]]
        newer = overtakes(bodies[index], was, later)
        if newer is None:
            return None, "older or newer than what was read"
        if not newer:
            return _snapshot(read, was, "read from Stripe before")
        why = "newer than what was read"
    if not envelope.shapes_are_mapped(last[index]["api_version"]):
        return None, "older api_version"
    return _snapshot(last[index], bodies[index], why)


def _snapshot(row: asyncpg.Record, body: dict[str, Any], why: str) -> tuple[Snapshot | None, str]:
    obj = body["data"]["object"]
    if row["rank"] == DELETED:
        obj["deleted"] = True  # a `*.deleted` event may carry the object as it last was, without saying so inside
    lines = obj.get("lines")
    if isinstance(lines, dict) and lines.get("has_more"):
        return None, "more lines than the event carries"
    return Snapshot(obj, row["seq"], why), why


def _decode(body: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = orjson.loads(body)
    return decoded
