"""Subscriptions: create, cancel, list. Changing one is in `subscription_update`, what time does to it in `renewals`.

Modelled: items of one interval each (flexible billing's mixed intervals are refused), anchored at the start or at the
end of the trial. docs.stripe.com/billing/subscriptions/overview, /billing/invoices/subscription.
"""

from __future__ import annotations

from typing import Any

from connectors.stripe.simulator import invoices, payments, renewals, standing
from connectors.stripe.simulator.catalog import redeem, usable_coupons, usable_rates
from connectors.stripe.simulator.errors import StripeError, not_simulated, refused
from connectors.stripe.simulator.invoice_api import no_automatic_tax
from connectors.stripe.simulator.invoice_items import new_item, take_pending, use_currency
from connectors.stripe.simulator.lists import newest, page
from connectors.stripe.simulator.pricing import bill_item, parts
from connectors.stripe.simulator.prorations import credit_unused
from connectors.stripe.simulator.values import DAY, Obj, add_interval
from connectors.stripe.simulator.world import Cycle, World


def create_subscription(w: World, p: Obj, _ids: list[str]) -> Obj:
    if "customer" not in p:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = w.get("customer", p["customer"], "customer")
    no_automatic_tax(p)
    if p.get("cancel_at") is not None:
        raise not_simulated("cancel_at when creating")
    chosen = _chosen_prices(w, p)
    currency = chosen[0][0]["currency"]
    if str(p.get("currency", currency)).lower() != currency:
        raise refused(f"The prices are in {currency}.", param="currency")
    trial_end = _trial_end(w, p)
    method, days = terms(p, "charge_automatically", None)
    rates = usable_rates(w, p.get("default_tax_rates"), "default_tax_rates")
    extras = _extras(w, p, currency)
    usable_coupons(w, p.get("discounts"), currency)
    behavior = p.get("payment_behavior", "allow_incomplete")
    if behavior == "error_if_incomplete" and payments.declines(w, customer):
        raise StripeError(402, {"error": dict(payments.DECLINED)})
    use_currency(w, customer, currency)
    subscription = _new(w, p, customer, currency, trial_end=trial_end, terms=(method, days), rates=rates)
    w.add("subscription", subscription)
    w.subscriptions_of[customer["id"]].append(subscription["id"])
    for price, given in chosen:
        add_item(w, subscription, price, given)
    _set_cycle(w, subscription, trial_end)
    subscription["discounts"] = redeem(
        w, p.get("discounts"), customer=customer["id"], currency=currency, subscription=subscription["id"], invoice=None
    )
    for price, given in extras:
        _add_extra(w, customer, subscription, price, given)
    invoice = _first_invoice(w, customer, subscription)
    subscription["latest_invoice"] = invoice["id"]
    w.emit("customer.subscription.created", subscription)
    _collect_first(w, subscription, invoice, attempt=behavior != "default_incomplete")
    renewals.watch(w, subscription)
    return subscription


def terms(p: Obj, method: str, days: int | None) -> tuple[str, int | None]:
    """Collection method and days until due, which belong together."""
    method = p.get("collection_method", method)
    days = p.get("days_until_due", days if method == "send_invoice" else None)
    if method == "send_invoice" and days is None:
        raise refused(
            "`days_until_due` is required when `collection_method` is `send_invoice`.", param="days_until_due"
        )
    if method == "charge_automatically" and days is not None:
        raise refused("`days_until_due` is only for `collection_method` `send_invoice`.", param="days_until_due")
    return method, days


def _chosen_prices(w: World, p: Obj) -> list[tuple[Obj, Obj]]:
    given = p.get("items")
    if not given:
        raise refused("Missing required param: items.", param="items", code="parameter_missing")
    if len(given) > 20:
        raise refused("A subscription can have at most 20 items.", param="items")
    chosen = [(price_for_item(w, each, f"items[{i}]"), each) for i, each in enumerate(given)]
    check_together([price for price, _ in chosen])
    return chosen


def price_for_item(w: World, given: Obj, where: str) -> Obj:
    """The recurring price an item names."""
    known = {"id", "price", "quantity", "metadata", "tax_rates", "deleted", "clear_usage"}
    for name in given.keys() - known:
        raise not_simulated(f"{where}[{name}]")
    if "price" not in given:
        raise refused(f"Missing required param: {where}[price].", param=f"{where}[price]", code="parameter_missing")
    price = w.get("price", given["price"], f"{where}[price]")
    if price["type"] != "recurring":
        raise refused("The price must be recurring.", param=f"{where}[price]")
    if not price["active"]:
        raise refused("The price specified is inactive.", param=f"{where}[price]")
    if price["recurring"]["meter"] is not None and "quantity" in given:
        raise refused("Metered prices take no quantity.", param=f"{where}[quantity]")
    if given.get("quantity", 1) < 0:
        raise refused("This value must be greater than or equal to 0.", param=f"{where}[quantity]")
    return price


