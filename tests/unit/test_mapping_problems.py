"""Everything wrong with mapping files is found when they are loaded, and all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.mapping import MappingProblems, load
from tests.unit.mapping_folder import folder, loaded, mapping_text


def problems(root: Path, **files: str) -> tuple[str, ...]:
    with pytest.raises(MappingProblems) as e:
        loaded(root, **files)
    assert all(p in str(e.value) for p in e.value.problems)
    return e.value.problems


def _named(found: tuple[str, ...], expected: str) -> bool:
    return any(p.startswith(f"mappings/shop/order.yaml: {expected}") for p in found)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("a: nope.id", "fields.a: unknown root 'nope'; known here: event, invoice, mapping, settings"),
        ("a: nope(invoice.id)", "fields.a: unknown function nope()"),
        ("a: lookup('nope', [invoice.id])", "fields.a: unknown lookup table 'nope'"),
        ("a: invoice..id", "fields.a: is not a JMESPath expression"),
        ("a: [1, 2]", "fields.a: must be an expression"),
        ("a: ''", "fields.a: must be an expression"),
        ("a: {value: invoice.id, needed: true}", "fields.a.needed: unknown key; known: null, required, value"),
        ("a: {value: invoice.id, null: true, required: true}", "fields.a: null and required are true or false"),
        ("a: {value: invoice.id, null: yes}", "fields.a: null and required are true or false"),
        ("a: invoice.id\na.b: invoice.id", "fields: a and a.b are the same place or inside one another"),
        ("a..b: invoice.id", "fields.a..b: has an empty part between its dots"),
    ],
)
def test_a_problem_of_a_field_names_file_and_key(tmp_path: Path, fields: str, expected: str) -> None:
    found = problems(tmp_path, shop__order=mapping_text(fields))
    assert _named(found, expected), found


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("when: 'nope == `1`'", "when: unknown root 'nope'"),
        ("whne: invoice.id", "whne: unknown key; known: action, conserve"),
        ("action: delete", "action: must be one of upsert, commit, void"),
        ("otherwise: [x]", "otherwise: must be text"),
        ("conserve: credit_note", "conserve: must be invoice or credit_note, and one of the roots"),
        ("conserve: [invoice]", "conserve: must be invoice or credit_note"),
        ("parents: nobody", "parents: must be a list of names"),
        ("parents: [nobody]", "parents: there is no mapping 'nobody' in mappings/shop"),
        ("parents: [order]", "parents: order is its own ancestor"),
        ("needs: {c: invoice.customer}", "needs.c: must be {object: <Stripe type>, id: <expression>}"),
        ("needs: {c: {object: c, id: invoice.c, ids: invoice.d}}", "needs.c: must be {object:"),
        ("needs: {c: {object: c, id: invoice.c, x: 1}}", "needs.c.x: unknown key"),
        ("needs: {invoice: {object: c, id: invoice.c}}", "needs.invoice: must have a name of its own"),
        ("needs: {event: {object: c, id: invoice.c}}", "needs.event: must have a name of its own"),
        ("needs: {c-d: {object: c, id: invoice.c}}", "needs.c-d: must have a name of its own"),
        ("needs: {c: {object: C!, id: invoice.c}}", "needs.c.object: must be a Stripe object type"),
        ("needs: {c: {object: c, id: d.x}, d: {object: d, id: invoice.d}}", "needs.c: unknown root 'd'"),
        ("needs: [customer]", "needs: must be a table of keys and values"),
        ("each: {a: [{over: invoice.lines, as: l}]}", "fields: a and a are the same place"),
        ("each: {b: {over: invoice.lines}}", "each.b: must be a list of sources"),
        ("each: {b: [{over: invoice.lines}]}", "each.b[0].as: must be a name of its own"),
        ("each: {b: [{over: invoice.l, as: event}]}", "each.b[0].as: must be a name of its own"),
        ("each: {b: [{as: l}]}", "each.b[0].over: must be an expression"),
        ("each: {b: [{over: x.l, as: l, fields: {}}]}", "each.b[0].over: unknown root 'x'"),
        ("each: {b: [{over: invoice.l, as: l, fields: {c: m.x}}]}", "each.b[0].fields.c: unknown root 'm'"),
        ("examples: {}", "examples: must be a list"),
        ("examples: [{name: x}]", "examples[0]: must have name, given and expect"),
        ("examples: [{name: x, given: {}, expect: {}}]", "examples[0].expect: expects nothing"),
        ("examples: [{name: x, given: {foo: 1}, expect: {key: k}}]", "examples[0].given.foo: unknown root"),
        ("examples: [{name: x, given: {}, expect: {keys: k}}]", "examples[0].expect.keys: unknown key"),
        ("examples: [{name: x, given: {}, expect: {skip: k}}]", "examples[0].expect.skip: the mapping has no"),
    ],
)
def test_a_problem_names_file_and_key(tmp_path: Path, more: str, expected: str) -> None:
    found = problems(tmp_path, shop__order=mapping_text(more=more))
    assert _named(found, expected), found


def test_an_element_is_not_known_outside_its_list(tmp_path: Path) -> None:
    each = "each: {b: [{over: invoice.l, as: l, fields: {c: l.x}}]}"
    assert loaded(tmp_path, shop__order=mapping_text(more=each)).for_destination("shop").keys() == {"order"}
    found = problems(tmp_path, shop__order=mapping_text("a: l.id", each))
    assert _named(found, "fields.a: unknown root 'l'"), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("record: x", "version: is missing"),
        ("version: 0", "version: must be a whole number from 1"),
        ("version: true", "version: must be a whole number from 1"),
        ("object: Invoice!", "object: must be a Stripe object type such as invoice"),
        ("object: event", "object: must be a Stripe object type such as invoice"),
        ("record: [x]", "record: must be text"),
        ("on: invoice.paid", "on: must be a list of names"),
        ("on: [Invoice]", "on: must be a list of names"),
        ("on: [invoice.paid, invoice.paid]", "on: names something twice"),
        ("fields: [x]", "fields: must be a table of keys and values"),
        ("a: 1\na: 2", "line 2: duplicate key 'a'"),
        ("[a]", "is not a table of keys and values"),
        ("", "is not a table of keys and values"),
    ],
)
def test_what_a_mapping_must_say(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, shop__order=text)
    assert f"mappings/shop/order.yaml: {expected}" in found, found


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        shop__order=mapping_text("a: nope.id\nb: nope()"),
        erp__order=mapping_text("c: invoice.id", "action: nope"),
        lookups__items="a: 1\na: 2",
        lookups__lists="a: [1]",
    )
    assert len(found) == 5
    assert {p.split(":")[0] for p in found} == {
        "mappings/shop/order.yaml",
        "mappings/erp/order.yaml",
        "mappings/lookups/items.yaml",
        "mappings/lookups/lists.yaml",
    }


def test_families(tmp_path: Path) -> None:
    ring = {f"shop__{a}": mapping_text(more=f"parents: [{b}]") for a, b in ("ab", "bc", "ca")}
    assert sorted(problems(tmp_path / "ring", **ring)) == [
        f"mappings/shop/{n}.yaml: parents: {n} is its own ancestor" for n in "abc"
    ]
    client = (
        mapping_text("a: customer.id")
        .replace("object: invoice", "object: customer")
        .replace("invoice.id", "customer.id")
    )
    found = problems(tmp_path / "far", shop__order=mapping_text(more="parents: [client]"), shop__client=client)
    assert found == (
        "mappings/shop/order.yaml: parents: client is made from a customer, which is not among the needs",
    )  # fmt: skip


def test_a_folder_that_is_not_there_and_a_file_with_the_wrong_ending(tmp_path: Path) -> None:
    with pytest.raises(MappingProblems, match="there is no such folder"):
        load(tmp_path / "nowhere")
    folder(tmp_path, shop__order=mapping_text())
    (tmp_path / "shop" / "other.yml").write_text("a: 1", "utf-8")
    with pytest.raises(MappingProblems, match=r"shop/other\.yml: must be called \.yaml"):
        load(tmp_path)


def test_a_table_may_be_empty(tmp_path: Path) -> None:
    mappings = loaded(tmp_path, shop__order=mapping_text("a: lookup('items', ['x'])"), lookups__items="{}")
    assert mappings.tables == {"items": {}}
