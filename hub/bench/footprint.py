"""How much memory a working hub takes while many deliveries wait: `hub up` beside a busy sandbox.

A backlog is filled in first, put off until tomorrow as after a vendor's outage; then made-up business flows through all
destinations, so that every vendor's library is loaded and in use. What is reported is the highest sum seen.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from hub import envelope, store
from hub.bench import events
from hub.bench.ground import BenchError, Ground, Say, child, end_of, fetch, ground, ready, silent
from hub.bench.intake import DESTINATIONS
from hub.bench.usage import Memory, family, memory_of, postmaster
from hub.commands import common
from hub.db import Database
from hub.model import Disposition
from hub.routing import LOG_LANE
from hub.store import Accepted, Route

GROUP = 1000
CUSTOMERS = 5000
BUSINESS = 5.0
"""Steps of made-up business a second."""
FIRST_DELIVERIES_SECONDS = 90.0


async def memory(waiting: int = 100_000, seconds: float = 10.0, *, say: Say = silent) -> dict[str, Any]:
    """Watch for `seconds` while `waiting` deliveries wait and others are delivered to all destinations.

    Raises `BenchError` if some destination delivers nothing, or if the backlog did not stay.
    """
    async with ground(say) as place:
        say(f"filling in {waiting} deliveries ...")
        await _fill(place, waiting)
        sandbox, hub = common.free_port(), common.free_port()
        env = _environment(place, f"http://127.0.0.1:{sandbox}", hub)
        webhooks = f"http://127.0.0.1:{hub}/webhooks/stripe"
        arguments = ("--port", str(sandbox), "--webhook-url", webhooks, "--business", str(BUSINESS))
        async with child("sandbox", "hub.cli", "sandbox", *arguments, env=env, folder=place.folder) as vendors:
            await ready(f"http://127.0.0.1:{sandbox}/__sandbox/", vendors, place.folder / "sandbox.log")
            async with child("up", "hub.cli", "up", env=env, folder=place.folder) as process:
                await ready(f"http://127.0.0.1:{hub}/readyz", process, place.folder / "up.log")
                say("waiting until every destination has delivered something ...")
                await _delivered_everywhere(place)
                say("watching ...")
                ours = psutil.Process(process.pid)
                postgres = postmaster(place.folder / "postgres")
                seen, database = await _watch(ours, postgres, seconds)
                kept = await _waiting(place)
        if kept < waiting:
            raise BenchError(f"{waiting} deliveries were to wait, but only {kept} do")
        top = max(seen, key=lambda m: m.rss)
        return {
            "memory": {
                "rss_mb": round(top.rss, 1),
                "waiting": kept,
                "uss_mb": round(max(m.uss for m in seen), 1),
                "pss_mb": round(max(m.pss for m in seen), 1),
                "postgres_rss_mb": round(max(m.pss or m.uss for m in database), 1),
            }
        }


def _environment(place: Ground, sandbox_url: str, port: int) -> dict[str, str]:
    return {
        "HUB_DATABASE_URL": place.dsn,
        "HUB_DATA_DIR": str(place.folder / "data"),
        "HUB_SANDBOX_URL": sandbox_url,
        "HUB_PORT": str(port),
        "HUB_API_TOKEN": secrets.token_hex(16),
        "HUB_DESTINATIONS": ",".join(DESTINATIONS),
        "HUB_LAKE_LINGER": "2",
    }


async def _fill(place: Ground, waiting: int) -> None:
    """Events with a delivery for every destination, `waiting` deliveries in all or a few more, due tomorrow."""
    maker = events.Maker("wait", customers=CUSTOMERS)
    now = datetime.now(UTC)
    tomorrow = now + timedelta(days=1)
    total = -(-waiting // len(DESTINATIONS))
    db = await Database.connect(place.dsn, size=1)
    try:
        for start in range(0, total, GROUP):
            numbers = range(start, min(start + GROUP, total))
            await db.run(store.accept, [_put_off(maker.event(n), now, tomorrow) for n in numbers], now)
    finally:
        await db.close()


def _put_off(body: bytes, now: datetime, due_at: datetime) -> Accepted:
    event = envelope.read(body, now)
    assert event.customer_id is not None
    lanes = dict.fromkeys(DESTINATIONS, event.customer_id) | {"s3_lake": LOG_LANE}
    return Accepted(event, Disposition.ROUTED, None, tuple(Route(d, lane, due_at) for d, lane in lanes.items()))


async def _delivered_everywhere(place: Ground) -> None:
    deadline = time.monotonic() + FIRST_DELIVERIES_SECONDS
    text = "SELECT DISTINCT destination FROM deliveries WHERE state = 'done'"
    while missing := set(DESTINATIONS) - {r["destination"] for r in await fetch(place.dsn, text)}:
        if time.monotonic() > deadline:
            raise BenchError(
                f"nothing was delivered to {', '.join(sorted(missing))} within {FIRST_DELIVERIES_SECONDS:g} s: "
                f"{end_of(place.folder / 'up.log')} {end_of(place.folder / 'data' / 'worker.log')}"
            )
        await asyncio.sleep(0.5)


async def _watch(
    ours: psutil.Process, postgres: psutil.Process, seconds: float
) -> tuple[Sequence[Memory], Sequence[Memory]]:
    seen: list[Memory] = []
    database: list[Memory] = []
    deadline = time.monotonic() + seconds
    while not seen or time.monotonic() < deadline:
        seen.append(await asyncio.to_thread(lambda: memory_of(family(ours))))
        database.append(await asyncio.to_thread(lambda: memory_of(family(postgres))))
        await asyncio.sleep(0.25)
    return seen, database


async def _waiting(place: Ground) -> int:
    text = "SELECT count(*) AS n FROM deliveries WHERE state = 'waiting' AND due_at > now() + interval '1 hour'"
    return int((await fetch(place.dsn, text))[0]["n"])
