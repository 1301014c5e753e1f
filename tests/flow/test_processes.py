"""The processes people run, as they run them: stopped in the middle, killed, without a database, badly configured.

Waits are for something to be seen, with a deadline; what is slow is slow because the sandbox was told to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from connectors.stripe.sandbox_env import WEBHOOK_SECRET
from connectors.stripe.simulator.webhooks import signature
from hub.commands.common import free_port
from hub.db import Embedded
from hub.migrate import migrate
from tests.conftest import Clock
from tests.flow import stack
from tests.flow.stack import Vendors, hub, picture
from tests.flow.story import ADDRESS, draft, shop, subscribe

PATIENCE = 60.0
"""Seconds until something that should happen is said not to: an idle machine takes three."""


# Processes -----------------------------------------------------------------------------------------------------------


@dataclass
class Child:
    """`hub <command>` as a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    async def until(self, what: str, check: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until `check` holds, while the process lives."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = check()
            if seen is True or (not isinstance(seen, bool) and await seen):
                return
            assert self.process.poll() is None, f"ended while waiting for {what}: {self.told()}"
            assert time.monotonic() < deadline, f"{what} was not seen: {self.told()}"
            await asyncio.sleep(0.1)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, and its exit code once it has ended."""
        self.process.send_signal(how)
        return await asyncio.to_thread(self.process.wait, PATIENCE)

    def told(self) -> str:
        return self.log.read_text()[-3000:]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts `hub <arguments>` with these settings and no others."""
    children: list[Child] = []

    def run(*arguments: str, **env: str) -> Child:
        log = tmp_path / f"{len(children)}-{arguments[0]}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "hub.cli", *arguments],
                env={**clean, **env, "COLUMNS": "200"},
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        children.append(Child(process, log))
        return children[-1]

    yield run
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
        child.process.wait(PATIENCE)


async def said(child: Child) -> str:
    """All it printed; it must have gone well."""
    assert await asyncio.to_thread(child.process.wait, PATIENCE) == 0, child.told()
    return child.log.read_text()


def signups(town: Vendors, count: int) -> list[str]:
    """So many customers, each with one paid invoice of 58.32; the invoices' ids."""
    ids = shop(town)
    customers = [ids["customer"]]
    customers += [town.post("/v1/customers", name=f"Customer {n}", address=ADDRESS)["id"] for n in range(1, count)]
    return [str(subscribe(town, ids | {"customer": customer}, 3)["latest_invoice"]) for customer in customers]


def writes(town: Vendors, vendor: str, part: str) -> list[dict[str, Any]]:
    """Requests that write, with `part` in their path."""
    return [r for r in town.requests(vendor) if r["method"] not in ("GET", "HEAD") and part in r["path"]]


async def states(dsn: str, destination: str) -> Counter[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT state FROM deliveries WHERE destination = $1", destination)
        return Counter(row["state"] for row in rows)
    finally:
        await connection.close()


async def accepted(dsn: str, town: Vendors, env: pytest.MonkeyPatch, **changes: str | None) -> None:
    """Everything Stripe has said so far is taken by a hub, whose workers do not run."""
    async with hub(dsn, town, Clock(time.time()), env, **changes) as here:
        await here.deliver(town.heard)


async def test_sigterm_finishes_what_is_under_way_gives_back_the_rest_and_another_worker_goes_on(
    dsn: str, town: Vendors, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Child]
) -> None:
    changes = {"HUB_DESTINATIONS": "netsuite", "HUB_NETSUITE_CONCURRENCY": "1", "HUB_LOG_LEVEL": "info"}
    signups(town, 3)
    await accepted(dsn, town, monkeypatch, **changes)
    env = stack.settings(town.url, dsn, **changes)
    town.fault("netsuite", "latency", "PUT /record/v1/invoice/", delay_ms=1500)
    first = start("work", **env)
    await first.until("a slow call", lambda: bool(writes(town, "netsuite", "/invoice/")))
    assert await first.end() == 0, first.told()
    (call,) = writes(town, "netsuite", "/invoice/")
    assert call["status"] == 204, "it waited for the answer"
    # Each customer has four deliveries: made, changed, invoice finalised, invoice paid.
    assert await states(dsn, "netsuite") == {"done": 3, "waiting": 9}
    assert [told for told in ("Zelda", "Marmalade", "example.com") if told in first.log.read_text()] == []
    second = start("work", **env)
    await second.until("the rest", lambda: all_done(dsn, "netsuite"))
    assert await second.end() == 0, second.told()
    for kind in ("customer", "invoice", "customerPayment"):
        assert [r["status"] for r in writes(town, "netsuite", f"/{kind}/")] == [204] * 3, kind


async def all_done(dsn: str, *destinations: str) -> bool:
    return all([set(await states(dsn, name)) <= {"done", "superseded"} for name in destinations])


@pytest.mark.prove  # the kill matrix has it too, for every vendor; here it is the real command
async def test_a_worker_killed_between_the_vendors_answer_and_its_own_note_leaves_one_record(
    dsn: str, town: Vendors, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Child]
) -> None:
    """NetSuite has answered and the note of it is held up; Salesforce is still at it. Then the plug is pulled."""
    changes = {"HUB_DESTINATIONS": "netsuite,salesforce", "HUB_COALESCE_SECONDS": "0"}
    (invoice,) = signups(town, 1)
    await accepted(dsn, town, monkeypatch, **changes)
    env = stack.settings(town.url, dsn, **changes, HUB_UNKNOWN_WAIT_SECONDS="0.2")
    town.fault("netsuite", "latency", "PUT /record/v1/invoice/", delay_ms=1500)
    town.fault("salesforce", "latency", "PATCH /Stripe_Invoice__c/", delay_ms=10_000)
    first = start("work", **env)
    await first.until("NetSuite's call", lambda: bool(writes(town, "netsuite", "/invoice/")))
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.fetch("SELECT FROM lanes WHERE destination = 'netsuite' FOR UPDATE")
            await first.until(
                "NetSuite's answer", lambda: [r["status"] for r in writes(town, "netsuite", "/invoice/")] == [204]
            )
            await first.until("Salesforce's call", lambda: bool(writes(town, "salesforce", "/Stripe_Invoice__c/")))
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        assert (await states(dsn, "netsuite"))["claimed"] >= 1, "it did not come to note it"
        assert (await states(dsn, "salesforce"))["claimed"] >= 1
        # The leases run for minutes: let them be over.
        await connection.execute("UPDATE lanes SET lease_until = now(), due_at = now() WHERE lease_until IS NOT NULL")
        await connection.execute("UPDATE deliveries SET lease_until = now() WHERE state = 'claimed'")
    finally:
        await connection.close()
    second = start("work", **env)
    await second.until("the rest", lambda: all_done(dsn, "netsuite", "salesforce"))
    assert await second.end() == 0, second.told()
    assert [r["status"] for r in writes(town, "netsuite", "/invoice/")] == [204], "it was found, not written again"
    found = picture(town)
    assert [k for k in found["netsuite"] if k.startswith("invoice ")] == [f"invoice stripe_{invoice}"]
    assert [k for k in found["salesforce"] if "Invoice" in k] == [f"Stripe_Invoice__c {invoice}"]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """PostgreSQL runs as another user than root, whom pytest's own folders keep out."""
    with tempfile.TemporaryDirectory(prefix="hub-goes-") as folder:
        yield Path(folder)


