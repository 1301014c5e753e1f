"""What a reconciliation found, for people and programs: JSON, CSV, lines of a table. Amounts as text, exactly."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hub.destination import Entry
from hub.money import EXPONENTS
from hub.reconcile.compare import Difference, Name, Sides
from hub.reconcile.repair import way

if TYPE_CHECKING:
    from hub.reconcile.run import Reconciled

COLUMNS = (
    "what", "destination", "difference", "kind", "stripe_id", "key", "customer", "date", "subsidiary", "currency",
    "in_stripe", "there", "size", "vendor_id", "state", "repair",
)  # fmt: skip
"""Of the CSV, and of what is kept of a difference."""


def difference_shown(one: Difference) -> dict[str, str]:
    """A difference, every value as text."""
    entry = one.found or one.entry
    state = "difference" if one.counts else f"under way: {one.under_way}" if one.under_way else f"from {one.follows}"
    mended = way(one)
    return {
        "what": "difference",
        "destination": one.destination,
        "difference": str(one.name),
        "kind": one.entry.kind,
        "stripe_id": one.entry.object_id,
        "key": one.entry.key,
        "customer": one.entry.customer or "",
        "date": entry.date.isoformat(),
        "subsidiary": entry.subsidiary or "",
        "currency": one.entry.currency,
        "in_stripe": _side(one.name, one.wanted),
        "there": _side(one.name, one.found),
        "size": amount(one.size, one.entry.currency),
        "vendor_id": one.found.vendor_id if one.found is not None else "",
        "state": state,
        "repair": ("" if mended.written else "none; ") + mended.text,
    }


def _side(name: Name, entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    match name:
        case Name.TAX:
            return f"tax {amount(entry.tax, entry.currency)} {entry.currency}"
        case Name.OPEN:
            return f"open {amount(entry.open, entry.currency)} {entry.currency}"
        case Name.STATUS:
            return entry.status or "none"
        case Name.CUSTOMER:
            return entry.customer or "none of ours"
    return f"{amount(entry.amount, entry.currency)} {entry.currency}"


def amount(value: Decimal | None, currency: str) -> str:
    """With the currency's places; no digit is lost."""
    if value is None:
        return ""
    places = EXPONENTS.get(currency, 2)
    written = format(value, "f")
    return written if -int(value.as_tuple().exponent) > places else format(value, f".{places}f")


def totals_shown(sides: Sides) -> list[dict[str, Any]]:
    """The control totals per currency, day, subsidiary and kind, every sum as text."""
    return [
        {
            "destination": sides.destination,
            "currency": place.currency,
            "day": place.day.isoformat(),
            "subsidiary": place.subsidiary,
            "kind": place.kind,
            "documents_in_stripe": total.wanted,
            "documents_there": total.found,
            "in_stripe": amount(total.wanted_sum, place.currency),
            "there": amount(total.found_sum, place.currency),
            "agrees": total.agrees,
        }
        for place, total in sorted(sides.totals.items(), key=lambda item: _order(item[0]))
    ]


def totals_by_kind(done: Reconciled) -> list[tuple[str, ...]]:
    """The control totals over all days and subsidiaries: destination, kind, currency, both sums, and a mark."""
    sums: dict[tuple[str, str, str], list[Decimal]] = {}
    for result in done.results.values():
        for place, total in result.sides.totals.items() if result.sides is not None else ():
            both = sums.setdefault((result.destination, place.kind, place.currency), [Decimal(0)] * 4)
            four = total.wanted_sum, total.found_sum, Decimal(total.wanted), Decimal(total.found)
            both[:] = [a + b for a, b in zip(both, four, strict=True)]
    return [
        (
            *key,
            f"{amount(a, key[2])} in {n:,}",
            f"{amount(b, key[2])} in {m:,}",
            "agrees" if (a, n) == (b, m) else "differs",
        )
        for key, (a, b, n, m) in sorted(sums.items())
    ]


def _order(place: Any) -> tuple[str, str, str, str]:
    return place.day.isoformat(), place.currency, place.subsidiary, place.kind


def as_json(done: Reconciled) -> dict[str, Any]:
    """Everything, JSON-able."""
    return {
        "since": done.since.isoformat(),
        "up_to": done.up_to.isoformat(),
        "agrees": done.agrees,
        "said": done.said(),
        "reads_of_stripe": done.reads,
        "destinations": {
            r.destination: {
                "documents": r.documents,
                "agree": r.agree,
                "under_way": r.under_way,
                "differences": len(r.counted),
                "by_name": dict(r.by_name),
            }
            for r in done.results.values()
        },
        "differences": [difference_shown(d) for r in done.results.values() for d in r.differences],
        "totals": [t for r in done.results.values() if r.sides is not None for t in totals_shown(r.sides)],
        "repairs": done.repairs,
        "repaired": done.repaired,
    }


def as_csv(done: Reconciled) -> str:
    """A line for each difference and each control total; the columns are `COLUMNS`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(done))
    return text.getvalue()


def _rows(done: Reconciled) -> Iterator[dict[str, str]]:
    for result in done.results.values():
        yield from (difference_shown(d) for d in result.differences)
        for total in totals_shown(result.sides) if result.sides is not None else ():
            yield {
                "what": "total",
                "destination": total["destination"],
                "difference": "" if total["agrees"] else "total",
                "kind": total["kind"],
                "date": total["day"],
                "subsidiary": total["subsidiary"],
                "currency": total["currency"],
                "in_stripe": f"{total['in_stripe']} in {total['documents_in_stripe']}",
                "there": f"{total['there']} in {total['documents_there']}",
                "size": amount(Decimal(total["there"]) - Decimal(total["in_stripe"]), total["currency"]),
                "state": "agrees" if total["agrees"] else "differs",
            }
