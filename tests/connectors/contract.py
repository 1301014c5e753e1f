"""What the contract tests share: jobs as the real mappings make them of real Stripe objects, and one rig per connector.

A connector joins the suite with an entry in `RIGS` and one line per kind of job in `JOBS`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx
import orjson

from connectors.avalara.sandbox_env import LICENSE_KEY
from connectors.netsuite.sandbox_env import private_pem
from connectors.salesforce.sandbox_env import CLIENT_SECRET
from connectors.sandbox.app import Sandbox
from connectors.sandbox.environment import environment
from connectors.stripe.sandbox_env import API_KEY
from hub import envelope
from hub.errors import Outcome, OutcomeError, Receipt
from hub.mapping import FOLDER, Mappings, RecordMapping, load, root_name
from hub.mapping.record import Skip
from hub.model import Batch, Event, Job, Record
from tests.connectors.happenings import EMAIL, NAME, PHONE, START, STREET, books

LAKE_SECRET = "contract-lake-secret"
PERSONAL = (NAME, "Quillfeather", EMAIL, PHONE, STREET)
READS = ("GET", "HEAD")
SECRETS = (CLIENT_SECRET, LICENSE_KEY, private_pem().splitlines()[1], LAKE_SECRET, API_KEY)
SETTINGS: Mapping[str, Any] = {
    "timezone": "UTC",
    "avalara_ship_from_line1": "100 Ravine Ln NE",
    "avalara_ship_from_city": "Bainbridge Island",
    "avalara_ship_from_region": "WA",
    "avalara_ship_from_postal_code": "98110",
    "avalara_ship_from_country": "US",
}


# Jobs ----------------------------------------------------------------------------------------------------------------


@cache
def mappings() -> Mappings:
    """Those that come with the hub."""
    return load(FOLDER)


def settings_of(destination: str, name: str) -> dict[str, Any]:
    """Settings with which a mapping has something to do."""
    given_up = {"uncollectible": "void", "recovered": "void", "bad_debt": "bad_debt"}.get(name, "none")
    late = destination == "avalara" and name == "paid"
    about: dict[str, Any] = {"avalara_commit_on": "paid" if late else "finalized"}
    if destination == "avalara":
        about["avalara_uncollectible"] = given_up
    if destination == "netsuite" and name in ("write_off", "recovered"):
        about["netsuite_write_off"] = "write_off"
    return {**SETTINGS, **about}


def belongs(obj: Mapping[str, Any], by: str) -> Any:
    """What Stripe's filter `by` of a list looks at."""
    return obj["payment"].get(by) if obj["object"] == "invoice_payment" and by != "invoice" else obj.get(by)


def records(
    mapping: RecordMapping, obj: Mapping[str, Any], event: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Record]:
    """The record a mapping makes of an object, with its parents before it, by their keys and kinds. Empty if it makes
    none, by its own decision: the vendor then has no such record."""
    roots: dict[str, Any] = {root_name(mapping.object): obj, "event": {k: v for k, v in event.items() if k != "data"}}
    while (wanted := mapping.needed(roots, settings)) or mapping.listed(roots, settings):
        for root, (_, id_) in wanted.items():
            roots[root] = books().objects[id_] if id_ else None
        for root, (kind, by, id_) in mapping.listed(roots, settings).items():
            roots[root] = [o for o in books().objects.values() if id_ and o["object"] == kind and belongs(o, by) == id_]
    made = mapping.apply(roots, settings)
    if isinstance(made, Skip):
        return {}
    found: dict[str, Record] = {}
    for above, its in mappings().parent_roots(mapping, roots):
        if its is not None:
            found |= records(above, its, event, settings)
    return {**found, f"{made.record} {made.key}": made}


def made_of(destination: str, name: str, event: Mapping[str, Any]) -> Record | None:
    """What a mapping makes of an event; what no event leads to is made on the way to what another mapping makes."""
    settings = settings_of(destination, name)
    own = mappings().for_destination(destination)[name]
    for mapping in mappings().for_event(destination, event["type"]):
        if name not in ((mapping.name,) if own.on else mapping.parents):
            continue
        found = records(mapping, event["data"]["object"], event, settings).values()
        made = next((r for r in found if r.mapping == own.id), None)
        if made is not None:
            return made
    return None


def stored(event: Mapping[str, Any], seq: int = 1) -> Event:
    """An event as the hub holds it."""
    new = envelope.read(orjson.dumps(event), datetime.fromtimestamp(START, UTC))
    return Event(**{f.name: getattr(new, f.name) for f in dataclasses.fields(new)}, seq=seq)


def mapped_job(destination: str, name: str, event_type: str) -> Job:
    """The job of the last event of that type."""
    event = books().event(event_type)
    obj = books().objects[event["data"]["object"]["id"]]
    made = records(mappings().for_destination(destination)[name], obj, event, settings_of(destination, name))
    return Job(1, stored(event), tuple(made.values()))


