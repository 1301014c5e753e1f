"""The account: all records, who is called what, and how a write becomes a record or is refused as a whole."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from connectors.netsuite.simulator import gl, ledger
from connectors.netsuite.simulator.faults import denied, invalid_value, nonexistent, user_error
from connectors.netsuite.simulator.fields import read_body
from connectors.netsuite.simulator.money import ZERO
from connectors.netsuite.simulator.schema import ITEMS, KEYS, PARTY, RECORDS, TRANSACTIONS, WRITABLE, schema
from connectors.netsuite.simulator.seed import Row, masters
from connectors.netsuite.simulator.switches import Switches


class Books:
    """`records[kind][id]`: references inside are internal ids, numbers `Decimal`, sublists lists of rows."""

    def __init__(self, seed: int, today: str, switches: Switches | None = None) -> None:
        self.records: dict[str, dict[str, Row]] = {**{kind: {} for kind in (*WRITABLE, *ITEMS)}, **masters()}
        self.today = today
        self.version = 0
        """Rises with every change."""
        self.configure(switches or Switches())
        self._last_id, self._last_line = 1000 + seed % 1000, 0
        self._names = {
            (_space(kind), row["externalId"].lower()): (kind, number)
            for kind, rows in self.records.items()
            for number, row in rows.items()
            if row.get("externalId")
        }
        self._applied: dict[str, dict[str, Decimal]] = {}
        """Document -> what is applied to it -> amount, in the order of the applications."""
        self._kinds: dict[str, str] = {}
        """Transaction -> its kind."""
        self._deposits: dict[str, str] = {}
        """Payment -> the deposit it is in."""
        self._parties: dict[str, dict[str, str]] = {}
        """Customer -> its transactions: id -> kind."""
        self._entity_ids: dict[str, str] = {}
        self.posted: dict[str, list[gl.Post]] = {}
        """Transaction -> its ledger lines."""
        self._booked: dict[str, tuple[str, str]] = {}
        """Transaction -> the subsidiary and currency its lines count in."""
        self.balances: dict[tuple[str, str], Decimal] = {}
        """Subsidiary and account -> base amount, debit positive."""
        self.foreign: dict[tuple[str, str, str], Decimal] = {}
        """Subsidiary, account and currency -> amount."""
        self.carried: dict[tuple[str, str, str], Decimal] = {}
        """The same in base currency."""

    def configure(self, switches: Switches) -> None:
        self.switches, self.schema = switches, schema(switches)
        self.version += 1

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

    def transaction(self, number: str) -> Row:
        return self.records[self._kinds[number]][number]

    def kind_of(self, number: str) -> str:
        """A transaction's record type."""
        return self._kinds[number]

    def applied(self, doc: str, *, without: str | None = None) -> Decimal:
        """What others put on a document; `without`: the one that is being written."""
        return sum((a for n, a in self._applied.get(doc, {}).items() if n != without), ZERO)

    def applications(self, doc: str) -> Mapping[str, Decimal]:
        """What is applied to a document, oldest first."""
        return self._applied.get(doc, {})

    def deposit_of(self, payment: str) -> str | None:
        return self._deposits.get(payment)

    def transactions(self, customer: str) -> dict[str, str]:
        """A customer's transactions: internal id -> kind."""
        return self._parties.get(customer, {})

    def called(self, entity_id: str) -> str | None:
        """The customer with this entity id."""
        return self._entity_ids.get(entity_id.lower())

    def line_id(self) -> Decimal:
        """The next number of a line that has one of its own."""
        self._last_line += 1
        return Decimal(self._last_line)

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
            raise denied(kind, f"Permission Violation: this simulator keeps {kind} read-only.")
        read = read_body(self.schema, kind, body, self.resolve, strict_names=strict_names)
        old = self.records[kind].get(number or "")
        row: Row = copy.deepcopy(old) if old else self._blank(kind)
        row |= read.values
        if name is not None:
            if read.values.get("externalId", name) != name:
                raise invalid_value(str(read.values["externalId"]), "externalId", "externalId")
            row["externalId"] = row.get("externalId") or name
        for sublist, rows in read.lists.items():
            row[sublist] = _merge(sublist, row[sublist], rows, whole=sublist in replace)
        self._claim(kind, number, row.get("externalId"))
        target = number or str(self._last_id + 1)
        ledger.check(self, kind, target, row, old, {*read.values, *read.lists})
        self._last_id = max(self._last_id, int(target))
        self._forget(kind, target, old)
        self._note(kind, target, row)
        self.records[kind][target] = row
        self._book(kind, target, _documents(old) | _documents(row))
        return target, read.ignored

    def delete(self, kind: str, number: str | None) -> None:
        if kind not in WRITABLE:
            raise denied(kind, f"Permission Violation: this simulator keeps {kind} read-only.")
        if number is None:
            raise nonexistent()
        if self.transactions(number) or self._applied.get(number) or number in self._deposits:
            raise user_error("This record cannot be deleted because it has dependent records.")
        row = self.records[kind].pop(number)
        self._forget(kind, number, row)
        self._book(kind, number, _documents(row))

    def _blank(self, kind: str) -> Row:
        lists = [name for name, spec in RECORDS[kind].items() if spec.startswith("list:")]
        return {name: [] for name in ("apply", *lists)}

    def _note(self, kind: str, number: str, row: Row) -> None:
        if row.get("externalId"):
            self._names[_space(kind), row["externalId"].lower()] = (kind, number)
        if kind == "customer":
            self._entity_ids[row["entityId"].lower()] = number
            return
        self._kinds[number] = kind
        if kind in PARTY:
            self._parties.setdefault(row[PARTY[kind]], {})[number] = kind
        for line in row["apply"]:
            self._applied.setdefault(line["doc"], {})[number] = line["amount"]
        for line in row.get("payment", ()) if kind == "deposit" else ():
            self._deposits[str(line["id"])] = number

    def _forget(self, kind: str, number: str, row: Row | None) -> None:
        if row is None:
            return
        if row.get("externalId"):
            self._names.pop((_space(kind), row["externalId"].lower()))
        if kind == "customer":
            self._entity_ids.pop(row["entityId"].lower())
            return
        self._kinds.pop(number)
        if kind in PARTY:
            self._parties[row[PARTY[kind]]].pop(number)
        for line in row["apply"]:
            self._applied[line["doc"]].pop(number)
        for line in row["payment"] if kind == "deposit" else ():
            self._deposits.pop(str(line["id"]))

    def _book(self, kind: str, number: str, documents: Collection[str]) -> None:
        """Posts a transaction anew, and what its change may have moved by a cent: whatever else is applied to the same
        documents or to it, and the deposit it is in."""
        self.version += 1
        if kind == "customer":
            return
        again = {by for doc in (*documents, number) for by in self._applied.get(doc, {})} - {number}
        again |= {self._deposits[n] for n in (number, *again) if n in self._deposits}
        for each in [number, *sorted(again)]:
            self._count(each, -1)
            if each in self._kinds:
                row = self.transaction(each)
                self.posted[each] = gl.posts(self, self._kinds[each], each, row)
                self._booked[each] = (row["subsidiary"], row["currency"])
                self._count(each, 1)
            else:
                self.posted.pop(each, None)

    def _count(self, number: str, sign: int) -> None:
        for post in self.posted.get(number, ()):
            subsidiary, currency = self._booked[number]
            key = (subsidiary, post.account)
            self.balances[key] = self.balances.get(key, ZERO) + sign * post.base
            whole = (*key, currency)
            self.carried[whole] = self.carried.get(whole, ZERO) + sign * post.base
            if post.foreign:
                self.foreign[whole] = self.foreign.get(whole, ZERO) + sign * post.foreign

    def _claim(self, kind: str, number: str | None, name: str | None) -> None:
        owner = self._names.get((_space(kind), name.lower())) if name else None
        if owner and owner != (kind, number):
            what = "entity" if kind == "customer" else "record"
            raise user_error(f"This {what} already exists.")


