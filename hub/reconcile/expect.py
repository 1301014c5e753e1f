"""What the books and the tax documents must hold, from Stripe's objects alone. Pure.

It repeats by hand what an accountant expects, and shares nothing with the mappings: a mistake there must show as a
difference here. The keys are the hub's conventions (connectors/netsuite/README.md, connectors/avalara/README.md). What
the objects mean: Stripe's API reference; which amounts of an invoice balance: `hub/conservation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from hub.destination import Entry
from hub.money import to_major

Obj: TypeAlias = Mapping[str, Any]

BOOKED, VOIDED = "booked", "voided"
"""The two states of a record in the books; whether it is paid is `Entry.open`."""
SAVED, COMMITTED, CANCELLED = "Saved", "Committed", "Cancelled"
"""The states of a recorded AvaTax document."""
OBJECTS = ("invoice", "credit_note", "invoice_payment", "refund", "dispute", "payout")
"""Stripe's objects that move money, in an order in which each needs only what comes before it."""
TOGETHER = 10
"""Seconds. A refund that is older than its credit note by more was made without it."""
PREFIXES: Mapping[str, str] = {
    "in": "invoice",
    "cn": "credit_note",
    "inpay": "invoice_payment",
    "re": "refund",
    "pyr": "refund",
    "dp": "dispute",
    "du": "dispute",
    "po": "payout",
}
"""What an id begins with -> the object's type."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What finance has decided, as far as it changes what must be there."""

    timezone: str = "UTC"
    commit_on: str = "finalized"
    """When a tax document is committed: `finalized` or `paid`."""
    uncollectible: str = "none"
    """What becomes of the tax document of an uncollectible invoice: `none`, `void`, `bad_debt`."""
    write_off: bool = False
    """Whether the books write an uncollectible invoice off."""

    def day(self, seconds: int | None) -> date:
        """The day of the books; of no time at all the first there is."""
        return datetime.fromtimestamp(seconds or 0, UTC).astimezone(ZoneInfo(self.timezone)).date()


@dataclass(frozen=True, slots=True)
class Around:
    """What an object belongs to. Nothing for an invoice or a payout."""

    invoice: Obj | None = None
    notes: Sequence[Obj] = ()
    """The credit notes of that invoice; only for refunds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry that must be there."""

    entry: Entry
    changed: int
    """Unix seconds of the last thing that happened to it in Stripe, as far as the object says."""
    sure: bool = True
    """False: it may be there or not, by what the object does not say. If it is, it must be right."""
    reversed_by: str = ""
    """Key of the entry that may undo it in place of its own status: a locked tax document is not voided."""
    of: str = ""
    """The invoice it belongs to, if it is of one."""


def type_of(object_id: str) -> str | None:
    """The object's type by its id: `in_123` is an invoice."""
    return PREFIXES.get(object_id.partition("_")[0])


def expect(destination: str, object_type: str, obj: Obj, around: Around, rules: Rules) -> list[Wanted]:
    """What `destination` must hold of this object. Empty for a draft, an open payment, what was canceled."""
    make = _MAKERS.get((destination, object_type))
    return list(make(obj, around, rules)) if make is not None else []


# The books ------------------------------------------------------------------------------------------------------------


def _book(obj: Obj, kind: str, key: str, minor: int | None, rules: Rules, **more: Any) -> Entry:
    currency = str(obj["currency"])
    opened: int | None = more.pop("open_minor", None)
    tax: int | None = more.pop("tax_minor", None)
    return Entry(
        system="stripe",
        kind=kind,
        object_id=str(obj["id"]),
        key=f"stripe_{key}",
        amount=None if minor is None else to_major(minor, currency),
        currency=currency.upper(),
        date=rules.day(more.pop("at", None) or obj["created"]),
        tax=None if tax is None else to_major(abs(tax), currency),
        open=None if opened is None else to_major(opened, currency),
        status=more.pop("status", BOOKED),
        **more,
    )


