"""`hub demo --once`: N customers' lives through the real thing, then the question whether all systems agree.

The sandbox and Stripe's side of the story run in this process; the hub's web server and workers are the real commands,
as children, on a PostgreSQL of their own in a temporary folder. Nothing survives but the answer.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hub.commands import common
from hub.commands.processes import server
from hub.commands.tieout import TieOut, tie_out
from hub.commands.up import migrate_in_child
from hub.db import SQL, Database, Embedded

WRITES = {
    # Where a write is: a lost reply to a login or a read proves nothing about money.
    "salesforce": r"^/services/data/.*/composite/sobjects",
    "netsuite": r"^/services/rest/record/",
    "avalara": r"^/api/v2/(transactions/|companies/.+/(void|commit))",
    "s3": r"\.parquet$",
}
STORY = 300 * 86400
"""The lives begin this many seconds ago: they take about nine months, and nothing is dated in the future."""
QUIET = 600
"""Seconds after which a demo that does not settle is called stuck."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    customers: int
    seed: int
    lost_replies: float
    duplicates: float = 0.1
    disorder: float = 0.3


async def demo(options: Options, console: Console, *, quiet: bool) -> tuple[dict[str, Any], TieOut]:
    """Run it. Returns the JSON object of the command and the tie-out with every difference in words."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hub-demo-") as folder:
        embedded = await asyncio.to_thread(Embedded, Path(folder) / "postgres", scratch=True)
        try:
            progress = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, disable=quiet
            )
            with progress:
                task = progress.add_task("starting")

                def say(text: str) -> None:
                    progress.update(task, description=text)

                return await through(options, embedded.create_database(), Path(folder), started, say)
        finally:
            embedded.stop()


async def through(options: Options, dsn: str, folder: Path, started: float, say: Any) -> tuple[dict[str, Any], TieOut]:
    """All of it but the database, whose address is given. Takes every `HUB_` variable out of this process."""
    from connectors.sandbox.app import create
    from connectors.sandbox.environment import environment
    from connectors.sandbox.lake import lake_events
    from connectors.stripe.simulator.business import Business
    from connectors.stripe.simulator.webhooks import WebhookSender

    sandbox_port, hub_port = common.free_port(), common.free_port()
    sandbox_url, hub_url = f"http://127.0.0.1:{sandbox_port}", f"http://127.0.0.1:{hub_port}"
    env = _environment(dsn, sandbox_url, hub_port)
    application = create(seed=options.seed, clock=time.time, business_start=int(time.time()) - STORY)
    stripe: Any = application.simulators["stripe"]
    await migrate_in_child(dsn, env)
    async with _sandbox(application, sandbox_port), _hub(env, hub_url, folder) as alive:
        await _lose_replies(sandbox_url, options.lost_replies)
        secret = environment(sandbox_url)["HUB_STRIPE_WEBHOOK_SECRETS"]
        sender = WebhookSender(
            stripe,
            f"{hub_url}/webhooks/stripe",
            secret,
            random.Random(options.seed),  # noqa: S311 - chooses duplicates and disorder
            time.time,
            duplicates=options.duplicates,
            disorder=options.disorder,
        )
        sending = asyncio.create_task(sender.run())
        db = await Database.connect(dsn, size=2)
        try:
            business = Business(stripe, random.Random(options.seed))  # noqa: S311 - makes up customers
            for now in business.live(options.customers):
                day = datetime.fromtimestamp(now, UTC).date()
                say(f"living: it is {day} in the sandbox; {sender.events} events so far")
                alive()
                while sender.pending > 400:  # noqa: ASYNC110 - a counter of the simulator's, which knows no events
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0)
            await sender.flush()
            await _settled(db, say, alive)
            sending.cancel()
            return await _result(application, sender, db, lake_events, sandbox_url, started)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await db.close()


def _environment(dsn: str, sandbox_url: str, hub_port: int) -> dict[str, str]:
    """Settings of the hub under demonstration, from nothing: what the caller has set for another hub stays out."""
    for name in [n for n in os.environ if n.startswith("HUB_")]:
        del os.environ[name]
    return {
        "HUB_DATABASE_URL": dsn,
        "HUB_SANDBOX_URL": sandbox_url,
        "HUB_PORT": str(hub_port),
        "HUB_API_TOKEN": secrets.token_hex(24),
        "HUB_LOG_LEVEL": "warning",
        "HUB_LAKE_LINGER": "2",
        # The sandbox's vendors end with the connection: nothing is still running there when a reply is lost.
        "HUB_UNKNOWN_WAIT_SECONDS": "0.5",
        "HUB_COALESCE_SECONDS": "0.5",
    }


@asynccontextmanager
async def _sandbox(application: Any, port: int) -> AsyncIterator[None]:
    web = server(application, "127.0.0.1", port, shutdown=2)
    serving = asyncio.create_task(web.serve())
    try:
        await common.until(
            lambda: common.answers(f"http://127.0.0.1:{port}/__sandbox/"), seconds=60, what="the sandbox's first answer"
        )
        yield
    finally:
        web.should_exit = True
        await serving


@asynccontextmanager
async def _hub(env: dict[str, str], url: str, folder: Path) -> AsyncIterator[Callable[[], None]]:
    """The hub's processes. Yields a check that raises, with the end of its log, if one has ended."""
    children = [
        await common.Child.start("hub serve", "serve", env=env, log=folder / "serve.log"),
        await common.Child.start("hub work", "work", env=env, log=folder / "work.log"),
    ]

    def alive() -> None:
        for child in children:
            if child.process.returncode is not None:
                log = (folder / f"{child.name.removeprefix('hub ')}.log").read_text()
                raise RuntimeError(f"{child.name} ended with code {child.process.returncode}: {log[-2000:]}")

    try:
        await common.until(
            lambda: common.answers(f"{url}/readyz"), seconds=60, what="the hub's first answer", child=children[0]
        )
        yield alive
    finally:
        for child in reversed(children):
            await child.stop(20)


