"""Amounts against figures worked out by hand, and invoices of many lives against the invariants."""

from __future__ import annotations

import random
from typing import Any

import pytest

from connectors.stripe.simulator import Business, InvariantError, StripeError, StripeSimulator
from connectors.stripe.simulator.totals import check
from tests.connectors.stripe_kit import DAY, START, Account


class Shop(Account):
    """An account with a product, prices and tax rates."""

    def __init__(self) -> None:
        super().__init__(payouts=True)
        self.product = self.post("/v1/products", name="Seats")["id"]

    def price(self, amount: int, currency: str = "usd", **params: Any) -> str:
        terms: dict[str, Any] = {"recurring": {"interval": "month"}, **params}
        return str(self.post("/v1/prices", product=self.product, currency=currency, unit_amount=amount, **terms)["id"])

    def rate(self, percentage: str, *, inclusive: bool = False) -> str:
        return str(self.post("/v1/tax_rates", display_name="Tax", percentage=percentage, inclusive=inclusive)["id"])

    def draft(self, amounts: list[int], currency: str = "usd", **params: Any) -> Any:
        """A draft invoice with one line per amount, of a customer of its own."""
        return self.get(f"/v1/invoices/{self.drafted(self.customer(), amounts, currency, **params)}")


def test_exclusive_taxes_are_rounded_half_up_per_line_and_rate() -> None:
    shop = Shop()
    state, city = shop.rate("6.5"), shop.rate("2.7")
    invoice = shop.draft([1050, 333], default_tax_rates=[state, city])
    # 1050: 68.25 -> 68, 28.35 -> 28; 333: 21.645 -> 22, 8.991 -> 9
    assert [[tax["amount"] for tax in line["taxes"]] for line in invoice["lines"]["data"]] == [[68, 28], [22, 9]]
    assert [(tax["amount"], tax["taxable_amount"]) for tax in invoice["total_taxes"]] == [(90, 1383), (37, 1383)]
    assert (invoice["subtotal"], invoice["total"], invoice["total_excluding_tax"]) == (1383, 1510, 1383)


def test_half_a_cent_goes_up_and_on_credits_down() -> None:
    shop = Shop()
    rate = shop.rate("5")
    lines = shop.draft([1010, -510], default_tax_rates=[rate])["lines"]["data"]
    assert [line["taxes"][0]["amount"] for line in lines] == [51, -26]  # 50.5 and -25.5


def test_inclusive_tax_is_taken_out_of_the_amount() -> None:
    shop = Shop()
    invoice = shop.draft([1000], currency="eur", default_tax_rates=[shop.rate("19", inclusive=True)])
    # 1000 * 19 / 119 = 159.66
    assert invoice["total_taxes"][0]["amount"] == 160
    assert invoice["total_taxes"][0]["taxable_amount"] == 840
    assert (invoice["subtotal"], invoice["subtotal_excluding_tax"]) == (1000, 840)
    assert (invoice["total"], invoice["total_excluding_tax"]) == (1000, 840)


def test_percentage_coupon_is_spread_to_the_cent_before_tax() -> None:
    shop = Shop()
    coupon = shop.post("/v1/coupons", percent_off="10", duration="once")["id"]
    invoice = shop.draft([999, 333, 333], discounts=[{"coupon": coupon}], default_tax_rates=[shop.rate("10")])
    # 10 % of 1665 = 166.5 -> 167; shares 100.2, 33.4, 33.4 -> 100, 34 (largest remainder, first), 33
    assert [line["discount_amounts"][0]["amount"] for line in invoice["lines"]["data"]] == [100, 34, 33]
    assert invoice["total_discount_amounts"][0]["amount"] == 167
    assert [line["taxes"][0]["amount"] for line in invoice["lines"]["data"]] == [90, 30, 30]  # 89.9, 29.9, 30.0
    assert invoice["total"] == 1665 - 167 + 150
    assert invoice["lines"]["data"][1]["pretax_credit_amounts"] == [
        {
            "amount": 34,
            "credit_balance_transaction": None,
            "discount": invoice["discounts"][0],
            "type": "discount",
        }
    ]


