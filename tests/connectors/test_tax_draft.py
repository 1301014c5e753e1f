"""The destination `tax` and the writer of Stripe, each against its vendor's simulator over HTTP: one estimate and one
write a draft, prices with tax inside, exemptions, currencies without cents, many lines, what is refused.

Rates of the simulated AvaTax: Washington 6.5 % and 2.5 %; Pennsylvania 6 % and 2 %; Great Britain 20 %.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.avalara.calculate import DraftTax, bases, create
from connectors.stripe.sandbox_env import environment
from connectors.stripe.settings import StripeSettings
from connectors.stripe.simulator import StripeSimulator
from connectors.stripe.writer import StripeWriter
from connectors.stripe.writer import create as create_writer
from hub.errors import Defer, OutcomeError, Receipt, Reject, Retry, Unknown
from hub.mapping import FOLDER, Mappings, load
from hub.mapping.record import Skip
from hub.model import Event, EventKind, Job, Record
from tests.connectors.avalara_kit import World, settings, world
from tests.connectors.contract import SETTINGS
from tests.serving import served

START = 1_793_620_800  # 2026-11-02 12:00 UTC
SEATTLE = {"line1": "1 Pike St", "city": "Seattle", "state": "WA", "postal_code": "98101", "country": "US"}
PHILADELPHIA = {"line1": "1 Broad St", "city": "Philadelphia", "state": "PA", "postal_code": "19147", "country": "US"}
PORTLAND = {"line1": "1 Main St", "city": "Portland", "state": "OR", "postal_code": "97205", "country": "US"}
LONDON = {"line1": "1 Strand", "city": "London", "postal_code": "WC2N 5HR", "country": "GB"}


@dataclass
class Spoiled:
    """In front of Stripe: answers the next POSTs whose path ends so with a status of its own, or breaks the reply."""

    app: ASGIApp
    end: str = ""
    status: int = 0
    code: str = ""
    posts: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        post = scope.get("method") == "POST"
        self.posts += post
        if not (post and self.status and scope["path"].endswith(self.end)):
            await self.app(scope, receive, send)
            return
        body = b'{"error": {"type": "invalid_request_error", "code": "%s", "message": "No."}}' % self.code.encode()
        headers = [(b"content-type", b"application/json"), (b"request-id", b"req_1")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Town:
    """Both vendors, and the destination between them."""

    stripe: StripeSimulator
    front: Spoiled
    avalara: World
    writer: StripeWriter
    tax: DraftTax
    url: str
    heard: list[dict[str, Any]]
    now: float = START + 5

    def post(self, path: str, **params: Any) -> Any:
        return self.stripe.call("POST", path, params)

    def invoice(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = self.stripe.call("GET", f"/v1/invoices/{id_}")
        return found

    def draft(self, amounts: list[int], *, currency: str = "usd", address: Any = None, **more: Any) -> str:
        who = self.post("/v1/customers", name="Acme", address=address or SEATTLE, **more)["id"]
        for amount in amounts:
            self.post("/v1/invoiceitems", customer=who, amount=amount, currency=currency, description="Work")
        made = self.post(
            "/v1/invoices", customer=who, currency=currency, auto_advance=True, pending_invoice_items_behavior="include"
        )
        return str(made["id"])

    def whole(self, id_: str) -> dict[str, Any]:
        found = self.invoice(id_)
        lines: list[dict[str, Any]] = []
        while True:
            after = {"starting_after": lines[-1]["id"]} if lines else {}
            page = self.stripe.call("GET", f"/v1/invoices/{id_}/lines", {"limit": 100, **after})
            lines += page["data"]
            if not page["has_more"]:
                return {**found, "lines": {"data": lines, "has_more": False}}

    def job(self, id_: str, *, attempt: int = 1, delivery: int = 1) -> Job:
        """As the hub makes it of the draft as it is now."""
        invoice = self.whole(id_)
        mapping = MAPPINGS.for_destination("tax")["draft"]
        roots: dict[str, Any] = {"invoice": invoice, "event": None}
        while wanted := mapping.needed(roots, SETTINGS):
            for name, (kind, needed) in wanted.items():
                folder = {"customer": "customers", "product": "products", "price": "prices"}[kind]
                roots[name] = self.stripe.call("GET", f"/v1/{folder}/{needed}") if needed else None
        made = mapping.apply(roots, SETTINGS)
        assert not isinstance(made, Skip), made
        moment = datetime.fromtimestamp(START, UTC)
        event = Event("evt_1", EventKind.SNAPSHOT, "invoice.created", b"{}", moment, moment, object_id=id_)
        return Job(delivery, event, (made,), attempt)

    async def send(self, job: Job) -> Any:
        (outcome,) = await self.tax.send([job])
        return outcome


MAPPINGS: Mappings = load(FOLDER)


@pytest.fixture(scope="module")
def there() -> Iterator[tuple[StripeSimulator, Spoiled, str, World]]:
    stripe = StripeSimulator(seed=7, clock=lambda: float(START), start=START)
    front = Spoiled(stripe.app)
    with world() as avalara, served(front) as url:
        yield stripe, front, url, avalara


@pytest.fixture
async def town(there: tuple[StripeSimulator, Spoiled, str, World]) -> AsyncIterator[Town]:
    stripe, front, url, avalara = there
    stripe.reset()
    front.end, front.status, front.posts = "", 0, 0
    avalara.fresh()
    writer = create_writer(stripe_settings(url))
    heard: list[dict[str, Any]] = []
    stripe.listen(heard.append)
    made = Town(stripe, front, avalara, writer, None, url, heard)  # type: ignore[arg-type]
    made.tax = create(settings(avalara.url), writer, clock=lambda: made.now)  # type: ignore[assignment]
    yield made
    await made.tax.close()


def stripe_settings(url: str, **more: Any) -> StripeSettings:
    values: dict[str, Any] = {k.removeprefix("HUB_STRIPE_").lower(): v for k, v in environment(url).items()}
    return StripeSettings(**values, retries=0, **more)


def taxes(invoice: dict[str, Any]) -> list[list[int]]:
    return [[tax["amount"] for tax in line["taxes"]] for line in invoice["lines"]["data"]]


async def test_one_estimate_and_one_write_and_the_event_of_it_bears_our_key_and_the_same_bases(town: Town) -> None:
    """100.00: 6.50 + 2.50."""
    id_ = town.draft([10000])
    job = town.job(id_)
    town.heard.clear()
    outcome = await town.send(job)
    assert isinstance(outcome, Receipt)
    assert outcome.answer.detail["totalTax"] == "9"
    (link,) = outcome.links
    assert (link.object_id, link.record, link.digest) == (id_, "SalesOrder", job.records[0].digest)
    assert town.avalara.spoiler.paths() == ["POST transactions/create"]
    assert town.avalara.documents() == [], "an estimate is never stored"
    assert town.front.posts == 1
    (echo,) = [e for e in town.heard if e["type"] == "invoice.updated"]
    assert echo["request"]["idempotency_key"].startswith(f"tax:{id_}:")
    assert taxes(town.invoice(id_)) == [[650, 250]]
    assert town.job(id_).records[0].digest == link.digest, "our own taxes are no bases: the engine sends nothing"


async def test_bases_that_go_there_and_back_are_written_each_time(town: Town) -> None:
    """The same content under the same key would be answered by Stripe's memory, and change nothing."""
    id_ = town.draft([10000])
    await town.send(town.job(id_, delivery=1))
    line = town.invoice(id_)["lines"]["data"][0]["id"]
    for delivery, amount, wanted in ((2, 5000, [325, 125]), (3, 10000, [650, 250])):
        town.post(f"/v1/invoices/{id_}/lines/{line}", amount=amount)
        assert isinstance(await town.send(town.job(id_, delivery=delivery)), Receipt)
        assert taxes(town.invoice(id_)) == [wanted]


