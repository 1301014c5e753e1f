"""What became of a write whose reply was lost: is every record there, exactly as wanted?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from simple_salesforce.format import format_soql

from connectors.salesforce.adopt import same_id
from connectors.salesforce.client import CallError, Client
from connectors.salesforce.objects import EXTERNAL_ID
from connectors.salesforce.write import receipt
from hub.errors import Outcome, Retry, Unknown
from hub.model import ADOPT, Job, Link, Record

_FIELD = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")


def find(client: Client, job: Job) -> Outcome | None:
    """A receipt if all records are there with every field as wanted; None if sending again is right.

    None is always safe: an upsert by external id writes the same record again, whatever became of the first. Looking
    only saves that write. So anything unexpected in the answer means None, except that Salesforce cannot be asked.
    """
    links: list[Link] = []
    for record in job.records:
        external_id = EXTERNAL_ID.get(record.record)
        wanted = _flat(record.fields)
        if external_id is None or not all(_FIELD.fullmatch(name) for name in wanted):
            return None
        columns = ", ".join(["Id", external_id, *wanted])
        soql = format_soql(f"SELECT {columns} FROM {record.record} WHERE {external_id} = {{}} LIMIT 2", record.key)  # noqa: S608 - names come from the mapping and are checked, the value is quoted
        try:
            rows = client.query(soql)
        except CallError as error:
            if error.status == 400:
                return None
            return Unknown(error.outcome.reason) if isinstance(error.outcome, Retry | Unknown) else error.outcome
        if not _same(rows, record, external_id, wanted):
            return None
        links.append(record.link_to(rows[0]["Id"]))
    return receipt(links, client, note="found as wanted: the write whose reply was lost had landed")


def _same(rows: list[dict[str, Any]], record: Record, external_id: str, wanted: Mapping[str, Any]) -> bool:
    if len(rows) != 1 or not isinstance(rows[0].get("Id"), str) or rows[0].get(external_id) != record.key:
        return False
    if record.action == ADOPT and not (record.link and same_id(record.link.vendor_id, rows[0]["Id"])):
        return False
    return all(_plain(_value(rows[0], name)) == _plain(value) for name, value in wanted.items())


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Nested parents as dotted names: `{"Account__r": {"X__c": 1}}` -> `{"Account__r.X__c": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        else:
            flat[name] = value
    return flat


def _value(row: Mapping[str, Any], name: str) -> Any:
    first, _, rest = name.partition(".")
    value = row.get(first)
    if not rest:
        return value
    return value.get(rest) if isinstance(value, Mapping) else None


def _plain(value: Any) -> Any:
    """As Salesforce stores it: an empty text is null, outer blanks go, a time is a moment, 12.50 is 12.5."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if not isinstance(value, str):
        return value
    if _TIME.fullmatch(value):
        return datetime.fromisoformat(value)
    return value.strip().replace("\r\n", "\n") or None
