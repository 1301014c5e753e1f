"""`hub netsuite preflight`: a good account is good, and each thing that is wrong in one is named, and nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typer.testing import CliRunner

from connectors.netsuite.preflight import preflight
from connectors.netsuite.preflight_account import Sleep
from connectors.netsuite.preflight_checks import Finding
from connectors.netsuite.sandbox_env import environment
from hub import cli
from hub.errors import Defer, OutcomeError
from hub.mapping import Mappings, load
from hub.money import EXPONENTS
from tests.connectors.netsuite_kit import MAPPINGS, World
from tests.serving import served

TODAY = date(2026, 1, 15)


def masters(w: World, kind: str) -> dict[str, dict[str, Any]]:
    """What an administrator keeps: the simulator lets nobody write it over HTTP."""
    w.sim._books.version += 1
    return w.sim._books.records[kind]


def master(w: World, kind: str, external_id: str) -> dict[str, Any]:
    return next(r for r in masters(w, kind).values() if r.get("externalId") == external_id)


Edit = tuple[str, str, str]
"""File, old text, new text."""


def edited(folder: Path, *edits: Edit) -> Mappings:
    """The mappings and tables of this destination, with some of their text changed."""
    shutil.copytree(MAPPINGS / "netsuite", folder / "netsuite")
    shutil.copytree(MAPPINGS / "lookups", folder / "lookups", ignore=shutil.ignore_patterns("avalara_*"))
    for file, old, new in edits:
        text = (folder / file).read_text()
        assert old in text, f"{file} has changed: {old!r} is not in it"
        (folder / file).write_text(text.replace(old, new, 1))
    return load(folder)


async def look(w: World, mappings: Mappings, sleep: Sleep = asyncio.sleep, **settings: Any) -> list[Finding]:
    chosen = w.settings(**settings)
    seen = {"timezone": "UTC", **{f"netsuite_{k}": v for k, v in chosen.model_dump(mode="json").items()}}
    family = mappings.for_destination("netsuite").values()
    return await preflight(chosen, family, mappings.tables, seen, TODAY, EXPONENTS, sleep=sleep)


async def test_a_good_account_is_ok_everywhere_and_nothing_is_written(
    netsuite: World, netsuite_mappings: Mappings
) -> None:
    netsuite.sim.reset()
    netsuite.sim.configure(administrator=True)
    before, seen = netsuite.sim.state(), len(netsuite.tap.seen)
    found = await look(netsuite, netsuite_mappings)
    assert {f.verdict for f in found if f.check != "currency"} == {"ok"}
    # NetSuite has no precision of three, Stripe's amounts in dinars have three places.
    assert [f.cause.split(" (")[0] for f in found if f.verdict != "ok"] == ["currency KWD"]
    assert {f.check for f in found} >= {
        "role", "fields of customer", "fields of invoice", "fields of creditMemo", "fields of customerPayment",
        "fields of customerRefund", "fields of deposit", "item", "account", "currency", "subsidiary",
        "currencies of a customer", "accounting period", "tax", "AvaTax in NetSuite", "requests at once",
        "base currency",
    }  # fmt: skip
    assert netsuite.sim.state() == before
    calls = {(method, path.partition("?")[0]) for method, path, _ in netsuite.tap.seen[seen:]}
    posts = {path.rpartition("/rest/")[2] for method, path in calls if method != "GET"}
    assert posts <= {"query/v1/suiteql", "auth/oauth2/v1/token"}


@dataclass(frozen=True)
class Seed:
    """One misconfiguration, and what must be said of it: the check, and words of the cause and of the fix."""

    check: str
    cause: tuple[str, ...]
    fix: tuple[str, ...]
    do: Callable[[World], object] = lambda _: None
    settings: dict[str, Any] = field(default_factory=dict)
    edit: Edit | None = None
    also: str = ""
    """What it makes wrong besides, by words of the cause."""


def gone(kind: str, external_id: str) -> Callable[[World], object]:
    return lambda w: master(w, kind, external_id).update(externalId="somebody_elses")


def with_(kind: str, external_id: str, **fields: Any) -> Callable[[World], object]:
    return lambda w: master(w, kind, external_id).update(fields)


def twice(w: World) -> None:
    rows = masters(w, "serviceSaleItem")
    rows["900"] = {**rows["101"], "itemId": "Subscriptions, old"}


SEEDS = {
    "an item is missing": Seed(
        "item", ("no item with the external id hub_dispute", "netsuite_items.yaml, dispute"),
        ("Lists > Accounting > Items", "correct mappings/lookups/netsuite_items.yaml, dispute"),
        gone("otherChargeSaleItem", "hub_dispute"),
    ),
    "an item is inactive": Seed(
        "item", ("Refunds", "hub_refund", "is inactive"), ("Make it active",),
        with_("otherChargeSaleItem", "hub_refund", isInactive=True),
    ),
    "an item is not for the subsidiary": Seed(
        "item", ("hub_tax", "may not be used in the subsidiary Parent Company"), ("Add the subsidiary to it",),
        with_("otherChargeSaleItem", "hub_tax", subsidiary=("2",)),
    ),
    "two items have the external id": Seed(
        "item", ("external id hub_subscription is borne by 2 records",), ("Take it from all but one",), twice
    ),
    "an account is missing": Seed(
        "account", ("no account with the external id hub_fees",), ("Lists > Accounting > Accounts",),
        gone("account", "hub_fees"),
    ),
    "the clearing account is an income account": Seed(
        "account", ("hub_stripe_clearing", "type Income", "account of customerPayment"), ("Name another",),
        with_("account", "hub_stripe_clearing", acctType=("Income", "Income")),
    ),
    "fees go to a bank account": Seed(
        "account", ("hub_fees", "type Bank", "wants an income or expense account"), ("Name another",),
        with_("account", "hub_fees", acctType=("Bank", "Bank")),
    ),
    "the clearing account takes euros only": Seed(
        "account", ("hub_stripe_clearing", "one currency only (EUR)", "usd"), ("without a currency",),
        with_("account", "hub_stripe_clearing", currency="4"),
    ),
    "the bank account for euros is kept in pounds": Seed(
        "account", ("hub_bank_eur", "kept in GBP"), ("of that currency",),
        with_("account", "hub_bank_eur", currency="2"),
    ),
    "a currency is missing": Seed(
        "currency", ("no currency with the internal id 3", "netsuite_currencies.yaml, cad"), ("Currencies",),
        lambda w: masters(w, "currency").pop("3"),
    ),
    "a currency keeps no cents": Seed(
        "currency", ("GBP", "keeps 0 decimal places, Stripe sends 2"), ("Currency Precision",),
        lambda w: masters(w, "currency")["2"].update(currencyPrecision=0),
    ),
    "a currency is another": Seed(
        "currency", ("netsuite_currencies.yaml, eur means EUR", "is CAD"), ("Correct",),
        edit=("lookups/netsuite_currencies.yaml", 'eur: "4"', 'eur: "3"'),
    ),
    "a customer may not use a currency": Seed(
        "currencies of a customer", ("may not use sek",), ("customer.yaml equal",),
        edit=("lookups/netsuite_currencies.yaml", "eur:", 'sek: "9"\neur:'),
    ),
    "the period is closed": Seed(
        "accounting period", ("Jan 2026", "is closed"), ("Manage Accounting Periods: reopen",),
        lambda w: w.sim.close_period("2026-01"),
    ),
    "the role may not write refunds": Seed(
        "role", ("may not edit customerRefund",), ("Manage Roles", "Customer Refund, level Full"),
        lambda w: w.sim.configure(denied={"customerRefund": "view"}),
    ),
    "the account lacks a custom field": Seed(
        "fields of invoice", ("custbody_region", "mappings/netsuite/invoice.yaml"), ("create the field",),
        edit=("netsuite/invoice.yaml", "  memo:", "  custbody_region: \"'EMEA'\"\n  memo:"),
    ),
    "NetSuite fills a field itself": Seed(
        "fields of invoice", ("fills amountRemaining of invoice itself",), ("Take the line out",),
        edit=("netsuite/invoice.yaml", "  memo:", "  amountRemaining: 1\n  memo:"),
    ),
    "a text is cut too late": Seed(
        "fields of customer", ("companyName of customer takes 83 characters", "up to 830"), ("`83`",),
        edit=("netsuite/customer.yaml", "`83`", "`830`"),
    ),
    "a table lacks a fixed word": Seed(
        "lookup table netsuite_accounts", ("no entry for 'stripe', which is looked up by", "payment.yaml"), ("Add",),
        edit=("lookups/netsuite_accounts.yaml", "stripe: hub_stripe", "strip: hub_stripe"),
    ),
    "SuiteTax is off": Seed(
        "tax", ("SuiteTax feature is off",), ("HUB_NETSUITE_TAX=line",), settings={"tax": "suitetax"}
    ),
    "SuiteTax is on": Seed(
        "tax", ("SuiteTax is on",), ("HUB_NETSUITE_TAX=suitetax",), lambda w: w.sim.configure(suitetax=True),
        also="customer has no vatRegNumber",  # SuiteTax keeps such numbers elsewhere
    ),
    "AvaTax would tax a second time": Seed(
        "AvaTax in NetSuite", ("tax these a second time", "invoice.yaml"),
        ("HUB_NETSUITE_DISABLE_TAX_FIELD=custbody_ava_disable_tax_calculation",),
        lambda w: w.sim.configure(avatax_bundle=True),
    ),
    "the field that quiets AvaTax is not there": Seed(
        "AvaTax in NetSuite", ("custbody_ava_disable_tax_calculation", "invoice and creditMemo do not have"),
        ("leave it empty",), settings={"disable_tax_field": "custbody_ava_disable_tax_calculation"},
    ),
    "more requests than allowed": Seed(
        "requests at once", ("HUB_NETSUITE_CONCURRENCY is 9", "allows the hub 5"), ("Set it to 4",),
        lambda w: w.sim.configure(administrator=True), {"concurrency": 9},
    ),
    "the books are kept in another currency": Seed(
        "base currency", ("books of own", "kept in USD", "says EUR"), ("netsuite_base_currencies.yaml, own",),
        edit=("lookups/netsuite_base_currencies.yaml", "usd", "eur"),
    ),
}  # fmt: skip


GROUPS = {
    "what somebody has changed in the account": (
        "an item is missing", "an item is inactive", "an item is not for the subsidiary",
        "two items have the external id", "an account is missing", "the clearing account is an income account",
        "the bank account for euros is kept in pounds", "a currency is missing", "a currency keeps no cents",
        "the period is closed", "the role may not write refunds", "AvaTax would tax a second time",
    ),
    "an account that was set up otherwise": (
        "fees go to a bank account", "the clearing account takes euros only", "SuiteTax is on",
        "more requests than allowed",
    ),
    "what the mappings, tables and settings say": (
        "a currency is another", "a customer may not use a currency", "the account lacks a custom field",
        "NetSuite fills a field itself", "a text is cut too late", "a table lacks a fixed word", "SuiteTax is off",
        "the field that quiets AvaTax is not there", "the books are kept in another currency",
    ),
}  # fmt: skip
"""Read together, because each reading costs its requests: no seed of a group hides or causes another."""


@pytest.mark.parametrize("group", GROUPS)
async def test_all_that_is_wrong_is_named_at_once_with_where_to_correct_it_and_nothing_else_is(
    group: str, netsuite: World, netsuite_mappings: Mappings, tmp_path: Path
) -> None:
    assert {n for names in GROUPS.values() for n in names} == SEEDS.keys()
    seeds = {name: SEEDS[name] for name in GROUPS[group]}
    settings = {k: v for s in seeds.values() for k, v in s.settings.items()}
    edits = [s.edit for s in seeds.values() if s.edit]
    netsuite.sim.reset()
    for seed in seeds.values():
        seed.do(netsuite)
    mappings = edited(tmp_path / "mappings", *edits) if edits else netsuite_mappings
    said = [f for f in await look(netsuite, mappings, **settings) if f.verdict == "wrong"]
    for name, seed in seeds.items():
        fitting = [f for f in said if f.check == seed.check and all(w in f.cause for w in seed.cause)]
        assert len(fitting) == 1, (name, said)
        assert [w for w in seed.fix if w not in fitting[0].fix] == [], fitting
        said.remove(fitting[0])
        if seed.also:
            (beside,) = [f for f in said if seed.also in f.cause]
            said.remove(beside)
    assert said == []


GOOD: dict[str, tuple[Callable[[World], object], dict[str, Any], tuple[Edit, ...]]] = {
    "SuiteTax, and the setting says so": (lambda w: w.sim.configure(suitetax=True), {"tax": "suitetax"}, ()),
    "AvaTax, and it is told to leave our documents alone": (
        lambda w: w.sim.configure(avatax_bundle=True),
        {"disable_tax_field": "custbody_ava_disable_tax_calculation"}, (),
    ),
    "a closed period whose documents go to the next": (
        lambda w: w.sim.close_period("2026-01"), {"closed_period": "redate"}, ()
    ),
    "an item is missing that only a booking needs which is switched off": (
        gone("otherChargeSaleItem", "hub_write_off"), {"write_off": "none"}, ()
    ),
    "a second Stripe account with a subsidiary and a bank account of its own": (
        lambda w: master(w, "account", "hub_us_bank_fees").update(subsidiary=()), {},
        (
            ("lookups/netsuite_subsidiaries.yaml", 'own: "1"', 'own: "1"\nacct_2: "2"'),
            ("lookups/netsuite_accounts.yaml", "bank/eur:", "acct_2/bank: hub_bank_europe\nbank/eur:"),
            ("lookups/netsuite_base_currencies.yaml", '"*": usd', 'acct_2: eur\n"*": usd'),
        ),
    ),
    "the base currency is another, but the rates are NetSuite's": (
        lambda w: None, {"exchange_rates": "netsuite"}, (("lookups/netsuite_base_currencies.yaml", "usd", "eur"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
async def test_nothing_is_said_to_be_wrong_that_works(
    name: str, netsuite: World, netsuite_mappings: Mappings, tmp_path: Path
) -> None:
    do, settings, edits = GOOD[name]
    netsuite.sim.reset()
    do(netsuite)
    found = await look(netsuite, edited(tmp_path / "mappings", *edits) if edits else netsuite_mappings, **settings)
    assert [f for f in found if f.verdict == "wrong"] == []


class Elsewhere:
    """The simulator as an account of another kind: items have no column `subsidiary` but a map, subsidiaries have
    parents, and every third request meets the limit of requests at once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.limited, self._count = app, 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message.get("body", b"")
        body += message.get("body", b"")
        self._count += "/rest/auth/" not in scope["path"]
        if "/rest/auth/" not in scope["path"] and self._count % 3 == 0:
            self.limited += 1
            await _refuse(429, "CONCURRENCY_LIMIT_EXCEEDED")(scope, receive, send)
            return
        query = json.loads(body)["q"] if scope["path"].endswith("/suiteql") else ""
        answer = self._answer(query)
        if answer is not None:
            await answer(scope, receive, send)
            return
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(given, None) or await receive()

        await self.app(scope, again, send)

    @staticmethod
    def _answer(query: str) -> Response | None:
        rows: list[dict[str, str]] | None = None
        if query.startswith("SELECT id, subsidiary FROM item "):
            return _refuse(400, "USER_ERROR")
        if " FROM itemsubsidiarymap " in query:
            # Item 101 belongs to subsidiary 9, whose child is 1, with children; 102 to 9 alone; the others to 1.
            rows = [{"id": str(n), "subsidiary": "9" if n < 103 else "1"} for n in range(101, 112)]
        if query.startswith("SELECT id, includechildren FROM item "):
            rows = [{"id": "101", "includechildren": "T"}, {"id": "102", "includechildren": "F"}]
        if query.startswith("SELECT id, parent, iselimination FROM subsidiary"):
            rows = [{"id": "1", "parent": "9", "iselimination": "F"}]
        return None if rows is None else JSONResponse({"items": rows, "hasMore": False})


