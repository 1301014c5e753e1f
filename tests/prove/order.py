"""A hub between `stripe_model.Stripe` and three scripted vendors, with the real mappings. `order_machine` plays it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import SecretStr

from connectors.stripe.client import Body
from connectors.stripe.destination import ThinEvents
from connectors.stripe.settings import StripeSettings
from hub import envelope, metrics, operate, store
from hub.compose import Composer
from hub.db import Database
from hub.deliver import Deliverer
from hub.destination import Kind, Policy
from hub.errors import Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.mapping import Mappings
from hub.mirror import Mirror
from hub.model import REVIVE, VOIDED, Job, Record
from hub.routing import Router
from hub.worker import Settler, Worker
from tests.conftest import Clock
from tests.engine import receipt
from tests.prove.stripe_model import Event, Stripe

KINDS: dict[str, Kind] = {"salesforce": "state", "netsuite": "ledger", "avalara": "ledger"}
SETTINGS = {
    "timezone": "UTC", "avalara_commit_on": "finalized", "avalara_ship_from_line1": "1 Pier",
    "avalara_ship_from_city": "Seattle", "avalara_ship_from_region": "WA", "avalara_ship_from_postal_code": "98101",
    "avalara_ship_from_country": "US",
}  # fmt: skip
STRIPE = StripeSettings(api_key=SecretStr("rk_test_1"), webhook_secrets=(SecretStr("whsec_1"),))
EMPTY = "TRUNCATE events, deliveries, lanes, batches, attempts, links, destinations RESTART IDENTITY"
NEXT_DUE = "SELECT min(due_at) FROM lanes WHERE due_at IS NOT NULL"
OPEN = ("waiting", "claimed", "unknown", "held", "dead")
TROUBLES = ("retry", "landed", "not landed", "raised after", "defer", "reject", "killed before", "killed after")


class Killed(BaseException):
    """The worker ends here, as if by `kill -9`: nothing of the engine catches it, the lease runs out."""


@dataclass
class Vendor:
    """Keeps what was done to it, of each record one version after the other, and what should not have been sent."""

    name: str
    policy: Policy
    rng: random.Random
    troubled: bool = False
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """`<record> <key>` -> its versions; the last is what it holds."""
    told: dict[str, str] = field(default_factory=dict)
    """What the hub knows of the last write of each: `receipt`, `lost`, `lost as a parent`, `looked` for after that."""
    last: dict[str, str] = field(default_factory=dict)
    """The digest of each last write."""
    wrong: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    """Was to be made inactive before it was there."""
    revived: set[str] = field(default_factory=set)
    writes: int = 0
    troubles: int = 0

    async def send(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The hub has its receipts only if this returns."""
        own = Counter(_name(job.records[-1]) for job in jobs)
        self.wrong += [f"{name} {n} times in one send" for name, n in own.items() if n > 1]
        before = dict(self.told)
        outcomes = [self._one(job, before) for job in jobs]
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Receipt):
                self.told |= {_name(record): "receipt" for record in job.records}
        return outcomes

    async def find(self, job: Job) -> Outcome | None:
        """Only if everything is exactly as wanted."""
        found = all(self._has(r) for r in job.records)
        for name in map(_name, job.records):
            if self.told.get(name) in ("lost", "lost as a parent"):
                self.told[name] = "receipt" if found else "looked"
        return _receipt(job, job.records) if found else None

    async def ping(self) -> str:
        return "scripted"

    async def close(self) -> None:
        return None

    def _one(self, job: Job, before: dict[str, str]) -> Outcome:
        kind = self.rng.choice(TROUBLES) if self.troubled and self.rng.random() < 0.5 else "well"
        self._judge(job, before)
        self.troubles += kind != "well"
        if kind in ("well", "landed", "raised after", "killed after"):
            for record in job.records:
                if self.name == "netsuite" and "entity" in record.fields:
                    of = self.held.get(f"customer {record.fields['entity']['externalId']}")
                    if of is None or of[-1].get("isInactive"):
                        if self.told.get(f"customer {record.fields['entity']['externalId']}") == "receipt":
                            self.wrong.append(f"{_name(record)} for a customer that is inactive, as the hub knows")
                        return Reject("no_customer", "a document of nobody", "nothing helps")
                self._write(record, own=record is job.records[-1])
        match kind:
            case "retry":
                return Retry("busy", "later")
            case "defer":
                return Defer("at a limit", 20)
            case "reject":
                return Reject("nonsense", "it said no", "a person retries")
            case "landed" | "not landed":
                return Unknown("the reply was lost")
            case "raised after":
                raise ConnectionResetError
            case "killed before" | "killed after":
                raise Killed
        # What was made inactive without being there has no link, as with the real connector.
        return _receipt(job, tuple(r for r in job.records if _name(r) in self.held))

    def _judge(self, job: Job, before: dict[str, str]) -> None:
        """Nothing is sent that the hub was told is so, and no document of the books is repeated on the mere chance.

        Not held against it: a parent that was lost goes along with another document, or is written by its own delivery,
        before anybody has looked for it. It has no link yet, and only the delivery that lost it knows that it may be
        there; an order over all that need a customer would let one lost reply hold all its documents. It is written by
        our key, so the vendor has it once all the same (`versions` stays one). A state destination may be told the
        newest again for the same reason: a new event does not wait until the lost one is looked for.
        """
        for record in job.records:
            name, known = _name(record), before.get(_name(record))
            own = record is job.records[-1]
            same = self._has(record) and self.last[name] == record.digest
            if same and (known == "receipt" or (known == "lost" and own and self.policy.kind == "ledger")):
                self.wrong.append(f"{name} was sent again as it is ({known})")

    def _write(self, record: Record, *, own: bool) -> None:
        name = _name(record)
        self.writes += 1
        self.last[name] = record.digest
        self.told[name] = "lost" if own else "lost as a parent"  # until the hub has the receipt
        if record.action == REVIVE:
            self.revived.add(name)
        versions = self.held.get(name, [])
        if not versions and record.record == "customer" and record.action == "void":
            self.absent.add(name)
            return  # made inactive only if it is there
        if not versions or not self._has(record):  # the same again changes nothing: all of them write by a key of ours
            self.held[name] = [*versions, {**(versions[-1] if versions else {}), **_fields(record)}]

    def _has(self, record: Record) -> bool:
        versions = self.held.get(_name(record))
        return versions is not None and all(versions[-1].get(n) == value for n, value in _fields(record).items())


