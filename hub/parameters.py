"""What a request asks for, checked: every parameter known, given once, and of its kind. Used by `hub.api`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

import orjson
from starlette.requests import Request

from hub.errors import HubError
from hub.legible import is_text

E = TypeVar("E", bound=StrEnum)

LONGEST = 255
"""Characters of a text parameter: no Stripe id or type is longer."""
MOST_BODY = 16 * 1024
"""Bytes of a request body: a reason and nothing else."""
MOST_ROWS = 500
ROWS = 50
LARGEST_ID = 2**63 - 1


class ParameterError(HubError):
    """A request that cannot be understood. The message names the parameter. `status` is the HTTP status it deserves."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Query:
    """The query string of a request that may carry these parameters and no others."""

    def __init__(self, request: Request, known: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                there_are = ", ".join(sorted(known)) or "none here"
                raise ParameterError(f"there is no parameter {_shown(name)}; there are: {there_are}")
            if name in self._values:
                raise ParameterError(f"{name} is given more than once")
            if not value or len(value) > LONGEST or not is_text(value):
                raise ParameterError(f"{name} must be 1 to {LONGEST} characters of text")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """A text, or None if it was not given."""
        return self._values.get(name)

    def one_of(self, name: str, kind: type[E]) -> E | None:
        """One of the words of an enumeration."""
        value = self._values.get(name)
        return None if value is None else _word(name, value, kind)

    def some_of(self, name: str, kind: type[E]) -> tuple[E, ...]:
        """Comma-separated words of an enumeration."""
        value = self._values.get(name)
        return () if value is None else tuple(dict.fromkeys(_word(name, v.strip(), kind) for v in value.split(",")))

    def moment(self, name: str) -> datetime | None:
        """An ISO 8601 date or time; without an offset it is UTC."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            parsed = datetime.fromisoformat(value)
            return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            raise ParameterError(
                f"{name} is {_shown(value)}, not a time such as 2026-01-31 or 2026-01-31T12:00:00Z"
            ) from error

    def limit(self) -> int:
        """Rows of a page."""
        value = self._values.get("limit", str(ROWS))
        if not (value.isascii() and value.isdigit() and len(value) < 6 and 1 <= int(value) <= MOST_ROWS):
            raise ParameterError(f"limit is {_shown(value)}, not a whole number from 1 to {MOST_ROWS}")
        return int(value)

    def after(self) -> int | None:
        """The place where the last page ended."""
        value = self._values.get("after")
        if value is None:
            return None
        try:
            number = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise ParameterError("after is not a cursor: take `next` of the page before") from error
        found = whole_number(number.removeprefix("v1."))
        if not number.startswith("v1.") or found is None:
            raise ParameterError("after is not a cursor: take `next` of the page before")
        return found


def cursor(place: int | None) -> str | None:
    """What `after` takes for the page that follows this place. Callers must not look inside."""
    return None if place is None else base64.urlsafe_b64encode(f"v1.{place}".encode()).decode().rstrip("=")


def whole_number(text: str) -> int | None:
    """A positive number that can be an id, or None."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return number if 0 < (number := int(text)) <= LARGEST_ID else None


async def fields(request: Request, known: Collection[str]) -> Mapping[str, object]:
    """The JSON object in the body, with these fields and no others; an empty body is an empty object."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            raise ParameterError(f"the body is larger than {MOST_BODY} bytes", 413)
    if not body.strip():
        return {}
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ParameterError("the body is not JSON in UTF-8") from error
    if not isinstance(decoded, dict):
        raise ParameterError("the body is not a JSON object")
    for name in decoded:
        if name not in known:
            there_are = ", ".join(sorted(known)) or "none here"
            raise ParameterError(f"there is no field {_shown(name)}; there are: {there_are}")
    return decoded


async def texts(request: Request, required: Collection[str], optional: Collection[str] = ()) -> Mapping[str, str]:
    """`fields`, each of them a text; those in `required` must be there."""
    found: dict[str, str] = {}
    given = await fields(request, (*required, *optional))
    for name in (*required, *optional):
        value = given.get(name)
        if isinstance(value, str):
            found[name] = value
        elif name in required or value is not None:
            example = "why" if name == "reason" else "..."
            raise ParameterError(f'{name} is missing or not a text: send {{"{name}": "{example}"}}')
    return found


def _word(name: str, value: str, kind: type[E]) -> E:
    try:
        return kind(value)
    except ValueError as error:
        words = ", ".join(k.value for k in kind)
        raise ParameterError(f"{name} is {_shown(value)}; it is one of: {words}") from error


def _shown(value: str) -> str:
    """A caller's own words, short enough to be repeated."""
    return repr(value if len(value) <= 60 else value[:60] + "...")
