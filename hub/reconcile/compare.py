"""Two sides of one destination, compared as they come in: document by document, and as control totals. Pure.

What comes first waits for its other half; what has both is compared and let go of, so that a long span needs no more
memory than what is in one of its windows and what was not matched yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

from hub.destination import Entry
from hub.reconcile.expect import COMMITTED, Wanted

NEAR = timedelta(days=3)
"""A document without our key is a second copy of ours if it is of the same customer and amount, and no further away."""


class Name(StrEnum):
    """What a difference is."""

    MISSING = "missing"
    EXTRA = "extra"
    DUPLICATE = "duplicate"
    AMOUNT = "amount"
    TAX = "tax"
    STATUS = "status"
    CUSTOMER = "customer"
    CURRENCY = "currency"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as Stripe says."""

    destination: str
    name: Name
    wanted: Entry | None
    """As Stripe says it must be; None: Stripe calls for nothing of the kind."""
    found: Entry | None
    """As it is there; None: there is none."""
    of: str = ""
    """The invoice it belongs to, if it is of one."""
    changed: int = 0
    """Unix seconds of the last thing that happened to it in Stripe."""
    under_way: str = ""
    """Why it is not settled yet; empty: it is a difference."""
    follows: str = ""
    """Key of the difference that it comes from: mended with that one, and not counted."""
    held: str = ""
    """A dead letter that explains it."""

    @property
    def entry(self) -> Entry:
        """The one side that there is; of both, what must be."""
        entry = self.wanted or self.found
        assert entry is not None
        return entry

    @property
    def counts(self) -> bool:
        """Whether it is a difference to be explained."""
        return not (self.under_way or self.follows)

    @property
    def size(self) -> Decimal:
        """How much more money is there than should be, where it is about money."""
        match self.name:
            case Name.TAX:
                return _less(self, lambda e: e.tax)
            case Name.OPEN:
                return _less(self, lambda e: e.open)
            case Name.STATUS | Name.CUSTOMER | Name.CURRENCY:  # two amounts of two currencies have no difference
                return Decimal(0)
            case Name.DUPLICATE:
                return (self.found and self.found.amount) or Decimal(0)
            case _:
                return _less(self, lambda e: e.amount)


def _less(one: Difference, read: Callable[[Entry], Decimal | None]) -> Decimal:
    there, stripe = (read(e) if e is not None else None for e in (one.found, one.wanted))
    return (there or Decimal(0)) - (stripe or Decimal(0))


@dataclass(frozen=True, slots=True)
class Place:
    """What a control total is of."""

    currency: str
    day: date
    subsidiary: str
    kind: str


@dataclass(slots=True)
class Total:
    """A control total: how many documents, and their sum, on both sides."""

    wanted: int = 0
    found: int = 0
    wanted_sum: Decimal = Decimal(0)
    found_sum: Decimal = Decimal(0)

    @property
    def agrees(self) -> bool:
        """To the cent, and to the document."""
        return self.wanted == self.found and self.wanted_sum == self.found_sum


def compare(destination: str, wanted: Wanted, found: Entry) -> Iterator[Difference]:
    """Everything in which two entries of one key differ. Of an amount that is wrong nothing else is said that follows
    from it: what is open, or a currency's.
    """
    want = wanted.entry

    def one(name: Name) -> Difference:
        return Difference(destination, name, want, found, wanted.of, wanted.changed)

    if found.currency != want.currency:
        yield one(Name.CURRENCY)
    elif want.amount is not None and found.amount != want.amount:
        yield one(Name.AMOUNT)
    elif None not in (want.open, found.open) and found.open != want.open:
        yield one(Name.OPEN)
    if found.currency == want.currency and None not in (want.tax, found.tax) and found.tax != want.tax:
        yield one(Name.TAX)
    if want.customer is not None and found.customer != want.customer:
        yield one(Name.CUSTOMER)
    if None not in (want.status, found.status) and found.status != want.status:
        yield one(Name.STATUS)


