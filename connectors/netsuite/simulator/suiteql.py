"""`POST /query/v1/suiteql`, for two questions: transactions and customers by external id.

    SELECT <columns> FROM transaction|customer [WHERE <column> = ?|'text'|number [AND ...]]

Every value comes back as text and every column in lower case, as the real service answers.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from connectors.netsuite.simulator.books import Books
from connectors.netsuite.simulator.faults import user_error
from connectors.netsuite.simulator.ledger import computed
from connectors.netsuite.simulator.schema import TRANSACTIONS

TYPES = {"invoice": "CustInvc", "customerPayment": "CustPymt", "creditMemo": "CustCred"}
COLUMNS = {
    "transaction": ("id", "externalid", "type", "trandate", "foreigntotal", "entity", "currency", "memo", "status"),
    "customer": ("id", "externalid", "entityid", "companyname", "email", "isinactive", "subsidiary"),
}
_QUERY = re.compile(r"\s*select\s+(.+?)\s+from\s+(\w+)(?:\s+where\s+(.+?))?\s*", re.IGNORECASE | re.DOTALL)
_TEST = re.compile(r"(\w+)\s*=\s*(\?|'((?:[^']|'')*)'|\d+)", re.IGNORECASE)


def run(books: Books, query: str, params: list[Any]) -> list[dict[str, Any]]:
    """The rows, as text. Raises the `NsError` for a query outside the subset."""
    found = _QUERY.fullmatch(query)
    table = found[2].lower() if found else ""
    if found is None or table not in COLUMNS:
        raise user_error("Invalid or unsupported search")
    columns = [_column(name.strip(), table) for name in found[1].split(",")]
    binds = iter(params)
    tests = [
        _test(part.strip(), table, binds)
        for part in re.split(r"\s+and\s+", found[3] or "", flags=re.IGNORECASE)
        if part
    ]
    rows = _transactions(books) if table == "transaction" else _customers(books)
    return [
        {"links": [], **{c: row[c] for c in columns if row[c] is not None}}
        for row in rows
        if all(row[name] == value for name, value in tests)
    ]


def _column(name: str, table: str) -> str:
    if name.lower() not in COLUMNS[table]:
        raise user_error(f"Search error occurred: Field '{name}' for record '{table}' was not found.")
    return name.lower()


def _test(text: str, table: str, binds: Any) -> tuple[str, str]:
    found = _TEST.fullmatch(text)
    if found is None:
        raise user_error("Invalid or unsupported search")
    value = next(binds, None) if found[2] == "?" else found[3].replace("''", "'") if found[3] is not None else found[2]
    return _column(found[1], table), str(value)


def _transactions(books: Books) -> list[dict[str, Any]]:
    rows = []
    for kind in TRANSACTIONS:
        for number, row in books.records[kind].items():
            status = computed(books, kind, number, row)["status"]
            sign = 1 if kind == "invoice" else -1
            rows.append(
                {
                    "id": number, "externalid": row.get("externalId"), "type": TYPES[kind], "trandate": row["tranDate"],
                    "foreigntotal": format(Decimal(sign) * row["total"], "f"), "memo": row.get("memo"),
                    "entity": row["customer" if kind == "customerPayment" else "entity"],
                    "currency": row["currency"], "status": status[0],
                }
            )  # fmt: skip
    return rows


def _customers(books: Books) -> list[dict[str, Any]]:
    return [
        {
            "id": number, "externalid": row.get("externalId"), "entityid": row["entityId"], "email": row.get("email"),
            "companyname": row.get("companyName"), "isinactive": "T" if row["isInactive"] else "F",
            "subsidiary": row["subsidiary"],
        }
        for number, row in books.records["customer"].items()
    ]  # fmt: skip
