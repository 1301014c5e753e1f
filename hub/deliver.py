"""One attempt from claim to settle.

    state    all claimed lanes together: per object the newest delivery carries, the others are superseded; one `send`
    ledger   each lane by itself: delivery after delivery, each settled before the next is begun
    log      one sealed batch

Kill the process anywhere in here: the lease runs out, the claim is lost, and the next worker looks before it sends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from hub import log
from hub.compose import Behind, Composer, Plan, Want
from hub.destination import Destination, LogDestination
from hub.errors import Answer, Defer, Outcome, OutcomeError, Receipt, Retry, Unknown
from hub.judge import Rules, judge, poison, sign
from hub.legible import legible
from hub.mapping import Mappings
from hub.metrics import Metrics
from hub.model import Batch, Delivery, DeliveryState, Job
from hub.retry import exhausted
from hub.routing import Router
from hub.store import AttemptLog, Closing, LaneClaim, Release, Settlement, Sign

Settle = Callable[[Closing], Awaitable[set[int]]]
"""Writes outcomes durably, however long the database is away; returns the delivery ids that were still ours."""

SENDING = 0.8
"""A call is given up after this share of the lease: what became of it is then written down within the rest."""
Pause: TypeAlias = tuple[str, datetime, str]

_log = log.get()


class Deliverer:
    """Carries out claims for one destination."""

    def __init__(
        self,
        destination: Destination,
        mappings: Mappings,
        composer: Composer,
        router: Router,
        settle: Settle,
        clock: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self.destination, self.policy = destination, destination.policy
        self._mappings, self._composer, self._router = mappings, composer, router
        self._settle, self._clock, self._rng, self._metrics = settle, clock, rng, metrics
        self.mapped = bool(mappings.for_destination(destination.name))
        """A destination without mappings gets the bare events (the one that fetches thin notifications)."""

    async def state(self, claims: Sequence[LaneClaim]) -> None:
        """Coalesce, send, settle: everything that was claimed, in one go."""
        settlements: list[Settlement] = []
        carriers: list[Delivery] = []
        for claim in claims:
            newest: dict[str, Delivery] = {}
            for delivery in claim.deliveries:
                document = _document(delivery)
                older = newest.pop(document, None)
                if older is not None:
                    settlements.append(Settlement(older, DeliveryState.SUPERSEDED, superseded_by=delivery.id))
                    # What is unknown of the older write is unknown of the object.
                    delivery = replace(delivery, was_unknown=delivery.was_unknown or older.was_unknown)  # noqa: PLW2901
                newest[document] = delivery
            for carrier in newest.values():
                if carrier.was_lost and exhausted(carrier.first_failure_at, self._now(), self.policy):
                    settlements.append(poison(carrier))
                else:
                    carriers.append(carrier)
        pauses: list[Pause] = []
        signs: list[Sign] = []
        begun = self._clock()
        for start in range(0, len(carriers), self.policy.batch):
            if self._late(begun):
                settlements += [_back(carrier, self._now(), None) for carrier in carriers[start:]]
                break
            results, said = await self._attempt(carriers[start : start + self.policy.batch])
            settlements += [settled for settled, _ in results]
            pauses += [pause for _, pause in results if pause]
            signs += [said] if said else []
        releases = tuple(Release(c.destination, c.lane, c.claim) for c in claims)
        await self._write(Closing(tuple(settlements), releases, tuple(dict.fromkeys(pauses)), signs=tuple(signs)))

    async def ledger(self, claim: LaneClaim, stopping: Callable[[], bool]) -> None:
        """One lane, in order. What follows a document that is not finished waits with it; other documents go on."""
        release = (Release(claim.destination, claim.lane, claim.claim),)
        waits: dict[str, datetime] = {}
        held: dict[str, int] = {}
        rest = list(claim.deliveries)
        if not rest:
            await self._write(Closing((), release))
        begun = self._clock()
        while rest:
            delivery = rest.pop(0)
            document = _document(delivery)
            pauses: tuple[Pause, ...] = ()
            signs: tuple[Sign, ...] = ()
            until = waits.get(document, delivery.blocked_until)
            by = held.get(document, delivery.held_by)
            if stopping() or self._late(begun):
                settled = _back(delivery, self._now(), None)
            elif by is not None:
                settled = _held(delivery, by, document)
            elif until is not None:
                settled = _back(delivery, until, f"after an earlier delivery of {document}")
            elif (customer := await self._customer(delivery)) is not None:
                note = f"moved into the lane of {customer}, whose it is"
                settled = Settlement(delivery, DeliveryState.WAITING, due_at=self._now(), lane=customer, note=note)
            elif delivery.was_lost and exhausted(delivery.first_failure_at, self._now(), self.policy):
                settled = poison(delivery)
            else:
                ((settled, pause),), said = await self._attempt([delivery])
                pauses = (pause,) if pause else ()
                signs = (said,) if said else ()
            if settled.due_at is not None and settled.lane is None:
                waits[document] = settled.due_at
            elif settled.state is DeliveryState.DEAD:
                held[document] = delivery.id
            ours = await self._write(Closing((settled,), () if rest else release, pauses, signs=signs))
            if delivery.id not in ours:
                return  # the claim was lost: another worker has the lane now

    async def _customer(self, delivery: Delivery) -> str | None:
        """The lane it should be in, if it is in another and was not tried there yet: a payment that came before its
        invoice. In two lanes at once both would write the invoice."""
        if not self.mapped or delivery.was_lost or delivery.was_unknown:
            return None
        return await self._composer.customer_of(delivery.event, delivery.lane)

    async def _attempt(
        self, deliveries: Sequence[Delivery]
    ) -> tuple[list[tuple[Settlement, Pause | None]], Sign | None]:
        """Compose and send these deliveries; a settlement each, with the pause its outcome asks for, and what it says
        about the vendor.
        """
        started, ticks = self._now(), self._clock()
        outcomes, heard = await self._outcomes(deliveries)
        self._note_quota()
        ended = self._now()
        share = max(0, round((self._clock() - ticks) * 1000))
        results: list[tuple[Settlement, Pause | None]] = []
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            if isinstance(outcome, Behind):
                results.append((self._behind(delivery, outcome), None))
                continue
            attempt = AttemptLog(started, share, "receipt")
            settled = judge(delivery, outcome, Rules(self.policy, ended, self._rng), attempt)
            if isinstance(outcome, Receipt) and "tax_difference" in outcome.answer.detail:
                self._metrics.tax_differences.labels(self.destination.name).inc()
            if isinstance(outcome, Receipt) and outcome.follow_ups:
                settled = replace(settled, follow_ups=tuple(self._router.decide(e, ended) for e in outcome.follow_ups))
            pause = None
            if isinstance(outcome, Defer) and outcome.pause:
                pause = (self.destination.name, ended + timedelta(seconds=outcome.delay), outcome.reason)
            self._tell(delivery, settled)
            results.append((settled, pause))
        lanes = {d.lane for d in deliveries}
        return results, sign(self.destination.name, lanes.pop() if len(lanes) == 1 else None, heard)

    def _behind(self, delivery: Delivery, behind: Behind) -> Settlement:
        if behind.held_by is not None:
            return _held(delivery, behind.held_by, behind.document)
        return _back(delivery, behind.until or self._now(), f"after a delivery of {behind.document}, which it needs")

    async def _outcomes(self, deliveries: Sequence[Delivery]) -> tuple[list[Outcome | Behind], list[Outcome | None]]:
        """An outcome each, or what it waits for; and those that came from the destination, which composing them did
        not.
        """
        outcomes: dict[int, Outcome | Behind] = {}
        heard: list[Outcome | None] = []
        jobs: list[Job] = []
        looking: list[Job] = []
        if self.mapped:
            wants = [self._want(d) for d in deliveries]
            plans = await self._composer.compose([w for w in wants if w], self._now())
            for delivery, want in zip(deliveries, wants, strict=True):
                plan = plans.pop(0) if want else Plan((), "its mapping was taken out since", "")
                if not isinstance(plan, Plan):
                    outcomes[delivery.id] = await self._stopped(delivery, plan)
                elif not plan.records:
                    outcomes[delivery.id] = Receipt(note=plan.note or "nothing to do")
                else:
                    job = Job(delivery.id, delivery.event, plan.records, delivery.claim)
                    (looking if delivery.was_unknown else jobs).append(job)
        else:
            jobs = [Job(d.id, d.event, (), d.claim) for d in deliveries]
        begun = self._clock()
        for job in looking:
            if self._late(begun):
                # A whole batch that died with its worker is looked for one by one, which may outlast the lease.
                outcomes[job.delivery_id] = Defer("there was no time left to look for it: the next claim will", 0.0)
                continue
            answer = await self._guard([job], lambda job=job: self._find(job))  # type: ignore[misc]
            heard.append(answer[0])
            if answer[0] is None:
                jobs.append(job)
            else:
                outcomes[job.delivery_id] = answer[0]
        if jobs:
            with self._metrics.attempt_seconds.labels(self.destination.name).time():
                answers = await self._guard(jobs, lambda: self.destination.send(jobs))
            for job, answered in zip(jobs, answers, strict=True):
                outcome = answered or Retry("no_outcome", "the destination gave no outcome for this job")
                outcomes[job.delivery_id] = outcome
                heard.append(outcome)
        told = (outcomes[d.id] for d in deliveries)
        return [o if isinstance(o, Behind) else legible(o) for o in told], heard

    async def _stopped(self, delivery: Delivery, outcome: Outcome | Behind) -> Outcome | Behind:
        """What could not be composed. A destination may have something to do about that (`stopped`: a draft without a
        usable address is held like one that AvaTax cannot tax)."""
        stopped = getattr(self.destination, "stopped", None)
        if stopped is None or isinstance(outcome, Behind):
            return outcome
        job = Job(delivery.id, delivery.event, (), delivery.claim)
        (answer,) = await self._guard([job], lambda: _listed(stopped(job, outcome)))
        return answer or outcome

    def _late(self, begun: float) -> bool:
        """Nothing is begun so late that the lease could end before it: others would then do it at the same time."""
        return self._clock() - begun > self.policy.lease * (1 - SENDING)

    async def _find(self, job: Job) -> list[Outcome | None]:
        return [await self.destination.find(job)]

    async def _guard(
        self, jobs: Sequence[Job], call: Callable[[], Awaitable[Sequence[Outcome | None]]]
    ) -> Sequence[Outcome | None]:
        """A connector's own trouble becomes an outcome. What it raises unexpectedly may have come after the write."""
        try:
            answers = await asyncio.wait_for(call(), self.policy.lease * SENDING)
        except OutcomeError as error:
            return [error.outcome] * len(jobs)
        except TimeoutError:
            return [Unknown(f"no answer within {self.policy.lease * SENDING:.0f} s")] * len(jobs)
        except Exception as error:  # noqa: BLE001 - every kind becomes an outcome that is written down
            _log.exception("connector_raised", destination=self.destination.name, error=type(error).__name__)
            return [Unknown(f"the connector raised {type(error).__name__}", Answer())] * len(jobs)
        if len(answers) != len(jobs):
            return [Unknown(f"the connector gave {len(answers)} outcomes for {len(jobs)} jobs")] * len(jobs)
        return answers

    def _note_quota(self) -> None:
        """The gauges of a vendor that says how much of a day's calls is used (`quota`)."""
        quota: tuple[int, int] | None = getattr(self.destination, "quota", None)
        if quota is not None:
            self._metrics.quota_used.labels(self.destination.name).set(quota[0])
            self._metrics.quota_allowed.labels(self.destination.name).set(quota[1])

    def _want(self, delivery: Delivery) -> Want | None:
        event = delivery.event
        mappings = self._mappings.for_event(self.destination.name, event.type)
        if not mappings or event.object_id is None or event.object_type is None:
            return None
        lane = delivery.lane if self.policy.kind == "ledger" else None
        return Want(event, event.object_type, event.object_id, mappings, lane, delivery.was_unknown)

    async def _write(self, closing: Closing) -> set[int]:
        ours = await self._settle(closing)
        late = sum(s.delivery.id not in ours for s in closing.settlements)
        if late:
            self._metrics.late.labels(self.destination.name).inc(late)
            _log.warning("late_settlement", destination=self.destination.name, deliveries=late)
        for settled in closing.settlements:
            if settled.delivery.id in ours:
                self._metrics.settled.labels(self.destination.name, settled.state.value).inc()
        return ours

    def _tell(self, delivery: Delivery, settled: Settlement) -> None:
        attempt = settled.attempt
        assert attempt is not None
        self._metrics.attempts.labels(self.destination.name, attempt.outcome).inc()
        _log.info(
            "attempted",
            destination=self.destination.name,
            delivery=delivery.id,
            event_id=delivery.event.id,
            type=delivery.event.type,
            object=delivery.event.object_id,
            outcome=attempt.outcome,
            state=settled.state.value,
            code=attempt.code,
            ms=attempt.duration_ms,
            request_id=attempt.request_id,
            failures=delivery.failures + settled.failed,
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


class LogDeliverer:
    """Carries out sealed batches for one log destination."""

    def __init__(
        self,
        destination: LogDestination,
        settle: Settle,
        clock: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self.destination, self.policy = destination, destination.policy
        self._settle, self._clock, self._rng, self._metrics = settle, clock, rng, metrics

    async def batch(self, claim: LaneClaim, batch: Batch) -> None:
        """Send one batch; its deliveries share the outcome and one line in the attempts table."""
        lost = next((d for d in claim.deliveries if d.was_lost), None)
        if lost is not None and exhausted(lost.first_failure_at, self._now(), self.policy):
            await self._give_up(claim)
            return
        started, ticks = self._now(), self._clock()
        outcome = legible(await self._send(batch))
        ended = self._now()
        first = claim.deliveries[0]
        took = max(0, round((self._clock() - ticks) * 1000))
        verdict = judge(first, outcome, Rules(self.policy, ended, self._rng), AttemptLog(started, took, "receipt"))
        attempt = verdict.attempt
        assert attempt is not None
        name = self.destination.name
        self._metrics.attempts.labels(name, attempt.outcome).inc()
        settlements = [replace(verdict, delivery=d, attempt=None, links=()) for d in claim.deliveries]
        settlements[0] = replace(settlements[0], links=verdict.links)
        pauses: tuple[Pause, ...] = ()
        if isinstance(outcome, Defer) and outcome.pause:
            pauses = ((name, ended + timedelta(seconds=outcome.delay), outcome.reason),)
        done = batch.id if isinstance(outcome, Receipt) else None
        said = sign(name, None, [outcome])
        ours = await self._settle(
            Closing(
                tuple(settlements),
                (Release(claim.destination, claim.lane, claim.claim),),
                pauses,
                ((batch.id, attempt),),
                done,
                (said,) if said else (),
            )
        )
        self._metrics.settled.labels(name, verdict.state.value).inc(len(ours))
        _log.info(
            "attempted",
            destination=name,
            batch=batch.id,
            rows=len(batch.jobs),
            outcome=attempt.outcome,
            state=verdict.state.value,
            code=attempt.code,
            ms=attempt.duration_ms,
            request_id=attempt.request_id,
        )

    async def _give_up(self, claim: LaneClaim) -> None:
        settlements = tuple(map(poison, claim.deliveries))
        ours = await self._settle(Closing(settlements, (Release(claim.destination, claim.lane, claim.claim),)))
        self._metrics.settled.labels(self.destination.name, DeliveryState.DEAD.value).inc(len(ours))

    async def _send(self, batch: Batch) -> Outcome:
        try:
            return await asyncio.wait_for(self.destination.send_batch(batch), self.policy.lease * SENDING)
        except OutcomeError as error:
            return error.outcome
        except TimeoutError:
            return Retry("timeout", f"no answer within {self.policy.lease * SENDING:.0f} s")
        except Exception as error:  # noqa: BLE001 - the object's name makes a repeat safe, whatever happened
            _log.exception("connector_raised", destination=self.destination.name, error=type(error).__name__)
            return Retry("connector_raised", f"the connector raised {type(error).__name__}")

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


async def _listed(answer: Awaitable[Outcome]) -> list[Outcome]:
    return [await answer]


def _document(delivery: Delivery) -> str:
    return delivery.event.object_id or delivery.event.id


def _held(delivery: Delivery, by: int, document: str) -> Settlement:
    note = f"held by delivery {by}, a dead letter of {document}"
    return Settlement(delivery, DeliveryState.HELD, held_by=by, note=note)


def _back(delivery: Delivery, due_at: datetime, note: str | None) -> Settlement:
    """Give a delivery back untried and uncounted."""
    state = DeliveryState.UNKNOWN if delivery.was_unknown else DeliveryState.WAITING
    return Settlement(delivery, state, due_at=due_at, note=note)
