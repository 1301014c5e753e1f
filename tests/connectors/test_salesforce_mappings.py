"""The shipped mappings, the shipped metadata and the simulated org fit together."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from connectors.salesforce.objects import EXTERNAL_ID
from connectors.salesforce.simulator.schema import FieldDef, objects
from hub.errors import Receipt
from hub.mapping import FOLDER, Mappings, load, run_examples
from hub.model import Job, Record
from tests.connectors.salesforce_kit import account, event, job, org, receipts

METADATA = Path(__file__).parents[2] / "connectors" / "salesforce" / "metadata"
NS = {"m": "http://soap.sforce.com/2006/04/metadata"}
TYPES = {"Text": "string", "Number": "double", "Checkbox": "boolean", "Date": "date", "DateTime": "datetime"}
TYPES |= {"Lookup": "reference", "Picklist": "picklist"}


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Mappings:
    """Salesforce's alone: other destinations' files are not this test's business."""
    folder = tmp_path_factory.mktemp("mappings")
    shutil.copytree(FOLDER / "salesforce", folder / "salesforce")
    return load(folder)


def test_every_example_holds(mappings: Mappings) -> None:
    results = run_examples(mappings)
    assert len(results) >= 11
    assert [f"{r.file} {r.name}: {r.difference}" for r in results if not r.ok] == []


def test_parents_come_before_children_and_all_can_be_written(mappings: Mappings) -> None:
    found = list(mappings.for_destination("salesforce").values())
    assert [m.record for m in found] == list(EXTERNAL_ID)


def test_every_mapped_field_is_in_the_org(mappings: Mappings) -> None:
    schema = objects()
    for mapping in mappings.for_destination("salesforce").values():
        obj = schema[mapping.record]
        for field in mapping.fields:
            if len(field.path) == 1:
                assert field.path[0] in obj.fields, f"{mapping.file}: {field.target}"
                continue
            lookup = obj.relationship(field.path[0])
            assert lookup is not None
            assert lookup.reference_to is not None
            assert field.path[1] == EXTERNAL_ID[lookup.reference_to]


async def test_what_the_examples_make_is_taken_by_a_strict_org(mappings: Mappings) -> None:
    async with org() as o:
        made = [r for m in mappings.for_destination("salesforce").values() for r in _examples(m)]
        await o.send(*[job(n, account(f"cus_{n}")) for n in range(1, 5)])
        for number, record in enumerate(made):
            sent = Job(delivery_id=number, event=event(), records=(record,))
            receipts(await o.send(sent))
            # Nothing is cut, rounded or changed on the way in.
            assert isinstance(await o.hub.find(sent), Receipt), record.key
        bills = {i["Stripe_Id__c"]: i for i in o.sim.state()["Stripe_Invoice__c"]}
        assert (bills["in_1"]["Total__c"], bills["in_1"]["Tax__c"]) == ("108.25", "8.25")
        assert bills["in_2"]["Total__c"] == "1200.0"
        assert bills["in_3"]["Total__c"] == "12.34"
        assert bills["in_1"]["Subscription__c"] == o.sim.record("Stripe_Subscription__c", "sub_1")["Id"]
        assert o.sim.record("Account", "cus_3")["Name"] == "Customer cus_3"
        assert o.sim.record("Account", "cus_3")["Stripe_Status__c"] == "deleted"


def _examples(mapping: Any) -> list[Record]:
    made = []
    for example in mapping.examples:
        given: Mapping[str, Any] = example["given"]
        roots = {"event": None, **{n.name: None for n in mapping.needs}, **given}
        record = mapping.apply(roots, {"timezone": "UTC", **given.get("settings", {})})
        if isinstance(record, Record):
            made.append(record)
    return made


def test_the_metadata_deploys_what_the_simulated_org_has() -> None:
    for name in EXTERNAL_ID:
        tree = ElementTree.parse(METADATA / "objects" / f"{name}.object").getroot()
        shipped = {f.name: f for f in map(_field, tree.findall("m:fields", NS))}
        simulated = {f.name: f for f in objects()[name].fields.values() if f.name.endswith("__c")}
        assert shipped == simulated


def test_the_permission_set_opens_every_field() -> None:
    tree = ElementTree.parse(METADATA / "permissionsets" / "Billing_Hub.permissionset").getroot()
    opened = {_text(p, "field") for p in tree.findall("m:fieldPermissions", NS) if _text(p, "editable") == "true"}
    wanted = {f"{o}.{f}" for o in EXTERNAL_ID for f in objects()[o].fields if f.endswith("__c")}
    assert opened == wanted


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"m:{name}", "", NS)


def _field(element: ElementTree.Element) -> FieldDef:
    kind = TYPES[_text(element, "type")]
    name = _text(element, "fullName")
    values = tuple(str(v.text) for v in element.findall(".//m:value/m:fullName", NS))
    length = {"reference": 18, "picklist": 255}.get(kind, int(_text(element, "length") or 0))
    return FieldDef(
        name,
        kind,
        length=length,
        precision=int(_text(element, "precision") or 0),
        scale=int(_text(element, "scale") or 0),
        nillable=kind != "boolean",
        external_id=_text(element, "externalId") == "true",
        unique=_text(element, "unique") == "true",
        case_sensitive=_text(element, "caseSensitive") == "true",
        values=values,
        reference_to=_text(element, "referenceTo") or None,
        relationship=name.replace("__c", "__r") if kind == "reference" else None,
    )
