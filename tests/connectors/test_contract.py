"""What every connector must do, whatever goes wrong: each through its real client library, over HTTP, against its
simulator behind the sandbox's door, with jobs that the real mappings made of real Stripe objects.

Salesforce, NetSuite, AvaTax and the lake write; `stripe` only reads, and its few promises stand at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connectors.sandbox.app import Sandbox
from hub.destination import Policy
from hub.errors import Defer, Outcome, OutcomeError, Receipt, Reject, Retry, Unknown
from hub.model import Batch, Job, Record
from tests.connectors.contract import (
    JOBS,
    ONE_EACH,
    PERSONAL,
    RIGS,
    SECRETS,
    Case,
    Rig,
    mapped_job,
    rigged,
    stored,
)
from tests.connectors.happenings import EMAIL, NAME


@pytest.fixture
async def rig(sandbox: tuple[str, Sandbox], request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """The connector of the test's case, with a vendor as new. Afterwards nothing it answered may have told a secret."""
    case = request.getfixturevalue("case") if "case" in request.fixturenames else None
    async with rigged(case.connector if case else request.getfixturevalue("name"), sandbox) as rig:
        yield rig
    for outcome in rig.seen:
        assert [told for told in (*PERSONAL, *SECRETS) if told in outcome] == [], outcome


@pytest.fixture(scope="module")
def undisturbed() -> dict[Case, list[dict[str, Any]]]:
    """Filled by `wanted`."""
    return {}


