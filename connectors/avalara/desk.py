"""What is done to documents that AvaTax has: read, settled, taken out of force and put back.

Taking a document out of force is a void (`DocVoided`: it stays visible as Cancelled). A document that was reported on a
filed return is locked and cannot be voided (error 1100); then a ReturnInvoice under the same code takes back, today and
taxed as of the original's day, what is left of it. Never `DocDeleted`: it removes the evidence, and its answer is an
error although it worked (JS-SDK issue 258).

Putting it back: `unvoid` is what AvaTax has for that. What exactly it restores is not documented, so the document is
looked at, and committed if need be. A ReturnInvoice that took it back is voided instead.

What belongs to an invoice goes with it: the ReturnInvoices of its credit notes (`returns`), or the sale would be
reported below zero.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from connectors.avalara.client import Reply
from connectors.avalara.documents import answer, arithmetic, code_of, kind, link
from connectors.avalara.errors import Fault, locked
from hub.errors import Answer, Outcome, OutcomeError, Receipt, Reject, Retry
from hub.model import JSON, Job, Record

SMALL = {"$include": "SummaryOnly"}
"""No lines in the answer: with thousands of them it would be megabytes."""
RETURN = "ReturnInvoice"
MISSING = ("EntityNotFound", "4")
CANCELLED = ("TransactionAlreadyCancelled", "198")
LOCKED = ("CannotModifyLockedTransaction", "1100")
NOT_NOW = ("DocStatus", "InvalidDocumentStatus", "TransactionIsCommitted", "1309", "1313", "1314")
"""The status does not allow a commit; which of them AvaTax gives for a committed document is not known."""
_VOID = {"code": "DocVoided"}
Upsert = Callable[[Job, Record], Awaitable[Outcome]]


class Call(Protocol):
    """A call that was carried out, or was refused for an expected reason. Raises `OutcomeError` for all else."""

    async def __call__(
        self, method: str, *args: Any, write: bool, expect: tuple[str, ...] = ()
    ) -> tuple[Reply, Fault | None]: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """The documents of one company."""

    company: str
    call: Call

    async def read(self, code: str, type_: str) -> JSON:
        """The document, or None if AvaTax has none."""
        method = "get_transaction_by_code_and_type"
        reply, missing = await self.call(method, self.company, code, type_, SMALL, write=False, expect=MISSING)
        return None if missing else reply.body

    async def verb(
        self, method: str, code: str, type_: str, body: dict[str, Any] | None, expect: tuple[str, ...]
    ) -> tuple[Reply, Fault | None]:
        """Something done to a document. `body` None: the call has none."""
        params = {**SMALL, "documentType": type_}
        given = () if body is None else (body,)
        return await self.call(method, self.company, code, *given, params, write=True, expect=expect)

    async def settle(self, code: str) -> None:
        """Commit a return that was kept back with its invoice; whatever else it is stays so."""
        document = await self.read(code, RETURN)
        if document is not None and document.get("status") in ("Saved", "Posted"):
            await self.verb("commit_transaction", code, RETURN, {"commit": True}, NOT_NOW)

    async def cancel(self, code: str) -> None:
        """Void a return; one that is void or was never made is as it should be."""
        _, refused = await self.verb("void_transaction", code, RETURN, dict(_VOID), MISSING + CANCELLED + LOCKED)
        if refused is not None and refused.is_a(*LOCKED):
            raise OutcomeError(_locked_return(code))

    async def any_in(self, codes: Sequence[str], statuses: tuple[str, ...]) -> bool:
        """Whether one of these returns is in one of these statuses."""
        found = [await self.read(code, RETURN) for code in codes]
        return any(one is not None and one.get("status") in statuses for one in found)

    async def restore(self, code: str, type_: str, *, commit: bool) -> JSON:
        """The document in force: not void any more, committed if it shall be. None: there is none."""
        document = await self.read(code, type_)
        if document is not None and document.get("status") == "Cancelled":
            reply, _ = await self.verb("unvoid_transaction", code, type_, None, ())
            document = reply.body
        if document is not None and commit and document.get("status") in ("Saved", "Posted"):
            reply, refused = await self.verb("commit_transaction", code, type_, {"commit": True}, NOT_NOW)
            document = reply.body if refused is None else await self.read(code, type_)
        return document


async def void(desk: Desk, job: Job, record: Record, upsert: Upsert) -> Outcome:
    """Take a document out of force, and its returns with it. `upsert` writes the reversal of a locked one."""
    if record.fields.get("code") != "DocVoided":
        return Reject(
            "bad_void",
            "A document may be voided only with the code DocVoided: DocDeleted would remove the evidence.",
            "Whoever keeps the mappings: let the void record have the field code: 'DocVoided'.",
        )
    code = code_of(job, record)
    reply, refused = await desk.verb("void_transaction", code, kind(record), dict(_VOID), MISSING + CANCELLED + LOCKED)
    if refused is not None and refused.is_a(*LOCKED):
        told = Answer(reply.status, reply.correlation_id, {"code": refused.code})
        return await _reverse(desk, job, record, upsert, told)
    document = reply.body if refused is None else None
    if refused is not None and not refused.is_a(*MISSING):
        document = await desk.read(code, kind(record))
    if document is None:
        return Retry("document_missing", f"AvaTax has no document {code} to void", None, answer({}, reply))
    for one in record.fields.get("returns") or []:
        await desk.cancel(str(one))
    note = None if refused is None else "it was voided already"
    return Receipt((link(record, document),), answer=answer(document, reply), note=note)


async def unvoid(desk: Desk, job: Job, record: Record) -> Outcome:
    """Put a document back in force, with its returns; void what was booked instead of voiding it."""
    code = code_of(job, record)
    document = await desk.restore(code, kind(record), commit=bool(record.fields.get("commit")))
    if document is None:
        return Retry("document_missing", f"AvaTax has no document {code} to put back in force")
    for one in record.fields.get("returns") or []:
        await desk.restore(str(one), RETURN, commit=True)
    reversal = await desk.read(record.key, RETURN)
    if reversal is not None and reversal.get("status") != "Cancelled":
        await desk.cancel(record.key)
    return Receipt((link(record, document),), answer=answer(document))


async def _reverse(desk: Desk, job: Job, record: Record, upsert: Upsert, told: Answer) -> Outcome:
    """The ReturnInvoice that takes back what is left of a locked document, under its code."""
    fields = record.fields.get("reversal")
    if fields is None:
        return locked(told)
    if not fields.get("lines"):
        return Receipt(answer=told, note="the document is locked, and nothing is left of it to reverse")
    there = await desk.read(record.key, RETURN)
    if there is not None and not arithmetic(record, there, fields["lines"]):
        # Made when it became uncollectible: the same amounts under another date.
        there = await desk.restore(record.key, RETURN, commit=True)
        return Receipt((link(record, there),), answer=answer(there), note="a ReturnInvoice reverses it already")
    made = replace(record, record=RETURN, action="upsert", fields=fields, link=None)
    outcome = await upsert(replace(job, records=(made,)), made)
    if not isinstance(outcome, Receipt):
        return outcome
    links = tuple(replace(one, record=record.record) for one in outcome.links)
    return replace(outcome, links=links, note="the document is locked: a ReturnInvoice reverses it")


def _locked_return(code: str) -> Reject:
    return Reject(
        "CannotModifyLockedTransaction",
        f"The return {code} was already reported on a filed return and is locked.",
        "Tax team: book a SalesInvoice in AvaTax that takes it back, then skip this delivery with its code.",
    )
