"""What is written, in how many calls, and what each delivery is told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from starlette.applications import Starlette
from starlette.routing import Mount

from connectors.salesforce.destination import create
from connectors.salesforce.sandbox_env import environment
from connectors.salesforce.settings import SalesforceSettings
from hub.errors import Defer, Receipt, Reject, Retry, Unknown
from tests.connectors.salesforce_kit import (
    account,
    applied_then_silence,
    invoice,
    job,
    org,
    receipts,
    record,
    refusing,
    replying,
    subscription,
)


async def test_parents_and_children_in_three_calls() -> None:
    async with org() as o:
        sub = subscription(Status__c="active", Cancel_At_Period_End__c=False)
        bill = invoice(Subscription__r={"Stripe_Id__c": "sub_1"}, Total__c=Decimal("10.50"))
        got = receipts(await o.send(job(1, account(), sub, bill), job(2, account("cus_2"))))

        assert [c.path for c in o.front.calls] == [
            "/services/data/v67.0/composite/sobjects/Account/Stripe_Customer_Id__c",
            "/services/data/v67.0/composite/sobjects/Stripe_Subscription__c/Stripe_Id__c",
            "/services/data/v67.0/composite/sobjects/Stripe_Invoice__c/Stripe_Id__c",
        ]
        state = o.sim.state()
        assert [a["Stripe_Customer_Id__c"] for a in state["Account"]] == ["cus_1", "cus_2"]
        first = state["Account"][0]["Id"]
        assert state["Stripe_Subscription__c"][0]["Account__c"] == first
        assert state["Stripe_Invoice__c"][0]["Account__c"] == first
        assert state["Stripe_Invoice__c"][0]["Subscription__c"] == state["Stripe_Subscription__c"][0]["Id"]
        assert [(x.record, x.key, x.vendor_id) for x in got[0].links] == [
            ("Account", "cus_1", first),
            ("Stripe_Subscription__c", "sub_1", state["Stripe_Subscription__c"][0]["Id"]),
            ("Stripe_Invoice__c", "in_1", state["Stripe_Invoice__c"][0]["Id"]),
        ]
        assert got[0].links[2].digest == bill.digest
        assert got[0].links[2].mapping == "salesforce/test@1"
        assert o.hub.quota == (3, 100_000)


async def test_the_same_again_updates_and_keeps_the_id() -> None:
    async with org() as o:
        before = receipts(await o.send(job(1, account(Phone="1"))))[0].links[0].vendor_id
        after = receipts(await o.send(job(2, account(Phone="2"))))[0].links[0].vendor_id
        assert before == after
        assert [a["Phone"] for a in o.sim.state()["Account"]] == ["2"]


async def test_ids_that_differ_only_by_case_are_two_records() -> None:
    async with org() as o:
        receipts(await o.send(job(1, account("cus_aB")), job(2, account("cus_Ab"))))
        assert len(o.sim.state()["Account"]) == 2


async def test_one_record_wanted_by_many_jobs_goes_once_and_the_last_wins() -> None:
    async with org() as o:
        old, new = account(Phone="old"), replace(account(Phone="new"), digest="newer")
        got = receipts(await o.send(job(1, old, invoice("in_1")), job(2, new), job(3, new, invoice("in_2"))))
        assert len(o.front.calls[0].json["records"]) == 1
        assert o.sim.state()["Account"][0]["Phone"] == "new"
        # Each job's link says what is there now, not what the job would have written.
        assert [r.links[0].digest for r in got] == ["newer", "newer", "newer"]


async def test_more_than_two_hundred_records_go_in_two_calls() -> None:
    async with org() as o:
        jobs = [job(n, account(f"cus_{n}")) for n in range(201)]
        got = receipts(await o.send(*jobs))
        assert [len(c.json["records"]) for c in o.front.calls] == [200, 1]
        assert [r.links[0].key for r in got] == [f"cus_{n}" for n in range(201)]
        assert o.sim.record("Account", "cus_200")["Id"] == got[200].links[0].vendor_id


async def test_amounts_go_digit_for_digit() -> None:
    async with org() as o:
        cases = {"in_jpy": "1200", "in_usd": "1234567890.10", "in_kwd": "0.005", "in_neg": "-19.90", "in_big": "1E+3"}
        await o.send(job(1, account()), *[job(2, invoice(k, Total__c=Decimal(v))) for k, v in cases.items()])
        raw = o.front.calls[1].body
        for text in (b'"Total__c":1200}', b'"Total__c":1234567890.10}', b'"Total__c":0.005}', b'"Total__c":-19.90}'):
            assert text in raw
        assert b'"Total__c":1000}' in raw
        found = {i["Stripe_Id__c"]: i["Total__c"] for i in o.sim.state()["Stripe_Invoice__c"]}
        assert found == {
            "in_jpy": "1200.0",
            "in_usd": "1234567890.1",
            "in_kwd": "0.005",
            "in_neg": "-19.9",
            "in_big": "1000.0",
        }


async def test_every_call_names_the_hub_and_does_not_ask_for_pretty_answers() -> None:
    async with org() as o:
        await o.send(job(1, account(), invoice()))
        assert {c.headers["sforce-call-options"] for c in o.front.calls} == {"client=billinghub"}
        assert all("x-prettyprint" not in c.headers for c in o.front.calls)
        assert all("sforce-duplicate-rule-header" not in c.headers for c in o.front.calls)


async def test_a_refused_parent_decides_for_its_children() -> None:
    async with org() as o:
        o.sim.validation_rule("Account", lambda r: r["Phone"] == "bad", "Phone is wrong", "Phone")
        poor = account(Phone="bad")
        outcomes = await o.send(
            job(1, poor), job(2, poor, invoice()), job(3, account("cus_2"), invoice("in_2", "cus_2"))
        )
        assert isinstance(outcomes[0], Reject)
        assert isinstance(outcomes[1], Reject)
        assert outcomes[1].code == "FIELD_CUSTOM_VALIDATION_EXCEPTION"
        assert outcomes[1].cause.startswith("the Account cus_1 it belongs to was refused: a validation rule")
        assert isinstance(outcomes[2], Receipt)
        assert [i["Stripe_Id__c"] for i in o.sim.state()["Stripe_Invoice__c"]] == ["in_2"]


async def test_a_locked_parent_makes_its_children_wait_too() -> None:
    async with org() as o:
        await o.send(job(1, account()))
        o.sim.lock("Account", "cus_1")
        outcomes = await o.send(
            job(2, account(Phone="1"), invoice()), job(3, invoice("in_2")), job(4, account("cus_2"))
        )
        assert [type(x) for x in outcomes] == [Retry, Retry, Receipt]
        assert isinstance(outcomes[1], Retry)
        assert outcomes[1].code == "UNABLE_TO_LOCK_ROW"
        o.sim.unlock()
        receipts(await o.send(job(2, account(Phone="1"), invoice()), job(3, invoice("in_2"))))


async def test_an_unknown_field_that_fails_the_whole_call_costs_its_neighbours_nothing() -> None:
    async with org() as o:
        jobs = [job(n, account(f"cus_{n}", **({"Nope__c": 1} if n == 77 else {}))) for n in range(200)]
        outcomes = await o.send(*jobs)
        bad = outcomes.pop(77)
        assert isinstance(bad, Reject)
        assert bad.code == "INVALID_FIELD"
        assert "Nope__c" in bad.cause
        receipts(outcomes)
        assert [len(c.json["records"]) for c in o.front.calls] == [200, 199]


async def test_an_unknown_field_that_fails_its_row_only() -> None:
    async with org() as o:
        o.sim.store.unknown_field_fails_call = False
        good, bad = await o.send(job(1, account()), job(2, account("cus_2", Nope__c="x")))
        assert isinstance(good, Receipt)
        assert isinstance(bad, Reject)
        assert len(o.front.calls) == 1


async def test_when_no_record_of_a_kind_can_be_written_one_call_says_so() -> None:
    async with org() as o:
        o.sim.remove_field("Account", "Hub_Mapping__c")
        outcomes = await o.send(*[job(n, account(f"cus_{n}", Hub_Mapping__c="x")) for n in range(200)])
        assert {type(x) for x in outcomes} == {Reject}
        assert len(o.front.calls) == 1


async def test_a_value_of_the_wrong_type_is_found_by_halving() -> None:
    async with org() as o:
        jobs = [job(n, account(f"cus_{n}", **({"Phone": 5} if n in (3, 150) else {}))) for n in range(200)]
        outcomes = await o.send(*jobs)
        assert [n for n, x in enumerate(outcomes) if not isinstance(x, Receipt)] == [3, 150]
        bad = outcomes[3]
        assert isinstance(bad, Reject)
        assert bad.code == "JSON_PARSER_ERROR"
        assert len(o.front.calls) <= 40


async def test_halving_is_bounded_and_what_is_left_comes_again() -> None:
    async with org() as o:
        outcomes = await o.send(*[job(n, account(f"cus_{n}", Phone=5)) for n in range(200)])
        assert len(o.front.calls) == 40
        kinds = {type(x) for x in outcomes}
        assert kinds == {Reject, Retry}
        assert {x.code for x in outcomes if isinstance(x, Retry)} == {"NOT_ISOLATED"}


async def test_a_record_that_kills_every_call_ends_up_alone() -> None:
    """The whole group's answer is lost again and again; only the suspect goes alone, its neighbours get through."""
    async with org() as o:
        o.front.faults.append(replying(500, [{"message": "boom", "errorCode": "UNKNOWN_EXCEPTION"}]))
        poison = job(1, account("cus_bad"), attempt=6)
        others = [job(n, account(f"cus_{n}"), attempt=4) for n in range(2, 10)]
        outcomes = await o.send(*others, poison, job(20, account("cus_new")))
        # cus_new with the fresh ones (lost), then the worst suspect alone, then 1 is doubled: 2, 4, 2.
        assert [len(c.json["records"]) for c in o.front.calls] == [1, 1, 2, 4, 2]
        assert o.front.calls[1].json["records"][0]["Stripe_Customer_Id__c"] == "cus_bad"
        assert isinstance(outcomes[-1], Unknown)
        receipts(outcomes[:-1])


