"""What a person linked is used by what is delivered later, as each vendor allows it: never a second record beside it.

Through the engine, the real mappings, the vendors' libraries and HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from connectors.sandbox.app import Sandbox
from hub import operate
from hub.db import Database
from hub.model import ADOPT, ADOPTED, LINKED, Job, Link, Record
from tests.conftest import Clock
from tests.connectors.contract import SETTINGS, Rig, mappings, rigged, stored
from tests.connectors.happenings import books
from tests.engine import Engine, around, event
from tests.filling import execute


@pytest.fixture
async def rig(sandbox: tuple[str, Sandbox], name: str) -> AsyncIterator[Rig]:
    async with rigged(name, sandbox) as rig:
        yield rig


def engine_of(rig: Rig, db: Database, clock: Clock) -> Engine:
    settings = {**SETTINGS, "avalara_commit_on": "finalized"}
    engine = around(db, clock, [rig.destination()], mappings(), settings=settings)
    engine.source.objects = {i: dict(o) for i, o in books().objects.items()}
    return engine


async def kill(engine: Engine, id_: int) -> None:
    """As if the vendor had refused it before."""
    await execute(
        engine.db,
        "UPDATE deliveries SET state = 'dead', due_at = NULL, settled_at = now(), code = 'x', cause = 'x', fix = 'x' "
        "WHERE id = $1",
        id_,
    )


async def link(engine: Engine, id_: int, vendor_id: str, **more: Any) -> None:
    now = datetime.fromtimestamp(engine.clock(), UTC)
    existing = operate.Existing(vendor_id, "booked by hand", **more)
    await engine.db.run(operate.link, id_, existing, engine.mappings, now)


async def dead_and_linked(engine: Engine, own: dict[str, Any], vendor_id: str) -> None:
    await engine.accept(own)
    await kill(engine, 1)
    await link(engine, 1, vendor_id)


async def digest(db: Database, record: str) -> str:
    (row,) = await db.fetch_text("SELECT digest FROM links WHERE record = $1", record)
    return str(row["digest"])


def netsuite_books(rig: Rig) -> Any:
    simulator: Any = rig.sandbox.simulators["netsuite"]
    return (
        simulator._books
    )  # the account itself: its state() names records by external id, which these have none of yet


def by_hand(rig: Rig, kind: str, body: dict[str, Any]) -> str:
    """A record somebody made in NetSuite, without an external id."""
    return str(netsuite_books(rig).save(kind, None, None, body, (), strict_names=True)[0])


def gmbh(name: str, **more: Any) -> dict[str, Any]:
    return {
        "entityId": name, "isPerson": False, "companyName": name, "subsidiary": {"id": "1"},
        "currencyList": {"items": [{"currency": {"id": "1"}}]}, **more,
    }  # fmt: skip


PAID = next(e for e in reversed(books().events) if e["type"] == "invoice.paid")
INVOICE = PAID["data"]["object"]
PAYMENT = next(
    e["data"]["object"]
    for e in books().events
    if e["type"] == "invoice_payment.paid" and e["data"]["object"]["invoice"] == INVOICE["id"]
)
CUSTOMER = dict(books().objects[INVOICE["customer"]])


@pytest.mark.parametrize("name", ["netsuite"])
async def test_a_linked_netsuite_customer_is_adopted_and_the_invoice_booked_on_it(
    rig: Rig, db: Database, clock: Clock
) -> None:
    number = by_hand(rig, "customer", gmbh("Known for years", comments="pays late"))
    engine = engine_of(rig, db, clock)
    await dead_and_linked(engine, event("evt_c", "customer.created", CUSTOMER), number)
    await engine.accept(event("evt_f", "invoice.finalized", INVOICE))
    await engine.drain()
    assert await engine.states() == ["done", "done"]
    customers = netsuite_books(rig).records["customer"]
    assert list(customers) == [number], "no second one"
    assert (customers[number]["externalId"], customers[number]["companyName"]) == (
        f"stripe_{CUSTOMER['id']}", "Known for years",
    )  # fmt: skip
    (booked,) = netsuite_books(rig).records["invoice"].values()
    assert booked["entity"] == number
    assert await digest(db, "customer") == ADOPTED

    await engine.accept(event("evt_u", "customer.updated", {**CUSTOMER, "name": "Newly named"}, 1_900_000_000))
    await engine.drain()
    assert list(customers) == [number]
    assert (customers[number]["companyName"], customers[number]["comments"]) == ("Newly named", "pays late")
    assert len(await digest(db, "customer")) == 32


@pytest.mark.parametrize("name", ["netsuite"])
async def test_a_payment_is_applied_to_the_linked_netsuite_invoice(rig: Rig, db: Database, clock: Clock) -> None:
    engine = engine_of(rig, db, clock)
    await engine.accept(event("evt_c", "customer.created", CUSTOMER))
    await engine.drain()
    customer = {"externalId": f"stripe_{CUSTOMER['id']}"}
    line = {"item": {"externalId": "hub_subscription"}, "quantity": 1, "amount": Decimal("58.32")}
    number = by_hand(
        rig, "invoice",
        {"entity": customer, "subsidiary": {"id": "1"}, "currency": {"id": "1"}, "tranDate": "2026-11-02",
         "memo": "by hand", "item": {"items": [line]}},
    )  # fmt: skip
    await engine.accept(event("evt_f", "invoice.finalized", INVOICE))
    await kill(engine, 2)
    await link(engine, 2, number, record="invoice")
    await engine.accept(event("evt_p", "invoice_payment.paid", PAYMENT))
    await rig.fault("lost_reply", match="/record/v1/invoice/", nth=2)  # it is read, then given our key
    await engine.drain()
    assert await engine.states() == ["done", "done", "unknown"]
    clock.advance(engine.destination.policy.unknown_wait + 1)
    await engine.drain()
    assert set(await engine.states()) == {"done"}
    invoices = netsuite_books(rig).records["invoice"]
    assert list(invoices) == [number]
    assert (invoices[number]["externalId"], invoices[number]["memo"]) == (f"stripe_{INVOICE['id']}", "by hand")
    (paid,) = netsuite_books(rig).records["customerPayment"].values()
    assert [line["doc"] for line in paid["apply"]] == [number]


@pytest.mark.parametrize("name", ["netsuite"])
@pytest.mark.parametrize(
    ("what", "code"),
    [("nobody", "LINK_NOT_FOUND"), ("named", "LINK_TAKEN"), ("key in use", "LINK_TAKEN"), ("a word", "LINK_MALFORMED")],
)
async def test_a_wrong_netsuite_link_is_a_dead_letter_and_its_correction_the_way_out(
    rig: Rig, db: Database, clock: Clock, what: str, code: str
) -> None:
    right = by_hand(rig, "customer", gmbh("The right one"))
    named = by_hand(rig, "customer", gmbh("Somebody else's", externalId="crm_17"))
    if what == "key in use":
        by_hand(rig, "customer", gmbh("Twin", externalId=f"stripe_{CUSTOMER['id']}"))
    wrong = {"nobody": "999999", "named": named, "key in use": right, "a word": "ACME"}[what]
    engine = engine_of(rig, db, clock)
    await dead_and_linked(engine, event("evt_c", "customer.created", CUSTOMER), wrong)
    await engine.accept(event("evt_f", "invoice.finalized", INVOICE))
    await engine.drain()
    row = (await engine.rows())[1]
    assert (row["state"], row["code"]) == ("dead", code)
    assert netsuite_books(rig).records["customer"][named]["externalId"] == "crm_17"
    assert netsuite_books(rig).records["invoice"] == {}
    if what == "key in use":
        return
    assert "--instead-of" in row["fix"]
    await link(engine, 1, right, instead_of=wrong)
    await engine.db.run(operate.retry, 2, datetime.fromtimestamp(clock(), UTC))
    await engine.drain()
    assert await engine.states() == ["done", "done"]


@pytest.mark.parametrize("name", ["salesforce"])
@pytest.mark.parametrize("short", [False, True])
async def test_a_linked_account_is_adopted_then_written_and_there_is_one(
    rig: Rig, db: Database, clock: Clock, short: bool
) -> None:
    simulator: Any = rig.sandbox.simulators["salesforce"]
    store = simulator.store
    account = store.objects["Account"]
    id_, _ = store.save(account, None, {"Name": "Known for years", "BillingCity": "Bonn"}, allow_duplicates=False)
    engine = engine_of(rig, db, clock)
    await dead_and_linked(engine, event("evt_c", "customer.created", CUSTOMER), id_[:15] if short else id_)
    await rig.fault("lost_reply", match="sobjects/Account/001")
    await engine.accept(event("evt_f", "invoice.paid", INVOICE))
    await engine.drain()
    assert await engine.states() == ["done", "done"] or (await engine.states())[1] in ("waiting", "unknown")
    for _ in range(3):
        clock.advance(engine.destination.policy.unknown_wait + 1)
        await engine.drain()
    assert await engine.states() == ["done", "done"]
    (row,) = store.rows["Account"].values()
    assert (row["Id"], row["Stripe_Customer_Id__c"], row["Name"]) == (id_, CUSTOMER["id"], "Known for years")
    (booked,) = store.rows["Stripe_Invoice__c"].values()
    assert booked["Account__c"] == id_

    await engine.accept(event("evt_u", "customer.updated", {**CUSTOMER, "name": "Newly named"}, 1_900_000_000))
    await engine.drain()
    (row,) = store.rows["Account"].values()
    assert (row["Id"], row["Name"]) == (id_, "Newly named")


@pytest.mark.parametrize("name", ["salesforce"])
async def test_a_wrong_salesforce_link_is_a_dead_letter_and_takes_nobody_along(rig: Rig) -> None:
    simulator: Any = rig.sandbox.simulators["salesforce"]
    store = simulator.store
    taken, _ = store.save(
        store.objects["Account"], None, {"Name": "B", "Stripe_Customer_Id__c": "cus_b"}, allow_duplicates=False
    )
    free, _ = store.save(store.objects["Account"], None, {"Name": "C"}, allow_duplicates=False)
    destination = rig.destination()

    def job(number: int, key: str, vendor_id: str) -> Job:
        held = Link(key, "Account", key, vendor_id, LINKED, "salesforce/account@1")
        adopt = Record("Account", ADOPT, key, key, {}, ADOPTED, "salesforce/account@1", held)
        own = Record("Account", "upsert", key, key, {"Name": f"N{number}"}, f"d{number}", "salesforce/account@1", held)
        return Job(number, stored(VOIDED), (adopt, own))

    wrong = [job(1, "cus_1", "001000000000000AAA"), job(2, "cus_2", taken), job(3, "cus_b", free), job(4, "cus_4", "x")]
    outcomes = await destination.send([*wrong, job(5, "cus_5", free)])
    assert [getattr(o, "code", None) for o in outcomes] == [
        "LINK_NOT_FOUND", "LINK_TAKEN", "LINK_TAKEN", "LINK_MALFORMED", None,
    ]  # fmt: skip
    assert {r["Id"]: (r["Stripe_Customer_Id__c"], r["Name"]) for r in store.rows["Account"].values()} == {
        taken: ("cus_b", "B"), free: ("cus_5", "N5"),
    }  # fmt: skip
    assert [k.digest for k in outcomes[4].links] == [ADOPTED, "d5"]


VOIDED = next(e for e in reversed(books().events) if e["type"] == "invoice.voided")


@pytest.mark.parametrize("name", ["avalara"])
@pytest.mark.parametrize("code", ["BY-HAND-7", VOIDED["data"]["object"]["id"]])
async def test_a_void_is_done_to_the_linked_avatax_document_under_its_own_code(
    rig: Rig, db: Database, clock: Clock, code: str
) -> None:
    made = await other_document(rig, code)
    engine = engine_of(rig, db, clock)
    await dead_and_linked(engine, event("evt_f", "invoice.finalized", VOIDED["data"]["object"]), code)
    await rig.fault("lost_reply")
    await engine.accept(dict(VOIDED))
    await engine.drain()
    assert await engine.states() == ["done", "unknown"]
    clock.advance(engine.destination.policy.unknown_wait + 1)
    await engine.drain()
    assert await engine.states() == ["done", "done"]
    (document,) = rig.sandbox.simulators["avalara"].state()["documents"]
    assert (document["code"], document["status"], document["id"]) == (code, "Cancelled", made)
    rows = await db.fetch_text("SELECT record, vendor_id, digest = $1 AS said FROM links ORDER BY 1", LINKED)
    assert [tuple(r) for r in rows] == [("SalesInvoice", code, True), ("SalesInvoice.void", str(made), False)]


@pytest.mark.parametrize("name", ["avalara"])
async def test_a_linked_avatax_document_that_is_not_there_is_a_dead_letter(
    rig: Rig, db: Database, clock: Clock
) -> None:
    engine = engine_of(rig, db, clock)
    await dead_and_linked(engine, event("evt_f", "invoice.finalized", VOIDED["data"]["object"]), "BY-HAND-7")
    await engine.accept(dict(VOIDED))
    await engine.drain()
    row = (await engine.rows())[1]
    assert (row["state"], row["code"]) == ("dead", "linked_document")
    assert "AvaTax has no SalesInvoice BY-HAND-7" in row["cause"]


async def other_document(rig: Rig, code: str) -> Any:
    """A document the hub did not write: our connector's, with another reference, made under this code."""
    destination = rig.destination()
    lines = [{"number": "1", "amount": 125, "taxCode": "P0000000"}]
    where = {
        "line1": "100 Ravine Ln NE",
        "city": "Bainbridge Island",
        "region": "WA",
        "postalCode": "98110",
        "country": "US",
    }
    body = {
        "companyCode": destination._company, "code": code, "type": "SalesInvoice", "date": "2026-11-02",
        "customerCode": "C1", "currencyCode": "USD", "addresses": {"singleLocation": where}, "lines": lines,
        "commit": True,
    }  # fmt: skip
    reply, _ = await destination._call("create_transaction", body, {}, write=True)
    return reply.body["id"]
