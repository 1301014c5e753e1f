"""Money coming in: PaymentIntents, charges and InvoicePayments. No rule about invoices lives here.

Whether a charge is declined is the customer's `metadata[sim_payment]` (`ok` or `fails`), or the side door
`StripeSimulator.set_payment`, which wins.
"""

from __future__ import annotations

from connectors.stripe.simulator.balance import moved
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World

DECLINED = {
    "code": "card_declined",
    "decline_code": "generic_decline",
    "message": "Your card was declined.",
    "type": "card_error",
}


def declines(w: World, customer: Obj) -> bool:
    """Whether this customer's charges fail at the moment."""
    chosen = w.payment.get(customer["id"]) or (customer.get("metadata") or {}).get("sim_payment")
    return bool(chosen == "fails")


def create_intent(w: World, invoice: Obj) -> Obj:
    """The PaymentIntent of a finalised invoice, and the InvoicePayment that joins them."""
    customer = w.objects["customer"][invoice["customer"]]
    intent = _intent(w, customer, invoice["amount_remaining"], invoice["currency"], f"Invoice {invoice['number']}", {})
    join(w, invoice, {"type": "payment_intent", "payment_intent": intent["id"]}, is_default=True)
    w.emit("payment_intent.created", intent)
    return intent


def new_intent(w: World, customer: Obj, amount: int, currency: str, description: str | None, metadata: Obj) -> Obj:
    """A PaymentIntent of its own. Emits `payment_intent.created`."""
    intent = _intent(w, customer, amount, currency, description, metadata)
    w.emit("payment_intent.created", intent)
    return intent


def _intent(w: World, customer: Obj, amount: int, currency: str, description: str | None, metadata: Obj) -> Obj:
    intent: Obj = {
        "id": w.new_id("pi"), "object": "payment_intent", "amount": amount, "amount_capturable": 0,
        "amount_received": 0, "application": None, "application_fee_amount": None, "automatic_payment_methods": None,
        "canceled_at": None, "cancellation_reason": None, "capture_method": "automatic", "client_secret": None,
        "confirmation_method": "automatic", "created": w.now, "currency": currency,
        "customer": customer["id"], "customer_account": None, "description": description,
        "last_payment_error": None, "latest_charge": None, "livemode": False, "metadata": metadata,
        "next_action": None,
        "on_behalf_of": None, "payment_method": None, "payment_method_options": None, "payment_method_types": ["card"],
        "processing": None, "receipt_email": None, "review": None, "setup_future_usage": None, "shipping": None,
        "source": None, "statement_descriptor": None, "statement_descriptor_suffix": None,
        "status": "requires_payment_method", "transfer_data": None, "transfer_group": None,
    }  # fmt: skip
    return w.add("payment_intent", intent)


def new_record(
    w: World,
    amount: int,
    currency: str,
    *,
    customer: str | None = None,
    method: Obj | None = None,
    description: str | None = None,
    metadata: Obj | None = None,
    reference: str | None = None,
) -> Obj:
    """A payment record: money received outside Stripe. There is no event about it."""
    payer = {"customer": customer, "email": None, "name": None, "phone": None} if customer is not None else None
    custom = {"display_name": (method or {}).get("display_name", "Outside Stripe"), "type": (method or {}).get("type")}

    def money(value: int) -> Obj:
        return {"currency": currency, "value": value}

    record: Obj = {
        "id": w.new_id("pr"), "object": "payment_record", "amount": money(amount), "amount_authorized": money(0),
        "amount_canceled": money(0), "amount_failed": money(0), "amount_guaranteed": money(amount),
        "amount_refunded": money(0), "amount_requested": money(amount), "application": None, "created": w.now,
        "customer_details": payer, "customer_presence": None, "description": description,
        "latest_payment_attempt_record": w.new_id("par"), "livemode": False, "metadata": metadata or {},
        "payment_method_details": {
            "billing_details": None, "custom": custom, "payment_method": None, "type": "custom"
        },
        "processor_details": {"custom": {"payment_reference": reference}, "type": "custom"}, "reported_by": "self",
        "shipping_details": None,
    }  # fmt: skip
    return w.add("payment_record", record)