def _refuse(status: int, code: str) -> Response:
    return JSONResponse({"status": status, "o:errorDetails": [{"detail": "no", "o:errorCode": code}]}, status)


async def test_an_account_of_another_kind_is_read_too_and_its_limit_is_waited_for(
    netsuite: World, netsuite_mappings: Mappings
) -> None:
    netsuite.sim.reset()
    elsewhere, waits = Elsewhere(netsuite.sim.app), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with served(elsewhere) as url:
        found = await look(replace(netsuite, url=url), netsuite_mappings, sleep)
    assert len(waits) == elsewhere.limited > 5
    assert all(2 <= w <= 6 for w in waits)
    said = [f for f in found if f.verdict == "wrong"]
    assert [f.check for f in said] == ["item"], said
    assert "Discounts (external id hub_discount" in said[0].cause
    assert "may not be used in the subsidiary Parent Company" in said[0].cause


async def test_refused_credentials_are_said_once_and_not_as_findings(
    netsuite: World, netsuite_mappings: Mappings
) -> None:
    netsuite.sim.reset()
    with pytest.raises(OutcomeError) as refused:
        await look(netsuite, netsuite_mappings, certificate_id="another")
    assert isinstance(refused.value.outcome, Defer)
    assert "NetSuite refuses our credentials" in refused.value.outcome.reason


def test_the_command_shows_a_table_or_json_and_its_exit_code_says_whether_all_is_well(
    netsuite: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment(netsuite.url).items():
        monkeypatch.setenv(name, value)
    edited(tmp_path / "mappings")
    monkeypatch.setenv("HUB_MAPPINGS_DIR", str(tmp_path / "mappings"))
    monkeypatch.chdir(tmp_path)
    netsuite.sim.reset()
    good = CliRunner().invoke(cli.app, ["netsuite", "preflight"])
    assert good.exit_code == 0, good.output
    assert good.stdout.splitlines()[-1].startswith("nothing is wrong: ")
    netsuite.sim.configure(avatax_bundle=True)
    bad = CliRunner().invoke(cli.app, ["netsuite", "preflight", "--format", "json"])
    assert bad.exit_code == 1
    rows = json.loads(bad.stdout)
    assert [r["check"] for r in rows if r["verdict"] == "wrong"] == ["AvaTax in NetSuite"]
    assert {*rows[0]} == {"check", "verdict", "cause", "fix"}
