"""The simulator itself: paths, parameters, headers, the request limit. Everything unknown is refused."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.netsuite.sandbox_env import ACCOUNT, CERTIFICATE_ID, CLIENT_ID, TBA, public_pem
from connectors.netsuite.simulator import catalog, faults
from connectors.netsuite.simulator.auth import Doorkeeper
from connectors.netsuite.simulator.books import Books
from connectors.netsuite.simulator.faults import NsError
from connectors.netsuite.simulator.render import RECORD_PATH, collection, encode, links, plain, show
from connectors.netsuite.simulator.schema import RECORDS, WRITABLE
from connectors.netsuite.simulator.side import SideDoor, Trouble
from connectors.netsuite.simulator.suiteql import SuiteQL
from connectors.netsuite.simulator.switches import Switches
from connectors.simulator import Clock

MEDIA = "application/vnd.oracle.resource+json; type="
TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"  # noqa: S105 - an address, not a secret
_RECORD = re.compile(rf"(.*){re.escape(RECORD_PATH)}/([A-Za-z]+)(?:/(\d+|eid:[A-Za-z0-9_-]+))?")
_EXTERNAL_ID = re.compile(r'externalId IS "?([A-Za-z0-9_-]+)"?')
_SYSTEM = re.compile(r"/services/rest/system/v1/(governanceLimits|serverTime)$")
_CATALOG = re.compile(rf"{re.escape(RECORD_PATH)}/metadata-catalog(?:/([A-Za-z]+))?/?$")
PARAMETERS = {
    "GET one": {"expandSubResources", "fields", "simpleEnumFormat"},
    "GET all": {"q", "limit", "offset"},
    "PUT one": {"replace", "replaceSelectedFields"},
    "PATCH one": {"replace", "replaceSelectedFields"},
    "POST all": {"replace"},
    "DELETE one": set(),
}


class NetSuiteSimulator(SideDoor):
    """One account with one integration. `limit`: most requests at once; `service_time`: seconds each takes, so that
    requests really overlap; `certificates`: further public keys by certificate id; `switches`: its features."""

    def __init__(
        self,
        *,
        seed: int = 7,
        clock: Clock,
        limit: int = 5,
        service_time: float = 0.0,
        certificates: Mapping[str, str] | None = None,
        switches: Switches | None = None,
    ) -> None:
        self._own_switches = switches or Switches()
        self._seed, self._clock, self._limit, self._service_time = seed, clock, limit, service_time
        self._certificates = {CERTIFICATE_ID: public_pem(), **(certificates or {})}
        self._running = 0
        self.most_at_once = 0
        """The most requests that were under way together."""
        self.app = self._serve
        self.reset()

    def reset(self) -> None:
        today = datetime.fromtimestamp(self._clock(), UTC).date().isoformat()
        self._books = Books(self._seed, today, self._own_switches)
        self._suiteql_of, self._troubles = SuiteQL(), []
        self.doors = Doorkeeper(
            clock=self._clock, account=ACCOUNT, client_id=CLIENT_ID, certificates=self._certificates, tba=TBA
        )
        self.most_at_once = 0

    def state(self) -> dict[str, Any]:
        """Customers and transactions, money as text, references by external id or symbol; `balances`, `foreign` and
        `carried`, the trial balance (see `render.plain`)."""
        return plain(self._books)

    def refusal(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """Besides `expired` and `limit`: `changed`, `unexpected`, `denied`, `maintenance` (an HTML page)."""
        if kind == "maintenance":
            return 503, {"content-type": "text/html;charset=utf-8"}, faults.MAINTENANCE.encode()
        made = {"expired": faults.login, "limit": faults.limited, "changed": faults.changed}
        made |= {"unexpected": faults.unexpected, "denied": lambda: faults.denied("invoice")}
        fault = made[kind]()
        return fault.status, {"content-type": faults.MEDIA}, fault.body()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            response = await self._answer(request)
        except NsError as fault:
            response = Response(fault.body(), fault.status, media_type=faults.MEDIA)
        finally:
            self._running -= 1
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        if request.url.path.endswith(TOKEN_PATH):
            if request.method != "POST":
                raise NsError(405, "INVALID_REQUEST", "Method not allowed.")
            return self.doors.token(request, body.decode("utf-8", "replace"))
        if self._running > self._limit:
            raise faults.limited()
        self.doors.check(request)
        if self._service_time:
            await asyncio.sleep(self._service_time)
        if request.url.path.endswith("/services/rest/query/v1/suiteql"):
            return self._suiteql(request, body)
        system = _SYSTEM.search(request.url.path)
        if system is not None:
            return self._system(request, system[1])
        found = _CATALOG.search(request.url.path)
        if found is not None:
            return self._catalog(request, found[1])
        return self._record(request, body)

    def _system(self, request: Request, what: str) -> Response:
        """NetSuite help, "GovernanceLimits Operation" and "ServerTime Operation"; the limits for administrators
        only."""
        _only_get(request)
        if what == "serverTime":
            now = datetime.fromtimestamp(self._clock(), UTC)
            return Response(
                encode({"serverTime": now.strftime("%Y-%m-%dT%H:%M:%S.000Z")}), media_type=MEDIA + "singular"
            )
        if not self.switches.administrator:
            raise faults.denied("governanceLimits")
        limits = {"accountConcurrencyLimit": self._limit, "accountUnallocatedConcurrencyLimit": self._limit}
        return Response(encode({**limits, "integrationLimitType": "accountLimit"}), media_type=MEDIA + "singular")

    def _catalog(self, request: Request, kind: str | None) -> Response:
        _only_get(request, {"select"} if kind is None else set())
        base = f"{request.url.scheme}://{request.url.netloc}{request.url.path.partition(RECORD_PATH)[0]}"
        accepted = request.headers.get("accept", "*/*").partition(",")[0].partition(";")[0].strip()
        if kind is None:
            select = request.query_params.get("select")
            if accepted not in ("*/*", "application/json"):
                raise NsError(406, "INVALID_HEADER", "Only application/json is simulated.", header="Accept")
            shown = catalog.listing(base, select.split(",") if select is not None else None)
            return Response(encode(shown), media_type="application/json")
        if kind not in RECORDS:
            raise faults.nonexistent()
        self._permit(kind, "view")
        if accepted not in ("*/*", "application/json", "application/schema+json"):
            raise NsError(406, "INVALID_HEADER", "Only application/schema+json is simulated.", header="Accept")
        return Response(encode(catalog.describe(self._books.schema, kind)), media_type="application/schema+json")

    def _permit(self, kind: str, wanted: str) -> None:
        """Raises the `NsError` if the role lacks the level: `view`, or `edit`, which a GET of one record needs too."""
        left = self.switches.denied.get(kind)
        if left == "none" or (left == "view" and wanted == "edit"):
            raise faults.denied(kind)

    def _record(self, request: Request, body: bytes) -> Response:
        found = _RECORD.fullmatch(request.url.path)
        if found is None or found[2] not in RECORDS:
            raise NsError(
                404,
                "NONEXISTENT_ID",
                f"Record type or resource does not exist: {request.url.path}.",
                url=str(request.url),
            )
        base = f"{request.url.scheme}://{request.url.netloc}{found[1]}"
        kind, address = found[2], found[3]
        what = f"{request.method} {'one' if address else 'all'}"
        if what not in PARAMETERS:
            raise NsError(405, "INVALID_REQUEST", "Method not allowed.")
        unknown = set(request.query_params) - PARAMETERS[what]
        if unknown:
            raise NsError(400, "INVALID_PARAMETER", "Invalid query parameter.", query=sorted(unknown)[0])
        # NetSuite loads a record for editing even to show it (help, "Getting a Record Instance"); what nobody can write
        # here, subsidiaries and the like, takes viewing only.
        self._permit(kind, "edit" if kind in WRITABLE and (address or request.method != "GET") else "view")
        if request.method == "GET":
            return self._read(request, base, kind, address)
        trouble = self._trouble(kind)
        if trouble is not None and trouble.kind != "unexpected":
            status, headers, page = self.refusal(trouble.kind.removesuffix("_unsaved"))
            return Response(page, status, headers)
        response = self._change(request, body, base, kind, address)
        if trouble is not None:
            raise faults.unexpected()
        return response

    def _trouble(self, kind: str) -> Trouble | None:
        found = next((t for t in self._troubles if t.record in (None, kind)), None)
        if found is not None:
            found.times -= 1
            if not found.times:
                self._troubles.remove(found)
        return found

    def _change(self, request: Request, body: bytes, base: str, kind: str, address: str | None) -> Response:
        if request.method == "DELETE":
            self._books.delete(kind, self._books.find(kind, address or ""))
            return Response(status_code=204)
        return self._write(request, body, base, kind, address)

    def _read(self, request: Request, base: str, kind: str, address: str | None) -> Response:
        query = request.query_params
        if address is None:
            return self._list(request, base, kind)
        number = self._books.find(kind, address)
        if number is None:
            raise faults.nonexistent()
        fields = query["fields"].split(",") if "fields" in query else None
        for name in fields or ():
            if name not in self._books.schema.records[kind]:
                raise NsError(400, "INVALID_PARAMETER", f"Invalid field: {name}.", query="fields")
        shown = show(
            self._books, base, kind, number,
            expand=_flag(request, "expandSubResources"), fields=fields, plain_enums=_flag(request, "simpleEnumFormat"),
        )  # fmt: skip
        return Response(encode(shown), media_type=MEDIA + "singular")

    def _list(self, request: Request, base: str, kind: str) -> Response:
        query = request.query_params
        limit, offset = _whole(query.get("limit", "1000"), "limit"), _whole(query.get("offset", "0"), "offset")
        if not 1 <= limit <= 1000 or offset % limit:
            raise NsError(400, "INVALID_PARAMETER", "Invalid limit or offset.", query="limit")
        numbers = list(self._books.records[kind])
        if "q" in query:
            found = _EXTERNAL_ID.fullmatch(query["q"])
            if found is None:
                raise NsError(400, "INVALID_PARAMETER", "Invalid search query.", query="q")
            match = self._books.find(kind, f"eid:{found[1]}")
            numbers = [match] if match else []
        page = numbers[offset : offset + limit]
        items = [{"links": links(f"{base}{RECORD_PATH}/{kind}/{n}"), "id": n} for n in page]
        shown = collection(f"{base}{RECORD_PATH}/{kind}", items)
        shown |= {"hasMore": offset + limit < len(numbers), "offset": offset, "totalResults": len(numbers)}
        return Response(encode(shown), media_type=MEDIA + "collection")

    def _write(self, request: Request, body: bytes, base: str, kind: str, address: str | None) -> Response:
        names = request.headers.get("x-netsuite-propertynamevalidation", "warning").lower()
        if names not in ("error", "warning", "ignore"):
            raise NsError(400, "INVALID_HEADER", "Invalid header value.", header="X-NetSuite-PropertyNameValidation")
        if "prefer" in request.headers:
            raise NsError(400, "INVALID_HEADER", "Asynchronous requests are not simulated.", header="Prefer")
        replace = [n for n in request.query_params.get("replace", "").split(",") if n]
        for sublist in replace:
            if not self._books.schema.records[kind].get(sublist, "").startswith("list:"):
                raise NsError(400, "INVALID_PARAMETER", f"Invalid sublist: {sublist}.", query="replace")
        document = _json(request, body)
        number = self._books.find(kind, address) if address else None
        name = address[4:] if address and address.startswith("eid:") else None
        if request.method == "PUT" and name is None:
            raise NsError(
                400, "INVALID_REQUEST", "PUT is supported only with an external identifier.", url=str(request.url)
            )
        if request.method == "PATCH" and number is None:
            raise faults.nonexistent()
        strict = names == "error"
        written, ignored = self._books.save(kind, number, name, document, replace, strict_names=strict)
        headers = {"Location": f"{base}{RECORD_PATH}/{kind}/{written}"}
        if ignored and names == "warning":
            headers["Warning"] = f'199 - "Unknown field: {", ".join(ignored)}"'
        return Response(status_code=204, headers=headers)

    def _suiteql(self, request: Request, body: bytes) -> Response:
        if request.method != "POST":
            raise NsError(405, "INVALID_REQUEST", "Method not allowed.")
        if request.headers.get("prefer") != "transient":
            raise NsError(
                400, "INVALID_HEADER", "The required request header 'Prefer' is missing or invalid.", header="Prefer"
            )
        document = _json(request, body)
        if not isinstance(document, dict) or not isinstance(document.get("q"), str) or set(document) - {"q", "params"}:
            raise NsError(400, "INVALID_CONTENT", "Invalid content in the request body.")
        unknown = set(request.query_params) - {"limit", "offset"}
        if unknown:
            raise NsError(400, "INVALID_PARAMETER", "Invalid query parameter.", query=sorted(unknown)[0])
        limit = _whole(request.query_params.get("limit", "1000"), "limit")
        offset = _whole(request.query_params.get("offset", "0"), "offset")
        if not 1 <= limit <= 1000 or offset % limit:
            raise NsError(400, "INVALID_PARAMETER", "Invalid limit or offset.", query="limit")
        params = document.get("params")
        if params is not None and not isinstance(params, list):
            raise NsError(400, "INVALID_CONTENT", "Invalid content in the request body.", path="params")
        rows = self._suiteql_of.run(self._books, document["q"], params or [])
        shown = collection(str(request.url.replace(query="")), rows[offset : offset + limit])
        shown |= {"hasMore": offset + limit < len(rows), "offset": offset, "totalResults": len(rows)}
        return Response(encode(shown), media_type=MEDIA + "collection")


def _only_get(request: Request, parameters: Collection[str] = ()) -> None:
    if request.method != "GET":
        raise NsError(405, "INVALID_REQUEST", "Method not allowed.")
    unknown = set(request.query_params) - set(parameters)
    if unknown:
        raise NsError(400, "INVALID_PARAMETER", "Invalid query parameter.", query=sorted(unknown)[0])


def _json(request: Request, body: bytes) -> Any:
    media = request.headers.get("content-type", "").partition(";")[0].strip()
    if media not in ("application/json", "application/vnd.oracle.resource+json"):
        raise NsError(415, "INVALID_HEADER", "Unsupported media type.", header="Content-Type")
    try:
        return json.loads(body, parse_float=Decimal)
    except ValueError:
        raise NsError(400, "INVALID_CONTENT", "Invalid content in the request body: not JSON.") from None


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise NsError(400, "INVALID_PARAMETER", "Invalid boolean.", query=name)
    return value == "true"


def _whole(value: str, name: str) -> int:
    if not value.isdigit():
        raise NsError(400, "INVALID_PARAMETER", "Invalid number.", query=name)
    return int(value)
