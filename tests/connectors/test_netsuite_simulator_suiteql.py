"""The simulator's SuiteQL: the tables a reconciliation and a preflight ask, and what the real service refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.errors import Reply
from connectors.netsuite.limit import Limit
from connectors.netsuite.wire import loads
from tests.connectors.netsuite_kit import World

D = Decimal


class Asker:
    def __init__(self, w: World) -> None:
        self.w, self.sim, self.client = w, w.sim, NetSuiteClient(w.settings(), Limit(1))

    async def reply(self, query: str, *params: Any, **page: str) -> Reply:
        return await self.client.call(
            "POST", "/query/v1/suiteql", record="suiteql", params=page, body={"q": query, "params": list(params)},
            headers={"Prefer": "transient"},
        )  # fmt: skip

    async def __call__(self, query: str, *params: Any) -> list[tuple[str | None, ...]]:
        """The rows, in the order of the columns asked for."""
        reply = await self.reply(query, *params)
        assert reply.status == 200, reply.text
        items = loads(reply.text)["items"]
        assert all(
            item["links"] == [] and all(isinstance(v, str) for k, v in item.items() if k != "links") for item in items
        )
        names = sorted({n for item in items for n in item} - {"links"})
        assert all(name == name.lower() for name in names)
        return [tuple(v for k, v in item.items() if k != "links") for item in items]

    async def refused(self, query: str, *params: Any) -> str:
        reply = await self.reply(query, *params)
        assert (reply.status, reply.details[0]["o:errorCode"]) == (400, "USER_ERROR")
        return str(reply.details[0]["detail"])


@pytest.fixture
async def ask(netsuite: World) -> AsyncIterator[Asker]:
    """An invoice over 100.00 EUR (1.1), 60.00 of it paid at 1.12, a memo over 25.00, all in January."""
    sim = netsuite.sim
    sim.reset()
    who, euro = {"externalId": "c1"}, {"currency": {"id": "4"}, "tranDate": "2026-01-10"}

    def line(item: str, amount: int) -> dict[str, Any]:
        return {"items": [{"item": {"externalId": item}, "amount": amount}]}

    sim.create(
        "customer",
        "c1",
        companyName="Acme",
        subsidiary={"id": "1"},
        currencyList={"items": [{"currency": {"id": "4"}}]},
    )
    sim.create("invoice", "in", entity=who, memo="in_1", item=line("hub_subscription", 100), **euro)
    to = {"items": [{"doc": {"externalId": "in"}, "apply": True, "amount": 60}]}
    clearing = {"externalId": "hub_stripe_clearing"}
    sim.create(
        "customerPayment", "pay", customer=who, payment="60", account=clearing, exchangeRate="1.12", apply=to, **euro
    )
    sim.create("creditMemo", "cn", entity=who, item=line("hub_credit_note", 25), **{**euro, "tranDate": "2026-01-31"})
    asker = Asker(netsuite)
    yield asker
    await asker.client.close()


async def test_transactions_with_what_is_open_and_what_paid_them(ask: Asker) -> None:
    found = await ask(
        "SELECT t.externalid, t.type, t.foreigntotal, t.foreignamountunpaid, t.foreignpaymentamountunused "
        "FROM transaction t WHERE t.entity = (1) ORDER BY t.externalid"
    )
    assert found == []
    found = await ask(
        "SELECT t.externalid, t.type, t.foreigntotal, t.foreignamountunpaid, t.foreignpaymentamountunused "
        "FROM transaction t JOIN customer c ON c.id = t.entity WHERE c.externalid = ? ORDER BY t.externalid", "c1",
    )  # fmt: skip
    assert found == [("cn", "CustCred", "-25", "25"), ("in", "CustInvc", "100", "40"), ("pay", "CustPymt", "-60", "0")]
    links = await ask(
        "SELECT p.externalid, l.foreignamount, l.linktype, l.previoustype, l.nexttype FROM NextTransactionLineLink l "
        "JOIN transaction i ON i.id = l.previousdoc JOIN transaction p ON p.id = l.nextdoc WHERE i.externalid = 'in'"
    )
    assert links == [("pay", "60", "Payment", "CustInvc", "CustPymt")]
    assert await ask(
        "SELECT BUILTIN.DF(status), BUILTIN.DF(t.currency) FROM transaction t WHERE externalid = 'in'"
    ) == [("Invoice : Open", "EUR")]


async def test_the_subsidiary_and_the_ledger_are_on_the_lines(ask: Asker) -> None:
    assert "'subsidiary' was not found" in await ask.refused("SELECT subsidiary FROM transaction")
    lines = "transactionline l JOIN transaction t ON t.id = l.transaction"
    main = f"SELECT l.subsidiary, l.foreignamount, l.netamount FROM {lines}"
    assert await ask(f"{main} WHERE t.externalid = 'in' AND l.mainline = 'T'") == [("1", "100", "110")]
    assert await ask(f"{main} WHERE t.externalid = 'in' AND l.mainline = 'F'") == [("1", "-100", "-110")]
    # Clearing: 60.00 EUR at 1.12. Everything together is nothing.
    sums = (
        "SELECT a.externalid, SUM(l.amount) AS amount FROM transactionaccountingline l "
        "JOIN account a ON a.id = l.account WHERE a.externalid IN ('hub_stripe_clearing', 'hub_sales') "
        "GROUP BY a.externalid ORDER BY a.externalid"
    )
    assert await ask(sums) == [("hub_sales", "-110"), ("hub_stripe_clearing", "67.2")]
    assert await ask("SELECT SUM(amount) AS total FROM transactionaccountingline") == [("0",)]


async def test_dates_need_to_date_and_come_in_the_accounts_format_unless_asked(ask: Asker) -> None:
    january = "trandate >= TO_DATE(?, 'YYYY-MM-DD') AND trandate < TO_DATE('2026-01-31', 'YYYY-MM-DD')"
    columns = "externalid, trandate, TO_CHAR(trandate, 'YYYY-MM-DD') AS day"
    query = f"SELECT {columns} FROM transaction WHERE {january} ORDER BY id"
    assert await ask(query, "2026-01-01") == [("in", "1/10/2026", "2026-01-10"), ("pay", "1/10/2026", "2026-01-10")]
    assert "TO_DATE" in await ask.refused("SELECT id FROM transaction WHERE trandate >= '2026-01-01'")
    assert "TO_DATE" in await ask.refused("SELECT id FROM transaction WHERE trandate >= ?", "2026-01-01")


async def test_the_lists_of_an_account(ask: Asker) -> None:
    assert await ask("SELECT symbol, exchangerate FROM currency WHERE symbol IN ('USD', 'EUR') ORDER BY symbol") == [
        ("EUR", "1.1"), ("USD", "1"),
    ]  # fmt: skip
    # 1 USD in EUR: 1 / 1.1, eight places.
    pair = "BUILTIN.DF(basecurrency) = 'EUR' AND BUILTIN.DF(transactioncurrency) = 'USD'"
    assert await ask(f"SELECT exchangerate FROM currencyrate WHERE {pair}") == [("0.90909091",)]
    banks = "acctnumber LIKE '100_' AND externalid IS NOT NULL"
    assert await ask(f"SELECT externalid, accttype, subsidiary FROM account WHERE {banks} ORDER BY id") == [
        ("hub_bank", "Bank", "1"), ("hub_bank_eur", "Bank", "1"), ("hub_bank_europe", "Bank", "2"),
    ]  # fmt: skip
    account = "item i LEFT JOIN account a ON a.id = i.incomeaccount"
    found = await ask(f"SELECT i.itemid, a.externalid FROM {account} WHERE i.externalid = ?", "hub_dispute")
    assert found == [("Disputes", "hub_disputes")]
    ours = "isinactive = 'F' AND externalid LIKE 'hub!_%' ESCAPE '!'"
    assert await ask(f"SELECT COUNT(*) AS n FROM item WHERE {ours}") == [("11",)]
    ask.sim.close_period("2026-01")
    ask.sim.close_period("2026-02", "arLocked")
    shut = "accountingperiod WHERE closed = 'T' OR arlocked = 'T' ORDER BY startdate"
    assert await ask(f"SELECT periodname, closed, arlocked FROM {shut}") == [
        ("Jan 2026", "T", "F"), ("Feb 2026", "F", "T"),
    ]  # fmt: skip
    for table in ("department", "classification", "location", "term", "subsidiary", "itemsubsidiarymap"):
        assert await ask(f"SELECT COUNT(*) AS n FROM {table}") != [("0",)]


async def test_what_suiteql_lacks_is_refused(ask: Asker) -> None:
    for query in (
        "SELECT id FROM transaction LIMIT 5",
        "SELECT * FROM transaction",
        "SELECT sqlite_version() FROM transaction",
        "SELECT id FROM transaction; SELECT id FROM customer",
        "SELECT id FROM transaction -- all",
        'SELECT "id" FROM transaction',
        "DELETE FROM transaction",
        "SELECT id FROM spaceship",
        "SELECT colour FROM transaction",
        "SELECT id FROM transaction WHERE id = ?",
        "SELECT id FROM (SELECT id FROM transaction)",
        "SELECT t.id__df FROM transaction t",
    ):
        await ask.refused(query)


async def test_pages_are_multiples_of_the_limit_and_the_header_is_needed(ask: Asker) -> None:
    whole = "SELECT id FROM accountingperiod ORDER BY id"
    page = loads((await ask.reply(whole, limit="100", offset="200")).text)
    assert (page["count"], page["totalResults"], page["hasMore"], page["items"][0]["id"]) == (40, 240, False, "201")
    assert (await ask.reply(whole, limit="100", offset="50")).status == 400
    assert (await ask.reply(whole, limit="1001")).status == 400
    bare = await ask.client.request("POST", "/query/v1/suiteql", content=json.dumps({"q": whole}).encode())
    assert bare.status_code == 400


async def test_what_the_role_may_not_view_is_simply_not_there(ask: Asker) -> None:
    ask.sim.configure(denied={"creditMemo": "none"})
    assert await ask("SELECT type FROM transaction ORDER BY id") == [("CustInvc",), ("CustPymt",)]


async def test_a_change_is_seen_by_the_next_query(ask: Asker) -> None:
    await ask("SELECT COUNT(*) AS n FROM transaction")
    ask.sim.edit("invoice", "in", memo="moved")
    assert await ask("SELECT memo FROM transaction WHERE externalid = 'in'") == [("moved",)]
