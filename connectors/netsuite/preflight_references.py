"""Checks of what the lookup tables and mappings point to: it exists once, is active, of the right kind, allowed in the
subsidiaries it is used in, and takes the currencies that will come. No I/O.

Currencies of accounts: an account without a currency takes all; a bank account in the base currency of its subsidiary
takes payments in any, one in another currency only its own (Zone & Co, "Foreign Currencies: What is Possible", which
quotes NetSuite). NetSuite's own help says only that a bank account has a currency.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from connectors.netsuite.preflight_account import TABLES, Account, Row
from connectors.netsuite.preflight_checks import ROLE, Finding
from connectors.netsuite.preflight_uses import Entry, Reference, Uses

NAMES = {"classification": "class", "term": "terms"}
"""A table's name where people use another."""
PLACES = {
    "item": "Lists > Accounting > Items",
    "account": "Lists > Accounting > Accounts",
    "subsidiary": "Setup > Company > Subsidiaries",
    "currency": "Lists > Accounting > Currencies",
    "department": "Setup > Company > Departments",
    "classification": "Setup > Company > Classes",
    "location": "Setup > Company > Locations",
    "term": "Setup > Accounting > Accounting Lists, Term",
}
SELLABLE = frozenset({"Service", "NonInvtPart", "OthCharge", "DwnLdItem"})
UNSURE = frozenset({"Discount", "Markup", "InvtPart", "Assembly", "Kit", "GiftCert"})
"""Items NetSuite takes on an invoice, but with rules of their own: no quantity, stock that moves, a liability."""
MONEY = frozenset({"Bank", "OthCurrAsset"})
PROFIT = frozenset({"Income", "OthIncome", "Expense", "OthExpense", "COGS"})
POSTING = MONEY | PROFIT | {"OthCurrLiab", "LongTermLiab", "OthAsset", "FixedAsset", "CredCard", "Equity"}
TYPES: Mapping[tuple[str, str], tuple[frozenset[str], str]] = {
    ("customerPayment", "account"): (MONEY, "a bank or other current asset account"),
    ("customerRefund", "account"): (MONEY, "a bank or other current asset account"),
    ("deposit", "account"): (MONEY, "a bank or other current asset account"),
    ("deposit", "other.items.account"): (POSTING, "an account that can be posted to"),
    ("deposit", "cashback.items.account"): (POSTING, "an account that can be posted to"),
    ("journalEntry", "line.items.account"): (POSTING, "an account that can be posted to"),
}
"""Where an account is written -> the types (`accttype`) it may be of, in words."""
RECEIVABLE = (frozenset({"AcctRec"}), "an accounts receivable account")
COSTS = re.compile(r"(^|_)(fees?|fx|exchange|differences?|gain|loss)($|_)", re.IGNORECASE)
"""Keys of accounts that hold a profit or loss."""
BASES = "netsuite_base_currencies"
"""The table that exchange rates from Stripe are taken by."""
TAKES_ALL = (("customerPayment", "account"), ("customerRefund", "account"))
"""Where every currency that is billed in arrives."""


def references(
    account: Account, uses: Uses, tables: Mapping[str, Mapping[str, object]], places: Mapping[str, int]
) -> Iterator[Finding]:
    """`tables`: the lookup tables; `places`: Stripe's decimal places by upper-case currency."""
    missing: dict[tuple[str, str], list[str]] = {}
    for one in uses.missing:
        missing.setdefault((one.table, one.key), []).append(one.target.file)
    for (table, key), files in missing.items():
        cause = f"there is no entry for {key!r}, which is looked up by {', '.join(sorted(set(files)))}"
        yield Finding(f"lookup table {table}", "wrong", cause, f"Add {key!r} to mappings/lookups/{table}.yaml.")
    for kind in TABLES:
        wanted = uses.of(kind)
        if not wanted:
            continue
        name = NAMES.get(kind, kind)
        if kind not in account.rows:
            yield Finding(
                name, "cannot tell", f"the list of {kind}: {account.unread[kind]}",
                f"Administrator: {ROLE}: add View of it, and SuiteAnalytics Workbook.",
            )  # fmt: skip
            continue
        if not account.rows[kind]:
            values = ", ".join(sorted({r.value for r in wanted}))
            cause = f"NetSuite shows none of these: {values}. They are not there, or the role may not see them"
            fix = f"Create them in {PLACES[kind]}, correct the tables, or {ROLE}: add View of it."
            yield Finding(name, "wrong", cause, fix)
            continue
        found = {r: list(_one(account, uses, r, places)) for r in wanted}
        yield from dict.fromkeys(f for findings in found.values() for f in findings)
        good = [f"{r.key} ({r.value})" if r.key else r.value for r, findings in found.items() if not findings]
        if good:
            yield Finding(name, "ok", f"{', '.join(good)}: there once, active, and fit for what they are used for")
    yield from _currency_list(uses, tables.get("netsuite_currencies", {}))
    if any(BASES in t.text for t in uses.targets):
        yield from _bases(account, uses, tables.get(BASES, {}))


