"""Lives at `stripe_model.Stripe`, told in any order with losses and trouble; most of them aimed at what is hard:
values that go there and back within a second, reads in between, what comes while a read is under way, floods.

Whenever all has been told, and in the end, everything is compared (`order_truth`).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import seed as seeded
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from hub.db import Database
from hub.mapping import FOLDER, Mappings, load
from tests.prove.order import KINDS, World, world
from tests.prove.order_truth import agrees
from tests.prove.stripe_model import FROM, Event, Obj
from tests.quiet import no_log_lines

PICK = st.integers(0, 5)
SUBJECT = st.sampled_from(["customer", "customer", "subscription", "invoice"])
STATES = {"A": "active", "B": "past_due", "C": "paused"}
MOVE = st.tuples(
    st.sampled_from(["change", "change", "change", "tell", "tell", "keep", "slow"]),
    st.sampled_from("ABC"),
    st.sampled_from([0, 0, 0, 1]),  # seconds that pass before
    st.integers(0, 3),  # a change in the old shape, so that it makes the hub read? one in four
    st.integers(0, 9),  # which of those not told yet
)
VERBS = ["finalize", "fail", "give_up", "pay", "void"]


class Machine(RuleBasedStateMachine):
    """Stripe's life goes on, its webhooks come as they like, and work is done now and then."""

    def __init__(self, run: Callable[..., Any], db: Database, mappings: Mappings, figures: Counter[str]) -> None:
        super().__init__()
        self.run, self.db, self.mappings, self.figures = run, db, mappings, figures
        self.told = 0
        self.waiting: list[Event] = []
        self.past: list[Event] = []
        self.lost: list[Event] = []

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world: World = self.run(world(self.db, seed, self.mappings))
        self.stripe = self.world.stripe
        self.stripe.customer()
        self.stripe.draft(0, 1000)
        self.stripe.invoice("finalize", self.stripe.of("invoice", 0))

    # Anything -----------------------------------------------------------------------------------------------------

    @rule(pick=PICK, amount=st.sampled_from([900, 1200]), new=st.sampled_from(["customer", "draft", "draft", "plan"]))
    def comes_to_be(self, pick: int, amount: int, new: str) -> None:
        match new:
            case "customer":
                self.stripe.customer()
            case "draft":
                self.stripe.draft(pick, amount)
            case "plan":
                self.stripe.subscribe(pick)

    @rule(verb=st.sampled_from(sorted(FROM)), pick=PICK, amount=st.sampled_from([300, 600, 1000]),
          tells=st.booleans(), odd=st.integers(0, 7))  # fmt: skip
    def an_invoice_goes_on(self, verb: str, pick: int, amount: int, tells: bool, odd: int) -> None:
        obj = self.stripe.of("invoice", pick)
        self.stripe.invoice(verb, obj, amount, tells=tells, old=odd == 0, behind=odd in (1, 2))

    @rule(pick=PICK, what=st.sampled_from(["cancel", "credit", "forget"]), behind=st.booleans())
    def something_is_over(self, pick: int, what: str, behind: bool) -> None:
        match what:
            case "cancel":
                self.stripe.cancel(pick)
            case "credit":
                self.stripe.credit(pick)
            case "forget":
                self.stripe.forget(pick, behind=behind)

    @rule(seconds=st.integers(1, 3))
    def time_passes(self, seconds: int) -> None:
        self.stripe.second += seconds

    @rule(picks=st.lists(st.integers(0, 40), min_size=1, max_size=6), work=st.booleans(), again=st.booleans())
    def webhooks_come(self, picks: list[int], work: bool, again: bool) -> None:
        """In any order, carried out at once or later; perhaps one that came before comes once more."""
        self._collect()
        for pick in picks:
            if self.waiting:
                self._accept(self.waiting[pick % len(self.waiting)])
                if work:
                    self.run(self.world.drain())
        if again and self.past:
            self.run(self.world.accept(self.past[picks[0] % len(self.past)]))

    @rule(picks=st.lists(st.integers(0, 40), min_size=1, max_size=6), work=st.booleans())
    def thin_twins_come(self, picks: list[int], work: bool) -> None:
        """Beside, before or long after the events of the same changes; fetched is the object as it is then.

        Not of drafts: once one is deleted Stripe does not know it at all, and a notification beside the event of its
        deletion is a tie that no read can settle.
        """
        self._collect()
        told = [e for e in [*self.waiting, *self.past[-20:]] if not self._may_vanish(e["data"]["object"]["id"])]
        for pick in picks:
            if told:
                self.run(self.world.accept(self.stripe.twin(told[pick % len(told)])))
                self.figures["thin"] += 1
            if work:
                self.run(self.world.drain())

    @rule(pick=st.integers(0, 40))
    def one_is_lost(self, pick: int) -> None:
        self._collect()
        if self.waiting:
            self.lost.append(self.waiting.pop(pick % len(self.waiting)))

    @rule(seconds=st.sampled_from([0, 1, 31, 61]))
    def work_is_done(self, seconds: int) -> None:
        self.world.clock.advance(seconds)
        self.run(self.world.drain())

    @rule(names=st.sets(st.sampled_from(sorted(KINDS))))
    def vendors_have_trouble(self, names: set[str]) -> None:
        for vendor in self.world.vendors.values():
            vendor.troubled = vendor.name in names

    # What is hard to order ----------------------------------------------------------------------------------------

    @rule(subject=SUBJECT, pick=PICK, fresh=st.booleans(), moves=st.lists(MOVE, min_size=4, max_size=12),
          order=st.lists(st.integers(0, 9), max_size=12), at_once=st.booleans())  # fmt: skip
    def there_and_back(
        self, subject: str, pick: int, fresh: bool, moves: list[Any], order: list[int], at_once: bool
    ) -> None:
        """One object changes, and changes back, while some of it is told and read. What is left comes in any order."""
        self._peace()
        obj = self._object(subject, pick, fresh=fresh)
        for move, text, seconds, old, which in moves:
            self.stripe.second += seconds
            if move == "change":
                self._alter(obj, text, old=old == 0)
            elif move == "slow":
                self.world.reads.meanwhile = lambda text=text, which=which: self._while_reading(obj, text, which)
            else:
                self._tell(obj, which, work=move == "tell")
        self.world.reads.meanwhile = None
        for which in order:
            self._tell(obj, which, work=not at_once)
        self._peace()
        self._compare()
        self.stripe.second += 1

    @rule(subject=SUBJECT, pick=PICK, many=st.integers(20, 24), last=st.integers(0, 2), fresh=st.booleans())
    def a_flood(self, subject: str, pick: int, many: int, last: int, fresh: bool) -> None:
        """More than a score of changes in one second, no two the same; one of the last comes first."""
        self._peace()
        self.stripe.second += 1
        obj = self._object(subject, pick, fresh=fresh)
        for n in range(many):
            self._alter(obj, f"V{n}", old=False)
        self._collect()
        mine = self._of(obj)
        for event in [mine[-1 - last], *mine[: -1 - last], *mine[len(mine) - last :]]:
            self._accept(event)
        self._peace()
        self._compare()

    @rule(subject=SUBJECT, pick=PICK, steps=st.integers(1, 5), then=st.lists(st.sampled_from(VERBS), max_size=4),
          order=st.lists(st.integers(0, 9), max_size=9))  # fmt: skip
    def a_plain_life(self, subject: str, pick: int, steps: int, then: list[str], order: list[int]) -> None:
        """All within a second: what the events say and the status are enough, so nobody has to be asked."""
        self._peace()
        obj = self._object(subject, pick, fresh=True)
        if subject == "invoice":
            for verb in ["finalize", *then]:
                # Where the status tells them apart no event has to name what was there before.
                self.stripe.invoice(verb, obj, tells=obj["status"] != "draft" and verb == "fail")
        else:
            for n in range(steps):
                self._alter(obj, f"P{n}", old=False)
        self._collect()
        if not any(e["data"]["object"]["id"] == obj["id"] and "fail" in e["type"] for e in self.waiting):
            before = self.world.reads.of[obj["id"]]
            if subject != "invoice":  # its first and its last moment are enough, too
                self._tell(obj, -1, work=False)
                self._tell(obj, 0, work=True)
            for which in order:
                self._tell(obj, which, work=False)
            for event in self._of(obj):
                self._accept(event)
            self.run(self.world.drain())
            assert self.world.reads.of[obj["id"]] == before, "nobody had to be asked"
        self._peace()
        self._compare()

    @rule(late=st.sampled_from(["invoice.finalized", "invoice.paid", "invoice.voided"]), behind=st.booleans())
    def a_customer_leaves(self, late: str, behind: bool) -> None:
        """Its deletion is carried out before one of its documents is told."""
        self._peace()
        customer = self._object("customer", 0, fresh=True)
        self.stripe.draft(-1, 1000)
        invoice = self.stripe.of("invoice", -1)
        self.stripe.invoice("finalize", invoice)
        self.stripe.invoice("void" if late == "invoice.voided" else "pay", invoice)
        self._collect()
        last = [e for e in self.waiting if e["type"] == late]
        for event in [e for e in self.waiting if e not in last]:
            self._accept(event)
        self.run(self.world.drain())
        self.stripe.forget(-1, behind=behind)
        for _ in range(1 + behind):
            self._tell(customer, 0, work=True)
        self._peace()
        self._compare()

    # Hands --------------------------------------------------------------------------------------------------------

    def _may_vanish(self, object_id: str) -> bool:
        obj = self.stripe.objects[object_id]
        return bool(obj["object"] == "invoice" and obj["status"] == "draft")

    def _object(self, subject: str, pick: int, *, fresh: bool) -> Obj:
        """One that is there, or a new one, of a customer that is there."""
        if not self.stripe.of("customer", 0) or (subject == "customer" and fresh):
            self.stripe.customer()
        found: Obj | None
        if subject == "customer":
            found = self.stripe.of("customer", -1 if fresh else pick)
        else:
            found = self.stripe.of(subject, pick)
            if fresh or not found or found["status"] == "canceled":
                if subject == "invoice":
                    self.stripe.draft(pick, 1000)
                else:
                    self.stripe.subscribe(pick)
                found = self.stripe.of(subject, -1)
        assert found is not None
        return found

    def _alter(self, obj: Obj, text: str, *, old: bool) -> None:
        match obj["object"]:
            case "customer":
                self.stripe.rename(obj, text, old=old)
            case "invoice":
                self.stripe.remark(obj, text, old=old)
            case "subscription":
                known = STATES.get(text)
                self.stripe.alter(obj, known or "active", 1 if known else int(text[1:]) + 10, old=old)

    async def _while_reading(self, obj: Obj, text: str, which: int) -> None:
        """The answer is on its way; the object changes, and that is told before it arrives."""
        self._alter(obj, text, old=False)
        self._collect()
        mine = self._of(obj)
        if mine:
            event = mine[-1 - which % 2] if len(mine) > 1 else mine[0]
            self.waiting.remove(event)
            self.past.append(event)
            await self.world.accept(event)

    def _of(self, obj: Obj) -> list[Event]:
        return [e for e in self.waiting if e["data"]["object"]["id"] == obj["id"]]

    def _tell(self, obj: Obj, which: int, *, work: bool) -> None:
        self._collect()
        mine = self._of(obj)
        if mine:
            self._accept(mine[which % len(mine)])
        if work:
            self.run(self.world.drain())

    def _accept(self, event: Event) -> None:
        self.waiting.remove(event)
        self.past.append(event)
        self.run(self.world.accept(event))

    def _collect(self) -> None:
        self.waiting += self.stripe.events[self.told :]
        self.told = len(self.stripe.events)

    def _peace(self) -> None:
        """All that is left comes, the lost ones last, as a sweep brings them; then all work is done."""
        self._collect()
        for event in [*self.waiting, *self.lost]:
            self.run(self.world.accept(event))
            self.run(self.world.drain())
        self.past += [*self.waiting, *self.lost]
        self.waiting, self.lost = [], []
        troubled = {name: vendor.troubled for name, vendor in self.world.vendors.items()}
        self.run(self.world.finish())
        for name, vendor in self.world.vendors.items():
            vendor.troubled = troubled[name]  # it was well only for so long

    def _compare(self) -> None:
        assert self.run(self.world.open()) == []
        agrees(self.stripe, self.world.vendors)
        self.figures["comparisons"] += 1

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.reads.meanwhile = None
        self._peace()
        self._compare()
        self.figures["examples"] += 1
        self.figures["events"] += len(self.stripe.events)
        self.figures["reads"] += self.world.reads.of.total()
        self.figures["troubles"] += sum(vendor.troubles for vendor in self.world.vendors.values())
        self.figures["effects"] += sum(vendor.writes for vendor in self.world.vendors.values())


def play(dsn: str, given: settings, seed: int) -> Counter[str]:
    """One loop, one pool and one reading of the mappings for all examples; how much was done. No log lines: trouble is
    what this is about, and to write it down would take longer than the work.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a killed worker's exception is nobody's
    figures: Counter[str] = Counter()
    try:
        with no_log_lines(), tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
            mappings = _mappings(Path(folder))
            db = runner.run(Database.connect(dsn, size=5))
            try:
                made: Any = lambda: Machine(runner.run, db, mappings, figures)  # noqa: E731 - Hypothesis takes any factory
                run_state_machine_as_test(seeded(seed)(made), settings=given)
            finally:
                runner.run(db.close())
    finally:
        logging.getLogger("asyncio").setLevel(logging.NOTSET)
    return figures


def _mappings(folder: Path) -> Mappings:
    """The real ones, and of an invoice something that can go there and back at any time."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    file = folder / "salesforce" / "invoice.yaml"
    text = file.read_text()
    file.write_text(
        text.replace("\nfields:\n", "\nfields:\n  Remark__c: {value: invoice.metadata.remark, null: true}\n", 1)
    )
    return load(folder)
