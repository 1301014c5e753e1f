"""What invoices do to subscriptions: incomplete, active, past_due, canceled.

docs.stripe.com/billing/subscriptions/overview (statuses), /billing/revenue-recovery/smart-retries (retries; the account
setting modelled is: after the last failed retry the subscription is cancelled and the invoice stays open).
"""

from __future__ import annotations

from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World


def subscription_of(w: World, invoice: Obj) -> Obj | None:
    """The subscription an invoice bills, if it bills one."""
    if invoice["parent"] is None:
        return None
    return w.objects["subscription"][invoice["parent"]["subscription_details"]["subscription"]]


def invoice_settled(w: World, invoice: Obj) -> None:
    """Paid, voided or written off: it no longer counts against the subscription."""
    subscription = subscription_of(w, invoice)
    if subscription is None:
        return
    w.troubled[subscription["id"]].discard(invoice["id"])
    first = subscription["status"] == "incomplete" and invoice["status"] == "paid"
    recovered = subscription["status"] in ("past_due", "unpaid") and not w.troubled[subscription["id"]]
    if first or recovered:
        with w.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"


def invoice_failed(w: World, invoice: Obj) -> None:
    """A charge failed, or the due date has passed. A first payment leaves the subscription incomplete."""
    subscription = subscription_of(w, invoice)
    if subscription is None or subscription["ended_at"]:
        return
    if subscription["status"] == "incomplete":
        return
    w.troubled[subscription["id"]].add(invoice["id"])
    with w.changing(subscription, "customer.subscription.updated"):
        subscription["status"] = "past_due"


def retries_exhausted(w: World, invoice: Obj) -> None:
    """The last automatic retry failed."""
    subscription = subscription_of(w, invoice)
    if subscription is not None and not subscription["ended_at"]:
        end(w, subscription, "payment_failed")


def end(w: World, subscription: Obj, reason: str | None) -> None:
    """Cancel now. What is still to be invoiced is the caller's business."""
    subscription.update(status="canceled", ended_at=w.now, canceled_at=subscription["canceled_at"] or w.now)
    details = subscription["cancellation_details"]
    details["reason"] = details["reason"] or reason
    w.emit("customer.subscription.deleted", subscription)


def set_delinquent(w: World, customer: Obj, *, delinquent: bool) -> None:
    """`customer.delinquent`: the latest automatic charge failed."""
    if not customer.get("deleted"):
        with w.changing(customer, "customer.updated"):
            customer["delinquent"] = delinquent
