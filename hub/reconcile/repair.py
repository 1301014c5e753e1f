"""What mends a difference: most often that the record is written again, as a delivery like any other.

What was last written is forgotten (an equal digest would be no call) and an event of kind `read` tells the one
destination that must write, in one transaction. From there on it is the engine's: order, retries, receipts, dead
letters. What no mapping can mend is for a person, and says what that person does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hub import envelope, store
from hub.db import SQL, Connection, Database
from hub.destination import Entry
from hub.reconcile.compare import Difference, Name
from hub.reconcile.expect import CANCELLED, COMMITTED, OBJECTS, SAVED, Obj, type_of
from hub.reconcile.gather import Gather
from hub.routing import Router
from hub.store import Accepted

SAID: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("invoice", "invoice"): ("invoice.finalized",),
    ("invoice", "balance"): ("invoice.finalized",),
    ("invoice", "void"): ("invoice.voided",),
    ("invoice", "write_off"): ("invoice.marked_uncollectible",),
    ("invoice", "balance_returned"): ("invoice.voided",),
    ("invoice", "recovery"): ("invoice.voided",),
    ("credit_note", "credit_note"): ("credit_note.created",),
    ("credit_note", "balance"): ("credit_note.created",),
    ("credit_note", "replaced"): ("credit_note.created",),
    ("credit_note", "outside"): ("credit_note.created",),
    ("credit_note", "void"): ("credit_note.voided",),
    ("invoice_payment", "payment"): ("invoice_payment.paid",),
    ("refund", "refund"): ("refund.created", "charge.refunded"),
    ("refund", "memo"): ("refund.created", "charge.refunded"),
    ("refund", "failed"): ("refund.failed",),
    ("dispute", "dispute"): ("charge.dispute.funds_withdrawn",),
    ("dispute", "memo"): ("charge.dispute.funds_withdrawn",),
    ("dispute", "reinstatement"): ("charge.dispute.funds_reinstated",),
    ("dispute", "paid_back"): ("charge.dispute.funds_reinstated",),
    ("payout", "payout"): ("payout.paid",),
    ("payout", "failed"): ("payout.failed",),
}
"""(Stripe object, kind of entry) -> the events that tell of it (API reference, "Types of events"); the first of them
that a mapping names is the one that is told again."""

UNDOES: Mapping[str, str] = {
    "invoice": "invoice.voided",
    "credit_note": "credit_note.voided",
    "refund": "refund.failed",
}
"""What is told besides of a tax document that must be voided."""
COMMITS: Mapping[str, str] = {"invoice": "invoice.paid"}
"""What is told besides of one that must be committed, if the invoice is paid: a setting may have it wait for that."""
ORDER = (
    "invoice", "balance", "balance_returned", "replaced", "credit_note", "memo", "dispute", "reinstatement", "void",
    "write_off", "recovery", "payment", "outside", "refund", "failed", "paid_back", "payout",
)  # fmt: skip
"""What is applied to something comes after it."""


class Way(NamedTuple):
    """How a difference is mended."""

    written: bool
    """True: the record is written again. False: a person does it."""
    text: str


def way(one: Difference) -> Way:  # noqa: PLR0911 - one return per case
    """What mends this, in words."""
    there = one.found.vendor_id or one.found.key if one.found is not None else ""
    what = f"{one.entry.record} {there}".strip()
    if one.held:
        return Way(False, f"{one.held}: correct its cause and retry it (`hub retry`)")
    match one.name:
        case Name.EXTRA if type_of(one.entry.object_id) == "refund" and one.entry.kind in ("memo", "refund"):
            return Way(False, _twice(one, what))
        case Name.EXTRA:
            return Way(False, f"a person: look who made {what}, and void it if Stripe is right")
        case Name.DUPLICATE:
            return Way(False, f"a person: void {what}; {one.entry.key or 'the other'} is the one to keep")
        case Name.MISSING:
            return Way(True, f"write {one.entry.record} {one.entry.key} again")
        case Name.CUSTOMER | Name.CURRENCY if one.destination == "netsuite":
            return Way(False, f"a person: NetSuite keeps the {one.name} of {what}; void it, then reconcile again")
    if one.destination == "avalara":
        return _tax_way(one, what)
    if one.name is Name.STATUS:
        return Way(False, f"a person: somebody voided {what}; take the external id {one.entry.key} from it, then again")
    if one.name is Name.OPEN and one.entry.kind == "invoice":
        return Way(True, f"write the payments and credit notes of {one.entry.object_id} again")
    return Way(True, f"write {what} again as {one.entry.key}")


def _twice(one: Difference, what: str) -> str:
    """A refund that was booked on its own, and once more with a credit note that came seconds after it."""
    refund = one.entry.object_id
    text = f"a person: if a credit note lists {refund}, that has a document too, and the customer is credited twice:"
    if one.destination == "avalara":
        return f"{text} void {what}; else look who made it"
    if one.entry.kind == "refund":
        return f"a person: look who made {what}, and void it if Stripe is right"
    return f"{text} apply customerRefund stripe_{refund} to that one, then void {what}; else look who made it"


def _tax_way(one: Difference, what: str) -> Way:
    assert one.found is not None
    wanted, status = one.entry.status, one.found.status
    if one.name is Name.STATUS and wanted == CANCELLED:
        return Way(True, f"void {what}")
    if one.name is Name.STATUS and status == CANCELLED:
        return Way(False, f"a person: take back the void of {what} in AvaTax")
    if status in (SAVED, "Posted"):
        return Way(True, f"write {what} again, and commit it")
    return Way(False, f"a person: {what} is committed and not written over; correct it in AvaTax (adjust)")


class Told(NamedTuple):
    """An event that will be accepted, and why."""

    object_type: str
    object_id: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Repairs:
    """Turns differences into deliveries."""

    db: Database
    router: Router
    clock: Callable[[], float]

    async def make(self, differences: Iterable[Difference], gather: Gather, *, really: bool) -> list[str]:
        """Tell again what must be written again; a line for each. With `really` False nothing is done but reading."""
        lines: list[str] = []
        for destination, mine in _by_destination(differences).items():
            wanted: dict[str, Told] = {}
            forgotten: set[str] = set()
            # An invoice that is open because of something else is not written; a payment is, for it has to be applied.
            chosen = [d for d in mine if way(d).written and not (d.follows and d.entry.kind == "invoice")]
            for one in sorted(chosen, key=lambda d: _place(d.entry)):
                for told in await self._tellings(one, gather):
                    wanted.setdefault(f"{told.object_id} {told.type}", told)
                    forgotten |= {told.object_id, one.entry.object_id}
            lines += [f"{destination}: {t.text} ({t.type})" for t in wanted.values()]
            if really and wanted:
                await self._tell(destination, list(wanted.values()), forgotten, gather)
        return lines

    async def _tellings(self, one: Difference, gather: Gather) -> list[Told]:
        entry, text = one.entry, way(one).text
        if entry.kind == "recovery" or (entry.kind == "invoice" and one.name is Name.OPEN):
            # Applied to it are its payments and credit notes; what takes a write-off back comes with a payment.
            paid = [p for p in await gather.payments_of(entry.object_id) if p.get("status") == "paid"]
            notes = await gather.notes_of(entry.object_id)
            applied = [("credit_note", "credit_note", n) for n in notes] + [
                ("invoice_payment", "payment", p) for p in paid
            ]
            found = [self._one(t, str(o["id"]), kind, one.destination, text) for t, kind, o in applied]
            told = [t for t in found if t is not None]
            if told or entry.kind == "invoice":
                return told
        object_type = type_of(entry.object_id) or ""
        first = self._one(object_type, entry.object_id, entry.kind, one.destination, text)
        then = {CANCELLED: UNDOES.get(object_type), COMMITTED: COMMITS.get(object_type)}.get(entry.status or "")
        tellings = [first] if first and not (one.name is Name.STATUS and entry.status == CANCELLED) else []
        if then is not None and self._hears(then, one.destination):
            tellings.append(Told(object_type, entry.object_id, then, text))
        return tellings

    def _one(self, object_type: str, object_id: str, kind: str, destination: str, text: str) -> Told | None:
        types = (t for t in SAID.get((object_type, kind), ()) if self._hears(t, destination))
        type_ = next(types, None)
        return Told(object_type, object_id, type_, text) if type_ is not None else None

    def _hears(self, type_: str, destination: str) -> bool:
        return destination in self.router.types.get(type_, frozenset())

    async def _tell(self, destination: str, wanted: Sequence[Told], forgotten: Collection[str], gather: Gather) -> None:
        objects = {}
        for object_id, object_type in {t.object_id: t.object_type for t in wanted}.items():
            objects[object_id] = await gather.read(object_type, object_id)
        created = await gather.newest()
        now = datetime.fromtimestamp(self.clock(), UTC)
        (last,) = await self.db.fetch("last_seq")
        accepted = []
        for told in wanted:
            obj = objects[told.object_id]
            if obj is not None and (told.type != "invoice.paid" or obj.get("status") == "paid"):
                accepted.append(self._event(destination, told, obj, created, last["seq"], now))
        await self.db.run(_forget_and_accept, destination, sorted(forgotten), accepted, now)

    def _event(self, destination: str, told: Told, obj: Obj, created: int, seq: int, now: datetime) -> Accepted:
        """Its id: the same repair of the same object, known by then, is one event. It ends like that of every read."""
        number = envelope.content_number(f"{destination} {told.type}", obj)
        id_ = f"reconcile:{told.object_id}:{told.type}:{seq}:{number}"
        event = envelope.of_read(id_, told.type, obj, created, now, livemode=self.router.livemode)
        decided = self.router.decide(event, now)
        routes = tuple(r for r in decided.routes if r.destination == destination)
        return decided._replace(routes=routes, note=f"a repair of `hub reconcile`, for {destination} only")


async def _forget_and_accept(
    connection: Connection[Any], destination: str, objects: Sequence[str], accepted: Sequence[Accepted], now: datetime
) -> None:
    await connection.fetch(SQL["forget_digests"], destination, objects)
    await store.accept(connection, accepted, now)


def _by_destination(differences: Iterable[Difference]) -> dict[str, list[Difference]]:
    found: dict[str, list[Difference]] = {}
    for one in differences:
        found.setdefault(one.destination, []).append(one)
    return found


def _place(entry: Entry) -> tuple[int, int]:
    object_type = type_of(entry.object_id)
    return (
        ORDER.index(entry.kind) if entry.kind in ORDER else len(ORDER),
        OBJECTS.index(object_type) if object_type in OBJECTS else len(OBJECTS),
    )
