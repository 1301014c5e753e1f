"""What was asked of each vendor: totals for ever, the last requests one by one. No bodies, no credentials."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

RING = 20_000
"""Requests remembered one by one, over all vendors; the counts go on."""

_SECRET = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"stripe-signature",
        b"x-amz-security-token",
        b"x-stripe-client-telemetry",
        b"x-api-key",
    }
)


@dataclass(slots=True)
class Recorded:
    """One request. Kept raw and rendered only when somebody asks, so recording costs next to nothing."""

    vendor: str
    method: str
    path: str
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    started: float
    concurrency: int
    """Requests of this vendor under way when it came, itself included."""
    status: int | None = None
    """As the client saw it; null: the connection was closed without a reply, or it is still under way."""
    duration: float | None = None
    faults: tuple[int, ...] = ()
    applied: bool = False
    """Whether the vendor got it."""
    held: bool = False
    """Whether a fault holds it up now (`hold`, `hold_reply`)."""

    def shown(self) -> dict[str, Any]:
        """As JSON; times in seconds."""
        return {
            "vendor": self.vendor,
            "method": self.method,
            "path": self.path,
            "query": self.query.decode("latin-1"),
            "headers": {name.decode("latin-1"): _redacted(name, value) for name, value in self.headers},
            "status": self.status,
            "started": self.started,
            "duration": self.duration,
            "concurrency": self.concurrency,
            "faults": list(self.faults),
            "applied": self.applied,
            "held": self.held,
        }


def _redacted(name: bytes, value: bytes) -> str:
    text = value.decode("latin-1")
    if name.lower() not in _SECRET:
        return text
    scheme, space, _ = text.partition(" ")
    return f"{scheme} ***" if space and name.lower() == b"authorization" else "***"


@dataclass(slots=True)
class Totals:
    """Counts of one vendor since the last reset."""

    requests: int = 0
    in_flight: int = 0
    high_water: int = 0
    """Most requests under way at once."""
    methods: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "high_water": self.high_water,
            "methods": dict(self.methods),
            "statuses": dict(self.statuses),
        }


class Recorder:
    """Counts and remembers. One event loop; no locks."""

    def __init__(self, vendors: Sequence[str]) -> None:
        self.totals = {vendor: Totals() for vendor in vendors}
        self.ring: deque[Recorded] = deque(maxlen=RING)

    def begin(self, request: Recorded) -> None:
        """A request came in."""
        totals = self.totals[request.vendor]
        totals.requests += 1
        totals.methods[request.method] += 1
        totals.in_flight += 1
        totals.high_water = max(totals.high_water, totals.in_flight)
        request.concurrency = totals.in_flight
        self.ring.append(request)

    def end(self, request: Recorded, duration: float) -> None:
        """It is over, one way or the other."""
        totals = self.totals[request.vendor]
        totals.in_flight -= 1
        totals.statuses["closed" if request.status is None else str(request.status)] += 1
        request.duration = duration

    def clear(self) -> None:
        """Forget requests and counts. What is under way stays counted as under way."""
        self.ring.clear()
        for vendor, totals in self.totals.items():
            self.totals[vendor] = Totals(in_flight=totals.in_flight, high_water=totals.in_flight)

    def shown(self, vendor: str | None, limit: int) -> dict[str, Any]:
        """Counts, and the last `limit` requests, oldest first."""
        chosen = [request for request in self.ring if vendor is None or request.vendor == vendor]
        totals = {name: totals.shown() for name, totals in self.totals.items() if vendor in (None, name)}
        return {"vendors": totals, "requests": [request.shown() for request in chosen[-limit:]]}
