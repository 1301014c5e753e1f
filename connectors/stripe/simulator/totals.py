"""An invoice's arithmetic, computed here and checked again on every invoice that leaves the simulator.

As Stripe defines it (docs.stripe.com/api/invoices/object, docs.stripe.com/billing/taxes/tax-rates):
  line.amount       quantity times price; contains inclusive taxes, not exclusive ones, and no invoice-level discount
  subtotal          sum of the lines' amounts
  total             subtotal - discounts + exclusive taxes
  amount_due        max(0, total + starting_balance) - pre-payment credit notes
  amount_remaining  amount_due - amount_paid
Taxes are per line and rate, half up, on the line's amount less its discounts. Inclusive taxes are taken out of that
first; exclusive ones are computed on what is left (how Stripe mixes the two on one line is not known).
A percentage coupon is rounded once and spread over the positive discountable lines by largest remainder; an amount
coupon stops at zero. In three-decimal currencies every computed amount ends in 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from connectors.stripe.simulator.values import Obj, percent, rounded, spread
from connectors.stripe.simulator.world import World


class InvariantError(Exception):
    """The simulator made an invoice that does not add up: a defect of the simulator."""


def recompute(w: World, invoice: Obj) -> None:
    """Bring a draft's discounts, taxes and totals up to date with its lines."""
    lines = w.lines[invoice["id"]]
    currency = invoice["currency"]
    invoice["total_discount_amounts"] = _discount(w, invoice, lines)
    invoice["total_pretax_credit_amounts"] = [
        {**each, "type": "discount", "credit_balance_transaction": None} for each in invoice["total_discount_amounts"]
    ]
    undiscounted_inclusive = 0
    for line in lines:
        net = line["amount"] - sum(each["amount"] for each in line["discount_amounts"])
        line["taxes"], inclusive_before = line_taxes(w, invoice, line, net, currency)
        undiscounted_inclusive += inclusive_before
    invoice["subtotal"] = sum(line["amount"] for line in lines)
    invoice["subtotal_excluding_tax"] = invoice["subtotal"] - undiscounted_inclusive
    invoice["total_taxes"] = total_taxes(tax for line in lines for tax in line["taxes"])
    discounts = sum(each["amount"] for each in invoice["total_discount_amounts"])
    inclusive, exclusive = split(invoice["total_taxes"])
    invoice["total"] = invoice["subtotal"] - discounts + exclusive
    invoice["total_excluding_tax"] = invoice["total"] - exclusive - inclusive
    settle(invoice)


def settle(invoice: Obj) -> None:
    """`amount_due` and `amount_remaining` from total, balance, credit notes and payments."""
    invoice["amount_due"] = (
        max(0, invoice["total"] + invoice["starting_balance"]) - invoice["pre_payment_credit_notes_amount"]
    )
    invoice["amount_remaining"] = invoice["amount_due"] - invoice["amount_paid"]


def _discount(w: World, invoice: Obj, lines: list[Obj]) -> list[Obj]:
    for line in lines:
        line["discount_amounts"], line["pretax_credit_amounts"] = [], []
    left = [line["amount"] if line["discountable"] else 0 for line in lines]
    totals = []
    for discount_id in invoice["discounts"]:
        coupon = w.objects["coupon"][w.objects["discount"][discount_id]["source"]["coupon"]]
        at = [i for i, amount in enumerate(left) if amount > 0]
        base = sum(left[i] for i in at)
        if coupon["percent_off"] is not None:
            off = rounded(base * percent(coupon["percent_off"]) / 100, invoice["currency"])
        else:
            off = min(coupon["amount_off"], base)
        shares = spread(off, [left[i] for i in at], invoice["currency"])
        for i, share in zip(at, shares, strict=True):
            left[i] -= share
            entry = {"amount": share, "discount": discount_id}
            lines[i]["discount_amounts"].append(entry)
            lines[i]["pretax_credit_amounts"].append({**entry, "type": "discount", "credit_balance_transaction": None})
        totals.append({"amount": off, "discount": discount_id})
    return totals


