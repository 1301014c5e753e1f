"""What happens at the simulated Stripe for the tests of all connectors: what each mapping is for, at least once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from connectors.stripe.simulator import StripeSimulator

START = 1_793_620_800  # 2026-11-02 12:00 UTC
NAME, EMAIL, PHONE = "Zelda Quillfeather", "zelda@quillfeather.example", "+1 206 555 0142"
STREET = "77 Marmalade Row"


@dataclass(frozen=True)
class Books:
    """What a customer of the simulated Stripe left behind: the objects as they are at the end, and every event."""

    objects: Mapping[str, Mapping[str, Any]]
    events: tuple[Mapping[str, Any], ...]

    def event(self, type_: str) -> Mapping[str, Any]:
        """The last of its type."""
        return next(e for e in reversed(self.events) if e["type"] == type_)


@cache
def books() -> Books:
    """What the mappings are for, each at least once: by customer, in the functions below, and the oldest first. A test
    that takes the last event of a type gets it from `_seats`. The balance of the first Monday is refused by the bank,
    and paid out with the second."""
    events: list[Mapping[str, Any]] = []
    sim = StripeSimulator(seed=7, clock=lambda: float(START), start=START)
    sim.listen(lambda event: events.append(orjson.loads(orjson.dumps(event))))
    shop = _Shop(sim)
    _balances(shop)
    _notes_and_disputes(shop)
    customer = shop.customer()
    charge = _given_up(shop, customer)
    shop.post(f"/v1/invoices/{shop.invoice(customer, 12500, 'Training day')}/void")
    sim.call("DELETE", f"/v1/customers/{shop.customer()}", {})
    _seats(shop, customer)
    sim.next_refund("failed")
    shop.post("/v1/refunds", charge=charge, amount=300)
    sim.fail_next_payout()
    sim.advance(16 * 86400)  # from a Monday noon: two Mondays, and the two days until the bank has it
    state = sim.state()
    objects = {o["id"]: o for kind in state.values() if isinstance(kind, list) for o in kind}
    for payout in state["payouts"]:  # Stripe's filter knows this, the transaction does not show it
        for moved in sim.call("GET", "/v1/balance_transactions", {"payout": payout["id"], "limit": 100})["data"]:
            objects[moved["id"]]["payout"] = payout["id"]
    return Books(objects, tuple(events))


@dataclass(frozen=True)
class _Shop:
    """Shorter words for what is asked of the simulated Stripe."""

    sim: StripeSimulator

    def post(self, path: str, **params: Any) -> Any:
        return self.sim.call("POST", path, params)

    def customer(self, **more: Any) -> str:
        address = {"line1": STREET, "city": "Bainbridge Island", "state": "WA", "postal_code": "98110", "country": "US"}
        made = self.post("/v1/customers", name=NAME, email=EMAIL, phone=PHONE, address=address, **more)
        return str(made["id"])

    def invoice(self, customer: str, amount: int, what: str) -> str:
        """Sent and finalised, in dollars."""
        made = self.post("/v1/invoices", customer=customer, collection_method="send_invoice", days_until_due=30)["id"]
        self.post("/v1/invoiceitems", customer=customer, invoice=made, amount=amount, description=what)
        self.post(f"/v1/invoices/{made}/finalize")
        return str(made)

    def note(self, invoice: str, amount: int, **more: Any) -> str:
        """A credit note on an invoice's only line."""
        line = self.sim.call("GET", f"/v1/invoices/{invoice}/lines")["data"][0]
        credited = [{"type": "invoice_line_item", "invoice_line_item": line["id"], "amount": amount}]
        return str(self.post("/v1/credit_notes", invoice=invoice, lines=credited, **more)["id"])

    def paid(self, invoice: str) -> str:
        """Pays it: the charge."""
        self.post(f"/v1/invoices/{invoice}/pay")
        return str(self.sim.call("GET", "/v1/charges", {"limit": 1})["data"][0]["id"])


def _balances(shop: _Shop) -> None:
    """A customer with a VAT number and 30.00 of credit: an invoice of 50.00 takes them, and is voided. Another who owes
    5.00: they are collected with an invoice of 40.00. An invoice of a third is 20.00 below zero."""
    one = shop.customer(tax_id_data=[{"type": "eu_vat", "value": "DE123456789"}])
    shop.post(f"/v1/customers/{one}/balance_transactions", amount=-3000, currency="usd")
    shop.post(f"/v1/invoices/{shop.invoice(one, 5000, 'Audit')}/void")
    two = shop.customer()
    shop.post(f"/v1/customers/{two}/balance_transactions", amount=500, currency="usd")
    shop.paid(shop.invoice(two, 4000, "Audit"))
    shop.invoice(shop.customer(), -2000, "Unused time")


def _notes_and_disputes(shop: _Shop) -> None:
    """90.00 are paid. Of them 30.00 are credited: 10.00 by cheque, 20.00 into the customer's balance. Another 80.00 are
    paid, taken back by the bank, and given back by it. Of another 60.00 that are paid 25.00 are refunded, and have
    their credit note an hour later."""
    customer = shop.customer()
    sold = shop.invoice(customer, 9000, "Onboarding")
    shop.paid(sold)
    shop.note(sold, 3000, out_of_band_amount=1000, credit_amount=2000)
    dispute = shop.sim.dispute(shop.paid(shop.invoice(shop.customer(), 8000, "Onboarding")))
    sold = shop.invoice(shop.customer(), 6000, "Onboarding")
    refund = shop.post("/v1/refunds", charge=shop.paid(sold), amount=2500)["id"]
    shop.sim.advance(3600)
    shop.note(sold, 2500, refunds=[{"refund": refund, "amount_refunded": 2500}])
    shop.sim.close_dispute(dispute["id"], "won")


def _given_up(shop: _Shop, customer: str) -> str:
    """50.00, with a credit note that is voided, given up, then paid and refunded in part: the charge."""
    given_up = shop.invoice(customer, 5000, "Workshop")
    shop.post(f"/v1/credit_notes/{shop.note(given_up, 500)}/void")
    shop.post(f"/v1/invoices/{given_up}/mark_uncollectible")
    shop.sim.advance(3600)
    charge = shop.paid(given_up)
    shop.post("/v1/refunds", charge=charge, amount=700)
    return charge


def _seats(shop: _Shop, customer: str) -> None:
    """Three seats at 20.00 less 10 percent, 8 percent tax on top: paid, one seat credited and refunded."""
    product = shop.post("/v1/products", name="Seats", tax_code="txcd_10103001")["id"]
    price = {"product": product, "currency": "usd", "unit_amount": 2000, "recurring": {"interval": "month"}}
    rate = shop.post("/v1/tax_rates", display_name="Sales tax", percentage="8", inclusive=False)["id"]
    coupon = shop.post("/v1/coupons", percent_off="10", duration="forever")["id"]
    sold = shop.post(
        "/v1/subscriptions",
        customer=customer,
        items=[{"price": shop.post("/v1/prices", **price)["id"], "quantity": 3}],
        default_tax_rates=[rate],
        discounts=[{"coupon": coupon}],
    )["latest_invoice"]
    line = shop.sim.call("GET", f"/v1/invoices/{sold}/lines")["data"][0]
    credited = [{"type": "invoice_line_item", "invoice_line_item": line["id"], "quantity": 1}]
    shop.post("/v1/credit_notes", invoice=sold, lines=credited, refund_amount=1944)
