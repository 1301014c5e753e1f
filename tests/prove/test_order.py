"""Whatever happens at Stripe and however its webhooks come, the vendors end at the truth: the long form."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.prove.order import play

pytestmark = pytest.mark.prove
MANY = int(os.environ.get("HUB_PROVE_EXAMPLES", "300"))


@pytest.mark.timeout(1200)
def test_hundreds_of_lives_end_at_the_truth(dsn: str) -> None:
    given = settings(
        max_examples=MANY,
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),  # to make an example smaller takes minutes; its steps are printed
        suppress_health_check=list(HealthCheck),
    )
    play(dsn, given)
