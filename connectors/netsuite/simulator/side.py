"""What people do in the account behind the hub's back, and what goes wrong in it. Never over REST: a test calls it."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from connectors.netsuite.simulator.books import Books
from connectors.netsuite.simulator.faults import nonexistent
from connectors.netsuite.simulator.seed import Row
from connectors.netsuite.simulator.switches import Switches

Kind = Literal["changed", "unexpected", "unexpected_unsaved", "maintenance"]
"""`changed`: RCRD_HAS_BEEN_CHANGED, nothing saved. `unexpected`: saved, then 500. `unexpected_unsaved`: 500, nothing
saved. `maintenance`: the HTML page with 503, nothing saved."""
Lock = Literal["closed", "arLocked", "allLocked"]


@dataclass
class Trouble:
    """Meets the next writes of a record type (None: of any), as often as `times` says."""

    kind: Kind
    record: str | None
    times: int


class SideDoor:
    """Mixed into the simulator. Kinds are record types as in the address; `fields` are written as in a request body,
    amounts as `Decimal`, `int` or text."""

    _books: Books
    _troubles: list[Trouble]

    def configure(self, **changes: Any) -> None:
        """Change `Switches` by name; they hold until `reset`."""
        self._books.configure(dataclasses.replace(self._books.switches, **changes))

    @property
    def switches(self) -> Switches:
        return self._books.switches

    def close_period(self, month: str, how: Lock = "closed") -> None:
        """Close an accounting period, `2026-01`, or lock it."""
        self._period(month)[how] = True
        self._books.version += 1

    def open_period(self, month: str) -> None:
        """Open it again."""
        self._period(month).update(closed=False, arLocked=False, allLocked=False)
        self._books.version += 1

    def allow_non_gl_changes(self, month: str) -> None:
        """Tick "Allow Non-G/L Changes" of a period."""
        self._period(month)["allowNonGLChanges"] = True

    def disturb(self, kind: Kind, *, record: str | None = None, times: int = 1) -> None:
        """The next `times` writes of `record` meet this trouble."""
        self._troubles.append(Trouble(kind, record, times))

    def edit(self, kind: str, external_id: str, **fields: Any) -> None:
        """A person changes a record, by the account's rules: `edit("invoice", "stripe_in_1", tranDate="2026-02-01")`,
        `edit("invoice", ..., item={"items": [{"line": 1, "amount": 40}]})`."""
        self._books.save(kind, self._number(kind, external_id), None, _exact(fields), (), strict_names=True)

    def create(self, kind: str, external_id: str | None = None, **fields: Any) -> str:
        """A person makes a record: its internal id."""
        return self._books.save(kind, None, external_id, _exact(fields), (), strict_names=True)[0]

    def unapply(self, kind: str, external_id: str) -> None:
        """A person takes a payment or credit memo off everything it is applied to."""
        self.edit(kind, external_id, apply=None)

    def remove(self, kind: str, external_id: str) -> None:
        """A person deletes a record, after taking off what is applied to it and taking it out of its deposit."""
        number = self._number(kind, external_id)
        self._free(number)
        deposit = self._books.deposit_of(number)
        if deposit is not None:
            whole = self._books.transaction(deposit)
            if len(whole["payment"]) == 1 and not whole["other"]:
                self._books.delete("deposit", deposit)  # a deposit of nothing cannot be
            else:
                out = {"items": [{"id": int(number), "deposit": False}]}
                self._books.save("deposit", deposit, None, {"payment": out}, (), strict_names=True)
        self._books.delete(kind, number)

    def void(self, kind: str, external_id: str) -> None:
        """A person voids an invoice or credit memo: nothing is applied any more, every amount is nothing, the status is
        V. So NetSuite does it where voids are not made by reversing journals."""
        number = self._number(kind, external_id)
        self._free(number)
        row = self._books.records[kind][number]
        lines = [{"line": int(line["line"]), "amount": 0, "rate": 0} for line in row["item"]]
        body: dict[str, Any] = {"memo": "VOID", "item": {"items": lines}}
        if kind == "creditMemo":
            body["apply"] = None
        if self.switches.suitetax:
            body["taxDetails"] = None
        self._books.save(kind, number, None, body, (), strict_names=True)
        self._books.records[kind][number]["voided"] = True

    def _free(self, number: str) -> None:
        """Takes off what is applied to a document."""
        for by in list(self._books.applications(number)):
            owner, row = self._books.kind_of(by), self._books.transaction(by)
            if owner == "customerRefund" and len(row["apply"]) == 1:
                self._books.delete(owner, by)  # a refund of nothing cannot be
            else:
                off = {"items": [{"doc": {"id": number}, "apply": False}]}
                self._books.save(owner, by, None, {"apply": off}, (), strict_names=True)

    def duplicate(self, kind: str, external_id: str, new: str | None = None) -> str:
        """A person enters the same once more, applied to nothing, with the external id `new` or none: its internal
        id. A refund goes against the same credit memos, as far as they are open; a customer gets another entity id."""
        row: Row = copy.deepcopy(self._books.records[kind][self._number(kind, external_id)])
        body: dict[str, Any] = {}
        for name, spec in self._books.schema.records[kind].items():
            if name in ("externalId", "postingPeriod", "autoName") or spec.startswith("!") or row.get(name) is None:
                continue
            if spec.startswith("list:"):
                if (name != "apply" or kind == "customerRefund") and name != "payment":
                    lines = [self._line(name, each) for each in row[name]]
                    body[name] = {"items": [{k: v for k, v in x.items() if k not in ("line", "id")} for x in lines]}
            else:
                body[name] = _sent(spec, row[name])
        if kind == "customer":
            body["entityId"] = f"{row['entityId']} (2)"
        return self._books.save(kind, None, new, body, (), strict_names=True)[0]

    def _line(self, name: str, row: Row) -> Row:
        known = self._books.schema.sublists[name]
        return {
            c: _sent(s, row[c]) for c, s in known.items() if not s.startswith("!") and row.get(c) is not None
        }  # fmt: skip

    def _number(self, kind: str, external_id: str) -> str:
        number = self._books.find(kind, f"eid:{external_id}")
        if number is None:
            raise nonexistent()
        return number

    def _period(self, month: str) -> Row:
        periods = self._books.records["accountingPeriod"].values()
        return next(p for p in periods if p["startDate"].startswith(month))


def _sent(spec: str, value: Any) -> Any:
    """A stored value as a request has it."""
    return {"id": value} if spec.startswith("ref:") else value


def _exact(value: Any) -> Any:
    """Numbers as the JSON of a request gives them. Text stays text, so an amount as text becomes a number here."""
    if isinstance(value, dict):
        return {k: Decimal(v) if k in AMOUNTS and isinstance(v, str) else _exact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    return value


AMOUNTS = frozenset({"amount", "payment", "rate", "quantity", "debit", "credit", "exchangeRate", "taxAmount"})
