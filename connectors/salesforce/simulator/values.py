"""What Salesforce does to a JSON value on its way into a field: refuse, trim, round.

Types that cannot be read refuse the whole call (`JSON_PARSER_ERROR`), as the parser does; what is readable but not
allowed refuses the row. Message texts follow those seen in public reports; where none was found they are plain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from connectors.salesforce.simulator.schema import FieldDef


class RefusedError(Exception):
    """An error of Salesforce's. With `status` the whole call is refused, without it one row."""

    def __init__(self, code: str, message: str, fields: tuple[str, ...] = (), status: int | None = None) -> None:
        super().__init__(code)
        self.code, self.message, self.fields, self.status = code, message, list(fields), status

    def row(self) -> dict[str, Any]:
        """As one of a row's `errors`."""
        return {"statusCode": self.code, "message": self.message, "fields": self.fields}

    def body(self) -> list[dict[str, Any]]:
        """As the body of a refused call."""
        error: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        return [{**error, "fields": self.fields} if self.fields else error]


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)")


def readable(field: FieldDef, value: Any) -> Any:
    """The value as the parser understands it. Raises `RefusedError` (400) for one of another type."""
    return value if value is None else _READ[field.type](field, value)


def allowed(field: FieldDef, value: Any) -> Any:
    """A readable value as it is stored. Raises `RefusedError` (row) for one the field may not hold."""
    if value is None:
        if field.type == "boolean":
            raise RefusedError(
                "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{field.name}: value not of required type", (field.name,)
            )
        return None
    if isinstance(value, str) and field.length and len(value) > field.length and field.type != "picklist":
        text = f"{field.name}: data value too large: {value} (max length={field.length})"
        raise RefusedError("STRING_TOO_LONG", text, (field.name,))
    if field.values and value not in field.values:
        text = f"{field.name}: bad value for restricted picklist field: {value}"
        raise RefusedError("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", text, (field.name,))
    if isinstance(value, Decimal):
        rounded = value.quantize(Decimal(1).scaleb(-field.scale), ROUND_HALF_UP)
        if abs(rounded) >= Decimal(10) ** (field.precision - field.scale):
            text = f"{field.name}: value outside of valid range on numeric field: {value}"
            raise RefusedError("NUMBER_OUTSIDE_VALID_RANGE", text, (field.name,))
        return rounded
    return value


def shown(value: Any) -> Any:
    """A stored value as `state()` shows it: numbers as text, with one place at least, as in Salesforce's JSON."""
    return number(value) if isinstance(value, Decimal) else value


def number(value: Decimal) -> str:
    """`12` as `12.0`, `12.50` as `12.5`: how a double is written in Salesforce's JSON."""
    text = format(value, "f")
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0') or '0'}"


def moment(seconds: float) -> str:
    """Unix seconds as Salesforce writes a time."""
    return _time(datetime.fromtimestamp(seconds, UTC))


def _time(value: datetime) -> str:
    value = value.astimezone(UTC)
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}+0000"


def _unreadable(kind: str, value: Any) -> RefusedError:
    token = {str: "VALUE_STRING", bool: "VALUE_TRUE", dict: "START_OBJECT", list: "START_ARRAY"}.get(
        type(value), "VALUE_NUMBER"
    )
    text = (
        f"Cannot deserialize instance of {kind} from {token} value {value} or request may be missing a required field"
    )
    return RefusedError("JSON_PARSER_ERROR", text, status=400)


def _string(_: FieldDef, value: Any) -> str | None:
    if not isinstance(value, str):
        raise _unreadable("string", value)
    return value.strip() or None  # blanks are trimmed, and an empty text is null


def _number(_: FieldDef, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _unreadable("double", value)
    return Decimal(value)


def _boolean(_: FieldDef, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unreadable("boolean", value)
    return value


def _date(_: FieldDef, value: Any) -> str:
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            datetime.strptime(value, "%Y-%m-%d")  # noqa: DTZ007 - a calendar day has no zone
            return value
    except ValueError:
        pass
    raise _unreadable("date", value)


def _datetime(_: FieldDef, value: Any) -> str:
    try:
        if isinstance(value, str) and _TIME.fullmatch(value):
            return _time(datetime.fromisoformat(value))
    except ValueError:
        pass
    raise _unreadable("datetime", value)


def _reference(field: FieldDef, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9]{15}([A-Z0-5]{3})?", value):
        raise RefusedError(
            "MALFORMED_ID", f"{field.name}: id value of incorrect type: {value}", (field.name,), status=400
        )
    return value


_READ: Mapping[str, Callable[[FieldDef, Any], Any]] = {
    **dict.fromkeys(("string", "textarea", "phone", "picklist"), _string),
    "double": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "reference": _reference,
    "id": _reference,
}