def check_together(prices: list[Obj]) -> None:
    """One currency and one interval; no price twice."""
    first = prices[0]
    for price in prices:
        if price["currency"] != first["currency"]:
            raise refused("All prices on a subscription must have the same currency.", param="items")
        same = all(price["recurring"][name] == first["recurring"][name] for name in ("interval", "interval_count"))
        if not same:
            raise not_simulated("items with different intervals")
    if len({price["id"] for price in prices}) < len(prices):
        raise refused("Cannot add multiple subscription items with the same price.", param="items")


def _extras(w: World, p: Obj, currency: str) -> list[tuple[Obj, Obj]]:
    found = []
    for index, given in enumerate(p.get("add_invoice_items") or []):
        where = f"add_invoice_items[{index}]"
        for name in given.keys() - {"price", "quantity", "metadata", "tax_rates"}:
            raise not_simulated(f"{where}[{name}]")
        price = w.get("price", given.get("price", ""), f"{where}[price]")
        if price["type"] != "one_time" or price["currency"] != currency:
            raise refused("The price must be a one-time price in the subscription's currency.", param=f"{where}[price]")
        usable_rates(w, given.get("tax_rates"), f"{where}[tax_rates]")
        found.append((price, given))
    return found


def _add_extra(w: World, customer: Obj, subscription: Obj, price: Obj, given: Obj) -> None:
    part = parts(w, price, given.get("quantity", 1))[0]
    new_item(
        w, customer, amount=part.amount, currency=price["currency"],
        description=w.objects["product"][price["product"]].get("name"), period=(w.now, w.now), quantity=part.quantity,
        unit=part.unit, price=price, subscription=subscription["id"], metadata=given.get("metadata"),
        rates=given.get("tax_rates") or (),
    )  # fmt: skip


def _trial_end(w: World, p: Obj) -> int | None:
    end: Any = p.get("trial_end")
    if "trial_period_days" in p and end is not None:
        raise refused("You can only specify one of `trial_end` and `trial_period_days`.", param="trial_end")
    if end == "now" or (end is None and not p.get("trial_period_days")):
        return None
    end = int(end) if end is not None else w.now + int(p["trial_period_days"]) * DAY
    if end <= w.now:
        raise refused("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    return int(end)


def _new(
    w: World,
    p: Obj,
    customer: Obj,
    currency: str,
    *,
    trial_end: int | None,
    terms: tuple[str, int | None],
    rates: list[Obj],
) -> Obj:
    method, days = terms
    status = "trialing" if trial_end else "active" if method == "send_invoice" else "incomplete"
    subscription_id = w.new_id("sub")
    return {
        "id": subscription_id, "object": "subscription", "application": None, "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": trial_end or w.now, "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": None},
        "billing_schedules": [], "billing_thresholds": None, "cancel_at": None,
        "cancel_at_period_end": p.get("cancel_at_period_end", False), "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None}, "collection_method": method,
        "created": w.now, "currency": currency, "customer": customer["id"], "customer_account": None,
        "days_until_due": days, "default_payment_method": None, "default_source": None, "default_tax_rates": rates,
        "description": p.get("description") or None, "discounts": [], "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": {
            "object": "list", "data": [], "has_more": False,
            "url": f"/v1/subscription_items?subscription={subscription_id}"
        },
        "latest_invoice": None, "livemode": False, "metadata": dict(p.get("metadata") or {}),
        "next_pending_invoice_item_invoice": None, "on_behalf_of": None, "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None, "payment_method_types": None, "save_default_payment_method": "off"
        },
        "pending_invoice_item_interval": None, "pending_setup_intent": None, "pending_update": None, "schedule": None,
        "start_date": w.now, "status": status, "test_clock": None, "transfer_data": None, "trial_end": trial_end,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": w.now if trial_end else None,
    }  # fmt: skip


def add_item(w: World, subscription: Obj, price: Obj, given: Obj) -> Obj:
    """A new item at the end of the list; the caller sets its period."""
    metered = price["recurring"]["meter"] is not None
    rates = usable_rates(w, given.get("tax_rates"), "items[tax_rates]")
    item: Obj = {
        "id": w.new_id("si"), "object": "subscription_item", "billing_thresholds": None, "created": w.now,
        "current_period_end": 0, "current_period_start": 0, "discounts": [],
        "metadata": dict(given.get("metadata") or {}),
        "plan": plan(price), "price": price, "subscription": subscription["id"], "tax_rates": rates,
    }  # fmt: skip
    if not metered:
        item["quantity"] = given.get("quantity", 1)
    if rates:
        w.rates[item["id"]] = [rate["id"] for rate in rates]
    subscription["items"]["data"].append(item)
    return item


