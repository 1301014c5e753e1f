"""Payments a caller brings to an invoice: PaymentIntents of its own, money from outside Stripe, parts of the whole.

docs.stripe.com/invoicing/partial-payments, /api/invoices/attach_payment, /api/payment_intents,
/api/payment-record/report-payment. An invoice then has several InvoicePayments; it stays open until nothing remains.
Its default payment always asks for what remains. A PaymentIntent over more than that is refused; that other money may
be more (`amount_overpaid`, credited to the customer's balance) is not modelled, nor are payments that need the
customer, nor records of payments that are not guaranteed.
"""

from __future__ import annotations

from typing import Any

from connectors.stripe.simulator import invoices, payments
from connectors.stripe.simulator.catalog import amount_of, currency_of
from connectors.stripe.simulator.errors import StripeError, not_simulated, refused
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World


def create_intent(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Of a customer; `confirm` charges it at once, with the customer's default payment method."""
    if "customer" not in p:
        raise not_simulated("a PaymentIntent without a customer")
    customer = w.get("customer", p["customer"], "customer")
    currency = currency_of(p["currency"])
    if p["amount"] <= 0:
        raise refused("This value must be greater than or equal to 1.", param="amount")
    amount = amount_of(p["amount"], currency, "amount")
    intent = payments.new_intent(w, customer, amount, currency, p.get("description"), dict(p.get("metadata") or {}))
    return _confirm(w, intent) if p.get("confirm") else intent


def confirm_intent(w: World, _p: Obj, ids: list[str]) -> Obj:
    """Charge it now. What it pays on an invoice it is attached to is booked there."""
    intent = w.get("payment_intent", ids[0])
    if intent["status"] != "requires_payment_method":
        raise refused(
            f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}.",
            code="payment_intent_unexpected_state",
        )
    return _confirm(w, intent)


def _confirm(w: World, intent: Obj) -> Obj:
    customer = w.get("customer", intent["customer"], "customer")
    payments.charge(w, intent, ok=not payments.declines(w, customer))
    if intent["status"] != "succeeded":
        raise StripeError(402, {"error": dict(payments.DECLINED)})
    joined = _waiting(w, intent)
    if joined is not None:
        invoice = w.objects["invoice"][joined["invoice"]]
        invoices.credit(w, invoice, joined, min(intent["amount"], invoice["amount_remaining"]), charged=True)
    return intent


def _waiting(w: World, intent: Obj) -> Obj | None:
    """The open InvoicePayment it is attached to an invoice by."""
    rows = w.objects["invoice_payment"].values()
    mine = (row for row in rows if row["payment"].get("payment_intent") == intent["id"])
    return next((row for row in mine if row["status"] == "open"), None)


def cancel_intent(w: World, p: Obj, ids: list[str]) -> Obj:
    """Gives up its InvoicePayment with it. An invoice's default one cannot be canceled."""
    intent = w.get("payment_intent", ids[0])
    joined = _waiting(w, intent)
    if intent["status"] != "requires_payment_method" or (joined is not None and joined["is_default"]):
        raise refused(
            f"You cannot cancel this PaymentIntent: it has a status of {intent['status']}, or is an invoice's own.",
            code="payment_intent_unexpected_state",
        )
    if joined is not None:
        payments.give_up(w, joined)
    payments.cancel(w, intent, p.get("cancellation_reason"))
    return intent


def report_payment(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Money received outside Stripe. Only `outcome` guaranteed."""
    for name in ("canceled", "failed"):
        if name in p or p.get("outcome") == name:
            raise not_simulated(name)
    if p.get("outcome") != "guaranteed" or "guaranteed" not in p:
        raise not_simulated("a payment record that is not guaranteed")
    currency = currency_of(p["amount_requested"]["currency"], "amount_requested[currency]")
    value = p["amount_requested"]["value"]
    if value <= 0:
        raise refused("This value must be greater than or equal to 1.", param="amount_requested[value]")
    amount_of(value, currency, "amount_requested[value]")
    given = p["payment_method_details"]
    for name in given.keys() - {"type", "custom"}:
        raise not_simulated(f"payment_method_details[{name}]")
    return payments.new_record(
        w, value, currency, customer=(p.get("customer_details") or {}).get("customer"), method=given.get("custom"),
        description=p.get("description"), metadata=dict(p.get("metadata") or {}),
        reference=((p.get("processor_details") or {}).get("custom") or {}).get("payment_reference"),
    )  # fmt: skip


def attach_payment(w: World, p: Obj, ids: list[str]) -> Obj:
    """A PaymentIntent (booked now if it has succeeded, else when it does) or a payment record (booked now)."""
    invoice = w.get("invoice", ids[0])
    if ("payment_intent" in p) == ("payment_record" in p):
        raise refused("You must specify exactly one of `payment_intent` and `payment_record`.", param="payment_intent")
    if invoice["status"] != "open":
        raise refused(f"You can only attach payments to open invoices; this one is {invoice['status']}.")
    if invoice["parent"] is not None and invoice["collection_method"] == "charge_automatically":
        raise refused("Partial payments are not supported for subscription invoices that are charged automatically.")
    if "payment_record" in p:
        record = w.get("payment_record", p["payment_record"], "payment_record")
        amount = record["amount_guaranteed"]["value"]
        _fits(w, invoice, "payment_record", record, amount, record["amount_guaranteed"]["currency"])
        payment = {"type": "payment_record", "payment_record": record["id"]}
        joined = payments.join(w, invoice, payment, is_default=False, amount=amount)
        invoices.credit(w, invoice, joined, amount, charged=False)
        return invoice
    intent = w.get("payment_intent", p["payment_intent"], "payment_intent")
    if intent["status"] == "canceled":
        raise refused("A canceled PaymentIntent cannot be attached.", param="payment_intent")
    if intent["customer"] != invoice["customer"]:
        raise refused("The PaymentIntent belongs to another customer.", param="payment_intent")
    _fits(w, invoice, "payment_intent", intent, intent["amount"], intent["currency"])
    payment = {"type": "payment_intent", "payment_intent": intent["id"]}
    joined = payments.join(w, invoice, payment, is_default=False, amount=intent["amount"])
    if intent["status"] == "succeeded":
        invoices.credit(w, invoice, joined, intent["amount"], charged=True)
    return invoice


def _fits(w: World, invoice: Obj, kind: str, paid: Obj, amount: Any, currency: str) -> None:
    if any(row["payment"].get(kind) == paid["id"] for row in w.objects["invoice_payment"].values()):
        raise refused("This payment is already attached to an invoice.", param=kind)
    if currency != invoice["currency"]:
        raise refused(f"The invoice is in {invoice['currency']}, the payment in {currency}.", param=kind)
    if amount > invoice["amount_remaining"]:
        text = f"A payment ({amount}) greater than what remains ({invoice['amount_remaining']})"
        raise not_simulated(text) if kind == "payment_record" else refused(f"{text} cannot be attached.", param=kind)
