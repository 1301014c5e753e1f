"""One loop per destination: claim, carry out, wait to be woken. Its pause, its backlog and its slots are its own.

Woken by NOTIFY when something was accepted, by the next due time, and by polling as the safety net. On stop it claims
no more, finishes what is in flight within a limit, and gives the rest back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from hub import circuit, log, sealing, store
from hub.circuit import Change, Closed, Cut, Opened
from hub.db import UNAVAILABLE, Connection, Database
from hub.deliver import Deliverer, LogDeliverer
from hub.grouping import Grouper
from hub.store import Closing, LaneClaim

PER_LANE = 50
"""Most deliveries of one lane in a claim."""
LOG_LOOK = 1.0
"""A log lane that is filling is looked at no more often than this, in seconds, however much arrives."""

Beside: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""What else runs for ever in a process of workers."""

_log = log.get()


class Settler:
    """Writes settlements: grouped, and again for as long as the database is away. An outcome must not be lost."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db, self._clock = db, clock
        self._grouper: Grouper[Closing, set[int]] = Grouper(self._write, most=64)

    async def __call__(self, closing: Closing) -> set[int]:
        """Settle; returns the delivery ids that were still ours."""
        wait = 0.1
        while True:
            try:
                return await self._grouper.put(closing)
            except UNAVAILABLE as error:
                _log.warning("settle_waits_for_database", error=type(error).__name__)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)

    async def _write(self, group: Sequence[Closing]) -> list[set[int]]:
        now = datetime.fromtimestamp(self._clock(), UTC)
        ours, changes = await self._db.run(_settle, group, now)
        for change in changes:
            _say(change)
        return [{s.delivery.id for s in closing.settlements} & ours for closing in group]


async def _settle(
    connection: Connection[Any], group: Sequence[Closing], now: datetime
) -> tuple[set[int], Sequence[Change]]:
    """The settlement and what it says of the vendors, in one transaction. A worker that lost its claim says nothing."""
    ours, ailing = await store.settle(connection, group, now)
    signs = [s for closing in group for s in closing.signs if any(x.delivery.id in ours for x in closing.settlements)]
    return ours, await circuit.note(connection, signs, ailing, now) if signs else ()


def _say(change: Change) -> None:
    """For the operator's eyes: what is paused or slowed down for all processes, or no longer."""
    match change:
        case Opened():
            _log.error(
                "circuit_opened",
                destination=change.destination,
                times=change.times,
                until=change.until.isoformat(),
                reason=change.reason,
            )
        case Closed():
            _log.warning("circuit_closed", destination=change.destination, times=change.times)
        case Cut():
            _log.warning("limit_cut", destination=change.destination, share=round(change.share, 3))


