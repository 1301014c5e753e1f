"""The account's event log: what was said, kept for 30 days, and who listens.

`GET /v1/events` goes back 30 days (docs.stripe.com/api/events); older events are dropped as business time moves on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from connectors.stripe.simulator.values import Obj

Listener: TypeAlias = Callable[[Obj], None]
"""Called with each event (or thin notification) as it happens; must not change it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as kept: rendered once, never again (Stripe does not re-shape events either)."""

    id: str
    type: str
    created: int
    body: bytes

    def event(self) -> Any:
        """The event, freshly parsed."""
        return orjson.loads(self.body)


@dataclass(slots=True)
class EventLog:
    """`muted` keeps events from listeners and from the log: for fixtures that only lend their shape."""

    api_version: str
    listeners: list[Listener] = field(default_factory=list)
    entries: deque[Entry] = field(default_factory=deque)
    by_id: dict[str, Entry] = field(default_factory=dict)
    total: int = 0
    muted: bool = False

    def append(self, event: Obj) -> None:
        """Keep an event and tell the listeners."""
        if self.muted:
            return
        created = event.get("created")
        entry = Entry(
            str(event.get("id")),
            str(event.get("type")),
            created if isinstance(created, int) else 0,
            orjson.dumps(event),
        )
        self.total += 1
        self.entries.append(entry)
        self.by_id[entry.id] = entry
        self.tell(event)

    def tell(self, event: Obj) -> None:
        """Tell the listeners only."""
        for listener in self.listeners:
            listener(event)

    def forget_before(self, moment: int) -> None:
        """Drop what is older than the API shows."""
        while self.entries and self.entries[0].created < moment:
            entry = self.entries.popleft()
            if self.by_id.get(entry.id) is entry:
                del self.by_id[entry.id]

    def newest_first(self) -> Iterator[Entry]:
        """All events still kept."""
        return reversed(self.entries)