def _name(record: Record) -> str:
    return f"{record.record} {record.key}"


def _fields(record: Record) -> dict[str, Any]:
    return {"isInactive": False} if record.action == REVIVE else dict(record.fields)


def _receipt(job: Job, records: tuple[Record, ...]) -> Receipt:
    made = receipt(replace(job, records=records))
    status = [VOIDED if r.action == "void" else None for r in records]
    return replace(made, links=tuple(replace(k, status=s) for k, s in zip(made.links, status, strict=True)))


class Reads:
    """Stripe's answer to a read: the object as it is at that moment. It may take long."""

    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe
        self.of: Counter[str] = Counter()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What happens once while the next answer is on its way."""

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        self.of[object_id] += 1
        answer = self._stripe.read(object_id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return answer

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]]:
        """As Stripe's lists filter: by a field of the object, or of what an InvoicePayment was paid by."""
        return [
            deepcopy(o)
            for o in self._stripe.objects.values()
            if o["object"] == object_type and object_id in (o.get(by), o.get("payment", {}).get(by))
        ]


class Notices:
    """What the real fetcher of thin notifications asks Stripe: events without data, and their objects as they are."""

    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe

    async def fetch_thin(self, event_id: str, context: str | None = None) -> dict[str, Any] | None:
        event = next(e for e in self._stripe.events if f"{e['id']}_thin" == event_id)
        return {**self._stripe.twin(event), "data": {}}

    async def fetch_related(self, url: str, context: str | None = None) -> Body | None:
        found = self._stripe.read(url.rsplit("/", 1)[1])
        return None if found is None else Body(orjson.dumps(found).decode())


@dataclass
class World:
    """One example: Stripe as it truly is, the hub, the vendors."""

    db: Database
    clock: Clock
    stripe: Stripe
    reads: Reads
    vendors: dict[str, Vendor]
    router: Router
    workers: dict[str, Worker]

    async def accept(self, event: Event) -> None:
        now = datetime.fromtimestamp(self.clock(), UTC)
        await self.db.run(store.accept, [self.router.decide(envelope.read(orjson.dumps(event), now), now)], now)

    async def drain(self) -> None:
        for worker in self.workers.values():
            try:
                await worker.drain()
            except Killed:
                while worker._tasks:
                    await asyncio.wait(worker._tasks)
                    await asyncio.sleep(0)

    async def finish(self) -> None:
        """Well again, and a person retries what died: until nothing is due any more."""
        for vendor in self.vendors.values():
            vendor.troubled = False
        for _ in range(200):
            await self.drain()
            due = (await self.db.fetch_text(NEXT_DUE))[0][0]
            if due is not None:
                self.clock.now = max(self.clock.now, due.timestamp() + 0.001)
                continue
            dead = await self.db.fetch_text("SELECT id FROM deliveries WHERE state = 'dead' ORDER BY id LIMIT 1")
            if not dead:
                return
            await self.db.run(operate.retry, dead[0][0], datetime.fromtimestamp(self.clock(), UTC))
        raise AssertionError(f"there is still work: {await self.open()}")

    async def open(self) -> list[Any]:
        text = "SELECT destination, object_id, state, code, cause FROM deliveries WHERE state = ANY ($1::text[])"
        return [tuple(row) for row in await self.db.fetch_text(text, list(OPEN))]


async def world(db: Database, seed: int, mappings: Mappings) -> World:
    """A hub with everything empty."""
    await db.fetch_text(EMPTY)
    clock, stripe, rng = Clock(), Stripe(), random.Random(seed)
    reads, instruments = Reads(stripe), metrics.create()
    mirror, settle = Mirror(db, reads, clock, instruments), Settler(db, clock)
    kinds: dict[str, Kind] = {**KINDS, "stripe": "ledger"}
    router = Router(kinds, mappings.routes(), frozenset(), livemode=False, coalesce=0.0)
    made = World(db, clock, stripe, reads, {}, router, {})
    source: Any = Notices(stripe)
    fetcher: Any = ThinEvents(STRIPE, source, lambda: datetime.fromtimestamp(clock(), UTC))
    nothing = Composer("stripe", mappings, mirror, db, SETTINGS)
    carrier = Deliverer(fetcher, mappings, nothing, router, settle, clock, rng, instruments)
    made.workers["stripe"] = Worker(carrier, db, clock, 1.0)  # first: what it fetches is work for the others
    for name, kind in KINDS.items():
        policy = Policy(kind, batch=200, slots=4, lease=60, unknown_wait=30)
        vendor = made.vendors[name] = Vendor(name, policy, rng)
        composer = Composer(name, mappings, mirror, db, SETTINGS)
        carrier = Deliverer(vendor, mappings, composer, router, settle, clock, rng, instruments)
        made.workers[name] = Worker(carrier, db, clock, 1.0)
    return made
