"""Delivering events as Stripe does: signed, retried, sometimes twice, in no promised order.

docs.stripe.com/webhooks. The signature is HMAC-SHA256 over `<timestamp>.<body>` with the whole secret as key; each
attempt has a new timestamp. Every answer but 2xx, a redirect included, is a failure and tried again with growing
pauses. Signed here from the description, not with the vendor's library: the receiving side verifies with that one.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import hmac
import random
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import orjson

from connectors.simulator import Clock
from connectors.stripe.simulator.values import Obj

if TYPE_CHECKING:
    from connectors.stripe.simulator.simulator import StripeSimulator

_WINDOW = 0.25
"""Seconds within which a disordered event is late, and a duplicate follows."""
_TIMEOUT = aiohttp.ClientTimeout(total=20)


def signature(body: bytes, secret: str, timestamp: int) -> str:
    """The value of `Stripe-Signature`."""
    mac = hmac.new(secret.encode(), b"%d.%s" % (timestamp, body), hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


@dataclass(slots=True, order=True)
class _Parcel:
    """One delivery to be made: an event, or its repetition. Ordered by when it is due, then by age."""

    due: float
    number: int
    body: bytes = field(compare=False)
    tried: int = field(compare=False, default=0)


class WebhookSender:
    """A webhook endpoint of the simulated account. Listens from construction on; `close` stops that.

    duplicates, disorder: share (0..1) of events sent twice, or late by up to a quarter of a second.
    max_attempts: 4 in test mode at Stripe (one and three retries); first_retry_seconds doubles with each failure.
    Counters: `events` heard, `attempts` made, `duplicates_sent`, `failed` (given up), `pending` (neither yet).
    """

    def __init__(
        self,
        sim: StripeSimulator,
        url: str,
        secret: str,
        rng: random.Random,
        clock: Clock,
        *,
        duplicates: float = 0.0,
        disorder: float = 0.0,
        concurrency: int = 16,
        max_attempts: int = 4,
        first_retry_seconds: float = 1.0,
    ) -> None:
        self.events = self.attempts = self.duplicates_sent = self.failed = 0
        self._sim, self._url, self._secret, self._rng, self._clock = sim, url, secret, rng, clock
        self._duplicates, self._disorder = duplicates, disorder
        self._concurrency, self._max_attempts, self._first_retry = concurrency, max_attempts, first_retry_seconds
        self._ready: deque[_Parcel] = deque()
        self._arrivals: deque[tuple[float, _Parcel]] = deque()
        self._later: list[_Parcel] = []
        self._open: set[int] = set()
        self._flying: dict[int, _Parcel] = {}
        self._lock = threading.Lock()
        self._numbers = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._waiting: set[asyncio.Event] = set()
        sim.listen(self._hear)

    @property
    def pending(self) -> int:
        """Deliveries neither made nor given up."""
        return len(self._open)

    def close(self) -> None:
        """Hear no more events."""
        self._sim.unlisten(self._hear)

    def _hear(self, event: Obj) -> None:
        """Queue an event. May be called from any thread: a simulator may be served by another one."""
        pretty = orjson.OPT_INDENT_2 if event.get("object") == "event" else 0
        body = orjson.dumps(event, option=pretty)
        with self._lock:
            self.events += 1
            late = self._rng.random() < self._disorder
            self._queue(body, self._rng.uniform(0, _WINDOW) if late else 0.0)
            if self._rng.random() < self._duplicates:
                self.duplicates_sent += 1
                self._queue(body, self._rng.uniform(0, _WINDOW))
            loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._wake.set)

    def _queue(self, body: bytes, delay: float) -> None:
        self._numbers += 1
        self._open.add(self._numbers)
        self._arrivals.append((delay, _Parcel(0.0, self._numbers, body)))

    async def run(self) -> None:
        """Deliver until cancelled."""
        if self._loop is not None:
            raise RuntimeError("this sender is already running")
        self._wake = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=self._concurrency)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
                asyncio.TaskGroup() as group,
            ):
                slots = asyncio.Semaphore(self._concurrency)
                while True:
                    await slots.acquire()
                    parcel = await self._next()
                    self._flying[parcel.number] = parcel
                    task = group.create_task(self._deliver(session, parcel))
                    task.add_done_callback(lambda _task: slots.release())
        finally:
            with self._lock:
                self._loop = None
                for parcel in self._flying.values():  # cut off while being sent: whether it arrived is not known
                    parcel.due = 0.0
                    heapq.heappush(self._later, parcel)
                self._flying.clear()

    async def flush(self) -> None:
        """Wait until everything heard so far is delivered (2xx) or given up. Runs the sender meanwhile if nobody does;
        otherwise in the event loop where it runs."""
        await asyncio.sleep(0)  # a `run` just handed to the loop as a task starts now
        with self._lock:
            last = self._numbers
        settled = asyncio.Event()
        self._waiting.add(settled)
        runner = None if self._loop is not None else asyncio.create_task(self.run())
        try:
            while any(number <= last for number in self._open):
                settled.clear()
                waiter = asyncio.create_task(settled.wait())
                done, _ = await asyncio.wait(
                    {waiter, *({runner} if runner else ())}, return_when=asyncio.FIRST_COMPLETED
                )
                waiter.cancel()
                if runner is not None and runner in done:
                    await runner
        finally:
            self._waiting.discard(settled)
            if runner is not None:
                runner.cancel()
                await asyncio.gather(runner, return_exceptions=True)

    async def _next(self) -> _Parcel:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = loop.time()
            with self._lock:
                while self._arrivals:
                    delay, parcel = self._arrivals.popleft()
                    if delay:
                        parcel.due = now + delay
                        heapq.heappush(self._later, parcel)
                    else:
                        self._ready.append(parcel)
            while self._later and self._later[0].due <= now:
                self._ready.append(heapq.heappop(self._later))
            if self._ready:
                return self._ready.popleft()
            wait = self._later[0].due - now if self._later else None
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except TimeoutError:
                continue

    async def _deliver(self, session: aiohttp.ClientSession, parcel: _Parcel) -> None:
        parcel.tried += 1
        self.attempts += 1
        delivered = await self._post(session, parcel.body)
        del self._flying[parcel.number]
        if delivered:
            self._close_parcel(parcel)
        elif parcel.tried >= self._max_attempts:
            self.failed += 1
            self._close_parcel(parcel)
        else:
            pause = self._first_retry * 2 ** (parcel.tried - 1) * self._rng.uniform(0.75, 1.25)
            parcel.due = asyncio.get_running_loop().time() + pause
            heapq.heappush(self._later, parcel)
            self._wake.set()

    def _close_parcel(self, parcel: _Parcel) -> None:
        with self._lock:
            self._open.discard(parcel.number)
        for settled in self._waiting:
            settled.set()

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> bool:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, self._secret, int(self._clock())),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as reply:
                await reply.read()
                return 200 <= reply.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
