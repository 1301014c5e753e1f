"""Documents as AvaTax's JSON. Amounts are JSON numbers (at most four decimals, so a float prints exactly)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from connectors.avalara.simulator.documents import Document
from connectors.avalara.simulator.problems import Problem
from connectors.avalara.simulator.taxes import TAX_CODES, Detail, TaxedLine, region_of

INCLUDES = (
    "lines",
    "details",
    "summary",
    "addresses",
    "taxdetailsbytaxtype",
    "summaryonly",
    "linesonly",
    "forcetimeout",
)


def includes(raw: str | None) -> set[str]:
    """`$include`, lower case; the default is `Summary,Addresses`, and summary implies lines with details."""
    wanted = {part.strip().lower() for part in (raw or "Summary,Addresses").split(",") if part.strip()}
    for name in wanted:
        if name not in INCLUDES:
            raise Problem("InvalidParameterValue", f"'{name}' is not a value of $include.", refers_to="$include")
    if "forcetimeout" in wanted:
        raise Problem("TimeoutRequested", "A timeout was requested.")
    return wanted


def number(amount: Decimal) -> float | int:
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def document(doc: Document, company_id: int, wanted: set[str]) -> dict[str, Any]:
    """The TransactionModel. Company code and the request's own words are echoed as AvaTax does."""
    model = doc.model
    override = model.get("taxOverride") or {}
    body: dict[str, Any] = {
        "id": doc.id,
        "code": doc.code,
        "companyId": company_id,
        "date": model["date"].isoformat(),
        "status": doc.status,
        "type": doc.type,
        "batchCode": model.get("batchCode", ""),
        "currencyCode": model.get("currencyCode", "USD"),
        "entityUseCode": model.get("entityUseCode", ""),
        "customerVendorCode": model["customerCode"],
        "customerCode": model["customerCode"],
        "exemptNo": model.get("exemptionNo", ""),
        "reconciled": False,
        "purchaseOrderNo": model.get("purchaseOrderNo", ""),
        "referenceCode": model.get("referenceCode", ""),
        "salespersonCode": model.get("salespersonCode", ""),
        "taxOverrideType": override.get("type", "None"),
        "taxOverrideAmount": number(override.get("taxAmount", Decimal(0))),
        "taxOverrideReason": override.get("reason", ""),
        "totalAmount": number(doc.total_amount),
        "totalExempt": number(doc.total("exempt")),
        "totalDiscount": number(doc.total("discount")),
        "totalTax": number(doc.total("tax")),
        "totalTaxable": number(doc.total("taxable")),
        "totalTaxCalculated": number(doc.total("calculated")),
        "adjustmentReason": doc.reason,
        "adjustmentDescription": doc.reason_text or "",
        "locked": doc.locked,
        "version": doc.version,
        "exchangeRate": number(model.get("exchangeRate", Decimal(1))),
        "exchangeRateCurrencyCode": model.get("exchangeRateCurrencyCode", model.get("currencyCode", "USD")),
        "email": model.get("email", ""),
        "modifiedDate": doc.modified,
        "taxDate": f"{doc.tax_date.isoformat()}T00:00:00",
        "businessIdentificationNo": model.get("businessIdentificationNo", ""),
        "description": model.get("description", ""),
    }
    if doc.id == 0:  # an estimate: empty fields are left out (recorded traffic)
        body = {k: v for k, v in body.items() if v != ""}
    unknown = sorted({str(line.get("taxCode")) for line in model["lines"] if line.get("taxCode")} - TAX_CODES.keys())
    if unknown:
        body["messages"] = [
            {"summary": f"Tax code {code} is not known; treated as P0000000.", "severity": "Warning"}
            for code in unknown
        ]
    if "summaryonly" not in wanted and wanted & {"lines", "details", "summary", "linesonly", "taxdetailsbytaxtype"}:
        detailed = "linesonly" not in wanted and bool(wanted & {"details", "summary", "taxdetailsbytaxtype"})
        body["lines"] = [
            _line(doc, i, source, taxed, detailed=detailed)
            for i, (source, taxed) in enumerate(zip(model["lines"], doc.lines, strict=True), 1)
        ]
    if "addresses" in wanted and "summaryonly" not in wanted:
        body["addresses"] = [_address(doc, a) for a in (model.get("addresses") or {}).values()]
    if wanted & {"summary", "summaryonly"}:
        body["summary"] = _summary(doc)
    return body


