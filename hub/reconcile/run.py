"""One reconciliation: Stripe's objects of a span, window by window, against what each destination holds of those days.

Both sides of a window are read in pages. What has no other half yet waits for the next windows; in the end what is
missing is asked for by its key (its day may be another), and what nothing called for is looked up in Stripe (it may be
of an object from before the span). So every document is compared once, and what is held in memory is a window.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from hub import log
from hub.db import UNAVAILABLE, Database
from hub.destination import Entry, Statement
from hub.errors import HubError, OutcomeError
from hub.patience import Patience
from hub.reconcile.compare import Difference, Name, Sides, sorted_out
from hub.reconcile.expect import Rules, expect, type_of, types_for
from hub.reconcile.gather import Books, Gather
from hub.reconcile.repair import Repairs
from hub.reconcile.shown import difference_shown, totals_shown
from hub.sweep import START_AFTER, plain

LOCK = 0x48554252  # "HUBR". Should it be lost two reconciliations overlap: both only read, and a repair has its id.
DAY = timedelta(days=1)
LONGEST = 31
MANY, FEW = 20_000, 1_000
"""Objects in a window after which the next one is half as long, or twice."""
KEYS = 100
"""Keys in one question."""
KEPT = 1_000
"""Differences and totals that are kept of one reconciliation; all of them are printed."""

_log = log.get()


class ReconcileRunningError(HubError):
    """Another reconciliation of this database is under way; nothing was done."""


@dataclass(slots=True)
class Result:
    """What was found of one destination. Also the progress: `documents` so far."""

    destination: str
    documents: int = 0
    differences: list[Difference] = field(default_factory=list)
    sides: Sides | None = None

    @property
    def counted(self) -> list[Difference]:
        """The differences to be explained."""
        return [d for d in self.differences if d.counts]

    @property
    def under_way(self) -> int:
        """Documents that are not settled yet."""
        return len({d.entry.key for d in self.differences if d.under_way})

    @property
    def agree(self) -> int:
        """Documents of which everything is as Stripe says."""
        extra = (Name.EXTRA, Name.DUPLICATE)
        return self.documents - len({d.entry.key for d in self.differences if d.name not in extra})

    @property
    def by_name(self) -> Counter[str]:
        """How many differences of each name."""
        return Counter(str(d.name) for d in self.counted)


@dataclass(slots=True)
class Reconciled:
    """What a reconciliation found, and what it did."""

    since: datetime
    up_to: datetime
    started_at: datetime
    results: dict[str, Result] = field(default_factory=dict)
    reads: int = 0
    """How often Stripe was asked."""
    reached: date | None = None
    """The day up to which both sides were read so far."""
    repairs: list[str] = field(default_factory=list)
    """What was sent to be written again, or in a dry run would be; a line each."""
    repaired: int = 0

    @property
    def agrees(self) -> bool:
        """Whether there is nothing to explain."""
        return not any(r.counted for r in self.results.values())

    def said(self) -> list[str]:
        """A sentence per destination."""
        return [
            f"{r.destination}: {r.agree:,} of {r.documents:,} agree up to {plain(self.up_to)}, "
            f"differences {len(r.counted):,}" + (f", under way {r.under_way:,}" if r.under_way else "")
            for r in self.results.values()
        ]


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Everything a reconciliation needs."""

    db: Database
    books: Books
    statements: Mapping[str, Statement]
    rules: Rules
    repairs: Repairs
    clock: Callable[[], float]
    grace: timedelta
    """What happened in Stripe less long ago need not have arrived."""
    patience: Patience = field(default_factory=Patience)

    async def reconcile(
        self,
        since: datetime,
        until: datetime | None = None,
        *,
        destinations: Sequence[str] = (),
        repair: bool | None = None,
        progress: Callable[[Reconciled], None] = lambda _: None,
        unless_since: datetime | None = None,
    ) -> Reconciled | None:
        """Compare what Stripe made from `since` until before `until` (default: a grace time ago), at these destinations
        (default: all). `repair`: None, or False to say what would be written again, or True to do it.

        None if another one came to its end after `unless_since`. Raises `ReconcileRunningError`, `OutcomeError`, or
        one of `UNAVAILABLE`.
        """
        busy = ReconcileRunningError("Another reconciliation is under way; one at a time is enough. Nothing was done.")
        chosen = [name for name in self.statements if not destinations or name in destinations]
        async with self.db.alone(LOCK, busy):
            if unless_since is not None and await self._done_since(unless_since):
                return None
            run = _Run(self, chosen, progress)
            done = await run.all(since, until)
            if repair is not None:
                found = [d for r in done.results.values() for d in r.differences if not d.under_way]
                done.repairs = await self.repairs.make(found, run.gather, really=repair)
                done.repaired = len(done.repairs) if repair else 0
            await self._keep(done)
        for result in done.results.values():
            _log.info(
                "reconciled", destination=result.destination, until=plain(done.up_to), documents=result.documents,
                agree=result.agree, differences=len(result.counted), under_way=result.under_way,
            )  # fmt: skip
        return done

    async def _done_since(self, moment: datetime) -> bool:
        rows = await self.db.fetch("last_reconciliations", list(self.statements))
        return len(rows) == len(self.statements) and all(row["finished_at"] > moment for row in rows)

    async def _keep(self, done: Reconciled) -> None:
        now = self.now()
        for r in done.results.values():
            assert r.sides is not None
            mended = sum(line.startswith(f"{r.destination}: ") for line in done.repairs) if done.repaired else 0
            await self.db.fetch(
                "keep_reconciliation", r.destination, done.since, done.up_to, done.started_at, now, r.documents,
                r.agree, r.under_way, dict(r.by_name), [difference_shown(d) for d in r.differences[:KEPT]],
                totals_shown(r.sides)[:KEPT], mended,
            )  # fmt: skip

    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.fromtimestamp(self.clock(), UTC)

    async def on_schedule(self, every: float, days: int, start_after: float = START_AFTER) -> None:
        """Reconcile the last `days` whenever the last one, of whichever process, ended `every` seconds ago; for ever.
        It repairs nothing. What fails is logged and tried again after the same time.
        """
        wait = start_after
        while True:
            await asyncio.sleep(wait)
            wait = every
            try:
                now = self.now()
                await self.reconcile(midnight(now) - days * DAY, unless_since=now - timedelta(seconds=every))
                wait = await self._until_due(every)
            except ReconcileRunningError:
                _log.info("reconcile_is_running")
            except OutcomeError as error:
                code = getattr(error.outcome, "code", None)
                _log.error("reconcile_failed", error=type(error.outcome).__name__, code=code)
            except UNAVAILABLE as error:
                _log.warning("reconcile_waits_for_database", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a fault here must not end the deliveries beside it
                _log.error("reconcile_failed", error=type(error).__name__, exc_info=error)

    async def _until_due(self, every: float) -> float:
        rows = await self.db.fetch("last_reconciliations", list(self.statements))
        first = min((row["finished_at"] for row in rows), default=None)
        since = (self.now() - first).total_seconds() if first and len(rows) == len(self.statements) else every
        return min(every, max(60.0, every - since))


class _Run:
    """One reconciliation from its beginning."""

    def __init__(self, whole: Reconciler, chosen: Sequence[str], progress: Callable[[Reconciled], None]) -> None:
        self._all, self._progress = whole, progress
        self._sides: OrderedDict[str, Sides] = OrderedDict((name, Sides(name)) for name in chosen)
        self._types = types_for(chosen)
        self.gather = Gather(whole.books, whole.patience)

    async def all(self, since: datetime, until: datetime | None) -> Reconciled:
        started = self._all.now()
        newest = datetime.fromtimestamp(await self.gather.newest(), UTC)
        # By Stripe's own clock, if that is ahead of ours: what it has said happened has happened.
        settled = max(started, newest) - self._all.grace
        up_to = min(until or settled, settled)
        done = Reconciled(since, up_to, started)
        done.results = {name: Result(name) for name in self._sides}
        first, days = since, 1
        while first < up_to:
            end = min(midnight(first) + days * DAY, up_to)
            count = await self._stripe(int(first.timestamp()), int(end.timestamp()))
            last = (end - timedelta(microseconds=1)).date()
            for name, sides in self._sides.items():
                for page in await self._all.patience(partial(self._there, name, first.date(), last)):
                    sides.hold(page)
                sides.window(first.date())
                done.results[name].documents = sides.documents
            done.reads, done.reached = self.gather.reads, last
            self._progress(done)
            days = max(1, days // 2) if count > MANY else min(LONGEST, days * 2) if count < FEW else days
            first = end
        for name, sides in self._sides.items():
            await self._leftovers(name, sides)
            sides.finish()
            found = await self._judged(name, sides.differences, int(settled.timestamp()))
            done.results[name] = Result(name, sides.documents, found, sides)
        done.reads = self.gather.reads
        return done

    async def _stripe(self, since: int, until: int) -> int:
        """What Stripe made in a window, and what must have become of it. Returns how much it was."""
        count = 0
        for object_type in self._types:
            cursor: str | None = None
            while True:
                page = await self.gather.page(object_type, cursor, since, until)
                for obj in page.objects:
                    around = await self.gather.around(object_type, obj)
                    for name, sides in self._sides.items():
                        sides.want(expect(name, object_type, obj, around, self._all.rules))
                count += len(page.objects)
                if page.next is None:
                    break
                cursor = page.next
        return count

    async def _there(self, name: str, first: date, last: date) -> list[list[Entry]]:
        """What a vendor holds of some days, page by page. Whole, so that a limit in the middle begins it anew."""
        return [page async for page in self._all.statements[name].between(first, last)]

    async def _leftovers(self, name: str, sides: Sides) -> None:
        missing = sides.missing()
        for start in range(0, len(missing), KEYS):
            keys = missing[start : start + KEYS]
            sides.hold(await self._all.patience(partial(self._all.statements[name].keyed, keys)))
        for object_id, keys in sides.strangers().items():
            object_type = type_of(object_id)
            obj = await self.gather.read(object_type, object_id) if object_type else None
            if object_type is None or obj is None:
                continue
            around = await self.gather.around(object_type, obj)
            called_for = expect(name, object_type, obj, around, self._all.rules)
            # Of an object from before the span only what is dated in it is compared.
            sides.want(w for w in called_for if w.entry.key in keys)

    async def _judged(self, name: str, differences: Sequence[Difference], settled: int) -> list[Difference]:
        ids = sorted({d.entry.object_id for d in differences if d.entry.object_id})
        open_: dict[str, str] = {}
        dead: dict[str, str] = {}
        for row in await self._all.db.fetch("not_over", name, ids) if ids else ():
            if row["state"] in ("dead", "held"):
                dead.setdefault(row["object_id"], f"delivery {row['id']} is {row['state']} ({row['code'] or 'waits'})")
            else:
                open_[row["object_id"]] = f"delivery {row['id']} is {row['state']}"
        return sorted_out(differences, open_, dead, settled)


def midnight(moment: datetime) -> datetime:
    """The beginning of that day, UTC."""
    return datetime.combine(moment.astimezone(UTC).date(), time(), UTC)