@dataclass(slots=True)
class Sides:
    """What must be at one destination, and what is there."""

    destination: str
    documents: int = 0
    """How many must be there, and are compared."""
    differences: list[Difference] = field(default_factory=list)
    totals: dict[Place, Total] = field(default_factory=lambda: defaultdict(Total))
    _wanted: dict[str, Wanted] = field(default_factory=dict)
    _found: dict[str, Entry] = field(default_factory=dict)
    _strays: list[Entry] = field(default_factory=list)
    """Without a key of ours: perhaps a second copy."""
    _recent: dict[str, Wanted] = field(default_factory=dict)
    """By key, what was matched in this window and the last: a second copy is not far from the first."""
    _vendor_ids: dict[str, str] = field(default_factory=dict)
    _undoing: set[str] = field(default_factory=set)
    """Keys that were found of documents that may stand in place of another one's status."""

    def want(self, wanted: Iterable[Wanted]) -> None:
        """More that must be there. What was said before counts once."""
        for one in wanted:
            key = one.entry.key
            if key in self._wanted or key in self._recent:
                continue
            there = self._found.pop(key, None)
            if there is None:
                self._wanted[key] = one
            else:
                self._match(one, there)

    def hold(self, entries: Iterable[Entry]) -> None:
        """More that is there."""
        for entry in entries:
            if not entry.key:
                self._strays.append(entry)
                continue
            other = self._vendor_ids.get(entry.key)
            if other is not None:
                if other != entry.vendor_id:  # else: one page was read while another grew
                    self._second(entry, self._recent.get(entry.key) or self._wanted.get(entry.key))
                continue
            self._vendor_ids[entry.key] = entry.vendor_id
            wanted = self._wanted.pop(entry.key, None)
            if wanted is None:
                self._found[entry.key] = entry
            else:
                self._match(wanted, entry)

    def missing(self) -> list[str]:
        """Keys of what has not been seen there so far."""
        return list(self._wanted)

    def strangers(self) -> dict[str, list[str]]:
        """What is there and nothing has called for so far: Stripe object -> keys."""
        found: dict[str, list[str]] = defaultdict(list)
        for entry in self._found.values():
            found[entry.object_id].append(entry.key)
        return dict(found)

    def window(self, first: date) -> None:
        """A window is over that began on `first`: let go of what nothing can be a copy of any more."""
        self._copies()
        kept = first - NEAR
        self._strays = [s for s in self._strays if s.date >= kept]
        self._recent = {k: w for k, w in self._recent.items() if w.entry.date >= kept}
        waiting = self._found.keys() | self._wanted.keys() | self._recent.keys()
        self._vendor_ids = {k: v for k, v in self._vendor_ids.items() if k in waiting}

    def finish(self) -> None:
        """That was all: what has no other half is a difference."""
        self._copies(everything=True)
        for wanted in self._wanted.values():
            if wanted.sure:
                self.documents += 1
                self._add(wanted.entry, None)
                self._differ(Name.MISSING, wanted, None)
        for entry in self._found.values():
            self._add(None, entry)
            self.differences.append(Difference(self.destination, Name.EXTRA, None, entry, of=entry.object_id))
        self.differences = [d for d in self.differences if not self._undone(d)]
        self._wanted, self._found = {}, {}

    def _match(self, wanted: Wanted, found: Entry) -> None:
        self.documents += 1
        self._recent[wanted.entry.key] = wanted
        if wanted.entry.kind in ("void", "write_off"):
            self._undoing.add(found.key)
        self._add(wanted.entry, found)
        for difference in compare(self.destination, wanted, found):
            if difference.name is Name.STATUS and wanted.reversed_by and found.status == COMMITTED:
                difference = replace(difference, follows=wanted.reversed_by)  # noqa: PLW2901 - marked until the end
            self.differences.append(difference)

    def _undone(self, difference: Difference) -> bool:
        """Not voided, but another document takes it back: as good. Whether there is one is known only at the end."""
        return difference.name is Name.STATUS and difference.follows in self._undoing

    def _differ(self, name: Name, wanted: Wanted, found: Entry | None) -> None:
        difference = Difference(self.destination, name, wanted.entry, found, wanted.of, wanted.changed)
        self.differences.append(difference)

    def _second(self, entry: Entry, wanted: Wanted | None) -> None:
        self._add(None, entry)
        if wanted is None:
            self.differences.append(Difference(self.destination, Name.DUPLICATE, None, entry))
        else:
            self._differ(Name.DUPLICATE, wanted, entry)

    def _copies(self, *, everything: bool = False) -> None:
        """Which of the strays are second copies of what is ours. `everything`: also of what was not matched."""
        if not self._strays:
            return
        near = [*self._recent.values(), *(self._wanted.values() if everything else ())]
        by_id: dict[str, list[Wanted]] = defaultdict(list)
        by_figure: dict[tuple[str | None, str, Decimal | None, str], list[Wanted]] = defaultdict(list)
        for one in near:
            by_id[one.entry.object_id].append(one)
            if one.entry.customer:
                by_figure[_figure(one.entry)].append(one)
        left = []
        for stray in self._strays:
            named = [w for i in _words(stray.mentions) for w in by_id.get(i, ()) if w.entry.record == stray.record]
            alike = [w for w in by_figure.get(_figure(stray), ()) if abs(w.entry.date - stray.date) <= NEAR]
            original = next(iter(named or alike), None)
            if original is None:
                left.append(stray)
            else:
                self._second(stray, original)
        self._strays = left

    def _add(self, wanted: Entry | None, found: Entry | None) -> None:
        """Both sides of a pair count on the vendor's day and subsidiary: a period that was closed is no difference."""
        place = found or wanted
        assert place is not None
        currency = (wanted or place).currency
        if wanted is not None and wanted.amount is not None:
            total = self.totals[Place(currency, place.date, place.subsidiary or "", place.kind)]
            total.wanted, total.wanted_sum = total.wanted + 1, total.wanted_sum + wanted.amount
        if found is not None and found.amount is not None and (wanted is None or wanted.amount is not None):
            total = self.totals[Place(found.currency, place.date, place.subsidiary or "", place.kind)]
            total.found, total.found_sum = total.found + 1, total.found_sum + found.amount


