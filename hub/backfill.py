"""The way out when events are lost that Stripe no longer lists: the objects as they are now, from Stripe's lists.

Each object that the hub does not know as it is, and each step of it that some destination was never told, is accepted
as an event of kind `read`, through the one door: lanes, deliveries and receipts as always. The engine decides what that
means: what a vendor already holds is not written again, and a later webhook finds its effect there.

Such an event is dated as Stripe's newest event when the list was begun: it holds all that was said until then, and what
is said later is newer. Parents come first, deletions last: books refuse documents of a customer that is gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import orjson

from hub import envelope, log, store
from hub.db import SQL, Connection, Database
from hub.destination import Page
from hub.errors import HubError, OutcomeError
from hub.mirror import choose
from hub.ordering import DELETED, rank
from hub.patience import Patience
from hub.routing import Router
from hub.steps import FAMILIES, owed
from hub.store import Accepted
from hub.sweep import KEPT, SweepRunningError, plain

LOCK = 0x48554242  # "HUBB"
RESUMED = timedelta(days=2)
"""How old an unfinished backfill may be to go on with it: what it listed first is that old by then."""
GONE_LIMIT = 100
"""Objects of a type that Stripe knows nothing of, before we believe that it is another account's key."""
KNOWN_PAGE = 5_000
RESTARTS = 3
"""Of one list, because the object at which the next page would begin is gone."""
FINAL: Mapping[str, int] = {"subscription": 1, "credit_note": 1}
"""From which rank on an object that is in no list is not asked for; all others: unless it is known to be deleted."""
FINAL_INVOICE = 3
MONEY = frozenset({"invoice_payment", "refund", "dispute", "payout"})
"""Listed only where a mapping reads them, and of a span only what was created in it: they are many, and move once."""
VANISH = frozenset({"product", "price"})
"""Deleted ones cannot be read any more (404), unlike customers. Nor can draft invoices."""

_log = log.get()


class Lists(Protocol):
    """Where all objects can be listed, and single ones read. All raise `OutcomeError`."""

    async def objects(self, object_type: str, cursor: str | None, created_from: int | None) -> Page: ...

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None: ...

    async def newest_event(self) -> dict[str, Any] | None: ...


@dataclass(slots=True)
class Count:
    """What was found of one object type."""

    listed: int = 0
    new: int = 0
    """Objects of which something was accepted."""
    known: int = 0
    deleted: int = 0
    gone: int = 0
    """Known to us, but not to Stripe: not even as deleted."""
    reads: int = 0
    done: bool = False


@dataclass(slots=True)
class Backfilled:
    """What a backfill did; also its progress."""

    started_at: datetime
    since: datetime | None
    dry_run: bool
    counts: dict[str, Count] = field(default_factory=lambda: {name: Count() for name in FAMILIES})
    deletions: list[list[str]] = field(default_factory=list)
    """[object type, id] that are to be told as deleted when all else was accepted."""
    resumed: bool = False
    finished: bool = False
    events: int = 0
    """Accepted by this run, or in a dry run: would have been."""
    closed: int = 0
    """Sweeps whose gap it closed."""
    note: str | None = None

    @property
    def reads(self) -> int:
        """How often Stripe was asked, all runs of this backfill together."""
        return sum(c.reads for c in self.counts.values())

    @property
    def complete(self) -> bool:
        """Whether everything is here now."""
        return self.finished and self.note is None and not self.dry_run

    def said(self) -> str:
        """The result in one sentence."""
        listed, new = (sum(getattr(c, name) for c in self.counts.values()) for name in ("listed", "new"))
        found = (
            f"listed {listed}, new {new}, deleted {sum(c.deleted for c in self.counts.values())}, reads {self.reads}"
        )
        if self.dry_run:
            return f"dry run, nothing was accepted: {found}"
        return f"complete up to {plain(self.started_at)}: {found}" if self.complete else f"not complete: {found}"


@dataclass(frozen=True, slots=True)
class _Moment:
    """What certainly had happened before a list was begun."""

    created: int
    seq: int


