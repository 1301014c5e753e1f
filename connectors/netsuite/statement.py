"""What NetSuite holds of ours, for `hub reconcile`: transactions by SuiteQL, a thousand a question, paged by key.

Columns: `transaction` has `externalid`, `type`, `trandate`, `foreigntotal`, `foreignamountunpaid` (invoices),
`foreignpaymentamountunused` (payments, credit memos), `memo`, `status`, `entity`, `currency`; the subsidiary is only on
`transactionline`, on the line with `mainline = 'T'` (NetSuite help, "SuiteQL"; the account's own Records Catalog has
them all). Every value comes as text, column names in lower case; a query ends after 100,000 rows, so the next page is
asked for by id. Not known: the sign of the totals of payments and credit memos; here they are without one, as on the
record. Nor whether an amount that is nought is left out: what is not given counts as nought.

The tax of an invoice or credit memo is what is on its lines of the tax items (`HUB_NETSUITE_TAX=line`), and on the
lines that NetSuite makes for tax (`taxline = 'T'`: SuiteTax, a tax bundle), in the document's currency: one more
question for each page. Both count whatever the setting is today, so that older documents are right, and a bundle's tax
is seen. Not known: the sign of a line's amount, so tax has none here, as the totals; and whether SuiteTax's tax is on
such lines in every account.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, TypeAlias

from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.errors import judge
from connectors.netsuite.limit import Limit
from connectors.netsuite.settings import NetSuiteSettings
from connectors.netsuite.wire import loads
from hub.destination import Entry, Statement
from hub.destination import Limit as SharedLimit
from hub.errors import OutcomeError, Retry, Unknown

Tables: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Lookup tables by name (`mappings/lookups`)."""
NAME = "netsuite"
PAGE = 1000
"""The most NetSuite gives at once."""
OURS = "stripe_"
RECORDS: Mapping[str, str] = {
    "CustInvc": "invoice",
    "CustCred": "creditMemo",
    "CustPymt": "customerPayment",
    "CustRfnd": "customerRefund",
    "Deposit": "deposit",
    "Journal": "journalEntry",
}
"""Type of a transaction -> record of the REST service."""
WORDS: Mapping[str, str] = {
    "void": "void",
    "writeoff": "write_off",
    "recovered": "recovery",
    "bal": "balance",
    "replaces": "replaced",
    "unbal": "balance_returned",
    "outside": "outside",
    "memo": "memo",
    "reinstated": "reinstatement",
    "paidback": "paid_back",
    "failed": "failed",
}
"""`stripe_<word>_<id>` -> kind of entry."""
KINDS: Mapping[str, str] = {
    "in": "invoice",
    "cn": "credit_note",
    "inpay": "payment",
    "re": "refund",
    "pyr": "refund",
    "dp": "dispute",
    "du": "dispute",
    "po": "payout",
}
"""`stripe_<id>`: what the id begins with -> kind of entry."""
VOIDED = "V"
"""Status of an invoice that somebody voided in NetSuite. That of other records is not known."""
TAXED = ("CustInvc", "CustCred")
"""Types of transaction that have tax."""
TAX = "tax"
"""What tax is called in the lookup table of the items."""

_SELECT = """
SELECT t.id, t.externalid, t.type, TO_CHAR(t.trandate, 'YYYY-MM-DD') AS day, t.foreigntotal, t.foreignamountunpaid,
       t.foreignpaymentamountunused, t.memo, t.status, c.externalid AS customer, m.symbol AS currency, l.subsidiary
FROM transaction t
LEFT JOIN transactionline l ON l.transaction = t.id AND l.mainline = 'T'
JOIN currency m ON m.id = t.currency
LEFT JOIN customer c ON c.id = t.entity
WHERE t.type IN ('CustInvc', 'CustCred', 'CustPymt', 'CustRfnd', 'Deposit', 'Journal') AND
"""
_BETWEEN = """
t.id > ? AND t.trandate >= TO_DATE(?, 'YYYY-MM-DD') AND t.trandate <= TO_DATE(?, 'YYYY-MM-DD')
AND (t.externalid LIKE 'stripe_%' OR c.externalid LIKE 'stripe_%' OR t.memo LIKE '%po_%') ORDER BY t.id
"""
_TAX = """
SELECT l.transaction AS id, SUM(l.foreignamount) AS tax FROM transactionline l LEFT JOIN item i ON i.id = l.item
WHERE l.transaction IN ({ids}) AND ({tax}) GROUP BY l.transaction
"""


def create(settings: NetSuiteSettings, limit: SharedLimit | None = None, tables: Tables | None = None) -> Statement:
    """The statement, with a connection of its own; opens none yet. `limit`: of the account, over all processes.
    `tables`: the lookup tables; without the one of the items nothing is said of tax that is on lines.
    """
    return NetSuiteStatement(settings, limit, tables)


def tax_items(tables: Tables) -> list[str]:
    """External ids of the items that tax is booked on, for whichever account, currency and country. Pure."""
    entries = tables.get("netsuite_items", {})
    return sorted({str(item) for key, item in entries.items() if TAX in key.split("/") and item})


