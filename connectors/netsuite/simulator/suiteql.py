"""`POST /query/v1/suiteql`: SELECT statements over the tables of `views`, run by SQLite on a copy of the books.

What real SuiteQL lacks is refused before SQLite sees it: words, functions and signs outside the lists below (LIMIT,
for one; pages are the request's `limit` and `offset`). As the real service answers, every value is text, columns are in
lower case, empty ones are left out, dates come in the account's format (`M/D/YYYY` here) unless TO_CHAR is asked, and a
query has at most 100,000 rows (NetSuite help, "Executing SuiteQL Queries Through REST Web Services"). A date column
compared with anything but a date column or TO_DATE depends on the user's date format in NetSuite, and is refused here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from connectors.netsuite.simulator.books import Books
from connectors.netsuite.simulator.faults import NsError, user_error
from connectors.netsuite.simulator.views import DATES, TABLES, Table

ROWS = 100_000
WORDS = frozenset(
    ("select", "distinct", "from", "where", "and", "or", "not", "in", "like", "is", "null", "between", "order", "by",
     "asc", "desc", "group", "having", "join", "inner", "left", "outer", "on", "as", "case", "when", "then", "else",
     "end", "escape")
)  # fmt: skip
FUNCTIONS = frozenset(
    ("count", "sum", "min", "max", "avg", "abs", "round", "coalesce", "nvl", "upper", "lower", "to_date", "to_char",
     "builtin.df")
)  # fmt: skip
_TOKEN = re.compile(
    r"\s+|(?P<text>'(?:[^']|'')*')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)"
    r"|(?P<sign><=|>=|<>|!=|\|\||[=<>(),?+*/-])"
)
_DAY = "\x01"
"""Before a stored date, so that it is told from text."""
_COMPARE = frozenset(("=", "!=", "<>", "<", ">", "<=", ">=", "in", "between", "like"))
Token = tuple[str, str]


class SuiteQL:
    """Keeps the copy until the books change, table by table."""

    def __init__(self) -> None:
        self._copied: dict[str, int] = {}
        self._tables: dict[str, int] = {}
        self._database = _database()

    def run(self, books: Books, query: str, params: Sequence[Any]) -> list[dict[str, Any]]:
        """The rows, as text. Raises the `NsError` for a query outside the subset."""
        tokens = _tokens(query)
        named = _tables(tokens)
        _guard(tokens, named)
        for table in dict.fromkeys(named.values()):
            self._copy(books, table)
        try:
            cursor = self._database.execute(_translated(tokens), [_bind(p) for p in params])
            columns = [_unquoted(column[0]) for column in cursor.description]
            rows = cursor.fetchmany(ROWS)
        except sqlite3.Error as error:
            raise _refused(error) from None
        shown = (zip(columns, row, strict=True) for row in rows)
        return [{"links": [], **{c: _text(v) for c, v in row if v is not None}} for row in shown]

    def _copy(self, books: Books, table: str) -> None:
        if self._copied.get(table) == books.version:
            return
        rows = TABLES[table].rows(books)
        names = TABLES[table].columns
        self._database.execute(f'DROP TABLE IF EXISTS "{table}"')
        # Both the value and what BUILTIN.DF shows for it.
        columns = ", ".join(f'"{n}" {_affinity(TABLES[table], n)}, "{n}__df" TEXT' for n in names)
        self._database.execute(f'CREATE TABLE "{table}" ({columns})')
        holes = ", ".join("?" * (2 * len(names)))
        self._database.executemany(
            f'INSERT INTO "{table}" VALUES ({holes})',  # noqa: S608 - names of our own tables
            ([cell for n in names for cell in _cells(n, row)] for row in rows),
        )
        self._copied[table] = books.version


def _database() -> sqlite3.Connection:
    found = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    found.execute("PRAGMA case_sensitive_like = ON")
    found.create_function("to_date", 2, _to_date, deterministic=True)
    found.create_function("to_char", 2, _to_char, deterministic=True)
    found.create_function("nvl", 2, lambda a, b: b if a is None else a, deterministic=True)
    return found


def _tokens(query: str) -> list[Token]:
    found, at = [], 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None:
            raise _unsupported()
        at = match.end()
        if match.lastgroup is not None:
            found.append((match.lastgroup, match[0] if match.lastgroup == "text" else match[0].lower()))
    if not found or found[0] != ("name", "select"):
        raise _unsupported()
    return found


def _tables(tokens: Sequence[Token]) -> dict[str, str]:
    """Alias -> table, from every FROM and JOIN."""
    named: dict[str, str] = {}
    place = 0
    while place < len(tokens):
        kind, word = tokens[place]
        place += 1
        if kind != "name" or word not in ("from", "join"):
            continue
        table = tokens[place][1] if place < len(tokens) else ""
        if table not in TABLES:
            raise user_error(f"Search error occurred: Record '{table}' was not found.")
        place += 1
        if place < len(tokens) and tokens[place] == ("name", "as"):
            place += 1
        alias = table
        if place < len(tokens) and tokens[place][0] == "name" and tokens[place][1] not in WORDS:
            alias = tokens[place][1]
        named[alias] = table
    if not named:
        raise _unsupported()
    return named


def _guard(tokens: Sequence[Token], named: Mapping[str, str]) -> None:
    """Raises the `NsError` for a word, function or comparison that real SuiteQL does not have."""
    renamed = {tokens[n + 1][1] for n, token in enumerate(tokens[:-1]) if token == ("name", "as")}
    known = WORDS | renamed | set(named) | set(named.values())
    columns = {c for table in named.values() for c in TABLES[table].columns}
    for place, (kind, word) in enumerate(tokens):
        after = tokens[place + 1] if place + 1 < len(tokens) else ("", "")
        if kind == "name" and after == ("sign", "(") and word not in WORDS:
            if word not in FUNCTIONS:
                raise _unsupported()
        elif kind == "name" and word not in known:
            owner, _, column = word.rpartition(".")
            if (owner and owner not in named) or column not in (TABLES[named[owner]].columns if owner else columns):
                raise _no_field(word)
        elif (kind, word) == ("sign", "*") and tokens[place - 1] != ("sign", "("):
            raise _unsupported()  # `SELECT *` and products; COUNT(*) is meant otherwise
        if kind == "name" and word.rpartition(".")[2] in DATES and after[1] in _COMPARE:
            value = tokens[place + 2] if place + 2 < len(tokens) else ("", "")
            if value[0] != "name" or (value[1] != "to_date" and value[1].rpartition(".")[2] not in DATES):
                raise user_error("Invalid or unsupported search: compare a date with TO_DATE.")


def _translated(tokens: Sequence[Token]) -> str:
    words: list[str] = []
    place = 0
    while place < len(tokens):
        kind, word = tokens[place]
        if word == "builtin.df":
            inner = [token[1] for token in tokens[place + 1 : place + 4]]
            if len(inner) != 3 or inner[0] != "(" or inner[2] != ")":
                raise _unsupported()
            words.append(_quoted(f"{inner[1]}__df"))
            place += 4
            continue
        words.append(_quoted(word) if kind == "name" and word not in WORDS | FUNCTIONS else word)
        place += 1
    return " ".join(words)


def _quoted(name: str) -> str:
    return ".".join(f'"{part}"' for part in name.split("."))


def _unquoted(name: str) -> str:
    """What a column is called in the answer: without its table, in lower case."""
    return name.replace('"', "").rpartition(".")[2].removesuffix("__df").lower()


def _affinity(table: Table, column: str) -> str:
    return "NUMERIC" if column in table.numbers else "TEXT"


def _cells(name: str, row: Mapping[str, Any]) -> tuple[Any, Any]:
    value = row.get(name)
    value, shown = value if isinstance(value, tuple) else (value, value)
    if isinstance(value, Decimal):
        value = float(value) if value % 1 else int(value)
    if name in DATES and value:
        value = _DAY + str(value)
    return value, None if shown is None else str(shown)


def _bind(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if value is not None and not isinstance(value, (str, int, float)):
        raise NsError(400, "INVALID_CONTENT", "Invalid content in the request body.", path="params")
    return value


def _to_date(text: str, form: str) -> str:
    if form.upper() != "YYYY-MM-DD" or re.fullmatch(r"\d{4}-\d\d-\d\d", text) is None:
        raise ValueError(form)
    return _DAY + text


def _to_char(value: Any, form: str) -> str | None:
    if value is None:
        return None
    if form.upper() != "YYYY-MM-DD" or not str(value).startswith(_DAY):
        raise ValueError(form)
    return str(value)[1:]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return format(round(Decimal(str(value)), 8).normalize(), "f")
    text = str(value)
    if text.startswith(_DAY):
        year, month, day = text[1:].split("-")
        return f"{int(month)}/{int(day)}/{year}"
    return text


def _refused(error: sqlite3.Error) -> NsError:
    missing = re.search(r"no such column: (\S+)", str(error))
    return _no_field(missing[1].replace("__df", "").replace('"', "")) if missing else _unsupported()


def _no_field(name: str) -> NsError:
    return user_error(f"Search error occurred: Field '{name}' was not found.")


def _unsupported() -> NsError:
    return user_error("Search error occurred: Invalid or unsupported search")
