"""Records as NetSuite shows them, and JSON whose numbers are exact."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from connectors.netsuite.simulator.books import Books
from connectors.netsuite.simulator.ledger import computed
from connectors.netsuite.simulator.schema import ITEMS, RECORDS, SUBLISTS, TRANSACTIONS
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
    for name, spec in RECORDS[kind].items():
        if fields is not None and name not in fields:
            continue
        if spec.startswith("list:"):
            rows = row[name]
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
        for c, s in SUBLISTS[name].items()
        if row.get(c) is not None
    }
    if name == "apply":
        line["total"] = books.records["invoice"][row["doc"]]["total"]
    return line


def _field(books: Books, base: str, spec: str, value: Any, *, plain_enums: bool) -> Any:
    kind, _, target = spec.partition(":")
    if kind == "enum":
        return value[0] if plain_enums else {"id": value[0], "refName": value[1]}
    if kind != "ref":
        return value
    kinds = {"item": ITEMS, "transaction": TRANSACTIONS}.get(target, (target,))
    owner = next(k for k in kinds if value in books.records[k])
    row = books.records[owner][value]
    names = ("entityId", "itemId", "symbol", "name", "acctName", "periodName", "tranId")
    name = next((row[n] for n in names if row.get(n)), value)
    return {"links": links(f"{base}{RECORD_PATH}/{owner}/{value}"), "id": value, "refName": name}


def plain(books: Books) -> dict[str, list[dict[str, Any]]]:
    """The business records for tie-outs, money as text."""
    return {
        kind: [_plain(books, kind, n, r) for n, r in books.records[kind].items()]
        for kind in ("customer", *TRANSACTIONS)
    }


def _plain(books: Books, kind: str, number: str, row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"id": number}
    for name, value in {**row, **computed(books, kind, number, row)}.items():
        if name not in RECORDS[kind] or value is None:
            continue
        found[name] = _shown(value)
    if "currency" in row:
        found["currency"] = books.records["currency"][row["currency"]]["symbol"]
    if kind in TRANSACTIONS:
        customer = row["customer" if kind == "customerPayment" else "entity"]
        found["customer"] = books.records["customer"][customer].get("externalId")
    if kind in ("invoice", "creditMemo"):
        found["lines"] = [
            {
                "item": books.item(r["item"]).get("externalId"),
                "amount": str(r["amount"]),
                "description": r.get("description"),
            }
            for r in row["item"]
        ]
        found.pop("item", None)
    if "apply" in found:
        found["apply"] = [
            {"doc": books.records["invoice"][a["doc"]].get("externalId"), "amount": str(a["amount"])}
            for a in row["apply"]
        ]
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, tuple):
        return value[1]
    if isinstance(value, list):
        return [{k: _shown(v) for k, v in row.items()} for row in value]
    return value
