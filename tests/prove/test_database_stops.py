"""PostgreSQL is stopped at once (`pg_ctl stop -m immediate`, no checkpoint, no goodbye) and started again, under load.

The server is the test's own and durable: what it said was committed is what a power cut would leave.
`HUB_PROVE_SEED` chooses other moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from hub.commands.common import free_port
from hub.db import Embedded
from hub.migrate import migrate
from tests.flow import stack
from tests.flow.stack import picture
from tests.prove.arena import OVER, ready, tell
from tests.prove.children import mother
from tests.prove.effects import Effects
from tests.prove.lives import Lives
from tests.prove.stream import Stream, streaming
from tests.store.test_grants import client

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]

SEED = int(os.environ.get("HUB_PROVE_SEED", "20"))
STOPS = int(os.environ.get("HUB_PROVE_STOPS", "8"))
OPEN = "SELECT count(*) FROM deliveries WHERE state <> ALL ($1)"
LONGEST_LEASE = 200.0
"""Seconds. A claim that was committed while nobody could be told of it waits for the end of its lease."""


@pytest.fixture
def server() -> Iterator[Embedded]:
    """PostgreSQL runs as another user than root, whom pytest's own folders keep out."""
    with tempfile.TemporaryDirectory(prefix="hub-stops-") as folder:
        here = Embedded(Path(folder) / "pg")
        yield here
        here.stop()


def stop_at_once(server: Embedded) -> None:
    """As root, who may not run PostgreSQL's programs: as the user the server runs as."""
    inner = server._server
    tool = client().with_name("pg_ctl")
    subprocess.run(
        [tool, "-D", inner.pgdata, "-m", "immediate", "-w", "stop"],
        check=True, capture_output=True, user=inner.system_user, cwd="/",
    )  # fmt: skip


async def test_a_database_that_is_stopped_at_once_and_started_again_loses_nothing_that_was_answered_2xx(
    server: Embedded, tmp_path: Path
) -> None:
    dsn = server.create_database()
    await migrate(dsn)
    rng = random.Random(f"{SEED} stops")
    began = time.monotonic()
    effects = Effects()
    with stack.vendors(effects.watch) as town, mother(tmp_path) as parent:
        lives = Lives(town)
        for vendor in ("salesforce", "netsuite", "avalara", "s3"):
            town.fault(vendor, "latency", times=None, probability=0.3, delay_ms=100)
        port = str(free_port())
        env = stack.settings(
            town.url, dsn, HUB_PORT=port, HUB_LAKE_LINGER="0", HUB_COALESCE_SECONDS="0.2", HUB_SWEEP_MINUTES="0",
            HUB_UNKNOWN_WAIT_SECONDS="0.5", HUB_SALESFORCE_LEASE="60", HUB_SALESFORCE_TIMEOUT="20",
            HUB_NETSUITE_REQUEST_TIMEOUT="6", HUB_AVALARA_READ_TIMEOUT="6", HUB_RECONCILE_HOURS="0",
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        web, worker = parent.start("serve", env=env), parent.start("work", env=env)
        async with httpx.AsyncClient(base_url=url, timeout=20, verify=False) as http:
            await web.until("readiness", lambda: ready(http))
            stream = Stream([url], rng)
            connection = await asyncpg.connect(dsn)
            assert await connection.fetchval("SHOW fsync") == "on"
            while await connection.fetchval("SELECT count(*) FROM destinations") < 5:
                assert not worker.ended(), worker.told()
                await asyncio.sleep(0.1)
            await connection.close()
            async with streaming(stream) as group:
                over = asyncio.Event()
                sending = group.create_task(stream.told_until(over, lives.one))
                for _ in range(STOPS):
                    await asyncio.sleep(rng.uniform(0.5, 2.0))
                    await asyncio.to_thread(stop_at_once, server)
                    seen = stream.statuses[503]
                    while stream.statuses[503] == seen:  # noqa: ASYNC110 - a count
                        await asyncio.sleep(0.05)
                    assert (await http.get("/healthz")).status_code == 200
                    assert (await http.get("/readyz")).status_code == 503
                    await asyncio.sleep(rng.uniform(0.0, 1.0))
                    await asyncio.to_thread(server._server.ensure_postgres_running)
                    await web.until("readiness again", lambda: ready(http))
                over.set()
                await sending
        connection = await asyncpg.connect(dsn)
        try:
            stored = Counter(r["id"] for r in await connection.fetch("SELECT id FROM events WHERE kind <> 'read'"))
            assert stream.acked - set(stored) == set(), "answered 2xx, but not kept"
            assert stored == Counter(lives.events)
            deadline = time.monotonic() + LONGEST_LEASE
            while await connection.fetchval(OPEN, OVER) and time.monotonic() < deadline:
                assert not worker.ended(), worker.told()
                await asyncio.sleep(0.3)
            assert await connection.fetchval(OPEN, OVER) == 0
            lost = await connection.fetchval("SELECT count(*) FROM attempts WHERE outcome = 'lost'")
            deliveries = await connection.fetchval("SELECT count(*) FROM deliveries")
        finally:
            await connection.close()
        assert [await child.end() for child in (web, worker)] == [0, 0], "they were never restarted"
        lives.all_there(picture(town))
        lives.made_once(effects)
    figures = {
        "title": "PostgreSQL stopped at once, and started again",
        "stops": STOPS, "events": len(lives.events), "deliveries": deliveries, "answered_503": stream.statuses[503],
        "claims_lost": lost, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    tell(figures)
