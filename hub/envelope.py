"""Read the envelope of a signed body: what an event says about itself. Nothing inside the object is judged here.

Shapes: Stripe's v1 `Event` (API reference, "The Event object") and v2 event notifications (`object: "v2.core.event"`).
A correctly signed event is never refused for its content: unknown types, missing object ids and old versions all pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from hub.errors import EnvelopeError
from hub.model import EventKind, NewEvent
from hub.ordering import rank

POSSIBLE_YEARS = range(1970, 2200)
"""Of `created`: a time beyond them would be refused later, by a subtraction or a library, and every time anew."""

BELONGS = ("invoice", "charge", "payment_intent")
"""Where an object without a customer says what it belongs to, an InvoicePayment or a dispute (API reference): the name
of the field is the type of the object."""

OLDEST_SHAPES = "2025-03-31"
"""API version from which on object shapes are mapped (2025-03-31.basil moved fields; see the API changelog)."""


def read(body: bytes, received_at: datetime) -> NewEvent:
    """The event in `body`. Raises `EnvelopeError` for what is not UTF-8, not JSON, not an object, or no event at
    all.
    """
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise EnvelopeError(f"the body is not JSON in UTF-8 ({error.msg} at byte {error.pos})") from error
    if not isinstance(decoded, dict):
        raise EnvelopeError(f"the body is a JSON {type(decoded).__name__}, not an object")
    id_, type_ = decoded.get("id"), decoded.get("type")
    if _text(id_) is None or _text(type_) is None:
        raise EnvelopeError("the body has no event id or no event type (strings of 1 to 255 characters)")
    if decoded.get("object") == "v2.core.event":
        return _thin(decoded, body, received_at)
    return snapshot(decoded, body, received_at)


def snapshot(
    decoded: dict[str, Any], body: bytes, received_at: datetime, kind: EventKind = EventKind.SNAPSHOT
) -> NewEvent:
    """The envelope of a v1 event, or of one in its shape."""
    data = decoded.get("data")
    found = data.get("object") if isinstance(data, dict) else None
    obj: dict[str, Any] = found if isinstance(found, dict) else {}
    object_type = _text(obj.get("object"))
    object_id = _text(obj.get("id"))
    customer = object_id if object_type == "customer" else reference(obj.get("customer"))
    via = belongs_to(obj)
    return NewEvent(
        id=decoded["id"],
        kind=kind,
        type=decoded["type"],
        body=body,
        created=_time(decoded.get("created"), received_at),
        received_at=received_at,
        account=_text(decoded.get("account")),
        api_version=_text(decoded.get("api_version")),
        livemode=_flag(decoded.get("livemode")),
        object_type=object_type,
        object_id=object_id,
        customer_id=customer,
        via=via[1] if customer is None and via else None,
        rank=rank(object_type or "", obj, decoded["type"]),
    )


def of_read(
    id_: str, type_: str, obj: Mapping[str, Any], created: int, received_at: datetime, *, livemode: bool | None = None
) -> NewEvent:
    """What the hub has read of an object, in the shape of an event: so it is found like one."""
    data = {"object": obj}
    shell: dict[str, Any] = {"id": id_, "object": "event", "type": type_, "created": created, "data": data}
    if livemode is not None:
        shell["livemode"] = livemode
    return snapshot(shell, orjson.dumps(shell, default=number_as_text), received_at, EventKind.READ)


def content_number(words: str, obj: Mapping[str, Any]) -> int:
    """The same for the same content read for the same purpose: it ends the id of such an event."""
    content = orjson.dumps(obj, default=number_as_text, option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(hashlib.sha256(words.encode() + content).digest()[:7])


def number_as_text(value: object) -> object:
    """For `orjson.dumps(default=...)`: a `Decimal` in what the source read goes back to text, as Stripe writes its
    decimal fields. Raises `TypeError` for anything else.
    """
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"cannot store a {type(value).__name__}")


def belongs_to(obj: Mapping[str, Any]) -> tuple[str, str] | None:
    """Type and id of what an object says it belongs to."""
    return next(((name, found) for name in BELONGS if (found := reference(obj.get(name))) is not None), None)


def _thin(decoded: dict[str, Any], body: bytes, received_at: datetime) -> NewEvent:
    related = decoded.get("related_object")
    related = related if isinstance(related, dict) else {}
    return NewEvent(
        id=decoded["id"],
        kind=EventKind.THIN,
        type=decoded["type"],
        body=body,
        created=_time(decoded.get("created"), received_at),
        received_at=received_at,
        account=_text(decoded.get("context")),
        livemode=_flag(decoded.get("livemode")),
        object_type=_text(related.get("type")),
        object_id=_text(related.get("id")),
    )


def shapes_are_mapped(api_version: str | None) -> bool:
    """Whether objects of this API version have the shapes the mappings are written for. None: read by ourselves,
    pinned.
    """
    return api_version is None or api_version[:10] >= OLDEST_SHAPES


def _time(value: object, otherwise: datetime) -> datetime:
    """`created`: Unix seconds (v1) or RFC 3339 text (v2). Anything else is the source's mistake, not a reason to
    refuse, and neither is a time that no calendar after ours can hold: with an offset, the year 1 or 9999 may be one
    too many.
    """
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            parsed = datetime.fromtimestamp(value, UTC)
        elif isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            parsed = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        else:
            return otherwise
    except (ValueError, OverflowError, OSError):
        return otherwise
    return parsed if parsed.year in POSSIBLE_YEARS else otherwise


def _text(value: object) -> str | None:
    """A string PostgreSQL can hold and an index can carry, else None."""
    return value if isinstance(value, str) and 0 < len(value) <= 255 and "\x00" not in value else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def reference(value: object) -> str | None:
    """A related object is an id, or the object itself where the endpoint expands it."""
    if isinstance(value, dict):
        value = value.get("id")
    return _text(value)
