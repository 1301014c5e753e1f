"""What an administrator has set up before the hub arrives: subsidiaries, currencies and rates, items, accounts,
periods, segments, tax codes."""

from __future__ import annotations

import calendar
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
FIRST_YEAR, YEARS = 2020, 20
CURRENCIES = (
    ("USD", 2, "1"), ("GBP", 2, "1.25"), ("CAD", 2, "0.75"), ("EUR", 2, "1.1"), ("JPY", 0, "0.007"),
    ("KWD", 2, "3.25"), ("AUD", 2, "0.65"), ("CHF", 2, "1.12"), ("SEK", 2, "0.095"), ("DKK", 2, "0.147"),
    ("NOK", 2, "0.094"), ("PLN", 2, "0.25"), ("SGD", 2, "0.74"), ("NZD", 2, "0.6"), ("MXN", 2, "0.055"),
    ("BRL", 2, "0.18"), ("INR", 2, "0.012"), ("KRW", 0, "0.00075"),
)  # fmt: skip
"""Internal id = place in this list. Precision: NetSuite has no three-decimal one, so KWD has two. Rate: US dollars for
one unit, the same on every day."""
RATES = {str(n): Decimal(rate) for n, (_, _, rate) in enumerate(CURRENCIES, 1)}
ITEMS = (
    ("serviceSaleItem", "hub_subscription", "Subscriptions", "10"),
    ("otherChargeSaleItem", "hub_discount", "Discounts", "11"),
    ("otherChargeSaleItem", "hub_tax", "Sales tax payable", "9"),
    ("otherChargeSaleItem", "hub_shipping", "Shipping", "10"),
    ("otherChargeSaleItem", "hub_credit", "Prepaid credit used", "14"),
    ("serviceSaleItem", "hub_us_only", "US subsidiary only", "10"),
    ("otherChargeSaleItem", "hub_customer_balance", "Customer balance", "8"),
    ("otherChargeSaleItem", "hub_write_off", "Bad debt", "15"),
    ("otherChargeSaleItem", "hub_refund", "Refunds", "12"),
    ("otherChargeSaleItem", "hub_dispute", "Disputes", "16"),
    ("serviceSaleItem", "hub_credit_note", "Credit notes", "12"),
)  # fmt: skip
"""Record, external id, name, internal id of the income account (a liability or an expense where that is meant)."""
ALL = ("1", "2")
ITEM_SUBSIDIARIES = {"hub_us_only": ("1",)}
"""Items that only some subsidiaries may use; the rest is for all."""
RECEIVABLE, UNDEPOSITED, TAX_PAYABLE, REALIZED = "1", "4", "9", "13"
"""Accounts NetSuite itself posts to: receivables, undeposited funds, sales tax, realized exchange differences."""
_ACCOUNTS: tuple[tuple[str | None, str, str, str, str | None, tuple[str, ...]], ...] = (
    (None, "Accounts Receivable", "1100", "AcctRec", None, ()),
    ("hub_stripe_clearing", "Stripe clearing", "1050", "OthCurrAsset", None, ()),
    ("hub_off_stripe", "Paid outside Stripe", "1051", "OthCurrAsset", None, ()),
    (None, "Undeposited Funds", "1499", "OthCurrAsset", None, ()),
    ("hub_bank", "Bank USD", "1000", "Bank", "1", ("1",)),
    ("hub_bank_eur", "Bank EUR", "1001", "Bank", "4", ("1",)),
    ("hub_bank_europe", "Bank EUR of Europe", "1002", "Bank", "4", ("2",)),
    ("hub_customer_balances", "Customer balances", "2300", "OthCurrLiab", None, ()),
    ("hub_sales_tax_payable", "Sales tax payable", "2200", "OthCurrLiab", None, ()),
    ("hub_sales", "Sales", "4000", "Income", None, ()),
    ("hub_discounts", "Discounts", "4100", "Income", None, ()),
    ("hub_refunds", "Refunds and credit notes", "4200", "Income", None, ()),
    (None, "Realized Gain/Loss", "7100", "OthIncome", None, ()),
    ("hub_prepaid", "Prepaid credit", "2310", "OthCurrLiab", None, ()),
    ("hub_write_off", "Bad debt", "6300", "Expense", None, ()),
    ("hub_disputes", "Disputes", "6400", "Expense", None, ()),
    ("hub_fees", "Stripe fees", "6200", "Expense", None, ()),
    ("hub_fx", "Exchange differences", "7200", "OthIncome", None, ()),
    ("hub_us_bank_fees", "US bank fees", "6201", "Expense", None, ("1",)),
)  # fmt: skip
"""External id, name, number, type, currency, subsidiaries (none: all). Internal id = place in this list. A bank account
holds one currency and belongs to one subsidiary: a deposit takes both from it (Records Browser 2022.1, Deposit)."""
_SEGMENTS = {
    "department": (("hub_sales_dept", "Sales"), ("hub_support", "Support")),
    "classification": (("hub_recurring", "Recurring"), ("hub_one_off", "One-off")),
    "location": (("hub_seattle", "Seattle"), ("hub_berlin", "Berlin")),
}
TAX_RATES = {"1": ("1", Decimal("8")), "2": ("2", Decimal("20"))}
"""Subsidiary -> tax code and percentage that SuiteTax works out by itself; our own small table."""


