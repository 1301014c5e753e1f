"""Tax on drafts: the destination `tax`. For whoever lets AvaTax be the tax engine (`HUB_AVALARA_TAX=calculate`).

The bases of a draft (mappings/tax/draft.yaml) go to AvaTax as a SalesOrder, which AvaTax never stores; what it answers
goes onto the draft's lines as `tax_amounts`, with the metadata `hub_tax` = digest of the bases, which says that these
taxes are ours. The record of the document is made at finalisation, by the destination `avalara`.

* **No loop.** Writing taxes makes an `invoice.updated`; its bases are the same, so its digest is, and nothing is sent.
* **State, not ledger.** A draft's tax is how things are: the newest bases count, what came before is superseded, and a
  success resolves the dead letter that an earlier address left.
* **Doing it again changes nothing**, at either vendor: so after an unknown outcome it is simply done again.
* **Holding.** When there is no tax, whatever the reason, the draft is stopped from finalising itself (`auto_advance`
  false) and marked `hub_tax_hold` = `<since>/<when it would have been finalised>`. Once tax is written it goes on: at
  that time, or at once if it has passed. Whoever finalises by hand meanwhile, or turns `auto_advance` on, has decided.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from connectors.avalara.amounts import tax_amounts
from connectors.avalara.client import MAX_LINES, AvalaraClient, Reply, require_company, wire
from connectors.avalara.errors import fault, judge
from connectors.avalara.settings import AvalaraSettings
from hub.destination import Destination, Limit, Policy, SourceWriter
from hub.errors import Answer, Defer, Outcome, OutcomeError, Receipt, Reject, Retry, Unknown
from hub.mapping.record import digest
from hub.model import JSON, Job, Record

SLOTS, BATCH = 4, 4
TAXED, HELD = "hub_tax", "hub_tax_hold"
"""Metadata of the invoice."""
_DETAILS = {"$include": "Lines,Details"}
_GONE = ("invoice_not_editable", "resource_missing")
"""Stripe's codes for a change of an invoice that is no draft, or was deleted."""
_NO_DRAFT = Receipt(note="the invoice is no draft any more: nothing to do")
_PATIENCE = 1200.0
"""Seconds a draft waits for its turn within our own pace before it is held; Stripe gives it an hour at least."""
_SILENT = (408, *range(500, 600))


class _WaitingError(OutcomeError):
    """Our own limit: nobody has failed yet."""


def create(
    settings: AvalaraSettings,
    writer: SourceWriter,
    limit: Limit | None = None,
    clock: Callable[[], float] = time.time,
) -> Destination:
    """The destination `tax`. No network. `limit`: AvaTax's, over all processes; `clock`: Unix seconds."""
    return DraftTax(settings, writer, limit, clock)


