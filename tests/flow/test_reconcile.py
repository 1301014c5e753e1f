"""`hub reconcile` against the whole sandbox: nothing is wrong; then somebody tampers, and each change has its name.

One stack, one story, some thirty tamperings. Every invoice is an amount plus 8 percent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from rich.console import Console

from connectors.avalara.sandbox_env import ACCOUNT_ID, COMPANY_CODE, LICENSE_KEY
from connectors.avalara.settings import AvalaraSettings
from connectors.avalara.statement import AvalaraStatement
from connectors.netsuite.settings import NetSuiteSettings
from connectors.netsuite.statement import NetSuiteStatement
from hub import app, config
from hub.commands import reconcile as command
from hub.destination import Statement
from hub.errors import ConfigError, HubError, OutcomeError, Retry
from hub.patience import Patience
from hub.reconcile.compare import Difference
from hub.reconcile.run import Reconciled, Reconciler
from hub.reconcile.shown import difference_shown
from tests.conftest import Clock
from tests.flow.stack import START, TOKEN, Hub, Vendors, hub, vendors
from tests.flow.story import DAY, HOUR, shop

SINCE = datetime.fromtimestamp(START - DAY, UTC).replace(hour=0, minute=0, second=0)


class Running(Clock):
    """A clock that a test sets and that goes on: the limits of all processes count in its seconds."""

    def __init__(self, now: float) -> None:
        self._ahead = 0.0
        super().__init__(now)

    @property
    def now(self) -> float:
        return time.time() + self._ahead

    @now.setter
    def now(self, value: float) -> None:
        self._ahead = value - time.time()


@pytest.fixture(scope="module")
def town() -> Iterator[Vendors]:
    with vendors() as one:
        yield one


@dataclass
class Life:
    """What was sold: names of this test -> ids of Stripe's."""

    town: Vendors
    ids: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.ids[name]

    def bill(self, name: str, dollars: int, *, paid: bool = True, customer: str = "customer") -> str:
        """An invoice over so many dollars and 8 percent, paid by card or left open."""
        how = {} if paid else {"collection_method": "send_invoice", "days_until_due": 30}
        made = self.town.post("/v1/invoices", customer=self[customer], default_tax_rates=[self["rate"]], **how)["id"]
        self.town.post(
            "/v1/invoiceitems", customer=self[customer], invoice=made, amount=dollars * 100, description=name
        )
        self.town.post(f"/v1/invoices/{made}/finalize")
        if paid:
            self.town.post(f"/v1/invoices/{made}/pay")
            self.ids[f"pay {name}"] = self.payment(made)["id"]
        self.ids[name] = made
        return str(made)

    def payment(self, invoice: str) -> Any:
        return self.town.stripe.call("GET", "/v1/invoice_payments", {"invoice": invoice})["data"][0]

    def charge(self, name: str) -> str:
        intent = self.payment(self[name])["payment"]["payment_intent"]
        return str(self.town.stripe.call("GET", f"/v1/payment_intents/{intent}")["latest_charge"])

    def credit(self, name: str, invoice: str, dollars: int, **back: Any) -> None:
        """A credit note over some dollars of the first line and their 8 percent."""
        line = self.town.stripe.call("GET", f"/v1/invoices/{self[invoice]}/lines")["data"][0]["id"]
        lines = [{"type": "invoice_line_item", "invoice_line_item": line, "amount": dollars * 100}]
        self.ids[name] = self.town.post("/v1/credit_notes", invoice=self[invoice], lines=lines, **back)["id"]


PAID = ("gone", "edited", "copied", "copied with a name", "payment gone", "payment edited", "payment unapplied",
        "tax gone", "tax more", "tax other", "tax void", "tax saved", "tax copied", "tax customer",
        "shifted")  # fmt: skip
TABLES = {"netsuite_items": {"tax": "hub_tax", "*": "hub_subscription"}}


