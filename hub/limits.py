"""How fast a vendor may be called, over all processes: one row in the database says when the next call may go.

The pace is the configured rate times the share that is in use (`share_now` in the schema: half after every complaint of
the vendor, growing back within minutes). Times are those of the calling processes: their clocks have to agree to a
fraction of a second, as they do with NTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hub.circuit import LEAST_SHARE
from hub.db import UNAVAILABLE, Database
from hub.errors import Defer, OutcomeError

BURST = 5
"""Calls that may go at once after a quiet moment."""
PATIENCE = 10.0
"""Seconds a caller waits here at most: it holds a claim meanwhile. Longer, and it is deferred instead."""
AWAY = 2.0
"""Seconds a call is deferred while the database, which has the turns, is away."""


class Turns:
    """A vendor's `hub.destination.Limit`. One round trip to the database per call; none without a rate."""

    def __init__(
        self, db: Database, name: str, rate: float | None, clock: Callable[[], float], *, burst: int = BURST
    ) -> None:
        """`rate`: calls a second over all processes; None: the vendor names no number and none was set."""
        self._db, self._name, self._clock, self._burst = db, name, clock, burst
        self._step = None if rate is None else 1 / rate

    async def turn(self) -> None:
        """Wait until a call may go. Raises `OutcomeError(Defer)`: never is there a call without its turn."""
        wait = await self.reserve()
        if wait > 0:
            await asyncio.sleep(wait)

    async def reserve(self) -> float:
        """Take the next turn; in how many seconds it is. Raises as `turn` does, and then took none."""
        if self._step is None:
            return 0.0
        now = self._now()
        try:
            rows = await self._db.fetch("take_turn", self._name, now, self._step, self._burst, PATIENCE)
            if rows:
                return max(0.0, float(rows[0]["wait"]))
            (row,) = await self._db.fetch("turn_wait", self._name, now)
        except UNAVAILABLE as error:
            reason = f"the database, which says whose turn it is, is away ({type(error).__name__})"
            raise OutcomeError(Defer(reason, AWAY)) from error
        raise OutcomeError(Defer(f"our own limit towards {self._name}: too many calls are waiting", row["wait"]))

    async def cut(self, hold: float = 0.0) -> None:
        """See `hub.destination.Limit`. Without a database nothing is cut: there is no call then either."""
        now = self._now()
        try:
            await self._db.fetch("cut_share", self._name, now, LEAST_SHARE)
            if hold > 0:
                await self._db.fetch("hold_turns", self._name, now + timedelta(seconds=hold))
        except UNAVAILABLE:
            return

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
