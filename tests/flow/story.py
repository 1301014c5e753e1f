"""A customer's whole life at the simulated Stripe, and what the books must say of it in the end, worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from tests.flow.stack import Vendors

DAY, HOUR = 86400, 3600
ADDRESS = {
    "line1": "77 Marmalade Row", "city": "Bainbridge Island", "state": "WA", "postal_code": "98110", "country": "US",
}  # fmt: skip


def shop(town: Vendors) -> dict[str, str]:
    """Seats at 20.00 a month, 8 percent tax on top, a coupon of 10 percent, and a customer."""
    product = town.post("/v1/products", name="Seats", tax_code="txcd_10103001")["id"]
    return {
        "product": product,
        "price": town.post(
            "/v1/prices", product=product, currency="usd", unit_amount=2000, recurring={"interval": "month"}
        )["id"],
        "rate": town.post("/v1/tax_rates", display_name="Sales tax", percentage="8", inclusive=False)["id"],
        "coupon": town.post("/v1/coupons", percent_off="10", duration="forever")["id"],
        "customer": town.post("/v1/customers", name="Zelda Quillfeather", email="z@example.com", address=ADDRESS)["id"],
    }


def subscribe(town: Vendors, ids: Mapping[str, str], seats: int) -> Any:
    """Seats, less 10 percent, plus 8 percent tax, paid at once."""
    return town.post(
        "/v1/subscriptions",
        customer=ids["customer"],
        items=[{"price": ids["price"], "quantity": seats}],
        default_tax_rates=[ids["rate"]],
        discounts=[{"coupon": ids["coupon"]}],
    )


def story(town: Vendors, ids: dict[str, str]) -> Iterator[str]:
    """Sign-up, renewal, upgrade, failed payment and recovery, credit note, a voided invoice, a move, cancellation.

    Yields each chapter's name when it is over; `ids` tells who is who.
    Sign-up and renewal: 3 x 20.00 less 10 percent is 54.00, with tax 58.32.
    Upgrade to 5 seats halfway through a period: 50.00 - 30.00, each less 10 percent, is 18.00, with tax 19.44.
    Third period: 100.00 less 10 percent is 90.00, with tax 97.20. One seat of it credited: 18.00, with tax 19.44.
    """
    ids |= shop(town)
    sold = subscribe(town, ids, 3)
    ids |= {"subscription": sold["id"], "first": sold["latest_invoice"]}
    item = sold["items"]["data"][0]
    yield "sign-up"
    town.stripe.advance(30 * DAY + 2 * HOUR)
    ids["second"] = latest(town, ids)
    yield "renewal"
    town.stripe.advance(item["current_period_end"] + 31 * DAY // 2 - town.stripe.now)
    seats = [{"id": item["id"], "quantity": 5}]
    town.post(f"/v1/subscriptions/{sold['id']}", items=seats, proration_behavior="always_invoice")
    ids["upgrade"] = latest(town, ids)
    yield "upgrade"
    town.stripe.set_payment(ids["customer"], "fails")
    town.stripe.advance(16 * DAY)
    ids["third"] = latest(town, ids)
    yield "failed payment"
    town.stripe.set_payment(ids["customer"], "ok")
    town.stripe.advance(6 * DAY)
    yield "recovery"
    line = town.stripe.call("GET", f"/v1/invoices/{ids['third']}/lines")["data"][0]["id"]
    lines = [{"type": "invoice_line_item", "invoice_line_item": line, "quantity": 1}]
    ids["note"] = town.post("/v1/credit_notes", invoice=ids["third"], lines=lines, refund_amount=1944)["id"]
    yield "credit note"
    ids["wrong"] = draft(town, ids["customer"])
    town.post("/v1/invoiceitems", customer=ids["customer"], invoice=ids["wrong"], amount=12500, description="Training")
    town.post(f"/v1/invoices/{ids['wrong']}/finalize")
    town.stripe.advance(2 * DAY)
    town.post(f"/v1/invoices/{ids['wrong']}/void")
    yield "voided"
    address = {**ADDRESS, "line1": "78 Marmalade Row"}
    town.post(f"/v1/customers/{ids['customer']}", name="Zelda Quillfeather-Jones", address=address)
    yield "move"
    town.stripe.advance(HOUR)
    town.stripe.call("DELETE", f"/v1/subscriptions/{sold['id']}", {})
    yield "cancellation"


def draft(town: Vendors, customer: str) -> str:
    """An empty invoice that will be sent."""
    made = town.post("/v1/invoices", customer=customer, collection_method="send_invoice", days_until_due=30)
    return str(made["id"])


def latest(town: Vendors, ids: Mapping[str, str]) -> str:
    """The customer's newest invoice."""
    found = town.stripe.call("GET", "/v1/invoices", {"customer": ids["customer"], "limit": 1})
    return str(found["data"][0]["id"])


def told(ids: dict[str, str], found: dict[str, Any]) -> None:
    """The story's end, by hand. Every figure is worked out in `story`."""
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
    assert payments(books) == {ids[n]: [t] for n, t in TOTALS.items() if n != "wrong"}
    memos = {k: (v["total"], v["unapplied"]) for k, v in books.items() if k.startswith("creditMemo ")}
    assert memos == {
        f"creditMemo stripe_{ids['note']}": ("19.44", "0.00"),
        f"creditMemo stripe_void_{ids['wrong']}": ("125.00", "0.00"),
    }
    (back,) = [v for k, v in books.items() if k.startswith("customerRefund ")]
    assert (back["total"], back["apply"]) == ("19.44", [{"doc": f"stripe_{ids['note']}", "amount": "19.44"}])
    assert books[f"customer stripe_{ids['customer']}"]["companyName"] == "Zelda Quillfeather-Jones"


def payments(books: Mapping[str, Any]) -> dict[str, list[str]]:
    """Invoice -> what each of its customer payments is over, all of it applied to it."""
    found: dict[str, list[str]] = {}
    for key, payment in books.items():
        if key.startswith("customerPayment stripe_inpay_"):
            (applied,) = payment["apply"]
            assert applied["amount"] == payment["payment"], key
            found.setdefault(applied["doc"].removeprefix("stripe_"), []).append(payment["payment"])
    return found


TOTALS = {"first": "58.32", "second": "58.32", "upgrade": "19.44", "third": "97.20", "wrong": "125.00"}
TAXED: dict[str, tuple[int, str]] = {
    "first": (54, "4.32"),
    "second": (54, "4.32"),
    "upgrade": (18, "1.44"),
    "third": (90, "7.20"),
    "wrong": (125, "0"),
}


def _taxes(ids: dict[str, str], taxes: dict[str, Any]) -> None:
    # One seat of 18.00 and its tax of 1.44 came back.
    back, taxes = taxes[ids["note"]], {k: d for k, d in taxes.items() if k != ids["note"]}
    returned = (back["type"], back["status"], Decimal(back["totalAmount"]), Decimal(back["totalTax"]))
    assert returned == ("ReturnInvoice", "Committed", Decimal(-18), Decimal("-1.44"))
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
