"""The five outcomes of an attempt, and the errors of the hub itself.

    Outcome
    ├── Receipt   the vendor has it: its record ids, its answer
    ├── Reject    never: a dead letter with a code, the cause and a way out; at once, or after some patience
    ├── Defer     not now, and it costs nothing: a limit, a closed destination; may pause the whole destination
    ├── Unknown   the write may have landed (timeout, lost reply, 5xx): look before sending again
    └── Retry     anything else: again later, with backoff, until the time budget is used up

    HubError
    ├── ConfigError        settings that cannot work, all problems at once
    ├── MappingError       a mapping, a lookup or an example is wrong; names file, key and way out
    ├── ConservationError  a document whose amounts do not add up; carries the arithmetic
    ├── EnvelopeError      a signed body that is not an event
    └── SignatureError     a request that Stripe did not sign, or signed too long ago

Outcomes are returned, not raised: a destination answers one per job. An `OutcomeError` carries one for every job of the
call; anything else it raises counts as `Unknown`, since nobody can tell what came before. Only `hub.judge` judges them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hub.model import Link, NewEvent


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of a vendor's reply, already redacted: no secrets, no personal data."""

    status: int | None = None
    """HTTP status, if there was one."""
    request_id: str | None = None
    """The vendor's own id of the call, for its support."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Codes, ids, counts: what helps a person; JSON-able."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Done. `links` are written with the settlement; `follow_ups` are accepted in the same transaction."""

    links: tuple[Link, ...] = ()
    follow_ups: tuple[NewEvent, ...] = ()
    answer: Answer = Answer()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """Never. `code` is the vendor's or ours; `cause` says what is wrong; `fix` says who does what next."""

    code: str
    cause: str
    fix: str
    answer: Answer = Answer()
    patience: float = 0.0
    """Seconds since the first failure for which it may only be early, and is tried again like a `Retry`."""


@dataclass(frozen=True, slots=True)
class Defer:
    """Not now; not a failure. `delay` in seconds. `pause` stops claiming for the whole destination that long."""

    reason: str
    delay: float
    pause: bool = False
    answer: Answer = Answer()
    limited: bool = False
    """The vendor says that we call too fast or too much at once: all processes use half of the limits for a while."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The write may have landed. Looked up with `Destination.find` after `Policy.unknown_wait` seconds."""

    reason: str
    answer: Answer = Answer()


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed and surely did not land. `delay`: the vendor's Retry-After in seconds, if it gave one."""

    code: str
    reason: str
    delay: float | None = None
    answer: Answer = Answer()


Outcome: TypeAlias = Receipt | Reject | Defer | Unknown | Retry


class OutcomeError(Exception):
    """Carries an outcome out of a deep call; `send` and `find` may raise it instead of returning."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(repr(outcome))
        self.outcome = outcome


class HubError(Exception):
    """Base of the hub's own errors. The message names the thing, the cause and the way out."""


class ConfigError(HubError):
    """Settings that cannot work. `problems` lists all of them, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class MappingError(HubError):
    """A mapping or lookup that cannot be applied. `code` is stable; `fix` is the way out."""

    def __init__(self, code: str, cause: str, fix: str) -> None:
        super().__init__(f"{cause} {fix}")
        self.code, self.cause, self.fix = code, cause, fix


class ConservationError(HubError):
    """A document whose parts do not add up. `arithmetic` shows the sum that fails, in minor units."""

    def __init__(self, object_id: str, arithmetic: str) -> None:
        super().__init__(f"{object_id} does not add up: {arithmetic}")
        self.object_id, self.arithmetic = object_id, arithmetic


class EnvelopeError(HubError):
    """A correctly signed body that is not an event: not UTF-8, not JSON, not an object, or without id or type."""


class SignatureError(HubError):
    """A request that is not signed by Stripe with one of our secrets. `reason` is a short stable word for the
    metric.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
