"""The fields this simulator knows, by record, with their types. A subset of NetSuite's REST API Browser 2026.1: a field
that is not here is refused although a real account may have it.

Types: text[:longest], email, bool, date, money (number), int, enum, ref:<record>, list:<sublist>, and a leading `!` for
what NetSuite computes: read back, never written.
"""

from __future__ import annotations

CUSTOMER = {
    "id": "!text", "externalId": "text", "entityId": "text:80", "autoName": "bool", "isPerson": "bool",
    "companyName": "text:83", "firstName": "text:32", "lastName": "text:32", "email": "email:254", "phone": "text:32",
    "altPhone": "text:32", "comments": "text:4000", "isInactive": "bool", "subsidiary": "ref:subsidiary",
    "currency": "ref:currency", "terms": "ref:term", "taxable": "bool", "accountNumber": "text", "url": "text",
    "currencyList": "list:currencyList", "receivablesAccount": "ref:account", "balance": "!money",
}  # fmt: skip
_TRANSACTION = {
    "id": "!text", "externalId": "text", "tranId": "text:45", "tranDate": "date", "currency": "ref:currency",
    "subsidiary": "ref:subsidiary", "exchangeRate": "money", "memo": "text:999",
    "postingPeriod": "ref:accountingPeriod", "status": "!enum", "total": "!money",
}  # fmt: skip
_SALE = {
    **_TRANSACTION, "entity": "ref:customer", "otherRefNum": "text:45", "account": "ref:account", "email": "email:254",
    "item": "list:item", "subtotal": "!money", "amountRemaining": "!money", "amountPaid": "!money", "terms": "ref:term",
    "toBeEmailed": "bool", "startDate": "date", "endDate": "date",
}  # fmt: skip
INVOICE = {**_SALE, "dueDate": "date"}
CREDIT_MEMO = {**_SALE, "apply": "list:apply", "autoApply": "bool", "applied": "!money", "unapplied": "!money"}
CUSTOMER_PAYMENT = {
    **_TRANSACTION, "customer": "ref:customer", "payment": "money", "account": "ref:account", "arAcct": "ref:account",
    "apply": "list:apply", "autoApply": "bool", "applied": "!money", "unapplied": "!money", "checkNumber": "text",
}  # fmt: skip
_ITEM = {"id": "!text", "externalId": "text", "itemId": "text:60", "displayName": "text", "isInactive": "bool"}

RECORDS: dict[str, dict[str, str]] = {
    "customer": CUSTOMER,
    "invoice": INVOICE,
    "creditMemo": CREDIT_MEMO,
    "customerPayment": CUSTOMER_PAYMENT,
    "serviceSaleItem": _ITEM,
    "nonInventorySaleItem": _ITEM,
    "otherChargeSaleItem": _ITEM,
    "discountItem": _ITEM,
    "subsidiary": {"id": "!text", "externalId": "text", "name": "text", "currency": "ref:currency"},
    "currency": {"id": "!text", "externalId": "text", "name": "text", "symbol": "text", "currencyPrecision": "int"},
    "account": {"id": "!text", "externalId": "text", "acctName": "text", "acctNumber": "text"},
    "accountingPeriod": {"id": "!text", "periodName": "text", "startDate": "date", "endDate": "date", "closed": "bool"},
    "term": {"id": "!text", "externalId": "text", "name": "text", "daysUntilNetDue": "int"},
}
ITEMS = ("serviceSaleItem", "nonInventorySaleItem", "otherChargeSaleItem", "discountItem")
TRANSACTIONS = ("invoice", "creditMemo", "customerPayment")
WRITABLE = ("customer", *TRANSACTIONS)
"""The rest is seeded and read-only here: an administrator makes it."""

SUBLISTS: dict[str, dict[str, str]] = {
    "item": {
        "line": "int", "item": "ref:item", "quantity": "money", "rate": "money", "amount": "money",
        "description": "text:4000", "price": "ref:price", "isTaxable": "bool", "taxDetailsReference": "text",
        "revRecStartDate": "date", "revRecEndDate": "date", "department": "ref:department",
        "class": "ref:classification", "location": "ref:location",
    },
    "apply": {
        "doc": "ref:transaction", "apply": "bool", "amount": "money", "line": "int", "applyDate": "date",
        "due": "!money", "total": "!money", "refNum": "!text", "type": "!text",
    },
    "currencyList": {"currency": "ref:currency", "balance": "!money"},
}  # fmt: skip
KEYS = {"item": "line", "apply": "doc", "currencyList": "currency"}
"""What matches an existing line. `item`: only `line`, so a line without it is always a new one. `apply` and
`currencyList`: what they point to. Published per account as `x-ns-sublistkey`; that of `currencyList` is not known."""