@dataclass(frozen=True, slots=True)
class Backfill:
    """Everything a backfill needs."""

    db: Database
    lists: Lists
    router: Router
    clock: Callable[[], float]
    mapped: frozenset[str]
    """Object types some mapping makes records of."""
    patience: Patience = field(default_factory=Patience)

    async def run(
        self,
        since: datetime | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[str, Backfilled], None] = lambda _type, _so_far: None,
    ) -> Backfilled:
        """Bring everything in. With `since`, invoices created before that are left out, but for those that were not
        final as far as we know. Raises `SweepRunningError` if another is under way, `OutcomeError`, `HubError`, or one
        of `UNAVAILABLE`; what was accepted until then stays, and the next run goes on after the last complete type.
        """
        busy = SweepRunningError("Another backfill is under way; one at a time is enough. Nothing was done.")
        async with self.db.alone(LOCK, busy):
            run = await self._begin(since, dry_run)
            return await run.all(progress)

    async def _begin(self, since: datetime | None, dry_run: bool) -> _Run:  # noqa: FBT001 - internal
        now = self.now()
        so_far = Backfilled(now, since, dry_run)
        if dry_run:
            return _Run(self, so_far, None)
        for row in await self.db.fetch("unfinished_backfill", since, now - RESUMED):
            so_far.started_at, so_far.resumed = row["started_at"], True
            so_far.deletions = row["progress"]["deletions"]
            so_far.counts |= {name: Count(**c) for name, c in row["progress"]["counts"].items() if c["done"]}
            return _Run(self, so_far, row["id"])
        (row,) = await self.db.fetch("begin_backfill", since, now, _progress(so_far))
        return _Run(self, so_far, row["id"])

    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.fromtimestamp(self.clock(), UTC)


