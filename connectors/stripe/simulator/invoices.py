"""An invoice's life: draft, open, paid, void, uncollectible. Transitions and timing:
docs.stripe.com/invoicing/integration/workflow-transitions; one hour between creation and finalisation where it is
automatic, counted from when all webhook endpoints have answered `invoice.created`, 72 hours if they do not. (They
answer at once, unless `StripeSimulator.webhooks_fail` says otherwise.)
"""

from __future__ import annotations

from connectors.stripe.simulator import customer_balance, payments, standing
from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.totals import recompute, settle
from connectors.stripe.simulator.values import DAY, HOUR, Obj
from connectors.stripe.simulator.world import World

RETRY_DAYS = (3, 5, 7)
"""Days after a failed automatic charge until the next one."""
UNHEARD = 72 * HOUR
"""How long a draft waits at most for the endpoints to answer `invoice.created`."""


def draft(
    w: World,
    customer: Obj,
    currency: str,
    *,
    reason: str,
    collection_method: str,
    days_until_due: int | None = None,
    subscription: Obj | None = None,
    period: tuple[int, int] | None = None,
    auto_advance: bool = True,
) -> Obj:
    """A draft without lines. The caller adds them and calls `announce`. `days_until_due` only with send_invoice."""
    start, end = period or (w.now, w.now)
    parent = None
    if subscription is not None:
        details = {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"],
            "subscription_proration_date": None,
        }
        parent = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
    invoice: Obj = {
        "id": w.new_id("in"), "object": "invoice", "account_country": "US", "account_name": "Example Books",
        "account_tax_ids": None, "amount_due": 0, "amount_overpaid": 0, "amount_paid": 0, "amount_paid_off_stripe": 0,
        "amount_remaining": 0, "amount_shipping": 0, "application": None, "attempt_count": 0, "attempted": False,
        "auto_advance": auto_advance,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None, "provider": None,
        "status": None},
        "automatically_finalizes_at": None, "billing_reason": reason, "collection_method": collection_method,
        "created": w.now, "currency": currency, "custom_fields": None, "customer": customer["id"],
        "customer_account": None,
        "customer_tax_ids": [], "default_payment_method": None, "default_source": None,
        "default_tax_rates": list((subscription or {}).get("default_tax_rates") or []), "description": None,
        "discounts": list((subscription or {}).get("discounts") or []),
        "due_date": None if days_until_due is None else w.now + days_until_due * DAY, "effective_at": None,
        "ending_balance": None, "footer": None, "from_invoice": None, "hosted_invoice_url": None, "invoice_pdf": None,
        "issuer": {"type": "self"}, "last_finalization_error": None, "latest_revision": None, "livemode": False,
        "metadata": {}, "next_payment_attempt": None, "number": None, "on_behalf_of": None, "parent": parent,
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": end, "period_start": start, "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "receipt_number": None, "rendering": None, "shipping_cost": None,
        "shipping_details": None, "starting_balance": customer["balance"], "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None
        },
        "subtotal": 0, "subtotal_excluding_tax": 0, "test_clock": None, "threshold_reason": None, "total": 0,
        "total_discount_amounts": [], "total_excluding_tax": 0, "total_pretax_credit_amounts": [], "total_taxes": [],
        "webhooks_delivered_at": None if w.webhooks_fail else w.now,
    }  # fmt: skip
    _freeze_customer(w, invoice, customer)
    w.lines[invoice["id"]] = []
    return w.add("invoice", invoice)


def _freeze_customer(w: World, invoice: Obj, customer: Obj) -> None:
    for name in ("address", "email", "name", "phone", "shipping", "tax_exempt"):
        invoice[f"customer_{name}"] = customer[name]
    ids = w.all("tax_id", w.tax_ids_of[customer["id"]])
    invoice["customer_tax_ids"] = [{"type": each["type"], "value": each["value"]} for each in ids]


