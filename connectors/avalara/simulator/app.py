"""The simulator: routes, one handler per call, and the `Simulator` face the sandbox uses.

Times come from the clock passed in, ids from the seed. `$include=ForceTimeout` answers at once what AvaTax
answers after thirty seconds.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from connectors.avalara.sandbox_env import ACCOUNT_ID, COMPANY_CODE
from connectors.avalara.simulator import answers, bodies, query
from connectors.avalara.simulator.assess import assess, check_places, refund_model
from connectors.avalara.simulator.documents import Document, Store, Switches
from connectors.avalara.simulator.gate import Gate, Reply, authenticated
from connectors.avalara.simulator.problems import Problem, not_found, unauthenticated
from connectors.avalara.simulator.taxes import ENTITY_USE_CODES, TAX_CODES
from connectors.simulator import Clock

_COMPANY_ID = 901_001
_FIRST_ID = 85_000_000_000
"""Document ids do not fit 32 bits."""
_LIST = ("$filter", "$top", "$skip", "$include", "$orderby")
_ESCAPES = {"_-ava2f-_": "/", "_-ava2b-_": "+", "_-ava3f-_": "?", "_-ava25-_": "%", "_-ava23-_": "#"}

Verb = Callable[[Document, dict[str, Any]], Document]


class AvalaraSimulator:
    """One account with one company. `switches` choose where public sources disagree about AvaTax."""

    def __init__(self, *, seed: int = 7, clock: Clock) -> None:
        self._seed, self._clock = seed, clock
        self.reset()
        gate = Gate(lambda: self.switches, Random(seed))  # noqa: S311 - correlation ids of a simulator
        self._gate = gate
        company = "/api/v2/companies/{company}/transactions"
        one = company + "/{code}"
        calls: list[tuple[str, str, Callable[[Request], Awaitable[Reply]], tuple[str, ...]]] = [
            ("GET", "/api/v2/companies", self._companies, _LIST),
            ("GET", "/api/v2/definitions/taxcodes", self._tax_codes, _LIST),
            ("GET", "/api/v2/definitions/entityusecodes", self._use_codes, _LIST),
            ("GET", "/api/v2/addresses/resolve", self._resolve, tuple(bodies.RESOLVE_FIELDS)),
            ("POST", "/api/v2/addresses/resolve", self._resolve, ()),
            ("POST", "/api/v2/transactions/create", self._create, ("$include",)),
            ("POST", "/api/v2/transactions/createoradjust", self._create_or_adjust, ("$include",)),
            ("GET", company, self._list, (*_LIST, "dataSourceId")),
            ("GET", one, self._get, ("$include", "documentType", "dataSourceId")),
            ("GET", one + "/types/{type}", self._get, ("$include", "dataSourceId")),
            ("POST", one + "/adjust", self._adjust, ("$include", "documentType")),
            ("POST", one + "/refund", self._refund, ("$include", "documentType", "useTaxDateOverride")),
        ]
        for name, body, verb in self._verbs():
            calls.append(("POST", f"{one}/{name}", self._verb(body, verb), ("$include", "documentType")))
        routes = [Route("/api/v2/utilities/ping", gate.endpoint(self._ping, open_to_all=True), methods=["GET"])]
        routes += [Route(path, gate.endpoint(call, params), methods=[method]) for method, path, call, params in calls]
        self.app = Starlette(routes=routes, exception_handlers={404: gate.unknown, 405: gate.wrong_method})

    # The face towards the sandbox

    def reset(self) -> None:
        self._rng = Random(self._seed)  # noqa: S311 - ids of a simulator
        self._last_id = _FIRST_ID
        self.switches = Switches()
        self.store = Store(self.switches, self._new_id, self._now)

    def state(self) -> dict[str, Any]:
        """`documents`: the current version of each; `superseded`: versions that an adjustment replaced."""
        return {
            "documents": [answers.plain(d) for d in self.store.latest.values()],
            "superseded": [answers.plain(d) for d in self.store.superseded],
        }

    # What people do in AvaTax's own console: for tests that look for it. By the document's code and type.

    def edit(
        self, code: str, kind: str = "SalesInvoice", *, amount: Decimal | None = None, tax: Decimal | None = None
    ) -> None:
        """Adjust a committed document: its first line makes the document's total amount, or total tax, what is given.
        A new version, as AvaTax makes it, under its own id."""
        old = self.store.get(COMPANY_CODE, code, kind)
        lines = [dict(line) for line in old.model["lines"]]
        if amount is not None:
            lines[0]["amount"] += amount - old.total_amount
        if tax is not None:
            lines[0]["taxOverride"] = {
                "type": "TaxAmount",
                "taxAmount": old.lines[0].tax + tax - old.total("tax"),
                "reason": "adjusted by a person",
            }
        self.store.adjust(old, self._made({**old.model, "lines": lines}, like=old), "Other", "adjusted by a person")

    def remove(self, code: str, kind: str = "SalesInvoice") -> None:
        """As if it had never been: no trace is left."""
        del self.store.latest[self.store.get(COMPANY_CODE, code, kind).key]

    def duplicate(self, code: str, new_code: str, kind: str = "SalesInvoice") -> None:
        """The same content once more, under another code."""
        old = self.store.get(COMPANY_CODE, code, kind)
        self.store.create(replace(old, id=self._new_id(), code=new_code))

    def void(self, code: str, kind: str = "SalesInvoice") -> None:
        """Cancel it."""
        self.store.void(self.store.get(COMPANY_CODE, code, kind), "DocVoided")

    def lock(self, code: str, kind: str = "SalesInvoice") -> None:
        """As when the return it is on was filed."""
        self.store.lock(self.store.get(COMPANY_CODE, code, kind), on=True)

    def refusal(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        if kind == "expired":
            problem = unauthenticated("AuthenticationException", "Authentication failed.")
        elif kind == "limit":
            problem = Problem("RequestLimitExceeded", "You have submitted too many requests.", status=429)
        else:
            raise ValueError(f"no refusal {kind!r}: expired or limit")
        headers = {**self._gate.headers(), "content-type": "application/json; charset=utf-8"}
        if kind == "limit":
            headers["retry-after"] = "5"
        return problem.status, headers, json.dumps(problem.body).encode()

    def _new_id(self) -> int:
        self._last_id += self._rng.randrange(1, 1000)
        return self._last_id

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]

    # Calls about the account

    async def _ping(self, request: Request) -> Reply:
        known = authenticated(request)
        return (
            200,
            {
                "version": "26.10.0",
                "authenticated": known,
                "authenticationType": "AccountIdLicenseKey" if known else "None",
                **({"authenticatedAccountId": int(ACCOUNT_ID)} if known else {}),
            },
            {},
        )

    def _listed(self, request: Request, rows: list[dict[str, Any]]) -> Reply:
        params = {k.lower(): v for k, v in request.query_params.items()}
        if params.get("$filter"):
            rows = [dict(r) for r in query.select(rows, query.terms(params["$filter"]))]
        return 200, query.page(rows, params.get("$top"), params.get("$skip"), str(request.url)), {}

    async def _companies(self, request: Request) -> Reply:
        company = {
            "id": _COMPANY_ID,
            "accountId": int(ACCOUNT_ID),
            "companyCode": COMPANY_CODE,
            "name": "Billing Hub Sandbox",
            "isDefault": True,
            "isActive": True,
            "hasProfile": True,
            "defaultCountry": "US",
            "baseCurrencyCode": "USD",
            "roundingLevelId": self.switches.rounding,
        }
        return self._listed(request, [company])

    async def _tax_codes(self, request: Request) -> Reply:
        rows = [{"taxCode": c, "description": t, "isActive": True} for c, t in TAX_CODES.items()]
        return self._listed(request, rows)

    async def _use_codes(self, request: Request) -> Reply:
        return self._listed(request, [{"code": c, "name": t} for c, t in ENTITY_USE_CODES.items()])

    async def _resolve(self, request: Request) -> Reply:
        raw = await request.body() if request.method == "POST" else json.dumps(dict(request.query_params)).encode()
        address = bodies.read("resolve", raw)
        bodies.check_place(address, 0, "Unspecified")
        answer: dict[str, Any] = {"address": address, "resolutionQuality": "Intersection"}
        answer["validatedAddresses"] = [{"addressType": "StreetOrResidentialAddress", **address}]
        return 200, answer, {}

    # Calls about documents

    def _company(self, code: str | None) -> str:
        if code is None or code.lower() == COMPANY_CODE.lower():
            return COMPANY_CODE
        raise Problem("GetTaxError", "Company not found.", refers_to="CompanyCode", sub_code="CompanyNotFoundError")

    def _found(self, request: Request) -> Document:
        if request.path_params["company"].lower() != COMPANY_CODE.lower():
            raise not_found("Company")
        code = request.path_params["code"]
        for escaped, plain in _ESCAPES.items():
            code = code.replace(escaped, plain)
        kind = request.path_params.get("type") or request.query_params.get("documentType")
        if kind is not None:
            kind = next((t for t in bodies.INVOICE_TYPES if t.lower() == kind.lower()), kind)
        elif request.method == "POST":
            kind = "SalesInvoice"
        return self.store.get(COMPANY_CODE, code, kind)

    def _made(self, model: dict[str, Any], *, like: Document | None = None) -> Document:
        """Validate, tax, and make a document that is not stored yet."""
        if like is not None:
            model = {**model, "code": like.code, "type": like.type, "companyCode": like.company}
        bodies.check_document(model)
        company = self._company(model.get("companyCode"))
        check_places(model)
        for i, line in enumerate(model["lines"], 1):
            line.setdefault("number", str(i))
        kind = model.get("type", "SalesOrder")
        lines, tax_date = assess(model, self.switches)
        stored = kind in bodies.INVOICE_TYPES
        status = "Temporary" if not stored else "Committed" if model.get("commit") else "Saved"
        new_id = self._new_id() if stored else 0
        code = model.get("code") or f"{self._rng.getrandbits(128):032x}"
        return Document(new_id, company, code, kind, status, 1, model, lines, tax_date, self._now())

    def _answer(self, status: int, document: Document, wanted: set[str]) -> Reply:
        body = answers.document(document, _COMPANY_ID, wanted)
        where = f"/api/v2/companies/{_COMPANY_ID}/transactions/{document.id}"
        return status, body, {"location": where} if status == 201 else {}

    async def _create(self, request: Request) -> Reply:
        wanted = answers.includes(request.query_params.get("$include"))
        document = self._made(bodies.read("document", await request.body()))
        if document.id:
            document = self.store.create(document)
        return self._answer(201, document, wanted)

    async def _create_or_adjust(self, request: Request) -> Reply:
        wanted = answers.includes(request.query_params.get("$include"))
        model = bodies.read("createoradjust", await request.body())
        document = self._made(_inner(model, "createTransactionModel"))
        if document.id:
            reason = model.get("adjustmentReason", "Other")
            document = self.store.create_or_adjust(document, reason, model.get("adjustmentDescription"))
        return self._answer(200, document, wanted)

    async def _adjust(self, request: Request) -> Reply:
        wanted = answers.includes(request.query_params.get("$include"))
        model = bodies.read("adjust", await request.body())
        reason = _inner(model, "adjustmentReason")
        old = self._found(request)
        new = self._made(_inner(model, "newTransaction"), like=old)
        return self._answer(200, self.store.adjust(old, new, reason, model.get("adjustmentDescription")), wanted)

    async def _refund(self, request: Request) -> Reply:
        wanted = answers.includes(request.query_params.get("$include"))
        model = bodies.read("refund", await request.body())
        original = self._found(request)
        self.store.check_refund(original)
        made = refund_model(original, model)
        return self._answer(201, self.store.create(self._made(made)), wanted)

    async def _get(self, request: Request) -> Reply:
        wanted = answers.includes(request.query_params.get("$include"))
        return self._answer(200, self._found(request), wanted)

    async def _list(self, request: Request) -> Reply:
        if request.path_params["company"].lower() != COMPANY_CODE.lower():
            raise not_found("Company")
        params = {k.lower(): v for k, v in request.query_params.items()}
        wanted = answers.includes(params.get("$include") or "SummaryOnly")
        rows = [answers.document(d, _COMPANY_ID, wanted) for d in self.store.of(COMPANY_CODE)]
        if "date" not in params.get("$filter", "").lower():
            oldest = (datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=30)).date().isoformat()
            rows = [r for r in rows if r["date"] >= oldest]
        return self._listed(request, rows)

    def _verbs(self) -> list[tuple[str, str | None, Verb]]:
        def settle(document: Document, model: dict[str, Any]) -> Document:
            if "verify" in model:
                document = self.store.verify(document, model["verify"])
            if "changeCode" in model:
                document = self.store.change_code(document, _inner(model["changeCode"], "newCode"))
            return self.store.commit(document) if model.get("commit", {}).get("commit") else document

        return [
            ("commit", "commit", lambda d, m: self.store.commit(d) if _inner(m, "commit") else d),
            ("uncommit", None, lambda d, _: self.store.uncommit(d)),
            ("verify", "verify", self.store.verify),
            ("settle", "settle", settle),
            ("void", "void", lambda d, m: self.store.void(d, _inner(m, "code"))),
            ("unvoid", None, lambda d, _: self.store.unvoid(d)),
            ("changecode", "changecode", lambda d, m: self.store.change_code(d, _inner(m, "newCode"))),
            ("lock", "lock", lambda d, m: self.store.lock(d, on=_inner(m, "isLocked"))),
        ]

    def _verb(self, body: str | None, verb: Verb) -> Callable[[Request], Awaitable[Reply]]:
        async def call(request: Request) -> Reply:
            wanted = answers.includes(request.query_params.get("$include"))
            model = {} if body is None else bodies.read(body, await request.body())
            return self._answer(200, verb(self._found(request), model), wanted)

        return call


def _inner(model: dict[str, Any], name: str) -> Any:
    if name not in model:
        raise Problem("ValueRequiredError", f"Field '{name}' is required.", refers_to=name)
    return model[name]
