"""A request body, field by field: known name, right type, not too long, references that exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from connectors.netsuite.simulator.faults import NsError, invalid_value, unknown_field, user_error
from connectors.netsuite.simulator.schema import SUBRECORDS, Schema

Resolve = Callable[[str, Mapping[str, Any]], str | None]
"""Record type and reference -> internal id, or None."""
_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_COUNTRY = re.compile(r"[A-Z]{2}")
_EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;]+")


@dataclass
class Body:
    """A body, read. A None clears; `lists` holds the sublists, None for one that is to be emptied."""

    values: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, list[dict[str, Any]] | None] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    """Unknown fields, when name validation is `warning` or `ignore`."""


def read_body(schema: Schema, kind: str, body: Any, resolve: Resolve, *, strict_names: bool) -> Body:
    if not isinstance(body, dict):
        raise NsError(400, "INVALID_CONTENT", "Invalid content in the request body.")
    found = Body()
    for name, value in body.items():
        spec = schema.records[kind].get(name)
        if spec is None:
            if strict_names:
                raise unknown_field(name)
            found.ignored.append(name)
        elif spec.startswith("!") or name == "links":
            raise user_error(f"The field {name} is read-only.", path=name)
        elif spec.startswith("list:"):
            found.lists[name] = _rows(schema, name, value, resolve, found, strict_names=strict_names)
        else:
            found.values[name] = _value(spec, value, name, name, resolve)
    return found


def _rows(
    schema: Schema, name: str, value: Any, resolve: Resolve, found: Body, *, strict_names: bool
) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("items"), list) or set(value) != {"items"}:
        raise NsError(400, "INVALID_CONTENT", "Invalid content: a sublist is an object with items.", path=name)
    known = schema.sublists[name]
    return [
        _row(known, source, f"{name}.items[{number}]", resolve, found, strict_names=strict_names)
        for number, source in enumerate(value["items"])
    ]


def _row(
    known: Mapping[str, str], source: Any, where: str, resolve: Resolve, found: Body, *, strict_names: bool
) -> dict[str, Any]:
    if not isinstance(source, dict):
        raise NsError(400, "INVALID_CONTENT", "Invalid content: a line is an object.", path=where)
    row: dict[str, Any] = {}
    for column, cell in source.items():
        path = f"{where}.{column}"
        spec = known.get(column)
        if spec is None:
            if strict_names:
                raise unknown_field(path)
            found.ignored.append(path)
        elif spec.startswith("!"):
            raise user_error(f"The field {column} is read-only.", path=path)
        elif spec.startswith("sub:") and cell is not None:
            row[column] = _row(SUBRECORDS[spec[4:]], cell, path, resolve, found, strict_names=strict_names)
        else:
            row[column] = _value(spec, cell, column, path, resolve)
    return row


def _value(spec: str, value: Any, name: str, path: str, resolve: Resolve) -> Any:
    if value is None:
        return None
    kind, _, rest = spec.partition(":")
    if kind == "ref":
        return _reference(rest, value, name, path, resolve)
    if kind in ("country", "taxref") and isinstance(value, dict) and set(value) <= {"id", "refName"}:
        value = value.get("id")
    if kind == "bool":
        ok = isinstance(value, bool)
    elif kind in ("money", "int"):
        ok = isinstance(value, int | Decimal) and not isinstance(value, bool)
    else:
        ok = isinstance(value, str)
    shape = {"date": _DATE, "email": _EMAIL, "country": _COUNTRY}.get(kind)
    if not ok or (shape is not None and not shape.fullmatch(value)):
        raise invalid_value(str(value), name, path)
    if kind in ("money", "int"):
        return Decimal(value)
    if rest and len(value) > int(rest):
        raise user_error(
            f"The field {name} contained more than the maximum number ( {rest} ) of characters allowed.", path=path
        )
    return value


def _reference(target: str, value: Any, name: str, path: str, resolve: Resolve) -> str:
    known = (
        isinstance(value, dict)
        and bool(set(value) & {"id", "externalId"})
        and set(value) <= {"id", "externalId", "refName"}
    )
    found = resolve(target, value) if known else None
    if found is None:
        shown = value.get("id") or value.get("externalId") if isinstance(value, dict) else value
        raise invalid_value(str(shown), name, path)
    return found
