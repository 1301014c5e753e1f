"""The simulator, asked through simple-salesforce as an outsider would: it must refuse what Salesforce refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError

from connectors.salesforce.sandbox_env import CLIENT_ID, CLIENT_SECRET, DOMAIN
from connectors.salesforce.simulator import SalesforceSimulator
from connectors.salesforce.simulator.store import checksum
from tests.serving import served


class _ToLocal(HTTPAdapter):
    def __init__(self, base: str) -> None:
        self.base = base
        super().__init__()

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        request.url = self.base + "/" + request.url.split("/", 3)[3]
        return super().send(request, *args, **kwargs)


@contextlib.contextmanager
def org() -> Iterator[tuple[SalesforceSimulator, Any, list[float]]]:
    """The simulator, a library client for it, and the clock."""
    now = [1_767_225_600.0]
    sim = SalesforceSimulator(seed=7, clock=lambda: now[0])
    with served(sim.app) as base, requests.Session() as session:
        session.trust_env = False
        session.mount("https://", _ToLocal(base))
        yield sim, _connect(session), now


def _connect(session: requests.Session, **more: Any) -> Salesforce:
    given = {"consumer_key": CLIENT_ID, "consumer_secret": CLIENT_SECRET, "domain": DOMAIN, "version": "67.0", **more}
    return Salesforce(session=session, parse_float=Decimal, object_pairs_hook=dict, **given)


def _upsert(sf: Any, kind: str, *records: dict[str, Any], key: str = "Stripe_Id__c", **more: Any) -> Any:
    rows = [{"attributes": {"type": kind}, **r} for r in records]
    return sf.restful(f"composite/sobjects/{kind}/{key}", method="PATCH", json={"records": rows, **more})


def _accounts(sf: Any, *records: dict[str, Any], **more: Any) -> Any:
    return _upsert(sf, "Account", *records, key="Stripe_Customer_Id__c", **more)


def _account(n: int, **more: Any) -> dict[str, Any]:
    return {"Stripe_Customer_Id__c": f"cus_{n}", "Name": f"Customer {n}", **more}


def _refusal(call: Any) -> tuple[int, str]:
    with pytest.raises(SalesforceError) as raised:
        call()
    content: Any = raised.value.content
    return raised.value.status, content[0]["errorCode"]


def test_one_record_by_id_and_by_key() -> None:
    with org() as (sim, sf, _):
        made = sf.Account.upsert("Stripe_Customer_Id__c/cus_1", {"Name": "Acme"}, raw_response=True)
        assert (made.status_code, made.json()["created"]) == (201, True)
        again = sf.Account.upsert("Stripe_Customer_Id__c/cus_1", {"Phone": "1"}, raw_response=True)
        assert (again.status_code, again.json()["created"], again.json()["id"]) == (200, False, made.json()["id"])
        record_id = made.json()["id"]
        assert len(record_id) == 18
        assert record_id.startswith("001")
        assert sf.Account.update(record_id, {"Phone": "2"}) == 204
        got = sf.Account.get(record_id)
        assert (got["Name"], got["Phone"], got["CreatedDate"]) == ("Acme", "2", "2026-01-01T00:00:00.000+0000")
        assert got["attributes"]["url"] == f"/services/data/v67.0/sobjects/Account/{record_id}"
        assert sf.Account.get_by_custom_id("Stripe_Customer_Id__c", "cus_1")["Id"] == record_id
        assert _refusal(lambda: sf.Account.get_by_custom_id("Stripe_Customer_Id__c", "CUS_1")) == (404, "NOT_FOUND")
        path = "sobjects/Account/Stripe_Customer_Id__c/cus_9?updateOnly=true"
        assert _refusal(lambda: sf.restful(path, method="PATCH", json={"Name": "x"})) == (404, "NOT_FOUND")
        key_twice = {"Name": "x", "Stripe_Customer_Id__c": "cus_1"}
        assert _refusal(lambda: sf.Account.upsert("Stripe_Customer_Id__c/cus_1", key_twice)) == (400, "INVALID_FIELD")
        assert _refusal(lambda: sf.Account.upsert("Name/Acme", {"Phone": "1"})) == (404, "NOT_FOUND")
        created = sf.Account.create({"Name": "By hand"})
        assert created["success"] is True
        assert sf.Account.delete(record_id) == 204
        assert _refusal(lambda: sf.Account.get(record_id)) == (404, "ENTITY_IS_DELETED")
        # The recycle bin does not hold the key.
        assert sf.Account.upsert("Stripe_Customer_Id__c/cus_1", {"Name": "Acme 2"}) == 201
        assert [a["Name"] for a in sim.state()["Account"]] == ["By hand", "Acme 2"]


def test_collections() -> None:
    with org() as (sim, sf, _):
        assert len(_accounts(sf, *[_account(n) for n in range(200)])) == 200
        too_many = [_account(n) for n in range(201)]
        assert _refusal(lambda: _accounts(sf, *too_many)) == (400, "EXCEEDED_ID_LIMIT")
        twice = _accounts(sf, _account(1, Phone="a"), _account(2, Phone="b"), _account(1, Phone="c"))
        assert [r["success"] for r in twice] == [False, True, False]
        assert twice[0]["errors"] == [
            {
                "statusCode": "DUPLICATE_VALUE",
                "message": "Duplicate external id specified: cus_1",
                "fields": ["Stripe_Customer_Id__c"],
            }
        ]
        assert sim.record("Account", "cus_1")["Phone"] is None
        mixed = _accounts(sf, _account(3, Phone="x"), _account(4, Name=None), allOrNone=True)
        assert [r["errors"][0]["statusCode"] for r in mixed] == [
            "ALL_OR_NONE_OPERATION_ROLLED_BACK",
            "REQUIRED_FIELD_MISSING",
        ]
        assert sim.record("Account", "cus_3")["Phone"] is None
        (unkeyed,) = _accounts(sf, {"Name": "No key"})
        assert unkeyed["errors"][0]["statusCode"] == "MISSING_ARGUMENT"
        assert _refusal(lambda: _upsert(sf, "Account", _account(1), key="Phone")) == (404, "NOT_FOUND")
        assert _refusal(lambda: _upsert(sf, "Nope__c", {"Stripe_Id__c": "x"})) == (404, "NOT_FOUND")
        assert _refusal(lambda: _accounts(sf, _account(1), allornone=True)) == (400, "JSON_PARSER_ERROR")
        wrong_type = {"attributes": {"type": "Contact"}, **_account(1)}
        assert _refusal(lambda: _accounts(sf, wrong_type)) == (400, "INVALID_INPUT")
        ids = [sim.record("Account", f"cus_{n}")["Id"] for n in (5, 6)]
        got = sf.restful("composite/sobjects/Account", params={"ids": ",".join([*ids, "x"]), "fields": "Name"})
        assert [r and r["Name"] for r in got] == ["Customer 5", "Customer 6", None]


def test_numbers_are_rounded_half_up_and_shown_as_doubles() -> None:
    with org() as (sim, sf, _):
        _upsert(sf, "Stripe_Invoice__c", {"Stripe_Id__c": "in_1", "Total__c": 10, "Tax__c": 0.00005})
        found = sf.query("SELECT Total__c, Tax__c FROM Stripe_Invoice__c")["records"][0]
        assert found["Total__c"] == Decimal("10.0")
        assert found["Tax__c"] == Decimal("0.0001")
        assert sim.state()["Stripe_Invoice__c"][0]["Total__c"] == "10.0"


def test_queries() -> None:
    with org() as (_, sf, now):
        _accounts(sf, *[_account(n, Phone=str(n)) for n in range(5)])
        now[0] += 60
        _upsert(sf, "Stripe_Invoice__c", *[
            {"Stripe_Id__c": f"in_{n}", "Total__c": n * 10, "Account__r": {"Stripe_Customer_Id__c": f"cus_{n}"}}
            for n in range(4)
        ])  # fmt: skip

        def names(where: str) -> list[str]:
            text = f"SELECT Stripe_Id__c FROM Stripe_Invoice__c {where}"
            return [r["Stripe_Id__c"] for r in sf.query(text)["records"]]

        assert names("WHERE Total__c >= 20 ORDER BY Stripe_Id__c DESC") == ["in_3", "in_2"]
        assert names("WHERE Stripe_Id__c IN ('in_1','in_3') AND Total__c != 30") == ["in_1"]
        assert names("WHERE (Total__c = 0 OR Total__c = 30) AND NOT Stripe_Id__c = 'in_0'") == ["in_3"]
        assert names("WHERE Stripe_Id__c NOT IN ('in_0','in_1') LIMIT 1 OFFSET 1") == ["in_3"]
        assert names("WHERE Account__r.Phone = '2'") == ["in_2"]
        assert names("WHERE Stripe_Id__c = 'IN_1'") == []  # a case-sensitive field
        assert names("WHERE Number__c = null") == ["in_0", "in_1", "in_2", "in_3"]
        assert names("WHERE SystemModstamp >= 2026-01-01T00:01:00Z") == ["in_0", "in_1", "in_2", "in_3"]
        assert names("WHERE SystemModstamp > 2026-01-01T00:01:00Z") == []
        assert sf.query("SELECT Id FROM Account WHERE Name LIKE 'customer _'")["totalSize"] == 5
        assert sf.query("SELECT COUNT() FROM Account WHERE Name = 'CUSTOMER 1'")["totalSize"] == 1
        parent = sf.query("SELECT Id, Account__r.Name FROM Stripe_Invoice__c WHERE Total__c = 10")["records"][0]
        assert parent["Account__r"]["Name"] == "Customer 1"
        for bad, code in (
            ("SELECT Nope FROM Account", "INVALID_FIELD"),
            ("SELECT Id FROM Nope", "INVALID_TYPE"),
            ("SELECT Id FROM Account WHERE", "MALFORMED_QUERY"),
            ("SELECT Id FROM Account WHERE Name = 5", "INVALID_FIELD"),
            ("SELECT Id FROM Account GROUP BY Name", "MALFORMED_QUERY"),
            ("DELETE FROM Account", "MALFORMED_QUERY"),
        ):
            assert _refusal(lambda text=bad: sf.query(text)) == (400, code)


def test_a_long_query_comes_in_pages() -> None:
    with org() as (_, sf, _now):
        for start in range(0, 2200, 200):
            _accounts(sf, *[_account(n) for n in range(start, start + 200)])
        first = sf.query("SELECT Stripe_Customer_Id__c FROM Account")
        assert (len(first["records"]), first["done"], first["totalSize"]) == (2000, False, 2200)
        everything = sf.query_all("SELECT Stripe_Customer_Id__c FROM Account")["records"]
        assert {r["Stripe_Customer_Id__c"] for r in everything} == {f"cus_{n}" for n in range(2200)}


def test_the_daily_budget_and_its_header() -> None:
    with org() as (sim, sf, now):
        sf.restful("limits")
        assert sf.api_usage["api-usage"].used == 1
        sim.daily_limit(2)
        assert sf.limits()["DailyApiRequests"] == {"Max": 2, "Remaining": 0}
        assert _refusal(lambda: sf.query("SELECT Id FROM Account")) == (403, "REQUEST_LIMIT_EXCEEDED")
        now[0] += 86_400
        sf.restful("sobjects/Account/describe")  # a new day, and a new session made by the library


def test_addresses_versions_and_sessions() -> None:
    with org() as (sim, sf, _):
        base = f"https://{DOMAIN}.salesforce.com/services/data"
        get = sf.session.get
        assert get(base).json()[-1] == {"label": "v68", "url": "/services/data/v68.0", "version": "68.0"}
        assert "Sforce-Limit-Info" not in get(base).headers
        headers = dict(sf.headers)
        for path, status, code in (
            ("/v99.0/limits", 404, "NOT_FOUND"),
            ("/v30.0/limits", 410, "UNSUPPORTED_API_VERSION"),
            ("/v67.0/nope", 404, "NOT_FOUND"),
            ("/v67.0/query?q=" + "x" * 17_000, 414, "URI_TOO_LONG"),
        ):
            found = get(base + path, headers=headers)
            assert (found.status_code, found.json()[0]["errorCode"]) == (status, code)
            assert found.headers["content-type"] == "application/json;charset=UTF-8"
        assert sf.session.put(base + "/v67.0/limits", headers=headers).json()[0]["errorCode"] == "METHOD_NOT_ALLOWED"
        assert get(base + "/v67.0/limits").json()[0]["errorCode"] == "INVALID_AUTH_HEADER"
        sim.expire_sessions()
        found = get(base + "/v67.0/limits", headers=headers)
        assert (found.status_code, found.content) == (401, sim.refusal("expired")[2])
        url = base + "/v67.0/sobjects/Account"
        headers = dict(_connect(sf.session).headers)
        assert sf.session.post(url, data="<a/>", headers={**headers, "Content-Type": "text/xml"}).status_code == 415


def test_signing_in_as_nobody() -> None:
    with org() as (_, sf, _now):
        for more, code in (
            ({"consumer_key": "x"}, "invalid_client_id"),
            ({"consumer_secret": "x"}, "invalid_client"),
            ({"username": "u", "password": "p"}, "unsupported_grant_type"),
        ):
            with pytest.raises(SalesforceAuthenticationFailed) as raised:
                _connect(sf.session, **more)
            assert raised.value.code == code


def test_describe_and_reset() -> None:
    with org() as (sim, sf, _):
        fields = {f["name"]: f for f in sf.Stripe_Invoice__c.describe()["fields"]}
        key = fields["Stripe_Id__c"]
        assert (key["externalId"], key["unique"], key["caseSensitive"], key["length"]) == (True, True, True, 255)
        assert fields["Account__c"]["relationshipName"] == "Account__r"
        first = _accounts(sf, _account(1))[0]["id"]
        sim.reset()
        assert sim.state() == {"Account": [], "Stripe_Subscription__c": [], "Stripe_Invoice__c": []}
        assert _accounts(sf, _account(1))[0]["id"] == first


def test_the_checksum_of_an_id() -> None:
    """An id of the REST API guide. By hand: 001D0 has its capital at bit 3 (8, I), IqhSL at bits 0, 3, 4 (25, Z)."""
    assert checksum("001D000000IqhSL") == "IAZ"
