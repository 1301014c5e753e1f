"""From a signed webhook to four vendors and back: real HTTP to a served sandbox, a real database, the real mappings.

Only time is the test's own: the hub's clock is moved to whatever is due next.
"""

from __future__ import annotations

import asyncio
import copy
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub import operate, search
from hub.db import Embedded
from hub.mapping import FOLDER
from hub.model import Disposition
from tests.conftest import Clock
from tests.flow import stack
from tests.flow.stack import Event, Hub, Vendors, hub, picture, shop, story, subscribe


@pytest.fixture(scope="module")
def served() -> Iterator[Vendors]:
    with stack.vendors() as town:
        yield town


@pytest.fixture
def town(served: Vendors) -> Vendors:
    served.reset()
    return served


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


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
        "netsuite": 1 + 5 + 4 + 2,  # the customer, the invoices, payments, credit memos
        "avalara": 5,
        "lake": 80,
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
    assert [fault["hits"] for fault in town.faults()] == [2] * 11
    lost = {row["at"]: row["n"] for row in rows}
    # One call of Salesforce's may carry many deliveries; boto3 tries twice before it tells.
    assert lost.pop("salesforce") >= 6
    assert lost == {"netsuite": 8, "avalara": 6, "s3_lake": 1}
    assert picture(town) == straight


def told(ids: dict[str, str], found: dict[str, Any]) -> None:
    """The story's end, by hand. Every figure is worked out in `stack.story`."""
    _books(ids, found["netsuite"])
    _taxes(ids, found["avalara"])
    _crm(ids, found["salesforce"])


def _books(ids: dict[str, str], books: dict[str, Any]) -> None:
    invoices = {k.removeprefix("invoice stripe_"): v for k, v in books.items() if k.startswith("invoice ")}
    totals = {ids[n]: t for n, t in TOTALS.items()}
    assert {k: v["total"] for k, v in invoices.items()} == totals
    assert {v["amountRemaining"] for v in invoices.values()} == {"0.00"}
    first = invoices[ids["first"]]
    assert [(line["item"], line["amount"]) for line in first["lines"]] == [
        ("hub_subscription", "60.00"), ("hub_discount", "-6.00"), ("hub_tax", "4.32"),
    ]  # fmt: skip
    assert (first["tranDate"], first["customer"]) == ("2026-11-02", f"stripe_{ids['customer']}")
    upgrade = [(line["item"], line["amount"]) for line in invoices[ids["upgrade"]]["lines"]]
    assert sorted(upgrade) == [("hub_subscription", "-27.00"), ("hub_subscription", "45.00"), ("hub_tax", "1.44")]
    payments = {k: v["payment"] for k, v in books.items() if k.startswith("customerPayment ")}
    assert payments == {f"customerPayment stripe_pay_{ids[n]}": t for n, t in TOTALS.items() if n != "wrong"}
    memos = {k: (v["total"], v["unapplied"]) for k, v in books.items() if k.startswith("creditMemo ")}
    assert memos == {
        f"creditMemo stripe_{ids['note']}": ("19.44", "19.44"),
        f"creditMemo stripe_void_{ids['wrong']}": ("125.00", "0.00"),
    }
    assert books[f"customer stripe_{ids['customer']}"]["companyName"] == "Zelda Quillfeather-Jones"


TOTALS = {"first": "58.32", "second": "58.32", "upgrade": "19.44", "third": "97.20", "wrong": "125.00"}
TAXED = {
    "first": (54, "4.32"),
    "second": (54, "4.32"),
    "upgrade": (18, "1.44"),
    "third": (90, "7.20"),
    "wrong": (125, 0),
}


def _taxes(ids: dict[str, str], taxes: dict[str, Any]) -> None:
    assert {k: (Decimal(d["totalAmount"]), Decimal(d["totalTax"])) for k, d in taxes.items()} == {
        ids[n]: (Decimal(net), Decimal(tax)) for n, (net, tax) in TAXED.items()
    }
    statuses = {ids[n]: "Cancelled" if n == "wrong" else "Committed" for n in TAXED}
    assert {k: d["status"] for k, d in taxes.items()} == statuses
    assert [(Decimal(line["amount"]), Decimal(line["tax"])) for line in taxes[ids["first"]]["lines"]] == [
        (Decimal("54.00"), Decimal("4.32"))
    ]


def _crm(ids: dict[str, str], crm: dict[str, Any]) -> None:
    assert {k: Decimal(v["Total__c"]) for k, v in crm.items() if k.startswith("Stripe_Invoice__c")} == {
        f"Stripe_Invoice__c {ids[n]}": Decimal(t) for n, t in TOTALS.items()
    }
    first = crm[f"Stripe_Invoice__c {ids['first']}"]
    amounts = [first[f] for f in ("Subtotal__c", "Tax__c", "Total__c", "Amount_Paid__c", "Amount_Remaining__c")]
    assert list(map(Decimal, amounts)) == [Decimal(n) for n in ("60", "4.32", "58.32", "58.32", "0")]
    assert (first["Account__c"], first["Subscription__c"]) == (ids["customer"], ids["subscription"])
    statuses = {n: crm[f"Stripe_Invoice__c {ids[n]}"]["Status__c"] for n in TOTALS}
    assert statuses == dict.fromkeys(TOTALS, "paid") | {"wrong": "void"}
    plan = crm[f"Stripe_Subscription__c {ids['subscription']}"]
    assert (plan["Status__c"], Decimal(plan["Quantity__c"])) == ("canceled", Decimal(5))
    account = crm[f"Account {ids['customer']}"]
    assert (account["Name"], account["BillingStreet"]) == ("Zelda Quillfeather-Jones", "78 Marmalade Row")
