"""The frozen values the hub passes around. No behaviour, no vendor, no I/O.

Words used here are used the same way in SQL, in metrics and in the documentation; the glossary is in `hub/README.md`.
Times are aware `datetime`s in UTC. Amounts never appear here: they live in event bodies (integers, minor units) and in
mapped fields (`Decimal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

JSON: TypeAlias = Any
"""A decoded JSON value. Vendors' documents are open-ended; what we rely on is checked where it is used."""


LISTED: Mapping[str, tuple[str, ...]] = {
    "balance_transaction": ("payout", "source"),
    "charge": ("payment_intent",),
    "credit_note": ("invoice",),
    "dispute": ("charge", "payment_intent"),
    "invoice_payment": ("invoice", "payment_intent"),
    "refund": ("charge", "payment_intent"),
}
"""Object type -> what `Source.listed` can list it by: the filters of Stripe's own lists that mappings may use."""


WRITE_BACK = "hub.record_written"
"""Type of an event of the hub's own: a vendor has records for an object of the source's, which is to bear their ids.
`data.object` is `{"object": <id>, "metadata": {name: text}}`. It goes to the destination that reads the source."""


class EventKind(StrEnum):
    """What the stored bytes are."""

    SNAPSHOT = "snapshot"
    """A v1 event: the object is inside."""
    THIN = "thin"
    """A v2 notification: it only names the object; the `stripe` destination fetches it."""
    READ = "read"
    """An object the hub read from the source itself, because something was missing or newer."""


class Disposition(StrEnum):
    """What the hub decided to do with an event when it was accepted."""

    ROUTED = "routed"
    UNMAPPED = "unmapped"
    OTHER_ACCOUNT = "other_account"
    OTHER_MODE = "other_mode"
    READ = "read"
    """Not an event of the source's: an object the hub read itself. Only the mirror uses it."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event on its way into the store: the envelope beside the untouched bytes."""

    id: str
    kind: EventKind
    type: str
    body: bytes
    created: datetime
    received_at: datetime
    account: str | None = None
    api_version: str | None = None
    livemode: bool | None = None
    object_type: str | None = None
    object_id: str | None = None
    customer_id: str | None = None
    via: str | None = None
    """Of an object that names no customer, the object it belongs to (a payment's invoice, a dispute's charge): whose
    customer that has, is its customer, if it is known when the event is accepted."""
    rank: int = 0
    """How final the object's status is (`hub.ordering.rank`); a higher rank is newer whatever the clock says."""


@dataclass(frozen=True, slots=True)
class Event(NewEvent):
    """An event as stored. `seq` is its place in the order of acceptance."""

    seq: int = 0
    disposition: Disposition = Disposition.ROUTED
    note: str | None = None


LINKED = "linked"
"""In place of a link's digest: a person said that the record exists. It does not bear our key yet as far as known, and
nothing was written to it."""
ADOPTED = "adopted"
"""In place of a link's digest: such a record that has been given our key since. None of its fields was written yet."""
FORGOTTEN = "forgotten"
"""In place of a link's digest: the record is to be written again, also where it only comes first in another's job. A
reconciliation found that the vendor does not hold what was written."""
UNSURE = "unsure"
"""In place of a link's digest: something else may have been written since, and nobody found out."""
ADOPT = "adopt"
"""The action of a record that only finds the linked record and gives it our key, where the vendor keeps one: `key` is
our key, `link.vendor_id` what the person gave; there are no fields. The hub puts it before what needs that record."""

VOIDED = "voided"
"""A link's status: we took the record out of use (a customer made inactive, a document voided)."""
REVIVED = "revived"
"""In place of a link's digest: such a record that was taken into use again, just as it was."""
REVIVE = "revive"
"""The action of a record that only takes into use again what we took out of it: no fields. The hub puts it before what
needs that record, and only if the link says `VOIDED`: what somebody else took out of use stays so."""


@dataclass(frozen=True, slots=True)
class Link:
    """Our object is that vendor's record. Written in the same transaction as the outcome it comes from; never
    expires.
    """

    object_id: str
    """The Stripe id, e.g. `in_123`."""
    record: str
    """The vendor's kind of record, e.g. `invoice`, `Account`, `SalesInvoice`."""
    key: str
    """The external id / document code / object name we chose: idempotency at the vendor."""
    vendor_id: str
    """The vendor's own id, e.g. NetSuite's internal id."""
    digest: str
    """Digest of the fields last written (`Record.digest`): equal digest = nothing to send. Or `LINKED`, `ADOPTED`,
    `REVIVED`, `FORGOTTEN`, `UNSURE`."""
    mapping: str = ""
    """Which mapping and version produced it, e.g. `netsuite/invoice@1`."""
    status: str | None = None
    """The vendor's document status as last confirmed, where it has one (`Committed`, `Cancelled`, ...)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One vendor record as a mapping wants it to be. What a destination sends."""

    record: str
    """The vendor's kind of record: `Account`, `Stripe_Invoice__c`, `invoice`, `customerPayment`, `SalesInvoice`."""
    action: str
    """What to do with it: `upsert`, `commit`, `void`, `adopt`, `revive`. The destination documents which it knows."""
    object_id: str
    """The Stripe object it represents."""
    key: str
    """Its external id at the vendor."""
    fields: Mapping[str, Any]
    """Target field -> value. Values are str, bool, int, Decimal, None, or dicts/lists of these. Never float."""
    digest: str
    """SHA-256 (first 32 hex digits) over the canonical form of record, key, action and fields."""
    mapping: str
    """`<destination>/<name>@<version>`."""
    link: Link | None = None
    """The link we already hold for this (destination, object, record), if any."""

    def link_to(self, vendor_id: str, status: str | None = None) -> Link:
        """What to answer once the vendor's record of this id is as wanted. `status`: the vendor's, of a document."""
        return Link(self.object_id, self.record, self.key, vendor_id, self.digest, self.mapping, status)


@dataclass(frozen=True, slots=True)
class Job:
    """What a destination is asked to do for one delivery."""

    delivery_id: int
    event: Event
    records: tuple[Record, ...] = ()
    """In the order they must be written, parents first. Only the last one is the delivery's own. Empty for `log`."""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed batch of a `log` destination: the same deliveries under the same name, however often it is tried."""

    id: int
    lane: str
    received_date: str
    """UTC day all its events were received on, `YYYY-MM-DD`. A batch never spans two."""
    first_seq: int
    last_seq: int
    jobs: tuple[Job, ...] = field(default=())


class DeliveryState(StrEnum):
    """Drawn in `hub/README.md`. Terminal: done, superseded, skipped. `dead` waits for a person."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    UNKNOWN = "unknown"
    HELD = "held"
    DONE = "done"
    SUPERSEDED = "superseded"
    DEAD = "dead"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one destination, as claimed by a worker. `id` and `claim` together are the right to settle it."""

    id: int
    destination: str
    lane: str
    event: Event
    state: DeliveryState
    claim: int
    failures: int
    first_failure_at: datetime | None
    batch_id: int | None = None
    blocked_until: datetime | None = None
    """An earlier delivery of the same document is not finished until then (ledger only)."""
    held_by: int | None = None
    """The dead delivery of the same document, or of one it needs, that holds this one (ledger only)."""
    was_unknown: bool = False
    """The last attempt's outcome was `Unknown`, or its worker was lost: look before sending."""
    was_lost: bool = False
    """The worker that claimed it last ended or hung before it settled."""
