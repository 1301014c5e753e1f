"""When to try again. Pure: the number of failures, the time and the randomness come in as arguments."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_exponential

from hub.destination import Policy


def backoff(failures: int, policy: Policy, rng: random.Random) -> float:
    """Seconds until the next try after `failures` failures: doubling from `retry_first` up to `retry_cap`, times a
    random factor between one half and one, so that what failed together does not come back together."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = max(1, failures)
    full = wait_exponential(multiplier=policy.retry_first, max=policy.retry_cap)(state)
    return float(full) * rng.uniform(0.5, 1.0)


def exhausted(first_failure_at: datetime | None, now: datetime, policy: Policy) -> bool:
    """Whether the time budget is used up. It starts with the first failure: waiting that was nobody's fault is free."""
    return first_failure_at is not None and now - first_failure_at >= timedelta(seconds=policy.budget)
