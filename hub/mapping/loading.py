"""Load and check every mapping file; all problems at once, none of them only when the first invoice comes along."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hub.errors import HubError
from hub.mapping.expressions import Expression, Interpreter, compile_expression, constant
from hub.mapping.files import read_yaml
from hub.mapping.functions import Functions
from hub.mapping.mappings import Mappings
from hub.mapping.record import COMMON_ROOTS, CONSERVE, Evaluate, Field, Need, RecordMapping, Rows, Sublist, root_name
from hub.model import LISTED

FOLDER = Path(__file__).resolve().parents[2] / "mappings"
ACTIONS = ("upsert", "commit", "void", "unvoid")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OBJECT = re.compile(r"[a-z_]+(\.[a-z_]+)*")
_EVENT = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_REQUIRED = ("version", "record", "object", "key", "fields")
_OPTIONAL = ("action", "on", "when", "otherwise", "needs", "parents", "conserve", "each", "examples")
_KEYS = {*_REQUIRED, *_OPTIONAL}
_EXAMPLE_KEYS = {"name", "given", "expect"}
_EXPECT_KEYS = {"key", "fields", "record", "action", "skip", "error"}


class MappingProblems(HubError):  # noqa: N818 - one error, many problems
    """The mapping files cannot be used. `problems`: all of them, each `<file>: <key>: <problem>`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("mappings cannot be used: " + "; ".join(self.problems))


def load(folder: Path = FOLDER) -> Mappings:
    """All mappings below a folder: `<destination>/<name>.yaml` and `lookups/<table>.yaml`. Raises `MappingProblems`."""
    problems: list[str] = []
    if not folder.is_dir():
        raise MappingProblems([f"{folder}: there is no such folder"])
    documents = {p: _read(p, folder, problems) for p in sorted(folder.glob("*/*.y*ml"))}
    tables: dict[str, dict[str, Any]] = {}
    for path in [p for p in documents if p.parent.name == "lookups"]:
        tables[path.stem] = _table(documents.pop(path), f"mappings/{path.relative_to(folder)}", problems)
    functions = Functions(tables)
    interpreter = Interpreter(functions)
    found: dict[str, dict[str, RecordMapping]] = {}
    for path, document in documents.items():
        reader = _Reader(str(path.relative_to(folder)), functions, interpreter, problems)
        mapping = reader.mapping(path.parent.name, path.stem, document) if document is not None else None
        if mapping is not None:
            found.setdefault(mapping.destination, {})[mapping.name] = mapping
    for mappings in found.values():
        problems += _family_problems(mappings)
    if problems:
        raise MappingProblems(problems)
    return Mappings(found, tables)


def _read(path: Path, folder: Path, problems: list[str]) -> Any:
    problem = "must be called .yaml"
    if path.suffix == ".yaml":
        try:
            value = read_yaml(path)
        except (OSError, ValueError) as e:
            problem = str(e)
        else:
            if isinstance(value, dict):
                return value
            problem = "is not a table of keys and values"
    problems.append(f"mappings/{path.relative_to(folder)}: {problem}")
    return None


