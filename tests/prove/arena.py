"""A hub that is killed: its vendors, its database behind a proxy, its processes, and what was done to them."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson

from hub.commands.common import free_port
from tests.flow import stack
from tests.flow.stack import Vendors, picture
from tests.flow.test_processes import sent
from tests.prove.children import PATIENCE, Forked, Mother, mother
from tests.prove.effects import Effects
from tests.prove.lives import Lives
from tests.prove.proxy import Proxy, proxied

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
OVER = ("done", "superseded")
FOUND = """
SELECT count(*) FROM attempts WHERE outcome = 'receipt' AND (reason LIKE 'found%' OR reason LIKE '%already%')
"""
LAPSE = (
    "UPDATE lanes SET lease_until = now(), due_at = now() WHERE lease_until IS NOT NULL",
    "UPDATE deliveries SET lease_until = now() WHERE state = 'claimed'",
)
"""The one worker is dead: let the minutes of its leases be over."""


@dataclass
class Figure:
    """What happened at one point."""

    what: str
    kills: int = 0
    claims_lost: int = 0
    """Deliveries that the killed processes left claimed."""
    seconds: float = 0.0


@dataclass
class Arena:
    """See the module."""

    town: Vendors
    lives: Lives
    effects: Effects
    proxy: Proxy
    db: asyncpg.Connection[Any]
    dsn: str
    mother: Mother
    env: dict[str, str]
    http: httpx.AsyncClient
    figures: dict[str, Figure] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def start(self, command: str, **changes: str) -> Forked:
        """`hub <command>`, its database behind the proxy."""
        return self.mother.start(command, env=self.env | {"HUB_DATABASE_URL": self.proxy.dsn} | changes)

    async def deliver(self, events: Iterable[dict[str, Any]]) -> None:
        """Each must be taken."""
        for event in events:
            assert await sent(self.http, event) == 200, event["id"]

    async def killed(self, child: Forked, what: str, began: float) -> None:
        """Kill it where it stands; nothing it said and the proxy still has is passed on; its leases end."""
        await child.kill()
        await self.proxy.cut()
        self.town.http.delete("/__sandbox/faults").raise_for_status()
        figure = self.figures.setdefault(what, Figure(what))
        figure.kills += 1
        figure.claims_lost += await self.count("SELECT count(*) FROM deliveries WHERE state = 'claimed'")
        figure.seconds += time.monotonic() - began
        await self.lapse()

    async def lapse(self) -> None:
        """Its leases end. What PostgreSQL still does for the dead may have locked the same rows in another order."""
        for text in LAPSE:
            for again in (True, True, False):
                try:
                    await self.db.execute(text)
                    break
                except asyncpg.DeadlockDetectedError:
                    if not again:
                        raise

    @contextlib.asynccontextmanager
    async def locked(self, text: str, *args: Any) -> AsyncIterator[None]:
        """While the block runs another transaction holds what this statement locks."""
        other: asyncpg.Connection[Any] = await asyncpg.connect(self.dsn)
        try:
            async with other.transaction():
                await other.execute(text, *args)
                yield
        finally:
            await other.close()

    async def waits(self) -> bool:
        """Whether a statement of somebody waits for a lock."""
        return await self.count(WAITS) > 0

    async def count(self, text: str, *args: Any) -> int:
        return int(await self.db.fetchval(text, *args) or 0)

    async def drained(self) -> None:
        """A worker that nobody kills, until all is over, then stopped as people stop it: nothing is left claimed."""
        child = self.start("work", HUB_LOG_LEVEL="info")

        async def all_over() -> bool:
            return not await self.count("SELECT count(*) FROM deliveries WHERE state <> ALL ($1)", OVER)

        try:
            await child.until("the end of all deliveries", all_over)
        except AssertionError as error:
            rows = await self.db.fetch(
                "SELECT id, destination, state, due_at, cause FROM deliveries WHERE state <> ALL ($1) LIMIT 5", OVER
            )
            raise AssertionError([dict(row) for row in rows]) from error
        await child.until("its start", lambda: "working" in child.log.read_text())  # it may have had nothing to do
        assert await child.end() == 0, child.told()

    async def all_once(self) -> None:
        """Nothing lost, nothing twice."""
        stored = await self.db.fetch("SELECT id FROM events WHERE kind <> 'read'")
        assert Counter(row["id"] for row in stored) == Counter(self.lives.events)
        self.lives.all_there(picture(self.town))
        self.lives.once(self.effects)

    async def report(self, title: str) -> int:
        """Print what was done and add it to the file that HUB_PROVE_REPORT names; how many were killed."""
        rows = await self.db.fetch("SELECT outcome, count(*)::int AS n FROM attempts GROUP BY 1 ORDER BY 1")
        found = await self.count(FOUND)
        kills = sum(figure.kills for figure in self.figures.values())
        told = {
            "title": title,
            "kills": kills,
            "events": len(self.lives.events),
            "deliveries": await self.count("SELECT count(*) FROM deliveries"),
            "attempts": {row["outcome"]: row["n"] for row in rows},
            "found_at_the_vendor": found,
            "seconds": round(time.monotonic() - self.began, 1),
        }
        tell(told, list(self.figures.values()))
        return kills


def tell(told: dict[str, Any], figures: Sequence[Figure] = ()) -> None:
    """One result: a table for a reader, a line of JSON for a report."""
    lines = [f"\n{told['title']}: " + ", ".join(f"{k} {v}" for k, v in told.items() if k != "title")]
    for one in figures:
        lines.append(f"  {one.what:<34}{one.kills:>4} kills {one.claims_lost:>5} claims lost {one.seconds:>7.1f} s")
    print("\n".join(lines))  # noqa: T201 - the figures of the reliability report
    if name := os.environ.get("HUB_PROVE_REPORT"):
        with Path(name).open("ab") as file:
            file.write(orjson.dumps({**told, "points": [asdict(one) for one in figures]}) + b"\n")


@contextlib.asynccontextmanager
async def arena(dsn: str, folder: Path, *, web: bool = True) -> AsyncIterator[Arena]:
    """`web`: a `hub serve` that is not killed takes the events."""
    effects = Effects()
    port = str(free_port())
    limits = httpx.Limits(max_keepalive_connections=0)  # one that was kept must not answer for a killed server
    with stack.vendors(effects.watch) as town, mother(folder) as parent:
        env = stack.settings(
            town.url, dsn, HUB_PORT=port, HUB_LOG_LEVEL="warning", HUB_LAKE_LINGER="0", HUB_COALESCE_SECONDS="0",
            HUB_UNKNOWN_WAIT_SECONDS="0.2", HUB_POLL_SECONDS="0.2", HUB_SWEEP_MINUTES="0",
            HUB_RECONCILE_HOURS="0",
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        async with (
            proxied(dsn) as proxy,
            httpx.AsyncClient(base_url=address, timeout=20, verify=False, limits=limits) as http,
        ):
            db: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
            here = Arena(town, Lives(town), effects, proxy, db, dsn, parent, env, http)
            try:
                if web:
                    child = parent.start("serve", env=env)
                    await child.until("readiness", lambda: ready(http))
                yield here
            finally:
                await db.close()


async def ready(http: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/readyz")).status_code == 200
    return False


__all__ = ["PATIENCE", "Arena", "Figure", "arena", "ready", "tell"]
