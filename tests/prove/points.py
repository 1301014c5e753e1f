"""Where a worker is killed. Each function starts one and returns when it stands still at its point.

claim     before, waiting, uncommitted, unheard      (tx 2)
composing the claim is known; what to send is being read
call      held: the vendor has the request and has done nothing; applied: it has done it and not answered
answered  the vendor's answer is there, nothing of it is written down
settle    waiting, uncommitted, unheard              (tx 3)
looking   the worker after one that was killed asks the vendor what became of it
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from tests.prove.arena import Arena
from tests.prove.children import Forked
from tests.prove.proxy import Hold, Place

Point: TypeAlias = Callable[[Arena, str, random.Random], Awaitable[Forked]]
"""(arena, destination, what is left to chance) -> a process that stands still."""

DESTINATIONS = ("salesforce", "netsuite", "avalara", "s3_lake", "stripe")
VENDOR = {"s3_lake": "s3"}
CALLS = {
    "salesforce": ("PATCH", "/composite/sobjects/", 3),
    "netsuite": ("PUT", "/record/v1/", 3),
    "avalara": ("POST", "/transactions/create", 1),
    "s3_lake": ("PUT", r"\.parquet", 1),
    "stripe": ("GET", "/v", 2),
}
"""Destination -> method and path of what it sends, and how many of these the life of one customer needs at least."""
LOOKS = {
    "salesforce": ("GET", "/query"),
    "netsuite": ("GET", "/record/v1/"),
    "avalara": ("GET", "/transactions/"),
    "s3_lake": ("HEAD", r"\.parquet"),
    "stripe": ("GET", "/v"),
}
CLAIMS = "SELECT sum(claim) FROM deliveries WHERE destination = $1"
TOLD = """
SELECT count(*) FROM attempts a LEFT JOIN deliveries d ON d.id = a.delivery_id LEFT JOIN batches b ON b.id = a.batch_id
WHERE coalesce(d.destination, b.destination) = $1 AND a.outcome <> 'lost'
"""


def _claim(arena: Arena, destination: str, place: Place) -> Hold:
    """The lake claims a batch; there is one lake, so there is nothing to tell it by."""
    if destination == "s3_lake":
        return arena.proxy.hold("claim_batch", place)
    return arena.proxy.hold("claim", place, destination)


def claim(place: Place) -> Point:
    async def kept(arena: Arena, destination: str, rng: random.Random) -> Forked:
        before = await arena.count(CLAIMS, destination)
        hold = _claim(arena, destination, place)
        child = arena.start("work")
        await child.until("the claim", hold.reached.is_set)
        after = await arena.count(CLAIMS, destination)
        assert (after > before) == (place == "unheard"), "is it committed?"
        return child

    return kept


async def claim_waiting(arena: Arena, destination: str, rng: random.Random) -> Forked:
    before = await arena.count(CLAIMS, destination)
    async with arena.locked("SELECT FROM deliveries WHERE destination = $1 FOR UPDATE", destination):
        child = arena.start("work")
        await child.until("a claim that waits", arena.waits)
        await child.kill_now()
    # Now the server goes on with the statement of a client that is gone.
    assert await arena.count(CLAIMS, destination) == before
    return child


async def composing(arena: Arena, destination: str, rng: random.Random) -> Forked:
    hold = arena.proxy.hold("links_of", "before", destination)
    child = arena.start("work")
    await child.until("what is to be sent", hold.reached.is_set)
    return child


def call(kind: str) -> Point:
    async def kept(arena: Arena, destination: str, rng: random.Random) -> Forked:
        method, path, most = CALLS[destination]
        await _held(arena, destination, kind, method, path, rng.randint(1, most))
        child = arena.start("work")
        await child.until("the call", lambda: holding(arena, destination))
        return child

    return kept


async def looking(arena: Arena, destination: str, rng: random.Random) -> Forked:
    method, path = LOOKS[destination]
    await _held(arena, destination, "hold", method, path, 1)
    child = arena.start("work")
    await child.until("the look", lambda: holding(arena, destination))
    return child


async def answered(arena: Arena, destination: str, rng: random.Random) -> Forked:
    hold = arena.proxy.hold("lock_lanes", "before", destination)
    child = arena.start("work")
    await child.until("the settlement", hold.reached.is_set)
    return child


async def settle_waiting(arena: Arena, destination: str, rng: random.Random) -> Forked:
    hold = arena.proxy.hold("lock_lanes", "before", destination)
    child = arena.start("work")
    await child.until("the settlement", hold.reached.is_set)
    async with arena.locked("SELECT FROM lanes WHERE destination = $1 FOR UPDATE", destination):
        hold.go_on()
        await child.until("a settlement that waits", arena.waits)
        await child.kill_now()
    return child


def settle(place: Place) -> Point:
    async def kept(arena: Arena, destination: str, rng: random.Random) -> Forked:
        before = await arena.count(TOLD, destination)
        hold = arena.proxy.hold("lock_lanes", place, destination)
        child = arena.start("work")
        await child.until("the settlement", hold.reached.is_set)
        if place == "unheard":
            assert await arena.count(TOLD, destination) > before, "is it committed?"
        return child

    return kept


async def _held(arena: Arena, destination: str, kind: str, method: str, path: str, nth: int) -> None:
    wanted = {"method": method, "path_regex": path, "nth": nth}
    vendor = VENDOR.get(destination, destination)
    asked = {"vendor": vendor, "match": wanted, "action": {"kind": kind}, "times": 1}
    arena.town.http.post("/__sandbox/faults", json=asked).raise_for_status()


def holding(arena: Arena, destination: str) -> bool:
    vendor = VENDOR.get(destination, destination)
    answer = arena.town.http.get("/__sandbox/requests", params={"vendor": vendor, "limit": 100}).json()
    return any(request["held"] for request in answer["requests"])


POINTS: Mapping[str, tuple[Point, ...]] = {
    "claim not begun": (claim("before"),),
    "claim waiting for a lock": (claim_waiting,),
    "claim not committed": (claim("uncommitted"),),
    "claim committed, not heard": (claim("unheard"),),
    "composing": (composing,),
    "call not yet applied": (call("hold"),),
    "call applied, not answered": (call("hold_reply"),),
    "call answered, not noted": (answered,),
    "settle waiting for a lock": (settle_waiting,),
    "settle not committed": (settle("uncommitted"),),
    "settle committed, not heard": (settle("unheard"),),
    "three times the same": (call("hold_reply"), looking, answered),
}
"""What is done one after the other to the same deliveries."""


def points_of(destination: str) -> list[str]:
    """Only what is mapped is composed."""
    return [name for name in POINTS if name != "composing" or destination not in ("s3_lake", "stripe")]