async def _lose_replies(sandbox_url: str, share: float) -> None:
    """Through the side door, like anybody."""
    async with httpx.AsyncClient(timeout=10) as client:
        for vendor, path in WRITES.items() if share else ():
            fault = {
                "vendor": vendor,
                "match": {"path_regex": path, "probability": share},
                "action": {"kind": "lost_reply"},
                "times": None,
            }
            (await client.post(f"{sandbox_url}/__sandbox/faults", json=fault)).raise_for_status()


async def _settled(db: Database, say: Any, alive: Callable[[], None]) -> None:
    """Wait until nothing is open but dead letters and what they hold. `alive` raises if the hub has ended."""
    deadline = time.monotonic() + QUIET
    while True:
        left = (await db.fetch("open_work"))[0][0]
        if not left:
            return
        say(f"settling: {left} deliveries to go")
        alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{left} deliveries are still open after {QUIET} s")
        await asyncio.sleep(0.2)


async def _result(
    application: Any, sender: Any, db: Database, lake_events: Any, sandbox_url: str, started: float
) -> tuple[dict[str, Any], TieOut]:
    calls = {v: application.recorder.totals[v].requests for v in application.simulators}  # before we read the lake
    states = {name: simulator.state() for name, simulator in application.simulators.items()}
    lake = await asyncio.to_thread(lake_events, f"{sandbox_url}/s3")
    sent = [row[0] for row in await db.fetch_text(SQL["source_event_ids"])]
    tie = tie_out(states["stripe"], states["salesforce"], states["netsuite"], states["avalara"], lake, sent)
    deliveries: dict[str, dict[str, int]] = {}
    for row in await db.fetch("states_by_destination"):
        deliveries.setdefault(row["destination"], {"done": 0, "superseded": 0, "dead": 0})[row["state"]] = row["n"]
    result = {
        "events": sender.events,
        "duplicates_sent": sender.duplicates_sent,
        "deliveries": deliveries,
        "vendor_calls": calls,
        "tie_out": {
            "invoices": tie.invoices,
            "amount_differences": len(tie.amounts),
            "status_differences": len(tie.statuses),
            "lake_events": tie.lake_events,
            "lake_duplicates": tie.lake_duplicates,
            "lake_missing": tie.lake_missing,
        },
        "seconds": round(time.monotonic() - started, 1),
    }
    return result, tie


def passed(result: dict[str, Any], tie: TieOut) -> bool:
    """Whether the demo may exit 0: everything agrees, every event arrived, nobody is dead or waiting."""
    open_states = {"dead", "held", "waiting", "claimed", "unknown", "skipped"}
    open_work = sum(n for states in result["deliveries"].values() for s, n in states.items() if s in open_states)
    return tie.agrees and open_work == 0 and tie.lake_events == result["events"]
