"""Every kind of write that a mapping makes, applied by the vendor while its reply is lost: through the engine, the real
library and HTTP. It ends as one record, linked; until then the delivery says `unknown`, why, and when it is looked up.

The cases are made of the mappings: a new mapping is tried by being there. Here every write loses its reply in one way,
and every connector's in all ways; every write in every way: `pytest -m prove tests/connectors/test_lost_replies.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from connectors.sandbox.app import Sandbox
from hub import api
from hub.db import Database
from hub.mapping import RecordMapping
from tests.conftest import Clock
from tests.connectors import contract
from tests.connectors.contract import RIGS, Rig, mappings, rigged
from tests.connectors.happenings import books
from tests.engine import Engine, around, event

TOKEN = "a-token-for-tests-of-24-characters"
LOST: Mapping[str, Mapping[str, Any]] = {
    "connection_lost": {"kind": "lost_reply"},
    "timed_out": {"kind": "latency", "delay_ms": 350},
    "answered_500": {"kind": "lost_reply_500", "body": {"message": "internal error"}},
    "page_502": {"kind": "lost_reply_html", "status": 502},
    "page_503": {"kind": "lost_reply_html", "status": 503},
}
HASTY: Mapping[str, Mapping[str, Any]] = {
    "salesforce": {"timeout": 0.2, "connect_timeout": 0.2, "lease": 1.0},
    "netsuite": {"request_timeout": 0.2},
    "avalara": {"read_timeout": 0.2, "connect_timeout": 0.2},
}
"""Settings that give a call up while the vendor is still at it; the lake's library has none so short."""
CHANGED: Mapping[str, Mapping[str, Any]] = {
    "customer": {"name": "Zelda Quillfeather the Second"},
    "invoice": {"number": "CHANGED-2"},
    "subscription": {"cancel_at_period_end": True},
}
"""By type of object, a change that its mappings see."""

NETSUITE: Mapping[str, str] = {
    "customer": "customer",
    "customer-changed": "customer",
    "customer_deleted": "customer",
    "invoice": "customer invoice",
    "tax_registration": "customer invoice creditMemo",  # the invoice of 50.00 and the 30.00 of the balance it takes
    "balance_used": "customer invoice creditMemo",
    "balance_added": "customer creditMemo invoice",  # below zero, and what it leaves the customer
    "negative": "customer creditMemo invoice",
    "balance_returned": "customer invoice invoice creditMemo",  # the sale, the balance given back, the void of both
    "void": "customer invoice creditMemo",
    "write_off": "customer invoice creditMemo",
    "recovered": "customer invoice creditMemo invoice customerPayment",
    "payment": "customer invoice customerPayment",
    "credit_note": "customer invoice creditMemo",
    "credit_note-changed": "customer invoice creditMemo invoice",  # voided: undone by the second invoice
    "credit_note_void": "customer invoice creditMemo invoice",
    "credit_note_balance": "customer invoice creditMemo invoice customerRefund",  # in the balance, and by cheque
    "credit_note_replaces": "customer invoice creditMemo invoice",  # what its refund was booked with before
    "credit_note_outside": "customer invoice creditMemo invoice customerRefund",
    "refund": "customer creditMemo customerRefund",
    "refund_memo": "customer creditMemo customerRefund",
    "refund_failed": "customer creditMemo customerRefund customerPayment",
    "dispute_memo": "customer creditMemo customerRefund",
    "dispute": "customer creditMemo customerRefund",
    "dispute_reinstated": "customer creditMemo customerRefund invoice customerPayment",
    "dispute_paid_back": "customer creditMemo customerRefund invoice customerPayment",
    "payout": "deposit",
    "payout_failed": "deposit journalEntry",
}
"""What NetSuite holds after a write and what had to be there for it, nothing of it twice. Worked out by hand."""


