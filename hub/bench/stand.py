"""A real hub beside busy vendors: `hub serve`, `hub work` and `hub sandbox`, each a process of its own, and how long
its deliveries took.

The sandbox makes up business at a steady rate: customers who sign up, pay or do not, change and leave.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from hub.bench.ground import BenchError, Ground, child, end_of, fetch, percentile, ready
from hub.bench.intake import DESTINATIONS
from hub.commands import common

LINGER = 2.0
"""Seconds for which the lake's batches collect here (the default, a minute, is longer than a short benchmark)."""
POINTS = 101
"""Points of a drawn distribution: its percentiles from 0 to 100."""

OPEN = ("waiting", "claimed", "unknown", "held")

CONFIRMED = """
WITH RECURSIVE way AS (
    SELECT d.destination, e.received_at, d.state, d.settled_at, d.superseded_by, d.code, d.cause
    FROM events e JOIN deliveries d ON d.event_seq = e.seq
    WHERE e.received_at >= $1 AND e.received_at < $2
    UNION ALL
    SELECT w.destination, w.received_at, d.state, d.settled_at, d.superseded_by, d.code, d.cause
    FROM way w JOIN deliveries d ON d.id = w.superseded_by
)
SELECT destination, state, code, cause, extract(epoch FROM settled_at - received_at)::float8 * 1000 AS ms
FROM way WHERE superseded_by IS NULL
"""
"""A superseded delivery is confirmed when the one that carries its object is: the chain is followed to its end."""


@dataclass(frozen=True, slots=True)
class Stand:
    """The running hub, and where the sandbox's side door is."""

    place: Ground
    sandbox_url: str


@asynccontextmanager
async def standing(
    place: Ground, *, business: float, env: Mapping[str, str], sandbox_port: int
) -> AsyncIterator[Stand]:
    """Run a hub with `business` made-up events a second until the block ends. `env`: settings over the usual ones.

    Yields when every destination has delivered something: all libraries are loaded, all logins made. Raises
    `BenchError` if one of the processes ends by itself.
    """
    port = common.free_port()
    url = f"http://127.0.0.1:{sandbox_port}"
    settings = {
        "HUB_DATABASE_URL": place.dsn,
        "HUB_SANDBOX_URL": url,
        "HUB_PORT": str(port),
        "HUB_API_TOKEN": secrets.token_hex(16),
        "HUB_DESTINATIONS": ",".join(DESTINATIONS),
        "HUB_LAKE_LINGER": f"{LINGER:g}",
        "HUB_LOG_LEVEL": "warning",
        "HUB_RECONCILE_HOURS": "0",  # reads that nobody counts on here
        **env,
    }
    webhooks = f"http://127.0.0.1:{port}/webhooks/stripe"
    arguments = ("--port", str(sandbox_port), "--webhook-url", webhooks, "--business", f"{business:g}")
    async with AsyncExitStack() as stack:
        serve = await stack.enter_async_context(child("serve", "hub.cli", "serve", env=settings, folder=place.folder))
        await ready(f"http://127.0.0.1:{port}/readyz", serve, place.folder / "serve.log")
        # Only now: a webhook that nobody answers would be given up after a few tries.
        vendors = await stack.enter_async_context(
            child("sandbox", "hub.cli", "sandbox", *arguments, env=settings, folder=place.folder)
        )
        await stack.enter_async_context(child("work", "hub.cli", "work", env=settings, folder=place.folder))
        await ready(f"{url}/__sandbox/", vendors, place.folder / "sandbox.log")
        await _delivered_everywhere(place)
        yield Stand(place, url)


async def _delivered_everywhere(place: Ground, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    text = "SELECT DISTINCT destination FROM deliveries WHERE state = 'done'"
    while missing := set(DESTINATIONS) - {r["destination"] for r in await fetch(place.dsn, text)}:
        if time.monotonic() > deadline:
            raise BenchError(
                f"nothing was delivered to {', '.join(sorted(missing))} within {seconds:g} s: "
                f"{end_of(place.folder / 'serve.log')} {end_of(place.folder / 'work.log')}"
            )
        await asyncio.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, by the clock that the hub stamps `received_at` with."""

    since: datetime
    until: datetime


async def window(seconds: float) -> Window:
    """Let `seconds` go by."""
    since = datetime.now(UTC)
    await asyncio.sleep(seconds)
    return Window(since, datetime.now(UTC))


async def confirmed(
    place: Ground, over: Window, destinations: Collection[str] = DESTINATIONS, *, limit: float = 120.0
) -> dict[str, list[float]]:
    """Destination -> milliseconds from receipt to confirmation of every event received in the window; waits for the
    last one. Raises `BenchError` for a dead letter, for a destination without any, and after `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        found: dict[str, list[float]] = {name: [] for name in destinations}
        still = 0
        for row in await fetch(place.dsn, CONFIRMED, over.since, over.until):
            if row["destination"] not in found:
                continue
            if row["state"] in OPEN:
                still += 1
            elif row["state"] != "done":
                raise BenchError(
                    f"a delivery to {row['destination']} is {row['state']}, so it has no latency: "
                    f"{row['code']}: {row['cause']}"
                )
            else:
                found[row["destination"]].append(row["ms"])
        if not still:
            break
        if time.monotonic() > deadline:
            raise BenchError(f"{still} deliveries are still open {limit:g} s after the window")
        await asyncio.sleep(0.25)
    if empty := sorted(name for name, taken in found.items() if not taken):
        raise BenchError(f"nothing was received for {', '.join(empty)} while the clock ran; a longer run is needed")
    return found


def quantiles(taken: list[float]) -> dict[str, float]:
    """What the table shows of a distribution in milliseconds."""
    return {f"p{p}_ms": round(percentile(taken, p / 100), 1) for p in (50, 99)}


def curve(taken: list[float]) -> list[float]:
    """Percentiles 0 to 100: enough to draw a distribution, however many samples there were."""
    ordered = sorted(taken)
    return [round(percentile(ordered, p / (POINTS - 1)), 2) for p in range(POINTS)]