async def test_prices_with_tax_inside_stay_what_they_are(town: Town) -> None:
    """10.00 in Philadelphia with 8 % inside: 9.26 + 0.56 + 0.18 (recorded traffic of AvaTax). Total 10.00."""
    who = town.post("/v1/customers", name="Acme", address=PHILADELPHIA)["id"]
    product = town.post("/v1/products", name="Book")["id"]
    price = town.post("/v1/prices", product=product, currency="usd", unit_amount=1000, tax_behavior="inclusive")["id"]
    town.post("/v1/invoiceitems", customer=who, pricing={"price": price})
    id_ = town.post("/v1/invoices", customer=who, pending_invoice_items_behavior="include")["id"]
    assert isinstance(await town.send(town.job(id_)), Receipt)
    found = town.invoice(id_)
    assert taxes(found) == [[56, 18]]
    assert {tax["tax_behavior"] for tax in found["lines"]["data"][0]["taxes"]} == {"inclusive"}
    assert (found["total"], found["total_excluding_tax"]) == (1000, 926)


@pytest.mark.parametrize(("exempt", "reason"), [("exempt", "customer_exempt"), ("reverse", "reverse_charge")])
async def test_who_is_exempt_or_owes_the_tax_himself_is_charged_none_and_told_why(
    town: Town, exempt: str, reason: str
) -> None:
    id_ = town.draft([10000], address=LONDON, tax_exempt=exempt)
    assert isinstance(await town.send(town.job(id_)), Receipt)
    (tax,) = town.invoice(id_)["lines"]["data"][0]["taxes"]
    assert (tax["amount"], tax["taxability_reason"]) == (0, reason)
    assert town.invoice(id_)["total"] == 10000


