"""Four real worker processes on one database: NetSuite's concurrency and AvaTax's rate hold over all of them together,
and where the vendor allows less than was configured they find that out and still bring everything home.

`make prove` runs it; the figures are printed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.netsuite.simulator import NetSuiteSimulator
from hub.limits import BURST
from tests.flow import stack
from tests.flow.stack import Vendors
from tests.flow.test_processes import Child, accepted, all_done, signups, states
from tests.flow.test_processes import start as start_processes

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]

start = start_processes
"""The fixture."""
WORKERS = 4
BUSY = '"destination":"netsuite"'
"""In the log of who worked for it."""
CUSTOMERS = int(os.environ.get("HUB_PROVE_CUSTOMERS", "30"))


@contextlib.contextmanager
def town_with(netsuite: NetSuiteSimulator) -> Iterator[Vendors]:
    """A sandbox in which this NetSuite account is."""
    with stack.vendors(lambda name, simulator: netsuite if name == "netsuite" else simulator) as town:
        yield town


async def at_work(
    start: Callable[..., Child], town: Vendors, dsn: str, env: pytest.MonkeyPatch, **changes: str
) -> list[Child]:
    """Everything accepted first, then four workers at once; one that has worked is stopped on the way: it may have had
    all of the places till then. Until all is delivered, and they have ended well.
    """
    signups(town, CUSTOMERS)
    settings = {"HUB_DESTINATIONS": "netsuite,avalara", "HUB_LOG_LEVEL": "info", "HUB_POLL_SECONDS": "0.1", **changes}
    await accepted(dsn, town, env, **settings)
    workers = [start("work", **stack.settings(town.url, dsn, **settings)) for _ in range(WORKERS)]
    await workers[0].until("some of it delivered", lambda: some_done(dsn, CUSTOMERS // 2))
    leaving = next(w for w in workers if BUSY in w.log.read_text())
    assert await leaving.end() == 0, leaving.told()
    rest = [w for w in workers if w is not leaving]
    await rest[0].until("everything delivered", lambda: all_done(dsn, "netsuite", "avalara"))
    assert [await worker.end() for worker in rest] == [0] * (WORKERS - 1), [w.told() for w in rest]
    return workers


async def some_done(dsn: str, many: int) -> bool:
    return (await states(dsn, "netsuite"))["done"] >= many


def answers(town: Vendors, vendor: str) -> Counter[int]:
    return Counter(r["status"] for r in town.requests(vendor))


async def test_four_processes_keep_the_concurrency_of_one_account_and_the_rate_of_another(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Child]
) -> None:
    limit, rate = 3, 4.0
    netsuite = NetSuiteSimulator(seed=7, clock=time.time, limit=limit, service_time=0.05)
    with town_with(netsuite) as town:
        workers = await at_work(
            start, town, dsn, monkeypatch, HUB_NETSUITE_CONCURRENCY=str(limit), HUB_AVALARA_RATE=str(rate)
        )
        called = sorted(r["started"] for r in town.requests("avalara"))
        counted = answers(town, "netsuite")
        busy = sum(BUSY in w.log.read_text() for w in workers)
    assert netsuite.most_at_once == limit, "never more, and as many as may be"
    assert counted[429] == 0
    assert busy > 1, "several processes had the places in turn"
    most = max(sum(first <= at < first + 1 for at in called[n:]) for n, first in enumerate(called))
    # A call that had its turn may reach AvaTax late: what was to come before the second began is allowed for.
    assert most <= rate + BURST + 3
    assert len(called) > 2 * most, "long enough to tell"
    print(  # noqa: T201 - the figures of the reliability report
        f"\n{WORKERS} workers, {CUSTOMERS} customers, {busy} workers at NetSuite: {sum(counted.values())} requests, "
        f"at most {netsuite.most_at_once} at once of {limit}; AvaTax: {len(called)} calls, at most {most} in a second"
        f" at {rate:g}/s"
    )


async def test_an_account_that_allows_less_than_was_configured_slows_all_processes_down(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Child]
) -> None:
    netsuite = NetSuiteSimulator(seed=7, clock=time.time, limit=2, service_time=0.05)
    with town_with(netsuite) as town:
        workers = await at_work(start, town, dsn, monkeypatch, HUB_NETSUITE_CONCURRENCY="8")
        counted = answers(town, "netsuite")
        told = "".join(w.log.read_text() for w in workers)
    connection: Any = await asyncpg.connect(dsn)
    try:
        outcomes = dict(
            await connection.fetch(
                "SELECT a.outcome, count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id "
                "WHERE d.destination = 'netsuite' GROUP BY a.outcome"
            )
        )
        share = await connection.fetchval("SELECT share FROM destinations WHERE name = 'netsuite'")
    finally:
        await connection.close()
    assert counted[429] > 0
    assert '"limit_cut"' in told
    assert share < 1
    assert counted[429] < sum(counted.values()) / 4, "they did not go on running against the wall"
    print(  # noqa: T201 - the figures of the reliability report
        f"\n8 configured, 2 allowed: {sum(counted.values())} requests, {counted[429]} refused; attempts {outcomes}"
    )
