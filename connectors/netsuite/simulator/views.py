"""The books as SuiteQL's tables.

Columns: as other connectors' published table descriptions list them (CData's for NetSuite, SuiteQL tables `account`,
`transactionline`, `transactionaccountingline`, `nexttransactionlinelink`) and, for what is open on a document,
Prolecto's table of A/R fields. `transaction` has no subsidiary: it is on the lines, also the main one (`mainline` = T).
Not known: the sign of `foreigntotal` on a payment (here as on a credit memo, negative; take the absolute value), the
value of `linktype` for an application (here Payment), whether `customer` has a subsidiary column in every account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from connectors.netsuite.simulator.books import Books
from connectors.netsuite.simulator.ledger import computed
from connectors.netsuite.simulator.money import rate_of
from connectors.netsuite.simulator.render import TYPE_NAMES, called, owner_of
from connectors.netsuite.simulator.schema import ITEMS, PARTY, SALES, TRANSACTIONS
from connectors.netsuite.simulator.seed import Row

TYPES = {
    "invoice": "CustInvc", "creditMemo": "CustCred", "customerPayment": "CustPymt", "customerRefund": "CustRfnd",
    "deposit": "Deposit", "journalEntry": "Journal",
}  # fmt: skip
DATES = frozenset({"trandate", "duedate", "startdate", "enddate", "effectivedate"})


@dataclass(frozen=True, slots=True)
class Table:
    """`rows`: a value, or a pair of the value and what BUILTIN.DF shows for it."""

    columns: tuple[str, ...]
    rows: Callable[[Books], Iterator[Row]]
    numbers: frozenset[str] = frozenset()


def _seen(books: Books, kind: str) -> dict[str, Row]:
    """What the role may view: of the rest a query shows nothing."""
    return {} if books.switches.denied.get(kind) == "none" else books.records[kind]


def _ref(books: Books, target: str, number: str | None) -> tuple[Any, Any] | None:
    return (int(number), called(books, owner_of(books, target, number), number)) if number else None


def _flag(value: Any) -> str:
    return "T" if value else "F"


def _transactions(books: Books) -> Iterator[Row]:
    for kind in TRANSACTIONS:
        for number, row in _seen(books, kind).items():
            state = computed(books, kind, number, row)
            status = state.get("status")
            name = TYPE_NAMES[kind]
            sign = -1 if kind in ("creditMemo", "customerPayment") else 1
            found: Row = {
                "id": int(number), "externalid": row.get("externalId"), "type": (TYPES[kind], name),
                "recordtype": kind.lower(), "trandate": row["tranDate"], "tranid": row.get("tranId"),
                "foreigntotal": sign * row["total"], "exchangerate": row["exchangeRate"], "memo": row.get("memo"),
                "entity": _ref(books, "customer", row.get(PARTY.get(kind, ""))), "duedate": row.get("dueDate"),
                "currency": _ref(books, "currency", row["currency"]), "otherrefnum": row.get("otherRefNum"),
                "postingperiod": _ref(books, "accountingPeriod", row["postingPeriod"]),
                "status": (status[0], f"{name} : {status[1]}") if status else None, "posting": "T",
                "voided": _flag(row.get("voided")),
                "terms": _ref(books, "term", row.get("terms")),
            }  # fmt: skip
            if kind == "invoice":
                found |= {"foreignamountpaid": state["amountPaid"], "foreignamountunpaid": state["amountRemaining"]}
            elif "unapplied" in state:
                used = row["total"] - state["unapplied"]
                found |= {"foreignpaymentamountused": used, "foreignpaymentamountunused": state["unapplied"]}
            yield found


def _every(books: Books) -> Iterator[tuple[str, str, Row]]:
    for kind in TRANSACTIONS:
        for number, row in _seen(books, kind).items():
            yield kind, number, row


def _source(kind: str, row: Row) -> list[Row]:
    """The lines of a transaction's own sublists, in the order of its ledger lines."""
    if kind in SALES:
        return list(row["item"])
    if kind == "deposit":
        return [{}] * len(row["payment"]) + [*row["other"], *row["cashback"]]
    return list(row["line"]) if kind == "journalEntry" else []


