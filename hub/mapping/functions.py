"""The functions of the mapping language beside JMESPath's own; mappings/README.md explains each with an example.

One rule for null: a function of one value hands null on; arithmetic on two values refuses it, because leaving an amount
out without a word is worse than stopping.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from jmespath import functions as library

from hub.mapping.parts import parts, taxes
from hub.mapping.receivable import receivable, spread, written_off
from hub.mapping.returned import returned
from hub.mapping.settlement import rate, settled
from hub.money import CurrencyError, to_major


class RefusalError(Exception):
    """What a function or expression has to say; the record mapping adds file and field and raises `MappingError`."""

    def __init__(self, code: str, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.code, self.cause, self.fix = code, cause, fix


_ANY: Final[Any] = {"types": []}
_ANY_MORE: Final[Any] = {"types": [], "variadic": True}
signature = library.signature


class Functions(library.Functions):
    """JMESPath's functions, exact about numbers, and ours. `tables`: the lookup tables by name."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self.tables = tables

    def problems(self, name: str, arguments: list[Any]) -> list[str]:
        """What is wrong with a call before it is made: unknown function, number of arguments, unknown table."""
        spec = self.FUNCTION_TABLE.get(name)
        if spec is None:
            return [f"unknown function {name}(); known: {', '.join(sorted(self.FUNCTION_TABLE))}"]
        wanted, given = spec["signature"], len(arguments)
        variadic = bool(wanted) and wanted[-1].get("variadic", False)
        if given < len(wanted) or (given > len(wanted) and not variadic):
            return [f"{name}() takes {'at least ' if variadic else ''}{len(wanted)} argument(s), not {given}"]
        if (
            name in ("lookup", "lookup_by")
            and arguments[0]["type"] == "literal"
            and arguments[0]["value"] not in list(self.tables)
        ):
            return [f"unknown lookup table {arguments[0]['value']!r}: there is no such file in mappings/lookups"]
        return []

    def unchecked(self, name: str) -> Any:
        """The function itself where it checks its own arguments (all of ours do), else None."""
        spec = self.FUNCTION_TABLE[name]
        return None if any(argument["types"] for argument in spec["signature"]) else spec["function"]

    def _get_allowed_pytypes(self, types: Any) -> Any:
        """The library's numbers are int and float; ours are int and Decimal."""
        allowed, subtypes = super()._get_allowed_pytypes(types)  # type: ignore[misc]
        decimal = "Decimal"
        return (
            [*allowed, decimal] if "int" in allowed else allowed,
            [(*s, decimal) if "int" in s else s for s in subtypes],
        )

    def _convert_to_jmespath_type(self, name: Any) -> str:
        """The library's word for a Python type, by name (`sort_by` and its kin ask)."""
        return "number" if name == "Decimal" else str(super()._convert_to_jmespath_type(name))  # type: ignore[misc]

    @signature(_ANY)
    def _func_to_number(self, value: Any) -> int | Decimal | None:
        if _plain(value):
            return value  # type: ignore[no-any-return]
        try:
            number = decimal_of(value)
        except RefusalError:
            return None
        return int(number) if re.fullmatch(r"[-+]?[0-9]+", value) else number

    @signature(_ANY)
    def _func_to_string(self, value: Any) -> str:
        return text_of(value) if not isinstance(value, list | dict) else json.dumps(value, default=text_of)

    @signature(_ANY)
    def _func_type(self, value: Any) -> str:
        names = ((bool, "boolean"), (int | Decimal, "number"), (str, "string"), (list, "array"), (dict, "object"))
        return next((name for kind, name in names if isinstance(value, kind)), "null")

    @signature(_ANY, _ANY)
    def _func_money(self, minor: Any, currency: Any) -> Decimal | None:
        if minor is None:
            return None
        if not _plain(minor):
            raise RefusalError(
                "expression_failed",
                f"money() wants a whole number of minor units, not {type(minor).__name__}",
                "Pass the integer Stripe sends; for unit_amount_decimal write money(decimal(...), currency).",
            )
        if not isinstance(currency, str):
            raise RefusalError(
                "bad_currency", "money() got no currency", "Pass the currency of the document, e.g. invoice.currency."
            )
        try:
            return to_major(minor, currency)
        except CurrencyError as e:
            raise RefusalError(
                "bad_currency", str(e), "Add the currency to hub/money.py with its number of places."
            ) from None

    @signature(_ANY, _ANY)
    def _func_date(self, unix: Any, timezone: Any) -> str | None:
        if unix is None:
            return None
        return _moment(unix, "date").astimezone(_zone(timezone)).date().isoformat()

    @signature(_ANY)
    def _func_datetime(self, unix: Any) -> str | None:
        if unix is None:
            return None
        return _moment(unix, "datetime").strftime("%Y-%m-%dT%H:%M:%SZ")

    @signature(_ANY, _ANY)
    def _func_truncate(self, text: Any, length: Any) -> str | None:
        if text is None:
            return None
        if type(length) is not int or length < 0:
            raise RefusalError(
                "expression_failed", "truncate() wants a length of 0 or more", "Write truncate(text, `40`)."
            )
        return text_of(text)[:length]

    @signature(_ANY, _ANY)
    def _func_lookup(self, table: Any, keys: Any) -> Any:
        tried = [text_of(k) for k in (keys if isinstance(keys, list) else [keys]) if k is not None]
        return self._first(table, tried, "lookup", ", ".join(tried))

    @signature(_ANY, _ANY, _ANY, _ANY, _ANY)
    def _func_lookup_by(self, table: Any, account: Any, keys: Any, currency: Any, country: Any) -> Any:
        named = [text_of(k) for k in (keys if isinstance(keys, list) else [keys]) if k is not None]
        around = [[], *([text_of(part)] for part in (account,) if part is not None)]
        tried = []
        for key in (*named, None):
            for before in reversed(around):
                for after in _places(currency, country):
                    tried.append("/".join([*before, *([key] if key is not None else []), *after]))
        shown = "/".join(
            "?" if p is None else text_of(p) for p in (account, " or ".join(named) or None, currency, country)
        )
        return self._first(table, tried, "lookup_by", shown)

    def _first(self, table: Any, tried: list[str], function: str, shown: str) -> Any:
        if not isinstance(table, str) or table not in self.tables:
            raise RefusalError(
                "lookup_missing", f"{function}() names a table that does not exist", "Add it to mappings/lookups."
            )
        rows = self.tables[table]
        for key in (*tried, "*"):
            if key and key in rows:
                return rows[key]
        raise RefusalError(
            "lookup_missing",
            f"lookup table {table} has no entry for {shown[:200] or '(no key: all are null)'}",
            f"Add it (or a '*' entry for everything else) to mappings/lookups/{table}.yaml, then retry.",
        )

    @signature(_ANY, _ANY)
    def _func_pick(self, objects: Any, key: Any) -> Any:
        if objects is None or key is None:
            return None
        if not isinstance(objects, dict):
            raise RefusalError(
                "expression_failed", "pick() wants an object to pick from", "Pass the root of a need with `ids`."
            )
        return objects.get(text_of(key))

    @signature(_ANY, _ANY)
    def _func_holding(self, elements: Any, value: Any) -> list[Any] | None:
        if elements is None or value is None:
            return None
        if not isinstance(elements, list) or not isinstance(value, str):
            raise RefusalError(
                "expression_failed", "holding() wants a list and a text", "Pass a need with `list` and an id."
            )
        return [element for element in elements if _holds(element, value)]

    @signature(_ANY, _ANY, _ANY)
    def _func_until(self, elements: Any, path: Any, value: Any) -> list[Any] | None:
        if elements is None or value is None:
            return None
        if not isinstance(elements, list) or not isinstance(path, str) or not _plain(value):
            raise RefusalError(
                "expression_failed",
                "until() wants a list, the name of a field and a number",
                "Write until(payments, 'status_transitions.paid_at', `1767225600`).",
            )
        return [e for e in elements if _plain(found := _at(e, path.split("."))) and found <= value]

    @signature(_ANY)
    def _func_parts(self, document: Any) -> Any:
        return _stripe(parts, document)

    @signature(_ANY)
    def _func_taxes(self, document: Any) -> Any:
        return _stripe(taxes, document)

    @signature(_ANY)
    def _func_receivable(self, invoice: Any) -> Any:
        return _stripe(receivable, invoice)

    @signature(_ANY, _ANY)
    def _func_written_off(self, invoice: Any, payments: Any) -> Any:
        return _stripe(written_off, invoice, payments)

    @signature(_ANY, _ANY, _ANY)
    def _func_spread(self, payment: Any, invoice: Any, payments: Any) -> Any:
        return _stripe(spread, payment, invoice, payments)

    @signature(_ANY, _ANY)
    def _func_returned(self, invoice: Any, amount: Any) -> Any:
        if amount is None:
            return None
        if type(amount) is not int:
            raise RefusalError("expression_failed", "returned() wants whole minor units", "Pass Stripe's integer.")
        return _stripe(returned, invoice, amount)

    @signature(_ANY, _ANY, _ANY)
    def _func_settled(self, transactions: Any, total: Any, what: Any) -> Any:
        rows = _stripe(settled, transactions) or []
        found = sum(row["amount"] for row in rows)
        if found != total:
            shown = " ".join(f"{row['kind']} {row['amount']}" for row in rows) or "nothing"
            raise RefusalError(
                "does_not_add_up",
                f"{what}: its balance transactions are {shown}, together {found}, but it is {total} (minor units)",
                "Nothing was sent. Stripe may not have finished the list yet: retry later, and compare in Stripe.",
            )
        return rows

    @signature(_ANY, _ANY, _ANY, _ANY)
    def _func_rate(self, amount: Any, currency: Any, transaction: Any, base: Any) -> Decimal | None:
        if currency == base:
            return None
        if transaction is None:
            raise RefusalError(
                "not_there_yet",
                f"Stripe does not say yet what it made of the {text_of(currency).upper()}: no balance transaction",
                "Nothing was sent, and it is tried again by itself: Stripe may take an hour. If it stays, look for the "
                "payment in Stripe.",
            )
        into = _at(transaction, ["currency"])
        if into != base:
            return None
        given, made = self._func_money(amount, currency), self._func_money(_at(transaction, ["amount"]), into)
        return rate(_operand(given, "rate"), _operand(made, "rate"))

    @signature(_ANY, _ANY, _ANY)
    def _func_within(self, part: Any, whole: Any, what: Any) -> Any:
        if _operand(part, "within") > _operand(whole, "within"):
            raise RefusalError(
                "does_not_add_up",
                f"{what}: {part} is more than {whole} (minor units)",
                "Nothing was sent. Compare the documents in Stripe; retry once they are right there.",
            )
        return part

    @signature(_ANY)
    def _func_words(self, text: Any) -> list[str]:
        return [] if text is None else text_of(text).split()

    @signature(_ANY_MORE)
    def _func_concat(self, *parts: Any) -> str:
        return "".join("" if p is None else text_of(p) for p in parts)

    @signature(_ANY_MORE)
    def _func_first_of(self, *values: Any) -> Any:
        return next((v for v in values if v is not None and v != ""), None)

    @signature(_ANY, _ANY)
    def _func_add(self, a: Any, b: Any) -> Any:
        return _operand(a, "add") + _operand(b, "add")

    @signature(_ANY, _ANY)
    def _func_subtract(self, a: Any, b: Any) -> Any:
        return _operand(a, "subtract") - _operand(b, "subtract")

    @signature(_ANY)
    def _func_negate(self, a: Any) -> Any:
        return None if a is None else 0 - _operand(a, "negate")

    @signature(_ANY)
    def _func_decimal(self, value: Any) -> Decimal | None:
        return None if value is None else decimal_of(value)

    @signature(_ANY)
    def _func_upper(self, text: Any) -> str | None:
        return None if text is None else text_of(text).upper()


