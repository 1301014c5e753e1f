"""From a signed webhook to four vendors and back: real HTTP to a served sandbox, a real database, the real mappings.

Only time is the test's own: the hub's clock is moved to whatever is due next.
"""

from __future__ import annotations

import asyncio
import copy
import random
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub import operate, search
from hub.db import Embedded
from hub.mapping import FOLDER
from hub.model import Disposition
from tests.conftest import Clock
from tests.flow import stack
from tests.flow.stack import Event, Hub, Vendors, hub, picture
from tests.flow.story import draft, payments, shop, story, subscribe, told


def later() -> Clock:
    """After every story here has ended: what is in Stripe's past arrives now."""
    return Clock(stack.START + 120 * 86400.0)


@pytest.fixture
def clock() -> Clock:
    return later()


# A life, in any order ------------------------------------------------------------------------------------------------


async def settled(here: Hub) -> None:
    assert {s.rpartition(" ")[2] for s in await here.states()} <= {"done", "superseded"}, await here.states()


async def backwards(here: Hub, events: list[Event]) -> None:
    """The last event comes first and is dealt with before the next arrives."""
    for event in reversed(events):
        await here.deliver([event], repeat=False)
        await here.work()


async def shuffled(here: Hub, events: list[Event]) -> None:
    """Every third event comes twice, all in disorder, a handful at a time."""
    rng = random.Random(4)
    sent = events + rng.sample(events, len(events) // 3)
    rng.shuffle(sent)
    for start in range(0, len(sent), 6):
        await here.deliver(sent[start : start + 6])
        await here.work()


async def as_it_happens(here: Hub, town: Vendors) -> dict[str, str]:
    """Chapter by chapter, while Stripe knows no more than that."""
    ids: dict[str, str] = {}
    told = 0
    for _ in story(town, ids):
        chapter, told = town.heard[told:], len(town.heard)
        await here.deliver(chapter, repeat=False)
        await here.work()
    return ids


def lived(town: Vendors) -> list[Event]:
    """The whole story, before anything of it arrives."""
    for _ in story(town, {}):
        pass
    return list(town.heard)


@pytest.fixture(scope="module")
def straight(served: Vendors, postgres: Embedded, template: str) -> dict[str, Any]:
    """What the vendors hold when everything arrives once and as it happens."""

    async def run() -> dict[str, str]:
        with pytest.MonkeyPatch.context() as env:
            async with stack.database(postgres, template) as dsn, hub(dsn, served, later(), env) as here:
                ids = await as_it_happens(here, served)
                await settled(here)
        return ids

    served.reset()
    ids = asyncio.run(run())
    found = picture(served)
    told(ids, found)
    assert found["lake"] == dict.fromkeys([e["id"] for e in served.heard], 1)
    return found


def test_a_customers_life_is_told_alike_by_all_vendors(straight: dict[str, Any]) -> None:
    """The figures are checked where the story is lived: here, and for every other test that needs it."""
    assert {name: len(found) for name, found in straight.items()} == {
        "salesforce": 1 + 1 + 5,  # the customer, the subscription, the invoices
        "netsuite": 1 + 5 + 4 + 2 + 1 + 3,  # the customer, the invoices, payments, credit memos, the refund, payouts
        "avalara": 5 + 1,  # the invoices, the credit note
        "lake": 94,
    }


@pytest.mark.parametrize("order", [backwards, shuffled], ids=lambda order: order.__name__)
async def test_a_customers_life_ends_the_same_at_all_vendors_whatever_the_order(
    straight: dict[str, Any], dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch, order: Any
) -> None:
    events = lived(town)
    async with hub(dsn, town, clock, env) as here:
        await order(here, events)
        await settled(here)
    assert picture(town) == straight


LOST = {
    "salesforce": ["PATCH /sobjects/Account/", "PATCH /Stripe_Subscription__c/", "PATCH /Stripe_Invoice__c/"],
    "netsuite": [f"PUT /record/v1/{kind}/" for kind in ("customer", "invoice", "customerPayment", "creditMemo")],
    "avalara": ["POST /transactions/create", "POST /commit$", "POST /void$"],
    "s3": ["PUT parquet$"],
}
"""Every kind of write there is."""


async def test_lost_replies_to_every_kind_of_write_leave_no_trace(
    straight: dict[str, Any], dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    for vendor, writes in LOST.items():
        for write in writes:
            town.fault(vendor, "lost_reply", write, times=2)
    async with hub(dsn, town, clock, env, HUB_AVALARA_COMMIT_ON="paid") as here:
        await as_it_happens(here, town)
        await settled(here)
        rows = await here.core.db.fetch_text(
            "SELECT coalesce(d.destination, b.destination) AS at, count(*) AS n FROM attempts a"
            " LEFT JOIN deliveries d ON d.id = a.delivery_id LEFT JOIN batches b ON b.id = a.batch_id"
            " WHERE a.outcome IN ('unknown', 'retry') GROUP BY 1"
        )
    hits = [fault["hits"] for fault in town.faults()]
    assert hits == [2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2], "only one document is ever voided"
    lost = {row["at"]: row["n"] for row in rows}
    # One call of Salesforce's may carry many deliveries; boto3 tries twice before it tells.
    assert lost.pop("salesforce") >= 6
    assert lost == {"netsuite": 8, "avalara": 5, "s3_lake": 1}
    assert picture(town) == straight


MISHAPS = ("lost_reply", "lost_reply_html", "lost_reply_500", "drop", "html", "limit", "expired")


@pytest.mark.prove  # a minute: Stripe's library waits before it tries again
@pytest.mark.timeout(300)
async def test_whatever_goes_wrong_at_all_vendors_the_end_is_the_same(
    straight: dict[str, Any], dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    """Every request, reads and sign-ins included, has nearly one chance in two that something happens to it."""
    events = lived(town)
    for vendor in ("stripe", *LOST):
        for mishap in MISHAPS:
            # AvaTax is called six times in this story, the others dozens of times.
            town.fault(vendor, mishap, times=None, probability=0.15 if vendor == "avalara" else 0.08)
    async with hub(dsn, town, clock, env) as here:
        await shuffled(here, events)
        await settled(here)
    hits = Counter(fault["vendor"] for fault in town.faults() for _ in range(fault["hits"]))
    assert all(hits[vendor] for vendor in LOST), hits
    assert hits.total() >= 20, hits
    town.http.delete("/__sandbox/faults")
    assert picture(town) == straight


# Events that are not what one expects --------------------------------------------------------------------------------


def altered(event: Event, id_: str, **changes: Any) -> Event:
    """The same event under another id, with changes; `obj` changes its object."""
    made = copy.deepcopy(event) | {"id": id_}
    made["data"]["object"] |= changes.pop("obj", {})
    return made | changes


def of_2020(event: Event) -> Event:
    """An invoice's event as API version 2020-08-27 shows it: other names, no `parent`, tax in one sum."""
    old = altered(event, "evt_old", api_version="2020-08-27")
    obj = old["data"]["object"]
    obj |= {"subscription": obj.pop("parent")["subscription_details"]["subscription"], "tax": 432, "paid": False}
    for name in ("total_taxes", "total_pretax_credit_amounts"):
        obj.pop(name, None)
    for line in obj["lines"]["data"]:
        line["price"] = {"id": line.pop("pricing")["price_details"]["price"]}
        line["tax_amounts"] = [{"amount": t["amount"], "inclusive": False} for t in line.pop("taxes")]
        line.pop("pretax_credit_amounts", None)
    return old


async def found(here: Hub, id_: str) -> dict[str, Any]:
    event = await here.core.db.run(search.event, id_)
    assert event is not None, id_
    return event | {"to": {d["destination"]: d["state"] for d in event["deliveries"]}}


async def test_every_signed_event_is_taken_and_found_with_the_reason(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    ids = shop(town)
    subscribe(town, ids, 3)
    finalized = town.last("invoice.finalized")
    upcoming = town.stripe.emit("invoice.upcoming")
    nameless = altered(finalized, "evt_nameless")
    del nameless["data"]["object"]["id"]
    async with hub(dsn, town, clock, env) as here:
        await here.deliver(
            [
                altered(finalized, "evt_strange", type="shiny.new_thing.happened"),
                upcoming,
                nameless,
                altered(finalized, "evt_foreign", account="acct_other"),
                altered(finalized, "evt_live", livemode=True),
                of_2020(finalized),
            ],
            repeat=False,
        )
        await here.work()
        for id_, disposition, words, to in [
            ("evt_strange", "unmapped", "no mapping names shiny.new_thing.happened; kept in s3_lake", ["s3_lake"]),
            (upcoming["id"], "unmapped", "invoice.upcoming", ["s3_lake"]),
            ("evt_nameless", "unmapped", "its object has no id", ["s3_lake"]),
            ("evt_foreign", "other_account", "acct_other", []),
            ("evt_live", "other_mode", "live-mode", []),
            ("evt_old", "routed", "2020-08-27", ["avalara", "netsuite", "s3_lake", "salesforce"]),
        ]:
            event = await found(here, id_)
            assert (event["disposition"], sorted(event["to"])) == (disposition, to), id_
            assert words in event["note"], id_
            assert set(event["to"].values()) <= {"done"}, id_
        by_search = await here.core.db.run(search.events, search.EventFilter(disposition=Disposition.OTHER_ACCOUNT))
        assert [e["id"] for e in by_search.items] == ["evt_foreign"]
    after = picture(town)
    assert after["lake"] == dict.fromkeys(["evt_strange", upcoming["id"], "evt_nameless", "evt_old"], 1)
    # The old event was not mapped as it came: it names no tax where the mappings look for it. 54.00 + 4.32 = 58.32.
    number = finalized["data"]["object"]["id"]
    assert after["netsuite"][f"invoice stripe_{number}"]["total"] == "58.32"
    assert [line["amount"] for line in after["netsuite"][f"invoice stripe_{number}"]["lines"]] == [
        "60.00",
        "-6.00",
        "4.32",
    ]
    assert Decimal(after["avalara"][number]["totalTax"]) == Decimal("4.32")
    crm = after["salesforce"][f"Stripe_Invoice__c {number}"]
    assert (Decimal(crm["Tax__c"]), Decimal(crm["Total__c"])) == (Decimal("4.32"), Decimal("58.32"))
    assert crm["Subscription__c"] is not None


async def test_a_thin_notification_is_fetched_and_then_delivered_like_any_event(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    invoice = subscribe(town, shop(town), 3)["latest_invoice"]
    thin = town.stripe.emit_thin("v1.invoice.finalized", invoice)
    async with hub(dsn, town, clock, env) as here:
        await here.deliver([thin, thin])
        await here.work()
        assert (await found(here, thin["id"]))["to"] == {"stripe": "done", "s3_lake": "done"}
        fetched = await found(here, f"{thin['id']}:fetched")
        assert fetched["to"] == dict.fromkeys(["avalara", "netsuite", "s3_lake", "salesforce"], "done")
        assert fetched["type"] == "invoice.finalized"
    after = picture(town)
    assert after["netsuite"][f"invoice stripe_{invoice}"]["total"] == "58.32"
    assert Decimal(after["avalara"][invoice]["totalAmount"]) == Decimal(54)
    assert Decimal(after["salesforce"][f"Stripe_Invoice__c {invoice}"]["Total__c"]) == Decimal("58.32")
    assert after["lake"] == {thin["id"]: 1, f"{thin['id']}:fetched": 1}


@pytest.mark.parametrize(("lines", "total"), [(11, "11.55"), (101, "151.50")])
async def test_an_invoice_with_more_lines_than_an_event_carries_arrives_whole(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch, lines: int, total: str
) -> None:
    """Lines of 1.00, 1.01, 1.02, ...: 11 of them are 11 + 0.55, a hundred and one are 101 + 50.50."""
    customer = shop(town)["customer"]
    invoice = draft(town, customer)
    for n in range(lines):
        town.post("/v1/invoiceitems", customer=customer, invoice=invoice, amount=100 + n, description=f"Hour {n}")
    town.post(f"/v1/invoices/{invoice}/finalize")
    event = town.last("invoice.finalized")
    assert len(event["data"]["object"]["lines"]["data"]) == 10
    async with hub(dsn, town, clock, env) as here:
        await here.deliver([event])
        await here.work()
        await settled(here)
    after = picture(town)
    amounts = [Decimal(100 + n) / 100 for n in range(lines)]
    booked = after["netsuite"][f"invoice stripe_{invoice}"]
    assert booked["total"] == total
    assert sorted(Decimal(line["amount"]) for line in booked["lines"]) == amounts
    assert Decimal(after["avalara"][invoice]["totalAmount"]) == Decimal(total)
    assert sorted(Decimal(line["amount"]) for line in after["avalara"][invoice]["lines"]) == amounts
    assert Decimal(after["salesforce"][f"Stripe_Invoice__c {invoice}"]["Total__c"]) == Decimal(total)


# What needs a person -------------------------------------------------------------------------------------------------


async def test_a_missing_lookup_names_table_and_key_and_once_it_is_there_a_retry_delivers(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "mappings"
    shutil.copytree(FOLDER, folder)
    table = folder / "lookups" / "netsuite_items.yaml"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if not line.startswith('"*"')))
    ids = shop(town)
    invoice = subscribe(town, ids, 3)["latest_invoice"]
    async with hub(dsn, town, clock, env, HUB_MAPPINGS_DIR=str(folder)) as here:
        await here.deliver(town.heard)
        await here.work()
        dead = await here.rows(state="dead")
        assert [(d["destination"], d["type"], d["code"]) for d in dead] == [
            ("netsuite", "invoice.finalized", "lookup_missing")
        ]
        held = await here.rows(state="held")
        assert ("invoice_payment.paid", dead[0]["id"]) in [(d["type"], d["held_by"]) for d in held]
        for word in ("netsuite_items", ids["price"], ids["product"]):
            assert word in dead[0]["cause"]
        assert not [k for k in picture(town)["netsuite"] if k.startswith("invoice")]
    with table.open("a") as file:
        file.write(f"{ids['product']}: hub_subscription\n")
    async with hub(dsn, town, clock, env, HUB_MAPPINGS_DIR=str(folder)) as here:
        done = await here.core.db.run(operate.retry, dead[0]["id"], stack.utc(clock()))
        assert (done.deliveries, done.released) == (1, len(held))
        await here.work()
        await settled(here)
    books = picture(town)["netsuite"]
    assert books[f"invoice stripe_{invoice}"]["total"] == "58.32"
    assert payments(books) == {invoice: ["58.32"]}


async def test_a_document_that_does_not_add_up_is_not_sent_and_shows_the_arithmetic(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    subscribe(town, shop(town), 3)
    finalized, paid = town.last("invoice.finalized"), town.last("invoice.paid")
    invoice = paid["data"]["object"]["id"]
    async with hub(dsn, town, clock, env) as here:
        await here.deliver([altered(finalized, "evt_wrong", obj={"total": 5833})])
        await here.work()
        dead = await here.rows(state="dead")
        assert {d["destination"]: d["code"] for d in dead} == dict.fromkeys(["avalara", "netsuite"], "does_not_add_up")
        for letter in dead:
            assert f"{invoice} does not add up" in letter["cause"]
            sums = "line amounts 6000 - discounts 600 + exclusive taxes 432 = 5832, but total is 5833: off by 1"
            assert sums in letter["cause"]
        now = picture(town)
        assert now["avalara"] == {}
        assert not [k for k in now["netsuite"] if k.startswith("invoice")]
        # Stripe sends the invoice as it is: what was wrong is over, and the dead letters need only be told.
        await here.deliver([paid, town.last("invoice_payment.paid")])
        await here.work()
        for letter in dead:
            await here.core.db.run(operate.retry, letter["id"], stack.utc(clock()))
        await here.work()
        await settled(here)
    after = picture(town)
    assert after["netsuite"][f"invoice stripe_{invoice}"]["amountRemaining"] == "0.00"
    assert Decimal(after["avalara"][invoice]["totalAmount"]) == Decimal(54)


async def test_a_destination_without_credentials_waits_alone_and_catches_up(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    invoice = subscribe(town, shop(town), 3)["latest_invoice"]
    async with hub(dsn, town, clock, env, HUB_AVALARA_LICENSE_KEY=None) as here:
        await here.deliver(town.heard)
        await here.work()
        listed = await here.core.db.run(search.destinations, stack.utc(clock()))
        paused = {d["name"]: d["reason"] for d in listed if d["paused"]}
        assert list(paused) == ["avalara"]
        assert "HUB_AVALARA_LICENSE_KEY: is missing" in paused["avalara"]
        waiting = await here.rows(state="waiting")
        assert {d["destination"] for d in waiting} == {"avalara"}
        assert await here.rows(state="dead") == []
    before = picture(town)
    assert before["avalara"] == {}
    assert before["netsuite"][f"invoice stripe_{invoice}"]["total"] == "58.32"
    assert set(before["lake"].values()) == {1}
    async with hub(dsn, town, clock, env) as here:
        await here.work()
        await settled(here)
    assert Decimal(picture(town)["avalara"][invoice]["totalTax"]) == Decimal("4.32")