def _space(kind: str) -> str:
    """External ids are unique per record type; all transactions, and all items, share one space."""
    return "transaction" if kind in TRANSACTIONS else "item" if kind in ITEMS else kind


def _documents(row: Row | None) -> set[str]:
    return {line["doc"] for line in row.get("apply", ())} if row else set()


def _merge(name: str, old: list[Row], rows: list[Row] | None, *, whole: bool) -> list[Row]:
    """The lines after a write. Without `?replace=` a line that matches none by its key is added to those there are: an
    item line has no key but `line`, so the same body sent twice leaves twice the lines."""
    if rows is None:
        return []
    key = KEYS[name]
    merged: list[Row] = [] if whole else copy.deepcopy(old)
    known = {row[key]: place for place, row in enumerate(old) if row.get(key) is not None} if key else {}
    for number, row in enumerate(rows):
        place = known.get(row[key]) if key and row.get(key) is not None else None
        if key in ("line", "id") and name != "payment" and row.get(key) is not None and place is None:
            raise invalid_value(str(row[key]), key, f"{name}.items[{number}].{key}")
        if place is None or whole:
            merged.append({**(old[place] if place is not None else {}), **row})
        else:
            merged[place].update(row)
    if key == "line":
        numbered = str if name in ("other", "cashback") else Decimal
        for number, row in enumerate(merged, 1):
            row["line"] = numbered(number)
    return merged
