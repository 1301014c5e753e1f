"""One round of writing: the distinct records of many jobs, parents first, in as few calls as Salesforce allows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from connectors.salesforce.adopt import adopt
from connectors.salesforce.client import CallError, Client
from connectors.salesforce.errors import Fault, faults, judge_row
from connectors.salesforce.objects import EXTERNAL_ID
from hub.errors import Answer, Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.model import ADOPT, Job, Link, Record

MOST_ROWS = 200
"""Rows in one collection call (REST API Developer Guide, "sObject Collections")."""
SUSPECT = 3
"""From this attempt on a record may be what makes whole calls fail."""
MOST_CALLS = 40
"""Calls in one round. Finding one bad record among 200 by halving takes 16; what is left over comes round again."""

Item: TypeAlias = tuple[str, str, bool]
"""Kind of record, key, and whether it is only to be adopted."""


@dataclass(slots=True)
class _Want:
    """A record to write, and the fewest attempts any job that wants it has behind it."""

    record: Record
    attempt: int


class Round:
    """The state of one round: what is known of each record so far."""

    def __init__(self, client: Client, *, ends: float, clock: Callable[[], float]) -> None:
        self._client, self._ends, self._clock = client, ends, clock
        self._calls = 0
        self._closed: Outcome | None = None
        self._found: dict[Item, Link | Outcome] = {}

    def write(self, jobs: Sequence[Job]) -> list[Outcome]:
        """One outcome per job: its receipt, or what became of the first of its records that was not written."""
        wants: dict[Item, _Want] = {}
        for job in jobs:
            for record in job.records:
                item = _item(record)
                fewest = min(job.attempt, wants[item].attempt) if item in wants else job.attempt
                wants[item] = _Want(record, fewest)  # the last job has the newest snapshot
        for item, want in wants.items():
            if (refusal := _refusal(want.record)) is not None:
                self._found[item] = refusal
        for kind in EXTERNAL_ID:
            for item in self._needed(jobs, kind):
                if wants[item].record.action == ADOPT:
                    self._found[item] = self._adopt(wants[item].record)
            needed = self._needed(jobs, kind)
            self._kind(kind, [want for item, want in wants.items() if item in needed])
        return [self._outcome(job) for job in jobs]

    def _needed(self, jobs: Sequence[Job], kind: str) -> set[Item]:
        """Records of a kind that a job still wants: none of its earlier records has failed."""
        needed = set()
        for job in jobs:
            for record in job.records:
                known = self._found.get(_item(record))
                if record.record == kind and known is None:
                    needed.add(_item(record))
                elif known is not None and not isinstance(known, Link):
                    break
        return needed

    def _kind(self, kind: str, wants: Sequence[_Want]) -> None:
        """All records of a kind: new ones in full groups; those that keep failing after them, in a slow start.

        A record that makes every call with it time out must not take 199 others along for days. So the worst go first
        and alone; while calls succeed, groups double: after an outage, when all have failed often, that costs little.
        """
        fresh = [want.record for want in wants if want.attempt < SUSPECT]
        for start in range(0, len(fresh), MOST_ROWS):
            self._upsert(kind, fresh[start : start + MOST_ROWS])
        suspects = [want for want in wants if want.attempt >= SUSPECT]
        suspects.sort(key=lambda want: -want.attempt)
        start, size = 0, 1
        while start < len(suspects):
            group = [want.record for want in suspects[start : start + size]]
            self._upsert(kind, group)
            start += size
            well = not any(isinstance(self._found[_item(record)], Unknown) for record in group)
            size = min(2 * size, MOST_ROWS) if well else 1

    def _adopt(self, record: Record) -> Link | Outcome:
        """One by one: it happens once in a record's life, and only to those that a person linked."""
        if (closed := self._no_more(split=False)) is not None:
            return closed
        self._calls += 2
        found = adopt(self._client, record)
        if isinstance(found, Defer):
            self._closed = found
        return found

    def _upsert(self, kind: str, first: list[Record]) -> None:
        """Write a group; where the whole call is refused for one record's sake, find that record and write the rest."""
        stack = [(first, False)]
        while stack:
            group, split = stack.pop()
            if (closed := self._no_more(split=split)) is not None:
                self._mark(group, closed)
                continue
            self._calls += 1
            try:
                self._rows(kind, group)
            except CallError as error:
                guilty, rest = _suspects(error, group)
                self._mark(guilty, error.outcome)
                stack += [(part, True) for part in rest]
                if isinstance(error.outcome, Defer) or (isinstance(error.outcome, Retry) and error.status is None):
                    self._closed = error.outcome

    def _rows(self, kind: str, group: list[Record]) -> None:
        external_id = EXTERNAL_ID[kind]
        rows = [{external_id: record.key, **record.fields} for record in group]
        for record, row in zip(group, self._client.upsert(kind, external_id, rows), strict=True):
            self._found[_item(record)] = _result(record, row, external_id)

    def _no_more(self, *, split: bool) -> Outcome | None:
        """Why no further call is made in this round; None while there is room."""
        if self._closed is not None:
            return self._closed
        if self._calls < MOST_CALLS and self._clock() < self._ends:
            return None
        if split:
            # Not free of charge: a group that is never sorted out must end as a dead letter, not go round for ever.
            return Retry("NOT_ISOLATED", "the call was refused because of a record in it that is not found yet")
        return Defer("this round had no time left for the record", 1.0)

    def _mark(self, group: Sequence[Record], outcome: Outcome) -> None:
        for record in group:
            self._found[_item(record)] = outcome

    def _outcome(self, job: Job) -> Outcome:
        links = []
        for record in job.records:
            known = self._found.get(_item(record))
            if isinstance(known, Link):
                links.append(known)
            elif known is None:
                return Defer("this round did not come to the record", 1.0)
            elif record is not job.records[-1] and isinstance(known, Reject):
                cause = f"the {record.record} {record.key} it belongs to was refused: {known.cause}"
                return replace(known, cause=cause[:300])
            else:
                return known
        return receipt(links, self._client)


