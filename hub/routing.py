"""Who gets an event: decided once, when it is accepted, and written down with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hub.destination import Kind
from hub.envelope import shapes_are_mapped
from hub.model import WRITE_BACK, Disposition, EventKind, NewEvent
from hub.store import Accepted, Route

LOG_LANE = "00"
"""The one lane of a log destination: it keeps every event, and one writer is enough."""


@dataclass(frozen=True, slots=True)
class Router:
    """Which destinations exist and which event types their mappings name."""

    kinds: Mapping[str, Kind]
    """Every enabled destination and its kind."""
    types: Mapping[str, frozenset[str]]
    """Event type -> destinations whose mappings want it."""
    accounts: frozenset[str]
    """Stripe accounts this hub serves beside the one whose key it holds."""
    livemode: bool
    coalesce: float = 1.0
    """Seconds a `state` delivery waits for more changes of the same object: many events, one write."""
    fetcher: str = "stripe"
    """The destination that turns a thin notification into an event."""
    _logs: tuple[str, ...] = field(init=False, repr=False)
    _wanted: Mapping[str, tuple[tuple[str, bool], ...]] = field(init=False, repr=False)
    """Event type -> (destination, whether it coalesces). Worked out once: `decide` runs for every webhook."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_logs", tuple(name for name, kind in self.kinds.items() if kind == "log"))
        wanted = {
            type_: tuple((d, self.kinds[d] == "state") for d in sorted(names) if d in self.kinds)
            for type_, names in self.types.items()
        }
        object.__setattr__(self, "_wanted", wanted)

    def decide(self, event: NewEvent, now: datetime) -> Accepted:
        """What becomes of an event. Pure."""
        if event.livemode is not None and event.livemode != self.livemode:
            mine, theirs = ("live", "test") if self.livemode else ("test", "live")
            return Accepted(event, Disposition.OTHER_MODE, f"a {theirs}-mode event; this hub serves {mine} mode", ())
        if event.account is not None and event.account not in self.accounts:
            other = f"account {event.account} is not served here (HUB_STRIPE_ACCOUNT)"
            return Accepted(event, Disposition.OTHER_ACCOUNT, other, ())
        lane = event.customer_id or event.via or event.object_id or event.id
        logs = [Route(name, LOG_LANE, now) for name in self._logs]
        if event.kind is EventKind.THIN or event.type == WRITE_BACK:
            fetch = [Route(self.fetcher, lane, now)] if self.fetcher in self.kinds else []
            note = "a thin notification: fetched, then treated like any event"
            if event.type == WRITE_BACK:  # said by the hub, so it is none of the lake's
                note, logs = "a vendor's ids, to be noted on the source's object", []
            return Accepted(event, Disposition.ROUTED, note, (*fetch, *logs))
        wanted = self._wanted.get(event.type)
        if not wanted:
            return Accepted(event, Disposition.UNMAPPED, _logged(f"no mapping names {event.type}", logs), tuple(logs))
        if event.object_id is None:
            return Accepted(event, Disposition.UNMAPPED, _logged("its object has no id", logs), tuple(logs))
        later = now + timedelta(seconds=self.coalesce)
        routes = [Route(d, lane, later if coalesces else now) for d, coalesces in wanted]
        older: str | None = None
        if not shapes_are_mapped(event.api_version):
            older = f"api_version {event.api_version} has older shapes: its object is read again before it is mapped"
        return Accepted(event, Disposition.ROUTED, older, (*routes, *logs))


def _logged(reason: str, logs: list[Route]) -> str:
    kept = ", ".join(r.destination for r in logs)
    return f"{reason}; kept in {kept}" if kept else f"{reason}; stored only"
