"""`kill -9`, over and over: a web and a worker process under a steady stream of events, killed at seeded moments.

The sandbox answers half of all calls late, so that a kill often finds a vendor's answer under way; how often is counted
by the claims that were lost. `make prove` does it twice, then 200 times. `HUB_PROVE_SEED` chooses other moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from hub.commands.common import free_port
from tests.flow import stack
from tests.flow.stack import Vendors, picture
from tests.flow.story import ADDRESS, draft, shop, subscribe
from tests.flow.test_processes import Child, sent

pytestmark = pytest.mark.prove  # until they have run long enough to be trusted in every run

SEED = int(os.environ.get("HUB_PROVE_SEED", "20"))
SENDERS = 6
QUIET = 60.0
"""Seconds without a delivery coming to its end, after the last kill, until it is said that it does not drain."""


@dataclass
class Siege:
    """What is under attack, and what was done to it."""

    env: dict[str, str]
    folder: Path
    dsn: str
    target: int
    kills: Counter[str] = field(default_factory=Counter)
    acked: set[str] = field(default_factory=set)
    starts: int = 0
    children: dict[str, Child] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, command: str) -> Child:
        """`hub <command>`, with these settings and no others."""
        log = self.folder / f"{self.starts}-{command}.log"
        self.starts += 1
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "hub.cli", command],
                env={**clean, **self.env},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.children[command] = Child(process, log)
        return self.children[command]

    async def besiege(self, command: str, word: str, share: int, rng: random.Random) -> None:
        """Kill `hub <command>` `share` times: mostly a moment after it began to work, sometimes while it starts."""
        for _ in range(share):
            child = self.children[command]
            if rng.random() < 0.9:
                await at_work(child, word)
            await asyncio.sleep(rng.uniform(0.0, 1.5))
            assert child.process.poll() is None, f"ended by itself: {child.told()}"
            assert await child.end(signal.SIGKILL) == -signal.SIGKILL
            self.kills[command] += 1
            if command == "work":
                await lapse(self.dsn)
            self.start(command)

    async def send(self, queue: asyncio.Queue[dict[str, Any]], http: httpx.AsyncClient, rng: random.Random) -> None:
        """Like Stripe: again until there is a 2xx, and now and then again after it."""
        while True:
            event = await queue.get()
            while True:
                try:
                    status = await sent(http, event)
                except httpx.TransportError:
                    status = 0
                if status == 200:
                    self.acked.add(event["id"])
                    if rng.random() >= 0.1:
                        break
                else:
                    assert status in (0, 503), status
                    await asyncio.sleep(0.1)
            queue.task_done()

    async def stream(self, queue: asyncio.Queue[dict[str, Any]], lives: list[list[dict[str, Any]]]) -> None:
        """As much of the lives as of the kills, so that there is work whenever somebody is killed."""
        for n, life in enumerate(lives):
            while (  # noqa: ASYNC110 - what is waited for is a count
                self.kills.total() < self.target and n > 1 and n / len(lives) > (self.kills.total() + 1) / self.target
            ):
                await asyncio.sleep(0.05)
            for event in life:
                queue.put_nowait(event)
                await asyncio.sleep(0.02)


async def at_work(child: Child, word: str) -> None:
    """Until it logged `word`, or for as long as it takes to start twice over: there may be nothing to do."""
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline and word not in child.log.read_text():  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.05)


async def lapse(dsn: str) -> None:
    """The one worker is dead: let the minutes of its leases be over."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(
                "UPDATE lanes SET lease_until = now(), due_at = now() WHERE lease_until IS NOT NULL"
            )
            await connection.execute("UPDATE deliveries SET lease_until = now() WHERE state = 'claimed'")
    finally:
        await connection.close()


async def drained(dsn: str) -> Counter[str]:
    """The states of all deliveries once none is open, or once nothing moves any more."""
    connection = await asyncpg.connect(dsn)
    try:
        before, since = -1, time.monotonic()
        while True:
            rows = await connection.fetch("SELECT state, count(*)::int AS many FROM deliveries GROUP BY state")
            states = Counter({str(row["state"]): int(row["many"]) for row in rows})
            ended = states.total() - sum(states[s] for s in ("waiting", "claimed", "unknown"))
            if ended == states.total() or time.monotonic() - since > QUIET:
                return states
            if ended != before:
                before, since = ended, time.monotonic()
            await asyncio.sleep(0.3)
    finally:
        await connection.close()


@dataclass
class Town:
    """The lives of customers, told in advance, and what the books must say in the end."""

    lives: list[list[dict[str, Any]]] = field(default_factory=list)
    customers: list[str] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)
    paid: list[str] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)


def live(town: Vendors, count: int) -> Town:
    """Each pays an invoice of 58.32 (see `story`); every third has another of 125.00 that is voided."""
    found = Town()
    ids = shop(town)
    for n in range(count):
        customer = town.post("/v1/customers", name=f"Customer {n}", address=ADDRESS)["id"] if n else ids["customer"]
        plan = subscribe(town, ids | {"customer": customer}, 3)
        found.customers.append(customer)
        found.subscriptions.append(plan["id"])
        found.paid.append(plan["latest_invoice"])
        if n % 3 == 0:
            wrong = draft(town, customer)
            town.post("/v1/invoiceitems", customer=customer, invoice=wrong, amount=12500, description="Training")
            town.post(f"/v1/invoices/{wrong}/finalize")
            town.post(f"/v1/invoices/{wrong}/void")
            found.voided.append(wrong)
        found.lives.append(list(town.heard))
        town.heard.clear()
    return found