@dataclass(frozen=True)
class Write:
    """One kind of write: what a mapping makes first of an object, or what it makes of it when that has changed."""

    connector: str
    mapping: str
    update: bool = False

    def __str__(self) -> str:
        return f"{self.connector}-{self.mapping}{'-changed' if self.update else ''}"

    @property
    def is_log(self) -> bool:
        return self.connector == "s3_lake"

    @property
    def of(self) -> RecordMapping:
        return mappings().for_destination(self.connector)[self.mapping]

    def events(self) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """What is delivered undisturbed before, and the write itself."""
        if self.is_log:
            return [], list(books().events)
        found = [e for e in books().events if self._makes(e)]
        assert found, f"let something happen in happenings.books() that {self.of.file} is for"
        gone = {e["data"]["object"]["id"] for e in books().events if e["type"].endswith(".deleted")}
        own = next((e for e in reversed(found) if e["data"]["object"]["id"] not in gone), found[-1])
        id_ = own["data"]["object"]["id"]
        if self.update and self.of.object in CHANGED:
            obj = {**own["data"]["object"], **CHANGED[self.of.object]}
            change = next(t for t in self.of.on if t.endswith(".updated"))
            return [own], [event("evt_changed", change, obj, own["created"] + 60)]
        if self.update:
            changed = next(e for e in reversed(found) if e["type"].endswith(".voided"))
            id_ = changed["data"]["object"]["id"]
            return [e for e in found if e["data"]["object"]["id"] == id_ and e is not changed], [changed]
        siblings = {
            t
            for m in mappings().for_destination(self.connector).values()
            if m.record == self.of.record and m.name != self.mapping and m.object == self.of.object
            for t in m.on
        }
        return [e for e in books().events if e["type"] in siblings and e["data"]["object"]["id"] == id_][:1], [own]

    def key(self) -> str:
        """Of the record it is about."""
        if self.is_log:
            return ""
        made = contract.made_of(self.connector, self.mapping, self.events()[1][0])
        assert made is not None
        return made.key

    def _makes(self, event: Mapping[str, Any]) -> bool:
        return contract.made_of(self.connector, self.mapping, event) is not None


def writes() -> Iterator[Write]:
    for mapping in mappings().all():
        if mapping.destination not in RIGS:
            continue  # tax on drafts, which writes in two vendors, has tests of its own: test_tax_draft.py
        yield Write(mapping.destination, mapping.name)
        again = {t.rpartition(".")[2] for t in mapping.on if mapping.action == "upsert"}
        if "updated" in again or again >= {"created", "voided"}:
            yield Write(mapping.destination, mapping.name, update=True)
    yield Write("s3_lake", "events")


WRITES = tuple(writes())
FIRST = {w.connector: w for w in reversed(WRITES)}
CASES = [
    pytest.param(w, how, marks=() if how == "connection_lost" or w == FIRST[w.connector] else pytest.mark.prove)
    for w in WRITES
    for how in LOST
    if how != "timed_out" or w.connector in HASTY
]


@pytest.fixture
async def rig(sandbox: tuple[str, Sandbox], write: Write) -> AsyncIterator[Rig]:
    async with rigged(write.connector, sandbox) as rig:
        yield rig


@pytest.fixture(scope="module")
def undisturbed() -> dict[Write, tuple[Call, list[dict[str, Any]]]]:
    """Filled by the first test of a kind of write: which call it is, and what the vendor then holds."""
    return {}


def engine_of(rig: Rig, write: Write, db: Database, clock: Clock, **changes: Any) -> Engine:
    late = write.connector == "avalara" and write.mapping == "paid"
    settings = contract.settings_of(write.connector, write.mapping)
    engine = around(
        db, clock, [rig.destination(late_commit=late, **changes)], mappings(), settings=settings
    )  # fmt: skip
    engine.source.objects = {i: dict(o) for i, o in books().objects.items()}
    return engine


async def begin(engine: Engine, write: Write) -> list[Mapping[str, Any]]:
    """Deliver what comes before; the events of the write itself."""
    before, own = write.events()
    if before:
        await engine.accept(*(dict(e) for e in before))
        await engine.drain()
        assert set(await engine.states()) == {"done"}
    return own


async def deliveries(engine: Engine, **wanted: str) -> list[dict[str, Any]]:
    """As the API tells them."""
    app = Starlette(routes=api.routes(engine.db, engine.clock, TOKEN))
    transport, bearer = httpx.ASGITransport(app), {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=bearer) as http:
        answer = await http.get("/api/v1/deliveries", params={**wanted, "limit": "500"})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return found


