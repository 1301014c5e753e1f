"""Reading much from a source that may be at its limit or away: wait, say so, and go on; not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from hub import log
from hub.errors import Defer, Outcome, OutcomeError, Retry

T = TypeVar("T")
FIRST, CAP = 1.0, 60.0

_log = log.get()


@dataclass(frozen=True, slots=True)
class Patience:
    """For work that nobody waits for. `longest`: seconds that one read may be waited for in all."""

    longest: float = 900.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    tell: Callable[[float, str], None] = lambda _seconds, _reason: None
    """Called before each wait with its length and reason."""

    async def __call__(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives, asked again after a limit or trouble. Raises `OutcomeError` when it was refused, when a
        person must act, and when the patience is at its end.
        """
        waited, tries = 0.0, 0
        while True:
            try:
                return await read()
            except OutcomeError as error:
                seconds = _wait(error.outcome, tries)
                if seconds is None or waited + seconds > self.longest:
                    raise
                reason = getattr(error.outcome, "reason", "")
            _log.warning("source_waits", seconds=seconds, reason=reason)
            self.tell(seconds, reason)
            await self.sleep(seconds)
            waited, tries = waited + seconds, tries + 1


def _wait(outcome: Outcome, tries: int) -> float | None:
    """Seconds until it is worth asking again; None if it is not. A closed door (`pause`) needs a person."""
    backoff = min(CAP, FIRST * 2.0 ** min(tries, 10))
    if isinstance(outcome, Defer) and not outcome.pause:
        return max(outcome.delay, backoff)
    if isinstance(outcome, Retry):
        return max(outcome.delay or 0.0, backoff)
    return None
