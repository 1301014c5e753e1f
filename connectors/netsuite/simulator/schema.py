"""The fields this simulator knows, by record, with their types. A subset of NetSuite's REST API Browser 2026.1: a field
that is not here is refused although a real account may have it.

Types: text[:longest], email, bool, date, money (number), int, enum, country, ref:<record>, refs:<record>, sub:<record>,
list:<sublist>, taxref (a text in a line, an object with `id` in a tax detail), and a leading `!` for what NetSuite
computes: read back, never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.netsuite.simulator.switches import Switches

_SEGMENTS = {"department": "ref:department", "class": "ref:classification", "location": "ref:location"}
CUSTOMER = {
    "id": "!text", "externalId": "text", "entityId": "text:80", "autoName": "bool", "isPerson": "bool",
    "companyName": "text:83", "firstName": "text:32", "lastName": "text:32", "email": "email:254", "phone": "text:32",
    "altPhone": "text:32", "comments": "text:4000", "isInactive": "bool", "subsidiary": "ref:subsidiary",
    "currency": "ref:currency", "terms": "ref:term", "taxable": "bool", "accountNumber": "text", "url": "text",
    "currencyList": "list:currencyList", "receivablesAccount": "ref:account", "balance": "!money",
    "parent": "ref:customer", "addressBook": "list:addressBook", "vatRegNumber": "text:20",
    "taxRegistration": "list:taxRegistration", "defaultTaxReg": "text",
}  # fmt: skip
_TRANSACTION = {
    "id": "!text", "externalId": "text", "tranId": "text:45", "tranDate": "date", "currency": "ref:currency",
    "subsidiary": "ref:subsidiary", "exchangeRate": "money", "memo": "text:999",
    "postingPeriod": "ref:accountingPeriod", **_SEGMENTS,
}  # fmt: skip
_SALE = {
    **_TRANSACTION, "entity": "ref:customer", "otherRefNum": "text:45", "account": "ref:account", "email": "email:254",
    "item": "list:item", "subtotal": "!money", "amountRemaining": "!money", "amountPaid": "!money", "terms": "ref:term",
    "toBeEmailed": "bool", "startDate": "date", "endDate": "date", "status": "!enum", "total": "!money",
    "taxTotal": "!money", "taxDetailsOverride": "bool", "taxRegOverride": "bool", "nexus": "ref:nexus",
    "taxDetails": "list:taxDetails",
}  # fmt: skip
INVOICE = {**_SALE, "dueDate": "date"}
CREDIT_MEMO = {**_SALE, "apply": "list:apply", "autoApply": "bool", "applied": "!money", "unapplied": "!money"}
CUSTOMER_PAYMENT = {
    **_TRANSACTION, "customer": "ref:customer", "payment": "money", "account": "ref:account", "arAcct": "ref:account",
    "apply": "list:apply", "autoApply": "bool", "applied": "!money", "unapplied": "!money", "checkNumber": "text",
    "status": "!enum", "total": "!money", "refundedAmountTotalBox": "!money",
}  # fmt: skip
CUSTOMER_REFUND = {
    **_TRANSACTION, "customer": "ref:customer", "account": "ref:account", "arAcct": "ref:account",
    "apply": "list:apply", "checkNumber": "text", "status": "!enum", "total": "!money",
}  # fmt: skip
DEPOSIT = {
    **_TRANSACTION, "account": "ref:account", "payment": "list:payment", "other": "list:other",
    "cashback": "list:cashback", "total": "!money",
}  # fmt: skip
JOURNAL_ENTRY = {**_TRANSACTION, "line": "list:line"}
_ITEM = {
    "id": "!text", "externalId": "text", "itemId": "text:60", "displayName": "text", "isInactive": "bool",
    "incomeAccount": "ref:account", "subsidiary": "refs:subsidiary", "includeChildren": "bool",
}  # fmt: skip
_SEGMENT = {
    "id": "!text", "externalId": "text", "name": "text", "isInactive": "bool", "subsidiary": "refs:subsidiary",
}  # fmt: skip

RECORDS: dict[str, dict[str, str]] = {
    "customer": CUSTOMER,
    "invoice": INVOICE,
    "creditMemo": CREDIT_MEMO,
    "customerPayment": CUSTOMER_PAYMENT,
    "customerRefund": CUSTOMER_REFUND,
    "deposit": DEPOSIT,
    "journalEntry": JOURNAL_ENTRY,
    "serviceSaleItem": _ITEM,
    "nonInventorySaleItem": _ITEM,
    "otherChargeSaleItem": _ITEM,
    "discountItem": _ITEM,
    "subsidiary": {"id": "!text", "externalId": "text", "name": "text", "currency": "ref:currency",
                   "parent": "ref:subsidiary", "isInactive": "bool"},
    "currency": {"id": "!text", "externalId": "text", "name": "text", "symbol": "text", "currencyPrecision": "int",
                 "exchangeRate": "money", "isBaseCurrency": "bool", "isInactive": "bool"},
    "account": {"id": "!text", "externalId": "text", "acctName": "text", "acctNumber": "text", "acctType": "enum",
                "currency": "ref:currency", "subsidiary": "refs:subsidiary", "isInactive": "bool",
                "includeChildren": "bool", "isSummary": "bool"},
    "accountingPeriod": {"id": "!text", "periodName": "text", "startDate": "date", "endDate": "date", "closed": "bool",
                         "arLocked": "bool", "apLocked": "bool", "allLocked": "bool", "allowNonGLChanges": "bool",
                         "isPosting": "bool", "isQuarter": "bool", "isYear": "bool", "isAdjust": "bool"},
    "term": {"id": "!text", "externalId": "text", "name": "text", "daysUntilNetDue": "int"},
    "department": _SEGMENT,
    "classification": _SEGMENT,
    "location": _SEGMENT,
    "nexus": {"id": "!text", "externalId": "text", "description": "text", "country": "country"},
    "salesTaxItem": {"id": "!text", "externalId": "text", "itemId": "text", "rate": "text", "taxType": "ref:taxType",
                     "isInactive": "bool"},
    "taxType": {"id": "!text", "externalId": "text", "name": "text"},
}  # fmt: skip
ITEMS = ("serviceSaleItem", "nonInventorySaleItem", "otherChargeSaleItem", "discountItem")
TRANSACTIONS = ("invoice", "creditMemo", "customerPayment", "customerRefund", "deposit", "journalEntry")
SALES = ("invoice", "creditMemo")
PARTY = {"invoice": "entity", "creditMemo": "entity", "customerPayment": "customer", "customerRefund": "customer"}
"""The field that names the customer. Deposits and journal entries have none."""
WRITABLE = ("customer", *TRANSACTIONS)
"""The rest is seeded and read-only here: an administrator makes it."""

SUBLISTS: dict[str, dict[str, str]] = {
    "item": {
        "line": "int", "item": "ref:item", "quantity": "money", "rate": "money", "amount": "money",
        "description": "text:4000", "price": "ref:price", "isTaxable": "bool", "taxDetailsReference": "text",
        "revRecStartDate": "date", "revRecEndDate": "date", **_SEGMENTS,
    },
    "apply": {
        "doc": "ref:transaction", "apply": "bool", "amount": "money", "line": "int", "applyDate": "date",
        "due": "!money", "total": "!money", "refNum": "!text", "type": "!text",
    },
    "currencyList": {"currency": "ref:currency", "balance": "!money"},
    "payment": {"id": "int", "deposit": "bool", "memo": "text", "paymentAmount": "!money"},
    "other": {
        "line": "text", "account": "ref:account", "amount": "money", "memo": "text:4000", "entity": "ref:customer",
        "refNum": "text", **_SEGMENTS,
    },
    "cashback": {"line": "text", "account": "ref:account", "amount": "money", "memo": "text:4000", **_SEGMENTS},
    "line": {
        "line": "int", "account": "ref:account", "debit": "money", "credit": "money", "memo": "text:4000",
        "entity": "ref:customer", **_SEGMENTS,
    },
    "taxDetails": {
        "taxDetailsReference": "taxref", "taxType": "text", "taxCode": "ref:salesTaxItem", "taxBasis": "money",
        "taxRate": "money", "taxAmount": "money", "netAmount": "!money", "lineName": "!text", "lineType": "!text",
        "calcDetail": "!text",
    },
    "addressBook": {
        "id": "int", "internalId": "int", "label": "text", "defaultBilling": "bool", "defaultShipping": "bool",
        "isResidential": "bool", "addressBookAddress": "sub:addressBookAddress",
    },
    "taxRegistration": {
        "id": "int", "nexusCountry": "country", "nexus": "ref:nexus", "taxRegistrationNumber": "text",
    },
}  # fmt: skip
SUBRECORDS: dict[str, dict[str, str]] = {
    "addressBookAddress": {
        "addr1": "text:150", "addr2": "text:150", "addr3": "text:150", "addressee": "text:150", "attention": "text:150",
        "addrPhone": "text:32", "addrText": "!text", "city": "text:50", "state": "text:30", "zip": "text:36",
        "country": "country", "override": "bool",
    }
}  # fmt: skip
KEYS: dict[str, str | None] = {
    "item": "line", "apply": "doc", "currencyList": "currency", "payment": "id", "other": "line", "cashback": "line",
    "line": "line", "taxDetails": None, "addressBook": "id", "taxRegistration": "id",
}  # fmt: skip
"""What matches an existing line. Of `item`, `other`, `cashback`, `line`, `addressBook`: only NetSuite's own number, so
a line without it is always a new one. `apply`, `payment` and `currencyList`: what they point to. `taxDetails`: nothing.
Published per account as `x-ns-sublistkey`; those of `currencyList`, `addressBook` and of a deposit's are not known."""

