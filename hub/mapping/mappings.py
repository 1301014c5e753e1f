"""All mappings together: which destination wants which event, and which record must exist before which."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from hub.mapping.record import RecordMapping, root_name


class Mappings:
    """What `load` gives. Immutable."""

    def __init__(
        self, found: Mapping[str, Mapping[str, RecordMapping]], tables: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._found = {d: dict(sorted(m.items(), key=lambda i: self._depth(i[1], m))) for d, m in sorted(found.items())}
        self.tables = tables

    @staticmethod
    def _depth(mapping: RecordMapping, family: Mapping[str, RecordMapping]) -> tuple[int, str]:
        def depth(one: RecordMapping, seen: tuple[str, ...] = ()) -> int:
            parents = [family[p] for p in one.parents if p in family and p not in seen]
            return 1 + max((depth(p, (*seen, one.name)) for p in parents), default=0)

        return depth(mapping), mapping.name

    def for_destination(self, name: str) -> dict[str, RecordMapping]:
        """A destination's mappings by name, parents before children; empty if it has none."""
        return dict(self._found.get(name, {}))

    def all(self) -> tuple[RecordMapping, ...]:
        """Every mapping of every destination."""
        return tuple(m for family in self._found.values() for m in family.values())

    @cached_property
    def _by_event(self) -> dict[tuple[str, str], tuple[RecordMapping, ...]]:
        found: dict[tuple[str, str], tuple[RecordMapping, ...]] = {}
        for m in self.all():
            for event_type in m.on:
                found[m.destination, event_type] = (*found.get((m.destination, event_type), ()), m)
        return found

    def routes(self) -> dict[str, frozenset[str]]:
        """Event type -> destinations with a mapping for it."""
        found: dict[str, set[str]] = {}
        for destination, event_type in self._by_event:
            found.setdefault(event_type, set()).add(destination)
        return {event_type: frozenset(destinations) for event_type, destinations in found.items()}

    def for_event(self, destination: str, event_type: str) -> tuple[RecordMapping, ...]:
        """The mappings of one destination an event type leads to, parents before children: none, one or several."""
        return self._by_event.get((destination, event_type), ())

    @cached_property
    def object_types(self) -> frozenset[str]:
        """Every Stripe object type some mapping reads."""
        return frozenset(t for m in self.all() for t in (m.object, *(n.object_type for n in m.needs)))

    @cached_property
    def settings(self) -> frozenset[str]:
        """Every name below `settings` some expression reads, so that a missing one can be reported before the start."""
        return frozenset(name for m in self.all() for name in m.settings)

    def parent_roots(
        self, mapping: RecordMapping, roots: Mapping[str, Any]
    ) -> tuple[tuple[RecordMapping, Mapping[str, Any] | None], ...]:
        """Each parent with the object it is to be applied to, in the order written.

        The object is found among `mapping`'s resolved needs by the parent's `object` type: one entry per need of that
        type (per object of a need with `ids`), else `mapping`'s own object. None: its id is null, there is no such
        parent. To apply the parent: roots = {root_name(parent.object): object}, then resolve `parent.needed`, then
        `parent.parent_roots` for the grandparents. The object may be `{"id", "object", "deleted": true}`.
        """
        family = self._found[mapping.destination]
        found: list[tuple[RecordMapping, Mapping[str, Any] | None]] = []
        for name in mapping.parents:
            parent = family[name]
            needs = [n for n in mapping.needs if n.object_type == parent.object and not n.by]
            if not needs:
                found.append((parent, roots.get(root_name(mapping.object))))
                continue
            objects: list[Any] = []
            for need in needs:
                if need.many:
                    whole = roots.get(need.name) or {}
                    objects += whole.values()
                    objects += [v for k, v in roots.items() if k.startswith(need.part(""))]
                else:
                    objects.append(roots.get(need.name))
            distinct = {o["id"]: o for o in objects if o is not None}
            found += [(parent, o) for o in distinct.values()] or [(parent, None)]
        return tuple(found)
