"""Shared by the tests of the books: Stripe's objects go through the real mappings and the connector, over HTTP, into
the simulated NetSuite; asked is what its general ledger says then. US dollars, debit positive."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from connectors.netsuite.destination import NetSuite
from hub.errors import Outcome, Receipt
from hub.mapping import Mappings
from hub.mapping.record import RecordMapping, Skip
from hub.model import Event, EventKind, Job, Link, Record
from tests.connectors.netsuite_kit import NOW, World

JAN, DAY = 1767571200, 86400
"""2026-01-05, midnight in UTC."""
ITEMS = "hub_subscription"


@dataclass
class Books:
    """What Stripe has (`objects`), and the hub that books it. `settings`: of the connector; mappings see them too."""

    w: World
    mappings: Mappings
    settings: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    destination: NetSuite = field(init=False)
    _written: set[tuple[str, str]] = field(default_factory=set)
    _links: dict[tuple[str, str], Link] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)
    _seen: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = self.w.settings(**self.settings).model_dump(mode="json")
        self._seen = {"timezone": "UTC", **{f"netsuite_{name}": value for name, value in chosen.items()}}
        self.destination = self.w.destination(**self.settings)
        self.add(id="cus_1", object="customer", name="Acme Ltd", email="pay@acme.example")

    def add(self, **obj: Any) -> dict[str, Any]:
        self.objects[obj["id"]] = obj
        return obj

    async def tell(self, type_: str, obj: dict[str, Any], created: int = JAN) -> list[Outcome]:
        """One event: every mapping that hears it, parents first, each a delivery's worth of records."""
        self.objects[obj["id"]] = obj
        outcomes: list[Outcome] = []
        event = {"type": type_, "created": created, "account": None}
        for mapping in self.mappings.for_event("netsuite", type_):
            records = [
                replace(r, link=self._links.get((r.object_id, r.record)))
                for r in self._records(mapping, obj["id"], event, own=True)
            ]
            if records:
                outcomes += await self.send(*records)
        return outcomes

    async def told(self, type_: str, obj: dict[str, Any], created: int = JAN) -> list[Receipt]:
        outcomes = await self.tell(type_, obj, created)
        assert all(isinstance(o, Receipt) for o in outcomes), outcomes
        return [o for o in outcomes if isinstance(o, Receipt)]

    async def send(self, *records: Record) -> list[Outcome]:
        event = Event(
            id="evt_1", kind=EventKind.SNAPSHOT, type="x", body=b"{}", created=NOW, received_at=NOW,
            seq=next(self._numbers),
        )  # fmt: skip
        outcomes = list(await self.destination.send([Job(1, event, records)]))
        if isinstance(outcomes[0], Receipt):
            self._written |= {(r.object_id, r.record) for r in records}
            self._links |= {(k.object_id, k.record): k for k in outcomes[0].links}
        return outcomes

    def balances(self) -> dict[str, Decimal]:
        """Account -> base currency, without those that are even."""
        found = self.w.sim.state()["balances"].get("1", {})
        return {name: Decimal(amount) for name, amount in found.items() if Decimal(amount)}

    def record(self, kind: str, key: str) -> dict[str, Any]:
        found: dict[str, Any] = next(r for r in self.w.sim.state()[kind] if r["externalId"] == key)
        return found

    def writes(self) -> list[str]:
        """Every write call so far: the record's external id."""
        return [p.split("eid:")[1].split("?")[0] for m, p, _ in self.w.tap.seen if m in ("PUT", "PATCH")]

    def _records(self, mapping: RecordMapping, id_: str, event: dict[str, Any], *, own: bool) -> list[Record]:
        """The record, with the parents that are not there yet before it: as `hub.compose` does it, in few words."""
        roots: dict[str, Any] = {mapping.object: copy.deepcopy(self.objects[id_]), "event": event}
        while True:
            found = mapping.needed(roots, self._seen)
            lists = mapping.listed(roots, self._seen)
            if not found and not lists:
                break
            roots |= {name: self.objects[i] if i else None for name, (_, i) in found.items()}
            roots |= {name: self._list(kind, by, i) if i else [] for name, (kind, by, i) in lists.items()}
        made = mapping.apply(roots, self._seen)
        if isinstance(made, Skip):
            return []
        if not own and (made.object_id, made.record) in self._written:
            return []
        before = [
            record
            for parent, obj in self.mappings.parent_roots(mapping, roots)
            if obj is not None
            for record in self._records(parent, obj["id"], event, own=False)
        ]
        return list({(r.key, r.record): r for r in (*before, made)}.values())

    def _list(self, kind: str, by: str, id_: str) -> list[dict[str, Any]]:
        def belongs(obj: dict[str, Any]) -> bool:
            return obj.get(by) == id_ or (obj.get("payment") or {}).get(by) == id_

        return [copy.deepcopy(o) for o in self.objects.values() if o["object"] == kind and belongs(o)]


