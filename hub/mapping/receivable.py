"""What is owed of a Stripe invoice, and what a payment of it pays. Pure; all amounts in minor units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def receivable(invoice: Mapping[str, Any]) -> Row:
    """Who owes what once the invoice is final:

        from_balance   paid out of the customer's balance (or carried over to it: an amount too small to charge)
        to_balance     collected on top because the customer owed it; of an invoice below zero: kept for the customer
        credited       taken off by credit notes before payment
        open           what is left of the total: to be paid in money

    The customer's balance is below zero when Stripe owes; the invoice says what it was before and after
    (`starting_balance`, `ending_balance`, fixed at finalisation).
    """
    before, after = invoice.get("starting_balance") or 0, invoice.get("ending_balance")
    taken = 0 if after is None else after - before
    credited = invoice.get("pre_payment_credit_notes_amount") or 0
    return {
        "from_balance": max(taken, 0),
        "to_balance": max(-taken, 0),
        "credited": credited,
        "open": max(invoice["total"], 0) - max(taken, 0) - credited,
    }


def written_off(invoice: Mapping[str, Any], payments: Sequence[Mapping[str, Any]]) -> int:
    """What was open when the invoice was marked uncollectible: less what was paid before. 0 if it never was."""
    marked = _moment(invoice, "marked_uncollectible_at")
    if marked is None:
        return 0
    before: int = sum(p["amount_paid"] for p in _paid(payments) if (_moment(p, "paid_at") or 0) < marked)
    left: int = receivable(invoice)["open"] - before
    return max(left, 0)


def spread(payment: Mapping[str, Any], invoice: Mapping[str, Any], payments: Sequence[Mapping[str, Any]]) -> Row:
    """What one payment of an invoice pays. `payments`: all of the invoice, or none where what was paid before does not
    matter. The invoice comes first, then what was added to it from the customer's balance:

        invoice    never more than is left of it
        balance    what is left of `to_balance`
        late       whether it came once the invoice was uncollectible
    """
    owed, amount, moment = receivable(invoice), payment["amount_paid"], _order(payment)
    before = sum(p["amount_paid"] for p in _paid(payments) if _order(p) < moment)
    own = min(amount, max(owed["open"] - before, 0))
    older = min(amount - own, owed["to_balance"] - max(before - owed["open"], 0))
    marked = _moment(invoice, "marked_uncollectible_at")
    late = marked is not None and marked <= (_moment(payment, "paid_at") or 0)
    return {"invoice": own, "balance": max(older, 0), "late": late}


def _paid(payments: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [p for p in payments if p.get("status") == "paid" and p.get("amount_paid")]


def _moment(document: Mapping[str, Any], name: str) -> int | None:
    moment: int | None = (document.get("status_transitions") or {}).get(name)
    return moment


def _order(payment: Mapping[str, Any]) -> tuple[int, str]:
    return _moment(payment, "paid_at") or 0, str(payment.get("id"))