async def test_a_database_that_goes_and_comes_back_costs_nothing_but_time(
    short_folder: Path, town: Vendors, start: Callable[..., Child]
) -> None:
    server = await asyncio.to_thread(Embedded, short_folder / "pg", scratch=True)
    try:
        dsn = server.create_database()
        await migrate(dsn)
        port = free_port()
        env = stack.settings(
            town.url, dsn, HUB_DESTINATIONS="netsuite,s3_lake", HUB_PORT=str(port), HUB_LAKE_LINGER="0"
        )
        web, worker = start("serve", **env), start("work", **env)
        signups(town, 1)
        early, late = town.heard[:12], town.heard[12:]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, verify=False) as http:
            await web.until("readiness", lambda: answers(http, "/readyz", 200))
            town.fault("netsuite", "latency", "PUT /record/v1/customer/", delay_ms=6000)
            assert [await sent(http, event) for event in early] == [200] * len(early)
            await worker.until("a call", lambda: bool(writes(town, "netsuite", "/customer/")))
            await asyncio.to_thread(server._server.stop)
            assert [await sent(http, event) for event in late[:2]] == [503] * 2
            assert await answers(http, "/readyz", 503)
            assert await answers(http, "/healthz", 200)
            assert web.process.poll() is worker.process.poll() is None
            await worker.until(
                "the answer", lambda: [r["status"] for r in writes(town, "netsuite", "/customer/")][:1] == [204]
            )
            await asyncio.to_thread(server._server.ensure_postgres_running)
            await web.until("readiness again", lambda: answers(http, "/readyz", 200))
            assert [await sent(http, event) for event in late] == [200] * len(late)
            await worker.until("all of it", lambda: all_done(dsn, "netsuite", "s3_lake"))
        assert (await web.end(), await worker.end()) == (0, 0)
        assert len(writes(town, "netsuite", "/customer/")) == 1, "what was answered meanwhile was not asked again"
        found = picture(town)
        assert found["lake"] == dict.fromkeys([event["id"] for event in town.heard], 1)
        assert sorted(k.partition(" ")[0] for k in found["netsuite"]) == ["customer", "customerPayment", "invoice"]
    finally:
        server.stop()


async def sent(http: httpx.AsyncClient, event: dict[str, Any]) -> int:
    body = orjson.dumps(event)
    header = {"stripe-signature": signature(body, WEBHOOK_SECRET, int(time.time()))}
    return (await http.post("/webhooks/stripe", content=body, headers=header)).status_code


async def answers(http: httpx.AsyncClient, path: str, status: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get(path)).status_code == status
    return False


# Starting badly ------------------------------------------------------------------------------------------------------


