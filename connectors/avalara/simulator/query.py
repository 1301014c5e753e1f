"""The subset of AvaTax's list parameters in use: `$filter` (eq ne gt ge lt le, joined by and), `$top`, `$skip`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from connectors.avalara.simulator.problems import Problem

_TERM = re.compile(r"\s*(\w+)\s+(\w+)\s+(?:'((?:[^']|'')*)'|(\S+))\s*", re.ASCII)
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda a, b: a.lower() == b.lower(),
    "ne": lambda a, b: a.lower() != b.lower(),
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}


def terms(raw: str) -> list[tuple[str, str, str]]:
    """(field, operator, value) of each term. Raises `MalformedFilterException`."""
    found, rest = [], raw
    while True:
        match = _TERM.match(rest)
        if not match or match[2].lower() not in _OPERATORS:
            raise Problem("MalformedFilterException", "The $filter parameter could not be parsed.", refers_to="$filter")
        value = match[3].replace("''", "'") if match[3] is not None else match[4]
        found.append((match[1], match[2].lower(), value))
        rest = rest[match.end() :]
        if not rest:
            return found
        joined = re.match(r"and\s", rest, re.IGNORECASE)
        if not joined:
            raise Problem("MalformedFilterException", "Only 'and' joins terms here.", refers_to="$filter")
        rest = rest[joined.end() :]


def select(rows: Iterable[Mapping[str, Any]], wanted: list[tuple[str, str, str]]) -> list[Mapping[str, Any]]:
    """The rows all terms are true of. Values are compared as text; ISO dates sort as text."""
    kept = []
    for row in rows:
        names = {k.lower(): v for k, v in row.items()}
        for field, operator, value in wanted:
            if field.lower() not in names:
                raise Problem("InvalidQueryField", f"'{field}' cannot be queried.", refers_to=field)
            have = names[field.lower()]
            have = str(have).lower() if isinstance(have, bool) else str(have)
            if not _OPERATORS[operator](have, value):
                break
        else:
            kept.append(row)
    return kept


def page(rows: list[Any], top: str | None, skip: str | None, here: str) -> dict[str, Any]:
    """One page as AvaTax wraps it; at most 1,000 rows."""
    for name, value in (("$top", top), ("$skip", skip)):
        if value is not None and not value.isdecimal():
            raise Problem("InvalidQueryValue", f"{name} is a number.", refers_to=name)
    size, start = max(1, min(int(top or 1000), 1000)), int(skip or 0)
    answer: dict[str, Any] = {"@recordsetCount": len(rows), "value": rows[start : start + size]}
    if start + size < len(rows):
        separator = "&" if "?" in here else "?"
        answer["@nextLink"] = f"{here}{separator}$top={size}&$skip={start + size}"
    return answer
