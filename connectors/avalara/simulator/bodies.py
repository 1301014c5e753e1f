"""Reading AvaTax's request bodies: names and enum values in any case, numbers also as strings (recorded traffic).

Order of the checks: JSON and types, model missing, required fields, lengths (the swagger's `maxLength`), no lines, too
many lines, duplicate numbers, addresses. An unknown field is refused here; whether AvaTax ignores it instead is not
known: a sandbox that ignores it would hide a typing error.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.avalara.simulator.problems import Problem, bad_json

MAX_LINES = 15_000
INVOICE_TYPES = (
    "SalesInvoice",
    "PurchaseInvoice",
    "ReturnInvoice",
    "InventoryTransferInvoice",
    "ReverseChargeInvoice",
    "CustomsInvoice",
)
ORDER_TYPES = tuple(t.replace("Invoice", "Order") for t in INVOICE_TYPES)
ADJUSTMENT_REASONS = (
    "NotAdjusted",
    "SourcingIssue",
    "ReconciledWithGeneralLedger",
    "ExemptCertApplied",
    "PriceAdjusted",
    "ProductReturned",
    "ProductExchanged",
    "BadDebt",
    "Other",
    "Offline",
)
VOID_CODES = ("Unspecified", "PostFailed", "DocDeleted", "DocVoided", "AdjustmentCancelled")
REFUND_TYPES = ("Full", "Partial", "TaxOnly", "Percentage")
OVERRIDES = (
    "None",
    "TaxAmount",
    "Exemption",
    "TaxDate",
    "AccruedTaxAmount",
    "DeriveTaxable",
    "OutOfHarbor",
    "TaxAmountByTaxType",
    "VendorChargedTax",
)

Spec = Mapping[str, str]
"""Field -> kind: `str`, `str:<max>`, `num`, `bool`, `date`, `any`, `enum:<a,b>`, `model:<name>`, `list:<name>`."""

_SHAPES: dict[str, Spec] = {
    "document": {
        "code": "str:50",
        "type": "enum:" + ",".join(INVOICE_TYPES + ORDER_TYPES),
        "companyCode": "str:25",
        "date": "date",
        "customerCode": "str:50",
        "lines": "list:line",
        "addresses": "model:addresses",
        "salespersonCode": "str:25",
        "customerUsageType": "str:25",
        "entityUseCode": "str:25",
        "discount": "num",
        "purchaseOrderNo": "str:50",
        "exemptionNo": "str:25",
        "parameters": "any",
        "userDefinedFields": "any",
        "referenceCode": "str:1024",
        "reportingLocationCode": "str:50",
        "commit": "bool",
        "batchCode": "str:25",
        "taxOverride": "model:override",
        "currencyCode": "str:3",
        "serviceMode": "any",
        "exchangeRate": "num",
        "exchangeRateEffectiveDate": "date",
        "exchangeRateCurrencyCode": "str:3",
        "posLaneCode": "str:50",
        "businessIdentificationNo": "str:25",
        "isSellerImporterOfRecord": "bool",
        "description": "str:2048",
        "email": "str:50",
        "debugLevel": "any",
        "customerSupplierName": "str",
        "dataSourceId": "num",
        "deliveryTerms": "any",
    },
    "line": {
        "number": "str:50",
        "quantity": "num",
        "amount": "num",
        "addresses": "model:addresses",
        "taxCode": "str:25",
        "customerUsageType": "str:25",
        "entityUseCode": "str:25",
        "itemCode": "str:50",
        "exemptionCode": "str:25",
        "discounted": "bool",
        "taxIncluded": "bool",
        "revenueAccount": "str:50",
        "ref1": "str:250",
        "ref2": "str:250",
        "description": "str:2096",
        "businessIdentificationNo": "str:25",
        "taxOverride": "model:override",
        "parameters": "any",
        "userDefinedFields": "any",
        "hsCode": "str:25",
        "category": "str",
        "merchantSellerIdentifier": "str:100",
        "marketplaceLiabilityType": "any",
    },
    "override": {
        "type": "enum:" + ",".join(OVERRIDES),
        "taxAmount": "num",
        "taxDate": "date",
        "reason": "str",
        "taxAmountByTaxTypes": "any",
    },
    "addresses": {
        "singleLocation": "model:address",
        "shipFrom": "model:address",
        "shipTo": "model:address",
        "pointOfOrderOrigin": "model:address",
        "pointOfOrderAcceptance": "model:address",
        "goodsPlaceOrServiceRendered": "model:address",
        "import": "model:address",
        "billTo": "model:address",
    },
    "address": {
        "locationCode": "str",
        "line1": "str:50",
        "line2": "str:50",
        "line3": "str:50",
        "city": "str:50",
        "region": "str",
        "country": "str",
        "postalCode": "str:11",
        "latitude": "num",
        "longitude": "num",
    },
    "resolve": {
        **dict.fromkeys(("line1", "line2", "line3", "city", "region", "country", "postalCode"), "str"),
        "textCase": "enum:Upper,Mixed",
    },
    "createoradjust": {
        "createTransactionModel": "model:document",
        "adjustmentReason": "enum:" + ",".join(ADJUSTMENT_REASONS),
        "adjustmentDescription": "str",
    },
    "adjust": {
        "newTransaction": "model:document",
        "adjustmentReason": "enum:" + ",".join(ADJUSTMENT_REASONS),
        "adjustmentDescription": "str",
    },
    "commit": {"commit": "bool"},
    "lock": {"isLocked": "bool"},
    "void": {"code": "enum:" + ",".join(VOID_CODES)},
    "verify": {"verifyTransactionDate": "date", "verifyTotalAmount": "num", "verifyTotalTax": "num"},
    "changecode": {"newCode": "str:50"},
    "settle": {"verify": "model:verify", "changeCode": "model:changecode", "commit": "model:commit"},
    "refund": {
        "refundTransactionCode": "str:50",
        "refundDate": "date",
        "refundType": "enum:" + ",".join(REFUND_TYPES),
        "refundPercentage": "num",
        "refundLines": "any",
        "referenceCode": "str:1024",
    },
}
RESOLVE_FIELDS = tuple(_SHAPES["resolve"])
_NAMES = {shape: {name.lower(): name for name in spec} for shape, spec in _SHAPES.items()}


def read(shape: str, raw: bytes) -> dict[str, Any]:
    """The body as canonical names and Python values (`Decimal`, `date`, `bool`). Raises `Problem`."""
    if not raw.strip():
        raise Problem("ModelRequiredException", "A model is required for this API call.")
    try:
        body = json.loads(raw, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_json("The request body is not valid JSON.") from error
    if body is None:
        raise Problem("ModelRequiredException", "A model is required for this API call.")
    model = _model(shape, body, "")
    if not any("document" in kind for kind in (shape, *_SHAPES[shape].values())):
        _lengths(shape, model)
    return model


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _model(shape: str, body: Any, path: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad_json(f"'{path or 'model'}' must be an object.", path or None)
    spec, names, model = _SHAPES[shape], _NAMES[shape], {}
    for given, value in body.items():
        name = names.get(given.lower())
        if name is None:
            raise bad_json(f"'{path}{given}' is not a field of this model.", f"{path}{given}")
        if value is not None:
            model[name] = _value(spec[name], value, f"{path}{name}")
    return model


def _value(kind: str, value: Any, path: str) -> Any:
    kind, _, argument = kind.partition(":")
    if kind == "model":
        return _model(argument, value, f"{path}.")
    if kind == "list":
        if not isinstance(value, list):
            raise bad_json(f"'{path}' must be an array.", path)
        return [_model(argument, item, f"{path}[{i}].") for i, item in enumerate(value)]
    if kind == "enum":
        return _enum(argument.split(","), value, path)
    reader = {"str": _text, "num": _number, "bool": _flag, "date": _day}.get(kind)
    return value if reader is None else reader(value, path)


def _text(value: Any, path: str) -> str:
    if isinstance(value, (dict, list)):
        raise bad_json(f"'{path}' must be a string.", path)
    return value if isinstance(value, str) else str(value)


def _number(value: Any, path: str) -> Decimal:
    number = None
    if isinstance(value, (int, str, Decimal)) and not isinstance(value, bool):
        with contextlib.suppress(InvalidOperation):
            number = Decimal(value)
    if number is None or not number.is_finite():
        raise bad_json(f"'{path}' must be a number.", path)
    return number


def _flag(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise bad_json(f"'{path}' must be true or false.", path)


def _day(value: Any, path: str) -> date:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError as error:
        raise bad_json(f"'{path}' must be a date.", path) from error


def _enum(allowed: Iterable[str], value: Any, path: str) -> str:
    for name in allowed:
        if isinstance(value, str) and value.lower() == name.lower():
            return name
    raise bad_json(f"Error converting the value of '{path}' to a member of its enumeration.", path)


def _lengths(shape: str, model: Mapping[str, Any]) -> None:
    """Depth first, in the order of the model's fields; AvaTax names the field without its path."""
    for name, value in model.items():
        kind, _, argument = _SHAPES[shape][name].partition(":")
        if kind == "str" and argument and len(value) > int(argument):
            raise Problem(
                "StringLengthError",
                f"Field '{name}' must be between 0 and {argument} characters in length.",
                refers_to=name,
            )
        for inner in {"model": [value], "list": value}.get(kind, []):
            _lengths(argument, inner)


