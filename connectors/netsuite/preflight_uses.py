"""What the mappings will write into NetSuite, read from the mappings alone: every target, and every record they name.

A record is named where a target ends in `.id` or `.externalId`: by an entry of a lookup table, by a text in the
mapping, or by a setting. What comes from a document (a customer, an invoice) is not known before there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.netsuite.document import OURS
from connectors.netsuite.preflight_known import UNKNOWN, Node, children, known, tree
from hub.mapping.expressions import Expression, false
from hub.mapping.record import Evaluate, Field, RecordMapping, Sublist

KINDS: Mapping[str, str] = {
    "item": "item",
    "account": "account",
    "arAcct": "account",
    "subsidiary": "subsidiary",
    "currency": "currency",
    "department": "department",
    "class": "classification",
    "location": "location",
    "terms": "term",
}
"""Name of a reference field -> the SuiteQL table it points into. Other references are made of documents."""

KEYS = ("id", "externalId")
OWN = "own"
"""In place of a Stripe account: that of our own key."""


@dataclass(frozen=True, slots=True)
class Target:
    """One field or sublist column that some mapping fills."""

    record: str
    path: tuple[str, ...]
    """With the sublist before the column: `("item", "items", "amount")`."""
    file: str
    value: Evaluate | None = None
    """None: the sublist itself."""

    @property
    def name(self) -> str:
        """As people know it: `item.items.amount`."""
        return ".".join(self.path)

    @property
    def text(self) -> str:
        """The expression as written; empty for a constant."""
        return self.value.text if isinstance(self.value, Expression) else ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A record of the account that the mappings name."""

    kind: str
    """A table of SuiteQL: `item`, `account`, ..."""
    by: str
    """`id` or `externalId`."""
    value: str
    source: str
    """The file and the place in it, where a person corrects it."""
    key: str = ""
    """Its key, if it stands in a lookup table."""
    targets: tuple[tuple[str, str], ...] = ()
    """Where it is written: pairs of record and target without `.id`, e.g. `("customerPayment", "account")`."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A lookup of a fixed word that no table has: each delivery of that mapping would end as `lookup_missing`."""

    table: str
    key: str
    target: Target


@dataclass(frozen=True, slots=True)
class Uses:
    """Everything the mappings will write."""

    targets: tuple[Target, ...]
    references: tuple[Reference, ...]
    missing: tuple[Missing, ...]
    currency_list: tuple[str, ...] | None = None
    """The currencies that each customer is given, if the mapping has a fixed list of them."""

    def records(self) -> list[str]:
        """The kinds of record written, each once, in the order of the mappings."""
        return list(dict.fromkeys(t.record for t in self.targets))

    def of(self, kind: str) -> list[Reference]:
        """The references to one kind of record."""
        return [r for r in self.references if r.kind == kind]


@dataclass(frozen=True, slots=True)
class _Lookup:
    table: str
    keys: tuple[str, ...]
    """The fixed words among its keys."""
    only: bool
    """There are no others: nothing of a document decides."""
    part: str | None
    """`.bank` in `lookup(...).bank`: entries that are tables of their own."""
    by: bool
    """`lookup_by`: an entry may name more than the key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry of a `lookup_by` table says it is for, e.g. `acct_1/prod_seat/eur/DE`; parts that are not named are
    empty. A part alone that could be anything is the key."""

    account: str = ""
    key: str = ""
    currency: str = ""
    country: str = ""

    @classmethod
    def of(cls, text: str) -> Entry:
        """Parsed; see `lookup_by` in mappings/README.md."""
        parts = text.split("/")
        account = parts.pop(0) if parts[0].startswith("acct_") or parts[0] == OWN else ""
        country = parts.pop() if parts and _COUNTRY.fullmatch(parts[-1]) else ""
        currency = parts.pop() if len(parts) > 1 and _CURRENCY.fullmatch(parts[-1]) else ""
        return cls(account, "/".join(parts), currency, country)


_COUNTRY, _CURRENCY = re.compile("[A-Z]{2}"), re.compile("[a-z]{3}")


