"""A subset of SOQL: SELECT fields or COUNT(), FROM, WHERE with AND, OR, NOT and parentheses, ORDER BY, LIMIT, OFFSET.

Comparisons: = != < <= > >= LIKE IN NOT IN. Text compares without regard to case, except in fields that are case
sensitive (SOQL and SOSL Reference). What is beyond the subset is `MALFORMED_QUERY`, never an empty answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from connectors.salesforce.simulator.schema import FieldDef, ObjectDef
from connectors.salesforce.simulator.store import Row, Store
from connectors.salesforce.simulator.values import RefusedError

Test: TypeAlias = Callable[[Row], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<time>\d{4}-\d\d-\d\d(?:T[0-9:.]+(?:Z|[+-]\d\d:\d\d))?)"
    r"|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][\w.]*)|(?P<sign><=|>=|!=|<>|[=<>(),]))"
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


@dataclass(slots=True)
class Query:
    """A parsed query. `columns` empty: COUNT()."""

    obj: ObjectDef
    columns: list[str]
    where: Test
    order: list[tuple[str, bool]]
    limit: int | None
    offset: int


def run(store: Store, text: str, *, deleted: bool = False) -> tuple[Query, list[Row]]:
    """The query and the rows it finds. `deleted`: as queryAll, with the recycle bin."""
    query = _Parser(store, text).query()
    rows = [r for r in store.rows[query.obj.name].values() if (deleted or not r["IsDeleted"]) and query.where(r)]
    for name, descending in reversed(query.order):
        rows.sort(key=lambda r, n=name: _sortable(value_of(store, query.obj, r, n)), reverse=descending)  # type: ignore[misc]
    end = None if query.limit is None else query.offset + query.limit
    return query, rows[query.offset : end]


def value_of(store: Store, obj: ObjectDef, row: Row, name: str) -> Any:
    """A column's value; `Parent__r.Field` looks through one lookup."""
    first, _, rest = name.partition(".")
    if not rest:
        return row.get(first)
    lookup = obj.relationship(first)
    assert lookup is not None
    assert lookup.reference_to is not None
    parent = store.rows[lookup.reference_to].get(row.get(lookup.name) or "")
    return parent.get(rest) if parent else None


