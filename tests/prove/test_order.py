"""Whatever happens at Stripe and however its webhooks come, the vendors end at the truth: the long form.

`HUB_PROVE_SEED` chooses other examples; `HUB_PROVE_EXAMPLES` how many.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.prove.arena import tell
from tests.prove.order_machine import play

pytestmark = pytest.mark.prove
SEED = int(os.environ.get("HUB_PROVE_SEED", "20"))
MANY = int(os.environ.get("HUB_PROVE_EXAMPLES", "500"))


@pytest.mark.timeout(1200)
def test_hundreds_of_lives_end_at_the_truth(dsn: str) -> None:
    given = settings(
        max_examples=MANY,
        stateful_step_count=25,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # to make an example smaller takes minutes; its steps are printed
        suppress_health_check=list(HealthCheck),
    )
    began = time.monotonic()
    figures = play(dsn, given, SEED)
    tell({"title": "order", "seed": SEED, **figures, "seconds": round(time.monotonic() - began, 1)})
    assert figures["examples"] >= MANY
