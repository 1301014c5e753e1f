"""A `hub serve` process to be treated badly, and what that takes: raw requests, signed events, a filled database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson

from connectors.stripe.simulator.webhooks import signature
from hub.commands.common import free_port
from hub.db import Database
from hub.model import DeliveryState, Disposition
from hub.store import Accepted
from tests.filling import CRM, LAKE, LEDGER, NOW, accept, claim, execute, link, new_event, register, routed, settle
from tests.filling import settlement as settled

SECRET = "whsec_do_not_tell_the_signing_secret"
TOKEN = "do-not-tell-this-token-of-the-api"
PERSON = "Zelda Marmalade"
EMAIL = "zelda.marmalade@example.com"
MARKS = (SECRET, TOKEN, "Zelda", "Marmalade", "zelda.marmalade")
"""What must not be seen anywhere but in the stored body: secrets, and a person."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Served:
    """A process that answers."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]
    dsn: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def told(self) -> str:
        return self.log.read_text()

    async def stored(self) -> set[str]:
        """Ids of all events."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return {row["id"] for row in await connection.fetch("SELECT id FROM events")}
        finally:
            await connection.close()


def environment(dsn: str, **changes: str) -> dict[str, str]:
    """The settings of a hub that serves, and nothing else."""
    return {
        "HUB_DATABASE_URL": dsn,
        "HUB_API_TOKEN": TOKEN,
        "HUB_STRIPE_API_KEY": "sk_test_do_not_tell",
        "HUB_STRIPE_WEBHOOK_SECRETS": SECRET,
        "HUB_LOG_LEVEL": "info",
        **changes,
    }


@contextlib.asynccontextmanager
async def serving(dsn: str, folder: Path, **changes: str) -> AsyncIterator[Served]:
    """`hub serve` as a process of its own, ended with the block; it must have gone well until then."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220 - a fork takes no time that a test would miss
            [sys.executable, "-m", "hub.cli", "serve"],
            env={**clean, **environment(dsn, HUB_PORT=str(port), **changes)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    served = Served(port, log, process, dsn)
    try:
        async with httpx.AsyncClient(base_url=served.url, verify=False, trust_env=False) as http:
            await until(lambda: _ready(http), served)
        yield served
        assert process.poll() is None, served.told()
    finally:
        process.kill()
        process.wait(PATIENCE)


async def _ready(http: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/readyz")).status_code == 200
    return False


async def until(check: Callable[[], Any], served: Served, seconds: float = PATIENCE) -> None:
    """Wait until `check` holds, while the process lives."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert served.process.poll() is None, served.told()
        assert time.monotonic() < deadline, f"it was not seen within {seconds} s: {served.told()[-2000:]}"
        await asyncio.sleep(0.05)


# Requests ------------------------------------------------------------------------------------------------------------


def event(id_: str, **more: Any) -> bytes:
    """An event about a person's invoice."""
    about = {"id": f"in_{id_}", "object": "invoice", "customer_name": PERSON, "customer_email": EMAIL}
    return orjson.dumps(
        {"id": id_, "object": "event", "type": "invoice.paid", "livemode": False, "data": {"object": about}} | more
    )


def signed(body: bytes, *more: str, seconds: float | None = None) -> bytes:
    """A whole webhook request, as it goes over the wire; `more`: header lines."""
    now = int(time.time() if seconds is None else seconds)
    lines = (
        "POST /webhooks/stripe HTTP/1.1", "Host: hub", "Content-Type: application/json",
        f"Stripe-Signature: {signature(body, SECRET, now)}", f"Content-Length: {len(body)}", *more,
    )  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Line:
    """A connection, by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        """Send; whether the other side still listens is not our concern."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """The next answer's status and body; 0 if the connection is closed instead."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0, b""
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
            )
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)

    async def closed(self) -> bytes:
        """Wait until the other side closes it; what it said before."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""


@contextlib.asynccontextmanager
async def lines(served: Served, count: int) -> AsyncIterator[list[Line]]:
    """So many connections, opened together."""
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", served.port) for _ in range(count)))
    found = [Line(*pair) for pair in opened]
    try:
        yield found
    finally:
        for line in found:
            line.writer.transport.abort()


# A database with something in it -------------------------------------------------------------------------------------


async def fill(db: Database) -> None:
    """Deliveries in every state, links, attempts, a pause, an unmapped event, a rejected body."""
    for name, kind in ((LEDGER, "ledger"), (CRM, "state"), (LAKE, "log")):
        await register(db, name, kind)
    await accept(db, *(routed(new_event(f"evt_{i}"), LEDGER) for i in (1, 2, 3)))
    (lane,) = claims = await claim(db)
    first, second, third = lane.deliveries
    await settle(
        db,
        claims,
        settled(first, DeliveryState.DONE, links=(link(), link("cus_1", "customer"))),
        settled(second, DeliveryState.DEAD, "reject", failed=True),
        settled(third, DeliveryState.HELD, "defer", held_by=second.id, note="held"),
    )
    await accept(db, routed(new_event("evt_4", object_id="in_4", customer_id="cus_4"), CRM, LAKE))
    await claim(db, CRM, ledger=False)
    await accept(db, Accepted(new_event("evt_5", type="shiny.new"), Disposition.UNMAPPED, "no mapping", ()))
    await execute(
        db,
        "INSERT INTO rejected_bodies (received_at, reason, body) VALUES ($1, 'the body is not JSON', $2)",
        NOW,
        b"\xff",
    )