_SUITETAX = frozenset(
    {"taxDetails", "taxDetailsOverride", "taxRegOverride", "nexus", "taxRegistration", "defaultTaxReg"}
)
_LEGACY = frozenset({"vatRegNumber"})
"""With SuiteTax the registration numbers are in `taxRegistration` (NetSuite help, "Customer" record in REST)."""
DISABLE_AVATAX = "custbody_ava_disable_tax_calculation"


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of one account: those above, less what is switched off, and its custom fields."""

    records: Mapping[str, Mapping[str, str]]
    sublists: Mapping[str, Mapping[str, str]]
    custom: frozenset[str]


def schema(switches: Switches) -> Schema:
    """What the account's metadata catalog would say."""
    custom = {**switches.custom_fields, **({DISABLE_AVATAX: "bool"} if switches.avatax_bundle else {})}
    gone = _LEGACY if switches.suitetax else _SUITETAX
    records = {}
    for kind, fields in RECORDS.items():
        own = "custbody_" if kind in TRANSACTIONS else "custentity_" if kind == "customer" else "-"
        known = {name: spec for name, spec in fields.items() if name not in gone}
        records[kind] = {**known, **{name: spec for name, spec in custom.items() if name.startswith(own)}}
    lines = {name: spec for name, spec in custom.items() if name.startswith("custcol_")}
    item = {n: s for n, s in SUBLISTS["item"].items() if switches.suitetax or n != "taxDetailsReference"}
    return Schema(records, {**SUBLISTS, "item": {**item, **lines}}, frozenset(custom))
