"""The handlers of the simulated REST API that read and write records."""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.requests import Request

from connectors.salesforce.simulator import soql
from connectors.salesforce.simulator.schema import FieldDef, ObjectDef
from connectors.salesforce.simulator.store import Row, Store
from connectors.salesforce.simulator.values import RefusedError

MOST = 200
PAGE = 2000
NO_RESOURCE = "The requested resource does not exist"


class Rows:
    """Over one store. `body` reads a request's JSON (given by `web`, which knows HTTP)."""

    def __init__(self, store: Store, body: Any) -> None:
        self.store, self._body = store, body
        self._cursors: dict[str, tuple[soql.Query, list[Row]]] = {}

    async def describe_global(self, _: Request) -> Any:
        return {
            "encoding": "UTF-8",
            "sobjects": [{"name": o.name, "keyPrefix": o.prefix} for o in self.store.objects.values()],
        }

    async def describe(self, request: Request) -> Any:
        obj = self._object(request)
        fields = [f.describe() for f in obj.fields.values()]
        return {"name": obj.name, "keyPrefix": obj.prefix, "custom": obj.name.endswith("__c"), "fields": fields}

    async def create(self, request: Request) -> Any:
        obj = self._object(request)
        record_id, _ = self._save(obj, None, self._parse(obj, await self._body(request)), request)
        return 201, {"id": record_id, "success": True, "errors": []}

    async def one(self, request: Request) -> Any:
        """`sobjects/X/{id}`."""
        obj = self._object(request)
        return await self._act(request, obj, self.store.by_id(obj, request.path_params["id"]))

    async def keyed(self, request: Request) -> Any:
        """`sobjects/X/{external id field}/{value}`; PATCH makes the record if there is none."""
        obj = self._object(request)
        field = self.store.external_id(obj, request.path_params["field"])
        value = request.path_params["value"]
        row = self.store.by_key(obj, field, value)
        if request.method != "PATCH":
            if row is None:
                raise RefusedError("NOT_FOUND", NO_RESOURCE, status=404)
            return await self._act(request, obj, row)
        body = await self._body(request)
        if field.name in body:
            text = f"The {field.name} field should not be specified in the sobject data."
            raise RefusedError("INVALID_FIELD", text, (field.name,), status=400)
        if row is None and request.query_params.get("updateOnly") == "true":
            raise RefusedError("NOT_FOUND", NO_RESOURCE, status=404)
        parsed = {**self._parse(obj, body), field.name: value}
        record_id, created = self._save(obj, row, parsed, request)
        return (201 if created else 200), {"id": record_id, "success": True, "errors": [], "created": created}

    async def upsert_many(self, request: Request) -> Any:
        """`PATCH composite/sobjects/X/{external id field}`: one result per record, in order."""
        obj = self._object(request)
        field = self.store.external_id(obj, request.path_params["field"])
        body = await self._body(request)
        records, all_or_none = body.get("records"), body.get("allOrNone", False)
        if set(body) - {"records", "allOrNone"} or not isinstance(records, list) or not isinstance(all_or_none, bool):
            raise RefusedError("JSON_PARSER_ERROR", "The body must hold allOrNone and records", status=400)
        if len(records) > MOST:
            text = f"record limit reached. cannot submit more than {MOST} records into this call"
            raise RefusedError("EXCEEDED_ID_LIMIT", text, status=400)
        parsed = [self._try_parse(obj, record) for record in records]
        keys = Counter(p[field.name] for p in parsed if isinstance(p, dict) and p.get(field.name))
        back = self.store.saved() if all_or_none else None
        results = [self._upsert(obj, field, p, keys, request) for p in parsed]
        if back is not None and not all(r["success"] for r in results):
            back()
            error = RefusedError(
                "ALL_OR_NONE_OPERATION_ROLLED_BACK", "Record rolled back because not all records were valid"
            )
            results = [r if not r["success"] else {"success": False, "errors": [error.row()]} for r in results]
        return results

    async def retrieve(self, request: Request) -> Any:
        """`composite/sobjects/X?ids=..&fields=..`, or the same by POST: rows in order, null where there is none."""
        obj = self._object(request)
        if request.method == "GET":
            ids = request.query_params.get("ids", "").split(",")
            names = request.query_params.get("fields", "").split(",")
        else:
            body = await self._body(request)
            ids, names = body.get("ids", []), body.get("fields", [])
        if unknown := [n for n in names if n not in obj.fields]:
            text = f"No such column '{unknown[0]}' on sobject of type {obj.name}"
            raise RefusedError("INVALID_FIELD", text, status=400)
        rows = self.store.rows[obj.name]
        live = [rows[i] if i in rows and not rows[i]["IsDeleted"] else None for i in ids]
        return [None if row is None else self._shown(request, obj, row, names) for row in live]

    async def query(self, request: Request) -> Any:
        return self._query(request, deleted=False)

    async def query_all(self, request: Request) -> Any:
        return self._query(request, deleted=True)

    async def query_more(self, request: Request) -> Any:
        locator = request.path_params["locator"]
        if locator not in self._cursors:
            raise RefusedError("INVALID_QUERY_LOCATOR", "invalid query locator", status=400)
        return self._page(request, *self._cursors[locator], start=int(locator.rpartition("-")[2]))

    def _query(self, request: Request, *, deleted: bool) -> Any:
        text = request.query_params.get("q")
        if not text:
            raise RefusedError("MALFORMED_QUERY", "The q parameter is missing", status=400)
        query, rows = soql.run(self.store, text, deleted=deleted)
        if not query.columns:
            return {"totalSize": len(rows), "done": True, "records": []}
        return self._page(request, query, rows, start=0)

    def _page(self, request: Request, query: soql.Query, rows: list[Row], *, start: int) -> Any:
        page = rows[start : start + PAGE]
        result: dict[str, Any] = {"totalSize": len(rows), "done": start + PAGE >= len(rows)}
        if not result["done"]:
            locator = f"01g{len(self._cursors):012d}-{start + PAGE}"
            self._cursors[locator] = (query, rows)
            result["nextRecordsUrl"] = f"/services/data/{request.path_params['version']}/query/{locator}"
        return {**result, "records": [self._shown(request, query.obj, row, query.columns) for row in page]}

    def _shown(self, request: Request, obj: ObjectDef, row: Row, names: list[str]) -> Row:
        version = request.path_params["version"]
        url = f"/services/data/{version}/sobjects/{obj.name}/{row['Id']}"
        shown: Row = {"attributes": {"type": obj.name, "url": url}}
        for name in names:
            first, _, rest = name.partition(".")
            if not rest:
                shown[name] = row.get(name)
                continue
            lookup = obj.relationship(first)
            assert lookup is not None
            assert lookup.reference_to is not None
            parent = self.store.rows[lookup.reference_to].get(row.get(lookup.name) or "")
            if parent is None:
                shown[first] = None
            else:
                whole = shown.setdefault(
                    first, self._shown(request, self.store.objects[lookup.reference_to], parent, [])
                )
                whole[rest] = parent.get(rest)
        return shown

    async def _act(self, request: Request, obj: ObjectDef, row: Row) -> Any:
        """GET, PATCH or DELETE of a record that is there."""
        if request.method == "GET":
            return self._shown(request, obj, row, list(obj.fields))
        if request.method == "DELETE":
            self.store.delete(row)
        else:
            self._save(obj, row, self._parse(obj, await self._body(request)), request)
        return None

    def _object(self, request: Request) -> ObjectDef:
        return self.store.object(request.path_params["object"])

    def _parse(self, obj: ObjectDef, body: Row) -> Row:
        return self.store.parse(obj, body)

    def _try_parse(self, obj: ObjectDef, record: Any) -> Row | RefusedError:
        """Of a collection's record; what refuses the whole call is raised, what refuses the row is returned."""
        kind = record.get("attributes", {}).get("type") if isinstance(record, dict) else None
        if kind != obj.name:
            text = (
                f"sObject type {kind} does not match {obj.name}" if kind else "The records need attributes with a type"
            )
            raise RefusedError("INVALID_INPUT", text, status=400)
        try:
            return self._parse(obj, record)
        except RefusedError as error:
            if error.status is not None:
                raise
            return error

    def _save(self, obj: ObjectDef, row: Row | None, parsed: Row, request: Request) -> tuple[str, bool]:
        allow = request.headers.get("sforce-duplicate-rule-header") == "allowSave=true"
        return self.store.save(obj, row, parsed, allow_duplicates=allow)

    def _upsert(
        self, obj: ObjectDef, field: FieldDef, parsed: Row | RefusedError, keys: Counter[str], request: Request
    ) -> Row:
        refused = _unusable(field, parsed, keys)
        if refused is not None:
            return {"success": False, "errors": [refused.row()]}
        assert isinstance(parsed, dict)
        key = parsed[field.name]
        row = self.store.by_key(obj, field, key)
        try:
            if row is None and (obj.name, key) in self.store.raced:
                # Another transaction makes the record between our look-up and our insert.
                self.store.raced.discard((obj.name, key))
                self._save(obj, None, parsed, request)
            record_id, created = self._save(obj, row, parsed, request)
        except RefusedError as error:
            return {"success": False, "errors": [error.row()]}
        return {"id": record_id, "success": True, "errors": [], "created": created}


def _unusable(field: FieldDef, parsed: Row | RefusedError, keys: Counter[str]) -> RefusedError | None:
    """What refuses a collection's record before it is looked up."""
    if isinstance(parsed, RefusedError):
        return parsed
    key = parsed.get(field.name)
    if not key:
        return RefusedError("MISSING_ARGUMENT", f"{field.name} not specified")
    if keys[key] > 1:
        return RefusedError("DUPLICATE_VALUE", f"Duplicate external id specified: {key}", (field.name,))
    return None