def _figure(entry: Entry) -> tuple[str | None, str, Decimal | None, str]:
    return entry.customer, entry.currency, entry.amount, entry.record


def _words(text: str) -> list[str]:
    return text.replace(",", " ").replace(";", " ").split()


def sorted_out(
    differences: Iterable[Difference], open_: Mapping[str, str], dead: Mapping[str, str], settled: int
) -> list[Difference]:
    """Which are differences, which are not settled yet, and which only follow from another one.

    `open_`: Stripe object -> its delivery that is not over, in words; `dead`: its dead letter; `settled`: Unix seconds
    after which nothing that happened in Stripe need have arrived.
    """
    found = []
    for one in differences:
        object_id = one.entry.object_id
        if one.name in (Name.EXTRA, Name.DUPLICATE):
            why = ""
        elif one.changed > settled:
            why = "it changed in Stripe only just now"
        else:
            why = open_.get(object_id, "")
        held = dead.get(object_id, "") if one.name not in (Name.EXTRA, Name.DUPLICATE) else ""
        found.append(replace(one, under_way=why, held=held, follows=""))
    causes: dict[str, Difference] = {}
    for one in sorted(found, key=lambda d: (d.name is Name.OPEN, d.entry.kind == "invoice")):
        if one.of and one.name in _MOVES:
            causes.setdefault(one.of, one)
    return [_following(one, causes) for one in found]


_MOVES = (Name.MISSING, Name.EXTRA, Name.AMOUNT, Name.OPEN, Name.CURRENCY, Name.CUSTOMER, Name.STATUS)
"""Differences that change what is open of an invoice, or of what is applied to it."""


def _following(one: Difference, causes: Mapping[str, Difference]) -> Difference:
    """What is open comes of what else is wrong with the same invoice's documents; of what is open on several, the
    payment or credit memo is the cause, and the invoice the consequence.
    """
    cause = causes.get(one.of) if one.name is Name.OPEN else None
    if cause is None or cause is one:
        return one
    return replace(one, follows=cause.entry.key, under_way=one.under_way or cause.under_way)
