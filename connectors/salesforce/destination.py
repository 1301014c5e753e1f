"""The Salesforce destination: newest snapshots of customers, subscriptions and invoices, upserted by external id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from connectors.salesforce.client import CallError, Client
from connectors.salesforce.find import find
from connectors.salesforce.settings import SalesforceSettings
from connectors.salesforce.write import Round
from hub.destination import Limit, Policy
from hub.errors import Defer, Outcome, OutcomeError, Unknown
from hub.model import Job

T = TypeVar("T")


class SalesforceDestination:
    """Many jobs, few calls: up to 200 records of one kind in each. See `hub.destination.Destination`."""

    name = "salesforce"

    def __init__(
        self,
        settings: SalesforceSettings,
        limit: Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._clock, self._limit = settings, clock, limit
        self._client = Client(settings, None if limit is None or settings.rate is None else self._turn, clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        # The library blocks. `slots` rounds at once, and room to look and to ping beside them.
        self._threads = ThreadPoolExecutor(settings.slots + 2, thread_name_prefix="salesforce")
        self.policy = Policy(
            kind="state",
            batch=settings.batch,
            slots=settings.slots,
            lease=settings.lease,
            unknown_wait=settings.unknown_wait,
        )

    @property
    def quota(self) -> tuple[int, int] | None:
        """API calls used and allowed in the last 24 hours, as Salesforce last said; None before the first answer."""
        return self._client.usage

    async def send(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        def work() -> list[Outcome]:
            return Round(self._client, ends=self._ends(), clock=self._clock).write(jobs)

        try:
            return await self._blocking(work)
        except TimeoutError:
            return [Unknown("Salesforce did not finish within the lease")] * len(jobs)

    async def find(self, job: Job) -> Outcome | None:
        """See `connectors.salesforce.find`: None is always safe here, a receipt saves a write."""
        try:
            return await self._blocking(lambda: find(self._client, job))
        except TimeoutError:
            return Unknown("Salesforce did not answer within the lease")

    async def ping(self) -> str:
        """Names the org. One API call, plus one sign-in at first."""

        def work() -> str:
            soql = "SELECT Id, Name, IsSandbox FROM Organization LIMIT 1"
            try:
                row = self._client.query(soql)[0]
            except CallError as error:
                raise OutcomeError(error.outcome) from None
            used, most = self._client.usage or (0, 0)
            kind = "sandbox" if row.get("IsSandbox") else "production"
            return (
                f"{kind} org {row.get('Name')} ({row.get('Id')}), API v{self._settings.api_version},"
                f" {used} of {most} calls used today"
            )

        return await self._blocking(work)

    async def close(self) -> None:
        """Waits for calls under way: each has a timeout. Calls not begun are dropped."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        self._client.close()

    def _ends(self) -> float:
        """When a round that begins now may begin its last call, so that it has ended before the lease does."""
        return self._clock() + self._settings.lease - self._settings.longest_call()

    async def _blocking(self, work: Callable[[], T]) -> T:
        self._loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._settings.lease):
            return await self._loop.run_in_executor(self._threads, work)

    def _turn(self) -> None:
        """For a thread of ours: the turns are the event loop's. Raises `OutcomeError`."""
        assert self._limit is not None
        assert self._loop is not None
        waiting = asyncio.run_coroutine_threadsafe(self._limit.turn(), self._loop)
        try:
            waiting.result(self._settings.lease)
        except TimeoutError:
            waiting.cancel()
            raise OutcomeError(Defer("waited in vain for a turn to call Salesforce", 1.0)) from None


def create(settings: SalesforceSettings, limit: Limit | None = None) -> SalesforceDestination:
    """No network: the first call signs in. `limit`: of the whole org, over all processes."""
    return SalesforceDestination(settings, limit)
