"""Is what NetSuite holds what we wanted? Used after a lost reply, before anything is sent again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

APPLY = "apply"


def holds(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether every field wanted reads back the same, from a GET with `expandSubResources=true`.

    References by external id are not compared: NetSuite reads them back as internal ids only. A text that NetSuite has
    changed on its way (a phone number, say) counts as different; then the record is sent again, which is harmless.
    """
    return all(_same(name, value, found.get(name)) for name, value in wanted.items())


def _same(name: str, wanted: Any, found: Any) -> bool:
    if isinstance(wanted, Mapping) and "items" in wanted:
        rows = found.get("items") if isinstance(found, Mapping) else None
        return isinstance(rows, list) and _lines(name, wanted["items"], rows)
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return False
        return all(_same(key, value, found.get(key)) for key, value in wanted.items() if key != "externalId")
    if wanted is None or isinstance(wanted, bool):
        return wanted is found
    if isinstance(wanted, int | Decimal):
        return _number(found) == wanted
    return bool(wanted == found)


def _lines(name: str, wanted: Sequence[Mapping[str, Any]], found: Sequence[Any]) -> bool:
    """The same lines in the same order. Of `apply` NetSuite also lists what could be applied; only what is counts."""
    rows = [row for row in found if isinstance(row, Mapping)]
    if name == APPLY:
        rows = [row for row in rows if row.get("apply") is True]
    if name in ("currencyList", "addressBook"):  # people may have added more
        return all(any(holds(line, row) for row in rows) for line in wanted)
    return len(rows) == len(wanted) and all(holds(line, row) for line, row in zip(wanted, rows, strict=True))


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return Decimal(value)