def refresh_drafts(w: World, customer: Obj) -> None:
    """Until it is finalised an invoice shows the customer as he is now (docs.stripe.com/api/invoices/object). Whether
    Stripe sends an event about that is not known; here none."""
    for invoice in w.all("invoice", w.invoices_of[customer["id"]]):
        if invoice.get("status") == "draft":
            _freeze_customer(w, invoice, customer)
            recompute(w, invoice)


def announce(w: World, invoice: Obj, *, at_once: bool = False) -> None:
    """The draft is complete: compute it, say `invoice.created`, and let the hour begin where it advances by itself.
    `at_once`: the caller finalises it now."""
    _drop_ended_discounts(w, invoice)
    recompute(w, invoice)
    w.invoices_of[invoice["customer"]].append(invoice["id"])
    if invoice["parent"] is not None:
        w.invoices_of[invoice["parent"]["subscription_details"]["subscription"]].append(invoice["id"])
    if invoice["auto_advance"] and not at_once:
        schedule_finalization(w, invoice, w.now + (UNHEARD if w.webhooks_fail else HOUR))
    w.emit("invoice.created", invoice)


def webhooks_answer(w: World) -> None:
    """The endpoints answer again: what was not delivered is now, and drafts that waited for it have an hour left."""
    w.webhooks_fail = False
    for invoice in w.objects["invoice"].values():
        if invoice.get("status") != "draft" or invoice["webhooks_delivered_at"] is not None:
            continue
        invoice["webhooks_delivered_at"] = w.now
        if invoice["auto_advance"] and invoice["automatically_finalizes_at"] == invoice["created"] + UNHEARD:
            schedule_finalization(w, invoice, w.now + HOUR)


def _drop_ended_discounts(w: World, invoice: Obj) -> None:
    table = w.objects["discount"]
    invoice["discounts"] = [d for d in invoice["discounts"] if table[d]["end"] is None or table[d]["end"] > w.now]


def stop_collecting(w: World, invoice: Obj) -> None:
    """Stripe no longer finalises or charges it by itself."""
    with w.changing(invoice, "invoice.updated"):
        invoice.update(auto_advance=False, next_payment_attempt=None, automatically_finalizes_at=None)


def schedule_finalization(w: World, invoice: Obj, moment: int) -> None:
    """Finalise at that time, unless the draft has been changed since."""
    invoice["automatically_finalizes_at"] = moment
    invoice["next_payment_attempt"] = moment if invoice["collection_method"] == "charge_automatically" else None

    def act() -> None:
        if invoice["status"] == "draft" and invoice["auto_advance"] and invoice["automatically_finalizes_at"] == moment:
            finalize(w, invoice)
            advance(w, invoice)

    w.at(moment, act)


def finalize(w: World, invoice: Obj) -> None:
    """Number it, freeze the customer, settle it against the balance, ask for the money."""
    if invoice["status"] != "draft":
        raise refused("This invoice is already finalized, you can't re-finalize it.", code="invoice_not_editable")
    if w.objects["customer"][invoice["customer"]].get("deleted"):
        raise refused("The customer of this invoice has been deleted.", code="resource_missing", param="customer")
    if not w.lines[invoice["id"]]:
        raise refused("You can't finalize an invoice without lines.", code="invoice_no_customer_line_items")
    customer = w.objects["customer"][invoice["customer"]]
    with w.changing(invoice, "invoice.updated"):
        _freeze_customer(w, invoice, customer)
        invoice["starting_balance"] = customer["balance"]
        invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
        customer["next_invoice_sequence"] += 1
        recompute(w, invoice)
        _use_balance(w, invoice, customer)
        invoice.update(status="open", effective_at=w.now, automatically_finalizes_at=None, next_payment_attempt=None)
        invoice["status_transitions"]["finalized_at"] = w.now
        page = f"https://invoice.example.com/i/{invoice['id']}"
        invoice["hosted_invoice_url"], invoice["invoice_pdf"] = page, page + "/pdf"
        w.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        _paid(w, invoice, 0, charged=True)
        return
    payments.create_intent(w, invoice)
    if invoice["due_date"] is not None:
        w.at(invoice["due_date"], lambda: _overdue(w, invoice))


