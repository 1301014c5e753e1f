"""Writes billing documents into NetSuite's ledger. What goes where and when: `README.md`.

Actions of a record (`action` in a mapping):

    upsert   PUT by external id: create it or make it so
    void     take out of use. A transaction (`creditMemo:void`, over what is open of an invoice that Stripe has
             voided) is written like `upsert`: NetSuite's REST service has no verb that voids. Any other record (a
             customer made inactive): PATCH by external id if it exists; if it does not, there is nothing to do
    adopt    the record that a person linked by its internal id gets our external id and nothing else (PATCH by internal
             id); from then on it is written by external id like any other
    revive   a customer that we made inactive is active again, and nothing else (PATCH by external id): an inactive one
             gets no more documents
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from connectors.netsuite import periods
from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.compare import holds
from connectors.netsuite.document import (
    ADDRESSES,
    TRANSACTIONS,
    differs,
    expected,
    fields_of,
    kind_of,
    refused,
    with_numbers,
)
from connectors.netsuite.errors import ALREADY_EXISTS, Reply, judge
from connectors.netsuite.limit import Limit
from connectors.netsuite.settings import NetSuiteSettings
from connectors.netsuite.wire import loads
from connectors.netsuite.write_back import noted
from hub.destination import Destination, Policy
from hub.destination import Limit as SharedLimit
from hub.errors import Answer, Defer, Outcome, OutcomeError, Receipt, Reject, Retry, Unknown
from hub.model import ADOPT, REVIVE, VOIDED, Job, Link, NewEvent, Record

NAME = "netsuite"
T = TypeVar("T")
ACTIONS = ("upsert", "void", REVIVE)
REQUESTS_A_SEND = 4
"""So many requests of one send may take their full timeout; then it is over, and what became of it is looked up."""
KEPT_LINES = frozenset({"currencyList", "addressBook"})
"""Sublists that people extend in NetSuite: our lines are added or updated by their key, theirs are left alone."""
_DID = ("written", "nothing", "found", "given")
"""What an ordinary write says it did: no need for a note in the receipt."""


def create(settings: NetSuiteSettings, limit: SharedLimit | None = None) -> Destination:
    """The destination, ready to use; opens no connection. `limit`: of the whole account, over all processes."""
    return NetSuite(settings, shared=limit)


class NetSuite:
    """`Destination` for one NetSuite account."""

    name = NAME

    def __init__(
        self,
        settings: NetSuiteSettings,
        *,
        limit: Limit | None = None,
        shared: SharedLimit | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._client = NetSuiteClient(settings, limit or Limit(settings.concurrency), clock=clock, shared=shared)
        self._settings, self._clock = settings, clock
        self._periods: dict[str, tuple[float, periods.Period | None]] = {}
        """Month -> until when it is taken as known, and its open period."""
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, protects nothing
        self._send_limit = REQUESTS_A_SEND * settings.request_timeout
        self.policy = Policy(
            kind="ledger",
            slots=settings.concurrency,
            concurrency=settings.concurrency,  # a job makes its requests one by one
            lease=self._send_limit / 0.8 + 30.0,  # the engine cuts a send off at 0.8 of the lease; ours comes first
            unknown_wait=settings.unknown_wait,
            retry_first=2.0,
        )

    async def send(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """Writes each job's records, parents first. A record written before with the same fields is skipped."""
        return [await self._bounded(self._write(job), Unknown("the send took too long")) for job in jobs]

    async def find(self, job: Job) -> Outcome | None:
        """Reads each record back: one GET per record."""
        return await self._bounded(self._look(job), Retry("SLOW", "looking took too long"))

    async def ping(self) -> str:
        reply = await self._client.call("GET", "/record/v1/customer", record="customer", params={"limit": "1"})
        if reply.status != 200:
            raise OutcomeError(judge(reply, writing=False, rng=self._rng))
        how = "OAuth 2.0, certificate" if self._settings.auth == "oauth2" else "token"
        whom = self._settings.certificate_id if self._settings.auth == "oauth2" else self._settings.token_id
        return f"NetSuite account {self._settings.account} ({how} {whom})"

    async def close(self) -> None:
        await self._client.close()

    async def _bounded(self, work: Coroutine[Any, Any, T], late: Outcome) -> T | Outcome:
        try:
            async with asyncio.timeout(self._send_limit):
                return await work
        except TimeoutError:
            return late
        except OutcomeError as error:
            return error.outcome

    async def _write(self, job: Job) -> Receipt:
        links: list[Link] = []
        written: list[dict[str, Any]] = []
        notes: list[str] = []
        for record in job.records:
            problem = refused(record)  # of all of them before the first is sent
            if problem is not None:
                raise OutcomeError(problem)
        for record in job.records:
            if record.link is not None and record.link.digest == record.digest:
                written.append({"record": record.record, "key": record.key, "did": "nothing: already as wanted"})
                continue
            if record.action == ADOPT:
                vendor_id, did = await self._adopt(record)
            else:
                # A parent that an earlier attempt has written is not written again: the rest of that attempt failed.
                there = await self._there(record) if job.attempt > 1 and record is not job.records[-1] else None
                vendor_id, did = there or await self._put(record)
            if vendor_id:
                links.append(_link(record, vendor_id))
            written.append({"record": record.record, "key": record.key, "id": vendor_id, "did": did})
            notes += [] if did.startswith(_DID) else [f"{record.record} {record.key}: {did}"]
        return Receipt(
            tuple(links),
            self._noted(job, links),
            Answer(status=204, detail={"records": written}),
            note="; ".join(notes) or None,
        )

    def _noted(self, job: Job, links: Sequence[Link]) -> tuple[NewEvent, ...]:
        return noted(job, links, datetime.fromtimestamp(self._clock(), UTC)) if self._settings.write_back else ()

    async def _put(self, record: Record) -> tuple[str, str]:
        """Writes one record: its internal id (empty if there is none), and what was done in a word."""
        if record.action not in ACTIONS:
            raise OutcomeError(_unknown_action(record))
        updating = record.action == REVIVE or (record.action == "void" and kind_of(record) not in TRANSACTIONS)
        did, fields = "written", fields_of(record, self._settings)
        if ADDRESSES in fields and record.link is not None:
            fields = with_numbers(fields, await self._read(record))
        if self._settings.closed_period == "next_period" and "tranDate" in fields:
            fields, did = await self._in_period(fields)
        reply = await self._send_fields(record, fields, updating=updating)
        outcome = self._judged(reply)
        if isinstance(outcome, Reject) and outcome.code == periods.REFUSED and "tranDate" in fields:
            fields, did = await self._into_open_period(fields, outcome)
            reply = await self._send_fields(record, fields, updating=updating)
            outcome = self._judged(reply)
            if isinstance(outcome, Reject) and outcome.code == periods.REFUSED:
                outcome = periods.held(outcome, record.fields, self._settings.closed_period, None)
        if outcome is None:
            vendor_id = _id_in(reply)
            if vendor_id is None:
                raise OutcomeError(Unknown("NetSuite did not say which record it wrote", answer=reply.answer()))
            await self._check_total(record, vendor_id)
            return vendor_id, did
        if record.action == "void" and updating and reply.status == 404 and not reply.is_page:
            return "", "nothing: it is not in NetSuite"
        if isinstance(outcome, Reject) and outcome.code == ALREADY_EXISTS:
            # Either an earlier attempt of ours has landed while this one ran, or a stranger has the name.
            found = await self._read(record)
            if found is not None:
                if holds(fields, found):
                    return _checked(record, found), "found: an earlier attempt had landed"
                outcome = Retry(ALREADY_EXISTS, "it was created at the same moment", answer=reply.answer())
        raise OutcomeError(outcome)

    async def _there(self, record: Record) -> tuple[str, str] | None:
        """The record, if NetSuite holds it exactly as wanted."""
        found = await self._read(record)
        if found is None or not holds(fields_of(record, self._settings), found):
            return None
        return _checked(record, found), "found: an earlier attempt had landed"

    async def _send_fields(self, record: Record, fields: Mapping[str, Any], *, updating: bool) -> Reply:
        return await self._client.call(
            "PATCH" if updating else "PUT",
            _path(record),
            record=kind_of(record),
            key=record.key,
            params=_replace(record, fields),
            body=fields,
        )

    def _judged(self, reply: Reply) -> Outcome | None:
        """None: it was done."""
        if 200 <= reply.status < 300 and not reply.is_page:
            return None
        return judge(reply, writing=True, rng=self._rng)

    async def _into_open_period(self, fields: Mapping[str, Any], reject: Reject) -> tuple[dict[str, Any], str]:
        """The fields by the policy for closed periods, and what that means. Raises the dead letter where it ends."""
        policy = self._settings.closed_period
        period = await self._open_period(fields["tranDate"]) if policy != "hold" else None
        if period is None or fields.get("postingPeriod") == {"id": period.id}:
            raise OutcomeError(periods.held(reject, fields, policy, period))
        return periods.moved(fields, policy, period)

    async def _in_period(self, fields: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """The fields with the posting period, if that of the date is closed."""
        day = fields["tranDate"]
        until, period = self._periods.get(day[:7], (0.0, None))
        if until < self._clock():
            period = await self._open_period(day)
            self._periods[day[:7]] = (self._clock() + periods.REMEMBERED, period)
        if period is None or period.first_day <= day:
            return fields, "written"
        return periods.moved(fields, "next_period", period)

    async def _open_period(self, day: str) -> periods.Period | None:
        """The first open accounting period that does not end before this day."""
        reply = await self._client.call(
            "POST",
            periods.SUITEQL,
            record="accountingperiod",
            params={"limit": "1"},
            body=periods.question(day),
            headers=periods.HEADERS,
        )
        if reply.status != 200 or reply.is_page:
            raise OutcomeError(judge(reply, writing=False, rng=self._rng))
        return periods.first(reply.text)

    async def _check_total(self, record: Record, vendor_id: str) -> None:
        """One GET of one field: scripts, tax bundles and rounding in the account can make another total of our rows. If
        it cannot be read the write counts as unknown: `find` reads it, and nothing is written twice."""
        if expected(record) is None or not self._settings.read_back:
            return
        kind = kind_of(record)
        unread = Unknown(f"{kind} {record.key} is written, but its total could not be read")
        try:
            reply = await self._client.call(
                "GET", f"/record/v1/{kind}/{vendor_id}", record=kind, key=record.key, params={"fields": "total"}
            )
        except OutcomeError as error:
            raise OutcomeError(error.outcome if isinstance(error.outcome, Defer) else unread) from error
        if reply.status != 200 or reply.is_page:
            outcome = judge(reply, writing=False, rng=self._rng)
            raise OutcomeError(outcome if isinstance(outcome, Defer) else unread)
        _checked(record, {**loads(reply.text), "id": vendor_id})

    async def _adopt(self, record: Record) -> tuple[str, str]:
        """Gives the linked record our external id, unless it bears another: that may be somebody else's key to it."""
        number = record.link.vendor_id if record.link is not None else ""
        where = f"/record/v1/{kind_of(record)}/{number}"
        if not (number.isascii() and number.isdigit()):
            raise OutcomeError(_wrong_link(record, "LINK_MALFORMED", f"{number!r} is not an internal id, a number"))
        reply = await self._client.call("GET", where, record=record.record, key=record.key)
        if reply.status == 404 and not reply.is_page:
            raise OutcomeError(_wrong_link(record, "LINK_NOT_FOUND", f"there is no {record.record} {number}"))
        if reply.status != 200 or reply.is_page:
            raise OutcomeError(judge(reply, writing=False, rng=self._rng))
        bears = loads(reply.text).get("externalId")
        if bears == record.key:
            return number, "nothing: it has our external id"
        if bears:
            raise OutcomeError(_wrong_link(record, "LINK_TAKEN", f"{number} bears the external id {str(bears)[:80]!r}"))
        body = {"externalId": record.key}
        reply = await self._client.call("PATCH", where, record=record.record, key=record.key, body=body)
        if 200 <= reply.status < 300 and not reply.is_page:
            return number, "given our external id"
        outcome = judge(reply, writing=True, rng=self._rng)
        if isinstance(outcome, Reject) and outcome.code == ALREADY_EXISTS:
            outcome = _wrong_link(record, "LINK_TAKEN", f"another record than {number} bears our external id")
        raise OutcomeError(outcome)

    async def _look(self, job: Job) -> Receipt | None:
        links: list[Link] = []
        for record in job.records:
            if record.link is not None and record.link.digest == record.digest:
                continue
            found = await self._read(record)
            if found is None or not holds(fields_of(record, self._settings), found):
                return None
            _checked(record, found)
            if record.action == ADOPT and record.link is not None and str(found["id"]) != record.link.vendor_id:
                return None
            links.append(_link(record, str(found["id"])))
        return Receipt(tuple(links), self._noted(job, links), note="found in NetSuite after a lost reply")

    async def _read(self, record: Record) -> Mapping[str, Any] | None:
        """The record with its lines, or None if there is none with exactly this external id."""
        reply = await self._client.call(
            "GET", _path(record), record=kind_of(record), key=record.key, params={"expandSubResources": "true"}
        )
        if reply.status == 404 and not reply.is_page:
            return None
        if reply.status != 200 or reply.is_page:
            raise OutcomeError(judge(reply, writing=False, rng=self._rng))
        found: Any = loads(reply.text)
        # NetSuite may compare external ids without regard to letter case; Stripe ids differ by it.
        return found if isinstance(found, dict) and found.get("externalId") == record.key and found.get("id") else None


def _checked(record: Record, found: Mapping[str, Any]) -> str:
    """The internal id, once the total is what it must be. Raises the dead letter."""
    vendor_id = str(found.get("id", ""))
    problem = differs(record, vendor_id, found.get("total"))
    if problem is not None:
        raise OutcomeError(problem)
    return vendor_id


def _path(record: Record) -> str:
    return f"/record/v1/{kind_of(record)}/eid:{record.key}"


def _replace(record: Record, fields: Mapping[str, Any]) -> dict[str, str]:
    """`?replace=item,apply`: without it a repeated PUT adds our lines to those already there and doubles the amount."""
    kept = KEPT_LINES if record.link is not None else KEPT_LINES - {ADDRESSES}  # a new customer has no others
    names = [n for n, value in fields.items() if isinstance(value, Mapping) and "items" in value and n not in kept]
    return {"replace": ",".join(names)} if names else {}


def _id_in(reply: Reply) -> str | None:
    """The internal id at the end of `Location: https://.../record/v1/invoice/647`."""
    last = reply.headers.get("location", "").rstrip("/").rpartition("/")[2]
    return last if last.isdigit() else None


def _link(record: Record, vendor_id: str) -> Link:
    return record.link_to(vendor_id, VOIDED if record.action == "void" else None)


def _wrong_link(record: Record, code: str, cause: str) -> Reject:
    return Reject(
        code,
        f"{record.object_id} was linked by a person to a {record.record} that cannot be used: {cause}.",
        f"Accounting: link the right record instead of it (`hub link` with --instead-of), or give the right one the "
        f"external id {record.key} and take it from any other; then retry.",
    )


def _unknown_action(record: Record) -> Reject:
    return Reject(
        "UNKNOWN_ACTION",
        f"mapping {record.mapping} wants the action {record.action!r}",
        "Administrator: use upsert or void in the mapping; then retry.",
    )
