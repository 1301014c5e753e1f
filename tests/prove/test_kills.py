"""`kill -9` at random moments: a web and a worker process under a steady stream of events.

`test_matrix` knows where it kills; this one does not, and so also kills what nobody thought of, a process that starts
included: each is started as people start it, `hub serve` and `hub work`. The sandbox answers half of all calls late, so
that a kill often finds a vendor's answer under way. `HUB_PROVE_SEED` chooses other moments, `HUB_PROVE_KILLS` how many.
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

import asyncpg
import pytest

from hub.commands.common import free_port
from tests.flow import stack
from tests.flow.stack import picture
from tests.flow.test_processes import Child
from tests.prove.arena import LAPSE, tell
from tests.prove.effects import Effects
from tests.prove.lives import Lives
from tests.prove.stream import Stream, streaming

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1500)]

SEED = int(os.environ.get("HUB_PROVE_SEED", "20"))
KILLS = int(os.environ.get("HUB_PROVE_KILLS", "60"))
QUIET = 60.0
"""Seconds without a delivery coming to its end, after the last kill, until it is said that it does not drain."""


@dataclass
class Siege:
    """What is under attack, and what was done to it."""

    env: dict[str, str]
    folder: Path
    dsn: str
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    children: dict[str, Child] = field(default_factory=dict)

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


async def at_work(child: Child, word: str) -> None:
    """Until it logged `word`, or for as long as it takes to start twice over: there may be nothing to do."""
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline and word not in child.log.read_text():  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.05)


async def lapse(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            for text in LAPSE:
                await connection.execute(text)
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


async def test_whatever_is_killed_whenever_every_event_is_kept_and_every_record_is_there_once(
    dsn: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    effects = Effects()
    with stack.vendors(effects.watch) as vendors:
        lives = Lives(vendors)
        for vendor in ("salesforce", "netsuite", "avalara", "s3"):
            vendors.fault(vendor, "latency", times=None, probability=0.5, delay_ms=150)
        port = free_port()
        env = stack.settings(
            vendors.url, dsn, HUB_PORT=str(port), HUB_LOG_LEVEL="info", HUB_LAKE_LINGER="0",
            HUB_COALESCE_SECONDS="0.2", HUB_UNKNOWN_WAIT_SECONDS="0.5", HUB_SWEEP_MINUTES="0",
            HUB_RECONCILE_HOURS="0",
        )  # fmt: skip
        siege = Siege(env, tmp_path, dsn)
        stream = Stream([f"http://127.0.0.1:{port}"], random.Random(f"{SEED} senders"), breaks=True)
        web = KILLS // 2
        try:
            siege.start("serve")
            siege.start("work")
            over = asyncio.Event()
            async with streaming(stream) as group:
                sending = group.create_task(stream.told_until(over, lives.one))
                attacks = [
                    siege.besiege("serve", "received", web, random.Random(f"{SEED} web")),
                    siege.besiege("work", "attempted", KILLS - web, random.Random(f"{SEED} worker")),
                ]
                await asyncio.gather(*attacks)
                over.set()
                await sending
            states = await drained(dsn)
            ends = [await siege.children[c].end() for c in ("serve", "work")]
            assert ends == [0, 0], [child.told() for child in siege.children.values()]
        finally:
            for child in siege.children.values():
                if child.process.poll() is None:
                    child.process.kill()
                child.process.wait(30)
        connection = await asyncpg.connect(dsn)
        try:
            stored = await connection.fetch("SELECT id FROM events WHERE kind <> 'read'")
            lost = await connection.fetchval("SELECT count(*) FROM attempts WHERE outcome = 'lost'")
            wrong = await connection.fetch(
                "SELECT id, destination, state, code, cause FROM deliveries "
                "WHERE state NOT IN ('done', 'superseded') LIMIT 5"
            )
        finally:
            await connection.close()
        assert [dict(row) for row in wrong] == []
        assert Counter(row["id"] for row in stored) == Counter(lives.events)
        assert stream.acked == set(lives.events)
        assert states["done"] > 0
        lives.all_there(picture(vendors))
        lives.made_once(effects)
    assert siege.kills.total() == KILLS
    figures = {
        "title": "killed at random moments", "seed": SEED, "kills": KILLS, "web": siege.kills["serve"],
        "worker": siege.kills["work"], "claims_lost": lost, "events": len(lives.events),
        "deliveries": states.total(), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    tell(figures)