class Worker:
    """The loop of one destination."""

    def __init__(
        self, deliverer: Deliverer | LogDeliverer, db: Database, clock: Callable[[], float], poll: float
    ) -> None:
        self.name = deliverer.destination.name
        self._deliverer, self._db, self._clock, self._poll = deliverer, db, clock, poll
        self._policy = deliverer.policy
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = self._policy.slots
        self._alone = False
        """What is under way may be what kills workers: nothing is begun beside it."""

    def wake(self) -> None:
        """Something was accepted for this destination."""
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`. A database that is away is waited for."""
        away = 0.2
        while not self._stop.is_set():
            self._wake.clear()
            try:
                full = self._full()  # then there is nothing to look for until one ends, which wakes
                begun = 0 if full else await self._begin()
                pause = 0.0 if begun else self._poll if full else await self._until_due()
                away = 0.2
            except UNAVAILABLE as error:
                _log.warning("worker_waits_for_database", destination=self.name, error=type(error).__name__)
                pause, away = away, min(away * 2, 5.0)
            except Exception as error:  # noqa: BLE001 - a fault here must not end the other destinations' work
                _log.error("worker_failed", destination=self.name, error=type(error).__name__, exc_info=error)
                pause, away = away, min(away * 2, 60.0)
            if pause > 0 or self._full():
                await self._rest(pause or self._poll)

    async def stop(self, limit: float) -> None:
        """Finish what is in flight within `limit` seconds; what then still runs is left to its lease."""
        self._stop.set()
        self._wake.set()
        if self._tasks:
            _done, late = await asyncio.wait(self._tasks, timeout=limit)
            for task in late:
                _log.warning("left_to_its_lease", destination=self.name)
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def drain(self, *, flush: bool = False) -> int:
        """Carry out everything that is due now, here, until nothing is; returns how many rounds had work. For tests."""
        rounds = 0
        while await self._begin(flush=flush):
            await asyncio.gather(*self._tasks)
            rounds += 1
        return rounds

    async def _begin(self, *, flush: bool = False) -> int:
        """Claim what is due and start carrying it out. Returns the number of lanes claimed."""
        now = self._now()
        deliverer = self._deliverer
        if isinstance(deliverer, LogDeliverer):
            return await self._begin_batch(deliverer, now, flush=flush)
        ledger = self._policy.kind == "ledger"
        free = self._slots - len(self._tasks)
        claims = await self._db.run(
            store.claim,
            self.name,
            now,
            lease=self._policy.lease,
            lanes=free if ledger else self._policy.batch,
            per_lane=PER_LANE,
            ledger=ledger,
            bodies=not deliverer.mapped,
            concurrency=self._policy.concurrency,
        )
        if claims:
            # Asked to call less, each process does fewer things at once; always one, to hear when that is over.
            self._slots = max(1, int(self._policy.slots * claims[0].share))
        if self._stop.is_set() and claims:
            await self._db.run(store.give_back, claims, now)
            return 0
        # Lost, and not for the first time: `store.claim` gives such a lane alone.
        self._alone = any(d.was_lost and d.failures > 1 for c in claims for d in c.deliveries)
        if ledger:
            for claim in claims:
                self._start(deliverer.ledger(claim, self._stop.is_set), [claim])
        elif claims:
            self._start(deliverer.state(claims), claims)
        return len(claims)

    def _full(self) -> bool:
        return len(self._tasks) >= (1 if self._alone else self._slots)

    async def _begin_batch(self, deliverer: LogDeliverer, now: datetime, *, flush: bool) -> int:
        if self._tasks:
            return 0  # one batch at a time: the lane is one
        claimed = await self._db.run(sealing.claim_batch, self.name, now, self._policy, flush=flush)
        if claimed is None:
            return 0
        if self._stop.is_set():
            await self._db.run(store.give_back, [claimed[0]], now)
            return 0
        self._start(deliverer.batch(*claimed), [claimed[0]])
        return 1

    def _start(self, work: Coroutine[Any, Any, None], claims: Sequence[LaneClaim]) -> None:
        task = asyncio.create_task(self._carry_out(work, claims))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _carry_out(self, work: Coroutine[Any, Any, None], claims: Sequence[LaneClaim]) -> None:
        """Only reading for a delivery can fail for want of a database, which is before anything is sent for it
        (settling waits): what is still claimed then goes back uncounted as soon as there is a database again.
        """
        try:
            await work
        except UNAVAILABLE as error:
            _log.warning("given_back", destination=self.name, error=type(error).__name__)
            while True:
                try:
                    await self._db.run(store.give_back, claims, self._now())
                    return
                except UNAVAILABLE:
                    await asyncio.sleep(1.0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim stays until its lease runs out, then counts as a failure: visible, and tried again.
            _log.error("carrying_out_failed", destination=self.name, error=type(error).__name__, exc_info=error)

    async def _until_due(self) -> float:
        rows = await self._db.fetch("next_due", self.name, self._now(), self._policy.concurrency)
        due: datetime | None = rows[0]["due_at"]
        if due is None:
            return self._poll
        return max(0.01, min(self._poll, due.timestamp() - self._clock()))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _rest(self, seconds: float) -> None:
        filling = isinstance(self._deliverer, LogDeliverer) and not self._tasks
        heard = self._stop if filling else self._wake
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), max(LOG_LOOK, seconds) if filling else seconds)


class Workers:
    """All destinations of one process, the ear that wakes them, and what else runs for ever beside them."""

    def __init__(self, workers: Sequence[Worker], db: Database, beside: Sequence[Beside] = ()) -> None:
        self._workers = {w.name: w for w in workers}
        self._db = db
        self._beside = tuple(beside)

    async def run(self, stop: asyncio.Event, limit: float) -> None:
        """Work until `stop` is set, then finish within `limit` seconds."""
        _log.info("working", destinations=sorted(self._workers))
        async with asyncio.TaskGroup() as group:
            idle = [group.create_task(self._listen()), *(group.create_task(run()) for run in self._beside)]
            loops = [group.create_task(w.run()) for w in self._workers.values()]
            await stop.wait()
            await asyncio.gather(*(w.stop(limit) for w in self._workers.values()))
            for task in idle:
                task.cancel()
            await asyncio.gather(*loops)

    async def drain(self, *, flush: bool = False) -> None:
        """Everything due, everywhere, until nothing is: one destination's work may make work for another."""
        while sum([await w.drain(flush=flush) for w in self._workers.values()]):
            pass

    async def _listen(self) -> None:
        """Hear NOTIFY; if the connection breaks, polling carries on and it is tried again."""
        while True:
            try:
                async with self._db.listen("hub_wake", self._heard):
                    while True:
                        await asyncio.sleep(30)
                        await self._db.fetch("ready")
            except UNAVAILABLE as error:
                _log.warning("not_listening", error=type(error).__name__)
                await asyncio.sleep(2)

    def _heard(self, payload: str) -> None:
        worker = self._workers.get(payload)
        if worker is not None:
            worker.wake()
