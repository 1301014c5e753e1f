"""JSON as NetSuite is sent and read: numbers are exact, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def dumps(value: Any) -> str:
    """JSON text with `Decimal` as a plain number literal (`10.50`, never `1.05E+1`). TypeError for a float.

    Not left to the `netsuite` library: its encoder fails on `Decimal`.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise TypeError("not a number")
        return format(value, "f")
    if value is None or isinstance(value, str | bool | int):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(k))}:{dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(v) for v in value) + "]"
    raise TypeError(f"{type(value).__name__} has no place in a request")


def loads(text: str) -> Any:
    """Decoded JSON with every fraction as `Decimal`."""
    return json.loads(text, parse_float=Decimal)