@pytest.mark.parametrize(
    ("currency", "amounts", "wanted"),
    [
        # 20 % of 102 and 103 yen: 20.40 + 20.60 = 41.00; down 20 + 20, the unit that is left goes to .60.
        ("jpy", [102, 103], [[20], [21]]),
        # 20 % of 1.230 dinars is 0.246, which AvaTax answers as 0.25: 250 fils.
        ("kwd", [1230], [[250]]),
    ],
)
async def test_currencies_without_cents_come_out_in_their_own_units(
    town: Town, currency: str, amounts: list[int], wanted: list[list[int]]
) -> None:
    id_ = town.draft(amounts, currency=currency, address=LONDON)
    assert isinstance(await town.send(town.job(id_)), Receipt)
    found = {line["amount"]: [tax["amount"] for tax in line["taxes"]] for line in town.invoice(id_)["lines"]["data"]}
    assert found == dict(zip(amounts, wanted, strict=True))


async def test_taxes_are_taken_off_again_when_there_are_none_any_more(town: Town) -> None:
    id_ = town.draft([10000])
    await town.send(town.job(id_))
    who = town.invoice(id_)["customer"]
    town.post(f"/v1/customers/{who}", address=PORTLAND)
    job = town.job(id_)
    assert isinstance(await town.send(replace(job, delivery_id=2)), Receipt)
    assert taxes(town.invoice(id_)) == [[]]
    assert town.invoice(id_)["total"] == 10000


async def test_a_draft_of_1001_lines_is_taxed_whole_with_one_estimate(town: Town) -> None:
    """1,001 lines of 1.00: 0.065 -> 0.07 and 0.025 -> 0.03 on each, 100.10 in all; five parts of at most 250 lines."""
    id_ = town.draft([100] * 1001)
    job = town.job(id_)
    assert len(job.records[0].fields["lines"]) == 1001
    assert isinstance(await town.send(job), Receipt)
    assert len(town.avalara.spoiler.calls) == 1
    assert town.front.posts == 5
    assert town.invoice(id_)["total"] == 100100 + 10010


# When there is no tax ------------------------------------------------------------------------------------------------


