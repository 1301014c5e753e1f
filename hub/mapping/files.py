"""Reading YAML the careful way: capped, no surprises of YAML 1.1, no duplicate keys, numbers exact.

`on`, `yes`, `no` (Norway) and dates stay strings; only true and false are booleans; a number with a leading zero stays
a string (account numbers), and one with a point becomes `Decimal`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 512 * 1024
MAX_DEPTH = 40
MAX_NODES = 100_000


class _Loader(yaml.CSafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library's own way; filled below

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys (`<<`), refusing what would blow up."""
        super().flatten_mapping(node)
        if len(node.value) > 5_000:
            raise yaml.constructor.ConstructorError(None, None, "merge keys grow too large", node.start_mark)


def _prepare(root: yaml.Node) -> None:
    """Keys are text, whatever they look like (`null`, `01`, `true`), and none stands twice in one table."""
    todo, done = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key.start_mark)
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
                seen.add(key.value)
                if key.tag != "tag:yaml.org,2002:merge":
                    key.tag = "tag:yaml.org,2002:str"
                todo.append(value)


def _decimal(loader: Any, node: Any) -> Decimal:
    return Decimal(loader.construct_scalar(node))


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+", list("-+0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)


def read_yaml(path: Path) -> Any:
    """The document in a file. Raises `ValueError` with one sentence when it is not acceptable."""
    with path.open("rb") as f:
        data = f.read(MAX_BYTES + 1)
    return parse_yaml(data)


def parse_yaml(data: bytes) -> Any:
    """As `read_yaml`, from bytes."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):  # flat: a deep document cannot exhaust the stack here
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _prepare(root)
        value = loader.construct_document(root)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except yaml.MarkedYAMLError as e:
        line = f"line {e.problem_mark.line + 1}: " if e.problem_mark else ""
        raise ValueError(f"{line}{e.problem}") from None
    except yaml.YAMLError as e:
        raise ValueError(" ".join(str(e).split())) from None
    _count(value, [0], 0)
    return value


def _count(value: Any, total: list[int], depth: int) -> None:
    """Aliases make a small file large, or endless: count what it unfolds to."""
    total[0] += 1
    if total[0] > MAX_NODES or depth > MAX_DEPTH:
        raise ValueError(f"unfolds to more than {MAX_NODES} values or {MAX_DEPTH} levels")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _count(child, total, depth + 1)