def invoice(lines: list[dict[str, Any]], total: int, **more: Any) -> dict[str, Any]:
    """Finalised on 2026-01-05, in US dollars."""
    return {
        "id": "in_1", "object": "invoice", "number": "ACME-1", "customer": "cus_1", "currency": "usd", "created": JAN,
        "status": "open", "customer_address": {"country": "US"}, "starting_balance": 0, "ending_balance": 0,
        "status_transitions": {"finalized_at": JAN}, "lines": {"object": "list", "has_more": False, "data": lines},
        "subtotal": sum(line["amount"] for line in lines), "total": total, "amount_paid": 0,
        "pre_payment_credit_notes_amount": 0, **more,
    }  # fmt: skip


def line(amount: int, **more: Any) -> dict[str, Any]:
    return {"id": f"il_{abs(amount)}", "amount": amount, "quantity": 1, "description": "Plan", **more}


def tax(amount: int, **more: Any) -> dict[str, Any]:
    return {"amount": amount, "tax_behavior": "exclusive", "tax_rate_details": {"tax_rate": "txr_1"}, **more}


def paid(amount: int, day: int = 1, n: int = 1, **more: Any) -> dict[str, Any]:
    """An InvoicePayment of `in_1`, `day` days after the invoice."""
    return {
        "id": f"inpay_{n}", "object": "invoice_payment", "invoice": "in_1", "amount_paid": amount, "currency": "usd",
        "status": "paid", "status_transitions": {"paid_at": JAN + day * DAY},
        "payment": {"type": "payment_intent", "payment_intent": f"pi_{n}"}, **more,
    }  # fmt: skip


def note(before: int, after: int, **more: Any) -> dict[str, Any]:
    """A credit note on `in_1`, two days after it, over one line."""
    total = before + after
    return {
        "id": "cn_1", "object": "credit_note", "number": "ACME-1-CN-1", "invoice": "in_1", "customer": "cus_1",
        "currency": "usd", "created": JAN + 2 * DAY, "status": "issued", "subtotal": total, "total": total,
        "pre_payment_amount": before, "post_payment_amount": after, "refunds": [],
        "lines": {"object": "list", "has_more": False, "data": [{"id": "cnli_1", "amount": total, "quantity": 1}]},
        **more,
    }  # fmt: skip


def refund(amount: int, **more: Any) -> dict[str, Any]:
    return {
        "id": "re_1", "object": "refund", "amount": amount, "currency": "usd", "charge": "ch_1", "reason": None,
        "payment_intent": "pi_1", "created": JAN + 3 * DAY, "status": "succeeded", **more,
    }  # fmt: skip


def dispute(amount: int, **more: Any) -> dict[str, Any]:
    moved = [{"id": "txn_d", "created": JAN + 4 * DAY}, {"id": "txn_w", "created": JAN + 9 * DAY}]
    return {
        "id": "dp_1", "object": "dispute", "amount": amount, "currency": "usd", "charge": "ch_1", "created": JAN,
        "payment_intent": "pi_1", "reason": "fraudulent", "balance_transactions": moved, **more,
    }  # fmt: skip


def charge(n: int, amount: int, **more: Any) -> dict[str, Any]:
    """What the payment intent `pi_n` collected."""
    return {
        "id": f"ch_{n}", "object": "charge", "payment_intent": f"pi_{n}", "status": "succeeded", "amount": amount,
        "amount_captured": amount, **more,
    }  # fmt: skip


def movement(n: int, category: str, amount: int, fee: int = 0, **more: Any) -> dict[str, Any]:
    """A balance transaction of `po_1`."""
    return {
        "id": f"txn_{n}", "object": "balance_transaction", "payout": "po_1", "currency": "usd", "type": category,
        "reporting_category": category, "amount": amount, "fee": fee, "net": amount - fee, **more,
    }  # fmt: skip


def payout(amount: int, **more: Any) -> dict[str, Any]:
    return {
        "id": "po_1", "object": "payout", "amount": amount, "currency": "usd", "automatic": True, "status": "paid",
        "reconciliation_status": "completed", "arrival_date": JAN + 12 * DAY, **more,
    }  # fmt: skip


@asynccontextmanager
async def opening(w: World, mappings: Mappings) -> AsyncIterator[Callable[..., Books]]:
    """Makes the books of a hub with these settings, in an account without a record; it is as it was afterwards."""
    w.sim.reset()
    w.tap.seen.clear()
    made: list[Books] = []

    def opened(**settings: Any) -> Books:
        made.append(Books(w, mappings, settings))
        return made[-1]

    yield opened
    w.sim.configure(suitetax=False, avatax_bundle=False, date_outside_period="Disallow")
    for each in made:
        await each.destination.close()
