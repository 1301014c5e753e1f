"""The request contract of the pinned API version, read from the installed `stripe` package.

The package's parameter TypedDicts (`stripe/params/**`) are generated from Stripe's specification. Their source is
parsed (never imported: the package is large) and compiled, once per operation and on first use, into plain functions
that coerce form values and refuse what Stripe refuses: unknown and missing parameters, wrong types, closed enum
values, empty strings where nothing can be unset. Lengths are not in the package; the few that matter are here
(Stripe's OpenAPI specification). Open enums of the package are closed for what clients send: a misspelt value is an
error.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeAlias

from connectors.stripe.simulator.errors import StripeError, refused

Check: TypeAlias = Callable[[Any, str], Any]
"""(value, parameter name) -> coerced value; raises `StripeError`."""

_LENGTHS = {"name": 256, "email": 512, "phone": 20, "event_name": 100, "identifier": 100}
_CUSTOMER_ONLY = {"name", "email", "phone"}
_INT = re.compile(r"-?\d{1,18}")
_NUMBER = re.compile(r"-?\d+(\.\d{1,12})?")


@functools.cache
def _package() -> Path:
    spec = importlib.util.find_spec("stripe")
    if spec is None or spec.origin is None:
        raise RuntimeError("the `stripe` package is not installed; the simulator reads its request contract from it")
    return Path(spec.origin).parent


@functools.cache
def api_version() -> str:
    """The version the installed package pins, e.g. `2026-10-28.endive`."""
    found = re.search(r'CURRENT = "([^"]+)"', (_package() / "_api_version.py").read_text())
    if found is None:
        raise RuntimeError("stripe/_api_version.py does not name a version; the package's layout has changed")
    return found[1]


@functools.cache
def params(name: str) -> Check:
    """The check for one operation. `name`: the package's class with its folder, e.g. `billing/MeterCreateParams`."""
    folder, _, top = name.rpartition("/")
    stem = re.sub(r"(?<!^)(?=[A-Z])", "_", top).lower()
    return _Module(_package() / "params" / folder / f"_{stem}.py").typed_dict(top)


class _Module:
    """One source file of parameter classes, compiled on demand."""

    def __init__(self, path: Path) -> None:
        self._classes: dict[str, dict[str, ast.expr]] = {}
        self._built: dict[str, Check] = {}
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                fields = (f for f in node.body if isinstance(f, ast.AnnAssign))
                self._classes[node.name] = {f.target.id: f.annotation for f in fields if isinstance(f.target, ast.Name)}
            elif (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Call)
                and isinstance(node.targets[0], ast.Name)
            ):
                fields_dict = node.value.args[1]  # the functional form, for keys such as "from"
                assert isinstance(fields_dict, ast.Dict)
                pairs = zip(fields_dict.keys, fields_dict.values, strict=True)
                self._classes[node.targets[0].id] = {str(k.value): v for k, v in pairs if isinstance(k, ast.Constant)}

    def typed_dict(self, name: str) -> Check:
        """The check for a class; built when first used, so that classes may name each other."""
        if name not in self._built:
            fields: dict[str, Check] = {}
            required: list[str] = []
            self._built[name] = lambda value, where: _object(value, where, fields, required)
            for field, annotation in self._classes[name].items():
                text = ast.unparse(annotation)
                if not text.startswith("NotRequired"):
                    required.append(field)
                check = _metadata_check(clearable="Literal" in text) if field == "metadata" else self._check(annotation)
                limit = _LENGTHS.get(field)
                if limit and (field not in _CUSTOMER_ONLY or name.startswith("Customer")):
                    check = _limited(check, limit)
                fields[field] = check
        return self._built[name]

    def _check(self, node: ast.expr) -> Check:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._check(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.BinOp):
            return self._union([*_alternatives(node)])
        if isinstance(node, ast.Subscript):
            head = node.value.id if isinstance(node.value, ast.Name) else ""
            inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
            return self._generic(head, inner)
        assert isinstance(node, ast.Name), ast.unparse(node)
        name = node.id
        return _SCALARS.get(name) or self._later(name)

    def _later(self, name: str) -> Check:
        """A class by name, built when first met: classes may be recursive."""

        def check(value: Any, where: str) -> Any:
            return self.typed_dict(name)(value, where)

        return check

    def _generic(self, head: str, inner: list[ast.expr]) -> Check:
        if head == "NotRequired":
            return self._check(inner[0])
        if head == "Union":
            return self._union(inner)
        if head == "Literal":
            return _enum([node.value for node in inner if isinstance(node, ast.Constant)])
        item = self._check(inner[-1])
        if head in ("List", "Sequence"):
            return lambda value, where: _list(value, where, item)
        assert head in ("Dict", "Mapping", "UntypedStripeObject"), head
        return lambda value, where: _mapping(value, where, item)

    def _union(self, nodes: list[ast.expr]) -> Check:
        """By the value's shape: objects and arrays go to their alternative, text to the enum first."""
        options: dict[str, list[Check]] = {"dict": [], "list": [], "text": []}
        values: list[Any] = []
        for node in (_unquoted(n) for n in nodes):
            text = ast.unparse(node)
            if text.startswith("Literal"):
                assert isinstance(node, ast.Subscript)
                inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                values += [n.value for n in inner if isinstance(n, ast.Constant)]
            elif text.startswith(("List", "Sequence")):
                options["list"].append(self._check(node))
            elif text in _SCALARS:
                options["text"].append(_SCALARS[text])
            else:
                options["dict"].append(self._check(node))
        if any(value != "" for value in values):
            options["text"] = [check for check in options["text"] if check is not _string]
        if values:
            options["text"].insert(0, _enum(values))
        return lambda value, where: _choose(value, where, options)