def _table(document: Any, file: str, problems: list[str]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in (document or {}).items():
        if isinstance(value, list):
            problems.append(f"{file}: {key}: a value is a plain value or a table, not a list")
        table[str(key)] = value
    return table


def _family_problems(mappings: Mapping[str, RecordMapping]) -> list[str]:
    """What only shows between the mappings of one destination: parents that are unknown, unreachable or in a circle."""
    problems = []
    for m in mappings.values():
        for name in m.parents:
            parent = mappings.get(name)
            if parent is None:
                problems.append(f"{m.file}: parents: there is no mapping {name!r} in mappings/{m.destination}")
            elif parent.object != m.object and parent.object not in {n.object_type for n in m.needs if not n.by}:
                problems.append(
                    f"{m.file}: parents: {name} is made from a {parent.object}, which is not among the needs"
                )
        if m.name in _ancestors(m, mappings):
            problems.append(f"{m.file}: parents: {m.name} is its own ancestor")
    return problems


def _ancestors(mapping: RecordMapping, mappings: Mapping[str, RecordMapping]) -> set[str]:
    seen: set[str] = set()
    todo = list(mapping.parents)
    while todo:
        name = todo.pop()
        if name not in seen and name in mappings:
            seen.add(name)
            todo += mappings[name].parents
    return seen


class _Reader:
    """Turns one document into a `RecordMapping`, noting every problem on the way."""

    def __init__(self, file: str, functions: Functions, interpreter: Interpreter, problems: list[str]) -> None:
        self.file, self.functions, self.interpreter, self.problems = (
            f"mappings/{file}",
            functions,
            interpreter,
            problems,
        )
        self.settings: set[str] = set()

    def problem(self, key: str, text: str) -> None:
        self.problems.append(f"{self.file}: {key}: {text}")

    def mapping(self, destination: str, name: str, document: dict[str, Any]) -> RecordMapping | None:
        before = len(self.problems)
        self.keys(document, _KEYS, "")
        for key in _REQUIRED:
            if document.get(key) in (None, "", {}):
                self.problem(key, "is missing")
        object_type = document.get("object")
        if not isinstance(object_type, str) or not _OBJECT.fullmatch(object_type) or object_type in COMMON_ROOTS:
            self.problem("object", "must be a Stripe object type such as invoice")
            object_type = "invoice"
        version = document.get("version")
        if type(version) is not int or version < 1:
            self.problem("version", "must be a whole number from 1")
        if document.get("action", "upsert") not in ACTIONS:
            self.problem("action", f"must be one of {', '.join(ACTIONS)}")
        known = COMMON_ROOTS | {root_name(object_type)}
        needs = self.needs(document.get("needs", {}), known)
        known |= {n.name for n in needs}
        conserve = document.get("conserve")
        if conserve is not None and (conserve not in list(CONSERVE) or conserve not in known):
            self.problem("conserve", f"must be {' or '.join(CONSERVE)}, and one of the roots")
        made = RecordMapping(
            name=name,
            destination=destination,
            record=self.text(document, "record"),
            action=str(document.get("action", "upsert")),
            version=version if type(version) is int else 0,
            object=object_type,
            on=self.strings(document, "on", _EVENT),
            needs=needs,
            parents=self.strings(document, "parents", _NAME),
            when=self.optional(document, "when", known, ""),
            otherwise=self.text(document, "otherwise", default="the mapping's condition is not true"),
            key=self.expression(document.get("key"), known, "key"),
            conserve=conserve,
            fields=self.fields(document.get("fields", {}), known, "fields"),
            each=self.each(document.get("each", {}), known, "each"),
            settings=frozenset(self.settings),
            examples=self.examples(document.get("examples", []), known, skips=document.get("when") is not None),
        )
        self.targets(made.fields, made.each, "fields")
        return made if len(self.problems) == before else None

    def keys(self, document: dict[str, Any], allowed: set[str], where: str) -> None:
        for key in document:
            if key not in allowed:
                self.problem(f"{where}{key}", f"unknown key; known: {', '.join(sorted(allowed))}")

    def text(self, document: dict[str, Any], key: str, default: str = "") -> str:
        value = document.get(key, default)
        if not isinstance(value, str):
            self.problem(key, "must be text")
            return default
        return value

    def strings(self, document: dict[str, Any], key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        value = document.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) and pattern.fullmatch(v) for v in value):
            self.problem(key, "must be a list of names")
            return ()
        if len(set(value)) < len(value):
            self.problem(key, "names something twice")
        return tuple(value)

    def table(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.problem(where, "must be a table of keys and values")
        return {}

    def expression(self, text: Any, known: frozenset[str], where: str) -> Evaluate:
        """A string is an expression; true, false and numbers stand for themselves."""
        if isinstance(text, bool | int):
            return constant(text)
        if not isinstance(text, str) or not text.strip():
            if text is not None or where != "key":
                self.problem(where, "must be an expression")
            return constant(None)
        compiled, problems = compile_expression(text, self.interpreter, self.functions)
        for problem in problems:
            self.problem(where, problem)
        if compiled is None:
            return constant(None)
        for root in sorted(compiled.roots - known):
            self.problem(where, f"unknown root {root!r}; known here: {', '.join(sorted(known))}")
        self.settings |= compiled.settings
        return compiled

    def optional(self, document: dict[str, Any], key: str, known: frozenset[str], where: str) -> Evaluate | None:
        return self.expression(document[key], known, f"{where}{key}") if document.get(key) is not None else None

    def needs(self, document: Any, known: frozenset[str]) -> tuple[Need, ...]:
        needs: list[Need] = []
        for name, need in self.table(document, "needs").items():
            where = f"needs.{name}"
            if not isinstance(need, dict) or "object" not in need or ("id" in need) == ("ids" in need):
                self.problem(where, "must be {object: <Stripe type>, id: <expression>}, or ids: for a list of ids")
                continue
            self.keys(need, {"object", "id", "ids", "list"}, f"{where}.")
            by = need.get("list")
            if by is not None and (by not in LISTED.get(need["object"], ()) or "ids" in need):
                known_lists = ", ".join(f"{o} by {b}" for o, relations in LISTED.items() for b in relations)
                self.problem(f"{where}.list", f"there is no such list; with `id`, there are: {known_lists}")
            if not _NAME.fullmatch(str(name)) or name in known:
                self.problem(where, "must have a name of its own, made of letters, digits and _")
            if not _OBJECT.fullmatch(str(need["object"])):
                self.problem(f"{where}.object", "must be a Stripe object type such as customer")
            compiled = self.expression(need.get("id", need.get("ids")), known, where)
            roots = compiled.roots if isinstance(compiled, Expression) else frozenset[str]()
            needs.append(Need(str(name), str(need["object"]), compiled, roots - COMMON_ROOTS, "ids" in need, by))
            known |= {str(name)}
        return tuple(needs)

    def fields(self, document: Any, known: frozenset[str], where: str) -> tuple[Field, ...]:
        made = []
        for target, value in self.table(document, where).items():
            place, path = f"{where}.{target}", tuple(str(target).split("."))
            if not all(path):
                self.problem(place, "has an empty part between its dots")
            if isinstance(value, dict):
                self.keys(value, {"value", "null", "required"}, f"{place}.")
                null, required = value.get("null", False), value.get("required", False)
                if not isinstance(null, bool) or not isinstance(required, bool) or (null and required):
                    self.problem(place, "null and required are true or false, and not both true")
                made.append(
                    Field(path, self.expression(value.get("value"), known, place), null is True, required is True)
                )
            else:
                made.append(Field(path, self.expression(value, known, place)))
        return tuple(made)

    def each(self, document: Any, known: frozenset[str], where: str) -> tuple[Sublist, ...]:
        made = []
        for target, sources in self.table(document, where).items():
            place = f"{where}.{target}"
            if not isinstance(sources, list) or not sources:
                self.problem(place, "must be a list of sources, each with over, as and fields")
                continue
            path = tuple(str(target).split("."))
            if not all(path):
                self.problem(place, "has an empty part between its dots")
            made.append(Sublist(path, tuple(self.rows(s, known, f"{place}[{i}]") for i, s in enumerate(sources))))
        return tuple(made)

    def rows(self, document: Any, known: frozenset[str], where: str) -> Rows:
        source = self.table(document, where)
        self.keys(source, {"over", "as", "when", "fields", "each"}, f"{where}.")
        name = source.get("as")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in known or name == "index":
            self.problem(f"{where}.as", "must be a name of its own for the element, such as line")
            name = "line"
        inner = known | {name, "index"}
        made = Rows(
            over=self.expression(source.get("over"), known, f"{where}.over"),
            name=name,
            when=self.optional(source, "when", inner, f"{where}."),
            fields=self.fields(source.get("fields", {}), inner, f"{where}.fields"),
            each=self.each(source.get("each", {}), inner, f"{where}.each"),
        )
        self.targets(made.fields, made.each, where)
        return made

    def targets(self, fields: tuple[Field, ...], each: tuple[Sublist, ...], where: str) -> None:
        """`a` and `a.b` cannot both be targets."""
        paths = [f.path for f in fields] + [s.path for s in each]
        for i, a in enumerate(paths):
            for b in paths[i + 1 :]:
                if a[: len(b)] == b[: len(a)]:
                    self.problem(where, f"{'.'.join(a)} and {'.'.join(b)} are the same place or inside one another")

    def examples(self, document: Any, known: frozenset[str], *, skips: bool) -> tuple[Mapping[str, Any], ...]:
        if not isinstance(document, list):
            self.problem("examples", "must be a list")
            return ()
        for number, example in enumerate(document):
            where = f"examples[{number}]"
            if not isinstance(example, dict) or not all(k in example for k in _EXAMPLE_KEYS):
                self.problem(where, "must have name, given and expect")
                continue
            self.keys(example, _EXAMPLE_KEYS, f"{where}.")
            given, expect = (
                self.table(example["given"], f"{where}.given"),
                self.table(example["expect"], f"{where}.expect"),
            )
            self.keys(expect, _EXPECT_KEYS, f"{where}.expect.")
            for root in sorted(set(given) - known):
                self.problem(f"{where}.given.{root}", f"unknown root; known: {', '.join(sorted(known))}")
            if "skip" in expect and not skips:
                self.problem(f"{where}.expect.skip", "the mapping has no `when`, so it never skips")
            if not expect:
                self.problem(f"{where}.expect", "expects nothing")
        return tuple(e for e in document if isinstance(e, dict))
