"""The contract a connector fulfils: three verbs and a policy. How to write one: `connectors/README.md`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date as date_
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeAlias

from hub.errors import Outcome
from hub.model import Batch, Job

Kind: TypeAlias = Literal["state", "ledger", "log"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How the engine treats a destination. Times in seconds.

    state   the newest snapshot of an object wins; older deliveries are superseded; many lanes share one `send`
    ledger  every step of a document, in order; one job per `send`, lanes side by side up to `slots`
    log     every event, in sealed batches of up to `batch`, one `Batch` per `send_batch`

    Raises `ValueError` for a `concurrency` that could not be kept.
    """

    kind: Kind
    batch: int = 1
    """Most jobs in one `send` (state) or one sealed batch (log)."""
    batch_bytes: int = 8 * 2**20
    """Most bytes of event bodies in one sealed batch (log)."""
    linger: float = 0.0
    """How long a batch that is not full waits for more before it is sealed (log). Coalescing is `hub.routing`'s."""
    slots: int = 1
    """Most calls of `send` under way at once in one worker process."""
    concurrency: int | None = None
    """Most lanes under way at once over all worker processes (ledger). A lane does one thing after the other; so this
    is the most calls at once, if `send` and `find` make theirs one by one. None: `slots` of each process is all."""
    lease: float = 120.0
    """How long a claim is ours. Longer than the slowest `send`."""
    unknown_wait: float = 60.0
    """After `Unknown`, how long until the vendor itself has surely given up: only then is it asked what happened."""
    budget: float = 3 * 86400.0
    """How long a failing delivery is tried before it dies."""
    retry_first: float = 1.0
    retry_cap: float = 3600.0

    def __post_init__(self) -> None:
        if self.concurrency is not None and (self.kind != "ledger" or self.concurrency < 1):
            raise ValueError("concurrency counts lanes, which is calls only where a lane makes one at a time: a ledger")


class Limit(Protocol):
    """A vendor's limit over all processes; `hub.limits` has the one that a running hub gives to `create`."""

    async def turn(self) -> None:
        """Before every call: wait until it may go. Raises `OutcomeError(Defer)` when that takes too long."""
        ...

    async def cut(self, hold: float = 0.0) -> None:
        """The vendor says that we call too much: half the pace for a while, and no call for `hold` seconds. Only for
        reads that end in no outcome; an outcome says it with `Defer.limited`."""
        ...


class Destination(Protocol):
    """What we write at one vendor. Built once at start; used by one event loop; every wait has a timeout.

    `send` returns one outcome per job, in the same order. It must be safe to call again with the same jobs after any
    failure: the record's `key` is the same on every try, so the vendor (or `find`) can tell a repeat.

    It may have two things more, which the engine looks for by name: `async stopped(job, outcome) -> Outcome`, asked in
    place of `send` when a delivery could not be composed, and `quota: tuple[int, int] | None`, calls used and allowed,
    for the metrics. `connectors/README.md` has both.
    """

    name: str
    policy: Policy

    async def send(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """Write each job's records in order. Called for `state` (up to `policy.batch` jobs) and `ledger` (one job)."""
        ...

    async def find(self, job: Job) -> Outcome | None:
        """After an `Unknown`: a `Receipt` if the vendor holds all of the job's records exactly as wanted, None if it is
        safe and right to send again, another outcome if it cannot tell yet or must not send."""
        ...

    async def ping(self) -> str:
        """Prove address and credentials with one cheap call; say in one line as whom we are connected. Raises
        `OutcomeError` or the library's error otherwise."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class LogDestination(Protocol):
    """A `log` destination: takes sealed batches instead of jobs. The same batch always has the same deliveries."""

    name: str
    policy: Policy

    async def send_batch(self, batch: Batch) -> Outcome: ...

    async def ping(self) -> str: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Page:
    """A page of one of the source's lists."""

    objects: tuple[dict[str, Any], ...]
    """As they are now, every list inside followed to its end."""
    next: str | None
    """What to ask for the next page with; None: that was all."""
    reads: int
    """How many reads of the source it took."""


class Source(Protocol):
    """Reading from the system the events come from (Stripe), at the pinned version. Used when the mirror has a gap."""

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        """The object as it is now, as plain JSON (dict, list, str, int, bool, None), with every list inside an invoice
        followed to its end. A deleted object comes as `{"id", "object", "deleted": true}`; None: it does not exist.
        Raises `OutcomeError` (Defer for a limit, Retry for trouble)."""
        ...

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]]:
        """All objects of a type that belong to one (`hub.model.LISTED`), as they are now, each as `read` gives it,
        newest first. Raises `OutcomeError`."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One document or movement of money as one system has it: what `hub reconcile` compares. Amounts in major units,
    never negative where the kind says which way the money goes. None: this system does not say, or need not agree.
    """

    system: str
    """`stripe` for what must be there, else the destination that holds it."""
    kind: str
    """`invoice`, `credit_note`, `payment`, `refund`, `dispute`, `payout`, or what follows from one: `void`,
    `write_off`, `recovery`, `balance`, `balance_returned`, `memo`, `replaced`, `outside`, `reinstatement`, `paid_back`,
    `failed`; `other`."""
    object_id: str
    """The Stripe object it is of; empty if it bears no key of ours."""
    key: str
    """What it is called there: the external id, or the document type and code. Empty if it bears no key of ours."""
    amount: Decimal | None
    currency: str
    """ISO 4217, upper case."""
    date: date_
    """The day it is booked on."""
    tax: Decimal | None = None
    open: Decimal | None = None
    """What is not paid, applied or used up of it yet."""
    customer: str | None = None
    """The Stripe customer."""
    status: str | None = None
    subsidiary: str | None = None
    record: str = ""
    """The vendor's kind of record."""
    vendor_id: str = ""
    mentions: str = ""
    """Free text in which it may name a Stripe object: a memo, a description."""