def _unquoted(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.parse(node.value, mode="eval").body
    return node


def _alternatives(node: ast.expr) -> list[ast.expr]:
    return [*_alternatives(node.left), node.right] if isinstance(node, ast.BinOp) else [node]


def _choose(value: Any, where: str, options: Mapping[str, list[Check]]) -> Any:
    if isinstance(value, dict):
        indexed = options["list"] and (not options["dict"] or all(key.isdigit() for key in value))
        checks = options["list"] if indexed else options["dict"]
    else:
        checks = options["list" if isinstance(value, list) else "text"]
    error: StripeError | None = None
    for check in checks:
        try:
            return check(value, where)
        except StripeError as refusal:
            error = refusal
    raise error or _wrong("object" if options["dict"] else "value", value, where)


def _object(value: Any, where: str, fields: Mapping[str, Check], required: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("object", value, where)
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{where}[{key}]" if where else key
        check = fields.get(key)
        if check is None:
            raise refused(f"Received unknown parameter: {name}", param=name, code="parameter_unknown")
        result[key] = check(item, name)
    for key in required:
        if key not in result:
            name = f"{where}[{key}]" if where else key
            raise refused(f"Missing required param: {name}.", param=name, code="parameter_missing")
    return result


def _list(value: Any, where: str, item: Check) -> list[Any]:
    if isinstance(value, dict) and value and all(key.isdigit() for key in value):
        value = [value[key] for key in sorted(value, key=int)]
    if not isinstance(value, list):
        raise _wrong("array", value, where)
    return [item(each, f"{where}[{index}]") for index, each in enumerate(value)]


def _mapping(value: Any, where: str, item: Check) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("object", value, where)
    return {key: each if each == "" else item(each, f"{where}[{key}]") for key, each in value.items()}


def _metadata_check(*, clearable: bool) -> Check:
    return lambda value, where: _metadata(value, where, clearable=clearable)


def _metadata(value: Any, where: str, *, clearable: bool) -> dict[str, str] | str:
    """At most 50 keys of 40 characters, values of 500 (docs.stripe.com/api/metadata)."""
    if value == "" and clearable:
        return ""
    pairs = _mapping(value, where, _string)
    if len(pairs) > 50:
        raise refused("Metadata can have at most 50 keys.", param=where)
    for key, text in pairs.items():
        if len(key) > 40:
            raise refused(f"Metadata keys can have at most 40 characters: {key[:40]}...", param=where)
        if len(text) > 500:
            raise refused(f"Metadata values can have at most 500 characters; '{key}' has {len(text)}.", param=where)
    return pairs


def _limited(check: Check, limit: int) -> Check:
    def limited(value: Any, where: str) -> Any:
        result = check(value, where)
        if isinstance(result, str) and len(result) > limit:
            raise refused(
                f"Invalid string: {result[:20]}...; must be at most {limit} characters",
                param=where,
                code="parameter_invalid_string_too_long" if where != "email" else "email_invalid",
            )
        return result

    return limited


def _enum(values: list[Any]) -> Check:
    named = [value for value in values if value != ""]

    def enum(value: Any, where: str) -> Any:
        if value in values:
            return value
        raise refused(f"Invalid {where}: must be one of {', '.join(map(str, named)) or 'an empty string'}", param=where)

    return enum


def _wrong(wanted: str, value: Any, where: str) -> StripeError:
    return refused(f"Invalid {wanted}: {str(value)[:40]}", param=where, code=f"parameter_invalid_{wanted}")


def _string(value: Any, where: str) -> str:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _wrong("string", value, where)
    if value == "":
        raise refused(
            f"You passed an empty string for '{where}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{where}' cannot be unset. You should remove '{where}' from your request or supply a non-empty "
            "value.",
            param=where,
            code="parameter_invalid_empty",
        )
    if len(value) > 5000:
        raise refused(f"Invalid string: {value[:20]}...; must be at most 5000 characters", param=where)
    return value


def _integer(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INT.fullmatch(value):
        return int(value)
    raise _wrong("integer", value, where)


def _decimal(value: Any, where: str) -> Decimal:
    text = str(value)
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        raise _wrong("decimal", value, where)
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise _wrong("decimal", value, where) from error


def _boolean(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise _wrong("boolean", value, where)


_SCALARS: dict[str, Check] = {
    "str": _string,
    "int": _integer,
    "float": _decimal,
    "bool": _boolean,
    "Decimal": _decimal,
    "Any": lambda value, _where: value,
}