@dataclass(frozen=True)
class Call:
    """The nth request with this method, at a path like this."""

    method: str
    match: str
    nth: int


def call(key: str, asked: list[Mapping[str, Any]], usual: str) -> Call:
    """That which writes the record with this key: the last that names it. In some vendors' paths none does; then it is
    the last write of all."""
    made = [(r["method"], r["path"]) for r in asked if r["method"] not in contract.READS]
    named = [each for each in made if key and key in each[1]]
    if named:
        method, path = named[-1]
        return Call(method, f"{re.escape(path)}$", named.count(named[-1]))
    method = made[-1][0]
    return Call(method, usual, [each for each, _ in made].count(method))


async def landed(rig: Rig) -> None:
    """The vendor is done with every request, also with those nobody waits for any more."""
    vendor = rig.kind.vendor
    while (await rig.side("GET", f"/requests?vendor={vendor}&limit=1"))["vendors"][vendor]["in_flight"]:  # noqa: ASYNC110 - in another thread
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("write", "how"), CASES, ids=str)
async def test_a_write_whose_reply_is_lost_is_one_record_linked_and_unknown_meanwhile(
    rig: Rig, write: Write, how: str, db: Database, clock: Clock, undisturbed: dict[Write, Any]
) -> None:
    engine = engine_of(rig, write, db, clock)
    if write not in undisturbed:
        own = await begin(engine, write)
        already = len(await rig.asked())
        await engine.accept(*(dict(e) for e in own))
        await engine.drain(flush=True)
        assert set(await engine.states()) == {"done"}
        undisturbed[write] = call(write.key(), (await rig.asked())[already:], rig.kind.writes), rig.held()
        await rig.side("POST", "/reset")
        await db.fetch_text("TRUNCATE events, deliveries, lanes, links, attempts, batches RESTART IDENTITY")
        engine = engine_of(rig, write, db, clock)  # the vendor has forgotten the other one's session
    lost, wanted = undisturbed[write]
    if write.connector == "netsuite":
        assert sorted(r["kind"] for r in wanted) == sorted(NETSUITE[str(write).removeprefix("netsuite-")].split())

    own = await begin(engine, write)
    if how == "timed_out":
        engine = engine_of(rig, write, db, clock, **HASTY[write.connector])
    await rig.fault(times=rig.kind.tries, method=lost.method, match=lost.match, nth=lost.nth, **LOST[how])
    await engine.accept(*(dict(e) for e in own))
    await engine.drain(flush=True)

    state = "waiting" if write.is_log else "unknown"
    open_ = await deliveries(engine, state=state, destination=write.connector)
    assert len(open_) == len(own), "in doubt, and shown as such"
    due = datetime.fromisoformat(open_[0]["due_at"])
    for shown in open_:
        assert (shown["failures"], bool(shown["cause"]), bool(shown["code"])) == (1, True, True)
    if not write.is_log:
        assert open_[0]["code"] == "outcome_unknown"
        assert (due - datetime.fromtimestamp(clock(), UTC)).total_seconds() == engine.destination.policy.unknown_wait

    await landed(rig)
    clock.now = due.timestamp() + 1
    engine = engine_of(rig, write, db, clock)
    await engine.drain(flush=True)
    assert set(await engine.states()) == {"done"}
    assert rig.held() == wanted, "one record of each, as if nothing had happened"
    links = await db.fetch_text("SELECT object_id, key, vendor_id FROM links WHERE destination = $1", write.connector)
    if write.is_log:
        assert len(links) == 1
    else:
        assert {(r["key"], r["vendor_id"]) for r in links} <= rig.pairs()
        assert write.key() in {r["key"] for r in links}
        assert own[0]["data"]["object"]["id"] in {r["object_id"] for r in links}


def test_every_connector_that_writes_is_tried() -> None:
    assert {w.connector for w in WRITES} == set(RIGS) - {"stripe"}
    assert {str(w) for w in WRITES if w.connector == "netsuite"} == {f"netsuite-{name}" for name in NETSUITE}