@pytest.mark.parametrize(
    ("kills", "customers"),
    [
        pytest.param(2, 4, id="a-few"),
        pytest.param(200, 400, id="many", marks=[pytest.mark.prove, pytest.mark.timeout(1500)]),
    ],
)
async def test_whatever_is_killed_whenever_every_event_is_kept_and_every_record_is_there_once(
    dsn: str, tmp_path: Path, kills: int, customers: int
) -> None:
    began = time.monotonic()
    with stack.vendors() as vendors:
        town = live(vendors, customers)
        events = [event["id"] for life in town.lives for event in life]
        for vendor in ("salesforce", "netsuite", "avalara", "s3"):
            vendors.fault(vendor, "latency", times=None, probability=0.5, delay_ms=150)
        port = free_port()
        env = stack.settings(
            vendors.url, dsn, HUB_PORT=str(port), HUB_LOG_LEVEL="info", HUB_LAKE_LINGER="0",
            HUB_COALESCE_SECONDS="0.2", HUB_UNKNOWN_WAIT_SECONDS="0.5",
        )  # fmt: skip
        siege = Siege(env, tmp_path, dsn, kills)
        try:
            states, lost = await _run(siege, town, port)
        finally:
            for child in siege.children.values():
                if child.process.poll() is None:
                    child.process.kill()
                child.process.wait(30)
        _all_kept(states, siege.acked, events)
        _all_there(picture(vendors), town, events)
    print(  # noqa: T201 - the figures of the reliability report
        f"\nseed {SEED}: {siege.kills.total()} kills ({siege.kills['serve']} web, {siege.kills['work']} worker), "
        f"{lost} claims lost, {len(events)} events, {states.total()} deliveries, {time.monotonic() - began:.0f} s"
    )
    assert siege.kills.total() == kills


async def _run(siege: Siege, town: Town, port: int) -> tuple[Counter[str], int]:
    """The siege, and the peace after it: how all deliveries ended, and how many claims were lost on the way."""
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    web = siege.target // 2
    # A killed web server must not be answered for by a connection that was kept.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15, verify=False, limits=limits) as http:
        siege.start("serve")
        siege.start("work")
        senders = [asyncio.create_task(siege.send(queue, http, random.Random(SEED + n))) for n in range(SENDERS)]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(siege.stream(queue, town.lives))
                group.create_task(siege.besiege("serve", "received", web, random.Random(f"{SEED} web")))
                group.create_task(
                    siege.besiege("work", "attempted", siege.target - web, random.Random(f"{SEED} worker"))
                )
            rest = asyncio.create_task(queue.join())
            await asyncio.wait([rest, *senders], timeout=120, return_when=asyncio.FIRST_COMPLETED)
            assert rest.done(), [s for s in senders if s.done()] or siege.children["serve"].told()
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
    states = await drained(siege.dsn)
    ends = [await siege.children[c].end() for c in ("serve", "work")]
    assert ends == [0, 0], [child.told() for child in siege.children.values()]
    connection = await asyncpg.connect(siege.dsn)
    try:
        stored = {r["id"] for r in await connection.fetch("SELECT id FROM events WHERE kind <> 'read'")}
        assert siege.acked - stored == set(), "answered 2xx, but not kept"
        wrong = await connection.fetch(
            "SELECT id, destination, state, code, cause FROM deliveries "
            "WHERE state NOT IN ('done', 'superseded') LIMIT 5"
        )
        assert [dict(row) for row in wrong] == []
        lost = await connection.fetchval("SELECT count(*) FROM attempts WHERE outcome = 'lost'")
    finally:
        await connection.close()
    return states, int(lost)


def _all_kept(states: Counter[str], acked: set[str], events: list[str]) -> None:
    assert acked == set(events)
    assert set(states) <= {"done", "superseded"}, states
    assert states["done"] > 0


def _all_there(found: dict[str, Any], town: Town, events: list[str]) -> None:
    """`picture` refuses two of one key; here is that there are these and no others."""
    books, crm, taxes = found["netsuite"], found["salesforce"], found["avalara"]
    assert found["lake"] == dict.fromkeys(events, 1)
    assert {k: r.get("total", r.get("payment")) for k, r in books.items()} == (
        {f"customer stripe_{c}": None for c in town.customers}
        | {f"invoice stripe_{i}": "58.32" for i in town.paid}
        | {f"customerPayment stripe_pay_{i}": "58.32" for i in town.paid}
        | {f"invoice stripe_{i}": "125.00" for i in town.voided}
        | {f"creditMemo stripe_void_{i}": "125.00" for i in town.voided}
    )
    assert {k: d["status"] for k, d in taxes.items()} == (
        dict.fromkeys(town.paid, "Committed") | dict.fromkeys(town.voided, "Cancelled")
    )
    assert {k: r.get("Status__c") for k, r in crm.items() if k.startswith(("Account ", "Stripe_"))} == (
        {f"Account {c}": None for c in town.customers}
        | {f"Stripe_Subscription__c {s}": "active" for s in town.subscriptions}
        | {f"Stripe_Invoice__c {i}": "paid" for i in town.paid}
        | {f"Stripe_Invoice__c {i}": "void" for i in town.voided}
    )
