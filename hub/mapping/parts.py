"""A Stripe invoice or credit note as the rows of a ledger document: they add up to its `total`. Pure.

All amounts are integers in minor units. Nothing is checked here: `hub.conservation` has said before that the document
adds up (`conserve` in a mapping). The shapes are those of Stripe's API reference (2025-03-31.basil and later).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def parts(document: Mapping[str, Any]) -> list[Row]:
    """What the total consists of, in this order. Each row has `kind`, `amount` and `description`, and what else is
    known of it:

        line            `id`, `description`, `quantity`, `price`, `product`, `start`, `end` (Unix), `proration`.
                        Net: tax that is inside the price has its own row
        whole           in place of lines, where a credit note has none: its subtotal
        discount        negative; `id` of the discount
        billing_credit  negative; `id` of the credit balance transaction
        shipping        what is left of the total: whether Stripe lists the tax on shipping among the taxes is not known
        tax             one per entry of the total taxes; `id` of the tax rate

    Rows of 0 are left out, but for lines.
    """
    lines = _lines(document)
    found = [_line(line) for line in lines] or [
        {"kind": "whole", "amount": document["subtotal"], "description": "Credit"}
    ]
    for entry in _either(document, lines, ("total_discount_amounts", "discount_amounts"), "discount_amounts"):
        found.append(_row("discount", -entry["amount"], "Discount", _id(entry.get("discount"))))
    pretax = ("total_pretax_credit_amounts", "pretax_credit_amounts")
    for entry in _either(document, lines, pretax, "pretax_credit_amounts"):
        if entry.get("type") == "credit_balance_transaction":
            id_ = _id(entry.get("credit_balance_transaction"))
            found.append(_row("billing_credit", -entry["amount"], "Billing credit", id_))
    taxed = [_row("tax", tax["amount"], "Tax", _rate(tax)) for tax in _taxes(document, lines)]
    if (document.get("shipping_cost") or {}).get("amount_subtotal"):
        rest = document["total"] - sum(row["amount"] for row in (*found, *taxed))
        found.append({"kind": "shipping", "amount": rest, "description": "Shipping"})
    return [row for row in (*found, *taxed) if row["amount"] or row["kind"] == "line"]


def taxes(document: Mapping[str, Any]) -> list[Row]:
    """The same taxes, each with the row it is on: `of` (a line's `id`, or `shipping`), `amount`, `taxable`, `id`.

    They add up to the `tax` rows of `parts`. What no line has (the tax on shipping) is on the shipping, else on the
    first line, with no taxable amount.
    """
    lines, rows = _lines(document), parts(document)
    inside = any(tax.get("tax_behavior") == "inclusive" for line in lines for tax in line.get("taxes") or ())
    found = [
        {"of": line.get("id"), "amount": tax["amount"], "taxable": tax.get("taxable_amount"), "id": _rate(tax)}
        for line in lines
        for tax in line.get("taxes") or ()
        if tax["amount"] and (tax.get("tax_behavior") == "exclusive" or inside)
    ]
    rest = sum(row["amount"] for row in rows if row["kind"] == "tax") - sum(row["amount"] for row in found)
    if rest:
        shipped = any(row["kind"] == "shipping" for row in rows)
        rate = next((row["id"] for row in reversed(rows) if row["kind"] == "tax"), None)
        of = "shipping" if shipped else rows[0].get("id", rows[0]["kind"])
        found.append({"of": of, "amount": rest, "taxable": None, "id": rate})
    return found


def _row(kind: str, amount: int, word: str, id_: Any) -> Row:
    return {"kind": kind, "amount": amount, "description": f"{word} {id_ or ''}".strip(), "id": id_}


def _line(line: Mapping[str, Any]) -> Row:
    pricing = (line.get("pricing") or {}).get("price_details") or {}
    period, parent = line.get("period") or {}, line.get("parent") or {}
    return {
        "kind": "line",
        "amount": line["amount"] - _sum(_inclusive(line.get("taxes"))),
        "id": line.get("id"),
        "description": line.get("description"),
        "quantity": line.get("quantity"),
        "price": _id(pricing.get("price")),
        "product": _id(pricing.get("product")),
        "start": period.get("start"),
        "end": period.get("end"),
        "proration": any(isinstance(inner, Mapping) and inner.get("proration") is True for inner in parent.values()),
    }


def _taxes(document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """On top of the price, then inside it: the latter only as far as the lines tell it, for there it is taken off."""
    entries = _either(document, lines, ("total_taxes",), "taxes")
    on_lines = [tax for line in lines for tax in line.get("taxes") or ()]
    inside, shown = _inclusive(on_lines), _inclusive(entries)
    if _sum(inside) != _sum(shown) and not document.get("shipping_cost"):
        shown = inside
    return [*(tax for tax in entries if tax.get("tax_behavior") == "exclusive"), *(shown if inside else ())]


def _lines(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((document.get("lines") or {}).get("data") or ())


def _either(
    document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], names: Sequence[str], part: str
) -> list[Mapping[str, Any]]:
    """The list on the document, or all those on its lines."""
    for name in names:
        if document.get(name):
            return list(document[name])
    return [entry for line in lines for entry in line.get(part) or ()]


def _inclusive(entries: Any) -> list[Mapping[str, Any]]:
    return [tax for tax in entries or () if tax.get("tax_behavior") == "inclusive"]


def _sum(entries: Sequence[Mapping[str, Any]]) -> int:
    return sum(entry["amount"] for entry in entries)


def _rate(tax: Mapping[str, Any]) -> Any:
    return _id((tax.get("tax_rate_details") or {}).get("tax_rate"))


def _id(value: Any) -> Any:
    return value.get("id") if isinstance(value, Mapping) else value
