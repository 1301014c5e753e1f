"""From claimed deliveries to the records they want: newest snapshots, related objects, parents, mappings.

Works on many deliveries at once, so that a hundred invoices of one customer cost one look-up of the customer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

from hub import envelope, store
from hub.db import Database
from hub.errors import ConservationError, MappingError, Outcome, Reject
from hub.mapping import Mappings, RecordMapping, Skip, root_name
from hub.mirror import Found, Known, Mirror, Snapshot
from hub.model import ADOPT, ADOPTED, FORGOTTEN, LINKED, REVIVE, REVIVED, UNSURE, VOIDED, Event, Link, Record

NOT_YET = "not_there_yet"
"""Code of a mapping that needs something Stripe makes a moment later: tried again as long as any other failure."""
_List: TypeAlias = tuple[str, str, str]
"""A list of Stripe's: object type, by what, id."""
_Links: TypeAlias = Mapping[tuple[str, str], Link]
"""(object id, record) -> its link."""
_Place: TypeAlias = tuple[str, str, bool]
"""A record's place in a job: its kind, its key, and whether it is only adopted or revived."""


@dataclass(frozen=True, slots=True)
class Want:
    """A delivery's wish: these mappings, applied to this object."""

    event: Event
    object_type: str
    object_id: str
    mappings: tuple[RecordMapping, ...]
    lane: str | None = None
    """In a ledger: where what it needs may be unfinished."""
    doubt: bool = False
    """What it last sent may have landed: that the vendor holds what we know of is to be found out."""


@dataclass(frozen=True, slots=True)
class Behind:
    """It needs a document that a delivery of the same lane has not finished: a payment its invoice."""

    document: str
    held_by: int | None
    """The dead letter."""
    until: datetime | None
    """When that delivery is due, if it is none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to write, parents first. No records: `note` says why nothing is to be done."""

    records: tuple[Record, ...]
    note: str | None
    why: str
    """How the newest snapshot was chosen."""


class Composer:
    """For one destination."""

    def __init__(
        self, destination: str, mappings: Mappings, mirror: Mirror, db: Database, settings: Mapping[str, Any]
    ) -> None:
        self._destination, self._mappings, self._mirror, self._db = destination, mappings, mirror, db
        self._settings = settings

    async def customer_of(self, event: Event, lane: str) -> str | None:
        """Whose it is, of a delivery that came before the object it belongs to, and so into the lane of that object.
        None: it is where it should be, or that cannot be told now.
        """
        if event.customer_id is not None or event.object_id is None or event.object_id == lane:
            return None
        known = Known(event.created, event.seq)
        about: tuple[str, str] | None = (event.object_type or "", event.object_id)
        for _ in range(2):  # the object itself, then what it belongs to
            found = (await self._mirror.newest({about[1]: about[0]}, known))[about[1]] if about else None
            if not isinstance(found, Snapshot):
                return None
            if customer := envelope.reference(found.object.get("customer")):
                return customer if customer != lane else None
            about = envelope.belongs_to(found.object)
        return None

    async def compose(self, wants: Sequence[Want], now: datetime) -> list[Plan | Outcome | Behind]:
        """One plan per want, or the outcome that ends the attempt, or what it waits for. Never raises for a want's own
        trouble.
        """
        known = Known(max(w.event.created for w in wants), max(w.event.seq for w in wants))
        round_ = _Round(self._mappings, self._settings)
        for want in wants:
            for mapping in want.mappings:
                round_.add(mapping, want.object_id, want.event)
        round_.found.update(await self._mirror.newest({w.object_id: w.object_type for w in wants}, known))
        pending = round_.advance()
        while pending or round_.lists_wanted:
            round_.found.update(await self._mirror.related(pending, known))
            for wanted in round_.lists_wanted:
                round_.lists[wanted] = await self._mirror.listed(*wanted)
            pending = round_.advance()
        ids = {n.object_id for n in round_.nodes.values()}
        links = await self._db.run(store.links_of, self._destination, sorted(ids))
        return [await self._behind(w, round_, links, now) or round_.plan(w, links) for w in wants]

    async def _behind(self, want: Want, round_: _Round, links: _Links, now: datetime) -> Behind | None:
        """What is missing is made by whoever needs it first, unless a delivery of its own has failed to, or is still
        trying: then it would fail, or be made, twice. Its customer, whose lane it is, is no document and holds nothing.
        """
        if want.lane is None:
            return None
        documents = sorted(round_.missing(want, links) - {want.object_id, want.lane})
        if not documents:
            return None
        row = await self._db.run_one(store.unfinished, self._destination, want.lane, documents, now)
        return Behind(row["object_id"], row["dead"], row["due_at"]) if row is not None else None


