"""What is written in AvaTax: a document per Stripe invoice, credit note, and refund without one; committed, voided.

AvaTax has no idempotency key. A document is unique by (company, code, type), and the code is the Stripe id, so a repeat
cannot make a second one. But creating a committed code again is refused (`DocStatus`), creating a saved one again
replaces it without a word, and a cancelled one may come back to life. So: the digest of what was sent lies in the
document's `referenceCode`; every try after the first looks before it sends; a refusal is read back and compared, never
taken for success; and nothing is ever adjusted, so the document stays at version 1.

A document that a person linked stays as it is, under its own code: the action `adopt` only looks that it is there, and
what follows (commit, void) is done to that code.

Records: `SalesInvoice` and `ReturnInvoice` (upsert), and with a dot behind the type what is done to a document of that
type (commit, void, unvoid): the part before the dot is the AvaTax document type, the rest keeps the links apart.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from connectors.avalara.client import MAX_LINES, AvalaraClient, Reply, require_company, wire
from connectors.avalara.desk import MISSING, NOT_NOW, SMALL, Desk, unvoid, void
from connectors.avalara.documents import answer, code_of, committed, compare, kind, link, older, reference, same_status
from connectors.avalara.errors import Fault, fault, judge
from connectors.avalara.settings import AvalaraSettings
from hub.destination import Destination, Limit, Policy
from hub.errors import Answer, Outcome, OutcomeError, Receipt, Reject, Retry, Unknown
from hub.model import ADOPT, JSON, LINKED, Job, Link, Record

SLOTS = 4
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,50}")
"""Codes the library can put into an address unquoted; every Stripe id is one."""
Step: TypeAlias = Callable[[Job, Record], Awaitable[Outcome | None]]


def create(settings: AvalaraSettings, limit: Limit | None = None) -> Destination:
    """The AvaTax destination. No network; the library is loaded by the first call. `limit`: over all processes."""
    return Avalara(settings, limit)


class Avalara:
    """The `ledger` destination `avalara`."""

    name = "avalara"

    def __init__(self, settings: AvalaraSettings, limit: Limit | None = None) -> None:
        self._settings, self._company, self._limit = settings, settings.company_code, limit
        self._client = AvalaraClient(settings, SLOTS)
        self._desk = Desk(self._company, self._call)
        # A job makes at most seven calls, and one or two for each return that goes with its invoice; each ends by its
        # deadline. The engine stops waiting at 0.8 of the lease, and what was not done then is done the next time.
        lease = max(120.0, 9 * self._client.deadline)
        self.policy = Policy(kind="ledger", slots=SLOTS, lease=lease, unknown_wait=settings.unknown_wait)

    async def send(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """Write each job's records in order; a `Receipt` carries one link per record."""
        outcomes = [await self._each(job, self._write) for job in jobs]
        return [o or Retry("no_outcome", "the connector came to no outcome") for o in outcomes]

    async def find(self, job: Job) -> Outcome | None:
        """Look what became of an unknown call. A document found saved that must be committed is committed here."""
        outcome = await self._each(job, self._found)
        # Looking failed, so it is as unknown as before.
        return Unknown(outcome.reason, outcome.answer) if isinstance(outcome, Retry) else outcome

    async def ping(self) -> str:
        """One call: the company, which proves address, credentials and company code."""

        async def ask(method: str, params: dict[str, str]) -> Reply:
            return (await self._call(method, params, write=False))[0]

        await require_company(self._company, ask)
        return f"AvaTax {self._settings.environment}, account {self._settings.account_id}, company {self._company}"

    async def close(self) -> None:
        self._client.close()

    async def _each(self, job: Job, step: Step) -> Outcome | None:
        """Take the step for every record; the first that does not end in a `Receipt` ends the job."""
        links: list[Link] = []
        told, note = Answer(), None
        for record in job.records:
            try:
                outcome = await step(job, record)
            except OutcomeError as error:
                outcome = error.outcome
            if not isinstance(outcome, Receipt):
                return outcome
            links, told, note = [*links, *outcome.links], outcome.answer, outcome.note
        return Receipt(same_status(links), answer=told, note=note)

    async def _call(
        self, method: str, *args: Any, write: bool, expect: tuple[str, ...] = ()
    ) -> tuple[Reply, Fault | None]:
        """A call that was carried out, or was refused for an expected reason. Raises `OutcomeError` for all else."""
        if self._limit is not None:
            await self._limit.turn()
        exchange = await self._client.call(method, *args)
        found = fault(exchange) if isinstance(exchange, Reply) else None
        if not isinstance(exchange, Reply) or (found is not None and not found.is_a(*expect)):
            raise OutcomeError(judge(exchange, write=write))
        return exchange, found

    async def _write(self, job: Job, record: Record) -> Outcome:
        if not _CODE.fullmatch(record.key):
            return Reject(
                "bad_code",
                f"{record.key!r} cannot be a document code in AvaTax.",
                "Whoever keeps the mappings: use the Stripe id as `key`; at most 50 letters, digits, _ . -",
            )
        link = record.link
        if link is not None and record.action != ADOPT:
            if link.digest == LINKED:
                return _by_a_person(record, "it is not written over")
            if link.digest == record.digest or record is not job.records[-1]:
                return Receipt((link,), note="AvaTax has it already")
        return await self._act(job, record)

    async def _act(self, job: Job, record: Record) -> Outcome:
        match record.action:
            case "upsert":
                return await self._upsert(job, record)
            case "commit":
                return await self._commit(job, record)
            case "void":
                return await void(self._desk, job, record, self._upsert)
            case "unvoid":
                return await unvoid(self._desk, job, record)
            case "adopt":
                return await self._linked(job, record)
        return Reject(
            "unknown_action",
            f"The AvaTax connector does not know the action {record.action!r}.",
            "Whoever keeps the mappings: use upsert, commit, void or unvoid.",
        )

    async def _upsert(self, job: Job, record: Record) -> Outcome:
        count = len(record.fields.get("lines") or [])
        if count > MAX_LINES:
            cause = f"The invoice has {count:,} lines; AvaTax takes {MAX_LINES:,}."
            fix = "Tax team: record it by hand in several documents, then skip this delivery with their codes."
            return Reject("too_many_lines", cause, fix)
        if job.attempt > 1:
            document = await self._read(job, record)
            if document is not None and not older(record, document):
                return await self._settle(job, record, document)
        body = {
            **wire(record.fields),
            "companyCode": self._company,
            "code": record.key,
            "type": kind(record),
            "commit": self._commits(job, record),
            "referenceCode": reference(record.digest),
        }
        reply, refused = await self._call("create_transaction", body, SMALL, write=True, expect=("DocStatus",))
        if refused is None:
            return await self._settle(job, record, reply.body, reply)
        document = await self._read(job, record)
        if document is None:
            return Retry("document_moved", "AvaTax says the document is there already, and then that it is not")
        return await self._settle(job, record, document)

    def _commits(self, job: Job, record: Record) -> bool:
        """As the mapping says, else by the setting. A document that is only made to be voided, or is committed by a
        later record, is not committed before."""
        wanted = record.fields.get("commit", self._settings.commit_on == "finalized")
        return bool(wanted) and not any(
            r.key == record.key and kind(r) == kind(record) and r.action != "upsert" for r in job.records
        )

    async def _settle(self, job: Job, record: Record, document: JSON, reply: Reply | None = None) -> Outcome:
        """Compare what AvaTax holds; commit it if that is all that is missing."""
        outcome = compare(record, document, reply)
        if (
            isinstance(outcome, Receipt)
            and self._commits(job, record)
            and document.get("status") in ("Saved", "Posted")
        ):
            return await self._commit(job, record)
        return outcome

    async def _commit(self, job: Job, record: Record) -> Outcome:
        code = code_of(job, record)
        reply, refused = await self._desk.verb(
            "commit_transaction", code, kind(record), {"commit": True}, MISSING + NOT_NOW
        )
        if refused is not None and refused.is_a(*MISSING):
            return Retry("document_missing", f"AvaTax has no document {code} to commit", None, answer({}, reply))
        document = (
            reply.body if refused is None else await self._read(job, record)
        )  # committed already is refused: look
        outcome = committed(record, document, reply, code)
        if isinstance(outcome, Receipt):
            for one in record.fields.get("returns") or []:
                await self._desk.settle(one)
        return outcome

    async def _linked(self, job: Job, record: Record) -> Outcome:
        """The document that a person linked, which must be there. Its link stays what it is."""
        assert record.link is not None
        code = code_of(job, record)
        if not _CODE.fullmatch(code):
            return _by_a_person(record, f"{code!r} cannot be a document code")
        document = await self._read(job, record)
        if document is None:
            return _by_a_person(record, f"AvaTax has no {kind(record)} {code}")
        return Receipt((replace(record.link, status=document.get("status")),), answer=answer(document))

    async def _read(self, job: Job, record: Record) -> JSON:
        """The document, or None if AvaTax has none. Raises `OutcomeError` when it cannot tell."""
        return await self._desk.read(code_of(job, record), kind(record))

    async def _found(self, job: Job, record: Record) -> Outcome | None:
        """One record after an unknown call: done, None to send again, or another outcome."""
        if record.action == ADOPT:
            return await self._linked(job, record)
        document = await self._read(job, record)
        if document is None or (record.action == "upsert" and older(record, document)):
            return None
        status, returns = document.get("status"), record.fields.get("returns") or []
        match record.action:
            case "upsert":
                return await self._settle(job, record, document)
            case "commit":
                known = committed(record, document, code=code_of(job, record))
                kept_back = status in ("Saved", "Posted") or await self._desk.any_in(returns, ("Saved", "Posted"))
                return None if kept_back else known
            case "void":
                in_force = status != "Cancelled" or await self._desk.any_in(returns, ("Saved", "Posted", "Committed"))
                return None if in_force else Receipt((link(record, document),), answer=answer(document))
        return None  # put back in force: to do that again is safe, and looks first


def _by_a_person(record: Record, cause: str) -> Reject:
    code = record.link.vendor_id if record.link is not None else ""
    return Reject(
        "linked_document",
        f"{record.object_id} was linked by a person to the document {code}: {cause}.",
        "Tax team: if it is the wrong document, link the right code instead of it (`hub link` with --instead-of) and "
        "retry; if it has to change, change it in AvaTax and skip this delivery.",
    )
