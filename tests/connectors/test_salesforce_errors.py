"""Every class of error, met over HTTP, and what a delivery is told. No personal data may get into an outcome."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.salesforce.errors import Fault, judge_row
from connectors.salesforce.simulator.schema import FieldDef
from hub.errors import Defer, Outcome, Receipt, Reject, Retry, Unknown
from hub.model import Record
from tests.connectors.salesforce_kit import (
    Org,
    account,
    applied_then_cut,
    applied_then_html,
    applied_then_silence,
    invoice,
    job,
    org,
    refusing,
    replying,
    subscription,
)


async def _one(o: Org, record: Record) -> Outcome:
    return (await o.send(job(1, record)))[0]


def _reject(outcome: Outcome, code: str) -> Reject:
    assert isinstance(outcome, Reject), outcome
    assert outcome.code == code
    assert outcome.fix
    return outcome


@pytest.mark.parametrize(
    ("record", "code", "named"),
    [
        (account(Name=None), "REQUIRED_FIELD_MISSING", "Name"),
        (account(Name="x" * 256), "STRING_TOO_LONG", "Name"),
        (account(Stripe_Mode__c="sandbox"), "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Stripe_Mode__c"),
        (account(Nope__c="x"), "INVALID_FIELD", "Nope__c"),
        (account(CreatedDate="2026-01-01T00:00:00Z"), "INVALID_FIELD_FOR_INSERT_UPDATE", "CreatedDate"),
        (account(Phone=True), "JSON_PARSER_ERROR", "wrong type"),
    ],
)
async def test_bad_data_is_a_dead_letter_that_names_the_field(record: Record, code: str, named: str) -> None:
    async with org() as o:
        assert named in _reject(await _one(o, record), code).cause
        assert o.sim.state()["Account"] == []


async def test_bad_values_of_other_types() -> None:
    async with org() as o:
        await o.send(job(1, account()))
        cases: list[tuple[Record, str]] = [
            (invoice(Total__c=10**14), "NUMBER_OUTSIDE_VALID_RANGE"),
            (invoice(Invoice_Date__c="2026-13-01"), "JSON_PARSER_ERROR"),
            (invoice(Paid_At__c="yesterday"), "JSON_PARSER_ERROR"),
            (invoice(Subscription__c="nonsense"), "MALFORMED_ID"),
            (subscription(Cancel_At_Period_End__c=None), "INVALID_TYPE_ON_FIELD_IN_RECORD"),
        ]
        for record, code in cases:
            _reject(await _one(o, record), code)


async def test_a_validation_rule_is_quoted_without_addresses_and_cut() -> None:
    async with org() as o:
        o.sim.validation_rule("Account", lambda r: True, "Ask jo.doe@example.com first. " + "x" * 500)
        found = _reject(await _one(o, account()), "FIELD_CUSTOM_VALIDATION_EXCEPTION")
        assert "Ask ***@*** first" in found.cause
        assert len(found.cause) <= 300


async def test_what_salesforce_quotes_of_our_data_is_not_kept() -> None:
    async with org() as o:
        secret = "Erika Mustermann " * 20
        for record in (account(Name=secret), account(Stripe_Mode__c="erika@example.com")):
            outcome = await _one(o, record)
            assert "Erika" not in repr(outcome)
            assert "erika" not in repr(outcome)


async def test_a_trigger_that_met_a_lock_is_passing_and_another_failure_is_not() -> None:
    async with org() as o:
        wrapped = "BillingTrigger: AfterInsert caused by: System.DmlException: first error: UNABLE_TO_LOCK_ROW, x"
        o.sim.trigger("Account", lambda r: r["Phone"] == "1", wrapped)
        o.sim.trigger("Account", lambda r: r["Phone"] == "2", "BillingTrigger: Attempt to de-reference a null object")
        locked = await _one(o, account(Phone="1"))
        assert isinstance(locked, Retry)
        assert locked.code == "UNABLE_TO_LOCK_ROW"
        broken = _reject(await _one(o, account(Phone="2")), "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY")
        assert "BillingTrigger" in broken.cause


async def test_a_missing_parent_is_waited_for() -> None:
    async with org() as o:
        outcome = await _one(o, invoice(customer="cus_none"))
        assert isinstance(outcome, Retry)
        assert outcome.code == "PARENT_MISSING"
        await o.send(job(1, account("cus_none")))
        assert isinstance(await _one(o, invoice(customer="cus_none")), Receipt)


async def test_another_unique_field_is_not_ours_to_retry() -> None:
    async with org() as o:
        o.sim.add_field("Account", FieldDef("Erp_Number__c", length=20, unique=True))
        await o.send(job(1, account("cus_1", Erp_Number__c="7")))
        _reject(await _one(o, account("cus_2", Erp_Number__c="7")), "DUPLICATE_VALUE")


async def test_a_duplicate_rule_says_what_the_administrator_can_do() -> None:
    async with org() as o:
        o.sim.duplicate_rule("Account", lambda r: r["Name"] == "Acme")
        assert "merge" in _reject(await _one(o, account(Name="Acme")), "DUPLICATES_DETECTED").fix


async def test_objects_that_are_not_deployed() -> None:
    async with org() as o:
        o.sim.remove_object("Stripe_Invoice__c")
        first, second = await o.send(job(1, account()), job(2, invoice()))
        assert isinstance(first, Receipt)
        assert "deploy" in _reject(second, "NOT_FOUND").fix


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access", Retry),
        (400, "ENTITY_IS_LOCKED", "the entity is locked for editing", Reject),
        (400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", Retry),
        (400, "INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights", Reject),
        (400, "FIELD_INTEGRITY_EXCEPTION", "There's a problem with this state", Reject),
        (400, "SOMETHING_NEW", "never seen", Reject),
        (400, "STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", Defer),
        (401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE", Defer),
        (403, "INSUFFICIENT_ACCESS", "no", Reject),
        (403, "FUNCTIONALITY_NOT_ENABLED", "no", Defer),
        (404, "ENTITY_IS_DELETED", "entity is deleted", Reject),
        (409, "CONFLICT", "conflict", Retry),
        (410, "UNSUPPORTED_API_VERSION", "gone", Defer),
        (500, "UNKNOWN_EXCEPTION", "An unexpected error occurred", Unknown),
        (503, "SERVER_UNAVAILABLE", "try again", Unknown),
    ],
)
async def test_refused_calls(status: int, code: str, message: str, kind: type[Any]) -> None:
    async with org() as o:
        o.front.faults.append(refusing(status, code, message))
        outcome = await _one(o, account())
        assert isinstance(outcome, kind)
        assert outcome.answer.status == status or status in (401, 410)
        # Whatever it was, the next try works: nothing was left behind.
        assert isinstance(await _one(o, account()), Receipt)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, Unknown), (302, Retry), (400, Unknown), (404, Defer), (420, Retry), (429, Defer), (502, Unknown)],
)
async def test_pages_in_place_of_answers(status: int, kind: type[Any]) -> None:
    async with org() as o:
        o.front.faults.append(replying(status, "<html>jo@example.com</html>", "text/html"))
        outcome = await _one(o, account())
        assert isinstance(outcome, kind)
        assert "example.com" not in repr(outcome)
        assert o.sim.state()["Account"] == []


async def test_an_org_that_has_moved_is_found_by_signing_in_again() -> None:
    async with org() as o:
        o.front.faults.append(replying(302, "", "text/html"))
        await _one(o, account())
        assert o.front.logins == 2


@pytest.mark.parametrize("fault", [applied_then_silence, applied_then_cut, applied_then_html])
async def test_a_lost_answer_is_unknown_and_found_afterwards(fault: Any) -> None:
    async with org(timeout=0.4) as o:
        o.front.faults.append(fault)
        first = job(1, account())
        outcome = (await o.send(first))[0]
        assert isinstance(outcome, Unknown)
        assert "example.com" not in repr(outcome)
        found = await o.hub.find(first)
        assert isinstance(found, Receipt)
        assert found.links[0].vendor_id == o.sim.state()["Account"][0]["Id"]


async def test_a_lost_answer_concerns_only_its_own_kind() -> None:
    async with org(timeout=0.4) as o:
        await o.send(job(1, account()))
        o.front.faults += [applied_then_silence]
        outcomes = await o.send(
            job(2, subscription()), job(3, invoice()), job(4, subscription("sub_2"), invoice("in_2"))
        )
        assert [type(x) for x in outcomes] == [Unknown, Receipt, Unknown]
        assert [i["Stripe_Id__c"] for i in o.sim.state()["Stripe_Invoice__c"]] == ["in_1"]


async def test_no_connection_is_a_plain_retry() -> None:
    async with org(base_url="http://127.0.0.1:9") as o:
        outcomes = await o.send(job(1, account()), job(2, invoice()))
        assert [type(x) for x in outcomes] == [Retry, Retry]


async def test_answers_that_do_not_fit() -> None:
    async with org() as o:
        for body in ([], {"odd": 1}, [{"success": True}], [{"success": False}], ["x"]):
            o.front.faults.append(replying(200, body))
            assert isinstance(await _one(o, account()), Unknown), body


def test_of_several_errors_the_permanent_one_decides() -> None:
    outcome = judge_row([Fault("UNABLE_TO_LOCK_ROW"), Fault("STRING_TOO_LONG", "", ("Name",))], "Stripe_Id__c")
    assert isinstance(outcome, Reject)
    assert outcome.code == "STRING_TOO_LONG"
