"""A rolling upgrade: the next release migrates and starts beside this one, which goes on, and is then stopped.

The next release is a copy of this one with one more step of the schema. Everything is real: two installations, their
processes on one database, a stream of webhooks to both, five vendors.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from hub import migrate
from hub.commands.common import free_port
from tests.flow import stack
from tests.flow.stack import Vendors, picture
from tests.flow.story import ADDRESS, draft, shop, subscribe
from tests.flow.test_processes import PATIENCE, Child, sent
from tests.prove.test_kills import drained

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
NEXT = f"{int(migrate.HEAD) + 1:04d}"
CUSTOMERS = 30
STEP = f'''"""What the next release needs."""

from hub.migrations.steps import outside

revision = "{NEXT}"
down_revision = "{migrate.HEAD}"
oldest_code = "{{oldest}}"


def upgrade() -> None:
    """While the hub runs."""
    outside(__file__)
'''
SQL = """ALTER TABLE events ADD COLUMN IF NOT EXISTS channel text NOT NULL DEFAULT 'webhook';
ALTER TABLE deliveries ADD COLUMN IF NOT EXISTS priority integer;
CREATE TABLE IF NOT EXISTS more (id bigint PRIMARY KEY);
CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_priority ON deliveries (priority) WHERE priority IS NOT NULL;
"""


def release(folder: Path, oldest: str = migrate.HEAD) -> Path:
    """The next release, as somebody would install it beside this one."""
    for part in ("hub", "connectors", "mappings"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "hub" / "migrate.py"
    text = module.read_text()
    assert text.count(f'HEAD = "{migrate.HEAD}"') == 1
    module.write_text(text.replace(f'HEAD = "{migrate.HEAD}"', f'HEAD = "{NEXT}"'))
    step = folder / "hub" / "migrations" / "versions" / f"v{NEXT}_next.py"
    step.write_text(STEP.format(oldest=oldest))
    step.with_suffix(".sql").write_text(SQL)
    return folder


class Installation:
    """Starts `hub <command>` of one release."""

    def __init__(self, code: Path, logs: Path, env: dict[str, str]) -> None:
        self._code, self._logs, self._env = code, logs, env
        self.children: list[Child] = []

    def start(self, command: str, **env: str) -> Child:
        log = self._logs / f"{self._code.name}-{len(self.children)}-{command}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "hub.cli", command],
                env={**clean, **self._env, "PYTHONPATH": str(self._code), **env},
                cwd=self._logs,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.children.append(Child(process, log))
        return self.children[-1]

    async def run(self, command: str) -> tuple[int, str]:
        """Its exit code and what it said."""
        child = self.start(command)
        code = await asyncio.to_thread(child.process.wait, PATIENCE)
        return code, child.log.read_text()


@pytest.fixture
def installations(tmp_path: Path) -> Iterator[list[Installation]]:
    found: list[Installation] = []
    yield found
    for child in (c for i in found for c in i.children):
        if child.process.poll() is None:
            child.process.kill()
        child.process.wait(PATIENCE)


async def ready(port: int, child: Child) -> None:
    async def check() -> bool:
        try:
            async with httpx.AsyncClient(timeout=2) as http:
                return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    await child.until(f"an answer on {port}", check)


async def worked(child: Child) -> None:
    """Until it has carried something out."""
    await child.until("an attempt", lambda: "attempted" in child.log.read_text())


@dataclass
class Town:
    """What happened at Stripe, in order, and which invoices came of it."""

    events: list[dict[str, Any]]
    paid: list[str] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)


def live(vendors: Vendors, count: int) -> Town:
    """Customers who each pay an invoice; every third has another that is voided."""
    town = Town([])
    ids = shop(vendors)
    for n in range(count):
        customer = vendors.post("/v1/customers", name=f"Customer {n}", address=ADDRESS)["id"]
        town.paid.append(subscribe(vendors, ids | {"customer": customer}, 3)["latest_invoice"])
        if n % 3 == 0:
            wrong = draft(vendors, customer)
            vendors.post("/v1/invoiceitems", customer=customer, invoice=wrong, amount=12500, description="Training")
            vendors.post(f"/v1/invoices/{wrong}/finalize")
            vendors.post(f"/v1/invoices/{wrong}/void")
            town.voided.append(wrong)
    town.events = list(vendors.heard)
    return town


class Stream:
    """The lives, one event after the other, to whichever web server takes it: as a balancer in front would."""

    def __init__(self, town: Town, ports: list[int]) -> None:
        self.ports, self.acked = ports, dict[str, int]()
        self._events = town.events
        self.share = 0.0
        self.reach = 0.2
        """Up to here in haste, beyond in drops: starting takes long, and events must come all the while."""

    async def run(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=15, verify=False, limits=limits) as http:
            for n, event in enumerate(self._events):
                while event["id"] not in self.acked:
                    port = self.ports[n % len(self.ports)]
                    http.base_url = httpx.URL(f"http://127.0.0.1:{port}")
                    try:
                        status = await sent(http, event)
                    except httpx.TransportError:
                        status = 0
                    assert status in (0, 200, 503), status
                    if status == 200:
                        self.acked[event["id"]] = port
                    else:
                        await asyncio.sleep(0.1)
                self.share = (n + 1) / len(self._events)
                await asyncio.sleep(0.05 if self.share < self.reach else 1.0)

    async def until(self, share: float, running: asyncio.Task[None]) -> None:
        while self.share < share:
            assert not running.done(), running
            await asyncio.sleep(0.05)


async def test_old_and_new_code_run_on_one_schema_while_events_come_and_nothing_is_lost_or_doubled(
    dsn: str, tmp_path: Path, installations: list[Installation]
) -> None:
    code = release(tmp_path / "next")
    with stack.vendors() as vendors:
        town = live(vendors, CUSTOMERS)
        events = [e["id"] for e in town.events]
        old_port, new_port = free_port(), free_port()
        env = stack.settings(
            vendors.url, dsn, HUB_LOG_LEVEL="info", HUB_LAKE_LINGER="0", HUB_COALESCE_SECONDS="0.2",
            HUB_UNKNOWN_WAIT_SECONDS="0.5",
        )  # fmt: skip
        old, new = Installation(ROOT, tmp_path, env), Installation(code, tmp_path, env)
        installations += [old, new]

        web, worker = old.start("serve", HUB_PORT=str(old_port)), old.start("work")
        await ready(old_port, web)
        stream = Stream(town, [old_port])
        streaming = asyncio.create_task(stream.run())
        await worked(worker)
        await stream.until(0.1, streaming)

        # The new release refuses until it has migrated; then the old one, already running, goes on.
        assert "run `hub migrate`" in (await new.run("work"))[1]
        code_, told = await new.run("migrate")
        assert (code_, NEXT in told) == (0, True), told
        stream.reach = stream.share + 0.1
        await stream.until(stream.reach, streaming)
        assert web.process.poll() is worker.process.poll() is None

        # An old one that is started now, after a crash for instance, runs too, and its migration changes nothing.
        code_, told = await old.run("migrate")
        assert (code_, NEXT in told) == (0, True), told
        second = old.start("work")

        new_web, new_worker = new.start("serve", HUB_PORT=str(new_port)), new.start("work")
        await ready(new_port, new_web)
        stream.ports = [old_port, new_port]
        stream.reach = 1.0
        await worked(new_worker)
        await worked(second)
        await stream.until(min(0.7, stream.share + 0.15), streaming)
        stream.reach = 0.0

        # The balancer is told first, then the old processes are stopped.
        stream.ports = [new_port]
        assert [await child.end() for child in (web, worker, second)] == [0, 0, 0], web.told() + worker.told()
        stream.reach = 1.0
        await asyncio.wait_for(streaming, 120)
        states = await drained(dsn)
        assert [await child.end() for child in (new_web, new_worker)] == [0, 0], new_worker.told()

        assert set(stream.acked) == set(events)
        assert set(stream.acked.values()) == {old_port, new_port}
        assert set(states) <= {"done", "superseded"}, states
        connection = await asyncpg.connect(dsn)
        try:
            stored = [r["id"] for r in await connection.fetch("SELECT id FROM events WHERE kind <> 'read'")]
            assert sorted(stored) == sorted(events)
        finally:
            await connection.close()
        found = picture(vendors)  # which refuses two records of one key
        assert found["lake"] == dict.fromkeys(events, 1)
        assert {k: v for k, v in found["netsuite"].items() if k.startswith("invoice ")}.keys() == {
            f"invoice stripe_{i}" for i in (*town.paid, *town.voided)
        }
        assert {k: d["status"] for k, d in found["avalara"].items()} == (
            dict.fromkeys(town.paid, "Committed") | dict.fromkeys(town.voided, "Cancelled")
        )


async def test_a_release_that_the_old_code_cannot_run_beside_stops_it_from_starting_and_says_what_to_do(
    dsn: str, tmp_path: Path, installations: list[Installation]
) -> None:
    code = release(tmp_path / "next", oldest=NEXT)
    env = stack.settings("http://127.0.0.1:9", dsn)
    old, new = Installation(ROOT, tmp_path, env), Installation(code, tmp_path, env)
    installations += [old, new]
    assert (await new.run("migrate"))[0] == 0
    for command in ("work", "migrate"):
        status, told = await old.run(command)
        assert status == 2
        assert "start the newer" in told
