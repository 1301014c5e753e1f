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
import orjson
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
STORY = 310 * 86400
"""The lives begin this many seconds ago: they take about nine and a half months, and nothing is dated in the future."""
TAXING = 30.0
"""Seconds that business waits for the hub to write tax on a draft."""
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
    calculate: bool = True
    """Whether the hub puts tax on drafts. Then business waits for it: an hour of a draft's passes in no time here."""


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
    env["HUB_AVALARA_TAX"] = "calculate" if options.calculate else "record"
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
            drafts = Drafts(stripe)
            business = Business(stripe, random.Random(options.seed))  # noqa: S311 - makes up customers
            for now in business.live(options.customers):
                day = datetime.fromtimestamp(now, UTC).date()
                say(f"living: it is {day} in the sandbox; {sender.events} events so far")
                alive()
                while sender.pending > 400:  # noqa: ASYNC110 - a counter of the simulator's, which knows no events
                    await asyncio.sleep(0.02)
                await (drafts.taxed(db, alive) if options.calculate else asyncio.sleep(0))
            await sender.flush()
            await _settled(db, say, alive)
            sending.cancel()
            calls = {v: application.recorder.totals[v].requests for v in application.simulators}
            say("reconciling: reading what NetSuite and AvaTax hold")
            reconciled = await _reconciled(env, folder, min(i["created"] for i in stripe.state()["invoices"]))
            result, tie = await _result(application, sender, db, lake_events, sandbox_url, drafts)
            result |= {"vendor_calls": calls, "reconcile": reconciled, "seconds": round(time.monotonic() - started, 1)}
            return result, tie
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await db.close()


class Drafts:
    """Drafts that are the hub's to tax: nobody else decides their tax. Hears them from the simulator."""

    def __init__(self, stripe: Any) -> None:
        self._without: set[str] = set()
        self.seen: set[str] = set()
        self.finalised_without = 0
        stripe.listen(self._hear)

    def _hear(self, event: Any) -> None:
        invoice = event["data"]["object"] if event.get("object") == "event" else {}
        if invoice.get("object") != "invoice" or "id" not in invoice:  # the preview of an upcoming one
            return
        ours = not invoice["default_tax_rates"] and not invoice["automatic_tax"]["enabled"] and invoice["lines"]["data"]
        if invoice["status"] == "draft" and ours and "hub_tax" not in invoice["metadata"]:
            self._without.add(invoice["id"])
            self.seen.add(invoice["id"])
        elif invoice["id"] in self._without:
            self._without.remove(invoice["id"])
            self.finalised_without += "hub_tax" not in invoice["metadata"]

    async def taxed(self, db: Database, alive: Callable[[], None]) -> None:
        """Until each has its tax. Raises `TimeoutError` when that takes too long, with what dead letters say."""
        await asyncio.sleep(0)
        deadline = time.monotonic() + TAXING
        while self._without:
            alive()
            if time.monotonic() > deadline:
                dead = "; ".join(await _dead(db))
                which = ", ".join(sorted(self._without))
                raise TimeoutError(f"no tax after {TAXING:g} s on {which}. Dead letters: {dead or 'none'}")
            await asyncio.sleep(0.02)


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
        "HUB_COALESCE_SECONDS": "0.2",
        "HUB_RECONCILE_HOURS": "0",  # at the end, once, is enough
        "HUB_RECONCILE_GRACE_MINUTES": "0",
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
    application: Any,
    sender: Any,
    db: Database,
    lake_events: Any,
    sandbox_url: str,
    drafts: Drafts,
) -> tuple[dict[str, Any], TieOut]:
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
        "dead_letters": await _dead(db),
        "tie_out": {
            "invoices": tie.invoices,
            "amount_differences": len(tie.amounts),
            "status_differences": len(tie.statuses),
            "lake_events": tie.lake_events,
            "lake_duplicates": tie.lake_duplicates,
            "lake_missing": tie.lake_missing,
            **tie.money.counts,
            "tax": tie.money.tax,
            "clearing": tie.money.clearing,
            "receivables": tie.money.receivables,
            "drafts_taxed": len(drafts.seen) - drafts.finalised_without,
            "differences": {kind: len(found) for kind, found in tie.money.differences.items()},
        },
    }
    return result, tie


async def _reconciled(env: dict[str, str], folder: Path, since: int) -> dict[str, Any]:
    """What `hub reconcile` says of all of it. Raises `RuntimeError` if it does not come to its end."""
    day = datetime.fromtimestamp(since, UTC).date().isoformat()
    out, log = folder / "reconciled.json", folder / "reconcile.log"
    child = await common.Child.start(
        "hub reconcile", "reconcile", "--since", day, "--format", "json", "--out", str(out), env=env, log=log
    )
    await child.process.wait()
    if not out.exists():
        raise RuntimeError(f"hub reconcile ended with code {child.process.returncode}: {log.read_text()[-2000:]}")
    found = orjson.loads(out.read_bytes())
    return {name: found[name] for name in ("agrees", "said", "destinations", "differences")}


async def _dead(db: Database) -> list[str]:
    return [
        f"{row['destination']}: {row['type']} of {row['object_id']}: {row['code']}: {row['cause']}"
        for row in await db.fetch("dead_letters_said")
    ]


def passed(result: dict[str, Any], tie: TieOut) -> bool:
    """Whether the demo may exit 0: everything agrees, every event arrived, nobody is dead or waiting."""
    open_states = {"dead", "held", "waiting", "claimed", "unknown", "skipped"}
    open_work = sum(n for states in result["deliveries"].values() for s, n in states.items() if s in open_states)
    return tie.agrees and result["reconcile"]["agrees"] and open_work == 0 and tie.lake_events == result["events"]
