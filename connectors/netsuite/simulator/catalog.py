"""`/metadata-catalog`: which records the account has and which fields, custom ones included, as JSON schema.

The shape of a sublist and its `x-ns-sublistkey` as recorded by clients that read it in production; titles and the links
of a property are left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from connectors.netsuite.simulator.faults import NsError
from connectors.netsuite.simulator.render import RECORD_PATH
from connectors.netsuite.simulator.schema import KEYS, RECORDS, SUBRECORDS, WRITABLE, Schema

MEDIA = (("canonical", "application/json"), ("alternate", "application/schema+json"))
_NEW = {"item": ["orderLine"]}
_TYPES: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"}, "int": {"type": "integer", "format": "int64"},
    "money": {"type": "number", "format": "double"}, "date": {"type": "string", "format": "date"},
    "email": {"type": "string", "format": "email"},
}  # fmt: skip
_COMPOUND = frozenset({"ref", "refs", "enum", "country", "taxref"})


def listing(base: str, select: Collection[str] | None) -> dict[str, Any]:
    """The record types, or those selected. Raises the `NsError` for one there is not."""
    unknown = sorted(set(select or ()) - set(RECORDS))
    if unknown:
        raise NsError(400, "INVALID_PARAMETER", f"Invalid record type: {unknown[0]}.", query="select")
    address = f"{base}{RECORD_PATH}/metadata-catalog"
    items = [
        {
            "name": kind,
            "links": [{"rel": rel, "href": f"{address}/{kind}", "mediaType": media} for rel, media in MEDIA],
        }
        for kind in sorted(RECORDS)
        if select is None or kind in select
    ]
    return {"items": items, "links": [{"rel": "self", "href": address}]}


def describe(schema: Schema, kind: str) -> dict[str, Any]:
    """The JSON schema of one record type."""
    fields = schema.records[kind].items()
    return {
        "$schema": "http://json-schema.org/draft-06/hyper-schema#",
        "type": "object",
        "x-ns-filterable": ["externalId", "id"],
        "properties": {name: _property(schema, kind, name, spec) for name, spec in fields},
    }


def _property(schema: Schema, kind: str, name: str, spec: str) -> dict[str, Any]:
    read_only = spec.startswith("!") or kind not in WRITABLE
    type_, _, rest = spec.lstrip("!").partition(":")
    if type_ == "list":
        return _sublist(schema, rest)
    if type_ == "sub":
        inner = {n: _property(schema, kind, n, s) for n, s in SUBRECORDS[rest].items()}
        found: dict[str, Any] = {"type": "object", "properties": inner}
    elif type_ in _COMPOUND:
        found = {"type": "object", "properties": {n: {"type": "string"} for n in ("id", "externalId", "refName")}}
    elif type_ == "text" and rest:
        found = {"type": "string", "maxLength": int(rest)}
    else:
        found = dict(_TYPES.get(type_, {"type": "string"}))
    found |= {"title": name, "nullable": True}
    if read_only:
        found["readOnly"] = True
    if name in schema.custom:
        found["x-ns-custom-field"] = True
    return found


def _sublist(schema: Schema, name: str) -> dict[str, Any]:
    columns = schema.sublists[name]
    key = KEYS[name]
    row: dict[str, Any] = {
        "type": "object",
        "properties": {n: _property(schema, "invoice", n, s) for n, s in columns.items()},
        "x-ns-sublistkey": {"present": False},
    }
    if key is not None:
        value = {"new": _NEW.get(name, [key]), "existing": [key]}
        row["x-ns-sublistkey"] = {"present": True, "value": value}
    whole = {"items": {"type": "array", "items": row}, "totalResults": {"type": "integer"}}
    return {"type": "object", "title": name, "properties": whole}