def test_amount_coupon_stops_at_zero() -> None:
    shop = Shop()
    coupon = shop.post("/v1/coupons", amount_off=5000, currency="usd", duration="once")["id"]
    invoice = shop.draft([1200, 300], discounts=[{"coupon": coupon}])
    assert (invoice["total_discount_amounts"][0]["amount"], invoice["total"]) == (1500, 0)


@pytest.mark.parametrize(
    ("currency", "amount", "tax"),
    [("jpy", 1235, 124), ("kwd", 12340, 1230)],  # 123.5 -> 124 yen; 1234 fils -> 1230, thousandths end in 0
)
def test_currencies_without_or_with_three_decimals(currency: str, amount: int, tax: int) -> None:
    shop = Shop()
    invoice = shop.draft([amount], currency=currency, default_tax_rates=[shop.rate("10")])
    assert (invoice["total_taxes"][0]["amount"], invoice["total"]) == (tax, amount + tax)


def test_dinars_must_end_in_zero() -> None:
    shop = Shop()
    with pytest.raises(StripeError, match="must end in 0"):
        shop.draft([12345], currency="kwd")


def test_exempt_customer_pays_no_tax_but_the_rate_is_shown() -> None:
    shop = Shop()
    customer = shop.customer(tax_exempt="exempt")
    rate = shop.rate("10")
    shop.post("/v1/invoiceitems", customer=customer, amount=1000)
    params = {"customer": customer, "default_tax_rates": [rate], "pending_invoice_items_behavior": "include"}
    invoice = shop.post("/v1/invoices", **params)
    assert invoice["total"] == 1000
    assert invoice["total_taxes"][0]["taxability_reason"] == "customer_exempt"


def _tiers(mode: str) -> dict[str, Any]:
    tiers = [{"up_to": 5, "unit_amount": 1000, "flat_amount": 200}, {"up_to": "inf", "unit_amount": 700}]
    return {"billing_scheme": "tiered", "tiers_mode": mode, "tiers": tiers, "recurring": {"interval": "month"}}


@pytest.mark.parametrize(
    ("mode", "quantity", "amounts"),
    [
        ("graduated", 8, [5000, 200, 2100]),  # 5 at 10.00 plus the flat fee, 3 at 7.00
        ("graduated", 5, [5000, 200]),
        ("volume", 8, [5600]),  # all 8 at 7.00
        ("volume", 5, [5000, 200]),
    ],
)
def test_tiers(mode: str, quantity: int, amounts: list[int]) -> None:
    shop = Shop()
    price = shop.post("/v1/prices", product=shop.product, currency="usd", **_tiers(mode))["id"]
    items = [{"price": price, "quantity": quantity}]
    subscription = shop.post("/v1/subscriptions", customer=shop.customer(), items=items)
    lines = shop.get(f"/v1/invoices/{subscription['latest_invoice']}/lines")["data"]
    assert [line["amount"] for line in lines] == amounts


def test_metered_use_is_billed_in_arrears_at_a_fraction_of_a_cent() -> None:
    shop = Shop()
    formula = {"formula": "sum"}
    meter = shop.post("/v1/billing/meters", display_name="Calls", event_name="calls", default_aggregation=formula)["id"]
    recurring = {"interval": "month", "usage_type": "metered", "meter": meter}
    params = {"product": shop.product, "currency": "usd", "unit_amount_decimal": "0.85", "recurring": recurring}
    price = shop.post("/v1/prices", **params)["id"]
    customer = shop.customer()
    subscription = shop.post("/v1/subscriptions", customer=customer, items=[{"price": price}])
    for value, at in (("1000", START + 5), ("31", START + 30 * DAY), ("999", START + 31 * DAY + 60)):
        shop.sim.advance(at - shop.sim.now)
        payload = {"stripe_customer_id": customer, "value": value}
        shop.post("/v1/billing/meter_events", event_name="calls", payload=payload)
    latest = shop.get(f"/v1/subscriptions/{subscription['id']}")["latest_invoice"]
    (line,) = shop.get(f"/v1/invoices/{latest}/lines")["data"]
    assert (line["quantity"], line["amount"]) == (1031, 876)  # 1031 * 0.85 = 876.35
    assert line["period"] == {"start": START, "end": START + 31 * DAY}
    assert line["pricing"]["unit_amount_decimal"] == "0.85"