def _use_balance(w: World, invoice: Obj, customer: Obj) -> None:
    """A negative total becomes credit; existing credit is used up; a debit is collected."""
    start, total = invoice["starting_balance"], invoice["total"]
    invoice["ending_balance"] = min(0, start + total)
    settle(invoice)
    if invoice["ending_balance"] != start:
        moved = invoice["ending_balance"] - start
        customer_balance.change(w, customer, moved, invoice["currency"], "applied_to_invoice", invoice=invoice["id"])


def advance(w: World, invoice: Obj) -> None:
    """What Stripe does by itself with an invoice just finalised: charge it, or send it."""
    if invoice["status"] != "open":
        return
    if invoice["collection_method"] == "charge_automatically":
        attempt(w, invoice)
    else:
        w.emit("invoice.sent", invoice)


def _overdue(w: World, invoice: Obj) -> None:
    if invoice["status"] == "open":
        w.emit("invoice.overdue", invoice)
        standing.invoice_failed(w, invoice)


def attempt(w: World, invoice: Obj, *, by_hand: bool = False) -> bool:
    """Charge what remains. A failure schedules the next attempt (after 3, 5 and 7 days), unless done `by_hand`."""
    joined = payments.open_payment(w, invoice)
    assert joined is not None
    intent = w.objects["payment_intent"][joined["payment"]["payment_intent"]]
    customer = w.objects["customer"][invoice["customer"]]
    if customer.get("deleted"):
        raise refused("The customer of this invoice has been deleted.", code="resource_missing", param="customer")
    ok = not payments.declines(w, customer)
    payments.charge(w, intent, ok=ok)
    if ok:
        credit(w, invoice, joined, intent["amount"], charged=True, attempts=1)
        return True
    again = None
    if not by_hand:
        tried = w.attempts[invoice["id"]]
        w.attempts[invoice["id"]] += 1
        again = w.now + RETRY_DAYS[tried] * DAY if tried < len(RETRY_DAYS) else None
    with w.changing(invoice, "invoice.updated"):
        invoice.update(attempt_count=invoice["attempt_count"] + 1, attempted=True)
        if not by_hand:
            invoice["next_payment_attempt"] = again
    w.emit("invoice.payment_failed", invoice)
    standing.set_delinquent(w, customer, delinquent=True)
    standing.invoice_failed(w, invoice)
    if again is not None:
        schedule_attempt(w, invoice, again)
    elif not by_hand:
        standing.retries_exhausted(w, invoice)
    return False


def schedule_attempt(w: World, invoice: Obj, moment: int) -> None:
    """Charge at that time, if it is still open and the plan has not changed."""
    invoice["next_payment_attempt"] = moment

    def act() -> None:
        if invoice["status"] == "open" and invoice["next_payment_attempt"] == moment:
            attempt(w, invoice)

    w.at(moment, act)


def credit(w: World, invoice: Obj, joined: Obj, amount: int, *, charged: bool, attempts: int = 0) -> None:
    """Book a payment that came in: part of what remains, or the last of it. `charged`: through Stripe."""
    if amount == invoice["amount_remaining"]:
        payments.cancel_intents(w, invoice, "automatic", but=joined)
    payments.mark_paid(w, joined, amount)
    with w.changing(invoice, "invoice.updated"):
        invoice["attempt_count"] += attempts
        if not charged:
            invoice["amount_paid_off_stripe"] += amount
        if amount == invoice["amount_remaining"]:
            _receive(w, invoice, amount)
        else:
            invoice["amount_paid"] += amount
            settle(invoice)
    if invoice["status"] == "paid":
        _say_paid(w, invoice, charged=charged)
    else:
        payments.ask_for(w, invoice)


