"""The whole thing for a test: five vendors served over HTTP, a hub on a database of its own, and what the vendors hold.

`vendors()` serves the sandbox; `hub()` is a hub in this process, whose clock the test moves; `picture()` is what all
vendors hold at the end, without what may differ between two ways to the same end (ids they drew, times they noted).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from connectors.avalara.simulator import AvalaraSimulator
from connectors.netsuite.simulator import NetSuiteSimulator
from connectors.salesforce.simulator import SalesforceSimulator
from connectors.sandbox.app import Sandbox, create
from connectors.sandbox.environment import environment
from connectors.sandbox.lake import lake_events
from connectors.sandbox.s3 import S3Simulator
from connectors.stripe.sandbox_env import WEBHOOK_SECRET
from connectors.stripe.simulator import StripeSimulator
from connectors.stripe.simulator.webhooks import signature
from hub import app
from hub.app import Core
from hub.db import Embedded
from hub.worker import Workers
from tests.conftest import Clock
from tests.serving import served

START = 1_793_620_800  # 2026-11-02 12:00 UTC, in Stripe's business time
TOKEN = "a-token-for-tests-of-24-characters"
Event = dict[str, Any]
NEXT_DUE = """
SELECT min(greatest(l.due_at, p.paused_until)) FROM lanes l JOIN destinations p ON p.name = l.destination
WHERE l.due_at IS NOT NULL AND coalesce(p.paused_until, '-infinity') < 'infinity'
"""


@dataclass
class Vendors:
    """The served sandbox, and the hands a test has in it."""

    url: str
    sandbox: Sandbox
    stripe: StripeSimulator
    http: httpx.Client
    heard: list[Event] = field(default_factory=list)
    """Every event since the last `reset`, in the order in which it happened."""

    def reset(self) -> None:
        self.http.post("/__sandbox/reset").raise_for_status()
        self.heard.clear()

    def fault(
        self, vendor: str, kind: str, match: str = "", *, times: int | None = 1, probability: float = 1.0, **more: Any
    ) -> None:
        """Something happens to requests of a vendor; `match` is `METHOD path`, the path as a regular expression."""
        wanted: dict[str, Any] = {"probability": probability}
        if match:
            method, _, path = match.partition(" ")
            wanted |= {"method": method, "path_regex": path}
        asked = {"vendor": vendor, "match": wanted, "action": {"kind": kind, **more}, "times": times}
        self.http.post("/__sandbox/faults", json=asked).raise_for_status()

    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get("/__sandbox/faults").json()["faults"]
        return found

    def requests(self, vendor: str) -> list[dict[str, Any]]:
        """All requests to a vendor since the last `reset`, oldest first."""
        answer = self.http.get("/__sandbox/requests", params={"vendor": vendor}).json()
        found: list[dict[str, Any]] = answer["requests"]
        return found

    def state(self, vendor: str) -> dict[str, Any]:
        """What a vendor holds, as plain JSON."""
        found: dict[str, Any] = orjson.loads(orjson.dumps(self.sandbox.simulators[vendor].state(), default=str))
        return found

    def post(self, path: str, **params: Any) -> Any:
        """An operation at Stripe."""
        return self.stripe.call("POST", path, params)

    def last(self, type_: str) -> Event:
        """The last event of a type."""
        return next(e for e in reversed(self.heard) if e["type"] == type_)


@contextlib.contextmanager
def vendors(watch: Callable[[str, Any], Any] = lambda _, simulator: simulator) -> Iterator[Vendors]:
    """Serve the sandbox. One at a time in a process: moto's S3 is one. `watch` may put something round a vendor."""
    stripe = StripeSimulator(seed=7, clock=time.time, start=START)
    simulators: dict[str, Any] = {
        "stripe": stripe,
        "salesforce": SalesforceSimulator(seed=7, clock=time.time),
        "netsuite": NetSuiteSimulator(seed=7, clock=time.time),
        "avalara": AvalaraSimulator(seed=7, clock=time.time),
        "s3": S3Simulator(seed=7, clock=time.time),
    }
    watched = {name: watch(name, simulator) for name, simulator in simulators.items()}
    sandbox = create(seed=7, clock=time.time, simulators=watched)
    with served(sandbox) as url, httpx.Client(base_url=url, verify=False, timeout=30) as http:
        town = Vendors(url, sandbox, stripe, http)
        stripe.listen(lambda event: town.heard.append(orjson.loads(orjson.dumps(event))))
        yield town


def settings(url: str, dsn: str, **changes: str | None) -> dict[str, str]:
    """The environment of a hub that lives in this sandbox. `changes`: `HUB_` names; None takes one away."""
    usual: dict[str, str | None] = {
        **environment(url),
        "HUB_DATABASE_URL": dsn,
        "HUB_API_TOKEN": TOKEN,
        "HUB_LOG_LEVEL": "error",
        **changes,
    }
    return {name: value for name, value in usual.items() if value is not None}