def _one(account: Account, uses: Uses, wanted: Reference, places: Mapping[str, int]) -> Iterator[Finding]:
    kind, name = wanted.kind, NAMES.get(wanted.kind, wanted.kind)
    rows = [r for r in account.rows[kind] if r.get(wanted.by.lower()) == wanted.value]
    called = f"{'internal' if wanted.by == 'id' else 'external'} id {wanted.value}"
    if not rows:
        yield Finding(
            name, "wrong", f"there is no {name} with the {called}, which {wanted.source} names",
            f"Create it in {PLACES[kind]}, give an existing one that id, or correct {wanted.source}.",
        )  # fmt: skip
        return
    if len(rows) > 1:
        numbers = ", ".join(r["id"] for r in rows)
        yield Finding(
            name, "wrong", f"the {called} is borne by {len(rows)} records of kind {name} (internal ids {numbers})",
            f"Take it from all but one ({PLACES[kind]}), or name one by its internal id in {wanted.source}.",
        )  # fmt: skip
        return
    row = rows[0]
    shown = f"{name} {_name(row)} ({called}; {wanted.source})"
    if row.get("isinactive") == "T":
        fix = f"Make it active in {PLACES[kind]}, or name another in {wanted.source}."
        yield Finding(name, "wrong", f"{shown} is inactive", fix)
        return
    if kind == "item":
        yield from _item(shown, row, wanted)
    elif kind == "account":
        yield from _account(account, uses, shown, row, wanted)
    elif kind == "currency":
        yield from _currency(shown, row, wanted, places)
    elif kind == "subsidiary" and row.get("iselimination") == "T":
        fix = f"Name an operating subsidiary in {wanted.source}."
        yield Finding(name, "wrong", f"{shown} is an elimination subsidiary, which has no customers", fix)
    if kind in ("item", "account"):
        yield from _allowed(account, uses, shown, row, wanted)


def _name(row: Row) -> str:
    names = ("itemid", "accountsearchdisplayname", "symbol", "name")
    return next((row[n] for n in names if row.get(n)), row["id"])


def _item(shown: str, row: Row, wanted: Reference) -> Iterator[Finding]:
    kind = row.get("itemtype", "")
    fix = f"Name a service, non-inventory or other-charge item for sale in {wanted.source}."
    if kind in UNSURE:
        yield Finding("item", "cannot tell", f"{shown} is of type {kind}, which has rules of its own", fix)
    elif kind not in SELLABLE:
        yield Finding("item", "wrong", f"{shown} is of type {kind}, which cannot be sold", fix)


def _account(account: Account, uses: Uses, shown: str, row: Row, wanted: Reference) -> Iterator[Finding]:
    kind = row.get("accttype", "")
    for types, words in _types(wanted):
        if kind not in types:
            used = ", ".join(f"{target} of {record}" for record, target in wanted.targets)
            cause = f"{shown} is of type {kind}, but {used} wants {words}"
            yield Finding("account", "wrong", cause, f"Name another in {wanted.source}.")
            return
    if row.get("issummary") == "T":
        yield Finding("account", "wrong", f"{shown} is a summary account", f"Name one below it in {wanted.source}.")
    own = row.get("currency")
    if not own:
        return
    bases = {r.get("currency") for r in account.rows.get("subsidiary", ()) if r["id"] in _books(uses, wanted)}
    if bases == {own}:
        return  # in the base currency of its books
    symbol = _symbol(account, own)
    others = sorted({r.key for r in uses.of("currency")} - {symbol.lower()})
    meant = Entry.of(wanted.key).currency
    if meant and symbol.lower() != meant:
        cause, fix = f"{shown} is kept in {symbol}", f"Name one of that currency in {wanted.source}."
        yield Finding("account", "wrong", cause, fix)
    elif not meant and others and any(place in TAKES_ALL for place in wanted.targets):
        cause = f"{shown} takes one currency only ({symbol}), but {', '.join(others)} arrive in it too"
        fix = f"Name an account without a currency (other current asset) in {wanted.source}."
        yield Finding("account", "wrong", cause, fix)


def _types(wanted: Reference) -> Iterator[tuple[frozenset[str], str]]:
    for place in wanted.targets:
        if place[1] == "arAcct" or place in (("invoice", "account"), ("creditMemo", "account")):
            yield RECEIVABLE
        elif place[1].count(".") and COSTS.search(Entry.of(wanted.key).key):
            yield PROFIT, "an income or expense account"
        elif place in TYPES:
            yield TYPES[place]