def _receive(w: World, invoice: Obj, amount: int) -> None:
    invoice["amount_paid"] += amount
    settle(invoice)
    invoice.update(status="paid", attempted=True, next_payment_attempt=None, auto_advance=False)
    invoice["status_transitions"]["paid_at"] = w.now


def _paid(w: World, invoice: Obj, amount: int, *, charged: bool) -> None:
    with w.changing(invoice, "invoice.updated"):
        _receive(w, invoice, amount)
    _say_paid(w, invoice, charged=charged)


def _say_paid(w: World, invoice: Obj, *, charged: bool) -> None:
    w.emit("invoice.paid", invoice)
    if charged:
        w.emit("invoice.payment_succeeded", invoice)
    customer = w.objects["customer"][invoice["customer"]]
    if charged and invoice["collection_method"] == "charge_automatically":
        standing.set_delinquent(w, customer, delinquent=False)
    standing.invoice_settled(w, invoice)


def pay_out_of_band(w: World, invoice: Obj) -> None:
    """What remains was paid outside Stripe: a payment record, not a charge; `invoice.paid` without
    `payment_succeeded`."""
    amount = invoice["amount_remaining"]
    record = payments.new_record(w, amount, invoice["currency"], customer=invoice["customer"])
    joined = payments.join(w, invoice, {"type": "payment_record", "payment_record": record["id"]}, is_default=False)
    credit(w, invoice, joined, amount, charged=False)


def nothing_left(w: World, invoice: Obj) -> None:
    """A credit note took the last of what was due: paid, without a payment."""
    payments.cancel_intents(w, invoice, "automatic")
    _paid(w, invoice, 0, charged=False)


def void(w: World, invoice: Obj) -> None:
    """Open or uncollectible only; final. What it took from the customer's balance goes back
    (docs.stripe.com/billing/customer/balance; the transaction's type there is `unapplied_from_invoice`).
    Not with payments of its own (docs.stripe.com/invoicing/partial-payments)."""
    if invoice["status"] not in ("open", "uncollectible"):
        raise refused(f"You can only void open or uncollectible invoices; this one is {invoice['status']}.")
    if invoice["amount_paid"] or payments.others_open(w, invoice):
        raise refused("You can't void an invoice that has open or paid payments.")
    payments.cancel_intents(w, invoice, "void_invoice")
    with w.changing(invoice, "invoice.updated"):
        invoice.update(status="void", next_payment_attempt=None, auto_advance=False)
        invoice["status_transitions"]["voided_at"] = w.now
    w.emit("invoice.voided", invoice)
    customer = w.objects["customer"][invoice["customer"]]
    back = invoice["starting_balance"] - invoice["ending_balance"]
    if back and not customer.get("deleted"):
        kind = "unapplied_from_invoice"
        customer_balance.change(w, customer, back, invoice["currency"], kind, invoice=invoice["id"])
    standing.invoice_settled(w, invoice)


def mark_uncollectible(w: World, invoice: Obj) -> None:
    """Open only; it may still be paid or voided later. Not while a payment is attached and open
    (docs.stripe.com/invoicing/partial-payments)."""
    if invoice["status"] != "open":
        raise refused(f"You can only mark open invoices uncollectible; this one is {invoice['status']}.")
    if payments.others_open(w, invoice):
        raise refused("You can't mark an invoice uncollectible that has open payments.")
    with w.changing(invoice, "invoice.updated"):
        invoice.update(status="uncollectible", next_payment_attempt=None, auto_advance=False)
        invoice["status_transitions"]["marked_uncollectible_at"] = w.now
        invoice["status_details"] = {"uncollectible": {"reason": "user_forgiven"}}
    w.emit("invoice.marked_uncollectible", invoice)
    standing.invoice_settled(w, invoice)
