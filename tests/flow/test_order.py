"""Three events of one second, in every order: from the webhook to four vendors, through the real connectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import permutations

import pytest

from tests.conftest import Clock
from tests.flow import stack
from tests.flow.stack import Event, Vendors, hub, picture
from tests.flow.story import ADDRESS, draft, payments, shop

THREE = ("invoice.paid", "invoice.payment_succeeded", "invoice.updated")
ORDERS = list(permutations(range(3)))


@pytest.fixture(scope="module")
def town() -> Iterator[Vendors]:
    with stack.vendors() as served:
        yield served


def paid(town: Vendors, customer: str, *, behind: bool) -> list[Event]:
    """An invoice over 125.00 is made and, a day later, paid. What Stripe says of the payment, all in one second.

    The InvoicePayment, an object of its own, comes last. `behind`: its `invoice.updated` is of a moment before the
    payment, and shows it open.
    """
    invoice = draft(town, customer)
    town.post("/v1/invoiceitems", customer=customer, invoice=invoice, amount=12500, description="Training")
    town.post(f"/v1/invoices/{invoice}/finalize")
    before = town.last("invoice.finalized")["data"]["object"]
    town.stripe.advance(86400)
    town.heard.clear()
    town.post(f"/v1/invoices/{invoice}/pay")
    said = [
        next(e for e in town.heard if e["type"] == type_ and e["data"]["object"]["id"] == invoice) for type_ in THREE
    ]
    assert len({e["created"] for e in said}) == 1
    if behind:
        said[2] |= {"data": {"object": before}}
    return [*said, town.last("invoice_payment.paid")]


async def test_three_events_of_one_second_end_as_paid_everywhere_in_all_six_orders(
    dsn: str, town: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six invoices whose events are carried out one by one, six whose events all come twice before anything is done."""
    town.reset()
    customer = shop(town)["customer"]
    slow = [paid(town, customer, behind=True) for _ in ORDERS]
    fast = [paid(town, customer, behind=n % 2 == 0) for n, _ in enumerate(ORDERS)]
    async with hub(dsn, town, Clock(stack.START + 120 * 86400.0), monkeypatch, HUB_AVALARA_COMMIT_ON="paid") as here:
        for place in range(3):
            await here.deliver([said[order[place]] for said, order in zip(slow, ORDERS, strict=True)], repeat=False)
            await here.work()
        await here.deliver([said[3] for said in slow])
        for said, order in zip(fast, ORDERS, strict=True):
            await here.deliver([said[i] for i in (*order, 3) for _ in range(2)])
        await here.work()
        assert {state.rpartition(" ")[2] for state in await here.states()} <= {"done", "superseded"}
    after = picture(town)
    ids = {said[0]["data"]["object"]["id"] for said in (*slow, *fast)}
    invoices = {k.split()[1]: v for k, v in after["salesforce"].items() if k.startswith("Stripe_Invoice__c ")}
    ends = {
        i: (row["Status__c"], Decimal(row["Amount_Paid__c"]), row["Amount_Remaining__c"]) for i, row in invoices.items()
    }
    assert {i: (status, due, Decimal(left)) for i, (status, due, left) in ends.items()} == dict.fromkeys(
        ids, ("paid", Decimal(125), Decimal(0))
    )
    assert Counter(k.split()[0] for k in after["netsuite"]) == {"customer": 1, "invoice": 12, "customerPayment": 12}
    for id_ in ids:
        booked = after["netsuite"][f"invoice stripe_{id_}"]
        assert (booked["total"], booked["amountRemaining"]) == ("125.00", "0.00")
        assert payments(after["netsuite"])[id_] == ["125.00"]
        assert (after["avalara"][id_]["status"], Decimal(after["avalara"][id_]["totalAmount"])) == (
            "Committed",
            Decimal(125),
        )
    assert set(after["avalara"]) == ids
    assert after["lake"] == {event["id"]: 1 for said in (*slow, *fast) for event in said}
    writes = Counter(
        r["path"].split("/")[-2] for r in town.requests("netsuite") if r["method"] in ("PUT", "POST", "PATCH")
    )
    reads = [r["path"] for r in town.requests("stripe") if r["method"] == "GET" and "/v1/invoices/" in r["path"]]
    assert reads == [], "the status decides, nobody has to be asked"
    assert {kind: writes[kind] for kind in ("customer", "invoice", "customerPayment")} == {
        "customer": 1, "invoice": 12, "customerPayment": 12,
    }, "every document was written once"  # fmt: skip


async def test_documents_that_come_after_their_customer_was_deleted_are_booked(
    dsn: str, town: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion is carried out at NetSuite first, which takes nothing for an inactive customer. Of one customer the
    invoice comes late; of another only its payment, whose invoice is there already."""
    town.reset()
    sold: dict[str, str] = {}
    for one in ("invoice", "payment"):
        who = town.post("/v1/customers", name=f"Late {one}", email="x@example.com", address=ADDRESS)["id"]
        sold[who] = draft(town, who)
        town.post("/v1/invoiceitems", customer=who, invoice=sold[who], amount=4000, description="Training")
        town.post(f"/v1/invoices/{sold[who]}/finalize")
        town.post(f"/v1/invoices/{sold[who]}/pay")
        town.stripe.call("DELETE", f"/v1/customers/{who}", {})
    first, second = sold.values()
    late = [
        e
        for e in town.heard
        if (e["type"], e["data"]["object"]["id"]) == ("invoice.finalized", first)
        or (e["type"], e["data"]["object"].get("invoice")) == ("invoice_payment.paid", second)
    ]
    early = [e for e in town.heard if e not in late and e["type"] != "invoice_payment.paid"]
    async with hub(dsn, town, Clock(stack.START + 86400.0), monkeypatch) as here:
        for gone in (False, True):
            await here.deliver(e for e in early if (e["type"] == "customer.deleted") == gone)
            await here.work()
        before = {k: v["isInactive"] for k, v in picture(town)["netsuite"].items() if k.startswith("customer ")}
        assert before == {f"customer stripe_{who}": True for who in sold}
        await here.deliver(late)
        await here.work()
        assert {state.rpartition(" ")[2] for state in await here.states()} <= {"done", "superseded"}
    books = picture(town)["netsuite"]
    assert books[f"invoice stripe_{first}"]["amountRemaining"] == "40.00"
    assert payments(books)[second] == ["40.00"]
    people = [books[f"customer stripe_{who}"] for who in sold]
    assert [(p["companyName"], p["isInactive"]) for p in people] == [("Late invoice", False), ("Late payment", False)]
