"""Events on their way, as Stripe sends them: again until there is a 2xx, now and then once more after it, disordered by
being many at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from connectors.stripe.sandbox_env import WEBHOOK_SECRET
from connectors.stripe.simulator.webhooks import signature

SENDERS = 6
MANY = 200
"""Events that wait to be sent, at most, while nobody takes them."""


@dataclass
class Stream:
    """What was sent, and what came of it."""

    urls: Sequence[str]
    """Of the web processes: each request goes to one of them."""
    rng: random.Random
    breaks: bool = False
    """Whether a connection may break: the web process is killed, or restarted."""
    acked: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    """0: the connection broke, or was refused."""
    queue: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def told(self, lives: Sequence[Sequence[dict[str, Any]]], *, pause: float = 0.0) -> None:
        """All of these, and wait until each is answered 2xx."""
        for life in lives:
            for event in life:
                self.queue.put_nowait(event)
            await asyncio.sleep(pause)
        await self.queue.join()

    async def told_until(
        self, over: asyncio.Event, more: Callable[[], list[dict[str, Any]]], *, pause: float = 0.3
    ) -> None:
        """One life after the other, so that there is work until it is over; all of it is answered 2xx then."""
        while not over.is_set():
            if self.queue.qsize() < MANY:
                for event in more():
                    self.queue.put_nowait(event)
            await asyncio.sleep(pause)
        await self.queue.join()

    async def _send(self, http: httpx.AsyncClient) -> None:
        while True:
            event = await self.queue.get()
            while True:
                status = await self._post(http, event)
                self.statuses[status] += 1
                if status == 200:
                    self.acked.add(event["id"])
                    if self.rng.random() >= 0.1:
                        break
                else:
                    await asyncio.sleep(0.1)
            self.queue.task_done()

    async def _post(self, http: httpx.AsyncClient, event: dict[str, Any]) -> int:
        body = orjson.dumps(event)
        header = {"stripe-signature": signature(body, WEBHOOK_SECRET, int(time.time()))}
        try:
            answer = await http.post(f"{self.rng.choice(self.urls)}/webhooks/stripe", content=body, headers=header)
        except httpx.TransportError:
            assert self.breaks, "nobody had ended the web process"
            return 0
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
        else:
            assert answer.status_code == 200, answer.text
        return answer.status_code


@contextlib.asynccontextmanager
async def streaming(stream: Stream) -> AsyncIterator[asyncio.TaskGroup]:
    """Send while the block runs; what goes wrong with a sender ends it. The group is for what else goes on."""
    # A killed web server must not be answered for by a connection that was kept.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=30, verify=False, limits=limits) as http, asyncio.TaskGroup() as group:
        senders = [group.create_task(stream._send(http)) for _ in range(SENDERS)]
        yield group
        for sender in senders:
            sender.cancel()