def _places(currency: Any, country: Any) -> list[list[str]]:
    """What may follow the key, most particular first."""
    both = [text_of(part) for part in (currency, country) if part is not None]
    return [both, *([part] for part in both if len(both) > 1), *([[]] if both else [])]


def _stripe(made: Callable[..., Any], *objects: Any) -> Any:
    """`made` of Stripe's objects; null if the first is. A shape it does not know is refused."""
    if objects[0] is None:
        return None
    try:
        return made(*objects)
    except (KeyError, TypeError, AttributeError) as e:
        raise RefusalError(
            "expression_failed",
            f"{made.__name__}() does not know these objects ({type(e).__name__}: {e})",
            "Pass whole objects, and let `conserve` check documents first.",
        ) from None


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _plain(value: Any) -> bool:
    return type(value) is int or isinstance(value, Decimal)


def _operand(value: Any, function: str) -> Any:
    if not _plain(value):
        raise RefusalError(
            "expression_failed",
            f"{function}() wants numbers, not {'null' if value is None else type(value).__name__}",
            "Give a value that may be null a default: (a || `0`).",
        )
    return value


def text_of(value: Any) -> str:
    """A scalar as text: numbers without exponent, booleans as `true` / `false`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if value is None:
        return "null"
    raise RefusalError(
        "expression_failed", f"wants text or a number, not {type(value).__name__}", "Pick one value out of it."
    )


def _holds(element: Any, text: str) -> bool:
    """Whether a text stands anywhere in a JSON value as a value of its own. Ids are unique: where does not matter."""
    if isinstance(element, dict):
        return any(_holds(inner, text) for inner in element.values())
    if isinstance(element, list):
        return any(_holds(inner, text) for inner in element)
    return bool(element == text)


def decimal_of(value: Any) -> Decimal:
    """A string or number as `Decimal`, exactly. Refuses everything else."""
    try:
        if isinstance(value, str) or _plain(value):
            number = Decimal(value)
            if number.is_finite():
                return number
    except InvalidOperation:
        pass
    raise RefusalError(
        "expression_failed", "decimal() wants a number or a string that is one", "Check the value in the event."
    )


def _moment(unix: Any, function: str) -> datetime:
    if _plain(unix):
        try:
            return datetime.fromtimestamp(int(unix), UTC)
        except (OverflowError, ValueError, OSError):
            pass
    raise RefusalError(
        "expression_failed", f"{function}() wants seconds since 1970", "Pass a Stripe timestamp such as created."
    )


@lru_cache(maxsize=64)
def _known_zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _zone(name: Any) -> ZoneInfo:
    if isinstance(name, str) and name:
        try:
            return _known_zone(name)
        except (LookupError, ValueError, OSError):
            pass
    shown = repr(name) if isinstance(name, str) else "nothing"
    raise RefusalError(
        "bad_timezone",
        f"date() got {shown} as time zone",
        "Use an IANA name such as Europe/Berlin, usually settings.timezone.",
    )