def _symbol(account: Account, number: str) -> str:
    return next((r["symbol"] for r in account.rows.get("currency", ()) if r["id"] == number), f"currency {number}")


def _currency(shown: str, row: Row, wanted: Reference, places: Mapping[str, int]) -> Iterator[Finding]:
    symbol, code, fix = row.get("symbol", ""), wanted.key.upper(), f"Correct {wanted.source}."
    if code in places and symbol.upper() != code:
        yield Finding("currency", "wrong", f"{wanted.source} means {code}, but {shown} is {symbol}", fix)
        return
    if symbol.upper() not in places or not row.get("currencyprecision", "").isdigit():
        return
    kept, sent = int(row["currencyprecision"]), places[symbol.upper()]
    said = f"{shown} keeps {kept} decimal places, Stripe sends {sent}"
    if kept < min(sent, 2):
        yield Finding("currency", "wrong", said, f"{PLACES['currency']}: Currency Precision {min(sent, 2)}.")
    elif kept < sent:
        fix = "Nothing: Stripe charges no others. A document with one all the same becomes a dead letter (TOO_PRECISE)."
        yield Finding("currency", "cannot tell", f"{said}: only amounts that end in 0 fit", fix)


def _books(uses: Uses, wanted: Reference) -> frozenset[str]:
    """The subsidiaries it is used in: those of the Stripe account its entry names; else those of all accounts that have
    no entry of their own, for an entry that names the account wins."""
    mine = Entry.of(wanted.key)
    entries = [Entry.of(r.key) for r in uses.of(wanted.kind)]
    own = {
        e.account
        for e in entries
        if e.key == mine.key and e.currency in ("", mine.currency) and e.country in ("", mine.country)
    }
    found = set()
    for reference in uses.of("subsidiary"):
        account = Entry.of(reference.key).account
        if reference.by == "id" and (account == mine.account if mine.account else account not in own):
            found.add(reference.value)
    return frozenset(found)


def _allowed(account: Account, uses: Uses, shown: str, row: Row, wanted: Reference) -> Iterator[Finding]:
    needed = _books(uses, wanted)
    allowed = account.allowed(wanted.kind, row)
    if not needed:
        return
    if allowed is None:
        yield Finding(
            wanted.kind, "cannot tell", f"which subsidiaries may use each {wanted.kind} could not be read",
            "Look at the ones the tables name yourself.",
        )  # fmt: skip
        return
    for number in sorted(needed - allowed) if allowed else ():
        name = next((r["name"] for r in account.rows["subsidiary"] if r["id"] == number), number)
        yield Finding(
            wanted.kind, "wrong", f"{shown} may not be used in the subsidiary {name} (internal id {number})",
            f"Add the subsidiary to it in {PLACES[wanted.kind]}, or name another in {wanted.source}.",
        )  # fmt: skip


def _currency_list(uses: Uses, table: Mapping[str, object]) -> Iterator[Finding]:
    """Each customer is given the list in customer.yaml; a document in any other currency would be refused."""
    check = "currencies of a customer"
    if uses.currency_list is None or not table:
        return
    given: Sequence[str] = uses.currency_list
    lacking, extra = sorted(set(table) - set(given)), sorted(set(given) - set(table))
    if lacking:
        yield Finding(
            check, "wrong", f"customers may not use {', '.join(lacking)}: documents in it would be refused",
            "Make the list in mappings/netsuite/customer.yaml equal to mappings/lookups/netsuite_currencies.yaml.",
        )  # fmt: skip
    if extra:
        yield Finding(
            check, "wrong", f"mappings/netsuite/customer.yaml lists {', '.join(extra)}, which the currency table lacks",
            "Make the list equal to mappings/lookups/netsuite_currencies.yaml.",
        )  # fmt: skip
    if not lacking and not extra:
        yield Finding(check, "ok", f"{', '.join(given)}: the list and the table agree")


def _bases(account: Account, uses: Uses, table: Mapping[str, object]) -> Iterator[Finding]:
    """A rate of Stripe's is used where the settlement currency is the base currency that the table names."""
    rows = {r["id"]: r for r in account.rows.get("subsidiary", ())}
    good = True
    for one in uses.of("subsidiary"):
        row, stripe = rows.get(one.value), Entry.of(one.key).account
        said = str(table.get(stripe, table.get("*", "nothing"))).upper()
        if one.by != "id" or row is None or (base := _symbol(account, row.get("currency", ""))) == said:
            continue
        good = False
        yield Finding(
            "base currency", "wrong",
            f"the books of {stripe} (subsidiary {_name(row)}) are kept in {base}, but {BASES}.yaml says {said}",
            f"Correct mappings/lookups/{BASES}.yaml, {stripe}.",
        )  # fmt: skip
    if good:
        yield Finding("base currency", "ok", f"{BASES}.yaml agrees with the subsidiaries")
