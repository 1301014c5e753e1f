"""The internal destination `stripe`: turns thin notifications into events with the object inside, and notes vendors'
ids on Stripe's objects.

A thin notification (`object: "v2.core.event"`) names an object and carries no data. Its delivery fetches the v2 event
and the object, and hands both back as a follow-up event in the shape of a v1 snapshot, which is then routed like any
other. A repeat is harmless: the follow-up's id is made of the notification's, and the hub keeps the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from connectors.stripe.client import PINNED_VERSION, Body
from connectors.stripe.settings import StripeSettings
from connectors.stripe.source import StripeSource
from connectors.stripe.writer import StripeWriter
from hub.destination import Destination, Policy
from hub.errors import Answer, Defer, Outcome, OutcomeError, Receipt, Reject
from hub.model import WRITE_BACK, Event, EventKind, Job, NewEvent
from hub.ordering import rank

NOTED = {"cus": "customer", "in": "invoice", "cn": "credit_note", "re": "refund", "pyr": "refund"}
"""Beginning of an id -> type of the objects that bear vendors' ids: those that people look at."""
Now = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create(settings: StripeSettings, source: StripeSource | None = None, now: Now = _utc_now) -> Destination:
    """The destination. `source`: the hub's own, so that both keep one rate limit; it is then the caller's to close."""
    return ThinEvents(settings, source, now)


class ThinEvents:
    """See the module."""

    name = "stripe"

    def __init__(self, settings: StripeSettings, source: StripeSource | None, now: Now) -> None:
        # Two reads, each of all its tries with the waits between them, and two waits for the limiter.
        slowest = 2 * ((settings.retries + 1) * (settings.timeout + 10) + 15)
        self.policy = Policy(kind="ledger", slots=4, lease=slowest + 30)
        self._own = source is None
        self._source = source or StripeSource(settings)
        self._mode = "live" if settings.livemode else "test"
        self._now = now

    async def send(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """One outcome per job; a receipt carries the follow-up."""
        return [await self._one(job) for job in jobs]

    async def find(self, job: Job) -> Outcome | None:  # noqa: ARG002 - the contract's signature
        """Nothing is ever written, so sending again is always right."""
        return None

    async def ping(self) -> str:
        """Reads the newest event: `/v1/account` would name the account, but not every restricted key may ask it."""
        newest = await self._source.newest_event()
        seen = f"newest event {newest['id']}" if newest else "no events yet"
        return f"{self._mode} mode, API {PINNED_VERSION}, {seen}"

    async def close(self) -> None:
        """Close the connections, if they are ours."""
        if self._own:
            await self._source.close()

    async def _one(self, job: Job) -> Outcome:
        event = job.event
        if event.type == WRITE_BACK:
            return await self._note(event)
        if event.kind is not EventKind.THIN:
            return Receipt(note="the object is in the event already")
        thin: dict[str, Any] = orjson.loads(event.body)
        try:
            return await self._fetch(event, thin)
        except OutcomeError as error:
            return error.outcome

    async def _note(self, event: Event) -> Outcome:
        """A vendor's ids into the metadata of one of our objects. Says how it shall be: to do it again is harmless."""
        wanted = orjson.loads(event.body)["data"]["object"]
        object_type = NOTED.get(wanted["object"].partition("_")[0])
        if object_type is None:
            return Receipt(note="vendors' ids are not noted on objects of this kind")
        try:
            await StripeWriter(self._source.api).set_metadata(
                object_type, wanted["object"], wanted["metadata"], event.id
            )
        except OutcomeError as error:
            if isinstance(error.outcome, Defer) and error.outcome.pause:  # it must not keep us from reading
                cause = f"Our Stripe API key may not write the metadata of a {object_type}."
                fix = (
                    "Administrator: give the restricted key write access to customers, invoices, credit notes and "
                    "refunds and retry; or set HUB_NETSUITE_WRITE_BACK=false and skip this."
                )
                return Reject("not_permitted", cause, fix, error.outcome.answer)
            return error.outcome
        return Receipt(answer=Answer(200, None, {"noted": sorted(wanted["metadata"])}))

    async def _fetch(self, event: Event, thin: dict[str, Any]) -> Outcome:
        context = thin.get("context") or None
        full = await self._source.fetch_thin(event.id, context)
        related = (full or thin).get("related_object")
        data = (full or {}).get("data") or {}
        if related:
            body = await self._source.fetch_related(related["url"], context)
            found = body or _deleted(related)
        elif full is None:
            return Reject(
                "event_gone",
                "Stripe no longer has this event, and the notification names no object to read instead.",
                "Events are kept for 30 days. Look up what happened in Stripe's dashboard, then skip the delivery.",
            )
        else:
            found = Body(_text(data))
        note = None if full else "Stripe no longer has the event itself; only its object was read"
        follow_up = _snapshot(event, thin, found, data if related else {}, self._now())
        return Receipt(follow_ups=(follow_up,), answer=Answer(200, None, {"follow_up": follow_up.id}), note=note)


def _deleted(related: dict[str, Any]) -> Body:
    return Body(_text({"id": related["id"], "object": related["type"], "deleted": True}))


def _snapshot(event: Event, thin: dict[str, Any], found: Body, data: dict[str, Any], now: datetime) -> NewEvent:
    """The follow-up. The object's bytes are passed on as Stripe wrote them.

    `created` is the notification's: the object may be newer than that, never older, and what changed it since has an
    event of its own. What the v2 event says beyond its object is kept as `data.event_data`.
    """
    obj = found.json()
    type_ = event.type.removeprefix("v1.")
    inside: dict[str, Any] = {"object": orjson.Fragment(found.text)}
    if data:
        inside["event_data"] = orjson.Fragment(_text(data))
    shell = {
        "id": f"{event.id}:fetched",
        "object": "event",
        "type": type_,
        "created": int(event.created.timestamp()),
        "api_version": PINNED_VERSION,
        "livemode": event.livemode,
        "request": None,
        "data": inside,
    }
    if thin.get("context"):
        shell["context"] = thin["context"]
    if event.account:
        shell["account"] = event.account
    object_type, object_id = _string(obj.get("object")), _string(obj.get("id"))
    customer = obj.get("customer")
    return NewEvent(
        id=str(shell["id"]),
        kind=EventKind.SNAPSHOT,
        type=type_,
        body=orjson.dumps(shell),
        created=event.created.replace(microsecond=0),  # like its snapshot twin's: neither may win by a fraction
        received_at=now,
        account=event.account,
        api_version=PINNED_VERSION,
        livemode=event.livemode,
        object_type=object_type,
        object_id=object_id,
        customer_id=object_id if object_type == "customer" else _string(customer),
        rank=rank(object_type, obj, type_),
    )


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _text(value: Any) -> str:
    """JSON; a `Decimal` (a fraction in Stripe's answer) is written as the number it was."""
    return orjson.dumps(value, default=lambda decimal: orjson.Fragment(str(decimal))).decode()
