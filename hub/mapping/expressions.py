"""JMESPath, made exact and strict: compiled once, checked at load, evaluated against one dict of named roots.

Differences from the book, all towards refusing instead of guessing:
* numbers with a point are `Decimal`, in bodies and in literals;
* `<`, `<=`, `>`, `>=` on anything but two numbers or two strings is an error, not null;
* an expression starts from a known root (`invoice`, `line`, ...), and a misspelt root or function is found at load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError
from jmespath.parser import Parser
from jmespath.visitor import Options, TreeInterpreter

from hub.mapping.functions import Functions, RefusalError

Node: TypeAlias = Any
"""A node of the library's syntax tree: a dict with type, children and value."""

Run: TypeAlias = Callable[[Any], Any]

_SAME_CONTEXT = frozenset(
    {
        "function_expression",
        "comparator",
        "and_expression",
        "or_expression",
        "not_expression",
        "multi_select_list",
        "multi_select_dict",
        "key_val_pair",
    }
)
_FIRST_CHILD = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "filter_projection", "value_projection", "flatten"}
)


class Interpreter(TreeInterpreter):
    """The library's interpreter; it only refuses orderings the book calls null."""

    def __init__(self, functions: Functions) -> None:
        super().__init__(Options(custom_functions=functions))

    def visit_comparator(self, node: Any, value: Any) -> bool:
        """`==` and `!=` as in the book; an ordering needs two numbers or two strings."""
        left, right = node["children"]
        return compare(node["value"], self.visit(left, value), self.visit(right, value))