def _line(doc: Document, index: int, source: Mapping[str, Any], taxed: TaxedLine, *, detailed: bool) -> dict[str, Any]:
    override = source.get("taxOverride") or {}
    body: dict[str, Any] = {
        "id": doc.id * 100_000 + index,
        "transactionId": doc.id,
        "lineNumber": source["number"],
        "description": source.get("description", ""),
        "discountAmount": number(taxed.discount),
        "exemptAmount": number(taxed.exempt),
        "isItemTaxable": taxed.taxable != 0,
        "itemCode": source.get("itemCode", ""),
        "lineAmount": number(taxed.amount),
        "quantity": number(source.get("quantity") or Decimal(1)),
        "ref1": source.get("ref1", ""),
        "ref2": source.get("ref2", ""),
        "sourcing": "Destination",
        "tax": number(taxed.tax),
        "taxableAmount": number(taxed.taxable),
        "taxCalculated": number(taxed.calculated),
        "taxCode": source.get("taxCode") or "P0000000",
        "taxIncluded": bool(source.get("taxIncluded")),
        "taxOverrideType": override.get("type", "None"),
        "taxOverrideAmount": number(override.get("taxAmount", Decimal(0))),
        "taxOverrideReason": override.get("reason", ""),
    }
    if detailed:
        addresses = source.get("addresses") or doc.model.get("addresses") or {}
        where = addresses.get("shipTo") or addresses.get("singleLocation") or {}
        body["details"] = [_detail(d, where) for d in taxed.details]
    return body


def _detail(detail: Detail, where: Mapping[str, Any]) -> dict[str, Any]:
    place = detail.place
    return {
        "country": str(where.get("country") or "US").upper(),
        "region": region_of(where),
        "jurisCode": place.name[:10],
        "jurisName": place.name,
        "jurisType": place.juris_type,
        "jurisdictionType": place.kind,
        "rate": float(place.rate),
        "tax": number(detail.tax),
        "taxCalculated": number(detail.calculated),
        "taxableAmount": number(detail.taxable),
        "nonTaxableAmount": number(detail.non_taxable),
        "exemptAmount": number(detail.exempt),
        "taxType": place.tax_type,
        "taxName": f"{place.name} {place.kind.upper()} TAX",
        "rateType": place.rate_type,
        "rateTypeCode": place.rate_type[0],
        "unitOfBasis": "PerCurrencyUnit",
        "isFee": False,
    }


def _summary(doc: Document) -> list[dict[str, Any]]:
    rows: dict[Any, dict[str, Any]] = {}
    for detail in (d for line in doc.lines for d in line.details):
        row = rows.setdefault(
            detail.place,
            {
                "jurisName": detail.place.name,
                "jurisType": detail.place.kind,
                "taxType": detail.place.tax_type,
                "rate": float(detail.place.rate),
                "tax": Decimal(0),
                "taxable": Decimal(0),
                "exemption": Decimal(0),
                "nonTaxable": Decimal(0),
            },
        )
        row["tax"] += detail.tax
        row["taxable"] += detail.taxable
        row["exemption"] += detail.exempt
        row["nonTaxable"] += detail.non_taxable
    return [{k: number(v) if isinstance(v, Decimal) else v for k, v in row.items()} for row in rows.values()]


def _address(doc: Document, address: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("line1", "line2", "line3", "city", "region", "postalCode", "country")
    return {"transactionId": doc.id, **{name: address.get(name, "") for name in fields}}


def plain(doc: Document) -> dict[str, Any]:
    """For `state()`: amounts as strings, no address, the lines in short."""
    return {
        "id": doc.id,
        "companyCode": doc.company,
        "code": doc.code,
        "type": doc.type,
        "status": doc.status,
        "version": doc.version,
        "locked": doc.locked,
        "date": doc.model["date"].isoformat(),
        "taxDate": doc.tax_date.isoformat(),
        "currencyCode": doc.model.get("currencyCode", "USD"),
        "customerCode": doc.model["customerCode"],
        "referenceCode": doc.model.get("referenceCode", ""),
        "totalAmount": str(doc.total_amount),
        "totalTax": str(doc.total("tax")),
        "totalTaxable": str(doc.total("taxable")),
        "totalExempt": str(doc.total("exempt")),
        "totalTaxCalculated": str(doc.total("calculated")),
        "lines": [
            {
                "number": source["number"],
                "amount": str(taxed.amount),
                "tax": str(taxed.tax),
                "taxCalculated": str(taxed.calculated),
                "taxCode": source.get("taxCode", ""),
                "itemCode": source.get("itemCode", ""),
            }
            for source, taxed in zip(doc.model["lines"], doc.lines, strict=True)
        ],
    }