async def test_after_a_timeout_groups_start_small_again() -> None:
    async with org(timeout=0.3) as o:
        o.front.faults.append(applied_then_silence)
        outcomes = await o.send(*[job(n, account(f"cus_{n}"), attempt=9 - n) for n in range(4)])
        assert [len(c.json["records"]) for c in o.front.calls] == [1, 1, 2]
        assert [type(x) for x in outcomes] == [Unknown, Receipt, Receipt, Receipt]


async def test_of_the_days_calls_a_share_is_left_for_others_and_the_hub_looks_again_later() -> None:
    now = 1000.0
    async with org(now=lambda: now, daily_reserve=0.5) as o:
        o.sim.daily_limit(4)
        (first,) = await o.send(job(1, account("cus_1")))
        assert isinstance(first, Receipt)
        (second,) = await o.send(job(2, account("cus_2")))
        assert isinstance(second, Receipt)  # the second of four: half is used from now on
        now += 300
        (third,) = await o.send(job(3, account("cus_3")))
        assert isinstance(third, Defer)
        assert (third.pause, third.delay, third.limited) == (True, 600.0, False)
        assert "2 of the org's 4 calls" in third.reason
        assert "HUB_SALESFORCE_DAILY_RESERVE=0.5" in third.reason
        assert len(o.front.calls) == 2
        now += 600
        (again,) = await o.send(job(3, account("cus_3")))
        assert isinstance(again, Receipt)  # one call to see how it is now: three of four
        (more,) = await o.send(job(4, account("cus_4")))
        assert isinstance(more, Defer)
        assert (len(o.front.calls), o.hub.quota) == (3, (3, 4))