def _invoice(obj: Obj, _: Around, rules: Rules) -> Iterator[Wanted]:
    steps = obj.get("status_transitions") or {}
    if obj["status"] == "draft" or not steps.get("finalized_at") or obj.get("deleted"):
        return
    id_, total, customer = str(obj["id"]), int(obj["total"]), obj.get("customer")
    status, written_off = obj["status"], steps.get("marked_uncollectible_at")
    changed = max([obj["created"], *(at for at in steps.values() if at)])
    at = obj.get("effective_at") or steps["finalized_at"]

    def one(kind: str, key: str, minor: int | None, record: str, *, sure: bool = True, **more: Any) -> Wanted:
        entry = _book(obj, kind, key, minor, rules, customer=customer, record=record, **more)
        return Wanted(entry, changed, sure, of=id_)

    left, moved = int(obj.get("amount_remaining") or 0), _moved(obj)
    # What was added from the customer's balance is an entry of its own, and paid last.
    owed = max(left - max(-moved, 0), 0)
    stays = status == "open" or (status == "uncollectible" and not rules.write_off)
    opened = owed if stays and total >= 0 else 0
    record, tax = "invoice" if total >= 0 else "creditMemo", _taxes(obj)
    yield one("invoice", id_, abs(total), record, at=at, open_minor=opened, tax_minor=tax)
    if moved < 0 or (moved > 0 and total > 0):
        yield one("balance", f"bal_{id_}", abs(moved), "creditMemo" if moved > 0 else "invoice", at=at)
    credited = int(obj.get("pre_payment_credit_notes_amount") or 0)
    if status == "void":
        gone = steps.get("voided_at")
        if total - credited > 0:
            # With credit notes before it, how much of what is left is tax is theirs to say.
            yield one(
                "void", f"void_{id_}", total - credited, "creditMemo", at=gone, tax_minor=None if credited else tax
            )
            if moved > 0:
                yield one("balance_returned", f"unbal_{id_}", moved, "invoice", at=gone)
    if written_off and rules.write_off:
        # What was paid before it was marked and what after, the invoice does not say.
        paid = int(obj.get("amount_paid") or 0)
        amount = owed if status == "uncollectible" and not paid else None
        yield one("write_off", f"writeoff_{id_}", amount, "creditMemo", at=written_off, sure=amount != 0)
        if status in ("paid", "void"):
            back = steps.get("paid_at") or steps.get("voided_at")
            sure = status == "void" or paid > 0
            yield one("recovery", f"recovered_{id_}", None, "invoice", at=back, open_minor=0, sure=sure)


def _moved(obj: Obj) -> int:
    """What finalising took from the customer's balance (positive), or added to it."""
    before, after = obj.get("starting_balance"), obj.get("ending_balance")
    return int(after) - int(before or 0) if after is not None else 0


def _credit_note(obj: Obj, _: Around, rules: Rules) -> Iterator[Wanted]:
    id_, of = str(obj["id"]), str(obj.get("invoice"))
    changed = max(obj["created"], obj.get("voided_at") or 0)
    more: dict[str, Any] = {"customer": obj.get("customer"), "at": obj.get("effective_at")}

    def one(kind: str, key: str, minor: int | None, record: str, *, sure: bool = True, **also: Any) -> Wanted:
        return Wanted(_book(obj, kind, key, minor, rules, record=record, **(more | also)), changed, sure, of=of)

    yield one("credit_note", id_, obj["total"], "creditMemo", open_minor=0, tax_minor=_taxes(obj))
    refunds = obj.get("refunds") or ()
    if any(r.get("refund") for r in refunds):
        # Only if one of them was made before the note, which the note does not say. That it is over the right amount
        # shows in what is open, of it and of the credit memo.
        yield one("replaced", f"replaces_{id_}", None, "invoice", sure=False, open_minor=0)
    outside = int(obj.get("out_of_band_amount") or 0)
    kept = int(obj.get("post_payment_amount") or 0) - outside - sum(int(r.get("amount_refunded") or 0) for r in refunds)
    if kept > 0 and obj.get("customer_balance_transaction"):
        yield one("balance", f"bal_{id_}", kept, "invoice")
    outside += sum(int(r.get("amount_refunded") or 0) for r in refunds if r.get("payment_record_refund"))
    if outside > 0:
        yield one("outside", f"outside_{id_}", outside, "customerRefund")
    if obj["status"] == "void":
        yield one("void", f"void_{id_}", obj["total"], "invoice", at=obj.get("voided_at"), tax_minor=_taxes(obj))


def _payment(obj: Obj, around: Around, rules: Rules) -> Iterator[Wanted]:
    if obj["status"] != "paid" or around.invoice is None or not obj.get("amount_paid"):
        return
    id_, steps = str(obj["id"]), obj.get("status_transitions") or {}
    # What was paid too much is applied to nothing, and which of several payments that was is not said here.
    opened = None if around.invoice.get("amount_overpaid") else 0
    entry = _book(
        obj, "payment", id_, obj["amount_paid"], rules, record="customerPayment",
        customer=around.invoice.get("customer"), at=steps.get("paid_at"), open_minor=opened,
    )  # fmt: skip
    yield Wanted(entry, max(obj["created"], steps.get("paid_at") or 0), of=str(around.invoice["id"]))


