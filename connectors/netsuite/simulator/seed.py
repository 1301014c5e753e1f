"""What an administrator has set up before the hub arrives: subsidiaries, currencies, items, accounts, periods."""

from __future__ import annotations

import calendar
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
FIRST_YEAR, YEARS = 2020, 20
CURRENCIES = (
    ("USD", 2), ("GBP", 2), ("CAD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 2), ("AUD", 2), ("CHF", 2), ("SEK", 2),
    ("DKK", 2), ("NOK", 2), ("PLN", 2), ("SGD", 2), ("NZD", 2), ("MXN", 2), ("BRL", 2), ("INR", 2), ("KRW", 0),
)  # fmt: skip
"""Internal id = place in this list. NetSuite has no three-decimal precision, so KWD has two."""
ITEMS = (
    ("serviceSaleItem", "hub_subscription", "Subscriptions"), ("otherChargeSaleItem", "hub_discount", "Discounts"),
    ("otherChargeSaleItem", "hub_tax", "Sales tax payable"), ("otherChargeSaleItem", "hub_shipping", "Shipping"),
    ("otherChargeSaleItem", "hub_credit", "Prepaid credit used"),
    ("serviceSaleItem", "hub_us_only", "US subsidiary only"),
)  # fmt: skip


def masters() -> dict[str, dict[str, Row]]:
    """Record type -> internal id -> fields. References are internal ids."""
    periods: dict[str, Row] = {}
    for number in range(YEARS * 12):
        year, month = FIRST_YEAR + number // 12, number % 12 + 1
        first, last = f"{year}-{month:02}-01", f"{year}-{month:02}-{calendar.monthrange(year, month)[1]}"
        periods[str(number + 1)] = {
            "periodName": f"{calendar.month_abbr[month]} {year}", "startDate": first, "endDate": last, "closed": False,
        }  # fmt: skip
    currencies: dict[str, Row] = {
        str(n): {"name": code, "symbol": code, "currencyPrecision": Decimal(places)}
        for n, (code, places) in enumerate(CURRENCIES, 1)
    }
    items: dict[str, dict[str, Row]] = {}
    for n, (kind, external_id, name) in enumerate(ITEMS, 101):
        items.setdefault(kind, {})[str(n)] = {
            "externalId": external_id, "itemId": name, "displayName": name, "isInactive": False,
        }  # fmt: skip
    return {
        "subsidiary": {
            "1": {"name": "Parent Company", "currency": "1"},
            "2": {"name": "Europe", "currency": "4"},
        },
        "currency": currencies,
        "account": {
            "1": {"acctName": "Accounts Receivable", "acctNumber": "1100"},
            "2": {"externalId": "hub_stripe_clearing", "acctName": "Stripe clearing", "acctNumber": "1050"},
            "3": {"externalId": "hub_off_stripe", "acctName": "Paid outside Stripe", "acctNumber": "1051"},
        },
        "accountingPeriod": periods,
        "term": {
            "1": {"name": "Net 15", "daysUntilNetDue": Decimal(15)},
            "2": {"name": "Net 30", "daysUntilNetDue": Decimal(30)},
        },
        **items,
    }


ITEM_SUBSIDIARIES = {"hub_us_only": ("1",)}
"""Items that only some subsidiaries may use; the rest is shared."""
