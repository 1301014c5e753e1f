"""Where a web process is killed. Each function sends, and returns when the process stands still at its point.

They return whether the first event is stored then, or None if that is left to chance.

    body      half of the body is there
    before    the statement that stores it has not reached the server (tx 1)
    waiting   the server is at it, and commits after the client's death
    unheard   it is stored; neither the process nor the sender knows
    burst     many requests at once: one group is stored and not answered; another may be, and what is answered is kept
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx
import orjson

from connectors.stripe.sandbox_env import WEBHOOK_SECRET
from connectors.stripe.simulator.webhooks import signature
from tests.prove.arena import Arena, ready
from tests.prove.children import Forked

Event: TypeAlias = dict[str, Any]
Request: TypeAlias = Callable[[Arena, Forked, Sequence[Event]], Awaitable[bool | None]]


async def serving(arena: Arena) -> Forked:
    """A `hub serve` behind the proxy, ready."""
    child = arena.start("serve")
    await child.until("readiness", lambda: ready(arena.http))
    return child


async def posted(arena: Arena, event: Event) -> Any:
    """What is answered with a 200."""
    body = orjson.dumps(event)
    answer = await arena.http.post("/webhooks/stripe", content=body, headers=_signed(body))
    assert answer.status_code == 200, answer.text
    return answer.json()


def _signed(body: bytes) -> dict[str, str]:
    return {"stripe-signature": signature(body, WEBHOOK_SECRET, int(time.time()))}


async def _answered(arena: Arena, event: Event) -> bool:
    try:
        await posted(arena, event)
    except httpx.TransportError:
        return False
    return True


class Unanswered:
    """Requests under way that must end with the process, and not with an answer."""

    def __init__(self, arena: Arena, events: Sequence[Event]) -> None:
        self._events = events
        self._tasks = [asyncio.create_task(_answered(arena, event)) for event in events]

    async def die(self, child: Forked) -> None:
        assert not await self.die_with(child), "it was answered, and nobody was to hear that it is stored"

    async def die_with(self, child: Forked) -> set[str]:
        """The ids of those that were answered before."""
        await child.kill_now()
        answers = await asyncio.gather(*self._tasks)
        return {event["id"] for event, answered in zip(self._events, answers, strict=True) if answered}


async def body(arena: Arena, child: Forked, events: Sequence[Event]) -> bool | None:
    where = urlsplit(str(arena.http.base_url))
    content = orjson.dumps(events[0])
    head = {"host": where.netloc, "content-length": str(len(content)), **_signed(content)}
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    lines = "\r\n".join(["POST /webhooks/stripe HTTP/1.1", *(f"{k}: {v}" for k, v in head.items()), "", ""])
    writer.write(lines.encode() + content[: len(content) // 2])
    await writer.drain()
    await child.until("another answer", lambda: ready(arena.http))
    await child.kill_now()
    writer.close()
    return False


async def before(arena: Arena, child: Forked, events: Sequence[Event]) -> bool | None:
    hold = arena.proxy.hold("accept", "before")
    requests = Unanswered(arena, events[:1])
    await child.until("the statement", hold.reached.is_set)
    await requests.die(child)
    return False


async def waiting(arena: Arena, child: Forked, events: Sequence[Event]) -> bool | None:
    hold = arena.proxy.hold("accept", "before")
    requests = Unanswered(arena, events[:1])
    await child.until("the statement", hold.reached.is_set)
    async with arena.locked("LOCK TABLE events IN SHARE MODE"):
        hold.go_on()
        await child.until("a statement that waits", arena.waits)
        await requests.die(child)
        assert not await arena.count("SELECT count(*) FROM events WHERE id = $1", events[0]["id"])
    while not await arena.count("SELECT count(*) FROM events WHERE id = $1", events[0]["id"]):  # noqa: ASYNC110 - a row
        await asyncio.sleep(0.01)
    return True


async def unheard(arena: Arena, child: Forked, events: Sequence[Event]) -> bool | None:
    hold = arena.proxy.hold("accept", "unheard")
    requests = Unanswered(arena, events[:1])
    await child.until("the commit", hold.reached.is_set)
    await requests.die(child)
    return True


async def burst(arena: Arena, child: Forked, events: Sequence[Event]) -> bool | None:
    hold = arena.proxy.hold("accept", "unheard")
    requests = Unanswered(arena, events)
    await child.until("the commit", hold.reached.is_set)
    answered = await requests.die_with(child)
    assert len(answered) < len(events), "the group that nobody heard of was answered"
    for id_ in answered:
        assert await arena.count("SELECT count(*) FROM events WHERE id = $1", id_), "it was answered 2xx"
    return None


REQUESTS: Mapping[str, Request] = {
    "half of a body": body,
    "accept not begun": before,
    "accept waiting for a lock": waiting,
    "accept committed, not heard": unheard,
    "many at once": burst,
}