def _lines(books: Books) -> Iterator[Row]:
    for kind, number, row in _every(books):
        source = _source(kind, row)
        for place, post in enumerate(books.posted[number]):
            main = place == 0  # of a journal entry the first line counts as the main one
            own = source[post.line - 1] if 0 < post.line <= len(source) else {}
            line = own or (row if main else {})
            item = None if main else line.get("item")
            yield {
                "id": place, "uniquekey": f"{number}{place:05}", "transaction": int(number), "mainline": _flag(main),
                "linesequencenumber": place, "item": _ref(books, "item", item), "foreignamount": post.foreign,
                "netamount": post.base, "memo": line.get("memo") or line.get("description"),
                "quantity": None if main or "quantity" not in line else line["quantity"],
                "rate": None if main else line.get("rate"), "entity": _ref(
                    books, "customer", line.get("entity") or row.get(PARTY.get(kind, ""))
                ),
                "subsidiary": _ref(books, "subsidiary", row["subsidiary"]),
                "department": _ref(books, "department", line.get("department")),
                "class": _ref(books, "classification", line.get("class")),
                "location": _ref(books, "location", line.get("location")),
                "expenseaccount": _ref(books, "account", post.account),
                "taxline": _flag(kind in SALES and post.line > len(source)),
            }  # fmt: skip


def _accounting_lines(books: Books) -> Iterator[Row]:
    for _, number, row in _every(books):
        for place, post in enumerate(books.posted[number]):
            yield {
                "transaction": int(number), "transactionline": place, "accountingbook": 1, "posting": "T",
                "account": _ref(books, "account", post.account), "amount": post.base, "netamount": post.base,
                "debit": post.base if post.base > 0 else None, "credit": -post.base if post.base < 0 else None,
                "exchangerate": row["exchangeRate"],
            }  # fmt: skip


def _links(books: Books) -> Iterator[Row]:
    for kind, number, row in _every(books):
        for line in row["apply"]:
            yield {
                "previousdoc": int(line["doc"]), "previousline": 0, "previoustype": TYPES[books.kind_of(line["doc"])],
                "nextdoc": int(number), "nextline": 0, "nexttype": TYPES[kind], "linktype": "Payment",
                "foreignamount": line["amount"],
            }  # fmt: skip


def _customers(books: Books) -> Iterator[Row]:
    for number, row in _seen(books, "customer").items():
        yield {
            "id": int(number), "externalid": row.get("externalId"), "entityid": row["entityId"],
            "companyname": row.get("companyName"), "firstname": row.get("firstName"), "lastname": row.get("lastName"),
            "isperson": _flag(row.get("isPerson")), "email": row.get("email"), "phone": row.get("phone"),
            "isinactive": _flag(row["isInactive"]), "currency": _ref(books, "currency", row["currency"]),
            "subsidiary": _ref(books, "subsidiary", row["subsidiary"]),
            "terms": _ref(books, "term", row.get("terms")), "parent": _ref(books, "customer", row.get("parent")),
        }  # fmt: skip


def _items(books: Books) -> Iterator[Row]:
    types = {"serviceSaleItem": "Service", "nonInventorySaleItem": "NonInvtPart", "otherChargeSaleItem": "OthCharge"}
    for kind in ITEMS:
        for number, row in _seen(books, kind).items():
            yield {
                "id": int(number), "externalid": row.get("externalId"), "itemid": row["itemId"],
                "displayname": row.get("displayName"), "itemtype": types.get(kind, "Discount"),
                "isinactive": _flag(row["isInactive"]), "subsidiary": _several(books, row["subsidiary"]),
                "incomeaccount": _ref(books, "account", row["incomeAccount"]),
                "includechildren": _flag(row["includeChildren"]),
            }  # fmt: skip


