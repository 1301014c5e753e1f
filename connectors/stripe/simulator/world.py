"""Everything the simulated account holds, its business time, and what falls due.

Objects are stored as on the wire, except that an invoice's and a credit note's lines live beside it (`lines`), so that
the embedded first page is cut only when an object leaves the simulator (`World.snapshot`). Side tables hold what
Stripe keeps to itself. Nothing here knows a rule of billing.
"""

from __future__ import annotations

import heapq
import random
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from connectors.stripe.simulator.errors import StripeError, no_such
from connectors.stripe.simulator.events import EventLog
from connectors.stripe.simulator.values import API_PAGE, Obj, changes, copied

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Cycle:
    """How a subscription's periods follow each other: `count` intervals after the anchor the current one ends."""

    anchor: int
    interval: str
    interval_count: int
    count: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Who caused a change: echoed in `event.request`. Both None for what Stripe does by itself."""

    request_id: str | None = None
    idempotency_key: str | None = None


@dataclass(slots=True)
class World:
    """The account. `now` is business time in unix seconds; `Event.created` and every `created` come from it."""

    rng: random.Random
    now: int
    log: EventLog
    checks: Mapping[str, Callable[[World, Obj], None]]
    """Kind -> raises if an object of it does not add up; called whenever one leaves the simulator."""
    caller: Caller = Caller()
    objects: dict[str, dict[str, Obj]] = field(default_factory=lambda: defaultdict(dict))
    lines: dict[str, list[Obj]] = field(default_factory=dict)
    """Invoice or credit note id -> all its lines."""
    rates: dict[str, list[str]] = field(default_factory=dict)
    """Line, invoice item or subscription item id -> its own tax rates."""
    manual_taxes: dict[str, list[Obj]] = field(default_factory=dict)
    """Line id -> the tax amounts put on it by `update_lines`."""
    archived_rates: dict[tuple[object, ...], str] = field(default_factory=dict)
    tiers: dict[str, list[Obj]] = field(default_factory=dict)
    usage: dict[tuple[str, str], list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """(meter, customer) -> (timestamp, value), in order of arrival."""
    identifiers: dict[str, int] = field(default_factory=dict)
    pending_items: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Customer -> invoice items not yet on an invoice, oldest first."""
    payments_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Invoice -> its InvoicePayments."""
    notes_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    subscriptions_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    invoices_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Subscription or customer -> its invoices, oldest first."""
    cycles: dict[str, Cycle] = field(default_factory=dict)
    billed_lines: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """Subscription item -> (invoice, lines) that last billed it: what a proration credits."""
    attempts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Invoice -> automatic attempts to collect it so far."""
    troubled: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Subscription -> its invoices that failed or are overdue."""
    payment: dict[str, str] = field(default_factory=dict)
    """Customer -> `ok` or `fails`: whether charges succeed, whatever the metadata says."""
    credited: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Invoice line -> how much of it credit notes have taken back."""
    webhooks_fail: bool = False
    """No endpoint answers: drafts wait for their `invoice.created` to be delivered."""
    tax_ids_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    next_refund: str | None = None
    """How the next refund ends, if not at once: `succeeded` or `failed`."""
    failing_payouts: int = 0
    """How many of the next payouts the bank refuses."""
    unpaid: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Settlement currency -> balance transactions in the balance, oldest first."""
    paid_out: dict[str, list[str]] = field(default_factory=dict)
    """Payout -> the balance transactions it took out of the balance."""
    thin_events: dict[str, Obj] = field(default_factory=dict)
    due: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    sequence: int = 0

    def new_id(self, prefix: str) -> str:
        """A Stripe-looking id, drawn from the seed."""
        return f"{prefix}_1{''.join(self.rng.choices(_ALPHABET, k=23))}"

    def add(self, kind: str, obj: Obj) -> Obj:
        """Keep a new object; lists show the newest first, so the order of adding matters."""
        self.objects[kind][obj["id"]] = obj
        return obj

    def get(self, kind: str, object_id: str, param: str = "id") -> Obj:
        """The live object, or Stripe's `resource_missing`. Deleted ones count as missing."""
        obj = self.objects[kind].get(object_id)
        if obj is None or obj.get("deleted"):
            raise no_such(kind, object_id, param)
        return obj

    def all(self, kind: str, ids: Iterable[str]) -> list[Obj]:
        """Several objects known to exist."""
        table = self.objects[kind]
        return [table[each] for each in ids]

    def snapshot(self, obj: Obj) -> Obj:
        """The object as it leaves the simulator: a copy, with the first page of its lines."""
        result: Obj = copied(obj)
        kind = str(obj.get("object"))
        if kind in self.checks:
            self.checks[kind](self, obj)
        if kind in ("invoice", "credit_note") and obj["id"] in self.lines:
            lines = self.lines[obj["id"]]
            folder = "invoices" if kind == "invoice" else "credit_notes"
            result["lines"] = {
                "object": "list",
                "data": copied(lines[:API_PAGE]),
                "has_more": len(lines) > API_PAGE,
                "url": f"/v1/{folder}/{obj['id']}/lines",
            }
        return result

    def emit(self, event_type: str, obj: Obj, previous: Obj | None = None) -> Obj:
        """An event about an object as it is now."""
        return self.emit_snapshot(event_type, self.snapshot(obj), previous)

    def emit_snapshot(self, event_type: str, body: Obj, previous: Obj | None = None) -> Obj:
        """An event about exactly this body."""
        data: Obj = {"object": body}
        if previous is not None:
            data["previous_attributes"] = previous
        event: Obj = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": self.log.api_version,
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": len(self.log.listeners),
            "request": {"id": self.caller.request_id, "idempotency_key": self.caller.idempotency_key},
            "type": event_type,
        }
        self.log.append(event)
        return event

    @contextmanager
    def changing(self, obj: Obj, event_type: str) -> Iterator[Obj]:
        """Emit `event_type` with `previous_attributes` after the block, if the block changed the object; undo a block
        that was refused."""
        before = self.snapshot(obj)
        try:
            yield obj
        except StripeError:
            obj.update({key: value for key, value in before.items() if key != "lines"})
            raise
        after = self.snapshot(obj)
        if after != before:
            self.emit_snapshot(event_type, after, changes(before, after))

    def at(self, moment: int, action: Callable[[], None]) -> None:
        """Do something when business time gets there. The action checks for itself whether it is still wanted."""
        self.sequence += 1
        heapq.heappush(self.due, (moment, self.sequence, action))

    def advance_to(self, moment: int) -> None:
        """Run what falls due up to and including `moment`, in order of time, then of scheduling."""
        caller, self.caller = self.caller, Caller()
        try:
            while self.due and self.due[0][0] <= moment:
                when, _, action = heapq.heappop(self.due)
                self.now = max(self.now, when)
                action()
            self.now = max(self.now, moment)
        finally:
            self.caller = caller
        self.log.forget_before(self.now - 30 * 86400)
