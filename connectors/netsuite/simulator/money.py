"""Amounts: the places of a currency, the rate of a transaction, and parts that add up."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from connectors.netsuite.simulator.faults import invalid_value
from connectors.netsuite.simulator.seed import RATES, Row

if TYPE_CHECKING:
    from connectors.netsuite.simulator.books import Books

ZERO = Decimal(0)
RATE = Decimal("0.00000001")


def rounded(books: Books, amount: Decimal, row: Row) -> Decimal:
    """To the places of the transaction's currency, which are two or none: NetSuite has no third."""
    return amount.quantize(_cent(books, row["currency"]), ROUND_HALF_UP)


def base_currency(books: Books, subsidiary: str) -> str:
    return str(books.records["subsidiary"][subsidiary]["currency"])


def to_base(books: Books, amount: Decimal, row: Row) -> Decimal:
    """In the subsidiary's base currency, at the transaction's own rate."""
    cent = _cent(books, base_currency(books, row["subsidiary"]))
    return (amount * Decimal(row["exchangeRate"])).quantize(cent, ROUND_HALF_UP)


def parts(books: Books, amounts: Iterable[Decimal], row: Row) -> list[Decimal]:
    """Each amount in base currency so that together they are exactly the base amount of their sum."""
    total, before, found = ZERO, to_base(books, ZERO, row), []
    for amount in amounts:
        total += amount
        after = to_base(books, total, row)
        found.append(after - before)
        before = after
    return found


def rate_of(currency: str, base: str) -> Decimal:
    """Units of `base` for one of `currency`, from the account's table; eight places."""
    return (RATES[currency] / RATES[base]).quantize(RATE, ROUND_HALF_UP).normalize()


def settle_rate(books: Books, row: Row, old: Row | None, *, given: bool) -> None:
    """The transaction's rate: what the request gives, else what it had, else the table's. The base currency's own is 1
    and read-only (Records Browser 2022.1, Deposit); that another value is refused is the harsher reading."""
    base, rate = base_currency(books, row["subsidiary"]), row.get("exchangeRate") if given else None
    if row["currency"] == base:
        if rate not in (None, Decimal(1)):
            raise invalid_value(str(rate), "exchangeRate", "exchangeRate")
        row["exchangeRate"] = Decimal(1)
    elif rate is not None:
        if rate <= 0:
            raise invalid_value(str(rate), "exchangeRate", "exchangeRate")
    elif old is None or old["currency"] != row["currency"] or row["exchangeRate"] is None:
        row["exchangeRate"] = rate_of(row["currency"], base)


def _cent(books: Books, currency: str) -> Decimal:
    return Decimal(1).scaleb(-int(books.records["currency"][currency]["currencyPrecision"]))