@pytest.fixture
async def wanted(rig: Rig, case: Case, undisturbed: dict[Case, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the vendor holds after an undisturbed write."""
    if case not in undisturbed:
        outcome = await rig.send(made(rig, case), case.make())
        assert isinstance(outcome, Receipt), outcome
        undisturbed[case] = rig.held()
        await rig.side("POST", "/reset")
    return undisturbed[case]


every_job = pytest.mark.parametrize("case", JOBS, ids=str)
every_writer = pytest.mark.parametrize("case", ONE_EACH, ids=str)


def made(rig: Rig, case: Case, **changes: Any) -> Any:
    return rig.destination(late_commit=case.mapping == "paid", **changes)


@every_job
async def test_a_write_answers_with_one_link_per_record_that_names_the_vendors_record(rig: Rig, case: Case) -> None:
    what = case.make()
    outcome = await rig.send(made(rig, case), what)
    assert isinstance(outcome, Receipt), outcome
    if isinstance(what, Batch):
        (link,) = outcome.links
        (held,) = rig.held()
        assert (link.object_id, link.key, link.digest) == ("batch:1", held["key"], held["metadata"]["hub-sha256"])
        assert held["rows"] == len(what.jobs)
        return
    assert [(k.object_id, k.record, k.key, k.digest, k.mapping) for k in outcome.links] == [
        (r.object_id, r.record, r.key, r.digest, r.mapping) for r in what.records
    ]
    assert {k.key: k.vendor_id for k in outcome.links} == rig.ids()


@every_job
async def test_it_takes_the_writes_it_takes_and_no_more(rig: Rig, case: Case) -> None:
    await rig.send(made(rig, case), case.make())
    assert len(await rig.written()) == case.calls


@every_job
@pytest.mark.parametrize("attempt", [1, 2])
async def test_the_same_job_again_changes_nothing(rig: Rig, case: Case, attempt: int) -> None:
    destination = made(rig, case)
    assert isinstance(await rig.send(destination, case.make()), Receipt)
    held = rig.held()
    again = await rig.send(destination, case.make(), attempt)
    assert isinstance(again, Receipt), again
    assert rig.held() == held


@every_job
async def test_two_workers_with_the_same_job_at_once_write_it_once(rig: Rig, case: Case, wanted: Any) -> None:
    workers = made(rig, case), made(rig, case)
    outcomes = await asyncio.gather(*(rig.send(worker, case.make()) for worker in workers))
    assert not [o for o in outcomes if isinstance(o, Reject)], outcomes
    for worker, outcome in zip(workers, outcomes, strict=True):
        if not isinstance(outcome, Receipt):
            assert isinstance(await rig.settle(worker, case.make()), Receipt)
    assert rig.held() == wanted


def doubtful(outcome: Outcome, what: Any) -> bool:
    """A `log` destination may simply try again: its object's name tells a repeat."""
    return isinstance(outcome, Retry) if isinstance(what, Batch) else isinstance(outcome, Unknown)


@every_job
@pytest.mark.parametrize("how", ["lost_reply", "lost_reply_html", "lost_reply_500"])
async def test_a_reply_lost_after_the_write_is_never_taken_for_either_and_ends_with_one_record(
    rig: Rig, case: Case, how: str, wanted: Any
) -> None:
    destination, what = made(rig, case), case.make()
    for nth in range(1, case.calls + case.looks + 1):
        await rig.side("POST", "/reset")
        await rig.fault(how, times=rig.kind.tries, nth=nth)
        outcome = await rig.send(destination, what)
        assert doubtful(outcome, what), (nth, outcome)
        settled = await rig.settle(destination, what)
        assert isinstance(settled, Receipt), (nth, settled)
        assert len(settled.links) == (1 if isinstance(what, Batch) else len(what.records))
        assert rig.held() == wanted, nth


@every_job
async def test_what_landed_before_a_lost_reply_is_found_without_writing_again(rig: Rig, case: Case) -> None:
    destination, what = made(rig, case), case.make()
    await rig.fault("lost_reply", times=rig.kind.tries, nth=case.calls + case.looks)
    assert doubtful(await rig.send(destination, what), what)
    before = await rig.written()
    assert isinstance(await rig.settle(destination, what), Receipt)
    after = (await rig.written())[len(before) :]
    assert after == ([412] if isinstance(what, Batch) else []), "the lake looks by a write that the store refuses"


@every_job
@pytest.mark.parametrize("how", ["drop", "html", "status"])
async def test_what_did_not_arrive_is_never_a_receipt_and_a_plain_send_mends_it(
    rig: Rig, case: Case, how: str, wanted: Any
) -> None:
    destination, what = made(rig, case), case.make()
    more: dict[str, Any] = {"status": 500, "body": "oops"} if how == "status" else {}
    for nth in range(1, case.calls + case.looks + 1):
        await rig.side("POST", "/reset")
        await rig.fault(how, times=rig.kind.tries, nth=nth, **more)
        outcome = await rig.send(destination, what)
        assert isinstance(outcome, Unknown | Retry), (nth, outcome)
        assert rig.held() != wanted
        if isinstance(outcome, Unknown):
            assert await destination.find(what) is None, "there is nothing whole to find"
        assert isinstance(await rig.send(destination, what, 2), Receipt)
        assert rig.held() == wanted, nth


@every_writer
async def test_a_limit_defers_and_writes_nothing(rig: Rig, case: Case) -> None:
    destination, what = made(rig, case), case.make()
    await rig.fault("limit", times=rig.kind.tries)
    outcome = await rig.send(destination, what)
    assert isinstance(outcome, Defer), outcome
    assert (outcome.pause, outcome.limited) == (True, True), "all processes call less for a while"
    assert outcome.delay > 0
    assert rig.held() == []
    assert isinstance(await rig.send(destination, what, 2), Receipt)


@every_writer
async def test_an_expired_session_is_renewed_within_the_send(rig: Rig, case: Case) -> None:
    destination, what = made(rig, case), case.make()
    await destination.ping()
    await rig.fault("expired", times=1)
    outcome = await rig.send(destination, what)
    if rig.kind.session:
        assert isinstance(outcome, Receipt), outcome
        return
    # There is no session: these are credentials that no longer hold, and only a person can renew them.
    assert isinstance(outcome, Defer), outcome
    assert outcome.pause
    assert rig.held() == []
    assert isinstance(await rig.send(destination, what, 2), Receipt)


@every_writer
async def test_a_session_that_stays_refused_pauses_the_destination(rig: Rig, case: Case) -> None:
    destination = made(rig, case)
    await rig.fault("expired", times=None)
    outcome = await rig.send(destination, case.make())
    assert isinstance(outcome, Defer), outcome
    assert outcome.pause
    assert outcome.delay >= 60
    assert rig.held() == []


@pytest.mark.parametrize("case", [c for c in ONE_EACH if RIGS[c.connector].hasty], ids=str)
async def test_a_vendor_that_does_not_answer_is_given_up_in_time(rig: Rig, case: Case, wanted: Any) -> None:
    destination, what = made(rig, case, **(rig.kind.hasty or {})), case.make()
    await destination.ping()
    await rig.fault("latency", delay_ms=2500)
    began = time.monotonic()
    outcome = await rig.send(destination, what)
    took = time.monotonic() - began
    assert isinstance(outcome, Unknown), outcome
    assert took < 2.4
    while await under_way(rig):  # noqa: ASYNC110 - the vendor is still at it in another thread, and may yet write
        await asyncio.sleep(0.05)
    assert isinstance(await rig.settle(made(rig, case), what), Receipt)
    assert rig.held() == wanted


async def under_way(rig: Rig) -> int:
    vendor = rig.kind.vendor
    return int((await rig.side("GET", f"/requests?vendor={vendor}&limit=1"))["vendors"][vendor]["in_flight"])


# The reader ----------------------------------------------------------------------------------------------------------


def notified(rig: Rig) -> Job:
    """The job of a thin notification about a customer who exists."""
    stripe: Any = rig.sandbox.simulators["stripe"]
    customer = stripe.call("POST", "/v1/customers", {"name": NAME, "email": EMAIL})["id"]
    return Job(1, stored(stripe.emit_thin("v1.customer.updated", customer)))


@pytest.mark.parametrize("name", ["stripe"])
async def test_reading_twice_gives_the_same_event_to_accept(rig: Rig, name: str) -> None:
    destination, job = rig.destination(), notified(rig)
    outcomes = [await rig.send(destination, job), await rig.send(destination, job, 2)]
    for outcome in outcomes:
        assert isinstance(outcome, Receipt), outcome
        (event,) = outcome.follow_ups
        assert (event.id, event.type, event.object_id) == (
            f"{job.event.id}:fetched", "customer.updated", job.event.object_id,
        )  # fmt: skip
        assert NAME.encode() in event.body


@pytest.mark.parametrize("name", ["stripe"])
@pytest.mark.parametrize(
    ("how", "more", "wanted"),
    [
        ("drop", {}, Retry),
        ("lost_reply", {}, Retry),
        ("html", {}, Retry),
        ("limit", {}, Defer),
        ("expired", {}, Defer),
        ("latency", {"delay_ms": 1500}, Retry),
    ],
)
async def test_a_read_that_fails_is_no_receipt_and_never_in_doubt(
    rig: Rig, name: str, how: str, more: dict[str, Any], wanted: type
) -> None:
    destination, job = rig.destination(**(rig.kind.hasty or {})), notified(rig)
    await rig.fault(how, **more)
    outcome = await rig.send(destination, job)
    assert isinstance(outcome, wanted), outcome
    assert not isinstance(outcome, Defer) or outcome.pause == (how == "expired")
    assert isinstance(await rig.send(rig.destination(), job, 2), Receipt)


# Settings, policy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RIGS)
async def test_a_good_ping_says_as_whom_we_are_connected(rig: Rig, name: str) -> None:
    said = await rig.destination().ping()
    assert rig.kind.names in said
    assert "\n" not in said
    assert [told for told in SECRETS if told in said] == []


@pytest.mark.parametrize("name", RIGS)
async def test_a_ping_with_wrong_credentials_names_the_setting_and_not_the_secret(rig: Rig, name: str) -> None:
    if not rig.kind.wrong:  # the simulated S3 checks no signature: this is what the real one answers to a HEAD
        await rig.fault("status", status=403, match="^/", times=None)
    with pytest.raises(OutcomeError) as caught:
        await rig.destination(**rig.kind.wrong).ping()
    outcome = caught.value.outcome
    assert isinstance(outcome, Reject | Defer)
    said = f"{outcome.cause} {outcome.fix}" if isinstance(outcome, Reject) else outcome.reason
    assert rig.kind.prefix in said
    assert [v for v in rig.kind.wrong.values() if v in str(caught.value)] == []


def slowest(rig: Rig, policy: Policy) -> float:
    """Seconds the slowest send can take with the defaults, from the time-outs each connector documents."""
    return {
        "salesforce": 120.0,  # stops beginning calls when the last could outlast the lease
        "netsuite": 4 * 120.0,  # customer, invoice, payment, and one look
        "avalara": 7 * (3.05 + 1.5 * 20.0),  # at most seven calls, each ended by its deadline
        "s3_lake": 2 * 2 * (5.0 + 20.0),  # a put and a look, two tries each
        "stripe": 2 * 3 * 20.0 + 2 * 10.0,  # two reads of three tries, two waits for a turn
    }[rig.name]


@pytest.mark.parametrize("name", RIGS)
async def test_the_policy_gives_a_send_the_time_it_may_take(rig: Rig, name: str) -> None:
    destination = rig.destination(**({"retries": 2} if name == "stripe" else {}))
    policy: Policy = destination.policy
    assert destination.name == name
    assert policy.kind == {"salesforce": "state", "s3_lake": "log"}.get(name, "ledger")
    assert policy.lease >= slowest(rig, policy)
    assert policy.slots >= 1
    assert 1 <= policy.batch <= (200 if policy.kind == "state" else 5000)
    assert policy.kind != "ledger" or policy.batch == 1
    assert 0 < policy.retry_first <= policy.retry_cap <= policy.budget


def test_the_jobs_are_what_they_say() -> None:
    """By hand: 3 x 20.00 = 60.00, less 10 percent = 54.00, 8 percent of that is 4.32: 58.32."""
    job = mapped_job("salesforce", "invoice", "invoice.paid")
    own: Record = job.records[-1]
    assert [str(own.fields[f]) for f in ("Subtotal__c", "Tax__c", "Total__c")] == ["60.00", "4.32", "58.32"]
    assert any(told in repr(job) for told in PERSONAL), "else that they are kept out of outcomes would prove nothing"