async def test_serve_refuses_settings_that_cannot_work_and_lists_them_all_without_the_secrets(
    start: Callable[..., Child],
) -> None:
    bare = start("serve")
    bad = start(
        "serve",
        HUB_STRIPE_API_KEY="sk_live_do_not_tell",
        HUB_STRIPE_WEBHOOK_SECRETS="not_a_secret_but_do_not_tell",
        HUB_API_TOKEN="short-do-not-tell",
        HUB_DESTINATIONS="netsuite,nowhere",
        HUB_PORT="http",
    )
    for child, problems in [
        (bare, ["HUB_STRIPE_API_KEY", "HUB_STRIPE_WEBHOOK_SECRETS", "HUB_API_TOKEN"]),
        (bad, ["HUB_STRIPE_LIVEMODE=true", "do not start with whsec_", "HUB_API_TOKEN: is shorter", "HUB_PORT"]),
    ]:
        assert await asyncio.to_thread(child.process.wait, PATIENCE) == 2, child.told()
        shown = child.told()
        assert [p for p in problems if p not in shown] == [], shown
        assert "do_not_tell" not in shown
        assert "do-not-tell" not in shown
        assert "Traceback" not in shown


# Looking and acting --------------------------------------------------------------------------------------------------


@pytest.fixture
async def stuck(dsn: str, town: Vendors, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A database with two dead letters of one invoice that does not add up, and an event of another account."""
    wrong = draft(town, shop(town)["customer"])
    customer = town.stripe.call("GET", f"/v1/invoices/{wrong}")["customer"]
    town.post("/v1/invoiceitems", customer=customer, invoice=wrong, amount=5832, description="Training")
    for what in ("finalize", "void"):
        town.post(f"/v1/invoices/{wrong}/{what}")
    finalized, voided = town.last("invoice.finalized"), town.last("invoice.voided")
    finalized["data"]["object"]["total"] += 1
    voided["data"]["object"]["total"] += 1
    async with hub(dsn, town, Clock(time.time()), monkeypatch) as here:
        await here.deliver([finalized, voided, {**finalized, "id": "evt_foreign", "account": "acct_other"}])
        await here.work()
    return {"invoice": finalized["data"]["object"]["id"], "event": finalized["id"]}


async def test_the_commands_find_what_is_stuck_and_get_it_going(
    dsn: str, stuck: dict[str, str], start: Callable[..., Child]
) -> None:
    env = {"HUB_DATABASE_URL": dsn}
    events = start("events", "--disposition", "other_account", "--json", **env)
    listed = start("deliveries", "--state", "dead,held", "--json", **env)
    (foreign,) = orjson.loads(await said(events))
    assert (foreign["id"], foreign["disposition"]) == ("evt_foreign", "other_account")
    assert "acct_other" in foreign["note"]
    letters = {(d["destination"], d["event"]["type"]): d for d in orjson.loads(await said(listed))}
    assert {k: d["state"] for k, d in letters.items()} == {
        ("avalara", "invoice.finalized"): "dead", ("avalara", "invoice.voided"): "held",
        ("netsuite", "invoice.finalized"): "dead", ("netsuite", "invoice.voided"): "held",
    }  # fmt: skip
    taxes, books = letters["avalara", "invoice.finalized"], letters["netsuite", "invoice.finalized"]
    assert "but total is 5833: off by 1" in books["cause"]

    shown = [start("show", what, **env) for what in (str(books["id"]), stuck["event"], stuck["invoice"])]
    delivery, event, history = [orjson.loads(await said(child)) for child in shown]
    assert (delivery["id"], delivery["holds"], delivery["attempts"][0]["outcome"]) == (books["id"], 1, "reject")
    assert event["body"]["data"]["object"]["id"] == stuck["invoice"]
    assert {d["destination"] for d in event["deliveries"]} == {"avalara", "netsuite", "s3_lake", "salesforce"}
    assert history["id"] == stuck["invoice"]
    assert {d["id"] for d in history["deliveries"]} >= {taxes["id"], books["id"]}

    retried = start("retry", str(books["id"]), **env)
    skipped = start("skip", str(taxes["id"]), "--reason", "recorded by hand", **env)
    unknown = start("show", "in_never_seen", **env)
    assert "1 held behind it are released" in await said(retried)
    assert f"delivery {taxes['id']} is skipped; 1 held behind it are released" in await said(skipped)
    assert await asyncio.to_thread(unknown.process.wait, PATIENCE) == 2
    assert "in_never_seen was never seen here" in unknown.told()
    again = start("skip", str(taxes["id"]), "--reason", "again", **env)
    assert await asyncio.to_thread(again.process.wait, PATIENCE) == 2
    assert "was skipped: recorded by hand" in again.told()
    assert (await states(dsn, "netsuite"))["waiting"] == 2
    assert await states(dsn, "avalara") == {"skipped": 1, "waiting": 1}
    linked = start(
        "link", str(books["id"]), "--record", "invoice", "--vendor-id", "647", "--reason", "booked by hand", **env
    )
    assert f"{stuck['invoice']} is linked to invoice 647; nothing was written" in await said(linked)
    assert (await states(dsn, "netsuite"))["waiting"] == 1
