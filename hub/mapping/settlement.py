"""What Stripe made of money. A payout as the rows of a bank deposit: what of it were charges, refunds, disputes, fees.
And the rate at which an amount was converted. Pure.

A payout's amounts are integers in minor units of its currency, signed as they move Stripe's balance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

KINDS = ("charges", "refunds", "disputes", "returned", "fees", "adjustments")
_CATEGORIES: Mapping[str, str] = {
    "charge": "charges", "charge_failure": "charges", "refund": "refunds", "refund_failure": "refunds",
    "partial_capture_reversal": "refunds", "dispute": "disputes", "dispute_reversal": "disputes", "fee": "fees",
    "network_cost": "fees", "tax": "fees", "payout_failure": "returned", "payout_cancel": "returned",
    "payout_reversal": "returned",
}  # fmt: skip
"""`reporting_category` of a balance transaction (Stripe's documentation, "Reporting categories") -> kind. All others:
adjustments."""
OWN = "payout"
"""`type` of the payout's own movement, which its list begins with: not part of what it consists of. An earlier payout
that came back is: its failure is among the transactions of the next."""


def settled(transactions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per kind that is not 0: `kind`, `amount`. A charge counts in full; Stripe's fee on it is among the fees.

    They add up to the net of the transactions, which must be the payout's amount.
    """
    sums = dict.fromkeys(KINDS, 0)
    for transaction in transactions:
        if transaction.get("type") == OWN:
            continue
        sums[_CATEGORIES.get(str(transaction.get("reporting_category")), "adjustments")] += transaction["amount"]
        sums["fees"] -= transaction.get("fee") or 0
    return [{"kind": kind, "amount": amount} for kind, amount in sums.items() if amount]


_RATE = Context(prec=12)


def rate(amount: Decimal, made: Decimal) -> Decimal | None:
    """What one unit became, of an `amount` that Stripe made `made` of (both in major units, whatever their signs). None
    if either is nothing.

    Taken from the two amounts and not from `exchange_rate`, so that the amount at this rate, rounded to cents, is what
    is on Stripe's balance to the cent: twelve digits are enough for a billion.
    """
    return abs(_RATE.divide(made, amount)).normalize() if amount and made else None