class Statement(Protocol):
    """What a vendor holds, read from the vendor itself: not from what we remember of it. Reads only. All methods raise
    `OutcomeError`.
    """

    def between(self, first: date_, last: date_) -> AsyncIterator[list[Entry]]:
        """Pages of everything booked on these days (both included) that bears a key of ours, or may be a second copy of
        something that does."""
        ...

    async def keyed(self, keys: Sequence[str]) -> list[Entry]:
        """Those of these keys that exist, whatever their day."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class SourceWriter(Protocol):
    """The few things that the hub writes in the system the events come from (Stripe).

    Everything here says how a thing shall be, never "one more": doing it again changes nothing. `key` is sent as the
    idempotency key, at most 255 characters; Stripe names it in the events that come of the write
    (`request.idempotency_key`), and answers a key it knows with its first answer: what is meant anew needs a new key.
    All raise `OutcomeError`: `Unknown` if the write may have landed, a `Reject` with Stripe's own code if it never will
    (`invoice_not_editable`: no draft any more), `Retry` or `Defer` otherwise. Each gives the object as it then is.
    """

    async def set_tax(
        self, invoice_id: str, lines: Mapping[str, Sequence[Mapping[str, Any]]], metadata: Mapping[str, str], key: str
    ) -> dict[str, Any]:
        """Line id -> its taxes, as Stripe's `tax_amounts` (minor units); none: they are taken off. Drafts only."""
        ...

    async def hold(self, invoice_id: str, mark: Mapping[str, str], key: str) -> dict[str, Any]:
        """Stop a draft from finalising itself, and mark it. `{}` in a value of `mark` becomes the time at which it
        would have been finalised (ISO 8601, or nothing). Does nothing to a draft that does not finalise itself, or
        bears the mark.
        """
        ...

    async def release(
        self, invoice_id: str, finalizes_at: int | None, metadata: Mapping[str, str], key: str
    ) -> dict[str, Any]:
        """Let a draft finalise itself again: at that time (Unix seconds), or as Stripe does by itself if None."""
        ...

    async def finalize(self, invoice_id: str, key: str) -> dict[str, Any]:
        """Finalise a draft now and let Stripe collect it."""
        ...

    async def set_metadata(
        self, object_type: str, object_id: str, metadata: Mapping[str, str], key: str
    ) -> dict[str, Any]:
        """Set these keys of an object's metadata; an empty value removes one. The others stay."""
        ...
