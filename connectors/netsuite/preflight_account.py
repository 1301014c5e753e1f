"""What a NetSuite account is like, as far as the mappings care: read by GET and SuiteQL, nothing is written.

Sources, all of the NetSuite help: "Getting Metadata" and "Working with JSON Schema Metadata" (the catalogue is made for
the role that asks: fields of features that are off are not in it, custom fields are); "GovernanceLimits Operation"
(answers administrators only); "Executing SuiteQL Queries Through REST Web Services" (every value is text). Which
subsidiaries may use an account stands in its column `subsidiary`, several in one text, and in `AccountSubsidiaryMap`
(Tim Dietrich, "General Ledger Accounts by Subsidiary"); of items the column is not in every account, the map is. What
stands for "all subsidiaries" is not known: none named counts as that. A GET of one record loads it in edit mode, so it
is refused to a role that may not edit; whether the role may also create is not told apart.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.errors import Reply, judge, mask
from connectors.netsuite.preflight_uses import KEYS, Target, Uses
from connectors.netsuite.wire import loads
from hub.errors import Defer, OutcomeError

Row = Mapping[str, str]
"""A row of SuiteQL: every value is text, a column without one is left out."""
Query: TypeAlias = tuple[str, list[Any]]
"""A statement of SuiteQL and what its `?` stand for."""
Sleep: TypeAlias = Callable[[float], Awaitable[Any]]

CATALOGUE = "/record/v1/metadata-catalog"
NOBODY = "hub_preflight"
"""An external id that no record bears: asking for it tells whether the role may."""
PAGE = 1000
CHUNK = 200
"""Values in one IN (...)."""
TRIES = 5
"""How often a request is sent that the account's limit of requests at once turned away."""

TABLES: Mapping[str, str] = {
    "subsidiary": "SELECT id, externalid, name, currency, isinactive FROM subsidiary",
    "currency": "SELECT id, externalid, name, symbol, currencyprecision, isinactive FROM currency",
    "item": "SELECT id, externalid, itemid, itemtype, isinactive FROM item",
    "account": "SELECT id, externalid, accountsearchdisplayname, accttype, currency, isinactive FROM account",
    "department": "SELECT id, externalid, name, isinactive FROM department",
    "classification": "SELECT id, externalid, name, isinactive FROM classification",
    "location": "SELECT id, externalid, name, isinactive FROM location",
    "term": "SELECT id, externalid, name FROM term",
}
WHOLE = ("subsidiary", "currency")
"""Short lists, read to the end: checks of other things need them."""
EXTRAS: Mapping[str, str] = {
    "subsidiary": "SELECT id, parent, iselimination FROM subsidiary",
    "item": "SELECT id, includechildren FROM item",
    "account": "SELECT id, includechildren, issummary FROM account",
}
"""Columns that not every account has; without them nothing is concluded from them."""
ALLOWED: Mapping[str, tuple[str, str]] = {
    "item": ("SELECT id, subsidiary FROM item", "SELECT item AS id, subsidiary FROM itemsubsidiarymap"),
    "account": ("SELECT id, subsidiary FROM account", "SELECT account AS id, subsidiary FROM accountsubsidiarymap"),
}
"""Which subsidiaries may use it: the column, and where there is none, the map."""
PERIODS = (
    "SELECT id, periodname, TO_CHAR(startdate, 'YYYY-MM-DD') AS startdate, TO_CHAR(enddate, 'YYYY-MM-DD') AS enddate, "
    "closed, arlocked, alllocked FROM accountingperiod WHERE isyear = 'F' AND isquarter = 'F' AND isadjust = 'F'"
)
"""Dates by TO_CHAR: as they are, they come in the format the user prefers."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the catalogue says of one target. `state`: `known` (then `schema`), `missing` (then what of the path), or
    `unclear`: its schema could not be followed."""

    state: Literal["known", "missing", "unclear"]
    schema: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    read_only: bool = False
    near: tuple[str, ...] = ()
    """Names that there are instead."""


