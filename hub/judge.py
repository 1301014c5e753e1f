"""From an outcome to what becomes of the delivery, and to what it says about the vendor. Pure; the only place outcomes
are judged.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hub.destination import Policy
from hub.errors import Answer, Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.legible import legible
from hub.model import Delivery, DeliveryState
from hub.retry import backoff, exhausted
from hub.store import AttemptLog, Settlement, Sign

BUDGET_FIX = (
    "Read the last attempts: they carry the vendor's own words. When the vendor is well again, retry; if the record "
    "exists there already, retry finds it by its key, and under another id it can be linked; if it is not wanted any "
    "more, skip with a reason."
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What judging needs to know beside the outcome."""

    policy: Policy
    now: datetime
    rng: random.Random


def judge(  # noqa: PLR0911 - one return per outcome
    delivery: Delivery, outcome: Outcome, rules: Rules, attempt: AttemptLog
) -> Settlement:
    """The settlement for one delivery. `attempt` is completed with the outcome's words."""
    match outcome:
        case Receipt():
            return Settlement(
                delivery,
                DeliveryState.DONE,
                note=outcome.note,
                attempt=_logged(attempt, "receipt", None, outcome.note, outcome.answer),
                links=outcome.links,
                resolves_dead=rules.policy.kind == "state",
            )
        case Reject() if _may_be_early(delivery, outcome, rules):
            return _again(delivery, Retry(outcome.code, outcome.cause, answer=outcome.answer), rules, attempt)
        case Reject():
            return Settlement(
                delivery,
                DeliveryState.DEAD,
                code=outcome.code,
                cause=outcome.cause,
                fix=outcome.fix,
                attempt=_logged(attempt, "reject", outcome.code, outcome.cause, outcome.answer),
                resolves_dead=rules.policy.kind == "state",  # the newest state's words are those that count
            )
        case Defer():
            return Settlement(
                delivery,
                DeliveryState.UNKNOWN if delivery.was_unknown else DeliveryState.WAITING,
                due_at=rules.now + timedelta(seconds=outcome.delay),
                code="deferred",
                cause=outcome.reason,
                attempt=_logged(attempt, "defer", None, outcome.reason, outcome.answer),
            )
        case Unknown():
            logged = _logged(attempt, "unknown", None, outcome.reason, outcome.answer)
            if exhausted(delivery.first_failure_at, rules.now, rules.policy):
                return _given_up(delivery, outcome.reason, rules, logged)
            return Settlement(
                delivery,
                DeliveryState.UNKNOWN,
                due_at=rules.now + timedelta(seconds=rules.policy.unknown_wait),
                failed=True,
                code="outcome_unknown",
                cause=outcome.reason,
                attempt=logged,
            )
        case Retry():
            return _again(delivery, outcome, rules, attempt)


def _may_be_early(delivery: Delivery, outcome: Reject, rules: Rules) -> bool:
    if delivery.first_failure_at is None:
        return outcome.patience > 0
    return (rules.now - delivery.first_failure_at).total_seconds() < min(outcome.patience, rules.policy.budget)


def _again(delivery: Delivery, outcome: Retry, rules: Rules, attempt: AttemptLog) -> Settlement:
    logged = _logged(attempt, "retry", outcome.code, outcome.reason, outcome.answer)
    if exhausted(delivery.first_failure_at, rules.now, rules.policy):
        return _given_up(delivery, outcome.reason, rules, logged)
    wait = max(outcome.delay or 0.0, backoff(delivery.failures + 1, rules.policy, rules.rng))
    return Settlement(
        delivery,
        DeliveryState.UNKNOWN if delivery.was_unknown else DeliveryState.WAITING,
        due_at=rules.now + timedelta(seconds=wait),
        failed=True,
        code=outcome.code,
        cause=outcome.reason,
        attempt=logged,
    )


def poison(delivery: Delivery) -> Settlement:
    """A delivery whose workers kept ending until its budget was used up: not even begun again."""
    return Settlement(
        delivery,
        DeliveryState.DEAD,
        code="workers_lost",
        cause=f"{delivery.failures} workers in a row ended or hung while they carried it out",
        fix="An engineer should read the worker's log at the times of the `lost` attempts, then retry; or skip it.",
        unsure=True,
    )


def sign(destination: str, lane: str | None, outcomes: Sequence[Outcome | None]) -> Sign | None:
    """What the answers of one attempt's calls say about the vendor; None: nothing. One answer among them is enough."""
    heard = [_is_answer(o) for o in outcomes]
    if True not in heard and False not in heard:
        return None
    silent = next((o for o, is_one in zip(outcomes, heard, strict=True) if is_one is False), None)
    return Sign(
        destination,
        lane,
        answered=True in heard,
        limited=any(isinstance(o, Defer) and o.limited for o in outcomes),
        reason=legible(silent.reason) if isinstance(silent, Unknown | Retry) else "",
    )


def _is_answer(outcome: Outcome | None) -> bool | None:
    """Whether the vendor answered; None where that cannot be told: no call may have been made. A `find` that answers
    None has looked.
    """
    match outcome:
        case None | Receipt():
            return True
        case Reject():
            return True if outcome.answer.status is not None else None
        case Defer():
            return True if outcome.limited or outcome.answer.status is not None else None
        case Unknown():
            return False
        case Retry():
            status = outcome.answer.status
            return status is not None and status < 500 and status != 408


def _given_up(delivery: Delivery, reason: str, rules: Rules, attempt: AttemptLog) -> Settlement:
    days = rules.policy.budget / 86400
    return Settlement(
        delivery,
        DeliveryState.DEAD,
        failed=True,
        code="budget_used_up",
        cause=f"still failing after {days:g} days and {delivery.failures + 1} failures; last: {reason}",
        fix=BUDGET_FIX,
        attempt=attempt,
        unsure=True,
    )


def _logged(attempt: AttemptLog, outcome: str, code: str | None, reason: str | None, answer: Answer) -> AttemptLog:
    return replace(
        attempt,
        outcome=outcome,
        code=code,
        reason=reason,
        http_status=answer.status,
        request_id=answer.request_id,
        answer=dict(answer.detail) or None,
    )
