"""`kill -9` of the worker and the web process at every commit point and between each vendor's call and its note.

Every process is held at a named point from outside (`proxy`, locks, the sandbox's holds), killed there and replaced.
Then all must be as if nothing had happened: every event kept, every record there once, every effect counted.
`HUB_PROVE_SEED` chooses another order; `HUB_PROVE_SEEDS` how often each point is gone through.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.prove.arena import arena
from tests.prove.points import DESTINATIONS, POINTS, points_of
from tests.prove.webpoints import REQUESTS, posted, serving

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

SEED = int(os.environ.get("HUB_PROVE_SEED", "20"))
SEEDS = int(os.environ.get("HUB_PROVE_SEEDS", "3"))


@pytest.mark.parametrize("destination", DESTINATIONS)
async def test_a_worker_killed_at_any_point_of_a_delivery_loses_nothing_and_does_nothing_twice(
    dsn: str, tmp_path: Path, destination: str
) -> None:
    rng = random.Random(f"{SEED} {destination}")
    async with arena(dsn, tmp_path) as here:
        for _ in range(SEEDS):
            names = points_of(destination)
            rng.shuffle(names)
            for name in names:
                await here.deliver(here.lives.one(thin=destination == "stripe"))
                for point in POINTS[name]:
                    began = time.monotonic()
                    child = await point(here, destination, rng)
                    await here.killed(child, name, began)
            await here.drained()
            await here.all_once()
        kills = await here.report(f"worker killed, {destination}")
    assert kills == SEEDS * sum(len(POINTS[name]) for name in points_of(destination))


@pytest.mark.parametrize("again", range(2))
async def test_a_web_process_killed_at_any_point_of_a_request_keeps_what_it_answered_and_each_event_once(
    dsn: str, tmp_path: Path, again: int
) -> None:
    rng = random.Random(f"{SEED} web {again}")
    async with arena(dsn, tmp_path, web=False) as here:
        for _ in range(SEEDS):
            names = list(REQUESTS)
            rng.shuffle(names)
            for name in names:
                began = time.monotonic()
                child = await serving(here)
                first, *rest = here.lives.one()
                await here.deliver([first])
                kept = await REQUESTS[name](here, child, rest)
                await here.killed(child, name, began)
                stored = {row["id"] for row in await here.db.fetch("SELECT id FROM events")}
                assert first["id"] in stored, "it was answered 2xx"
                assert kept is None or (rest[0]["id"] in stored) == kept
                child = await serving(here)
                for event in rest:  # as Stripe does: what was not answered is sent again
                    assert await posted(here, event) == {"received": True, "repeat": event["id"] in stored}
                assert await child.end() == 0, child.told()
        await here.drained()
        await here.all_once()
        kills = await here.report("web process killed")
    assert kills == SEEDS * len(REQUESTS)


async def test_a_worker_that_was_only_slow_changes_nothing_once_another_has_its_claim(dsn: str, tmp_path: Path) -> None:
    """The first has its answer and is held up until its lease is over; the second is at it when the first goes on."""
    mine = "SELECT id, state, claim, failures FROM deliveries WHERE destination = 'netsuite' ORDER BY id"
    async with arena(dsn, tmp_path) as here:
        await here.deliver(here.lives.one())
        slow, quick = (here.proxy.hold("lock_lanes", "before", "netsuite") for _ in range(2))
        first = here.start("work")
        await first.until("its settlement", slow.reached.is_set)
        await here.lapse()
        second = here.start("work")
        await second.until("the other's settlement", quick.reached.is_set)
        before = await here.db.fetch(mine)
        assert "claimed" in {row["state"] for row in before}
        slow.go_on()
        await first.until("that it is late", lambda: "late_settlement" in first.told())
        assert await here.db.fetch(mine) == before
        quick.go_on()
        await here.drained()
        await here.all_once()
        assert [await first.end(), await second.end()] == [0, 0]
