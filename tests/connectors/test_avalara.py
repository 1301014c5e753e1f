"""The AvaTax destination through the real library over HTTP, against the simulator."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from connectors.avalara.client import wire
from connectors.avalara.destination import Avalara, create
from hub.errors import Defer, OutcomeError, Receipt, Reject, Retry, Unknown
from tests.connectors.avalara_kit import World, commit, job, line, record, settings, void


@pytest.fixture
def there(avalara: World) -> World:
    return avalara.fresh()


async def send(destination: Avalara, *records: Any, attempt: int = 1) -> Any:
    (outcome,) = await destination.send([job(*records, attempt=attempt)])
    return outcome


async def receipt(destination: Avalara, *records: Any, attempt: int = 1) -> Receipt:
    outcome = await send(destination, *records, attempt=attempt)
    assert isinstance(outcome, Receipt), outcome
    return outcome


async def test_a_finalized_invoice_becomes_one_committed_document(there: World) -> None:
    wanted = record(line("il_1", "40.80", "3.67"), line("il_2", "59.20", "5.33"))
    done = await receipt(there.destination(), wanted)

    document = there.only()
    assert {k: document[k] for k in ("code", "type", "status", "version", "companyCode", "currencyCode", "date")} == {
        "code": "in_1",
        "type": "SalesInvoice",
        "status": "Committed",
        "version": 1,
        "companyCode": "HUBSANDBOX",
        "currencyCode": "USD",
        "date": "2026-11-30",
    }
    assert Decimal(document["totalAmount"]) == Decimal("100.00")
    assert Decimal(document["totalTax"]) == Decimal("9.00")
    assert document["referenceCode"] == f"hub:v1:{wanted.digest}"
    (link,) = done.links
    assert (link.record, link.object_id, link.key, link.digest) == ("SalesInvoice", "in_1", "in_1", wanted.digest)
    assert (link.vendor_id, link.status) == (str(document["id"]), "Committed")
    assert done.answer.status == 201
    assert done.answer.request_id


async def test_repeats_change_nothing(there: World) -> None:
    destination, wanted = there.destination(), record()
    first = await receipt(destination, wanted)
    again = await receipt(destination, wanted)
    looked = await receipt(destination, wanted, attempt=2)
    assert first.links == again.links == looked.links
    assert there.only()["version"] == 1
    assert there.spoiler.paths() == [
        "POST transactions/create",
        "POST transactions/create",  # refused: DocStatus
        "GET companies/HUBSANDBOX/transactions/in_1/types/SalesInvoice",
        "GET companies/HUBSANDBOX/transactions/in_1/types/SalesInvoice",  # the second attempt only looks
    ]
    done = await receipt(destination, replace(wanted, link=first.links[0]))
    assert done.links == first.links
    assert len(there.spoiler.calls) == 4  # with the link at hand nothing is sent


async def test_older_servers_refuse_without_a_sub_code(there: World) -> None:
    there.simulator.switches.doc_status_sub_code = False
    destination, wanted = there.destination(), record()
    assert (await receipt(destination, wanted)).links == (await receipt(destination, wanted)).links
    assert there.only()["version"] == 1


@pytest.mark.parametrize("already", ["error", "ok"])
async def test_commit_when_paid(there: World, already: Any) -> None:
    there.simulator.switches.commit_on_committed = already
    destination, wanted = there.destination(commit_on="paid"), record()
    saved = await receipt(destination, wanted)
    assert (there.only()["status"], saved.links[0].status) == ("Saved", "Saved")
    done = await receipt(destination, commit())
    assert (there.only()["status"], done.links[0].record, done.links[0].status) == (
        "Committed",
        "SalesInvoice.commit",
        "Committed",
    )
    assert (await receipt(destination, commit())).links == done.links
    assert there.only()["version"] == 1


async def test_an_invoice_first_seen_when_paid_is_written_and_committed(there: World) -> None:
    done = await receipt(there.destination(commit_on="paid"), record(), commit())
    assert [(one.record, one.status) for one in done.links] == [
        ("SalesInvoice", "Committed"),
        ("SalesInvoice.commit", "Committed"),
    ]
    assert (there.only()["status"], there.only()["version"]) == ("Committed", 1)


async def test_commit_before_the_document_waits(there: World) -> None:
    outcome = await send(there.destination(commit_on="paid"), commit())
    assert isinstance(outcome, Retry)
    assert outcome.code == "document_missing"


@pytest.mark.parametrize("cancelled", ["docstatus", "new"])
async def test_void_and_what_comes_after(there: World, cancelled: Any) -> None:
    there.simulator.switches.create_on_cancelled = cancelled
    destination, wanted = there.destination(), record()
    await receipt(destination, wanted)
    done = await receipt(destination, void())
    assert (there.only()["status"], done.links[0].record, done.links[0].status) == (
        "Cancelled",
        "SalesInvoice.void",
        "Cancelled",
    )
    again = await receipt(destination, void())
    assert again.note == "it was voided already"
    assert again.links == done.links
    late = await receipt(destination, wanted, attempt=2)
    assert late.note == "the document was voided in the meantime"
    assert (there.only()["status"], there.only()["version"]) == ("Cancelled", 1)


async def test_a_voided_invoice_never_seen_before_is_never_committed(there: World) -> None:
    done = await receipt(there.destination(), record(), void())
    assert [(one.record, one.status) for one in done.links] == [
        ("SalesInvoice", "Cancelled"),
        ("SalesInvoice.void", "Cancelled"),
    ]
    assert there.only()["status"] == "Cancelled"
    assert json.loads(there.spoiler.calls[0][2])["commit"] is False


async def test_void_and_commit_refusals(there: World) -> None:
    destination = there.destination()
    outcome = await send(destination, void())
    assert isinstance(outcome, Retry)
    assert outcome.code == "document_missing"

    await receipt(destination, record())
    document = there.simulator.store.get("HUBSANDBOX", "in_1")
    there.simulator.store.lock(document, on=True)
    locked = await send(destination, void())
    assert isinstance(locked, Reject)
    assert (locked.code, "ReturnInvoice" in locked.fix) == ("CannotModifyLockedTransaction", True)

    other = await send(destination, replace(void(), fields={"code": "DocDeleted"}))
    assert isinstance(other, Reject)
    assert other.code == "bad_void"
    assert there.only()["status"] == "Committed"

    there.simulator.store.lock(there.simulator.store.get("HUBSANDBOX", "in_1"), on=False)
    await receipt(destination, void())
    voided = await send(destination, commit())
    assert isinstance(voided, Reject)
    assert voided.code == "already_voided"


async def test_other_content_under_the_code_is_never_overwritten(there: World) -> None:
    destination = there.destination()
    await receipt(destination, record())
    for attempt in (1, 2):
        outcome = await send(destination, record(line("il_1", "200.00", "18.00")), attempt=attempt)
        assert isinstance(outcome, Reject)
        assert outcome.code == "document_differs"
    assert Decimal(there.only()["totalAmount"]) == 100
    assert there.only()["version"] == 1


async def test_a_saved_document_of_ours_is_replaced_by_a_corrected_one(there: World) -> None:
    destination = there.destination(commit_on="paid")
    first = await receipt(destination, record())
    changed = record(line("il_1", "200.00", "18.00"), link=first.links[0])
    done = await receipt(destination, changed, attempt=2)
    assert done.links[0].digest == changed.digest
    assert (Decimal(there.only()["totalTax"]), there.only()["version"]) == (Decimal(18), 1)


async def test_documents_side_by_side(there: World) -> None:
    destination = there.destination()
    wanted = [record(line("il_1", str(i), "0.01"), key=f"in_{i}") for i in range(1, 13)]
    done = await asyncio.gather(*[send(destination, one) for one in wanted])
    assert all(isinstance(one, Receipt) for one in done)
    assert {(d["code"], Decimal(d["totalAmount"])) for d in there.documents()} == {
        (f"in_{i}", Decimal(i)) for i in range(1, 13)
    }


@pytest.mark.parametrize("how", ["drop", "refuse"])
async def test_lost_reply_of_create(there: World, how: str) -> None:
    destination, wanted = there.destination(), record()
    there.spoiler.spoil["/create"] = how
    assert isinstance(await send(destination, wanted), Unknown)
    found = await destination.find(job(wanted, attempt=2))
    if how == "refuse":
        assert found is None
        assert there.documents() == []
        found = await send(destination, wanted, attempt=2)
    assert isinstance(found, Receipt)
    assert found.links[0].digest == wanted.digest
    assert (there.only()["status"], there.only()["version"]) == ("Committed", 1)


@pytest.mark.parametrize("how", ["drop", "refuse"])
async def test_lost_reply_of_void(there: World, how: str) -> None:
    destination = there.destination()
    await receipt(destination, record())
    there.spoiler.spoil["/void"] = how
    assert isinstance(await send(destination, void()), Unknown)
    found = await destination.find(job(void(), attempt=2))
    if how == "refuse":
        assert found is None
        found = await send(destination, void(), attempt=2)
    assert isinstance(found, Receipt)
    assert found.links[0].status == there.only()["status"] == "Cancelled"


@pytest.mark.parametrize("how", ["drop", "refuse"])
async def test_lost_reply_of_commit(there: World, how: str) -> None:
    destination = there.destination(commit_on="paid")
    await receipt(destination, record())
    there.spoiler.spoil["/commit"] = how
    assert isinstance(await send(destination, commit()), Unknown)
    found = await destination.find(job(commit(), attempt=2))
    if how == "refuse":
        assert found is None
        found = await send(destination, commit(), attempt=2)
    assert isinstance(found, Receipt)
    assert there.only()["status"] == "Committed"


async def test_find_commits_what_was_only_saved(there: World) -> None:
    await receipt(there.destination(commit_on="paid"), record())
    found = await there.destination().find(job(record(), attempt=2))
    assert isinstance(found, Receipt)
    assert found.links[0].status == there.only()["status"] == "Committed"


async def test_find_meets_a_stranger_or_cannot_look(there: World) -> None:
    destination = there.destination()
    await receipt(destination, record())
    stranger = await destination.find(job(record(description="other"), attempt=2))
    assert isinstance(stranger, Reject)
    there.spoiler.spoil["/SalesInvoice"] = "html"
    assert isinstance(await destination.find(job(record(), attempt=2)), Unknown)


async def test_a_reply_without_correlation_id_is_unknown_not_a_crash(there: World) -> None:
    destination = there.destination()
    there.simulator.switches.omit_correlation_id = True
    outcome = await send(destination, record())
    assert isinstance(outcome, Unknown)
    assert "x-correlation-id" in outcome.reason
    there.simulator.switches.omit_correlation_id = False
    assert isinstance(await destination.find(job(record(), attempt=2)), Receipt)
    assert there.only()["version"] == 1


async def test_a_proxy_page_is_unknown_for_a_write(there: World) -> None:
    there.spoiler.spoil["/create"] = "html"
    assert isinstance(await send(there.destination(), record()), Unknown)
    assert there.documents() == []


@pytest.mark.parametrize(("how", "reason"), [("hang", "AvaTax did not answer in time"), ("trickle", "no whole answer")])
async def test_no_call_waits_twenty_minutes(there: World, how: str, reason: str) -> None:
    there.spoiler.spoil["/create"] = how
    began = time.monotonic()
    outcome = await send(there.destination(connect_timeout=0.3, read_timeout=0.4), record())
    assert isinstance(outcome, Unknown)
    assert outcome.reason.startswith(reason)
    assert time.monotonic() - began < 3


async def test_nobody_there_is_surely_not_sent() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        outcome = await send(Avalara(settings(url)), record())
    assert isinstance(outcome, Retry)
    assert outcome.code == "unreachable"


async def test_amounts_that_avatax_does_not_record_are_told(there: World) -> None:
    there.simulator.switches.override_without_nexus = "ignore"
    oregon = {"line1": "1 SW Main", "city": "Portland", "region": "OR", "postalCode": "97205", "country": "US"}
    wanted = record(addresses={"shipFrom": {"country": "GB"}, "shipTo": oregon})
    outcome = await send(there.destination(), wanted)
    assert isinstance(outcome, Reject)
    assert (outcome.code, "totalTax is 0, wanted 9.00" in outcome.cause) == ("amounts_differ", True)


async def test_an_invoice_of_1001_lines_is_booked_whole_with_one_call(there: World) -> None:
    """1,001 lines of 1.00 with 0.09 each: 1,001.00 and 90.09."""
    lines = [line(f"il_{i}", "1.00", "0.09") for i in range(1001)]
    (outcome,) = await there.destination().send([job(record(*lines))])
    assert isinstance(outcome, Receipt)
    assert there.spoiler.paths() == ["POST transactions/create"]
    document = there.only()
    assert (len(document["lines"]), Decimal(document["totalAmount"]), document["totalTax"]) == (
        1001,
        Decimal(1001),
        "90.09",
    )


async def test_too_many_lines_are_not_even_sent(there: World) -> None:
    lines = [line(str(i), "1", "0") for i in range(15_001)]
    outcome = await send(there.destination(), record(*lines))
    assert isinstance(outcome, Reject)
    assert (outcome.code, there.spoiler.calls) == ("too_many_lines", [])


async def test_codes_and_actions_the_connector_cannot_send(there: World) -> None:
    destination = there.destination()
    for wanted, code in ((record(key="in/1"), "bad_code"), (replace(record(), action="refund"), "unknown_action")):
        outcome = await send(destination, wanted)
        assert isinstance(outcome, Reject)
        assert outcome.code == code
    assert there.spoiler.calls == []


async def test_ping(there: World) -> None:
    assert await there.destination().ping() == "AvaTax sandbox, account 1100000001, company HUBSANDBOX"
    for changes, kind in (({"license_key": "wrong"}, Defer), ({"company_code": "OTHER"}, Reject)):
        with pytest.raises(OutcomeError) as raised:
            await there.destination(**changes).ping()
        assert isinstance(raised.value.outcome, kind)


async def test_wrong_credentials_pause_the_destination(there: World) -> None:
    outcome = await send(there.destination(license_key="wrong"), record())
    assert isinstance(outcome, Defer)
    assert outcome.pause
    assert "HUB_AVALARA_LICENSE_KEY" in outcome.reason


async def test_a_wrong_company_pauses_the_destination(there: World) -> None:
    outcome = await send(there.destination(company_code="OTHER"), record())
    assert isinstance(outcome, Defer)
    assert "HUB_AVALARA_COMPANY_CODE" in outcome.reason


async def test_the_library_says_nothing_on_the_root_logger(there: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await receipt(there.destination(), record())
    assert [r for r in caplog.records if not r.name.startswith(("urllib3", "asyncio"))] == []
    assert "Pike" not in caplog.text


def test_amounts_on_the_wire() -> None:
    given = {
        "a": Decimal("10.10"),
        "b": Decimal(5),
        "c": None,
        "d": [Decimal("0.0375")],
        "e": Decimal("1234567890123.123456"),
    }
    assert wire(given) == {"a": 10.1, "b": 5, "d": [0.0375], "e": "1234567890123.123456"}


def test_the_policy_and_create() -> None:
    destination = create(settings("http://127.0.0.1:1", unknown_wait=75))
    assert (destination.name, destination.policy.kind, destination.policy.slots) == ("avalara", "ledger", 4)
    assert destination.policy.unknown_wait == 75
    assert create(settings("http://127.0.0.1:1")).policy.unknown_wait == 60, "unless it is set otherwise"
    assert destination.policy.lease * 0.8 > 7 * (3.05 + 1.5 * 20)
