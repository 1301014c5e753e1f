"""What time does to a subscription: upcoming notices, the end of a trial, renewal, cancellation at the end.

docs.stripe.com/billing/subscriptions/overview, /billing/subscriptions/trials, /billing/invoices/subscription. The
account settings modelled: `invoice.upcoming` 7 days before a renewal, and 23 hours for the first payment of a
subscription.
"""

from __future__ import annotations

from connectors.stripe.simulator import invoices, standing
from connectors.stripe.simulator.invoice_items import take_pending
from connectors.stripe.simulator.meters import usage_between
from connectors.stripe.simulator.pricing import bill_item
from connectors.stripe.simulator.totals import recompute
from connectors.stripe.simulator.values import DAY, HOUR, Obj, add_interval
from connectors.stripe.simulator.world import Cycle, World


def period(subscription: Obj) -> tuple[int, int]:
    """The current period: in the modelled subscriptions all items share it."""
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def set_period(subscription: Obj, start: int, end: int) -> None:
    """Periods live on the items (since 2025-03-31.basil)."""
    for item in subscription["items"]["data"]:
        item["current_period_start"], item["current_period_end"] = start, end


def watch(w: World, subscription: Obj) -> None:
    """Schedule what happens at the end of the current period, and the notices before it."""
    start, end = period(subscription)
    trial = subscription["trial_end"] == end

    def current() -> bool:
        return subscription["ended_at"] is None and period(subscription) == (start, end)

    def upcoming() -> None:
        if current() and not subscription["cancel_at_period_end"] and subscription["status"] != "incomplete":
            _upcoming(w, subscription)

    def trial_will_end() -> None:
        if current():
            w.emit("customer.subscription.trial_will_end", subscription)

    def over() -> None:
        if current():
            renew(w, subscription)

    if trial and end - 3 * DAY > w.now:
        w.at(end - 3 * DAY, trial_will_end)
    if end - 7 * DAY > w.now:
        w.at(end - 7 * DAY, upcoming)
    w.at(end, over)


def renew(w: World, subscription: Obj) -> None:
    """The period is over: cancel if so agreed, else bill the next one (and metered use of the last one)."""
    start, end = period(subscription)
    cancel_at = subscription["cancel_at"]
    if subscription["cancel_at_period_end"] or (cancel_at is not None and cancel_at <= end):
        finish(w, subscription)
        return
    if subscription["status"] == "incomplete":
        return
    cycle = w.cycles[subscription["id"]]
    count = cycle.count + 1
    following = add_interval(cycle.anchor, cycle.interval, cycle.interval_count * count)
    w.cycles[subscription["id"]] = Cycle(cycle.anchor, cycle.interval, cycle.interval_count, count)
    with w.changing(subscription, "customer.subscription.updated"):
        set_period(subscription, end, following)
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
        invoice = _cycle_invoice(w, subscription, (start, end), (end, following))
        invoices.announce(w, invoice)
        subscription["latest_invoice"] = invoice["id"]
        expire_discounts(w, subscription)
    watch(w, subscription)


def _cycle_invoice(w: World, subscription: Obj, last: tuple[int, int], following: tuple[int, int]) -> Obj:
    invoice = _draft(w, subscription, "subscription_cycle", last)
    take_pending(w, invoice, subscription=subscription["id"])
    for item in reversed(subscription["items"]["data"]):
        if item["price"]["recurring"]["meter"] is None:
            bill_item(w, invoice, item, item["quantity"], following)
        else:
            _bill_usage(w, invoice, item, last, subscription)
    return invoice


def _draft(w: World, subscription: Obj, reason: str, span: tuple[int, int]) -> Obj:
    customer = w.objects["customer"][subscription["customer"]]
    return invoices.draft(
        w, customer, subscription["currency"], reason=reason, collection_method=subscription["collection_method"],
        days_until_due=subscription["days_until_due"], subscription=subscription, period=span,
    )  # fmt: skip


