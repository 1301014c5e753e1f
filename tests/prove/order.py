"""A hub between `stripe_model.Stripe` and three scripted vendors with the real mappings, and a machine that plays it.

What the vendors must hold in the end is worked out from the model's truth alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from hub import envelope, metrics, operate, store
from hub.compose import Composer
from hub.db import Database
from hub.deliver import Deliverer
from hub.destination import Kind, Policy
from hub.errors import Defer, Outcome, Reject, Retry, Unknown
from hub.mapping import FOLDER, Mappings, load
from hub.mirror import Mirror
from hub.model import Job, Record
from hub.routing import Router
from hub.worker import Settler, Worker
from tests.conftest import Clock
from tests.engine import receipt
from tests.prove.stripe_model import FROM, Event, Obj, Stripe

KINDS: dict[str, Kind] = {"salesforce": "state", "netsuite": "ledger", "avalara": "ledger"}
SETTINGS = {
    "timezone": "UTC", "avalara_commit_on": "finalized", "avalara_ship_from_line1": "1 Pier",
    "avalara_ship_from_city": "Seattle", "avalara_ship_from_region": "WA", "avalara_ship_from_postal_code": "98101",
    "avalara_ship_from_country": "US",
}  # fmt: skip
EMPTY = "TRUNCATE events, deliveries, lanes, batches, attempts, links, destinations RESTART IDENTITY"
NEXT_DUE = "SELECT min(due_at) FROM lanes WHERE due_at IS NOT NULL"
OPEN = ("waiting", "claimed", "unknown", "held", "dead")
TROUBLES = ("retry", "landed", "not landed", "raised after", "defer", "reject", "killed before", "killed after")


class Killed(BaseException):
    """The worker ends here, as if by `kill -9`: nothing of the engine catches it, the lease runs out."""


@dataclass
class Vendor:
    """Keeps what was done to it, of each record one version after the other."""

    name: str
    policy: Policy
    rng: random.Random
    troubled: bool = False
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """`<record> <key>` -> its versions; the last is what it holds."""

    async def send(self, jobs: Sequence[Job]) -> list[Outcome]:
        return [self._one(job) for job in jobs]

    async def find(self, job: Job) -> Outcome | None:
        """Only if everything is exactly as wanted."""
        return receipt(job) if all(self._has(r) for r in job.records) else None

    async def ping(self) -> str:
        return "scripted"

    async def close(self) -> None:
        return None

    def _one(self, job: Job) -> Outcome:
        kind = self.rng.choice(TROUBLES) if self.troubled and self.rng.random() < 0.5 else "well"
        if kind in ("well", "landed", "raised after", "killed after"):
            for record in job.records:
                if record.record == "invoice" and f"customer {record.fields['entity']['externalId']}" not in self.held:
                    return Reject("no_customer", "an invoice of nobody", "nothing helps")
                self._write(record)
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
        there = tuple(r for r in job.records if f"{r.record} {r.key}" in self.held)
        return receipt(replace(job, records=there))  # what was made inactive without being there has no link

    def _write(self, record: Record) -> None:
        name = f"{record.record} {record.key}"
        versions = self.held.get(name, [])
        if not versions and record.record == "customer" and record.action == "void":
            return  # made inactive only if it is there
        if not versions or not self._has(record):  # the same again changes nothing: all of them write by a key of ours
            self.held[name] = [*versions, {**(versions[-1] if versions else {}), **record.fields}]

    def _has(self, record: Record) -> bool:
        held = self.held.get(f"{record.record} {record.key}", [{}])[-1]
        return all(held.get(name) == value for name, value in record.fields.items())


class Reads:
    """Stripe's answer to a read: the object as it is at that moment."""

    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe
        self.count = 0

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        self.count += 1
        return self._stripe.read(object_id)


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
    router = Router(KINDS, mappings.routes(), frozenset(), livemode=False, coalesce=0.0)
    made = World(db, clock, stripe, reads, {}, router, {})
    for name, kind in KINDS.items():
        policy = Policy(kind, batch=200, slots=4, lease=60, unknown_wait=30)
        vendor = made.vendors[name] = Vendor(name, policy, rng)
        composer = Composer(name, mappings, mirror, db, SETTINGS)
        carrier = Deliverer(vendor, mappings, composer, router, settle, clock, rng, instruments)
        made.workers[name] = Worker(carrier, db, clock, 1.0)
    return made


PICK = st.integers(0, 5)