def _several(books: Books, numbers: tuple[str, ...]) -> tuple[str, str] | None:
    """A multiple select: ids in one text."""
    names = [called(books, "subsidiary", number) for number in numbers]
    return (", ".join(numbers), ", ".join(names)) if numbers else None


def _accounts(books: Books) -> Iterator[Row]:
    for number, row in _seen(books, "account").items():
        yield {
            "id": int(number), "externalid": row.get("externalId"), "acctnumber": row["acctNumber"],
            "accountsearchdisplayname": f"{row['acctNumber']} {row['acctName']}", "fullname": row["acctName"],
            "accttype": row["acctType"], "isinactive": _flag(row["isInactive"]),
            "currency": _ref(books, "currency", row["currency"]), "subsidiary": _several(books, row["subsidiary"]),
            "includechildren": _flag(row["includeChildren"]), "issummary": _flag(row["isSummary"]),
        }  # fmt: skip


def _map(*kinds: str, name: str) -> Callable[[Books], Iterator[Row]]:
    """Which subsidiaries may use a record, one row each."""

    def rows(books: Books) -> Iterator[Row]:
        for kind in kinds:
            for number, row in _seen(books, kind).items():
                for each in row["subsidiary"]:
                    yield {name: _ref(books, name, number), "subsidiary": _ref(books, "subsidiary", each)}

    return rows


def _periods(books: Books) -> Iterator[Row]:
    flags = ("closed", "arLocked", "apLocked", "allLocked", "allowNonGLChanges", "isPosting", "isQuarter", "isYear",
             "isAdjust")  # fmt: skip
    for number, row in _seen(books, "accountingPeriod").items():
        yield {
            "id": int(number), "periodname": row["periodName"], "startdate": row["startDate"],
            "enddate": row["endDate"], **{flag.lower(): _flag(row[flag]) for flag in flags},
        }  # fmt: skip


def _simple(kind: str, **names: str) -> Callable[[Books], Iterator[Row]]:
    """A table whose columns are fields of the record, as they are."""

    def rows(books: Books) -> Iterator[Row]:
        for number, row in _seen(books, kind).items():
            found: Row = {"id": int(number), "externalid": row.get("externalId")}
            for column, field in names.items():
                value = row.get(field)
                found[column] = _flag(value) if column.startswith("is") else value
            if "currency" in names:
                found["currency"] = _ref(books, "currency", row["currency"])
            yield found

    return rows


def _rates(books: Books) -> Iterator[Row]:
    bases = {row["currency"] for row in books.records["subsidiary"].values()}
    for base in sorted(bases):
        for number in books.records["currency"]:
            if number != base:
                yield {
                    "id": int(base) * 1000 + int(number), "basecurrency": _ref(books, "currency", base),
                    "transactioncurrency": _ref(books, "currency", number),
                    "exchangerate": rate_of(number, base), "effectivedate": "2020-01-01",
                }  # fmt: skip


def _names(*columns: str) -> tuple[str, ...]:
    return ("id", "externalid", *columns)


