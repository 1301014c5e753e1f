"""Events on demand: which object an event of a type is about, and a small quiet scenario where there is none yet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from connectors.stripe.simulator import payouts
from connectors.stripe.simulator.errors import StripeError
from connectors.stripe.simulator.values import Obj

if TYPE_CHECKING:
    from connectors.stripe.simulator.simulator import StripeSimulator

_KINDS = {
    "billing.meter": "billing.meter", "charge": "charge", "charge.dispute": "dispute", "charge.refund": "refund",
    "coupon": "coupon",
    "credit_note": "credit_note", "customer": "customer", "customer.discount": "discount",
    "customer.tax_id": "tax_id",
    "customer.subscription": "subscription", "invoice": "invoice", "invoice_payment": "invoice_payment",
    "invoiceitem": "invoiceitem", "payment_intent": "payment_intent", "payout": "payout", "price": "price",
    "product": "product",
    "refund": "refund", "tax_rate": "tax_rate",
}  # fmt: skip
_STATUS = {
    "invoice.created": "draft", "invoice.deleted": "draft", "invoice.finalized": "open", "invoice.sent": "open",
    "invoice.overdue": "open", "invoice.paid": "paid", "invoice.payment_succeeded": "paid",
    "invoice.payment_failed": "open", "invoice.voided": "void", "invoice.marked_uncollectible": "uncollectible",
    "customer.subscription.deleted": "canceled", "charge.succeeded": "succeeded", "charge.failed": "failed",
    "payment_intent.succeeded": "succeeded", "invoice_payment.paid": "paid", "credit_note.created": "issued",
}  # fmt: skip


def event(sim: StripeSimulator, event_type: str) -> Obj:
    """An event of that type, not yet sent or kept."""
    log = sim.world.log
    body = _subject(sim, event_type)
    previous: Obj | None = {"metadata": {"note": None}} if event_type.endswith(".updated") else None
    muted, log.muted = log.muted, True
    try:
        made = sim.world.emit_snapshot(event_type, body, previous)
    finally:
        log.muted = muted
    return made


def _subject(sim: StripeSimulator, event_type: str) -> Obj:
    stem = event_type.rpartition(".")[0] or event_type
    kind = _KINDS.get(stem)
    if kind is None:
        return {"id": sim.world.new_id("obj"), "object": stem, "created": sim.now, "livemode": False, "metadata": {}}
    found = _newest(sim, kind, _STATUS.get(event_type))
    if found is None:
        _furnish(sim, kind)
        found = _newest(sim, kind, _STATUS.get(event_type)) or _newest(sim, kind, None)
        assert found is not None, kind
    body = sim.world.snapshot(found)
    if event_type == "invoice.upcoming":
        del body["id"]
        body.update(status="draft", number=None)
    return body


def _newest(sim: StripeSimulator, kind: str, status: str | None) -> Obj | None:
    for obj in reversed(sim.world.objects[kind].values()):
        if not obj.get("deleted") and status in (None, obj.get("status")):
            return obj
    return None


def _furnish(sim: StripeSimulator, kind: str) -> None:
    """One of everything, in every status, without an event; a dispute or a payout only if that is asked for."""
    log = sim.world.log
    muted, log.muted = log.muted, True
    try:
        _scenario(sim)
        if kind == "dispute":
            sim.dispute(sim.call("GET", "/v1/charges")["data"][-1]["id"])
        if kind == "payout":
            for each in sim.world.all("balance_transaction", sim.world.unpaid["usd"]):
                each["status"] = "available"
            payouts.pay_out(sim.world, "usd")
    finally:
        log.muted = muted


def _scenario(sim: StripeSimulator) -> None:
    def post(path: str, **params: object) -> Obj:
        return sim.call("POST", path, dict(params))

    address = {
        "line1": "1 Example Street",
        "city": "Bainbridge Island",
        "state": "WA",
        "postal_code": "98110",
        "country": "US",
    }
    customer = post("/v1/customers", name="Fixture Example", email="fixture@example.com", address=address)["id"]
    meter = f"fixture_{sim.world.new_id('m')}"
    post("/v1/billing/meters", display_name="Fixture", event_name=meter, default_aggregation={"formula": "sum"})
    product = post("/v1/products", name="Fixture plan")["id"]
    price = post("/v1/prices", product=product, currency="usd", unit_amount=2500, recurring={"interval": "month"})["id"]
    rate = post("/v1/tax_rates", display_name="Sales tax", percentage="8.875", inclusive=False)["id"]
    coupon = post("/v1/coupons", percent_off="10", duration="once")["id"]
    discounts = [{"coupon": coupon}]
    items = [{"price": price, "quantity": 2}]
    post("/v1/subscriptions", customer=customer, items=items, default_tax_rates=[rate], discounts=discounts)
    gone = post("/v1/subscriptions", customer=customer, items=items)
    note_lines = sim.call("GET", f"/v1/invoices/{gone['latest_invoice']}/lines")["data"]
    line = {"type": "invoice_line_item", "invoice_line_item": note_lines[0]["id"], "quantity": 1}
    post("/v1/credit_notes", invoice=gone["latest_invoice"], lines=[line], refund_amount=2500)
    sim.call("DELETE", f"/v1/subscriptions/{gone['id']}")
    for last in ("", "finalize", "void", "mark_uncollectible", "pay"):
        invoice = post("/v1/invoices", customer=customer, collection_method="send_invoice", days_until_due=30)["id"]
        post("/v1/invoiceitems", customer=customer, invoice=invoice, amount=1200, description="Set-up")
        if last:
            post(f"/v1/invoices/{invoice}/finalize")
        if last == "pay":
            sim.set_payment(customer, "fails")
            with contextlib.suppress(StripeError):  # the decline is what is wanted
                post(f"/v1/invoices/{invoice}/pay")
            sim.set_payment(customer, "ok")
        elif last not in ("", "finalize"):
            post(f"/v1/invoices/{invoice}/{last}")