def _refund(obj: Obj, around: Around, rules: Rules) -> Iterator[Wanted]:
    if around.invoice is None:
        return  # of a payment that was for no invoice: nothing of it is in the books
    id_, customer, of = str(obj["id"]), around.invoice.get("customer"), str(around.invoice["id"])
    # Canceled: whether that was after it was booked, the object does not say.
    sure = obj.get("status") != "canceled"
    entry = _book(obj, "refund", id_, obj["amount"], rules, record="customerRefund", customer=customer)
    yield Wanted(entry, obj["created"], sure, of=of)
    if not _made_with_note(obj, around):
        memo = _book(obj, "memo", f"memo_{id_}", obj["amount"], rules, record="creditMemo", customer=customer)
        yield Wanted(memo, obj["created"], sure, of=of)
    if obj.get("status") == "failed":
        back = _book(obj, "failed", f"failed_{id_}", obj["amount"], rules, record="customerPayment", customer=customer)
        yield Wanted(back, obj["created"], of=of)


def _notes_of(refund: Obj, around: Around) -> list[Obj]:
    """The credit notes that list a refund."""
    return [n for n in around.notes if any(r.get("refund") == refund["id"] for r in n.get("refunds") or ())]


def _made_with_note(refund: Obj, around: Around) -> bool:
    """Whether it was made with a credit note, and not listed by one that was made only later."""
    return any(n["created"] <= refund["created"] + TOGETHER for n in _notes_of(refund, around))


def _dispute(obj: Obj, around: Around, rules: Rules) -> Iterator[Wanted]:
    moves = obj.get("balance_transactions") or ()
    if around.invoice is None or not moves:
        return  # an inquiry takes no money yet
    id_, amount, of = str(obj["id"]), obj["amount"], str(around.invoice["id"])
    changed = max([obj["created"], *(m.get("created") or 0 for m in moves)])
    customer = around.invoice.get("customer")
    kept = {"customer": customer}
    yield Wanted(_book(obj, "memo", f"memo_{id_}", amount, rules, record="creditMemo", **kept), changed, of=of)
    yield Wanted(_book(obj, "dispute", id_, amount, rules, record="customerRefund", **kept), changed, of=of)
    if any((m.get("amount") or 0) > 0 for m in moves):
        back = _book(obj, "reinstatement", f"reinstated_{id_}", amount, rules, record="invoice", **kept)
        yield Wanted(back, changed, of=of)
        paid = _book(obj, "paid_back", f"paidback_{id_}", amount, rules, record="customerPayment", **kept)
        yield Wanted(paid, changed, of=of)


def _payout(obj: Obj, _: Around, rules: Rules) -> Iterator[Wanted]:
    id_, status = str(obj["id"]), obj["status"]
    if status not in ("paid", "failed") or obj["amount"] <= 0:
        return
    # Of an automatic payout Stripe takes its time to say what it consists of; until then it is not booked.
    listed = not obj.get("automatic") or obj.get("reconciliation_status") != "in_progress"
    arrival = obj.get("arrival_date") or obj["created"]
    entry = _book(obj, "payout", id_, obj["amount"], rules, record="deposit", at=arrival)
    yield Wanted(entry, max(obj["created"], arrival), sure=listed)
    if status == "failed":
        entry = _book(obj, "failed", f"failed_{id_}", obj["amount"], rules, record="journalEntry", at=arrival)
        yield Wanted(entry, max(obj["created"], arrival))


# Tax ------------------------------------------------------------------------------------------------------------------


def _tax(obj: Obj, kind: str, document: str, sign: int, rules: Rules, **more: Any) -> Entry:
    currency = str(obj["currency"])
    minor, tax = more.pop("minor", None), more.pop("tax_minor", None)
    return Entry(
        system="stripe",
        kind=kind,
        object_id=str(obj["id"]),
        key=f"{document} {obj['id']}",
        amount=None if minor is None else to_major(sign * minor, currency),
        tax=None if tax is None else to_major(sign * tax, currency),
        currency=currency.upper(),
        date=rules.day(more.pop("at", None) or obj["created"]),
        record=document,
        **more,
    )


def _recorded_elsewhere(invoice: Obj | None) -> bool:
    """The AvaTax app in Stripe records it, and we leave it alone."""
    provider = ((invoice or {}).get("automatic_tax") or {}).get("provider")
    return "AVALARA" in str(provider or "").upper()


def _taxes(obj: Obj) -> int:
    listed = obj.get("total_taxes")
    if listed is None:
        listed = [t for line in (obj.get("lines") or {}).get("data") or () for t in line.get("taxes") or ()]
    return sum(int(t["amount"]) for t in listed)


def _out_of_force(invoice: Obj | None, rules: Rules) -> bool:
    """A sale that was not made, or as good: its document is voided, and with it the returns of its credit notes."""
    status = (invoice or {}).get("status")
    return status == "void" or (status == "uncollectible" and rules.uncollectible == "void")


