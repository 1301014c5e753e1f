"""What a change within a period costs for the rest of it.

docs.stripe.com/billing/subscriptions/prorations. To the second: unused = amount * (end - now) / (end - start), a
negative pending item for what was, a positive one for what is. Billing mode is flexible with `proration_discounts`
included: the amounts are already net of percentage coupons, and not discountable (what Stripe does with amount coupons
is not known; here they do not enter prorations). Trials and metered items have none.
"""

from __future__ import annotations

from decimal import Decimal

from connectors.stripe.simulator.invoice_items import new_item
from connectors.stripe.simulator.pricing import cost
from connectors.stripe.simulator.values import TIMES, Obj, day_name, percent, rounded
from connectors.stripe.simulator.world import World


def credit_unused(w: World, subscription: Obj, item: Obj, moment: int) -> list[Obj]:
    """A pending item that takes back the time not used, from `moment` to the end of the period."""
    return _prorate(w, subscription, item, moment, sign=-1)


def charge_rest(w: World, subscription: Obj, item: Obj, moment: int) -> list[Obj]:
    """A pending item for the time from `moment` to the end of the period, as the item is now."""
    return _prorate(w, subscription, item, moment, sign=1)


def _prorate(w: World, subscription: Obj, item: Obj, moment: int, *, sign: int) -> list[Obj]:
    price, quantity = item["price"], item.get("quantity")
    start, end = item["current_period_start"], item["current_period_end"]
    if quantity is None or subscription["status"] in ("trialing", "incomplete") or moment >= end:
        return []
    full = cost(w, price, quantity)
    share = rounded(Decimal(full) * _kept(w, subscription) * (end - moment) / (end - start), price["currency"])
    name = w.objects["product"][price["product"]].get("name", "Product")
    text = "Remaining time on" if sign > 0 else "Unused time on"
    unit = Decimal(sign * share) / quantity if quantity else None
    return [
        new_item(
            w, w.objects["customer"][subscription["customer"]], amount=sign * share, currency=price["currency"],
            description=f"{text} {quantity} {TIMES} {name} after {day_name(moment)}", period=(moment, end),
            quantity=quantity,
            unit=unit, price=price, subscription_item=item, proration=True, discountable=False,
            credited=_credited(w, item) if sign < 0 else None, rates=w.rates.get(item["id"], ()),
        )
    ]  # fmt: skip


def _kept(w: World, subscription: Obj) -> Decimal:
    """What percentage coupons leave of an amount."""
    kept = Decimal(1)
    for discount_id in subscription["discounts"]:
        discount = w.objects["discount"][discount_id]
        coupon = w.objects["coupon"][discount["source"]["coupon"]]
        if coupon["percent_off"] is not None and (discount["end"] is None or discount["end"] > w.now):
            kept *= 1 - percent(coupon["percent_off"]) / 100
    return kept


def _credited(w: World, item: Obj) -> Obj | None:
    billed = w.billed_lines.get(item["id"])
    if billed is None:
        return None
    return {
        "invoice_item": None,
        "invoice_line_item_details": {"invoice": billed[0], "invoice_line_items": list(billed[1])},
        "type": "invoice_line_items",
    }