def uses(
    mappings: Iterable[RecordMapping], tables: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]
) -> Uses:
    """What these mappings write. `settings`: what their expressions see under that name."""
    mappings = tuple(mappings)
    targets = tuple(t for m in mappings for t in _targets(m, settings))
    found: dict[tuple[str, str, str, str, str], dict[tuple[str, str], None]] = {}
    missing: list[Missing] = []
    pointing = [(t, KINDS[t.path[-2]]) for t in targets if t.value and len(t.path) > 1 and _points(t)]
    looked_up = [(t, kind, one) for t, kind in pointing for one in _lookups(t.text)]
    every = (t for m in mappings for t in _targets(m, None))
    fixed = {(one.table, key) for t in every for one in _lookups(t.text) if one.only for key in one.keys}
    for target, kind, one in looked_up:
        table = tables.get(one.table, {})
        missing += [Missing(one.table, k, target) for k in one.keys if one.only and k not in table and "*" not in table]
        for key in _entries(one, table, fixed):
            entry = table[key].get(one.part) if one.part and isinstance(table[key], Mapping) else table[key]
            if entry is not None and not isinstance(entry, Mapping):
                place = (kind, target.path[-1], str(entry), f"mappings/lookups/{one.table}.yaml, {key}", key)
                found.setdefault(place, {})[target.record, ".".join(target.path[:-1])] = None
    for target, kind in pointing:
        value = UNKNOWN if _lookups(target.text) else known(target.value, settings)
        if value is not UNKNOWN and value is not None:
            place = (kind, target.path[-1], str(value), f"{target.file}, {target.name}", "")
            found.setdefault(place, {})[target.record, ".".join(target.path[:-1])] = None
    references = tuple(Reference(*place, tuple(where)) for place, where in found.items())
    return Uses(targets, references, tuple(missing), _currency_list(mappings))


def _currency_list(mappings: Iterable[RecordMapping]) -> tuple[str, ...] | None:
    sources = [
        s.over for m in mappings for one in m.each if one.path[0] == "currencyList" for s in one.sources
    ]  # fmt: skip
    codes = [known(over, {}) for over in sources]
    if not codes or not all(isinstance(c, list) for c in codes):
        return None
    return tuple(str(code) for found in codes for code in found)


def _points(target: Target) -> bool:
    return target.path[-1] in KEYS and target.path[-2] in KINDS


def _leads(one: _Lookup, entry: str) -> bool:
    """Whether a lookup of these words can end at the entry: it names one of them, or no key at all."""
    if not one.by:
        return entry in one.keys or entry == "*"
    return Entry.of(entry).key in (*one.keys, "", "*")


def _entries(one: _Lookup, table: Mapping[str, Any], fixed: set[tuple[str, str]]) -> list[str]:
    """The entries this lookup can end at. A key of a document may be any but those that only fixed words lead to."""
    if not one.only:
        return [k for k in table if _leads(one, k) or (one.table, Entry.of(k).key if one.by else k) not in fixed]
    named = [k for k in table if _leads(one, k)]
    return [k for k in named if (Entry.of(k).key if one.by else k) in one.keys] or named


def _targets(mapping: RecordMapping, settings: Mapping[str, Any] | None) -> Iterator[Target]:
    """Those that can be sent: not what a setting switches off. Without settings: all."""
    if not _off(mapping.when, settings):
        for target in _level(mapping, (), mapping.fields, mapping.each, settings):
            if target.path[0] != OURS:  # what is below it is for the connector
                yield target


def _level(
    mapping: RecordMapping,
    before: tuple[str, ...],
    fields: tuple[Field, ...],
    each: tuple[Sublist, ...],
    settings: Mapping[str, Any] | None,
) -> Iterator[Target]:
    record = mapping.record.partition(":")[0]  # `creditMemo:dispute` is a creditMemo
    for one in fields:
        if one.null or settings is None or known(one.value, settings) is not None:
            yield Target(record, before + one.path, mapping.file, one.value)
    for sublist in each:
        path = before + sublist.path
        sources = [s for s in sublist.sources if not _off(s.over, settings) and not _off(s.when, settings)]
        if sources:
            yield Target(record, path, mapping.file)
        for source in sources:
            yield from _level(mapping, path, source.fields, source.each, settings)


def _off(condition: Evaluate | None, settings: Mapping[str, Any] | None) -> bool:
    found = UNKNOWN if settings is None else known(condition, settings)
    return found is not UNKNOWN and false(found)


def _lookups(text: str) -> list[_Lookup]:
    return list(_found(tree(text), None)) if "lookup" in text else []


def _found(node: Node, part: str | None) -> Iterator[_Lookup]:
    below = children(node)
    called = node["value"] if node["type"] == "function_expression" else ""
    if called in ("lookup", "lookup_by") and below[0]["type"] == "literal":
        words, only = _words(below[1 if called == "lookup" else 2])
        yield _Lookup(str(below[0]["value"]), tuple(words), only, part, called == "lookup_by")
        return
    for child in below:
        after = below[1:] if node["type"] == "subexpression" and child is below[0] else []
        yield from _found(child, after[0]["value"] if after and after[0]["type"] == "field" else None)


def _words(node: Node) -> tuple[list[str], bool]:
    """The fixed keys an expression can give, and whether it can give no others. A condition gives none."""
    kind, below = node["type"], children(node)
    if kind == "literal":
        values = node["value"] if isinstance(node["value"], list) else [node["value"]]
        return [str(v) for v in values if v is not None], True
    if kind == "and_expression":
        return _words(below[-1])
    if kind in ("or_expression", "multi_select_list") or (
        kind == "function_expression" and node["value"] == "first_of"
    ):
        parts = [_words(c) for c in below]
        return [w for words, _ in parts for w in words], all(only for _, only in parts)
    return [], False
