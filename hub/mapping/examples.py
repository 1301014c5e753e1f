"""Run the examples that stand in the mapping files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hub.errors import ConservationError, MappingError
from hub.mapping.mappings import Mappings
from hub.mapping.record import Need, RecordMapping, Skip

EXAMPLE_SETTINGS: Mapping[str, Any] = {"timezone": "UTC"}
"""The settings of an example that gives none; what it gives is laid over these."""


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """`difference` is empty when the example holds; else one line per difference."""

    file: str
    name: str
    ok: bool
    difference: str


def run_examples(mappings: Mappings) -> list[ExampleResult]:
    """Every example of every mapping."""
    return [run_example(m, e) for m in mappings.all() for e in m.examples]


def run_example(mapping: RecordMapping, example: Mapping[str, Any]) -> ExampleResult:
    """Apply the mapping to `given` and compare with `expect`, exactly."""
    given, expect = example["given"], example["expect"]
    settings = {**EXAMPLE_SETTINGS, **given.get("settings", {})}
    roots = {"event": None, **{n.name: [] if n.by else {} if n.many else None for n in mapping.needs}, **given}
    differences: list[str] = []
    actual: dict[str, Any]
    try:
        differences += _needs(mapping, roots, settings)
        made = mapping.apply(roots, settings)
        if isinstance(made, Skip):
            actual = {"skip": made.reason}
        else:
            actual = {"key": made.key, "fields": made.fields, "record": made.record, "action": made.action}
    except MappingError as e:
        actual = {"error": e.code, "cause": str(e)}
    except ConservationError as e:
        actual = {"error": "does_not_add_up", "cause": str(e)}
    for what in ("error", "skip"):
        if what in actual and what not in expect:
            differences.append(f"{what}: got {actual.get('cause', actual[what])}")
    for what, wanted in expect.items():
        if what in actual:
            differences += _differences(what, actual[what], wanted)
        elif not differences:
            differences.append(f"{what}: nothing, expected {wanted!r}")
    return ExampleResult(mapping.file, str(example["name"]), not differences, "\n".join(differences))


def _needs(mapping: RecordMapping, roots: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """The related objects given must be the ones the mapping would ask for."""
    for need in mapping.needs:
        if need.by:
            continue  # what is in a list does not tell what it was asked for by
        others = {k: v for k, v in roots.items() if k != need.name}
        wanted = {object_id for _, object_id in mapping.needed(others, settings).values()} - {None}
        for object_id in _ids(need, roots[need.name]):
            if object_id not in wanted:
                shown = ", ".join(sorted(map(str, wanted))) or "nothing"
                yield f"given.{need.name}: is {object_id}, but the mapping would ask for {shown}"


def _ids(need: Need, root: Any) -> list[Any]:
    if need.many:
        return list(root or {})
    return [root["id"]] if isinstance(root, Mapping) and "id" in root else []


def _differences(path: str, actual: Any, wanted: Any) -> Iterator[str]:
    if isinstance(actual, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*actual, *wanted}, key=str):
            if key not in actual:
                yield f"{path}.{key}: missing, expected {wanted[key]!r}"
            elif key not in wanted:
                yield f"{path}.{key}: not expected, got {actual[key]!r}"
            else:
                yield from _differences(f"{path}.{key}", actual[key], wanted[key])
    elif isinstance(actual, list) and isinstance(wanted, list):
        if len(actual) != len(wanted):
            yield f"{path}: {len(actual)} elements, expected {len(wanted)}"
        for i, (a, w) in enumerate(zip(actual, wanted, strict=False)):
            yield from _differences(f"{path}[{i}]", a, w)
    elif _kind(actual) is not _kind(wanted) or actual != wanted:
        yield f"{path}: {actual!r}, expected {wanted!r}"


def _kind(value: Any) -> type:
    """Numbers compare by value, whatever they are kept in; true is not 1."""
    return Decimal if type(value) is int else type(value)
