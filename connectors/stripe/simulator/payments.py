"""Money: PaymentIntents, charges, InvoicePayments and refunds. No rule about invoices lives here.

Whether a charge is declined is the customer's `metadata[sim_payment]` (`ok` or `fails`), or the side door
`StripeSimulator.set_payment`, which wins.
"""

from __future__ import annotations

from connectors.stripe.simulator.catalog import update_metadata
from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.lists import in_range, page
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
    intent: Obj = {
        "id": w.new_id("pi"), "object": "payment_intent", "amount": invoice["amount_remaining"], "amount_capturable": 0,
        "amount_received": 0, "application": None, "application_fee_amount": None, "automatic_payment_methods": None,
        "canceled_at": None, "cancellation_reason": None, "capture_method": "automatic", "client_secret": None,
        "confirmation_method": "automatic", "created": w.now, "currency": invoice["currency"],
        "customer": customer["id"], "customer_account": None, "description": f"Invoice {invoice['number']}",
        "last_payment_error": None, "latest_charge": None, "livemode": False, "metadata": {}, "next_action": None,
        "on_behalf_of": None, "payment_method": None, "payment_method_options": None, "payment_method_types": ["card"],
        "processing": None, "receipt_email": None, "review": None, "setup_future_usage": None, "shipping": None,
        "source": None, "statement_descriptor": None, "statement_descriptor_suffix": None,
        "status": "requires_payment_method", "transfer_data": None, "transfer_group": None,
    }  # fmt: skip
    w.add("payment_intent", intent)
    join(w, invoice, {"type": "payment_intent", "payment_intent": intent["id"]}, is_default=True)
    w.emit("payment_intent.created", intent)
    return intent


def join(w: World, invoice: Obj, payment: Obj, *, is_default: bool) -> Obj:
    """A new, open InvoicePayment."""
    joined: Obj = {
        "id": w.new_id("inpay"), "object": "invoice_payment", "amount_paid": None,
        "amount_requested": invoice["amount_remaining"], "created": w.now, "currency": invoice["currency"],
        "invoice": invoice["id"], "is_default": is_default, "livemode": False, "payment": payment, "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }  # fmt: skip
    w.add("invoice_payment", joined)
    w.payments_of[invoice["id"]].append(joined["id"])
    return joined


def open_payment(w: World, invoice: Obj) -> Obj | None:
    """The InvoicePayment still waiting for money, if there is one."""
    rows = w.all("invoice_payment", w.payments_of[invoice["id"]])
    return next((row for row in rows if row["status"] == "open"), None)


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
        "application_fee": None, "application_fee_amount": None, "balance_transaction": w.new_id("txn") if ok else None,
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


def cancel_intent(w: World, invoice: Obj, reason: str) -> None:
    """Give up the open payment of an invoice that is no longer to be paid that way."""
    joined = open_payment(w, invoice)
    if joined is None:
        return
    joined["status"] = "canceled"
    joined["status_transitions"]["canceled_at"] = w.now
    intent_id = joined["payment"].get("payment_intent")
    if intent_id is not None:
        intent = w.objects["payment_intent"][intent_id]
        intent.update(status="canceled", canceled_at=w.now, cancellation_reason=reason)
        w.emit("payment_intent.canceled", intent)


def charge_of(w: World, invoice: Obj) -> Obj | None:
    """The successful charge behind an invoice, if it was paid through Stripe."""
    for joined in w.all("invoice_payment", w.payments_of[invoice["id"]]):
        if joined["status"] == "paid" and joined["payment"]["type"] == "payment_intent":
            intent = w.objects["payment_intent"][joined["payment"]["payment_intent"]]
            return w.objects["charge"][intent["latest_charge"]]
    return None


# Refunds -------------------------------------------------------------------------------------------------------------


def refund(w: World, paid: Obj, amount: int, reason: str | None, metadata: Obj) -> Obj:
    """Pay back part of a charge. Emits `charge.refunded`, then `refund.created`."""
    left = paid["amount_captured"] - paid["amount_refunded"]
    if left <= 0:
        raise refused(f"Charge {paid['id']} has already been refunded.", code="charge_already_refunded")
    if not 0 < amount <= left:
        raise refused(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).", param="amount")
    made: Obj = {
        "id": w.new_id("re"), "object": "refund", "amount": amount, "balance_transaction": w.new_id("txn"),
        "charge": paid["id"], "created": w.now, "currency": paid["currency"], "customer": paid["customer"],
        "customer_account": None, "destination_details": None, "metadata": metadata,
        "payment_intent": paid["payment_intent"], "payment_method": paid["payment_method"], "reason": reason,
        "receipt_number": None, "source_transfer_reversal": None, "status": "succeeded", "transfer_reversal": None,
    }  # fmt: skip
    w.add("refund", made)
    paid["amount_refunded"] += amount
    paid["refunded"] = paid["amount_refunded"] == paid["amount"]
    w.emit("charge.refunded", paid)
    w.emit("refund.created", made)
    return made


def create_refund(w: World, p: Obj, _ids: list[str]) -> Obj:
    if ("charge" in p) == ("payment_intent" in p):
        raise refused("One of the following params should be provided for this request: payment_intent or charge.")
    if "charge" in p:
        paid = w.get("charge", p["charge"], "charge")
    else:
        intent = w.get("payment_intent", p["payment_intent"], "payment_intent")
        if intent["latest_charge"] is None:
            raise refused("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
        paid = w.objects["charge"][intent["latest_charge"]]
    amount = p.get("amount", paid["amount_captured"] - paid["amount_refunded"])
    return refund(w, paid, amount, p.get("reason"), dict(p.get("metadata") or {}))


def update_refund(w: World, p: Obj, ids: list[str]) -> Obj:
    made = w.get("refund", ids[0])
    with w.changing(made, "refund.updated"):
        update_metadata(made, p.get("metadata"))
    return made


def list_refunds(w: World, p: Obj, _ids: list[str]) -> Obj:
    rows = (
        row
        for row in reversed(w.objects["refund"].values())
        if p.get("charge") in (None, row["charge"])
        and p.get("payment_intent") in (None, row["payment_intent"])
        and in_range(row["created"], p.get("created"))
    )
    return page(rows, p, "/v1/refunds", w.snapshot, "refund")


def list_charges(w: World, p: Obj, _ids: list[str]) -> Obj:
    rows = (
        row
        for row in reversed(w.objects["charge"].values())
        if p.get("customer") in (None, row["customer"])
        and p.get("payment_intent") in (None, row["payment_intent"])
        and in_range(row["created"], p.get("created"))
    )
    return page(rows, p, "/v1/charges", w.snapshot, "charge")


def list_payment_intents(w: World, p: Obj, _ids: list[str]) -> Obj:
    rows = (
        row
        for row in reversed(w.objects["payment_intent"].values())
        if p.get("customer") in (None, row["customer"]) and in_range(row["created"], p.get("created"))
    )
    return page(rows, p, "/v1/payment_intents", w.snapshot, "payment_intent")


def list_invoice_payments(w: World, p: Obj, _ids: list[str]) -> Obj:
    wanted = p.get("payment")
    table = w.objects["invoice_payment"]
    source = [table[each] for each in w.payments_of.get(p["invoice"], [])] if "invoice" in p else table.values()
    rows = (
        row
        for row in reversed(list(source))
        if p.get("status") in (None, row["status"])
        and (wanted is None or wanted.items() <= row["payment"].items())
        and in_range(row["created"], p.get("created"))
    )
    return page(rows, p, "/v1/invoice_payments", w.snapshot, "invoice_payment")