@dataclass
class Hub:
    """A hub in this process: its web side is called directly, its workers when the test says so."""

    core: Core
    http: httpx.AsyncClient
    clock: Clock
    workers: Workers

    async def deliver(self, events: Iterable[Event], *, repeat: bool | None = None) -> None:
        """Sign and send, one after the other, as Stripe does; each must be taken."""
        for event in events:
            answer = await self.post(orjson.dumps(event, option=orjson.OPT_INDENT_2))
            assert answer.status_code == 200, answer.text
            assert repeat is None or answer.json()["repeat"] == repeat, event["id"]

    async def post(self, body: bytes) -> httpx.Response:
        header = {"stripe-signature": signature(body, WEBHOOK_SECRET, int(self.clock()))}
        return await self.http.post("/webhooks/stripe", content=body, headers=header)

    async def work(self, turns: int = 300) -> None:
        """Do what is due, move the clock to when the next is, and so on until nothing is; what is paused stays."""
        for _ in range(turns):
            await self.workers.drain(flush=True)
            rows = await self.core.db.fetch_text(NEXT_DUE)
            due: datetime | None = rows[0][0]
            if due is None:
                return
            self.clock.now = max(self.clock.now, due.timestamp() + 0.001)
        raise AssertionError(f"after {turns} turns there is still work: {await self.states()}")

    async def rows(self, **where: Any) -> list[dict[str, Any]]:
        """Deliveries with their event's type, in order; `where`: columns and their values."""
        text = " AND ".join(f"{name} = ${n}" for n, name in enumerate(where, 1)) or "true"
        found = await self.core.db.fetch_text(
            f"SELECT d.*, e.type, e.id AS event FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE {text}"
            " ORDER BY d.id",
            *where.values(),
        )
        return [dict(row) for row in found]

    async def states(self) -> Counter[str]:
        """`netsuite done` -> how many."""
        return Counter(f"{row['destination']} {row['state']}" for row in await self.rows())


@contextlib.asynccontextmanager
async def database(postgres: Embedded, template: str) -> AsyncIterator[str]:
    """Address of a fresh, migrated database; for fixtures of a whole module, which cannot use a test's own."""
    name = f"t_{os.urandom(6).hex()}"
    admin = await asyncpg.connect(postgres.dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield postgres.address(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def hub(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch, **changes: str | None
) -> AsyncIterator[Hub]:
    """A hub as `hub serve` and `hub work` make it, in this process. Everything comes from the environment."""
    for name in [n for n in os.environ if n.startswith("HUB_")]:
        env.delenv(name)
    for name, value in settings(town.url, dsn, **changes).items():
        env.setenv(name, value)
    given, stripe = app.read_settings(serving=True)
    core = replace(await app.open_core(given, stripe, dsn), clock=clock)
    workers, close = await app.make_workers(core, seed=7)
    transport = httpx.ASGITransport(app=app.web(core, stripe))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", verify=False) as http:
        try:
            yield Hub(core, http, clock, workers)
        finally:
            await close()
            await core.db.close()


# What the vendors hold -----------------------------------------------------------------------------------------------

_NOTED = {"id", "Id", "CreatedDate", "LastModifiedDate", "SystemModstamp", "entity"}


def picture(town: Vendors) -> dict[str, Any]:
    """`{"salesforce": {"Account cus_1": {...}}, "netsuite": ..., "avalara": ..., "lake": {event id: rows}}`."""
    crm = town.state("salesforce")
    names = {row["Id"]: _key(kind, row) for kind, rows in crm.items() for row in rows}
    found: dict[str, Any] = {"salesforce": {}, "netsuite": {}, "avalara": {}}
    for kind, rows in crm.items():
        for row in rows:
            shown = {f: names.get(v, v) if f.endswith("__c") else v for f, v in row.items() if f not in _NOTED}
            _put(found["salesforce"], f"{kind} {_key(kind, row)}", shown)
    for kind, rows in town.state("netsuite").items():
        for row in rows if kind not in ("balances", "foreign", "carried") else ():  # those follow from the rest
            for address in row.get("addressBook", ()):
                address.pop("id")  # NetSuite's own number
            _put(found["netsuite"], f"{kind} {row['externalId']}", {f: v for f, v in row.items() if f not in _NOTED})
    taxes = town.state("avalara")
    assert taxes["superseded"] == [], "nothing is ever adjusted"
    for document in taxes["documents"]:
        _put(found["avalara"], document["code"], {f: v for f, v in document.items() if f not in _NOTED})
    found["lake"] = dict(lake_events(f"{town.url}/s3"))
    return found


def _key(kind: str, row: Mapping[str, Any]) -> str:
    return str(row["Stripe_Customer_Id__c" if kind == "Account" else "Stripe_Id__c"])


def _put(found: dict[str, Any], key: str, row: Any) -> None:
    assert key not in found, f"two of {key}"
    found[key] = row


def utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
