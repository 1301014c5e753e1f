"""A document as AvaTax answers it, against the record the hub wants. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from connectors.avalara.client import Reply
from hub.errors import Answer, Outcome, Receipt, Reject, Retry
from hub.model import ADOPT, JSON, Job, Link, Record

_REFERENCE = "hub:v1:"


def kind(record: Record) -> str:
    """AvaTax's document type: the record's name up to its dot."""
    return record.record.partition(".")[0]


def code_of(job: Job, record: Record) -> str:
    """The code AvaTax has the document under: ours, or that of the document a person linked; the job then says so."""
    for one in job.records:
        if one.action == ADOPT and one.link is not None and one.key == record.key and kind(one) == kind(record):
            return one.link.vendor_id
    return record.key


def reference(digest: str) -> str:
    """What `referenceCode` holds of a document the hub wrote."""
    return f"{_REFERENCE}{digest}"


def link(record: Record, document: JSON) -> Link:
    return record.link_to(str(document["id"]), document.get("status"))


def same_status(links: Sequence[Link]) -> tuple[Link, ...]:
    """Several links of a job may be of one document: what the last call said of its status is true of all of them."""
    last = {one.vendor_id: one.status for one in links}
    return tuple(replace(one, status=last[one.vendor_id]) for one in links)


def difference(record: Record, document: JSON) -> str | None:
    """How AvaTax's own tax differs from what is recorded, signed, major units; None: not at all, or not to be told.

    Of a return AvaTax's own figure says nothing (recorded traffic: -0.80 where -8.80 was returned).
    """
    if kind(record) != "SalesInvoice" or "totalTaxCalculated" not in document:
        return None
    off = Decimal(str(document.get("totalTax", 0))) - Decimal(str(document["totalTaxCalculated"]))
    return f"{off:+}" if off else None


def answer(document: JSON, reply: Reply | None = None) -> Answer:
    kept: dict[str, Any] = {k: document[k] for k in ("id", "status", "version", "locked") if k in document}
    kept |= {k: str(document[k]) for k in ("totalAmount", "totalTax", "totalTaxCalculated") if k in document}
    return Answer(reply.status if reply else None, reply.correlation_id if reply else None, kept)


def older(record: Record, document: JSON) -> bool:
    """AvaTax still holds what the hub wrote last time; the change is yet to be sent."""
    last = record.link
    return last is not None and last.digest != record.digest and document.get("referenceCode") == reference(last.digest)


def compare(record: Record, document: JSON, reply: Reply | None = None) -> Outcome:
    """A `Receipt` if it is the document wanted: same digest, recorded, amounts to the cent. Else a `Reject`."""
    told, status = answer(document, reply), document.get("status")
    if document.get("referenceCode") != reference(record.digest):
        return Reject(
            "document_differs",
            f"AvaTax already has a {status} document {record.key} with other content.",
            "Tax team: compare it with the document in Stripe. If AvaTax is right, link it; if Stripe is right, void "
            "or rename the document in AvaTax and retry.",
            told,
        )
    if status == "Cancelled":
        return Receipt((link(record, document),), answer=told, note="the document was voided in the meantime")
    if status not in ("Saved", "Posted", "Committed"):
        return Reject(
            "not_recorded",
            f"AvaTax keeps the document as {status}, not as a recorded one.",
            "Operator: check with Avalara that document recording is on for this company, then retry.",
            told,
        )
    wrong = arithmetic(record, document)
    if wrong:
        return Reject(
            "amounts_differ",
            f"AvaTax recorded other amounts than Stripe charged: {wrong}.",
            "Tax team: open the document in AvaTax. Usual reasons: no nexus where Stripe charged tax, or someone "
            "adjusted it. Correct AvaTax, then retry; or link it if it is right.",
            told,
        )
    off = difference(record, document)
    if off is None:
        return Receipt((link(record, document),), answer=told)
    own = document["totalTaxCalculated"]
    note = f"booked as charged: tax {document['totalTax']}; AvaTax itself comes to {own} ({off})"
    told = replace(told, detail={**told.detail, "tax_difference": off})
    return Receipt((link(record, document),), answer=told, note=note)


def arithmetic(record: Record, document: JSON, of: Sequence[Any] | None = None) -> str:
    """Empty if AvaTax's totals are the sums of what was sent (or of the lines given); else the difference in words.
    Major units.
    """
    lines = of or record.fields.get("lines") or []
    sums = {"totalAmount": sum((Decimal(line["amount"]) for line in lines), Decimal(0))}
    overrides = [(line.get("taxOverride") or {}) for line in lines]
    if all(o.get("type") == "TaxAmount" for o in overrides):
        sums["totalTax"] = sum((Decimal(o["taxAmount"]) for o in overrides), Decimal(0))
    have = {name: Decimal(str(document.get(name, "NaN"))) for name in sums}
    return ", ".join(f"{name} is {have[name]}, wanted {sums[name]}" for name in sums if have[name] != sums[name])


def committed(record: Record, document: JSON | None, reply: Reply | None = None, code: str | None = None) -> Outcome:
    """A `Receipt` if it is a committed document of the hub's; a commit that did not take is a `Retry`.

    `code`: what AvaTax has it under. Not our key: a person linked it, and answers for what is in it.
    """
    document, code = document or {}, code or record.key
    told, status = answer(document, reply), document.get("status")
    if status == "Cancelled":
        return Reject(
            "already_voided",
            f"Document {code} is voided in AvaTax, so it cannot be committed.",
            "Tax team: if the invoice really was paid, un-void the document in AvaTax and retry; else skip this.",
            told,
        )
    if status != "Committed":
        return Retry("not_committed", f"AvaTax did not commit document {code}; its status: {status}", None, told)
    if code == record.key and not str(document.get("referenceCode", "")).startswith(_REFERENCE):
        return Reject(
            "document_differs",
            f"AvaTax has a document {record.key} that the hub did not write.",
            "Tax team: compare it with the Stripe invoice; link it if it is right, else rename it in AvaTax and retry.",
            told,
        )
    return Receipt((link(record, document),), answer=told)
