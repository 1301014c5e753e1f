"""Missed webhooks: Stripe's own list of events is compared with what was received, and what is missing is accepted
exactly as if it had been delivered.

A sweep begins where the last one ended, less an overlap (an event may become visible late), and ends a little before
now, when what happened is surely listed. It goes forward in windows of time. A window is listed newest first, so what
is missing in it is collected and then accepted oldest first, in one transaction with the new watermark: a sweep that is
cut short has lost nothing, and the next one goes on from there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import orjson

from hub import envelope, log, store
from hub.db import SQL, UNAVAILABLE, Connection, Database
from hub.errors import EnvelopeError, HubError, OutcomeError
from hub.legible import is_text
from hub.metrics import Metrics
from hub.patience import Patience
from hub.routing import Router
from hub.store import Accepted

LOCK = 0x48554253  # "HUBS". Should it be lost two sweeps overlap: the same is asked for twice and accepted once.
KEPT = timedelta(days=30)
"""How far back Stripe lists events (API reference, "Events")."""
SETTLING = timedelta(seconds=60)
"""How long after it happened an event is surely listed. Stripe promises nothing: the overlap is for that."""
WINDOW = timedelta(hours=2)
"""Listed at once at first: a sweep on schedule is one window, one read for every 100 events."""
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(hours=6)
MANY, FEW = 5_000, 1_000
"""Events in a window after which the next one is half as long, or twice: what is missing is held in memory."""
AT_ONCE = 500
"""Events in one statement."""
START_AFTER = 30.0
"""Seconds from a process's start to its first scheduled look: who is started and stopped at once sweeps nothing."""

_log = log.get()


class Listing(Protocol):
    """Where events can be listed afterwards."""

    def events(self, created_from: int, created_to: int) -> AsyncIterator[list[bytes]]:
        """Pages of events with `created_from <= created < created_to` (Unix seconds), newest first, each event as the
        JSON the source wrote. Raises `OutcomeError`."""
        ...


class SweepRunningError(HubError):
    """Another sweep, or backfill, of this database is under way; nothing was done."""