def live(town: Vendors) -> Life:
    """Everything that a tampering needs, each in an invoice of its own."""
    one = Life(town, dict(shop(town)))
    one.ids["other"] = town.post("/v1/customers", name="Somebody Else", email="else@example.com")["id"]
    for number, name in enumerate(PAID, 1):
        one.bill(name, 10 * number)
    town.stripe.advance(7 * DAY)  # paid out every Monday
    one.bill("moved", 500, paid=False)
    one.bill("open", 510, paid=False)
    one.bill("credited", 520, paid=False)
    one.credit("note", "credited", 20)  # 21.60 off what is open
    one.bill("refunded", 530)
    one.credit("refunded note", "refunded", 30, refund_amount=3240)
    one.bill("returned", 540)
    one.credit("returned note", "returned", 40, refund_amount=4320)
    one.bill("bare", 550)
    one.ids["refund"] = town.post("/v1/refunds", charge=one.charge("bare"), amount=5500)["id"]
    one.bill("listed", 550)  # refunded, and a day later finance makes the credit note
    one.ids["older refund"] = town.post("/v1/refunds", charge=one.charge("listed"), amount=4320)["id"]
    one.bill("listed later", 550)
    one.ids["waiting refund"] = town.post("/v1/refunds", charge=one.charge("listed later"), amount=4320)["id"]
    one.bill("disputed", 560)
    one.ids["dispute"] = town.stripe.dispute(one.charge("disputed"))["id"]
    for number, name in enumerate(("wrong", "wrong too"), 1):
        one.bill(name, 570 + 10 * number, paid=False)
        town.post(f"/v1/invoices/{one[name]}/void")
    one.bill("shared", 570, paid=False)
    one.credit("shifted note", "shared", 50)  # 54.00 off what is open
    town.stripe.advance(DAY)
    one.credit("late note", "listed", 40, refunds=[{"refund": one["older refund"], "amount_refunded": 4320}])
    town.stripe.advance(8 * DAY)  # what was charged is paid out meanwhile
    paid_out = [p for p in town.stripe.call("GET", "/v1/payouts")["data"] if p["status"] == "paid"]
    one.ids |= {"payout": paid_out[0]["id"], "last payout": paid_out[-1]["id"]}
    return one


# Tamperings


@dataclass(frozen=True)
class Tampering:
    """What somebody does, how it must be called, and whether writing again mends it."""

    what: str
    does: Callable[[Vendors, Life], Any]
    destination: str
    name: str
    key: Callable[[Life], str]
    mended: bool

    def named(self, life: Life) -> tuple[str, str, str]:
        return self.destination, self.name, self.key(life)


def books(town: Vendors) -> Any:
    return town.sandbox.simulators["netsuite"]


def documents(town: Vendors) -> Any:
    simulator: Any = town.sandbox.simulators["avalara"]
    return simulator.store


