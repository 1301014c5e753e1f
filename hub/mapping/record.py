"""One mapping: the compiled form of `mappings/<destination>/<name>.yaml`, and what applying it gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any, NoReturn, TypeAlias

from hub.conservation import check_credit_note, check_invoice
from hub.errors import MappingError
from hub.legible import is_text
from hub.mapping.expressions import Expression, false
from hub.mapping.functions import RefusalError
from hub.model import Record

Evaluate: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""A compiled expression or a constant: roots in, value out; raises `RefusalError`."""

CONSERVE: Mapping[str, Callable[[dict[str, Any]], None]] = {"invoice": check_invoice, "credit_note": check_credit_note}


def root_name(object_type: str) -> str:
    """The root of a Stripe object type: `billing.credit_grant` is read as `billing_credit_grant`."""
    return object_type.replace(".", "_")


COMMON_ROOTS = frozenset({"event", "settings", "mapping"})
"""Roots that are always there, beside the object and the needs."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing to do for this event: `when` is not true. `reason` is the mapping's `otherwise`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Field:
    """`path`: the target, split at the dots."""

    path: tuple[str, ...]
    value: Evaluate
    null: bool = False
    required: bool = False

    @property
    def target(self) -> str:
        """As written in the file."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Rows:
    """One source of a sublist: a row per element of `over`, called `name` inside."""

    over: Evaluate
    name: str
    when: Evaluate | None
    fields: tuple[Field, ...]
    each: tuple[Sublist, ...]


