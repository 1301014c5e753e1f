"""AvaTax's answer to an estimate, as the `tax_amounts` that Stripe takes on the lines of a draft. Pure.

AvaTax answers amounts of two decimals in every currency as far as known (its rounding per detail, help.avalara.com).
Stripe takes whole minor units (docs.stripe.com/currencies): so

* two decimals: taken as they are;
* none (JPY, ...): each tax is rounded once over the whole document, half up, and the units are given to the lines by
  largest remainder, the earlier line first. Rounding each line would drift by half a unit a line; and Japan wants one
  rounding per rate and invoice;
* three (KWD, ...): the last digit is 0, as Stripe wants it.

What does not add up does not leave: every line against its details, their sums against AvaTax's own totals, the amounts
that come back against those that were sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any, NoReturn

from hub.errors import OutcomeError, Reject

MOST = 20
"""Tax amounts a line of Stripe's takes."""
_CENT = Decimal("0.01")
_LEVELS = {"state": "state", "county": "county", "city": "city", "special": "district", "country": "country"}
_RATE_TYPES = {
    "zero": "zero_rated",
    "reduced": "reduced_rated",
    "standard": "standard_rated",
    "general": "standard_rated",
}
_VAT = frozenset(
    "AT BE BG CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK".split()  # noqa: SIM905 - reads best so
)
_GST = frozenset(("AU", "IN", "NZ", "SG"))


@dataclass(frozen=True, slots=True)
class Tax:
    """One tax on one line. Major units as AvaTax said them; `amount` is what is written, in whole units of `unit`."""

    line: str
    data: tuple[tuple[str, Any], ...]
    """Stripe's `tax_rate_data`, but for `inclusive`."""
    said: Decimal
    taxable: Decimal
    reason: str | None
    amount: Decimal


