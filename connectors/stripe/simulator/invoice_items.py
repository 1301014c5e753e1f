"""Invoice items: amounts waiting for an invoice, and how they become its lines."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from connectors.stripe.simulator.catalog import amount_of, assign, currency_of, update_metadata, usable_rates
from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.pricing import cost, new_line, pricing, subscription_parent
from connectors.stripe.simulator.totals import recompute
from connectors.stripe.simulator.values import Obj, rounded
from connectors.stripe.simulator.world import World


def use_currency(w: World, customer: Obj, currency: str) -> None:
    """A customer is billed in one currency; the first one used stays (docs.stripe.com/billing/customer#currency)."""
    if customer["currency"] not in (None, currency):
        raise refused(
            "You cannot combine currencies on a single customer. This customer has had a subscription, or invoice "
            f"item with currency {customer['currency']}.",
            param="currency",
        )
    if customer["currency"] is None:
        with w.changing(customer, "customer.updated"):
            customer["currency"] = currency


def new_item(
    w: World,
    customer: Obj,
    *,
    amount: int,
    currency: str,
    description: str | None,
    period: tuple[int, int],
    quantity: int = 1,
    unit: Decimal | None = None,
    price: Obj | None = None,
    subscription_item: Obj | None = None,
    subscription: str | None = None,
    proration: bool = False,
    credited: Obj | None = None,
    discountable: bool = True,
    metadata: Obj | None = None,
    rates: Iterable[str] = (),
) -> Obj:
    """A pending invoice item. Prorations are never discountable: their amounts are already net of the discounts."""
    parent = None
    owner = subscription or (subscription_item or {}).get("subscription")
    if owner is not None:
        details = {"subscription": owner, "subscription_item": (subscription_item or {}).get("id")}
        parent = {"subscription_details": details, "type": "subscription_details"}
    item: Obj = {
        "id": w.new_id("ii"), "object": "invoiceitem", "amount": amount, "currency": currency,
        "customer": customer["id"],
        "customer_account": None, "date": w.now, "description": description, "discountable": discountable,
        "discounts": [],
        "frozen_fields": None, "invoice": None, "invoicing_rules": None, "livemode": False,
        "metadata": dict(metadata or {}), "net_amount": None if discountable else amount, "parent": parent,
        "period": {"end": period[1], "start": period[0]},
        "pricing": None if price is None else pricing(price, unit), "proration": proration,
        "proration_details": {"credited_items": credited, "discount_amounts": []} if proration else None,
        "quantity": quantity, "quantity_decimal": str(quantity), "tax_rates": w.all("tax_rate", rates),
        "test_clock": None,
    }  # fmt: skip
    w.add("invoiceitem", item)
    w.pending_items[customer["id"]].append(item["id"])
    w.emit("invoiceitem.created", item)
    return item


def to_line(w: World, invoice: Obj, item: Obj) -> Obj:
    """The item's line on a draft; the item is no longer pending."""
    w.pending_items[item["customer"]].remove(item["id"])
    item["invoice"] = invoice["id"]
    details = (item["parent"] or {}).get("subscription_details") or {}
    credited = (item["proration_details"] or {}).get("credited_items")
    lines = None if credited is None else credited["invoice_line_item_details"]
    shown = {"credited_items": lines}
    if item["proration"]:
        ref = {"id": details["subscription_item"], "subscription": details["subscription"]}
        parent = subscription_parent(ref, invoice_item=item["id"], details=shown)
    else:
        inner = {"invoice_item": item["id"], "proration": False, "proration_details": shown}
        inner["subscription"] = details.get("subscription")
        parent = {"type": "invoice_item_details", "invoice_item_details": inner}
    price = item["pricing"]
    line = new_line(
        w, invoice, amount=item["amount"], description=item["description"],
        period=(item["period"]["start"], item["period"]["end"]), quantity=item["quantity"], unit=None, price=None,
        parent=parent, discountable=item["discountable"], metadata=item["metadata"],
        rates=[rate["id"] for rate in item["tax_rates"]],
    )  # fmt: skip
    line["pricing"] = price
    return line


def take_pending(w: World, invoice: Obj, *, subscription: str | None) -> int:
    """Put pending items on a new draft, newest first: the subscription's own, and those that belong to none.
    With `subscription` None, only those that belong to none."""
    taken = 0
    for item in reversed(w.all("invoiceitem", list(w.pending_items[invoice["customer"]]))):
        owner = (item["parent"] or {}).get("subscription_details", {}).get("subscription")
        if item["currency"] == invoice["currency"] and owner in (None, subscription):
            to_line(w, invoice, item)
            taken += 1
    return taken


# Operations ----------------------------------------------------------------------------------------------------------


def create_item(w: World, p: Obj, _ids: list[str]) -> Obj:
    customer_id = p.get("customer")
    invoice = w.get("invoice", p["invoice"], "invoice") if "invoice" in p else None
    if customer_id is None and invoice is None:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = w.get("customer", customer_id or (invoice or {})["customer"], "customer")
    if invoice is not None and (invoice["customer"] != customer["id"] or invoice["status"] != "draft"):
        raise refused("The invoice must be a draft of the same customer.", param="invoice", code="invoice_not_editable")
    subscription = p.get("subscription")
    if subscription is not None and w.get("subscription", subscription, "subscription")["customer"] != customer["id"]:
        raise refused("The subscription belongs to another customer.", param="subscription")
    amount, currency, quantity, unit, price = _amount(w, p, customer, invoice)
    if invoice is not None and currency != invoice["currency"]:
        raise refused(f"The invoice is in {invoice['currency']}, not in {currency}.", param="currency")
    use_currency(w, customer, currency)
    period = p.get("period") or {"start": w.now, "end": w.now}
    item = new_item(
        w, customer, amount=amount, currency=currency,
        description=p.get("description") or (w.objects["product"][price["product"]].get("name") if price else None),
        period=(period["start"], period["end"]), quantity=quantity, unit=unit, price=price, subscription=subscription,
        discountable=p.get("discountable", amount >= 0), metadata=p.get("metadata"),
        rates=[rate["id"] for rate in usable_rates(w, p.get("tax_rates"), "tax_rates")],
    )  # fmt: skip
    if invoice is not None:
        with w.changing(invoice, "invoice.updated"):
            to_line(w, invoice, item)
            recompute(w, invoice)
    return item


def _amount(w: World, p: Obj, customer: Obj, invoice: Obj | None) -> tuple[int, str, int, Decimal | None, Obj | None]:
    given = [name for name in ("amount", "pricing", "unit_amount_decimal") if name in p]
    if len(given) != 1:
        raise refused("You must specify exactly one of `amount`, `pricing` and `unit_amount_decimal`.", param="amount")
    quantity = p.get("quantity", 1)
    if given == ["pricing"]:
        price = w.get("price", p["pricing"].get("price", ""), "pricing[price]")
        if price["type"] != "one_time":
            raise refused("The price must be a one-time price.", param="pricing[price]")
        if str(p.get("currency", price["currency"])).lower() != price["currency"]:
            raise refused(f"The price is in {price['currency']}.", param="currency")
        unit = Decimal(price["unit_amount_decimal"]) if price["unit_amount_decimal"] else None
        return cost(w, price, quantity), price["currency"], quantity, unit, price
    currency = p.get("currency") or (invoice or {}).get("currency") or customer["currency"] or "usd"
    currency = currency_of(currency)
    if given == ["amount"]:
        if "quantity" in p:
            raise refused("You cannot give a `quantity` with an `amount`.", param="quantity")
        return amount_of(p["amount"], currency, "amount"), currency, 1, Decimal(p["amount"]), None
    unit = p["unit_amount_decimal"]
    return rounded(unit * quantity, currency), currency, quantity, unit, None


def update_item(w: World, p: Obj, ids: list[str]) -> Obj:
    item = w.get("invoiceitem", ids[0])
    if item["invoice"] is not None:
        raise refused(
            "This invoice item is already on an invoice; change the invoice's line.", code="invoice_not_editable"
        )
    assign(item, p, "description discountable")
    update_metadata(item, p.get("metadata"))
    if "amount" in p:
        if item["pricing"] is not None:
            raise refused("The amount of an item with a price follows from the price.", param="amount")
        item["amount"] = amount_of(p["amount"], item["currency"], "amount")
    return item


def delete_item(w: World, _p: Obj, ids: list[str]) -> Obj:
    item = w.get("invoiceitem", ids[0])
    invoice = w.objects["invoice"].get(item["invoice"] or "")
    if invoice is not None and invoice["status"] != "draft":
        raise refused("This invoice item is on a finalized invoice.", code="invoice_not_editable")
    if invoice is None:
        w.pending_items[item["customer"]].remove(item["id"])
    else:
        with w.changing(invoice, "invoice.updated"):
            kept = [line for line in w.lines[invoice["id"]] if _item_of(line) != item["id"]]
            w.lines[invoice["id"]] = kept
            recompute(w, invoice)
    w.emit("invoiceitem.deleted", item)
    w.objects["invoiceitem"][item["id"]] = {"id": item["id"], "object": "invoiceitem", "deleted": True}
    return w.objects["invoiceitem"][item["id"]]


def _item_of(line: Obj) -> str | None:
    found: str | None = line["parent"][line["parent"]["type"]]["invoice_item"]
    return found


def list_items(w: World, p: Obj, _ids: list[str]) -> Obj:
    def wanted(row: Obj) -> bool:
        return "pending" not in p or p["pending"] == (row["invoice"] is None)

    return newest(w, p, "invoiceitem", "customer", "invoice", where=wanted, created="date")
