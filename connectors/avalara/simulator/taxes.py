"""A small, made-up tax table, and AvaTax's arithmetic over it. **Not tax advice**: the rates are for tests.

Rows anchored in public evidence: WA 98110 ($100 -> 9.00) and CA 92612 (four jurisdictions) in Avalara's developer
guide, PA 19147 in recorded traffic. The others are made up to exercise one rule each: NY a rate of five
decimals, TX a partly taxable base, DE a rate that changed with time, GB zero rating with a VAT id.

Rounding (help.avalara.com, "line" level): every detail (line x jurisdiction) is rounded half up to two decimals, and
totals are sums of the rounded. At document level each jurisdiction's sum over all lines is rounded once; onto
which line the cent goes is not known: here the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

CENT = Decimal("0.01")
ZERO = Decimal(0)
SAAS = {"SW052000", "SW054000", "SW054002"}
TAX_CODES = {
    "P0000000": "Tangible personal property",
    "D0000000": "Digital goods",
    "S0000000": "Services",
    "SW052000": "Remotely accessed software",
    "SW054000": "Cloud services, software as a service",
    "SW054002": "Cloud services, software as a service, business use",
    "FR": "Freight",
    "NT": "Not taxable",
}
ENTITY_USE_CODES = {
    "A": "Federal government",
    "B": "State government",
    "C": "Tribal government",
    "D": "Foreign diplomat",
    "E": "Charitable organization",
    "F": "Religious organization",
    "G": "Resale",
    "TAXABLE": "Taxable, whatever other exemption applies",
}
_REGIONS = {
    "washington": "WA",
    "california": "CA",
    "pennsylvania": "PA",
    "new york": "NY",
    "texas": "TX",
    "oregon": "OR",
    "rhode island": "RI",
    "ontario": "ON",
    "alberta": "AB",
}


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    juris_type: str
    kind: str
    name: str
    rate: Decimal
    tax_type: str = "Sales"
    rate_type: str = "General"


def _state(name: str, rate: str) -> Jurisdiction:
    return Jurisdiction("STA", "State", name, Decimal(rate))


def _county(name: str, rate: str) -> Jurisdiction:
    return Jurisdiction("CTY", "County", name, Decimal(rate))


def _city(name: str, rate: str) -> Jurisdiction:
    return Jurisdiction("CIT", "City", name, Decimal(rate))


def _special(name: str, rate: str) -> Jurisdiction:
    return Jurisdiction("STJ", "Special", name, Decimal(rate))


def _vat(name: str, rate: str) -> Jurisdiction:
    return Jurisdiction("CNT", "Country", name, Decimal(rate), "Output", "Standard")


_TABLE: dict[tuple[str, str | None], tuple[Jurisdiction, ...]] = {
    ("US", "WA"): (_state("WASHINGTON", ".065"), _city("BAINBRIDGE ISLAND", ".025")),
    ("US", "CA"): (
        _state("CALIFORNIA", ".06"),
        _county("ORANGE", ".0025"),
        _special("ORANGE CO LOCAL TAX SL", ".01"),
        _special("ORANGE COUNTY DISTRICT TAX SP", ".005"),
    ),
    ("US", "PA"): (_state("PENNSYLVANIA", ".06"), _county("PHILADELPHIA", ".02")),
    ("US", "NY"): (
        _state("NEW YORK", ".04"),
        _city("NEW YORK CITY", ".045"),
        _special("METROPOLITAN COMMUTER TRANSPORTATION DISTRICT", ".00375"),
    ),
    ("US", "TX"): (_state("TEXAS", ".0625"), _city("AUSTIN", ".01"), _special("AUSTIN MTA TRANSIT", ".01")),
    ("CA", "ON"): (Jurisdiction("STA", "State", "ONTARIO", Decimal(".13"), "Output", "Standard"),),
    ("CA", "AB"): (_vat("CANADA", ".05"),),
    ("GB", None): (_vat("UNITED KINGDOM", ".20"),),
    ("FR", None): (_vat("FRANCE", ".20"),),
    ("DE", None): (_vat("GERMANY", ".19"),),
}
"""What is not here has no nexus: nothing taxable, no details. OR and RI are left out on purpose."""
_DE_LOWERED = (date(2020, 7, 1), date(2020, 12, 31), _vat("GERMANY", ".16"))


def region_of(address: Mapping[str, Any]) -> str:
    """The state or province in two letters, if it is one of those in the table."""
    region = str(address.get("region") or "")
    return _REGIONS.get(region.lower(), region.upper())


def rates(address: dict[str, Any], day: date, *, vat_id: bool) -> tuple[Jurisdiction, ...]:
    """The jurisdictions of a place on a day; empty: no nexus there."""
    country = str(address.get("country") or "US").upper()
    region = region_of(address)
    found = _TABLE.get((country, region)) or _TABLE.get((country, None), ())
    if country == "DE" and _DE_LOWERED[0] <= day <= _DE_LOWERED[1]:
        found = (_DE_LOWERED[2],)
    if country == "GB" and vat_id:
        found = (Jurisdiction("CNT", "Country", "UNITED KINGDOM", ZERO, "Output", "Zero"),)
    return found


def taxable_share(address: dict[str, Any], tax_code: str) -> Decimal:
    """Which part of an amount this code makes taxable: none, all, or 80 % (software as a service in Texas)."""
    region = region_of(address)
    if tax_code == "NT" or (tax_code in SAAS and region == "CA"):
        return ZERO
    return Decimal("0.8") if tax_code in SAAS and region == "TX" else Decimal(1)


def half_up(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


def spread(total: Decimal, weights: Sequence[Decimal]) -> list[Decimal]:
    """A total divided pro rata, each share rounded half up; the last takes the remainder (recorded: 20 over 40/30)."""
    if not weights:
        return []
    whole = sum(weights, ZERO)
    shares = [half_up(total * w / whole) if whole else ZERO for w in weights[:-1]]
    return [*shares, total - sum(shares, ZERO)]


@dataclass(slots=True)
class Detail:
    place: Jurisdiction
    taxable: Decimal
    exempt: Decimal
    non_taxable: Decimal
    tax: Decimal
    calculated: Decimal


@dataclass(slots=True)
class TaxedLine:
    amount: Decimal
    """Without tax, also when the request's amount included it."""
    discount: Decimal
    taxable: Decimal
    exempt: Decimal
    tax: Decimal = ZERO
    calculated: Decimal = ZERO
    details: list[Detail] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """One line as the arithmetic needs it."""

    amount: Decimal
    discount: Decimal
    places: tuple[Jurisdiction, ...]
    share: Decimal
    exempt: bool
    tax_included: bool
    override: Decimal | None