@dataclass(slots=True)
class Account:
    """Everything read. What could not be read stands in `unread`, with the reason for people."""

    places: dict[tuple[str, tuple[str, ...]], Place] = field(default_factory=dict)
    schemas: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Kind of record -> its JSON schema, for those that are written."""
    access: dict[str, bool] = field(default_factory=dict)
    """Kind of record -> whether the role may edit it."""
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """Table -> rows."""
    unread: dict[str, str] = field(default_factory=dict)
    """`catalogue invoice`, `role invoice`, `item`, `limits`, ... -> why it could not be read."""
    limits: Mapping[str, Any] | None = None

    def allowed(self, kind: str, row: Row) -> frozenset[str] | None:
        """Internal ids of the subsidiaries that may use an item or account; empty: all. None: it could not be read."""
        if f"{kind} subsidiaries" not in self.rows:
            return None
        texts = [r.get("subsidiary", "") for r in self.rows[f"{kind} subsidiaries"] if r["id"] == row["id"]]
        named = {one.strip() for text in texts for one in text.split(",") if one.strip()}
        if row.get("includechildren") == "T":
            parents = {r["id"]: r.get("parent") for r in self.rows.get("subsidiary", ())}
            while more := {i for i, parent in parents.items() if parent in named} - named:
                named |= more
        return frozenset(named)


class Reader:
    """Reads one account, one request after the other."""

    def __init__(self, client: NetSuiteClient, rng: random.Random, sleep: Sleep = asyncio.sleep) -> None:
        self._client, self._rng, self._sleep = client, rng, sleep
        self._shared: dict[str, Mapping[str, Any] | None] = {}
        self.account = Account()

    async def read(self, uses: Uses) -> Account:
        """Raises `OutcomeError` if the account cannot be read at all: not reached, or our credentials are refused."""
        for record in uses.records():
            await self._schema(record)
            await self._access(record)
        for target in uses.targets:
            if target.record in self.account.schemas:
                self.account.places[target.record, target.path] = await self._follow(target)
        for kind, select in TABLES.items():
            if kind in WHOLE:
                await self._table(kind, [(select, [])])
            elif references := uses.of(kind):
                ids = {int(r.value) for r in references if r.by == "id" and r.value.isascii() and r.value.isdigit()}
                names = {r.value for r in references if r.by == "externalId"}
                await self._table(kind, [*_among(select, "id", ids), *_among(select, "externalid", names)])
            await self._more(kind)
        await self._table("accountingperiod", [(PERIODS, [])])
        await self._limits()
        return self.account

    async def _schema(self, record: str) -> None:
        reply = await self._get(f"{CATALOGUE}/{record}", record, {"Accept": "application/schema+json"})
        if reply.status == 200 and not reply.is_page and isinstance(said := loads(reply.text), dict):
            self.account.schemas[record] = said
        else:
            self.account.unread[f"catalogue {record}"] = _why(reply)

    async def _access(self, record: str) -> None:
        reply = await self._get(f"/record/v1/{record}/eid:{NOBODY}", record)
        if reply.status in (200, 404) and not reply.is_page:
            self.account.access[record] = True
        elif refused(reply):
            self.account.access[record] = False
        else:
            self.account.unread[f"role {record}"] = _why(reply)

    async def _limits(self) -> None:
        reply = await self._get("/system/v1/governanceLimits", "governanceLimits")
        if reply.status == 200 and not reply.is_page and isinstance(said := loads(reply.text), dict):
            self.account.limits = said
        else:
            self.account.unread["limits"] = _why(reply)

    async def _table(self, table: str, queries: Sequence[Query]) -> None:
        rows = await self._rows(queries)
        if isinstance(rows, str):
            self.account.unread[table] = rows
        else:
            self.account.rows[table] = list({r.get("id", ""): r for r in rows}.values())

    async def _more(self, kind: str) -> None:
        """What stands beside the rows of a table, as far as the account has it."""
        ids = {int(r["id"]) for r in self.account.rows.get(kind, ())}
        if ids and kind in EXTRAS:
            found = await self._rows(_among(EXTRAS[kind], "id", ids))
            extra = {} if isinstance(found, str) else {r["id"]: r for r in found}
            self.account.rows[kind] = [{**r, **extra.get(r["id"], {})} for r in self.account.rows[kind]]
        if ids and kind in ALLOWED:
            column, mapped = ALLOWED[kind]
            found = await self._rows(_among(column, "id", ids))
            if isinstance(found, str):
                found = await self._rows(_among(mapped, kind, ids))
            if not isinstance(found, str):
                self.account.rows[f"{kind} subsidiaries"] = found

    async def _rows(self, queries: Sequence[Query]) -> list[Row] | str:
        """All rows, or why there are none."""
        rows: list[Row] = []
        for query, values in queries:
            more, offset = True, 0
            while more:
                reply = await self._call(
                    "POST",
                    "/query/v1/suiteql",
                    "suiteql",
                    params={"limit": str(PAGE), "offset": str(offset)},
                    body={"q": query, "params": values},
                    headers={"Prefer": "transient"},
                )
                if reply.status != 200 or reply.is_page:
                    return _why(reply)
                page = loads(reply.text)
                rows += [{k: str(v) for k, v in r.items() if k != "links" and v is not None} for r in page["items"]]
                more, offset = bool(page["items"]) and page.get("hasMore") is True, offset + PAGE
        return rows

    async def _get(self, path: str, record: str, headers: Mapping[str, str] | None = None) -> Reply:
        return await self._call("GET", path, record, headers=headers)

    async def _call(self, method: str, path: str, record: str, **more: Any) -> Reply:
        """The reply, whatever it says; but refused credentials end everything, and a limit is waited for."""
        for last in range(TRIES - 1, -1, -1):
            reply = await self._client.call(method, path, record=record, **more)
            if 200 <= reply.status < 300 and not reply.is_page:
                return reply
            outcome = judge(reply, writing=False, rng=self._rng)
            if not isinstance(outcome, Defer) or refused(reply):
                return reply
            if not outcome.limited or last == 0:
                raise OutcomeError(outcome)
            await self._sleep(outcome.delay)
        raise AssertionError("the last try returns or raises")

    async def _follow(self, target: Target) -> Place:
        node: Mapping[str, Any] | None = self.account.schemas[target.record]
        for number, part in enumerate(target.path):
            if number == len(target.path) - 1 and part in KEYS and node is not None and "$ref" in node:
                return Place("known")  # a reference to another record, and each has these two
            node = await self._plain(node)
            if node is not None and node.get("type") == "array":
                node = await self._plain(node.get("items"))
            names = node.get("properties") if node is not None else None
            if not isinstance(names, Mapping):
                return Place("unclear", part=part)
            if part not in names:
                near = tuple(sorted(n for n in names if n.lower() == part.lower()))
                return Place("missing", part=".".join(target.path[: number + 1]), near=near)
            node = names[part]
            if node is not None and node.get("readOnly") is True:
                return Place("known", node, ".".join(target.path[: number + 1]), read_only=True)
        return Place("known", node or {})

    async def _plain(self, node: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The schema itself where the catalogue only points to another of its schemas."""
        if node is None or "$ref" not in node or "properties" in node:
            return node
        name = str(node["$ref"]).rstrip("/").rpartition("/")[2]
        if name not in self._shared:
            reply = await self._get(f"{CATALOGUE}/{name}", name, {"Accept": "application/schema+json"})
            found = loads(reply.text) if reply.status == 200 and not reply.is_page else None
            self._shared[name] = found if isinstance(found, dict) else None
        return self._shared[name]


def refused(reply: Reply) -> bool:
    """Whether it is the role that lacks a permission: 403, or the code by itself."""
    return reply.status == 403 or any(d.get("o:errorCode") == "INSUFFICIENT_PERMISSION" for d in reply.details)


def _among(select: str, column: str, values: Set[Any]) -> list[Query]:
    """Queries for just the rows that are named: an account may have a hundred thousand items."""
    found: list[Query] = []
    for start in range(0, len(values), CHUNK):
        part = sorted(values)[start : start + CHUNK]
        found.append((f"{select} WHERE {column} IN ({', '.join('?' * len(part))})", part))
    return found


def _why(reply: Reply) -> str:
    if refused(reply):
        return "the role may not read it"
    text = next((str(d["detail"]) for d in reply.details if d.get("detail")), "")
    return f"NetSuite answered {reply.status}" + (f': "{mask(text)}"' if text else "")