def batch() -> Batch:
    """Everything that happened, as one sealed batch."""
    jobs = tuple(Job(seq, stored(event, seq)) for seq, event in enumerate(books().events, 1))
    return Batch(1, "00", "2026-11-02", 1, len(jobs), jobs)


@dataclass(frozen=True)
class Case:
    """One kind of job of one connector; `calls` is how many writes it takes, counted by hand, `looks` how many reads
    between them."""

    connector: str
    mapping: str
    event_type: str
    calls: int
    looks: int = 0

    def __str__(self) -> str:
        return f"{self.connector}-{self.mapping}"

    def make(self) -> Any:
        return batch() if self.connector == "s3_lake" else mapped_job(self.connector, self.mapping, self.event_type)


JOBS = (
    Case("salesforce", "invoice", "invoice.paid", 3),
    Case("netsuite", "payment", "invoice_payment.paid", 3, looks=1),
    Case("netsuite", "credit_note", "credit_note.created", 3, looks=2),
    Case("netsuite", "void", "invoice.voided", 3, looks=2),
    Case("netsuite", "dispute", "charge.dispute.funds_withdrawn", 3, looks=1),
    Case("netsuite", "payout_failed", "payout.failed", 2, looks=1),
    Case("avalara", "invoice", "invoice.finalized", 1),
    Case("avalara", "paid", "invoice.paid", 2),
    Case("avalara", "void", "invoice.voided", 2),
    Case("s3_lake", "events", "*", 1),
)
ONE_EACH = tuple({job.connector: job for job in reversed(JOBS)}.values())
"""For what does not depend on the kind of job."""


# Rigs ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What is particular about a connector, by hand and from its vendor's documentation."""

    vendor: str
    table: str
    prefix: str
    writes: str
    """Where a write is, inside the vendor."""
    session: bool
    """Whether it signs in, so that an expired session is its own affair."""
    names: str
    """What a good ping names."""
    wrong: Mapping[str, Any]
    """Settings with credentials the vendor does not know."""
    hasty: Mapping[str, Any] | None
    """Settings that lose patience within half a second. None: the connector has none."""
    tries: int = 1
    """How often its library tries before the connector hears of it."""
    usual: Mapping[str, Any] = field(default_factory=dict)


RIGS: Mapping[str, Kind] = {
    "salesforce": Kind(
        "salesforce", "SalesforceSettings", "HUB_SALESFORCE_", r"^/services/data/.*/composite/sobjects/", True,
        "sandbox org", {"client_secret": "wrong-secret-value"},
        {"timeout": 0.4, "connect_timeout": 0.2, "lease": 1.0},
    ),
    "netsuite": Kind(
        "netsuite", "NetSuiteSettings", "HUB_NETSUITE_", r"^/services/rest/record/", True,
        "TSTDRV1234567", {"certificate_id": "wrong-secret-value"}, {"request_timeout": 0.4},
    ),
    "avalara": Kind(
        "avalara", "AvalaraSettings", "HUB_AVALARA_", r"^/api/v2/(transactions/|companies/.+/(void|commit))", False,
        "HUBSANDBOX", {"license_key": "wrong-secret-value"}, {"read_timeout": 0.4, "connect_timeout": 0.4},
    ),
    "s3_lake": Kind(
        "s3", "S3LakeSettings", "HUB_", r"\.parquet$", False,
        "billing-hub-lake", {}, None, 2,
        {"lake_access_key_id": "AKIACONTRACT", "lake_secret_access_key": LAKE_SECRET},
    ),
    "stripe": Kind(
        "stripe", "StripeSettings", "HUB_STRIPE_", r"^/v[12]/", False,
        "test mode", {"api_key": "sk_test_wrongsecretvalue"}, {"timeout": 1.0}, 1, {"retries": 0},
    ),
}  # fmt: skip


