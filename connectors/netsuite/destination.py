"""Writes billing documents into NetSuite's ledger. What goes where and when: `README.md`.

Actions of a record (`action` in a mapping):

    upsert   PUT by external id: create it or make it so
    void     take out of use. `creditMemo`: a credit memo over what is open of an invoice that Stripe has voided,
             written like `upsert`: NetSuite's REST service has no verb that voids a transaction. Any other record (a
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
from typing import Any, TypeVar

from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.compare import holds
from connectors.netsuite.errors import ALREADY_EXISTS, Reply, judge
from connectors.netsuite.limit import Limit
from connectors.netsuite.settings import NetSuiteSettings
from connectors.netsuite.wire import loads
from hub.destination import Destination, Policy
from hub.destination import Limit as SharedLimit
from hub.errors import Answer, Outcome, OutcomeError, Receipt, Reject, Retry, Unknown
from hub.model import ADOPT, REVIVE, VOIDED, Job, Link, Record

NAME = "netsuite"
T = TypeVar("T")
ACTIONS = ("upsert", "void", REVIVE)
ACTIVE = {"isInactive": False}
"""What `revive` writes."""
REQUESTS_A_SEND = 4
"""Most requests of one send at their full timeout: customer, invoice, payment or credit memo, and one look."""
KEPT_LINES = frozenset({"currencyList", "addressBook"})
"""Sublists that people extend in NetSuite: our lines are added or updated by their key, theirs are left alone."""


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
        self._settings = settings
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
        for record in job.records:
            if record.link is not None and record.link.digest == record.digest:
                written.append({"record": record.record, "key": record.key, "did": "nothing: already as wanted"})
                continue
            vendor_id, did = await (self._adopt(record) if record.action == ADOPT else self._put(record))
            if vendor_id:
                links.append(_link(record, vendor_id))
            written.append({"record": record.record, "key": record.key, "id": vendor_id, "did": did})
        return Receipt(tuple(links), answer=Answer(status=204, detail={"records": written}))

    async def _put(self, record: Record) -> tuple[str, str]:
        """Writes one record: its internal id (empty if there is none), and what was done in a word."""
        if record.action not in ACTIONS:
            raise OutcomeError(_unknown_action(record))
        updating = record.action == REVIVE or (record.action == "void" and record.record != "creditMemo")
        reply = await self._client.call(
            "PATCH" if updating else "PUT",
            _path(record),
            record=record.record,
            key=record.key,
            params=_replace(record),
            body=_fields(record),
        )
        if 200 <= reply.status < 300 and not reply.is_page:
            vendor_id = _id_in(reply)
            if vendor_id is None:
                raise OutcomeError(Unknown("NetSuite did not say which record it wrote", answer=reply.answer()))
            return vendor_id, "written"
        if record.action == "void" and updating and reply.status == 404 and not reply.is_page:
            return "", "nothing: it is not in NetSuite"
        outcome = judge(reply, writing=True, rng=self._rng)
        if isinstance(outcome, Reject) and outcome.code == ALREADY_EXISTS:
            # Either an earlier attempt of ours has landed while this one ran, or a stranger has the name.
            found = await self._read(record)
            if found is not None:
                if holds(record.fields, found):
                    return str(found.get("id", "")), "found: an earlier attempt had landed"
                outcome = Retry(ALREADY_EXISTS, "it was created at the same moment", answer=reply.answer())
        raise OutcomeError(outcome)

    async def _adopt(self, record: Record) -> tuple[str, str]:
        """Gives the linked record our external id, unless it bears another: that may be somebody else's key to it."""
        number = record.link.vendor_id if record.link is not None else ""
        where = f"/record/v1/{record.record}/{number}"
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
            if found is None or not holds(_fields(record), found):
                return None
            if record.action == ADOPT and record.link is not None and str(found["id"]) != record.link.vendor_id:
                return None
            links.append(_link(record, str(found["id"])))
        return Receipt(tuple(links), note="found in NetSuite after a lost reply")

    async def _read(self, record: Record) -> Mapping[str, Any] | None:
        """The record with its lines, or None if there is none with exactly this external id."""
        reply = await self._client.call(
            "GET", _path(record), record=record.record, key=record.key, params={"expandSubResources": "true"}
        )
        if reply.status == 404 and not reply.is_page:
            return None
        if reply.status != 200 or reply.is_page:
            raise OutcomeError(judge(reply, writing=False, rng=self._rng))
        found: Any = loads(reply.text)
        # NetSuite may compare external ids without regard to letter case; Stripe ids differ by it.
        return found if isinstance(found, dict) and found.get("externalId") == record.key and found.get("id") else None


def _path(record: Record) -> str:
    return f"/record/v1/{record.record}/eid:{record.key}"


def _fields(record: Record) -> Mapping[str, Any]:
    return ACTIVE if record.action == REVIVE else record.fields


def _replace(record: Record) -> dict[str, str]:
    """`?replace=item,apply`: without it a repeated PUT adds our lines to those already there and doubles the amount."""
    names = [
        name
        for name, value in record.fields.items()
        if isinstance(value, Mapping) and "items" in value and name not in KEPT_LINES
    ]
    return {"replace": ",".join(names)} if names else {}


def _id_in(reply: Reply) -> str | None:
    """The internal id at the end of `Location: https://.../record/v1/invoice/647`."""
    last = reply.headers.get("location", "").rstrip("/").rpartition("/")[2]
    return last if last.isdigit() else None


def _link(record: Record, vendor_id: str) -> Link:
    return Link(
        object_id=record.object_id,
        record=record.record,
        key=record.key,
        vendor_id=vendor_id,
        digest=record.digest,
        mapping=record.mapping,
        status=VOIDED if record.action == "void" else None,
    )


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