_SEGMENT = _names("name", "isinactive")
TABLES: dict[str, Table] = {
    "transaction": Table(
        _names(
            "type", "recordtype", "trandate", "tranid", "foreigntotal", "exchangerate", "memo", "entity", "duedate",
            "currency", "otherrefnum", "postingperiod", "status", "posting", "voided", "terms", "foreignamountpaid",
            "foreignamountunpaid", "foreignpaymentamountused", "foreignpaymentamountunused",
        ),
        _transactions,
        frozenset(
            {"id", "foreigntotal", "exchangerate", "entity", "currency", "postingperiod", "terms", "foreignamountpaid",
             "foreignamountunpaid", "foreignpaymentamountused", "foreignpaymentamountunused"}
        ),
    ),
    "transactionline": Table(
        ("id", "uniquekey", "transaction", "mainline", "linesequencenumber", "item", "foreignamount", "netamount",
         "memo", "quantity", "rate", "entity", "subsidiary", "department", "class", "location", "expenseaccount",
         "taxline"),
        _lines,
        frozenset({"id", "uniquekey", "transaction", "linesequencenumber", "item", "foreignamount", "netamount",
                   "quantity", "rate", "entity", "subsidiary", "department", "class", "location", "expenseaccount"}),
    ),
    "transactionaccountingline": Table(
        ("transaction", "transactionline", "accountingbook", "posting", "account", "amount", "netamount", "debit",
         "credit", "exchangerate"),
        _accounting_lines,
        frozenset({"transaction", "transactionline", "accountingbook", "account", "amount", "netamount", "debit",
                   "credit", "exchangerate"}),
    ),
    "nexttransactionlinelink": Table(
        ("previousdoc", "previousline", "previoustype", "nextdoc", "nextline", "nexttype", "linktype",
         "foreignamount"),
        _links,
        frozenset({"previousdoc", "previousline", "nextdoc", "nextline", "foreignamount"}),
    ),
    "customer": Table(
        _names("entityid", "companyname", "firstname", "lastname", "isperson", "email", "phone", "isinactive",
               "currency", "subsidiary", "terms", "parent"),
        _customers,
        frozenset({"id", "currency", "subsidiary", "terms", "parent"}),
    ),
    "item": Table(
        _names("itemid", "displayname", "itemtype", "isinactive", "subsidiary", "incomeaccount", "includechildren"),
        _items,
        frozenset({"id", "incomeaccount"}),
    ),
    "account": Table(
        _names("acctnumber", "accountsearchdisplayname", "fullname", "accttype", "isinactive", "currency",
               "subsidiary", "includechildren", "issummary"),
        _accounts,
        frozenset({"id", "currency"}),
    ),
    "itemsubsidiarymap": Table(
        ("item", "subsidiary"), _map(*ITEMS, name="item"), frozenset({"item", "subsidiary"})
    ),
    "accountsubsidiarymap": Table(
        ("account", "subsidiary"), _map("account", name="account"), frozenset({"account", "subsidiary"})
    ),
    "accountingperiod": Table(
        ("id", "periodname", "startdate", "enddate", "closed", "arlocked", "aplocked", "alllocked",
         "allownonglchanges", "isposting", "isquarter", "isyear", "isadjust"),
        _periods,
        frozenset({"id"}),
    ),
    "subsidiary": Table(
        _names("name", "currency", "isinactive", "parent", "iselimination"),
        _simple(
            "subsidiary", name="name", currency="currency", isinactive="isInactive", parent="parent",
            iselimination="isElimination",
        ),
        frozenset({"id", "currency", "parent"}),
    ),
    "currency": Table(
        _names("name", "symbol", "exchangerate", "currencyprecision", "isbasecurrency", "isinactive"),
        _simple(
            "currency", name="name", symbol="symbol", exchangerate="exchangeRate",
            currencyprecision="currencyPrecision", isbasecurrency="isBaseCurrency", isinactive="isInactive",
        ),
        frozenset({"id", "exchangerate", "currencyprecision"}),
    ),
    "currencyrate": Table(
        ("id", "basecurrency", "transactioncurrency", "exchangerate", "effectivedate"),
        _rates,
        frozenset({"id", "basecurrency", "transactioncurrency", "exchangerate"}),
    ),
    "department": Table(_SEGMENT, _simple("department", name="name", isinactive="isInactive"), frozenset({"id"})),
    "classification": Table(
        _SEGMENT, _simple("classification", name="name", isinactive="isInactive"), frozenset({"id"})
    ),
    "location": Table(_SEGMENT, _simple("location", name="name", isinactive="isInactive"), frozenset({"id"})),
    "term": Table(
        _names("name", "daysuntilnetdue"), _simple("term", name="name", daysuntilnetdue="daysUntilNetDue"),
        frozenset({"id", "daysuntilnetdue"}),
    ),
}  # fmt: skip
