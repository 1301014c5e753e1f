"""A destination that takes everything at once and writes nothing: what remains is the hub's own cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hub.bench.ground import BenchError
from hub.destination import Policy
from hub.errors import Outcome, Receipt
from hub.model import Batch, Job


class Null:
    """Answers every job with a receipt; a job with records gets the links a vendor's answer would give.

    `delay`: seconds each call takes, as a vendor's would, without using this machine.
    """

    def __init__(self, name: str, policy: Policy, delay: float = 0.0) -> None:
        self.name, self.policy, self._delay = name, policy, delay
        self.jobs = 0
        self.records = 0

    async def send(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        self.jobs += len(jobs)
        self.records += sum(len(job.records) for job in jobs)
        if self._delay:
            await asyncio.sleep(self._delay)
        return [Receipt(tuple(r.link_to(f"null-{r.key}") for r in job.records)) for job in jobs]

    async def send_batch(self, batch: Batch) -> Outcome:
        self.jobs += len(batch.jobs)
        if self._delay:
            await asyncio.sleep(self._delay)
        return Receipt()

    async def find(self, job: Job) -> Outcome | None:  # noqa: ARG002 - nothing is ever unknown here
        return None

    async def ping(self) -> str:
        return "nobody"

    async def close(self) -> None:
        return None


class NoSource:
    """A source that nothing may ask: every object of the benchmark is in its events."""

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        """Raises `BenchError`."""
        raise BenchError(f"the benchmark read {object_type} {object_id} from Stripe")

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]]:
        """Raises `BenchError`."""
        raise BenchError(f"the benchmark listed {object_type} by {by} {object_id}")
