"""What Stripe must have said of an object that is as it is now: the steps of its life that this state proves. Pure.

Which types of events exist: Stripe's API reference, "Types of events". Not everything that happened can be told from
the end (an invoice that failed to be paid twice and was then paid is `paid`); what books and documents need can be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

FAMILIES: Mapping[str, str] = {
    "customer": "customer",
    "product": "product",
    "price": "price",
    "subscription": "customer.subscription",
    "invoice": "invoice",
    "credit_note": "credit_note",
    "invoice_payment": "invoice_payment",
    "refund": "refund",
    "dispute": "charge.dispute",
    "payout": "payout",
}
"""Object type -> what its events' types begin with; in an order in which each needs only what comes before it."""


def said(object_type: str, obj: Mapping[str, Any]) -> tuple[str, ...]:
    """Types of the events that were certainly sent, in order; the last one goes with what the object is now."""
    family = FAMILIES[object_type]
    if obj.get("deleted") is True:
        return (f"{family}.deleted",)
    status = obj.get("status")
    if object_type == "invoice_payment":
        return ("invoice_payment.paid",) if status == "paid" else ()  # its only event
    found = [f"{family}.created"]
    if object_type == "invoice":
        found += _of_invoice(obj, status)
    elif object_type == "subscription" and status == "canceled":
        found.append(f"{family}.deleted")
    elif object_type == "credit_note" and status == "void":
        found.append(f"{family}.voided")
    elif object_type in ("refund", "payout") and status in ("failed", "paid"):
        found.append(f"{family}.{status}")
    elif object_type == "dispute":
        found += _of_dispute(obj, status)
    return tuple(found)


def _of_dispute(obj: Mapping[str, Any], status: object) -> list[str]:
    """Money is taken when a dispute begins and may come back: each movement is a balance transaction in it."""
    moved = [each["amount"] for each in obj.get("balance_transactions") or ()]
    found = ["charge.dispute.funds_withdrawn"] if any(amount < 0 for amount in moved) else []
    found += ["charge.dispute.funds_reinstated"] if any(amount > 0 for amount in moved) else []
    return [*found, "charge.dispute.closed"] if status in ("won", "lost") else found


def _of_invoice(obj: Mapping[str, Any], status: object) -> list[str]:
    if status == "draft":
        return []
    found = ["invoice.finalized"]
    if status == "uncollectible" or (obj.get("status_transitions") or {}).get("marked_uncollectible_at"):
        found.append("invoice.marked_uncollectible")
    if status == "void":
        found.append("invoice.voided")
    if status == "paid":
        in_money = (obj.get("amount_paid") or 0) > (obj.get("amount_paid_off_stripe") or 0)
        found += ["invoice.payment_succeeded"] if in_money else []
        found.append("invoice.paid")
    return found


def owed(
    object_type: str,
    obj: Mapping[str, Any],
    routes: Mapping[str, Mapping[str, str]],
    had: Collection[tuple[str, str]],
    *,
    seen: bool,
    changed: bool,
) -> tuple[str, ...]:
    """Which types are still to be said, in order. `routes`: type -> destination -> its kind. `had`: (type, destination)
    that there was a delivery for. `seen`: some event of the object is known. `changed`: what is known is not this.

    A ledger is owed every step it has not had; a state destination one delivery, if it never had any or the object has
    changed. A change that no step carries is said as `*.updated`.
    """
    certain = said(object_type, obj)
    if not certain:
        return ()
    update = f"{FAMILIES[object_type]}.updated"
    in_order = (certain[0], update, *certain[1:]) if not obj.get("deleted") else certain
    chosen: set[str] = set()
    for type_ in certain:
        chosen |= {type_ for d, kind in routes.get(type_, {}).items() if kind == "ledger" and (type_, d) not in had}
    if changed and seen and "ledger" in routes.get(update, {}).values() and not obj.get("deleted"):
        chosen.add(update)
    reached = {d for _, d in had}
    for destination in {d for t in in_order for d, kind in routes.get(t, {}).items() if kind == "state"}:
        wanted = changed or destination not in reached
        if wanted and not any(destination in routes.get(t, {}) for t in chosen):
            chosen.add(_news([t for t in in_order if destination in routes.get(t, {})], destination, had, update))
    if changed and not chosen:
        chosen.add(update if seen and not obj.get("deleted") else certain[-1])
    return tuple(t for t in in_order if t in chosen)


def _news(heard: Sequence[str], destination: str, had: Collection[tuple[str, str]], update: str) -> str:
    """What to say to a state destination, of the types it hears: the last step, unless it was said before."""
    steps = [t for t in heard if t != update]
    if steps and (steps[-1], destination) not in had:
        return steps[-1]
    return update if update in heard else heard[-1]
