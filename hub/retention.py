"""Retention: what happened long ago and is settled is removed, in small steps, beside everything else.

Removed are the bodies of events, and their deliveries with the attempts and batches that belong to them; also old
rejected bodies, sweeps and prunings. Never removed: an event's row (its id makes a repeat a repeat), links, lanes, what
the mirror may look at, and whatever is open or dead. The rule itself is in the database (`hub_settled_history` and
`hub_prune` in `migrations/versions/v0004_growth.sql`), because the running hub's role has no right to change an event:
it can ask for this and for nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from hub import log
from hub.db import SQL, UNAVAILABLE, Connection, Database
from hub.errors import HubError
from hub.metrics import Metrics

LOCK = 0x48554250  # "HUBP". Should it be lost two prunings overlap: each event goes once.
STEP = 1000
"""Events looked at in one transaction."""
SHARE = 0.2
"""Of the time, at most: after each step it rests four times as long as the step took."""
EVERY = 3600.0
"""Seconds from the end of one pruning to the next, of whichever process."""
WHOLE = timedelta(days=1)
"""From the first event again after so long: what could not go the last time may be settled now."""
START_AFTER = 60.0

_log = log.get()


class PruneRunningError(HubError):
    """Another pruning of this database is under way; nothing was done."""


@dataclass(slots=True)
class Pruned:
    """What a pruning removed, or would remove. Also its progress."""

    before: datetime
    """What was received and settled before this."""
    reached: int = 0
    """Place of the last event looked at."""
    up_to: int = 0
    bodies: int = 0
    deliveries: int = 0
    attempts: int = 0
    batches: int = 0
    rejected: int = 0
    notes: int = 0
    """Old sweeps and prunings."""
    steps: int = 0
    would: bool = field(default=False)

    def said(self) -> str:
        """The result in one sentence."""
        did = "would be removed" if self.would else "removed"
        return (
            f"{did} of what is older than {self.before.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {self.bodies} bodies of "
            f"events, {self.deliveries} deliveries, {self.attempts} attempts, {self.batches} batches, {self.rejected} "
            f"rejected bodies, {self.notes} notes; looked at events up to {self.reached} of {self.up_to}"
        )


@dataclass(frozen=True, slots=True)
class Pruner:
    """Everything a pruning needs."""

    db: Database
    metrics: Metrics
    clock: Callable[[], float]
    keep: timedelta
    """How long settled history stays. At least 30 days: the database refuses less."""
    step: int = STEP
    share: float = SHARE

    async def prune(
        self,
        progress: Callable[[Pruned], None] = lambda _: None,
        *,
        whole: bool = True,
        unless_since: datetime | None = None,
    ) -> Pruned | None:
        """Remove what is settled and old; every step is a transaction of its own, so what was removed until an error
        stays so, and the next pruning goes on there. `whole`: begin with the first event in any case.

        None if another one came to its end after `unless_since`. Raises `PruneRunningError` or one of `UNAVAILABLE`.
        """
        busy = PruneRunningError("Another pruning is under way; one at a time is enough. Nothing was done.")
        async with self.db.alone(LOCK, busy):
            last = next(iter(await self.db.fetch("last_pruning")), None)
            if unless_since is not None and last and last["finished_at"] and last["finished_at"] > unless_since:
                return None
            now = self._now()
            pruned = await self._span(now)
            pruned.reached = 0 if whole or last is None or self._is_time_for_all(last, now) else last["reached"]
            pruning_id = (await self.db.fetch("begin_pruning", pruned.before, pruned.reached, now))[0][0]
            while (until := await self._next(pruned)) is not None:
                began = time.perf_counter()
                row = await self.db.run(_prune, pruning_id, pruned.before, pruned.reached, until)
                self._count(pruned, until, row)
                progress(pruned)
                await asyncio.sleep((time.perf_counter() - began) * (1 / self.share - 1))
            pruned.rejected = (await self.db.fetch("prune_rejected", pruned.before))[0][0]
            pruned.notes = (await self.db.fetch("prune_notes", pruned.before))[0][0]
            await self.db.fetch("end_pruning", pruning_id, self._now())
            for what, n in (("rejected", pruned.rejected), ("notes", pruned.notes)):
                self.metrics.pruned.labels(what).inc(n)
        _log.info(
            "pruned",
            before=pruned.before.isoformat(),
            bodies=pruned.bodies,
            deliveries=pruned.deliveries,
            attempts=pruned.attempts,
            batches=pruned.batches,
            rejected=pruned.rejected,
            notes=pruned.notes,
        )
        return pruned

    async def would_prune(self, progress: Callable[[Pruned], None] = lambda _: None) -> Pruned:
        """The same counted, from the first event on; changes nothing. Batches and old notes are not counted."""
        pruned = await self._span(self._now())
        pruned.would = True
        while (until := await self._next(pruned)) is not None:
            (row,) = await self.db.fetch("settled_history", pruned.before, pruned.reached, until)
            pruned.bodies += row["bodies"]
            pruned.deliveries += row["deliveries"]
            pruned.attempts += row["attempts"]
            pruned.reached, pruned.steps = until, pruned.steps + 1
            progress(pruned)
        pruned.rejected = (await self.db.fetch("old_rejected", pruned.before))[0][0]
        return pruned

    async def _span(self, now: datetime) -> Pruned:
        before = now - self.keep
        return Pruned(before, up_to=(await self.db.fetch("seq_received_at", before))[0][0] - 1)

    async def _next(self, pruned: Pruned) -> int | None:
        found: int | None = (await self.db.fetch("places_after", pruned.reached, pruned.up_to, self.step))[0][0]
        return found

    def _count(self, pruned: Pruned, until: int, row: asyncpg.Record) -> None:
        pruned.reached, pruned.steps = until, pruned.steps + 1
        for what in ("bodies", "deliveries", "attempts", "batches"):
            setattr(pruned, what, getattr(pruned, what) + row[what])
            self.metrics.pruned.labels(what).inc(row[what])

    @staticmethod
    def _is_time_for_all(last: asyncpg.Record, now: datetime) -> bool:
        """One that was cut short is gone on with, wherever it began."""
        if last["finished_at"] is None:
            return False
        return last["whole_at"] is None or now - last["whole_at"] > WHOLE

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    async def on_schedule(self, every: float = EVERY, start_after: float = START_AFTER) -> None:
        """Prune whenever the last pruning, of whichever process, ended `every` seconds ago; for ever. What fails is
        logged and tried again after the same time.
        """
        wait = start_after
        while True:
            await asyncio.sleep(wait)
            wait = every
            try:
                await self.prune(whole=False, unless_since=self._now() - timedelta(seconds=every))
            except PruneRunningError:
                _log.info("prune_is_running")
            except UNAVAILABLE as error:
                _log.warning("prune_waits_for_database", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a fault here must not end the deliveries beside it
                _log.error("prune_failed", error=type(error).__name__, exc_info=error)


async def _prune(
    connection: Connection[Any], pruning_id: int, before: datetime, above: int, up_to: int
) -> asyncpg.Record:
    """One step and its entry, in one transaction."""
    row: asyncpg.Record | None = await connection.fetchrow(SQL["prune"], before, above, up_to)
    assert row is not None
    await connection.execute(SQL["advance_pruning"], pruning_id, up_to, *row.values())
    return row
