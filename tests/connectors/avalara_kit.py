"""What the AvaTax tests share: a connected destination, records, and a wrapper that spoils single replies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.avalara.destination import Avalara
from connectors.avalara.sandbox_env import environment
from connectors.avalara.settings import AvalaraSettings
from connectors.avalara.simulator import AvalaraSimulator
from hub.model import Event, EventKind, Job, Link, Record
from tests.serving import served

NOW = 1796097600.0  # 2026-12-01 04:00 UTC
SEATTLE = {"line1": "1 Pike St", "city": "Seattle", "region": "WA", "postalCode": "98101", "country": "US"}
SHIP_FROM = {"region": "WA", "postalCode": "98110", "country": "US"}


def settings(base_url: str, **changes: Any) -> AvalaraSettings:
    values = {k.removeprefix("HUB_AVALARA_").lower(): v for k, v in environment(base_url).items()}
    return AvalaraSettings(**{**values, **changes})


@dataclass
class Spoiler:
    """In front of the simulator: notes every call, and spoils those whose path ends as `spoil` says.

    drop     carry it out, then break the connection inside the reply
    refuse   break the connection without carrying it out
    html     answer 503 with a proxy's page, not carrying it out
    hang     never answer;  trickle: answer a byte at a time
    """

    app: ASGIApp
    spoil: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.calls.append((scope["method"], scope["path"], raw))
        how = next((self.spoil.pop(end) for end in list(self.spoil) if scope["path"].endswith(end)), None)

        async def again() -> Message:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def nowhere(message: Message) -> None:
            return None

        if how is None:
            await self.app(scope, again, send)
            return
        if how == "drop":
            await self.app(scope, again, nowhere)
        if how in ("drop", "refuse"):
            await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"500")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            await _close(send)
        elif how == "html":
            await _answer(send, 503, b"<html>Bad gateway</html>", b"text/html")
        elif how == "hang":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(receive(), 5)  # until the client has gone
        elif how == "trickle":
            await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"50")]})
            for _ in range(20):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.1)
            await _close(send)

    def paths(self) -> list[str]:
        return [f"{method} {path.removeprefix('/api/v2/')}" for method, path, _ in self.calls]


async def _close(send: Send) -> None:
    """uvicorn closes the connection of a response that ends before its length."""
    with contextlib.suppress(RuntimeError):
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer(send: Send, status: int, body: bytes, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class World:
    """A simulator, what stands before it, and a destination connected to it over HTTP."""

    simulator: AvalaraSimulator
    spoiler: Spoiler
    url: str

    def fresh(self) -> World:
        """As new: one server serves a whole module's tests."""
        self.simulator.reset()
        self.spoiler.calls.clear()
        self.spoiler.spoil.clear()
        return self

    def destination(self, **changes: Any) -> Avalara:
        return Avalara(settings(self.url, **changes))

    def documents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.simulator.state()["documents"]
        return found

    def only(self) -> dict[str, Any]:
        (document,) = self.documents()
        return document


@contextlib.contextmanager
def world() -> Iterator[World]:
    simulator = AvalaraSimulator(clock=lambda: NOW)
    spoiler = Spoiler(simulator.app)
    with served(spoiler) as url:
        yield World(simulator, spoiler, url)


def line(number: str, amount: str, tax: str, **more: Any) -> dict[str, Any]:
    override = {"type": "TaxAmount", "taxAmount": Decimal(tax), "reason": "as charged"}
    return {"number": number, "amount": Decimal(amount), "taxCode": "P0000000", "taxOverride": override, **more}


def record(*lines: dict[str, Any], key: str = "in_1", link: Link | None = None, **fields: Any) -> Record:
    fields = {
        "date": "2026-11-30",
        "customerCode": "cus_1",
        "currencyCode": "USD",
        "addresses": {"shipFrom": SHIP_FROM, "shipTo": SEATTLE},
        "lines": list(lines or (line("il_1", "100.00", "9.00"),)),
        **fields,
    }
    return _record("SalesInvoice", "upsert", key, fields, link)


def commit(key: str = "in_1") -> Record:
    return _record("SalesInvoice.commit", "commit", key, {"commit": True}, None)


def void(key: str = "in_1") -> Record:
    return _record("SalesInvoice.void", "void", key, {"code": "DocVoided"}, None)


def _record(name: str, action: str, key: str, fields: dict[str, Any], link: Link | None) -> Record:
    text = json.dumps([name, key, fields], default=str, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Record(name, action, key, key, fields, digest, "avalara/test@1", link)


def job(*records: Record, attempt: int = 1) -> Job:
    moment = datetime.fromtimestamp(NOW, UTC)
    return Job(1, Event("evt_1", EventKind.SNAPSHOT, "invoice.finalized", b"{}", moment, moment), records, attempt)
