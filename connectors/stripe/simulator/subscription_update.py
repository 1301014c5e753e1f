"""Changing a subscription. What that costs for the rest of the period: `prorations`."""

from __future__ import annotations

from connectors.stripe.simulator import invoices, renewals
from connectors.stripe.simulator.catalog import redeem, update_metadata, usable_coupons, usable_rates
from connectors.stripe.simulator.errors import no_such, not_simulated, refused
from connectors.stripe.simulator.invoice_api import no_automatic_tax
from connectors.stripe.simulator.invoice_items import to_line
from connectors.stripe.simulator.prorations import charge_rest, credit_unused
from connectors.stripe.simulator.subscriptions import add_item, check_together, plan, price_for_item, terms
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World


def update_subscription(w: World, p: Obj, ids: list[str]) -> Obj:
    subscription = w.get("subscription", ids[0])
    if subscription["ended_at"] and p.keys() - {"metadata", "cancellation_details", "expand"}:
        raise refused("A canceled subscription can only update its cancellation_details and metadata.")
    no_automatic_tax(p)
    if (p.get("billing_cycle_anchor") or {}).get("type", "unchanged") != "unchanged":
        raise not_simulated("billing_cycle_anchor[type]=now")
    _check_cancel_at(subscription, p)
    items = [_target(w, subscription, each, f"items[{i}]") for i, each in enumerate(p.get("items") or [])]
    _check_result(subscription, items)
    moment = p.get("proration_date", w.now)
    start, end = renewals.period(subscription)
    if not start <= moment <= end:
        raise refused("The proration date must lie in the current period.", param="proration_date")
    usable_coupons(w, p.get("discounts"), subscription["currency"])
    rates = usable_rates(w, p.get("default_tax_rates"), "default_tax_rates")
    method, days = terms(p, subscription["collection_method"], subscription["days_until_due"])
    behavior = p.get("proration_behavior", "create_prorations")
    made: list[Obj] = []
    with w.changing(subscription, "customer.subscription.updated"):
        _fields(w, subscription, p, rates)
        subscription.update(collection_method=method, days_until_due=days)
        for item, price, given in items:
            made += _apply(w, subscription, item, price, given=given, moment=moment, prorate=behavior != "none")
        if behavior == "always_invoice" and made:
            invoice = _invoice_now(w, subscription, made, moment)
            subscription["latest_invoice"] = invoice["id"]
    if behavior == "always_invoice" and made:
        invoices.finalize(w, invoice)
        invoices.advance(w, invoice)
    return subscription


def _check_cancel_at(subscription: Obj, p: Obj) -> None:
    if p.get("cancel_at") not in (None, "", renewals.period(subscription)[1]):
        raise not_simulated("cancel_at other than the end of the current period")


def _target(w: World, subscription: Obj, given: Obj, where: str) -> tuple[Obj | None, Obj, Obj]:
    """(the item to change, or None for a new one; the price it will have; the parameters)."""
    item = None
    if "id" in given:
        item = next((each for each in subscription["items"]["data"] if each["id"] == given["id"]), None)
        if item is None:
            raise no_such("subscription_item", given["id"], f"{where}[id]")
    elif given.get("deleted"):
        raise refused("To delete an item, name it.", param=f"{where}[id]")
    price_id = given.get("price") or (item or {}).get("price", {}).get("id")
    price = price_for_item(w, given if price_id is None else {**given, "price": price_id}, where)
    if (
        item is not None
        and item["price"]["recurring"]["meter"] is not None
        and (given.get("deleted") or price != item["price"])
    ):
        raise not_simulated(f"{where}: removing or replacing a metered item")
    return item, price, given


def _check_result(subscription: Obj, targets: list[tuple[Obj | None, Obj, Obj]]) -> None:
    touched = {item["id"] for item, _, _ in targets if item is not None}
    after = [item["price"] for item in subscription["items"]["data"] if item["id"] not in touched]
    after += [price for _, price, given in targets if not given.get("deleted")]
    if not after:
        raise refused("A subscription must have at least one active item.", param="items")
    check_together([*after, subscription["items"]["data"][0]["price"]][: len(after)])
    first = subscription["items"]["data"][0]["price"]
    for price in after:
        if price["currency"] != first["currency"]:
            raise refused(f"The subscription is in {first['currency']}.", param="items")
        if any(price["recurring"][name] != first["recurring"][name] for name in ("interval", "interval_count")):
            raise not_simulated("changing the interval")


def _fields(w: World, subscription: Obj, p: Obj, rates: list[Obj]) -> None:
    update_metadata(subscription, p.get("metadata"))
    if "description" in p:
        subscription["description"] = p["description"] or None
    if "default_tax_rates" in p:
        subscription["default_tax_rates"] = rates
    if "discounts" in p:
        subscription["discounts"] = redeem(
            w, p["discounts"], customer=subscription["customer"], currency=subscription["currency"],
            subscription=subscription["id"], invoice=None,
        )  # fmt: skip
    details = p.get("cancellation_details") or {}
    for name in details.keys() & {"comment", "feedback"}:
        subscription["cancellation_details"][name] = details[name] or None
    leaving: bool | None = p.get("cancel_at_period_end")
    if leaving is None and "cancel_at" in p:
        leaving = p["cancel_at"] != ""
    if leaving is not None and leaving != (subscription["cancel_at"] is not None):
        subscription["cancel_at_period_end"] = leaving and "cancel_at" not in p
        subscription["cancel_at"] = renewals.period(subscription)[1] if leaving else None
        subscription["canceled_at"] = w.now if leaving else None
        subscription["cancellation_details"]["reason"] = "cancellation_requested" if leaving else None


def _apply(
    w: World, subscription: Obj, item: Obj | None, price: Obj, *, given: Obj, moment: int, prorate: bool
) -> list[Obj]:
    """Change one item; returns the proration items it makes."""
    made: list[Obj] = []
    before = None if item is None else (item["price"]["id"], item.get("quantity"))
    quantity = given.get("quantity", 1 if item is None else item.get("quantity"))
    changes_cost = given.get("deleted") or before != (price["id"], quantity)
    if item is not None and changes_cost and prorate:
        made += credit_unused(w, subscription, item, moment)
    if given.get("deleted"):
        subscription["items"]["data"].remove(item)
        return made
    if item is None:
        start, end = renewals.period(subscription)
        item = add_item(w, subscription, price, given)
        item.update(current_period_start=start, current_period_end=end)
    else:
        item.update(price=price, plan=plan(price))
        if "quantity" in item:
            item["quantity"] = quantity
        update_metadata(item, given.get("metadata"))
        if "tax_rates" in given:
            item["tax_rates"] = usable_rates(w, given["tax_rates"], "items[tax_rates]")
            w.rates[item["id"]] = [rate["id"] for rate in item["tax_rates"]]
    if changes_cost and prorate:
        made += charge_rest(w, subscription, item, moment)
    return made


def _invoice_now(w: World, subscription: Obj, made: list[Obj], moment: int) -> Obj:
    customer = w.objects["customer"][subscription["customer"]]
    invoice = invoices.draft(
        w, customer, subscription["currency"], reason="subscription_update",
        collection_method=subscription["collection_method"], days_until_due=subscription["days_until_due"],
        subscription=subscription,
    )  # fmt: skip
    invoice["parent"]["subscription_details"]["subscription_proration_date"] = moment
    for item in reversed(made):
        to_line(w, invoice, item)
    invoices.announce(w, invoice, at_once=True)
    return invoice