def test_upgrade_is_prorated_to_the_second_and_invoiced_at_once() -> None:
    shop = Shop()
    customer, rate = shop.customer(), shop.rate("10")
    params = {"items": [{"price": shop.price(1000), "quantity": 3}], "default_tax_rates": [rate]}
    subscription = shop.post("/v1/subscriptions", customer=customer, **params)
    item = subscription["items"]["data"][0]["id"]
    shop.sim.advance(10 * DAY + 1)  # 1,814,399 of 2,678,400 seconds are left
    change = {"items": [{"id": item, "quantity": 5}], "proration_behavior": "always_invoice"}
    after = shop.post(f"/v1/subscriptions/{subscription['id']}", **change)
    invoice = shop.get(f"/v1/invoices/{after['latest_invoice']}")
    new, old = invoice["lines"]["data"]
    # 5000 * 1814399 / 2678400 = 3387.096...; 3000 * 1814399 / 2678400 = 2032.258...
    assert (new["amount"], old["amount"]) == (3387, -2032)
    assert (new["taxes"][0]["amount"], old["taxes"][0]["amount"]) == (339, -203)
    assert (invoice["subtotal"], invoice["total"], invoice["status"]) == (1355, 1491, "paid")
    assert invoice["billing_reason"] == "subscription_update"
    assert invoice["parent"]["subscription_details"]["subscription_proration_date"] == START + 10 * DAY + 1
    details = old["parent"]["subscription_item_details"]
    first = shop.get(f"/v1/invoices/{subscription['latest_invoice']}/lines")["data"][0]["id"]
    credited = {"invoice": subscription["latest_invoice"], "invoice_line_items": [first]}
    assert details["proration"] is True
    assert details["proration_details"] == {"credited_items": credited}
    assert old["period"] == {"start": START + 10 * DAY + 1, "end": START + 31 * DAY}