@dataclass(slots=True)
class _Node:
    """One mapping applied to one object, while its roots are being gathered."""

    mapping: RecordMapping
    object_id: str
    event: Event
    roots: dict[str, Any] | None = None
    parents: tuple[tuple[RecordMapping, str], ...] = ()
    complete: bool = False
    failure: Outcome | None = None


class _Round:
    """Gathers everything a set of wants needs, breadth first."""

    def __init__(self, mappings: Mappings, settings: Mapping[str, Any]) -> None:
        self._mappings, self._settings = mappings, settings
        self.nodes: dict[tuple[str, str], _Node] = {}
        self.found: dict[str, Found] = {}
        self.lists: dict[_List, list[dict[str, Any]] | Outcome] = {}
        self.lists_wanted: set[_List] = set()
        """Which lists are needed next."""
        self._records: dict[tuple[str, str], Record | Skip | Outcome] = {}

    def add(self, mapping: RecordMapping, object_id: str, event: Event) -> _Node:
        node = self.nodes.get((mapping.name, object_id))
        if node is None:
            node = self.nodes[mapping.name, object_id] = _Node(mapping, object_id, event)
        return node

    def advance(self) -> dict[str, str]:
        """Use what was found; returns which objects (id -> type) are needed next."""
        wanted: dict[str, str] = {}
        self.lists_wanted = set()
        progress = True
        while progress:
            progress = False
            for node in list(self.nodes.values()):
                if not node.complete and node.failure is None:
                    before = (len(self.nodes), node.complete, len(node.roots or ()))
                    wanted |= self._advance(node)
                    progress |= (
                        before != (len(self.nodes), node.complete, len(node.roots or ())) or node.failure is not None
                    )
        return {i: t for i, t in wanted.items() if i not in self.found}

    def _advance(self, node: _Node) -> dict[str, str]:
        wanted: dict[str, str] = {}
        if node.roots is None:
            own = self._object(node, node.mapping.object, node.object_id, wanted)
            if own is None:
                return wanted
            node.roots = {root_name(node.mapping.object): own, "event": _event_root(node.event)}
        try:
            needed = node.mapping.needed(node.roots, self._settings)
            lists = node.mapping.listed(node.roots, self._settings)
        except MappingError as error:
            node.failure = _reject(error)
            return wanted
        for name, (object_type, object_id) in needed.items():
            if object_id is None:
                node.roots[name] = None
            elif object_id not in self.found:
                wanted[object_id] = object_type
            else:
                own = self._object(node, object_type, object_id, wanted)
                if node.failure is None:
                    node.roots[name] = own
        for name, (object_type, by, object_id) in lists.items():
            self._list(node, name, (object_type, by, object_id) if object_id else None)
        if not needed and not lists:
            self._adopt_parents(node)
            node.complete = True
        return wanted

    def _list(self, node: _Node, name: str, wanted: _List | None) -> None:
        assert node.roots is not None
        if wanted is None:
            node.roots[name] = []
            return
        found = self.lists.get(wanted)
        if found is None:
            self.lists_wanted.add(wanted)
        elif isinstance(found, list):
            node.roots[name] = found
        else:
            node.failure = found

    def _object(self, node: _Node, object_type: str, object_id: str, wanted: dict[str, str]) -> dict[str, Any] | None:
        if object_id not in self.found:
            wanted[object_id] = object_type
            return None
        found = self.found[object_id]
        if isinstance(found, Snapshot):
            return found.object
        node.failure = found or Reject(
            "object_unknown_to_stripe",
            f"{object_type} {object_id} does not exist in Stripe, though {node.mapping.file} needs it.",
            "Check that HUB_STRIPE_API_KEY belongs to the account that sent the event, then retry; or skip it.",
        )
        return None

    def _adopt_parents(self, node: _Node) -> None:
        assert node.roots is not None
        parents = []
        for parent, obj in self._mappings.parent_roots(node.mapping, node.roots):
            if obj is not None:
                self.add(parent, obj["id"], node.event)
                parents.append((parent, str(obj["id"])))
        node.parents = tuple(parents)

    def plan(self, want: Want, links: _Links) -> Plan | Outcome:
        """The records of a want, parents that are not linked yet first, nothing the vendor already holds as wanted."""
        ordered: dict[_Place, Record] = {}
        notes: list[str] = []
        for mapping in want.mappings:
            made = self._make(mapping, want.object_id)
            if isinstance(made, Skip):
                notes.append(made.reason)
                continue
            if not isinstance(made, Record):
                return made
            link = links.get((made.object_id, made.record))
            if link is not None and link.digest == made.digest and link.key == made.key and not want.doubt:
                notes.append(f"{made.record} {made.key} is already so")
                continue
            self._revive(mapping, want.object_id, links, ordered)
            trouble = self._parents(mapping, want.object_id, links, ordered)
            if trouble is not None:
                return trouble
            if link is not None and link.digest == LINKED:
                _adopt(link, ordered)
            if link is not None and want.doubt and link.digest == made.digest:
                link = replace(link, digest=UNSURE)  # a connector leaves out what was confirmed, too
            ordered[_place(made)] = replace(made, link=link)
        snapshot = self.found.get(want.object_id)
        why = snapshot.why if isinstance(snapshot, Snapshot) else ""
        return Plan(tuple(ordered.values()), "; ".join(notes) or None, why)

    def missing(self, want: Want, links: _Links) -> set[str]:
        """Objects whose records a want would have to write along with its own, as far as that can be told."""
        ids: set[str] = set()
        nodes = [self.nodes[m.name, want.object_id] for m in want.mappings]
        while nodes:
            for parent, parent_id in nodes.pop().parents:
                link = links.get((parent_id, parent.record))
                unlinked = link is None or link.digest == FORGOTTEN
                if unlinked and not isinstance(self._make(parent, parent_id), Skip):
                    ids.add(parent_id)
                    nodes.append(self.nodes[parent.name, parent_id])
        return ids

    def _parents(
        self,
        mapping: RecordMapping,
        object_id: str,
        links: _Links,
        ordered: dict[_Place, Record],
    ) -> Outcome | None:
        for parent, parent_id in self.nodes[mapping.name, object_id].parents:
            link = links.get((parent_id, parent.record))
            if link is not None and link.digest not in (LINKED, FORGOTTEN):
                continue
            trouble = self._parents(parent, parent_id, links, ordered)
            if trouble is not None:
                return trouble
            if link is not None and link.digest == LINKED:
                _adopt(link, ordered)  # as it is: its own mapping may be what could not be applied
                continue
            made = self._make(parent, parent_id)
            if isinstance(made, Skip):
                continue  # the vendor has no such record, by decision of the mapping
            if not isinstance(made, Record):
                return made
            ordered.setdefault(_place(made), made if link is None else replace(made, link=link))
        return None

    def _revive(
        self,
        mapping: RecordMapping,
        object_id: str,
        links: _Links,
        ordered: dict[_Place, Record],
    ) -> None:
        """A document that comes late may need what we took out of use since: a payment, the customer of its invoice."""
        for parent, parent_id in self.nodes[mapping.name, object_id].parents:
            self._revive(parent, parent_id, links, ordered)
            link = links.get((parent_id, parent.record))
            if link is not None and link.status == VOIDED:
                record = Record(link.record, REVIVE, link.object_id, link.key, {}, REVIVED, link.mapping, link)
                ordered.setdefault(_place(record), record)

    def _make(self, mapping: RecordMapping, object_id: str) -> Record | Skip | Outcome:
        known = self._records.get((mapping.name, object_id))
        if known is None:
            known = self._records[mapping.name, object_id] = self._apply(self.nodes[mapping.name, object_id])
        return known

    def _apply(self, node: _Node) -> Record | Skip | Outcome:
        if node.failure is not None:
            return node.failure
        assert node.roots is not None
        try:
            return node.mapping.apply(node.roots, self._settings)
        except MappingError as error:
            return _reject(error)
        except ConservationError as error:
            return Reject(
                "does_not_add_up",
                str(error),
                "Nothing was sent. Compare the document in Stripe line by line. If Stripe is right, this is a gap in "
                "the hub's arithmetic: report it with this text.",
            )


def _place(record: Record) -> _Place:
    return record.record, record.key, record.action in (ADOPT, REVIVE)


def _adopt(link: Link, ordered: dict[_Place, Record]) -> None:
    """What a person linked is found at the vendor, and given our key, before anything is written that needs it."""
    record = Record(link.record, ADOPT, link.object_id, link.key, {}, ADOPTED, link.mapping, link)
    ordered.setdefault(_place(record), record)


def _reject(error: MappingError) -> Reject:
    return Reject(error.code, error.cause, error.fix, patience=math.inf if error.code == NOT_YET else 0.0)


def _event_root(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "created": int(event.created.timestamp()),
        "api_version": event.api_version,
        "account": event.account,
        "livemode": event.livemode,
    }