@dataclass(slots=True)
class Swept:
    """What a sweep did. Also its progress: `to_at` is how far it has got."""

    from_at: datetime
    to_at: datetime
    listed: int = 0
    missing: int = 0
    by_disposition: Counter[str] = field(default_factory=Counter)
    """What was missing, by what became of it."""
    unreadable: int = 0
    """Listed, but no events to us: kept as rejected bodies."""
    gap: tuple[datetime, datetime] | None = None
    """A span that was never compared, that Stripe no longer lists, and that no backfill has brought in since."""
    is_new: bool = False
    """This sweep found it."""
    note: str | None = None

    def said(self) -> str:
        """The result in one sentence."""
        return f"complete up to {plain(self.to_at)}: listed {self.listed}, missing {self.missing} accepted"


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Everything a sweep needs."""

    db: Database
    listing: Listing
    router: Router
    metrics: Metrics
    clock: Callable[[], float]
    overlap: timedelta
    first: timedelta
    """How far the first sweep of all looks back."""
    patience: Patience = field(default_factory=Patience)
    """With limits and outages of Stripe."""

    async def sweep(
        self, progress: Callable[[Swept], None] = lambda _: None, *, unless_since: datetime | None = None
    ) -> Swept | None:
        """Sweep once. None if another one came to its end after `unless_since`. Raises `SweepRunningError`,
        `OutcomeError`, or one of `UNAVAILABLE`; what was accepted until then stays.
        """
        busy = SweepRunningError("Another sweep is under way; one at a time is enough. Nothing was done.")
        async with self.db.alone(LOCK, busy):
            (last,) = await self.db.fetch("last_sweep")
            if unless_since is not None and last["finished_at"] is not None and last["finished_at"] > unless_since:
                return None
            now = self._now()
            end = _second(now - SETTLING)
            swept = _plan(last["to_at"], end, now, self.overlap, self.first)
            if self.router.accounts:
                swept.note = " ".join(filter(None, (swept.note, "Connected accounts are not swept.")))
            if swept.gap is None:
                await self._still_open(swept)
            if swept.gap:
                _log.error("sweep_gap", since=plain(swept.gap[0]), until=plain(swept.gap[1]))
            await self._windows(swept, end, progress)
        _log.info("swept", until=plain(swept.to_at), listed=swept.listed, missing=swept.missing)
        return swept

    async def _still_open(self, swept: Swept) -> None:
        """A gap of an earlier sweep is said again, until a backfill has closed it."""
        (row,) = await self.db.fetch("open_gap")
        if row["gap_from"] is not None:
            swept.gap = (row["gap_from"], row["gap_to"])
            swept.note = " ".join(filter(None, (_gap_note(*swept.gap), swept.note)))

    async def _windows(self, swept: Swept, end: datetime, progress: Callable[[Swept], None]) -> None:
        length = WINDOW
        sweep_id: int | None = None
        while True:
            until = min(_second(swept.to_at + length), end)
            before = swept.listed
            found: list[Accepted] = []
            if swept.to_at < until:
                # A window as a whole: what of it was listed before a limit was hit is not accepted twice, only listed.
                listed, found = await self.patience(partial(self._missing, swept, swept.to_at, until))
                swept.listed += listed
            sweep_id, fresh = await self.db.run(self._write, sweep_id, swept, found, until, done=until >= end)
            swept.to_at, swept.missing = until, swept.missing + len(fresh)
            for item in found:
                if item.event.id in fresh:
                    swept.by_disposition[item.disposition.value] += 1
                    self.metrics.sweep_missing.labels(item.disposition.value).inc()
            progress(swept)
            if until >= end:
                return
            count = swept.listed - before
            length = max(SHORTEST, length / 2) if count > MANY else min(LONGEST, length * 2) if count < FEW else length

    async def _missing(self, swept: Swept, since: datetime, until: datetime) -> tuple[int, list[Accepted]]:
        """How much is listed in a window, and what of it is not known, oldest first."""
        found: list[Accepted] = []
        unreadable: list[tuple[str, bytes]] = []
        listed = 0
        async for page in self.listing.events(int(since.timestamp()), int(until.timestamp())):
            listed += len(page)
            ids = [_id(body) for body in page]
            known = {row["id"] for row in await self.db.fetch("known_events", [i for i in ids if i is not None])}
            now = self._now()
            for id_, body in zip(ids, page, strict=True):
                if id_ in known:
                    continue
                try:
                    found.append(self.router.decide(envelope.read(body, now), now))
                except EnvelopeError as error:
                    # As the intake does: for a person to look at, and no reason to stop.
                    unreadable.append((str(error), body))
        for reason, body in unreadable:
            _log.error("sweep_unreadable", reason=reason)
            await self.db.fetch("keep_rejected", self._now(), f"listed by Stripe, but {reason}", body)
        swept.unreadable += len(unreadable)
        return listed, found[::-1]

    async def _write(
        self,
        connection: Connection[Any],
        sweep_id: int | None,
        swept: Swept,
        found: list[Accepted],
        until: datetime,
        *,
        done: bool,
    ) -> tuple[int, set[str]]:
        """One window: what was missing, and that it is complete. Returns the sweep's id and the ids of the events that
        were new: a webhook may have been faster meanwhile. Changes nothing here, for it may be run again.
        """
        now = self._now()
        fresh: set[str] = set()
        for start in range(0, len(found), AT_ONCE):
            fresh |= (await store.accept(connection, found[start : start + AT_ONCE], now)).keys()
        if sweep_id is None:
            gap = swept.gap if swept.is_new and swept.gap else (None, None)
            sweep_id = await connection.fetchval(SQL["begin_sweep"], swept.from_at, until, swept.note, *gap)
            assert sweep_id is not None
        missing = swept.missing + len(fresh)
        await connection.execute(SQL["advance_sweep"], sweep_id, until, swept.listed, missing, now if done else None)
        return sweep_id, fresh

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    async def on_schedule(self, every: float, start_after: float = START_AFTER) -> None:
        """Sweep whenever the last one, of whichever process, ended `every` seconds ago; for ever. What fails is logged
        and tried again after the same time.
        """
        wait = start_after
        while True:
            await asyncio.sleep(wait)
            wait = every
            try:
                await self.sweep(unless_since=self._now() - timedelta(seconds=every))
                wait = await self._until_due(every)
            except SweepRunningError:
                _log.info("sweep_is_running")
            except OutcomeError as error:
                _log.error(
                    "sweep_failed", error=type(error.outcome).__name__, code=getattr(error.outcome, "code", None)
                )
            except UNAVAILABLE as error:
                _log.warning("sweep_waits_for_database", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a fault here must not end the deliveries beside it
                _log.error("sweep_failed", error=type(error).__name__, exc_info=error)

    async def _until_due(self, every: float) -> float:
        (last,) = await self.db.fetch("last_sweep")
        since = (self._now() - last["finished_at"]).total_seconds() if last["finished_at"] else every
        return min(every, max(1.0, every - since))


def _plan(last: datetime | None, end: datetime, now: datetime, overlap: timedelta, first: timedelta) -> Swept:
    """Where to begin, and what is lost if that is longer ago than Stripe lists."""
    oldest = now - KEPT
    if last is None:
        begin = max(oldest, min(end, now - first))
        return Swept(_second(begin), _second(begin))
    begin = _second(
        max(oldest, min(last, end) - overlap)
    )  # a watermark ahead of the clock is no reason to skip anything
    swept = Swept(begin, begin)
    if last < oldest:
        swept.gap, swept.is_new = (last, oldest), True
        swept.note = _gap_note(last, oldest)
    return swept


def _gap_note(since: datetime, until: datetime) -> str:
    return (
        f"Gap: from {plain(since)} until {plain(until)} events were never compared, and Stripe lists only the last 30 "
        "days. What changed then is known only where a later event says so. To bring in the objects as they are now: "
        f"`hub backfill --since {since.astimezone(UTC):%Y-%m-%d}`."
    )


def _second(moment: datetime) -> datetime:
    """Stripe counts whole seconds."""
    return moment.replace(microsecond=0)


def plain(moment: datetime) -> str:
    """A time as people read it here: UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _id(body: bytes) -> str | None:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    found = decoded.get("id") if isinstance(decoded, dict) else None
    return found if isinstance(found, str) and is_text(found) else None
