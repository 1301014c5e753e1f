"""A delivery whose carrying out ends its worker by `kill -9`, every time somebody tries.

The worker stands still where it carries out that delivery, at a vendor's call or composing it, and is killed there;
then all leases end, so that the next worker finds everything that was lost at once: the poison with all its neighbours.
Vendors are slow, so that whatever is begun beside the poison is lost along with it. The three days of its time budget
pass in the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.flow.stack import TOKEN
from tests.prove.arena import OVER, Arena, arena
from tests.prove.points import holding

pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]

DESTINATIONS = ("salesforce", "netsuite", "avalara", "stripe")
MINE = """
SELECT id, lane, state, code, cause, fix, failures, held_by FROM deliveries
WHERE destination = $1 AND object_id = $2 ORDER BY id
"""
BESIDE = "SELECT count(*) FROM deliveries WHERE state <> ALL ($1) AND (destination, lane) IS DISTINCT FROM ($2, $3)"
OTHERS = """
SELECT count(*) FROM deliveries WHERE state <> ALL ($1) AND (destination <> $2 OR NOT object_id = ANY ($3::text[]))
"""
NEEDS_IT = "SELECT state, held_by FROM deliveries WHERE destination = 'netsuite' AND object_id = $1"
UNDER_WAY = "SELECT count(*) FROM deliveries WHERE state IN ('waiting', 'claimed', 'unknown')"
MOST_LOST = "SELECT max(failures) FROM deliveries WHERE destination = $1 AND object_id <> $2"
DAYS = "UPDATE deliveries SET first_failure_at = first_failure_at - interval '3 days' WHERE state = 'claimed'"
TRIED = "SELECT outcome FROM attempts WHERE delivery_id = $1"


@dataclass
class Poison:
    """What kills at one destination."""

    here: Arena
    destination: str
    object_id: str = ""
    name: str = ""
    """In a vendor's path."""

    def laid(self) -> Callable[[], bool]:
        """The next worker that carries it out stands still; whether one does. Others' calls take their time."""
        town, there = self.here.town, self.destination
        if there in ("netsuite", "stripe"):
            for method in ("GET", "PUT"):
                town.fault(there, "hold", rf"{method} {self.name}($|/)", times=None)
        town.fault(there, "latency", times=None, delay_ms=150)
        if there in ("netsuite", "stripe"):
            return lambda: holding(self.here, there)
        return self.here.proxy.hold("links_of", "before", there, self.object_id).reached.is_set

    async def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.here.db.fetch(MINE, self.destination, self.object_id)]


@pytest.mark.parametrize("destination", DESTINATIONS)
async def test_a_delivery_that_kills_its_worker_every_time_ends_as_a_dead_letter_and_takes_nobody_along(
    dsn: str, tmp_path: Path, destination: str
) -> None:
    thin = destination == "stripe"
    async with arena(dsn, tmp_path) as here:
        here.env["HUB_NETSUITE_CONCURRENCY"] = "5"  # all at once
        poison = Poison(here, destination)
        for n in range(4):
            told = here.lives.one(thin=thin)
            if n == 0:  # its customer has another invoice
                poison.object_id = here.lives.paid[0]
                notices = [event["id"] for event in told if event["object"] == "v2.core.event"]
                poison.name = f"/v2/core/events/{notices[0]}" if thin else f"/invoice/eid:stripe_{poison.object_id}"
            await here.deliver(told)

        for _ in range(3):
            began = time.monotonic()
            stands = poison.laid()
            child = here.start("work")
            await child.until("the poison", stands)
            await here.killed(child, destination, began)

        # It will kill again; as long as it is claimed another worker does what was lost with it, and what is new.
        began = time.monotonic()
        await here.deliver(here.lives.one(thin=thin))
        stands = poison.laid()
        first = here.start("work")
        await first.until("the poison", stands)
        lane = (await poison.rows())[0]["lane"]

        async def others_are_over() -> bool:
            return not await here.count(BESIDE, OVER, destination, lane)

        second = here.start("work", HUB_LOG_LEVEL="info")
        await second.until("the others", others_are_over)
        await second.until("its start", lambda: "working" in second.log.read_text())
        assert (await poison.rows())[0]["state"] == "claimed"
        assert await second.end() == 0, second.told()
        # Lost with everybody, and once more before it was clear that somebody kills: then each was tried alone.
        assert await here.count(MOST_LOST, destination, poison.object_id) <= 2
        await here.killed(first, destination, began)

        async def all_is_over() -> bool:
            return not await here.count(UNDER_WAY)

        for _ in range(10):  # for the CRM every event of the object is a delivery that kills, one after the other
            began = time.monotonic()
            await here.db.execute(DAYS)
            stands = poison.laid()
            child = here.start("work", HUB_LOG_LEVEL="info")

            async def ends_or_kills(stands: Callable[[], bool] = stands) -> bool:
                return stands() or await all_is_over()

            await child.until("its end", ends_or_kills)
            if not stands():
                break
            await here.killed(child, destination, began)
        else:
            pytest.fail(f"it never uses its budget up: {await poison.rows()}")
        await child.until("its start", lambda: "working" in child.log.read_text())
        assert await child.end() == 0, child.told()
        here.town.http.delete("/__sandbox/faults").raise_for_status()
        here.proxy.holds.clear()

        payment = here.lives.payments[0]  # of the poison: the books cannot have it without its invoice
        own = [poison.object_id, payment] if destination == "netsuite" else [poison.object_id]
        assert await here.count(OTHERS, OVER, destination, own) == 0, "its neighbours have arrived"
        effects = here.effects.counted(destination)
        assert [effect for effect in effects if effect.endswith(poison.object_id)] == [], "nothing came of it"
        rows = await poison.rows()
        dead = [row for row in rows if row["state"] == "dead"]
        kills = here.figures[destination].kills
        assert rows[0] in dead
        # The first kill met them all, each other one of them; together claimed are only the CRM's.
        assert sum(row["failures"] for row in dead) == kills + len(dead) - 1
        for row in dead:
            words = f"{row['failures']} workers in a row ended or hung while they carried it out"
            assert (row["code"], row["cause"]) == ("workers_lost", words)
            assert {tried["outcome"] for tried in await here.db.fetch(TRIED, row["id"])} == {"lost"}
        assert len(dead) == (len(rows) if destination == "salesforce" else 1)
        assert [row["held_by"] for row in rows if row not in dead] == [rows[0]["id"]] * (len(rows) - len(dead))

        if destination == "netsuite":
            assert [tuple(r) for r in await here.db.fetch(NEEDS_IT, payment)] == [("held", rows[0]["id"])]

        # Somebody finds it, reads what to do, and does it.
        bearer = {"authorization": f"Bearer {TOKEN}"}
        letters = (await here.http.get("/api/v1/dead-letters", headers=bearer)).json()["items"]
        assert {letter["id"]: letter["fix"] for letter in letters} == {row["id"]: row["fix"] for row in dead}
        for row in dead:
            answer = await here.http.post(f"/api/v1/deliveries/{row['id']}/retry", headers=bearer)
            assert answer.status_code == 200, answer.text
        await here.drained()
        await here.all_once()
        assert await here.report(f"poison, {destination}") >= 4