async def test_unless_it_is_set_otherwise_a_fifth_of_the_days_calls_is_left_to_others() -> None:
    async with org() as o:
        o.sim.daily_limit(10)
        outcomes = [(await o.send(job(n, account(f"cus_{n}"))))[0] for n in range(9)]
        assert [type(outcome) for outcome in outcomes] == [Receipt] * 8 + [Defer]


async def test_a_used_up_daily_limit_pauses_and_keeps_what_was_written() -> None:
    async with org(daily_reserve=0) as o:
        o.sim.daily_limit(1)
        outcomes = await o.send(job(1, account()), job(2, account(), invoice()), job(3, subscription()))
        assert isinstance(outcomes[0], Receipt)
        for outcome in outcomes[1:]:
            assert isinstance(outcome, Defer)
            assert (outcome.pause, outcome.delay, outcome.limited) == (True, 900.0, False)
        assert len(o.front.calls) == 2  # the second found the limit; a third was not tried
        assert o.hub.quota == (1, 1)


async def test_too_many_long_calls_pause_for_seconds() -> None:
    async with org() as o:
        o.sim.busy(1)
        (outcome,) = await o.send(job(1, account()))
        assert isinstance(outcome, Defer)
        assert (outcome.pause, outcome.delay) == (True, 5.0)
        receipts(await o.send(job(1, account())))


