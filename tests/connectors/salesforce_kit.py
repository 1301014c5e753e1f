"""What the Salesforce tests share: a served org behind a front that records and plays faults, and records to send."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from connectors.salesforce.destination import SalesforceDestination
from connectors.salesforce.sandbox_env import environment
from connectors.salesforce.settings import SalesforceSettings
from connectors.salesforce.simulator import SalesforceSimulator
from hub.errors import Outcome, Receipt
from hub.model import Event, EventKind, Job, Record
from tests.serving import served

Fault = Callable[[Any, Any, Any, Any], Awaitable[None]]
"""Plays one request: (simulator app, scope, receive, send)."""


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)


@dataclass
class Front:
    """The ASGI application that is served: records, plays the next fault that is due, else passes on."""

    app: Any
    seen: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    """For calls to the data API, first come first served."""
    sign_in_faults: list[Fault] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.seen.append(Seen(scope["method"], scope["path"], headers, body))
        given = False

        async def again() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        queue = self.sign_in_faults if "oauth2" in scope["path"] else self.faults
        if queue:
            await queue.pop(0)(self.app, scope, again, send)
        else:
            await self.app(scope, again, send)

    @property
    def logins(self) -> int:
        return sum("oauth2" in s.path for s in self.seen)

    @property
    def calls(self) -> list[Seen]:
        return [s for s in self.seen if "oauth2" not in s.path]


@dataclass
class Clock:
    """The simulator's clock: real time, moved by tests."""

    offset: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@dataclass
class Org:
    """A served simulator and the destination connected to it."""

    sim: SalesforceSimulator
    front: Front
    clock: Clock
    base: str
    hub: SalesforceDestination

    async def send(self, *jobs: Job) -> list[Outcome]:
        return list(await self.hub.send(jobs))


@contextlib.asynccontextmanager
async def org(now: Callable[[], float] = time.monotonic, **settings: Any) -> AsyncIterator[Org]:
    """An empty org, served, and a destination for it, which tells the time by `now`.

    `settings` override the sandbox's; None takes one away.
    """
    clock = Clock()
    sim = SalesforceSimulator(seed=7, clock=clock)
    front = Front(sim.app)
    with served(front) as base:
        usual = {k.removeprefix("HUB_SALESFORCE_").lower(): v for k, v in environment(base).items()}
        given: dict[str, Any] = {k: v for k, v in {**usual, **settings}.items() if v is not None}
        hub = SalesforceDestination(SalesforceSettings(**given), clock=now)
        try:
            yield Org(sim, front, clock, base, hub)
        finally:
            await hub.close()


def event(type_: str = "invoice.paid") -> Event:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    return Event(id="evt_1", kind=EventKind.SNAPSHOT, type=type_, body=b"{}", created=now, received_at=now)


def job(number: int, *records: Record, attempt: int = 1) -> Job:
    return Job(delivery_id=number, event=event(), records=records, attempt=attempt)


def record(kind: str, key: str, **fields: Any) -> Record:
    return Record(
        record=kind,
        action="upsert",
        object_id=key,
        key=key,
        fields=fields,
        digest=f"digest-{key}-{len(fields)}",
        mapping="salesforce/test@1",
    )


def account(key: str = "cus_1", **fields: Any) -> Record:
    return record("Account", key, **{"Name": f"Customer {key}", **fields})


def subscription(key: str = "sub_1", customer: str = "cus_1", **fields: Any) -> Record:
    return record("Stripe_Subscription__c", key, Account__r={"Stripe_Customer_Id__c": customer}, **fields)


def invoice(key: str = "in_1", customer: str = "cus_1", **fields: Any) -> Record:
    return record("Stripe_Invoice__c", key, Account__r={"Stripe_Customer_Id__c": customer}, **fields)


def receipts(outcomes: list[Outcome]) -> list[Receipt]:
    """All outcomes, which must be receipts."""
    bad = [o for o in outcomes if not isinstance(o, Receipt)]
    assert not bad, bad
    return [o for o in outcomes if isinstance(o, Receipt)]


def replying(status: int, body: Any, content_type: str = "application/json;charset=UTF-8") -> Fault:
    """Answer without applying. A `str` is sent as it is, anything else as JSON."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    async def fault(_app: Any, _scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(raw)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})

    return fault


def refusing(status: int, code: str, message: str, fields: tuple[str, ...] = ()) -> Fault:
    return replying(status, [{"message": message, "errorCode": code, "fields": list(fields)}])


async def _applied(app: Any, scope: Any, receive: Any) -> None:
    async def nowhere(_message: Any) -> None:
        return None

    await app(scope, receive, nowhere)


async def applied_then_silence(app: Any, scope: Any, receive: Any, _send: Any) -> None:
    """The write lands; the answer never comes."""
    await _applied(app, scope, receive)
    while (await receive())["type"] != "http.disconnect":
        pass


async def applied_then_html(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """The write lands; a proxy answers in its place."""
    await _applied(app, scope, receive)
    await replying(502, "<html>jo@example.com</html>", "text/html")(app, scope, receive, send)


async def applied_then_cut(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """The write lands; the connection ends in the middle of the answer."""
    await _applied(app, scope, receive)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"5000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'[{"id":', "more_body": True})
    # Returning now leaves the answer incomplete: the server closes the connection.


async def passed(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """No fault: lets the queue begin later."""
    await app(scope, receive, send)
