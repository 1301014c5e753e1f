"""An engine around a destination that a test scripts: real database, real mappings, real worker; no HTTP."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from hub import envelope, metrics, store
from hub.compose import Composer
from hub.db import Database
from hub.deliver import Deliverer, LogDeliverer
from hub.destination import Kind, Policy
from hub.errors import Outcome, OutcomeError, Receipt, Reject
from hub.mapping import Mappings, load
from hub.mirror import Mirror
from hub.model import Batch, Job
from hub.routing import Router
from hub.worker import Settler, Worker, Workers
from tests.filling import execute

MAPPING = """
version: 1
record: Doc
on: [invoice.created, invoice.updated, invoice.finalized, invoice.paid, invoice.voided]
object: invoice
needs:
  customer: {object: customer, id: invoice.customer}
parents: [account]
key: concat('k_', invoice.id)
fields:
  status: invoice.status
  total: invoice.total
  customer: customer.id
"""

ACCOUNT = """
version: 1
record: Account
on: [customer.created, customer.updated]
object: customer
key: concat('k_', customer.id)
fields:
  name: customer.name
"""


@dataclass
class Scripted:
    """A destination that remembers what it was sent and answers as told (default: a receipt with links)."""

    name: str
    policy: Policy
    answers: Callable[[Job], Outcome | None] = lambda job: None
    found: Callable[[Job], Outcome | None] = lambda job: None
    sent: list[list[Job]] = field(default_factory=list)
    looked: list[Job] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    batch_answer: Callable[[Batch], Outcome] = lambda batch: Receipt()

    async def send(self, jobs: Sequence[Job]) -> list[Outcome]:
        self.sent.append(list(jobs))
        return [self.answers(job) or receipt(job) for job in jobs]

    async def find(self, job: Job) -> Outcome | None:
        self.looked.append(job)
        return self.found(job)

    async def send_batch(self, batch: Batch) -> Outcome:
        self.batches.append(batch)
        return self.batch_answer(batch)

    async def ping(self) -> str:
        return "scripted"

    async def close(self) -> None:
        return None

    @property
    def written(self) -> list[tuple[str, str, str]]:
        """Every record sent, in order: (record, key, status or name)."""
        return [
            (r.record, r.key, str(r.fields.get("status", r.fields.get("name"))))
            for jobs in self.sent
            for job in jobs
            for r in job.records
        ]


def receipt(job: Job) -> Receipt:
    """What a vendor that took everything answers."""
    return Receipt(tuple(r.link_to(f"v-{r.key}") for r in job.records))


class Objects:
    """A source with objects a test puts there."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.reads: list[str] = []
        self.trouble: Outcome | None = None

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        self.reads.append(object_id)
        if self.trouble is not None:
            raise OutcomeError(self.trouble)
        return self.objects.get(object_id)

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]]:
        self.reads.append(f"{object_type} by {by} {object_id}")
        if self.trouble is not None:
            raise OutcomeError(self.trouble)
        found = [o for o in self.objects.values() if o.get("object") == object_type]
        inside = object_type == "invoice_payment" and by != "invoice"  # an InvoicePayment names it in `payment`
        return [o for o in found if (o["payment"] if inside else o).get(by) == object_id]


@dataclass
class Engine:
    """One destination, its worker, and hands to feed it."""

    db: Database
    clock: Callable[[], float]
    destination: Scripted
    source: Objects
    mappings: Mappings
    router: Router
    workers: Workers

    async def accept(self, *events: dict[str, Any]) -> list[int | None]:
        """Accept events as the intake does; seq of each, or None for a repeat."""
        now = datetime.fromtimestamp(self.clock(), UTC)
        decided = [self.router.decide(envelope.read(orjson.dumps(e), now), now) for e in events]
        fresh = await self.db.run(store.accept, decided, now)
        return [fresh.pop(e["id"], None) for e in events]

    async def drain(self, *, flush: bool = False) -> None:
        await self.workers.drain(flush=flush)

    async def rows(self, columns: str = "*") -> list[dict[str, Any]]:
        """All deliveries, in order."""
        return [dict(r) for r in await self.db.fetch_text(f"SELECT {columns} FROM deliveries ORDER BY id")]

    async def states(self) -> list[str]:
        return [r["state"] for r in await self.rows("state")]


