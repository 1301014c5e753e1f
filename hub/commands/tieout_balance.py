"""Does the ledger say what Stripe still has, and what customers still owe? Pure, like `tieout_money`, and by hand.

Clearing, per currency Stripe settles in. What NetSuite's clearing account holds must be, to the cent:

    Stripe's balance, available and pending
    + payouts under way: off the balance when they are made, in the books when they arrive
    + Stripe's fees on what no payout that arrived contains: off the balance at once, in the books with the payout
    - what belongs to no invoice, ever: never booked as it came, but part of the payouts that are

A payout that failed has arrived and was turned back in the books; at Stripe its money is on the balance again. Of the
base currency the account is taken in base currency, over all that customers pay in and Stripe converts into it; a
currency that Stripe pays out as it is (euros to a bank account in euros) in itself.

Receivables, per currency customers are billed in. What the account holds must be:

    what remains of open invoices, and of those marked uncollectible (the demo writes nothing off)
    - what customers are owed: refunds that failed, and what was paid of invoices that were voided then
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from hub.commands.tieout_money import ZERO, Money, major

BASE = "USD"
"""What the sandbox's books are kept in."""
CLEARING, RECEIVABLE = "hub_stripe_clearing", "Accounts Receivable"
ARRIVED, UNDER_WAY = ("paid", "failed"), ("pending", "in_transit")


def balances(found: Money, stripe: Mapping[str, Any], netsuite: Mapping[str, Any]) -> None:
    """Puts both accounts into `found`, per currency and system, and what does not agree."""
    settled = {currency.upper() for currency in stripe["balance"]}
    ours = {c.upper(): major(amount, c) for c, amount in _left(stripe).items()}
    theirs = {c: amount for c, amount in _sums(netsuite["foreign"], CLEARING).items() if c in settled - {BASE}}
    carried = _sums(netsuite["carried"], CLEARING)
    theirs[BASE] = sum((amount for c, amount in carried.items() if c not in settled - {BASE}), ZERO)
    _compare(found, "clearing", found.clearing, ours, theirs)
    owed: dict[str, Decimal] = {}
    for currency, amount in _owed(stripe):
        owed[currency.upper()] = owed.get(currency.upper(), ZERO) + major(amount, currency)
    _compare(found, "receivables", found.receivables, owed, _sums(netsuite["foreign"], RECEIVABLE))


def _left(stripe: Mapping[str, Any]) -> dict[str, int]:
    """Currency -> what clearing must hold, minor units."""
    left = {currency: sums["available"] + sums["pending"] for currency, sums in stripe["balance"].items()}
    arrived = {p["id"] for p in stripe["payouts"] if p["status"] in ARRIVED}
    booked_fees = {each for payout in arrived for each in stripe["paid_out"][payout]}
    for payout in stripe["payouts"]:
        if payout["status"] in UNDER_WAY:
            left[payout["currency"]] += payout["amount"]
    invoiced = _invoiced(stripe)
    payouts = {p["id"] for p in stripe["payouts"]}
    for each in stripe["balance_transactions"]:
        if each["id"] not in booked_fees:
            left[each["currency"]] += each["fee"]
        if each["source"] not in invoiced | payouts:
            left[each["currency"]] -= each["amount"]
    return left


def _invoiced(stripe: Mapping[str, Any]) -> set[str]:
    """Charges, refunds and disputes that belong to an invoice."""
    payments = [p["payment"] for p in stripe["invoice_payments"] if p["status"] == "paid"]
    intents = {p.get("payment_intent") for p in payments} - {None}
    moved = [*stripe["charges"], *stripe["refunds"], *stripe["disputes"]]
    return {each["id"] for each in moved if each["payment_intent"] in intents}


def _owed(stripe: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """By customers, per document; negative: to them."""
    for invoice in stripe["invoices"]:
        if invoice["status"] in ("open", "uncollectible"):
            yield invoice["currency"], invoice["amount_remaining"]
        elif invoice["status"] == "void":
            yield invoice["currency"], -invoice["amount_paid"]
    invoiced = _invoiced(stripe)
    for refund in stripe["refunds"]:
        if refund["status"] == "failed" and refund["id"] in invoiced:
            yield refund["currency"], -refund["amount"]


def _sums(ledger: Mapping[str, Any], account: str) -> dict[str, Decimal]:
    """Currency -> amount, over all subsidiaries."""
    sums: dict[str, Decimal] = {}
    for accounts in ledger.values():
        for currency, amount in accounts.get(account, {}).items():
            sums[currency] = sums.get(currency, ZERO) + Decimal(amount)
    return sums


def _compare(
    found: Money,
    kind: str,
    shown: dict[str, dict[str, str]],
    stripe: Mapping[str, Decimal],
    netsuite: Mapping[str, Decimal],
) -> None:
    wrong = found.differences.setdefault(kind, [])
    for currency in sorted({*stripe, *netsuite}):
        wanted, there = stripe.get(currency, ZERO), netsuite.get(currency, ZERO)
        difference = there - wanted
        shown[currency] = {
            name: f"{amount.normalize() + ZERO:f}"
            for name, amount in (("stripe", wanted), ("netsuite", there), ("difference", difference))
        }
        if difference:
            wrong.append(f"netsuite: {there:f} {currency}, by Stripe it is {wanted:f}")