def masters() -> dict[str, dict[str, Row]]:
    """Record type -> internal id -> fields. References are internal ids."""
    items: dict[str, dict[str, Row]] = {}
    for n, (kind, external_id, name, income) in enumerate(ITEMS, 101):
        items.setdefault(kind, {})[str(n)] = {
            "externalId": external_id, "itemId": name, "displayName": name, "isInactive": False,
            "incomeAccount": income, "subsidiary": ITEM_SUBSIDIARIES.get(external_id, ALL), "includeChildren": False,
        }  # fmt: skip
    currencies: dict[str, Row] = {
        str(n): {
            "name": code, "symbol": code, "currencyPrecision": Decimal(places), "exchangeRate": Decimal(rate),
            "isBaseCurrency": code in ("USD", "EUR"), "isInactive": False,
        }
        for n, (code, places, rate) in enumerate(CURRENCIES, 1)
    }  # fmt: skip
    return {
        "subsidiary": {
            "1": {"name": "Parent Company", "currency": "1", "isInactive": False},
            "2": {"name": "Europe", "currency": "4", "isInactive": False, "parent": "1"},
        },
        "currency": currencies,
        "account": {
            str(n): {
                "externalId": external_id, "acctName": name, "acctNumber": number, "acctType": (kind, kind),
                "currency": currency, "subsidiary": subsidiaries or ALL, "isInactive": False, "includeChildren": False,
                "isSummary": False,
            }
            for n, (external_id, name, number, kind, currency, subsidiaries) in enumerate(_ACCOUNTS, 1)
        },
        "accountingPeriod": _periods(),
        "term": {
            "1": {"name": "Net 15", "daysUntilNetDue": Decimal(15)},
            "2": {"name": "Net 30", "daysUntilNetDue": Decimal(30)},
        },
        "nexus": {
            "1": {"description": "Washington", "country": "US"},
            "2": {"description": "Germany", "country": "DE"},
        },
        "taxType": {"1": {"name": "US sales tax"}, "2": {"name": "VAT"}},
        "salesTaxItem": {
            "1": {"externalId": "hub_us_tax", "itemId": "US tax", "rate": "8%", "taxType": "1", "isInactive": False},
            "2": {"externalId": "hub_vat", "itemId": "VAT", "rate": "20%", "taxType": "2", "isInactive": False},
        },
        **{
            kind: {
                str(n): {"externalId": external_id, "name": name, "isInactive": False, "subsidiary": ALL}
                for n, (external_id, name) in enumerate(rows, 1)
            }
            for kind, rows in _SEGMENTS.items()
        },
        **items,
    }  # fmt: skip


def _periods() -> dict[str, Row]:
    periods: dict[str, Row] = {}
    flags = ("closed", "arLocked", "apLocked", "allLocked", "allowNonGLChanges", "isQuarter", "isYear", "isAdjust")
    for number in range(YEARS * 12):
        year, month = FIRST_YEAR + number // 12, number % 12 + 1
        first, last = f"{year}-{month:02}-01", f"{year}-{month:02}-{calendar.monthrange(year, month)[1]}"
        name = f"{calendar.month_abbr[month]} {year}"
        periods[str(number + 1)] = {
            "periodName": name, "startDate": first, "endDate": last, "isPosting": True, **dict.fromkeys(flags, False),
        }  # fmt: skip
    return periods
