"""Into which accounting period a transaction goes, and whether it may.

A closed period takes no posting at all, "All Locked" none from this role, "A/R Locked" no receivables (NetSuite help,
"Closing Accounting Periods"). Editing a transaction needs its old period open too, unless the period allows
non-G/L changes and nothing that posts is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.netsuite.simulator.faults import NsError, invalid_value, user_error
from connectors.netsuite.simulator.schema import PARTY
from connectors.netsuite.simulator.seed import FIRST_YEAR, Row

if TYPE_CHECKING:
    from connectors.netsuite.simulator.books import Books


def outside() -> NsError:
    """The one text recorded for closed, locked and mismatched periods."""
    return user_error("The transaction date you specified is not within the date range of your accounting period.")


def settle(books: Books, kind: str, row: Row, old: Row | None, *, given: bool) -> None:
    """Sets `postingPeriod`. `given`: whether the request names it. Raises the `NsError` of a period that is shut."""
    row["tranDate"] = row.get("tranDate") or books.today
    natural = period_of(row["tranDate"])
    if natural not in books.records["accountingPeriod"]:
        raise outside()
    named = row.get("postingPeriod") if given else None
    if named is None and old is not None and old["tranDate"] == row["tranDate"]:
        named = old["postingPeriod"]
    allowed = books.switches.date_outside_period == "Allow"
    if named is None:
        named = natural if is_open(books, kind, natural) or not allowed else _default(books, kind)
    if named not in books.records["accountingPeriod"]:
        raise invalid_value(str(named), "postingPeriod", "postingPeriod")
    row["postingPeriod"] = named
    if named != natural and not allowed:
        raise outside()
    for number in {named, old["postingPeriod"] if old else named}:
        if not is_open(books, kind, number) and not _harmless(books, number, row, old):
            raise outside()


def period_of(date: str) -> str:
    """The internal id of the month a date is in."""
    return str((int(date[:4]) - FIRST_YEAR) * 12 + int(date[5:7]))


def is_open(books: Books, kind: str, number: str) -> bool:
    period = books.records["accountingPeriod"].get(number)
    if period is None:
        return False
    return not (period["closed"] or period["allLocked"] or (period["arLocked"] and kind in PARTY))


def _default(books: Books, kind: str) -> str:
    """What NetSuite picks itself for a date in a closed period: the first open period of all, or today's."""
    if books.switches.closed_period_default == "Current Period":
        return period_of(books.today)
    return next((n for n in books.records["accountingPeriod"] if is_open(books, kind, n)), "")


_POSTING = (
    "tranDate", "postingPeriod", "currency", "exchangeRate", "subsidiary", "account", "arAcct", "entity", "customer",
    "total", "taxTotal",
)  # fmt: skip
_LINES = ("item", "account", "amount", "debit", "credit", "doc", "id", "department", "class", "location")


def _harmless(books: Books, number: str, row: Row, old: Row | None) -> bool:
    if old is None or not books.records["accountingPeriod"][number]["allowNonGLChanges"]:
        return False
    return posting(row) == posting(old)


def posting(row: Row) -> list[object]:
    """What of a transaction makes its ledger lines."""
    lists = ("item", "apply", "payment", "other", "cashback", "line")
    found: list[object] = [row.get(name) for name in _POSTING]
    found += [[line.get(name) for name in _LINES] for each in lists for line in row.get(each, ())]
    return found
