"""The load generator, a process of its own: `python -m hub.bench load '<Plan as JSON>'`.

It must cost little, for it shares the machine with what it measures: requests are made before the clock starts, answers
are read by a few `find`s, no library is in between.

closed  every connection sends its next request when the last one is answered: how much can be had
open    requests fall due at a fixed rate whatever the server does, and time is counted from when a request was due, so
        that a stall counts for all who came meanwhile ("coordinated omission")
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from hub.bench import events
from hub.bench.ground import percentile

MOST_PREPARED = 60_000
"""More than that is made while the clock runs; at 2.5 KB each they fill memory."""
STUCK_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to offer."""

    port: int
    run: str
    """Makes this run's events different from another's."""
    seconds: float
    warm: float = 2.0
    """Seconds before the clock starts."""
    connections: int = 64
    rate: float | None = None
    """Requests a second (open), or as many as can be had (closed)."""
    customers: int = 2000
    prepare: int = 10_000
    again: bool = False
    """Whether the same requests may be sent again: for a server that stores nothing."""
    slices: float = 0.0
    """Also tell the latencies of each stretch of so many seconds, for a long run; 0: only of the whole."""


class Requests:
    """An endless supply of signed requests."""

    def __init__(self, plan: Plan, secret: bytes) -> None:
        self._maker = events.Maker(plan.run, customers=plan.customers)
        self._secret, self._host, self._again = secret, f"127.0.0.1:{plan.port}", plan.again
        now = int(time.time())
        self._ready = [self._make(n, now) for n in range(min(plan.prepare, MOST_PREPARED))]
        self._next = 0

    def take(self) -> bytes:
        """The next request."""
        n = self._next
        self._next += 1
        if n < len(self._ready):
            return self._ready[n]
        return self._ready[n % len(self._ready)] if self._again else self._make(n, int(time.time()))

    def _make(self, n: int, now: int) -> bytes:
        return events.request(self._maker.event(n), self._secret, self._host, now)


class Load:
    """Sends, receives, counts."""

    def __init__(self, plan: Plan, requests: Requests) -> None:
        self._plan, self._requests = plan, requests
        self._open = plan.rate is not None
        self._all: list[_Connection] = []
        # First in, first out: each connection has its turn before a server calls it idle and closes it.
        self._idle: deque[_Connection] = deque()
        self._overdue: deque[float] = deque()
        self._flying = 0
        self._offering = True
        self._from = self._to = 0.0
        self._over = asyncio.Event()
        self.acks = 0
        self.measured = 0
        self.latencies: list[float] = []
        self.at: list[float] = []
        """When each of these was counted from, in seconds since the measuring began."""
        self.trouble: str | None = None

    async def run(self) -> None:
        """Warm up, measure, let what is under way come back. Raises `TimeoutError` if it does not."""
        loop = asyncio.get_running_loop()
        for _ in range(self._plan.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._plan.port)
            self._idle.append(connection)
            self._all.append(connection)
        gc.collect()
        gc.disable()  # a pause here would look like one of the server's
        self._from = time.perf_counter() + self._plan.warm
        self._to = self._from + self._plan.seconds
        if self._open:
            await self._offer()
        else:
            while self._idle:
                self._send(self._idle.popleft(), time.perf_counter())
        limit = self._to - time.perf_counter() + STUCK_SECONDS
        await asyncio.wait_for(self._over.wait(), limit)

    async def _offer(self) -> None:
        assert self._plan.rate is not None
        begun, step, sent = time.perf_counter(), 1 / self._plan.rate, 0
        while self.trouble is None:
            now = time.perf_counter()
            while (due := begun + sent * step) <= now and due < self._to:
                sent += 1
                if self._idle:
                    self._send(self._idle.popleft(), due)
                else:
                    self._overdue.append(due)
            if due >= self._to:
                break
            await asyncio.sleep(due - now)
        self._offering = False
        self._maybe_over()

    def _send(self, connection: _Connection, counted_from: float) -> None:
        self._flying += 1
        connection.send(self._requests.take(), counted_from)

    def answered(self, connection: _Connection, counted_from: float) -> None:
        """A 200 has come, completely."""
        now = time.perf_counter()
        self.acks += 1
        self._flying -= 1
        if self._from <= (counted_from if self._open else now) < self._to:
            self.measured += 1
            self.latencies.append(now - counted_from)
            self.at.append(counted_from - self._from)
        if self._overdue:
            self._send(connection, self._overdue.popleft())
        elif self._open:
            self._idle.append(connection)
            self._maybe_over()
        elif now < self._to and self.trouble is None:
            self._send(connection, now)
        else:
            self._offering = False
            self._maybe_over()

    def failed(self, trouble: str) -> None:
        """Anything but a 200: the run is worth nothing, its reason is."""
        if not self._over.is_set():
            self.trouble = trouble
            self._over.set()

    async def close(self) -> None:
        """Close all connections and give the process its garbage collector back."""
        gc.enable()
        self._over.set()
        for connection in self._all:
            connection.transport.close()
        await asyncio.sleep(0)

    def _maybe_over(self) -> None:
        if not self._offering and not self._flying and not self._overdue:
            self._over.set()


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.transport: Any = None
        self._rest = b""
        self._counted_from = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes, counted_from: float) -> None:
        self._counted_from = counted_from
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self._rest = data
            return
        at = data.find(b"content-length: ")
        if at < 0:
            self._load.failed(f"an answer without length: {data[:200]!r}")
            return
        if len(data) < head + 4 + int(data[at + 16 : data.find(b"\r", at)]):
            self._rest = data
            return
        self._rest = b""
        if not data.startswith(b"HTTP/1.1 200"):
            self._load.failed(f"not a 200: {data[:300]!r}")
            return
        self._load.answered(self, self._counted_from)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.failed(f"the server closed a connection ({type(exc).__name__ if exc else 'orderly'})")


async def measure(plan: Plan, secret: bytes) -> dict[str, Any]:
    """Carry out a plan. Raises nothing for the server's faults: `trouble` names the first."""
    load = Load(plan, Requests(plan, secret))
    began, cpu = time.perf_counter(), time.process_time()
    try:
        await load.run()
    except TimeoutError:
        load.failed(f"not every request was answered within {STUCK_SECONDS:g} s of the end")
    finally:
        await load.close()
    return {
        "trouble": load.trouble,
        "acks": load.acks,
        "measured": load.measured,
        "per_s": load.measured / plan.seconds,
        "elapsed_s": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "slices": sliced(load.at, load.latencies, plan.slices) if plan.slices else [],
        "latencies_us": [round(taken * 1e6) for taken in load.latencies],
    }


def sliced(at: list[float], latencies: list[float], seconds: float) -> list[list[float]]:
    """For each stretch of `seconds` in which something was measured: when it began, how many, p50 and p99 in ms."""
    found: dict[int, list[float]] = {}
    for when, taken in zip(at, latencies, strict=True):
        found.setdefault(int(max(0.0, when) // seconds), []).append(taken * 1000)
    return [
        [n * seconds, len(them), round(percentile(them, 0.5), 2), round(percentile(them, 0.99), 2)]
        for n, them in sorted(found.items())
    ]