def build(
    db: Database,
    clock: Callable[[], float],
    folder: Path,
    kind: Kind,
    *,
    policy: Policy | None = None,
    coalesce: float = 0.0,
) -> Engine:
    """An engine with one destination named `vendor`, of the given kind."""
    (folder / "vendor").mkdir(parents=True, exist_ok=True)
    (folder / "vendor" / "doc.yaml").write_text(MAPPING)
    (folder / "vendor" / "account.yaml").write_text(ACCOUNT)
    mappings = load(folder)
    destination = Scripted("vendor", policy or Policy(kind, batch=200, slots=4, lease=60, unknown_wait=30))
    return around(db, clock, [destination], mappings, coalesce=coalesce)


def around(
    db: Database,
    clock: Callable[[], float],
    destinations: Sequence[Any],
    mappings: Mappings,
    *,
    settings: Mapping[str, Any] | None = None,
    coalesce: float = 0.0,
) -> Engine:
    """An engine with these destinations, real or scripted; the first is `engine.destination`."""
    kinds = {d.name: d.policy.kind for d in destinations}
    router = Router(kinds, mappings.routes(), frozenset(), livemode=False, coalesce=coalesce)
    source = Objects()
    instruments = metrics.create()
    settle = Settler(db, clock)
    mirror = Mirror(db, source, clock, instruments)
    workers = []
    for destination in destinations:
        rng = random.Random(7)
        carrier: Deliverer | LogDeliverer
        if destination.policy.kind == "log":
            carrier = LogDeliverer(destination, settle, clock, rng, instruments)
        else:
            composer = Composer(destination.name, mappings, mirror, db, {"timezone": "UTC", **(settings or {})})
            carrier = Deliverer(destination, mappings, composer, router, settle, clock, rng, instruments)
        workers.append(Worker(carrier, db, clock, 1.0))
    return Engine(db, clock, destinations[0], source, mappings, router, Workers(workers, db))


def event(id_: str, type_: str, obj: dict[str, Any], created: int = 1_789_000_000, **more: Any) -> dict[str, Any]:
    """A snapshot event as Stripe sends it; `previous` becomes `data.previous_attributes`."""
    data: dict[str, Any] = {"object": obj}
    if "previous" in more:
        data["previous_attributes"] = more.pop("previous")
    return {
        "id": id_,
        "object": "event",
        "type": type_,
        "created": created,
        "api_version": "2026-10-28.endive",
        "livemode": False,
        "data": data,
        **more,
    }


def invoice(status: str, id_: str = "in_1", total: int = 1000, customer: str = "cus_1", **more: Any) -> dict[str, Any]:
    return {"id": id_, "object": "invoice", "status": status, "total": total, "customer": customer, **more}


def customer(id_: str = "cus_1", name: str = "Acme") -> dict[str, Any]:
    return {"id": id_, "object": "customer", "name": name}


async def dead_with_two_behind(engine: Engine) -> None:
    """The customer done; of one invoice delivery 2 dead, 3 and 4 held behind it; 5, of another invoice, done."""
    engine.destination.answers = lambda job: (
        Reject("tax_code", "tax code 7 is unknown", "add it") if job.records[-1].key == "k_in_1" else None
    )
    await engine.accept(
        event("evt_c", "customer.created", customer(), 1_788_999_000),
        event("evt_1", "invoice.finalized", invoice("open")),
        event("evt_2", "invoice.updated", invoice("open", total=7), 1_789_000_010),
        event("evt_3", "invoice.paid", invoice("paid", total=7), 1_789_000_020),
        event("evt_4", "invoice.finalized", invoice("open", "in_2")),
    )
    await engine.drain()
    assert await engine.states() == ["done", "dead", "held", "held", "done"]
    engine.destination.answers = lambda job: None
    engine.destination.sent.clear()
    await execute(engine.db, "DELETE FROM attempts")