def line_taxes(w: World, invoice: Obj, line: Obj, net: int, currency: str) -> tuple[list[Obj], int]:
    """The taxes on `net` (the line's amount after discounts), and the inclusive tax there would be without
    discounts."""
    manual = w.manual_taxes.get(line["id"])
    if manual is not None:
        return manual, sum(tax["amount"] for tax in manual if tax["tax_behavior"] == "inclusive")
    ids = w.rates.get(line["id"]) or [rate["id"] for rate in invoice["default_tax_rates"]]
    rates = w.all("tax_rate", ids)
    exempt = invoice["customer_tax_exempt"]
    taxes = taxes_on(net, rates, currency, exempt)
    before = taxes_on(line["amount"], rates, currency, exempt) if net != line["amount"] else taxes
    return taxes, split(before)[0]


def taxes_on(net: int, rates: list[Obj], currency: str, exempt: str | None) -> list[Obj]:
    """`taxes[]` of a line worth `net`. A customer who is exempt, or owes the tax himself, has amounts of 0."""
    taxed = exempt in (None, "none")
    included = sum((percent(r["percentage"]) for r in rates if r["inclusive"]), Decimal(0)) if taxed else Decimal(0)
    amounts: dict[str, int] = {}
    for rate in rates:
        if rate["inclusive"]:
            share = Decimal(net) * percent(rate["percentage"]) / (100 + included)
            amounts[rate["id"]] = rounded(share, currency) if taxed else 0
    taxable = net - sum(amounts.values())
    for rate in rates:
        if not rate["inclusive"]:
            share = Decimal(taxable) * percent(rate["percentage"]) / 100
            amounts[rate["id"]] = rounded(share, currency) if taxed else 0
    reason = "standard_rated" if taxed else "customer_exempt" if exempt == "exempt" else "reverse_charge"
    return [
        tax_entry(rate["id"], amounts[rate["id"]], taxable, inclusive=rate["inclusive"], reason=reason)
        for rate in rates
    ]


def tax_entry(rate: str, amount: int, taxable: int | None, *, inclusive: bool, reason: str) -> Obj:
    """One entry of `taxes` or `total_taxes`."""
    return {
        "amount": amount,
        "tax_behavior": "inclusive" if inclusive else "exclusive",
        "tax_rate_details": {"tax_rate": rate},
        "taxability_reason": reason,
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }


def total_taxes(taxes: Iterable[Obj]) -> list[Obj]:
    """Entries of several lines added up by tax rate."""
    result: dict[tuple[str, str], Obj] = {}
    for tax in taxes:
        key = (tax["tax_rate_details"]["tax_rate"], tax["tax_behavior"])
        if key not in result:
            result[key] = {**tax, "tax_rate_details": dict(tax["tax_rate_details"])}
        else:
            result[key]["amount"] += tax["amount"]
            result[key]["taxable_amount"] = (result[key]["taxable_amount"] or 0) + (tax["taxable_amount"] or 0)
    return list(result.values())


def split(taxes: Iterable[Obj]) -> tuple[int, int]:
    """Inclusive and exclusive tax in total."""
    sums = {"inclusive": 0, "exclusive": 0}
    for tax in taxes:
        sums[tax["tax_behavior"]] += tax["amount"]
    return sums["inclusive"], sums["exclusive"]


def check(invoice: Obj, lines: list[Obj]) -> None:
    """Raises `InvariantError` unless the invoice adds up, from its own fields only."""
    discounts = sum(each["amount"] for each in invoice["total_discount_amounts"])
    _, exclusive = split(invoice["total_taxes"])
    line_discounts = sum(each["amount"] for line in lines for each in line["discount_amounts"])
    due = max(0, invoice["total"] + invoice["starting_balance"]) - invoice["pre_payment_credit_notes_amount"]
    facts = {
        "sum of lines = subtotal": (sum(line["amount"] for line in lines), invoice["subtotal"]),
        "subtotal - discounts + exclusive taxes = total": (
            invoice["subtotal"] - discounts + exclusive,
            invoice["total"],
        ),
        "line discounts = discounts": (line_discounts, discounts),
        "line taxes = taxes": (_amounts(t for line in lines for t in line["taxes"]), _amounts(invoice["total_taxes"])),
        "total + balance - credit notes = due": (due, invoice["amount_due"]),
        "due - paid = remaining": (invoice["amount_due"] - invoice["amount_paid"], invoice["amount_remaining"]),
    }
    wrong = {name: pair for name, pair in facts.items() if pair[0] != pair[1]}
    if wrong:
        raise InvariantError(f"{invoice['id']} ({invoice['status']}): {wrong}")


def _amounts(taxes: Iterable[Obj]) -> int:
    return sum(tax["amount"] for tax in taxes)