def compare(operator: str, left: Any, right: Any) -> bool:
    """One of eq, ne, lt, lte, gt, gte. An ordering of anything but two numbers or two strings is a `RefusalError`."""
    test = TreeInterpreter.COMPARATOR_FUNC[operator]
    if operator in ("eq", "ne"):
        return bool(test(left, right))
    if (_number(left) and _number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return bool(test(left, right))
    raise RefusalError(
        "expression_failed",
        f"compares {type_name(left)} with {type_name(right)}",
        "Compare two numbers or two strings; write `(a || `0`) > `0`` where a may be null.",
    )


def _number(value: Any) -> bool:
    return type(value) is int or isinstance(value, Decimal)


def type_name(value: Any) -> str:
    """The JMESPath word for a value's type; errors show it instead of the value, which may be personal data."""
    if value is None:
        return "null"
    names = {bool: "true/false", int: "a number", Decimal: "a number", float: "a float", str: "a string"}
    return names.get(type(value)) or ("a list" if isinstance(value, list) else "an object")


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression. `roots`: the root names it reads; `settings`: the names it reads below `settings`."""

    text: str
    run: Run
    roots: frozenset[str]
    settings: frozenset[str]

    def __call__(self, roots: Mapping[str, Any]) -> Any:
        """The value, or `RefusalError` with a code and the way out. Never shows values of the document."""
        try:
            return self.run(roots)
        except JMESPathTypeError as e:
            wanted = " or ".join(e.expected_types)
            cause = f"{e.function_name}() cannot take {type_name(e.current_value)}, it wants {wanted}"
            raise RefusalError(
                "expression_failed", cause, "Correct the expression, or give it a default with ||."
            ) from None
        except (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as e:
            raise RefusalError("expression_failed", f"fails ({type(e).__name__})", "Correct the expression.") from None


def constant(value: Any) -> Run:
    """A value that stands for itself."""
    return lambda _: value


def compile_expression(
    text: str, interpreter: Interpreter, functions: Functions
) -> tuple[Expression | None, list[str]]:
    """Parse and check one expression. Returns it, or None and what is wrong. Root names are for the caller to check."""
    if len(text) > 2000:
        return None, ["the expression is longer than 2000 characters"]
    try:
        node = _own(Parser().parse(text).parsed)
    except ArityError as e:
        return None, [str(e)]
    except (JMESPathError, RecursionError) as e:
        return None, [f"is not a JMESPath expression: {' '.join(str(e).split())}"]
    problems: list[str] = []
    for part in _walk(node):
        if part["type"] == "function_expression":
            problems += functions.problems(part["value"], part["children"])
    roots = set(_roots(node))
    if None in roots:
        problems.append("must start from a named root, not from @, * or [")
    if problems:
        return None, problems
    names = frozenset(r for r in roots if r is not None)
    return Expression(text, _closure(node, interpreter, functions), names, frozenset(_settings(node))), []


def _own(node: Any) -> Any:
    """A copy whose literals are exact. The parsed node itself is in the parser's cache, for whoever asks next."""
    if not isinstance(node, dict):
        return node  # a bound of a slice
    value = {"value": exact(node["value"])} if node["type"] == "literal" else {}
    return {**node, **value, "children": [_own(child) for child in node["children"]]}


def _closure(node: Node, interpreter: Interpreter, functions: Functions) -> Run:
    """The node as a Python function: several times faster than walking the tree each time. What mappings rarely use is
    left to the interpreter. The tests hold both ways against each other."""
    kind, value = node["type"], node.get("value")
    path = _path(node)
    if path is not None:
        return _follow(path)
    if kind == "literal":
        return constant(value)
    if kind not in _COMPILED:
        return lambda roots: interpreter.visit(node, roots)
    parts = [_closure(child, interpreter, functions) for child in node["children"]]
    if kind == "function_expression":
        return _call(str(value), parts, functions)
    return _COMPILED[kind](str(value), *parts)


def _call(name: str, parts: list[Run], functions: Functions) -> Run:
    own = functions.unchecked(name)
    if own is not None:
        return lambda roots: own(functions, *[part(roots) for part in parts])
    return lambda roots: functions.call_function(name, [part(roots) for part in parts])


def _and(_: str, left: Run, right: Run) -> Run:
    return lambda roots: first if false(first := left(roots)) else right(roots)


def _or(_: str, left: Run, right: Run) -> Run:
    return lambda roots: right(roots) if false(first := left(roots)) else first


def _compare(operator: str, left: Run, right: Run) -> Run:
    return lambda roots: compare(operator, left(roots), right(roots))


def _list(_: str, *parts: Run) -> Run:
    return lambda roots: None if roots is None else [part(roots) for part in parts]


def _not(_: str, inner: Run) -> Run:
    def negated(value: Any) -> bool:
        found = inner(value)
        return not found and (isinstance(found, bool) or not isinstance(found, int | float | Decimal))  # zero is true

    return negated


def _each(_: str, source: Run, inner: Run, keep: Run | None = None) -> Run:
    """A projection; nulls fall out of it, as do elements that a filter does not keep."""

    def project(value: Any) -> list[Any] | None:
        elements = source(value)
        if not isinstance(elements, list):
            return None
        kept = elements if keep is None else [e for e in elements if not false(keep(e))]
        return [found for e in kept if (found := inner(e)) is not None]

    return project


def _flat(_: str, source: Run) -> Run:
    def flatten(value: Any) -> list[Any] | None:
        elements = source(value)
        if not isinstance(elements, list):
            return None
        return [one for e in elements for one in (e if isinstance(e, list) else (e,))]

    return flatten


def _same(_: str) -> Run:
    return lambda value: value


def _then(_: str, *parts: Run) -> Run:
    def then(value: Any) -> Any:
        for part in parts:
            value = part(value)
        return value

    return then


_COMPILED: Mapping[str, Callable[..., Run]] = {
    "function_expression": _call,
    "and_expression": _and,
    "or_expression": _or,
    "comparator": _compare,
    "multi_select_list": _list,
    "not_expression": _not,
    "projection": _each,
    "filter_projection": _each,
    "flatten": _flat,
    "identity": _same,
    "current": _same,
    "subexpression": _then,
    "index_expression": _then,
    "pipe": _then,
}


def _path(node: Node) -> tuple[str, ...] | None:
    """`a.b.c` as its names; None for anything else."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] == "subexpression":
        paths = [_path(child) for child in node["children"]]
        if all(p is not None for p in paths):
            return tuple(name for p in paths if p for name in p)
    return None


def _follow(path: tuple[str, ...]) -> Run:
    def follow(value: Any) -> Any:
        for name in path:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return follow


def false(value: Any) -> bool:
    """JMESPath's untruth: null, false, empty text, empty list, empty object. Zero is true."""
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def exact(value: Any) -> Any:
    """A literal with its floats as `Decimal`, digit for digit as written."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list):
        return [exact(v) for v in value]
    if isinstance(value, dict):
        return {k: exact(v) for k, v in value.items()}
    return value


def _children(node: Node) -> list[Node]:
    return [c for c in node.get("children", ()) if isinstance(c, dict)]


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in _children(node):
        yield from _walk(child)


def _roots(node: Node) -> Iterator[str | None]:
    """Names read from the roots themselves; None for an expression that takes all roots at once."""
    kind = node["type"]
    if kind == "field":
        yield node["value"]
    elif kind in ("current", "identity"):
        yield None
    elif kind in _SAME_CONTEXT:
        for child in _children(node):
            yield from _roots(child)
    elif kind in _FIRST_CHILD:
        yield from _roots(_children(node)[0])


def _settings(node: Node) -> Iterator[str]:
    for part in _walk(node):
        if part["type"] == "subexpression":
            first, second = (*_children(part), {}, {})[:2]
            if first.get("type") == second.get("type") == "field" and first["value"] == "settings":
                yield second["value"]