@dataclass
class Rig:
    """A connector, the vendor it is connected to, and the sandbox's door between them."""

    name: str
    url: str
    sandbox: Sandbox
    http: httpx.AsyncClient
    destinations: list[Any] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """How every outcome printed itself."""

    @property
    def kind(self) -> Kind:
        return RIGS[self.name]

    def destination(self, **changes: Any) -> Any:
        """A new one, as another worker process would have."""
        kind = self.kind
        given: dict[str, Any] = {
            name.removeprefix(kind.prefix).lower(): value
            for name, value in environment(self.url).items()
            if name.startswith(kind.prefix)
        }
        table = getattr(importlib.import_module(f"connectors.{self.name}.settings"), kind.table)
        commit = {"commit_on": "paid"} if changes.pop("late_commit", False) else {}
        made = importlib.import_module(f"connectors.{self.name}.destination").create(
            table(**{**given, **kind.usual, **commit, **changes})
        )
        self.destinations.append(made)
        return made

    async def send(self, destination: Any, what: Any, attempt: int = 1) -> Outcome:
        """One job or batch; what the connector raises as an outcome is one."""
        try:
            if isinstance(what, Batch):
                outcome = await destination.send_batch(what)
            else:
                (outcome,) = await destination.send([dataclasses.replace(what, attempt=attempt)])
        except OutcomeError as error:
            outcome = error.outcome
        return self.noted(outcome)

    async def settle(self, destination: Any, what: Any) -> Outcome:
        """As the engine goes on after an unknown outcome: look, and send again if that is right."""
        if not isinstance(what, Batch):
            found: Outcome | None = await destination.find(what)
            if found is not None:
                return self.noted(found)
        return await self.send(destination, what, 2)

    def noted(self, outcome: Outcome) -> Outcome:
        shown = dataclasses.replace(outcome, follow_ups=()) if isinstance(outcome, Receipt) else outcome
        self.seen.append(repr(shown))
        return outcome

    async def fault(
        self,
        kind: str,
        *,
        times: int | None = 1,
        nth: int = 1,
        match: str | None = None,
        method: str | None = None,
        **more: Any,
    ) -> None:
        """Something happens to the vendor's writes (None: and to the reads between them) from the nth on."""
        asked = {
            "vendor": self.kind.vendor,
            "match": {"path_regex": match or self.kind.writes, "nth": nth, "method": method},
            "action": {"kind": kind, **more},
            "times": times,
        }
        await self.side("POST", "/faults", asked)

    async def side(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, f"{self.url}/__sandbox{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def asked(self) -> list[Mapping[str, Any]]:
        """All requests where its writes are, reads among them, since the last reset: `method`, `path`, `status`."""
        asked = (await self.side("GET", f"/requests?vendor={self.kind.vendor}"))["requests"]
        return [r for r in asked if re.search(self.kind.writes, r["path"])]

    async def written(self) -> list[int | None]:
        """The statuses of all writes the vendor was asked for since the last reset, as the client saw them."""
        return [r["status"] for r in await self.asked() if r["method"] not in READS]

    def held(self) -> list[dict[str, Any]]:
        """What the vendor holds, without what a repeat may move: ids it drew and times it noted."""
        state = json.loads(orjson.dumps(self.sandbox.simulators[self.kind.vendor].state(), default=str))
        return HELD[self.name](state)

    def ids(self) -> dict[str, str]:
        """Our key -> the vendor's own id, from the vendor's records."""
        return dict(self.pairs())

    def pairs(self) -> set[tuple[str, str]]:
        """Our key and the vendor's own id of every record there. AvaTax may have a key once for each type."""
        state = self.sandbox.simulators[self.kind.vendor].state()
        match self.name:
            case "salesforce":
                keys = {"Account": "Stripe_Customer_Id__c"}
                return {(r[keys.get(k, "Stripe_Id__c")], r["Id"]) for k, rows in state.items() for r in rows}
            case "netsuite":
                return {(r["externalId"], r["id"]) for k, rows in state.items() if k not in SUMS for r in rows}
            case _:
                return {(d["code"], str(d["id"])) for d in state["documents"]}


@asynccontextmanager
async def rigged(name: str, sandbox: tuple[str, Sandbox]) -> AsyncIterator[Rig]:
    """The connector of this name, with a vendor as new. Its destinations are closed afterwards."""
    async with httpx.AsyncClient(verify=False, timeout=30) as http:
        rig = Rig(name, *sandbox, http)
        await rig.side("POST", "/reset")
        yield rig
        for destination in rig.destinations:
            await destination.close()


_MOVING = {"Id", "CreatedDate", "LastModifiedDate", "SystemModstamp", "Account__c", "Subscription__c"}


def _salesforce(state: Any) -> list[dict[str, Any]]:
    return [{"kind": k} | {f: v for f, v in r.items() if f not in _MOVING} for k, rows in state.items() for r in rows]


SUMS = ("balances", "foreign", "carried")
"""In the state of the simulated NetSuite; they follow from the rest."""


def _netsuite(state: Any) -> list[dict[str, Any]]:
    moving = {"lastModifiedDate", "createdDate", "dateCreated"}
    records = {k: rows for k, rows in state.items() if k not in SUMS}
    for row in records["customer"]:  # the numbers of its addresses are NetSuite's own
        row["addressBook"] = [{f: v for f, v in each.items() if f != "id"} for each in row.get("addressBook", ())]
    return [{"kind": k} | {f: v for f, v in r.items() if f not in moving} for k, rows in records.items() for r in rows]


def _avalara(state: Any) -> list[dict[str, Any]]:
    assert state["superseded"] == [], "a second version"
    return [{f: v for f, v in d.items() if "odified" not in f} for d in state["documents"]]


def _s3(state: Any) -> list[dict[str, Any]]:
    return [dict(o) for o in state["objects"]]


HELD: Mapping[str, Callable[[Any], list[dict[str, Any]]]] = {
    "salesforce": _salesforce, "netsuite": _netsuite, "avalara": _avalara, "s3_lake": _s3, "stripe": lambda state: [],
}  # fmt: skip
