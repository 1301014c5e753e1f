"""Looking before sending again: a receipt only when everything is there exactly as wanted."""

from __future__ import annotations

from decimal import Decimal

from hub.errors import Defer, Receipt, Unknown
from tests.connectors.salesforce_kit import account, invoice, job, org, receipts, refusing, replying, subscription


def _all() -> tuple:  # type: ignore[type-arg]
    bill = invoice(
        Subscription__r={"Stripe_Id__c": "sub_1"},
        Total__c=Decimal("10.50"),
        Attempt_Count__c=2,
        Invoice_Date__c="2026-11-01",
        Paid_At__c="2026-11-01T10:00:00Z",
        Due_Date__c=None,
        Number__c="",
    )
    return (account(Phone="  +49 30 1  ", BillingStreet="a\nb"), subscription(Cancel_At_Period_End__c=False), bill)


async def test_all_there_as_wanted() -> None:
    async with org() as o:
        wanted = job(1, *_all())
        sent = receipts(await o.send(wanted))[0]
        found = await o.hub.find(wanted)
        assert isinstance(found, Receipt)
        assert found.links == sent.links
        assert len([c for c in o.front.calls if c.method == "GET"]) == 3


async def test_nothing_there() -> None:
    async with org() as o:
        assert await o.hub.find(job(1, account())) is None


async def test_one_field_differs() -> None:
    async with org() as o:
        wanted = job(1, *_all())
        await o.send(wanted)
        for kind, key, change in (
            ("Account", "cus_1", {"Phone": "other"}),
            ("Stripe_Invoice__c", "in_1", {"Total__c": Decimal("10.51")}),
            ("Stripe_Invoice__c", "in_1", {"Number__c": "A-1"}),
            ("Stripe_Subscription__c", "sub_1", {"Cancel_At_Period_End__c": True}),
            ("Stripe_Invoice__c", "in_1", {"Paid_At__c": "2026-11-01T10:00:01Z"}),
            ("Stripe_Invoice__c", "in_1", {"Subscription__c": None}),
        ):
            assert isinstance(await o.hub.find(wanted), Receipt)
            o.sim.edit(kind, key, **change)
            assert await o.hub.find(wanted) is None, change
            await o.send(wanted)


async def test_a_key_of_other_case_or_a_deleted_record_is_not_it() -> None:
    async with org() as o:
        await o.send(job(1, account("cus_aB")))
        assert await o.hub.find(job(1, account("cus_AB", Name="Customer cus_aB"))) is None
        o.sim.delete("Account", "cus_aB")
        assert await o.hub.find(job(1, account("cus_aB"))) is None


async def test_a_key_with_quotes_is_only_a_key() -> None:
    async with org() as o:
        odd = account("cus_' OR Name != '\\")
        await o.send(job(1, odd), job(2, account("cus_2")))
        found = await o.hub.find(job(1, odd))
        assert isinstance(found, Receipt)
        assert found.links[0].key == odd.key


async def test_what_cannot_be_asked_is_sent_again() -> None:
    async with org() as o:
        assert await o.hub.find(job(1, account(Nope__c="x"))) is None
        assert await o.hub.find(job(1, account(**{"a b": "x"}))) is None


async def test_when_salesforce_cannot_be_asked_now() -> None:
    async with org() as o:
        await o.send(job(1, account()))
        o.sim.daily_limit(1)
        limited = await o.hub.find(job(1, account()))
        assert isinstance(limited, Defer)
        assert limited.pause


async def test_when_salesforce_fails_to_answer() -> None:
    async with org() as o:
        await o.send(job(1, account()))
        o.front.faults += [refusing(503, "SERVER_UNAVAILABLE", "x"), replying(200, "<html>", "text/html")]
        assert isinstance(await o.hub.find(job(1, account())), Unknown)
        assert isinstance(await o.hub.find(job(1, account())), Unknown)
        assert isinstance(await o.hub.find(job(1, account())), Receipt)