async def test_the_first_failure_holds_the_draft_and_the_next_ones_leave_it_as_it_is(town: Town) -> None:
    id_ = town.draft([10000])
    for attempt in (1, 2):
        town.avalara.spoiler.spoil["/create"] = "html"
        outcome = await town.send(town.job(id_, attempt=attempt))
        assert isinstance(outcome, Retry)
        assert outcome.answer.status == 200, "Stripe answered: an AvaTax that is away must not stop the next hold"
        town.now += 60
    found = town.invoice(id_)
    assert (found["auto_advance"], found["metadata"]["hub_tax_hold"]) == (
        False, "2026-11-02T12:00:05Z/2026-11-02T13:00:00Z",
    )  # fmt: skip
    assert town.front.posts == 1, "held once"
    assert bases(town.job(id_).records[0]) == bases(replace(town.job(id_).records[0])), "a hold is no basis"
    outcome = await town.send(town.job(id_, attempt=3))
    assert isinstance(outcome, Receipt)
    assert outcome.note == "it is held no longer"
    on = town.invoice(id_)
    assert (on["auto_advance"], on["automatically_finalizes_at"], on["metadata"].get("hub_tax_hold")) == (
        True, START + 3600, None,
    )  # fmt: skip


class Busy:
    """A limit at which too many wait."""

    async def turn(self) -> None:
        raise OutcomeError(Defer("too many calls are waiting", 20.0))

    async def cut(self, hold: float = 0.0) -> None:
        raise AssertionError(hold)


async def test_waiting_for_our_own_pace_holds_no_draft_for_twenty_minutes(town: Town) -> None:
    """Else a night of renewals would hold thousands that have an hour's time."""
    id_ = town.draft([10000])
    job = town.job(id_)
    tax = create(settings(town.avalara.url), town.writer, Busy(), lambda: town.now)
    assert await tax.send([job]) == [Defer("too many calls are waiting", 20.0)]
    assert town.invoice(id_)["auto_advance"] is True
    town.now += 1200
    (outcome,) = await tax.send([job])
    assert isinstance(outcome, Defer)
    assert (town.invoice(id_)["auto_advance"], outcome.pause) == (False, False)


async def test_a_draft_that_does_not_advance_by_itself_is_not_held(town: Town) -> None:
    id_ = town.draft([10000])
    town.post(f"/v1/invoices/{id_}", auto_advance=False)
    town.avalara.spoiler.spoil["/create"] = "html"
    assert isinstance(await town.send(town.job(id_)), Retry)
    assert town.invoice(id_)["metadata"] == {}


async def test_whoever_lets_a_held_draft_go_on_is_not_overruled_by_the_next_failure(town: Town) -> None:
    id_ = town.draft([10000])
    for attempt in (1, 2):
        town.avalara.spoiler.spoil["/create"] = "html"
        assert isinstance(await town.send(town.job(id_, attempt=attempt)), Retry)
        if attempt == 1:
            town.post(f"/v1/invoices/{id_}", auto_advance=True)
    assert town.invoice(id_)["auto_advance"] is True
    outcome = await town.send(town.job(id_, attempt=3))
    assert isinstance(outcome, Receipt)
    assert outcome.note == "somebody had let it go on already"
    assert (town.invoice(id_)["total"], "hub_tax_hold" in town.invoice(id_)["metadata"]) == (10900, False)


async def test_what_cannot_be_mapped_is_held_too_and_a_finalised_invoice_is_left_alone(town: Town) -> None:
    id_ = town.draft([10000])
    job = replace(town.job(id_), records=())
    refused = Reject("field_required", "no address.", "Complete it.")
    outcome = await town.tax.stopped(job, refused)
    assert isinstance(outcome, Reject)
    assert outcome.cause == "no address. The draft is held: it is not finalised before it has tax."
    assert town.invoice(id_)["auto_advance"] is False
    town.post(f"/v1/invoices/{id_}/finalize")
    assert isinstance(await town.tax.stopped(job, refused), Receipt)
    later = Retry("busy", "Stripe is busy")
    assert await town.tax.stopped(job, later) == later, "that passes by itself"


async def test_an_invoice_finalised_between_is_said_to_be_no_draft(town: Town) -> None:
    id_ = town.draft([10000])
    job = town.job(id_)
    town.post(f"/v1/invoices/{id_}/finalize")
    outcome = await town.send(job)
    assert outcome == Receipt(note="the invoice is no draft any more: nothing to do")