class _Parser:
    def __init__(self, store: Store, text: str) -> None:
        self.store, self.text = store, text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.malformed(text[position : position + 20])
            self.tokens.append((str(match.lastgroup), match.group(match.lastgroup or 0)))
            position = match.end()
        self.at = 0
        self.obj: ObjectDef

    def malformed(self, near: str) -> RefusedError:
        return RefusedError("MALFORMED_QUERY", f"unexpected token: '{near}'", status=400)

    def peek(self) -> str:
        return self.tokens[self.at][1].upper() if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token; one of `wanted`, or a name where none is wanted."""
        kind, text = self.tokens[self.at] if self.at < len(self.tokens) else ("end", "<EOF>")
        if (wanted and text.upper() not in wanted) or (not wanted and kind != "name"):
            raise self.malformed(text)
        self.at += 1
        return text

    def maybe(self, *words: str) -> bool:
        if [t.upper() for _, t in self.tokens[self.at : self.at + len(words)]] != list(words):
            return False
        self.at += len(words)
        return True

    def query(self) -> Query:
        self.take("SELECT")
        columns: list[str] = []
        if not self.maybe("COUNT", "(", ")"):
            columns.append(self.take())
            while self.maybe(","):
                columns.append(self.take())
        self.take("FROM")
        name = self.take()
        if name not in self.store.objects:
            text = f"sObject type '{name}' is not supported."
            raise RefusedError("INVALID_TYPE", text, status=400)
        self.obj = self.store.objects[name]
        columns = [self.column(c) for c in columns]
        where = self.any_of() if self.maybe("WHERE") else _all
        order = []
        if self.maybe("ORDER", "BY"):
            order.append(self.ordering())
            while self.maybe(","):
                order.append(self.ordering())
        limit = self.count() if self.maybe("LIMIT") else None
        offset = self.count() if self.maybe("OFFSET") else 0
        if self.at < len(self.tokens):
            raise self.malformed(self.tokens[self.at][1])
        return Query(self.obj, columns, where, order, limit, offset or 0)

    def column(self, name: str) -> str:
        self.field(name)
        return name

    def field(self, name: str) -> FieldDef:
        first, _, rest = name.partition(".")
        obj = self.obj
        if rest:
            lookup = obj.relationship(first)
            if lookup is None or lookup.reference_to is None:
                text = f"Didn't understand relationship '{first}' in field path."
                raise RefusedError("INVALID_FIELD", text, status=400)
            obj, first = self.store.objects[lookup.reference_to], rest
        if first not in obj.fields:
            raise RefusedError("INVALID_FIELD", f"No such column '{first}' on entity '{obj.name}'.", status=400)
        return obj.fields[first]

    def any_of(self) -> Test:
        tests = [self.all_of()]
        while self.maybe("OR"):
            tests.append(self.all_of())
        return tests[0] if len(tests) == 1 else lambda row: any(t(row) for t in tests)

    def all_of(self) -> Test:
        tests = [self.one()]
        while self.maybe("AND"):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda row: all(t(row) for t in tests)

    def one(self) -> Test:
        if self.maybe("NOT"):
            inner = self.one()
            return lambda row: not inner(row)
        if self.maybe("("):
            inner = self.any_of()
            self.take(")")
            return inner
        return self.comparison()

    def comparison(self) -> Test:
        name = self.take()
        field = self.field(name)
        if self.maybe("NOT", "IN") or self.peek() == "IN":
            negative = not self.maybe("IN")
            self.take("(")
            values = [self.literal(field)]
            while self.maybe(","):
                values.append(self.literal(field))
            self.take(")")
            return lambda row: (self.of(row, name, field) in values) is not negative
        operator = self.take("=", "!=", "<>", "<", "<=", ">", ">=", "LIKE")
        value = self.literal(field)
        if operator.upper() == "LIKE":
            pattern = re.compile(re.escape(str(value)).replace("%", ".*").replace("_", "."), re.IGNORECASE | re.DOTALL)
            return lambda row: bool(pattern.fullmatch(str(self.of(row, name, field) or "")))
        compare = _COMPARE[operator]
        return lambda row: compare(self.of(row, name, field), value)

    def of(self, row: Row, name: str, field: FieldDef) -> Any:
        return _comparable(field, value_of(self.store, self.obj, row, name))

    def literal(self, field: FieldDef) -> Any:
        kind, text = self.tokens[self.at] if self.at < len(self.tokens) else ("end", "<EOF>")
        self.at += 1
        fits = {"text": ("string", "textarea", "phone", "picklist", "id", "reference"), "number": ("double",)}
        if kind == "name" and text.lower() in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[text.lower()]
        if kind == "time" and field.type == ("datetime" if "T" in text else "date"):
            return datetime.fromisoformat(text) if "T" in text else text
        if kind not in fits or field.type not in fits[kind]:
            raise RefusedError(
                "INVALID_FIELD",
                f"value of filter criterion for field '{field.name}' must be of type {field.type}",
                status=400,
            )
        if kind == "number":
            return Decimal(text)
        inner = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text[1:-1])
        return _comparable(field, inner)

    def ordering(self) -> tuple[str, bool]:
        name = self.column(self.take())
        descending = self.maybe("DESC")
        if not descending:
            self.maybe("ASC")
        return name, descending

    def count(self) -> int:
        kind, text = self.tokens[self.at] if self.at < len(self.tokens) else ("end", "<EOF>")
        if kind != "number" or not text.isdigit():
            raise self.malformed(text)
        self.at += 1
        return int(text)


def _all(_: Row) -> bool:
    return True


def _comparable(field: FieldDef, value: Any) -> Any:
    if isinstance(value, str):
        if field.type == "datetime":
            return datetime.fromisoformat(value)
        if field.type in ("id", "reference"):
            return value[:15]
        return value if field.case_sensitive or field.type == "date" else value.lower()
    return value


def _sortable(value: Any) -> tuple[bool, Any]:
    """Nulls first, as SOQL orders by default."""
    return (value is not None, value if value is not None else 0)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda a, b: a is not None and b is not None and test(a, b)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": _ordered(lambda a, b: a < b),
    "<=": _ordered(lambda a, b: a <= b),
    ">": _ordered(lambda a, b: a > b),
    ">=": _ordered(lambda a, b: a >= b),
}