def check_document(model: Mapping[str, Any]) -> None:
    """What a document needs before any company or address is looked at. Raises `Problem`."""
    for name in ("customerCode", "date"):
        if not model.get(name):
            raise Problem("ValueRequiredError", f"Field '{name}' is required.", refers_to=name)
    lines = model.get("lines") or []
    for line in lines:
        if "amount" not in line:
            raise Problem("ValueRequiredError", "Field 'amount' is required.", refers_to="amount")
    _lengths("document", model)
    if not lines:
        raise Problem("MissingLine", "A transaction must have at least one line.")
    if len(lines) > MAX_LINES:
        raise Problem(
            "MaxCountExceededError",
            "Too many lines.",
            f"{MAX_LINES} invoice lines is the current limit.",
            refers_to="lines",
        )
    numbers = [line["number"] for line in lines if line.get("number")]
    if len(numbers) != len(set(numbers)):
        raise Problem("DuplicateLineNoError", "Line numbers must be unique.", refers_to="lines")
    if model.get("discount") and not any(line.get("discounted") for line in lines):
        raise Problem("NoLinesDiscounted", "A discount was given, but no line is discounted.", refers_to="discount")
    if not complete(model.get("addresses")) and not all(complete(line.get("addresses")) for line in lines):
        raise Problem("MissingAddress", "An origin and a destination address are required.", refers_to="addresses")


def complete(addresses: Mapping[str, Any] | None) -> bool:
    return addresses is not None and ("singleLocation" in addresses or {"shipFrom", "shipTo"} <= addresses.keys())


def check_place(address: Mapping[str, Any], index: int, kind: str) -> None:
    """Precise enough: in the US line1 + postal code, city + region, or region + postal code. Raises `Problem`."""

    def refuse(sub_code: str, message: str) -> Problem:
        return Problem(
            "GetTaxError",
            message,
            f"{message} (AddressLocationType: {kind})",
            refers_to=f"Addresses[{index}]",
            sub_code=sub_code,
        )

    postal = str(address.get("postalCode") or "")
    if postal.startswith("00000"):
        raise refuse("ZipNotValidError", "Zip is not valid for the state.")
    line, city, region = (address.get(name) for name in ("line1", "city", "region"))
    country = str(address.get("country") or "US").upper()
    if len(country) != 2:
        raise refuse("CountryError", "The country is not recognised.")
    if country == "US" and not ((line and postal) or (city and region) or (region and postal)):
        raise refuse("InsufficientAddressError", "The address value was incomplete.")