class _Run:
    """One run from its beginning, or from where the last one was cut off."""

    def __init__(self, backfill: Backfill, so_far: Backfilled, id_: int | None) -> None:
        self._all, self._so_far, self._id = backfill, so_far, id_
        self._customers: set[str] = set()
        """Those that were listed, and those that were asked for because something names them."""
        kinds = backfill.router.kinds
        self._routes = {
            t: {d: str(kinds[d]) for d in names if d in kinds} for t, names in backfill.router.types.items()
        }

    async def all(self, progress: Callable[[str, Backfilled], None]) -> Backfilled:
        so_far = self._so_far
        for object_type in FAMILIES:
            if object_type in MONEY and object_type not in self._all.mapped:
                so_far.counts.pop(object_type, None)
            elif not so_far.counts[object_type].done:
                await self._type(object_type, partial(progress, object_type, so_far))
                so_far.counts[object_type].done = True
                await self._save(None)
        await self._deletions()
        so_far.note = self._problems()
        so_far.finished = True
        if self._id is not None:
            so_far.closed = await self._all.db.run(self._finish)
        numbers = {name: asdict(c) for name, c in so_far.counts.items()}
        _log.info(
            "backfilled", until=plain(so_far.started_at), complete=so_far.complete, events=so_far.events, **numbers
        )
        return so_far

    # One type ---------------------------------------------------------------------------------------------------------

    async def _type(self, object_type: str, progress: Callable[[], None]) -> None:
        since, count = self._so_far.since, self._so_far.counts[object_type]
        limited = since is not None and object_type in MONEY | {"invoice"}
        created_from = int(since.timestamp()) if since is not None and limited else None
        moment = await self._moment(count)
        listed: set[str] = set()
        cursor: str | None = None
        restarts = 0
        while True:
            try:
                page = await self._all.patience(partial(self._all.lists.objects, object_type, cursor, created_from))
            except OutcomeError as error:
                if getattr(error.outcome, "code", None) != "resource_missing" or cursor is None or restarts == RESTARTS:
                    raise
                cursor, restarts = None, restarts + 1  # the object we were at was deleted meanwhile
                continue
            count.reads += page.reads
            fresh = [o for o in {o["id"]: o for o in page.objects}.values() if o["id"] not in listed]
            listed |= {o["id"] for o in fresh}
            if object_type == "customer":
                self._customers |= {o["id"] for o in fresh}
            else:
                await self._owners(fresh, moment)
            await self._take(object_type, fresh[::-1], moment)
            progress()
            if page.next is None:
                break
            cursor = page.next
        if limited and object_type in MONEY:
            return
        final = FINAL_INVOICE if limited else FINAL.get(object_type, DELETED)
        await self._absent(object_type, listed, final, moment, progress)

    async def _moment(self, count: Count) -> _Moment:
        (row,) = await self._all.db.fetch("last_seq")
        newest = await self._all.patience(self._all.lists.newest_event)
        count.reads += 1
        # None: nothing happened for as long as Stripe lists events.
        created = newest["created"] if newest else int((self._all.now() - KEPT).timestamp())
        return _Moment(created, row["seq"])

    async def _absent(
        self, object_type: str, listed: set[str], final: int, moment: _Moment, progress: Callable[[], None]
    ) -> None:
        """What we know as being there, and no list has: read singly."""
        after = ""
        while rows := await self._all.db.fetch("known_objects", after, moment.seq, KNOWN_PAGE):
            for row in rows:
                if row["object_type"] == object_type and row["rank"] < final and row["object_id"] not in listed:
                    await self._single(object_type, row["object_id"], row["rank"], moment)
                    progress()
            after = rows[-1]["object_id"]

    async def _owners(self, objects: Sequence[Mapping[str, Any]], moment: _Moment) -> None:
        """Customers that something belongs to, but that no list had and nobody knows: deleted, or of a test clock."""
        named = {o["customer"] for o in objects if isinstance(o.get("customer"), str)} - self._customers
        self._customers |= named
        there = {row["object_id"] for row in await self._all.db.fetch("objects_there", sorted(named))}
        for object_id in sorted(named - there):
            await self._single("customer", object_id, 0, moment)

    async def _single(self, object_type: str, object_id: str, known_rank: int, moment: _Moment) -> None:
        count = self._so_far.counts[object_type]
        found = await self._all.patience(partial(self._all.lists.read, object_type, object_id))
        count.reads += 1
        if found is None and not self._vanished(object_type, known_rank):
            count.gone += 1
            _log.warning("backfill_object_gone", object=object_id)
            if count.gone > GONE_LIMIT:
                raise HubError(
                    f"Stripe does not know {count.gone} of our objects of type {object_type}, not even as deleted. "
                    "Check that HUB_STRIPE_API_KEY belongs to the account that sent the events."
                )
        elif found is None or found.get("deleted") is True:
            if [object_type, object_id] not in self._so_far.deletions:
                self._so_far.deletions.append([object_type, object_id])
                count.deleted += 1
        else:
            await self._take(object_type, [found], moment)

    def _vanished(self, object_type: str, known_rank: int) -> bool:
        """Whether a 404 says "deleted": only where Stripe keeps no trace, and only while all else is found."""
        may = object_type in VANISH or (object_type == "invoice" and known_rank == 0)
        return may and not any(c.gone for c in self._so_far.counts.values())

    # Objects ----------------------------------------------------------------------------------------------------------

    async def _deletions(self) -> None:
        moment = await self._moment(self._so_far.counts["customer"])
        # Customers last: what is theirs goes before them.
        for object_type, object_id in sorted(self._so_far.deletions, key=lambda d: (d[0] == "customer", d)):
            # As it last was, like a `*.deleted` event: its customer and its amounts still count.
            known, _ = choose(await self._all.db.fetch("newest", [object_id]))
            last = known.object if known is not None else {}
            stub = {**last, "id": object_id, "object": object_type, "deleted": True}
            await self._take(object_type, [stub], moment, counted=False)

    async def _take(
        self, object_type: str, objects: Sequence[dict[str, Any]], moment: _Moment, *, counted: bool = True
    ) -> None:
        """Accept what is owed of these objects, in one transaction."""
        ids = [o["id"] for o in objects]
        if not ids:
            return
        rows: dict[str, list[Any]] = defaultdict(list)
        had: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for row in await self._all.db.fetch("newest", ids):
            rows[row["wanted"]].append(row)
        for row in await self._all.db.fetch("deliveries_had", ids):
            names = [row["destination"]] if row["destination"] else self._routes.get(row["type"], {})
            had[row["object_id"]] |= {(row["type"], name) for name in names}
        count, now = self._so_far.counts[object_type], self._all.now()
        accepted: list[Accepted] = []
        for found in objects:
            known, steps = rows[found["id"]], had[found["id"]]
            changed = _changed(object_type, found, known, moment)
            types = owed(object_type, found, self._routes, steps, seen=bool(known), changed=changed)
            accepted += [self._event(type_, found, moment, now) for type_ in types]
            if counted:
                count.listed, count.new, count.known = (
                    count.listed + 1,
                    count.new + bool(types),
                    count.known + (not types),
                )
        if accepted and self._id is not None:
            fresh = await self._all.db.run(store.accept, accepted, now)
            self._so_far.events += len(fresh)
        else:
            self._so_far.events += len(accepted)

    def _event(self, type_: str, obj: dict[str, Any], moment: _Moment, now: datetime) -> Accepted:
        """The id tells, as that of every read: the last event known when the list was begun; and then the content."""
        id_ = f"backfill:{obj['id']}:{type_}:{moment.seq}:{envelope.content_number(type_, obj)}"
        router = self._all.router
        event = envelope.of_read(id_, type_, obj, moment.created, now, livemode=router.livemode)
        decided = router.decide(event, now)
        return decided._replace(note=" ".join(filter(None, ("listed by a backfill", decided.note))))

    # Keeping it -------------------------------------------------------------------------------------------------------

    async def _save(self, finished: datetime | None) -> None:
        if self._id is not None:
            await self._all.db.fetch("advance_backfill", self._id, _progress(self._so_far), finished, self._so_far.note)

    async def _finish(self, connection: Connection[Any]) -> int:
        so_far = self._so_far
        await connection.execute(SQL["advance_backfill"], self._id, _progress(so_far), self._all.now(), so_far.note)
        if so_far.note is not None:
            return 0
        closed = f"Closed by backfill {self._id}, complete up to {plain(so_far.started_at)}."
        return len(await connection.fetch(SQL["close_gaps"], self._id, so_far.started_at, so_far.since, closed))

    def _problems(self) -> str | None:
        """Why it is not complete; None if it is."""
        gone = {name: c.gone for name, c in self._so_far.counts.items() if c.gone}
        unlisted = sorted(self._all.mapped - FAMILIES.keys())
        said: Iterable[str | None] = (
            f"Stripe no longer knows {', '.join(f'{n} of type {t}' for t, n in gone.items())}: were test data deleted, "
            "or does the key belong to another account?"
            if gone
            else None,
            f"Mappings are made from {', '.join(unlisted)}, which a backfill does not list." if unlisted else None,
        )
        return " ".join(filter(None, said)) or None


def _changed(object_type: str, found: dict[str, Any], rows: Sequence[Any], moment: _Moment) -> bool:
    """Whether what was listed is news: not what the mirror has, nor overtaken by what has arrived since."""
    if not rows:
        return True
    mine, theirs = rank(object_type, found), max(r["rank"] for r in rows)
    if mine != theirs:
        return bool(mine > theirs)
    if mine == DELETED:
        return False
    newest, _ = choose(rows)
    if newest is None:
        return True
    same = orjson.loads(orjson.dumps(found, default=envelope.number_as_text)) == newest.object
    return not (same or newest.seq > moment.seq)


def _progress(so_far: Backfilled) -> dict[str, Any]:
    return {"counts": {name: asdict(c) for name, c in so_far.counts.items()}, "deletions": so_far.deletions}
