"""Sealing: which events go into which object of a log destination is decided once, in the database, for ever.

A batch is tried again with exactly the deliveries it was sealed with, so its name and content never change, and a
repeat at the vendor is recognised as one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from hub.db import SQL, Connection
from hub.destination import Policy
from hub.model import Batch, Delivery, DeliveryState, Job
from hub.store import LaneClaim, event_of


async def claim_batch(
    connection: Connection[Any], destination: str, now: datetime, policy: Policy, *, flush: bool = False
) -> tuple[LaneClaim, Batch] | None:
    """Claim the open batch of the lane, or seal a new one if enough has gathered. None: nothing to do yet.

    Enough is `policy.batch` rows, `policy.batch_bytes` bytes, `policy.linger` seconds since the oldest was received, a
    day that is over, or `flush`.
    """
    lane = await connection.fetchval(SQL["lock_log_lane"], destination, now)
    if lane is None:
        return None
    open_ = await connection.fetchrow(SQL["open_batch"], destination, lane)
    if open_ is None:
        sealed = await _seal(connection, destination, lane, now, policy, flush=flush)
        if sealed is None:
            return None
        batch_id, received_date, first_seq, last_seq = sealed
    else:
        batch_id, first_seq, last_seq = open_["id"], open_["first_seq"], open_["last_seq"]
        received_date = open_["received_date"].isoformat()
    lease_until = now + timedelta(seconds=policy.lease)
    if open_ is not None and not await connection.fetchval(SQL["batch_is_alive"], batch_id):
        await connection.execute(SQL["halt_log_lane"], destination, lane)
        return None
    if open_ is not None and not await connection.fetchval(SQL["batch_is_due"], batch_id, now):
        return None
    number = await connection.fetchval(SQL["lease_log_lane"], destination, lane, lease_until)
    rows = await connection.fetch(SQL["claim_batch"], batch_id, lease_until, now, destination)
    deliveries = tuple(
        Delivery(
            id=row["id"],
            destination=destination,
            lane=lane,
            event=event_of(row),
            state=DeliveryState.CLAIMED,
            claim=row["claim"],
            failures=row["failures"],
            first_failure_at=row["first_failure_at"],
            batch_id=batch_id,
            was_lost=row["was"] == "claimed",
        )
        for row in rows
    )
    jobs = tuple(Job(d.id, d.event, (), d.claim) for d in deliveries)
    return LaneClaim(destination, lane, number, deliveries), Batch(
        batch_id, lane, received_date, first_seq, last_seq, jobs
    )


async def _seal(
    connection: Connection[Any], destination: str, lane: str, now: datetime, policy: Policy, *, flush: bool
) -> tuple[int, str, int, int] | None:
    rows = await connection.fetch(SQL["batch_candidates"], destination, lane, now, policy.batch)
    if not rows:
        # Nothing waits here: due again when something is accepted (or given back, which sets it itself).
        await connection.fetch(SQL["idle_log_lane"], destination, lane)
        return None
    day = _day(rows[0]["received_at"])
    chosen: list[asyncpg.Record] = []
    size = 0
    for row in rows:
        if _day(row["received_at"]) != day or (chosen and size + row["bytes"] > policy.batch_bytes):
            break
        chosen.append(row)
        size += row["bytes"]
    full = len(chosen) == policy.batch or len(chosen) < len(rows) or day != _day(now)
    ripe_at = min(r["received_at"] for r in chosen) + timedelta(seconds=policy.linger)
    if not (full or flush or ripe_at <= now):
        await connection.execute(SQL["wait_log_lane"], destination, lane, ripe_at)
        return None
    seqs = [r["event_seq"] for r in chosen]
    batch_id = await connection.fetchval(
        SQL["seal_batch"], destination, lane, datetime.fromisoformat(day).date(), min(seqs), max(seqs), len(seqs), now
    )
    await connection.execute(SQL["join_batch"], batch_id, [r["id"] for r in chosen])
    return batch_id, day, min(seqs), max(seqs)


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()
