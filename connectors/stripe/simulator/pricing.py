"""What a price says a quantity costs, and the invoice lines that say so.

Tiers: docs.stripe.com/products-prices/pricing-models. A graduated price makes one line per tier used, a flat fee one
line of its own; a volume price one line at the tier the whole quantity falls into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from connectors.stripe.simulator.values import TIMES, Obj, plain, rounded
from connectors.stripe.simulator.world import World


@dataclass(frozen=True, slots=True)
class Part:
    """One line's worth: `amount` in minor units is `quantity` times `unit`, rounded half up."""

    quantity: int
    unit: Decimal
    amount: int
    text: str


def parts(w: World, price: Obj, quantity: int) -> list[Part]:
    """The lines a quantity of a price makes."""
    currency = price["currency"]
    name = w.objects["product"][price["product"]].get("name", "Product")
    if price["billing_scheme"] == "per_unit":
        unit = Decimal(price["unit_amount_decimal"])
        every = price["recurring"]
        suffix = f" (at {plain(unit)} / {every['interval']})" if every else ""
        return [Part(quantity, unit, rounded(unit * quantity, currency), f"{quantity} {TIMES} {name}{suffix}")]
    tiers = w.tiers[price["id"]]
    if price["tiers_mode"] == "volume":
        index = next(i for i, tier in enumerate(tiers) if tier["up_to"] is None or quantity <= tier["up_to"])
        return _tier_parts(tiers[index], index, quantity, name, currency)
    result: list[Part] = []
    floor = 0
    for index, tier in enumerate(tiers):
        top = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        if top > floor or index == 0:
            result += _tier_parts(tier, index, top - floor, name, currency)
        floor = max(floor, top)
    return result


def _tier_parts(tier: Obj, index: int, quantity: int, name: str, currency: str) -> list[Part]:
    found = []
    if tier["unit_amount_decimal"] is not None:
        unit = Decimal(tier["unit_amount_decimal"])
        found.append(
            Part(quantity, unit, rounded(unit * quantity, currency), f"{quantity} {TIMES} {name} (Tier {index + 1})")
        )
    if tier["flat_amount_decimal"] is not None and quantity > 0:
        flat = Decimal(tier["flat_amount_decimal"])
        found.append(Part(1, flat, rounded(flat, currency), f"{name} (Tier {index + 1} flat fee)"))
    return found or [Part(quantity, Decimal(0), 0, f"{quantity} {TIMES} {name} (Tier {index + 1})")]


def cost(w: World, price: Obj, quantity: int) -> int:
    """The sum of the parts, in minor units."""
    return sum(part.amount for part in parts(w, price, quantity))


def new_line(
    w: World,
    invoice: Obj,
    *,
    amount: int,
    description: str | None,
    period: tuple[int, int],
    quantity: int,
    unit: Decimal | None,
    price: Obj | None,
    parent: Obj,
    discountable: bool = True,
    metadata: Obj | None = None,
    rates: Sequence[str] = (),
) -> Obj:
    """A line, added at the end of a draft invoice. The caller brings the totals up to date."""
    details = parent[parent["type"]]
    line: Obj = {
        "id": w.new_id("il"), "object": "line_item", "amount": amount, "currency": invoice["currency"],
        "description": description, "discount_amounts": [], "discountable": discountable, "discounts": [],
        "invoice": invoice["id"], "livemode": False, "metadata": dict(metadata or {}),
        "parent": {"invoice_item_details": None, "subscription_item_details": None, **parent},
        "period": {"end": period[1], "start": period[0]}, "pretax_credit_amounts": [],
        "pricing": None if price is None else pricing(price, unit), "quantity": quantity,
        "quantity_decimal": str(quantity), "subscription": details.get("subscription"), "subtotal": amount, "taxes": [],
    }  # fmt: skip
    w.lines[invoice["id"]].append(line)
    if rates:
        w.rates[line["id"]] = list(rates)
    return line


def pricing(price: Obj, unit: Decimal | None) -> Obj:
    """`pricing` of a line or an invoice item."""
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": None if unit is None else plain(unit),
    }


def subscription_parent(item: Obj, *, invoice_item: str | None = None, details: Obj | None = None) -> Obj:
    """`parent` of a line that bills a subscription item; with `invoice_item`, of a proration."""
    return {
        "type": "subscription_item_details",
        "subscription_item_details": {
            "invoice_item": invoice_item, "proration": invoice_item is not None,
            "proration_details": details or {"credited_items": None},
            "subscription": item["subscription"], "subscription_item": item["id"],
        },
    }  # fmt: skip


def bill_item(w: World, invoice: Obj, item: Obj, quantity: int, period: tuple[int, int], *, free: bool = False) -> None:
    """The lines of one subscription item for one period. `free`: a trial, amount 0."""
    price = item["price"]
    if free:
        name = w.objects["product"][price["product"]].get("name", "Product")
        pieces = [Part(quantity, Decimal(0), 0, f"Trial period for {name}")]
    else:
        pieces = parts(w, price, quantity)
    made = [
        new_line(
            w, invoice, amount=part.amount, description=part.text, period=period, quantity=part.quantity,
            unit=part.unit,
            price=price, parent=subscription_parent(item), metadata=item["metadata"], rates=w.rates.get(item["id"], ()),
        )["id"]
        for part in pieces
    ]  # fmt: skip
    w.billed_lines[item["id"]] = (invoice["id"], made)