async def test_two_calls_making_the_same_record_at_once() -> None:
    async with org() as o:
        o.sim.race("Account", "cus_1")
        (outcome,) = await o.send(job(1, account()))
        assert isinstance(outcome, Retry)
        assert outcome.code == "DUPLICATE_VALUE"
        receipts(await o.send(job(1, account())))
        assert len(o.sim.state()["Account"]) == 1


async def test_what_the_connector_does_not_write() -> None:
    async with org() as o:
        outcomes = await o.send(
            job(1, record("Contact", "cus_1")),
            job(2, replace(account(), action="void")),
            job(3, account("cus_3", Stripe_Customer_Id__c="cus_3")),
            job(4, account("cus_4")),
        )
        assert [x.code for x in outcomes if isinstance(x, Reject)] == [
            "UNKNOWN_RECORD",
            "UNKNOWN_ACTION",
            "KEY_IN_FIELDS",
        ]
        receipts(outcomes[3:])


async def test_duplicate_rules_are_overridden_only_where_the_administrator_says_so() -> None:
    for allowed, expected in ((False, Reject), (True, Receipt)):
        async with org(allow_duplicates=allowed) as o:
            o.sim.duplicate_rule("Account", lambda r: r["Name"] == "Acme", alert_only=True)
            (outcome,) = await o.send(job(1, account(Name="Acme")))
            assert isinstance(outcome, expected)


async def test_a_round_that_runs_out_of_time_leaves_the_rest_for_the_next() -> None:
    now = [0.0]
    async with org(lambda: now[0], lease=30.0, timeout=10.0) as o:

        async def slow(app, scope, receive, send):  # type: ignore[no-untyped-def]
            now[0] = 29.0  # of a lease of 30
            await app(scope, receive, send)

        o.front.faults.append(slow)
        outcomes = await o.send(job(1, account()), job(2, account(), invoice()))
        assert isinstance(outcomes[0], Receipt)
        assert isinstance(outcomes[1], Defer)
        assert outcomes[1].pause is False
        assert len(o.front.calls) == 1


async def test_a_refusal_of_the_integration_user_pauses() -> None:
    async with org() as o:
        o.front.faults.append(refusing(403, "API_DISABLED_FOR_ORG", "The API is disabled"))
        (outcome,) = await o.send(job(1, account()))
        assert isinstance(outcome, Defer)
        assert outcome.pause
        assert "API_DISABLED_FOR_ORG" in outcome.reason


async def test_a_sandbox_that_serves_many_vendors_under_one_address() -> None:
    async with org() as o:
        inner = o.front.app
        o.front.app = Starlette(routes=[Mount("/salesforce", app=inner)])
        settings = SalesforceSettings(
            **{k.removeprefix("HUB_SALESFORCE_").lower(): v for k, v in environment(f"{o.base}/salesforce").items()}  # type: ignore[arg-type]
        )
        hub = create(settings)
        try:
            receipts(list(await hub.send([job(1, account())])))
            assert "sandbox org" in await hub.ping()
        finally:
            await hub.close()
        assert len(o.sim.state()["Account"]) == 1