def tax_amounts(fields: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Line id -> its tax amounts (none: an empty list), for every line of the draft.

    `fields`: the record of mappings/tax/draft.yaml; `document`: AvaTax's answer with lines and details, numbers exact.
    Raises `OutcomeError(Reject)` with the arithmetic if anything does not add up, or cannot be put on a line.
    """
    minor = Decimal(fields["stripe"]["unit"])
    unit = max(minor, _CENT)
    answered = _lines(fields, document)
    taxes = _whole([t for line in answered for t in _taxes(line, fields)], unit)
    _check_rounding(taxes, document, unit)
    by_line: dict[str, list[Tax]] = {str(line["number"]): [] for line in fields["lines"]}
    for tax in taxes:
        by_line[tax.line].append(tax)
    _check_shipping(by_line.pop("shipping", []))
    included = {str(line["number"]): bool(line.get("taxIncluded")) for line in fields["lines"]}
    return {line: _entries(own, minor, inclusive=included[line]) for line, own in by_line.items()}


def _lines(fields: Mapping[str, Any], document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """AvaTax's lines, once they are those that were asked for, and add up."""
    asked = {str(line["number"]): line for line in fields["lines"]}
    answered = document.get("lines") or []
    if sorted(str(line.get("lineNumber")) for line in answered) != sorted(asked):
        _stop(f"AvaTax answered {len(answered)} lines to {len(asked)}, or others than those asked for")
    for line in answered:
        number = str(line["lineNumber"])
        tax, net = _number(line, "tax"), _number(line, "lineAmount")
        parts = [_number(d, "tax") for d in line.get("details") or []]
        if sum(parts, Decimal(0)) != tax:
            _stop(f"line {number}: its details {_sum(parts)} are not its tax {tax}")
        wanted = Decimal(asked[number]["amount"])
        if asked[number].get("taxIncluded"):
            if net + tax != wanted:
                _stop(f"line {number}: net {net} + tax {tax} = {net + tax}, but the price with tax is {wanted}")
        elif net != wanted:
            _stop(f"line {number}: AvaTax took {net} for the amount, which is {wanted}")
    for name, total in (("lineAmount", "totalAmount"), ("tax", "totalTax")):
        parts = [_number(line, name) for line in answered]
        if sum(parts, Decimal(0)) != _number(document, total):
            _stop(f"the lines' {name} {_sum(parts)}, but {total} is {_number(document, total)}")
    return answered


def _taxes(line: Mapping[str, Any], fields: Mapping[str, Any]) -> list[Tax]:
    found = []
    for detail in line.get("details") or []:
        tax, taxable = _number(detail, "tax"), _number(detail, "taxableAmount")
        country = str(detail.get("country") or "").upper()
        data = {
            "display_name": str(detail.get("taxName") or detail.get("jurisName") or "Tax")[:50],
            "percentage": _percentage(detail) if taxable or tax else Decimal(0),
            "jurisdiction": str(detail.get("jurisName") or "")[:50] or None,
            "jurisdiction_level": _LEVELS.get(str(detail.get("jurisdictionType") or "").lower()),
            "country": country or None,
            "state": str(detail.get("region") or "") or None if country in ("US", "CA") else None,
            "tax_type": _tax_type(detail, country),
        }
        shown = tuple((name, value) for name, value in data.items() if value is not None)
        reason = _reason(detail, fields, tax, taxable)
        found.append(Tax(str(line["lineNumber"]), shown, tax, taxable, reason, tax))
    return found


def _percentage(detail: Mapping[str, Any]) -> Decimal:
    """Stripe: 0 to 100, at most four decimals, and 0 for a fixed fee."""
    if detail.get("isFee") or str(detail.get("unitOfBasis") or "PerCurrencyUnit").lower() != "percurrencyunit":
        return Decimal(0)
    shown = (_number(detail, "rate") * 100).quantize(Decimal("0.0001"), ROUND_HALF_UP)
    return min(max(shown, Decimal(0)), Decimal(100))


def _tax_type(detail: Mapping[str, Any], country: str) -> str | None:
    """Where it is sure; else it is left out."""
    if str(detail.get("taxType") or "").lower() == "sales" and country == "US":
        return "sales_tax"
    if country in _VAT or country in _GST:
        return "vat" if country in _VAT else "gst"
    named = f"{detail.get('taxName') or ''}".upper().split()
    return next((word.lower() for word in ("HST", "GST", "PST", "QST") if country == "CA" and word in named), None)


def _reason(detail: Mapping[str, Any], fields: Mapping[str, Any], tax: Decimal, taxable: Decimal) -> str | None:
    """Stripe's `taxability_reason`, where it is known."""
    given: str | None = fields["stripe"].get("reason")
    if given and not tax:
        return given
    if not taxable and not tax:
        untaxed = _number(detail, "nonTaxableAmount")
        return "customer_exempt" if _number(detail, "exemptAmount") else "product_exempt" if untaxed else None
    return _RATE_TYPES.get(str(detail.get("rateType") or "").lower())


def _whole(taxes: Sequence[Tax], unit: Decimal) -> list[Tax]:
    """Each tax of the document in whole units, by largest remainder; exact ones stay as they are."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, tax in enumerate(taxes):
        groups.setdefault(tax.data, []).append(index)
    found = list(taxes)
    for members in groups.values():
        exact = [taxes[i].said / unit for i in members]
        floors = [int(e.to_integral_value(ROUND_FLOOR)) for e in exact]
        wanted = int(sum(exact, Decimal(0)).to_integral_value(ROUND_HALF_UP))
        order = sorted(range(len(members)), key=lambda n: (floors[n] - exact[n], n))
        more = set(order[: wanted - sum(floors)])
        for n, i in enumerate(members):
            t = taxes[i]
            found[i] = Tax(t.line, t.data, t.said, t.taxable, t.reason, (floors[n] + (n in more)) * unit)
    return found


def _check_rounding(taxes: Sequence[Tax], document: Mapping[str, Any], unit: Decimal) -> None:
    """What is written is AvaTax's total tax, but for less than half a unit a tax where AvaTax is finer than Stripe."""
    written, said = sum((t.amount for t in taxes), Decimal(0)), _number(document, "totalTax")
    finer = {t.data for t in taxes if t.said % unit}
    if abs(written - said) > len(finer) * unit / 2:
        _stop(f"the taxes to be written are {written}, AvaTax's totalTax is {said}")


def _check_shipping(taxes: Sequence[Tax]) -> None:
    if any(t.amount for t in taxes):
        raise OutcomeError(
            Reject(
                "shipping_taxed",
                "AvaTax taxes the shipping of this invoice, and Stripe takes tax amounts only on lines.",
                "Billing: take the shipping cost off the draft and add it as an invoice item (with the metadata "
                "TaxCode), then retry; or finalise it without tax on shipping by hand and skip this delivery.",
            )
        )


def _entries(taxes: Sequence[Tax], minor: Decimal, *, inclusive: bool) -> list[dict[str, Any]]:
    """As Stripe takes them. Above twenty the smallest are shown as one."""
    kept, rest = list(taxes), []
    if len(kept) > MOST:
        largest = sorted(range(len(kept)), key=lambda n: (-abs(kept[n].amount), n))[: MOST - 1]
        rest = [t for n, t in enumerate(kept) if n not in largest]
        kept = [kept[n] for n in sorted(largest)]
    found = [_entry(dict(t.data), t.amount, t.taxable, t.reason, minor, inclusive=inclusive) for t in kept]
    if rest:
        percentage = min(sum((dict(t.data)["percentage"] for t in rest), Decimal(0)), Decimal(100))
        data = {
            "display_name": f"Other taxes ({len(rest)})",
            "percentage": percentage,
            "jurisdiction_level": "multiple",
        }
        taxable = max((t.taxable for t in rest), key=abs)
        total = sum((t.amount for t in rest), Decimal(0))
        found.append(_entry(data, total, taxable, None, minor, inclusive=inclusive))
    return found


def _entry(
    data: dict[str, Any], amount: Decimal, taxable: Decimal, reason: str | None, minor: Decimal, *, inclusive: bool
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "amount": int(amount / minor),
        "taxable_amount": int((taxable / minor).to_integral_value(ROUND_HALF_UP)),
        "tax_rate_data": {**data, "inclusive": inclusive},
    }
    return {**entry, "taxability_reason": reason} if reason else entry


def _number(model: Mapping[str, Any], name: str) -> Decimal:
    value = model.get(name)
    if value is None:
        return Decimal(0)
    return Decimal(value) if isinstance(value, int | Decimal) else Decimal(str(value))


def _sum(parts: Sequence[Decimal]) -> str:
    shown = [str(p) for p in parts[:10]] + (["..."] if len(parts) > 10 else [])
    return f"{' + '.join(shown) or '0'} = {sum(parts, Decimal(0))}"


def _stop(arithmetic: str) -> NoReturn:
    raise OutcomeError(
        Reject(
            "does_not_add_up",
            f"AvaTax's estimate does not add up: {arithmetic}.",
            "Nothing was written and the draft is held. Retry; if it stays, give Avalara's support the request's id, "
            "and finalise the draft by hand once its tax is right.",
        )
    )