def _reported(invoice: Obj | None, rules: Rules) -> str:
    """Saved or committed, as long as it is in force."""
    return COMMITTED if rules.commit_on != "paid" or (invoice or {}).get("status") == "paid" else SAVED


def _tax_of_invoice(obj: Obj, _: Around, rules: Rules) -> Iterator[Wanted]:
    steps = obj.get("status_transitions") or {}
    lines = (obj.get("lines") or {}).get("data") or ()
    if obj["status"] == "draft" or not steps.get("finalized_at") or _recorded_elsewhere(obj) or not lines:
        return
    id_, status, customer = str(obj["id"]), obj["status"], obj.get("customer")
    changed = max([obj["created"], *(at for at in steps.values() if at)])
    undoing = f"ReturnInvoice {id_}"
    gone = _out_of_force(obj, rules)
    entry = _tax(
        obj, "invoice", "SalesInvoice", 1, rules, minor=obj["total"], tax_minor=_taxes(obj), customer=customer,
        at=steps["finalized_at"], status=CANCELLED if gone else _reported(obj, rules),
    )  # fmt: skip
    yield Wanted(entry, changed, reversed_by=undoing if gone else "", of=id_)
    credited = int(obj.get("pre_payment_credit_notes_amount") or 0)
    if gone:
        # In place of the void where the document is locked.
        back = _tax(obj, "void", "ReturnInvoice", -1, rules, minor=obj["total"] - credited, customer=customer)
        yield Wanted(back, changed, sure=False, of=id_)
    elif steps.get("marked_uncollectible_at") and rules.uncollectible == "bad_debt" and rules.commit_on != "paid":
        # What was open then. Paid after all, it is voided again.
        paid = bool(obj.get("amount_paid"))
        left = None if paid else obj["total"] - max(_moved(obj), 0) - credited
        bad = status == "uncollectible"
        back = _tax(
            obj, "write_off", "ReturnInvoice", -1, rules, minor=left, customer=customer,
            at=steps["marked_uncollectible_at"], status=COMMITTED if bad else CANCELLED,
        )  # fmt: skip
        yield Wanted(back, changed, sure=bad and left != 0, of=id_)


def _tax_of_note(obj: Obj, around: Around, rules: Rules) -> Iterator[Wanted]:
    if _recorded_elsewhere(around.invoice):
        return
    gone = obj["status"] == "void" or _out_of_force(around.invoice, rules)
    entry = _tax(
        obj, "credit_note", "ReturnInvoice", -1, rules, minor=obj["total"], tax_minor=_taxes(obj),
        customer=obj.get("customer"), status=CANCELLED if gone else _reported(around.invoice, rules),
    )  # fmt: skip
    steps = (around.invoice or {}).get("status_transitions") or {}
    changed = max([obj["created"], obj.get("voided_at") or 0, *(at for at in steps.values() if at)])
    # Of a sale that was taken back under a code of its own, the returns stay.
    yield Wanted(entry, changed, reversed_by=f"ReturnInvoice {obj.get('invoice')}", of=str(obj.get("invoice")))


def _tax_of_refund(obj: Obj, around: Around, rules: Rules) -> Iterator[Wanted]:
    if around.invoice is None or _recorded_elsewhere(around.invoice) or _made_with_note(obj, around):
        return
    # Its tax is a share of the invoice's, line by line: AvaTax's sum of it is not compared, the whole is.
    gone = obj.get("status") in ("failed", "canceled") or bool(_notes_of(obj, around))
    entry = _tax(
        obj, "refund", "ReturnInvoice", -1, rules, minor=obj["amount"], customer=around.invoice.get("customer"),
        status=CANCELLED if gone else _reported(around.invoice, rules),
    )  # fmt: skip
    yield Wanted(entry, obj["created"], sure=not gone, of=str(around.invoice["id"]))


Maker: TypeAlias = Callable[[Obj, Around, Rules], Iterator[Wanted]]
_MAKERS: Mapping[tuple[str, str], Maker] = {
    ("netsuite", "invoice"): _invoice,
    ("netsuite", "credit_note"): _credit_note,
    ("netsuite", "invoice_payment"): _payment,
    ("netsuite", "refund"): _refund,
    ("netsuite", "dispute"): _dispute,
    ("netsuite", "payout"): _payout,
    ("avalara", "invoice"): _tax_of_invoice,
    ("avalara", "credit_note"): _tax_of_note,
    ("avalara", "refund"): _tax_of_refund,
}
COMPARED = tuple(dict.fromkeys(destination for destination, _ in _MAKERS))
"""The destinations that can be reconciled."""


def types_for(destinations: Sequence[str]) -> list[str]:
    """The object types that these destinations hold something of, parents first."""
    return [t for t in OBJECTS if any((name, t) in _MAKERS for name in destinations)]
