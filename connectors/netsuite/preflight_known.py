"""What an expression gives when only the settings are known: a value, or `UNKNOWN` where a document decides.

So a field that a setting switches off (`(settings.netsuite_tax == 'suitetax' && ...) || null`) is known to be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from jmespath.parser import Parser

from hub.mapping.expressions import Expression, false
from hub.mapping.functions import RefusalError
from hub.mapping.record import Evaluate

Node = Any
"""A node of JMESPath's syntax tree."""
UNKNOWN: Final = object()


def known(value: Evaluate | None, settings: Mapping[str, Any]) -> Any:
    """The value, or `UNKNOWN`."""
    if value is None:
        return UNKNOWN
    if not isinstance(value, Expression):
        return value({})  # true, false or a number stands for itself
    if value.roots <= {"settings"}:
        try:
            return value({"settings": settings})
        except RefusalError:
            return UNKNOWN
    return _value(tree(value.text), settings)


def tree(text: str) -> Node:
    """The syntax tree of an expression that was compiled before."""
    return Parser().parse(text).parsed


def children(node: Node) -> list[Node]:
    """The nodes below a node."""
    return [c for c in node.get("children", ()) if isinstance(c, dict)]


def _value(node: Node, settings: Mapping[str, Any]) -> Any:
    found = _KINDS.get(node["type"])
    return UNKNOWN if found is None else found(node, settings)


def _or(node: Node, settings: Mapping[str, Any]) -> Any:
    left, right = children(node)
    first = _value(left, settings)
    return _value(right, settings) if first is not UNKNOWN and false(first) else first


def _and(node: Node, settings: Mapping[str, Any]) -> Any:
    parts = [_value(c, settings) for c in children(node)]
    for part in parts:
        if part is not UNKNOWN and false(part):
            return part  # whatever a document says, nothing true can come out
    return UNKNOWN if UNKNOWN in parts else parts[-1]


def _compared(node: Node, settings: Mapping[str, Any]) -> Any:
    left, right = (_value(c, settings) for c in children(node))
    if UNKNOWN in (left, right) or node["value"] not in ("eq", "ne"):
        return UNKNOWN
    return (left == right) == (node["value"] == "eq")


def _not(node: Node, settings: Mapping[str, Any]) -> Any:
    inner = _value(children(node)[0], settings)
    return UNKNOWN if inner is UNKNOWN else false(inner)


def _path(node: Node, settings: Mapping[str, Any]) -> Any:
    names = [c.get("value") for c in children(node) if c["type"] == "field"]
    return settings.get(names[1]) if len(names) == 2 and names[0] == "settings" else UNKNOWN


_KINDS: Final[Mapping[str, Callable[[Node, Mapping[str, Any]], Any]]] = {
    "literal": lambda node, _: node["value"],
    "subexpression": _path,
    "or_expression": _or,
    "and_expression": _and,
    "comparator": _compared,
    "not_expression": _not,
}