class NetSuiteStatement:
    """`Statement` of one NetSuite account. One request at a time, beside those of the deliveries."""

    def __init__(
        self,
        settings: NetSuiteSettings,
        limit: SharedLimit | None = None,
        tables: Tables | None = None,
        *,
        page: int = PAGE,
    ) -> None:
        self._client = NetSuiteClient(settings, Limit(1), shared=limit)
        self._items = tax_items(tables or {})
        self._says_tax = bool(self._items) or settings.tax == "suitetax"
        self._shared, self._page = limit, page
        self._rng = random.Random()  # noqa: S311 - spreads retries, protects nothing

    async def between(self, first: date, last: date) -> AsyncIterator[list[Entry]]:
        """Our transactions of these days, and those of our customers, or about our payouts, without our external id."""
        after = 0
        while True:
            rows = await self._ask(_SELECT + _BETWEEN, [after, first.isoformat(), last.isoformat()])
            if rows:
                yield await self._entries(rows)
                after = int(rows[-1]["id"])
            if len(rows) < self._page:
                return

    async def keyed(self, keys: Sequence[str]) -> list[Entry]:
        found: list[Entry] = []
        for start in range(0, len(keys), self._page):
            some = list(keys[start : start + self._page])
            places = _places(some)
            rows = await self._ask(f"{_SELECT} t.externalid IN ({places}) ORDER BY t.id", some)
            found += await self._entries(rows)
        # NetSuite may compare external ids without regard to letter case; Stripe ids differ by it.
        return [e for e in found if e.key in keys]

    async def close(self) -> None:
        await self._client.close()

    async def _entries(self, rows: Sequence[Mapping[str, str]]) -> list[Entry]:
        ids = [int(row["id"]) for row in rows if row["type"] in TAXED] if self._says_tax else []
        taxes: dict[str, Decimal] = {str(number): Decimal(0) for number in ids}
        if ids:
            on_items = f" OR i.externalid IN ({_places(self._items)})" if self._items else ""
            query = _TAX.format(ids=_places(ids), tax=f"l.taxline = 'T'{on_items}")
            for row in await self._ask(query, [*ids, *self._items]):
                taxes[row["id"]] = abs(Decimal(row.get("tax") or 0))
        return [entry(row, taxes.get(row["id"])) for row in rows]

    async def _ask(self, query: str, params: Sequence[Any]) -> list[dict[str, str]]:
        body = {"q": " ".join(query.split()), "params": list(params)}
        size, how = {"limit": str(self._page)}, {"Prefer": "transient"}
        try:
            reply = await self._client.call(
                "POST", "/query/v1/suiteql", record="suiteql", params=size, body=body, headers=how
            )
        except OutcomeError as error:
            if isinstance(error.outcome, Unknown):  # a question has no effect that could be unknown
                raise OutcomeError(Retry("NO_REPLY", error.outcome.reason)) from error
            raise
        if reply.status != 200 or reply.is_page:
            outcome = judge(reply, writing=False, rng=self._rng)
            if getattr(outcome, "limited", False) and self._shared is not None:
                await self._shared.cut()
            raise OutcomeError(outcome)
        rows: Any = loads(reply.text).get("items")
        if not isinstance(rows, list):
            raise OutcomeError(Retry("ODD_ANSWER", "NetSuite's answer has no items"))
        return rows


def _places(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def entry(row: Mapping[str, str], tax: Decimal | None = None) -> Entry:
    """A row of `transaction` as an entry, with its tax if that is known. Pure."""
    external, type_ = row.get("externalid") or "", row["type"]
    kind, object_id = named(external)
    customer = row.get("customer") or ""
    total = abs(Decimal(row.get("foreigntotal") or 0))
    left = row.get("foreignamountunpaid") if type_ == "CustInvc" else row.get("foreignpaymentamountunused")
    return Entry(
        system=NAME,
        kind=kind,
        object_id=object_id,
        key=external if object_id else "",
        amount=total,
        currency=row["currency"].upper(),
        date=date.fromisoformat(row["day"]),
        tax=tax,
        open=abs(Decimal(left or 0)) if type_ in ("CustInvc", "CustCred", "CustPymt") else None,
        customer=customer.removeprefix(OURS) if customer.startswith(OURS) else None,
        status="voided" if row.get("status") == VOIDED else "booked",
        subsidiary=row.get("subsidiary"),
        record=RECORDS.get(type_, type_),
        vendor_id=row["id"],
        mentions=row.get("memo") or "",
    )


def named(external: str) -> tuple[str, str]:
    """(kind, Stripe id) of an external id of ours: `stripe_void_in_1` is ("void", "in_1"). ("other", ""): not ours."""
    if not external.startswith(OURS):
        return "other", ""
    rest = external.removeprefix(OURS)
    word, _, tail = rest.partition("_")
    if word in WORDS:
        return WORDS[word], tail
    return (KINDS[word], rest) if word in KINDS else ("other", rest)
