"""At most so many reads a second, and none while Stripe asks for a break. One event loop, no locks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.errors import Defer, OutcomeError

BURST = 5
"""Reads that may go at once after a quiet moment."""
PATIENCE = 10.0
"""Seconds a caller waits here at most: it holds a claim meanwhile. Longer, and it is deferred instead."""


class Limiter:
    """A token bucket kept as one number: the moment the next read is due if none were ever early."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        """`rate` per second; `clock` monotonic seconds."""
        self._step, self._clock = 1 / rate, clock
        self._due = self._held_until = clock() - BURST * self._step

    async def turn(self) -> None:
        """Wait for a turn. Raises `OutcomeError(Defer)` when that would take longer than `PATIENCE`."""
        now = self._clock()
        due = max(self._due, now - (BURST - 1) * self._step)
        wait = max(due, self._held_until) - now
        if wait > PATIENCE:
            raise OutcomeError(Defer("Stripe's read limit: too many reads are waiting", wait))
        self._due = max(due, self._held_until) + self._step
        if wait > 0:
            await asyncio.sleep(wait)

    def hold(self, seconds: float) -> None:
        """No reads for so long: Stripe has said so."""
        self._held_until = max(self._held_until, self._clock() + seconds)
