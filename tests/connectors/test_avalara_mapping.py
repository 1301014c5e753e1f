"""The mappings: their examples, and that AvaTax's totals are Stripe's total to the cent, through the whole chain."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub.errors import Receipt
from hub.mapping import Mappings, RecordMapping, load, run_examples
from hub.mapping.loading import FOLDER
from hub.model import Record
from tests.connectors.avalara_kit import World, job


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Mappings:
    """Only AvaTax's own files: they stand for themselves."""
    folder = tmp_path_factory.mktemp("mappings")
    shutil.copytree(FOLDER / "avalara", folder / "avalara")
    (folder / "lookups").mkdir()
    for table in Path(FOLDER / "lookups").glob("avalara_*.yaml"):
        shutil.copy(table, folder / "lookups")
    return load(folder)


def by_name(mappings: Mappings) -> dict[str, RecordMapping]:
    return {m.name: m for m in mappings.all()}


def test_the_examples_hold(mappings: Mappings) -> None:
    results = run_examples(mappings)
    assert len(results) >= 12
    assert [f"{r.file} {r.name}: {r.difference}" for r in results if not r.ok] == []


TOTALS = {"in_1": "109.00", "in_2": "126.00", "in_3": "113.91", "in_9": "15.00", "in_4": "1100", "in_5": "50.00"}
"""What Stripe charged, in major units, by hand."""


async def test_avatax_totals_are_stripes_total(mappings: Mappings, avalara: World) -> None:
    there = avalara.fresh()
    invoice = by_name(mappings)["invoice"]
    destination = there.destination()
    for example in invoice.examples:
        if "fields" not in example["expect"]:
            continue
        given = example["given"]
        made = invoice.apply({k: v for k, v in given.items() if k != "settings"}, given["settings"])
        assert isinstance(made, Record)
        (outcome,) = await destination.send([job(made)])
        assert isinstance(outcome, Receipt), (example["name"], outcome)
    recorded = {d["code"]: Decimal(d["totalAmount"]) + Decimal(d["totalTax"]) for d in there.documents()}
    assert recorded == {code: Decimal(total) for code, total in TOTALS.items()}


def test_the_record_does_not_change_after_finalisation(mappings: Mappings) -> None:
    """Whether the event is finalized, paid or voided, the same document comes out: same digest."""
    invoice = by_name(mappings)["invoice"]
    given: dict[str, Any] = dict(invoice.examples[0]["given"])
    settings = given.pop("settings")
    first = invoice.apply(given, settings)
    later = {
        **given["invoice"],
        "status": "void",
        "amount_paid": 10900,
        "amount_remaining": 0,
        "attempted": True,
        "metadata": {"note": "changed"},
        "status_transitions": {
            **given["invoice"]["status_transitions"],
            "paid_at": 1796097700,
            "voided_at": 1796097800,
        },
    }
    second = invoice.apply({**given, "invoice": later}, {**settings, "avalara_commit_on": "paid"})
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.digest == second.digest


def test_a_ship_from_address_may_be_short(mappings: Mappings) -> None:
    """Settings that are not given are empty text, and left out."""
    given: dict[str, Any] = dict(by_name(mappings)["invoice"].examples[0]["given"])
    blank = {f"avalara_ship_from_{name}": "" for name in ("line1", "city", "region", "postal_code")}
    made = by_name(mappings)["invoice"].apply(
        {k: v for k, v in given.items() if k != "settings"},
        {**blank, "avalara_ship_from_country": "IE", "timezone": "Europe/Dublin"},
    )
    assert isinstance(made, Record)
    assert made.fields["addresses"]["shipFrom"] == {"country": "IE"}
    assert made.fields["date"] == "2026-12-01"


def test_records_keep_their_links_apart_and_share_the_code(mappings: Mappings) -> None:
    """A link is by object and record: what is done to a document has a name of its own."""
    by_object = [(m.object, m.record) for m in mappings.all()]
    assert sorted(set(by_object)) == sorted(by_object)
    wanted = {
        "invoice.finalized": ["invoice"],
        "invoice.paid": ["paid", "recovered"],
        "invoice.voided": ["void"],
        "invoice.marked_uncollectible": ["bad_debt", "uncollectible"],
        "credit_note.created": ["credit_note"],
        "credit_note.voided": ["credit_note_void"],
        "refund.created": ["refund"],
        "refund.failed": ["refund_failed"],
    }
    assert {e: [m.name for m in mappings.for_event("avalara", e)] for e in wanted} == wanted
    found = by_name(mappings)
    assert found["void"].parents == found["paid"].parents == ("invoice",)