class Machine(RuleBasedStateMachine):
    """Stripe's life goes on, its webhooks come as they like, and work is done now and then."""

    def __init__(self, run: Callable[..., Any], db: Database, mappings: Mappings) -> None:
        super().__init__()
        self.run, self.db, self.mappings = run, db, mappings
        self.told = 0
        self.waiting: list[Event] = []
        self.past: list[Event] = []
        self.lost: list[Event] = []

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world: World = self.run(world(self.db, seed, self.mappings))
        self.stripe = self.world.stripe
        self.stripe.customer()
        self.stripe.draft(0, 1000)
        self.stripe.invoice("finalize", 0, 0, tells=True, old=False)

    @rule(pick=PICK, amount=st.sampled_from([900, 1200]), new=st.sampled_from(["customer", "draft", "draft", "plan"]))
    def comes_to_be(self, pick: int, amount: int, new: str) -> None:
        if new == "customer":
            self.stripe.customer()
        elif new == "draft":
            self.stripe.draft(pick, amount)
        else:
            self.stripe.subscribe(pick)

    @rule(verb=st.sampled_from(sorted(FROM)), pick=PICK, amount=st.sampled_from([300, 600, 1000]),
          tells=st.booleans(), old=st.integers(0, 7))  # fmt: skip
    def an_invoice_goes_on(self, verb: str, pick: int, amount: int, tells: bool, old: int) -> None:
        self.stripe.invoice(verb, pick, amount, tells=tells, old=old == 0)

    @rule(pick=PICK, then=st.lists(st.sampled_from(["finalize", "fail", "give_up", "pay", "void"]), max_size=4))
    def an_invoice_ends_at_once(self, pick: int, then: list[str]) -> None:
        for verb in then:
            self.stripe.invoice(verb, pick, 0, tells=True, old=False)

    @rule(pick=PICK, texts=st.lists(st.sampled_from("ABC"), min_size=1, max_size=4), apart=st.integers(0, 1),
          what=st.sampled_from(["name", "name", "note"]))  # fmt: skip
    def there_and_back(self, pick: int, texts: list[str], apart: int, what: str) -> None:
        for text in texts:
            if what == "name":
                self.stripe.rename(pick, text)
            else:
                self.stripe.remark(pick, text)
            self.stripe.second += apart

    @rule(pick=PICK, states=st.lists(st.sampled_from(["active", "past_due", "paused"]), min_size=1, max_size=3), n=PICK)
    def a_subscription_goes_on(self, pick: int, states: list[str], n: int) -> None:
        for state in states:
            self.stripe.alter(pick, state, n)

    @rule(pick=PICK, what=st.sampled_from(["cancel", "credit", "forget"]))
    def something_is_over(self, pick: int, what: str) -> None:
        match what:
            case "cancel":
                self.stripe.cancel(pick)
            case "credit":
                self.stripe.credit(pick)
            case "forget":
                self.stripe.forget(pick)

    @rule(seconds=st.integers(1, 3))
    def time_passes(self, seconds: int) -> None:
        self.stripe.second += seconds

    def _collect(self) -> None:
        self.waiting += self.stripe.events[self.told :]
        self.told = len(self.stripe.events)

    @rule(picks=st.lists(st.integers(0, 40), min_size=1, max_size=6), work=st.booleans(), again=st.booleans())
    def webhooks_come(self, picks: list[int], work: bool, again: bool) -> None:
        """In any order, carried out at once or later; perhaps one that came before comes once more."""
        self._collect()
        for pick in picks:
            if self.waiting:
                self.past.append(self.waiting.pop(pick % len(self.waiting)))
                self.run(self.world.accept(self.past[-1]))
                if work:
                    self.run(self.world.drain())
        if again and self.past:
            self.run(self.world.accept(self.past[picks[0] % len(self.past)]))

    @rule(pick=st.integers(0, 40))
    def one_is_lost(self, pick: int) -> None:
        self._collect()
        if self.waiting:
            self.lost.append(self.waiting.pop(pick % len(self.waiting)))

    @rule(seconds=st.sampled_from([0, 1, 31, 61]))
    def work_is_done(self, seconds: int) -> None:
        self.world.clock.advance(seconds)
        self.run(self.world.drain())

    @rule(names=st.sets(st.sampled_from(sorted(KINDS))), on=st.booleans())
    def vendors_have_trouble(self, names: set[str], on: bool) -> None:
        for vendor in self.world.vendors.values():
            vendor.troubled = on and vendor.name in names

    def teardown(self) -> None:
        """All that is left comes, the lost ones last, as a sweep brings them; then everything must agree."""
        if not hasattr(self, "world"):
            return
        self._collect()
        for event in [*self.waiting, *self.lost]:
            self.run(self.world.accept(event))
            self.run(self.world.drain())
        self.run(self.world.finish())
        assert self.run(self.world.open()) == []
        agrees(self.stripe, {name: vendor.held for name, vendor in self.world.vendors.items()})


