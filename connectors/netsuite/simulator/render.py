"""Records as NetSuite shows them, and JSON whose numbers are exact."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from connectors.netsuite.simulator.books import Books
from connectors.netsuite.simulator.ledger import computed
from connectors.netsuite.simulator.schema import ITEMS, PARTY, SALES, SUBRECORDS, TRANSACTIONS
from connectors.netsuite.simulator.seed import Row

RECORD_PATH = "/services/rest/record/v1"


def encode(value: Any) -> bytes:
    """JSON, `Decimal` as a number literal."""
    return _text(value).encode()


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def links(address: str) -> list[dict[str, str]]:
    return [{"rel": "self", "href": address}]


def collection(base: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    count = len(items)
    return {"links": links(base), "count": count, "hasMore": False, "items": items, "offset": 0, "totalResults": count}


def show(
    books: Books, base: str, kind: str, number: str, *, expand: bool, fields: Collection[str] | None, plain_enums: bool
) -> dict[str, Any]:
    """A record by GET. `base`: scheme, host and mount. Sublists are links unless expanded."""
    row = {**books.records[kind][number], **computed(books, kind, number, books.records[kind][number])}
    address = f"{base}{RECORD_PATH}/{kind}/{number}"
    shown: dict[str, Any] = {"links": links(address), "id": number}
    for name, spec in books.schema.records[kind].items():
        if fields is not None and name not in fields:
            continue
        if spec.startswith("list:"):
            rows = row.get(name, [])
            part: dict[str, Any] = {"links": links(f"{address}/{name}")}
            if expand:
                part |= {"items": [_line(books, base, name, r) for r in rows], "totalResults": len(rows)}
            shown[name] = part
        elif row.get(name) is not None:
            shown[name] = _field(books, base, spec.lstrip("!"), row[name], plain_enums=plain_enums)
    return shown


def _line(books: Books, base: str, name: str, row: Row) -> dict[str, Any]:
    line = {
        c: _field(books, base, s.lstrip("!"), row[c], plain_enums=False)
        for c, s in books.schema.sublists[name].items()
        if row.get(c) is not None
    }
    if name == "apply":
        line["total"] = books.transaction(row["doc"])["total"]
        line["type"] = TYPE_NAMES[books.kind_of(row["doc"])]
    return line


def _field(books: Books, base: str, spec: str, value: Any, *, plain_enums: bool) -> Any:
    kind, _, target = spec.partition(":")
    if kind == "enum":
        return value[0] if plain_enums else {"id": value[0], "refName": value[1]}
    if kind in ("country", "taxref"):
        return value if plain_enums and kind == "country" else {"id": value, "refName": value}
    if kind == "sub":
        known = SUBRECORDS[target]
        return {c: _field(books, base, s, value[c], plain_enums=plain_enums) for c, s in known.items() if value.get(c)}
    if kind == "refs":
        rows = [_field(books, base, f"ref:{target}", each, plain_enums=plain_enums) for each in value]
        return {"items": rows, "totalResults": len(rows)}
    if kind != "ref":
        return value
    owner = owner_of(books, target, value)
    return {"links": links(f"{base}{RECORD_PATH}/{owner}/{value}"), "id": value, "refName": called(books, owner, value)}


def owner_of(books: Books, target: str, number: str) -> str:
    """The record type behind a reference to `item`, `transaction` or a type itself."""
    kinds = {"item": ITEMS, "transaction": TRANSACTIONS}.get(target, (target,))
    return next(k for k in kinds if number in books.records[k])


def called(books: Books, kind: str, number: str) -> str:
    """What a record is called where it is referred to."""
    row = books.records[kind][number]
    names = ("entityId", "itemId", "symbol", "name", "acctName", "periodName", "description", "tranId")
    return str(next((row[n] for n in names if row.get(n)), number))


TYPE_NAMES = {
    "invoice": "Invoice", "creditMemo": "Credit Memo", "customerPayment": "Payment",
    "customerRefund": "Customer Refund", "deposit": "Deposit", "journalEntry": "Journal",
}  # fmt: skip


def plain(books: Books) -> dict[str, Any]:
    """The business records for tie-outs, money as text, references by external id or symbol; then the balances that are
    not nothing, debit positive: `balances` by subsidiary and account (external id, or name) in base currency, `foreign`
    by subsidiary, account and currency, `carried` the same in base currency."""
    found: dict[str, Any] = {
        kind: [_plain(books, kind, n, r) for n, r in books.records[kind].items()]
        for kind in ("customer", *TRANSACTIONS)
    }
    found["balances"] = balances(books)
    found["foreign"], found["carried"] = by_currency(books, books.foreign), by_currency(books, books.carried)
    return found


def balances(books: Books) -> dict[str, dict[str, str]]:
    """Subsidiary -> account -> base amount. Together they are nothing."""
    assert sum(books.balances.values()) == 0, "the trial balance does not sum to nothing"
    shown: dict[str, dict[str, str]] = {}
    for (subsidiary, account), amount in sorted(books.balances.items()):
        if amount:
            shown.setdefault(subsidiary, {})[name_of(books, account)] = str(amount)
    return shown


def by_currency(books: Books, amounts: Mapping[tuple[str, str, str], Decimal]) -> dict[str, dict[str, dict[str, str]]]:
    """Subsidiary -> account -> currency of the transactions -> amount, if there is any."""
    shown: dict[str, dict[str, dict[str, str]]] = {}
    for (subsidiary, account, currency), amount in sorted(amounts.items()):
        if amount:
            code = books.records["currency"][currency]["symbol"]
            shown.setdefault(subsidiary, {}).setdefault(name_of(books, account), {})[code] = str(amount)
    return shown


def name_of(books: Books, account: str) -> str:
    row = books.records["account"][account]
    return str(row.get("externalId") or row["acctName"])


def _plain(books: Books, kind: str, number: str, row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"id": number}
    known = books.schema.records[kind]
    for name, value in {**row, **computed(books, kind, number, row)}.items():
        if name not in known or value is None:
            continue
        # A sublist or account that a document does not use is left out.
        if (known[name].startswith("list:") and not value and name != "apply") or known[name] == "ref:account":
            continue
        found[name] = _shown(value)
    if "currency" in row:
        found["currency"] = books.records["currency"][row["currency"]]["symbol"]
    if row.get("account"):
        found["account"] = name_of(books, row["account"])
    if kind in PARTY:
        found["customer"] = books.records["customer"][row[PARTY[kind]]].get("externalId")
    if kind in SALES:
        found["lines"] = [
            {
                "item": books.item(r["item"]).get("externalId"),
                "amount": str(r["amount"]),
                "description": r.get("description"),
            }
            for r in row["item"]
        ]
        found.pop("item", None)
    for name in ("other", "cashback", "line"):
        if name in found:
            found[name] = [{**r, "account": name_of(books, r["account"])} for r in found[name]]
    if "apply" in found:
        found["apply"] = [
            {"doc": books.transaction(a["doc"]).get("externalId"), "amount": str(a["amount"])} for a in row["apply"]
        ]
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, tuple):
        return value[1]
    if isinstance(value, list):
        return [_shown(each) for each in value]
    if isinstance(value, dict):
        return {k: _shown(v) for k, v in value.items() if v is not None}
    return value
