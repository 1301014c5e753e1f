"""Several nodes on one database: two web and four worker processes, one of which is killed; and restarts under load."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from hub.commands.common import free_port
from tests.flow import stack
from tests.flow.stack import picture
from tests.prove.arena import OVER, ready, tell
from tests.prove.children import Forked, mother
from tests.prove.effects import Effects
from tests.prove.lives import Lives
from tests.prove.stream import Stream, streaming

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]

SEED = int(os.environ.get("HUB_PROVE_SEED", "20"))
QUICK = {
    "HUB_LAKE_LINGER": "0",
    "HUB_COALESCE_SECONDS": "0.2",
    "HUB_SWEEP_MINUTES": "0",
    "HUB_RECONCILE_HOURS": "0",
    "HUB_UNKNOWN_WAIT_SECONDS": "0.5",
    "HUB_LOG_LEVEL": "info",
}
ATTEMPTS = """
SELECT a.delivery_id, a.claim, a.outcome, a.started_at, a.duration_ms, d.destination, d.lane, d.object_id
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id ORDER BY a.started_at, a.id
"""
OPEN = "SELECT count(*) FROM deliveries WHERE state <> ALL ($1)"
CLAIMED = "SELECT id, claim, lease_until FROM deliveries WHERE state = 'claimed'"


async def test_two_web_and_four_worker_processes_share_the_work_and_make_good_what_one_of_them_dies_with(
    dsn: str, tmp_path: Path
) -> None:
    rng = random.Random(f"{SEED} nodes")
    began = time.monotonic()
    effects = Effects()
    with stack.vendors(effects.watch) as town, mother(tmp_path) as parent:
        lives = Lives(town)
        told = [lives.one() for _ in range(100)]
        slow(town, 0.5, 200)
        env = stack.settings(
            town.url, dsn, **QUICK, HUB_SALESFORCE_LEASE="60", HUB_SALESFORCE_TIMEOUT="20",
            HUB_NETSUITE_REQUEST_TIMEOUT="10", HUB_AVALARA_READ_TIMEOUT="6",
        )  # fmt: skip
        ports = [str(free_port()) for _ in range(2)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        webs = [parent.start("serve", env=env | {"HUB_PORT": port}) for port in ports]
        for web, url in zip(webs, urls, strict=True):
            await until_ready(web, url)
        connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
        try:
            stream = Stream(urls, rng)
            async with streaming(stream) as group:
                await stream.told(told[:60])  # a backlog, so that all four have work at once
                workers = [parent.start("work", env=env) for _ in range(4)]
                more = group.create_task(stream.told(told[60:], pause=0.05))
                victim = rng.choice(workers)
                await victim.until("some work", lambda: victim.log.read_text().count("attempted") > 20)
                await victim.kill()
                killed_at = datetime.now(UTC)
                claimed = {(r["id"], r["claim"]): r["lease_until"] for r in await connection.fetch(CLAIMED)}
                await more
            deadline = max(claimed.values()) + timedelta(seconds=100)
            while await connection.fetchval(OPEN, OVER) and datetime.now(UTC) < deadline:  # noqa: ASYNC110 - a database
                await asyncio.sleep(0.3)
            left = await connection.fetch("SELECT * FROM deliveries WHERE state <> ALL ($1) LIMIT 5", OVER)
            assert [dict(row) for row in left] == []
            ends = [await child.end() for child in (*webs, *workers) if child is not victim]
            assert ends == [0] * 5
            stored = await connection.fetch("SELECT id FROM events WHERE kind <> 'read'")
            assert Counter(row["id"] for row in stored) == Counter(lives.events)
            attempts = await connection.fetch(ATTEMPTS)
            batches = await connection.fetch("SELECT first_seq, last_seq FROM batches ORDER BY first_seq")
        finally:
            await connection.close()
        assert stream.acked == set(lives.events)
        lives.all_there(picture(town))
        lives.made_once(effects)
        in_order(effects, dict(zip(lives.payments, lives.paid, strict=True)))
    lost = one_at_a_time([dict(row) for row in attempts])
    assert all(a["last_seq"] < b["first_seq"] for a, b in itertools.pairwise(batches))
    worked = [worker.log.read_text().count("attempted") for worker in workers]
    assert min(worked) > 0, "each had a share"
    assert lost, "the killed worker held nothing: choose another seed"
    stray = [(a, c, str(at - killed_at)) for a, c, at in lost if (a, c) not in claimed]
    assert stray == [], "lost, though its worker lived"
    late = [found_at - claimed[delivery, claim] for delivery, claim, found_at in lost]
    # Taken as soon as the lease is over; but what died in one lane one by one, and each is looked up before it is sent.
    assert min(late) < timedelta(seconds=5)
    assert max(late) < timedelta(seconds=90)
    tell(
        {
            "title": "two web and four worker processes",
            "events": len(lives.events),
            "attempts": len(attempts),
            "by_worker": worked,
            "claims_lost": len(lost),
            "made_good_after_seconds": round(max((at - killed_at).total_seconds() for _, _, at in lost), 1),
            "seconds": round(time.monotonic() - began, 1),
        }
    )


def one_at_a_time(attempts: list[dict[str, Any]]) -> list[tuple[int, int, datetime]]:
    """No claim was carried out twice, no delivery and no document of a ledger by two at once.

    Returns the lost claims: (delivery, claim, when the next worker found it).
    """
    lost = [(a["delivery_id"], a["claim"], a["started_at"]) for a in attempts if a["outcome"] == "lost"]
    carried = Counter((a["delivery_id"], a["claim"]) for a in attempts)
    assert set(carried.values()) == {1}
    ended: dict[object, datetime] = {}
    for a in attempts:
        if a["outcome"] == "lost":
            continue
        about: list[object] = [a["delivery_id"]]
        if a["destination"] in ("netsuite", "avalara"):
            about.append((a["destination"], a["lane"]))
        for what in about:
            # Durations are rounded to milliseconds.
            assert a["started_at"] >= ended.get(what, a["started_at"]) - timedelta(milliseconds=1), a
            ended[what] = a["started_at"] + timedelta(milliseconds=a["duration_ms"])
    return lost


def in_order(effects: Effects, paid_by: dict[str, str]) -> None:
    """Of each invoice: made, then closed, by its payment (which names another id) or its void."""
    place = {
        (write.vendor, effect): n
        for n, write in reversed(list(enumerate(effects.writes)))  # so that the first of several is what stays
        for effect in write.effects
    }
    books = {e: n for (vendor, e), n in place.items() if vendor == "netsuite"}
    payments, voids = (
        [e for e in books if e.startswith(f"made {kind} ")] for kind in ("customerPayment", "creditMemo")
    )
    assert payments
    assert voids
    for payment in payments:
        assert books[f"made invoice {paid_by[payment.split()[-1]]}"] < books[payment]
    for void in voids:
        assert books[f"made invoice {void.split()[-1].removeprefix('void_')}"] < books[void]
    for (vendor, effect), n in place.items():
        if vendor == "avalara" and effect.startswith("changed"):
            assert place[vendor, effect.replace("changed", "made")] < n


async def test_processes_that_are_stopped_under_load_finish_what_they_began_and_leave_no_claim_behind(
    dsn: str, tmp_path: Path
) -> None:
    rng = random.Random(f"{SEED} restarts")
    began = time.monotonic()
    effects = Effects()
    with stack.vendors(effects.watch) as town, mother(tmp_path) as parent:
        lives = Lives(town)
        slow(town, 0.5, 200)
        port = str(free_port())
        url = f"http://127.0.0.1:{port}"
        # Long enough also on a busy machine: what is not finished by then is left to its lease, as it must be.
        env = stack.settings(town.url, dsn, **QUICK, HUB_PORT=port, HUB_SHUTDOWN_SECONDS="50")
        connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
        try:
            web = parent.start("serve", env=env)
            await until_ready(web, url)
            stream = Stream([url], rng, breaks=True)
            begun = 0
            over = asyncio.Event()
            async with streaming(stream) as group:
                sending = group.create_task(stream.told_until(over, lives.one))
                for n in range(8):
                    worker = parent.start("work", env=env)
                    await worker.until("some work", lambda worker=worker: "attempted" in worker.log.read_text())  # type: ignore[misc]
                    await asyncio.sleep(rng.uniform(0.0, 0.5))
                    begun += len(await connection.fetch(CLAIMED))
                    assert await worker.end() == 0, worker.told()
                    assert await connection.fetch(CLAIMED) == [], f"left behind at the {n}th restart"
                    assert await connection.fetchval("SELECT count(*) FROM lanes WHERE lease_until IS NOT NULL") == 0
                    if n % 2:
                        assert await web.end() == 0, web.told()
                        web = parent.start("serve", env=env)
                        await until_ready(web, url)
                over.set()
                await sending
            worker = parent.start("work", env=env)

            async def all_over() -> bool:
                return not await connection.fetchval(OPEN, OVER)

            await worker.until("the end of all deliveries", all_over)
            assert [await worker.end(), await web.end()] == [0, 0]
            stored = await connection.fetch("SELECT id FROM events WHERE kind <> 'read'")
            outcomes = await connection.fetch("SELECT DISTINCT outcome FROM attempts")
        finally:
            await connection.close()
        assert Counter(row["id"] for row in stored) == Counter(lives.events)
        assert stream.acked == set(lives.events)
        assert {row["outcome"] for row in outcomes} == {"receipt"}, "nothing was lost, nothing unknown"
        assert begun > 0, "nobody was stopped in the middle of anything"
        lives.all_there(picture(town))
        lives.made_once(effects)
    tell(
        {
            "title": "stopped and started again under load",
            "restarts": 12,
            "events": len(lives.events),
            "claimed_when_stopped": begun,
            "seconds": round(time.monotonic() - began, 1),
        }
    )


def slow(town: stack.Vendors, probability: float, delay_ms: int) -> None:
    for vendor in ("salesforce", "netsuite", "avalara", "s3"):
        town.fault(vendor, "latency", times=None, probability=probability, delay_ms=delay_ms)


async def until_ready(web: Forked, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=20, verify=False) as http:
        await web.until("readiness", lambda: ready(http))
