"""Replies kept under their Idempotency-Key. docs.stripe.com/api/idempotent_requests.

Kept for 24 hours of real time (the caller retries in real time, however fast business time runs), at most 20,000 of
them. Only what an operation answered is kept, whatever its status; a request refused by the contract check leaves no
trace.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.values import DAY

_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply: HTTP status, and the body's bytes."""

    status: int
    body: bytes


@dataclass(slots=True)
class Replies:
    """Key -> (when, fingerprint of the request, reply)."""

    clock: Callable[[], float]
    kept: OrderedDict[str, tuple[float, bytes, Reply]] = field(default_factory=OrderedDict)

    def earlier(self, key: str, fingerprint: bytes) -> Reply | None:
        """The first reply under this key; refuses the key if it came with another request."""
        if len(key) > 255:
            raise refused("Idempotency keys can be at most 255 characters.", kind="idempotency_error")
        oldest = self.clock() - DAY
        while self.kept and (len(self.kept) > _MOST or next(iter(self.kept.values()))[0] < oldest):
            self.kept.popitem(last=False)
        found = self.kept.get(key)
        if found is None:
            return None
        if found[1] != fingerprint:
            raise refused(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                f"Try using a key other than '{key}' if you meant to execute a different request.",
                kind="idempotency_error",
            )
        return found[2]

    def keep(self, key: str, fingerprint: bytes, reply: Reply) -> None:
        """Remember the first reply."""
        self.kept[key] = (self.clock(), fingerprint, reply)