def receipt(links: Sequence[Link], client: Client, note: str | None = None) -> Receipt:
    """All of a job's records are in Salesforce."""
    detail: dict[str, object] = {link.record: link.vendor_id for link in links}
    if client.usage is not None:
        detail["api_usage"] = f"{client.usage[0]}/{client.usage[1]}"
    return Receipt(links=tuple(links), answer=Answer(status=200, detail=detail), note=note)


def _item(record: Record) -> Item:
    return (record.record, record.key, record.action == ADOPT)


def _refusal(record: Record) -> Outcome | None:
    """What the connector itself cannot write."""
    fix = "Whoever owns the mapping: see the connector's README for what it writes. Then retry the delivery."
    if record.record not in EXTERNAL_ID:
        return Reject("UNKNOWN_RECORD", f"the connector does not write records of the kind {record.record}", fix)
    if record.action == ADOPT:
        return None
    if record.action != "upsert":
        return Reject("UNKNOWN_ACTION", f"the connector knows no action {record.action!r}, only upsert", fix)
    if EXTERNAL_ID[record.record] in record.fields:
        return Reject("KEY_IN_FIELDS", f"the mapping sets {EXTERNAL_ID[record.record]}, which is the record's key", fix)
    return None


def _suspects(error: CallError, group: list[Record]) -> tuple[list[Record], list[list[Record]]]:
    """Of a group whose call failed: the records its outcome holds for, and the groups to try again without them.

    Whether one unknown field fails a whole collection or only its row is not documented; both are handled.
    """
    outcome = error.outcome
    parent = isinstance(outcome, Retry) and outcome.code == "PARENT_MISSING"
    if error.status != 400 or len(group) == 1 or not (parent or isinstance(outcome, Reject)):
        return group, []
    named = _named(error.faults)
    guilty = [record for record in group if named & record.fields.keys()]
    if guilty:
        rest = [record for record in group if not named & record.fields.keys()]
        return guilty, [rest] if rest else []
    middle = len(group) // 2
    return [], [group[:middle], group[middle:]]


def _named(found: Sequence[Fault]) -> set[str]:
    """Fields the org does not have, as the error names them."""
    names = set()
    for fault in found:
        if fault.code == "INVALID_FIELD":
            names |= set(re.findall(r"No such column '(\w+)'", fault.message))
    return names


def _result(record: Record, row: object, external_id: str) -> Link | Outcome:
    if isinstance(row, dict) and row.get("success") is True and isinstance(row.get("id"), str):
        return record.link_to(row["id"])
    if isinstance(row, dict) and row.get("success") is False:
        return judge_row(faults(row.get("errors") or []), external_id)
    return Unknown("Salesforce's answer for the record cannot be read")