def plan(price: Obj) -> Obj:
    """The legacy shape of a price, still on every item."""
    every = price["recurring"]
    return {
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": price["billing_scheme"],
        "created": price["created"], "currency": price["currency"], "interval": every["interval"],
        "interval_count": every["interval_count"], "livemode": False, "metadata": price["metadata"],
        "meter": every["meter"], "nickname": price["nickname"], "product": price["product"],
        "tiers_mode": price["tiers_mode"], "transform_usage": None, "trial_period_days": None,
        "usage_type": every["usage_type"],
    }  # fmt: skip


def _set_cycle(w: World, subscription: Obj, trial_end: int | None) -> None:
    every = subscription["items"]["data"][0]["price"]["recurring"]
    interval, each = every["interval"], every["interval_count"]
    anchor = trial_end or w.now
    w.cycles[subscription["id"]] = Cycle(anchor, interval, each, 0 if trial_end else 1)
    renewals.set_period(subscription, w.now, trial_end or add_interval(anchor, interval, each))
    if subscription["cancel_at_period_end"]:
        subscription.update(cancel_at=renewals.period(subscription)[1], canceled_at=w.now)


def _first_invoice(w: World, customer: Obj, subscription: Obj) -> Obj:
    invoice = invoices.draft(
        w, customer, subscription["currency"], reason="subscription_create",
        collection_method=subscription["collection_method"], days_until_due=subscription["days_until_due"],
        subscription=subscription,
    )  # fmt: skip
    take_pending(w, invoice, subscription=subscription["id"])
    free = subscription["status"] == "trialing"
    for item in reversed(subscription["items"]["data"]):
        bill_item(w, invoice, item, item.get("quantity", 0), renewals.period(subscription), free=free)
    return invoice


def _collect_first(w: World, subscription: Obj, invoice: Obj, *, attempt: bool) -> None:
    """Charged automatically: finalised and charged at once, no draft hour. Sent: an hour later, like every other."""
    at_once = subscription["collection_method"] == "charge_automatically"
    invoices.announce(w, invoice, at_once=at_once)
    if at_once:
        invoices.finalize(w, invoice)
        if invoice["status"] == "open":
            if attempt:
                invoices.attempt(w, invoice, by_hand=True)
            if subscription["status"] == "incomplete":
                renewals.watch_first_payment(w, subscription, invoice)
    if subscription["status"] != "trialing":
        renewals.expire_discounts(w, subscription)


# Cancelling and listing ----------------------------------------------------------------------------------------------


def cancel_subscription(w: World, p: Obj, ids: list[str]) -> Obj:
    """Now. `invoice_now` bills metered use and pending items at once; `prorate` credits the unused time.
    Automatic collection of its open and draft invoices stops."""
    subscription = w.get("subscription", ids[0])
    if subscription["ended_at"]:
        raise refused(f"No such subscription: '{ids[0]}'", param="id", code="resource_missing", status=404)
    first = subscription["status"] == "incomplete"
    given = p.get("cancellation_details") or {}
    for name in given.keys() & {"comment", "feedback"}:
        subscription["cancellation_details"][name] = given[name] or None
    if p.get("prorate") and not first:
        for item in subscription["items"]["data"]:
            credit_unused(w, subscription, item, w.now)
    standing.end(w, subscription, "cancellation_requested")
    for invoice in w.all("invoice", w.invoices_of[subscription["id"]]):
        if first and invoice["status"] == "open":
            invoices.void(w, invoice)
        elif invoice["status"] in ("draft", "open"):
            invoices.stop_collecting(w, invoice)
    if p.get("invoice_now"):
        last = renewals.bill_rest(w, subscription, (renewals.period(subscription)[0], w.now))
        if last is not None:
            invoices.finalize(w, last)
            invoices.advance(w, last)
    return subscription


def list_subscriptions(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Without `status`, everything that has not been cancelled."""
    status, price = p.get("status"), p.get("price")
    rows = w.all("subscription", w.subscriptions_of.get(p["customer"], [])) if "customer" in p else None

    def wanted(row: Obj) -> bool:
        if price not in (None, *(item["price"]["id"] for item in row["items"]["data"])):
            return False
        if status == "all":
            return True
        if status == "ended":
            return row["status"] in ("canceled", "incomplete_expired")
        return bool(row["status"] == status if status else row["status"] != "canceled")

    return newest(w, p, "subscription", "collection_method", rows=rows, where=wanted)


def list_subscription_items(w: World, p: Obj, _ids: list[str]) -> Obj:
    subscription = w.get("subscription", p["subscription"], "subscription")
    return page(subscription["items"]["data"], p, "/v1/subscription_items", w.snapshot, "subscription_item")
