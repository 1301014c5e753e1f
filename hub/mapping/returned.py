"""What an amount given back takes back of each line of an invoice, and of its tax: pro rata, no unit lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.money import exponent

Row = dict[str, Any]


def returned(invoice: Mapping[str, Any], amount: int) -> list[Row]:
    """`amount` (minor units, tax included) spread over the invoice in the proportion of what each line cost and what
    its tax was. One row per line that has a share: `line` (the invoice's own), `amount` without tax, `tax`; all of them
    add up to `amount` exactly. Shipping is a line of the id `shipping`.

    By largest remainder, so every figure is less than one unit from its exact share; in currencies of three decimals
    the unit is ten, as Stripe charges no less. The whole total gives every line's own net and tax.
    """
    sources = [*_lines(invoice), *_shipping(invoice)]
    step = 10 if exponent(invoice["currency"]) == 3 and amount % 10 == 0 else 1
    weights = [figure for _, net, tax in sources for figure in (net, tax)]
    shares = [share * step for share in _apportion(amount // step, weights)]
    rows = [{"line": line, "amount": shares[2 * n], "tax": shares[2 * n + 1]} for n, (line, _, _) in enumerate(sources)]
    return [row for row in rows if row["amount"] or row["tax"]]


def _lines(invoice: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], int, int]]:
    found = []
    for line in invoice["lines"]["data"]:
        taken = line.get("pretax_credit_amounts")
        off = _sum(line.get("discount_amounts") if taken is None else taken)
        taxes = line.get("taxes") or ()
        inside = _sum([tax for tax in taxes if tax.get("tax_behavior") == "inclusive"])
        found.append((line, line["amount"] - off - inside, _sum(taxes)))
    return found


def _shipping(invoice: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], int, int]]:
    cost = invoice.get("shipping_cost")
    if not cost or not cost["amount_total"]:
        return []
    line = {"id": "shipping", "description": "Shipping", "shipping_rate": cost.get("shipping_rate")}
    return [(line, cost["amount_total"] - cost["amount_tax"], cost["amount_tax"])]


def _sum(entries: Sequence[Mapping[str, Any]] | None) -> int:
    return sum(entry["amount"] for entry in entries or ())


def _apportion(amount: int, weights: Sequence[int]) -> list[int]:
    whole = sum(weights)
    if whole <= 0:
        return [0] * len(weights)
    shares = [amount * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda n: (-(amount * weights[n] % whole), n))
    for n in order[: amount - sum(shares)]:
        shares[n] += 1
    return shares