class DraftTax:
    """The `state` destination `tax`."""

    name = "tax"

    def __init__(
        self,
        settings: AvalaraSettings,
        writer: SourceWriter,
        limit: Limit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._company, self._writer, self._limit, self._clock = settings.company_code, writer, limit, clock
        self._client = AvalaraClient(settings, SLOTS * BATCH)
        # One call to AvaTax and at most six to Stripe, each of which may take a minute and a half with its repeats.
        lease = max(300.0, 9 * self._client.deadline)
        self.policy = Policy(
            kind="state", batch=BATCH, slots=SLOTS, lease=lease, unknown_wait=settings.unknown_wait, retry_cap=300.0
        )

    async def send(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """Put tax on each draft. Drafts are independent of each other: side by side."""
        return await asyncio.gather(*(self._one(job) for job in jobs))

    async def find(self, job: Job) -> Outcome | None:  # noqa: ARG002 - the contract's
        """Both writes say how things shall be: to do them again is safe and right."""
        return None

    async def stopped(self, job: Job, outcome: Outcome) -> Outcome:
        """The hub asks when a draft could not even be mapped (no address, no tax code): that holds it too."""
        return await self._held(job, outcome) if isinstance(outcome, Reject) else outcome

    async def ping(self) -> str:
        """One call: the company, which proves address, credentials and company code at AvaTax."""
        await require_company(self._company, self._call)
        return f"tax on drafts by AvaTax, company {self._company}; whether Stripe lets us write, the first draft shows"

    async def close(self) -> None:
        self._client.close()
        close = getattr(self._writer, "close", None)
        if close is not None:
            await close()

    async def _one(self, job: Job) -> Outcome:
        record = job.records[-1]
        if record.action != "upsert":
            return Reject(
                "unknown_action",
                f"Tax on a draft knows no action {record.action!r}.",
                "Whoever keeps the mappings: use upsert in mappings/tax.",
            )
        try:
            estimate = await self._estimate(record)
            taxes = tax_amounts(record.fields, estimate.body)
        except _WaitingError as error:
            young = self._clock() - job.event.created.timestamp() < _PATIENCE
            return error.outcome if young else await self._held(job, error.outcome)
        except OutcomeError as error:
            return await self._held(job, error.outcome)
        try:
            written = await self._write(job, record, taxes)
        except OutcomeError as error:
            # Stripe in trouble, or limiting us, could not hold it either; it is tried again soon.
            return await self._held(job, error.outcome) if isinstance(error.outcome, Reject) else error.outcome
        return await self._done(job, record, estimate, written)

    async def _estimate(self, record: Record) -> Reply:
        """AvaTax's answer to the bases. Nothing is stored there, so nothing is ever unknown of it."""
        count = len(record.fields["lines"])
        if count > MAX_LINES:
            cause = f"The draft has {count:,} lines; AvaTax takes {MAX_LINES:,}."
            fix = "Billing: split the invoice; or put tax on it by hand, finalise it, and skip this delivery."
            raise OutcomeError(Reject("too_many_lines", cause, fix))
        sent = {k: v for k, v in record.fields.items() if k != "stripe"}
        body = {**wire(sent), "companyCode": self._company, "code": record.key, "type": "SalesOrder"}
        return await self._call("create_transaction", body, _DETAILS)

    async def _call(self, method: str, *args: Any) -> Reply:
        if self._limit is not None:
            try:
                await self._limit.turn()
            except OutcomeError as error:
                raise _WaitingError(error.outcome) from error
        exchange = await self._client.call(method, *args)
        if not isinstance(exchange, Reply) or fault(exchange) is not None:
            outcome = judge(exchange, write=False)
            if self._limit is not None and isinstance(outcome, Defer) and outcome.limited:
                await self._limit.cut(outcome.delay)
            raise OutcomeError(outcome)
        return exchange

    async def _write(self, job: Job, record: Record, taxes: Mapping[str, list[dict[str, Any]]]) -> JSON:
        metadata = {TAXED: bases(record)}
        return await self._writer.set_tax(record.key, taxes, metadata, key(job, record.key, [taxes, metadata]))

    async def _done(self, job: Job, record: Record, estimate: Reply, invoice: JSON) -> Outcome:
        """Taxes are written. If the draft was held it goes on; only then is the delivery done."""
        mark = (invoice.get("metadata") or {}).get(HELD)
        note = None
        if mark:
            try:
                note = await self._release(job, record.key, invoice, str(mark))
            except OutcomeError as error:
                outcome = error.outcome
                if not (isinstance(outcome, Reject) and outcome.code in _GONE):
                    return outcome
                note = "it was finalised by hand meanwhile"
        made = replace(record.link_to(record.key, "taxed"), digest=bases(record))
        told = {"totalTax": str(estimate.body.get("totalTax")), "lines": len(record.fields["lines"])}
        return Receipt((made,), answer=Answer(estimate.status, estimate.correlation_id, told), note=note)

    async def _release(self, job: Job, invoice_id: str, invoice: JSON, mark: str) -> str:
        cleared = {HELD: ""}
        if invoice.get("auto_advance"):
            await self._writer.set_metadata("invoice", invoice_id, cleared, key(job, invoice_id, "on"))
            return "somebody had let it go on already"
        until = moment(mark.partition("/")[2])
        if until is not None and until <= self._clock():
            # Finalised first: if what follows is lost, the mark on an invoice that is no draft holds nothing.
            await self._writer.finalize(invoice_id, key(job, invoice_id, "finalize"))
            await self._writer.set_metadata("invoice", invoice_id, cleared, key(job, invoice_id, "clear"))
            return "it had been held past its time: finalised"
        await self._writer.release(invoice_id, until, cleared, key(job, invoice_id, "release"))
        return "it is held no longer"

    async def _held(self, job: Job, outcome: Outcome) -> Outcome:  # noqa: PLR0911 - one return per outcome
        """The outcome that stands for no tax, once the draft waits for it.

        Never one that pauses the destination, and always one that Stripe's answer stands behind: an AvaTax that is away
        must not keep the hub from holding the next draft (see `hub.circuit`).
        """
        try:
            invoice = await self._hold(job)
        except OutcomeError as error:
            found = error.outcome
            if isinstance(found, Reject) and found.code in _GONE:
                return _NO_DRAFT
            # A dead letter would leave the draft to itself: both are tried again.
            return found if isinstance(found, Defer) else Retry("not_held", f"not held, and no tax: {_words(outcome)}")
        if invoice.get("status") != "draft":
            return _NO_DRAFT
        told = replace(outcome.answer, status=outcome.answer.status or 200)
        match outcome:
            case Reject():
                cause = f"{outcome.cause} The draft is held: it is not finalised before it has tax."
                return replace(outcome, cause=cause, answer=told)
            case Defer():
                return Defer(outcome.reason, outcome.delay, answer=told)
            case Retry():
                return replace(outcome, answer=replace(told, status=200 if told.status in _SILENT else told.status))
        return outcome

    async def _hold(self, job: Job) -> JSON:
        invoice_id = job.records[-1].key if job.records else str(job.event.object_id)
        since = f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m-%dT%H:%M:%SZ}"
        return await self._writer.hold(invoice_id, {HELD: f"{since}/{{}}"}, key(job, invoice_id, "hold"))


def bases(record: Record) -> str:
    """Digest of what tax is computed from: the record without the mark of a hold, which makes a held draft be looked at
    again even if its bases are what they were."""
    about = {k: v for k, v in record.fields["stripe"].items() if k != "held"}
    return digest(record.record, record.action, record.key, {**record.fields, "stripe": about})


def key(job: Job, invoice_id: str, content: Any) -> str:
    """`tax:<in>:<digest>` over what is written, by which delivery and which try of it. Bases that go there and back are
    written twice, and Stripe answers a key that it knows with its first answer, a fault of its own included."""
    text = json.dumps([job.delivery_id, job.attempt, content], sort_keys=True, default=str)
    return f"tax:{invoice_id}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def moment(text: str) -> int | None:
    """`2026-11-02T13:00:00Z` as Unix seconds; None for anything else."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _words(outcome: Outcome) -> str:
    match outcome:
        case Reject():
            return outcome.cause
        case Defer() | Unknown() | Retry():
            return outcome.reason
    return ""
