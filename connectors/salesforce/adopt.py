"""A record that a person linked by its Salesforce id gets our external id; then it is upserted like any other."""

from __future__ import annotations

import re

from connectors.salesforce.client import CallError, Client
from connectors.salesforce.objects import EXTERNAL_ID
from hub.errors import Outcome, Reject, Retry, Unknown
from hub.model import Link, Record

_ID = re.compile(r"[A-Za-z0-9]{15}([A-Za-z0-9]{3})?")


def adopt(client: Client, record: Record) -> Link | Outcome:
    """Two calls: read the record's external id, and set it if it is empty. Another one is somebody else's and stays.

    Everything else in the record stays as it is (REST API Developer Guide, "sObject Rows": a PATCH by id changes the
    fields it names). Repeating it after a lost reply changes nothing.
    """
    record_id = record.link.vendor_id if record.link is not None else ""
    if not _ID.fullmatch(record_id):
        return _refused(record, "LINK_MALFORMED", f"{record_id!r} is not a Salesforce id of 15 or 18 characters")
    external_id, path = EXTERNAL_ID[record.record], f"sobjects/{record.record}/{record_id}"
    try:
        row = client.call("GET", path, params={"fields": external_id})
    except CallError as error:
        if error.status == 404:
            return _refused(record, "LINK_NOT_FOUND", f"there is no {record.record} {record_id}, or it was deleted")
        if isinstance(error.outcome, Unknown):
            return Retry("NETWORK", f"reading it gave no answer: {error.outcome.reason}")
        return error.outcome
    bears = row.get(external_id) if isinstance(row, dict) else None
    if bears and bears != record.key:
        return _refused(record, "LINK_TAKEN", f"{record_id} has {external_id} {str(bears)[:80]!r}")
    return record.link_to(record_id) if bears else _name(client, record, record_id)


def _name(client: Client, record: Record, record_id: str) -> Link | Outcome:
    external_id = EXTERNAL_ID[record.record]
    try:
        client.call("PATCH", f"sobjects/{record.record}/{record_id}", body={external_id: record.key})
    except CallError as error:
        if any(fault.code == "DUPLICATE_VALUE" for fault in error.faults):
            return _refused(record, "LINK_TAKEN", f"another record than {record_id} has {external_id} {record.key}")
        return error.outcome
    return record.link_to(record_id)


def same_id(one: str, other: str) -> bool:
    """Ids of 15 and of 18 characters name the same record if their first 15 are the same."""
    return one[:15] == other[:15]


def _refused(record: Record, code: str, cause: str) -> Reject:
    return Reject(
        code,
        f"{record.object_id} was linked by a person to a {record.record} that cannot be used: {cause}.",
        f"Administrator: link the right record instead of it (`hub link` with --instead-of), or give the right one the "
        f"{EXTERNAL_ID[record.record]} {record.key} and take it from any other; then retry.",
    )
