"""The account: all records, who is called what, and how a write becomes a record or is refused as a whole."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from connectors.netsuite.simulator import ledger
from connectors.netsuite.simulator.faults import NsError, invalid_value, nonexistent, user_error
from connectors.netsuite.simulator.fields import read_body
from connectors.netsuite.simulator.schema import ITEMS, KEYS, TRANSACTIONS, WRITABLE
from connectors.netsuite.simulator.seed import Row, masters


class Books:
    """`records[kind][id]`: references inside are internal ids, numbers `Decimal`, sublists lists of rows."""

    def __init__(self, seed: int, today: str) -> None:
        self.records: dict[str, dict[str, Row]] = {**{kind: {} for kind in (*WRITABLE, *ITEMS)}, **masters()}
        self.today = today
        self._last_id = 1000 + seed % 1000
        self._names = {
            (_space(kind), row["externalId"].lower()): (kind, number)
            for kind, rows in self.records.items()
            for number, row in rows.items()
            if row.get("externalId")
        }
        self._applied: dict[str, dict[str, Decimal]] = {}
        """Invoice -> payment or credit memo -> amount."""
        self._parties: dict[str, dict[str, str]] = {}
        """Customer -> its transactions: id -> kind."""
        self._entity_ids: dict[str, str] = {}

    def find(self, kind: str, address: str) -> str | None:
        """The internal id behind `647` or `eid:stripe_in_1`."""
        if address.startswith("eid:"):
            # Whether letter case counts is not known; this is the harsher reading.
            owner, number = self._names.get((_space(kind), address[4:].lower()), ("", ""))
            return number if owner == kind else None
        return address if address in self.records[kind] else None

    def resolve(self, target: str, reference: Mapping[str, Any]) -> str | None:
        """The internal id a reference means; `item` and `transaction` stand for several records."""
        kinds = {"item": ITEMS, "transaction": TRANSACTIONS}.get(target, (target,))
        by_id, by_name = reference.get("id"), reference.get("externalId")
        for kind in kinds:
            rows = self.records.get(kind, {})
            if by_id is not None:
                number: str | None = str(by_id)
            else:
                number = self.find(kind, f"eid:{by_name}") if rows and isinstance(by_name, str) else None
            if number in rows:
                return number
        return None

    def item(self, number: str) -> Row:
        return next(self.records[kind][number] for kind in ITEMS if number in self.records[kind])

    def applied(self, invoice: str, *, without: str | None = None) -> Decimal:
        """What payments and credit memos put on an invoice; `without`: the one that is being written."""
        return sum((a for n, a in self._applied.get(invoice, {}).items() if n != without), Decimal(0))

    def transactions(self, customer: str) -> dict[str, str]:
        """A customer's transactions: internal id -> kind."""
        return self._parties.get(customer, {})

    def called(self, entity_id: str) -> str | None:
        """The customer with this entity id."""
        return self._entity_ids.get(entity_id.lower())

    def save(
        self,
        kind: str,
        number: str | None,
        name: str | None,
        body: Any,
        replace: Collection[str],
        *,
        strict_names: bool,
    ) -> tuple[str, list[str]]:
        """Creates (`number` None) or changes a record: its id and the fields ignored. After `NsError` nothing has."""
        if kind not in WRITABLE:
            raise NsError(
                403, "INSUFFICIENT_PERMISSION", f"Permission Violation: this simulator keeps {kind} read-only."
            )
        read = read_body(kind, body, self.resolve, strict_names=strict_names)
        old = self.records[kind].get(number or "")
        row: Row = copy.deepcopy(old) if old else {"apply": [], "item": [], "currencyList": []}
        row |= read.values
        if name is not None:
            if read.values.get("externalId", name) != name:
                raise invalid_value(str(read.values["externalId"]), "externalId", "externalId")
            row["externalId"] = row.get("externalId") or name
        for sublist, rows in read.lists.items():
            row[sublist] = _merge(sublist, row[sublist], rows, whole=sublist in replace)
        self._claim(kind, number, row.get("externalId"))
        target = number or str(self._last_id + 1)
        ledger.check(self, kind, target, row, old)
        self._last_id = max(self._last_id, int(target))
        self._forget(kind, target, old)
        self._note(kind, target, row)
        self.records[kind][target] = row
        return target, read.ignored

    def delete(self, kind: str, number: str | None) -> None:
        if kind not in WRITABLE:
            raise NsError(
                403, "INSUFFICIENT_PERMISSION", f"Permission Violation: this simulator keeps {kind} read-only."
            )
        if number is None:
            raise nonexistent()
        if self.transactions(number) or self._applied.get(number):
            raise user_error("This record cannot be deleted because it has dependent records.")
        self._forget(kind, number, self.records[kind].pop(number))

    def _note(self, kind: str, number: str, row: Row) -> None:
        if row.get("externalId"):
            self._names[_space(kind), row["externalId"].lower()] = (kind, number)
        if kind == "customer":
            self._entity_ids[row["entityId"].lower()] = number
            return
        self._parties.setdefault(row["customer" if kind == "customerPayment" else "entity"], {})[number] = kind
        for line in row["apply"]:
            self._applied.setdefault(line["doc"], {})[number] = line["amount"]

    def _forget(self, kind: str, number: str, row: Row | None) -> None:
        if row is None:
            return
        if row.get("externalId"):
            self._names.pop((_space(kind), row["externalId"].lower()))
        if kind == "customer":
            self._entity_ids.pop(row["entityId"].lower())
            return
        self._parties[row["customer" if kind == "customerPayment" else "entity"]].pop(number)
        for line in row["apply"]:
            self._applied[line["doc"]].pop(number)

    def _claim(self, kind: str, number: str | None, name: str | None) -> None:
        owner = self._names.get((_space(kind), name.lower())) if name else None
        if owner and owner != (kind, number):
            what = "entity" if kind == "customer" else "record"
            raise user_error(f"This {what} already exists.")


def _space(kind: str) -> str:
    """External ids are unique per record type; all transactions, and all items, share one space."""
    return "transaction" if kind in TRANSACTIONS else "item" if kind in ITEMS else kind


def _merge(name: str, old: list[Row], rows: list[Row] | None, *, whole: bool) -> list[Row]:
    """The lines after a write. Without `?replace=` a line that matches none by its key is added to those there are: an
    item line has no key but `line`, so the same body sent twice leaves twice the lines."""
    if rows is None:
        return []
    key = KEYS[name]
    merged: list[Row] = [] if whole else copy.deepcopy(old)
    for number, row in enumerate(rows):
        match = next((m for m in old if row.get(key) is not None and m.get(key) == row[key]), None)
        if name == "item" and row.get(key) is not None and match is None:
            raise invalid_value(str(row[key]), key, f"{name}.items[{number}].{key}")
        if match is None or whole:
            merged.append({**(match or {}), **row})
        else:
            next(m for m in merged if m.get(key) == row[key]).update(row)
    if name == "item":
        for number, row in enumerate(merged, 1):
            row["line"] = Decimal(number)
    return merged
