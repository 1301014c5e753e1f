"""From a request model to a taxed document: places, exemption, discount, overrides, refunds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from connectors.avalara.simulator.bodies import check_place
from connectors.avalara.simulator.documents import Document, Switches
from connectors.avalara.simulator.problems import Problem
from connectors.avalara.simulator.taxes import Asked, TaxedLine, calculate, half_up, rates, spread, taxable_share

_EXEMPT_CODES = {chr(c) for c in range(ord("A"), ord("R") + 1)}
_ZERO = Decimal(0)


def _override(model: Mapping[str, Any], kind: str, name: str) -> Any:
    override = model.get("taxOverride") or {}
    return override.get(name) if override.get("type") == kind else None


def destination(addresses: Mapping[str, Any]) -> tuple[int, str, Mapping[str, Any]]:
    """Where the sale is taxed (destination sourcing everywhere here), with its index as AvaTax's messages count."""
    if "shipTo" in addresses:
        return 1, "ShipTo", addresses["shipTo"]
    return 0, "SingleLocation", addresses["singleLocation"]


def _exempt(model: Mapping[str, Any], line: Mapping[str, Any]) -> bool:
    use = str(line.get("entityUseCode") or line.get("customerUsageType") or "")
    use = (use or str(model.get("entityUseCode") or model.get("customerUsageType") or "")).upper()
    if use == "TAXABLE":
        return False
    return bool(model.get("exemptionNo") or line.get("exemptionCode") or use in _EXEMPT_CODES)


def check_places(model: Mapping[str, Any]) -> None:
    """Every address that taxes a line must be precise enough. Raises `Problem`."""
    seen: list[Mapping[str, Any]] = [model["addresses"]] if model.get("addresses") else []
    seen += [line["addresses"] for line in model["lines"] if line.get("addresses")]
    for addresses in seen:
        if "shipFrom" in addresses:
            check_place(addresses["shipFrom"], 0, "ShipFrom")
        check_place(destination(addresses)[2], *destination(addresses)[:2])


def assess(model: Mapping[str, Any], switches: Switches) -> tuple[tuple[TaxedLine, ...], date]:
    """The taxed lines and the document's tax date."""
    lines = model["lines"]
    tax_date: date = _override(model, "TaxDate", "taxDate") or model["date"]
    discounted = [i for i, line in enumerate(lines) if line.get("discounted")]
    shares = spread(model.get("discount") or _ZERO, [lines[i]["amount"] for i in discounted])
    discounts = dict(zip(discounted, shares, strict=True))
    cache: dict[tuple[int, date, bool], Any] = {}
    asked = []
    for i, line in enumerate(lines):
        addresses = line.get("addresses") or model["addresses"]
        place = destination(addresses)[2]
        day = _override(line, "TaxDate", "taxDate") or tax_date
        vat_id = bool(line.get("businessIdentificationNo") or model.get("businessIdentificationNo"))
        where = (id(place), day, vat_id)
        if where not in cache:
            cache[where] = rates(dict(place), day, vat_id=vat_id)
        asked.append(
            Asked(
                amount=line["amount"],
                discount=discounts.get(i, _ZERO),
                places=cache[where],
                share=taxable_share(dict(place), str(line.get("taxCode") or "P0000000").upper()),
                exempt=_exempt(model, line),
                tax_included=bool(line.get("taxIncluded")),
                override=_override(line, "TaxAmount", "taxAmount"),
            )
        )
    taxed = calculate(
        asked,
        rounding=switches.rounding,
        override=_override(model, "TaxAmount", "taxAmount"),
        override_without_nexus=switches.override_without_nexus,
    )
    return tuple(taxed), tax_date


def refund_model(original: Document, model: Mapping[str, Any]) -> dict[str, Any]:
    """The ReturnInvoice of a refund: negative lines, each with the tax it gives back as an override."""
    kind = model.get("refundType", "Full")
    day = model.get("refundDate") or original.model["date"]
    part = Decimal(1)
    if kind == "Percentage":
        if not model.get("refundPercentage"):
            raise Problem("RefundPercentageMissing", "A percentage refund needs a percentage.")
        part = model["refundPercentage"] / 100
    wanted: list[str] | None = None
    if kind == "Partial":
        wanted = [str(n) for n in model.get("refundLines") or []]
        if not wanted:
            raise Problem("RefundLinesRequired", "A partial refund needs line numbers.")
    lines = []
    for source, taxed in zip(original.model["lines"], original.lines, strict=True):
        if wanted is not None and source["number"] not in wanted:
            continue
        amount = _ZERO if kind == "TaxOnly" else half_up((taxed.amount - taxed.discount) * part)
        lines.append(
            {
                **{k: v for k, v in source.items() if k not in ("discounted", "taxIncluded")},
                "amount": -amount,
                "taxOverride": {
                    "type": "TaxAmount",
                    "taxAmount": -half_up(taxed.tax * part),
                    "reason": f"Refund request on {day.isoformat()}",
                },
            }
        )
    if wanted is not None and len(lines) != len(set(wanted)):
        raise Problem("LineNoOutOfRange", "A line to refund is not in the original transaction.")
    kept = {k: v for k, v in original.model.items() if k not in ("discount", "taxOverride", "referenceCode")}
    return {
        **kept,
        "code": model.get("refundTransactionCode"),
        "type": "ReturnInvoice",
        "date": day,
        "lines": lines,
        "commit": True,
        **({"referenceCode": model["referenceCode"]} if "referenceCode" in model else {}),
    }