def tax(town: Vendors, method: str, path: str, body: Any = None) -> Any:
    """A person's call to AvaTax."""
    auth = (ACCOUNT_ID, LICENSE_KEY)
    with httpx.Client(base_url=f"{town.url}/avalara", auth=auth, verify=False) as http:
        answer = http.request(method, f"/api/v2/companies/{COMPANY_CODE}/transactions/{path}", json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()


def adjust(town: Vendors, code: str, kind: str = "SalesInvoice", **changes: Any) -> None:
    """A person adjusts a committed document: `amount` and `tax` of its first line, or `customerCode`."""
    store = documents(town)
    model = orjson.loads(orjson.dumps(dict(store.get(COMPANY_CODE, code, kind).model), default=str))
    line = model["lines"][0]
    line["amount"] = changes.pop("amount", line["amount"])
    if "tax" in changes:
        line["taxOverride"]["taxAmount"] = changes.pop("tax")
    body = {"newTransaction": {**model, **changes, "commit": True}, "adjustmentReason": "PriceAdjusted"}
    tax(town, "POST", f"{code}/adjust?documentType={kind}", body)


def tax_copy(town: Vendors, code: str, new: str) -> None:
    """A person records the same again under another code."""
    store = documents(town)
    model = dict(store.get(COMPANY_CODE, code, "SalesInvoice").model)
    body = orjson.loads(orjson.dumps({**model, "code": new, "commit": True}, default=str))
    auth = (ACCOUNT_ID, LICENSE_KEY)
    answer = httpx.post(f"{town.url}/avalara/api/v2/transactions/create", json=body, auth=auth, verify=False)
    assert answer.status_code == 201, answer.text


def tax_gone(town: Vendors, code: str, kind: str) -> None:
    store = documents(town)
    store.latest.pop((COMPANY_CODE, code, kind))


def lines(*amounts: str) -> dict[str, Any]:
    return {"items": [{"line": number, "amount": amount} for number, amount in enumerate(amounts, 1)]}


THOUSAND = {"items": [{"line": "1", "amount": "1000.00"}]}


def ours(name: str, prefix: str = "") -> Callable[[Life], str]:
    return lambda one: f"stripe_{prefix}{one[name]}"


def sales(name: str) -> Callable[[Life], str]:
    return lambda one: f"SalesInvoice {one[name]}"


N, A = "netsuite", "avalara"
TAMPERINGS = [
    Tampering("an invoice is deleted", lambda t, o: books(t).remove("invoice", f"stripe_{o['gone']}"),
              N, "missing", ours("gone"), True),
    Tampering("an invoice's amount is edited",
              lambda t, o: books(t).edit("invoice", f"stripe_{o['edited']}", item=lines("21.00")),
              N, "amount", ours("edited"), True),
    # 150.00 and 12.00 of tax: the total stays.
    Tampering("an invoice's tax is moved to another line",
              lambda t, o: books(t).edit("invoice", f"stripe_{o['shifted']}", item=lines("151.00", "11.00")),
              N, "tax", ours("shifted"), True),
    # 50.00 and 4.00 of tax.
    Tampering("a credit memo's tax takes from its line",
              lambda t, o: books(t).edit("creditMemo", f"stripe_{o['shifted note']}", item=lines("49.00", "5.00")),
              N, "tax", ours("shifted note"), True),
    Tampering("an invoice is entered once more",
              lambda t, o: books(t).duplicate("invoice", f"stripe_{o['copied']}"),
              N, "duplicate", ours("copied"), False),
    Tampering("an invoice is imported once more under another name",
              lambda t, o: books(t).duplicate("invoice", f"stripe_{o['copied with a name']}", "import-17"),
              N, "duplicate", ours("copied with a name"), False),
    Tampering("a payment is deleted",
              lambda t, o: books(t).remove("customerPayment", f"stripe_{o['pay payment gone']}"),
              N, "missing", ours("pay payment gone"), True),
    Tampering("a payment's amount is edited",
              lambda t, o: books(t).edit("customerPayment", f"stripe_{o['pay payment edited']}", payment="70.00"),
              N, "amount", ours("pay payment edited"), True),
    Tampering("a payment is taken off its invoice",
              lambda t, o: books(t).unapply("customerPayment", f"stripe_{o['pay payment unapplied']}"),
              N, "open", ours("pay payment unapplied"), True),
    Tampering("a credit memo is taken off its invoice",
              lambda t, o: books(t).unapply("creditMemo", f"stripe_{o['note']}"), N, "open", ours("note"), True),
    Tampering("an invoice is moved to another customer",
              lambda t, o: books(t).edit("invoice", f"stripe_{o['moved']}",
                                         entity={"externalId": f"stripe_{o['other']}"}),
              N, "customer", ours("moved"), False),
    Tampering("a refund is deleted",
              lambda t, o: books(t).remove("customerRefund", f"stripe_{o['re refunded note']}"),
              N, "missing", ours("re refunded note"), True),
    Tampering("a credit memo and its refund are deleted",
              lambda t, o: books(t).remove("creditMemo", f"stripe_{o['returned note']}"),
              N, "missing", ours("returned note"), True),
    Tampering("a refund's own credit memo is edited",
              lambda t, o: books(t).edit("creditMemo", f"stripe_memo_{o['refund']}", item=lines("56.00")),
              N, "amount", ours("refund", "memo_"), True),
    Tampering("what takes back an older refund's credit memo is deleted",
              lambda t, o: books(t).remove("invoice", f"stripe_replaces_{o['late note']}"),
              N, "open", ours("late note"), True),
    Tampering("a refund has a credit memo besides that of its credit note",
              lambda t, o: books(t).duplicate("creditMemo", f"stripe_memo_{o['older refund']}",
                                              f"stripe_memo_{o['re refunded note']}"),
              N, "extra", ours("re refunded note", "memo_"), False),
    Tampering("a dispute's refund is deleted",
              lambda t, o: books(t).remove("customerRefund", f"stripe_{o['dispute']}"),
              N, "missing", ours("dispute"), True),
    Tampering("a deposit is deleted", lambda t, o: books(t).remove("deposit", f"stripe_{o['payout']}"),
              N, "missing", ours("payout"), True),
    Tampering("a deposit is edited",
              lambda t, o: books(t).edit("deposit", f"stripe_{o['last payout']}", other=THOUSAND),
              N, "amount", ours("last payout"), True),
    Tampering("a void's credit memo is deleted",
              lambda t, o: books(t).remove("creditMemo", f"stripe_void_{o['wrong']}"),
              N, "missing", ours("wrong", "void_"), True),
    Tampering("an open invoice is voided in the books",
              lambda t, o: books(t).duplicate("invoice", f"stripe_{o['open']}", f"stripe_void_{o['open']}"),
              N, "extra", ours("open", "void_"), False),
    Tampering("an invoice is made up",
              lambda t, o: books(t).duplicate("invoice", f"stripe_{o['open']}", "stripe_in_1MadeUp"),
              N, "extra", lambda _: "stripe_in_1MadeUp", False),
    Tampering("a tax document is gone", lambda t, o: tax_gone(t, o["tax gone"], "SalesInvoice"),
              A, "missing", sales("tax gone"), True),
    Tampering("a tax document's amount is adjusted", lambda t, o: adjust(t, o["tax more"], amount=91),
              A, "amount", sales("tax more"), False),
    Tampering("tax and amount are shifted", lambda t, o: adjust(t, o["tax other"], amount="100.50", tax="7.50"),
              A, "tax", sales("tax other"), False),
    Tampering("a tax document is voided",
              lambda t, o: tax(t, "POST", f"{o['tax void']}/void?documentType=SalesInvoice", {"code": "DocVoided"}),
              A, "status", sales("tax void"), False),
    Tampering("a tax document is uncommitted",
              lambda t, o: tax(t, "POST", f"{o['tax saved']}/uncommit?documentType=SalesInvoice"),
              A, "status", sales("tax saved"), True),
    Tampering("a voided tax document comes back to life",
              lambda t, o: tax(t, "POST", f"{o['wrong too']}/unvoid?documentType=SalesInvoice"),
              A, "status", sales("wrong too"), True),
    Tampering("a tax document is recorded once more", lambda t, o: tax_copy(t, o["tax copied"], "HUB-COPY-1"),
              A, "duplicate", sales("tax copied"), False),
    Tampering("a tax document is made up", lambda t, o: tax_copy(t, o["tax copied"], "in_1MadeUp"),
              A, "extra", lambda _: "SalesInvoice in_1MadeUp", False),
    Tampering("a tax document is of another customer",
              lambda t, o: adjust(t, o["tax customer"], customerCode=o["other"]),
              A, "customer", sales("tax customer"), False),
    Tampering("a return is gone", lambda t, o: tax_gone(t, o["refunded note"], "ReturnInvoice"),
              A, "missing", lambda o: f"ReturnInvoice {o['refunded note']}", True),
    Tampering("the return of a refund comes back to life beside that of its credit note",
              lambda t, o: tax(t, "POST", f"{o['older refund']}/unvoid?documentType=ReturnInvoice"),
              A, "status", lambda o: f"ReturnInvoice {o['older refund']}", True),
    Tampering("a return is adjusted", lambda t, o: adjust(t, o["returned note"], "ReturnInvoice", amount=-41),
              A, "amount", lambda o: f"ReturnInvoice {o['returned note']}", False),
]  # fmt: skip


# The stack


@dataclass
class Desk:
    """A hub, what lives in it, and the reconciler."""

    hub: Hub
    life: Life
    reconciler: Reconciler

    async def reconcile(self, **more: Any) -> Reconciled:
        done = await self.reconciler.reconcile(SINCE, **more)
        assert done is not None
        return done


@pytest.fixture
async def desk(town: Vendors, dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    town.reset()
    life = live(town)
    clock = Running(float(town.stripe.now))
    changes = {
        "HUB_DESTINATIONS": "netsuite,avalara",
        "HUB_STRIPE_RATE": "100",
        "HUB_AVALARA_RATE": "1000",
        "HUB_NETSUITE_CONCURRENCY": "5",
        "HUB_NETSUITE_READ_BACK": "false",  # one call less for each; what is there is read by the reconciliation
    }
    async with hub(dsn, town, clock, monkeypatch, **changes) as one:
        told = [e for e in town.heard if e["type"] in one.core.router.types]
        for start in range(0, len(told), 16):
            await asyncio.gather(*(one.deliver([e]) for e in told[start : start + 16]))
        await one.work()
        clock.now = town.stripe.now + HOUR
        async with command.reconciler(one.core, Patience(longest=0), strict=True) as reconciler:
            yield Desk(one, life, reconciler)


def told(differences: list[Difference]) -> str:
    """For an assertion that fails."""
    rows = [difference_shown(d) for d in differences]
    return "\n".join(f"{r['destination']} {r['difference']} {r['key']}: {r['in_stripe']} / {r['there']}" for r in rows)


def counted(done: Reconciled) -> list[Difference]:
    return [d for result in done.results.values() for d in result.counted]


async def test_books_tie_out_each_tampering_has_its_name_and_what_can_be_mended_is(desk: Desk, town: Vendors) -> None:
    await listed_later(desk, town)
    before = await desk.reconcile()
    assert counted(before) == [], told(counted(before))
    assert before.agrees
    assert all(r.agree == r.documents > 20 for r in before.results.values())
    assert all(total.agrees for r in before.results.values() if r.sides for total in r.sides.totals.values())
    desk.life.ids["re refunded note"] = refund_of(town, desk.life["refunded note"])
    await statements_are_whole(town)

    for tampering in TAMPERINGS:
        tampering.does(town, desk.life)
    found = await desk.reconcile()
    assert names(found) == {t.named(desk.life) for t in TAMPERINGS} | {
        # The refund went with its credit memo, for NetSuite keeps no refund of nothing.
        ("netsuite", "missing", f"stripe_{refund_of(town, desk.life['returned note'])}")
    }, told(counted(found))
    await shown_everywhere(desk, found)

    dry = await desk.reconcile(repair=False)
    assert dry.repairs
    assert (await desk.hub.states())["netsuite waiting"] == 0, "without --yes nothing is sent"
    sent = await desk.reconcile(repair=True)
    assert (sent.repairs, sent.repaired) == (dry.repairs, len(dry.repairs))
    reasons = [r async for r in repairs_sent(desk)]
    assert {r["destinations"] for r in reasons} == {1}, "told to the one destination only"
    again = await desk.reconcile(repair=True)
    assert again.repairs == [], "what is under way is not sent twice"
    await desk.hub.work()
    after = await desk.reconcile()
    assert names(after) == {t.named(desk.life) for t in TAMPERINGS if not t.mended}, told(counted(after))
    assert {d.follows for r in after.results.values() for d in r.differences if not d.counts} == set()


async def listed_later(desk: Desk, town: Vendors) -> None:
    """A refund is booked on its own; then finance makes its credit note: the customer is credited once, everywhere."""
    refund, heard = desk.life["waiting refund"], len(town.heard)
    returned = documents(town).get(COMPANY_CODE, refund, "ReturnInvoice")
    assert returned.status == "Committed"
    desk.life.credit("later note", "listed later", 40, refunds=[{"refund": refund, "amount_refunded": 4320}])
    await asyncio.gather(
        *(desk.hub.deliver([e]) for e in town.heard[heard:] if e["type"] in desk.hub.core.router.types)
    )
    await desk.hub.work()
    returns = [documents(town).get(COMPANY_CODE, i, "ReturnInvoice") for i in (refund, desk.life["later note"])]
    assert [r.status for r in returns] == ["Cancelled", "Committed"]
    held = {r["externalId"] for r in books(town).state()["invoice"]}
    assert f"stripe_replaces_{desk.life['later note']}" in held


async def statements_are_whole(town: Vendors) -> None:
    """Page by page, and by key, they say the same as in one page; and a question whose answer is lost is no unknown."""
    last = SINCE.date() + timedelta(days=60)
    makers: dict[str, Callable[[int], Statement]] = {
        "netsuite": lambda page: NetSuiteStatement(config.read(NetSuiteSettings), None, TABLES, page=page),
        "avalara": lambda page: AvalaraStatement(config.read(AvalaraSettings), page=page),
    }
    for vendor, make in makers.items():
        statements = [make(page) for page in (1000, 3)]
        whole, parts = [[page async for page in s.between(SINCE.date(), last)] for s in statements]
        assert len(parts) >= 10
        assert [e for page in whole for e in page] == [e for page in parts for e in page]
        entries = {e.key: e for page in whole for e in page if e.key}
        nobody = {"netsuite": "stripe_in_1Nobody", "avalara": "SalesInvoice in_1Nobody"}[vendor]
        keyed = await statements[1].keyed([*list(entries)[:7], nobody])
        assert [entries[e.key] for e in keyed] == keyed
        assert len(keyed) == 7
        town.fault(vendor, "drop")
        with pytest.raises(OutcomeError) as caught:
            await statements[0].keyed(list(entries)[:1])
        assert isinstance(caught.value.outcome, Retry)
        for statement in statements:
            await statement.close()


def names(done: Reconciled) -> set[tuple[str, str, str]]:
    return {(d.destination, str(d.name), d.entry.key) for d in counted(done)}


def refund_of(town: Vendors, note: str) -> str:
    return str(town.stripe.call("GET", f"/v1/credit_notes/{note}")["refunds"][0]["refund"])


async def repairs_sent(desk: Desk) -> AsyncIterator[Any]:
    text = (
        "SELECT e.id, count(DISTINCT d.destination) AS destinations FROM events e JOIN deliveries d"
        " ON d.event_seq = e.seq WHERE e.id LIKE 'reconcile:%' GROUP BY e.id"
    )
    for row in await desk.hub.core.db.fetch_text(text):
        yield dict(row)


async def shown_everywhere(desk: Desk, found: Reconciled) -> None:
    """The last result: by the API, as metrics, as a table, JSON and CSV."""
    token = {"authorization": f"Bearer {TOKEN}"}
    answer = await desk.hub.http.get("/api/v1/reconciliations?destination=netsuite&limit=1", headers=token)
    (row,) = answer.json()["items"]
    result = found.results["netsuite"]
    assert (row["documents"], row["agree"], row["counts"]) == (result.documents, result.agree, dict(result.by_name))
    assert {d["key"] for d in row["differences"] if d["state"] == "difference"} == {d.entry.key for d in result.counted}
    scraped = (await desk.hub.http.get("/metrics")).text
    for name, count in result.by_name.items():
        assert f'hub_differences{{destination="netsuite",name="{name}"}} {float(count)}' in scraped
    assert 'hub_differences{destination="netsuite",name="currency"} 0.0' in scraped
    as_json = orjson.loads(command.rendered(found, "json", None))
    assert as_json["destinations"]["netsuite"]["differences"] == len(result.counted)
    lines_ = command.rendered(found, "csv", None).splitlines()
    assert sum(line.startswith("difference,") for line in lines_) == len(as_json["differences"])
    assert sum(line.startswith("total,") for line in lines_) == len(as_json["totals"])
    page = command.rendered(found, "table", None)
    assert found.said()[0] in page
    assert f"differences {len(result.counted)}" in page


async def test_the_command_reads_its_settings_and_says_what_it_did(
    town: Vendors, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.reset()
    life = Life(town, dict(shop(town)))
    life.bill("gone", 10)
    town.stripe.advance(DAY)
    clock = Running(float(town.stripe.now))
    async with hub(dsn, town, clock, monkeypatch, HUB_DESTINATIONS="avalara,netsuite", HUB_STRIPE_RATE="100") as one:
        settings, stripe = app.read_settings(serving=False)
        command.checked("csv", ["netsuite"], settings, None, None)
        with pytest.raises(ConfigError) as caught:
            command.checked("xml", ["salesforce"], settings, SINCE, SINCE)
        assert len(caught.value.problems) == 3

        async def run(**more: Any) -> Reconciled:
            usual = {"since": SINCE, "until": None, "destinations": ["netsuite"], "repair": None}
            return await command.reconcile(settings, stripe, dsn, Console(quiet=True), **(usual | more))

        # Nothing was ever delivered: a missed webhook's document is missing, and a repair brings it in.
        done = await run(repair=True)
        assert names(done) == {("netsuite", "missing", f"stripe_{life[n]}") for n in ("gone", "pay gone")}
        await one.work()
        assert (await run()).agrees
        assert (await run(destinations=["avalara"])).said()[0].startswith("avalara: 0 of 1 agree")
        town.fault("netsuite", "status", "POST .*suiteql", times=None, status=401, body='{"title": "Unauthorized"}')
        with pytest.raises(HubError, match=r"did not come to its end"):
            await run()