def _bill_usage(w: World, invoice: Obj, item: Obj, span: tuple[int, int], subscription: Obj) -> None:
    start, end = span
    used = usage_between(w, item["price"]["recurring"]["meter"], subscription["customer"], start, end)
    trial = subscription["trial_end"]
    bill_item(w, invoice, item, used, span, free=trial is not None and trial >= end)


def _upcoming(w: World, subscription: Obj) -> None:
    """A preview: an invoice without a stable id that is never stored (its id starts `upcoming_in`)."""
    cycle, (start, end) = w.cycles[subscription["id"]], period(subscription)
    following = add_interval(cycle.anchor, cycle.interval, cycle.interval_count * (cycle.count + 1))
    invoice = _draft(w, subscription, "upcoming", (start, end))
    billed = {item["id"]: w.billed_lines.get(item["id"]) for item in subscription["items"]["data"]}
    for item in reversed(subscription["items"]["data"]):
        if item["price"]["recurring"]["meter"] is None:
            bill_item(w, invoice, item, item["quantity"], (end, following))
        else:
            _bill_usage(w, invoice, item, (start, w.now), subscription)
    for item_id, lines in billed.items():
        if lines is None:
            del w.billed_lines[item_id]
        else:
            w.billed_lines[item_id] = lines
    recompute(w, invoice)
    invoice["next_payment_attempt"] = end + HOUR if invoice["collection_method"] == "charge_automatically" else None
    body = w.snapshot(invoice)
    del w.objects["invoice"][invoice["id"]]
    for line in w.lines.pop(invoice["id"]):
        w.rates.pop(line["id"], None)
    del body["id"]
    for line in body["lines"]["data"]:
        line["invoice"] = None
    body["lines"]["url"] = f"/v1/invoices/upcoming/lines?customer={subscription['customer']}"
    w.emit_snapshot("invoice.upcoming", body)


def finish(w: World, subscription: Obj) -> None:
    """Cancel at the end of the period; what is pending or metered is invoiced once more."""
    span = period(subscription)
    standing.end(w, subscription, "cancellation_requested")
    bill_rest(w, subscription, span)


def bill_rest(w: World, subscription: Obj, span: tuple[int, int]) -> Obj | None:
    """A last invoice for metered use in `span` and the subscription's pending items, if there is anything."""
    metered = [item for item in subscription["items"]["data"] if item["price"]["recurring"]["meter"] is not None]
    pending = [
        item
        for item in w.all("invoiceitem", w.pending_items[subscription["customer"]])
        if (item["parent"] or {}).get("subscription_details", {}).get("subscription") == subscription["id"]
    ]
    if not metered and not pending:
        return None
    invoice = _draft(w, subscription, "subscription_cycle", span)
    take_pending(w, invoice, subscription=subscription["id"])
    for item in metered:
        _bill_usage(w, invoice, item, span, subscription)
    invoices.announce(w, invoice)
    subscription["latest_invoice"] = invoice["id"]
    return invoice


def expire_discounts(w: World, subscription: Obj) -> None:
    """After an invoice: drop what was for once only, or has run out."""
    kept = []
    for discount_id in subscription["discounts"]:
        discount = w.objects["discount"][discount_id]
        coupon = w.objects["coupon"][discount["source"]["coupon"]]
        if coupon["duration"] == "once" or (discount["end"] is not None and discount["end"] <= w.now):
            w.emit("customer.discount.deleted", discount)
        else:
            kept.append(discount_id)
    subscription["discounts"] = kept


def watch_first_payment(w: World, subscription: Obj, invoice: Obj) -> None:
    """An incomplete subscription whose first payment does not come within 23 hours expires; its invoice is voided."""

    def act() -> None:
        if subscription["status"] != "incomplete":
            return
        with w.changing(subscription, "customer.subscription.updated"):
            subscription.update(status="incomplete_expired", ended_at=w.now)
        if invoice["status"] == "open":
            invoices.void(w, invoice)

    w.at(w.now + 23 * HOUR, act)
