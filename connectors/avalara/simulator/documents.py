"""AvaTax's documents: unique by (company, code, type), in versions, with the transitions of the document lifecycle.

    create(commit=false) -> Saved -verify-> Posted -commit-> Committed -(filed)-> Committed and locked
    Saved, Posted     created again: silently replaced, same id
    Committed         created again: GetTaxError/DocStatus; adjusted: becomes Adjusted, and version n+1 is Committed
    any but locked    void DocVoided: Cancelled; again: TransactionAlreadyCancelled

Sources: AvaTax documentation (transaction lifecycle, error list) and recorded traffic; where they disagree or are
silent there is a switch, and its default is the stricter reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from connectors.avalara.simulator import problems
from connectors.avalara.simulator.problems import Problem
from connectors.avalara.simulator.taxes import TaxedLine

Key: TypeAlias = tuple[str, str, str]


@dataclass(slots=True)
class Switches:
    """What public sources leave open. Set them on `AvalaraSimulator.switches`; `reset` restores the defaults."""

    create_on_cancelled: Literal["new", "docstatus"] = "docstatus"
    """A cancelled code is created again: a newer enum description says it is free, an older blog says it is refused."""
    commit_on_committed: Literal["ok", "error"] = "error"
    docdeleted_bug: bool = True
    """DocDeleted deletes, then answers "not found" (reported against another SDK)."""
    refund_on_saved: Literal["flaky", "error"] = "flaky"
    """A refund of a saved document fails, and may pass on retry (reported against another SDK)."""
    doc_status_sub_code: bool = True
    """Newer servers add `faultSubCode: DocStatusError`."""
    override_without_nexus: Literal["record", "ignore"] = "record"
    rounding: Literal["Line", "Document"] = "Line"
    """The company setting `roundingLevelId`."""
    omit_correlation_id: bool = False
    """Leave out the header `x-correlation-id`, as a proxy's page does: the SDK raises KeyError after the exchange."""


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document."""

    id: int
    company: str
    code: str
    type: str
    status: str
    version: int
    model: Mapping[str, Any]
    """The request it was made from."""
    lines: tuple[TaxedLine, ...]
    tax_date: date
    modified: str
    locked: bool = False
    before_void: str = "Saved"
    reason: str = "NotAdjusted"
    reason_text: str | None = None

    @property
    def key(self) -> Key:
        return (self.company, self.code, self.type)

    def total(self, name: str) -> Decimal:
        return sum((getattr(line, name) for line in self.lines), Decimal(0))

    @property
    def total_amount(self) -> Decimal:
        """Net of document discounts, so that it is taxable + exempt; whether AvaTax nets them is not known."""
        return self.total("amount") - self.total("discount")


@dataclass(slots=True)
class Store:
    """All documents: the last version under its key, and the versions it replaced."""

    switches: Switches
    new_id: Callable[[], int]
    now: Callable[[], str]
    latest: dict[Key, Document] = field(default_factory=dict)
    superseded: list[Document] = field(default_factory=list)
    refunds_refused: set[Key] = field(default_factory=set)

    def get(self, company: str, code: str, kind: str | None = None) -> Document:
        """Without a type, SalesInvoice is preferred. Raises `EntityNotFoundError`."""
        kinds = [kind] if kind else ["SalesInvoice", *sorted(k[2] for k in self.latest if k[:2] == (company, code))]
        for wanted in kinds:
            if found := self.latest.get((company, code, wanted)):
                return found
        raise problems.not_found("Document")

    def of(self, company: str) -> Iterator[Document]:
        return (d for d in self.latest.values() if d.company == company)

    def _put(self, document: Document, **changes: Any) -> Document:
        document = replace(document, modified=self.now(), **changes)
        self.latest[document.key] = document
        return document

    def create(self, document: Document) -> Document:
        """A document calculated elsewhere, Saved or Committed, finds its place. The id of a replaced one is kept."""
        old = self.latest.get(document.key)
        if old is None or (old.status == "Cancelled" and self.switches.create_on_cancelled == "new"):
            return self._put(document)
        if old.status not in ("Saved", "Posted"):
            raise problems.doc_status(sub_code=self.switches.doc_status_sub_code)
        return self._put(document, id=old.id, version=old.version)

    def create_or_adjust(self, document: Document, reason: str, text: str | None) -> Document:
        old = self.latest.get(document.key)
        if old is not None and old.status == "Committed":
            return self.adjust(old, document, reason, text)
        return self.create(document)

    def adjust(self, old: Document, new: Document, reason: str, text: str | None) -> Document:
        if old.locked:
            raise problems.locked()
        if old.status != "Committed":
            raise problems.bad_status()
        self.superseded.append(replace(old, status="Adjusted"))
        status = "Committed" if new.model.get("commit", True) else "Saved"
        return self._put(
            new, code=old.code, type=old.type, status=status, version=old.version + 1, reason=reason, reason_text=text
        )

    def commit(self, document: Document) -> Document:
        if document.status == "Committed" and self.switches.commit_on_committed == "ok":
            return document
        if document.status not in ("Saved", "Posted"):
            raise problems.bad_status()
        return self._put(document, status="Committed")

    def uncommit(self, document: Document) -> Document:
        if document.locked:
            raise problems.locked()
        if document.status != "Committed":
            raise problems.bad_status()
        return self._put(document, status="Saved")

    def verify(self, document: Document, model: Mapping[str, Any]) -> Document:
        if document.status not in ("Saved", "Posted"):
            raise Problem("InvalidDocumentStatusForVerify", "Only Saved or Posted documents can be verified.")
        for name, have, code in (
            ("verifyTransactionDate", document.model["date"], "DateMismatch"),
            ("verifyTotalAmount", document.total_amount, "TotalAmountMismatch"),
            ("verifyTotalTax", document.total("tax"), "TotalTaxMismatch"),
        ):
            if name in model and model[name] != have:
                raise Problem(code, "The value to verify is not that of the transaction.", refers_to=name)
        return self._put(document, status="Posted")

    def void(self, document: Document, code: str) -> Document:
        if document.locked:
            raise problems.locked()
        if document.status == "Cancelled":
            raise Problem(
                "TransactionAlreadyCancelled",
                "The transaction has already been cancelled.",
                f"The transaction '{document.code}' is already in a 'Cancelled' status.",
            )
        if code == "DocDeleted":
            if document.status == "Committed":
                raise problems.bad_status()
            del self.latest[document.key]
            if self.switches.docdeleted_bug:
                raise problems.not_found("Document")
            return replace(document, status="Cancelled")
        return self._put(document, status="Cancelled", before_void=document.status)

    def unvoid(self, document: Document) -> Document:
        """Back to the status before; what AvaTax restores exactly is not known."""
        if document.status != "Cancelled":
            raise Problem("TransactionNotCancelled", "The transaction is not cancelled.")
        return self._put(document, status=document.before_void)

    def lock(self, document: Document, *, on: bool) -> Document:
        if document.status != "Committed":
            raise Problem("DocumentNotCommitted", "Only committed documents can be locked.")
        return self._put(document, locked=on)

    def change_code(self, document: Document, code: str) -> Document:
        if document.locked:
            raise problems.locked()
        if (document.company, code, document.type) in self.latest:
            raise Problem("DocumentCodeConflict", "Two documents exist for the company with the document code.")
        del self.latest[document.key]
        return self._put(document, code=code)

    def check_refund(self, document: Document) -> None:
        if document.type != "SalesInvoice":
            raise Problem("InvalidDocumentTypeForRefund", "Only a SalesInvoice can be refunded.")
        if document.status == "Committed":
            return
        flaky = self.switches.refund_on_saved == "flaky" and document.status == "Saved"
        if not flaky or document.key not in self.refunds_refused:
            self.refunds_refused.add(document.key)
            raise problems.bad_status()
