"""Faults a test can ask for: which requests they meet, what happens to them, how often. Pure.

A fault is `{"vendor", "match": {"method", "path_regex", "nth", "probability"}, "action": {"kind", ...}, "times"}`.
`vendor` and `action.kind` are required. A request *matches* by vendor, method and path (`re.search` on the path inside
the vendor, without query). The first `nth - 1` matching requests pass; from the nth on each one is hit, with
`probability` if given (seeded), until `times` (default 1; null = until deleted) requests were hit.
Several faults: `latency` adds up; of the others the oldest that hits wins.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import orjson

_COMMON = frozenset({"kind", "delay_ms"})
KINDS: dict[str, frozenset[str]] = {
    "latency": _COMMON,
    "status": _COMMON | {"status", "body", "headers"},
    "limit": _COMMON,
    "expired": _COMMON,
    "html": _COMMON | {"status", "body"},
    "drop": _COMMON,
    "hold": _COMMON,
    "hold_reply": _COMMON,
    "lost_reply": _COMMON,
    "lost_reply_html": _COMMON | {"status", "body"},
    "lost_reply_500": _COMMON | {"body"},
}
"""Kind -> the keys its action may have. `delay_ms`: milliseconds to wait before anything else happens."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MAX_DELAY_MS = 600_000


class FaultError(ValueError):
    """A fault that cannot be understood; says what is wrong and what is known."""


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests of the vendor."""

    method: str | None = None
    path_regex: re.Pattern[str] | None = None
    nth: int = 1
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to them."""

    kind: str
    status: int | None = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    delay_ms: float = 0.0


@dataclass(slots=True)
class Fault:
    """One fault and its counts."""

    id: int
    vendor: str
    match: Match
    action: Action
    times: int | None
    asked: dict[str, Any]
    """As it was posted."""
    matched: int = 0
    hits: int = 0

    def meets(self, method: str, path: str, rng: random.Random) -> bool:
        """Count this request; whether it is hit. Call at most once per request."""
        wanted = self.match
        if wanted.method is not None and wanted.method != method:
            return False
        if wanted.path_regex is not None and not wanted.path_regex.search(path):
            return False
        self.matched += 1
        if self.matched < wanted.nth or (self.times is not None and self.hits >= self.times):
            return False
        if wanted.probability < 1.0 and rng.random() >= wanted.probability:
            return False
        self.hits += 1
        return True

    def shown(self) -> dict[str, Any]:
        """For `GET /__sandbox/faults`."""
        return {"id": self.id, **self.asked, "matched": self.matched, "hits": self.hits}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the faults decide about one request."""

    action: Action | None = None
    delay_ms: float = 0.0
    fault_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class Faults:
    """The faults in force."""

    seed: int
    vendors: Collection[str]
    _faults: list[Fault] = field(default_factory=list)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _rng: random.Random = field(init=False)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the faults are forgotten: what is held goes on."""

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - chooses which test requests fail

    def add(self, asked: Any) -> Fault:
        """Raises `FaultError`."""
        vendor, match, action, times = _parse(asked, self.vendors)
        fault = Fault(next(self._ids), vendor, match, action, times, asked)
        self._faults.append(fault)
        return fault

    def clear(self) -> int:
        """Forget all and let go what is held; how many there were. The dice start again from the seed."""
        count = len(self._faults)
        self.released.set()
        self.released = asyncio.Event()
        self._faults.clear()
        self._rng.seed(self.seed)
        return count

    def shown(self) -> list[dict[str, Any]]:
        """All, oldest first, spent ones too: their counts are what a test asserts."""
        return [fault.shown() for fault in self._faults]

    def decide(self, vendor: str, method: str, path: str) -> Verdict:
        """What happens to this request."""
        delay, ids, chosen = 0.0, [], None
        for fault in self._faults:
            if fault.vendor != vendor or (chosen is not None and fault.action.kind != "latency"):
                continue
            if fault.meets(method, path, self._rng):
                delay += fault.action.delay_ms
                ids.append(fault.id)
                if fault.action.kind != "latency":
                    chosen = fault.action
        return Verdict(chosen, delay, tuple(ids))


def _parse(asked: Any, vendors: Collection[str]) -> tuple[str, Match, Action, int | None]:
    _keys(asked, "the fault", {"vendor", "match", "action", "times"})
    vendor = asked.get("vendor")
    if vendor not in vendors:
        raise FaultError(f"vendor is {vendor!r}; known: {', '.join(sorted(vendors))}")
    times = asked.get("times", 1)
    if times is not None:
        times = _integer(times, "times", 1, 10**9)
    return vendor, _match(asked.get("match", {})), _action(asked.get("action")), times


def _match(asked: Any) -> Match:
    _keys(asked, "match", {"method", "path_regex", "nth", "probability"})
    method, pattern, compiled = asked.get("method"), asked.get("path_regex"), None
    if method is not None and method not in METHODS:
        raise FaultError(f"match.method is {method!r}; known: {', '.join(sorted(METHODS))}")
    if pattern is not None:
        if not isinstance(pattern, str):
            raise FaultError("match.path_regex is not a string")
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise FaultError(f"match.path_regex is not a regular expression: {error}") from error
    probability = asked.get("probability", 1.0)
    if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 < probability <= 1:
        raise FaultError(f"match.probability is {probability!r}; it is a number above 0 and at most 1")
    return Match(method, compiled, _integer(asked.get("nth", 1), "match.nth", 1, 10**9), float(probability))


def _action(asked: Any) -> Action:
    if not isinstance(asked, dict) or asked.get("kind") not in KINDS:
        kind = asked.get("kind") if isinstance(asked, dict) else None
        raise FaultError(f"action.kind is {kind!r}; known: {', '.join(KINDS)}")
    kind = asked["kind"]
    _keys(asked, f"action of kind {kind}", KINDS[kind])
    delay = asked.get("delay_ms", 0)
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay <= MAX_DELAY_MS:
        raise FaultError(f"action.delay_ms is {delay!r}; it is a number of milliseconds from 0 to {MAX_DELAY_MS}")
    status = asked.get("status")
    if status is not None:
        status = _integer(status, "action.status", 200, 599)
    missing = {"status": status is None, "latency": "delay_ms" not in asked}.get(kind, False)
    if missing:
        raise FaultError(f"an action of kind {kind} needs {'status' if kind == 'status' else 'delay_ms'}")
    headers = asked.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise FaultError("action.headers is not an object of strings")
    body = asked.get("body")
    if body is not None:
        body = body.encode() if isinstance(body, str) else orjson.dumps(body)
    return Action(kind, status, body, tuple(headers.items()), float(delay))


def _keys(asked: Any, where: str, known: Collection[str]) -> None:
    if not isinstance(asked, dict):
        raise FaultError(f"{where} is not a JSON object")
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise FaultError(f"{where} has unknown keys: {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _integer(value: Any, where: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise FaultError(f"{where} is {value!r}; it is a whole number from {least} to {most}")
    return value