def test_later_prorations_wait_for_the_renewal_and_are_net_of_the_coupon() -> None:
    shop = Shop()
    coupon = shop.post("/v1/coupons", percent_off="20", duration="forever")["id"]
    items = [{"price": shop.price(1000), "quantity": 2}]
    subscription = shop.post("/v1/subscriptions", customer=shop.customer(), items=items, discounts=[{"coupon": coupon}])
    shop.sim.advance(31 * DAY // 2)
    change = [{"id": subscription["items"]["data"][0]["id"], "quantity": 4}]
    after = shop.post(f"/v1/subscriptions/{subscription['id']}", items=change)
    assert after["latest_invoice"] == subscription["latest_invoice"]
    shop.sim.advance(31 * DAY // 2)
    invoice = shop.get(f"/v1/invoices/{shop.get('/v1/subscriptions/' + subscription['id'])['latest_invoice']}")
    # newest item first: half of 4000 less 20 %, minus half of 2000 less 20 %, then the new month
    assert [line["amount"] for line in invoice["lines"]["data"]] == [1600, -800, 4000]
    assert [line["discountable"] for line in invoice["lines"]["data"]] == [False, False, True]
    assert invoice["total"] == 4800 - 800


def test_credit_note_limits_and_effects() -> None:
    shop = Shop()
    draft = shop.draft([2000, 1000], default_tax_rates=[shop.rate("10")])
    invoice = shop.post(f"/v1/invoices/{draft['id']}/finalize")
    line = {"type": "invoice_line_item", "invoice_line_item": invoice["lines"]["data"][1]["id"]}
    note = shop.post("/v1/credit_notes", invoice=invoice["id"], lines=[{**line, "amount": 400}])
    assert (note["subtotal"], note["total"], note["type"], note["number"]) == (
        400,
        440,
        "pre_payment",
        invoice["number"] + "-CN-01",
    )
    after = shop.get(f"/v1/invoices/{invoice['id']}")
    assert (after["total"], after["amount_due"], after["amount_remaining"]) == (3300, 2860, 2860)
    with pytest.raises(StripeError, match="left to credit"):
        shop.post("/v1/credit_notes", invoice=invoice["id"], lines=[{**line, "amount": 601}])
    shop.post(f"/v1/credit_notes/{note['id']}/void")
    assert shop.get(f"/v1/invoices/{invoice['id']}")["amount_remaining"] == 3300
    paid = shop.post(f"/v1/invoices/{invoice['id']}/pay")
    assert (paid["status"], paid["amount_paid"]) == ("paid", 3300)
    with pytest.raises(StripeError, match="must equal"):
        shop.post("/v1/credit_notes", invoice=invoice["id"], lines=[{**line, "amount": 600}], refund_amount=600)
    second = shop.post("/v1/credit_notes", invoice=invoice["id"], lines=[{**line, "amount": 600}], refund_amount=660)
    assert second["refunds"][0]["amount_refunded"] == 660
    charge = shop.get("/v1/charges", customer=invoice["customer"])["data"][0]
    assert (charge["amount_refunded"], charge["refunded"]) == (660, False)
    assert shop.get(f"/v1/invoices/{invoice['id']}")["post_payment_credit_notes_amount"] == 660


def test_crediting_all_that_is_due_pays_the_invoice() -> None:
    shop = Shop()
    invoice = shop.post(f"/v1/invoices/{shop.draft([700])['id']}/finalize")
    shop.post("/v1/credit_notes", invoice=invoice["id"], amount=700)
    after = shop.get(f"/v1/invoices/{invoice['id']}")
    assert (after["status"], after["amount_due"], after["amount_paid"]) == ("paid", 0, 0)


def test_manual_taxes_and_their_credit_note() -> None:
    shop = Shop()
    draft = shop.draft([1000])
    data = {"display_name": "WA", "percentage": "6.5", "inclusive": False, "jurisdiction": "Washington"}
    tax = {"amount": 65, "taxable_amount": 1000, "tax_rate_data": data}
    lines = [{"id": draft["lines"]["data"][0]["id"], "tax_amounts": [tax]}]
    edited = shop.post(f"/v1/invoices/{draft['id']}/update_lines", lines=lines)
    assert (edited["total"], edited["total_taxes"][0]["amount"]) == (1065, 65)
    rate = edited["total_taxes"][0]["tax_rate_details"]["tax_rate"]
    assert shop.get(f"/v1/tax_rates/{rate}")["active"] is False
    with pytest.raises(StripeError, match="archived"):
        shop.draft([5], default_tax_rates=[rate])
    shop.post(f"/v1/invoices/{draft['id']}/finalize")
    with pytest.raises(StripeError) as refused:
        shop.post(f"/v1/invoices/{draft['id']}/update_lines", lines=lines)
    assert refused.value.code == "invoice_not_editable"
    credit = {"type": "invoice_line_item", "invoice_line_item": lines[0]["id"], "amount": 1000}
    with pytest.raises(StripeError, match="tax_amounts"):
        shop.post("/v1/credit_notes", invoice=draft["id"], lines=[credit])
    back = [{"amount": 65, "taxable_amount": 1000, "tax_rate": rate}]
    note = shop.post("/v1/credit_notes", invoice=draft["id"], lines=[{**credit, "tax_amounts": back}])
    assert note["total"] == 1065


def test_manual_taxes_do_not_mix_with_rates_and_a_refused_bulk_edit_changes_nothing() -> None:
    shop = Shop()
    mixed = shop.draft([1000, 500], default_tax_rates=[shop.rate("10")])
    data = {"display_name": "WA", "percentage": "6.5", "inclusive": False}
    tax = [{"amount": 65, "taxable_amount": 1000, "tax_rate_data": data}]
    first, second = (line["id"] for line in mixed["lines"]["data"])
    with pytest.raises(StripeError, match="tax rates"):
        shop.post(f"/v1/invoices/{mixed['id']}/update_lines", lines=[{"id": first, "tax_amounts": tax}])
    edits = [{"id": first, "description": "changed"}, {"id": second, "tax_amounts": tax}]
    with pytest.raises(StripeError):
        shop.post(f"/v1/invoices/{mixed['id']}/update_lines", lines=edits)
    assert shop.get(f"/v1/invoices/{mixed['id']}") == mixed


def test_credit_balance_from_a_negative_invoice_is_used_up() -> None:
    shop = Shop()
    customer = shop.customer()
    for amount in (-500, 800):
        invoice = shop.post("/v1/invoices", customer=customer)["id"]
        shop.post("/v1/invoiceitems", customer=customer, invoice=invoice, amount=amount)
        done = shop.post(f"/v1/invoices/{invoice}/finalize")
        if amount < 0:
            assert (done["status"], done["amount_due"], done["ending_balance"]) == ("paid", 0, -500)
            assert shop.get(f"/v1/customers/{customer}")["balance"] == -500
    assert (done["starting_balance"], done["total"], done["amount_due"], done["ending_balance"]) == (-500, 800, 300, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lives_add_up_and_end_tidily(seed: int) -> None:
    sim = StripeSimulator(seed=seed, clock=lambda: 1_770_000_000.0, start=START)
    types: set[str] = set()
    sim.listen(lambda event: types.add(event["type"]))
    steps = list(Business(sim, random.Random(seed)).live(22))
    state = sim.state()
    assert steps == sorted(steps)
    assert {invoice["status"] for invoice in state["invoices"]} == {"paid", "void", "uncollectible"}
    assert {subscription["status"] for subscription in state["subscriptions"]} == {"canceled"}
    assert {"pre_payment", "post_payment"} == {note["type"] for note in state["credit_notes"]}
    assert max(len(invoice["lines"]["data"]) for invoice in state["invoices"]) > 10
    assert {"invoice.upcoming", "invoice.payment_failed", "invoice.overdue", "customer.updated"} <= types
    for invoice in state["invoices"]:
        lines = invoice["lines"]["data"]
        exclusive = sum(t["amount"] for line in lines for t in line["taxes"] if t["tax_behavior"] == "exclusive")
        discounts = sum(d["amount"] for line in lines for d in line["discount_amounts"])
        assert invoice["subtotal"] == sum(line["amount"] for line in lines)
        assert invoice["total"] == invoice["subtotal"] - discounts + exclusive
        paid = [p for p in state["payments"] if p["invoice"] == invoice["id"] and p["status"] == "paid"]
        assert sum(p["amount_paid"] for p in paid) == invoice["amount_paid"]


def test_the_same_seed_lives_the_same_life() -> None:
    def life(seed: int) -> dict[str, Any]:
        sim = StripeSimulator(seed=seed, clock=lambda: 1_770_000_000.0, start=START)
        list(Business(sim, random.Random(4)).live(2))
        return sim.state()

    assert life(1) == life(1)
    assert life(1) != life(2)


def test_endless_business_keeps_going() -> None:
    sim = StripeSimulator(clock=lambda: 1_770_000_000.0, start=START)
    stream = Business(sim, random.Random(1)).endless(every_seconds=4 * DAY)
    last = [next(stream) for _ in range(600)][-1]
    subscriptions = sim.state()["subscriptions"]
    assert last > START + 100 * DAY
    assert {"active", "canceled"} <= {each["status"] for each in subscriptions}


def test_a_broken_invoice_is_noticed() -> None:
    shop = Shop()
    invoice = shop.draft([100, 200])
    lines = invoice["lines"]["data"]
    check(invoice, lines)
    with pytest.raises(InvariantError, match="sum of lines"):
        check(invoice, lines[:1])
    with pytest.raises(InvariantError, match="remaining"):
        check({**invoice, "amount_remaining": 1}, lines)