Held = dict[str, dict[str, list[dict[str, Any]]]]


def agrees(stripe: Stripe, held: Held) -> None:
    """Each vendor holds what is true, and the ledgers came there without a step back and with nothing twice."""
    _crm(stripe, held["salesforce"])
    books, taxes = held["netsuite"], held["avalara"]
    expected: set[str] = set()
    documents: set[str] = set()
    for id_, states in stripe.truth.items():
        now = states[-1]
        match now["object"]:
            case "invoice" if now["status"] != "draft":
                expected.add(f"invoice stripe_{id_}")
                documents.add(f"SalesInvoice {id_}")
                if now["status"] == "paid":
                    expected.add(f"customerPayment stripe_pay_{id_}")
                if now["status"] == "void":
                    expected.add(f"creditMemo stripe_void_{id_}")
                    documents.add(f"SalesInvoice.void {id_}")
            case "credit_note":
                expected.add(f"creditMemo stripe_{id_}")
            case "customer":
                _customer(states, books)
    assert {k for k in books if not k.startswith("customer ")} == expected
    assert set(taxes) == documents
    for key, versions in [*books.items(), *taxes.items()]:
        if not key.startswith("customer "):
            assert len(versions) == 1, f"{key} was written {len(versions)} times"
            _amount(key, versions[0], stripe)


def _amount(key: str, fields: dict[str, Any], stripe: Stripe) -> None:
    id_ = key.split()[1].removeprefix("stripe_").removeprefix("pay_").removeprefix("void_")
    cents = stripe.truth[id_][-1]["total"]
    match key.split(maxsplit=1)[0]:
        case "customerPayment":
            assert fields["payment"] * 100 == cents
        case "SalesInvoice":
            assert [line["amount"] * 100 for line in fields["lines"]] == [cents]
        case "invoice" | "creditMemo":
            assert [line["amount"] * 100 for line in fields["item"]["items"]] == [cents]


def _customer(states: list[Obj], books: dict[str, list[dict[str, Any]]]) -> None:
    """Its names in the ledger are names it had, in the order in which it had them; the last is the last."""
    id_, deleted = states[-1]["id"], bool(states[-1].get("deleted"))
    versions = books.get(f"customer stripe_{id_}", [])
    assert versions or deleted, f"{id_} is not in the ledger"
    names = [v["companyName"] for v in versions if not v.get("isInactive")]
    if deleted:
        names = [name for name in names if name != id_]  # all that Stripe tells of a deleted customer is its id
    true = iter([s["name"] for s in states])
    assert all(name in true for name in names), f"truth {[s['name'] for s in states]}, written {names}"
    if versions:
        # Deleted first and needed by an invoice later: then it is made after its deletion was carried out.
        assert deleted or not versions[-1].get("isInactive", False)
        assert deleted or names[-1] == states[-1]["name"]


def _crm(stripe: Stripe, crm: dict[str, list[dict[str, Any]]]) -> None:
    for id_, states in stripe.truth.items():
        now, gone = states[-1], bool(states[-1].get("deleted"))
        match now["object"]:
            case "customer":
                row = crm[f"Account {id_}"][-1]
                assert row["Stripe_Status__c"] == ("deleted" if gone else "active")
                assert gone or row["Name"] == now["name"]
            case "subscription":
                row = crm[f"Stripe_Subscription__c {id_}"][-1]
                assert (row["Status__c"], row["Quantity__c"]) == (now["status"], now["items"]["data"][0]["quantity"])
            case "invoice":
                row = crm[f"Stripe_Invoice__c {id_}"][-1]
                assert row["Status__c"] == ("deleted" if gone else now["status"])
                amounts = [row[f] * 100 for f in ("Total__c", "Amount_Paid__c", "Amount_Remaining__c")]
                assert amounts == [now["total"], now["amount_paid"], now["amount_remaining"]]
                assert row["Attempt_Count__c"] == now["attempt_count"]


def play(dsn: str, given: settings) -> None:
    """One loop, one pool and one reading of the mappings for all examples. No log lines: trouble is what this is about,
    and to write it down would take longer than the work.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a killed worker's exception is nobody's
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    mappings = load(FOLDER)
    try:
        with asyncio.Runner() as runner:
            db = runner.run(Database.connect(dsn, size=5))
            try:
                made: Any = lambda: Machine(runner.run, db, mappings)  # noqa: E731 - Hypothesis takes any factory
                run_state_machine_as_test(made, settings=given)
            finally:
                runner.run(db.close())
    finally:
        structlog.configure(**before)
        logging.getLogger("asyncio").setLevel(logging.NOTSET)
