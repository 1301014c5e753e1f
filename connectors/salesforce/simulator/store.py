"""The simulated org's records and what guards them: uniqueness, validation rules, duplicate rules, locks."""

from __future__ import annotations

import copy
import random
import string
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from connectors.salesforce.simulator.schema import FieldDef, ObjectDef, objects
from connectors.salesforce.simulator.values import RefusedError, allowed, moment, readable, shown
from connectors.simulator import Clock

Row: TypeAlias = dict[str, Any]
Guard: TypeAlias = Callable[[Row], bool]

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHECK = string.ascii_uppercase + "012345"


class Store:
    """Rows by id, in the order they were made."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self._clock = clock
        self._pod = "".join(random.Random(seed).choices(string.ascii_letters, k=3))  # noqa: S311 - ids, not secrets
        self._count = 0
        self.objects = dict(objects())
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in self.objects}
        self._keys: dict[tuple[str, str, str], str] = {}
        self.validation_rules: list[tuple[str, Guard, str, str | None]] = []
        self.duplicate_rules: list[tuple[str, Guard, bool]] = []
        self.triggers: list[tuple[str, Guard, str]] = []
        self.locked: set[str] = set()
        self.raced: set[tuple[str, str]] = set()
        self.unknown_field_fails_call = True
        self.user = self.new_id("005")
        org = self.new_id("00D")
        self.rows["Organization"][org] = {
            "Id": org,
            "Name": "Billing Hub Sandbox",
            "IsSandbox": True,
            "IsDeleted": False,
        }

    def new_id(self, prefix: str) -> str:
        """18 characters: prefix, pod, counter in base 62, and the checksum over the capitals of each group of five."""
        self._count += 1
        rest, digits = self._count, ""
        while rest:
            rest, digit = divmod(rest, 62)
            digits = _BASE62[digit] + digits
        short = prefix + self._pod + digits.rjust(9, "0")
        return short + checksum(short)

    def object(self, name: str) -> ObjectDef:
        """The object, or 404: unknown and forbidden look alike."""
        if name not in self.objects:
            raise RefusedError("NOT_FOUND", "The requested resource does not exist", status=404)
        return self.objects[name]

    def external_id(self, obj: ObjectDef, name: str) -> FieldDef:
        field = obj.fields.get(name)
        if field is None or not field.external_id:
            text = f"Provided external ID field does not exist or is not accessible: {name}"
            raise RefusedError("NOT_FOUND", text, status=404)
        return field

    def by_key(self, obj: ObjectDef, field: FieldDef, value: str) -> Row | None:
        """The live row with this external id."""
        found = self._keys.get(self._key(obj, field, value))
        return self.rows[obj.name][found] if found is not None else None

    def by_id(self, obj: ObjectDef, record_id: str) -> Row:
        """The live row with this id of 15 or 18 characters."""
        for known, row in self.rows[obj.name].items() if len(record_id) == 15 else ():
            if known.startswith(record_id):
                return self._live(row)
        if record_id not in self.rows[obj.name]:
            raise RefusedError("NOT_FOUND", "The requested resource does not exist", status=404)
        return self._live(self.rows[obj.name][record_id])

    def parse(self, obj: ObjectDef, body: Mapping[str, Any]) -> Row:
        """Names and types of a record's fields, relationships kept as `(field, parent key field, value)`."""
        parsed: Row = {}
        for name, value in body.items():
            lookup = obj.relationship(name)
            field = obj.fields.get(name)
            if name == "attributes":
                continue
            if lookup is not None and isinstance(value, dict):
                parsed[name] = self._reference(lookup, value)
            elif field is None:
                status = 400 if self.unknown_field_fails_call else None
                raise RefusedError(
                    "INVALID_FIELD", f"No such column '{name}' on sobject of type {obj.name}", status=status
                )
            elif field.read_only:
                text = f"Unable to create/update fields: {name}. Please check the security settings of this field"
                raise RefusedError("INVALID_FIELD_FOR_INSERT_UPDATE", text, (name,))
            else:
                parsed[name] = readable(field, value)
        return parsed

    def save(self, obj: ObjectDef, row: Row | None, parsed: Row, *, allow_duplicates: bool = False) -> tuple[str, bool]:
        """Insert (no `row`) or update; id, and whether it is new. Raises `RefusedError` and changes nothing."""
        wanted: Row = {} if row is None else dict(row)
        for name, value in parsed.items():
            lookup = obj.relationship(name)
            if lookup is not None:
                wanted[lookup.name] = self._parent(lookup, value)
            else:
                wanted[name] = allowed(obj.fields[name], value)
        if row is None:
            for field in obj.fields.values():
                wanted.setdefault(field.name, False if field.type == "boolean" else None)
        missing = [f.name for f in obj.fields.values() if not f.nillable and not f.read_only and wanted[f.name] is None]
        if missing:
            text = f"Required fields are missing: [{', '.join(missing)}]"
            raise RefusedError("REQUIRED_FIELD_MISSING", text, tuple(missing))
        self._guard(obj, row, wanted, allow_duplicates=allow_duplicates)
        return self._keep(obj, row, wanted)

    def delete(self, row: Row) -> None:
        """Into the recycle bin: its keys are free again."""
        row["IsDeleted"] = True
        self._keys = {k: v for k, v in self._keys.items() if v != row["Id"]}
        self._stamp(row)

    def saved(self) -> Callable[[], None]:
        """Remembers all rows; calling what it returns puts them back."""
        rows, keys = copy.deepcopy(self.rows), dict(self._keys)

        def back() -> None:
            self.rows, self._keys = rows, keys

        return back

    def state(self) -> dict[str, list[Row]]:
        """All live rows of the objects the hub writes."""
        return {
            name: [{k: shown(v) for k, v in row.items()} for row in rows.values() if not row["IsDeleted"]]
            for name, rows in self.rows.items()
            if name != "Organization"
        }

    def _live(self, row: Row) -> Row:
        if row["IsDeleted"]:
            raise RefusedError("ENTITY_IS_DELETED", "entity is deleted", status=404)
        return row

    def _reference(self, lookup: FieldDef, value: Row) -> tuple[FieldDef, Any]:
        assert lookup.reference_to is not None
        parent = self.objects[lookup.reference_to]
        named = {k: v for k, v in value.items() if k != "attributes"}
        field = parent.fields.get(next(iter(named), ""))
        if len(named) != 1 or field is None or not field.external_id:
            text = f"The external foreign key reference does not reference a valid entity: {lookup.relationship}"
            raise RefusedError("INVALID_FIELD", text, status=400)
        return field, readable(field, named[field.name])

    def _parent(self, lookup: FieldDef, reference: tuple[FieldDef, Any]) -> str:
        assert lookup.reference_to is not None
        field, value = reference
        found = self.by_key(self.objects[lookup.reference_to], field, value or "")
        if found is None:
            text = f"Foreign key external ID: {value} not found for field {field.name} in entity {lookup.reference_to}"
            raise RefusedError("INVALID_FIELD", text)
        return str(found["Id"])

    def _guard(self, obj: ObjectDef, row: Row | None, wanted: Row, *, allow_duplicates: bool) -> None:
        touched = {wanted.get("Id"), *(wanted[f.name] for f in obj.fields.values() if f.type == "reference")}
        if blocked := touched & self.locked:
            text = f"unable to obtain exclusive access to this record or 1 records: {blocked.pop()}"
            raise RefusedError("UNABLE_TO_LOCK_ROW", text)
        for field in (f for f in obj.fields.values() if f.unique and wanted[f.name] is not None):
            other = self.by_key(obj, field, wanted[field.name])
            if other is not None and (row is None or other["Id"] != row["Id"]):
                text = f"duplicate value found: {field.name} duplicates value on record with id: {other['Id']}"
                raise RefusedError("DUPLICATE_VALUE", text)
        for name, matches, alert_only in self.duplicate_rules:
            if name == obj.name and row is None and matches(wanted) and not (alert_only and allow_duplicates):
                raise RefusedError("DUPLICATES_DETECTED", "Use one of these records?")
        for name, fails, message, at in self.validation_rules:
            if name == obj.name and fails(wanted):
                raise RefusedError("FIELD_CUSTOM_VALIDATION_EXCEPTION", message, (at,) if at else ())
        for name, fails, message in self.triggers:
            if name == obj.name and fails(wanted):
                raise RefusedError("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message)

    def _keep(self, obj: ObjectDef, row: Row | None, wanted: Row) -> tuple[str, bool]:
        created = row is None
        if row is None:
            row = wanted
            row["Id"] = self.new_id(obj.prefix)
            row["IsDeleted"] = False
            row["CreatedDate"] = moment(self._clock())
            row["Name"] = row.get("Name") or row["Id"]
            self.rows[obj.name][row["Id"]] = row
        else:
            for field in (f for f in obj.fields.values() if f.unique and row[f.name] is not None):
                self._keys.pop(self._key(obj, field, row[field.name]), None)
            row.update(wanted)
        for field in (f for f in obj.fields.values() if f.unique and row[f.name] is not None):
            self._keys[self._key(obj, field, row[field.name])] = row["Id"]
        self._stamp(row)
        return str(row["Id"]), created

    def _key(self, obj: ObjectDef, field: FieldDef, value: str) -> tuple[str, str, str]:
        return (obj.name, field.name, value if field.case_sensitive else value.lower())

    def _stamp(self, row: Row) -> None:
        row["LastModifiedDate"] = row["SystemModstamp"] = moment(self._clock())
        row["LastModifiedById"] = self.user


def checksum(short: str) -> str:
    """The last three of an id's 18 characters: they tell ids apart that differ only by case."""
    groups = (short[i : i + 5] for i in (0, 5, 10))
    return "".join(_CHECK[sum(1 << i for i, c in enumerate(g) if c in string.ascii_uppercase)] for g in groups)