async def test_tax_rates_that_appear_between_are_a_dead_letter_over_a_held_draft(town: Town) -> None:
    """Stripe takes tax amounts only where no rates are."""
    id_ = town.draft([10000])
    job = town.job(id_)
    rate = town.post("/v1/tax_rates", display_name="Sales tax", percentage="8", inclusive=False)["id"]
    town.post(f"/v1/invoices/{id_}", default_tax_rates=[rate])
    outcome = await town.send(job)
    assert isinstance(outcome, Reject)
    assert "lines[0][tax_amounts]" in outcome.cause
    assert town.invoice(id_)["auto_advance"] is False


# What Stripe answers to a write --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (500, "api_error", Unknown),
        (409, "idempotency_key_in_use", Unknown),
        (429, "rate_limit", Defer),
        (429, "lock_timeout", Retry),
        (403, "", Defer),
        (401, "api_key_expired", Defer),
        (400, "parameter_invalid", Reject),
        (404, "resource_missing", Reject),
    ],
)
async def test_each_refusal_of_a_write_is_what_it_is(town: Town, status: int, code: str, wanted: type) -> None:
    id_ = town.draft([10000])
    town.front.status, town.front.code = status, code
    with pytest.raises(OutcomeError) as caught:
        await town.writer.set_metadata("invoice", id_, {"a": "b"}, "k")
    outcome = caught.value.outcome
    assert isinstance(outcome, wanted), outcome
    if isinstance(outcome, Defer):
        assert outcome.pause == (status != 429)
        assert ("write" in outcome.reason) == (status == 403), "which right is missing is said"


async def test_a_write_that_never_left_is_no_doubt_and_a_lost_reply_is_one(town: Town) -> None:
    writer = create_writer(stripe_settings("http://127.0.0.1:9", timeout=1))
    with pytest.raises(OutcomeError) as caught:
        await writer.set_metadata("invoice", "in_1", {"a": "b"}, "k")
    assert isinstance(caught.value.outcome, Retry)
    await writer.close()

    async def dropped(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        await reader.read(100)
        out.close()

    server = await asyncio.start_server(dropped, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    writer = create_writer(stripe_settings(f"http://127.0.0.1:{port}"))
    with pytest.raises(OutcomeError) as caught:
        await writer.set_metadata("invoice", "in_1", {"a": "b"}, "k")
    assert isinstance(caught.value.outcome, Unknown)
    await writer.close()
    server.close()
    await server.wait_closed()


async def test_a_draft_that_can_be_neither_taxed_nor_held_is_tried_again_and_never_left_as_a_dead_letter(
    town: Town,
) -> None:
    id_ = town.draft([10000], address={**SEATTLE, "postal_code": "00000"})
    job = town.job(id_)
    town.front.status, town.front.code = 400, "parameter_invalid"
    outcome = await town.send(job)
    assert isinstance(outcome, Retry)
    assert outcome.code == "not_held"
    town.front.status = 0
    outcome = await town.send(replace(job, attempt=2))
    assert isinstance(outcome, Reject)
    assert outcome.code == "ZipNotValidError"


def test_a_record_without_a_hold_has_the_digest_of_its_bases() -> None:
    """Else the engine would never find a draft to be as wanted."""
    given = MAPPINGS.for_destination("tax")["draft"].examples[0]["given"]
    roots = {k: v for k, v in given.items() if k != "settings"}
    made = MAPPINGS.for_destination("tax")["draft"].apply(roots, given["settings"])
    assert isinstance(made, Record)
    assert bases(made) == made.digest
    held = {**roots, "invoice": {**roots["invoice"], "metadata": {"hub_tax_hold": "2026-11-02T12:00:05Z/"}}}
    again = MAPPINGS.for_destination("tax")["draft"].apply(held, given["settings"])
    assert isinstance(again, Record)
    assert (again.digest != made.digest, bases(again)) == (True, made.digest)
