"""The circuit breaker: a destination that fails throughout is paused, tried with one delivery, and resumed.

    closed     attempts go on; those in a row without an answer are counted, over all lanes and processes
    open       paused by the hub, with the reason; twice as long each time
    half open  the pause is over: one delivery at a time is claimed, over all processes, until there is an answer

An answer closes it, a refusal too: the vendor is there. What says nothing about the vendor (a lost claim, a limit of
our own, trouble with the mapping or with Stripe) counts neither way. All of it is in the destination's row, which a
healthy destination never writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from hub.db import SQL, Connection
from hub.store import Sign

FAILURES = 10
"""So many attempts in a row without an answer open the circuit. The same lane twice running counts once: what fails
may be that one customer's record."""
SPAN = 10.0
"""... if they lie at least so many seconds apart: a moment's trouble is for the backoff."""
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 600.0
LEAST_SHARE = 0.05
OPEN = "circuit open"
"""How the reason of such a pause begins."""


@dataclass(frozen=True, slots=True)
class State:
    """The part of a destination's row that is about failing."""

    failing: int = 0
    failing_since: datetime | None = None
    failing_lane: str | None = None
    opened: int = 0
    closed_at: datetime | None = None
    paused_until: datetime | None = None
    reason: str | None = None
    paused_by: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The circuit was opened, the `times`-th time in a row."""

    destination: str
    times: int
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """There was an answer: everything goes on. `times`: how often it had been opened."""

    destination: str
    times: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The vendor said that we call too much: this share of its limits is in use now."""

    destination: str
    share: float


Change: TypeAlias = Opened | Closed | Cut


async def note(
    connection: Connection[Any], signs: Iterable[Sign], ailing: frozenset[str], now: datetime
) -> list[Change]:
    """Write down what a settlement's signs say, in its transaction. `ailing`: the destinations that an answer is news
    for. Returns what has changed, for the log; nothing is read or written for a healthy destination that answered.
    """
    changes: list[Change] = []
    troubled = set(ailing)
    for destination, mine in _grouped(signs):
        if any(sign.limited for sign in mine):
            share = await connection.fetchval(SQL["cut_share"], destination, now, LEAST_SHARE)
            changes += [Cut(destination, share)] if share is not None else []
        if destination in troubled or not all(sign.answered for sign in mine):
            changes += await _judge(connection, destination, mine, now)
    return changes


async def _judge(
    connection: Connection[Any], destination: str, signs: Sequence[Sign], now: datetime
) -> Sequence[Change]:
    row = await connection.fetchrow(SQL["lock_destination"], destination, now)
    if row is None:
        return ()
    before = State(**{name: row[name] for name in State.__slots__})
    after = before
    for sign in signs:
        after = answered(after, now) if sign.answered else failed(after, sign, now)
    if after == before:
        return ()
    closed = before.opened > 0 and after.opened == 0
    await connection.fetch(
        SQL["set_circuit"],
        destination,
        after.failing,
        after.failing_since,
        after.failing_lane,
        after.opened,
        after.closed_at,
        after.paused_until,
        after.reason,
        after.paused_by,
        closed,
    )
    if closed:
        return (Closed(destination, before.opened),)
    if after.opened > before.opened and after.paused_until is not None:
        return (Opened(destination, after.opened, after.paused_until, after.reason or ""),)
    return ()


def answered(state: State, now: datetime) -> State:
    """The vendor is there. A pause of another kind stays."""
    fresh = replace(state, failing=0, failing_since=None, failing_lane=None)
    if state.opened == 0:
        return fresh
    fresh = replace(fresh, opened=0, closed_at=now)
    if state.paused_by == "hub" and (state.reason or "").startswith(OPEN):
        return replace(fresh, paused_until=None, reason=None, paused_by=None)
    return fresh


def failed(state: State, sign: Sign, now: datetime) -> State:
    """One more without an answer. While it is paused anyway only the count goes on: what ends now began before."""
    again = sign.lane is not None and sign.lane == state.failing_lane
    since = state.failing_since or now
    after = replace(
        state,
        failing=state.failing + (0 if again and state.failing else 1),
        failing_since=since,
        failing_lane=sign.lane,
    )
    if state.paused_until is not None and state.paused_until > now:
        return after
    if state.opened == 0 and (after.failing < FAILURES or (now - since).total_seconds() < SPAN):
        return after
    until = now + timedelta(seconds=min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(state.opened, 20)))
    reason = (
        f"{OPEN}: {after.failing} attempts in a row without an answer since {_clock(since)};"
        f" tried again at {_clock(until)}; last: {sign.reason}"
    )
    return replace(after, opened=state.opened + 1, paused_until=until, reason=reason[:500], paused_by="hub")


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _grouped(signs: Iterable[Sign]) -> list[tuple[str, list[Sign]]]:
    """By destination, always in the same order: two settlements never wait for each other's row."""
    found: dict[str, list[Sign]] = {}
    for sign in signs:
        found.setdefault(sign.destination, []).append(sign)
    return sorted(found.items())
