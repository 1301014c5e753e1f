"""What AvaTax holds of ours, for `hub reconcile`: the list of transactions, a thousand a page, without lines.

`ListTransactionsByCompany`: `$filter` on `date` (without one AvaTax lists the last 30 days only), `$top` at most
1,000, `$skip`, `$orderby`; `totalAmount` is net, `totalTax` beside it; of a document that was adjusted the list has the
current version (Avalara's API reference).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from connectors.avalara.client import AvalaraClient, Reply
from connectors.avalara.errors import fault, judge
from connectors.avalara.settings import AvalaraSettings
from hub.destination import Entry, Limit, Statement
from hub.errors import OutcomeError, Retry

NAME = "avalara"
PAGE = 1000
"""The most AvaTax gives at once."""
RECORDED = ("SalesInvoice", "ReturnInvoice")
KINDS: Mapping[str, str] = {"in": "invoice", "cn": "credit_note", "re": "refund", "pyr": "refund"}
"""What a Stripe id begins with -> kind of entry."""
_OURS = re.compile(r"(in|cn|re|pyr)_[A-Za-z0-9]+")
_MISSING = ("EntityNotFound", "4")


def create(
    settings: AvalaraSettings, limit: Limit | None = None, tables: Mapping[str, Mapping[str, Any]] | None = None
) -> Statement:
    """The statement, with a connection of its own; opens none yet. `limit`: of the account, over all processes. The
    lookup tables are not needed: AvaTax says itself what is tax.
    """
    del tables
    return AvalaraStatement(settings, limit)


class AvalaraStatement:
    """`Statement` of one AvaTax company. One call at a time, beside those of the deliveries."""

    def __init__(self, settings: AvalaraSettings, limit: Limit | None = None, *, page: int = PAGE) -> None:
        self._company, self._limit, self._page = settings.company_code, limit, page
        self._client = AvalaraClient(settings, 1)

    async def between(self, first: date, last: date) -> AsyncIterator[list[Entry]]:
        """Every recorded document of these days: one without our code may be a second copy of one that has it."""
        skip = 0
        while True:
            wanted = {
                "$filter": f"date ge '{first.isoformat()}' and date le '{last.isoformat()}'",
                "$include": "SummaryOnly",
                "$orderby": "id ASC",
                "$top": str(self._page),
                "$skip": str(skip),
            }
            reply = await self._call("list_transactions_by_company", self._company, wanted)
            rows = reply.body.get("value") if reply is not None and isinstance(reply.body, dict) else None
            if not isinstance(rows, list):
                raise OutcomeError(Retry("odd_answer", "AvaTax's list of transactions has no value"))
            yield [entry(row) for row in rows if row.get("type") in RECORDED]
            if len(rows) < self._page:
                return
            skip += self._page

    async def keyed(self, keys: Sequence[str]) -> list[Entry]:
        """By code and type, one by one: a list of codes in a filter is nothing that Avalara promises."""
        found = []
        for key in keys:
            type_, _, code = key.partition(" ")
            include = {"$include": "SummaryOnly"}
            reply = await self._call("get_transaction_by_code_and_type", self._company, code, type_, include)
            if reply is not None:
                found.append(entry(reply.body))
        return found

    async def close(self) -> None:
        self._client.close()

    async def _call(self, method: str, *args: Any) -> Reply | None:
        """None: there is no such document. Raises `OutcomeError` for all else that is no answer."""
        if self._limit is not None:
            await self._limit.turn()
        exchange = await self._client.call(method, *args)
        found = fault(exchange) if isinstance(exchange, Reply) else None
        if isinstance(exchange, Reply) and found is None:
            return exchange
        if isinstance(exchange, Reply) and found is not None and found.is_a(*_MISSING):
            return None
        outcome = judge(exchange, write=False)
        if getattr(outcome, "limited", False) and self._limit is not None:
            await self._limit.cut()
        raise OutcomeError(outcome)


def entry(row: Mapping[str, Any]) -> Entry:
    """A document as an entry; its amount is with tax, as the customer pays it. Pure."""
    code, type_ = str(row["code"]), str(row["type"])
    ours = _OURS.fullmatch(code)
    tax = Decimal(str(row.get("totalTax") or 0))
    return Entry(
        system=NAME,
        kind=_kind(type_, ours[1]) if ours else "other",
        object_id=code if ours else "",
        key=f"{type_} {code}" if ours else "",
        amount=Decimal(str(row.get("totalAmount") or 0)) + tax,
        currency=str(row.get("currencyCode") or "USD").upper(),
        date=date.fromisoformat(str(row["date"])[:10]),
        tax=tax,
        customer=row.get("customerCode"),
        status=row.get("status"),
        record=type_,
        vendor_id=str(row["id"]),
        mentions=" ".join(str(row[name]) for name in ("description", "purchaseOrderNo") if row.get(name)),
    )


def _kind(type_: str, prefix: str) -> str:
    return "void" if type_ == "ReturnInvoice" and prefix == "in" else KINDS[prefix]
