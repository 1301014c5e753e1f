"""What else must be known of Stripe to say what an object must have become: the invoice of a payment, the credit notes
of a refund. Each is read at most once while it is remembered; of an invoice only some fields are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from hub.destination import Page
from hub.patience import Patience
from hub.reconcile.expect import Around, Obj

REMEMBERED = 50_000
"""Invoices, and refunds that credit notes name: some hundred bytes each."""
KEPT = ("id", "customer", "automatic_tax", "currency", "amount_overpaid", "status", "status_transitions")
T = TypeVar("T")


class Books(Protocol):
    """Where Stripe's objects are read. All raise `OutcomeError`."""

    async def objects(
        self, object_type: str, cursor: str | None, created_from: int | None, created_to: int | None = None
    ) -> Page: ...

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None: ...

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]]: ...

    async def newest_event(self) -> dict[str, Any] | None: ...


class Gather:
    """Reads Stripe, patiently, and counts how often."""

    def __init__(self, books: Books, patience: Patience) -> None:
        self._books, self._patience = books, patience
        self.reads = 0
        self._invoices: OrderedDict[str, dict[str, Any] | None] = OrderedDict()
        self._notes: OrderedDict[str, Obj] = OrderedDict()
        """Refund -> the credit note that names it."""

    async def page(self, object_type: str, cursor: str | None, since: int, until: int) -> Page:
        """A page of what was created from one second until before another."""
        page = await self._patience(partial(self._books.objects, object_type, cursor, since, until))
        self.reads += page.reads
        for found in page.objects:
            self.note(object_type, found)
        return page

    def note(self, object_type: str, found: Obj) -> None:
        """Remember what others will ask for."""
        if object_type == "invoice":
            _keep(self._invoices, str(found["id"]), {name: found.get(name) for name in KEPT})
        elif object_type == "credit_note":
            for each in found.get("refunds") or ():
                if each.get("refund"):
                    slim = {name: found.get(name) for name in ("id", "created", "invoice", "refunds")}
                    _keep(self._notes, str(each["refund"]), slim)

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        """The object as it is now; None if Stripe knows none, or only that it is deleted."""
        found = await self._ask(partial(self._books.read, object_type, object_id))
        if found is None or found.get("deleted") is True:
            return None
        self.note(object_type, found)
        return found

    async def newest(self) -> int:
        """Unix seconds of Stripe's newest event: what its own clock has certainly reached. 0: there is none."""
        event = await self._ask(self._books.newest_event)
        return int(event["created"]) if event else 0

    async def payments_of(self, invoice_id: str) -> list[dict[str, Any]]:
        """The payments of an invoice."""
        return await self._ask(partial(self._books.listed, "invoice_payment", "invoice", invoice_id))

    async def notes_of(self, invoice_id: str) -> list[dict[str, Any]]:
        """The credit notes of an invoice."""
        return await self._ask(partial(self._books.listed, "credit_note", "invoice", invoice_id))

    async def around(self, object_type: str, obj: Obj) -> Around:
        """What the object belongs to."""
        match object_type:
            case "invoice_payment" | "credit_note":
                return Around(await self._invoice(_id(obj.get("invoice"))))
            case "refund":
                return await self._of_refund(obj)
            case "dispute":
                return Around(await self._invoice(await self._paid_by(obj)))
        return Around()

    async def _of_refund(self, refund: Obj) -> Around:
        note = self._notes.get(str(refund["id"]))
        if note is not None:
            return Around(await self._invoice(_id(note.get("invoice"))), (note,))
        invoice = await self._invoice(await self._paid_by(refund))
        notes: Sequence[Obj] = await self.notes_of(str(invoice["id"])) if invoice is not None else ()
        return Around(invoice, notes)

    async def _paid_by(self, obj: Obj) -> str | None:
        """The invoice that the payment behind a refund or dispute was for."""
        intent = _id(obj.get("payment_intent"))
        if intent is None:
            return None
        paid = await self._ask(partial(self._books.listed, "invoice_payment", "payment_intent", intent))
        return _id(paid[0].get("invoice")) if paid else None

    async def _invoice(self, invoice_id: str | None) -> Mapping[str, Any] | None:
        if invoice_id is None:
            return None
        if invoice_id not in self._invoices and await self.read("invoice", invoice_id) is None:
            _keep(self._invoices, invoice_id, None)
        return self._invoices[invoice_id]

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        self.reads += 1
        return await self._patience(question)


def _keep(into: OrderedDict[str, Any], key: str, value: Any) -> None:
    into[key] = value
    into.move_to_end(key)
    if len(into) > REMEMBERED:
        into.popitem(last=False)


def _id(value: object) -> str | None:
    """An id, or the id of the object that stands in its place."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) else None