def join(w: World, invoice: Obj, payment: Obj, *, is_default: bool, amount: int | None = None) -> Obj:
    """A new, open InvoicePayment over `amount` (default: what remains)."""
    joined: Obj = {
        "id": w.new_id("inpay"), "object": "invoice_payment", "amount_paid": None,
        "amount_requested": invoice["amount_remaining"] if amount is None else amount, "created": w.now,
        "currency": invoice["currency"],
        "invoice": invoice["id"], "is_default": is_default, "livemode": False, "payment": payment, "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }  # fmt: skip
    w.add("invoice_payment", joined)
    w.payments_of[invoice["id"]].append(joined["id"])
    return joined


def open_payment(w: World, invoice: Obj) -> Obj | None:
    """The invoice's own InvoicePayment, if it still waits for money."""
    rows = w.all("invoice_payment", w.payments_of[invoice["id"]])
    return next((row for row in rows if row["status"] == "open" and row["is_default"]), None)


def others_open(w: World, invoice: Obj) -> bool:
    """Whether a payment that a caller attached still waits for money."""
    rows = w.all("invoice_payment", w.payments_of[invoice["id"]])
    return any(row["status"] == "open" and not row["is_default"] for row in rows)


def ask_for(w: World, invoice: Obj) -> None:
    """The invoice's own payment asks for what remains now."""
    joined = open_payment(w, invoice)
    assert joined is not None
    joined["amount_requested"] = invoice["amount_remaining"]
    w.objects["payment_intent"][joined["payment"]["payment_intent"]]["amount"] = invoice["amount_remaining"]


def mark_paid(w: World, joined: Obj, amount: int) -> None:
    """The InvoicePayment is settled."""
    joined.update(amount_paid=amount, status="paid")
    joined["status_transitions"]["paid_at"] = w.now
    w.emit("invoice_payment.paid", joined)


def charge(w: World, intent: Obj, *, ok: bool) -> Obj:
    """One attempt to charge the intent's whole amount. Emits `charge.*`, then `payment_intent.*`."""
    customer = w.objects["customer"][intent["customer"]]
    method = customer["invoice_settings"]["default_payment_method"]
    outcome = {
        "advice_code": None, "network_advice_code": None, "network_decline_code": None, "risk_level": "normal",
        "network_status": "approved_by_network" if ok else "declined_by_network",
        "reason": None if ok else "generic_decline",
        "risk_score": 12,
        "seller_message": "Payment complete." if ok else "The bank did not return any further details.",
        "type": "authorized" if ok else "issuer_declined",
    }  # fmt: skip
    made: Obj = {
        "id": w.new_id("ch"), "object": "charge", "amount": intent["amount"],
        "amount_captured": intent["amount"] if ok else 0, "amount_refunded": 0, "application": None,
        "application_fee": None, "application_fee_amount": None, "balance_transaction": None,
        "billing_details": {
            "address": customer["address"], "email": customer["email"], "name": customer["name"],
            "phone": customer["phone"], "tax_id": None,
        },
        "calculated_statement_descriptor": "EXAMPLE", "captured": ok, "created": w.now, "currency": intent["currency"],
        "customer": customer["id"], "description": intent["description"], "disputed": False,
        "failure_balance_transaction": None, "failure_code": None if ok else DECLINED["code"],
        "failure_message": None if ok else DECLINED["message"], "fraud_details": {}, "livemode": False, "metadata": {},
        "on_behalf_of": None, "outcome": outcome, "paid": ok, "payment_intent": intent["id"], "payment_method": method,
        "payment_method_details": None, "receipt_email": None, "receipt_number": None, "receipt_url": None,
        "refunded": False, "review": None, "shipping": None, "source": None, "source_transfer": None,
        "statement_descriptor": None, "statement_descriptor_suffix": None,
        "status": "succeeded" if ok else "failed", "transfer_data": None, "transfer_group": None,
    }  # fmt: skip
    w.add("charge", made)
    if ok:
        text = intent["description"]
        made["balance_transaction"] = moved(
            w, "charge", intent["amount"], intent["currency"], made["id"], "charge", text
        )["id"]
    intent["latest_charge"] = made["id"]
    if ok:
        intent.update(
            status="succeeded", amount_received=intent["amount"], payment_method=method, last_payment_error=None
        )
    else:
        intent.update(status="requires_payment_method", last_payment_error={**DECLINED, "charge": made["id"]})
    w.emit("charge.succeeded" if ok else "charge.failed", made)
    w.emit("payment_intent.succeeded" if ok else "payment_intent.payment_failed", intent)
    return made


def cancel_intents(w: World, invoice: Obj, reason: str, *, but: Obj | None = None) -> None:
    """Give up the open payments of an invoice that is no longer to be paid that way, all `but` one."""
    for joined in w.all("invoice_payment", w.payments_of[invoice["id"]]):
        if joined["status"] != "open" or joined is but:
            continue
        give_up(w, joined)
        intent_id = joined["payment"].get("payment_intent")
        if intent_id is not None:
            cancel(w, w.objects["payment_intent"][intent_id], reason)


def give_up(w: World, joined: Obj) -> None:
    """The InvoicePayment no longer waits for money. There is no event about it."""
    joined["status"] = "canceled"
    joined["status_transitions"]["canceled_at"] = w.now


def cancel(w: World, intent: Obj, reason: str | None) -> None:
    """Emits `payment_intent.canceled`."""
    intent.update(status="canceled", canceled_at=w.now, cancellation_reason=reason)
    w.emit("payment_intent.canceled", intent)


def charges_of(w: World, invoice: Obj) -> list[Obj]:
    """The successful charges behind an invoice, as far as it was paid through Stripe; oldest first."""
    return [
        w.objects["charge"][w.objects["payment_intent"][joined["payment"]["payment_intent"]]["latest_charge"]]
        for joined in w.all("invoice_payment", w.payments_of[invoice["id"]])
        if joined["status"] == "paid" and joined["payment"]["type"] == "payment_intent"
    ]


# Operations ----------------------------------------------------------------------------------------------------------


def list_charges(w: World, p: Obj, _ids: list[str]) -> Obj:
    return newest(w, p, "charge", "customer", "payment_intent")


def list_payment_intents(w: World, p: Obj, _ids: list[str]) -> Obj:
    return newest(w, p, "payment_intent", "customer")


def list_invoice_payments(w: World, p: Obj, _ids: list[str]) -> Obj:
    payment = (p.get("payment") or {}).items()
    rows = w.all("invoice_payment", w.payments_of.get(p["invoice"], [])) if "invoice" in p else None
    return newest(w, p, "invoice_payment", "status", rows=rows, where=lambda row: payment <= row["payment"].items())