def _one(asked: Asked, rounding: Literal["Line", "Document"]) -> TaxedLine:
    net = asked.amount - asked.discount
    share = ZERO if asked.exempt or not asked.places else asked.share
    gross = net
    if asked.tax_included:
        net = half_up(gross / (1 + share * sum((p.rate for p in asked.places), ZERO)))
    taxable = net if share == 1 else half_up(net * share)
    line = TaxedLine(amount=net + asked.discount, discount=asked.discount, taxable=taxable, exempt=net - taxable)
    for place in asked.places:
        tax = taxable * place.rate
        tax = half_up(tax) if rounding == "Line" or asked.tax_included else tax
        left = net - taxable
        line.details.append(
            Detail(place, taxable, left if asked.exempt else ZERO, ZERO if asked.exempt else left, tax, tax)
        )
    if asked.tax_included and line.details:
        cent = gross - net - sum((d.tax for d in line.details), ZERO)
        line.details[-1].tax += cent  # recorded: 10.00 at 6 % + 2 % is 9.26 + .56 + .18
        line.details[-1].calculated += cent
    return line


def calculate(
    lines: Sequence[Asked],
    *,
    rounding: Literal["Line", "Document"],
    override: Decimal | None,
    override_without_nexus: Literal["record", "ignore"],
) -> list[TaxedLine]:
    """Tax every line; then record the tax that was computed elsewhere where an override says so.

    `override` is the document's TaxAmount, spread over the lines by calculated tax, else by amount (AvaTax: "best
    effort"; how exactly is not known). Whether AvaTax records an override where it has no nexus is not known: a switch.
    """
    taxed = [_one(asked, rounding) for asked in lines]
    if rounding == "Document":
        _round_by_document(taxed)
    for line in taxed:
        line.tax = line.calculated = sum((d.tax for d in line.details), ZERO)
    overrides = [asked.override for asked in lines]
    if override is not None:
        weights = [t.calculated for t in taxed] if any(t.calculated for t in taxed) else [t.amount for t in taxed]
        overrides = [o if o is not None else s for o, s in zip(overrides, spread(override, weights), strict=True)]
    for line, wanted in zip(taxed, overrides, strict=True):
        if wanted is not None and (line.details or override_without_nexus == "record"):
            line.tax = wanted
            parts = spread(wanted, [d.calculated or d.place.rate for d in line.details])
            for detail, part in zip(line.details, parts, strict=True):
                detail.tax = part
    return taxed


def _round_by_document(lines: Sequence[TaxedLine]) -> None:
    last: dict[Jurisdiction, Detail] = {}
    exact: dict[Jurisdiction, Decimal] = {}
    for detail in (d for line in lines for d in line.details):
        exact[detail.place] = exact.get(detail.place, ZERO) + detail.tax
        detail.tax = detail.calculated = half_up(detail.tax)
        last[detail.place] = detail
    for place, total in exact.items():
        rounded = sum((d.tax for line in lines for d in line.details if d.place == place), ZERO)
        last[place].tax += half_up(total) - rounded
        last[place].calculated = last[place].tax