@dataclass(frozen=True, slots=True)
class Sublist:
    """A list in the record, its sources appended in order."""

    path: tuple[str, ...]
    sources: tuple[Rows, ...]

    @property
    def target(self) -> str:
        """As written in the file."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Need:
    """A related object. `many`: the expression gives a list of ids and the root is an object of objects by id. `by`: a
    list read from Stripe on every attempt, of all objects of this type that belong to the object with that id.
    """

    name: str
    object_type: str
    id: Evaluate
    roots: frozenset[str]
    many: bool = False
    by: str | None = None

    def part(self, object_id: str) -> str:
        """Under this name the engine keeps one object of a `many` need."""
        return f"{self.name}/{object_id}"


@dataclass(frozen=True, slots=True)
class RecordMapping:
    """How one Stripe object becomes one vendor record. Made by `hub.mapping.load`; immutable."""

    name: str
    destination: str
    record: str
    action: str
    version: int
    object: str
    """The Stripe object type it represents; its root is `root_name(object)`."""
    on: tuple[str, ...]
    needs: tuple[Need, ...]
    parents: tuple[str, ...]
    when: Evaluate | None
    otherwise: str
    key: Evaluate
    conserve: str | None
    fields: tuple[Field, ...]
    each: tuple[Sublist, ...]
    settings: frozenset[str] = frozenset()
    """Names below `settings` its expressions read."""
    examples: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        """`<destination>/<name>@<version>`: what every record it made carries."""
        return f"{self.destination}/{self.name}@{self.version}"

    @property
    def file(self) -> str:
        """For people: the file it comes from."""
        return f"mappings/{self.destination}/{self.name}.yaml"

    def needed(
        self, roots: Mapping[str, Any], settings: Mapping[str, Any] | None = None
    ) -> dict[str, tuple[str, str | None]]:
        """Which related objects to get next: root name -> (Stripe object type, id). An id of None: the root is None.

        Only needs that are not in `roots` yet and whose expressions read nothing that is still missing, so the caller
        goes round until nothing is left, putting each object under the name given here:

            while wanted := mapping.needed(roots):
                for name, (object_type, object_id) in wanted.items():
                    roots[name] = object_id and read(object_type, object_id)

        A need with `ids` is asked for object by object, under the names `<need>/<id>`; `apply` puts them together.
        """
        known = self._seen(roots, settings or {})
        wanted: dict[str, tuple[str, str | None]] = {}
        for need in self.needs:
            if need.by or need.name in roots or not need.roots <= known.keys():
                continue
            value = self._value(need.id, known, f"needs.{need.name}")
            if not need.many:
                wanted[need.name] = (need.object_type, self._id(value, f"needs.{need.name}"))
                continue
            for one in self._ids(value, f"needs.{need.name}"):
                if need.part(one) not in roots:
                    wanted[need.part(one)] = (need.object_type, one)
        return wanted

    def listed(
        self, roots: Mapping[str, Any], settings: Mapping[str, Any] | None = None
    ) -> dict[str, tuple[str, str, str | None]]:
        """Which lists to get next: root name -> (Stripe object type, by what, id). Id None: the root is an empty list.
        As in `needed`: only those that can be asked for and are not there yet.
        """
        known = self._seen(roots, settings or {})
        return {
            need.name: (need.object_type, need.by, self._id(self._value(need.id, known, where), where))
            for need in self.needs
            if need.by and need.name not in roots and need.roots <= known.keys() and (where := f"needs.{need.name}")
        }

    def apply(self, roots: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Record | Skip:
        """The record these objects make, or why there is nothing to do.

        `roots`: the event's object under `root_name(object)`, the needs under their names, and `event`. Raises
        `MappingError` (stable `code`, cause naming file and field, fix) or `ConservationError`.
        """
        values = self._seen(roots, settings or {})
        own = values.get(root_name(self.object))
        if not isinstance(own, Mapping) or not isinstance(own.get("id"), str):
            self._fail(
                "missing_object", root_name(self.object), "there is no such object with an id", "Send the event again."
            )
        for need in self.needs:
            if need.name not in values:
                self._fail(
                    "missing_object",
                    f"needs.{need.name}",
                    "the object was not looked up",
                    "Retry; report it if it stays.",
                )
        if self.when is not None and false(self._value(self.when, values, "when")):
            return Skip(self.otherwise)
        if self.conserve is not None:
            document = values[self.conserve]
            if not isinstance(document, dict):
                self._fail(
                    "missing_object", "conserve", f"there is no {self.conserve} to check", "Retry with the object."
                )
            CONSERVE[self.conserve](document)
        key = self._key(values)
        fields = self._fields(self.fields, self.each, values, "fields", "each")
        return Record(
            record=self.record,
            action=self.action,
            object_id=own["id"],
            key=key,
            fields=fields,
            digest=digest(self.record, self.action, key, fields),
            mapping=self.id,
        )

    def key_of(self, obj: Mapping[str, Any]) -> str:
        """The key alone, for the object alone. Raises `MappingError`, also for a key that reads anything else."""
        values = {root_name(self.object): obj}
        if isinstance(self.key, Expression) and self.key.roots - values.keys():
            others = ", ".join(sorted(self.key.roots - values.keys()))
            self._fail("missing_object", "key", f"it reads {others} too", "Build it from the object's id.")
        return self._key(values)

    def _key(self, values: Mapping[str, Any]) -> str:
        key = self._value(self.key, values, "key")
        if isinstance(key, str) and key:
            return key
        return self._fail(
            "field_required", "key", "the key is not a text", "Build it from the object's id, which never changes."
        )

    def _seen(self, roots: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """The roots as expressions see them; a need of `many` is put together once all its parts are there."""
        about = {"id": self.id, "name": self.name, "version": self.version}
        values: dict[str, Any] = {"event": None, **roots, "settings": settings, "mapping": about}
        for need in self.needs:
            if not need.many or need.name in values or not need.roots <= values.keys():
                continue
            ids = self._ids(self._value(need.id, values, f"needs.{need.name}"), f"needs.{need.name}")
            if all(need.part(i) in values for i in ids):
                values[need.name] = {i: values[need.part(i)] for i in ids}
        return values

    def _fields(
        self, fields: tuple[Field, ...], each: tuple[Sublist, ...], values: dict[str, Any], where: str, where_each: str
    ) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for f in fields:
            try:
                value = f.value(values)
                if type(value) not in _PLAIN:
                    value = _checked(value)
            except RefusalError as e:
                self._refuse(e, f"{where}.{f.target}")
            if value is None:
                if f.required:
                    self._fail(
                        "field_required",
                        f"{where}.{f.target}",
                        "the value is null but the field is required",
                        "Complete the object in Stripe, or give the field a default in the mapping.",
                    )
                if not f.null:
                    continue
            _put(made, f.path, value)
        for sublist in each:
            rows: list[Any] = []
            for number, source in enumerate(sublist.sources):
                rows += self._rows(source, values, f"{where_each}.{sublist.target}[{number}]")
            _put(made, sublist.path, rows)
        return made

    def _rows(self, source: Rows, values: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
        over = self._value(source.over, values, f"{where}.over")
        if over is None:
            return
        if not isinstance(over, list):
            self._fail("expression_failed", f"{where}.over", "it is not a list", "Let `over` give a list or null.")
        for index, element in enumerate(over):
            if element is None:
                continue
            inner = {**values, source.name: element, "index": index}
            if source.when is not None and false(self._value(source.when, inner, f"{where}.when")):
                continue
            yield self._fields(source.fields, source.each, inner, f"{where}.fields", f"{where}.each")

    def _value(self, evaluate: Evaluate, roots: Mapping[str, Any], where: str) -> Any:
        try:
            return evaluate(roots)
        except RefusalError as e:
            self._refuse(e, where)

    def _id(self, value: Any, where: str) -> str | None:
        if isinstance(value, Mapping):
            value = value.get("id")  # an expanded object stands where an id is expected
        if value is None or (isinstance(value, str) and value and is_text(value)):
            return value
        return self._fail("expression_failed", where, "it is not an id", "Let the expression give an id or null.")

    def _ids(self, value: Any, where: str) -> list[str]:
        if value is None:
            return []
        if not isinstance(value, list):
            self._fail("expression_failed", where, "it is not a list of ids", "Let `ids` give a list or null.")
        found = (self._id(one, where) for one in value)
        return list(dict.fromkeys(one for one in found if one is not None))

    def _refuse(self, refusal: RefusalError, where: str) -> NoReturn:
        self._fail(refusal.code, where, refusal.cause, refusal.fix)

    def _fail(self, code: str, where: str, cause: str, fix: str) -> NoReturn:
        raise MappingError(code, f"{self.file}, {where}: {cause}.", fix) from None


_PLAIN = frozenset({str, int, Decimal, bool, type(None)})


def _put(made: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    if len(path) > 1:
        for part in path[:-1]:
            made = made.setdefault(part, {})
    made[path[-1]] = value


def _checked(value: Any) -> Any:
    """Lets pass what a record may hold; a float never."""
    if value is None or isinstance(value, str | bool | int | Decimal):
        return value
    if isinstance(value, float):
        raise RefusalError(
            "not_a_float", "the value is a float", "Use decimal(), money() or an integer; floats lose cents."
        )
    if isinstance(value, list):
        return [_checked(v) for v in value]
    if isinstance(value, dict):
        return {k: _checked(v) for k, v in value.items()}
    raise RefusalError(
        "expression_failed", f"the value is a {type(value).__name__}", "Let the expression give a plain value."
    )


def digest(record: str, action: str, key: str, fields: Mapping[str, Any]) -> str:
    """SHA-256, first 32 hex digits, over the canonical form: sorted keys, `Decimal` by value (1.0 is 1.00)."""
    canonical = json.dumps(
        [record, action, key, fields], sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_canonical
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"$decimal": canonical_decimal(value)}
    raise TypeError(f"a record holds plain values, not {type(value).__name__}")


def canonical_decimal(value: Decimal) -> str:
    """Equal numbers give equal text; no digit is lost."""
    return str(value.normalize(_EXACT)) if value else "0"


_EXACT = Context(prec=5000)
