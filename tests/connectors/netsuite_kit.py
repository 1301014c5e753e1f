"""Shared by the NetSuite tests: a simulator behind a tap, destinations, and jobs made by the real mappings."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.destination import NetSuite
from connectors.netsuite.errors import Reply
from connectors.netsuite.limit import Limit
from connectors.netsuite.sandbox_env import TBA, environment
from connectors.netsuite.settings import NetSuiteSettings
from connectors.netsuite.simulator import NetSuiteSimulator
from hub.mapping import Mappings, load
from hub.mapping.record import Skip
from hub.model import Event, EventKind, Job, Record
from tests.serving import served

MAPPINGS = Path(__file__).resolve().parents[2] / "mappings"
NOW = datetime(2026, 1, 15, tzinfo=UTC)
Act = Callable[[Scope, Receive, Send, ASGIApp], Awaitable[None]]


@dataclass
class Tap:
    """An ASGI application in front of another: notes every request, and lets `act` answer in its place."""

    app: ASGIApp
    act: Act | None = None
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, path with query, body."""
    headers: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message.get("body", b"")
        body += message.get("body", b"")
        query = scope["query_string"].decode()
        self.seen.append((scope["method"], scope["path"] + (f"?{query}" if query else ""), body))
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(given, None) or await receive()

        if self.act is not None and "/record/" in scope["path"]:
            await self.act(scope, again, send, self.app)
        else:
            await self.app(scope, again, send)

    def calls(self, part: str) -> list[tuple[str, str, bytes]]:
        return [call for call in self.seen if part in call[1]]


@dataclass
class World:
    sim: NetSuiteSimulator
    tap: Tap
    url: str

    def settings(self, **changes: Any) -> NetSuiteSettings:
        prefix = "HUB_NETSUITE_"
        given: dict[str, Any] = {n.removeprefix(prefix).lower(): v for n, v in environment(self.url).items()}
        return NetSuiteSettings(**{**given, **changes})

    def destination(self, **changes: Any) -> NetSuite:
        return NetSuite(self.settings(**changes), rng=random.Random(1))

    def token_destination(self, **changes: Any) -> NetSuite:
        return self.destination(auth="token", client_id=None, certificate_id=None, private_key=None, **TBA, **changes)


@contextlib.contextmanager
def world(act: Act | None = None, **options: Any) -> Iterator[World]:
    sim = NetSuiteSimulator(clock=time.time, **options)
    tap = Tap(sim.app, act)
    with served(tap) as url:
        yield World(sim, tap, url)


class Caller:
    """Plain calls with the connector's own client; close that in the end."""

    def __init__(self, w: World) -> None:
        self.w, self.client = w, NetSuiteClient(w.settings(), Limit(5))

    async def __call__(self, method: str, path: str, body: Any = None, **params: str) -> Reply:
        return await self.client.call(method, f"/record/v1/{path}", record="test", params=params, body=body)

    async def ok(self, method: str, path: str, body: Any = None, **params: str) -> Reply:
        reply = await self(method, path, body, **params)
        assert reply.status in (200, 204), reply.text
        return reply

    async def refused(self, code: str, text: str, method: str, path: str, body: Any = None, **params: str) -> None:
        reply = await self(method, path, body, **params)
        assert reply.headers["content-type"] == "application/vnd.oracle.resource+json; type=error"
        (detail,) = reply.details
        assert (detail["o:errorCode"], text in detail["detail"]) == (code, True), reply.text


def own_mappings(folder: Path) -> Mappings:
    """Our mappings alone, so that a fault in another destination's files is not ours."""
    shutil.copytree(MAPPINGS / "netsuite", folder / "netsuite")
    (folder / "lookups").mkdir()
    for table in (MAPPINGS / "lookups").glob("netsuite_*.yaml"):
        shutil.copy(table, folder / "lookups")
    return load(folder)


def make(mappings: Mappings, name: str, *, settings: dict[str, Any] | None = None, **roots: Any) -> Record:
    """One record. A need that is not given is null, or empty if it is of many."""
    mapping = mappings.for_destination("netsuite")[name]
    needs: dict[str, Any] = {n.name: [] if n.by else {} if n.many else None for n in mapping.needs}
    made = mapping.apply({"event": None, **needs, **roots}, {"timezone": "UTC", **(settings or {})})
    assert not isinstance(made, Skip), made.reason
    return made


def payment(amount: int, **changes: Any) -> dict[str, Any]:
    """An InvoicePayment of `in_1`, paid on 2026-01-11."""
    return {
        "id": "inpay_1",
        "object": "invoice_payment",
        "invoice": "in_1",
        "amount_paid": amount,
        "currency": "eur",
        "status": "paid",
        "status_transitions": {"paid_at": 1768089600},
        "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
        **changes,
    }


def job(*records: Record) -> Job:
    event = Event(
        id="evt_1", kind=EventKind.SNAPSHOT, type="invoice.finalized", body=b"{}", created=NOW, received_at=NOW, seq=1
    )
    return Job(1, event, records)


def customer(**changes: Any) -> dict[str, Any]:
    return {"id": "cus_1", "object": "customer", "name": "Acme Ltd", "email": "pay@acme.example", **changes}


def invoice(lines: list[dict[str, Any]], total: int, **changes: Any) -> dict[str, Any]:
    """A finalised invoice of 2026-01-10 in euros; `subtotal` is the sum of the lines."""
    return {
        "id": "in_1",
        "object": "invoice",
        "number": "ACME-0001",
        "customer": "cus_1",
        "currency": "eur",
        "created": 1768003200,
        "status_transitions": {"finalized_at": 1768003200, "paid_at": 1768089600, "voided_at": 1768089600},
        "lines": {"object": "list", "has_more": False, "data": lines},
        "subtotal": sum(line["amount"] for line in lines),
        "total": total,
        "amount_paid": 0,
        "pre_payment_credit_notes_amount": 0,
        **changes,
    }


def line(amount: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"il_{amount}", "amount": amount, "quantity": 1, "description": "Plan", **changes}
