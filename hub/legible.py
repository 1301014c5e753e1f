"""What a vendor says, in characters that the database can keep.

PostgreSQL's text has no NUL, and UTF-8 no half of a surrogate pair; JSON has both, and a vendor that quotes a value or
cuts a text may send them. One such character would fail the settlement, and with it those that share its transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from hub.model import NewEvent

T = TypeVar("T")

_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Whether PostgreSQL can keep it."""
    return _NOT_TEXT.search(value) is None


def legible(said: T) -> T:
    """The same outcome, answer, link or JSON value, with U+FFFD for each character that cannot be kept. Events inside
    are left alone: they were read by `hub.envelope`.
    """
    return _legible(said)  # type: ignore[no-any-return]


def _legible(said: Any) -> Any:
    if isinstance(said, str):
        return said if is_text(said) else _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", said)
    if isinstance(said, Mapping):
        return {_legible(name): _legible(value) for name, value in said.items()}
    if isinstance(said, tuple):
        return tuple(map(_legible, said))
    if isinstance(said, list):
        return list(map(_legible, said))
    if is_dataclass(said) and not isinstance(said, type | NewEvent):
        values = {f.name: getattr(said, f.name) for f in fields(said)}
        changed = {name: new for name, old in values.items() if (new := _legible(old)) != old}
        return replace(said, **changed) if changed else said
    return said
